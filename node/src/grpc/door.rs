//! The clients' door: TCP and TLS before gRPC, with a bound for everything that somebody can make it hold.
//!
//! ```text
//! accept ─▶ place among the handshakes (the oldest gives way) ─▶ TLS, in its time ─▶ place by identity ─▶ HTTP/2, begun in its time
//! ```
//! A refused connection is closed; the log and `assent_grpc_connections_refused_total` say why.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::auth::Authority;
use super::cas::Cas;
use super::places::{Place, Places, Refused};
use crate::certificates::Certificates;
use crate::chain::now_ms;

/// HTTP/2's preface and an empty SETTINGS frame, in bytes: what every client sends first.
const FIRST_BYTES: usize = 24 + 9;
/// Connections that wait to be served: as many may be handed over at once.
const QUEUE: usize = 16;
/// After an error of accept: of files in use there may be too many, and none the next moment.
const PAUSE: Duration = Duration::from_millis(50);

/// Who may come in, and how.
pub(super) struct Door {
    pub listener: TcpListener,
    pub certificates: Certificates,
    pub authority: Arc<Authority>,
    /// Every member's authority: a client at the wrong node is told so.
    pub cas: Arc<Cas>,
    pub places: Places,
    /// For a handshake, and again for the first bytes.
    pub time: Duration,
}

/// TLS with the node's certificate of the moment; client certificates are optional, from any member's CA.
fn tls(cas: Arc<Cas>, certificates: Certificates) -> Result<ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let mut config = builder.with_client_cert_verifier(cas).with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols.push(b"h2".to_vec());
    // A client comes back with its certificate, not with a ticket that may outlive it.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

impl Door {
    /// Connections that have a place, until the shutdown.
    pub fn open(
        self,
        shutdown: CancellationToken,
    ) -> Result<impl Stream<Item = io::Result<Connection>>, String> {
        let acceptor = TlsAcceptor::from(Arc::new(tls(self.cas, self.certificates)?));
        let (connections, mut incoming) = mpsc::channel(QUEUE);
        let guest = Guest { acceptor, authority: self.authority, places: self.places, time: self.time };
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = shutdown.cancelled() => return,
                    accepted = self.listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, _)) => {
                        // Taken here, so that handshakes count in the order in which they came.
                        let handshake = guest.places.handshake();
                        tokio::spawn(guest.clone().admit(stream, handshake, connections.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "gRPC: a connection is not accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
        Ok(futures::stream::poll_fn(move |context| incoming.poll_recv(context).map(|c| c.map(Ok))))
    }
}

#[derive(Clone)]
struct Guest {
    acceptor: TlsAcceptor,
    authority: Arc<Authority>,
    places: Places,
    time: Duration,
}

impl Guest {
    async fn admit(
        self,
        stream: TcpStream,
        handshake: super::places::Handshake,
        connections: mpsc::Sender<Connection>,
    ) {
        // Without it answers wait for more; whoever can't set it is slow, not wrong.
        let _ = stream.set_nodelay(true);
        let accepted = tokio::select! {
            () = handshake.gives_way.cancelled() => return self.refuse(Refused::HandshakeGaveWay),
            accepted = tokio::time::timeout(self.time, self.acceptor.accept(stream)) => accepted,
        };
        drop(handshake);
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "gRPC: no TLS handshake"),
            Err(_) => return self.refuse(Refused::Slow),
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let client = self.authority.identify(chain, now_ms()).ok();
        match self.places.take(client.as_ref().map(|client| client.id.as_str())) {
            // Gone when the server has ended.
            Ok(place) => drop(connections.send(Connection::new(stream, place, self.time)).await),
            Err(why) => self.refuse(why),
        }
    }

    fn refuse(&self, why: Refused) {
        if self.places.refused(why) {
            tracing::warn!(reason = why.word(), "gRPC: a connection is refused");
        }
    }
}

/// A connection in its place.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    /// Bytes of [`FIRST_BYTES`] that still lack, and until when they may.
    lacking: usize,
    until: Option<Pin<Box<Sleep>>>,
    place: Place,
}

impl Connection {
    fn new(stream: TlsStream<TcpStream>, place: Place, time: Duration) -> Self {
        Self { stream, lacking: FIRST_BYTES, until: Some(Box::pin(tokio::time::sleep(time))), place }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(until) = &mut self.until else { return polled };
        if polled.is_pending() {
            // The engine of HTTP/2 has a timer for its pings, and none for its beginning.
            ready!(until.as_mut().poll(context));
            self.place.refuse_slow();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.lacking = self.lacking.saturating_sub(buffer.filled().len() - before);
        if self.lacking == 0 {
            self.until = None;
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = <TlsStream<TcpStream> as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}
