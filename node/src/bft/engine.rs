//! Starts the engine and hands its channels to the task of [`super::app_loop`].

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use malachite_app_channel::app::config::{
    ChannelNames, ConsensusConfig, DiscoveryConfig, GossipSubConfig, NodeConfig, P2pConfig, ProtocolNames,
    PubSubProtocol, ValuePayload, ValueSyncConfig,
};
use malachite_app_channel::app::metrics::SharedRegistry;
use malachite_app_channel::app::net::Multiaddr;
use malachite_app_channel::app::types::codec::Codec;
use malachite_app_channel::app::types::core::LinearTimeouts;
use malachite_app_channel::spawn::spawn_network_actor;
use malachite_app_channel::{
    ConsensusContext, EngineBuilder, NetworkIdentity, RequestContext, Signer, SyncContext, WalContext,
};
use tokio_util::sync::CancellationToken;

use super::app_loop::{App, Ended, Engine};
use super::codec::WireCodec;
use super::course::{Course, Watch};
use super::crypto::{ChainSigner, ChainVerifier};
use super::lie::{self, Liar, Tongue};
use super::types::{Address, BftContext};
use super::validators::ValidatorSet;
use super::{keypair, BftConfig, BftHandle, BftStatus, Timeouts, SYNC_BATCH};
use crate::order::{Fatal, Replica};

/// Largest answer to a peer that catches up, on the wire.
const MAX_SYNC_RESPONSE: ByteSize = ByteSize::mib(24);

/// How often a node tells its peers its tip.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);

/// Failed dials in a row whose waits grow: 1 s, then 2 s. So a node that was cut off is back soon after its links are.
const MAX_REDIALS: usize = 2;
/// Members that may be added while an engine runs and share an address with all others.
const MAX_NEW_PEERS: usize = 32;

/// The log's version and height, with which it begins.
const WAL_HEADER_BYTES: u64 = 12;

fn fatal(what: impl Display, why: impl Display) -> Fatal {
    Fatal::Engine(format!("{what}: {why}"))
}

/// Starts Malachite for `replica`. It runs until `shutdown` or a failure; see [`BftHandle::wait`].
pub async fn start<R: Replica>(
    mut config: BftConfig,
    replica: R,
    shutdown: CancellationToken,
) -> Result<BftHandle, Fatal> {
    rewire(&mut config);
    let listen = socket(&Settings::new(&config, true)?.consensus.p2p.listen_addr)?;
    // The engine reports a port in use only in its log: ask beforehand.
    TcpListener::bind(listen)
        .map_err(|e| fatal(format!("cannot listen on {} for consensus", config.listen), e))?;
    ValidatorSet::from_proto(&replica.validators())
        .map_err(|e| Fatal::Corrupt(format!("validator set: {e}")))?;
    let mut watch = Watch::new(&config, &replica)?;
    let engine = match watch.course {
        Course::Ask => None,
        _ => Some(launch(&config, &mut watch, replica.tip()).await?),
    };
    let (status, seen) = tokio::sync::watch::channel(BftStatus::new(replica.tip()));
    Ok(BftHandle {
        task: tokio::spawn(conduct(config, replica, watch, engine, status, shutdown)),
        status: seen,
    })
}

/// One engine after another, each on its course: whether it votes is fixed for an engine's life.
async fn conduct<R: Replica>(
    mut config: BftConfig,
    mut replica: R,
    mut watch: Watch,
    mut engine: Option<Engine>,
    mut status: tokio::sync::watch::Sender<BftStatus>,
    shutdown: CancellationToken,
) -> Result<(), Fatal> {
    if watch.course == Course::Ask {
        let (set, tip) = (replica.validators(), replica.tip());
        watch.ask(set, tip, &shutdown).await;
    }
    let (moniker, mut rekeyed) = (config.moniker.clone(), 0);
    while !shutdown.is_cancelled() {
        let engine = match engine.take() {
            Some(engine) => engine,
            None => launch(&config, &mut watch, replica.tip()).await?,
        };
        let app = App::new(&config, replica, engine, watch, status);
        let (parts, ended) = app.run(&shutdown).await;
        (replica, watch, status) = parts;
        match ended? {
            Ended::Shutdown => break,
            Ended::Turned(course) => watch.course = course,
            Ended::Rekeyed => {
                rewire(&mut config);
                // Metrics of its own, as `Settings` says.
                rekeyed += 1;
                config.moniker = format!("{moniker}-{}", rekeyed + 1);
                watch.votes_with(&config.vote_key);
                tracing::info!(
                    tip = replica.tip(),
                    "started anew with the keys that the ledger names from here on"
                );
            }
        }
    }
    Ok(())
}

/// Puts the keys and peers of the present membership into the configuration.
fn rewire(config: &mut BftConfig) {
    if let Some(wiring) = config.wiring.clone() {
        wiring.refresh(config);
    }
}

