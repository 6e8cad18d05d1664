//! Submitting: makes and signs this organization's entries, queues them, and waits until they are committed.
//!
//! ```text
//! operations ─▶ sequence, signature ─▶ own mempool (dry run) ─▶ gossip to every validator ─▶ block ─▶ waiter
//! ```
//! Whoever needs a retry to be harmless stores the signed bytes first ([`Submitter::sign`]) and submits those
//! ([`Submitter::commit`]): the same bytes can be committed once only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use assent_ledger::entry::{check_entry, sign_entry};
use assent_ledger::execute::{sequence_is_free, ExecuteError, SEQUENCE_WINDOW};
use assent_ledger::Hash;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{EntryBody, Operation, OrganizationState};
use tokio::sync::{mpsc, oneshot, Semaphore};

use super::mempool::{dead, AdmitError, Admitted, Mempool};
use super::replica::Outcome;
use super::Store;
use crate::order::Fatal;
use crate::own_keys::{Named, OwnKeys, Purpose};

/// Entries of this organization in flight: well inside the sequence window of 1,024, so that a lost one blocks nothing.
pub const MAX_IN_FLIGHT: usize = 256;
/// Withdrawals in flight: others can't take their places.
const MAX_WITHDRAWALS_IN_FLIGHT: usize = 64;
/// Sequence numbers of the window that only withdrawals use.
const NUMBERS_FOR_WITHDRAWALS: u64 = 128;
/// Life of an entry, in milliseconds of block time.
pub const ENTRY_LIFE_MS: u64 = 120_000;
/// Numbers skipped after a start: entries from before may still be under way with those.
const RESTART_SKIP: u64 = 256;

