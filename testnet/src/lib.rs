//! Proving it holds up: local networks of real nodes, and the demo.
//!
//! ```text
//! binaries    where `assent` and `assentd` are, and how they are run
//! net         a network in a folder: made by `assent`, started, waited for, stopped
//! client      gRPC to a node, as one of its organization's clients
//! slice       the committed sample records
//! chaos       faults against real processes, and the invariants that hold after each
//! bench       figures, their targets, and what the machine does at most
//! demo        the story: what was observed, and what that claims
//! ```

pub mod bench;
pub mod binaries;
pub mod chaos;
pub mod client;
pub mod demo;
pub mod error;
pub mod net;
pub mod slice;
