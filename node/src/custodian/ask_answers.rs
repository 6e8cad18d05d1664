//! A patient's answer to an ask. A grant is one `SetConsent` with the consent that was asked for beside all that stands already.

use assent_ledger::consent::import_consent;
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{operation::Kind as OperationKind, ConsentBody, Operation, SetConsent};
use prost::Message;

use super::asks::{patient_not_found, read, unreadable, Standing};
use super::checks::check_subject;
use super::consents::refused;
use super::grant::consent_of;
use super::{blocking, fresh_bytes, Custodian, PatientName, Queued};
use crate::chain::view::View;
use crate::refusal::{Kind, Refusal};
use crate::vault::{Answered, Ask, AskWrite, ConsentRecord, Pending, Subject};

/// A recorded answer.
#[derive(Debug, Clone)]
pub struct AnsweredAsk {
    /// Id of the consent; empty when the patient declined.
    pub consent_id: String,
    /// Its rules in words.
    pub rules: Vec<String>,
    /// Height from which the answer holds.
    pub height: u64,
}

/// The reply to an answer, as stored for retries.
#[derive(Clone, PartialEq, prost::Message)]
struct AnswerReply {
    #[prost(string, tag = "1")]
    consent_id: String,
    #[prost(string, repeated, tag = "2")]
    rules: Vec<String>,
}

impl Custodian {
    /// Records the patient's answer. A grant is a consent on the ledger when this returns.
    pub async fn answer_ask(
        &self,
        client: &str,
        request_id: &str,
        patient: PatientName,
        id: Hash,
        granted: bool,
    ) -> Result<AnsweredAsk, Refusal> {
        let name = [&patient.system, &patient.value, &patient.birth_date].map(|s| s.as_bytes());
        let parts = [name[0], name[1], name[2], &id, &[u8::from(granted)]];
        let body_hash = sha256(&framed(Context::Ask, "answer", &parts));
        let guard = self.preparing.lock().await;
        let queued = match self.queued(client, request_id, &body_hash)? {
            Some(queued) => queued,
            None => blocking(|| self.prepare_answer(client, request_id, body_hash, &patient, &id, granted))?,
        };
        drop(guard);
        let height = match queued.entry.is_empty() {
            true => {
                self.parts.vault.durable().await?;
                self.parts.tip().height
            }
            false => self.commit(client, request_id, body_hash, &queued).await?,
        };
        let AnswerReply { consent_id, rules } =
            AnswerReply::decode(queued.reply.as_slice()).map_err(|_| unreadable())?;
        Ok(AnsweredAsk { consent_id, rules, height })
    }

    fn prepare_answer(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        patient: &PatientName,
        id: &Hash,
        granted: bool,
    ) -> Result<Queued, Refusal> {
        let vault = &self.parts.vault;
        let subject = vault.subject_by_identifier(&patient.system, &patient.value, &patient.birth_date)?;
        let subject = subject.ok_or_else(patient_not_found)?;
        let ask = vault.ask(id)?.filter(|ask| ask.handle == subject.handle).ok_or_else(|| {
            Refusal::new(Kind::NotFound, "ASK_NOT_FOUND", "this patient was not asked this: list the asks")
        })?;
        let view = self.parts.store.view()?;
        let closed = |reason, message: &str| Err(Refusal::new(Kind::FailedPrecondition, reason, message));
        match self.standing(&view, &ask)? {
            Standing::Open => {}
            Standing::Expired => return closed("ASK_EXPIRED", "the ask has expired: nothing was recorded"),
            Standing::Granted | Standing::Declined => {
                return closed("ASK_ANSWERED", "the ask is answered: revoke or record a consent instead")
            }
            Standing::UnderWay => {
                return closed("ASK_ANSWERED", "the ask is being answered: retry under the first request_id")
            }
        }
        if granted {
            return self.prepare_grant(client, request_id, body_hash, &view, &subject, &ask, id);
        }
        let (queued, record) = self.queue(body_hash, Vec::new(), AnswerReply::default().encode_to_vec())?;
        let answered = Answered { time_ms: view.tip.time_ms, ..Answered::default() };
        vault.stage_pending(&[
            Pending::Asks(AskWrite::Answer { id, answered: &answered }),
            Pending::Request { client, request_id, record: &record },
        ])?;
        Ok(queued)
    }

    /// The consent that was asked for, beside all that stands already.
    #[allow(clippy::too_many_arguments)]
    fn prepare_grant(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        view: &View<'_>,
        subject: &Subject,
        ask: &Ask,
        id: &Hash,
    ) -> Result<Queued, Refusal> {
        let slot = view.slot(self.organization(), &subject.handle)?.ok_or_else(patient_not_found)?;
        if slot.frozen {
            let message = "the patient has withdrawn: only their control key can lift that";
            return Err(Refusal::new(Kind::FailedPrecondition, "SLOT_FROZEN", message));
        }
        let time_ms = view.tip.time_ms;
        let consent_id = hex::encode(&id[..16]);
        let fhir = consent_of(&read(ask)?, &consent_id, &subject.patient_reference, time_ms);
        let fhir = fhir.ok_or_else(unreadable)?;
        let imported = import_consent(&fhir).map_err(|issues| refused(&issues))?;
        check_subject(subject, &imported)?;
        let mut set = self.open_set(&subject.handle, &slot.commitment)?;
        let revision = set.consents.iter().filter(|c| c.body.id == consent_id).map(|c| c.body.revision).max();
        set.consents.retain(|c| c.body.id != consent_id);
        let body = ConsentBody {
            revision: revision.unwrap_or(0) + 1,
            ..self.first_body(&subject.handle, &consent_id, imported.consent.state, fhir)
        };
        set.consents.push(ConsentRecord { body, salt: fresh_bytes() });
        set.salt = fresh_bytes();
        let commitment = self.commitment_of(&set);
        let operation = SetConsent {
            custodian: self.organization().to_owned(),
            handle: subject.handle.to_vec(),
            expected_consent_seq: slot.consent_seq,
            commitment: commitment.to_vec(),
            control_key: None,
            control_signature: None,
        };
        let operations = vec![Operation { kind: Some(OperationKind::SetConsent(operation)) }];
        let reply = AnswerReply { consent_id: consent_id.clone(), rules: imported.sentences };
        let (queued, record) = self.queue(body_hash, operations, reply.encode_to_vec())?;
        let answered = Answered { entry: queued.entry.clone(), consent_id, time_ms };
        self.parts.vault.stage_pending(&[
            Pending::ConsentSet { handle: &subject.handle, commitment: &commitment, set: &set },
            Pending::Asks(AskWrite::Answer { id, answered: &answered }),
            Pending::Request { client, request_id, record: &record },
        ])?;
        Ok(queued)
    }
}
