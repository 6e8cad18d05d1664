//! Recovery of a quorum that is lost for ever.
//!
//! ```text
//! plan      newest block (height, header hash), those that remain, why ─ each of these signs it with its entry key
//! agree     every operator puts the plan's hash beside the tip of its node, by hand: [`agree`]
//! block     the next one: voted on by the new set, its first entry is the plan; the membership follows, and remembers it
//! audit     refuses that block until it is told the plan's hash, then reports it
//! ```
//! No entry is lost with it: the block follows the newest one, and nothing before is touched. But the old set did not certify it:
//! whoever signs a recovery could leave out anybody. So it is never valid by itself. What makes it valid is outside of the ledger:
//! operators, and auditors, who say that they agree to this one plan.

use std::collections::BTreeSet;

use assent_proto::ledger::v1::{Membership, Recover, RecoverySignature, ValidatorSet};
use prost::Message;

use crate::block::Tip;
use crate::certificate::MAX_VALIDATORS;
use crate::encoding::{array, decode, id, EncodingError};
use crate::entry::CheckedEntry;
use crate::execute::{signing_author, ExecuteError, Signatures};
use crate::governance::remove_validator;
use crate::hash::{framed, hash, Context, Hash};
use crate::keys::{sign, Check, SigningKey};
use crate::membership::{membership, membership_key};
use crate::recovered::describe;
use crate::state::{organization, Overlay, StateRead};

/// Longest reason, in characters.
pub const MAX_REASON_CHARS: usize = 200;
/// Longest encoding of a validator set in a plan.
const MAX_SET_BYTES: usize = 32 << 10;

/// Why a recovery has no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    #[error("no block was committed yet, so nothing is lost: those who remain make a new genesis")]
    NoBlock,
    #[error(
        "a recovery counts only where the operators agreed to its plan, as the first entry of the next block"
    )]
    NotAgreed,
    #[error("the operators agreed to a recovery: the block has to start with it")]
    Missing,
    #[error("plan {found}, the operators agreed to {agreed}")]
    OtherPlan { agreed: String, found: String },
    #[error(
        "the plan follows block {expected} {expected_hash}, the newest one here is {found} {found_hash}"
    )]
    Tip { expected: u64, expected_hash: String, found: u64, found_hash: String },
    #[error("the new validators are refused: {0}")]
    Set(String),
    #[error("signed by {found}, all of {expected} needed and no other")]
    Signers { expected: String, found: String },
    #[error("signature of {0} does not verify")]
    Signature(String),
    #[error("the entry's author {0} is not among those that remain")]
    Author(String),
    #[error("the entry of a recovery has neither sequence nor not_after")]
    Numbers,
}

impl RecoveryError {
    /// One machine-readable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoBlock => "RECOVERY_NO_BLOCK",
            Self::NotAgreed => "RECOVERY_NOT_AGREED",
            Self::Missing => "RECOVERY_MISSING",
            Self::OtherPlan { .. } => "RECOVERY_OTHER_PLAN",
            Self::Tip { .. } => "RECOVERY_OTHER_TIP",
            Self::Set(_) => "RECOVERY_BAD_SET",
            Self::Signers { .. } => "RECOVERY_SIGNERS",
            Self::Signature(_) => "BAD_RECOVERY_SIGNATURE",
            Self::Author(_) => "RECOVERY_AUTHOR",
            Self::Numbers => "RECOVERY_NUMBERS",
        }
    }
}

/// Hash of a plan, whoever has signed it: what operators and auditors agree to.
pub fn plan_hash(chain_id: &str, plan: &Recover) -> Hash {
    with_parts(plan, |parts| hash(Context::Recovery, chain_id, parts))
}

/// The bytes that those who remain sign.
pub fn plan_sign_bytes(chain_id: &str, plan: &Recover) -> Vec<u8> {
    with_parts(plan, |parts| framed(Context::Recovery, chain_id, parts))
}

