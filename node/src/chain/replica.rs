//! The replicated state machine: builds, validates and commits blocks for whatever engine orders them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use assent_ledger::block::{
    apply_block, build_block, header_hash, time_is_plausible, Applied, BlockError, Proposal, Tip,
};
use assent_ledger::certificate::verify_certificate;
use assent_ledger::entry::{check_entry, CheckedEntry};
use assent_ledger::execute::ExecuteError;
use assent_ledger::keys::Check;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{Certificate, ValidatorSet};
use bytes::Bytes;
use prost::Message;
use tokio::sync::{mpsc, watch, Notify};

use super::{Mempool, Store};
use crate::fault;
use crate::order::{Candidate, Fatal, Replica, Verdict};

/// Most executed candidates kept in memory; the others are executed again if they are decided.
const MAX_EXECUTED: usize = 8;

/// What the rest of the node is told about the tip.
#[derive(Debug, Clone)]
pub struct TipInfo {
    /// The tip.
    pub tip: Arc<Tip>,
    /// When this node committed it.
    pub at: Instant,
    /// Addresses whose precommits stand in this node's certificate over it.
    pub signers: Vec<Vec<u8>>,
}

/// What became of entries, for those who wait.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Committed at a height.
    Committed(Hash, u64),
    /// Found to have no effect, and why.
    Dropped(Hash, ExecuteError),
}

/// The replica over RocksDB.
pub struct LedgerReplica {
    store: Store,
    mempool: Mempool,
    organization: String,
    address: Hash,
    heartbeat: Duration,
    tip: Arc<Tip>,
    committed_at: Instant,
    /// By header hash, with the exact bytes: a header alone does not bind the entries that somebody sends along.
    executed: BTreeMap<Hash, (Bytes, Applied)>,
    /// Undecided blocks of the next height, as the store has them.
    undecided: Vec<Candidate>,
    tips: watch::Sender<TipInfo>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    wake: Arc<Notify>,
}

impl LedgerReplica {
    /// Address that this node proposes under: its vote key may have changed since the start.
    fn own_address(&self) -> Hash {
        let own = self.tip.validators.validators.iter().find(|v| v.organization == self.organization);
        own.and_then(|v| v.vote_key.as_slice().try_into().ok()).unwrap_or(self.address)
    }

    /// Takes up where the store stands. Outcomes are few per block and drained by one task that never waits, so their channel
    /// has no bound of its own.
    pub fn new(
        store: Store,
        mempool: Mempool,
        organization: String,
        address: Hash,
        heartbeat: Duration,
        wake: Arc<Notify>,
    ) -> Result<(Self, watch::Receiver<TipInfo>, mpsc::UnboundedReceiver<Outcome>), Fatal> {
        let tip = Arc::new(store.tip()?);
        let undecided = store.undecided(tip.height + 1)?;
        let (tips, tips_rx) =
            watch::channel(TipInfo { tip: tip.clone(), at: Instant::now(), signers: Vec::new() });
        let (outcomes, outcomes_rx) = mpsc::unbounded_channel();
        let replica = Self {
            store,
            mempool,
            organization,
            address,
            heartbeat,
            tip,
            committed_at: Instant::now(),
            executed: BTreeMap::new(),
            undecided,
            tips,
            outcomes,
            wake,
        };
        Ok((replica, tips_rx, outcomes_rx))
    }

    fn remember(&mut self, bytes: Bytes, applied: Applied) {
        while self.executed.len() >= MAX_EXECUTED {
            self.executed.pop_first();
        }
        self.executed.insert(applied.tip.header_hash, (bytes, applied));
    }

    /// On disk before it is known here.
    fn put_undecided(&mut self, candidate: &Candidate, built: bool) -> Result<(), Fatal> {
        self.store.put_undecided(candidate, built)?;
        self.undecided.retain(|c| (c.round, c.hash) != (candidate.round, candidate.hash));
        self.undecided.push(candidate.clone());
        Ok(())
    }

