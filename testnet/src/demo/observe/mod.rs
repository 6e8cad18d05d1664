//! One file a step: does it and gathers what was seen, as plain values.

pub mod audit;
pub mod check;
pub mod consent;
pub mod crash;
pub mod history;
pub mod load;
pub mod offline;
pub mod release;
pub mod withdraw;

use sha2::{Digest, Sha256};

/// SHA-256 in hex.
fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
