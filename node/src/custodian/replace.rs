//! A control key that waits to take the place of a lost one: registered by the custodian, cancelled by the present key.

use assent_ledger::entry::cancel_sign_bytes;
use assent_ledger::execute::ExecuteError;
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::replacement::{settled, REPLACEMENT_WAIT_MS};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{operation::Kind as OperationKind, CancelReplacement, Operation, SetConsent};
use prost::Message;

use super::consents::patient_client;
use super::{blocking, fresh_bytes, Custodian, PatientName, Queued};
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
        let guard = self.preparing.lock().await;
        let queued = match self.queued(client, request_id, &body_hash)? {
            Some(queued) => queued,
            None => blocking(|| self.prepare_replacement(client, request_id, body_hash, &patient, key))?,
        };
        drop(guard);
        let height = self.commit(client, request_id, body_hash, &queued).await?;
        let recorded = blocking(|| self.parts.store.view()?.committed(height))?;
        let missing = || Refusal::unavailable("NODE_FAILING", "a committed block can't be read");
        let effective_ms = recorded.ok_or_else(missing)?.header.time_ms + REPLACEMENT_WAIT_MS;
        Ok(ReplacedKey { effective_ms, height })
    }

    fn prepare_replacement(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        patient: &PatientName,
        key: [u8; 32],
    ) -> Result<Queued, Refusal> {
        let vault = &self.parts.vault;
        let handle = vault
            .subject_by_identifier(&patient.system, &patient.value, &patient.birth_date)?
            .ok_or_else(|| Refusal::new(Kind::NotFound, "SUBJECT_NOT_FOUND", "no patient matches exactly"))?
            .handle;
        let view = self.parts.store.view()?;
        let slot = view.slot(self.organization(), &handle)?.ok_or_else(|| {
            precondition("SUBJECT_NOT_COMMITTED", "the patient's registration is not committed yet")
        })?;
        let slot = settled(slot, view.tip.time_ms);
        match slot.control_key {
            None => {
                let message = "the slot has no control key to replace: give the first one with a consent";
                return Err(precondition("NO_CONTROL_KEY", message));
            }
            Some(present) if present == key => {
                return Err(precondition("CONTROL_KEY_UNCHANGED", "the slot has this control key already"));
            }
            Some(_) => {}
        }
        let mut set = self.open_set(&handle, &slot.commitment)?;
        set.salt = fresh_bytes();
        let commitment = self.commitment_of(&set);
        let operation = SetConsent {
            custodian: self.organization().to_owned(),
            handle: handle.to_vec(),
            expected_consent_seq: slot.consent_seq,
            commitment: commitment.to_vec(),
            control_key: Some(key.to_vec()),
            control_signature: None,
        };
        let operations = vec![Operation { kind: Some(OperationKind::SetConsent(operation)) }];
        let (queued, record) = self.queue(body_hash, operations, Vec::new())?;
        vault.stage_pending(&[
            Pending::ConsentSet { handle: &handle, commitment: &commitment, set: &set },
            Pending::Request { client, request_id, record: &record },
        ])?;
        Ok(queued)
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
