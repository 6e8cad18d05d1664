//! What a patient grants with the control key, in two steps: the custodian writes it down and says what to sign, the patient
//! signs.
//!
//! ```text
//! PrepareGrant ─▶ proof ─▶ FHIR read, lossless ─▶ vault: set of consents, what waits ─▶ commitment and its opening
//! CommitGrant ─▶ signature over that commitment ─▶ SetConsent, signed by the control key ─▶ ledger
//! ```
//! Nothing that was prepared takes effect without the signature, and a signature counts for one consent sequence: a slot that
//! changed in between needs another one.

mod form;

use assent_ledger::consent::{import_consent, read_body, Imported, Step};
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::replacement::settled;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    operation::Kind as OperationKind, ConsentBody, ConsentState as RecordedState, Operation, SetConsent,
};
use assent_proto::v1::{
    CommitGrantRequest, CommitGrantResponse, Grant, GrantedConsent, PrepareGrantRequest, PrepareGrantResponse,
};
use prost::Message;

pub use form::{check_grant, prepare_method, SignedGrant};

use super::checks::check_subject;
use super::consents::{id_of, patient_client, refused};
use super::opened::{alarm, leaves};
use super::{blocking, fresh_bytes, Custodian, Queued};
use crate::grpc::proof::{prove, signed_by_control_key, slot_not_found};
use crate::grpc::{answer, border};
use crate::refusal::{Kind, Refusal};
use crate::vault::{ConsentRecord, ConsentSet, Pending, PendingGrant, Subject};