fn with_parts<T>(plan: &Recover, on: impl FnOnce(&[&[u8]]) -> T) -> T {
    on(&[&plan.height.to_be_bytes(), &plan.header_hash, &plan.validators, plan.reason.as_bytes()])
}

/// A plan, signed by nobody, to go on from this tip with the validators of `keep`.
pub fn make_plan(tip: &Tip, keep: &[String], reason: &str) -> Recover {
    let mut set = tip.validators.clone();
    set.validators.retain(|v| keep.contains(&v.organization));
    Recover {
        height: tip.height,
        header_hash: tip.header_hash.to_vec(),
        validators: set.encode_to_vec(),
        signatures: Vec::new(),
        reason: reason.into(),
    }
}

/// Adds an organization's signature, or replaces it.
pub fn sign_plan(chain_id: &str, plan: &mut Recover, organization: &str, key: &SigningKey) {
    let signature = sign(key, &plan_sign_bytes(chain_id, plan)).to_vec();
    plan.signatures.retain(|s| s.organization != organization);
    plan.signatures.push(RecoverySignature { organization: organization.into(), signature });
    plan.signatures.sort_by(|a, b| a.organization.cmp(&b.organization));
}

/// The form of a plan: lengths, ids, order.
pub fn check_recover(op: &Recover) -> Result<(), EncodingError> {
    let refused = |field, reason: String| Err(EncodingError::Field { message: "Recover", field, reason });
    array::<32>("Recover", "header_hash", &op.header_hash)?;
    let set = new_set(op)?;
    if !(1..=MAX_VALIDATORS).contains(&set.validators.len()) {
        return refused("validators", format!("{}, 1 to {MAX_VALIDATORS} needed", set.validators.len()));
    }
    if !(1..=MAX_REASON_CHARS).contains(&op.reason.chars().count()) || op.reason.chars().any(char::is_control)
    {
        return refused("reason", format!("not 1 to {MAX_REASON_CHARS} characters on one line"));
    }
    if !op.signatures.windows(2).all(|two| two[0].organization < two[1].organization) {
        return refused("signatures", "not in strictly ascending order of organization".into());
    }
    for signature in &op.signatures {
        id("RecoverySignature", "organization", &signature.organization)?;
        array::<64>("RecoverySignature", "signature", &signature.signature)?;
    }
    Ok(())
}

/// The validators that remain.
pub fn new_set(op: &Recover) -> Result<ValidatorSet, EncodingError> {
    decode("ValidatorSet", &op.validators, MAX_SET_BYTES)
}

/// The validators of `before` that a plan leaves out, if it names some of them and only them, as they are.
pub(crate) fn left_out(before: &ValidatorSet, set: &ValidatorSet) -> Result<Vec<String>, RecoveryError> {
    let refused = |why: String| Err(RecoveryError::Set(why));
    if set.members_root != before.members_root {
        return refused("they name other members".into());
    }
    // What is left of the set when some go: order, keys and powers are as they were.
    let stay = |v: &&_| set.validators.contains(v);
    let left: Vec<_> = before.validators.iter().filter(stay).cloned().collect();
    if set.validators.is_empty() || left != set.validators {
        return refused("not some of those that vote now, with the keys and powers that they have".into());
    }
    let gone = before.validators.iter().filter(|v| !stay(v)).map(|v| v.organization.clone());
    let mut gone: Vec<String> = gone.collect();
    gone.sort();
    match gone.is_empty() {
        true => refused("none is left out".into()),
        false => Ok(gone),
    }
}

/// That a plan follows the header of this height and hash.
pub(crate) fn check_tip(height: u64, header_hash: &Hash, op: &Recover) -> Result<(), RecoveryError> {
    if (op.height, op.header_hash.as_slice()) == (height, header_hash.as_slice()) {
        return Ok(());
    }
    Err(RecoveryError::Tip {
        expected: op.height,
        expected_hash: hex::encode(&op.header_hash),
        found: height,
        found_hash: hex::encode(header_hash),
    })
}

