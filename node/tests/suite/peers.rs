//! The peers' swarm: who may talk, how much, and how it comes back. Strangers and misbehaving peers are plain libp2p swarms
//! with libp2p-stream, which share no code with ours.

use std::time::Duration;

use assent_node::peers::{
    start, Inbound, KnownPeer, PeerStream, Peers, PeersConfig, PeersError, Protocol,
    MAX_CONNECTIONS_PER_PEER, MAX_INBOUND_STREAMS, MAX_OUTBOUND_STREAMS, MAX_STRANGERS,
};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{identify, noise, ping, tcp, yamux, Multiaddr, PeerId, StreamProtocol, SwarmBuilder};
use libp2p_stream::{Control, OpenStreamError};
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout, Instant};
use tokio_util::sync::CancellationToken;

const CEDAR: [u8; 32] = [1; 32];
const BIRCH: [u8; 32] = [2; 32];
const STRANGER: [u8; 32] = [9; 32];
const ANY: &str = "/ip4/127.0.0.1/tcp/0";
const LIMIT: Duration = Duration::from_secs(20);

fn peer_id(secret: [u8; 32]) -> PeerId {
    Keypair::ed25519_from_bytes(secret).unwrap().public().to_peer_id()
}

fn known(organization: &str, secret: [u8; 32], address: &str) -> KnownPeer {
    KnownPeer {
        organization: organization.into(),
        peer_id: peer_id(secret).to_string(),
        address: address.into(),
    }
}

struct Node {
    peers: Peers,
    inbound: mpsc::Receiver<Inbound>,
    shutdown: CancellationToken,
}

impl Node {
    async fn stop(self) {
        self.shutdown.cancel();
        timeout(LIMIT, self.peers.wait_stopped()).await.unwrap();
    }

