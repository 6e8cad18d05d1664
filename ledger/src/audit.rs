//! Verification of a whole chain from its genesis, offline and trusting nobody.
//!
//! An export is a sequence of records: magic, then `kind (1) || length (4, big-endian) || payload` each:
//! ```text
//! G  GenesisFile         height 0
//! B  Block               heights 1, 2, 3 ... without a gap
//! C  Certificate         over the last block; belongs to its height
//! ```
//! A header's time and round follow from nothing else in its block. Only its certificate covers them, and that stands in the
//! next record; a fault found there may still be the header's ([`Fault::height`] says so).
//!
//! Every block goes through [`crate::block::apply_block`]: signatures, admission rules, hashes, certificates, state roots.

use assent_proto::ledger::v1::{Block, Certificate};

use crate::block::{apply_block, apply_genesis, Tip, MAX_BLOCK_BYTES};
use crate::certificate::verify_certificate;
use crate::encoding::{array, decode};
use crate::genesis::{check_genesis_file, MAX_GENESIS_BYTES};
use crate::hash::Hash;
use crate::keys::verify_batch;
use crate::state::{MemoryState, ReadError, StateRead};
use crate::tree::{MemoryNodes, NodeRead};

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
}

impl RecordKind {
    /// The byte in the file.
    pub fn byte(self) -> u8 {
        match self {
            Self::Genesis => b'G',
            Self::Block => b'B',
            Self::Certificate => b'C',
        }
    }

    fn limit(self) -> usize {
        match self {
            Self::Genesis => MAX_GENESIS_BYTES,
            Self::Block => MAX_BLOCK_BYTES,
            Self::Certificate => crate::entry::MAX_ENTRY_BYTES,
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
    let kind = match head[0] {
        b'G' => RecordKind::Genesis,
        b'B' => RecordKind::Block,
        b'C' => RecordKind::Certificate,
        other => return Err(format!("record kind {other:#04x}")),
    };
    let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if len > kind.limit() {
        return Err(format!("record of {len} bytes, at most {} allowed", kind.limit()));
    }
    Ok((kind, len))
}

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

/// Counts of what was verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries.
    pub entries: u64,
    /// Operations.
    pub operations: u64,
    /// Signatures: authors, patients, validators.
    pub signatures: u64,
}

/// Verifies records one by one; holds the state that they lead to.
pub struct ChainVerifier {
    expected_genesis: Option<Hash>,
    genesis_hash: Option<Hash>,
    tip: Option<Tip>,
    state: Memory,
    sealed: bool,
    /// What was verified so far.
    pub counts: Counts,
}

/// Values and nodes in memory.
#[derive(Default)]
struct Memory {
    values: MemoryState,
    nodes: MemoryNodes,
}

impl StateRead for Memory {
    fn value(&self, key: &Hash) -> Result<Option<Vec<u8>>, ReadError> {
        self.values.value(key)
    }
}

impl NodeRead for Memory {
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.nodes.node(key)
    }
}

impl ChainVerifier {
    /// With the genesis hash that the auditor trusts, or none: then the chain can only be found consistent, not anchored.
    pub fn new(expected_genesis: Option<Hash>) -> Self {
        Self {
            expected_genesis,
            genesis_hash: None,
            tip: None,
            state: Memory::default(),
            sealed: false,
            counts: Counts::default(),
        }
    }

    /// The chain's end so far.
    pub fn tip(&self) -> Option<&Tip> {
        self.tip.as_ref()
    }

    /// The chain's own genesis hash.
    pub fn genesis_hash(&self) -> Option<Hash> {
        self.genesis_hash
    }

    /// Height that the next record belongs to, for faults in its framing.
    pub fn next_height(&self) -> u64 {
        match &self.tip {
            None => 0,
            Some(tip) if self.sealed => tip.height,
            Some(tip) => tip.height + 1,
        }
    }

    /// Height of a record. Where kind and payload contradict each other the payload tells: it is the kind byte that is damaged.
    fn height_of(&self, kind: Option<RecordKind>, payload: &[u8]) -> u64 {
        let reads_as_certificate = !payload.is_empty()
            && decode::<Certificate>("Certificate", payload, RecordKind::Certificate.limit()).is_ok();
        let reads_as_block = || decode::<Block>("Block", payload, MAX_BLOCK_BYTES).is_ok();
        match &self.tip {
            Some(tip) if reads_as_certificate => tip.height,
            Some(tip) if kind == Some(RecordKind::Certificate) && !reads_as_block() => tip.height,
            _ => self.next_height(),
        }
    }

