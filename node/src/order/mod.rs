//! The ordering boundary: everything that decides *which* block comes next sits on one side,
//! everything that knows *what* a block is on the other.
//!
//! ```text
//!   mempool ──has_work──▶ engine ──build──▶ Replica        proposer
//!                         engine ──validate▶ Replica        every validator, before it votes
//!                         engine ──commit──▶ Replica        one synced write batch, then the engine is answered
//!                         engine ──decided─▶ Replica        a peer catches up
//! ```
//! Implementations of the engine side: [`crate::bft`] (Malachite), [`single`] (one node, no peers), and in the tests a simulated one
//! (`tests/suite/simulation`: virtual time, lossy links, crashes).

pub mod single;

use assent_ledger::Hash;
use assent_proto::ledger::v1::{Certificate, ValidatorSet};
use bytes::Bytes;

/// A failure after which the process must stop: it says with which exit code.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fatal {
    /// A write or sync failed, or a log of the engine hangs: restarting may help (exit 7).
    #[error("storage failed: {0}")]
    Storage(String),
    /// What is on disk contradicts itself: restarting can't help (exit 9).
    #[error("corruption found: {0}")]
    Corrupt(String),
    /// The engine stopped by itself (exit 7).
    #[error("consensus engine stopped: {0}")]
    Engine(String),
    /// No block can come any more, a snapshot can at the next start (exit 7).
    #[error("it has to join from a snapshot: {0}")]
    Behind(String),
}

/// A block that is complete but not decided.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Height.
    pub height: u64,
    /// Round that it is proposed in.
    pub round: u32,
    /// Round of the proof of lock when it is proposed again.
    pub pol_round: Option<u32>,
    /// Address of the proposer of `round`.
    pub proposer: Hash,
    /// Header hash: the consensus value.
    pub hash: Hash,
    /// Encoding of `assent.ledger.v1.Block`.
    pub bytes: Bytes,
}

/// What a validator thinks of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Executed, state root equal; stored as undecided. The header hash.
    Valid(Hash),
    /// Breaks a rule, which is named: vote nil.
    Invalid(String),
}

/// What the engine needs of the replicated state machine. Calls come from one task, in order, and may block on disk.
pub trait Replica: Send + 'static {
    /// Chain id.
    fn chain_id(&self) -> String;
    /// Height of the last committed block; 0 after genesis.
    fn tip(&self) -> u64;
    /// Validators that vote at tip + 1.
    fn validators(&self) -> ValidatorSet;
    /// Addresses of those that propose at tip + 1, in order of turn ([`assent_ledger::bench`]): never empty.
    fn proposers(&self) -> Vec<Hash>;
    /// True when the first turn at tip + 1 is one's that comes from the bench.
    fn tries_again(&self) -> bool {
        false
    }
    /// The block that this node proposes at (height, round): the stored one if it built one for these before (also
    /// before a crash), else a new one, which is on disk before this returns.
    fn build(&mut self, height: u64, round: u32) -> Result<Candidate, Fatal>;
    /// Executes a complete block on a copy of the state. `fresh` is false for replayed and synced values and for those that were shown
    /// to be proposed again: their time is never judged by a clock. A proof of lock in the candidate alone is only somebody's word,
    /// and the header's round must not be above it. A valid block is on disk as undecided before this returns.
    fn validate(&mut self, candidate: &Candidate, fresh: bool) -> Result<Verdict, Fatal>;
    /// Undecided blocks stored for (height, round).
    fn undecided(&self, height: u64, round: u32) -> Result<Vec<Candidate>, Fatal>;
    /// An undecided block of any round by its hash.
    fn undecided_by_hash(&self, height: u64, hash: &Hash) -> Result<Option<Candidate>, Fatal>;
    /// Commits the undecided block that the certificate names: one synced write batch.
    fn commit(&mut self, certificate: Certificate) -> Result<(), Fatal>;
    /// Committed blocks of heights in `from..=to` with a certificate each, stopping early at `max_bytes`. The range is a
    /// peer's claim: it may be absurd.
    fn decided(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<(Certificate, Bytes)>, Fatal>;
    /// Lowest height that `decided` can still serve.
    fn history_min(&self) -> u64;
    /// True when a block should be made now: entries wait, or the heartbeat is due.
    fn has_work(&self) -> bool;
    /// Pinged whenever `has_work` may have become true.
    fn wake(&self) -> std::sync::Arc<tokio::sync::Notify>;
}