impl Custodian {
    /// First step, asked directly or through another node: checks the proof, writes the grant down, says what to sign.
    pub async fn prepare_grant(&self, body: PrepareGrantRequest) -> Result<PrepareGrantResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let grant = body.grant.ok_or_else(|| border::malformed("grant", "missing"))?;
        let key = check_grant(&grant)?;
        let proven = blocking(|| prove(&self.parts, &self.gate, &prepare_method(&grant), body.proof))?;
        if proven.custodian != self.organization() {
            return Err(slot_not_found());
        }
        let (client, request_id) = (patient_client(&proven.handle), &body.request_id);
        let body_hash = sha256(&framed(Context::Handle, "prepare-grant", &[&grant.encode_to_vec()]));
        let guard = self.preparing.lock().await;
        let queued = match self.queued(&client, request_id, &body_hash)? {
            Some(queued) => queued,
            None => {
                blocking(|| self.stage_grant(&client, request_id, body_hash, &proven.handle, &grant, key))?
            }
        };
        drop(guard);
        // Nobody signs for what a crash could take away.
        self.parts.vault.durable().await?;
        PrepareGrantResponse::decode(queued.reply.as_slice())
            .map_err(|_| Refusal::unavailable("NODE_FAILING", "a stored reply does not decode"))
    }

    fn stage_grant(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        handle: &Hash,
        grant: &Grant,
        new_control_key: Option<[u8; 32]>,
    ) -> Result<Queued, Refusal> {
        let view = self.parts.store.view()?;
        let slot = view.slot(self.organization(), handle)?.ok_or_else(slot_not_found)?;
        let slot = settled(slot, view.tip.time_ms);
        let lost = || alarm("the vault lacks a subject whose slot is on the ledger");
        let subject = self.parts.vault.subject_by_handle(handle)?.ok_or_else(lost)?;
        let mut set = self.open_set(handle, &slot.commitment)?;
        let mut response = PrepareGrantResponse {
            answer: Some(answer::at(&view.tip)),
            consent_seq: slot.consent_seq,
            ..Default::default()
        };
        if !grant.consent.is_empty() {
            let (record, rules) = self.granted(&subject, &mut set, grant)?;
            response.body = record.body.encode_to_vec();
            response.body_salt = record.salt.to_vec();
            response.rules = rules;
            set.consents.push(record);
        } else if !slot.frozen && new_control_key.is_none() {
            let message = "no consent, no new control key, and no withdrawal to lift: nothing would change";
            return Err(Refusal::new(Kind::FailedPrecondition, "NOTHING_TO_GRANT", message));
        }
        set.salt = fresh_bytes();
        let commitment = self.commitment_of(&set);
        response.commitment = commitment.to_vec();
        response.salt = set.salt.to_vec();
        let opened = leaves(self.chain_id(), &set).into_iter();
        response.consents = opened
            .map(|leaf| GrantedConsent { consent_id: leaf.id, commitment: leaf.commitment.to_vec() })
            .collect();
        let waiting = PendingGrant { consent_seq: slot.consent_seq, new_control_key };
        let (queued, record) = self.queue(body_hash, Vec::new(), response.encode_to_vec())?;
        self.parts.vault.stage_pending(&[
            Pending::ConsentSet { handle, commitment: &commitment, set: &set },
            Pending::Grant { handle, commitment: &commitment, grant: &waiting },
            Pending::Request { client, request_id, record: &record },
        ])?;
        Ok(queued)
    }

    /// The new consent and its rules in words. Those whose place it takes are superseded in the set; an earlier revision of its
    /// own goes.
    fn granted(
        &self,
        subject: &Subject,
        set: &mut ConsentSet,
        grant: &Grant,
    ) -> Result<(ConsentRecord, Vec<String>), Refusal> {
        let imported = import_consent(&grant.consent).map_err(|issues| refused(&issues))?;
        check_subject(subject, &imported)?;
        let id = id_of(&imported);
        if grant.supersedes.contains(&id) {
            return Err(border::malformed("grant.supersedes", "names the new consent itself"));
        }
        for superseded in &grant.supersedes {
            supersede(subject, set, superseded)?;
        }
        let before = set.consents.iter().filter(|c| c.body.id == id).map(|c| c.body.revision).max();
        set.consents.retain(|c| c.body.id != id);
        let Imported { consent, sentences, .. } = imported;
        let body = ConsentBody {
            revision: before.unwrap_or(0) + 1,
            supersedes: grant.supersedes.clone(),
            ..self.first_body(&subject.handle, &id, consent.state, grant.consent.clone())
        };
        Ok((ConsentRecord { body, salt: fresh_bytes() }, sentences))
    }

    /// Second step: the signature makes it so. The answer's frame is left to the caller's node.
    pub async fn commit_grant(&self, body: CommitGrantRequest) -> Result<CommitGrantResponse, Refusal> {
        let grant = SignedGrant::read(&body)?;
        let (client, request_id) = (patient_client(&grant.handle), &body.request_id);
        let body_hash = sha256(&framed(Context::Handle, "commit-grant", &[&body.encode_to_vec()]));
        let guard = self.preparing.lock().await;
        // A retry is answered before its signature is looked at: the key that made it may be replaced by now.
        let queued = match self.queued(&client, request_id, &body_hash)? {
            Some(queued) => queued,
            None => blocking(|| self.queue_grant(&client, request_id, body_hash, &grant))?,
        };
        drop(guard);
        let height = self.commit(&client, request_id, body_hash, &queued).await?;
        Ok(CommitGrantResponse { answer: None, consent_seq: grant.consent_seq + 1, height })
    }

    fn queue_grant(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        grant: &SignedGrant,
    ) -> Result<Queued, Refusal> {
        let view = self.parts.store.view()?;
        let slot = view.slot(self.organization(), &grant.handle)?;
        let message = grant.message(self.chain_id(), self.organization());
        let signed =
            signed_by_control_key(&self.parts, slot.as_ref(), view.tip.time_ms, &message, &grant.signature);
        let slot = slot.filter(|_| signed).ok_or_else(slot_not_found)?;
        let waiting = self.parts.vault.pending_grant(&grant.handle, &grant.commitment)?;
        let prepared =
            PendingGrant { consent_seq: grant.consent_seq, new_control_key: grant.new_control_key };
        if waiting != Some(prepared) {
            let message = "no such grant was prepared here: prepare it, then sign what the answer says";
            return Err(Refusal::new(Kind::FailedPrecondition, "GRANT_NOT_PREPARED", message));
        }
        if slot.consent_seq != grant.consent_seq {
            let message = "the slot has changed since the grant was prepared: prepare it again";
            return Err(Refusal::new(Kind::Aborted, "STALE_CONSENT_SEQUENCE", message)
                .with("expected", grant.consent_seq)
                .with("found", slot.consent_seq));
        }
        let operation = SetConsent {
            custodian: self.organization().to_owned(),
            handle: grant.handle.to_vec(),
            expected_consent_seq: grant.consent_seq,
            commitment: grant.commitment.to_vec(),
            control_key: grant.new_control_key.map(|key| key.to_vec()),
            control_signature: Some(grant.signature.to_vec()),
        };
        let operations = vec![Operation { kind: Some(OperationKind::SetConsent(operation)) }];
        let (queued, record) = self.queue(body_hash, operations, Vec::new())?;
        self.parts.vault.stage_pending(&[Pending::Request { client, request_id, record: &record }])?;
        Ok(queued)
    }
}

/// A new revision of a consent that another one takes the place of.
fn supersede(subject: &Subject, set: &mut ConsentSet, id: &str) -> Result<(), Refusal> {
    let found = set.consents.iter_mut().find(|consent| consent.body.id == id);
    let record = found.ok_or_else(|| {
        let message = "grant.supersedes names a consent that is not there";
        Refusal::new(Kind::NotFound, "CONSENT_NOT_FOUND", message).with("field", "grant.supersedes")
    })?;
    let not_now = |reason, message: String| {
        Refusal::new(Kind::FailedPrecondition, reason, message).with("field", "grant.supersedes")
    };
    if record.body.unresolved {
        let message = "a consent that can't be read is resolved by the custodian's officer first";
        return Err(not_now("CONSENT_UNRESOLVED", message.into()));
    }
    let read = read_body(&record.body, &subject.patient_reference);
    let before = read.map_err(|_| alarm("a stored consent does not import"))?.consent.state;
    let after = before.after(Step::Supersede).map_err(|fault| {
        not_now("CONSENT_STATE", format!("{fault}: only active and revoked ones are superseded"))
    })?;
    record.body.state = RecordedState::from(after).into();
    record.body.revision += 1;
    record.salt = fresh_bytes();
    Ok(())
}
