//! How it is said.
//!
//! [`ledger::v1`] holds what is signed and hashed; each message there has exactly one accepted encoding.
//! [`v1`] holds the gRPC services; their client and server code needs the feature `grpc`.
#![allow(missing_docs, clippy::all)]

/// What is signed and hashed.
pub mod ledger {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/assent.ledger.v1.rs"));
    }
}

/// The services.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/assent.v1.rs"));
}

/// Descriptors of all files, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/assent.bin"));
