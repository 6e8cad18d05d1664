//! Verification of a whole chain from its genesis, offline and trusting nobody.
//!
//! An export is a sequence of records: magic, then `kind (1) || length (4, big-endian) || payload` each:
//! ```text
//! G  GenesisFile         height 0
//! B  Block               heights 1, 2, 3 ... without a gap
//! P  PrunedBlock         in place of a block whose entries the node no longer has: their leaf hashes, and the plan
//!                        of a recovery of a lost quorum
//! S  ValidatorSet        behind a block after which others vote; belongs to its height
//! C  Certificate         over the last block; belongs to its height
//! ```
//! A header's time and round follow from nothing else in its block. Only its certificate covers them, and that stands in the
//! next record; a fault found there may still be the header's ([`Fault::height`] says so).
//!
//! Two levels, never called by each other's name. [`Level::Full`]: every block goes through [`crate::block::apply_block`]:
//! signatures, admission rules, hashes, certificates, state roots. [`Level::Structural`]: encodings of blocks and headers,
//! their links, log roots, certificates and validator sets; neither authors' signatures nor what entries do.

mod chain;
mod diagnosis;
mod memory;
mod records;
mod recovered;
mod steps;
mod structural;

pub use chain::{ChainVerifier, Counts, Level, OrganizationCounts, PRUNED};
pub use memory::StateInMemory;
pub use records::{parse_head, write_record, RecordKind, EXPORT_MAGIC};
pub use recovered::RECOVERY;
pub use steps::SetStep;

use crate::hash::Hash;

/// The first fault of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Height of the record that holds it; genesis is 0.
    pub height: u64,
    /// Index of the entry, where one is to blame.
    pub index: Option<usize>,
    /// Kind of the fault.
    pub kind: &'static str,
    /// What the rules call for.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// Verifies an export that is wholly in memory; what `progress` is told is the height just verified.
pub fn verify_export(
    bytes: &[u8],
    expected_genesis: Option<Hash>,
    progress: impl FnMut(u64),
) -> (ChainVerifier, Result<(), Fault>) {
    verify_export_at(Level::Full, bytes, expected_genesis, progress)
}

/// The same at a level.
pub fn verify_export_at(
    level: Level,
    bytes: &[u8],
    expected_genesis: Option<Hash>,
    progress: impl FnMut(u64),
) -> (ChainVerifier, Result<(), Fault>) {
    verify_export_by(ChainVerifier::new(level, expected_genesis), bytes, progress)
}

/// The same by a verifier that has not begun.
pub fn verify_export_by(
    mut verifier: ChainVerifier,
    bytes: &[u8],
    mut progress: impl FnMut(u64),
) -> (ChainVerifier, Result<(), Fault>) {
    let outcome = verify_records(bytes, &mut verifier, &mut progress);
    (verifier, outcome)
}

fn verify_records(
    bytes: &[u8],
    verifier: &mut ChainVerifier,
    progress: &mut impl FnMut(u64),
) -> Result<(), Fault> {
    let Some(mut rest) = bytes.strip_prefix(EXPORT_MAGIC.as_slice()) else {
        return Err(verifier.fault(
            "magic",
            hex::encode(EXPORT_MAGIC),
            hex::encode(&bytes[..bytes.len().min(8)]),
        ));
    };
    while !rest.is_empty() {
        let head = rest.get(..5).and_then(|h| h.try_into().ok()).ok_or_else(|| {
            verifier.framing_fault(
                "truncated",
                rest,
                "a record head of 5 bytes",
                format!("{} bytes", rest.len()),
            )
        })?;
        let (kind, len) =
            parse_head(head).map_err(|e| verifier.framing_fault("framing", rest, "a known record", e))?;
        let payload = rest.get(5..5 + len).ok_or_else(|| {
            verifier.framing_fault(
                "truncated",
                rest,
                format!("{len} bytes of payload"),
                format!("{} bytes", rest.len() - 5),
            )
        })?;
        verifier.record(kind, payload)?;
        progress(verifier.tip().map_or(0, |t| t.height));
        rest = &rest[5 + len..];
    }
    verifier.finish()
}
