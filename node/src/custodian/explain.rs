//! Why a recipient gets what it gets, now or as of an earlier height: for the custodian's own staff.

use assent_ledger::consent::{
    asked, describe_resource, explain, DecisionInput, Explanation, ResourceDescriptor,
};
use assent_ledger::Hash;
use assent_proto::ledger::v1::DataRequest;

use super::opened::alarm;
use super::Custodian;
use crate::chain::view::View;
use crate::refusal::{Kind, Refusal};
use crate::vault::Subject;

/// Most rules that are tried for an explanation, over all records: what fits a message.
const MAX_TRIED: usize = 20_000;

/// What was decided, why, and as of when.
pub struct Explained {
    /// Decision and reasons.
    pub why: Explanation,
    /// Height that it was decided as of.
    pub height: u64,
    /// Block time that it was decided at.
    pub time_ms: u64,
    /// Consent sequence of the slot then.
    pub consent_seq: u64,
    /// Policy sequence then.
    pub policy_seq: u64,
    /// True when the patient had withdrawn.
    pub frozen: bool,
}

opaque_debug!(Explained);

/// Slot and policy slot as of a height.
struct Past {
    height: u64,
    time_ms: u64,
    consent_seq: u64,
    commitment: Vec<u8>,
    frozen: bool,
    policy_seq: u64,
    policy_commitment: Vec<u8>,
}

fn no_slot(height: u64) -> Refusal {
    let message =
        format!("the patient's registration was not committed at height {height}: ask for a later one");
    Refusal::new(Kind::NotFound, "NO_SLOT_AT_HEIGHT", message).with("height", height)
}

impl Custodian {
    /// Decides a request of some recipient again, and says why. Height 0 is the newest. Takes milliseconds.
    pub fn explain(&self, request: &DataRequest, height: u64) -> Result<Explained, Refusal> {
        self.must_be_fresh()?;
        let view = self.parts.store.view()?;
        if height > view.tip.height {
            let message = format!("height {height} has not come: the newest is {}", view.tip.height);
            return Err(Refusal::new(Kind::FailedPrecondition, "HEIGHT_NOT_REACHED", message)
                .with("height", view.tip.height));
        }
        let vault = &self.parts.vault;
        let subject = vault.subject_by_identifier(
            &request.identifier_system,
            &request.identifier_value,
            &request.birth_date,
        )?;
        let subject = subject
            .ok_or_else(|| Refusal::new(Kind::NotFound, "SUBJECT_NOT_FOUND", "no patient matches exactly"))?;
        let past = match height {
            0 => self.present(&view, &subject.handle)?,
            height => self.past(&view, &subject.handle, height)?,
        };
        let rules = self.open_rules(&past.policy_commitment)?;
        let set = self.open_set(&subject.handle, &past.commitment)?;
        let consents = self.open_consents(&subject, &set)?;
        let resources = self.described(&subject, &request.resource_types)?;
        let rules_each: usize = consents.iter().map(|consent| consent.rules.len() + 2).sum();
        if resources.len().saturating_mul(rules_each.max(1)) > MAX_TRIED {
            let message = format!(
                "{} records under {rules_each} rules are more than one explanation takes: name resource types",
                resources.len()
            );
            return Err(Refusal::new(Kind::FailedPrecondition, "EXPLANATION_TOO_LARGE", message));
        }
        let why = explain(&DecisionInput {
            consents: &consents,
            policy: rules.policy.as_ref(),
            request: &asked(request, &rules, past.time_ms),
            resources: &resources,
            at_ms: i64::try_from(past.time_ms).unwrap_or(i64::MAX),
            frozen: past.frozen,
        });
        let Past { height, time_ms, consent_seq, policy_seq, frozen, .. } = past;
        Ok(Explained { why, height, time_ms, consent_seq, policy_seq, frozen })
    }

    fn present(&self, view: &View, handle: &Hash) -> Result<Past, Refusal> {
        let (height, time_ms) = (view.tip.height, view.tip.time_ms);
        let slot = view.slot(self.organization(), handle)?.ok_or_else(|| no_slot(height))?;
        let policy = view.policy(self.organization())?;
        Ok(Past {
            height,
            time_ms,
            consent_seq: slot.consent_seq,
            commitment: slot.commitment,
            frozen: slot.frozen,
            policy_seq: policy.policy_seq,
            policy_commitment: policy.commitment,
        })
    }

    fn past(&self, view: &View, handle: &Hash, height: u64) -> Result<Past, Refusal> {
        if view.lacks_own(height)? {
            return Err(Refusal::pruned(height, view.whole_from()?));
        }
        let slot = view.slot_as_of(self.organization(), handle, height)?.ok_or_else(|| no_slot(height))?;
        let policy = view.policy_as_of(self.organization(), height)?.unwrap_or_default();
        // Records too would have been judged at that block's time.
        let missing =
            || Refusal::unavailable("NODE_FAILING", "a committed block is missing; look into the log");
        let sealed = view.sealed(height)?.ok_or_else(missing)?;
        Ok(Past {
            height,
            time_ms: sealed.header.time_ms,
            consent_seq: slot.sequence,
            commitment: slot.commitment,
            frozen: slot.frozen,
            policy_seq: policy.sequence,
            policy_commitment: policy.commitment,
        })
    }

    fn described(&self, subject: &Subject, types: &[String]) -> Result<Vec<ResourceDescriptor>, Refusal> {
        let records = self.parts.vault.records_of(&subject.handle)?;
        let wanted = records.iter().filter(|r| types.is_empty() || types.contains(&r.resource_type));
        let described = wanted.map(|record| describe_resource(&record.bytes));
        described.collect::<Result<_, _>>().map_err(|_| alarm("a stored record does not parse"))
    }
}
