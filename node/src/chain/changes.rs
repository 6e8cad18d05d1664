//! What this organization's own slots and policy slot were at each of their sequence numbers: the state keeps only the newest.
//!
//! Written in the batch that commits a block, found again by sequence number or by height.

use std::collections::BTreeMap;

use assent_ledger::block::Applied;
use assent_ledger::state::{policy_key, slot_key};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{operation::Kind, Slot};
use prost::Message;
use rocksdb::{Direction, IteratorMode, WriteBatch};

use super::layout::access_key as sequence_key;
use super::store::Store;
use super::view::View;
use crate::order::Fatal;

/// What a block made of a slot or of the policy slot.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Change {
    /// Its sequence number after it: consent sequence, or policy sequence.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// Height of the block.
    #[prost(uint64, tag = "2")]
    pub height: u64,
    /// Block time in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub time_ms: u64,
    /// Commitment after it.
    #[prost(bytes = "vec", tag = "4")]
    pub commitment: Vec<u8>,
    /// True when the patient has withdrawn; never for a policy slot.
    #[prost(bool, tag = "5")]
    pub frozen: bool,
}

/// The slot or policy slot of `own` that an operation by `author` changes: its key, and the slot's handle.
pub(super) fn changed<'a>(
    chain_id: &str,
    own: &str,
    author: &str,
    kind: &'a Kind,
) -> Option<(Hash, Option<&'a [u8]>)> {
    let slot = |handle: &'a Vec<u8>| (slot_key(chain_id, own, handle), Some(handle.as_slice()));
    match kind {
        Kind::SetConsent(op) if op.custodian == own => Some(slot(&op.handle)),
        Kind::Withdraw(op) if op.custodian == own => Some(slot(&op.handle)),
        Kind::SetPolicy(_) if author == own => Some((policy_key(chain_id, own), None)),
        _ => None,
    }
}

impl Change {
    /// What an operation that [`changed`] names makes of it.
    pub(super) fn after(self, kind: &Kind, height: u64, time_ms: u64) -> Self {
        let (commitment, frozen) = match kind {
            Kind::SetConsent(op) => (op.commitment.clone(), self.frozen && op.control_signature.is_none()),
            Kind::SetPolicy(op) => (op.commitment.clone(), false),
            _ => (self.commitment, true),
        };
        Self { sequence: self.sequence + 1, height, time_ms, commitment, frozen }
    }
}

/// Puts the changes that a block makes to the slots of `own` into the batch that commits it.
pub(super) fn index(
    store: &Store,
    batch: &mut WriteBatch,
    applied: &Applied,
    own: &str,
) -> Result<(), Fatal> {
    let (chain_id, family, view) = (applied.tip.chain_id.as_str(), store.family("changes")?, store.view()?);
    let mut seen: BTreeMap<Hash, Change> = BTreeMap::new();
    let kinds = applied.entries.iter().flat_map(|entry| {
        let author = entry.body.author.as_str();
        entry.body.operations.iter().filter_map(move |operation| Some((author, operation.kind.as_ref()?)))
    });
    for (author, kind) in kinds {
        let Some((key, handle)) = changed(chain_id, own, author, kind) else { continue };
        let before = match (seen.remove(&key), handle) {
            (Some(change), _) => change,
            (None, None) => Change { sequence: view.policy(own)?.policy_seq, ..Change::default() },
            (None, Some(handle)) => {
                let slot = view.slot(own, handle)?.unwrap_or_default();
                let Slot { consent_seq: sequence, commitment, frozen, .. } = slot;
                Change { sequence, commitment, frozen, ..Change::default() }
            }
        };
        let change = before.after(kind, applied.tip.height, applied.tip.time_ms);
        batch.put_cf(family, sequence_key(&key, change.sequence), change.encode_to_vec());
        seen.insert(key, change);
    }
    Ok(())
}

/// What stands there, in errors.
const CHANGE: &str = "a change of a slot";

impl View<'_> {
    /// What one of this organization's slots was at a consent sequence.
    pub fn slot_change(&self, own: &str, handle: &[u8], consent_seq: u64) -> Result<Option<Change>, Fatal> {
        self.change(&slot_key(&self.tip.chain_id, own, handle), consent_seq)
    }

    /// What it was as of a height; none before it was there.
    pub fn slot_as_of(&self, own: &str, handle: &[u8], height: u64) -> Result<Option<Change>, Fatal> {
        self.change_as_of(&slot_key(&self.tip.chain_id, own, handle), height)
    }

    /// What this organization's policy slot was at a sequence.
    pub fn policy_change(&self, own: &str, policy_seq: u64) -> Result<Option<Change>, Fatal> {
        self.change(&policy_key(&self.tip.chain_id, own), policy_seq)
    }

    /// What it was as of a height; none before it was set.
    pub fn policy_as_of(&self, own: &str, height: u64) -> Result<Option<Change>, Fatal> {
        self.change_as_of(&policy_key(&self.tip.chain_id, own), height)
    }

    /// The newest change of each of this organization's slots, its policy slot's among them, by state key.
    pub fn newest_changes<E: From<Fatal>>(
        &self,
        mut each: impl FnMut(&Hash, Change) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut newest: Option<(Hash, Change)> = None;
        for item in self.iterate("changes", IteratorMode::Start)? {
            let (place, value) = item.map_err(|e| self.failed(e))?;
            let key = place.first_chunk::<32>().copied();
            let key = key.ok_or_else(|| Fatal::Corrupt("a change of a slot has no key".into()))?;
            let earlier = newest.replace((key, self.decode(CHANGE, &value)?));
            if let Some((other, change)) = earlier.filter(|(other, _)| *other != key) {
                each(&other, change)?;
            }
        }
        newest.map_or(Ok(()), |(key, change)| each(&key, change))
    }

    fn change(&self, key: &Hash, sequence: u64) -> Result<Option<Change>, Fatal> {
        let stored = self.get("changes", &sequence_key(key, sequence))?;
        stored.map(|bytes| self.decode(CHANGE, &bytes)).transpose()
    }

    fn change_as_of(&self, key: &Hash, height: u64) -> Result<Option<Change>, Fatal> {
        let last = sequence_key(key, u64::MAX);
        for item in self.iterate("changes", IteratorMode::From(&last, Direction::Reverse))? {
            let (found, value) = item.map_err(|e| self.failed(e))?;
            if !found.starts_with(key) {
                break;
            }
            let change: Change = self.decode(CHANGE, &value)?;
            if change.height <= height {
                return Ok(Some(change));
            }
        }
        Ok(None)
    }
}
