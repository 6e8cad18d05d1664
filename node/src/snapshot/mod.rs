//! Joining from a peer's snapshot: what two nodes say to each other about it, and when a node asks.
//!
//! ```text
//! joins ── Ask { send: false } ─▶ each peer          how high, how much of its blocks is whole
//!       ◀─ Offer ────────────────
//! joins ── Ask { send: true } ──▶ the best, then the next
//!       ◀─ Manifest ────────────  size, and the SHA-256 of each chunk; then so many chunks, and the end
//! ```
//! What is in the chunks: [`crate::chain::snapshot`]; how it is checked: [`crate::chain::import`]; when a node joins so, and how
//! the new ledger takes the old one's place: [`join`]; who notices while it runs that it would have to: [`behind`].

pub mod behind;
pub mod fetch;
pub mod join;
mod lie;
pub mod serve;

use std::time::Duration;

pub use crate::chain::refused::Refused;

/// Bytes of a chunk; only the last has fewer.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Most bytes of a snapshot.
pub const MAX_SNAPSHOT_BYTES: u64 = 64 << 30;
/// Longest manifest: a hash for each chunk, and a few numbers.
const MAX_MANIFEST_BYTES: usize = (MAX_SNAPSHOT_BYTES as usize / CHUNK_BYTES) * 32 + 1024;
/// Longest ask, and answer to one that does not ask to send.
const MAX_ASK_BYTES: usize = 1024;
/// A chunk takes no longer; slower peers (52 kB/s) are no help.
const CHUNK_DEADLINE: Duration = Duration::from_secs(20);
/// The sender reads the whole ledger once before its manifest.
const MANIFEST_DEADLINE: Duration = Duration::from_secs(120);
/// An offer takes no longer.
const OFFER_DEADLINE: Duration = Duration::from_secs(2);

/// First frame of a stream.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Ask {
    /// Newest form of a snapshot that the asker reads.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Genesis hash of its chain.
    #[prost(bytes = "vec", tag = "2")]
    pub genesis_hash: Vec<u8>,
    /// It wants the snapshot, not only to know of it.
    #[prost(bool, tag = "3")]
    pub send: bool,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Manifest {
    /// Form of the snapshot.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Genesis hash of its chain.
    #[prost(bytes = "vec", tag = "2")]
    pub genesis_hash: Vec<u8>,
    /// Height of its tip.
    #[prost(uint64, tag = "3")]
    pub height: u64,
    /// First height from which on the sender has whole blocks.
    #[prost(uint64, tag = "4")]
    pub whole_from: u64,
    /// Bytes of all chunks; 0 in an offer.
    #[prost(uint64, tag = "5")]
    pub bytes: u64,
    /// SHA-256 of each chunk, one after another.
    #[prost(bytes = "vec", tag = "6")]
    pub hashes: Vec<u8>,
    /// Why nothing is sent; then the rest is empty.
    #[prost(string, tag = "7")]
    pub refusal: String,
}

impl Manifest {
    /// Checks what an offer and a manifest have in common; `above` is the height that the asker has.
    pub fn check(&self, genesis_hash: &[u8; 32], above: u64) -> Result<(), Refused> {
        use crate::chain::snapshot::SNAPSHOT_FORMAT;
        if !self.refusal.is_empty() {
            // A stranger's text goes into no log.
            return Err(Refused::new("busy", "it sends none now"));
        }
        if self.format > SNAPSHOT_FORMAT {
            let sentence =
                format!("it is of format {}, this node reads up to {SNAPSHOT_FORMAT}", self.format);
            return Err(Refused::new("newer-format", sentence));
        }
        if self.genesis_hash != genesis_hash {
            return Err(Refused::new("other-chain", "its genesis hash is another"));
        }
        if self.height <= above {
            let sentence = format!("it is of block {}, this node has block {above}", self.height);
            return Err(Refused::new("stale", sentence));
        }
        Ok(())
    }

    /// The chunks' hashes, if there are as many as the size calls for and there is room for it.
    pub fn chunks(&self, room_bytes: u64) -> Result<Vec<[u8; 32]>, Refused> {
        let most = MAX_SNAPSHOT_BYTES.min(room_bytes);
        if self.bytes > most {
            let sentence = format!("{} bytes, there is room for {most}", self.bytes);
            return Err(Refused::new("oversized", sentence));
        }
        let (hashes, rest) = self.hashes.as_chunks::<32>();
        if !rest.is_empty()
            || hashes.len() as u64 != self.bytes.div_ceil(CHUNK_BYTES as u64)
            || hashes.is_empty()
        {
            let sentence = format!("{} bytes with {} hashes of chunks", self.bytes, hashes.len());
            return Err(Refused::new("malformed", sentence));
        }
        Ok(hashes.to_vec())
    }
}
