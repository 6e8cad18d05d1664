//! A patient's answer to an ask. A grant is one `SetConsent` with the consent that was asked for beside all that stands already.

use assent_ledger::consent::{compose_consent, import_consent, Directive, Effect, Scope};
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    operation::Kind as OperationKind, ConsentAsk, ConsentBody, Operation, SetConsent,
};
use prost::Message;

use super::asks::{read, unreadable, Standing};
use super::changing::patient_not_found;
use super::checks::check_subject;
use super::consents::refused;
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

/// What a patient who grants an ask consents to: a permit for the organization that asked, for what it asked, until the end that it
/// named.
fn directive(ask: ConsentAsk) -> Directive {
    let access = |actions: Vec<String>| if actions.is_empty() { vec!["access".to_owned()] } else { actions };
    let scope = Scope {
        organizations: vec![ask.recipient],
        purposes: ask.purposes,
        actions: access(ask.actions),
        resource_types: ask.resource_types,
        ..Scope::default()
    };
    Directive {
        effect: Effect::Permit,
        scope,
        valid_from_ms: None,
        valid_until_ms: i64::try_from(ask.valid_until_ms).ok(),
        exceptions: Vec::new(),
    }
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
            return self.prepare_granted_ask(client, request_id, body_hash, &view, &subject, &ask, id);
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
    fn prepare_granted_ask(
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
        let at_ms = i64::try_from(time_ms).unwrap_or(i64::MAX);
        let directive = directive(read(ask)?);
        let fhir = compose_consent(&directive, &consent_id, &subject.patient_reference, at_ms);
        let fhir = fhir.map_err(|_| unreadable())?;
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

#[cfg(test)]
mod tests {
    use assent_ledger::consent::Base;

    use super::*;

    #[test]
    fn a_grant_imports_and_says_what_was_asked() {
        let ask = ConsentAsk {
            recipient: "birch".into(),
            purposes: vec!["HRESCH".into(), "TREAT".into()],
            valid_until_ms: 1_900_000_000_123,
            ..Default::default()
        };
        let granted = |ask: &ConsentAsk| {
            let fhir = compose_consent(&directive(ask.clone()), "x", "Patient/1", 1_800_000_000_999).unwrap();
            import_consent(&fhir).unwrap()
        };
        let imported = granted(&ask);
        let context = &imported.consent.context;
        assert_eq!((imported.consent.base, imported.consent.id.as_str()), (Base::Permit, "x"));
        assert_eq!((context.valid.start_ms, context.valid.end_ms), (None, Some(1_900_000_000_123)));
        assert_eq!(context.purposes.as_deref(), Some(&ask.purposes[..]));
        assert_eq!(context.actions.as_deref(), Some(&["access".to_owned()][..]));
        assert!(imported.sentences.join(" ").contains("urn:assent:organization|birch"));

        let types = vec!["Observation".to_owned(), "Condition".to_owned()];
        let imported =
            granted(&ConsentAsk { actions: vec!["use".into()], resource_types: types.clone(), ..ask });
        assert_eq!(imported.consent.base, Base::Limit);
        assert_eq!(imported.consent.root_rule.unwrap().clause.data.types.as_deref(), Some(&types[..]));
        assert_eq!(imported.consent.context.actions.as_deref(), Some(&["use".to_owned()][..]));
    }
}
