//! Evaluation: opens slot and policy from the vault, and decides.

use assent_ledger::consent::{asked, decide, describe_resource, membership_change, DecisionInput, Outcome};
use assent_ledger::Hash;
use assent_proto::ledger::v1::DataRequest;

use super::opened::alarm;
use super::{blocking, Custodian};
use crate::chain::now_ms;
use crate::refusal::Refusal;
use crate::vault::Record;

pub use assent_ledger::consent::ORGANIZATION_SYSTEM;

/// Records up to this size are judged in place, in some ten microseconds.
pub(super) const FEW_RECORDS_BYTES: usize = 32 << 10;

/// What may be released, and why.
#[derive(Clone)]
pub struct PermittedRelease {
    /// The subject's handle.
    pub handle: Hash,
    /// PERMIT or PERMIT_OVERRIDE.
    pub outcome: Outcome,
    /// Commitment of the slot that it was decided under.
    pub commitment: Vec<u8>,
    /// Consent sequence that it was decided under.
    pub consent_seq: u64,
    /// Policy sequence that it was decided under.
    pub policy_seq: u64,
    /// Height that it was decided at.
    pub height: u64,
    /// Block time of that height; of what is released without quorum this machine's clock, when that is later.
    pub time_ms: u64,
    /// When a consent or a membership starts or ends next.
    pub next_change_ms: Option<u64>,
    /// Rules that decided: "consent id/rule", sorted.
    pub decided_by: Vec<String>,
    /// Obligations, sorted.
    pub obligations: Vec<String>,
    /// The permitted records, in order of reference.
    pub records: Vec<Record>,
    /// What the vault had counted before it read the patient's records.
    pub record_changes: u64,
}

opaque_debug!(PermittedRelease);

/// What an evaluation stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// The newest block, of a node that is fresh.
    Fresh,
    /// The last block that this node has: only what break-glass releases counts.
    Last,
}

/// Outcome of an evaluation.
#[derive(Debug, Clone)]
pub enum Evaluation {
    /// Something may be released.
    Permitted(Box<PermittedRelease>),
    /// Nothing may; why stays here.
    NotReleased,
}

impl Custodian {
    /// A node that may be behind neither decides nor releases.
    pub(super) fn must_be_fresh(&self) -> Result<(), Refusal> {
        match self.parts.freshness.stale() {
            None => Ok(()),
            Some(reason) => {
                Err(Refusal::unavailable("NOT_FRESH", format!("the custodian's node is not fresh: {reason}")))
            }
        }
    }

    /// Decides a request at the newest block: in place when the patient's records are few, else where it holds nobody up.
    pub(super) fn evaluate(&self, request: &DataRequest) -> Result<Evaluation, Refusal> {
        self.evaluate_on(Basis::Fresh, request)
    }

    /// The same, on what there is.
    pub(super) fn evaluate_on(&self, basis: Basis, request: &DataRequest) -> Result<Evaluation, Refusal> {
        match self.evaluate_up_to(basis, request, FEW_RECORDS_BYTES)? {
            Some(evaluation) => Ok(evaluation),
            None => {
                let all = blocking(|| self.evaluate_up_to(basis, request, usize::MAX))?;
                Ok(all.unwrap_or(Evaluation::NotReleased))
            }
        }
    }

    /// None when the patient's records are more than so many bytes.
    fn evaluate_up_to(
        &self,
        basis: Basis,
        request: &DataRequest,
        max_bytes: usize,
    ) -> Result<Option<Evaluation>, Refusal> {
        if basis == Basis::Fresh {
            self.must_be_fresh()?;
        }
        let view = self.parts.store.view()?;
        // Before anybody looks for the patient: a policy that can't be opened is no hint that there is one.
        let policy_slot = view.policy(self.organization())?;
        let rules = self.open_rules(&policy_slot.commitment)?;
        let vault = &self.parts.vault;
        let subject = vault.subject_by_identifier(
            &request.identifier_system,
            &request.identifier_value,
            &request.birth_date,
        )?;
        let Some(subject) = subject else {
            return Ok(Some(Evaluation::NotReleased));
        };
        let Some(slot) = view.slot(self.organization(), &subject.handle)? else {
            return Ok(Some(Evaluation::NotReleased));
        };
        let set = self.open_set(&subject.handle, &slot.commitment)?;
        let consents = self.open_consents(&subject, &set)?;

        // Before they are read: a change in between must not go unseen.
        let record_changes = vault.record_changes(&subject.handle);
        let Some(mut records) = vault.records_up_to(&subject.handle, max_bytes)? else {
            return Ok(None);
        };
        if !request.resource_types.is_empty() {
            records.retain(|r| request.resource_types.contains(&r.resource_type));
        }
        let mut descriptors = Vec::with_capacity(records.len());
        for record in &records {
            descriptors
                .push(describe_resource(&record.bytes).map_err(|_| alarm("a stored record does not parse"))?);
        }
        // Without quorum block time stands still, and what has ended since must not count.
        let time_ms = match basis {
            Basis::Fresh => view.tip.time_ms,
            Basis::Last => view.tip.time_ms.max(now_ms()),
        };
        let counts = |outcome: Outcome| match basis {
            Basis::Fresh => outcome.is_permitted(),
            Basis::Last => outcome == Outcome::PermitOverride,
        };
        let decision = decide(&DecisionInput {
            consents: &consents,
            policy: rules.policy.as_ref(),
            request: &asked(request, &rules, time_ms),
            resources: &descriptors,
            at_ms: i64::try_from(time_ms).unwrap_or(i64::MAX),
            frozen: slot.frozen,
        });
        if !counts(decision.outcome) {
            return Ok(Some(Evaluation::NotReleased));
        }
        let mut release = PermittedRelease {
            handle: subject.handle,
            outcome: decision.outcome,
            commitment: slot.commitment.clone(),
            consent_seq: slot.consent_seq,
            policy_seq: policy_slot.policy_seq,
            height: view.tip.height,
            time_ms,
            next_change_ms: earliest(decision.not_after_ms, membership_change(request, &rules, time_ms)),
            decided_by: Vec::new(),
            obligations: Vec::new(),
            records: Vec::new(),
            record_changes,
        };
        for (record, judged) in records.into_iter().zip(&decision.resources) {
            if counts(judged.outcome) {
                release.decided_by.extend(judged.decided_by.iter().map(ToString::to_string));
                release.obligations.extend(judged.obligations.iter().cloned());
                release.records.push(record);
            }
        }
        for list in [&mut release.decided_by, &mut release.obligations] {
            list.sort();
            list.dedup();
        }
        Ok(Some(Evaluation::Permitted(Box::new(release))))
    }
}

pub(super) fn earliest(a: Option<i64>, b: Option<i64>) -> Option<u64> {
    a.into_iter().chain(b).min().and_then(|t| u64::try_from(t).ok())
}
