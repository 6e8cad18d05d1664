//! The second libp2p swarm: streams of frames between organizations that the ledger names.
//!
//! ```text
//! open(organization, protocol) ─► Known.openers ─► Handler (one a connection) ─► yamux stream ─► Handler ─► Inbound
//!                                                                                  permit of 16 a peer, else dropped
//! set_known, set_key ─► driver: whom the ledger names now, and this node's own key
//! driver: keeps a connection to every known peer, redials 0.2 .. 2 s, closes what does not answer pings
//! ```
//!
//! Who a peer is, is its noise key: a peer id that the ledger's organization list does not hold is a stranger, for whom only
//! identify and ping exist: our protocols are not even offered to it. Every queue is bounded: the inbound queue by the
//! permits that each peer's streams hold, so that one peer can't take another's room.

mod behaviour;
mod bind;
mod directory;
mod driver;
mod error;
mod redial;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use libp2p::StreamProtocol;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use error::PeersError;
pub use stream::{PeerStream, DEFAULT_IDLE_TIMEOUT};

use behaviour::Opening;
use directory::Directory;
use driver::Driver;

/// The most streams that one peer has open towards us at once; more are dropped.
pub const MAX_INBOUND_STREAMS: usize = 16;
/// The most streams that we have open towards one peer; the next [`Peers::open`] waits. Fewer than a peer takes, because
/// it may still hold some that we have closed.
pub const MAX_OUTBOUND_STREAMS: usize = 12;
/// The most connections with one known peer: both dial, and a restart leaves old ones behind for a while.
pub const MAX_CONNECTIONS_PER_PEER: usize = 4;
/// Organizations whose streams fit into the queue at once; those of more wait their turn.
pub const MAX_KNOWN_PEERS: usize = 256;
/// The most connections with strangers.
pub const MAX_STRANGERS: u32 = 16;
/// How long opening a stream may take.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Where this node listens, who it is, and whom it knows.
pub struct PeersConfig {
    /// Secret of the exchange peer key (`keys/exchange-peer.pem`).
    pub secret: [u8; 32],
    /// A multiaddress such as `/ip4/127.0.0.1/tcp/7414`; port 0 takes any.
    pub listen: String,
    /// This node's own organization.
    pub organization: String,
    /// The organizations of the ledger; this node's own may be among them.
    pub known: Vec<KnownPeer>,
}

/// How the ledger describes an organization's node.
#[derive(Debug, Clone)]
pub struct KnownPeer {
    /// The organization's id.
    pub organization: String,
    /// Its exchange peer id, in base58.
    pub peer_id: String,
    /// Its exchange address, a multiaddress by IP.
    pub address: String,
}

/// What is spoken on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Forwarding of entries.
    Entries,
    /// Heights and freshness.
    Status,
    /// Consent questions and releases of records.
    Exchange,
    /// Snapshots for nodes that join.
    Snapshot,
}

impl Protocol {
    const ALL: [Self; 4] = [Self::Entries, Self::Status, Self::Exchange, Self::Snapshot];

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entries => "/assent/1/entries",
            Self::Status => "/assent/1/status",
            Self::Exchange => "/assent/1/exchange",
            Self::Snapshot => "/assent/1/snapshot",
        }
    }

    fn on_wire(self) -> StreamProtocol {
        StreamProtocol::new(self.name())
    }

    fn from_wire(name: &StreamProtocol) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == name.as_ref())
    }
}

/// A stream that a known peer opened.
#[derive(Debug)]
pub struct Inbound {
    /// The organization whose key the connection is authenticated with.
    pub organization: String,
    /// What it wants to speak.
    pub protocol: Protocol,
    /// The stream.
    pub stream: PeerStream,
}

/// A handle to the running swarm; cheap to clone. The swarm ends with the shutdown token, not with its handles.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    directory: Arc<Directory>,
    local_peer_id: String,
    listening: String,
    connected: watch::Receiver<Vec<String>>,
    orders: mpsc::UnboundedSender<Order>,
}

