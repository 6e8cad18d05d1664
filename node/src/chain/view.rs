//! A consistent view of everything committed at one height, and the proofs that can be made of it.

use std::sync::Arc;

use assent_ledger::block::Tip;
use assent_ledger::log::{inclusion_proof, LogRead};
use assent_ledger::state::{organization_key, policy_key, slot_key, ReadError, StateRead};
use assent_ledger::tree::{self, NodeRead};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    AccessClaim, Block, Certificate, Header, InclusionProof, OrganizationState, PolicySlot, Slot,
};
use prost::Message;
use rocksdb::{DBIteratorWithThreadMode, Direction, IteratorMode, SnapshotWithThreadMode, DB};

use super::layout::{access_key, height_key, log_key};
use super::store::Store;
use super::stored::{AccessPlace, EntryPlace};
use crate::order::Fatal;
use crate::vault::Access;

/// A snapshot: tip, state, log and blocks of one height.
pub struct View<'a> {
    store: &'a Store,
    snapshot: SnapshotWithThreadMode<'a, DB>,
    /// The end of the chain in this view.
    pub tip: Arc<Tip>,
}

/// A committed block with this node's certificate over it.
pub struct Committed {
    /// Encoded block.
    pub block_bytes: Vec<u8>,
    /// The block.
    pub block: Block,
    /// Its header.
    pub header: Header,
    /// Certificate over it.
    pub certificate: Certificate,
}

impl<'a> View<'a> {
    pub(super) fn new(store: &'a Store) -> Result<Self, Fatal> {
        let snapshot = store.db.snapshot();
        let bytes = snapshot
            .get_cf(store.family("meta")?, b"tip")
            .map_err(|e| store.failed(e))?
            .ok_or_else(|| store.corrupt("no tip"))?;
        Ok(Self { store, snapshot, tip: store.decode_tip(bytes)? })
    }

