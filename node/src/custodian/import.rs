//! Many patients at once: one entry on the ledger for up to 256 of them.

use std::collections::BTreeSet;

use assent_ledger::consent::{import_consent, ConsentState};
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{operation::Kind as OperationKind, Operation, SetConsent};

use super::checks::{check_elements, check_subject};
use super::consents::{id_of, refused};
use super::{blocking, fresh_bytes, Custodian, NewSubject, Queued};
use crate::refusal::Refusal;
use crate::vault::{ConsentRecord, ConsentSet, Pending, Subject};

/// A patient to register, with a first consent if there is one.
#[derive(Clone)]
pub struct SubjectToImport {
    /// The patient.
    pub new: NewSubject,
    /// FHIR R4 Consent as JSON; empty means none.
    pub consent: Vec<u8>,
}

opaque_debug!(SubjectToImport);

/// Patients that were registered together.
#[derive(Debug, Clone)]
pub struct ImportedSubjects {
    /// Their handles, in the order in which they were named.
    pub handles: Vec<Hash>,
    /// Height of the block that holds their slots.
    pub height: u64,
}

struct Prepared {
    subject: Subject,
    commitment: Hash,
    set: ConsentSet,
}

fn at(index: usize) -> impl Fn(Refusal) -> Refusal {
    move |refusal| refusal.with("subject", index)
}

impl Custodian {
    /// Registers patients in one entry: all of them, or none.
    pub async fn import_subjects(
        &self,
        client: &str,
        request_id: &str,
        subjects: Vec<SubjectToImport>,
    ) -> Result<ImportedSubjects, Refusal> {
        let body_hash = body_hash(&subjects);
        let queued = match self.queued(client, request_id, &body_hash)? {
            Some(queued) => queued,
            None => {
                // Reading hundreds of consents takes long: others don't wait for it.
                let prepared = blocking(|| self.prepare_subjects(&subjects))?;
                let _guard = self.preparing.lock().await;
                match self.queued(client, request_id, &body_hash)? {
                    Some(queued) => queued,
                    None => blocking(|| self.queue_subjects(client, request_id, body_hash, prepared))?,
                }
            }
        };
        let height = self.commit(client, request_id, body_hash, &queued).await?;
        let (handles, rest) = queued.reply.as_chunks::<32>();
        if handles.len() != subjects.len() || !rest.is_empty() {
            return Err(Refusal::unavailable("NODE_FAILING", "a stored reply does not fit its request"));
        }
        Ok(ImportedSubjects { handles: handles.to_vec(), height })
    }

    fn prepare_subjects(&self, subjects: &[SubjectToImport]) -> Result<Vec<Prepared>, Refusal> {
        let mut names = BTreeSet::new();
        let mut references = BTreeSet::new();
        let mut prepared = Vec::with_capacity(subjects.len());
        for (index, SubjectToImport { new, consent }) in subjects.iter().enumerate() {
            if !names.insert((&new.system, &new.value)) || !references.insert(&new.reference) {
                let message = "this patient stands in the message twice";
                return Err(Refusal::invalid("SUBJECT_TWICE", "subjects", message)).map_err(at(index));
            }
            prepared.push(self.prepare_imported(new, consent).map_err(at(index))?);
        }
        Ok(prepared)
    }

    fn prepare_imported(&self, new: &NewSubject, consent: &[u8]) -> Result<Prepared, Refusal> {
        let subject = self.subject_to_register(new)?;
        let mut set = ConsentSet::empty(fresh_bytes());
        if !consent.is_empty() {
            let imported = import_consent(consent).map_err(|issues| refused(&issues))?;
            check_subject(&subject, &imported)?;
            if imported.consent.state == ConsentState::Active {
                check_elements(&imported.consent)?;
            }
            let id = id_of(&imported);
            let body = self.first_body(&subject.handle, &id, imported.consent.state, consent.to_vec());
            set.consents.push(ConsentRecord { body, salt: fresh_bytes() });
        }
        let commitment = self.commitment_of(&set);
        Ok(Prepared { subject, commitment, set })
    }

    fn queue_subjects(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        prepared: Vec<Prepared>,
    ) -> Result<Queued, Refusal> {
        let reply: Vec<u8> = prepared.iter().flat_map(|p| p.subject.handle).collect();
        let operation = |p: &Prepared| SetConsent {
            custodian: self.organization().to_owned(),
            handle: p.subject.handle.to_vec(),
            expected_consent_seq: 0,
            commitment: p.commitment.to_vec(),
            control_key: p.subject.control_key.map(|k| k.to_vec()),
            control_signature: None,
        };
        let mut operations: Vec<SetConsent> = prepared.iter().map(operation).collect();
        // Handles are pseudorandom: in their order, the entry does not tell the order of the hospital's list.
        operations.sort_by(|a, b| a.handle.cmp(&b.handle));
        let operations =
            operations.into_iter().map(|o| Operation { kind: Some(OperationKind::SetConsent(o)) }).collect();
        let (queued, record) = self.queue(body_hash, operations, reply)?;
        let mut writes = vec![Pending::Request { client, request_id, record: &record }];
        for Prepared { subject, commitment, set } in &prepared {
            writes.push(Pending::ConsentSet { handle: &subject.handle, commitment, set });
            if self.parts.vault.subject_by_handle(&subject.handle)?.is_none() {
                writes.push(Pending::Subject(subject));
            }
        }
        self.parts.vault.stage_pending(&writes)?;
        Ok(queued)
    }
}

fn body_hash(subjects: &[SubjectToImport]) -> Hash {
    let mut digests = Vec::with_capacity(subjects.len() * 32);
    for SubjectToImport { new, consent } in subjects {
        let key = new.control_key.unwrap_or_default();
        let texts = [&new.system, &new.value, &new.birth_date, &new.reference].map(|s| s.as_bytes());
        let parts = [texts[0], texts[1], texts[2], texts[3], &key, consent];
        digests.extend_from_slice(&sha256(&framed(Context::Handle, "import-subjects", &parts)));
    }
    sha256(&digests)
}