/// Starts one engine on the course that it is to have.
async fn launch(config: &BftConfig, watch: &mut Watch, tip: u64) -> Result<Engine, Fatal> {
    watch.begin(tip)?;
    let votes = watch.course == Course::Vote;
    let settings = Settings::new(config, votes)?;
    let listen = socket(&settings.consensus.p2p.listen_addr)?;
    let codec = WireCodec::default();
    let signer = ChainSigner::new(&config.chain_id, config.vote_key.clone());
    let address = signer.address();
    let keypair = keypair(&config.consensus_peer_secret);
    let proof = signer
        .sign_validator_proof(address.0.to_vec(), keypair.public().to_peer_id().to_bytes())
        .await
        .map_err(|e| fatal("validator proof", e))?;
    let proof = codec.encode(&proof).map_err(|e| fatal("validator proof", e))?;
    let identity =
        NetworkIdentity::new_validator(config.moniker.clone(), keypair, address.to_string(), proof);
    let wal = watch.log();
    discard_torn_log(&wal).map_err(|e| fatal(format!("cannot start with log {}", wal.display()), e))?;

    // The network is started here and not by the builder, because only its owner can stop it in order: when its
    // supervisor ends, it is killed, and its swarm keeps the port until the next packet.
    let fail = |e| fatal(format!("cannot start on {} with log {}", config.listen, wal.display()), e);
    let registry = SharedRegistry::global().with_moniker(&settings.moniker);
    let (consensus, sync) = (&settings.consensus, &settings.value_sync);
    let (network, sender) = match config.lie {
        None => {
            spawn_network_actor(identity, consensus, sync, &registry, codec.clone()).await.map_err(fail)?
        }
        Some(lie) => {
            let (liar, further) = Liar::new(lie, &config.chain_id, signer.clone());
            let tongue = Tongue::new(codec.clone(), liar);
            let spawned =
                spawn_network_actor(identity, consensus, sync, &registry, tongue).await.map_err(fail)?;
            further.to(spawned.0.clone());
            spawned
        }
    };
    let verifier = Box::new(ChainVerifier::new(&config.chain_id));
    let prevotes = verifier.prevotes();
    let consensus = match votes {
        true => ConsensusContext::new_validator(address, verifier, Box::new(signer.clone())),
        // Under an address that is no validator's, and without a signer: it takes part in everything but signs nothing.
        false => ConsensusContext::new_full_node(Address::NOBODY, verifier),
    };
    let (channels, handle) = EngineBuilder::new(BftContext, settings)
        .with_default_wal(WalContext::new(wal.clone(), codec.clone()))
        .with_custom_network(network.clone(), sender)
        .with_default_sync(SyncContext::new(codec.clone()))
        .with_default_consensus(consensus)
        .with_default_request(RequestContext::new(16))
        .build()
        .await
        .map_err(fail)?;
    if let Some(wiring) = config.wiring.clone() {
        tokio::spawn(wiring.tell_peers(channels.net_requests.clone(), config.persistent_peers.clone()));
    }
    let timeouts = linear(&config.timeouts);
    Ok(Engine { channels, handle, network, codec, signer, prevotes, listen, timeouts })
}

/// Removes a log that is shorter than its own header, with which the engine would never start again.
///
/// The engine drops a torn entry at the end by itself, but not a torn header. No vote is lost with it: entries follow the header,
/// and both are synced before a vote leaves.
fn discard_torn_log(wal: &Path) -> std::io::Result<()> {
    match std::fs::metadata(wal) {
        Ok(file) if (1..WAL_HEADER_BYTES).contains(&file.len()) => {
            tracing::warn!(log = %wal.display(), bytes = file.len(), "the engine's log has a torn header: begun anew");
            std::fs::remove_file(wal)
        }
        _ => Ok(()), // not there yet is how it starts; any other trouble the engine reports
    }
}

fn linear(t: &Timeouts) -> LinearTimeouts {
    LinearTimeouts {
        propose: t.propose,
        propose_delta: t.delta,
        prevote: t.prevote,
        prevote_delta: t.delta,
        precommit: t.precommit,
        precommit_delta: t.delta,
        rebroadcast: t.rebroadcast,
        max_timeout: t.max,
    }
}

/// Where the engine will listen.
fn socket(listen: &Multiaddr) -> Result<SocketAddr, Fatal> {
    let text = listen.to_string();
    let parts: Vec<&str> = text.split('/').collect();
    let (ip, port) = match parts.as_slice() {
        ["", "ip4" | "ip6", ip, "tcp", port] => (ip.parse::<IpAddr>(), port.parse::<u16>()),
        _ => {
            return Err(fatal(format!("listen address {text}"), "must be /ip4/…/tcp/PORT or /ip6/…/tcp/PORT"))
        }
    };
    match (ip, port) {
        (Ok(ip), Ok(port)) if port != 0 => Ok(SocketAddr::new(ip, port)),
        _ => Err(fatal(format!("listen address {text}"), "has no address, or no port above 0")),
    }
}

/// The engine's configuration.
struct Settings {
    moniker: String,
    consensus: ConsensusConfig,
    value_sync: ValueSyncConfig,
}

