//! A ledger made from a snapshot, in a folder of its own: every byte of it is checked before anything is used.
//!
//! ```text
//! headers   from genesis, each by the hash in the next; the last by its certificate         ([`assent_ledger::headers`])
//! log       rebuilt from the leaf hashes: its root stands in every header
//! state     rebuilt from all values: its root stands in the last header
//! tip       recomputed from these, the bench too: another one is refused
//! own       this organization's entries by their leaf hashes; numbers, heads and sequences by the state that they lead to
//! ```
//! Entries of others are not there: the blocks are pruned ([`super::prune`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use assent_ledger::block::{Tip, MAX_BLOCK_OPERATIONS};
use assent_ledger::certificate::validator_set_hash;
use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::headers::{Headers, HeadersError};
use assent_ledger::log::{tagged_leaf_hash, LEAF_ENTRY};
use assent_ledger::membership::{change_height, membership_key};
use assent_ledger::state::ReadError;
use assent_ledger::tree::{self, NodeRead};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{Membership, ValidatorSet};
use prost::Message;
use rocksdb::{WriteBatch, WriteOptions};

use super::layout::{height_key, log_key, FAMILIES};
use super::own_history::OwnHistory;
use super::prune::{concerns, Heights};
use super::refused::Refused;
use super::snapshot::{SnapshotBlock, SnapshotTip, HEAD_BYTES, MAX_RECORD_BYTES};
use super::store::{storage, Store, FORMAT};
use super::stored::{KeptEntry, StoredPruned, StoredTip};
use crate::order::Fatal;

/// State values that go into the tree at once.
const VALUES_AT_ONCE: usize = 16_384;
/// Bytes that are written at once.
const BATCH_BYTES: usize = 4 << 20;
/// Newest writes of one family in memory.
const WRITE_BUFFER_BYTES: usize = 32 << 20;

/// Why there is no ledger in the end.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The snapshot is at fault.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// This node's disk is.
    #[error(transparent)]
    Local(#[from] Fatal),
}

impl From<HeadersError> for ImportError {
    fn from(error: HeadersError) -> Self {
        Self::Refused(error.into())
    }
}

/// What an import is measured by.
pub struct Expected<'a> {
    /// Genesis of this node.
    pub genesis: &'a CheckedGenesis,
    /// The file's exact bytes.
    pub genesis_file: &'a [u8],
    /// This node's organization.
    pub own: &'a str,
    /// Handles of its subjects.
    pub handles: &'a [Hash],
    /// Hashes of the plans of recoveries that its operator accepts.
    pub accepted: &'a BTreeSet<Hash>,
    /// The ledger that the new one takes the place of.
    pub present: &'a Store,
}

/// An import under way.
pub struct Import<'a> {
    expected: Expected<'a>,
    store: Store,
    /// Bytes of a record that is not complete.
    buffer: Vec<u8>,
    tip: Option<SnapshotTip>,
    headers: Headers,
    own: OwnHistory,
    /// First height whose own entries nobody gave.
    gap_from: Option<u64>,
    /// Height of the present ledger's tip.
    present_height: u64,
    batch: WriteBatch,
    values: BTreeMap<Hash, Vec<u8>>,
    last_key: Option<Hash>,
    /// Versions of the state tree so far.
    versions: u64,
    root: Hash,
}

struct Nodes<'a>(&'a Store);

impl NodeRead for Nodes<'_> {
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.0.get("nodes", key).map_err(|e| ReadError(e.to_string()))
    }
}

fn malformed(sentence: impl Into<String>) -> ImportError {
    Refused::new("malformed", sentence).into()
}

impl<'a> Import<'a> {
    /// Into a folder that must not be there.
    pub fn new(folder: &Path, expected: Expected<'a>) -> Result<Self, Fatal> {
        let store = Store::database(folder, WRITE_BUFFER_BYTES)?;
        Ok(Self {
            headers: Headers::new(expected.genesis, expected.accepted, [], []),
            own: OwnHistory::new(&expected.genesis.chain_id, expected.own),
            present_height: expected.present.tip()?.height,
            expected,
            store,
            buffer: Vec::new(),
            tip: None,
            gap_from: None,
            batch: WriteBatch::default(),
            values: BTreeMap::new(),
            last_key: None,
            versions: 0,
            root: [0; 32],
        })
    }

    /// Height of the newest header that was checked.
    pub fn height(&self) -> u64 {
        self.headers.height()
    }

