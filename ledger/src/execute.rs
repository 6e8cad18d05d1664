//! What an entry does to the state: the rule book. Admission and execution call the same [`execute_entry`].

use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{
    OrganizationState, PolicySlot, RecordAccess, SetConsent, SetPolicy, Withdraw,
};

use crate::commitment::next_access_head;
use crate::encoding::{array, EncodingError};
use crate::entry::{control_sign_bytes, withdraw_sign_bytes, CheckedEntry, MAX_NOT_AFTER_MS};
use crate::governance::{govern, report_evidence, GovernanceError};
use crate::keys::{screen, Check};
use crate::recovery::RecoveryError;
use crate::replacement::{cancel_replacement, pending, settled_slot};
use crate::state::{
    organization, organization_key, policy, policy_key, slot_key, Overlay, ReadError, StateRead,
};

/// Numbers above the floor that may be used.
pub const SEQUENCE_WINDOW: u64 = 1024;
/// Using a number further above the floor than this raises the floor.
pub const SEQUENCE_SLACK: u64 = 512;

/// Why an entry has no effect. [`ExecuteError::reason`] is the machine-readable form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError {
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("organization {0} is not on the ledger")]
    UnknownAuthor(String),
    #[error("{0} is no member any more")]
    OrganizationRemoved(String),
    #[error("the entry key of {0} is suspended: the others must vote for a new one (ReplaceKey)")]
    EntryKeySuspended(String),
    #[error("signature of {0} does not verify")]
    AuthorSignature(String),
    #[error("entry was valid until {not_after_ms} ms, block time is {time_ms} ms")]
    Expired { not_after_ms: u64, time_ms: u64 },
    #[error("not_after {not_after_ms} ms is more than 10 minutes after block time {time_ms} ms")]
    NotAfterTooFar { not_after_ms: u64, time_ms: u64 },
    #[error("sequence {sequence} is used, void, or beyond the window above {floor}")]
    Sequence { sequence: u64, floor: u64 },
    #[error("{author} can't act for custodian {custodian}")]
    NotCustodian { author: String, custodian: String },
    #[error("the custodian has no such slot")]
    NoSlot,
    #[error("consent sequence is {found}, operation expects {expected}")]
    ConsentSequence { expected: u64, found: u64 },
    #[error("policy sequence is {found}, operation expects {expected}")]
    PolicySequence { expected: u64, found: u64 },
    #[error("withdraw sequence is {found}, operation names {expected}")]
    WithdrawSequence { expected: u64, found: u64 },
    #[error("the slot has no control key: it can't be withdrawn by signature")]
    NoControlKey,
    #[error("the slot has this control key already")]
    ControlKeyUnchanged,
    #[error("no control key waits to take the place of the present one; consent sequence is {found}, operation names {expected}")]
    NoReplacement { expected: u64, found: u64 },
    #[error(
        "the control key that waits was recorded with consent sequence {found}, operation names {expected}"
    )]
    StaleReplacement { expected: u64, found: u64 },
    #[error("the slot has no control key that could have signed")]
    ControlSignatureSurplus,
    #[error("control key refused: {0}")]
    ControlKey(&'static str),
    #[error("signature by the control key does not verify")]
    ControlSignature,
    #[error(transparent)]
    Governance(#[from] GovernanceError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

impl ExecuteError {
    /// One machine-readable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Encoding(_) => "MALFORMED_ENTRY",
            Self::Read(_) => "STATE_UNREADABLE",
            Self::UnknownAuthor(_) => "UNKNOWN_AUTHOR",
            Self::OrganizationRemoved(_) => "ORGANIZATION_REMOVED",
            Self::EntryKeySuspended(_) => "ENTRY_KEY_SUSPENDED",
            Self::AuthorSignature(_) => "BAD_AUTHOR_SIGNATURE",
            Self::Expired { .. } => "ENTRY_EXPIRED",
            Self::NotAfterTooFar { .. } => "NOT_AFTER_TOO_FAR",
            Self::Sequence { .. } => "SEQUENCE_USED_OR_OUT_OF_WINDOW",
            Self::NotCustodian { .. } => "NOT_THE_CUSTODIAN",
            Self::NoSlot => "NO_SLOT",
            Self::ConsentSequence { .. } => "STALE_CONSENT_SEQUENCE",
            Self::PolicySequence { .. } => "STALE_POLICY_SEQUENCE",
            Self::WithdrawSequence { .. } => "STALE_WITHDRAW_SEQUENCE",
            Self::NoControlKey => "NO_CONTROL_KEY",
            Self::ControlKeyUnchanged => "CONTROL_KEY_UNCHANGED",
            Self::NoReplacement { .. } => "NO_REPLACEMENT",
            Self::StaleReplacement { .. } => "STALE_REPLACEMENT",
            Self::ControlSignatureSurplus => "CONTROL_SIGNATURE_SURPLUS",
            Self::ControlKey(_) => "BAD_CONTROL_KEY",
            Self::ControlSignature => "BAD_CONTROL_SIGNATURE",
            Self::Governance(error) => error.reason(),
            Self::Recovery(error) => error.reason(),
        }
    }
}

