//! A snapshot as bytes: what a ledger needs to go on from a height, as one sequence of records, `kind (1) || length (4, big-endian) ||
//! payload` each, made from one consistent view.
//!
//! ```text
//! T  SnapshotTip      the tip, the certificate over it, the validator sets and the recoveries there were
//! B  SnapshotBlock    heights 1, 2, 3 ... without a gap: header, certificate before it, leaf hashes, the asker's own entries
//! S  key || value     the state, in ascending order of key
//! ```
//! Nothing in it is believed: [`super::import`] checks all of it against genesis before anything is used. Indexes, the nodes of state
//! tree and log, and the version of the state tree are not in it: the one who joins makes its own.

use assent_ledger::log::{tagged_leaf_hash, LEAF_ENTRY};
use assent_proto::ledger::v1::Recover;
use prost::Message;
use rocksdb::IteratorMode;

use super::layout::height_key;
use super::prune::{concerning, decode_block, missing};
use super::stored::{KeptEntry, StoredTip};
use super::view::View;
use crate::order::Fatal;

/// Version of this form.
pub const SNAPSHOT_FORMAT: u32 = 1;
/// Longest payload of a record: a block's header, certificate, leaf hashes and own entries fit.
pub const MAX_RECORD_BYTES: usize = 2 << 20;
/// Bytes before a payload.
pub const HEAD_BYTES: usize = 5;

/// First record.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotTip {
    /// The tip.
    #[prost(message, optional, tag = "1")]
    pub tip: Option<StoredTip>,
    /// Exact bytes of the certificate over its header.
    #[prost(bytes = "vec", tag = "2")]
    pub certificate: Vec<u8>,
    /// All validator sets there were, encoded.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub validators: Vec<Vec<u8>>,
    /// Plans of all recoveries there were, without signatures.
    #[prost(message, repeated, tag = "4")]
    pub recoveries: Vec<Recover>,
}

/// A block without the entries of others.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotBlock {
    /// Exact bytes of the header.
    #[prost(bytes = "vec", tag = "1")]
    pub header: Vec<u8>,
    /// Exact bytes of the certificate over the block before.
    #[prost(bytes = "vec", tag = "2")]
    pub previous_certificate: Vec<u8>,
    /// Leaf hashes of its entries, one after another.
    #[prost(bytes = "vec", tag = "3")]
    pub leaf_hashes: Vec<u8>,
    /// All entries that concern the asker are in `own`; false where the sender has pruned them.
    #[prost(bool, tag = "4")]
    pub whole: bool,
    /// Entries that concern the asker.
    #[prost(message, repeated, tag = "5")]
    pub own: Vec<KeptEntry>,
}

/// Why nothing more is written.
#[derive(Debug)]
pub enum WriteError {
    /// The store.
    Fatal(Fatal),
    /// Whoever takes the bytes wants no more.
    Stopped,
}

impl From<Fatal> for WriteError {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

/// Cuts records into chunks of one size; the last may be shorter.
struct Chunks<F> {
    buffer: Vec<u8>,
    chunk_bytes: usize,
    each: F,
}

impl<F: FnMut(Vec<u8>) -> bool> Chunks<F> {
    fn record(&mut self, kind: u8, payload: &[&[u8]]) -> Result<(), WriteError> {
        let len: usize = payload.iter().map(|part| part.len()).sum();
        self.buffer.push(kind);
        // Blocks and state values are bounded far below 4 GiB.
        self.buffer.extend_from_slice(&(len as u32).to_be_bytes());
        payload.iter().for_each(|part| self.buffer.extend_from_slice(part));
        while self.buffer.len() >= self.chunk_bytes {
            let rest = self.buffer.split_off(self.chunk_bytes);
            self.give(rest)?;
        }
        Ok(())
    }

    fn give(&mut self, rest: Vec<u8>) -> Result<(), WriteError> {
        let chunk = std::mem::replace(&mut self.buffer, rest);
        if (self.each)(chunk) {
            return Ok(());
        }
        Err(WriteError::Stopped)
    }
}

impl View<'_> {
    /// Writes the snapshot of this view for an organization, in chunks, until `each` says false. The same view gives the same bytes.
    pub fn write_snapshot(
        &self,
        asker: &str,
        chunk_bytes: usize,
        each: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), WriteError> {
        let mut out = Chunks { buffer: Vec::new(), chunk_bytes, each };
        let certificate = self.get("certificates", &height_key(self.tip.height))?;
        let mut validators = Vec::new();
        for item in self.iterate("validators", IteratorMode::Start)? {
            validators.push(item.map_err(|e| Fatal::Storage(e.to_string()))?.1.to_vec());
        }
        let tip = SnapshotTip {
            tip: Some(StoredTip::from(&*self.tip)),
            certificate: certificate.ok_or_else(|| missing(self.tip.height))?,
            validators,
            recoveries: self.recoveries()?,
        };
        out.record(b'T', &[&tip.encode_to_vec()])?;
        for height in 1..=self.tip.height {
            out.record(b'B', &[&self.snapshot_block(height, asker)?.encode_to_vec()])?;
        }
        for item in self.iterate("state", IteratorMode::Start)? {
            let (key, value) = item.map_err(|e| Fatal::Storage(e.to_string()))?;
            out.record(b'S', &[&key, &value])?;
        }
        match out.buffer.is_empty() {
            true => Ok(()),
            false => out.give(Vec::new()),
        }
    }

    fn snapshot_block(&self, height: u64, asker: &str) -> Result<SnapshotBlock, Fatal> {
        if let Some(bytes) = self.get("blocks", &height_key(height))? {
            let block = decode_block(height, &bytes)?;
            let hashes = block.entries.iter().flat_map(|entry| tagged_leaf_hash(LEAF_ENTRY, entry));
            return Ok(SnapshotBlock {
                leaf_hashes: hashes.collect(),
                own: concerning(&block.entries, asker),
                whole: true,
                header: block.header,
                previous_certificate: block.previous_certificate,
            });
        }
        let stored = self.stored_pruned(height)?.ok_or_else(|| missing(height))?;
        Ok(SnapshotBlock {
            leaf_hashes: self.leaf_hashes(height, &stored.header, stored.entries)?.concat(),
            own: Vec::new(),
            // An empty block lacks nothing.
            whole: stored.entries == 0,
            header: stored.header,
            previous_certificate: stored.previous_certificate,
        })
    }
}
