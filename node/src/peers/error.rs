//! What can go wrong between peers.

use thiserror::Error;

/// An error of the peers' swarm or of one of its streams.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeersError {
    /// No stream to this organization now; it may come back.
    #[error("{organization} can't be reached: {reason}")]
    Unreachable {
        /// Its id.
        organization: String,
        /// Why, as far as is known.
        reason: String,
    },
    /// The other side, or the connection, ended in the middle; or this node's swarm has stopped.
    #[error("the stream was closed before its end")]
    Closed,
    /// A frame over the limit; nothing of it was read or written, and the stream is of no more use.
    #[error("a frame of {len} bytes is over the limit of {max} bytes")]
    FrameTooLong {
        /// The length it declares.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Nothing moved for too long: what the other side did is unknown.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The address to listen on could not be bound.
    #[error("can't listen for peers on {address}: {reason}")]
    Listen {
        /// As configured.
        address: String,
        /// Why, and what to do.
        reason: String,
    },
}
