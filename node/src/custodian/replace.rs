//! A control key that waits to take the place of a lost one: registered by the custodian, cancelled by the present key.

use assent_ledger::entry::cancel_sign_bytes;
use assent_ledger::execute::ExecuteError;
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::replacement::{control_key_at, settled, REPLACEMENT_WAIT_MS};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{operation::Kind as OperationKind, CancelReplacement, Operation};
use prost::Message;

use super::changing::{Reply, Write};
use super::consents::patient_client;
use super::{blocking, Custodian, PatientName, Queued};
use crate::chain::SubmitError;
use crate::grpc::proof::{signed_by_control_key, slot_not_found};
use crate::refusal::{Kind, Refusal};
use crate::vault::Pending;

/// A new control key that waits.
#[derive(Debug, Clone)]
pub struct ReplacedKey {
    /// Block time from which it counts, in milliseconds since the Unix epoch.
    pub effective_ms: u64,
    /// Height of the block that recorded it.
    pub height: u64,
}

fn precondition(reason: &'static str, message: &str) -> Refusal {
    Refusal::new(Kind::FailedPrecondition, reason, message)
}

impl Custodian {
    /// Registers a new control key without the present one's signature: the same consents, under a fresh salt.
    pub async fn replace_control_key(
        &self,
        client: &str,
        request_id: &str,
        patient: PatientName,
        key: [u8; 32],
    ) -> Result<ReplacedKey, Refusal> {
        let name = [&patient.system, &patient.value, &patient.birth_date].map(|s| s.as_bytes());
        let parts = [name[0], name[1], name[2], &key];
        let body_hash = sha256(&framed(Context::Handle, "replace-control-key", &parts));
        let write = Write { client, request_id, body_hash };
        let (_, height) = self.change(write, || self.prepare_replacement(write, &patient, key)).await?;
        let recorded = blocking(|| self.parts.store.view()?.sealed(height))?;
        let missing = || Refusal::unavailable("NODE_FAILING", "a committed block can't be read");
        let effective_ms = recorded.ok_or_else(missing)?.header.time_ms + REPLACEMENT_WAIT_MS;
        Ok(ReplacedKey { effective_ms, height })
    }

    fn prepare_replacement(
        &self,
        write: Write<'_>,
        patient: &PatientName,
        key: [u8; 32],
    ) -> Result<Queued, Refusal> {
        let view = self.parts.store.view()?;
        let opened = self.open_patient(&view, patient)?;
        match control_key_at(&opened.slot, view.tip.time_ms) {
            None => {
                let message = "the slot has no control key to replace: give the first one with a consent";
                Err(precondition("NO_CONTROL_KEY", message))
            }
            Some(present) if present == key => {
                Err(precondition("CONTROL_KEY_UNCHANGED", "the slot has this control key already"))
            }
            Some(_) => self.queue_set(write, opened, Some(key.to_vec()), Reply::default()),
        }
    }

    /// Submits a patient's signed cancellation, whoever the custodian is. The height of its block.
    pub async fn cancel_replacement(
        &self,
        request_id: &str,
        cancel: CancelReplacement,
        signature: &[u8; 64],
    ) -> Result<u64, Refusal> {
        let client = patient_client(&cancel.handle);
        let body_hash = sha256(&framed(Context::Handle, "cancel-replacement", &[&cancel.encode_to_vec()]));
        let guard = self.preparing.lock().await;
        // A retry is answered before its signature is looked at: what it was made for is gone by now.
        let queued = match self.queued(&client, request_id, &body_hash)? {
            Some(queued) => queued,
            None => blocking(|| self.queue_cancel(&client, request_id, body_hash, cancel, signature))?,
        };
        drop(guard);
        self.commit(&client, request_id, body_hash, &queued).await
    }

    fn queue_cancel(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        cancel: CancelReplacement,
        signature: &[u8; 64],
    ) -> Result<Queued, Refusal> {
        let view = self.parts.store.view()?;
        let slot = view.slot(&cancel.custodian, &cancel.handle)?;
        let slot = slot.map(|slot| settled(slot, view.tip.time_ms));
        // Without one that waits no signature can be right; the work is the same.
        let waiting = slot.as_ref().and_then(|slot| slot.replacement.as_ref());
        let waiting_key = waiting.map(|waiting| waiting.control_key.clone()).unwrap_or_default();
        let message = cancel_sign_bytes(
            self.chain_id(),
            &cancel.custodian,
            &cancel.handle,
            cancel.consent_seq,
            &waiting_key,
        );
        let time_ms = view.tip.time_ms;
        // Checked before anything is stored for a caller that nobody knows. The ledger checks it again.
        if !signed_by_control_key(&self.parts, slot.as_ref(), time_ms, &message, signature)
            || waiting.is_none()
        {
            return Err(slot_not_found());
        }
        // An old cancellation stands in the ledger for anybody to send again: nothing is stored or signed for it.
        let (expected, found) = (cancel.consent_seq, waiting.map_or(0, |waiting| waiting.consent_seq));
        if expected != found {
            return Err(SubmitError::Refused(ExecuteError::StaleReplacement { expected, found }).into());
        }
        let operations = vec![Operation { kind: Some(OperationKind::CancelReplacement(cancel)) }];
        let (queued, record) = self.queue(body_hash, operations, Vec::new())?;
        self.parts.vault.stage_pending(&[Pending::Request { client, request_id, record: &record }])?;
        Ok(queued)
    }
}