    async fn next(&mut self) -> Inbound {
        timeout(LIMIT, self.inbound.recv()).await.unwrap().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn node(organization: &str, secret: [u8; 32], listen: &str, known: Vec<KnownPeer>) -> Node {
    let config = PeersConfig { secret, listen: listen.into(), organization: organization.into(), known };
    let shutdown = CancellationToken::new();
    let (peers, inbound) = start(config, shutdown.clone()).await.unwrap();
    Node { peers, inbound, shutdown }
}

async fn connected(peers: &Peers, organizations: &[&str]) {
    let mut watch = peers.subscribe_connected();
    timeout(LIMIT, watch.wait_for(|now| now == organizations)).await.unwrap().unwrap();
}

/// Cedar listens and waits; Birch dials.
async fn pair() -> (Node, Node) {
    let cedar = node("cedar", CEDAR, ANY, vec![known("birch", BIRCH, "")]).await;
    let birch = node("birch", BIRCH, ANY, vec![known("cedar", CEDAR, cedar.peers.listening())]).await;
    connected(&cedar.peers, &["birch"]).await;
    connected(&birch.peers, &["cedar"]).await;
    (cedar, birch)
}

async fn stream_pair() -> (Node, Node, PeerStream, PeerStream) {
    let (mut cedar, birch) = pair().await;
    let ours = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
    let theirs = cedar.next().await.stream;
    (cedar, birch, ours, theirs)
}

#[derive(NetworkBehaviour)]
struct Plain {
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    stream: libp2p_stream::Behaviour,
}

/// What a plain swarm saw.
#[derive(Debug, PartialEq)]
enum Saw {
    Connected,
    Pinged,
    Identified(Vec<String>, Vec<Multiaddr>),
    Closed,
}

struct PlainNode {
    control: Control,
    saw: mpsc::Receiver<Saw>,
    task: JoinHandle<()>,
}

impl Drop for PlainNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A swarm that is not ours, dialing `address`.
async fn plain(secret: [u8; 32], address: &str) -> Result<PlainNode, ()> {
    let key = Keypair::ed25519_from_bytes(secret).unwrap();
    let mut swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| Plain {
            ping: ping::Behaviour::new(ping::Config::new()),
            identify: identify::Behaviour::new(identify::Config::new("/plain/1".into(), key.public())),
            stream: libp2p_stream::Behaviour::new(),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(LIMIT))
        .build();
    swarm.dial(address.parse::<Multiaddr>().unwrap()).unwrap();
    let control = swarm.behaviour().stream.new_control();
    let (sender, saw) = mpsc::channel(100);
    let task = tokio::spawn(async move {
        loop {
            let seen = match swarm.select_next_some().await {
                SwarmEvent::Behaviour(PlainEvent::Ping(ping::Event { result: Ok(_), .. })) => Saw::Pinged,
                SwarmEvent::Behaviour(PlainEvent::Identify(identify::Event::Received { info, .. })) => {
                    let protocols = info.protocols.iter().map(ToString::to_string).collect();
                    Saw::Identified(protocols, info.listen_addrs)
                }
                SwarmEvent::ConnectionEstablished { .. } => Saw::Connected,
                SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => {
                    Saw::Closed
                }
                _ => continue,
            };
            drop(sender.try_send(seen));
        }
    });
    let mut node = PlainNode { control, saw, task };
    if node.sees().await == Saw::Connected {
        return Ok(node);
    }
    Err(())
}

impl PlainNode {
    async fn open(&mut self, to: PeerId, protocol: Protocol) -> Result<libp2p::Stream, OpenStreamError> {
        let name = StreamProtocol::new(protocol.name());
        timeout(LIMIT, self.control.open_stream(to, name)).await.unwrap()
    }

    async fn sees(&mut self) -> Saw {
        timeout(LIMIT, self.saw.recv()).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_organizations_talk_in_both_directions() {
    let (mut cedar, mut birch) = pair().await;
    assert_eq!(cedar.peers.local_peer_id(), peer_id(CEDAR).to_string());
    let big: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    for protocol in [Protocol::Entries, Protocol::Status, Protocol::Exchange] {
        let mut asking = birch.peers.open("cedar", protocol).await.unwrap();
        asking.send(b"question").await.unwrap();
        asking.send(b"").await.unwrap();
        let Inbound { organization, protocol: named, mut stream } = cedar.next().await;
        assert_eq!((organization.as_str(), named), ("birch", protocol));
        assert_eq!(stream.recv(100).await.unwrap().unwrap(), b"question");
        assert_eq!(stream.recv(100).await.unwrap().unwrap(), b"");
        let (sent, got) = tokio::join!(stream.send(&big), asking.recv(big.len()));
        sent.unwrap();
        assert!(got.unwrap().unwrap() == big);
        stream.close().await.unwrap();
        assert_eq!(asking.recv(100).await, Ok(None));
        assert_eq!(asking.recv(100).await, Ok(None));
    }
    // The one that was dialed opens streams too.
    cedar.peers.open("birch", Protocol::Status).await.unwrap().send(b"x").await.unwrap();
    assert_eq!(birch.next().await.organization, "cedar");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_can_ping_and_identify_but_opens_no_stream() {
    let (mut cedar, _birch) = pair().await;
    let mut stranger = plain(STRANGER, cedar.peers.listening()).await.unwrap();
    let (mut pinged, mut identified) = (false, None);
    while !pinged || identified.is_none() {
        match stranger.sees().await {
            Saw::Pinged => pinged = true,
            Saw::Identified(protocols, addresses) => identified = Some((protocols, addresses)),
            other => panic!("{other:?}"),
        }
    }
    let (protocols, addresses) = identified.unwrap();
    assert!(protocols.iter().all(|name| !name.starts_with("/assent/1/")), "{protocols:?}");
    assert_eq!(addresses, Vec::<Multiaddr>::new());
    for protocol in [Protocol::Entries, Protocol::Status, Protocol::Exchange] {
        match stranger.open(peer_id(CEDAR), protocol).await {
            Err(OpenStreamError::UnsupportedProtocol(_)) => {}
            other => panic!("{protocol:?}: {other:?}"),
        }
    }
    assert!(cedar.inbound.try_recv().is_err());
    assert_eq!(cedar.peers.connected(), ["birch"]);
    // The same swarm with a key from the ledger is let in.
    let mut member = plain(BIRCH, cedar.peers.listening()).await.unwrap();
    member.open(peer_id(CEDAR), Protocol::Status).await.unwrap();
    assert_eq!(cedar.next().await.organization, "birch");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_take_the_room_of_known_peers() {
    let cedar = node("cedar", CEDAR, ANY, vec![known("birch", BIRCH, "")]).await;
    let mut strangers = Vec::new();
    for n in 0..MAX_STRANGERS as u8 {
        let mut stranger = plain([100 + n; 32], cedar.peers.listening()).await.unwrap();
        while stranger.sees().await != Saw::Pinged {}
        strangers.push(stranger);
    }
    let mut one_more = plain(STRANGER, cedar.peers.listening()).await.unwrap();
    assert_eq!(one_more.sees().await, Saw::Closed);
    let birch = node("birch", BIRCH, ANY, vec![known("cedar", CEDAR, cedar.peers.listening())]).await;
    connected(&cedar.peers, &["birch"]).await;
    birch.peers.open("cedar", Protocol::Status).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_stranger_and_of_one_member_are_bounded() {
    let cedar = node("cedar", CEDAR, ANY, vec![known("birch", BIRCH, "")]).await;
    let mut open = Vec::new();
    for (secret, most) in [(STRANGER, 2), (BIRCH, MAX_CONNECTIONS_PER_PEER)] {
        for _ in 0..most {
            let mut node = plain(secret, cedar.peers.listening()).await.unwrap();
            while node.sees().await != Saw::Pinged {}
            open.push(node);
        }
    }
    // Of a stranger the newest is closed, of a member the oldest: a restart leaves old ones behind.
    let mut one_more = plain(STRANGER, cedar.peers.listening()).await.unwrap();
    while one_more.sees().await != Saw::Closed {}
    let mut newest = plain(BIRCH, cedar.peers.listening()).await.unwrap();
    while newest.sees().await != Saw::Pinged {}
    while open[2].sees().await != Saw::Closed {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_over_the_limit_is_refused() {
    let (_cedar, _birch, mut ours, mut theirs) = stream_pair().await;
    ours.send(&[7; 100]).await.unwrap();
    assert_eq!(theirs.recv(100).await.unwrap().unwrap(), [7; 100]);
    ours.send(&[7; 101]).await.unwrap();
    let refused = Err(PeersError::FrameTooLong { len: 101, max: 100 });
    assert_eq!(theirs.recv(100).await, refused);
    assert_eq!(theirs.recv(100).await, refused, "and stays refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_about_a_length_end_the_stream_only() {
    let mut cedar = node("cedar", CEDAR, ANY, vec![known("birch", BIRCH, "")]).await;
    let mut liar = plain(BIRCH, cedar.peers.listening()).await.unwrap();
    let mut huge = liar.open(peer_id(CEDAR), Protocol::Exchange).await.unwrap();
    huge.write_all(&[0xff, 0xff, 0xff, 0xfe]).await.unwrap();
    huge.flush().await.unwrap();
    let refused = PeersError::FrameTooLong { len: u32::MAX as usize - 1, max: 1_000 };
    assert_eq!(cedar.next().await.stream.recv(1_000).await, Err(refused));

    let mut short = liar.open(peer_id(CEDAR), Protocol::Exchange).await.unwrap();
    short.write_all(&[0, 0, 0, 9, 1, 2]).await.unwrap();
    short.close().await.unwrap();
    assert_eq!(cedar.next().await.stream.recv(1_000).await, Err(PeersError::Closed));

    // Ended after a whole frame, but without the mark: cut off, not finished.
    let mut unmarked = liar.open(peer_id(CEDAR), Protocol::Exchange).await.unwrap();
    unmarked.write_all(&[0, 0, 0, 1, b'a']).await.unwrap();
    unmarked.close().await.unwrap();
    let mut stream = cedar.next().await.stream;
    assert_eq!(stream.recv(1_000).await.unwrap().unwrap(), b"a");
    assert_eq!(stream.recv(1_000).await, Err(PeersError::Closed));

    // Nothing wrong with a frame that comes slowly and whose reader was called off in between.
    let mut slow = liar.open(peer_id(CEDAR), Protocol::Exchange).await.unwrap();
    slow.write_all(&[0, 0, 0, 3, b'a']).await.unwrap();
    slow.flush().await.unwrap();
    let mut stream = cedar.next().await.stream;
    assert!(timeout(Duration::from_millis(200), stream.recv(1_000)).await.is_err());
    slow.write_all(b"bc").await.unwrap();
    slow.flush().await.unwrap();
    assert_eq!(stream.recv(1_000).await.unwrap().unwrap(), b"abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_a_timeout_and_a_reset_is_closed() {
    let (_cedar, _birch, ours, mut theirs) = stream_pair().await;
    theirs.set_idle_timeout(Duration::from_millis(100));
    assert_eq!(theirs.recv(10).await, Err(PeersError::Timeout));
    drop(ours);
    assert_eq!(theirs.recv(10).await, Err(PeersError::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_times_the_sender_out() {
    let (_cedar, _birch, mut ours, _theirs) = stream_pair().await;
    ours.set_idle_timeout(Duration::from_millis(200));
    assert_eq!(ours.send(&vec![0; 4_000_000]).await, Err(PeersError::Timeout));
    assert_eq!(ours.send(b"more").await, Err(PeersError::Closed), "the torn frame is not continued");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_the_limit_are_dropped_until_some_end() {
    let mut cedar = node("cedar", CEDAR, ANY, vec![known("birch", BIRCH, "")]).await;
    let mut greedy = plain(BIRCH, cedar.peers.listening()).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..MAX_INBOUND_STREAMS + 1 {
        streams.push(greedy.open(peer_id(CEDAR), Protocol::Status).await.unwrap());
    }
    let mut byte = [0];
    let last = timeout(LIMIT, streams[MAX_INBOUND_STREAMS].read(&mut byte)).await.unwrap();
    assert!(!matches!(last, Ok(1..)), "the one too many is ended: {last:?}");
    let mut held = Vec::new();
    for _ in 0..MAX_INBOUND_STREAMS {
        held.push(cedar.next().await);
    }
    assert!(cedar.inbound.try_recv().is_err());
    held.pop();
    let _again = greedy.open(peer_id(CEDAR), Protocol::Status).await.unwrap();
    cedar.next().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_streams_loses_none_and_the_next_waits() {
    let (mut cedar, birch) = pair().await;
    let burst = (0..MAX_OUTBOUND_STREAMS).map(|_| birch.peers.open("cedar", Protocol::Exchange));
    let opened: Vec<_> = futures::future::join_all(burst).await.into_iter().map(Result::unwrap).collect();
    let mut arrived = Vec::new();
    for _ in 0..MAX_OUTBOUND_STREAMS {
        arrived.push(cedar.next().await);
    }
    let mut next = Box::pin(birch.peers.open("cedar", Protocol::Exchange));
    assert!(timeout(Duration::from_millis(300), &mut next).await.is_err());
    drop(opened);
    timeout(LIMIT, next).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_peer_is_dialed_again() {
    let cedar = node("cedar", CEDAR, ANY, vec![known("birch", BIRCH, "")]).await;
    let address = cedar.peers.listening().to_owned();
    let birch = node("birch", BIRCH, ANY, vec![known("cedar", CEDAR, &address)]).await;
    connected(&birch.peers, &["cedar"]).await;
    cedar.stop().await;
    connected(&birch.peers, &[]).await;
    match birch.peers.open("cedar", Protocol::Status).await {
        Err(PeersError::Unreachable { organization, reason }) => {
            assert_eq!(organization, "cedar");
            assert!(reason.contains("not connected"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    sleep(Duration::from_secs(1)).await;
    let down = birch.peers.open("cedar", Protocol::Status).await.unwrap_err();
    assert!(down.to_string().contains("refused"), "{down}");

    let mut cedar = node("cedar", CEDAR, &address, vec![known("birch", BIRCH, "")]).await;
    let since = Instant::now();
    connected(&birch.peers, &["cedar"]).await;
    assert!(since.elapsed() < Duration::from_secs(6), "{:?}", since.elapsed());
    birch.peers.open("cedar", Protocol::Status).await.unwrap();
    cedar.next().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_noticed() {
    let cedar = node("cedar", CEDAR, ANY, vec![known("birch", BIRCH, "")]).await;
    let port = cedar.peers.listening().rsplit('/').next().unwrap().to_owned();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", proxy.local_addr().unwrap().port());
    let stall = CancellationToken::new();
    let stalled = stall.clone();
    // Forwards one connection until told to; then holds it open and forwards nothing.
    let task = tokio::spawn(async move {
        let (near, _) = proxy.accept().await.unwrap();
        let far = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
        let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
            (near.into_split(), far.into_split());
        tokio::select! {
            _ = copy(&mut near_read, &mut far_write) => {}
            _ = copy(&mut far_read, &mut near_write) => {}
            () = stalled.cancelled() => sleep(Duration::from_secs(60)).await,
        }
    });
    let birch = node("birch", BIRCH, ANY, vec![known("cedar", CEDAR, &address)]).await;
    connected(&birch.peers, &["cedar"]).await;
    stall.cancel();
    connected(&birch.peers, &[]).await;
    connected(&cedar.peers, &[]).await;
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_at_the_address_is_not_the_peer() {
    let other = node("elm", STRANGER, ANY, Vec::new()).await;
    let birch = node("birch", BIRCH, ANY, vec![known("cedar", CEDAR, other.peers.listening())]).await;
    sleep(Duration::from_millis(500)).await;
    let error = birch.peers.open("cedar", Protocol::Status).await.unwrap_err();
    assert!(error.to_string().contains(&peer_id(STRANGER).to_string()), "{error}");
    assert_eq!(birch.peers.connected(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_the_other_does_not_know_is_told_so() {
    let cedar = node("cedar", CEDAR, ANY, Vec::new()).await;
    let birch = node("birch", BIRCH, ANY, vec![known("cedar", CEDAR, cedar.peers.listening())]).await;
    connected(&birch.peers, &["cedar"]).await;
    let error = birch.peers.open("cedar", Protocol::Status).await.unwrap_err();
    assert!(matches!(error, PeersError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("peer id"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_place_to_listen_is_an_error_that_says_what_to_do() {
    let cedar = node("cedar", CEDAR, ANY, Vec::new()).await;
    for (listen, says) in [
        (cedar.peers.listening(), "stop the process that uses the port"),
        ("/ip4/192.0.2.1/tcp/7414", "no such address"),
        ("127.0.0.1:7414", "/ip4/127.0.0.1/tcp/7414"),
        ("/ip4/127.0.0.1/udp/7414", "/tcp/"),
        ("/dns4/cedar.example/tcp/7414", "/ip4/"),
    ] {
        let config = PeersConfig {
            secret: BIRCH,
            listen: listen.into(),
            organization: "birch".into(),
            known: Vec::new(),
        };
        match start(config, CancellationToken::new()).await.map(|_| ()) {
            Err(PeersError::Listen { address, reason }) => {
                assert_eq!(address, listen);
                assert!(reason.contains(says) && reason.contains("assentd.toml"), "{listen}: {reason}");
            }
            other => panic!("{listen}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_frees_the_port_and_ends_everything() {
    let (cedar, birch, mut ours, _theirs) = stream_pair().await;
    let address = cedar.peers.listening().to_owned();
    let peers = cedar.peers.clone();
    cedar.stop().await;
    assert_eq!(peers.connected(), Vec::<String>::new());
    assert_eq!(peers.open("birch", Protocol::Status).await.err(), Some(PeersError::Closed));
    assert_eq!(ours.recv(10).await, Err(PeersError::Closed));
    let again = node("cedar", CEDAR, &address, Vec::new()).await;
    assert_eq!(again.peers.listening(), address);
    let unknown = birch.peers.open("fir", Protocol::Status).await.unwrap_err();
    assert!(matches!(unknown, PeersError::Unreachable { .. }), "{unknown}");
}
