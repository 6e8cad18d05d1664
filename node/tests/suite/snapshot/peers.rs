//! Peers that lie while they send: refused with the reason, and the next one is tried.

use std::future::Future;

use assent_ledger::hash::sha256;
use assent_node::bft::memory::Files;
use assent_node::health::Joining;
use assent_node::peers::{start, Inbound, KnownPeer, PeerStream, Peers, PeersConfig, Protocol};
use assent_node::snapshot::join::{install, Join, Outcome};
use assent_node::snapshot::serve::SnapshotServer;
use assent_node::snapshot::{Ask, Manifest};
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::net::NAMES;

/// A block higher than the honest one has: the liar is asked first.
const CLAIMED: u64 = BLOCKS + 1;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    WrongRoot,
    ChunkHash,
    MissingChunk,
    ShortChunk,
    LongChunk,
    Endless,
    HugeManifest,
    TooFewHashes,
    NoManifest,
    Stale,
    OtherChain,
    NewerFormat,
    OtherHeight,
}

const LIES: [(Lie, &str); 13] = [
    (Lie::WrongRoot, "state-root: "),
    (Lie::ChunkHash, "chunk-hash: chunk 0 of 1 "),
    (Lie::MissingChunk, "short: it ends before chunk 0 of 1"),
    (Lie::ShortChunk, "short: chunk 0 of 1 has "),
    (Lie::LongChunk, "oversized: chunk 0 of 1 has 1048577 bytes"),
    (Lie::Endless, "endless: "),
    (Lie::HugeManifest, "oversized: 18446744073709551615 bytes"),
    (Lie::TooFewHashes, "malformed: "),
    (Lie::NoManifest, "malformed: its manifest does not decode"),
    (Lie::Stale, "stale: it is of block 3, this node has block 3"),
    (Lie::OtherChain, "other-chain: "),
    (Lie::NewerFormat, "newer-format: it is of format 2, this node reads up to 1"),
    (Lie::OtherHeight, "tip: it is of block 12, its manifest says 13"),
];

/// Sends what an honest one would, but for one thing.
async fn lie(lie: Lie, ledger: Vec<u8>, genesis_hash: Hash, mut stream: PeerStream) {
    let ask = stream.recv(1024).await.unwrap().unwrap();
    let mut bytes = ledger;
    if lie == Lie::WrongRoot {
        *bytes.last_mut().unwrap() ^= 1;
    }
    let mut manifest = Manifest {
        format: 1,
        genesis_hash: genesis_hash.to_vec(),
        height: if lie == Lie::OtherHeight { CLAIMED } else { BLOCKS },
        whole_from: 1,
        bytes: bytes.len() as u64,
        hashes: sha256(&bytes).to_vec(),
        refusal: String::new(),
    };
    if !Ask::decode(ask.as_slice()).unwrap().send {
        let offer = Manifest { height: CLAIMED, bytes: 0, hashes: Vec::new(), ..manifest };
        let _ = stream.send(&offer.encode_to_vec()).await;
        let _ = stream.close().await;
        return;
    }
    match lie {
        Lie::HugeManifest => manifest.bytes = u64::MAX,
        Lie::TooFewHashes => manifest.bytes = CHUNK_BYTES as u64 + 1,
        Lie::Stale => manifest.height = 3,
        Lie::OtherChain => manifest.genesis_hash = vec![9; 32],
        Lie::NewerFormat => manifest.format = 2,
        Lie::ShortChunk => drop(bytes.pop()),
        Lie::ChunkHash => bytes[20] ^= 1,
        Lie::LongChunk => bytes.resize(CHUNK_BYTES + 1, 0),
        _ => {}
    }
    let manifest = manifest.encode_to_vec();
    let _ = stream.send(if lie == Lie::NoManifest { &[0xff; 9] } else { manifest.as_slice() }).await;
    if lie != Lie::MissingChunk {
        let _ = stream.send(&bytes).await;
    }
    while lie == Lie::Endless && stream.send(&bytes).await.is_ok() {}
    let _ = stream.close().await;
}

