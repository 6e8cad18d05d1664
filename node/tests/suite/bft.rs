//! Four Malachite engines in this process, on free loopback ports, over a replica that lives in memory: its store stands
//! for the disk and outlives the engine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use assent_ledger::block::header_hash;
use assent_ledger::certificate::verify_certificate;
use assent_ledger::Hash;
use assent_node::bft::lie::{Bad, Lie};
use assent_node::bft::{self, BftConfig, BftHandle, Timeouts};
use assent_node::order::{Candidate, Fatal, Replica, Verdict};
use assent_proto::ledger::v1::{Block, Certificate, Header, ReportEvidence, Validator, ValidatorSet};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use prost::Message;
use tokio::sync::{mpsc, Notify};
use tokio_util::sync::CancellationToken;

pub const CHAIN: &str = "bft-test";

#[derive(Default)]
struct Disk {
    decided: Vec<(Certificate, Bytes)>,
    undecided: BTreeMap<(u64, u32, Hash), Candidate>,
    built: BTreeMap<(u64, u32), Hash>,
}

/// Blocks without content: work is "the tip is below the target".
struct Memory {
    disk: Arc<Mutex<Disk>>,
    target: Arc<AtomicU64>,
    wake: Arc<Notify>,
    set: ValidatorSet,
    me: Hash,
    /// Bytes added to a block, so that it takes several parts.
    padding: usize,
    /// Builds blocks on a parent that isn't.
    faulty: bool,
}

impl Memory {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    fn tip_hash(&self) -> Hash {
        self.disk().decided.last().map_or([0; 32], |(c, _)| c.header_hash.as_slice().try_into().unwrap())
    }
}

impl Replica for Memory {
    fn chain_id(&self) -> String {
        CHAIN.into()
    }
    fn tip(&self) -> u64 {
        self.disk().decided.len() as u64
    }
    fn proposers(&self) -> Vec<Hash> {
        self.set.validators.iter().map(|v| v.vote_key.clone().try_into().unwrap()).collect()
    }
    fn validators(&self) -> ValidatorSet {
        self.set.clone()
    }

    fn build(&mut self, height: u64, round: u32) -> Result<Candidate, Fatal> {
        assert_eq!(height, self.tip() + 1);
        let stored = self.disk().built.get(&(height, round)).copied();
        if let Some(hash) = stored {
            return Ok(self.disk().undecided[&(height, round, hash)].clone());
        }
        let header = Header {
            protocol_version: 1,
            chain_id: CHAIN.into(),
            height,
            previous_header_hash: if self.faulty { vec![9; 32] } else { self.tip_hash().to_vec() },
            proposer: self.me.to_vec(),
            round,
            ..Header::default()
        };
        let header = header.encode_to_vec();
        let hash = header_hash(CHAIN, &header);
        let block = Block { header, previous_certificate: vec![], entries: vec![vec![7; self.padding]] };
        let bytes = Bytes::from(block.encode_to_vec());
        let candidate = Candidate { height, round, pol_round: None, proposer: self.me, hash, bytes };
        let mut disk = self.disk();
        disk.built.insert((height, round), hash);
        disk.undecided.insert((height, round, hash), candidate.clone());
        Ok(candidate)
    }

    fn validate(&mut self, c: &Candidate, fresh: bool) -> Result<Verdict, Fatal> {
        let invalid = |reason: &str| Ok(Verdict::Invalid(reason.into()));
        let Ok(block) = Block::decode(c.bytes.clone()) else {
            return invalid("block");
        };
        let Ok(header) = Header::decode(block.header.as_slice()) else {
            return invalid("header");
        };
        let hash = header_hash(CHAIN, &block.header);
        if header.height != self.tip() + 1 || header.previous_header_hash != self.tip_hash() {
            return invalid("parent");
        }
        if hash != c.hash
            || bft::proposer(&self.set, c.height, header.round).map(|p| p.to_vec()) != Some(header.proposer)
        {
            return invalid("proposer");
        }
        match c.pol_round {
            None if header.round != c.round => return invalid("round"),
            Some(pol) if header.round > pol => return invalid("round above the proof of lock"),
            _ => {}
        }
        // Blocks of these tests have no time; only a liar's have one.
        if fresh && header.time_ms > 0 {
            return invalid("time");
        }
        self.disk().undecided.insert((c.height, c.round, hash), c.clone());
        Ok(Verdict::Valid(hash))
    }

