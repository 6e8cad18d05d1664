//! The sets of consents that a slot has committed to, one after the other.
//!
//! ```text
//! consent_seq ─▶ changes (ledger) ─▶ commitment ─▶ set of consents (vault), recomputed
//! ```
//! A consent's revisions only count up, so the sequence that recorded one is found by halving.

use std::collections::btree_map::{BTreeMap, Entry};

use assent_ledger::Hash;

use super::opened::{alarm, LOST_CONSENTS};
use super::Custodian;
use crate::chain::changes::Change;
use crate::chain::View;
use crate::refusal::Refusal;
use crate::vault::{ConsentRecord, ConsentSet};

/// The sets of consents that a slot has committed to, by consent sequence.
pub(super) struct Timeline<'a> {
    custodian: &'a Custodian,
    view: &'a View<'a>,
    handle: &'a Hash,
    last_seq: u64,
    changes: BTreeMap<u64, Change>,
    sets: BTreeMap<Vec<u8>, ConsentSet>,
}

/// The revision of a consent in a set; 0 when it is not there.
pub(super) fn revision_in(set: &ConsentSet, id: &str) -> u64 {
    set.consents.iter().find(|record| record.body.id == id).map_or(0, |record| record.body.revision)
}

impl<'a> Timeline<'a> {
    pub fn of(custodian: &'a Custodian, view: &'a View<'a>, handle: &'a Hash, last_seq: u64) -> Self {
        Self { custodian, view, handle, last_seq, changes: BTreeMap::new(), sets: BTreeMap::new() }
    }

    /// The change of a sequence number, and the consents after it.
    pub fn at(&mut self, consent_seq: u64) -> Result<(&Change, &ConsentSet), Refusal> {
        let missing = || alarm("the ledger's index lacks a change of a slot");
        if let Entry::Vacant(place) = self.changes.entry(consent_seq) {
            let own = self.custodian.organization();
            let change = match (self.view.slot_change(own, self.handle, consent_seq)?, self.view.own_gap()?) {
                (Some(change), _) => change,
                (None, Some((height, _))) => return Err(Refusal::pruned(height, self.view.whole_from()?)),
                (None, None) => return Err(missing()),
            };
            if !self.sets.contains_key(&change.commitment) {
                let set = self.custodian.open_set(self.handle, &change.commitment)?;
                self.sets.insert(change.commitment.clone(), set);
            }
            place.insert(change);
        }
        let change = self.changes.get(&consent_seq).ok_or_else(missing)?;
        Ok((change, self.sets.get(&change.commitment).ok_or_else(missing)?))
    }

    /// The first sequence whose set holds this revision of a consent, or a later one.
    pub fn first_with(&mut self, id: &str, revision: u64) -> Result<u64, Refusal> {
        let (mut low, mut high) = (1, self.last_seq);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.known(middle)?.is_some_and(|set| revision_in(set, id) >= revision) {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        if low > 1 && self.known(low - 1)?.is_none() {
            // The consents began anew here, and the new one says so; else it may have been recorded before, and nobody knows where.
            let anew = |record: &ConsentRecord| record.body.supersedes.iter().any(|id| id == LOST_CONSENTS);
            if !self.at(low)?.1.consents.iter().any(anew) {
                return Err(alarm("the vault lacks a set between those that it has"));
            }
        }
        Ok(low)
    }

    /// The set after a sequence number; none when the vault has lost it.
    fn known(&mut self, consent_seq: u64) -> Result<Option<&ConsentSet>, Refusal> {
        match self.at(consent_seq) {
            Ok((_, set)) => Ok(Some(set)),
            Err(refusal) if refusal.reason == "VAULT_MISMATCH" => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// A revision with the change that recorded it; none when no set ever held it.
    pub fn revision(&mut self, id: &str, revision: u64) -> Result<Option<(ConsentRecord, Change)>, Refusal> {
        let consent_seq = self.first_with(id, revision)?;
        let (change, set) = self.at(consent_seq)?;
        let found = set.consents.iter().find(|r| r.body.id == id && r.body.revision == revision);
        Ok(found.map(|record| (record.clone(), change.clone())))
    }
}
