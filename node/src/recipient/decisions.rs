//! Signed decisions that this node may answer from, in memory only: a restart forgets them.
//!
//! A decision is kept under its **question**: the hash of everything in the signed request but nonce and expiry. That is all
//! that the custodian can have judged by, the client included: the decision's signature covers the request hash and so the
//! client, so no client gets a decision that another one asked for, nor learns that it asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use assent_ledger::hash::{hash, Context};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{DataRequest, Decision};
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::Permit;
use crate::chain::view::View;
use crate::order::Fatal;
use crate::vault::Vault;

/// Most decisions kept.
const MAX_DECISIONS: usize = 65_536;
/// Longest decision kept: an honest one has about 250 bytes, and a custodian must not fill this node's memory.
const MAX_DECISION_BYTES: usize = 2 << 10;
/// Longest that a decision counts from when it came, whatever the custodian signed.
const MAX_LIFE_MS: u64 = 3_600_000;

/// Names a question.
pub(super) fn question_key(question: &DataRequest) -> Hash {
    debug_assert!(question.nonce.is_empty() && question.not_after_ms == 0);
    hash(Context::Request, &question.chain_id, &[b"question", &question.encode_to_vec()])
}

/// A decision, and what it depends on.
#[derive(Clone)]
pub(super) struct Kept {
    permit: Permit,
    custodian: String,
    handle: Vec<u8>,
    consent_seq: u64,
    policy_seq: u64,
    until_ms: u64,
    /// For a decision of this organization's own: what the vault counted before it was made. A change of the records ends it.
    record_changes: Option<u64>,
}

impl Kept {
    /// An own decision, made from the records as they were when the vault had counted so many changes.
    pub(super) fn own(permit: &Permit, decision: &Decision, record_changes: u64) -> Option<Self> {
        let kept = Self::new(permit, decision, decision.time_ms)?;
        Some(Self { record_changes: Some(record_changes), ..kept })
    }

    /// True unless records that it was made from have changed since. Another custodian's can't be seen from here.
    pub(super) fn records_stand(&self, vault: &Vault) -> bool {
        let Some(before) = self.record_changes else { return true };
        self.handle.as_slice().try_into().is_ok_and(|handle| vault.record_changes(handle) == before)
    }

    /// Of a decision that was checked and came when the ledger stood at `time_ms`; none for one that is too long or no permit.
    pub(super) fn new(permit: &Permit, decision: &Decision, time_ms: u64) -> Option<Self> {
        let permitted = matches!(permit.outcome.as_str(), "PERMIT" | "PERMIT_OVERRIDE");
        let fits = permit.decision.body.len() <= MAX_DECISION_BYTES;
        (permitted && fits).then(|| Self {
            permit: permit.clone(),
            custodian: decision.custodian.clone(),
            handle: decision.handle.clone(),
            consent_seq: decision.consent_seq,
            policy_seq: decision.policy_seq,
            until_ms: decision.not_after_ms.min(time_ms.saturating_add(MAX_LIFE_MS)),
            record_changes: None,
        })
    }

    /// The permit, while both sequences are the ledger's and its end has not come.
    ///
    /// The end is judged by block time, by which the custodian judges, and by this machine's clock, whichever is later: block
    /// time stands still between blocks, for a heartbeat or until the node is no longer fresh, and a clock that is slow or set
    /// back must not stretch a permit either.
    pub(super) fn standing(&self, view: &View<'_>, now_ms: u64) -> Result<Option<Permit>, Fatal> {
        if view.tip.time_ms.max(now_ms) >= self.until_ms {
            return Ok(None);
        }
        let Some(slot) = view.slot(&self.custodian, &self.handle)? else {
            return Ok(None);
        };
        let policy = view.policy(&self.custodian)?;
        let stands = (slot.consent_seq, policy.policy_seq) == (self.consent_seq, self.policy_seq);
        let (height, time_ms) = (view.tip.height, view.tip.time_ms);
        Ok(stands.then(|| Permit { height, time_ms, cached: true, ..self.permit.clone() }))
    }
}

/// Two generations: when the newer is full it becomes the older, and the older is forgotten. What is asked for moves to the
/// newer, so that what goes is what nobody asked for lately.
#[derive(Default)]
struct Generations {
    newer: HashMap<Hash, Arc<Kept>>,
    older: HashMap<Hash, Arc<Kept>>,
}

impl Generations {
    fn put(&mut self, key: Hash, kept: Arc<Kept>) {
        if self.newer.len() >= MAX_DECISIONS / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key, kept);
    }
}

/// Decisions by question, and the questions that are being asked.
#[derive(Default)]
pub(super) struct Decisions {
    kept: Mutex<Generations>,
    asking: Mutex<HashMap<Hash, CancellationToken>>,
}

/// Whether a question is new.
pub(super) enum Turn<'a> {
    /// Nobody is asking it: ask, and drop this when the answer is there.
    First(Asking<'a>),
    /// Somebody is: wait until that is done.
    After(CancellationToken),
}

