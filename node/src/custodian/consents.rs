//! Consents, the default policy, and withdrawals.

use assent_ledger::commitment::commit;
use assent_ledger::consent::{import_consent, ConsentState, DefaultPolicy, Imported, Issue};
use assent_ledger::execute::ExecuteError;
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    operation::Kind as OperationKind, ConsentBody, Operation, PolicyBody, SetConsent, SetPolicy, Withdraw,
};
use prost::Message;

use super::{blocking, fresh_bytes, Custodian, PatientName, Queued, RecordedConsent, RecordedPolicy};
use crate::chain::SubmitError;
use crate::refusal::{Kind, Refusal};
use crate::vault::{ConsentRecord, Pending, Subject};

/// The reply to an import, as stored for retries.
#[derive(Clone, PartialEq, prost::Message)]
struct ImportReply {
    #[prost(string, tag = "1")]
    consent_id: String,
    #[prost(uint64, tag = "2")]
    consent_seq: u64,
    #[prost(string, repeated, tag = "3")]
    rules: Vec<String>,
    #[prost(bytes = "vec", tag = "4")]
    handle: Vec<u8>,
}

/// A consent's own id, or a fresh one.
pub(super) fn id_of(imported: &Imported) -> String {
    match imported.consent.id.as_str() {
        "" => hex::encode(&fresh_bytes()[..16]),
        id => id.to_owned(),
    }
}

pub(super) fn refused(issues: &[Issue]) -> Refusal {
    let reasons: Vec<&str> = issues.iter().map(|i| i.reason).collect();
    let first = issues
        .first()
        .map(|i| format!("{} at {}: {}", i.reason, i.expression, i.message))
        .unwrap_or_default();
    Refusal::invalid(
        "CONSENT_REFUSED",
        "consent",
        format!("the Consent can't be imported without loss: {first}"),
    )
    .with("issues", reasons.join(","))
}

impl Custodian {
    /// Imports a FHIR Consent, lossless or refused, and records it.
    pub async fn import_consent(
        &self,
        client: &str,
        request_id: &str,
        patient: PatientName,
        fhir: Vec<u8>,
        control_key: Option<[u8; 32]>,
    ) -> Result<RecordedConsent, Refusal> {
        let key = control_key.unwrap_or_default();
        let name = [&patient.system, &patient.value, &patient.birth_date].map(|s| s.as_bytes());
        let body_hash = sha256(&framed(Context::Handle, "import", &[name[0], name[1], name[2], &fhir, &key]));
        let guard = self.preparing.lock().await;
        let queued = match self.queued(client, request_id, &body_hash)? {
            Some(queued) => queued,
            None => self.prepare_consent(client, request_id, body_hash, &patient, fhir, control_key)?,
        };
        drop(guard);
        let height = self.commit(client, request_id, body_hash, &queued).await?;
        let unreadable = || Refusal::unavailable("NODE_FAILING", "a stored reply does not decode");
        let reply = ImportReply::decode(queued.reply.as_slice()).map_err(|_| unreadable())?;
        Ok(RecordedConsent {
            consent_id: reply.consent_id,
            consent_seq: reply.consent_seq,
            rules: reply.rules,
            handle: reply.handle.try_into().map_err(|_| unreadable())?,
            height,
        })
    }

    fn prepare_consent(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        patient: &PatientName,
        fhir: Vec<u8>,
        control_key: Option<[u8; 32]>,
    ) -> Result<Queued, Refusal> {
        let vault = &self.parts.vault;
        let imported = import_consent(&fhir).map_err(|issues| refused(&issues))?;
        let subject = vault
            .subject_by_identifier(&patient.system, &patient.value, &patient.birth_date)?
            .ok_or_else(|| Refusal::new(Kind::NotFound, "SUBJECT_NOT_FOUND", "no patient matches exactly"))?;
        check_subject(&subject, &imported)?;
        let view = self.parts.store.view()?;
        let slot = view.slot(self.organization(), &subject.handle)?.ok_or_else(|| {
            Refusal::new(
                Kind::FailedPrecondition,
                "SUBJECT_NOT_COMMITTED",
                "the patient's registration is not committed yet",
            )
        })?;
        if slot.frozen && imported.consent.state == ConsentState::Active {
            return Err(Refusal::new(
                Kind::FailedPrecondition,
                "SLOT_FROZEN",
                "the patient has withdrawn: only their control key can lift that",
            ));
        }
        let new_key = match (slot.control_key.as_deref(), control_key) {
            (None, key) => key.map(|k| k.to_vec()),
            (Some(present), Some(key)) if present != key => {
                return Err(Refusal::new(
                    Kind::FailedPrecondition,
                    "CONTROL_KEY_PRESENT",
                    "the slot has another control key: replacing it needs that key's signature",
                ))
            }
            (Some(_), _) => None,
        };
        let mut set = self.open_set(&subject.handle, &slot.commitment)?;
        let id = id_of(&imported);
        let revision = set.consents.iter().filter(|c| c.body.id == id).map(|c| c.body.revision).max();
        set.consents.retain(|c| c.body.id != id);
        let body = ConsentBody {
            revision: revision.unwrap_or(0) + 1,
            ..self.first_body(&subject.handle, &id, imported.consent.state, fhir)
        };
        set.consents.push(ConsentRecord { body, salt: fresh_bytes() });
        set.salt = fresh_bytes();
        let commitment = self.commitment_of(&set);
        let operation = SetConsent {
            custodian: self.organization().to_owned(),
            handle: subject.handle.to_vec(),
            expected_consent_seq: slot.consent_seq,
            commitment: commitment.to_vec(),
            control_key: new_key,
            control_signature: None,
        };
        let reply = ImportReply {
            consent_id: id,
            consent_seq: slot.consent_seq + 1,
            rules: imported.sentences,
            handle: subject.handle.to_vec(),
        };
        let operations = vec![Operation { kind: Some(OperationKind::SetConsent(operation)) }];
        let (queued, record) = self.queue(body_hash, operations, reply.encode_to_vec())?;
        vault.stage_pending(&[
            Pending::ConsentSet { handle: &subject.handle, commitment: &commitment, set: &set },
            Pending::Request { client, request_id, record: &record },
        ])?;
        Ok(queued)
    }

