//! Writes whose every try is kept: the same request id is sent again until it is acknowledged or given up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::{CreateSubjectRequest, ImportSubjectsRequest, ImportedSubject};
use futures::stream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::observed::{CheckSeen, WithdrawalSeen, WriteSeen};
use super::patients::{fhir_id, patient};

/// Longest time of one try.
pub const TRY_LIMIT: Duration = Duration::from_secs(5);
/// Pause before the next try.
pub const RETRY: Duration = Duration::from_millis(150);

/// What clients saw so far.
#[derive(Default)]
pub struct Journal {
    /// By organization and request id.
    pub writes: BTreeMap<(String, String), WriteSeen>,
    /// Checks.
    pub checks: Vec<CheckSeen>,
    /// Withdrawals.
    pub withdrawals: Vec<WithdrawalSeen>,
    /// Failed tries by code.
    pub failures: BTreeMap<String, u64>,
}

/// Shared by all clients of a run.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Journal>>);

impl Shared {
    /// The journal.
    pub fn lock(&self) -> MutexGuard<'_, Journal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, organization: &str, request_id: &str, note: impl FnOnce(&mut WriteSeen)) {
        let mut journal = self.lock();
        let key = (organization.to_owned(), request_id.to_owned());
        let write = journal.writes.entry(key).or_insert_with(|| WriteSeen {
            organization: organization.to_owned(),
            request_id: request_id.to_owned(),
            ..WriteSeen::default()
        });
        note(write);
    }

    /// Notes a failed try.
    pub fn failed(&self, status: &Status) {
        *self.lock().failures.entry(format!("{:?}", status.code())).or_default() += 1;
    }
}

/// What is registered.
#[derive(Debug, Clone)]
pub enum What {
    /// One patient.
    One,
    /// This many in one entry.
    Many(u64),
    /// These, at the custodian.
    These(Vec<ImportedSubject>),
}

impl What {
    /// How many patients it registers.
    fn subjects(&self) -> u64 {
        match self {
            Self::One => 1,
            Self::Many(count) => *count,
            Self::These(subjects) => subjects.len() as u64,
        }
    }
}

/// A client that writes through its organization's node.
#[derive(Clone)]
pub struct Writer {
    /// Organization.
    pub organization: String,
    /// The canary that its patients carry.
    pub canary: String,
    /// Connection as registrar.
    pub channel: Channel,
    /// Where it is noted.
    pub journal: Shared,
}

impl Writer {
    /// Sends one write again and again until it is acknowledged, by `give_up`. Returns when it was acknowledged, if ever.
    pub async fn write(
        &self,
        request_id: &str,
        what: &What,
        give_up: impl Fn() -> bool,
    ) -> Option<(Instant, Vec<Vec<u8>>)> {
        loop {
            match self.try_once(request_id, what, TRY_LIMIT).await {
                Ok(handles) => return Some((Instant::now(), handles)),
                Err(status) if is_contradiction(&status) => return None,
                Err(_) if give_up() => return None,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// One try, noted.
    pub async fn try_once(
        &self,
        request_id: &str,
        what: &What,
        limit: Duration,
    ) -> Result<Vec<Vec<u8>>, Status> {
        // Before it is sent: a try that is dropped may take effect too.
        self.journal.write(&self.organization, request_id, |write| write.subjects = what.subjects());
        let sent = tokio::time::timeout(limit, self.send(request_id, what, limit)).await;
        let sent = sent.unwrap_or_else(|_| Err(Status::deadline_exceeded("the client gave up")));
        match &sent {
            Ok(handles) => self.journal.write(&self.organization, request_id, |write| {
                write.acknowledged = true;
                write.answers.insert(handles.clone());
            }),
            Err(status) => {
                self.journal.failed(status);
                if is_contradiction(status) {
                    let said = format!("{:?}: {}", status.code(), status.message());
                    self.journal.write(&self.organization, request_id, |w| w.contradiction = Some(said));
                }
            }
        }
        sent
    }

    async fn send(&self, request_id: &str, what: &What, limit: Duration) -> Result<Vec<Vec<u8>>, Status> {
        let mut client = SubjectServiceClient::new(self.channel.clone());
        let subject = |name: &str| ImportedSubject {
            patient: Some(patient(&self.organization, &self.canary, name)),
            patient_reference: format!("Patient/{}", fhir_id(&self.canary, name)),
            control_key: Vec::new(),
            consent: Vec::new(),
        };
        let subjects = match what {
            What::One => {
                let mut request = Request::new(CreateSubjectRequest {
                    request_id: request_id.to_owned(),
                    patient: Some(patient(&self.organization, &self.canary, request_id)),
                    patient_reference: format!("Patient/{}", fhir_id(&self.canary, request_id)),
                    control_key: Vec::new(),
                });
                request.set_timeout(limit);
                return Ok(vec![client.create_subject(request).await?.into_inner().handle]);
            }
            What::Many(count) => (0..*count).map(|n| subject(&format!("{request_id}-{n}"))).collect(),
            What::These(subjects) => subjects.clone(),
        };
        let message = ImportSubjectsRequest { request_id: request_id.to_owned(), subjects };
        let mut request = Request::new(stream::iter([message]));
        request.set_timeout(limit);
        let answer = client.import_subjects(request).await?.into_inner().message().await?;
        answer.map(|answer| answer.handles).ok_or_else(|| Status::unknown("a stream without an answer"))
    }
}

/// Answers that a retry of one's own request id must never get.
fn is_contradiction(status: &Status) -> bool {
    matches!(status.code(), Code::AlreadyExists | Code::InvalidArgument)
}
