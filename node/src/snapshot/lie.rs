//! Lies about snapshots, for testnets: `--lie snapshot:…` ([`crate::bft::lie::Served`]). Without the flag every call passes on what it is given.

use std::sync::atomic::{AtomicU64, Ordering};

use assent_ledger::hash::sha256;

use super::{Manifest, CHUNK_BYTES};
use crate::bft::lie::{Lie, Served};
use crate::fault;

/// Blocks that a liar offers beyond its tip.
const BEYOND: u64 = 1_000;

static TOLD: AtomicU64 = AtomicU64::new(0);

fn lie() -> Option<Served> {
    match fault::lie() {
        Some(Lie::Snapshot(served)) => Some(served),
        _ => None,
    }
}

/// What is offered: a liar has more than all others, and all of it whole.
pub(super) fn offer(mut truth: Manifest) -> Manifest {
    if lie().is_some() {
        truth.height += BEYOND;
        truth.whole_from = 1;
    }
    truth
}

/// Changes one snapshot on its way out: it is read twice, for the manifest and to be sent.
#[derive(Default)]
pub(super) struct Tongue {
    lie: Option<Served>,
    chunks: u64,
    sent: u64,
    last: Vec<u8>,
}

impl Tongue {
    /// Of this process.
    pub(super) fn of_this_node() -> Self {
        Self { lie: lie(), ..Self::default() }
    }

    /// One chunk of the first reading.
    pub(super) fn reads(&mut self, chunk: Vec<u8>) {
        self.chunks += 1;
        if self.lie == Some(Served::Root) {
            self.last = chunk;
        }
    }

    /// The manifest, when all chunks were read.
    pub(super) fn manifest(&mut self, mut truth: Manifest) -> Manifest {
        let Some(lie) = self.lie else { return truth };
        let lied = TOLD.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(lied, height = truth.height, lie = ?Lie::Snapshot(lie), "lied");
        if lie == Served::Root {
            truth.hashes.truncate(truth.hashes.len().saturating_sub(32));
            truth.hashes.extend(sha256(&spoiled(std::mem::take(&mut self.last))));
        }
        truth
    }

    /// What is sent for one chunk of the second reading, if anything is.
    pub(super) fn sends(&mut self, chunk: Vec<u8>) -> Option<Vec<u8>> {
        self.sent += 1;
        match self.lie {
            Some(Served::Root) if self.sent == self.chunks => Some(spoiled(chunk)),
            Some(Served::Missing) if self.sent == self.chunks => None,
            Some(Served::Oversized) if self.sent == 1 => Some(vec![0; CHUNK_BYTES + 1]),
            _ => Some(chunk),
        }
    }
}

/// The state comes last.
fn spoiled(mut chunk: Vec<u8>) -> Vec<u8> {
    if let Some(byte) = chunk.last_mut() {
        *byte ^= 1;
    }
    chunk
}
