//! Connections of the log's door: so many at once, each for so long.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Connections at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 256;
/// A connection ends after this long: whoever never asks, or never reads, gives its place up.
const LIFE: Duration = Duration::from_secs(60);

/// A listener that takes no more than its places.
pub struct Limited {
    inner: TcpListener,
    places: Arc<Semaphore>,
    life: Duration,
}

impl Limited {
    /// Over a bound listener.
    pub fn new(inner: TcpListener) -> Self {
        Self::with(inner, MAX_CONNECTIONS, LIFE)
    }

    fn with(inner: TcpListener, places: usize, life: Duration) -> Self {
        Self { inner, places: Arc::new(Semaphore::new(places)), life }
    }
}

impl Listener for Limited {
    type Io = Timed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Timed, SocketAddr) {
        // Nobody closes the semaphore.
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.inner).await;
        (Timed { stream, end: Box::pin(tokio::time::sleep(self.life)), _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection with an end, and its place.
pub struct Timed {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Timed {
    /// The stream, until the end.
    fn stream(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream(context)?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use axum::Router;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_is_silent_gives_its_place_up() {
        let life = Duration::from_millis(700);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "here" }));
        let limited = Limited::with(listener, 2, life);
        tokio::spawn(async move { axum::serve(limited, router).await });
        let ask = || async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            said
        };
        // Answered connections leave their places to the next.
        for _ in 0..5 {
            assert!(ask().await.ends_with("here"));
        }
        // Two that say nothing, or never end what they say, hold both until their end.
        let begin = Instant::now();
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HT").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(ask().await.ends_with("here"));
        assert!(begin.elapsed() >= life, "{:?}", begin.elapsed());
        for stream in [&mut silent, &mut slow] {
            let mut rest = Vec::new();
            let _ = tokio::time::timeout(2 * life, stream.read_to_end(&mut rest)).await.unwrap();
        }
    }
}