    /// The entry that the next block has to start with, when a recovery is agreed to.
    fn recovery_entry(&self) -> Result<Option<CheckedEntry>, Fatal> {
        if self.tip.recovery.is_none() {
            return Ok(None);
        }
        let missing = || Fatal::Corrupt("a recovery is agreed to, and its entry is missing".into());
        let bytes = self.store.recovery_entry()?.ok_or_else(missing)?;
        let entry = check_entry(&self.tip.chain_id, &bytes);
        entry.map(Some).map_err(|e| Fatal::Corrupt(format!("the entry of the recovery: {e}")))
    }

    fn drop_entries(&self, dropped: Vec<(Hash, ExecuteError)>) {
        self.mempool.remove(dropped.iter().map(|(hash, _)| hash));
        for (hash, error) in dropped {
            // Nobody waits any more when the receiver is gone.
            let _ = self.outcomes.send(Outcome::Dropped(hash, error));
        }
    }
}

fn fatal_read(error: BlockError) -> Result<String, Fatal> {
    match error {
        BlockError::Read(error) => Err(Fatal::Storage(error.to_string())),
        other => Ok(other.to_string()),
    }
}

impl Replica for LedgerReplica {
    fn chain_id(&self) -> String {
        self.tip.chain_id.clone()
    }

    fn tip(&self) -> u64 {
        self.tip.height
    }

    fn validators(&self) -> ValidatorSet {
        self.tip.validators.clone()
    }

    fn proposers(&self) -> Vec<Hash> {
        self.tip.bench.proposers(&self.tip.validators, self.tip.height + 1)
    }

    fn tries_again(&self) -> bool {
        self.tip.bench.tries_again(&self.tip.validators, self.tip.height + 1)
    }

    fn build(&mut self, height: u64, round: u32) -> Result<Candidate, Fatal> {
        if height != self.tip.height + 1 {
            return Err(Fatal::Engine(format!("asked to build height {height} on tip {}", self.tip.height)));
        }
        if let Some(hash) = self.store.built(height, round)? {
            let stored = self.undecided_by_hash(height, &hash)?;
            return stored
                .ok_or_else(|| Fatal::Corrupt(format!("own proposal for {height}/{round} is missing")));
        }
        let previous_certificate = match self.tip.height {
            0 => Vec::new(),
            tip => self
                .store
                .certificate(tip)?
                .ok_or_else(|| Fatal::Corrupt(format!("no certificate for {tip}")))?,
        };
        let proposal = Proposal {
            proposer: self.own_address(),
            round,
            now_ms: self.mempool.now_ms(),
            previous_certificate,
        };
        let view = self.store.view()?;
        let (mut candidates, spoiled) = fault::candidates(self.mempool.select());
        candidates.extend(self.recovery_entry()?);
        let verify = |c: &[Check]| spoiled || self.mempool.verify(c);
        let built = build_block(&self.tip, &view, candidates, &proposal, &verify);
        let (bytes, applied, dropped) = match built {
            Ok(built) => built,
            Err(error) => return Err(Fatal::Storage(error.to_string())),
        };
        let dropped = dropped.into_iter().map(|(hash, _)| hash);
        let given_up = self.mempool.left_out(&view, &self.organization, dropped)?;
        drop(view);
        self.drop_entries(given_up);
        let candidate = Candidate {
            height,
            round,
            pol_round: None,
            proposer: self.own_address(),
            hash: applied.tip.header_hash,
            bytes: Bytes::from(bytes),
        };
        self.put_undecided(&candidate, true)?;
        fault::point("proposal-stored");
        self.remember(candidate.bytes.clone(), applied);
        Ok(candidate)
    }