/// How signatures are checked while entries are executed.
pub enum Signatures {
    /// Each at once: the error names the culprit.
    Immediate,
    /// Gathered for one batch after the block; executing says nothing about them.
    Collect(Vec<Check>),
}

impl Signatures {
    pub(crate) fn check(&mut self, check: Check, failed: ExecuteError) -> Result<(), ExecuteError> {
        match self {
            Self::Immediate if !check.holds() => Err(failed),
            Self::Immediate => Ok(()),
            Self::Collect(checks) => {
                checks.push(check);
                Ok(())
            }
        }
    }

    /// What was gathered.
    pub fn into_checks(self) -> Vec<Check> {
        match self {
            Self::Immediate => Vec::new(),
            Self::Collect(checks) => checks,
        }
    }

    fn collected(&self) -> usize {
        match self {
            Self::Immediate => 0,
            Self::Collect(checks) => checks.len(),
        }
    }
}

/// The block in which an entry is executed.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Chain id.
    pub chain_id: &'a str,
    /// Height.
    pub height: u64,
    /// Block time in milliseconds since the Unix epoch.
    pub time_ms: u64,
}

/// Applies all operations of an entry, or none.
pub fn execute_entry<R: StateRead>(
    state: &mut Overlay<'_, R>,
    at: Moment<'_>,
    entry: &CheckedEntry,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    let before = signatures.collected();
    let mut scratch = Overlay::new(&*state);
    let outcome = execute_in(&mut scratch, at, entry, signatures);
    let changes = std::mem::take(&mut scratch.changes);
    match outcome {
        Ok(()) => state.changes.extend(changes),
        Err(_) => {
            if let Signatures::Collect(checks) = signatures {
                checks.truncate(before);
            }
        }
    }
    outcome
}

fn execute_in<R: StateRead>(
    state: &mut Overlay<'_, R>,
    at: Moment<'_>,
    entry: &CheckedEntry,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    let Moment { chain_id, time_ms, .. } = at;
    let body = &entry.body;
    if entry.recovery().is_some() {
        // Where one is agreed to, block.rs asks for it, and for nothing else.
        return Err(RecoveryError::NotAgreed.into());
    }
    let author = signing_author(state, chain_id, entry, signatures)?;
    if time_ms > body.not_after_ms {
        return Err(ExecuteError::Expired { not_after_ms: body.not_after_ms, time_ms });
    }
    if body.not_after_ms > time_ms.saturating_add(MAX_NOT_AFTER_MS) {
        return Err(ExecuteError::NotAfterTooFar { not_after_ms: body.not_after_ms, time_ms });
    }
    let author = use_sequence(author, body.sequence)?;
    state.put(organization_key(chain_id, &body.author), &author);
    for operation in &body.operations {
        match operation.kind.as_ref() {
            Some(Kind::SetConsent(op)) => {
                set_consent(state, chain_id, time_ms, &body.author, op, signatures)?;
            }
            Some(Kind::Withdraw(op)) => withdraw(state, chain_id, time_ms, op, signatures)?,
            Some(Kind::RecordAccess(op)) => record_access(state, chain_id, time_ms, &body.author, op)?,
            Some(Kind::SetPolicy(op)) => set_policy(state, chain_id, &body.author, op)?,
            Some(Kind::CancelReplacement(op)) => {
                cancel_replacement(state, chain_id, time_ms, op, signatures)?;
            }
            Some(Kind::Govern(op)) => govern(state, at, &body.author, op, signatures)?,
            Some(Kind::ReportEvidence(op)) => report_evidence(state, at, op, signatures)?,
            Some(Kind::Recover(_)) => return Err(RecoveryError::NotAgreed.into()),
            // check_entry refuses it before; stays an error should a caller forget.
            None => return Err(missing_kind().into()),
        }
    }
    Ok(())
}