    pub(super) fn iterate(
        &self,
        family: &'static str,
        mode: IteratorMode<'_>,
    ) -> Result<DBIteratorWithThreadMode<'_, DB>, Fatal> {
        Ok(self.snapshot.iterator_cf(self.store.family(family)?, mode))
    }

    pub(super) fn get(&self, family: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Fatal> {
        let found = self.snapshot.get_cf(self.store.family(family)?, key);
        found.map_err(|e| self.store.failed(e))
    }

    pub(super) fn failed(&self, error: rocksdb::Error) -> Fatal {
        self.store.failed(error)
    }

    pub(super) fn decode<M: Message + Default>(&self, what: &str, bytes: &[u8]) -> Result<M, Fatal> {
        self.store.decode(what, bytes)
    }

    fn state<M: Message + Default>(&self, key: &Hash) -> Result<Option<M>, Fatal> {
        let bytes = self.get("state", key)?;
        bytes.map(|b| self.decode("a value of the state", &b)).transpose()
    }

    /// A subject's slot.
    pub fn slot(&self, custodian: &str, handle: &[u8]) -> Result<Option<Slot>, Fatal> {
        self.state(&slot_key(&self.tip.chain_id, custodian, handle))
    }

    /// A custodian's policy slot.
    pub fn policy(&self, custodian: &str) -> Result<PolicySlot, Fatal> {
        Ok(self.state(&policy_key(&self.tip.chain_id, custodian))?.unwrap_or_default())
    }

    /// An organization's state.
    pub fn organization(&self, id: &str) -> Result<Option<OrganizationState>, Fatal> {
        self.state(&organization_key(&self.tip.chain_id, id))
    }

    /// Encoded state proof of a slot under the tip's state root.
    pub fn prove_slot(&self, custodian: &str, handle: &[u8], slot: Option<&Slot>) -> Result<Vec<u8>, Fatal> {
        let key = slot_key(&self.tip.chain_id, custodian, handle);
        let value = slot.map(Message::encode_to_vec);
        tree::prove(self, self.tip.state_version, &key, value.as_deref())
            .map_err(|e| Fatal::Corrupt(e.to_string()))
    }

    /// A committed block; none beyond the tip, and none for one that is pruned: see [`Self::sealed`].
    pub fn committed(&self, height: u64) -> Result<Option<Committed>, Fatal> {
        let Some(block_bytes) = self.get("blocks", &height_key(height))? else {
            return Ok(None);
        };
        let certificate = self
            .get("certificates", &height_key(height))?
            .ok_or_else(|| self.store.corrupt(format!("no certificate for height {height}")))?;
        let of = |what: &str| format!("{what} of height {height}");
        let block: Block = self.decode(&of("block"), &block_bytes)?;
        let header: Header = self.decode(&of("header"), &block.header)?;
        let certificate: Certificate = self.decode(&of("certificate"), &certificate)?;
        Ok(Some(Committed { block_bytes, block, header, certificate }))
    }

    /// Where an entry stands.
    pub fn entry_place(&self, hash: &Hash) -> Result<Option<EntryPlace>, Fatal> {
        let bytes = self.get("entries", hash)?;
        bytes.map(|b| self.decode("the place of an entry", &b)).transpose()
    }

    /// Where access number `access_seq` (from 1) of a slot stands.
    pub fn access_place(
        &self,
        custodian: &str,
        handle: &[u8],
        access_seq: u64,
    ) -> Result<Option<AccessPlace>, Fatal> {
        let key = access_key(&slot_key(&self.tip.chain_id, custodian, handle), access_seq);
        let bytes = self.get("accesses", &key)?;
        bytes.map(|b| self.decode("the place of an access", &b)).transpose()
    }

    /// Commitments of all accesses on a slot, by its state key, in order.
    pub fn access_commitments(&self, slot: &Hash) -> Result<Vec<Vec<u8>>, Fatal> {
        let mut found = Vec::new();
        for item in self.iterate("accesses", IteratorMode::From(slot, Direction::Forward))? {
            let (key, value) = item.map_err(|e| Fatal::Storage(e.to_string()))?;
            if !key.starts_with(slot) {
                break;
            }
            let place = AccessPlace::decode(&*value).map_err(|e| Fatal::Corrupt(e.to_string()))?;
            found.push(place.commitment);
        }
        Ok(found)
    }

    /// An access under the header of its block, given the opening of its commitment and the encoded proof of the recipient's
    /// keys.
    pub fn access_claim(&self, place: &AccessPlace, access: Access) -> Result<AccessClaim, Fatal> {
        let missing = || self.store.corrupt(format!("block {} is missing", place.height));
        let sealed = self.sealed(place.height)?.ok_or_else(missing)?;
        let count = match self.stored_pruned(place.height)? {
            Some(pruned) => pruned.entries,
            None => self.committed(place.height)?.ok_or_else(missing)?.block.entries.len() as u64,
        };
        let index = place.leaf.checked_sub(sealed.header.log_size.saturating_sub(count));
        let entries = self.own_entries(place.height)?.unwrap_or_default();
        let entry = entries.into_iter().find(|entry| Some(entry.index) == index).ok_or_else(|| {
            self.store.corrupt(format!("leaf {} is not in block {}", place.leaf, place.height))
        })?;
        let path = inclusion_proof(self, place.leaf, sealed.header.log_size)
            .ok_or_else(|| self.store.corrupt(format!("log nodes for leaf {} are missing", place.leaf)))?;
        let Access { salt, event, recipient, .. } = access;
        Ok(AccessClaim {
            event,
            salt: salt.to_vec(),
            entry: entry.bytes,
            operation: place.operation,
            inclusion: Some(InclusionProof {
                index: place.leaf,
                size: sealed.header.log_size,
                path: path.iter().map(|h| h.to_vec()).collect(),
            }),
            recipient: Some(self.decode("the proof of a recipient's keys", &recipient)?),
        })
    }
}

impl StateRead for View<'_> {
    fn value(&self, key: &Hash) -> Result<Option<Vec<u8>>, ReadError> {
        self.get("state", key).map_err(|e| ReadError(e.to_string()))
    }
}

impl NodeRead for View<'_> {
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.get("nodes", key).map_err(|e| ReadError(e.to_string()))
    }
}

impl LogRead for View<'_> {
    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        self.get("log", &log_key(level, index)).ok().flatten()?.try_into().ok()
    }
}