/// Why an entry is not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// It has no effect now. Whether it never will have one, [`Submitter::is_dead`] tells.
    #[error("refused: {0}")]
    Refused(#[from] ExecuteError),
    /// This node has no key to sign entries with: why.
    #[error("{0}")]
    NoKey(String),
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

/// A sequence number that was given out.
struct Given {
    /// When its entry can no longer be committed, in block time.
    not_after_ms: u64,
    /// Its entry has left this process, so it may be committed until then.
    offered: bool,
}

/// Sequence numbers. The window is finite: a number whose entry came to nothing is used again, else refused entries would use
/// the window up, and this organization could not write any more.
struct Numbers {
    next: u64,
    given: BTreeMap<u64, Given>,
}

impl Numbers {
    /// The next number that is free on the ledger and not under way; ascending, from the floor again only at the window's end.
    fn take(
        &mut self,
        state: &OrganizationState,
        tip_ms: u64,
        not_after_ms: u64,
        reserved: u64,
    ) -> Option<u64> {
        self.given.retain(|number, given| given.not_after_ms > tip_ms && sequence_is_free(state, *number));
        if self.given.len() as u64 >= SEQUENCE_WINDOW - reserved {
            return None;
        }
        let first = state.sequence_floor.saturating_add(1);
        let end = first.saturating_add(SEQUENCE_WINDOW);
        let number = (self.next.max(first)..end)
            .chain(first..self.next.min(end))
            .find(|n| sequence_is_free(state, *n) && !self.given.contains_key(n))?;
        self.next = number + 1;
        let offered = false;
        self.given.insert(number, Given { not_after_ms, offered });
        Some(number)
    }

    fn offered(&mut self, body: &EntryBody) {
        let given = Given { not_after_ms: body.not_after_ms, offered: true };
        self.given.insert(body.sequence, given);
    }

    /// Nobody else has seen its entry.
    fn give_back(&mut self, body: &EntryBody) {
        if self.given.get(&body.sequence).is_some_and(|given| !given.offered) {
            self.given.remove(&body.sequence);
        }
    }
}

struct Inner {
    store: Store,
    mempool: Mempool,
    chain_id: String,
    organization: String,
    keys: OwnKeys,
    numbers: Mutex<Numbers>,
    in_flight: Semaphore,
    withdrawals_in_flight: Semaphore,
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
        keys: impl Into<OwnKeys>,
        gossip: mpsc::Sender<(Hash, Vec<u8>)>,
        mut outcomes: mpsc::UnboundedReceiver<Outcome>,
    ) -> Result<Self, Fatal> {
        let view = store.view()?;
        let chain_id = view.tip.chain_id.clone();
        // Not there yet while a new member catches up with the block that adds it.
        let state = view.organization(&organization)?.unwrap_or_default();
        drop(view);
        let used = state.sequence_window.iter().rposition(|b| *b != 0).map_or(0, |i| {
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
            keys: keys.into(),
            numbers: Mutex::new(Numbers { next, given: BTreeMap::new() }),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            withdrawals_in_flight: Semaphore::new(MAX_WITHDRAWALS_IN_FLIGHT),
            waiters: Mutex::default(),
            gossip,
        }));
        // Does not keep the store open while a node stops.
        let inner = Arc::downgrade(&submitter.0);
        tokio::spawn(async move {
            while let Some(outcome) = outcomes.recv().await {
                let (hash, result) = match outcome {
                    Outcome::Committed(hash, height) => (hash, Ok(height)),
                    Outcome::Dropped(hash, error) => (hash, Err(error)),
                };
                let Some(inner) = inner.upgrade() else { return };
                for waiter in inner.waiters().remove(&hash).unwrap_or_default() {
                    // The waiter may have given up.
                    let _ = waiter.send(result.clone());
                }
            }
        });
        Ok(submitter)
    }

    /// Signs operations as one entry with a free sequence number. Nothing is queued yet.
    pub fn sign(&self, operations: Vec<Operation>) -> Result<Vec<u8>, SubmitError> {
        let inner = &self.0;
        let view = inner.store.view()?;
        let state = view.organization(&inner.organization)?.unwrap_or_default();
        let named = Named::Key(&state.entry_key);
        let key = inner.keys.find(Purpose::Entry, named).ok_or_else(|| inner.why_no_key(&state))?;
        let not_after_ms = inner.mempool.ledger_ms(&view.tip).saturating_add(ENTRY_LIFE_MS);
        let withdraws = |o: &Operation| matches!(o.kind, Some(Kind::Withdraw(_)));
        let reserved = match operations.first().is_some_and(withdraws) {
            true => 0,
            false => NUMBERS_FOR_WITHDRAWALS,
        };
        let number = inner.numbers().take(&state, view.tip.time_ms, not_after_ms, reserved);
        let sequence = number.ok_or_else(|| {
            SubmitError::Busy(format!(
                "{} entries of this node are not settled yet: wait for the ledger, then retry",
                SEQUENCE_WINDOW - reserved
            ))
        })?;
        let body = EntryBody {
            chain_id: inner.chain_id.clone(),
            author: inner.organization.clone(),
            sequence,
            not_after_ms,
            operations,
        };
        Ok(sign_entry(&key, &body))
    }

    /// Queues signed bytes and waits until they are in the ledger: the height. Bytes that are there already answer at once.
    pub async fn commit(&self, entry: &[u8], wait: Duration) -> Result<u64, SubmitError> {
        let inner = &self.0;
        let checked = check_entry(&inner.chain_id, entry).map_err(|e| SubmitError::Refused(e.into()))?;
        let places = match checked.is_withdrawal() {
            true => &inner.withdrawals_in_flight,
            false => &inner.in_flight,
        };
        let _permit = tokio::time::timeout(wait, places.acquire())
            .await
            .map_err(|_| SubmitError::Busy("too many entries of this node are in flight".into()))?
            .map_err(|_| SubmitError::Busy("the node is stopping".into()))?;
        let hash = checked.hash;
        let mut waiting = inner.wait_for(hash);
        let outcome = match inner.mempool.admit(&inner.store, &inner.chain_id, entry) {
            Ok((_, Admitted::Committed)) => Err(SubmitError::Unknown(Duration::ZERO)),
            Ok((_, Admitted::Waiting)) => {
                inner.numbers().offered(&checked.body);
                // Full only when thousands wait: then a retry of the client sends it.
                let _ = inner.gossip.try_send((hash, entry.to_vec()));
                match tokio::time::timeout(wait, &mut waiting.outcome).await {
                    Ok(Ok(outcome)) => outcome.map_err(SubmitError::Refused),
                    Ok(Err(_)) | Err(_) => Err(SubmitError::Unknown(wait)),
                }
            }
            Err(error) => {
                inner.numbers().give_back(&checked.body);
                Err(match error {
                    AdmitError::Form(e) => SubmitError::Refused(e.into()),
                    AdmitError::Rule(e) => SubmitError::Refused(e),
                    AdmitError::Full { .. } => SubmitError::Busy(error.to_string()),
                    AdmitError::Fatal(e) => SubmitError::Fatal(e),
                })
            }
        };
        match outcome {
            Ok(height) => Ok(height),
            // Whatever was heard on the way: what the ledger holds is committed.
            Err(error) => inner.store.entry_place(&hash)?.map(|p| p.height).ok_or(error),
        }
    }

    /// True when signed bytes are not in the ledger and never can be, whoever holds them.
    pub fn is_dead(&self, entry: &[u8]) -> Result<bool, Fatal> {
        let Ok(checked) = check_entry(&self.0.chain_id, entry) else {
            return Ok(true);
        };
        let view = self.0.store.view()?;
        Ok(view.entry_place(&checked.hash)?.is_none() && dead(&view, &checked)?.is_some())
    }

    /// Signs and commits operations whose retry is harmless by itself.
    pub async fn submit(&self, operations: Vec<Operation>, wait: Duration) -> Result<u64, SubmitError> {
        let entry = self.sign(operations.clone())?;
        match self.commit(&entry, wait).await {
            // The key has changed under way.
            Err(SubmitError::Refused(ExecuteError::AuthorSignature(_))) => {
                self.commit(&self.sign(operations)?, wait).await
            }
            outcome => outcome,
        }
    }
}

