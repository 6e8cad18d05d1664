//! Garbage from a known peer: on the entries protocol, and on the consensus port. It costs the sender its stream, nobody else
//! anything.

use std::time::Duration;

use assent_node::bft::peer_id;
use assent_node::peers::{PeersError, Protocol};
use futures::{AsyncReadExt, StreamExt};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, PublishError};
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{identify, noise, ping, tcp, yamux, Multiaddr, StreamProtocol, Swarm, SwarmBuilder};
use prost::Message;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::io::AsyncWriteExt;

use crate::bft;
use crate::exchange::{fake, LIMIT};
use crate::ledger::{set_consent, Ledger};

/// The frames of the entries protocol.
#[derive(Clone, PartialEq, prost::Message)]
struct Batch {
    #[prost(bytes = "vec", repeated, tag = "1")]
    entries: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Taken {
    #[prost(bytes = "vec", tag = "1")]
    taken: Vec<u8>,
}

fn garbage(random: &mut StdRng, bytes: usize) -> Vec<u8> {
    let mut garbage = vec![0; bytes];
    random.fill_bytes(&mut garbage);
    garbage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn garbage_on_the_entries_protocol_is_refused_entry_by_entry() {
    let ledger = Ledger::new("cedar");
    let good = ledger.entry("cedar", 1, vec![set_consent("cedar", [6; 32], 0, None)]);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let elsewhere = good.iter().map(|b| if *b == b't' { b'T' } else { *b }).collect();
    let Ledger { net, .. } = ledger;
    let birch = net.try_start(net.index("birch")).await.unwrap();
    let cedar = fake(&net, "cedar", "birch").await;

    let mut stream = cedar.peers.open("birch", Protocol::Entries).await.unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let oversized = vec![1; 65_536];
    let entries = vec![
        garbage(&mut random, 400),
        Vec::new(),
        forged,
        elsewhere,
        oversized,
        good[1..].to_vec(),
        good.clone(),
    ];
    stream.send(&Batch { entries }.encode_to_vec()).await.unwrap();
    let answer = tokio::time::timeout(LIMIT, stream.recv(1 << 20)).await.unwrap().unwrap().unwrap();
    assert_eq!(Taken::decode(answer.as_slice()).unwrap().taken, [0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(birch.app.parts.mempool.len(), 1);

    // What is no batch ends the stream, and that one only.
    let mut other = cedar.peers.open("birch", Protocol::Entries).await.unwrap();
    other.send(&[0xff; 100]).await.unwrap();
    let answer = tokio::time::timeout(LIMIT, other.recv(1 << 20)).await.unwrap();
    assert!(matches!(answer, Err(PeersError::Closed) | Ok(None)), "{answer:?}");
    let mut long = cedar.peers.open("birch", Protocol::Entries).await.unwrap();
    let _ = long.send(&vec![0; (1 << 20) + 1]).await;
    let answer = tokio::time::timeout(LIMIT, long.recv(1 << 20)).await.unwrap();
    assert!(matches!(answer, Err(PeersError::Closed) | Ok(None)), "{answer:?}");
    stream.send(&Batch { entries: vec![good] }.encode_to_vec()).await.unwrap();
    let answer = tokio::time::timeout(LIMIT, stream.recv(1 << 20)).await.unwrap().unwrap().unwrap();
    assert_eq!(Taken::decode(answer.as_slice()).unwrap().taken, [1]);
}

/// The engine's protocol for tips.
const BROADCAST: &str = "/ax/broadcast/1.0.0";

#[derive(NetworkBehaviour)]
pub struct Gossip {
    pub gossipsub: gossipsub::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    stream: libp2p_stream::Behaviour,
}

/// A swarm that is not ours, with a validator's peer key, connected to the others.
pub fn played(secret: [u8; 32], chain_id: &str, others: &[(u16, [u8; 32])]) -> Swarm<Gossip> {
    let mut swarm = SwarmBuilder::with_existing_identity(Keypair::ed25519_from_bytes(secret).unwrap())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| Gossip {
            gossipsub: gossipsub::Behaviour::new(
                MessageAuthenticity::Signed(key.clone()),
                gossipsub::Config::default(),
            )
            .unwrap(),
            identify: identify::Behaviour::new(identify::Config::new(
                format!("/assent/{chain_id}/consensus/1"),
                key.public(),
            )),
            ping: ping::Behaviour::default(),
            stream: libp2p_stream::Behaviour::new(),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(LIMIT))
        .build();
    // The engine hangs up on whoever does not take its proof of being a validator, and its tip.
    for name in [format!("/assent/{chain_id}/validator-proof/1"), BROADCAST.to_owned()] {
        let protocol = StreamProtocol::try_from_owned(name).unwrap();
        let mut incoming = swarm.behaviour().stream.new_control().accept(protocol).unwrap();
        tokio::spawn(async move {
            while let Some((_, mut stream)) = incoming.next().await {
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
    }
    for (port, secret) in others {
        let address = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", peer_id(secret));
        swarm.dial(address.parse::<Multiaddr>().unwrap()).unwrap();
    }
    swarm
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn garbage_on_the_consensus_port_stops_nobody() {
    let mut net = bft::Net::new(0);
    let honest = [0, 1, 2];
    for index in honest {
        net.start(index).await;
    }
    net.work_until(5);
    net.reached(&honest, 5).await;

    // A validator's own peer key publishes what is no message, on every topic.
    let others = honest.map(|i| (net.ports[i], bft::Net::secret(i)));
    let mut swarm = played(bft::Net::secret(3), bft::CHAIN, &others);
    let topics = ["topic-consensus", "topic-parts", "topic-liveness"]
        .map(|name| IdentTopic::new(format!("/assent/{}/{name}/1", bft::CHAIN)));
    for topic in &topics {
        swarm.behaviour_mut().gossipsub.subscribe(topic).unwrap();
    }
    let mut random = StdRng::seed_from_u64(7);
    let (mut sent, mut tick) = ([0usize; 3], tokio::time::interval(Duration::from_millis(5)));
    let publishing = async {
        while sent.iter().any(|n| *n < 100) {
            tokio::select! {
                _ = swarm.select_next_some() => {}
                _ = tick.tick() => for (n, topic) in topics.iter().enumerate() {
                    let bytes = garbage(&mut random, 1 + sent[n] * 97 % 9_000);
                    match swarm.behaviour_mut().gossipsub.publish(topic.hash(), bytes) {
                        Ok(_) => sent[n] += 1,
                        // Not connected yet.
                        Err(PublishError::NoPeersSubscribedToTopic | PublishError::AllQueuesFull(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                },
            }
        }
        // What is queued goes out.
        let _ = tokio::time::timeout(Duration::from_millis(500), async {
            loop {
                swarm.select_next_some().await;
            }
        })
        .await;
    };
    tokio::time::timeout(LIMIT, publishing).await.unwrap_or_else(|_| panic!("published only {sent:?}"));

    // Nor does what is not even libp2p.
    for index in honest {
        let mut raw = tokio::net::TcpStream::connect(("127.0.0.1", net.ports[index])).await.unwrap();
        let _ = raw.write_all(&garbage(&mut random, 100_000)).await;
    }
    let target = net.highest() + 10;
    net.work_until(target);
    net.reached(&honest, target).await;
    net.assert_same_chain();
    for index in honest {
        net.stop(index).await;
    }
}
