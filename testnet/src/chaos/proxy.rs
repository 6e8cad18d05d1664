//! A proxy of the testnet's own between the nodes' swarms: one port for each pair of who dials whom, one rule for each direction.
//!
//! ```text
//! cedar ──dials──▶ port(cedar, birch) ──▶ birch's listener
//!                  bytes from cedar obey link (cedar, birch), bytes from birch obey link (birch, cedar)
//! ```
//! A stalled link keeps what was sent, in order, and lets it go when it heals, as TCP does over a network that lost every packet
//! for a while. A cut one ends the connections and every new one. Nothing is lost or reordered within a connection: that is
//! what TCP hides from nodes, and real packet loss under it needs netem.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::{Error, While};

/// Longest piece that is passed on at once.
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces under way on one direction of a connection; more wait in the sender's socket.
const PIECES: usize = 64;

/// What happens to bytes on a directed link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// They pass.
    Open,
    /// They wait.
    Stall,
    /// Connections end.
    Cut,
    /// They pass, this much later.
    Delay(Duration),
    /// So many pass in a second.
    Rate(u32),
}

/// One of a node's two swarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Swarm {
    Consensus,
    Exchange,
}

/// A node's listeners: consensus, exchange.
#[derive(Debug, Clone)]
pub struct Listens {
    /// Id of its organization.
    pub organization: String,
    /// By swarm.
    pub at: [SocketAddr; 2],
}

/// What passed, and whether the canary was in it.
#[derive(Debug, Default)]
pub struct Tap {
    canary: Vec<u8>,
    bytes: AtomicU64,
    sightings: AtomicU64,
}

impl Tap {
    /// Looks at a piece together with the end of the one before.
    fn look(&self, tail: &mut Vec<u8>, piece: &[u8]) {
        self.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        if self.canary.is_empty() {
            return;
        }
        tail.extend_from_slice(piece);
        if contains(tail, &self.canary) {
            self.sightings.fetch_add(1, Ordering::Relaxed);
            tail.clear();
        }
        let keep = tail.len().saturating_sub(self.canary.len() - 1);
        tail.drain(..keep);
    }
}

