//! This organization as custodian: it registers subjects, keeps records and consents, decides, and releases.
//!
//! ```text
//! write ─▶ vault: bodies, salts, signed entry, reply (one synced batch) ─▶ ledger ─▶ answer
//! ```
//! What is committed to is on disk before the entry is queued. The slot's commitment on the ledger says which stored set of
//! consents is current, so nothing has to be activated after the commit and a crash in between leaves nothing half done.

mod ask_answers;
mod asked;
mod asks;
mod changing;
mod charts;
mod checks;
mod consents;
mod contact;
mod evaluate;
mod event;
mod explain;
mod grant;
mod history;
mod import;
mod judge;
mod lacks;
mod late;
mod opened;
mod openings;
mod pack;
mod policy;
mod preview;
mod read;
mod receipts;
mod record;
mod release;
mod replace;
mod reviews;
mod revoke;
mod subjects;
mod timeline;
mod unresolved;
mod view_consent;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use assent_ledger::hash::sha256;
use assent_ledger::Hash;
use assent_proto::ledger::v1::Operation;
use prost::Message;
use rand::RngCore;
use tokio::sync::Mutex;

use crate::app::Parts;
use crate::chain::{now_ms, SubmitError};
use crate::grpc::proof::Gate;
use crate::refusal::{Kind, Refusal};
use crate::vault::{Pending, RequestRecord, VaultError};

pub use ask_answers::AnsweredAsk;
pub use asked::{check_reason, MAX_REASON_CHARS};
pub use asks::AskListed;
pub(crate) use changing::patient_not_found;
pub use contact::{check_channels, Outreach, CHANNELS};
pub use evaluate::{Evaluation, PermittedRelease};
pub use explain::Explained;
pub use grant::{check_grant, prepare_method, SignedGrant};
pub use import::{ImportedSubjects, SubjectToImport};
pub use judge::Judged;
pub use lacks::{count as count_lacks, Lacking, Lacks};
pub use opened::LOST_CONSENTS;
pub use policy::StoredPolicy;
pub use preview::{Preview, Probe, ProbeEffect, Trial, MAX_PROBES};
pub use read::{Page, PageAsked, Wanted};
pub use receipts::OpenTo;
pub use record::{Form, NewConsent};
pub(crate) use release::answer_step;
pub use release::Released;
pub use replace::ReplacedKey;
pub use reviews::{Listed, WaitingKey};
pub use revoke::SteppedConsent;
pub use unresolved::ConsentToImport;
pub use view_consent::ReadConsent;
pub use watch::{Found, Watch, WatchPlace};

/// Longest wait for a commit before the outcome is called unknown.
pub const COMMIT_WAIT: Duration = Duration::from_secs(20);

/// The custodian's side. Cheap to clone.
#[derive(Clone)]
pub struct Custodian {
    pub(crate) parts: Arc<Parts>,
    /// Held while a write is prepared: one request id leads to one entry, whoever races.
    preparing: Arc<Mutex<()>>,
    /// What checks were judged from.
    charts: Arc<charts::Charts>,
    /// What patients without a certificate pass, directly or through another node.
    pub(crate) gate: Arc<Gate>,
}

/// A patient to register.
#[derive(Clone)]
pub struct NewSubject {
    /// Identifier system, a URI.
    pub system: String,
    /// Identifier value.
    pub value: String,
    /// Birth date, YYYY-MM-DD.
    pub birth_date: String,
    /// How records refer to the patient: "Patient/" and an id.
    pub reference: String,
    /// The patient's control key.
    pub control_key: Option<[u8; 32]>,
}

/// Names a patient exactly.
#[derive(Clone)]
pub struct PatientName {
    /// Identifier system, a URI.
    pub system: String,
    /// Identifier value.
    pub value: String,
    /// Birth date, YYYY-MM-DD.
    pub birth_date: String,
}

opaque_debug!(NewSubject, PatientName);

/// A registered subject.
#[derive(Debug, Clone)]
pub struct CreatedSubject {
    /// Its handle.
    pub handle: Hash,
    /// Height of the block that holds its slot.
    pub height: u64,
}

/// Loaded records.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Number of resources.
    pub resources: u64,
    /// The subjects that they are about.
    pub handles: std::collections::BTreeSet<Hash>,
}

/// A recorded consent.
#[derive(Debug, Clone)]
pub struct RecordedConsent {
    /// Its id.
    pub consent_id: String,
    /// Its revision.
    pub revision: u64,
    /// Consent sequence of the slot after it.
    pub consent_seq: u64,
    /// Its rules in words.
    pub rules: Vec<String>,
    /// The subject's handle.
    pub handle: Hash,
    /// Height of the block that holds it.
    pub height: u64,
    /// It was refused and kept as unresolved.
    pub unresolved: bool,
}

impl RecordedConsent {
    fn of((reply, height): (changing::Reply, u64)) -> Result<Self, Refusal> {
        let changing::Reply { consent_id, consent_seq, rules, handle, revision, unresolved } = reply;
        let unreadable = |_| Refusal::unavailable("NODE_FAILING", "a stored reply does not decode");
        let handle = handle.try_into().map_err(unreadable)?;
        Ok(Self { consent_id, revision, consent_seq, rules, handle, height, unresolved })
    }
}

