//! Entries that wait to be committed: bounded, and shared fairly between organizations.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use assent_ledger::block::{next_time, Tip, MAX_BLOCK_ENTRY_BYTES, MAX_BLOCK_OPERATIONS};
use assent_ledger::encoding::EncodingError;
use assent_ledger::entry::{check_entry, CheckedEntry, MAX_NOT_AFTER_MS};
use assent_ledger::execute::{execute_entry, ExecuteError, Moment, Signatures, SEQUENCE_WINDOW};
use assent_ledger::keys::{verify_batch, Check, PublicKey};
use assent_ledger::state::Overlay;
use assent_ledger::Hash;
use tokio::sync::Notify;

use super::{Clock, Store, View};
use crate::order::Fatal;

/// Most entries of one organization that wait.
pub const MAX_ENTRIES_PER_ORGANIZATION: usize = 4096;
/// Most bytes of one organization's entries that wait. Withdrawals may use twice this: reserved room.
pub const MAX_BYTES_PER_ORGANIZATION: usize = 8 << 20;

/// What became of an entry that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// It waits now, or waited already.
    Waiting,
    /// It is in the ledger already.
    Committed,
}

/// Why an entry is not admitted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdmitError {
    /// Its form is wrong: never resend it.
    #[error(transparent)]
    Form(#[from] EncodingError),
    /// It would have no effect now.
    #[error(transparent)]
    Rule(#[from] ExecuteError),
    /// The author's share of the mempool is full.
    #[error("{author} has {entries} entries waiting, at most {MAX_ENTRIES_PER_ORGANIZATION}: wait for commits, then retry")]
    Full {
        /// Whose share.
        author: String,
        /// How many wait.
        entries: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// An entry whose form and effect are checked, with its signatures.
struct Judged {
    entry: CheckedEntry,
    checks: Vec<Check>,
}

/// What is found before signatures are checked.
enum Found {
    /// Nothing wrong so far.
    New(Box<Judged>),
    /// The entry is here already.
    Known(Hash, Admitted),
}

/// The block after the newest one, as far as it can be known.
fn next_block<'a>(view: &'a View<'_>, time_ms: u64) -> Moment<'a> {
    Moment { chain_id: &view.tip.chain_id, height: view.tip.height + 1, time_ms }
}

/// What an entry that waits does on top of a view, alone. Its signature was checked when it was admitted.
fn alone(view: &View<'_>, time_ms: u64, entry: &CheckedEntry) -> Result<Option<ExecuteError>, Fatal> {
    let mut unchecked = Signatures::Collect(Vec::new());
    let outcome = execute_entry(&mut Overlay::new(view), next_block(view, time_ms), entry, &mut unchecked);
    match outcome {
        Ok(()) => Ok(None),
        Err(ExecuteError::Read(error)) => Err(Fatal::Storage(error.to_string())),
        Err(error) => Ok(Some(error)),
    }
}

/// A key that was replaced signs nothing any more. `known` says that a signature was found to hold before.
fn signed_with_another_key(
    view: &View<'_>,
    entry: &CheckedEntry,
    known: impl Fn(&Check) -> bool,
) -> Result<Option<ExecuteError>, Fatal> {
    let author = &entry.body.author;
    let key = view.organization(author)?.and_then(|state| PublicKey::try_from(state.entry_key).ok());
    // Of a stranger, and while the author is suspended, the rules say what is wrong.
    let check = key.map(|key| entry.signature_check(&key));
    let other = check.is_some_and(|check| !known(&check) && !check.holds());
    Ok(other.then(|| ExecuteError::AuthorSignature(author.clone())))
}

/// Why an entry can never be committed after this view, whoever proposes; none when it still may be. Only this makes a request
/// id free for another entry. Judged at the earliest time that the next block can have: proposers' clocks differ.
pub fn dead(view: &View<'_>, entry: &CheckedEntry) -> Result<Option<ExecuteError>, Fatal> {
    match signed_with_another_key(view, entry, |_| false)? {
        None => settled(view, entry),
        error => Ok(error),
    }
}

/// The same for an entry whose signature is known to hold.
fn settled(view: &View<'_>, entry: &CheckedEntry) -> Result<Option<ExecuteError>, Fatal> {
    let error = alone(view, view.tip.time_ms + 1, entry)?;
    Ok(error.filter(|error| match error {
        // Sequences, floors and block time only grow.
        ExecuteError::Sequence { sequence, floor } => *sequence <= floor.saturating_add(SEQUENCE_WINDOW),
        ExecuteError::ConsentSequence { expected, found }
        | ExecuteError::PolicySequence { expected, found }
        | ExecuteError::WithdrawSequence { expected, found }
        | ExecuteError::StaleReplacement { expected, found } => expected < found,
        // One that is recorded later has a later consent sequence.
        ExecuteError::NoReplacement { expected, found } => expected <= found,
        ExecuteError::UnknownAuthor(_)
        | ExecuteError::AuthorSignature(_)
        | ExecuteError::NotAfterTooFar { .. }
        // Until a key that waits is the present one.
        | ExecuteError::ControlKeyUnchanged
        // Until the others vote for another one, which may be the same.
        | ExecuteError::EntryKeySuspended(_)
        | ExecuteError::NoSlot => false,
        ExecuteError::Governance(error) => error.is_final(),
        _ => true,
    }))
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<CheckedEntry>,
    bytes: usize,
}

#[derive(Default)]
struct Inner {
    queues: BTreeMap<String, Queue>,
    /// Waiting entries, each with the ids of its signatures.
    known: BTreeMap<Hash, Vec<Hash>>,
    /// Ids of the signatures of waiting entries: found to hold when they were admitted.
    verified: BTreeSet<Hash>,
    /// This node's own entries without effect as things stand: no work until something changes.
    idle: BTreeSet<Hash>,
    turn: usize,
    /// None until a block was committed since the start.
    newest: Option<Newest>,
}

/// When the newest block came, by a clock that nobody sets.
#[derive(Clone, Copy)]
struct Newest {
    time_ms: u64,
    steady_ms: u64,
}

/// The mempool. Cheap to clone.
#[derive(Clone)]
pub struct Mempool {
    inner: Arc<Mutex<Inner>>,
    wake: Arc<Notify>,
    clock: Clock,
}

impl Mempool {
    /// An empty one; `wake` is pinged when something arrives.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self::with_clock(wake, Clock::default())
    }

    /// The same with a clock of the caller's, for it and the replica that it feeds.
    pub fn with_clock(wake: Arc<Notify>, clock: Clock) -> Self {
        Self { inner: Arc::default(), wake, clock }
    }

    /// What its clock shows, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The ledger's time, by which entries are signed and judged here: that of the newest block, and what has passed since. This
    /// machine's clock, which may be an hour ahead of everybody's, only until a block was committed since the start.
    pub fn ledger_ms(&self, tip: &Tip) -> u64 {
        let newest = self.lock().newest;
        let now_ms = newest.map_or_else(
            || self.now_ms(),
            |newest| newest.time_ms.saturating_add(self.clock.steady_ms().saturating_sub(newest.steady_ms)),
        );
        next_time(tip, now_ms)
    }

    /// True when something waits that the next block can hold. What lies too far ahead for the ledger asks for none: nobody could
    /// commit it, and all would be woken for empty blocks.
    pub fn has_work(&self, tip: &Tip) -> bool {
        let latest = self.ledger_ms(tip).saturating_add(MAX_NOT_AFTER_MS);
        let inner = self.lock();
        let entries = inner.queues.values().flat_map(|q| &q.entries);
        entries.filter(|e| !inner.idle.contains(&e.hash)).any(|e| e.body.not_after_ms <= latest)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A poisoned lock means that another thread panicked while holding plain data: the data is still consistent.
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Checks the form, dry-runs against the newest state, and queues. The same rules as execution, with the same errors.
    pub fn admit(&self, store: &Store, chain_id: &str, bytes: &[u8]) -> Result<(Hash, Admitted), AdmitError> {
        self.admit_all(store, chain_id, &[bytes])
            .pop()
            .unwrap_or_else(|| Err(Fatal::Storage("an entry was not judged".into()).into()))
    }

    /// The same for many, each judged by itself; their signatures are checked in one batch, and one by one when that fails.
    pub fn admit_all(
        &self,
        store: &Store,
        chain_id: &str,
        entries: &[&[u8]],
    ) -> Vec<Result<(Hash, Admitted), AdmitError>> {
        let view = match store.view() {
            Ok(view) => view,
            Err(fatal) => return entries.iter().map(|_| Err(fatal.clone().into())).collect(),
        };
        let time = self.ledger_ms(&view.tip);
        let judged: Vec<_> = entries.iter().map(|bytes| self.judge(&view, time, chain_id, bytes)).collect();
        let signatures = |found: &Found| match found {
            Found::New(judged) => judged.checks.clone(),
            Found::Known(..) => Vec::new(),
        };
        let checks: Vec<Check> = judged.iter().flatten().flat_map(signatures).collect();
        let all_hold = verify_batch(&checks);
        judged
            .into_iter()
            .map(|judged| match judged? {
                Found::Known(hash, admitted) => Ok((hash, admitted)),
                Found::New(judged) if all_hold => self.queue_judged(store, *judged),
                Found::New(judged) => {
                    let mut state = Overlay::new(&view);
                    execute_entry(
                        &mut state,
                        next_block(&view, time),
                        &judged.entry,
                        &mut Signatures::Immediate,
                    )?;
                    self.queue_judged(store, *judged)
                }
            })
            .collect()
    }

    /// Everything but the signatures; or what is known about the entry already.
    fn judge(
        &self,
        view: &View<'_>,
        time_ms: u64,
        chain_id: &str,
        bytes: &[u8],
    ) -> Result<Found, AdmitError> {
        let entry = check_entry(chain_id, bytes)?;
        if self.contains(&entry.hash) {
            return Ok(Found::Known(entry.hash, Admitted::Waiting));
        }
        if view.entry_place(&entry.hash)?.is_some() {
            return Ok(Found::Known(entry.hash, Admitted::Committed));
        }
        let mut signatures = Signatures::Collect(Vec::new());
        execute_entry(&mut Overlay::new(view), next_block(view, time_ms), &entry, &mut signatures)?;
        Ok(Found::New(Box::new(Judged { entry, checks: signatures.into_checks() })))
    }

    fn queue_judged(&self, store: &Store, judged: Judged) -> Result<(Hash, Admitted), AdmitError> {
        let hash = judged.entry.hash;
        self.queue(judged)?;
        // Committed since the view was taken: the commit may have cleared this mempool before the entry came.
        if store.entry_place(&hash)?.is_some() {
            self.remove([&hash]);
            return Ok((hash, Admitted::Committed));
        }
        self.wake.notify_one();
        Ok((hash, Admitted::Waiting))
    }

    fn queue(&self, judged: Judged) -> Result<(), AdmitError> {
        let Judged { entry, checks } = judged;
        let mut inner = self.lock();
        if inner.known.contains_key(&entry.hash) {
            return Ok(());
        }
        let author = entry.body.author.clone();
        let queue = inner.queues.entry(author.clone()).or_default();
        let reserve = if entry.is_withdrawal() { 2 } else { 1 };
        if queue.entries.len() >= reserve * MAX_ENTRIES_PER_ORGANIZATION
            || queue.bytes + entry.bytes.len() > reserve * MAX_BYTES_PER_ORGANIZATION
        {
            let entries = queue.entries.len();
            return Err(AdmitError::Full { author, entries });
        }
        queue.bytes += entry.bytes.len();
        let hash = entry.hash;
        queue.entries.push_back(entry);
        let checks: Vec<Hash> = checks.iter().map(Check::id).collect();
        inner.verified.extend(&checks);
        inner.known.insert(hash, checks);
        Ok(())
    }

    /// Whether signatures hold. Those of entries that wait here were checked when they came.
    pub fn verify(&self, checks: &[Check]) -> bool {
        let unknown: Vec<Check> = {
            let ids: Vec<Hash> = checks.iter().map(Check::id).collect();
            let inner = self.lock();
            let unknown = checks.iter().zip(&ids).filter(|(_, id)| !inner.verified.contains(*id));
            unknown.map(|(check, _)| check.clone()).collect()
        };
        verify_batch(&unknown)
    }

    /// Number of entries that wait.
    pub fn len(&self) -> usize {
        self.lock().known.len()
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when the entry waits.
    pub fn contains(&self, hash: &Hash) -> bool {
        self.lock().known.contains_key(hash)
    }

    /// Candidates for the next block: withdrawals first, then the others; of each, one entry per organization in turn. What no
    /// longer fits waits.
    pub fn select(&self) -> Vec<CheckedEntry> {
        let mut inner = self.lock();
        inner.turn = inner.turn.wrapping_add(1);
        let turn = inner.turn % inner.queues.len().max(1);
        let (mut chosen, mut bytes, mut operations) = (Vec::new(), 0, 0);
        for withdrawals in [true, false] {
            let of_kind = |e: &&CheckedEntry| e.is_withdrawal() == withdrawals;
            let queues = inner.queues.values();
            let mut queues: Vec<_> = queues.map(|q| q.entries.iter().filter(of_kind)).collect();
            if !queues.is_empty() {
                queues.rotate_left(turn);
            }
            let mut progress = true;
            while progress {
                progress = false;
                for entry in queues.iter_mut().filter_map(Iterator::next) {
                    bytes += entry.bytes.len();
                    operations += entry.body.operations.len();
                    if bytes > MAX_BLOCK_ENTRY_BYTES || operations > MAX_BLOCK_OPERATIONS {
                        return chosen;
                    }
                    chosen.push(entry.clone());
                    progress = true;
                }
            }
        }
        chosen
    }

    /// Forgets entries: committed, or found to have no effect.
    pub fn remove<'a>(&self, hashes: impl IntoIterator<Item = &'a Hash>) {
        let mut inner = self.lock();
        let mut gone = BTreeSet::new();
        for hash in hashes {
            let Some(checks) = inner.known.remove(hash) else { continue };
            for check in &checks {
                inner.verified.remove(check);
            }
            inner.idle.remove(hash);
            gone.insert(hash);
        }
        if gone.is_empty() {
            return;
        }
        for queue in inner.queues.values_mut() {
            queue.entries.retain(|e| !gone.contains(&e.hash));
            queue.bytes = queue.entries.iter().map(|e| e.bytes.len()).sum();
        }
        inner.queues.retain(|_, q| !q.entries.is_empty());
    }

    /// Which entries that a proposal left out are given up, with their reason. The proposal may never be decided, so a conflict
    /// within it settles nothing: `author`'s entries stay while they can be committed, those of others while they have an
    /// effect now (their authors send them again).
    pub fn left_out(
        &self,
        view: &View<'_>,
        author: &str,
        hashes: impl IntoIterator<Item = Hash>,
    ) -> Result<Vec<(Hash, ExecuteError)>, Fatal> {
        let hashes: BTreeSet<Hash> = hashes.into_iter().collect();
        if hashes.is_empty() {
            return Ok(Vec::new());
        }
        let entries: Vec<CheckedEntry> = {
            let inner = self.lock();
            let all = inner.queues.values().flat_map(|q| &q.entries);
            all.filter(|e| hashes.contains(&e.hash)).cloned().collect()
        };
        let time = self.ledger_ms(&view.tip);
        let mut given_up = Vec::new();
        for entry in entries {
            let error = match entry.body.author == author {
                true => dead(view, &entry)?,
                false => alone(view, time, &entry)?,
            };
            given_up.extend(error.map(|error| (entry.hash, error)));
        }
        Ok(given_up)
    }

    /// Removes entries of other organizations whose time has passed, and `author`'s that can never be committed any more, with
    /// their reason. Called after each block. When that was `empty` though entries wait here, those of others that have no effect
    /// now go too, and `author`'s are no work until the next one that isn't: else a validator would keep asking for blocks that nobody
    /// can fill. And when it changed the membership, all that were signed with a key that was replaced.
    pub fn revalidate(
        &self,
        store: &Store,
        author: &str,
        empty: bool,
    ) -> Result<Vec<(Hash, ExecuteError)>, Fatal> {
        let view = store.view()?;
        let newest = Newest { time_ms: view.tip.time_ms, steady_ms: self.clock.steady_ms() };
        self.lock().newest = Some(newest);
        let time = self.ledger_ms(&view.tip);
        let mut dropped = Vec::new();
        let mut idle = BTreeSet::new();
        let mut own = Vec::new();
        let mut others = Vec::new();
        for (organization, queue) in &self.lock().queues {
            if organization == author {
                own.extend(queue.entries.iter().cloned());
                continue;
            }
            if empty {
                others.extend(queue.entries.iter().cloned());
                continue;
            }
            let late = |e: &&CheckedEntry| e.body.not_after_ms <= view.tip.time_ms;
            for entry in queue.entries.iter().filter(late) {
                let error = ExecuteError::Expired {
                    not_after_ms: entry.body.not_after_ms,
                    time_ms: view.tip.time_ms,
                };
                dropped.push((entry.hash, error));
            }
        }
        for entry in own {
            let error = settled(&view, &entry)?;
            // One that is too early becomes work by the clock alone.
            let waits = |error: &ExecuteError| !matches!(error, ExecuteError::NotAfterTooFar { .. });
            if empty && error.is_none() && alone(&view, time, &entry)?.as_ref().is_some_and(waits) {
                idle.insert(entry.hash);
            }
            dropped.extend(error.map(|error| (entry.hash, error)));
        }
        self.lock().idle = idle;
        if store.members().present().since == view.tip.height {
            let inner = self.lock();
            let known = |check: &Check| inner.verified.contains(&check.id());
            for entry in inner.queues.values().flat_map(|queue| &queue.entries) {
                let error = signed_with_another_key(&view, entry, known)?;
                dropped.extend(error.map(|error| (entry.hash, error)));
            }
        }
        for entry in others {
            dropped.extend(alone(&view, time, &entry)?.map(|error| (entry.hash, error)));
        }
        self.remove(dropped.iter().map(|(hash, _)| hash));
        Ok(dropped)
    }
}