    fn validate(&mut self, candidate: &Candidate, fresh: bool) -> Result<Verdict, Fatal> {
        if candidate.height != self.tip.height + 1 {
            return Ok(Verdict::Invalid(format!(
                "height {}, expected {}",
                candidate.height,
                self.tip.height + 1
            )));
        }
        let header = match self.executed.get(&candidate.hash) {
            Some((bytes, applied)) if *bytes == candidate.bytes => applied.header.clone(),
            _ => {
                let view = self.store.view()?;
                match apply_block(&self.tip, &view, &candidate.bytes, &|c| self.mempool.verify(c)) {
                    Ok(applied) => {
                        let header = applied.header.clone();
                        drop(view);
                        self.remember(candidate.bytes.clone(), applied);
                        header
                    }
                    Err(error) => return Ok(Verdict::Invalid(fatal_read(error)?)),
                }
            }
        };
        let hash = header_hash(&self.tip.chain_id, &header.encode_to_vec());
        if hash != candidate.hash {
            return Ok(Verdict::Invalid(format!("header hash {}", hex::encode(hash))));
        }
        let named = (header.round, header.proposer.as_slice());
        if fresh && candidate.pol_round.is_none() && named != (candidate.round, &candidate.proposer) {
            return Ok(Verdict::Invalid("the header names another round or proposer".into()));
        }
        if header.round > candidate.pol_round.unwrap_or(candidate.round) {
            return Ok(Verdict::Invalid("the header names a later round".into()));
        }
        if fresh && !time_is_plausible(&self.tip, header.time_ms, self.mempool.now_ms()) {
            return Ok(Verdict::Invalid(format!("block time {} ms lies ahead of the clock", header.time_ms)));
        }
        self.put_undecided(candidate, false)?;
        fault::point("block-validated");
        Ok(Verdict::Valid(hash))
    }

    fn undecided(&self, height: u64, round: u32) -> Result<Vec<Candidate>, Fatal> {
        Ok(self.undecided.iter().filter(|c| (c.height, c.round) == (height, round)).cloned().collect())
    }

    fn undecided_by_hash(&self, height: u64, hash: &Hash) -> Result<Option<Candidate>, Fatal> {
        Ok(self.undecided.iter().find(|c| c.height == height && c.hash == *hash).cloned())
    }

    fn commit(&mut self, certificate: Certificate) -> Result<(), Fatal> {
        let hash: Hash = certificate
            .header_hash
            .as_slice()
            .try_into()
            .map_err(|_| Fatal::Engine("decided a value that is no header hash".into()))?;
        let height = self.tip.height + 1;
        verify_certificate(&self.tip.chain_id, &self.tip.validators, height, &hash, &certificate)
            .map_err(|e| Fatal::Engine(format!("decided with a certificate that proves nothing: {e}")))?;
        let candidate = self
            .undecided_by_hash(height, &hash)?
            .ok_or_else(|| Fatal::Engine(format!("decided {} without its bytes", hex::encode(hash))))?;
        let applied = match self.executed.remove(&hash) {
            Some((bytes, applied)) if bytes == candidate.bytes => applied,
            _ => {
                let view = self.store.view()?;
                apply_block(&self.tip, &view, &candidate.bytes, &|c| self.mempool.verify(c))
                    .map_err(|e| Fatal::Engine(format!("decided a block that breaks a rule: {e}")))?
            }
        };
        fault::point("before-commit");
        self.store.commit(&applied, &candidate.bytes, &certificate, &self.undecided, &self.organization)?;
        self.undecided.clear();
        fault::point("after-commit");
        self.executed.clear();
        self.tip = Arc::new(applied.tip);
        self.committed_at = Instant::now();
        self.mempool.remove(applied.entries.iter().map(|e| &e.hash));
        // The tip first: whoever hears of a commit finds it there.
        let signers = certificate.signatures.into_iter().map(|s| s.address).collect();
        self.tips.send_replace(TipInfo { tip: self.tip.clone(), at: self.committed_at, signers });
        for entry in &applied.entries {
            let _ = self.outcomes.send(Outcome::Committed(entry.hash, height));
        }
        let dropped = self.mempool.revalidate(&self.store, &self.organization, applied.entries.is_empty())?;
        self.drop_entries(dropped);
        Ok(())
    }

    fn decided(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<(Certificate, Bytes)>, Fatal> {
        let view = self.store.view()?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        for height in from.max(1)..=to.min(view.tip.height) {
            let Some(committed) = view.committed(height)? else {
                break;
            };
            bytes += committed.block_bytes.len();
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push((committed.certificate, Bytes::from(committed.block_bytes)));
        }
        Ok(found)
    }

    fn history_min(&self) -> u64 {
        // Nothing can be served by a store that can't be read; the next write says so.
        self.store.whole_from().unwrap_or(u64::MAX)
    }

    fn has_work(&self) -> bool {
        self.tip.recovery.is_some()
            || self.mempool.has_work(&self.tip)
            || self.committed_at.elapsed() >= self.heartbeat
    }

    fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }
}
