//! Submitting: makes and signs this organization's entries, queues them, and waits until they are committed.
//!
//! ```text
//! operations ─▶ sequence, signature ─▶ own mempool (dry run) ─▶ gossip to every validator ─▶ block ─▶ waiter
//! ```
//! Whoever needs a retry to be harmless stores the signed bytes first ([`Submitter::sign`]) and submits those
//! ([`Submitter::commit`]): the same bytes can be committed once only.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use assent_ledger::entry::{entry_hash, sign_entry};
use assent_ledger::execute::ExecuteError;
use assent_ledger::keys::SigningKey;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{EntryBody, Operation};
use tokio::sync::{mpsc, oneshot, Semaphore};

use super::mempool::{AdmitError, Admitted, Mempool};
use super::replica::Outcome;
use super::{now_ms, Store};
use crate::order::Fatal;

/// Entries of this organization in flight: well inside the sequence window of 1,024, so that a lost one blocks nothing.
pub const MAX_IN_FLIGHT: usize = 256;
/// Life of an entry, in milliseconds of block time.
pub const ENTRY_LIFE_MS: u64 = 120_000;
/// Numbers skipped after a start: entries from before may still be under way with those.
const RESTART_SKIP: u64 = 256;

/// Why an entry is not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// It has no effect; nothing was written.
    #[error("refused: {0}")]
    Refused(#[from] ExecuteError),
    /// The mempool has no room for this organization.
    #[error("{0}")]
    Busy(String),
    /// Not committed in time: it may still be. Retry with the same request id.
    #[error("not committed within {0:?}: the outcome is unknown")]
    Unknown(Duration),
    /// The node is failing.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

type Waiters = BTreeMap<Hash, Vec<oneshot::Sender<Result<u64, ExecuteError>>>>;

struct Inner {
    store: Store,
    mempool: Mempool,
    chain_id: String,
    organization: String,
    key: SigningKey,
    next_sequence: AtomicU64,
    in_flight: Semaphore,
    waiters: Mutex<Waiters>,
    gossip: mpsc::Sender<(Hash, Vec<u8>)>,
}

/// Submits entries of this organization. Cheap to clone.
#[derive(Clone)]
pub struct Submitter(Arc<Inner>);

impl Submitter {
    /// `gossip` takes every queued entry for the other validators; a task resolves waiters from `outcomes`.
    pub fn start(
        store: Store,
        mempool: Mempool,
        organization: String,
        key: SigningKey,
        gossip: mpsc::Sender<(Hash, Vec<u8>)>,
        mut outcomes: mpsc::UnboundedReceiver<Outcome>,
    ) -> Result<Self, Fatal> {
        let view = store.view()?;
        let chain_id = view.tip.chain_id.clone();
        let state = view.organization(&organization)?.ok_or_else(|| {
            Fatal::Storage(format!(
                "organization {organization} is not on the ledger {chain_id}: check the configuration"
            ))
        })?;
        if state.entry_key != key.verifying_key().to_bytes() {
            return Err(Fatal::Storage(format!(
                "keys/entry.pem is not the entry key of {organization} on the ledger"
            )));
        }
        drop(view);
        let used = state
            .sequence_window
            .iter()
            .rposition(|b| *b != 0)
            .map_or(0, |i| {
                let top = 8 - state.sequence_window[i].leading_zeros() as u64;
                i as u64 * 8 + top
            });
        let fresh = state.sequence_floor == 0 && used == 0;
        let next = state.sequence_floor + used + if fresh { 1 } else { RESTART_SKIP };
        let submitter = Self(Arc::new(Inner {
            store,
            mempool,
            chain_id,
            organization,
            key,
            next_sequence: AtomicU64::new(next),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            waiters: Mutex::default(),
            gossip,
        }));
        let inner = submitter.0.clone();
        tokio::spawn(async move {
            while let Some(outcome) = outcomes.recv().await {
                let (hash, result) = match outcome {
                    Outcome::Committed(hash, height) => (hash, Ok(height)),
                    Outcome::Dropped(hash, error) => (hash, Err(error)),
                };
                for waiter in inner.waiters().remove(&hash).unwrap_or_default() {
                    // The waiter may have given up.
                    let _ = waiter.send(result.clone());
                }
            }
        });
        Ok(submitter)
    }

    /// Signs operations as one entry with the next sequence number. Nothing is queued yet.
    pub fn sign(&self, operations: Vec<Operation>) -> Vec<u8> {
        let body = EntryBody {
            chain_id: self.0.chain_id.clone(),
            author: self.0.organization.clone(),
            sequence: self.0.next_sequence.fetch_add(1, Ordering::Relaxed),
            not_after_ms: now_ms() + ENTRY_LIFE_MS,
            operations,
        };
        sign_entry(&self.0.key, &body)
    }

    /// Queues signed bytes and waits until they are in the ledger: the height. Bytes that are there already answer at once.
    pub async fn commit(&self, entry: &[u8], wait: Duration) -> Result<u64, SubmitError> {
        let inner = &self.0;
        let _permit = tokio::time::timeout(wait, inner.in_flight.acquire())
            .await
            .map_err(|_| SubmitError::Busy(format!("{MAX_IN_FLIGHT} entries of this node are in flight")))?
            .map_err(|_| SubmitError::Busy("the node is stopping".into()))?;
        let hash = entry_hash(&inner.chain_id, entry);
        let (tx, rx) = oneshot::channel();
        inner.waiters().entry(hash).or_default().push(tx);
        match inner.mempool.admit(&inner.store, &inner.chain_id, entry) {
            Ok((_, Admitted::Waiting)) => {}
            Ok((_, Admitted::Committed)) => {
                inner.waiters().remove(&hash);
                let place = inner.store.entry_place(&hash)?;
                return place
                    .map(|p| p.height)
                    .ok_or(SubmitError::Unknown(Duration::ZERO));
            }
            Err(error) => {
                inner.waiters().remove(&hash);
                return Err(match error {
                    AdmitError::Form(e) => SubmitError::Refused(e.into()),
                    AdmitError::Rule(e) => SubmitError::Refused(e),
                    AdmitError::Full { .. } => SubmitError::Busy(error.to_string()),
                    AdmitError::Fatal(e) => SubmitError::Fatal(e),
                });
            }
        }
        // A full gossip queue is no loss: the gossip task rereads what waits.
        let _ = inner.gossip.try_send((hash, entry.to_vec()));
        match tokio::time::timeout(wait, rx).await {
            Ok(Ok(outcome)) => Ok(outcome?),
            Ok(Err(_)) => Err(SubmitError::Unknown(wait)),
            Err(_) => {
                // Committed between admission and registration, or after: look once more before saying "unknown".
                match inner.store.entry_place(&hash)? {
                    Some(place) => Ok(place.height),
                    None => Err(SubmitError::Unknown(wait)),
                }
            }
        }
    }

    /// Signs and commits operations whose retry is harmless by itself.
    pub async fn submit(&self, operations: Vec<Operation>, wait: Duration) -> Result<u64, SubmitError> {
        let entry = self.sign(operations);
        self.commit(&entry, wait).await
    }
}

impl Inner {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
