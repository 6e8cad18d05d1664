//! What the swarm speaks: ping and identify with anyone, our streams with known peers.
//!
//! Our own stream behaviour instead of libp2p-stream's: that one offers its protocols to strangers too, hands inbound
//! streams over through a queue of one (a burst loses streams), and forgets no connection.

use std::convert::Infallible;
use std::future::{ready, Ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::identity::PublicKey;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    StreamUpgradeError, SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{connection_limits, identify, ping, Multiaddr, PeerId, Stream, StreamProtocol};
use tokio::sync::{mpsc, oneshot};

use super::directory::{Directory, Known};
use super::{Inbound, PeerStream, Protocol, MAX_OUTBOUND_STREAMS, MAX_STRANGERS, OPEN_TIMEOUT};

/// Every connection is pinged this often; the driver closes what is silent.
const PING: Duration = Duration::from_secs(3);
/// Handshakes under way, of anyone.
const MAX_PENDING_INBOUND: u32 = 32;
/// Connections of one stranger.
const MAX_PER_STRANGER: u32 = 2;

/// Everything the swarm does.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: Streams,
}

impl Behaviour {
    pub(super) fn new(key: PublicKey, directory: Arc<Directory>, inbound: mpsc::Sender<Inbound>) -> Self {
        let limits = connection_limits::Behaviour::new(
            connection_limits::ConnectionLimits::default()
                .with_max_pending_incoming(Some(MAX_PENDING_INBOUND))
                .with_max_established_incoming(Some(MAX_STRANGERS))
                .with_max_established_per_peer(Some(MAX_PER_STRANGER)),
        );
        // Strangers are not told our addresses, and what peers say about themselves is not kept.
        let identify = identify::Config::new("/assent/1".into(), key)
            .with_agent_version(concat!("assentd/", env!("CARGO_PKG_VERSION")).into())
            .with_hide_listen_addrs(true)
            .with_cache_size(0);
        Self {
            limits,
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING).with_timeout(PING)),
            streams: Streams { directory, inbound },
        }
    }

    /// Strangers can't take the room of known peers; those are counted by the driver.
    pub(super) fn is_known(&mut self, peer_id: &PeerId, known: bool) {
        match known {
            true => self.limits.bypass_peer_id(peer_id),
            false => self.limits.remove_peer_id(peer_id),
        }
    }
}

/// A caller's wish for a stream.
pub(super) struct Opening {
    pub(super) protocol: Protocol,
    pub(super) reply: Reply,
}

/// A stream, or why there is none.
type Reply = oneshot::Sender<Result<Stream, String>>;

/// Streams of frames with known peers.
pub(super) struct Streams {
    directory: Arc<Directory>,
    inbound: mpsc::Sender<Inbound>,
}

impl Streams {
    fn handler(&self, peer: &PeerId) -> Handler {
        let known = self.directory.peer(peer).map(|known| {
            let (opener, openings) = mpsc::channel(MAX_OUTBOUND_STREAMS);
            known.add_opener(opener);
            (known, openings)
        });
        Handler { known, inbound: self.inbound.clone() }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(&peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(&peer))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// One connection.
pub(super) struct Handler {
    /// `None` for a stranger.
    known: Option<(Arc<Known>, mpsc::Receiver<Opening>)>,
    inbound: mpsc::Sender<Inbound>,
}

impl Handler {
    fn on_inbound(&self, stream: Stream, name: &StreamProtocol) {
        let (Some((known, _)), Some(protocol)) = (&self.known, Protocol::from_wire(name)) else {
            return;
        };
        let organization = known.organization.clone();
        let Ok(permit) = known.inbound.clone().try_acquire_owned() else {
            tracing::debug!(%organization, %name, "too many streams at once: dropped");
            return;
        };
        let inbound = Inbound { organization, protocol, stream: PeerStream::new(stream, permit) };
        // The queue has room for every permit, so it is full only when its reader is gone.
        if self.inbound.try_send(inbound).is_err() {
            tracing::debug!(%name, "nobody takes streams any more: dropped");
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Names;
    type OutboundProtocol = Names;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Names> {
        let offered =
            if self.known.is_some() { Protocol::ALL.map(Protocol::on_wire).to_vec() } else { Vec::new() };
        SubstreamProtocol::new(Names(offered), ())
    }

    /// A stranger's connection ends when it has nothing more to ping or identify.
    fn connection_keep_alive(&self) -> bool {
        self.known.is_some()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Names, Reply, Infallible>> {
        let Some((_, openings)) = &mut self.known else {
            return Poll::Pending;
        };
        while let Poll::Ready(Some(Opening { protocol, reply })) = openings.poll_recv(cx) {
            if !reply.is_closed() {
                let names = Names(vec![protocol.on_wire()]);
                let protocol = SubstreamProtocol::new(names, reply).with_timeout(OPEN_TIMEOUT);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Names, Names, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, name),
                ..
            }) => {
                self.on_inbound(stream, &name);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info,
            }) => {
                // A caller that no longer waits drops the stream, which resets it.
                drop(info.send(Ok(stream)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let reason = match error {
                    StreamUpgradeError::Timeout => "it did not answer in time".into(),
                    StreamUpgradeError::NegotiationFailed => {
                        "it does not accept this protocol from this node: does it know this node's peer id?"
                            .into()
                    }
                    StreamUpgradeError::Io(error) => format!("the connection failed: {error}"),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                drop(info.send(Err(reason)));
            }
            _ => {}
        }
    }
}

/// Negotiates one of these names, and nothing more.
pub(super) struct Names(Vec<StreamProtocol>);

impl UpgradeInfo for Names {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Names {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

impl OutboundUpgrade<Stream> for Names {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}
