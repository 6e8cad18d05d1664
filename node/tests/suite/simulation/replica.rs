//! One simulated validator: a real store, mempool and replica under a simulated engine, and what of it outlives a crash.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_ledger::membership::membership;
use assent_ledger::Hash;
use assent_node::chain::replica::Outcome;
use assent_node::chain::{Clock, LedgerReplica, Mempool, Store};
use assent_node::order::{Candidate, Fatal, Replica, Verdict};
use assent_proto::ledger::v1::{Certificate, Membership, ValidatorSet};
use bytes::Bytes;
use tokio::sync::{mpsc, Notify};

use super::consortium::{Consortium, CHAIN};
use super::engine::{Engine, Wal};
use super::Bug;

/// Small, so that a store opens in milliseconds.
const WRITE_BUFFER_BYTES: usize = 256 << 10;
/// Heartbeats are the engine's, in virtual time.
const NEVER: Duration = Duration::from_secs(1 << 32);
/// What a burnt fuse says.
const CRASH: &str = "simulated crash";

/// The replica, which breaks off at a boundary of its calls, before or after the write, when its fuse has burnt down.
pub struct Fused {
    inner: LedgerReplica,
    fuse: Arc<AtomicU32>,
    store: Store,
    named: Named,
}

/// The members after each height that a validator committed, until the world looks at them.
type Named = Arc<Mutex<Vec<(u64, Membership)>>>;

impl Fused {
    fn burn(&self) -> Result<(), Fatal> {
        let left = self.fuse.load(Ordering::Relaxed);
        self.fuse.store(left.saturating_sub(1), Ordering::Relaxed);
        match left {
            1 => Err(Fatal::Engine(CRASH.into())),
            _ => Ok(()),
        }
    }
}

impl Replica for Fused {
    fn chain_id(&self) -> String {
        self.inner.chain_id()
    }
    fn tip(&self) -> u64 {
        self.inner.tip()
    }
    fn validators(&self) -> ValidatorSet {
        self.inner.validators()
    }
    fn proposers(&self) -> Vec<Hash> {
        self.inner.proposers()
    }
    fn build(&mut self, height: u64, round: u32) -> Result<Candidate, Fatal> {
        self.burn()?;
        let built = self.inner.build(height, round)?;
        self.burn().map(|()| built)
    }
    fn validate(&mut self, candidate: &Candidate, fresh: bool) -> Result<Verdict, Fatal> {
        self.burn()?;
        let verdict = self.inner.validate(candidate, fresh)?;
        self.burn().map(|()| verdict)
    }
    fn undecided(&self, height: u64, round: u32) -> Result<Vec<Candidate>, Fatal> {
        self.inner.undecided(height, round)
    }
    fn undecided_by_hash(&self, height: u64, hash: &Hash) -> Result<Option<Candidate>, Fatal> {
        self.inner.undecided_by_hash(height, hash)
    }
    fn commit(&mut self, certificate: Certificate) -> Result<(), Fatal> {
        self.burn()?;
        self.inner.commit(certificate)?;
        let members = membership(&self.store.view()?, CHAIN).map_err(|e| Fatal::Corrupt(e.to_string()))?;
        self.named.lock().expect("one thread").push((self.tip(), members));
        self.burn()
    }
    fn decided(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<(Certificate, Bytes)>, Fatal> {
        self.inner.decided(from, to, max_bytes)
    }
    fn history_min(&self) -> u64 {
        self.inner.history_min()
    }
    fn has_work(&self) -> bool {
        self.inner.has_work()
    }
    fn wake(&self) -> Arc<Notify> {
        self.inner.wake()
    }
}

/// A validator that runs.
pub struct Running {
    pub engine: Engine<Fused>,
    pub store: Store,
    pub mempool: Mempool,
    pub outcomes: mpsc::UnboundedReceiver<Outcome>,
    /// Entries of its clients, sent again while they wait.
    pub resend: Vec<(Hash, Rc<Vec<u8>>)>,
    fuse: Arc<AtomicU32>,
}

/// One of them, running or not.
pub struct Validator {
    pub me: usize,
    /// Told apart from its lives before.
    pub life: u32,
    pub running: Option<Running>,
    skew_ms: i64,
    dir: PathBuf,
    wal: Rc<RefCell<Wal>>,
    clock: Arc<AtomicU64>,
    named: Named,
}

impl Validator {
    pub fn new(me: usize, skew_ms: i64, dir: PathBuf) -> Self {
        let (wal, clock, named) = (Rc::default(), Arc::default(), Arc::default());
        Self { me, life: 0, running: None, skew_ms, dir, wal, clock, named }
    }

    /// The members after the heights that it has committed since this was last asked.
    pub fn take_named(&self) -> Vec<(u64, Membership)> {
        std::mem::take(&mut *self.named.lock().expect("one thread"))
    }

    /// Its wall clock shows the time from here on.
    pub fn set_clock(&self, consortium: &Consortium, now: u64) -> u64 {
        let time_ms = (consortium.genesis.time_ms + now).saturating_add_signed(self.skew_ms);
        self.clock.store(time_ms, Ordering::Relaxed);
        time_ms
    }

    /// Opens what is on disk.
    pub fn start(&mut self, consortium: &Consortium, bug: Bug, now: u64) -> Result<(), Fatal> {
        self.set_clock(consortium, now);
        let (file, genesis) = (&consortium.genesis_file, &consortium.genesis);
        let store = Store::open_sized(&self.dir, file, genesis, WRITE_BUFFER_BYTES)?;
        let wake = Arc::new(Notify::new());
        let mempool = Mempool::with_clock(wake.clone(), Clock::simulated(self.clock.clone()));
        let organization = consortium.names[self.me].clone();
        let address = consortium.new_key(self.me, "vote", 0);
        let (inner, _, outcomes) =
            LedgerReplica::new(store.clone(), mempool.clone(), organization.clone(), address, NEVER, wake)?;
        let fuse = Arc::new(AtomicU32::new(0));
        let replica = Fused { inner, fuse: fuse.clone(), store: store.clone(), named: self.named.clone() };
        let signer = consortium.signer.clone();
        let engine = Engine::new(replica, signer, organization, bug, self.wal.clone(), now)?;
        self.life += 1;
        self.running = Some(Running { engine, store, mempool, outcomes, resend: Vec::new(), fuse });
        Ok(())
    }

    /// What is in memory is gone.
    pub fn crash(&mut self) {
        self.running = None;
    }

    /// It will crash at this boundary of its replica's calls, counted from 1.
    pub fn light_fuse(&self, boundary: u32) {
        if let Some(running) = &self.running {
            running.fuse.store(boundary, Ordering::Relaxed);
        }
    }
}

/// True for the end of a fuse, which is no failure.
pub fn is_crash(fatal: &Fatal) -> bool {
    matches!(fatal, Fatal::Engine(text) if text == CRASH)
}
