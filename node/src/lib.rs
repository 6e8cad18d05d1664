//! Making it happen: the node of one organization.
//!
//! ```text
//! clients ─gRPC/mTLS─▶ grpc ─▶ custodian ─▶ vault            private, encrypted, erasable
//!                           ╲▶ recipient ─▶ exchange ─▶ peers  other organizations' nodes
//!                                  ╲▶ chain ◀─ order ◀─ bft    the ledger, under agreement
//! ```

/// `Debug` that shows a type's name only: what identifies a patient, or is about one, gets into no log by accident.
macro_rules! opaque_debug {
    ($($name:ty),+) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        })+
    };
}

pub mod admin;
pub mod app;
pub mod backup;
pub mod bft;
pub mod certificates;
pub mod chain;
pub mod config;
pub mod custodian;
pub mod daemon;
pub mod evidence;
pub mod exchange;
pub mod fault;
pub mod freshness;
pub mod governance;
pub mod grpc;
pub mod health;
pub mod limits;
pub mod members;
pub mod memory_use;
pub mod node;
pub mod order;
pub mod own_keys;
pub mod peers;
pub mod progress;
pub mod recipient;
pub mod recover;
pub mod refusal;
pub mod reports;
pub mod scrub;
pub mod snapshot;
pub mod space;
pub mod standing;
pub mod tlog;
pub mod told;
pub mod vault;
pub mod watchdog;
