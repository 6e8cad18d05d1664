//! Consents and withdrawals.

use assent_ledger::consent::{ConsentState, Imported, Issue};
use assent_ledger::execute::ExecuteError;
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{operation::Kind as OperationKind, ConsentBody, Operation, Withdraw};
use prost::Message;

use super::changing::{Reply, Write};
use super::record::{read_fhir, Applied};
use super::unresolved::{ConsentToImport, ImportedConsent};
use super::{fresh_bytes, Custodian, PatientName, Queued, RecordedConsent};
use crate::chain::SubmitError;
use crate::refusal::{Kind, Refusal};
use crate::vault::Pending;

/// Who a request id of a patient belongs to.
pub(super) fn patient_client(handle: &[u8]) -> String {
    format!("patient:{}", hex::encode(handle))
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
        import: ConsentToImport,
        control_key: Option<[u8; 32]>,
    ) -> Result<RecordedConsent, Refusal> {
        let key = control_key.unwrap_or_default();
        let name = [&patient.system, &patient.value, &patient.birth_date].map(|s| s.as_bytes());
        let how = [u8::from(import.lenient), u8::from(import.keep_unresolved)];
        let parts = [name[0], name[1], name[2], &import.fhir, &key, &how];
        let body_hash = sha256(&framed(Context::Handle, "import", &parts));
        let write = Write { client, request_id, body_hash };
        let prepare = || self.prepare_import(write, &patient, &import, control_key);
        RecordedConsent::of(self.change(write, prepare).await?)
    }

    fn prepare_import(
        &self,
        write: Write<'_>,
        patient: &PatientName,
        import: &ConsentToImport,
        control_key: Option<[u8; 32]>,
    ) -> Result<Queued, Refusal> {
        // What can't be read is said first, unless it is kept.
        if !import.keep_unresolved {
            read_fhir(&import.fhir, import.lenient).map_err(|issues| refused(&issues))?;
        }
        let opened = self.open_patient(&self.parts.store.view()?, patient);
        let mut opened = opened.map_err(|refusal| match refusal.reason {
            "PATIENT_NOT_FOUND" => {
                Refusal::new(Kind::NotFound, "SUBJECT_NOT_FOUND", "no patient matches exactly")
            }
            _ => refusal,
        })?;
        let ImportedConsent { applied, unresolved, is_new } = self.apply_import(&mut opened, import)?;
        let key = opened.new_key(control_key)?;
        let Applied { id: consent_id, revision, imported } = applied;
        let reply = Reply { consent_id, revision, rules: imported.sentences, unresolved, ..Reply::default() };
        if is_new {
            return self.queue_set(write, opened, key, reply);
        }
        let (consent_seq, handle) = (opened.slot.consent_seq, opened.subject.handle.to_vec());
        self.queue_nothing(write, &Reply { consent_seq, handle, ..reply })
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

    /// Submits a patient's signed withdrawal, whoever the custodian is. The height of its block.
    pub async fn withdraw(&self, request_id: &str, withdraw: Withdraw) -> Result<u64, Refusal> {
        // The handle names the client: nobody else can sign for it.
        let client = patient_client(&withdraw.handle);
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
