//! When a node starts from a peer's snapshot, and how the new ledger takes the present one's place.
//!
//! ```text
//! data/ledger.joining    being imported; removed at a start
//! data/ledger.joined     checked to its end: from here on it is the ledger, whatever happens
//! data/ledger            removed, then the joined one is renamed to it
//! ```
//! Only at a start, before anything uses the ledger. The vault is not touched.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{remove_dir_all, rename, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::Hash;
use tokio::time::{sleep, Instant};

use super::fetch::{chunks, manifest, offers, request};
use super::{Manifest, Refused};
use crate::bft::memory::Files;
use crate::chain::import::{Expected, Import, ImportError};
use crate::chain::Store;
use crate::health::Joining;
use crate::order::Fatal;
use crate::peers::Peers;
use crate::progress::Progress;
use crate::space;

/// A ledger whose newest block is younger can't be far behind: nobody is asked.
pub(super) const AWAY_MS: u64 = 20_000;
/// Peers have this long to be connected and to answer, unless it is plain before that nothing is to be joined.
const CONNECT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(25);

/// What joining needs to know.
pub struct Join<'a> {
    /// Folder of the databases.
    pub data_dir: &'a Path,
    /// Genesis.
    pub genesis: &'a CheckedGenesis,
    /// The file's exact bytes.
    pub genesis_file: &'a [u8],
    /// This node's organization.
    pub own: &'a str,
    /// Handles of its subjects.
    pub handles: &'a [Hash],
    /// Hashes of the plans of recoveries that the operator accepts beside those that this node went through.
    pub accepted: BTreeSet<Hash>,
    /// The ledger as it is.
    pub store: &'a Store,
    /// Whom to ask.
    pub peers: &'a Peers,
    /// A new node that is more heights behind joins; 0: none does.
    pub lag_heights: u64,
    /// What this validator signed, so that it is not forgotten.
    pub memory: &'a Files,
    /// Where it says how far it is.
    pub joining: &'a Joining,
    /// The wall clock at the start, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

fn storage(path: &Path, error: &std::io::Error) -> Fatal {
    Fatal::Storage(format!("{}: {error}", path.display()))
}

fn sync_folder(folder: &Path) -> Result<(), Fatal> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| storage(folder, &e))
}

fn remove(folder: &Path) -> Result<(), Fatal> {
    match folder.exists() {
        true => remove_dir_all(folder).map_err(|e| storage(folder, &e)),
        false => Ok(()),
    }
}

fn joined(data_dir: &Path) -> PathBuf {
    data_dir.join("ledger.joined")
}

/// Puts a joined ledger in the present one's place, also one that a crash left half way. No database may be open.
pub fn install(data_dir: &Path) -> Result<(), Fatal> {
    remove(&data_dir.join("ledger.joining"))?;
    let (new, ledger) = (joined(data_dir), data_dir.join("ledger"));
    if !new.exists() {
        return Ok(());
    }
    remove(&ledger)?;
    rename(&new, &ledger).map_err(|e| storage(&ledger, &e))?;
    sync_folder(data_dir)
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A new ledger is there to be installed.
    Joined,
    /// Nothing to join for.
    NotDue,
    /// No peer had a snapshot that holds.
    NoneHeld,
}

/// True when somebody answers and nobody has the block after `tip` any more.
pub(super) fn all_pruned(tip: u64, offers: &BTreeMap<String, Manifest>) -> bool {
    !offers.is_empty() && offers.values().all(|offer| offer.whole_from > tip + 1)
}

/// Whether to join, given what peers offer: a new node when it is far behind, any when all have pruned the block that it needs.
fn is_worth_it(tip: u64, lag_heights: u64, offers: &BTreeMap<String, Manifest>) -> bool {
    let far = offers.values().any(|offer| offer.height - tip > lag_heights);
    let pruned = all_pruned(tip, offers);
    if pruned && lag_heights == 0 {
        tracing::error!(
            tip,
            "all peers have pruned the next block: nothing can be caught up with snapshot_lag_heights = 0"
        );
    }
    lag_heights > 0 && (pruned || (tip == 0 && far))
}

