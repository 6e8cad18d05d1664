//! Malachite behind one door: nothing outside this module names the engine.
//!
//! ```text
//! types, validators, scheme   the engine's type parameters
//! crypto                      votes signed over the ledger's own bytes
//! wire, pack, codec(_sync)    what travels and what is logged, every length bounded
//! assembly                    blocks put together again from their parts, bounded per publisher
//! certificate                 the ledger's form and the engine's
//! engine                      configuration and start
//! app_loop                    one task that answers the engine by asking the `Replica`;
//!                             proposals, exchange and idle are parts of it
//! evidence                    validators that contradict themselves
//! prevotes                    which blocks have more than 2/3 of the prevotes
//! wiring                      own keys and peers, which change with the membership
//! course, memory              the double-sign guard: whether this engine votes or only follows
//! lie                         a validator that lies, for testnets
//! ```
//! Needs tokio's multi-threaded runtime: disk work of the replica runs in `block_in_place`.

mod app_loop;
mod assembly;
mod certificate;
mod codec;
mod codec_sync;
mod course;
mod crypto;
mod engine;
mod evidence;
mod exchange;
mod idle;
pub mod lie;
pub mod memory;
mod pack;
mod prevotes;
mod proposals;
mod scheme;
mod types;
mod validators;
mod wire;
mod wiring;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use assent_ledger::bench::Bench;
use assent_ledger::block::header_hash;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{Block, Header, ReportEvidence, ValidatorSet};
use malachite_app_channel::app::types::Keypair;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::order::Fatal;

pub use course::{nobody_to_ask, Guard};
pub use engine::start;
pub use wiring::Wiring;

/// Longest piece of a block in one message.
const PART_BYTES: usize = 256 * 1024;
/// Most blocks in one answer to a peer that catches up.
const SYNC_BATCH: usize = 20;

/// How the engine is started.
#[derive(Clone)]
pub struct BftConfig {
    /// Folder of the node; the write-ahead log goes to `wal/` in it.
    pub home: PathBuf,
    /// Chain id.
    pub chain_id: String,
    /// Key that this node votes with; also its address.
    pub vote_key: ed25519_dalek::SigningKey,
    /// Ed25519 secret of the consensus swarm's peer id. Another key than the vote key.
    pub consensus_peer_secret: [u8; 32],
    /// Multiaddr to listen on, `/ip4/…/tcp/PORT`.
    pub listen: String,
    /// Multiaddrs of the other validators, each ending in `/p2p/<peer id>`. No others are talked to.
    pub persistent_peers: Vec<String>,
    /// Name in logs and metrics.
    pub moniker: String,
    /// Timeouts of the consensus steps.
    pub timeouts: Timeouts,
    /// Where keys and peers come from when they change with the membership. None: as they stand here.
    pub wiring: Option<Wiring>,
    /// Keeps it from signing where it may have signed before. None in tests whose disk is memory.
    pub guard: Option<Guard>,
    /// Takes evidence against validators; what finds no room is lost. None: it is said in the log only.
    pub evidence: Option<mpsc::Sender<ReportEvidence>>,
    /// Testnets only: what it lies about.
    pub lie: Option<lie::Lie>,
}

/// Timeouts of the consensus steps. Each round adds `delta`, up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Wait for a proposal.
    pub propose: Duration,
    /// Wait after more than 2/3 mixed prevotes.
    pub prevote: Duration,
    /// Wait after more than 2/3 mixed precommits.
    pub precommit: Duration,
    /// Added per round.
    pub delta: Duration,
    /// Votes are sent again after this.
    pub rebroadcast: Duration,
    /// No timeout grows above this.
    pub max: Duration,
}

impl Default for Timeouts {
    /// For a LAN. A WAN needs more.
    fn default() -> Self {
        Self {
            propose: Duration::from_millis(500),
            prevote: Duration::from_millis(200),
            precommit: Duration::from_millis(200),
            delta: Duration::from_millis(250),
            rebroadcast: Duration::from_secs(1),
            max: Duration::from_secs(10),
        }
    }
}

/// What can be seen of the engine from outside: for the node's status and its watchdog.
#[derive(Debug, Clone, Copy)]
pub struct BftStatus {
    /// Height being decided; the last decided one while idle.
    pub height: u64,
    /// Round of it.
    pub round: u32,
    /// Decided, and waiting for work before the next height starts.
    pub idle: bool,
    /// When a height was last decided, started, or found idle with no work: older than some seconds means stuck.
    pub last_progress: Instant,
    /// When consensus last asked or told anything, or was seen idle.
    pub last_message: Instant,
    /// An engine runs that votes. One that only follows, or is about to start, may be silent.
    pub votes: bool,
}

impl BftStatus {
    fn new(height: u64) -> Self {
        let now = Instant::now();
        Self { height, round: 0, idle: false, last_progress: now, last_message: now, votes: false }
    }
}

/// A running engine.
#[derive(Debug)]
pub struct BftHandle {
    task: JoinHandle<Result<(), Fatal>>,
    status: watch::Receiver<BftStatus>,
}

impl BftHandle {
    /// Observations, always the latest.
    pub fn status(&self) -> watch::Receiver<BftStatus> {
        self.status.clone()
    }

    /// Resolves when the engine has stopped and its ports and files are free: `Ok` after a shutdown.
    pub async fn wait(self) -> Result<(), Fatal> {
        self.task.await.unwrap_or_else(|e| Err(Fatal::Engine(format!("its task ended: {e}"))))
    }
}

/// Peer id of the swarm with this Ed25519 secret, as it stands in multiaddrs.
pub fn peer_id(secret: &[u8; 32]) -> String {
    keypair(secret).public().to_peer_id().to_string()
}

fn keypair(secret: &[u8; 32]) -> Keypair {
    let mut bytes = *secret;
    Keypair::ed25519_from_bytes(&mut bytes).expect("any 32 bytes are an Ed25519 secret")
}

/// Address of the validator that proposes at a height and round when nobody is benched; `None` for an empty set.
pub fn proposer(set: &ValidatorSet, height: u64, round: u32) -> Option<Hash> {
    Bench::default().proposer(set, height, round)
}

/// The engine's metrics in Prometheus text format. They are global to the process; the label `moniker` tells nodes apart.
pub fn metrics_text() -> String {
    let mut text = String::new();
    malachite_app_channel::app::metrics::export(&mut text);
    // Each engine of this process, one that followed before it voted too, describes its metrics once more.
    let mut described = BTreeSet::new();
    text.lines()
        .filter(|line| !line.starts_with('#') || described.insert(*line))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Header hash of an encoded block, and the round that its header names; `None` for what isn't a block.
fn header_of(chain_id: &str, block: &[u8]) -> Option<(Hash, u32)> {
    let block = Block::decode(block).ok()?;
    let header = Header::decode(block.header.as_slice()).ok()?;
    Some((header_hash(chain_id, &block.header), header.round))
}

#[cfg(test)]
mod tests;