struct Swarm {
    peers: Peers,
    inbound: Option<mpsc::Receiver<Inbound>>,
}

/// A swarm of each of the four, who know each other; the first listen, Elm dials.
async fn swarms(shutdown: &CancellationToken) -> Vec<Swarm> {
    let secret = |n: usize| [n as u8 + 1; 32];
    let peer_id = |n: usize| assent_node::bft::peer_id(&secret(n));
    let mut swarms: Vec<Swarm> = Vec::new();
    for (n, name) in NAMES.iter().enumerate() {
        let known = NAMES.iter().enumerate().filter(|(other, _)| *other != n);
        let known = known.map(|(other, organization)| KnownPeer {
            organization: (*organization).into(),
            peer_id: peer_id(other),
            address: swarms.get(other).map_or_else(String::new, |swarm| swarm.peers.listening().into()),
        });
        let config = PeersConfig {
            secret: secret(n),
            listen: "/ip4/127.0.0.1/tcp/0".into(),
            organization: (*name).into(),
            known: known.collect(),
        };
        let (peers, inbound) = start(config, shutdown.clone()).await.unwrap();
        swarms.push(Swarm { peers, inbound: Some(inbound) });
    }
    let mut connected = swarms[3].peers.subscribe_connected();
    connected.wait_for(|now| now.len() == 3).await.unwrap();
    swarms
}

/// Answers each snapshot stream of a swarm.
fn answer<F: Future<Output = ()> + Send + 'static>(
    swarm: &mut Swarm,
    each: impl Fn(String, PeerStream) -> F + Send + 'static,
) {
    let mut inbound = swarm.inbound.take().unwrap();
    tokio::spawn(async move {
        while let Some(Inbound { organization, protocol, stream }) = inbound.recv().await {
            assert_eq!(protocol, Protocol::Snapshot);
            tokio::spawn(each(organization, stream));
        }
    });
}

/// Elm, about to join.
struct Elm {
    folder: tempfile::TempDir,
    store: Store,
    genesis_file: Vec<u8>,
    memory: Files,
    joining: Joining,
}