/// True when `bytes` holds `what`.
pub fn contains(bytes: &[u8], what: &[u8]) -> bool {
    let Some(first) = what.first() else { return true };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        if rest[at..].starts_with(what) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

type Links = BTreeMap<(String, String), watch::Sender<Flow>>;

/// The proxy. Dropping it ends every connection.
pub struct Proxy {
    links: Arc<Links>,
    ports: BTreeMap<(String, String, Swarm), u16>,
    tap: Arc<Tap>,
    tasks: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Listens for every pair of nodes.
    pub async fn start(nodes: &[Listens], canary: &str) -> Result<Self, Error> {
        let pairs: Vec<(&Listens, &Listens)> = nodes
            .iter()
            .flat_map(|from| nodes.iter().map(move |to| (from, to)))
            .filter(|(from, to)| from.organization != to.organization)
            .collect();
        let name = |(from, to): (&Listens, &Listens)| (from.organization.clone(), to.organization.clone());
        let links: Links = pairs.iter().map(|pair| (name(*pair), watch::Sender::new(Flow::Open))).collect();
        let tap = Tap { canary: canary.as_bytes().to_vec(), ..Tap::default() };
        let mut proxy =
            Self { links: Arc::new(links), ports: BTreeMap::new(), tap: Arc::new(tap), tasks: Vec::new() };
        for (from, to) in pairs {
            for swarm in [Swarm::Consensus, Swarm::Exchange] {
                let doing = || "listening for a link between nodes".to_owned();
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.during(doing)?;
                let port = listener.local_addr().during(doing)?.port();
                let (from, to_name) = name((from, to));
                proxy.ports.insert((from.clone(), to_name.clone(), swarm), port);
                let there = watch_of(&proxy.links, &from, &to_name);
                let back = watch_of(&proxy.links, &to_name, &from);
                let task = accept(listener, to.at[swarm as usize], there, back, proxy.tap.clone());
                proxy.tasks.push(tokio::spawn(task));
            }
        }
        Ok(proxy)
    }

    /// The port at which one node dials another.
    pub fn port(&self, from: &str, to: &str, swarm: Swarm) -> Option<u16> {
        self.ports.get(&(from.to_owned(), to.to_owned(), swarm)).copied()
    }

    /// Sets the rule for bytes from one node to another.
    pub fn set(&self, from: &str, to: &str, flow: Flow) {
        if let Some(link) = self.links.get(&(from.to_owned(), to.to_owned())) {
            link.send_replace(flow);
        }
    }

    /// Both directions between two nodes.
    pub fn set_both(&self, a: &str, b: &str, flow: Flow) {
        self.set(a, b, flow);
        self.set(b, a, flow);
    }

    /// Everything passes again.
    pub fn open_all(&self) {
        for link in self.links.values() {
            link.send_replace(Flow::Open);
        }
    }

    /// Bytes that passed so far, and how often the canary was among them.
    pub fn seen(&self) -> (u64, u64) {
        (self.tap.bytes.load(Ordering::Relaxed), self.tap.sightings.load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A receiver of a link's rule; every pair has one.
fn watch_of(links: &Links, from: &str, to: &str) -> watch::Receiver<Flow> {
    let link = links.get(&(from.to_owned(), to.to_owned()));
    link.map_or_else(|| watch::Sender::new(Flow::Open).subscribe(), watch::Sender::subscribe)
}

async fn accept(
    listener: TcpListener,
    to: SocketAddr,
    there: watch::Receiver<Flow>,
    back: watch::Receiver<Flow>,
    tap: Arc<Tap>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((dialer, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        connections.spawn(connect(dialer, to, there.clone(), back.clone(), tap.clone()));
    }
}

async fn connect(
    dialer: TcpStream,
    to: SocketAddr,
    mut there: watch::Receiver<Flow>,
    mut back: watch::Receiver<Flow>,
    tap: Arc<Tap>,
) {
    if *there.borrow() == Flow::Cut || *back.borrow() == Flow::Cut {
        return;
    }
    // Not until the dialer can be heard: the listener must not see a connection from somebody who is cut off.
    if there.wait_for(|flow| *flow != Flow::Stall).await.is_err() {
        return;
    }
    let Ok(listener) = TcpStream::connect(to).await else {
        return;
    };
    let _ = (dialer.set_nodelay(true), listener.set_nodelay(true)); // only slower without
    let (dialer_in, dialer_out) = dialer.into_split();
    let (listener_in, listener_out) = listener.into_split();
    tokio::select! {
        () = pass(dialer_in, listener_out, there.clone(), tap.clone()) => {}
        () = pass(listener_in, dialer_out, back.clone(), tap) => {}
        _ = there.wait_for(|flow| *flow == Flow::Cut) => {}
        _ = back.wait_for(|flow| *flow == Flow::Cut) => {}
    }
}

/// Passes one direction of a connection on until it ends.
async fn pass(mut from: OwnedReadHalf, to: OwnedWriteHalf, flow: watch::Receiver<Flow>, tap: Arc<Tap>) {
    let (pieces, due) = mpsc::channel(PIECES);
    let rules = flow.clone();
    let read = async move {
        let mut buffer = vec![0; PIECE_BYTES];
        let mut tail = Vec::new();
        while let Ok(length) = from.read(&mut buffer).await {
            if length == 0 {
                break;
            }
            tap.look(&mut tail, &buffer[..length]);
            let rule = *rules.borrow();
            let at = match rule {
                Flow::Delay(time) => Instant::now() + time,
                _ => Instant::now(),
            };
            if pieces.send((at, buffer[..length].to_vec())).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write(to, due, flow));
}

async fn write(
    mut to: OwnedWriteHalf,
    mut due: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut flow: watch::Receiver<Flow>,
) {
    while let Some((at, piece)) = due.recv().await {
        tokio::time::sleep_until(at).await;
        let Ok(rule) = flow.wait_for(|flow| *flow != Flow::Stall).await.map(|rule| *rule) else {
            return;
        };
        if to.write_all(&piece).await.is_err() {
            return;
        }
        if let Flow::Rate(bytes_per_s) = rule {
            tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / f64::from(bytes_per_s.max(1))))
                .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(300);

    /// Two nodes of which the second sends back what it gets; a connection from the first.
    async fn pair(canary: &str) -> (Proxy, TcpStream) {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = echo.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let node = |name: &str| Listens { organization: name.into(), at: [at, at] };
        let proxy = Proxy::start(&[node("a"), node("b")], canary).await.unwrap();
        let stream = dial(&proxy).await;
        (proxy, stream)
    }

    async fn dial(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(("127.0.0.1", proxy.port("a", "b", Swarm::Exchange).unwrap())).await.unwrap()
    }

    async fn echoed(stream: &mut TcpStream, text: &str) -> bool {
        let mut answer = vec![0; text.len()];
        let talk = async {
            stream.write_all(text.as_bytes()).await?;
            stream.read_exact(&mut answer).await
        };
        matches!(timeout(SOON, talk).await, Ok(Ok(_))) && answer == text.as_bytes()
    }

    #[tokio::test]
    async fn a_stall_holds_one_direction_and_loses_nothing() {
        for (from, to) in [("a", "b"), ("b", "a")] {
            let (proxy, mut stream) = pair("").await;
            assert!(echoed(&mut stream, "one").await);
            proxy.set(from, to, Flow::Stall);
            assert!(!echoed(&mut stream, "two").await);
            proxy.open_all();
            let mut answer = [0; 3];
            timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!(&answer, b"two");
        }
    }

    #[tokio::test]
    async fn a_cut_ends_connections_and_new_ones_until_it_heals() {
        let (proxy, mut stream) = pair("").await;
        assert!(echoed(&mut stream, "one").await);
        proxy.set("b", "a", Flow::Cut);
        assert_eq!(timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
        assert!(!echoed(&mut dial(&proxy).await, "two").await);
        proxy.open_all();
        assert!(echoed(&mut dial(&proxy).await, "three").await);
    }

    #[tokio::test]
    async fn a_delay_delays_one_direction() {
        let (proxy, mut stream) = pair("").await;
        proxy.set("a", "b", Flow::Delay(Duration::from_millis(100)));
        let begin = Instant::now();
        assert!(echoed(&mut stream, "one").await);
        assert!(begin.elapsed() >= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn a_canary_is_seen_also_across_pieces() {
        let (proxy, mut stream) = pair("CANARY").await;
        assert!(echoed(&mut stream, "canary CANAR").await);
        assert_eq!(proxy.seen().1, 0);
        assert!(echoed(&mut stream, "Y").await);
        let (bytes, sightings) = proxy.seen();
        assert_eq!((bytes, sightings), (26, 2), "once in each direction");
    }
}