impl Settings {
    fn new(config: &BftConfig, votes: bool) -> Result<Self, Fatal> {
        let parse =
            |text: &String| text.parse::<Multiaddr>().map_err(|e| fatal(format!("address {text}"), e));
        let peers = config.persistent_peers.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        // Without the id anybody who gets the address would be taken for the validator.
        if let Some(peer) = config.persistent_peers.iter().find(|p| !p.contains("/p2p/")) {
            return Err(fatal(format!("peer {peer}"), "must end in /p2p/<peer id>"));
        }
        // Nodes of another chain don't even speak the protocol.
        let name = |what: &str| format!("/assent/{}/{what}/1", config.chain_id);
        let p2p = P2pConfig {
            listen_addr: parse(&config.listen)?,
            persistent_peers_only: true,
            discovery: DiscoveryConfig {
                enabled: false,
                // Several members may share one address (a laptop, a NAT); strangers are refused anyway.
                max_connections_per_ip: 2 * (peers.len() + MAX_NEW_PEERS),
                // The engine's waits are 1, 2, 3, 5 s and so on; after the last it begins anew with its next tick of 1 s.
                dial_max_retries: MAX_REDIALS,
                ..DiscoveryConfig::default()
            },
            persistent_peers: peers,
            // Mesh sizes are the defaults; no scoring; explicit peering and flood publish on.
            protocol: PubSubProtocol::GossipSub(GossipSubConfig::new(6, 12, 4, 2, false, true, true)),
            pubsub_max_size: ByteSize::mib(5),
            rpc_max_size: config.lie.map_or(MAX_SYNC_RESPONSE, |_| lie::sync::LONGEST_LIE),
            protocol_names: ProtocolNames {
                consensus: name("consensus"),
                discovery_kad: name("kad"),
                discovery_regres: name("discovery"),
                sync: name("sync"),
                validator_proof: name("validator-proof"),
            },
            channel_names: ChannelNames {
                consensus: name("topic-consensus"),
                proposal_parts: name("topic-parts"),
                sync: name("topic-sync"),
                liveness: name("topic-liveness"),
            },
            ..P2pConfig::default()
        };
        // A series of metrics of its own: two engines in one process, one after the other, would write into one twice.
        let moniker = if votes { config.moniker.clone() } else { format!("{}-following", config.moniker) };
        Ok(Self {
            moniker,
            consensus: ConsensusConfig {
                enabled: true,
                p2p,
                // With proposals alone the block would never be shown to the application.
                value_payload: ValuePayload::ProposalAndParts,
                queue_capacity: 16,
                ..ConsensusConfig::default()
            },
            value_sync: ValueSyncConfig {
                enabled: true,
                // Zero would mean: at each decision and once when a peer subscribes. A node that starts misses the latter
                // when it connects before its sync actor runs, and in an idle network stays behind.
                status_update_interval: STATUS_INTERVAL,
                request_timeout: Duration::from_secs(5),
                max_response_size: MAX_SYNC_RESPONSE,
                parallel_requests: 4,
                batch_size: SYNC_BATCH,
                ..ValueSyncConfig::default()
            },
        })
    }
}

impl NodeConfig for Settings {
    fn moniker(&self) -> &str {
        &self.moniker
    }
    fn consensus(&self) -> &ConsensusConfig {
        &self.consensus
    }
    fn consensus_mut(&mut self) -> &mut ConsensusConfig {
        &mut self.consensus
    }
    fn value_sync(&self) -> &ValueSyncConfig {
        &self.value_sync
    }
    fn value_sync_mut(&mut self) -> &mut ValueSyncConfig {
        &mut self.value_sync
    }
}

#[cfg(test)]
mod tests {
    use malachite_app_channel::app::types::core::{Round, Timeout, TimeoutKind};

    use super::*;

    /// A height starts in round 0: whatever rounds the last one took, its timeouts are the first again.
    #[test]
    fn timeouts_grow_with_the_round_up_to_ten_seconds_and_begin_anew_with_a_height() {
        let timeouts = linear(&Timeouts::default());
        let wait = |kind, round| timeouts.duration_for(Timeout::new(Round::new(round), kind));
        for kind in
            [TimeoutKind::Propose, TimeoutKind::Prevote, TimeoutKind::Precommit, TimeoutKind::Rebroadcast]
        {
            let first = wait(kind, 0);
            assert!(first <= Duration::from_secs(1) && wait(kind, 1) > first, "{kind:?}");
            for round in [40, 1_000, u32::MAX >> 1] {
                assert_eq!(wait(kind, round), Duration::from_secs(10), "{kind:?} {round}");
            }
        }
    }

    #[test]
    fn only_a_log_with_a_torn_header_is_discarded() {
        let dir = tempfile::tempdir().unwrap();
        let wal = dir.path().join("consensus.wal");
        discard_torn_log(&wal).unwrap();
        for (bytes, stays) in [(0, true), (1, false), (11, false), (12, true), (40, true)] {
            std::fs::write(&wal, vec![1; bytes]).unwrap();
            discard_torn_log(&wal).unwrap();
            assert_eq!(wal.exists(), stays, "{bytes} bytes");
        }
    }
}
