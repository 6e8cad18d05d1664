//! Subjects: one patient at this custodian, found by an exact identifier only.

use std::fmt;

use super::seal::Table;
use super::staging::Staging;
use super::{array, Pending, Result, Vault, VaultError};

/// One patient at this custodian. Its `Debug` shows nothing about the patient.
#[derive(Clone, PartialEq, Eq)]
pub struct Subject {
    /// The pseudonym on the ledger.
    pub handle: [u8; 32],
    /// The per-subject secret that the handle comes from.
    pub secret: [u8; 32],
    /// Such as `urn:assent:sample:mrn`.
    pub identifier_system: String,
    /// The identifier's value.
    pub identifier_value: String,
    /// `YYYY-MM-DD`.
    pub birth_date: String,
    /// `Patient/x`, as the records name the patient.
    pub patient_reference: String,
    /// The patient's own key, if enrolled with one.
    pub control_key: Option<[u8; 32]>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(bytes = "vec", tag = "1")]
    handle: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    secret: Vec<u8>,
    #[prost(string, tag = "3")]
    identifier_system: String,
    #[prost(string, tag = "4")]
    identifier_value: String,
    #[prost(string, tag = "5")]
    birth_date: String,
    #[prost(string, tag = "6")]
    patient_reference: String,
    #[prost(bytes = "vec", optional, tag = "7")]
    control_key: Option<Vec<u8>>,
}

impl From<&Subject> for Stored {
    fn from(subject: &Subject) -> Self {
        Self {
            handle: subject.handle.to_vec(),
            secret: subject.secret.to_vec(),
            identifier_system: subject.identifier_system.clone(),
            identifier_value: subject.identifier_value.clone(),
            birth_date: subject.birth_date.clone(),
            patient_reference: subject.patient_reference.clone(),
            control_key: subject.control_key.map(|key| key.to_vec()),
        }
    }
}

impl TryFrom<Stored> for Subject {
    type Error = VaultError;

    fn try_from(stored: Stored) -> Result<Self> {
        Ok(Self {
            handle: array(&stored.handle, "a subject's handle")?,
            secret: array(&stored.secret, "a subject's secret")?,
            control_key: stored.control_key.map(|key| array(&key, "a subject's control key")).transpose()?,
            identifier_system: stored.identifier_system,
            identifier_value: stored.identifier_value,
            birth_date: stored.birth_date,
            patient_reference: stored.patient_reference,
        })
    }
}

impl Vault {
    /// Stores a new subject; a second one under the same handle, identifier or reference is [`VaultError::Exists`].
    pub fn create_subject(&self, subject: &Subject) -> Result<()> {
        self.put_pending(&[Pending::Subject(subject)])
    }

    /// The subject with exactly this identifier and birth date (ARCHITECTURE.md, Identity).
    ///
    /// An unknown identifier costs the same reads and decryptions as a known one: a decoy stands in for the subject.
    pub fn subject_by_identifier(
        &self,
        system: &str,
        value: &str,
        birth_date: &str,
    ) -> Result<Option<Subject>> {
        let found =
            self.get(&self.key(Table::SubjectByIdentifier, &[system.as_bytes(), value.as_bytes()]))?;
        let decoy = self.decoy()?;
        let known = found.is_some();
        let subject = self.subject_at(found.as_ref().unwrap_or(decoy))?;
        let same = (subject.identifier_system == system)
            & (subject.identifier_value == value)
            & (subject.birth_date == birth_date);
        Ok((known & same).then_some(subject))
    }

    /// The subject with this handle.
    pub fn subject_by_handle(&self, handle: &[u8; 32]) -> Result<Option<Subject>> {
        self.get_message::<Stored>(&self.key(Table::Subject, &[handle]))?.map(Subject::try_from).transpose()
    }

    /// The subject that the records name `Patient/x`.
    pub fn subject_by_reference(&self, patient_reference: &str) -> Result<Option<Subject>> {
        let found = self.get(&self.key(Table::SubjectByReference, &[patient_reference.as_bytes()]))?;
        found.map(|handle| self.subject_at(&handle)).transpose()
    }

    /// The handle of every subject, the decoy's among them, in no order that says anything.
    pub fn handles(&self) -> Result<Vec<[u8; 32]>> {
        let mut handles = Vec::new();
        self.inner.scan(&[Table::Subject as u8], |_, plain| {
            handles.push(array(&super::decode::<Stored>(&plain)?.handle, "a subject's handle")?);
            Ok(true)
        })?;
        Ok(handles)
    }

    /// Handle of the subject that is read when there is none.
    fn decoy(&self) -> Result<&Vec<u8>> {
        if let Some(decoy) = self.inner.decoy.get() {
            return Ok(decoy);
        }
        let decoy = self.get(&self.key(Table::Decoy, &[]))?;
        let decoy =
            decoy.ok_or_else(|| VaultError::Corrupt { what: "the decoy subject is missing".into() })?;
        Ok(self.inner.decoy.get_or_init(|| decoy))
    }

    /// The subject that an index names.
    fn subject_at(&self, handle: &[u8]) -> Result<Subject> {
        self.subject_by_handle(&array(handle, "an index of subjects")?)?
            .ok_or_else(|| VaultError::Corrupt { what: "an index names a subject that is not there".into() })
    }
}

impl Staging<'_> {
    pub(super) fn subject(&mut self, subject: &Subject) -> Result<()> {
        let sealer = &self.inner.sealer;
        let identifier = [subject.identifier_system.as_bytes(), subject.identifier_value.as_bytes()];
        let by_handle = sealer.key(Table::Subject, &[&subject.handle]);
        let by_identifier = sealer.key(Table::SubjectByIdentifier, &identifier);
        let by_reference = sealer.key(Table::SubjectByReference, &[subject.patient_reference.as_bytes()]);
        for (key, what) in [
            (&by_identifier, "a subject with this identifier"),
            (&by_reference, "a subject with this patient reference"),
            (&by_handle, "a subject with this handle"),
        ] {
            if self.get(key)?.is_some() {
                return Err(VaultError::Exists { what });
            }
        }
        self.put(by_identifier, &subject.handle)?;
        self.put(by_reference, &subject.handle)?;
        self.put_message(by_handle, &Stored::from(subject))
    }

    /// The subject that is read when there is none. Its handle is a secret hash, and no identifier leads to it.
    pub(super) fn decoy(&mut self) -> Result<()> {
        let sealer = &self.inner.sealer;
        let handle = sealer.tag(Table::Decoy, &[b"handle"]);
        let decoy = Subject {
            handle,
            secret: [0; 32],
            identifier_system: "urn:assent:decoy:none".into(),
            identifier_value: "none".into(),
            birth_date: "0000-00-00".into(),
            patient_reference: "Patient/none".into(),
            control_key: None,
        };
        let (row, pointer) = (sealer.key(Table::Subject, &[&handle]), sealer.key(Table::Decoy, &[]));
        self.put(pointer, &handle)?;
        self.put_message(row, &Stored::from(&decoy))
    }
}