impl Join<'_> {
    /// Joins where that is due. A refused snapshot is no failure: the next peer is tried, and in the end blocks are caught up one by
    /// one.
    pub async fn run(&self) -> Result<Outcome, Fatal> {
        let tip = self.store.tip()?;
        if self.now_ms.saturating_sub(tip.time_ms) < AWAY_MS {
            return Ok(Outcome::NotDue);
        }
        self.joining.says("asks the others how far they are".into(), tip.height, 0);
        let offers = self.offers(tip.height).await;
        if !is_worth_it(tip.height, self.lag_heights, &offers) {
            return Ok(Outcome::NotDue);
        }
        let mut order: Vec<(String, Manifest)> = offers.into_iter().collect();
        // Who has all blocks has all of this organization's entries.
        order.sort_by_key(|(_, offer)| (offer.whole_from != 1, Reverse(offer.height)));
        for (peer, offer) in order {
            match self.from_peer(&peer, tip.height).await {
                Ok(height) => {
                    tracing::info!(%peer, height, "joined from a snapshot");
                    return Ok(Outcome::Joined);
                }
                Err(ImportError::Refused(Refused { reason, sentence })) => {
                    tracing::warn!(%peer, height = offer.height, reason, "snapshot refused: {sentence}");
                }
                Err(ImportError::Local(fatal)) => return Err(fatal),
            }
        }
        tracing::warn!("no peer has a snapshot that holds: blocks are caught up one by one");
        Ok(Outcome::NoneHeld)
    }

    /// What the peers that can be reached offer.
    async fn offers(&self, tip: u64) -> BTreeMap<String, Manifest> {
        let begin = Instant::now();
        let others: BTreeSet<&str> =
            self.genesis.organizations.iter().map(|o| o.id.as_str()).filter(|id| *id != self.own).collect();
        let (mut asked, mut found) = (BTreeSet::new(), BTreeMap::new());
        while begin.elapsed() < CONNECT && asked.len() < others.len() {
            let connected = self.peers.connected();
            let new: Vec<String> = connected.into_iter().filter(|peer| asked.insert(peer.clone())).collect();
            found.extend(offers(self.peers, &new, &self.genesis.hash, tip).await);
            if tip > 0 && !found.is_empty() && !all_pruned(tip, &found) {
                break; // one that has blocks already joins only when nobody else has the next
            }
            sleep(POLL).await;
        }
        found
    }

    /// Plans that the operator agreed to: in the configuration, and with `assentd recover apply`.
    fn accepted(&self) -> Result<BTreeSet<Hash>, Fatal> {
        let view = self.store.view()?;
        let mut accepted = view.accepted_recoveries()?;
        accepted.extend(view.tip.recovery);
        accepted.extend(&self.accepted);
        Ok(accepted)
    }

    /// Fetches and checks one peer's snapshot, above block `tip`; the new ledger is ready to be installed when this returns its height.
    pub async fn from_peer(&self, peer: &str, tip: u64) -> Result<u64, ImportError> {
        let folder = self.data_dir.join("ledger.joining");
        remove(&folder)?;
        // Half of what is free: the present ledger stays until the new one is there.
        let room_bytes = (space::free_mib(self.data_dir)? << 20) / 2;
        let mut stream = request(self.peers, peer, &self.genesis.hash).await?;
        let (manifest, hashes) = manifest(&mut stream, &self.genesis.hash, tip, room_bytes).await?;
        let progress = Progress::new(0, manifest.bytes >> 10);
        let accepted = self.accepted()?;
        let expected = Expected {
            genesis: self.genesis,
            genesis_file: self.genesis_file,
            own: self.own,
            handles: self.handles,
            accepted: &accepted,
            present: self.store,
        };
        let outcome = async {
            let mut import = tokio::task::block_in_place(|| Import::new(&folder, expected))?;
            let report = |bytes: u64, height: u64| {
                let says = progress.says(bytes >> 10, "KiB");
                let sentence = format!(
                    "snapshot of block {} from {peer}: {} of {} KiB, block {height} checked, {says}",
                    manifest.height,
                    bytes >> 10,
                    manifest.bytes >> 10
                );
                if progress.is_log_due() {
                    tracing::info!("{sentence}");
                }
                self.joining.says(sentence, height, manifest.height);
            };
            report(0, 0);
            chunks(&mut stream, &manifest, &hashes, &mut import, report).await?;
            tokio::task::block_in_place(|| import.finish())
        };
        match outcome.await {
            Ok(tip) if tip.height != manifest.height => {
                remove(&folder)?;
                let sentence =
                    format!("it is of block {}, its manifest says {}", tip.height, manifest.height);
                Err(Refused::new("tip", sentence).into())
            }
            Ok(new) => {
                // Before the old ledger's height is forgotten.
                self.memory.keep_across(tip)?;
                rename(&folder, joined(self.data_dir)).map_err(|e| storage(&folder, &e))?;
                sync_folder(self.data_dir)?;
                Ok(new.height)
            }
            Err(error) => {
                remove(&folder)?;
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_joins() {
        let offers = |given: &[(u64, u64)]| -> BTreeMap<String, Manifest> {
            let offer = |(n, (height, whole_from)): (usize, &(u64, u64))| {
                (n.to_string(), Manifest { height: *height, whole_from: *whole_from, ..Manifest::default() })
            };
            given.iter().enumerate().map(offer).collect()
        };
        // New and far behind; new and near; not new; nobody offers.
        assert!(is_worth_it(0, 100, &offers(&[(101, 1)])));
        assert!(!is_worth_it(0, 100, &offers(&[(100, 1)])));
        assert!(!is_worth_it(50, 100, &offers(&[(5_000, 1)])));
        assert!(!is_worth_it(0, 100, &offers(&[])));
        // What it needs is gone everywhere, or not everywhere.
        assert!(is_worth_it(50, 100, &offers(&[(60, 52), (70, 60)])));
        assert!(!is_worth_it(50, 100, &offers(&[(60, 51), (70, 60)])));
        // Never.
        assert!(!is_worth_it(0, 0, &offers(&[(5_000, 4_000)])));
    }

    #[test]
    fn an_install_that_was_cut_off_is_finished_and_a_half_import_is_not() {
        let data = tempfile::tempdir().unwrap();
        let at = |name: &str| data.path().join(name);
        let make = |name: &str| {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::write(at(name).join("says"), name).unwrap();
        };
        let says = || std::fs::read_to_string(at("ledger").join("says")).unwrap();
        make("ledger");
        make("ledger.joining");
        install(data.path()).unwrap();
        assert_eq!(says(), "ledger");
        assert!(!at("ledger.joining").exists());
        make("ledger.joined");
        install(data.path()).unwrap();
        assert_eq!(says(), "ledger.joined");
        // Cut off between the removal and the renaming.
        rename(at("ledger"), at("ledger.joined")).unwrap();
        install(data.path()).unwrap();
        assert_eq!(says(), "ledger.joined");
        assert!(!at("ledger.joined").exists());
    }
}
