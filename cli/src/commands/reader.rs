//! Reads an export, record by record: no more than one is in memory, besides the state that they lead to.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use assent_ledger::audit::{parse_head, ChainVerifier, Fault, Level, RecordKind, EXPORT_MAGIC};
use assent_ledger::block::{Verify, MAX_BLOCK_BYTES};
use assent_ledger::encoding::decode;
use assent_ledger::genesis::{check_genesis_file, CheckedGenesis};
use assent_ledger::keys::verify_batch;
use assent_ledger::sets::SetRecorder;
use assent_ledger::Hash;
use assent_proto::ledger::v1::SetChange;

use crate::exit::Failure;

/// Why reading stopped: something in the file, or the disk that it lies on.
pub enum Stopped {
    /// The file does not hold.
    Fault(Fault),
    /// The file can't be read.
    Read(std::io::Error),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// An export that is read and verified.
pub struct Reader<R> {
    file: R,
    begun: bool,
    payload: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// From its first byte.
    pub fn new(file: R) -> Self {
        Self { file, begun: false, payload: Vec::new() }
    }

    /// The next record, verified; none at the file's end. Whether it may end there, [`ChainVerifier::finish`] tells. Signatures
    /// are checked by `verify` ([`ChainVerifier::record_by`]).
    pub fn next(
        &mut self,
        verifier: &mut ChainVerifier,
        verify: Verify<'_>,
    ) -> Result<Option<(RecordKind, &[u8])>, Stopped> {
        if !std::mem::replace(&mut self.begun, true) {
            let mut magic = [0; EXPORT_MAGIC.len()];
            let filled = fill(&mut self.file, &mut magic)?;
            if magic != *EXPORT_MAGIC {
                let found = hex::encode(&magic[..filled]);
                return Err(framing(verifier, "magic", hex::encode(EXPORT_MAGIC), found).into());
            }
        }
        let mut head = [0; 5];
        match fill(&mut self.file, &mut head)? {
            0 => return Ok(None),
            5 => {}
            n => {
                return Err(
                    framing(verifier, "truncated", "a record head of 5 bytes", format!("{n} bytes")).into()
                )
            }
        }
        let kind = self.payload(head, verifier)?;
        verifier.record_by(kind, &self.payload, verify)?;
        Ok(Some((kind, &self.payload)))
    }

    /// Reads the payload behind a head. What there is of it tells the height of a head that is none.
    fn payload(&mut self, head: [u8; 5], verifier: &ChainVerifier) -> Result<RecordKind, Stopped> {
        let [_, length @ ..] = head;
        let parsed = parse_head(head);
        let payload = &mut self.payload;
        payload.resize((u32::from_be_bytes(length) as usize).min(MAX_BLOCK_BYTES), 0);
        if let Ok((_, len)) = parsed {
            payload.resize(len, 0);
        }
        let filled = fill(&mut self.file, payload)?;
        let rest = || [&head[..], &payload[..filled]].concat();
        let (kind, len) =
            parsed.map_err(|e| verifier.framing_fault("framing", &rest(), "a known record", e))?;
        if filled < len {
            let (expected, found) = (format!("{len} bytes of payload"), format!("{filled} bytes"));
            return Err(verifier.framing_fault("truncated", &rest(), expected, found).into());
        }
        Ok(kind)
    }

    /// Bytes of the last record.
    pub fn record_bytes(&self) -> u64 {
        self.payload.len() as u64 + 5
    }
}

/// An export file that is being read, and what it led to so far.
pub struct Ledger {
    reader: Reader<BufReader<File>>,
    path: PathBuf,
    /// Verifies.
    pub verifier: ChainVerifier,
    /// Genesis, once it was read.
    pub genesis: Option<CheckedGenesis>,
    sets: SetRecorder,
}

impl Ledger {
    /// Opens a file; `accepted` are the plans of recoveries that the reader accepts.
    pub fn open(path: &Path, anchor: Option<Hash>, accepted: &BTreeSet<Hash>) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        Ok(Self {
            reader: Reader::new(BufReader::new(file)),
            path: path.to_owned(),
            verifier: ChainVerifier::new(Level::Full, anchor).accepting(accepted.iter().copied()),
            genesis: None,
            sets: SetRecorder::default(),
        })
    }

    /// The next record, verified: its kind and payload.
    pub fn next(&mut self) -> Result<Option<(RecordKind, &[u8])>, Stopped> {
        let Some((kind, payload)) = self.reader.next(&mut self.verifier, &verify_batch)? else {
            self.verifier.finish()?;
            return Ok(None);
        };
        // All of this was decoded before, when it was verified.
        match kind {
            RecordKind::Genesis => self.genesis = check_genesis_file(payload).ok(),
            RecordKind::Certificate => self.sets.certificate(payload),
            RecordKind::ValidatorSet | RecordKind::Pruned => {}
            RecordKind::Block => {
                let block = decode("Block", payload, MAX_BLOCK_BYTES).unwrap_or_default();
                if let Some(tip) = self.verifier.tip() {
                    self.sets.block(tip, &block);
                }
            }
        }
        Ok(Some((kind, payload)))
    }

    /// The payload of the last record, whether it holds or not, as far as it was read.
    pub fn payload(&self) -> &[u8] {
        &self.reader.payload
    }

    /// Changes of the validator set so far.
    pub fn sets(&self) -> &[SetChange] {
        self.sets.changes()
    }

    /// The disk's trouble is no fault of the file.
    pub fn fault(&self, stopped: Stopped) -> Result<Fault, Failure> {
        match stopped {
            Stopped::Fault(fault) => Ok(fault),
            Stopped::Read(error) => Err(unreadable(&self.path, error)),
        }
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::usage("UNREADABLE", format!("{} can't be read: {error}", path.display()))
}

/// Fills the buffer as far as the file goes; says how far.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Stopped> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Stopped::Read(error)),
        }
    }
    Ok(filled)
}

/// A fault where no record begins.
pub fn framing(
    verifier: &ChainVerifier,
    kind: &'static str,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Fault {
    Fault {
        height: verifier.next_height(),
        index: None,
        kind,
        expected: expected.into(),
        found: found.into(),
    }
}