/// The one who asks. However that ends, those who wait go on.
pub(super) struct Asking<'a> {
    decisions: &'a Decisions,
    key: Hash,
    done: CancellationToken,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        lock(&self.decisions.asking).remove(&self.key);
        self.done.cancel();
    }
}

/// What is locked is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Decisions {
    pub(super) fn get(&self, key: &Hash) -> Option<Arc<Kept>> {
        let mut kept = lock(&self.kept);
        if let Some(found) = kept.newer.get(key) {
            return Some(found.clone());
        }
        let found = kept.older.remove(key)?;
        kept.put(*key, found.clone());
        Some(found)
    }

    pub(super) fn put(&self, key: Hash, decision: Kept) {
        lock(&self.kept).put(key, Arc::new(decision));
    }

    /// Forgets a decision that no longer stands, unless a newer one took its place.
    pub(super) fn forget(&self, key: &Hash, fallen: &Arc<Kept>) {
        let mut kept = lock(&self.kept);
        if kept.newer.get(key).is_some_and(|found| Arc::ptr_eq(found, fallen)) {
            kept.newer.remove(key);
        }
    }

    /// One at a time asks a custodian the same question.
    pub(super) fn turn(&self, key: Hash) -> Turn<'_> {
        let mut asking = lock(&self.asking);
        if let Some(done) = asking.get(&key) {
            return Turn::After(done.clone());
        }
        let done = CancellationToken::new();
        asking.insert(key, done.clone());
        Turn::First(Asking { decisions: self, key, done })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let permit = Permit {
            outcome: "PERMIT".into(),
            obligations: Vec::new(),
            decision: Default::default(),
            height: 1,
            time_ms: 1,
            decided_time_ms: 1,
            not_after_ms: 2,
            cached: false,
        };
        Kept::new(&permit, &Decision::default(), 0).unwrap()
    }

    fn key(n: usize) -> Hash {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        key
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let decisions = Decisions::default();
        for n in 0..2 * MAX_DECISIONS {
            decisions.put(key(n), kept());
            assert!(decisions.get(&key(0)).is_some(), "forgotten after {n}");
            let kept = lock(&decisions.kept);
            assert!(kept.newer.len() + kept.older.len() <= MAX_DECISIONS);
        }
        assert!(decisions.get(&key(1)).is_none());
        let long = Permit {
            decision: assent_proto::ledger::v1::Signed { body: vec![0; 1 << 20], ..Default::default() },
            ..kept().permit
        };
        assert!(Kept::new(&long, &Decision::default(), 0).is_none());
        let other = Permit { outcome: "MAYBE".into(), ..kept().permit };
        assert!(Kept::new(&other, &Decision::default(), 0).is_none());
    }

    #[test]
    fn an_end_too_far_ahead_is_cut() {
        let decision = Decision { not_after_ms: u64::MAX, ..Default::default() };
        assert_eq!(Kept::new(&kept().permit, &decision, 7).unwrap().until_ms, 7 + MAX_LIFE_MS);
    }

    /// Every field but nonce and expiry is part of the question.
    #[test]
    fn another_field_is_another_question() {
        let question = DataRequest { chain_id: "c".into(), ..Default::default() };
        let text = || "x".to_owned();
        let others = [
            DataRequest { chain_id: text(), ..question.clone() },
            DataRequest { custodian: text(), ..question.clone() },
            DataRequest { recipient: text(), ..question.clone() },
            DataRequest { client: text(), ..question.clone() },
            DataRequest { actor: text(), ..question.clone() },
            DataRequest { identifier_system: text(), ..question.clone() },
            DataRequest { identifier_value: text(), ..question.clone() },
            DataRequest { birth_date: text(), ..question.clone() },
            DataRequest { purpose: text(), ..question.clone() },
            DataRequest { action: text(), ..question.clone() },
            DataRequest { resource_types: vec![text()], ..question.clone() },
            DataRequest { resource_types: vec![text(), text()], ..question.clone() },
            DataRequest { check_only: true, ..question.clone() },
            DataRequest { outreach_channel: text(), ..question.clone() },
            question,
        ];
        let keys: std::collections::BTreeSet<Hash> = others.iter().map(question_key).collect();
        assert_eq!(keys.len(), others.len());
    }

    #[test]
    fn one_asks_and_the_others_wait() {
        let decisions = Decisions::default();
        let Turn::First(asking) = decisions.turn(key(1)) else { panic!("nobody asks yet") };
        let Turn::After(done) = decisions.turn(key(1)) else { panic!("somebody asks already") };
        assert!(matches!(decisions.turn(key(2)), Turn::First(_)));
        assert!(!done.is_cancelled());
        drop(asking);
        assert!(done.is_cancelled());
        assert!(matches!(decisions.turn(key(1)), Turn::First(_)));
    }
}