    /// The first revision of a consent.
    pub(super) fn first_body(
        &self,
        handle: &Hash,
        id: &str,
        state: ConsentState,
        fhir: Vec<u8>,
    ) -> ConsentBody {
        ConsentBody {
            custodian: self.organization().to_owned(),
            handle: handle.to_vec(),
            id: id.to_owned(),
            revision: 1,
            state: assent_proto::ledger::v1::ConsentState::from(state).into(),
            fhir,
            ..ConsentBody::default()
        }
    }

    /// Replaces the default policy.
    pub async fn set_policy(
        &self,
        client: &str,
        request_id: &str,
        policy: Vec<u8>,
    ) -> Result<RecordedPolicy, Refusal> {
        DefaultPolicy::parse(&policy)
            .map_err(|e| Refusal::invalid("POLICY_REFUSED", "policy", e.to_string()))?;
        let body_hash = sha256(&policy);
        let guard = self.preparing.lock().await;
        let queued = match self.queued(client, request_id, &body_hash)? {
            Some(queued) => queued,
            None => blocking(|| self.prepare_policy(client, request_id, body_hash, &policy))?,
        };
        drop(guard);
        let height = self.commit(client, request_id, body_hash, &queued).await?;
        let policy_seq = queued.reply.try_into().map_or(0, u64::from_be_bytes);
        Ok(RecordedPolicy { policy_seq, height })
    }

    fn prepare_policy(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        policy: &[u8],
    ) -> Result<Queued, Refusal> {
        let slot = self.parts.store.view()?.policy(self.organization())?;
        let salt = fresh_bytes();
        let body = PolicyBody { policy: policy.to_vec(), registry: Vec::new() }.encode_to_vec();
        let commitment = commit(Context::PolicyCommitment, self.chain_id(), &salt, &body);
        let operation = SetPolicy { expected_policy_seq: slot.policy_seq, commitment: commitment.to_vec() };
        let reply = (slot.policy_seq + 1).to_be_bytes().to_vec();
        let operations = vec![Operation { kind: Some(OperationKind::SetPolicy(operation)) }];
        let (queued, record) = self.queue(body_hash, operations, reply)?;
        self.parts.vault.stage_pending(&[
            Pending::Policy { commitment: &commitment, salt: &salt, body: &body },
            Pending::Request { client, request_id, record: &record },
        ])?;
        Ok(queued)
    }

    /// Submits a patient's signed withdrawal, whoever the custodian is. The height of its block.
    pub async fn withdraw(&self, request_id: &str, withdraw: Withdraw) -> Result<u64, Refusal> {
        // The handle names the client: nobody else can sign for it.
        let client = format!("patient:{}", hex::encode(&withdraw.handle));
        let body_hash = sha256(&withdraw.encode_to_vec());
        let guard = self.preparing.lock().await;
        let queued = match self.queued(&client, request_id, &body_hash)? {
            Some(queued) => queued,
            None => self.prepare_withdrawal(&client, request_id, body_hash, withdraw)?,
        };
        drop(guard);
        self.commit(&client, request_id, body_hash, &queued).await
    }

    fn prepare_withdrawal(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        withdraw: Withdraw,
    ) -> Result<Queued, Refusal> {
        // An old withdrawal stands in the ledger for anybody to send again: nothing is stored or signed for it.
        let slot = self.parts.store.view()?.slot(&withdraw.custodian, &withdraw.handle)?;
        let found = slot.map_or(withdraw.withdraw_seq, |slot| slot.withdraw_seq);
        if found != withdraw.withdraw_seq {
            let expected = withdraw.withdraw_seq;
            return Err(SubmitError::Refused(ExecuteError::WithdrawSequence { expected, found }).into());
        }
        let operations = vec![Operation { kind: Some(OperationKind::Withdraw(withdraw)) }];
        let (queued, record) = self.queue(body_hash, operations, Vec::new())?;
        self.parts.vault.stage_pending(&[Pending::Request { client, request_id, record: &record }])?;
        Ok(queued)
    }
}

pub(super) fn check_subject(subject: &Subject, imported: &Imported) -> Result<(), Refusal> {
    if imported.consent.subject == subject.patient_reference {
        return Ok(());
    }
    Err(Refusal::invalid(
        "CONSENT_FOR_OTHER_SUBJECT",
        "consent",
        "Consent.patient is not the patient that the request names",
    ))
}