impl Elm {
    fn new(ledger: &Ledger) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = &ledger.net.members[3].dir;
        let memory = Files::new(folder.path().join("never-voted"), folder.path().join("consensus"));
        std::fs::write(folder.path().join("never-voted"), "").unwrap();
        let genesis_file = std::fs::read(dir.join("genesis.bin")).unwrap();
        let store = Store::open(&folder.path().join("ledger"), &genesis_file, &ledger.net.genesis).unwrap();
        Self { store, genesis_file, memory, joining: Joining::default(), folder }
    }

    fn join<'a>(&'a self, ledger: &'a Ledger, peers: &'a Peers, now_ms: u64) -> Join<'a> {
        Join {
            data_dir: self.folder.path(),
            genesis: &ledger.net.genesis,
            genesis_file: &self.genesis_file,
            own: "elm",
            handles: &[],
            accepted: Default::default(),
            store: &self.store,
            peers,
            lag_heights: 5,
            memory: &self.memory,
            joining: &self.joining,
            now_ms,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_lie_is_refused_with_its_reason_and_nothing_is_left_behind() {
    let ledger = ledger();
    let shutdown = CancellationToken::new();
    let _guard = shutdown.clone().drop_guard();
    let mut swarms = swarms(&shutdown).await;
    let (sender, lies) = tokio::sync::watch::channel(Lie::WrongRoot);
    let (bytes, hash) = (snapshot(&ledger.store, "elm"), ledger.net.genesis.hash);
    answer(&mut swarms[0], move |_, stream| lie(*lies.borrow(), bytes.clone(), hash, stream));
    let elm = Elm::new(&ledger);
    let join = elm.join(&ledger, &swarms[3].peers, u64::MAX);
    for (lie, says) in LIES {
        sender.send_replace(lie);
        let tip = if lie == Lie::Stale { 3 } else { 0 };
        let said = match join.from_peer("birch", tip).await {
            Err(ImportError::Refused(refused)) => refused.to_string(),
            other => panic!("{lie:?}: {other:?}"),
        };
        assert!(said.starts_with(says), "{lie:?}: {said}");
        let left: Vec<_> =
            std::fs::read_dir(elm.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{lie:?}: {left:?}");
    }
    assert_eq!(elm.store.tip().unwrap().height, 0);
    // Nobody answers at all.
    let refused = join.from_peer("nobody", 0).await.unwrap_err().to_string();
    assert!(refused.starts_with("unreachable: "), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_two_liars_the_third_peer_s_snapshot_is_taken() {
    let ledger = ledger();
    let shutdown = CancellationToken::new();
    let _guard = shutdown.clone().drop_guard();
    let mut swarms = swarms(&shutdown).await;
    let (bytes, hash) = (snapshot(&ledger.store, "elm"), ledger.net.genesis.hash);
    for (n, kind) in [(0, Lie::WrongRoot), (1, Lie::Endless)] {
        let bytes = bytes.clone();
        answer(&mut swarms[n], move |_, stream| lie(kind, bytes.clone(), hash, stream));
    }
    let server = SnapshotServer::new(ledger.store.clone(), hash);
    answer(&mut swarms[2], move |peer, stream| server.clone().serve(peer, stream));
    let Elm { folder, store, genesis_file, memory, joining } = {
        let elm = Elm::new(&ledger);
        // Its newest block is too young for it to be far behind: nobody is asked.
        let time_ms = elm.store.tip().unwrap().time_ms;
        let join = |now_ms| elm.join(&ledger, &swarms[3].peers, now_ms);
        assert_eq!(join(time_ms + 1_000).run().await.unwrap(), Outcome::NotDue);
        assert_eq!(join(time_ms + 60_000).run().await.unwrap(), Outcome::Joined);
        elm
    };
    let (said, height, target) = joining.said();
    assert!(said.starts_with("snapshot of block 12 from dogwood: "), "{said}");
    assert_eq!((height, target), (BLOCKS, BLOCKS));
    drop(store);
    install(folder.path()).unwrap();
    let joined = Store::open(&folder.path().join("ledger"), &genesis_file, &ledger.net.genesis).unwrap();
    assert_eq!(joined.tip().unwrap().header_hash, ledger.store.tip().unwrap().header_hash);
    // It never voted, and the later ledger does not make it doubt that.
    assert!(!folder.path().join("never-voted").exists());
    let recalled = memory.recall(BLOCKS, true).unwrap();
    assert_eq!(recalled, assent_node::bft::memory::Memory::Kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_of_another_chain_is_not_sent() {
    let ledger = ledger();
    let shutdown = CancellationToken::new();
    let _guard = shutdown.clone().drop_guard();
    let mut swarms = swarms(&shutdown).await;
    let server = SnapshotServer::new(ledger.store.clone(), ledger.net.genesis.hash);
    answer(&mut swarms[0], move |peer, stream| server.clone().serve(peer, stream));
    let ask = |genesis_hash: Hash| Ask { format: 1, genesis_hash: genesis_hash.to_vec(), send: true };
    let first = |peers: Peers, ask: Ask| async move {
        let mut stream = peers.open("birch", Protocol::Snapshot).await.unwrap();
        stream.send(&ask.encode_to_vec()).await.unwrap();
        let frame = stream.recv(1 << 20).await.unwrap().unwrap();
        (Manifest::decode(frame.as_slice()).unwrap().refusal, stream)
    };
    let genesis_hash = ledger.net.genesis.hash;
    let (refusal, _held) = first(swarms[3].peers.clone(), ask(genesis_hash)).await;
    assert_eq!(refusal, "");
    let (refusal, _) = first(swarms[3].peers.clone(), ask([9; 32])).await;
    assert_eq!(refusal, "another chain");
}