/// The author, who may sign entries; its signature is checked.
pub(crate) fn signing_author(
    state: &impl StateRead,
    chain_id: &str,
    entry: &CheckedEntry,
    signatures: &mut Signatures,
) -> Result<OrganizationState, ExecuteError> {
    let body = &entry.body;
    let author = organization(state, chain_id, &body.author)?
        .ok_or_else(|| ExecuteError::UnknownAuthor(body.author.clone()))?;
    if author.removed {
        return Err(ExecuteError::OrganizationRemoved(body.author.clone()));
    }
    if author.entry_key.is_empty() {
        return Err(ExecuteError::EntryKeySuspended(body.author.clone()));
    }
    let entry_key = array("OrganizationState", "entry_key", &author.entry_key)?;
    signatures
        .check(entry.signature_check(&entry_key), ExecuteError::AuthorSignature(body.author.clone()))?;
    Ok(author)
}

fn missing_kind() -> EncodingError {
    EncodingError::Field { message: "Operation", field: "kind", reason: "no variant".into() }
}

/// True when `sequence` may still be used.
pub fn sequence_is_free(state: &OrganizationState, sequence: u64) -> bool {
    let floor = state.sequence_floor;
    if sequence <= floor || sequence > floor.saturating_add(SEQUENCE_WINDOW) {
        return false;
    }
    let bit = (sequence - floor - 1) as usize;
    state.sequence_window.get(bit / 8).is_none_or(|byte| byte & (1 << (bit % 8)) == 0)
}

/// Marks a number as used; raises the floor to `sequence - 512` when it lies more than 512 above it.
fn use_sequence(mut state: OrganizationState, sequence: u64) -> Result<OrganizationState, ExecuteError> {
    let floor = state.sequence_floor;
    if !sequence_is_free(&state, sequence) {
        return Err(ExecuteError::Sequence { sequence, floor });
    }
    let mut window = state.sequence_window;
    window.resize((SEQUENCE_WINDOW / 8) as usize, 0);
    let bit = (sequence - floor - 1) as usize;
    window[bit / 8] |= 1 << (bit % 8);
    if sequence - floor > SEQUENCE_SLACK {
        state.sequence_floor = sequence - SEQUENCE_SLACK;
        window = shift_down(&window, (state.sequence_floor - floor) as usize);
    }
    while window.last() == Some(&0) {
        window.pop();
    }
    state.sequence_window = window;
    Ok(state)
}

fn shift_down(window: &[u8], bits: usize) -> Vec<u8> {
    let (bytes, rest) = (bits / 8, bits % 8);
    let at = |i: usize| window.get(i).copied().unwrap_or(0);
    (0..window.len())
        .map(|i| at(i + bytes) >> rest | if rest == 0 { 0 } else { at(i + bytes + 1) << (8 - rest) })
        .collect()
}

/// Most successors that are followed from one to the next.
const MAX_SUCCESSORS: usize = 16;

/// A custodian acts for its own slots. Of one that was removed the successor does, or the successor's where that is removed too;
/// without a successor nobody: what such slots still take is the patient's withdrawal. The policy slot stays the removed custodian's,
/// as it last was: accesses to its slots name that sequence.
fn only_custodian(
    state: &impl StateRead,
    chain_id: &str,
    author: &str,
    custodian: &str,
) -> Result<(), ExecuteError> {
    let mut acting = custodian.to_owned();
    for _ in 0..MAX_SUCCESSORS {
        // The author itself is a member: that was checked before.
        if author == acting {
            return Ok(());
        }
        match organization(state, chain_id, &acting)?.and_then(|o| o.successor.filter(|_| o.removed)) {
            Some(successor) => acting = successor,
            None => break,
        }
    }
    Err(ExecuteError::NotCustodian { author: author.to_owned(), custodian: custodian.to_owned() })
}

