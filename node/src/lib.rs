//! Making it happen: the node of one organization.
//!
//! ```text
//! clients ─gRPC/mTLS─▶ grpc ─▶ custodian ─▶ vault            private, encrypted, erasable
//!                           ╲▶ recipient ─▶ exchange ─▶ peers  other organizations' nodes
//!                                  ╲▶ chain ◀─ order ◀─ bft    the ledger, under agreement
//! ```

pub mod admin;
pub mod app;
pub mod bft;
pub mod chain;
pub mod config;
pub mod custodian;
pub mod daemon;
pub mod exchange;
pub mod fault;
pub mod freshness;
pub mod grpc;
pub mod node;
pub mod order;
pub mod peers;
pub mod recipient;
pub mod refusal;
pub mod vault;
