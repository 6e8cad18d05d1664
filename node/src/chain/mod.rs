//! The ledger of this node: its store, views of it, the entries that wait, and the replica that the ordering engine drives.

pub mod changes;
pub mod mempool;
pub mod replica;
pub mod store;
pub mod stored;
pub mod submit;
pub mod view;

pub use mempool::Mempool;
pub use replica::LedgerReplica;
pub use store::Store;
pub use submit::{SubmitError, Submitter};
pub use view::View;

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall clock in milliseconds since the Unix epoch. The only place where the node reads it.
pub fn now_ms() -> u64 {
    crate::fault::shifted(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64))
}