/// What the driver is told. Rare: one for each change of the membership.
enum Order {
    /// Whom the ledger names now.
    Known(Vec<KnownPeer>),
    /// The exchange peer key that it names for this node.
    Key([u8; 32]),
}

/// Starts the swarm; returns when its listener is bound. Streams of known peers come out of the receiver.
pub async fn start(
    config: PeersConfig,
    shutdown: CancellationToken,
) -> Result<(Peers, mpsc::Receiver<Inbound>), PeersError> {
    let (listen, known) = (config.listen.clone(), config.known.clone());
    let (bound, inbound) = bind::bind(config).await?;
    let (sender, connected) = watch::channel(Vec::new());
    let (orders, of_orders) = mpsc::unbounded_channel();
    let shared = Shared {
        directory: bound.directory.clone(),
        local_peer_id: bound.swarm.local_peer_id().to_string(),
        listening: bound.listening.to_string(),
        connected,
        orders,
    };
    tokio::spawn(Driver::new(bound, listen, known).run(sender, of_orders, shutdown));
    Ok((Peers { shared: Arc::new(shared) }, inbound))
}

impl Peers {
    /// Opens a stream to an organization's node. Fails at once when there is no connection: the driver is redialing, and
    /// [`Self::subscribe_connected`] tells when there is one.
    pub async fn open(&self, organization: &str, protocol: Protocol) -> Result<PeerStream, PeersError> {
        let unreachable =
            |reason: String| PeersError::Unreachable { organization: organization.to_owned(), reason };
        let known = self.shared.directory.organization(organization).ok_or_else(|| {
            unreachable("the ledger's organization list gives no usable exchange peer id for it".into())
        })?;
        let opening = async {
            let permit = known.outbound.clone().acquire_owned().await.map_err(|_| PeersError::Closed)?;
            // The newest first: after a restart of the peer the others are dead and don't know it yet.
            for opener in known.openers().into_iter().rev() {
                let (reply, answer) = oneshot::channel();
                if opener.send(Opening { protocol, reply }).await.is_err() {
                    continue;
                }
                match answer.await {
                    Ok(Ok(stream)) => return Ok(PeerStream::new(stream, permit)),
                    Ok(Err(reason)) => return Err(unreachable(reason)),
                    Err(_) => continue,
                }
            }
            Err(if self.stopped() { PeersError::Closed } else { unreachable(known.why_not_connected()) })
        };
        timeout(OPEN_TIMEOUT, opening).await.unwrap_or(Err(PeersError::Timeout))
    }

    /// Whom the ledger names from now on: others are disconnected and refused, new ones dialed and accepted.
    pub fn set_known(&self, known: Vec<KnownPeer>) {
        // A driver that has stopped needs none.
        let _ = self.shared.orders.send(Order::Known(known));
    }

    /// This node has another exchange peer key from now on: every connection ends, and is made anew under its peer id.
    pub fn set_key(&self, secret: [u8; 32]) {
        let _ = self.shared.orders.send(Order::Key(secret));
    }

    /// Organizations with at least one connection, sorted.
    pub fn connected(&self) -> Vec<String> {
        self.shared.connected.borrow().clone()
    }

    /// Follows [`Self::connected`]; its sender is gone when the swarm has stopped.
    pub fn subscribe_connected(&self) -> watch::Receiver<Vec<String>> {
        self.shared.connected.clone()
    }

    /// This node's exchange peer id when it started, in base58.
    pub fn local_peer_id(&self) -> &str {
        &self.shared.local_peer_id
    }

    /// The multiaddress bound, with the port that was taken for port 0.
    pub fn listening(&self) -> &str {
        &self.shared.listening
    }

    /// Waits until the swarm has stopped and its port is free.
    pub async fn wait_stopped(&self) {
        let mut connected = self.subscribe_connected();
        while connected.changed().await.is_ok() {}
    }

    fn stopped(&self) -> bool {
        self.shared.connected.has_changed().is_err()
    }
}
