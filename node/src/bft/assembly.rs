//! Blocks put together again from their parts.
//!
//! Parts carry a signature of the validator that publishes them, so that what is held counts against the one who sent it
//! and nobody can spoil another's block: a publisher that goes over its share loses only its own blocks.

use std::collections::BTreeMap;

use assent_ledger::block::MAX_BLOCK_BYTES;
use bytes::{Bytes, BytesMut};

use super::crypto::{ChainSigner, ChainVerifier};
use super::types::{Address, PartHeader, ProposalPart};
use super::validators::ValidatorSet;
use super::{header_of, PART_BYTES};

/// Parts are taken for this many heights above the tip.
pub const HEIGHTS_AHEAD: u64 = 16;
/// Most parts of a block.
const MAX_PARTS: u32 = 64;
/// Most blocks held for one publisher.
const BLOCKS_PER_PUBLISHER: usize = 24;
/// Most bytes held for one publisher.
const BYTES_PER_PUBLISHER: usize = 16 * MAX_BLOCK_BYTES;

/// A block whose parts are all here.
#[derive(Debug, Clone)]
pub struct Assembled {
    /// What its parts said.
    pub header: PartHeader,
    /// Encoding of the block; its hash is the header's.
    pub bytes: Bytes,
}

/// What became of a part.
#[derive(Debug)]
pub enum Added {
    /// Not taken, and why.
    Refused(&'static str),
    /// Taken; more are missing, or it was here before.
    Taken,
    /// Taken, and it was the last one: [`Assembly::take`] gives the block.
    Complete,
}

#[derive(Debug)]
enum State {
    Open {
        parts: BTreeMap<u32, Bytes>,
        size: usize,
    },
    Complete(Bytes),
    /// Handed out, or spoiled by its own publisher: kept to recognize late duplicates.
    Done,
}

#[derive(Debug)]
struct Entry {
    header: PartHeader,
    state: State,
}

impl Entry {
    fn has(&self, index: u32) -> bool {
        match &self.state {
            State::Open { parts, .. } => parts.contains_key(&index),
            State::Complete(_) | State::Done => true,
        }
    }

    fn size(&self) -> usize {
        match &self.state {
            State::Open { size, .. } => *size,
            State::Complete(bytes) => bytes.len(),
            State::Done => 0,
        }
    }
}

/// Blocks of the next heights, complete and incomplete.
#[derive(Debug)]
pub struct Assembly {
    chain_id: String,
    verifier: ChainVerifier,
    /// Per publisher, in order of height and round.
    blocks: BTreeMap<Address, Vec<Entry>>,
}

impl Assembly {
    /// An empty assembly for a chain.
    pub fn new(chain_id: &str) -> Self {
        Self {
            chain_id: chain_id.to_owned(),
            verifier: ChainVerifier::new(chain_id),
            blocks: BTreeMap::new(),
        }
    }

    /// Takes one part, or says why not.
    pub fn add(&mut self, part: ProposalPart, tip: u64, validators: &ValidatorSet) -> Added {
        let (header, index, data) = (&part.header, part.index, &part.data);
        if header.height <= tip || header.height - tip > HEIGHTS_AHEAD {
            return Added::Refused("height is not one of the next");
        }
        if header.total == 0 || header.total > MAX_PARTS || index >= header.total {
            return Added::Refused("index or total");
        }
        if data.is_empty() || data.len() > PART_BYTES {
            return Added::Refused("length");
        }
        if !validators.contains(&header.publisher) {
            return Added::Refused("publisher is no validator");
        }
        let entries = self.blocks.entry(header.publisher).or_default();
        let known = entries.iter().position(|e| e.header == *header);
        if known.is_some_and(|at| entries[at].has(index)) {
            return Added::Taken;
        }
        if !self.verifier.part_holds(&part) {
            return Added::Refused("signature");
        }
        let at = known.unwrap_or_else(|| insert(entries, header.clone()));
        let entry = &mut entries[at];
        let State::Open { parts, size } = &mut entry.state else {
            return Added::Taken;
        };
        *size += data.len();
        parts.insert(index, part.data);
        let size = *size;
        if size > MAX_BLOCK_BYTES {
            entry.state = State::Done;
            return Added::Refused("block is too long");
        }
        let missing = parts.len() < entry.header.total as usize;
        shrink(entries, at);
        if missing {
            return Added::Taken;
        }
        let entry = &mut entries[at];
        let State::Open { parts, .. } = &entry.state else {
            return Added::Taken;
        };
        let mut bytes = BytesMut::with_capacity(size);
        parts.values().for_each(|p| bytes.extend_from_slice(p));
        let bytes = bytes.freeze();
        let fits = header_of(&self.chain_id, &bytes).is_some_and(|(hash, _)| hash == entry.header.hash.0);
        if !fits {
            entry.state = State::Done;
            return Added::Refused("hash");
        }
        entry.state = State::Complete(bytes);
        Added::Complete
    }

    /// Hands out the complete blocks of a height up to a round, in order of round.
    pub fn take(&mut self, height: u64, round: u32) -> Vec<Assembled> {
        let mut out = Vec::new();
        let due = |e: &&mut Entry| e.header.height == height && e.header.round <= round;
        for entry in self.blocks.values_mut().flatten().filter(due) {
            if let State::Complete(bytes) = &entry.state {
                out.push(Assembled { header: entry.header.clone(), bytes: bytes.clone() });
                entry.state = State::Done;
            }
        }
        out.sort_by_key(|a| a.header.round);
        out
    }

    /// Forgets everything up to a height.
    pub fn advance(&mut self, tip: u64) {
        for entries in self.blocks.values_mut() {
            entries.retain(|e| e.header.height > tip);
        }
        self.blocks.retain(|_, entries| !entries.is_empty());
    }
}

/// Adds an open entry in its place, making room if the publisher has too many. Returns its index.
fn insert(entries: &mut Vec<Entry>, header: PartHeader) -> usize {
    if entries.len() >= BLOCKS_PER_PUBLISHER {
        entries.remove(0);
    }
    let key = (header.height, header.round);
    let at = entries.partition_point(|e| (e.header.height, e.header.round) <= key);
    entries.insert(at, Entry { header, state: State::Open { parts: BTreeMap::new(), size: 0 } });
    at
}

/// Drops the publisher's other blocks, lowest first, until its bytes are within its share.
fn shrink(entries: &mut [Entry], keep: usize) {
    let mut total: usize = entries.iter().map(Entry::size).sum();
    for (i, entry) in entries.iter_mut().enumerate() {
        if total <= BYTES_PER_PUBLISHER {
            return;
        }
        if i != keep {
            total -= entry.size();
            entry.state = State::Done;
        }
    }
}

/// Cuts a block into signed parts.
pub fn cut(
    signer: &ChainSigner,
    height: u64,
    round: u32,
    pol_round: Option<u32>,
    hash: [u8; 32],
    bytes: &Bytes,
) -> Vec<ProposalPart> {
    let pieces: Vec<Bytes> = (0..bytes.len())
        .step_by(PART_BYTES)
        .map(|from| bytes.slice(from..bytes.len().min(from + PART_BYTES)))
        .collect();
    let header = PartHeader {
        height,
        round,
        pol_round,
        publisher: signer.address(),
        hash: super::types::BlockHash(hash),
        total: pieces.len() as u32,
    };
    let part = |(index, data): (usize, Bytes)| {
        let (header, index) = (header.clone(), index as u32);
        let signature = signer.sign_part(&header, index, &data);
        ProposalPart { header, signature, index, data }
    };
    pieces.into_iter().enumerate().map(part).collect()
}