    fn undecided(&self, height: u64, round: u32) -> Result<Vec<Candidate>, Fatal> {
        let disk = self.disk();
        Ok(disk
            .undecided
            .range((height, round, [0; 32])..=(height, round, [255; 32]))
            .map(|(_, c)| c.clone())
            .collect())
    }

    fn undecided_by_hash(&self, height: u64, hash: &Hash) -> Result<Option<Candidate>, Fatal> {
        Ok(self.disk().undecided.values().find(|c| c.height == height && c.hash == *hash).cloned())
    }

    fn commit(&mut self, certificate: Certificate) -> Result<(), Fatal> {
        let height = self.tip() + 1;
        let hash: Hash = certificate.header_hash.as_slice().try_into().unwrap();
        verify_certificate(CHAIN, &self.set, height, &hash, &certificate)
            .map_err(|e| Fatal::Corrupt(e.to_string()))?;
        let Some(block) = self.undecided_by_hash(height, &hash)? else {
            return Err(Fatal::Corrupt(format!("no bytes of the decided block {height}")));
        };
        let mut disk = self.disk();
        disk.decided.push((certificate, block.bytes));
        disk.undecided.clear();
        disk.built.clear();
        Ok(())
    }

    fn decided(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<(Certificate, Bytes)>, Fatal> {
        let disk = self.disk();
        assert!(
            1 <= from && from <= to && to <= disk.decided.len() as u64 && to - from < 20,
            "{from}..={to}"
        );
        let mut bytes = 0;
        let blocks = disk.decided[from as usize - 1..to as usize].iter();
        Ok(blocks.take_while(|(_, b)| (bytes += b.len(), bytes <= max_bytes).1).cloned().collect())
    }
    fn history_min(&self) -> u64 {
        1
    }
    fn has_work(&self) -> bool {
        self.tip() < self.target.load(Ordering::SeqCst)
    }
    fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }
}

/// One hospital: what outlives its engine, and the engine.
struct Node {
    index: usize,
    disk: Arc<Mutex<Disk>>,
    target: Arc<AtomicU64>,
    wake: Arc<Notify>,
    running: Option<(BftHandle, CancellationToken)>,
}

pub struct Net {
    home: tempfile::TempDir,
    keys: Vec<SigningKey>,
    set: ValidatorSet,
    pub ports: Vec<u16>,
    nodes: Vec<Node>,
    padding: usize,
    faulty: Option<usize>,
    /// Where each one's evidence goes.
    pub evidence: [Option<mpsc::Sender<ReportEvidence>>; 4],
    liar: Option<(usize, Lie)>,
}

impl Net {
    pub fn new(padding: usize) -> Self {
        // RUST_LOG shows what the engines do.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let mut keys: Vec<SigningKey> = (1..=4).map(|i| SigningKey::from_bytes(&[i; 32])).collect();
        keys.sort_by_key(|k| k.verifying_key().to_bytes());
        let validators = keys.iter().enumerate().map(|(i, k)| Validator {
            organization: format!("org-{i}"),
            vote_key: k.verifying_key().to_bytes().to_vec(),
            power: 1,
        });
        let set = ValidatorSet { validators: validators.collect(), ..Default::default() };
        // All bound at once, so that they differ.
        let listeners: Vec<_> =
            keys.iter().map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        let nodes = (0..keys.len())
            .map(|index| Node {
                index,
                disk: Arc::default(),
                target: Arc::default(),
                wake: Arc::default(),
                running: None,
            })
            .collect();
        Self {
            home: tempfile::tempdir().unwrap(),
            keys,
            set,
            ports,
            nodes,
            padding,
            faulty: None,
            evidence: Default::default(),
            liar: None,
        }
    }

    pub fn key(&self, index: usize) -> SigningKey {
        self.keys[index].clone()
    }

    pub fn secret(index: usize) -> [u8; 32] {
        [100 + index as u8; 32]
    }