    /// Takes the next bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        while let Some(([kind, length @ ..], after)) = rest.split_first_chunk::<HEAD_BYTES>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > MAX_RECORD_BYTES {
                return Err(Refused::new("oversized", format!("a record of {length} bytes")).into());
            }
            let Some((payload, after)) = after.split_at_checked(length) else { break };
            self.record(*kind, payload)?;
            rest = after;
        }
        self.buffer = rest.to_vec();
        Ok(())
    }

    fn record(&mut self, kind: u8, payload: &[u8]) -> Result<(), ImportError> {
        match (kind, &self.tip, self.last_key) {
            (b'T', None, _) => self.take_tip(payload),
            (b'B', Some(_), None) => self.block(payload),
            (b'S', Some(_), _) => self.value(payload),
            _ => Err(malformed(format!("a record of kind {kind:#04x} where none may be"))),
        }
    }

    fn take_tip(&mut self, payload: &[u8]) -> Result<(), ImportError> {
        let tip = SnapshotTip::decode(payload).map_err(|e| malformed(format!("its tip: {e}")))?;
        let sets = tip.validators.iter().map(|bytes| ValidatorSet::decode(bytes.as_slice()));
        let sets = sets.collect::<Result<Vec<_>, _>>().map_err(|e| malformed(format!("validators: {e}")))?;
        let Expected { genesis, accepted, .. } = &self.expected;
        self.headers = Headers::new(genesis, accepted, sets, tip.recoveries.iter().cloned());
        self.tip = Some(tip);
        Ok(())
    }

    fn block(&mut self, payload: &[u8]) -> Result<(), ImportError> {
        let block = SnapshotBlock::decode(payload).map_err(|e| malformed(format!("a block: {e}")))?;
        let (leaves, rest) = block.leaf_hashes.as_chunks::<32>();
        if !rest.is_empty() || leaves.len() > MAX_BLOCK_OPERATIONS {
            return Err(malformed(format!("{} bytes of leaf hashes", block.leaf_hashes.len())));
        }
        let log = self.store.family("log")?;
        let first_leaf = self.headers.log.size();
        let batch = &mut self.batch;
        let made = |level, index, hash: Hash| batch.put_cf(log, log_key(level, index), hash);
        if let Some(plan) = self.headers.next(&block.header, &block.previous_certificate, leaves, made)? {
            self.store.put_recovery(&mut self.batch, &plan)?;
        }
        let header = &self.headers.last;
        let (height, time_ms) = (header.height, header.time_ms);
        if self.headers.voters().changes() {
            let (chain_id, named) = (&self.expected.genesis.chain_id, self.headers.voters().next());
            self.store.put_validators(&mut self.batch, chain_id, named)?;
            self.store.put_set_change(&mut self.batch, header)?;
        }
        let kept = self.own_entries(height, &block)?;
        for entry in &kept {
            let leaf = usize::try_from(entry.index).ok().and_then(|n| leaves.get(n));
            if leaf != Some(&tagged_leaf_hash(LEAF_ENTRY, &entry.bytes)) {
                let sentence = format!("an entry of block {height} is not the one in the log");
                return Err(Refused::new("own-entry", sentence).into());
            }
            if self.gap_from.is_none() {
                let place = (height, time_ms, first_leaf + entry.index);
                self.own.entry(&self.store, &mut self.batch, place, &entry.bytes)?;
            }
        }
        let pruned = StoredPruned {
            entries: leaves.len() as u64,
            kept,
            header: block.header,
            previous_certificate: block.previous_certificate,
        };
        if height > 1 {
            let family = self.store.family("certificates")?;
            self.batch.put_cf(family, height_key(height - 1), &pruned.previous_certificate);
        }
        self.batch.put_cf(self.store.family("pruned")?, height_key(height), pruned.encode_to_vec());
        self.write(BATCH_BYTES)
    }

    /// This organization's entries of a block: its own copies, else the sender's; where neither has them a gap begins.
    fn own_entries(&mut self, height: u64, block: &SnapshotBlock) -> Result<Vec<KeptEntry>, ImportError> {
        if height <= self.present_height {
            if let Some(mut kept) = self.expected.present.view()?.own_entries(height)? {
                kept.retain(|entry| concerns(&entry.bytes, self.expected.own));
                return Ok(kept);
            }
        }
        if !block.whole {
            self.gap_from.get_or_insert(height);
        }
        Ok(block.own.clone())
    }

    fn value(&mut self, payload: &[u8]) -> Result<(), ImportError> {
        let Some((key, value)) = payload.split_first_chunk::<32>() else {
            return Err(malformed("a state value without its key"));
        };
        if self.last_key.is_some_and(|last| last >= *key) {
            return Err(malformed("state keys that do not ascend"));
        }
        self.last_key = Some(*key);
        self.values.insert(*key, value.to_vec());
        match self.values.len() >= VALUES_AT_ONCE {
            true => self.plant(),
            false => Ok(()),
        }
    }

    /// Puts the waiting values into the state and its tree.
    fn plant(&mut self) -> Result<(), ImportError> {
        let values = std::mem::take(&mut self.values);
        if values.is_empty() {
            return Ok(());
        }
        let update = tree::update(&Nodes(&self.store), self.versions, &values)
            .map_err(|e| Fatal::Storage(e.to_string()))?;
        self.versions += 1;
        self.root = update.root;
        for (key, value) in values {
            self.batch.put_cf(self.store.family("state")?, key, value);
        }
        let nodes = self.store.family("nodes")?;
        update.nodes.iter().for_each(|(key, node)| self.batch.put_cf(nodes, key, node));
        update.stale.iter().for_each(|key| self.batch.delete_cf(nodes, key));
        self.write(0)
    }

    /// Writes what waits when it is more than `above` bytes. No log: until the end this is no ledger.
    fn write(&mut self, above: usize) -> Result<(), ImportError> {
        if self.batch.size_in_bytes() <= above {
            return Ok(());
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        let batch = std::mem::take(&mut self.batch);
        Ok(self.store.db.write_opt(batch, &options).map_err(storage)?)
    }

    /// All bytes are there: what they must add up to. The ledger is on disk when this returns.
    pub fn finish(mut self) -> Result<Tip, ImportError> {
        if !self.buffer.is_empty() {
            return Err(Refused::new("short", "it ends in the middle of a record").into());
        }
        self.plant()?;
        let Some(SnapshotTip { tip, certificate, .. }) = self.tip.take() else {
            return Err(Refused::new("short", "it holds nothing").into());
        };
        self.headers.verify(&certificate)?;
        if self.headers.last.state_root != self.root {
            let (expected, found) = (hex::encode(&self.headers.last.state_root), hex::encode(self.root));
            let sentence = format!("the header has state root {expected}, its values give {found}");
            return Err(Refused::new("state-root", sentence).into());
        }
        let tip = self.checked_tip(tip.and_then(StoredTip::into_tip))?;
        let gap: Option<Heights> = self.gap_from.map(|from| (from, tip.height));
        self.own.finish(&self.store, &mut self.batch, &tip, gap, self.expected.handles)?;
        self.store.put_validators(&mut self.batch, &tip.chain_id, &tip.validators)?;
        self.batch.put_cf(self.store.family("certificates")?, height_key(tip.height), certificate);
        self.write(0)?;
        for name in FAMILIES {
            self.store.db.flush_cf(self.store.family(name)?).map_err(storage)?;
        }
        let meta = self.store.family("meta")?;
        let mut batch = WriteBatch::default();
        batch.put_cf(meta, b"genesis", self.expected.genesis_file);
        batch.put_cf(meta, b"format", FORMAT.to_be_bytes());
        batch.put_cf(meta, b"whole-from", (tip.height + 1).to_be_bytes());
        if let Some((from, to)) = gap {
            batch.put_cf(meta, b"own-gap", [from.to_be_bytes(), to.to_be_bytes()].concat());
        }
        batch.put_cf(meta, b"tip", StoredTip::from(&tip).encode_to_vec());
        self.store.write(batch)?;
        Ok(tip)
    }

    /// Next height at which the membership that was planted changes.
    fn change_height(&self) -> Result<u64, ImportError> {
        let key = membership_key(&self.expected.genesis.chain_id);
        let value = self.store.get("state", &key)?.ok_or_else(|| malformed("it holds no membership"))?;
        let membership = Membership::decode(value.as_slice());
        Ok(change_height(&membership.map_err(|e| malformed(format!("its membership: {e}")))?))
    }

    /// The sender's tip, if it says what the headers say. The version of the state tree is each node's own.
    fn checked_tip(&self, tip: Option<Tip>) -> Result<Tip, ImportError> {
        let headers = &self.headers;
        let tip = tip.ok_or_else(|| malformed("its tip"))?;
        let chain_id = &self.expected.genesis.chain_id;
        let set_hash = |set| validator_set_hash(chain_id, set);
        let agreements = [
            (tip.chain_id == *chain_id, "chain id"),
            (tip.height == headers.height(), "height"),
            (tip.header_hash == headers.voters().header_hash(), "header hash"),
            (tip.time_ms == headers.time_ms, "time"),
            (tip.state_root == self.root, "state root"),
            (tip.log == headers.log, "log"),
            (tip.bench == headers.bench, "bench"),
            // One that the sender's operator agreed to, and no block carried out.
            (tip.recovery.is_none(), "recovery"),
            (set_hash(&tip.validators) == headers.voters().next_hash(), "validators"),
            (set_hash(&tip.voters) == headers.voters().present_hash(), "voters"),
            (tip.change_height == self.change_height()?, "height of the next change"),
        ];
        if let Some((_, what)) = agreements.iter().find(|(holds, _)| !holds) {
            let sentence = format!("its tip names another {what} than its headers lead to");
            return Err(Refused::new("tip", sentence).into());
        }
        Ok(Tip { state_version: self.versions.saturating_sub(1), ..tip })
    }
}