fn set_consent<R: StateRead>(
    state: &mut Overlay<'_, R>,
    chain_id: &str,
    time_ms: u64,
    author: &str,
    op: &SetConsent,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    only_custodian(state, chain_id, author, &op.custodian)?;
    let mut slot = settled_slot(state, chain_id, time_ms, &op.custodian, &op.handle)?.unwrap_or_default();
    if slot.consent_seq != op.expected_consent_seq {
        return Err(ExecuteError::ConsentSequence {
            expected: op.expected_consent_seq,
            found: slot.consent_seq,
        });
    }
    slot.consent_seq += 1;
    slot.commitment = op.commitment.clone();
    if let Some(key) = &op.control_key {
        screen(&array("SetConsent", "control_key", key)?).map_err(ExecuteError::ControlKey)?;
    }
    match (&slot.control_key, &op.control_signature, &op.control_key) {
        (Some(key), Some(signature), new_key) => {
            let message = control_sign_bytes(
                chain_id,
                &op.custodian,
                &op.handle,
                op.expected_consent_seq,
                &op.commitment,
                new_key.as_deref(),
            );
            let check = Check {
                public_key: array("Slot", "control_key", key)?,
                message,
                signature: array("SetConsent", "control_signature", signature)?,
            };
            signatures.check(check, ExecuteError::ControlSignature)?;
            slot.frozen = false;
            if new_key.is_some() {
                slot.control_key = new_key.clone();
                slot.replacement = None;
            }
        }
        (Some(present), None, Some(new_key)) if present == new_key => {
            return Err(ExecuteError::ControlKeyUnchanged)
        }
        // A later one takes the place of one that waits, and waits its full time.
        (Some(_), None, Some(new_key)) => {
            slot.replacement = Some(pending(new_key, time_ms, slot.consent_seq));
        }
        (None, None, Some(new_key)) => slot.control_key = Some(new_key.clone()),
        // Without the patient's signature consents may be written down, but a frozen slot stays frozen.
        (Some(_) | None, None, None) => {}
        (None, Some(_), _) => return Err(ExecuteError::ControlSignatureSurplus),
    }
    state.put(slot_key(chain_id, &op.custodian, &op.handle), &slot);
    Ok(())
}

fn withdraw<R: StateRead>(
    state: &mut Overlay<'_, R>,
    chain_id: &str,
    time_ms: u64,
    op: &Withdraw,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    let slot = settled_slot(state, chain_id, time_ms, &op.custodian, &op.handle)?;
    let mut slot = slot.ok_or(ExecuteError::NoSlot)?;
    let key = slot.control_key.as_ref().ok_or(ExecuteError::NoControlKey)?;
    if slot.withdraw_seq != op.withdraw_seq {
        return Err(ExecuteError::WithdrawSequence { expected: op.withdraw_seq, found: slot.withdraw_seq });
    }
    let check = Check {
        public_key: array("Slot", "control_key", key)?,
        message: withdraw_sign_bytes(chain_id, &op.custodian, &op.handle, op.withdraw_seq),
        signature: array("Withdraw", "patient_signature", &op.patient_signature)?,
    };
    signatures.check(check, ExecuteError::ControlSignature)?;
    slot.frozen = true;
    slot.withdraw_seq += 1;
    // Every decision and access in flight under the old state is void.
    slot.consent_seq += 1;
    state.put(slot_key(chain_id, &op.custodian, &op.handle), &slot);
    Ok(())
}

fn record_access<R: StateRead>(
    state: &mut Overlay<'_, R>,
    chain_id: &str,
    time_ms: u64,
    author: &str,
    op: &RecordAccess,
) -> Result<(), ExecuteError> {
    only_custodian(state, chain_id, author, &op.custodian)?;
    let slot = settled_slot(state, chain_id, time_ms, &op.custodian, &op.handle)?;
    let mut slot = slot.ok_or(ExecuteError::NoSlot)?;
    if slot.consent_seq != op.expected_consent_seq {
        return Err(ExecuteError::ConsentSequence {
            expected: op.expected_consent_seq,
            found: slot.consent_seq,
        });
    }
    let policy = policy(state, chain_id, &op.custodian)?;
    if policy.policy_seq != op.expected_policy_seq {
        return Err(ExecuteError::PolicySequence {
            expected: op.expected_policy_seq,
            found: policy.policy_seq,
        });
    }
    slot.access_seq += 1;
    let head = next_access_head(chain_id, slot.access_head.as_deref(), slot.access_seq, &op.commitment);
    slot.access_head = Some(head.to_vec());
    state.put(slot_key(chain_id, &op.custodian, &op.handle), &slot);
    Ok(())
}

fn set_policy<R: StateRead>(
    state: &mut Overlay<'_, R>,
    chain_id: &str,
    author: &str,
    op: &SetPolicy,
) -> Result<(), ExecuteError> {
    let policy = policy(state, chain_id, author)?;
    if policy.policy_seq != op.expected_policy_seq {
        return Err(ExecuteError::PolicySequence {
            expected: op.expected_policy_seq,
            found: policy.policy_seq,
        });
    }
    let next = PolicySlot { policy_seq: policy.policy_seq + 1, commitment: op.commitment.clone() };
    state.put(policy_key(chain_id, author), &next);
    Ok(())
}