    pub async fn start(&mut self, index: usize) {
        let peer =
            |i: usize| format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", self.ports[i], bft::peer_id(&Self::secret(i)));
        let home = self.home.path().join(format!("node-{index}"));
        std::fs::create_dir_all(&home).unwrap();
        let config = BftConfig {
            home,
            chain_id: CHAIN.into(),
            vote_key: self.keys[index].clone(),
            consensus_peer_secret: Self::secret(index),
            listen: format!("/ip4/127.0.0.1/tcp/{}", self.ports[index]),
            persistent_peers: (0..self.keys.len()).filter(|i| *i != index).map(peer).collect(),
            moniker: format!("org-{index}"),
            timeouts: Timeouts::default(),
            wiring: None,
            guard: None,
            evidence: self.evidence[index].clone(),
            lie: self.liar.filter(|(liar, _)| *liar == index).map(|(_, lie)| lie),
        };
        let node = &self.nodes[index];
        let replica = Memory {
            disk: node.disk.clone(),
            target: node.target.clone(),
            wake: node.wake.clone(),
            set: self.set.clone(),
            me: self.keys[index].verifying_key().to_bytes(),
            padding: self.padding,
            faulty: self.faulty == Some(index),
        };
        let shutdown = CancellationToken::new();
        let handle = bft::start(config, replica, shutdown.clone()).await.unwrap();
        self.nodes[index].running = Some((handle, shutdown));
    }

    pub async fn stop(&mut self, index: usize) {
        let (handle, shutdown) = self.nodes[index].running.take().unwrap();
        shutdown.cancel();
        let start = Instant::now();
        handle.wait().await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "{:?} to stop", start.elapsed());
    }

    fn tips(&self) -> Vec<u64> {
        self.nodes.iter().map(|n| n.disk.lock().unwrap().decided.len() as u64).collect()
    }

    pub fn highest(&self) -> u64 {
        self.tips().into_iter().max().unwrap()
    }

    /// Work for everybody up to a height.
    pub fn work_until(&self, height: u64) {
        for node in &self.nodes {
            node.target.store(height, Ordering::SeqCst);
            node.wake.notify_one();
        }
    }

    pub async fn reached(&self, who: &[usize], height: u64) {
        let start = Instant::now();
        while who.iter().any(|i| self.tips()[*i] < height) {
            assert!(start.elapsed() < Duration::from_secs(60), "stuck at {:?} before {height}", self.tips());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        eprintln!("{who:?} reached {height} after {:?}", start.elapsed());
    }

    pub fn assert_same_chain(&self) {
        let chains: Vec<Vec<Vec<u8>>> = self
            .nodes
            .iter()
            .map(|n| n.disk.lock().unwrap().decided.iter().map(|(c, _)| c.header_hash.clone()).collect())
            .collect();
        for chain in &chains {
            let common = chain.len().min(chains[0].len());
            assert_eq!(chain[..common], chains[0][..common]);
        }
    }

    /// Whether `index` signed a certificate of a height above `height`, on any node.
    fn signed_above(&self, index: usize, height: u64) -> bool {
        let address = self.keys[index].verifying_key().to_bytes();
        let signed = |c: &Certificate| c.height > height && c.signatures.iter().any(|s| s.address == address);
        self.nodes.iter().any(|n| n.disk.lock().unwrap().decided.iter().any(|(c, _)| signed(c)))
    }
}

