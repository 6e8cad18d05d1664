//! The ledger of this node: its store, views of it, the entries that wait, and the replica that the ordering engine drives.

pub mod changes;
pub mod import;
mod layout;
pub mod mempool;
pub mod own_history;
pub mod pinned;
pub mod prune;
pub mod receipts;
mod recoveries;
pub mod refused;
pub mod replica;
pub mod snapshot;
pub mod store;
pub mod stored;
pub mod submit;
pub mod view;
pub mod whole;

pub use mempool::Mempool;
pub use replica::LedgerReplica;
pub use store::Store;
pub use submit::{SubmitError, Submitter};
pub use view::View;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::freshness::boot_time;

/// Wall clock in milliseconds since the Unix epoch. The only place where the node reads it.
pub fn now_ms() -> u64 {
    crate::fault::shifted(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64))
}

/// Where blocks and waiting entries get the time from: the wall clock, or in a simulation a number that it sets.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// A clock that shows whatever `time_ms` holds: milliseconds since the Unix epoch.
    pub fn simulated(time_ms: Arc<AtomicU64>) -> Self {
        Self(Some(time_ms))
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.0.as_ref().map_or_else(now_ms, |time_ms| time_ms.load(Ordering::Relaxed))
    }

    /// Milliseconds since the machine was started, suspended time included: whatever the wall clock is set to, they pass evenly.
    pub fn steady_ms(&self) -> u64 {
        let boot_ms = || boot_time().as_millis() as u64;
        self.0.as_ref().map_or_else(boot_ms, |time_ms| time_ms.load(Ordering::Relaxed))
    }
}
