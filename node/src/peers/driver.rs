//! The task that owns the swarm: dials, redials, counts connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{ping, PeerId};
use tokio::sync::watch;
use tokio::time::{sleep_until, Instant};
use tokio_util::sync::CancellationToken;

use super::behaviour::{Behaviour, BehaviourEvent};
use super::bind::Bound;
use super::directory::Known;
use super::redial::Redial;
use super::MAX_CONNECTIONS_PER_PEER;

/// A known peer that answered no ping for this long is gone. (ping's own failures come after 25 s: the first is not
/// reported, and the next try waits for a new stream.)
const SILENCE: Duration = Duration::from_secs(10);

pub(super) struct Driver {
    swarm: Swarm<Behaviour>,
    links: BTreeMap<PeerId, Link>,
}

/// What the driver knows about one known peer.
struct Link {
    known: Arc<Known>,
    redial: Redial,
    /// Oldest first, with the time of the last answer.
    connections: Vec<(ConnectionId, Instant)>,
}

impl Driver {
    pub(super) fn new(bound: Bound) -> Self {
        let now = Instant::now();
        let link = |known: &Arc<Known>| Link {
            known: known.clone(),
            redial: Redial::new(now),
            connections: Vec::new(),
        };
        let links = bound.directory.all().map(|known| (known.peer_id, link(known)));
        Self { links: links.collect(), swarm: bound.swarm }
    }

    /// Runs until shutdown; then drops the swarm, which closes listener and connections, and only then tells the watchers.
    pub(super) async fn run(mut self, connected: watch::Sender<Vec<String>>, shutdown: CancellationToken) {
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
            let Some(address) = link.known.address.clone() else {
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
