//! A consent's later steps: the patient revokes it, or an officer marks it as one that should never have been.

use assent_ledger::consent::{read_body, recorded_state, still_denied, ConsentState, Step};
use assent_ledger::Hash;

use super::changing::{consent_not_found, Opened, Reply, Write};
use super::opened::alarm;
use super::record::{in_state, step_refused};
use super::timeline::Timeline;
use super::{Custodian, PatientName, Queued};
use crate::refusal::Refusal;

/// A consent after a step.
#[derive(Debug, Clone)]
pub struct SteppedConsent {
    /// Consent sequence of the slot after it.
    pub consent_seq: u64,
    /// Rules in words that go on denying.
    pub still_denied: Vec<String>,
    /// Height of a block from which on this holds.
    pub height: u64,
}

impl Custodian {
    /// Withdraws what a consent permits. What is revoked already gets the answer of its revocation.
    pub async fn revoke_consent(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        patient: PatientName,
        id: &str,
    ) -> Result<SteppedConsent, Refusal> {
        self.step(Write { client, request_id, body_hash }, &patient, id, Step::Revoke).await
    }

    /// Marks a consent as one of which nothing ever stood.
    pub async fn mark_consent_error(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        patient: PatientName,
        id: &str,
    ) -> Result<SteppedConsent, Refusal> {
        self.step(Write { client, request_id, body_hash }, &patient, id, Step::MarkError).await
    }

    async fn step(
        &self,
        write: Write<'_>,
        patient: &PatientName,
        id: &str,
        step: Step,
    ) -> Result<SteppedConsent, Refusal> {
        let (reply, height) = self.change(write, || self.prepare_step(write, patient, id, step)).await?;
        Ok(SteppedConsent { consent_seq: reply.consent_seq, still_denied: reply.rules, height })
    }

    /// Allowed on a frozen slot too: neither step lets anything out while it is.
    fn prepare_step(
        &self,
        write: Write<'_>,
        patient: &PatientName,
        id: &str,
        step: Step,
    ) -> Result<Queued, Refusal> {
        let view = self.parts.store.view()?;
        let mut opened = self.open_patient(&view, patient)?;
        let stepped = apply_step(&mut opened, id, step)?;
        let reply = Reply {
            consent_id: id.to_owned(),
            revision: stepped.revision,
            rules: stepped.still_denied,
            ..Reply::default()
        };
        if stepped.is_new {
            return self.queue_set(write, opened, None, reply);
        }
        let mut timeline = Timeline::of(self, &view, &opened.subject.handle, opened.slot.consent_seq);
        let consent_seq = timeline.first_with(id, stepped.revision)?;
        self.queue_nothing(write, &Reply { consent_seq, handle: opened.subject.handle.to_vec(), ..reply })
    }
}

/// What a step made of a consent in an opened set.
pub(super) struct Stepped {
    pub revision: u64,
    /// False when the consent was in that state already.
    pub is_new: bool,
    pub still_denied: Vec<String>,
}

/// Takes a step with a consent of an opened set.
pub(super) fn apply_step(opened: &mut Opened, id: &str, step: Step) -> Result<Stepped, Refusal> {
    let found = opened.find(id).and_then(|place| opened.set.consents.get(place));
    let body = found.map(|record| record.body.clone()).ok_or_else(consent_not_found)?;
    let before = recorded_state(&body).unwrap_or(ConsentState::Active);
    let after = before.after(step).map_err(step_refused)?;
    let is_new = after != before;
    let body = if is_new { in_state(&body, after) } else { body };
    let revision = body.revision;
    let still_denied = match after {
        ConsentState::Revoked => {
            let read = read_body(&body, &opened.subject.patient_reference);
            let consent = read.map_err(|_| alarm("a stored consent does not import"))?.consent;
            // With its own end its denies end too.
            let over = consent.context.valid.end_ms.is_some_and(|end| end <= opened.time_ms);
            if over {
                Vec::new()
            } else {
                still_denied(&consent)
            }
        }
        _ => Vec::new(),
    };
    if is_new {
        opened.put(body);
    }
    Ok(Stepped { revision, is_new, still_denied })
}
