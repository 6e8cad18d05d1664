//! What must hold, one file each.
//!
//! | invariant | looked at | sentence |
//! |---|---|---|
//! | [`agreement`] | at each commit | at every height all validators have the same header and state root |
//! | [`one_proposal`] | at each proposal | an honest validator proposes one block for a height and round, whatever crashes |
//! | [`sets`] | at each commit | who voted at a height is whom the state named, and a quorum of them that can decide remains |
//! | [`stale_access`] | at the end | no access stands under a consent or policy state that was not current |
//! | [`replay`] | at the end | the blocks, replayed from genesis by an auditor, give every validator's state |
//! | [`acknowledged`] | at the end | a write that was acknowledged is on every validator, at the height that was told |
//! | [`once`] | at the end | a request, an entry and a sequence number take effect once at most |
//! | [`liveness`] | after healing | a new write is on every validator within a bounded time |
//! | [`quiet`] | after that | a ledger on which nobody writes grows by heartbeats only |
//!
//! Besides, no validator may ever fail. Not looked at: gRPC, vault and release (other tests), and the real engine's own protocol
//! (`assent-testnet chaos`): here the replica below the ordering boundary is real, and the engine above it is a model.

pub mod acknowledged;
pub mod agreement;
pub mod liveness;
pub mod log;
pub mod once;
pub mod one_proposal;
pub mod quiet;
pub mod replay;
pub mod sets;
pub mod stale_access;

use super::world::World;

/// What is broken, if anything is.
type Check = fn(&World) -> Result<(), String>;

/// What is checked when all validators have caught up, by name.
pub const AT_END: [(&str, Check); 4] = [
    ("stale_access", stale_access::check),
    ("replay", replay::check),
    ("acknowledged", acknowledged::check),
    ("once", once::check),
];