/// One caller's place among those who wait for an entry; given up when the caller goes.
struct Waiting<'a> {
    inner: &'a Inner,
    hash: Hash,
    outcome: oneshot::Receiver<Result<u64, ExecuteError>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.outcome.close();
        let mut waiters = self.inner.waiters();
        if let Some(senders) = waiters.get_mut(&self.hash) {
            senders.retain(|sender| !sender.is_closed());
            if senders.is_empty() {
                waiters.remove(&self.hash);
            }
        }
    }
}

impl Inner {
    fn why_no_key(&self, state: &OrganizationState) -> SubmitError {
        let organization = &self.organization;
        SubmitError::NoKey(match self.store.members().present().organization(organization) {
            None => {
                format!("{organization} is no member as of this node's newest block: nothing can be recorded")
            }
            Some(_) if state.entry_key.is_empty() => {
                format!("the entry key of {organization} is suspended: the others have to approve a new one")
            }
            Some(_) => format!("no file in keys/ holds the entry key that the ledger has for {organization}"),
        })
    }

    fn wait_for(&self, hash: Hash) -> Waiting<'_> {
        let (sender, outcome) = oneshot::channel();
        self.waiters().entry(hash).or_default().push(sender);
        Waiting { inner: self, hash, outcome }
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(floor: u64) -> OrganizationState {
        OrganizationState { sequence_floor: floor, ..Default::default() }
    }

    #[test]
    fn numbers_come_back_when_their_entries_came_to_nothing() {
        let mut numbers = Numbers { next: 1, given: BTreeMap::new() };
        let body = |sequence| EntryBody { sequence, not_after_ms: 500, ..Default::default() };
        let state = used(0);
        for n in 1..=SEQUENCE_WINDOW - NUMBERS_FOR_WITHDRAWALS {
            assert_eq!(numbers.take(&state, 100, 500, NUMBERS_FOR_WITHDRAWALS), Some(n));
        }
        assert_eq!(numbers.take(&state, 100, 500, NUMBERS_FOR_WITHDRAWALS), None);
        // A withdrawal still finds one; after that many, none.
        for n in 1..=NUMBERS_FOR_WITHDRAWALS {
            let last = SEQUENCE_WINDOW - NUMBERS_FOR_WITHDRAWALS;
            assert_eq!(numbers.take(&state, 100, 500, 0), Some(last + n));
        }
        assert_eq!(numbers.take(&state, 100, 500, 0), None);
        // Refused before anybody saw it: free. Offered: under way.
        numbers.offered(&body(7));
        numbers.give_back(&body(7));
        assert_eq!(numbers.take(&state, 100, 500, 0), None);
        numbers.give_back(&body(9));
        assert_eq!(numbers.take(&state, 100, 500, 0), Some(9));
        // Expired by block time, or void below the floor: forgotten.
        assert_eq!(numbers.take(&used(600), 100, 500, 0), Some(1025));
        assert_eq!(numbers.take(&state, 500, 900, 0), Some(1));
    }
}