const ALL: [usize; 4] = [0, 1, 2, 3];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_engines_agree_idle_and_take_one_back() {
    let mut net = Net::new(0);
    for index in ALL {
        net.start(index).await;
    }
    net.work_until(50);
    net.reached(&ALL, 50).await;
    net.assert_same_chain();

    // No work: no blocks. (The last heights may still be under way.)
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let before = net.tips();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(net.tips(), before, "blocks were made without work");
    assert!(net.highest() <= 52, "too many empty blocks: {:?}", net.tips());
    for node in &net.nodes {
        let status = *node.running.as_ref().unwrap().0.status().borrow();
        assert!(status.idle && status.last_progress.elapsed() < Duration::from_secs(1), "{status:?}");
    }

    // One stops; the others go on.
    net.stop(3).await;
    let stopped_at = net.tips()[3];
    let target = net.highest() + 20;
    net.work_until(target);
    net.reached(&[0, 1, 2], target).await;
    assert_eq!(net.tips()[3], stopped_at);

    // It starts again while nothing happens, and catches up.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let present = net.tips()[0];
    net.nodes[3].target.store(0, Ordering::SeqCst);
    let start = Instant::now();
    net.start(3).await;
    net.reached(&[3], present).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?} to catch up", start.elapsed());

    // Its precommit stands in a certificate made after that.
    let restarted_at = net.highest();
    let mut target = restarted_at;
    while !net.signed_above(3, restarted_at) {
        target += 5;
        assert!(target < restarted_at + 100, "the restarted node does not vote");
        net.work_until(target);
        net.reached(&ALL, target).await;
    }
    net.assert_same_chain();

    // Everything stops in order, and its ports are free.
    for index in ALL {
        net.stop(index).await;
    }
    for (node, port) in net.nodes.iter().zip(&net.ports) {
        std::net::TcpListener::bind(("127.0.0.1", *port))
            .unwrap_or_else(|e| panic!("node {}: {e}", node.index));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn blocks_of_several_parts_and_a_wake_by_one_node() {
    let mut net = Net::new(1024 * 1024);
    for index in ALL {
        net.start(index).await;
    }
    net.work_until(5);
    net.reached(&ALL, 5).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;

    // Only one node knows of work, and it need not be the proposer.
    let next = net.highest() + 1;
    net.nodes[2].target.store(next, Ordering::SeqCst);
    net.nodes[2].wake.notify_one();
    net.reached(&ALL, next).await;
    net.assert_same_chain();

    // A node that starts late gets blocks of a megabyte in answers of several.
    net.stop(0).await;
    net.nodes[0].target.store(0, Ordering::SeqCst);
    net.nodes[0].disk.lock().unwrap().decided.clear();
    std::fs::remove_dir_all(net.home.path().join("node-0")).unwrap();
    net.start(0).await;
    net.reached(&[0], next).await;
    net.assert_same_chain();
    for index in ALL {
        net.stop(index).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_invalid_proposal_costs_a_round_and_no_more() {
    let mut net = Net::new(0);
    net.faulty = Some(1);
    for index in ALL {
        net.start(index).await;
    }
    net.work_until(12);
    net.reached(&ALL, 12).await;
    net.assert_same_chain();
    let faulty = net.keys[1].verifying_key().to_bytes();
    let decided = net.nodes[0].disk.lock().unwrap().decided.clone();
    for (certificate, bytes) in &decided {
        let header = Block::decode(bytes.clone()).unwrap().header;
        let header = Header::decode(header.as_slice()).unwrap();
        assert_ne!(header.proposer, faulty);
        let turn = bft::proposer(&net.set, certificate.height, 0).unwrap();
        assert!(turn != faulty || certificate.round > 0, "height {}", certificate.height);
    }
    for index in ALL {
        net.stop(index).await;
    }
}

/// A liar may publish its block as one of another round, or as proposed again: what stands in its parts is not what its proposal says.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_proposer_that_lies_about_its_round_gains_nothing() {
    for bad in [Bad::Round, Bad::FutureAgain] {
        let mut net = Net::new(0);
        net.liar = Some((1, Lie::BadBlock(bad)));
        for index in ALL {
            net.start(index).await;
        }
        net.work_until(12);
        net.reached(&[0, 2, 3], 12).await;
        net.assert_same_chain();
        let liar = net.keys[1].verifying_key().to_bytes();
        let decided = net.nodes[0].disk.lock().unwrap().decided.clone();
        for (certificate, bytes) in &decided {
            let header = Block::decode(bytes.clone()).unwrap().header;
            let header = Header::decode(header.as_slice()).unwrap();
            let at = format!("{bad:?}: height {}, round {}", certificate.height, certificate.round);
            assert_eq!(header.round, certificate.round, "{at}: a false round was decided");
            assert_eq!(header.time_ms, 0, "{at}: a time ahead of all clocks was decided");
            assert_ne!(header.proposer, liar, "{at}");
        }
        for index in ALL {
            net.stop(index).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_said() {
    let mut net = Net::new(0);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    net.ports[0] = taken.local_addr().unwrap().port();
    let node = &net.nodes[0];
    let replica = Memory {
        disk: node.disk.clone(),
        target: node.target.clone(),
        wake: node.wake.clone(),
        set: net.set.clone(),
        me: net.keys[0].verifying_key().to_bytes(),
        padding: 0,
        faulty: false,
    };
    let config = BftConfig {
        home: net.home.path().into(),
        chain_id: CHAIN.into(),
        vote_key: net.keys[0].clone(),
        consensus_peer_secret: Net::secret(0),
        listen: format!("/ip4/127.0.0.1/tcp/{}", net.ports[0]),
        persistent_peers: vec![],
        moniker: "org-0".into(),
        timeouts: Timeouts::default(),
        wiring: None,
        guard: None,
        evidence: None,
        lie: None,
    };
    let error = bft::start(config, replica, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("cannot listen on /ip4/127.0.0.1/tcp/") && error.contains("in use"), "{error}");
}
