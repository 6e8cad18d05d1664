//! Every change of consents at this custodian, read off the ledger in its order.
//!
//! A place is a height, and how many of the changes in that block are behind it. It is all that a stream has to remember: nothing
//! is queued for a slow reader, and a stream that is taken up again at a place goes on with the next change.

use std::collections::HashMap;

use assent_ledger::entry::check_entry;
use assent_ledger::Hash;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::v1::ConsentChange;

use super::view_consent::ReadConsent;
use super::Custodian;
use crate::chain::changes::Change;
use crate::chain::stored::KeptEntry;
use crate::chain::view::View;
use crate::order::Fatal;
use crate::refusal::Refusal;
use crate::vault::{ConsentSet, Subject};

/// Most blocks that are looked through at once.
const MAX_BLOCKS: usize = 64;

/// A place in the order of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchPlace {
    /// The block that the next change may be in.
    pub height: u64,
    /// Changes in that block that are behind this place.
    pub done: u64,
}

impl WatchPlace {
    /// As it goes into a token.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.height.to_be_bytes());
        bytes[8..].copy_from_slice(&self.done.to_be_bytes());
        bytes
    }

    /// Out of a token.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(bytes);
        Self { height: (both >> 64) as u64, done: both as u64 }
    }
}

/// Goes through the changes from a place on.
pub struct Watch {
    custodian: Custodian,
    /// Only this subject's.
    only: Option<Hash>,
    place: WatchPlace,
    /// The changed slots of the block at the place, each with the number of later changes of it in the same block.
    block: Option<Vec<(Hash, u64)>>,
}

/// What was found at the newest block.
pub enum Found {
    /// A change; the place is behind it.
    Change(Box<ConsentChange>),
    /// Nothing in the blocks that were looked through, and there are more.
    NotYet,
    /// Nothing up to the newest block.
    Nothing,
}

impl Watch {
    /// From a place on.
    pub fn new(custodian: Custodian, only: Option<Hash>, place: WatchPlace) -> Self {
        Self { custodian, only, place, block: None }
    }

    /// Everything before it has been told.
    pub fn place(&self) -> WatchPlace {
        self.place
    }

    /// The next change. Looks through a bounded number of blocks; may take milliseconds.
    pub fn advance(&mut self) -> Result<Found, Refusal> {
        let custodian = self.custodian.clone();
        let view = custodian.parts.store.view()?;
        for _ in 0..MAX_BLOCKS {
            if self.place.height > view.tip.height {
                return Ok(Found::Nothing);
            }
            let changed = match self.block.take() {
                Some(changed) => changed,
                None => custodian.changed_slots(&view, self.place.height)?,
            };
            while let Some((handle, later)) = changed.get(self.place.done as usize).copied() {
                self.place.done += 1;
                if self.only.is_none_or(|only| only == handle) {
                    let change = custodian.consent_change(&view, &handle, self.place.height, later)?;
                    self.block = Some(changed);
                    return Ok(Found::Change(Box::new(change)));
                }
            }
            self.place = WatchPlace { height: self.place.height + 1, done: 0 };
        }
        Ok(Found::NotYet)
    }
}

impl Custodian {
    /// The slots of this custodian that a block changes, in its order.
    fn changed_slots(&self, view: &View<'_>, height: u64) -> Result<Vec<(Hash, u64)>, Refusal> {
        // Genesis has no block.
        if height == 0 {
            return Ok(Vec::new());
        }
        let Some(entries) = view.own_entries(height)? else {
            return Err(Refusal::pruned(height, view.whole_from()?));
        };
        let handles = own_handles(self.chain_id(), self.organization(), &entries)?;
        let mut left: HashMap<Hash, u64> = HashMap::new();
        for handle in &handles {
            *left.entry(*handle).or_default() += 1;
        }
        let later = |handle: Hash| {
            let left = left.entry(handle).or_default();
            *left = left.saturating_sub(1);
            (handle, *left)
        };
        Ok(handles.into_iter().map(later).collect())
    }

    /// What a block made of a slot, `later` changes before the last one in it.
    fn consent_change(
        &self,
        view: &View<'_>,
        handle: &Hash,
        height: u64,
        later: u64,
    ) -> Result<ConsentChange, Refusal> {
        let own = self.organization();
        let broken = || Fatal::Corrupt(format!("a slot that block {height} changes has no such change"));
        let last = view.slot_as_of(own, handle, height)?.filter(|c| c.height == height).ok_or_else(broken)?;
        let sequence = last.sequence.checked_sub(later).ok_or_else(broken)?;
        let change = view.slot_change(own, handle, sequence)?.ok_or_else(broken)?;
        let before = match sequence {
            0 | 1 => None,
            _ => match (view.slot_change(own, handle, sequence - 1)?, view.own_gap()?) {
                (Some(before), _) => Some(before),
                (None, Some((gap, _))) => return Err(Refusal::pruned(gap, view.whole_from()?)),
                (None, None) => return Err(broken().into()),
            },
        };
        let subject = self.parts.vault.subject_by_handle(handle)?;
        let subject = subject.ok_or_else(|| super::opened::alarm("the vault lacks a subject with a slot"))?;
        let told = |consents| ConsentChange {
            handle: handle.to_vec(),
            patient_reference: subject.patient_reference.clone(),
            consent_seq: sequence,
            height,
            frozen: change.frozen,
            consents,
        };
        if before.as_ref().is_some_and(|before| before.commitment == change.commitment) {
            return Ok(told(Vec::new()));
        }
        let now = self.open_set(handle, &change.commitment)?;
        let before = before.map(|before| self.open_set(handle, &before.commitment)).transpose()?;
        Ok(told(self.new_records(view, &subject, &change, &now, before.as_ref())?))
    }

    /// The consents of a set that the set before did not have, or had otherwise.
    fn new_records(
        &self,
        view: &View<'_>,
        subject: &Subject,
        change: &Change,
        now: &ConsentSet,
        before: Option<&ConsentSet>,
    ) -> Result<Vec<assent_proto::v1::ConsentRecord>, Refusal> {
        let is_new =
            |record: &&crate::vault::ConsentRecord| before.is_none_or(|b| !b.consents.contains(record));
        let at_ms = i64::try_from(view.tip.time_ms).unwrap_or(i64::MAX);
        let record = |record: &crate::vault::ConsentRecord| {
            let (record, change) = (record.clone(), change.clone());
            ReadConsent::of(self.chain_id(), record, &subject.patient_reference, change, at_ms)
                .map(Into::into)
        };
        now.consents.iter().filter(is_new).map(record).collect()
    }
}

/// Whose consents the operations of a block change, of this organization's patients.
fn own_handles(chain_id: &str, own: &str, entries: &[KeptEntry]) -> Result<Vec<Hash>, Refusal> {
    let mut handles = Vec::new();
    for entry in entries {
        let entry = check_entry(chain_id, &entry.bytes).map_err(|e| Fatal::Corrupt(e.to_string()))?;
        let changed = entry.body.operations.iter().filter_map(|operation| match operation.kind.as_ref()? {
            Kind::SetConsent(op) if op.custodian == own => Some(&op.handle),
            Kind::Withdraw(op) if op.custodian == own => Some(&op.handle),
            _ => None,
        });
        handles.extend(changed.filter_map(|handle| Hash::try_from(handle.as_slice()).ok()));
    }
    Ok(handles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_out_of_its_token() {
        for place in [WatchPlace { height: 0, done: 0 }, WatchPlace { height: 7, done: u64::MAX }] {
            assert_eq!(WatchPlace::from_bytes(place.to_bytes()), place);
        }
    }
}
