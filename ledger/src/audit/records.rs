//! Records of an export.

use crate::block::MAX_BLOCK_BYTES;
use crate::entry::MAX_ENTRY_BYTES;
use crate::genesis::MAX_GENESIS_BYTES;

/// Longest encoded validator set: 256 validators.
const MAX_VALIDATOR_SET_BYTES: usize = 64 << 10;

/// First bytes of an export.
pub const EXPORT_MAGIC: &[u8; 8] = b"ASSENTX1";

/// Kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// `GenesisFile`.
    Genesis,
    /// `Block`.
    Block,
    /// `Certificate` of the last block.
    Certificate,
    /// `ValidatorSet` that votes from the next height on.
    ValidatorSet,
    /// `PrunedBlock`: a block whose entries are gone.
    Pruned,
}

impl RecordKind {
    const ALL: [Self; 5] = [Self::Genesis, Self::Block, Self::Certificate, Self::ValidatorSet, Self::Pruned];

    /// The kind with this byte.
    pub fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }

    /// The byte in the file.
    pub fn byte(self) -> u8 {
        match self {
            Self::Genesis => b'G',
            Self::Block => b'B',
            Self::Certificate => b'C',
            Self::ValidatorSet => b'S',
            Self::Pruned => b'P',
        }
    }

    /// Longest payload.
    pub fn limit(self) -> usize {
        match self {
            Self::Genesis => MAX_GENESIS_BYTES,
            Self::Block => MAX_BLOCK_BYTES,
            Self::Certificate => MAX_ENTRY_BYTES,
            Self::ValidatorSet => MAX_VALIDATOR_SET_BYTES,
            Self::Pruned => MAX_BLOCK_BYTES,
        }
    }
}

/// Puts a record behind what `out` holds.
pub fn write_record(out: &mut Vec<u8>, kind: RecordKind, payload: &[u8]) {
    out.push(kind.byte());
    // Payloads are bounded far below 4 GiB by the kinds' limits.
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
}

/// Parses a record's five bytes of head: kind and payload length.
pub fn parse_head(head: [u8; 5]) -> Result<(RecordKind, usize), String> {
    let kind = RecordKind::of(head[0]).ok_or_else(|| format!("record kind {:#04x}", head[0]))?;
    let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if len > kind.limit() {
        return Err(format!("record of {len} bytes, at most {} allowed", kind.limit()));
    }
    Ok((kind, len))
}
