//! The indexes of this organization's own slots, made again from its entries while a snapshot is imported, and held against the
//! state that they must lead to.

use std::collections::BTreeMap;

use assent_ledger::block::Tip;
use assent_ledger::commitment::next_access_head;
use assent_ledger::entry::check_entry;
use assent_ledger::state::{policy_key, slot_key};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{operation::Kind, PolicySlot, Slot};
use prost::Message;
use rocksdb::WriteBatch;

use super::changes::{changed, Change};
use super::import::ImportError;
use super::layout::access_key;
use super::prune::Heights;
use super::refused::Refused;
use super::store::Store;

use super::stored::{AccessPlace, EntryPlace};
use crate::order::Fatal;

/// A slot as far as its entries tell.
#[derive(Default)]
struct OwnSlot {
    change: Change,
    access_seq: u64,
    head: Vec<u8>,
}

/// All slots of one organization, from nothing on.
pub struct OwnHistory {
    chain_id: String,
    own: String,
    slots: BTreeMap<Hash, OwnSlot>,
}

fn refused(sentence: String) -> ImportError {
    Refused::new("own-history", sentence).into()
}

impl OwnHistory {
    /// Of an organization.
    pub fn new(chain_id: &str, own: &str) -> Self {
        Self { chain_id: chain_id.to_owned(), own: own.to_owned(), slots: BTreeMap::new() }
    }

    /// Indexes the next entry, at (height, block time, leaf).
    pub(super) fn entry(
        &mut self,
        store: &Store,
        batch: &mut WriteBatch,
        (height, time_ms, leaf): (u64, u64, u64),
        bytes: &[u8],
    ) -> Result<(), ImportError> {
        let entry = check_entry(&self.chain_id, bytes)
            .map_err(|e| Refused::new("own-entry", format!("an entry of block {height}: {e}")))?;
        let place = EntryPlace { height, leaf }.encode_to_vec();
        batch.put_cf(store.family("entries")?, entry.hash, place);
        for (operation, kind) in (0u32..).zip(entry.body.operations.iter().filter_map(|o| o.kind.as_ref())) {
            if let Kind::RecordAccess(op) = kind {
                if op.custodian == self.own {
                    let key = slot_key(&self.chain_id, &self.own, &op.handle);
                    let slot = self.slots.entry(key).or_default();
                    slot.access_seq += 1;
                    let before = (!slot.head.is_empty()).then_some(slot.head.as_slice());
                    let head = next_access_head(&self.chain_id, before, slot.access_seq, &op.commitment);
                    let previous_head = std::mem::replace(&mut slot.head, head.to_vec());
                    let commitment = op.commitment.clone();
                    let place = AccessPlace { height, leaf, operation, commitment, previous_head };
                    let row = access_key(&key, slot.access_seq);
                    batch.put_cf(store.family("accesses")?, row, place.encode_to_vec());
                }
            }
            if let Some((key, _)) = changed(&self.chain_id, &self.own, &entry.body.author, kind) {
                let slot = self.slots.entry(key).or_default();
                slot.change = std::mem::take(&mut slot.change).after(kind, height, time_ms);
                let row = access_key(&key, slot.change.sequence);
                batch.put_cf(store.family("changes")?, row, slot.change.encode_to_vec());
            }
        }
        Ok(())
    }

    /// Without a gap every slot must be what the state says. With one, the present of each slot that has changed in it is put into
    /// the index, as of the snapshot.
    pub(super) fn finish(
        &mut self,
        store: &Store,
        batch: &mut WriteBatch,
        tip: &Tip,
        gap: Option<Heights>,
        handles: &[Hash],
    ) -> Result<(), ImportError> {
        let policy = policy_key(&self.chain_id, &self.own);
        if gap.is_none() {
            for (key, slot) in &self.slots {
                if !slot.agrees(store.get("state", key)?.as_deref().unwrap_or_default(), *key == policy)? {
                    let sentence = format!(
                        "the entries of {} do not lead to what the state says of slot {}",
                        self.own,
                        hex::encode(key)
                    );
                    return Err(refused(sentence));
                }
            }
            return Ok(());
        }
        let keys = handles.iter().map(|handle| slot_key(&self.chain_id, &self.own, handle));
        let keys = keys.chain(self.slots.keys().copied()).chain([policy]);
        for key in keys.collect::<std::collections::BTreeSet<Hash>>() {
            let Some(value) = store.get("state", &key)? else { continue };
            let mut present = present(&value, key == policy)?;
            let known = self.slots.get(&key).map_or(0, |slot| slot.change.sequence);
            if present.sequence > known {
                (present.height, present.time_ms) = (tip.height, tip.time_ms);
                let row = access_key(&key, present.sequence);
                batch.put_cf(store.family("changes")?, row, present.encode_to_vec());
            }
        }
        Ok(())
    }
}

/// What the state says now.
fn present(value: &[u8], is_policy: bool) -> Result<Change, Fatal> {
    let corrupt = |e: prost::DecodeError| Fatal::Corrupt(format!("a state value does not decode: {e}"));
    if is_policy {
        let PolicySlot { policy_seq: sequence, commitment } = PolicySlot::decode(value).map_err(corrupt)?;
        return Ok(Change { sequence, commitment, ..Change::default() });
    }
    let Slot { consent_seq: sequence, commitment, frozen, .. } = Slot::decode(value).map_err(corrupt)?;
    Ok(Change { sequence, commitment, frozen, ..Change::default() })
}

impl OwnSlot {
    fn agrees(&self, value: &[u8], is_policy: bool) -> Result<bool, Fatal> {
        let present = present(value, is_policy)?;
        let changes =
            (self.change.sequence, &self.change.commitment) == (present.sequence, &present.commitment);
        if is_policy {
            return Ok(changes);
        }
        let slot = Slot::decode(value).unwrap_or_default();
        let head = slot.access_head.unwrap_or_default();
        Ok(changes && (self.access_seq, &self.head) == (slot.access_seq, &head))
    }
}
