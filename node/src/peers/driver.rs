//! The task that owns the swarm: dials, redials, counts connections, and follows the membership.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{ping, PeerId};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, Instant};
use tokio_util::sync::CancellationToken;

use super::behaviour::{Behaviour, BehaviourEvent};
use super::bind::{self, Bound};
use super::directory::{Directory, Known};
use super::redial::Redial;
use super::{Inbound, KnownPeer, Order, MAX_CONNECTIONS_PER_PEER};

/// A known peer that answered no ping for this long is gone. (ping's own failures come after 25 s: the first is not
/// reported, and the next try waits for a new stream.)
const SILENCE: Duration = Duration::from_secs(10);

pub(super) struct Driver {
    swarm: Swarm<Behaviour>,
    directory: Arc<Directory>,
    listen: String,
    inbound: mpsc::Sender<Inbound>,
    links: BTreeMap<PeerId, Link>,
    /// The last list of peers.
    listed: Vec<KnownPeer>,
}

/// What the driver knows about one known peer.
struct Link {
    known: Arc<Known>,
    redial: Redial,
    /// Oldest first, with the time of the last answer.
    connections: Vec<(ConnectionId, Instant)>,
}

impl Driver {
    /// Over a swarm that listens on `listen`, with the first list of peers.
    pub(super) fn new(bound: Bound, listen: String, listed: Vec<KnownPeer>) -> Self {
        let Bound { swarm, directory, inbound, .. } = bound;
        let mut driver =
            Self { swarm, directory, listen, inbound, links: BTreeMap::new(), listed: Vec::new() };
        driver.know(listed);
        driver
    }

