//! Frames on a stream: 4 bytes of length, big endian, then the bytes; at the end four bytes of `ff`.
//!
//! The end has a mark of its own because yamux reads a reset, a killed process and a cut cable as an orderly end.

use std::fmt;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::PeersError;

/// How long nothing may move, unless [`PeerStream::set_idle_timeout`] says otherwise.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

const HEADER_BYTES: usize = 4;
/// In place of a length.
const END: u32 = u32::MAX;
/// What is read or written in one go; each go may take the idle timeout.
const CHUNK_BYTES: usize = 16 * 1024;

/// One stream with one peer. Dropping it cuts it off; [`Self::close`] ends it in order.
pub struct PeerStream {
    stream: Stream,
    idle: Duration,
    /// Header and body of the frame being received, so that a `recv` that was dropped loses nothing.
    partial: Vec<u8>,
    chunk: Vec<u8>,
    /// A `send` did not finish: what follows would be read as the rest of its frame.
    torn: bool,
    /// The peer's end mark was read.
    ended: bool,
    /// Counts against the peer's limit as long as the stream lives.
    _permit: OwnedSemaphorePermit,
}

impl fmt::Debug for PeerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerStream").finish_non_exhaustive()
    }
}

impl PeerStream {
    pub(super) fn new(stream: Stream, permit: OwnedSemaphorePermit) -> Self {
        let (partial, chunk) = (Vec::new(), Vec::new());
        Self {
            stream,
            idle: DEFAULT_IDLE_TIMEOUT,
            partial,
            chunk,
            torn: false,
            ended: false,
            _permit: permit,
        }
    }

    /// How long `send` and `recv` wait while nothing moves; a frame may take longer as long as it does move.
    pub fn set_idle_timeout(&mut self, idle: Duration) {
        self.idle = idle;
    }

    /// Sends one frame. If it fails or is dropped before its end, the stream takes no other.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), PeersError> {
        let header = match u32::try_from(frame.len()) {
            Ok(header) if header != END => header,
            _ => return Err(PeersError::FrameTooLong { len: frame.len(), max: END as usize - 1 }),
        };
        if std::mem::replace(&mut self.torn, true) {
            return Err(PeersError::Closed);
        }
        self.write(&header.to_be_bytes()).await?;
        self.write(frame).await?;
        in_time(self.idle, self.stream.flush()).await?;
        self.torn = false;
        Ok(())
    }

    /// Receives one frame; `None` when the peer closed the stream in order, [`PeersError::Closed`] when it just ended. A
    /// declared length over `max_bytes` is refused before anything is allocated for it, and memory grows only with what
    /// arrives. May be dropped and called again.
    pub async fn recv(&mut self, max_bytes: usize) -> Result<Option<Vec<u8>>, PeersError> {
        while !self.ended {
            let missing = match self.partial.first_chunk::<HEADER_BYTES>() {
                None => HEADER_BYTES - self.partial.len(),
                Some(header) if u32::from_be_bytes(*header) == END => {
                    self.ended = true;
                    break;
                }
                Some(header) => {
                    let len = u32::from_be_bytes(*header) as usize;
                    if len > max_bytes {
                        return Err(PeersError::FrameTooLong { len, max: max_bytes });
                    }
                    HEADER_BYTES + len - self.partial.len()
                }
            };
            if missing == 0 {
                let mut frame = std::mem::take(&mut self.partial);
                frame.drain(..HEADER_BYTES);
                return Ok(Some(frame));
            }
            self.chunk.resize(missing.min(CHUNK_BYTES), 0);
            let read = in_time(self.idle, self.stream.read(&mut self.chunk)).await?;
            if read == 0 {
                return Err(PeersError::Closed);
            }
            self.partial.extend_from_slice(self.chunk.get(..read).unwrap_or_default());
        }
        Ok(None)
    }

    /// Ends the stream: what was sent arrives, then the peer's `recv` gives `None`. It fails when the peer has dropped its
    /// side already, which who spoke last may ignore.
    pub async fn close(mut self) -> Result<(), PeersError> {
        if self.torn {
            return Err(PeersError::Closed);
        }
        self.write(&END.to_be_bytes()).await?;
        in_time(self.idle, self.stream.close()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), PeersError> {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            in_time(self.idle, self.stream.write_all(chunk)).await?;
        }
        Ok(())
    }
}

/// Whatever ended the stream, for the caller it is closed: the peer's words are not passed on.
async fn in_time<T>(
    idle: Duration,
    step: impl std::future::Future<Output = std::io::Result<T>>,
) -> Result<T, PeersError> {
    match timeout(idle, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::debug!(%error, "stream ended");
            Err(PeersError::Closed)
        }
        Err(_) => Err(PeersError::Timeout),
    }
}
