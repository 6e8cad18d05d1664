//! The log for everybody: signed checkpoints and tiles over plain HTTP, as C2SP `tlog-tiles` has them.
//!
//! ```text
//! GET /checkpoint                  the newest block's log, signed by this node     [`checkpoint`]
//! GET /checkpoint/<size>           likewise, as it was at the end of an older block
//! GET /tile/<L>/<N>[.p/<W>]        hashes                                          [`tiles`]
//! GET /tile/entries/<N>[.p/<W>]    entries and headers
//! ```
//! Who reaches this port reads the whole ledger, and nothing else. What is asked is judged by its path alone: there is no state of a
//! client. Whatever else a server does (TLS, caching, rates of each client) is better done by a proxy in front: tiles never change.

mod checkpoint;
mod listener;
mod tiles;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use assent_ledger::tiles::TilePath;
use axum::extract::{Path, State};
use axum::http::{header, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use checkpoint::{SignError, Signer, SIGNED};
pub use tiles::{read as read_tile, TileError};

use crate::app::Parts;
use crate::order::Fatal;

/// Requests that read the store at once; more wait for a place.
const MAX_READS: usize = 8;

/// What the metrics say of checkpoints. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Figures(Arc<[AtomicU64; 2]>);

impl Figures {
    /// Leaves in the largest checkpoint that was signed.
    pub fn signed(&self) -> u64 {
        self.0[0].load(Ordering::Relaxed)
    }

    /// Checkpoints that were not signed because the log contradicts a signed one, since the node started.
    pub fn contradictions(&self) -> u64 {
        self.0[1].load(Ordering::Relaxed)
    }

    fn set_signed(&self, size: u64) {
        self.0[0].store(size, Ordering::Relaxed);
    }

    /// Counts one; how many there are now.
    fn contradiction(&self) -> u64 {
        self.0[1].fetch_add(1, Ordering::Relaxed) + 1
    }
}

struct Door {
    parts: Arc<Parts>,
    signer: Signer,
    reads: Arc<Semaphore>,
}

/// Serves until shut down; returns once bound.
pub async fn serve(
    parts: Arc<Parts>,
    signer: Signer,
    listen: SocketAddr,
    shutdown: CancellationToken,
) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|e| format!("tlog.listen {listen}: {e}; is another node running, or is the port taken?"))?;
    let local = listener.local_addr().map_err(|e| e.to_string())?;
    let door = Arc::new(Door { parts, signer, reads: Arc::new(Semaphore::new(MAX_READS)) });
    let router = Router::new()
        .route("/checkpoint", get(newest))
        .route("/checkpoint/{size}", get(older))
        .route("/tile/{*path}", get(tile))
        .with_state(door);
    tokio::spawn(async move {
        let listener = listener::Limited::new(listener);
        let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "tlog server stopped");
        }
    });
    tracing::info!(tlog = %local, "the log is published");
    Ok(local)
}

/// An answer that is no answer: `WORD: sentence`.
struct Refused(StatusCode, &'static str, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, word, sentence) = self;
        (status, [(header::CACHE_CONTROL, "no-store")], format!("{word}: {sentence}\n")).into_response()
    }
}

fn not_found(word: &'static str, sentence: &str) -> Refused {
    Refused(StatusCode::NOT_FOUND, word, sentence.to_owned())
}

/// The store's own words are for the log alone.
fn failed(error: &Fatal) -> Refused {
    tracing::error!(%error, "the log can't be read");
    Refused(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "this node's log says more".into())
}

impl From<SignError> for Refused {
    fn from(error: SignError) -> Self {
        let sentence = error.to_string();
        match error {
            SignError::NoBlockEnd => Self(StatusCode::NOT_FOUND, "NO_SUCH_CHECKPOINT", sentence),
            SignError::Behind => Self(StatusCode::SERVICE_UNAVAILABLE, "CATCHING_UP", sentence),
            SignError::Contradiction(_) => Self(StatusCode::INTERNAL_SERVER_ERROR, "CONTRADICTION", sentence),
            SignError::Unwritten(why) => failed(&Fatal::Storage(why)),
            SignError::Store(fatal) => failed(&fatal),
        }
    }
}

impl From<TileError> for Refused {
    fn from(error: TileError) -> Self {
        let sentence = error.to_string();
        match error {
            TileError::NotThere => not_found("NO_SUCH_TILE", &sentence),
            TileError::TooLong => Self(StatusCode::NOT_IMPLEMENTED, "LEAF_TOO_LONG", sentence),
            TileError::Store(fatal) => failed(&fatal),
        }
    }
}

/// Reads the store on a thread of its own, which has its place until it is done, whoever waits for it.
async fn read<T: Send + 'static, E: Into<Refused> + Send + 'static>(
    places: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Refused> {
    let closed = || Refused(StatusCode::SERVICE_UNAVAILABLE, "STOPPING", "this node stops".into());
    let place = places.clone().acquire_owned().await.map_err(|_| closed())?;
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        work()
    });
    match done.await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_) => Err(closed()),
    }
}

fn note(text: String) -> Response {
    let head = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (head, text).into_response()
}

async fn newest(State(door): State<Arc<Door>>) -> Result<Response, Refused> {
    let reads = door.reads.clone();
    read(&reads, move || door.signer.newest(&door.parts.store)).await.map(note)
}

async fn older(State(door): State<Arc<Door>>, Path(size): Path<String>) -> Result<Response, Refused> {
    let canonical = size == "0" || !size.starts_with('0') && size.bytes().all(|b| b.is_ascii_digit());
    let Some(size) = canonical.then(|| size.parse::<u64>().ok()).flatten() else {
        return Err(not_found("NO_SUCH_CHECKPOINT", "a size is a decimal number without leading zeros"));
    };
    let reads = door.reads.clone();
    read(&reads, move || door.signer.at(&door.parts.store, size)).await.map(note)
}

async fn tile(State(door): State<Arc<Door>>, Path(path): Path<String>) -> Result<Response, Refused> {
    let Some(tile) = TilePath::parse(&path) else {
        return Err(not_found("NO_SUCH_TILE", "no tile has this path: see c2sp.org/tlog-tiles"));
    };
    let reads = door.reads.clone();
    let bytes = read(&reads, move || tiles::read(&door.parts.store, &tile)).await?;
    let head = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((head, bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn reads_wait_for_a_place() {
        let places = Arc::new(Semaphore::new(1));
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let shared = places.clone();
        let slow = tokio::spawn(async move {
            read(&shared, move || ended.recv().map_err(|_| SignError::NoBlockEnd)).await.is_ok()
        });
        while places.available_permits() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let next = read(&places, || Ok::<_, SignError>(7));
        assert!(tokio::time::timeout(Duration::from_millis(50), next).await.is_err(), "there was no place");
        // Whoever asked is gone; the work is not, nor is its place free.
        slow.abort();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(places.available_permits(), 0);
        end.send(()).unwrap();
        assert_eq!(read(&places, || Ok::<_, SignError>(7)).await.ok(), Some(7));
    }
}
