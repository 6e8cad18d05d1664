//! Subjects and their records.

use std::collections::BTreeSet;

use assent_ledger::commitment::handle;
use assent_ledger::consent::describe_resource;
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{operation::Kind as OperationKind, Operation, SetConsent};

use super::{blocking, fresh_bytes, CreatedSubject, Custodian, Loaded, NewSubject, PatientName};
use crate::refusal::{Kind, Refusal};
use crate::vault::{ConsentSet, Pending, Record, Subject};

impl Custodian {
    /// Registers a patient: a slot with an empty, salted set of consents.
    pub async fn create_subject(
        &self,
        client: &str,
        request_id: &str,
        new: NewSubject,
    ) -> Result<CreatedSubject, Refusal> {
        let parts = [&new.system, &new.value, &new.birth_date, &new.reference].map(|s| s.as_bytes());
        let key = new.control_key.unwrap_or_default();
        let body_hash = sha256(&framed(
            Context::Handle,
            "create-subject",
            &[parts[0], parts[1], parts[2], parts[3], &key],
        ));
        let guard = self.preparing.lock().await;
        let queued = match self.queued(client, request_id, &body_hash)? {
            Some(queued) => queued,
            None => self.prepare_subject(client, request_id, body_hash, &new)?,
        };
        drop(guard);
        let height = self.commit(client, request_id, body_hash, &queued).await?;
        let handle =
            queued.reply.try_into().map_err(|_| Refusal::unavailable("NODE_FAILING", "stored reply"))?;
        Ok(CreatedSubject { handle, height })
    }

    fn prepare_subject(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        new: &NewSubject,
    ) -> Result<super::Queued, Refusal> {
        let vault = &self.parts.vault;
        let subject = self.subject_to_register(new)?;
        let set = ConsentSet::empty(fresh_bytes());
        let commitment = self.commitment_of(&set);
        let operation = SetConsent {
            custodian: self.organization().to_owned(),
            handle: subject.handle.to_vec(),
            expected_consent_seq: 0,
            commitment: commitment.to_vec(),
            control_key: new.control_key.map(|k| k.to_vec()),
            control_signature: None,
        };
        let operations = vec![Operation { kind: Some(OperationKind::SetConsent(operation)) }];
        let (queued, record) = self.queue(body_hash, operations, subject.handle.to_vec())?;
        let mut writes = vec![
            Pending::ConsentSet { handle: &subject.handle, commitment: &commitment, set: &set },
            Pending::Request { client, request_id, record: &record },
        ];
        if vault.subject_by_handle(&subject.handle)?.is_none() {
            writes.push(Pending::Subject(&subject));
        }
        vault.stage_pending(&writes)?;
        Ok(queued)
    }

    /// A new subject, or the one that an earlier try left behind; a patient is registered once.
    pub(super) fn subject_to_register(&self, new: &NewSubject) -> Result<Subject, Refusal> {
        match self.parts.vault.subject_by_identifier(&new.system, &new.value, &new.birth_date)? {
            Some(subject) if self.is_orphan(&subject, new)? => Ok(subject),
            Some(_) => {
                Err(Refusal::new(Kind::AlreadyExists, "SUBJECT_EXISTS", "this patient is registered already"))
            }
            None => {
                let secret = fresh_bytes();
                Ok(Subject {
                    handle: handle(self.chain_id(), self.organization(), &secret),
                    secret,
                    identifier_system: new.system.clone(),
                    identifier_value: new.value.clone(),
                    birth_date: new.birth_date.clone(),
                    patient_reference: new.reference.clone(),
                    control_key: new.control_key,
                })
            }
        }
    }

    /// True for a subject whose registration never reached the ledger and is asked for again with the same facts.
    fn is_orphan(&self, subject: &Subject, new: &NewSubject) -> Result<bool, Refusal> {
        let slot = self.parts.store.view()?.slot(self.organization(), &subject.handle)?;
        let same = subject.patient_reference == new.reference && subject.control_key == new.control_key;
        Ok(slot.is_none() && same)
    }

    /// The handle of a patient, if exactly one matches.
    pub fn handle_of(&self, patient: &PatientName) -> Result<Option<Hash>, Refusal> {
        let vault = &self.parts.vault;
        let found =
            blocking(|| vault.subject_by_identifier(&patient.system, &patient.value, &patient.birth_date))?;
        Ok(found.map(|s| s.handle))
    }

    /// Stores resources: all of them, or none. Each must be about exactly one registered patient.
    pub async fn load_records(
        &self,
        client: &str,
        request_id: &str,
        resources: Vec<Vec<u8>>,
    ) -> Result<Loaded, Refusal> {
        let digests: Vec<Hash> = resources.iter().map(|r| sha256(r)).collect();
        let body_hash = sha256(&digests.concat());
        // Reading takes seconds for a large load: a withdrawal does not wait for it.
        let records = blocking(|| self.read_records(resources))?;
        let guard = self.preparing.lock().await;
        let loaded = blocking(|| {
            let handles: BTreeSet<Hash> = records.iter().flat_map(|r| r.subjects.iter().copied()).collect();
            let loaded = Loaded { resources: records.len() as u64, handles };
            if self.queued(client, request_id, &body_hash)?.is_none() {
                let (_, record) = self.queue(body_hash, Vec::new(), Vec::new())?;
                let request = Pending::Request { client, request_id, record: &record };
                self.parts.vault.stage_pending(&[Pending::Records(&records), request])?;
            }
            Ok::<_, Refusal>(loaded)
        })?;
        drop(guard);
        self.parts.vault.durable().await?;
        Ok(loaded)
    }

    fn read_records(&self, resources: Vec<Vec<u8>>) -> Result<Vec<Record>, Refusal> {
        let mut records = Vec::with_capacity(resources.len());
        for (index, bytes) in resources.into_iter().enumerate() {
            let at = format!("resources[{index}]");
            let described = describe_resource(&bytes)
                .map_err(|e| Refusal::invalid("RESOURCE_REFUSED", &at, format!("{at} is refused: {e}")))?;
            let [patient] = described.subjects.as_slice() else {
                return Err(Refusal::invalid(
                    "NOT_ONE_SUBJECT",
                    &at,
                    format!(
                        "{at} is about {} patients, this version takes exactly one",
                        described.subjects.len()
                    ),
                ));
            };
            let subject = self.parts.vault.subject_by_reference(patient)?.ok_or_else(|| {
                Refusal::new(
                    Kind::FailedPrecondition,
                    "SUBJECT_NOT_REGISTERED",
                    format!("{at} is about a patient that the registrar has not registered: create the subject first"),
                )
                .with("field", &at)
            })?;
            records.push(Record {
                reference: described.reference,
                resource_type: described.resource_type,
                subjects: vec![subject.handle],
                bytes,
            });
        }
        Ok(records)
    }
}