    /// A fault in the framing of the next record: of a head that [`parse_head`] refuses, or of a payload that ends early.
    /// `rest` is the file from the record's head on, as far as it is at hand.
    pub fn framing_fault(
        &self,
        fault: &'static str,
        rest: &[u8],
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Fault {
        let kind = [RecordKind::Genesis, RecordKind::Block, RecordKind::Certificate]
            .into_iter()
            .find(|kind| rest.first() == Some(&kind.byte()));
        let payload = match rest {
            [_, a, b, c, d, payload @ ..] => {
                payload.get(..u32::from_be_bytes([*a, *b, *c, *d]) as usize).unwrap_or(payload)
            }
            _ => &[],
        };
        Fault { height: self.height_of(kind, payload), ..self.fault(fault, expected, found) }
    }

    fn fault(&self, kind: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Fault {
        Fault {
            height: self.next_height(),
            index: None,
            kind,
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// Verifies the next record.
    pub fn record(&mut self, kind: RecordKind, payload: &[u8]) -> Result<(), Fault> {
        if let Some((tip, certified)) =
            self.tip.as_ref().and_then(|tip| Some((tip, certified_instead(tip, payload)?)))
        {
            let (expected, found) =
                (format!("header {}", hex::encode(certified)), hex::encode(tip.header_hash));
            return Err(Fault { height: tip.height, ..self.fault("header-mismatch", expected, found) });
        }
        let height = self.height_of(Some(kind), payload);
        self.checked_record(kind, payload).map_err(|fault| Fault { height, ..fault })
    }

    fn checked_record(&mut self, kind: RecordKind, payload: &[u8]) -> Result<(), Fault> {
        if self.sealed {
            return Err(self.fault("trailing-record", "the end of the file", format!("{kind:?} record")));
        }
        match (kind, self.tip.is_some()) {
            (RecordKind::Genesis, false) => self.genesis(payload),
            (RecordKind::Block, true) => self.block(payload),
            (RecordKind::Certificate, true) => self.certificate(payload),
            (kind, false) => Err(self.fault("record-order", "Genesis record", format!("{kind:?} record"))),
            (kind, true) => {
                Err(self.fault("record-order", "Block or Certificate record", format!("{kind:?} record")))
            }
        }
    }

    /// The file has ended: true when the last block's certificate was there.
    pub fn finish(&self) -> Result<(), Fault> {
        match (&self.tip, self.sealed) {
            (None, _) => Err(self.fault("empty", "Genesis record", "nothing")),
            (Some(tip), false) if tip.height > 0 => Err(Fault {
                height: tip.height,
                ..self.fault("truncated", "certificate of the last block", "end of file")
            }),
            _ => Ok(()),
        }
    }

    fn genesis(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let genesis = check_genesis_file(payload)
            .map_err(|e| self.fault("genesis", "a valid genesis", e.to_string()))?;
        if let Some(expected) = self.expected_genesis.filter(|expected| *expected != genesis.hash) {
            return Err(self.fault("genesis-hash", hex::encode(expected), hex::encode(genesis.hash)));
        }
        let (tip, changes, update) =
            apply_genesis(&genesis).map_err(|e| self.fault("genesis", "a readable state", e.to_string()))?;
        self.state.values.0.extend(changes);
        self.state.nodes.apply(update);
        self.genesis_hash = Some(genesis.hash);
        self.tip = Some(tip);
        Ok(())
    }

    fn block(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let Some(tip) = &self.tip else {
            return Err(self.fault("record-order", "Genesis record", "Block record"));
        };
        let applied = apply_block(tip, &self.state, payload, &verify_batch).map_err(|error| {
            let index = match &error {
                crate::block::BlockError::Entry { index, .. }
                | crate::block::BlockError::EntryForm { index, .. }
                | crate::block::BlockError::WithdrawalOrder { index } => Some(*index),
                _ => None,
            };
            let (expected, found) = match &error {
                crate::block::BlockError::Header { field, expected, found } => {
                    (format!("{field} {expected}"), found.clone())
                }
                other => ("a block that follows every rule".to_owned(), other.to_string()),
            };
            Fault { index, ..self.fault(error.kind(), expected, found) }
        })?;
        self.counts.entries += applied.entries.len() as u64;
        self.counts.operations += applied.entries.iter().map(|e| e.body.operations.len() as u64).sum::<u64>();
        self.counts.signatures += applied.signatures as u64;
        self.state.values.0.extend(applied.changes);
        if let Some(update) = applied.tree {
            self.state.nodes.apply(update);
        }
        self.tip = Some(applied.tip);
        Ok(())
    }

    fn certificate(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let Some(tip) = self.tip.clone() else {
            return Err(self.fault("record-order", "Genesis record", "nothing"));
        };
        let certificate: Certificate = decode("Certificate", payload, RecordKind::Certificate.limit())
            .map_err(|e| self.fault("malformed", "a certificate", e.to_string()))?;
        verify_certificate(&tip.chain_id, &tip.voters, tip.height, &tip.header_hash, &certificate)
            .map_err(|e| self.fault("certificate", "precommits of more than 2/3", e.to_string()))?;
        self.counts.signatures += certificate.signatures.len() as u64;
        self.sealed = true;
        Ok(())
    }
}

/// The header that more than 2/3 certified at the tip's height, when the certificate in the block after holds but names another
/// header than the tip: then the tip's record is the bad one.
fn certified_instead(tip: &Tip, next_block: &[u8]) -> Option<Hash> {
    let block: Block = decode("Block", next_block, MAX_BLOCK_BYTES).ok()?;
    let limit = RecordKind::Certificate.limit();
    let certificate: Certificate = decode("Certificate", &block.previous_certificate, limit).ok()?;
    let certified = array("Certificate", "header_hash", &certificate.header_hash).ok()?;
    if certified == tip.header_hash {
        return None;
    }
    verify_certificate(&tip.chain_id, &tip.voters, tip.height, &certified, &certificate).ok()?;
    Some(certified)
}

/// Verifies an export that is wholly in memory; what `progress` is told is the height just verified.
pub fn verify_export(
    bytes: &[u8],
    expected_genesis: Option<Hash>,
    mut progress: impl FnMut(u64),
) -> (ChainVerifier, Result<(), Fault>) {
    let mut verifier = ChainVerifier::new(expected_genesis);
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