fn check_signers(op: &Recover, set: &ValidatorSet) -> Result<(), RecoveryError> {
    let expected: BTreeSet<&str> = set.validators.iter().map(|v| v.organization.as_str()).collect();
    let found: BTreeSet<&str> = op.signatures.iter().map(|s| s.organization.as_str()).collect();
    if expected == found && found.len() == op.signatures.len() {
        return Ok(());
    }
    let list = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(", ");
    Err(RecoveryError::Signers { expected: list(expected), found: list(found) })
}

/// Checks what a plan says against this tip and state, whoever has signed it: block and validators. Organizations that it leaves out.
pub fn check_content<R: StateRead>(tip: &Tip, state: &R, op: &Recover) -> Result<Vec<String>, ExecuteError> {
    let before = membership(state, &tip.chain_id)?.validators.unwrap_or_default();
    Ok(describe(&tip.chain_id, (tip.height, &tip.header_hash), &before, op)?.removed)
}

/// Checks a plan against this tip and state: block, validators, and every signature. Organizations that it leaves out.
pub fn check_plan<R: StateRead>(
    tip: &Tip,
    state: &R,
    op: &Recover,
    signatures: &mut Signatures,
) -> Result<Vec<String>, ExecuteError> {
    let gone = check_content(tip, state, op)?;
    let set = new_set(op)?;
    check_signers(op, &set)?;
    let message = plan_sign_bytes(&tip.chain_id, op);
    for RecoverySignature { organization: name, signature } in &op.signatures {
        let signer = organization(state, &tip.chain_id, name)?
            .ok_or_else(|| ExecuteError::UnknownAuthor(name.clone()))?;
        if signer.entry_key.is_empty() {
            return Err(ExecuteError::EntryKeySuspended(name.clone()));
        }
        let check = Check {
            public_key: array("OrganizationState", "entry_key", &signer.entry_key)?,
            message: message.clone(),
            signature: array("RecoverySignature", "signature", signature)?,
        };
        signatures.check(check, RecoveryError::Signature(name.clone()).into())?;
    }
    Ok(gone)
}

/// The tip once its operators agreed to a plan: the new set votes next, and the next block has to start with the plan. Says nothing about
/// whether the plan holds: that is checked with the block.
pub fn agree(tip: &Tip, op: &Recover) -> Result<Tip, EncodingError> {
    let validators = new_set(op)?;
    let bench = tip.bench.clone().within(&validators);
    Ok(Tip { validators, bench, recovery: Some(plan_hash(&tip.chain_id, op)), ..tip.clone() })
}

/// The first entry of the block after [`agree`].
pub(crate) fn execute_recovery<R: StateRead>(
    state: &mut Overlay<'_, R>,
    tip: &Tip,
    agreed: &Hash,
    entry: &CheckedEntry,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    let op = entry.recovery().ok_or(RecoveryError::Missing)?;
    let found = plan_hash(&tip.chain_id, op);
    if found != *agreed {
        let (agreed, found) = (hex::encode(agreed), hex::encode(found));
        return Err(RecoveryError::OtherPlan { agreed, found }.into());
    }
    if (entry.body.sequence, entry.body.not_after_ms) != (0, 0) {
        return Err(RecoveryError::Numbers.into());
    }
    let author = &entry.body.author;
    let set = new_set(op)?;
    if !set.validators.iter().any(|v| v.organization == *author) {
        return Err(RecoveryError::Author(author.clone()).into());
    }
    signing_author(state, &tip.chain_id, entry, signatures)?;
    let gone = check_plan(tip, state, op, signatures)?;
    let mut members = membership(state, &tip.chain_id)?;
    let height = tip.height.saturating_add(1);
    carry_out(&mut members, &gone, height);
    members.recoveries.push(found.to_vec());
    members.recovered_heights.push(height);
    state.put(membership_key(&tip.chain_id), &members);
    Ok(())
}

/// What the old set had under way is void: who approved it counted among others.
fn carry_out(members: &mut Membership, gone: &[String], next: u64) {
    gone.iter().for_each(|organization| remove_validator(members, organization, next));
    members.proposals.clear();
    members.suspensions.clear();
}