    /// Runs until shutdown; then drops the swarm, which closes listener and connections, and only then tells the watchers.
    pub(super) async fn run(
        mut self,
        connected: watch::Sender<Vec<String>>,
        mut orders: mpsc::UnboundedReceiver<Order>,
        shutdown: CancellationToken,
    ) {
        loop {
            let next = self.links.values().filter_map(Link::next).min();
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(order) = orders.recv() => {
                    match order {
                        Order::Known(listed) => self.know(listed),
                        Order::Key(secret) => self.use_key(secret),
                    }
                    self.publish(&connected);
                }
                event = self.swarm.select_next_some() => self.on_event(event, &connected),
                () = due => {
                    self.close_silent();
                    self.dial_due();
                }
            }
        }
        drop(self.swarm);
        connected.send_replace(Vec::new());
    }

    /// Who is gone is disconnected and a stranger from now on; who is new is dialed.
    fn know(&mut self, listed: Vec<KnownPeer>) {
        self.listed.clone_from(&listed);
        let changed = self.directory.replace(*self.swarm.local_peer_id(), listed);
        let now = Instant::now();
        for peer_id in changed.gone {
            self.links.remove(&peer_id);
            self.swarm.behaviour_mut().is_known(&peer_id, false);
            // Fails when there is no connection.
            let _ = self.swarm.disconnect_peer_id(peer_id);
        }
        for known in changed.new {
            // As a stranger it was offered nothing on the connections that it has.
            let _ = self.swarm.disconnect_peer_id(known.peer_id);
            self.swarm.behaviour_mut().is_known(&known.peer_id, true);
            let link = Link { known: known.clone(), redial: Redial::new(now), connections: Vec::new() };
            self.links.insert(known.peer_id, link);
        }
        for peer_id in changed.moved {
            if let Some(link) = self.links.get_mut(&peer_id).filter(|link| link.connections.is_empty()) {
                link.redial = Redial::new(now);
            }
        }
    }

    /// The same node under another key: the old swarm closes its listener and connections, then the new one listens there.
    fn use_key(&mut self, secret: [u8; 32]) {
        let made = Keypair::ed25519_from_bytes(secret).map_err(|error| error.to_string()).and_then(|key| {
            let address = self.listen.parse().map_err(|error| format!("{error}"))?;
            Ok((bind::swarm(key, self.directory.clone(), self.inbound.clone())?, address))
        });
        let (swarm, address) = match made {
            Ok(made) => made,
            Err(error) => return tracing::error!(%error, "the new exchange peer key can't be used"),
        };
        drop(std::mem::replace(&mut self.swarm, swarm));
        if let Err(error) = self.swarm.listen_on(address) {
            tracing::error!(%error, "the peers' listener: others can't connect to this node");
        }
        tracing::info!(peer_id = %self.swarm.local_peer_id(), "exchange under a new peer id");
        self.links.clear();
        self.directory.replace(*self.swarm.local_peer_id(), Vec::new());
        self.know(self.listed.clone());
    }

    /// A half-open connection would otherwise be used until TCP gives up, many minutes later.
    fn close_silent(&mut self) {
        let now = Instant::now();
        for link in self.links.values_mut() {
            for (connection, answered) in &mut link.connections {
                if now - *answered >= SILENCE {
                    tracing::info!(organization = %link.known.organization, "a connection went silent: closed");
                    self.swarm.close_connection(*connection);
                    // It leaves the list with its event; till then it is not due again.
                    *answered = now;
                }
            }
        }
    }

    fn dial_due(&mut self) {
        let now = Instant::now();
        for (peer_id, link) in &mut self.links {
            if link.redial.next().is_none_or(|next| next > now) {
                continue;
            }
            link.redial.dialing();
            let Some(address) = link.known.address() else {
                continue;
            };
            // A port of its own: from the listening port, two that dial each other would collide.
            let dial = DialOpts::peer_id(*peer_id)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(vec![address])
                .allocate_new_port()
                .build();
            match self.swarm.dial(dial) {
                Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
                Err(error) => link.fail(now, &error),
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>, connected: &watch::Sender<Vec<String>>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                let Some(link) = self.links.get_mut(&peer_id) else {
                    tracing::debug!(%peer_id, "a stranger connected");
                    return;
                };
                let now = Instant::now();
                link.redial.connected(now);
                link.connections.push((connection_id, now));
                if link.connections.len() > MAX_CONNECTIONS_PER_PEER {
                    let (oldest, _) = link.connections.remove(0);
                    self.swarm.close_connection(oldest);
                }
                self.publish(connected);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                let Some(link) = self.links.get_mut(&peer_id) else {
                    return;
                };
                link.connections.retain(|(connection, _)| *connection != connection_id);
                if num_established == 0 {
                    link.redial.lost(Instant::now());
                    link.known.failed("the connection was lost".into());
                }
                self.publish(connected);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer_id), error, .. } => {
                if let Some(link) = self.links.get_mut(&peer_id) {
                    link.fail(Instant::now(), &error);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, connection, result: Ok(_) })) => {
                let connections = self.links.get_mut(&peer).map(|link| &mut link.connections);
                if let Some((_, answered)) =
                    connections.into_iter().flatten().find(|(id, _)| *id == connection)
                {
                    *answered = Instant::now();
                }
            }
            SwarmEvent::ListenerClosed { reason, .. } => {
                tracing::error!(?reason, "the peers' listener closed: others can't connect to this node");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "the peers' listener"),
            _ => {}
        }
    }

    fn publish(&self, connected: &watch::Sender<Vec<String>>) {
        let links = self.links.values().filter(|link| !link.connections.is_empty());
        let mut now: Vec<String> = links.map(|link| link.known.organization.clone()).collect();
        now.sort();
        connected.send_if_modified(|before| {
            let changed = *before != now;
            if changed {
                tracing::info!(connected = ?now, "peers");
                *before = now;
            }
            changed
        });
    }
}

impl Link {
    /// When there is something to do.
    fn next(&self) -> Option<Instant> {
        let silent = self.connections.iter().map(|(_, answered)| *answered + SILENCE);
        silent.chain(self.redial.next()).min()
    }

    fn fail(&mut self, now: Instant, error: &DialError) {
        let reason = match error {
            DialError::WrongPeerId { obtained, .. } => {
                format!("its address answers with another peer id ({obtained}) than the ledger's")
            }
            DialError::Transport(tried) => match tried.first() {
                Some((address, error)) => format!("dialing {address}: {}", root(error)),
                None => error.to_string(),
            },
            other => other.to_string(),
        };
        tracing::debug!(organization = %self.known.organization, %reason, "dial failed");
        self.known.failed(reason);
        self.redial.failed(now);
    }
}

/// The innermost cause, which is the one that says something.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
