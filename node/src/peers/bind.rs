//! Building the swarm and binding its listener.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol as Part;
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{noise, tcp, yamux, Multiaddr, SwarmBuilder};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::behaviour::Behaviour;
use super::directory::Directory;
use super::{Inbound, PeersConfig, PeersError, MAX_INBOUND_STREAMS, MAX_KNOWN_PEERS};

/// A stranger's connection without a stream ends after this.
const STRANGER_IDLE: Duration = Duration::from_secs(10);
/// Dialing, noise and yamux together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Streams of one connection whose protocol is not yet agreed.
const MAX_NEGOTIATING_STREAMS: usize = 32;
/// Binding needs no network; longer than this is an error.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);

/// A swarm that listens and has not dialed yet.
pub(super) struct Bound {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) directory: Arc<Directory>,
    pub(super) listening: Multiaddr,
    /// Where streams of known peers go.
    pub(super) inbound: mpsc::Sender<Inbound>,
}

/// Builds the swarm and binds its listener.
pub(super) async fn bind(config: PeersConfig) -> Result<(Bound, mpsc::Receiver<Inbound>), PeersError> {
    let refused = |reason: String| PeersError::Listen { address: config.listen.clone(), reason };
    let address: Multiaddr = config.listen.parse().map_err(|error| {
        refused(format!("{error}; write [exchange] listen in assentd.toml like /ip4/127.0.0.1/tcp/7414"))
    })?;
    port_is_free(&address).map_err(|error| refused(explain(&error)))?;

    let key = Keypair::ed25519_from_bytes(config.secret).map_err(|error| refused(error.to_string()))?;
    let directory = Arc::new(Directory::new(&config.organization));
    // Every queued stream holds one of its peer's permits, so this is never full.
    let (sender, inbound) = mpsc::channel(MAX_KNOWN_PEERS * MAX_INBOUND_STREAMS);
    let mut swarm = swarm(key, directory.clone(), sender.clone()).map_err(refused)?;
    let listener = swarm.listen_on(address).map_err(|error| refused(error.to_string()))?;
    let first_address = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } if listener_id == listener => {
                    return Ok(address)
                }
                SwarmEvent::ListenerError { error, .. } => return Err(refused(explain(&error))),
                SwarmEvent::ListenerClosed { reason, .. } => {
                    return Err(refused(
                        reason.map_or_else(|error| explain(&error), |()| "the listener closed".into()),
                    ))
                }
                _ => {}
            }
        }
    };
    let listening =
        timeout(BIND_TIMEOUT, first_address).await.map_err(|_| refused("binding took too long".into()))??;

    let bound = Bound { swarm, directory, listening, inbound: sender };
    Ok((bound, inbound))
}

/// A swarm of this key that does nothing yet.
pub(super) fn swarm(
    key: Keypair,
    directory: Arc<Directory>,
    inbound: mpsc::Sender<Inbound>,
) -> Result<Swarm<Behaviour>, String> {
    let behaviour = Behaviour::new(key.public(), directory, inbound);
    // yamux as it comes: its setters would fall back to an older yamux without a bound on pending frames.
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| format!("noise can't use the exchange peer key: {error}"))?
        .with_behaviour(|_| behaviour)
        .map_err(|error| error.to_string())?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(STRANGER_IDLE)
                .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS)
        })
        .with_connection_timeout(CONNECT_TIMEOUT)
        .build();
    Ok(swarm)
}

/// libp2p listens with SO_REUSEPORT, with which two nodes share a port without an error; a plain bind shows it.
fn port_is_free(address: &Multiaddr) -> std::io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Part::Ip4(ip)) => IpAddr::V4(ip),
        Some(Part::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Err(std::io::Error::other("it does not start with /ip4/ or /ip6/")),
    };
    match (parts.next(), parts.next()) {
        (Some(Part::Tcp(port)), None) => TcpListener::bind(SocketAddr::new(ip, port)).map(drop),
        _ => Err(std::io::Error::other("it does not end with /tcp/ and a port")),
    }
}

fn explain(error: &std::io::Error) -> String {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => "stop the process that uses the port",
        std::io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege",
        _ => "see the address",
    };
    format!("{error}: {advice}, or change [exchange] listen in assentd.toml")
}