/// A recorded policy.
#[derive(Debug, Clone)]
pub struct RecordedPolicy {
    /// Sequence of the policy slot after it.
    pub policy_seq: u64,
    /// Height of the block that holds it.
    pub height: u64,
}

/// What is stored under (client, request id): the signed entry and the reply that goes with it.
#[derive(Clone, PartialEq, prost::Message)]
struct Queued {
    #[prost(bytes = "vec", tag = "1")]
    entry: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    reply: Vec<u8>,
}

/// 32 fresh random bytes.
pub(crate) fn fresh_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::rngs::OsRng.fill_bytes(&mut bytes);
    bytes
}

/// Runs what may wait for the disk or take milliseconds without holding up the async workers. Work of microseconds on what is
/// in memory runs in place: handing a worker over costs as much.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

impl From<VaultError> for Refusal {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Exists { what } => {
                Self::new(Kind::AlreadyExists, "ALREADY_EXISTS", format!("there is already {what}"))
            }
            VaultError::TooLarge { .. } => Self::new(Kind::InvalidArgument, "TOO_LARGE", error.to_string()),
            VaultError::Storage { .. } | VaultError::Corrupt { .. } => {
                tracing::error!(%error, "vault failed");
                Self::unavailable(
                    "NODE_FAILING",
                    "the node's vault failed; its operator finds the cause in the log",
                )
            }
        }
    }
}

impl Custodian {
    /// Over the parts of a node.
    pub fn new(parts: Arc<Parts>) -> Self {
        let gate = Arc::new(Gate::new(parts.limits.control_key_calls()));
        Self { parts, preparing: Arc::default(), charts: Arc::default(), gate }
    }

    fn organization(&self) -> &str {
        &self.parts.organization
    }

    fn chain_id(&self) -> &str {
        self.parts.chain_id()
    }

    /// Commits operations once under a request id: for writes with nothing of their own to store. The height of the block.
    pub(crate) async fn write_once(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        operations: Vec<Operation>,
    ) -> Result<u64, Refusal> {
        let guard = self.preparing.lock().await;
        let queued = match self.queued(client, request_id, &body_hash)? {
            Some(queued) => queued,
            None => blocking(|| {
                let (queued, record) = self.queue(body_hash, operations, Vec::new())?;
                self.parts.vault.stage_pending(&[Pending::Request {
                    client,
                    request_id,
                    record: &record,
                }])?;
                Ok::<_, Refusal>(queued)
            })?,
        };
        drop(guard);
        self.commit(client, request_id, body_hash, &queued).await
    }

    /// What an earlier call with this request id queued; another body under the id is refused.
    fn queued(&self, client: &str, request_id: &str, body_hash: &Hash) -> Result<Option<Queued>, Refusal> {
        let Some(record) = self.parts.vault.get_request(client, request_id)? else {
            return Ok(None);
        };
        if record.body_hash != *body_hash {
            return Err(Refusal::request_id_reused());
        }
        if record.entry_hash.is_none() && record.reply.is_empty() {
            return Ok(None); // void: the entry was refused and can never take effect
        }
        let queued = Queued::decode(record.reply.as_slice());
        queued.map(Some).map_err(|_| Refusal::unavailable("NODE_FAILING", "a stored request does not decode"))
    }

    /// Signs operations as an entry, and the record that makes a retry harmless. Nothing is stored yet.
    fn queue(
        &self,
        body_hash: Hash,
        operations: Vec<Operation>,
        reply: Vec<u8>,
    ) -> Result<(Queued, RequestRecord), Refusal> {
        let entry = if operations.is_empty() { Vec::new() } else { self.parts.submitter.sign(operations)? };
        let queued = Queued { entry, reply };
        let record = RequestRecord {
            body_hash,
            reply: queued.encode_to_vec(),
            entry_hash: Some(sha256(&queued.entry)),
            created_ms: now_ms(),
        };
        Ok((queued, record))
    }

    /// Commits what was queued. When its entry can never be committed any more, the request id becomes void: a retry makes a new
    /// entry. Until then a retry sends the same bytes, which may wait in other nodes' mempools.
    async fn commit(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        queued: &Queued,
    ) -> Result<u64, Refusal> {
        // Bodies, salts and the request itself: on disk before anybody sees the entry.
        self.parts.vault.durable().await?;
        crate::fault::point("request-stored");
        match self.parts.submitter.commit(&queued.entry, COMMIT_WAIT).await {
            Ok(height) => Ok(height),
            Err(error) => {
                if matches!(error, SubmitError::Refused(_)) {
                    let _guard = self.preparing.lock().await;
                    blocking(|| self.void(client, request_id, body_hash, queued))?;
                }
                Err(error.into())
            }
        }
    }

    /// Frees a request id, unless its entry may still be committed or another caller has put a new one in its place.
    fn void(&self, client: &str, request_id: &str, body_hash: Hash, queued: &Queued) -> Result<(), Refusal> {
        let stored = self.parts.vault.get_request(client, request_id)?;
        let same = stored.is_some_and(|record| record.entry_hash == Some(sha256(&queued.entry)));
        if same && self.parts.submitter.is_dead(&queued.entry)? {
            let void = RequestRecord { body_hash, reply: Vec::new(), entry_hash: None, created_ms: now_ms() };
            self.parts.vault.put_request(client, request_id, &void)?;
        }
        Ok(())
    }
}
