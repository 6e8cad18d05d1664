//! An export read record by record: no more than one is in memory, besides the state that they lead to.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use assent_ledger::audit::{parse_head, ChainVerifier, Fault, RecordKind, EXPORT_MAGIC};
use assent_ledger::block::MAX_BLOCK_BYTES;
use assent_ledger::keys::{verify_batch, Check};

use super::signatures::Signatures;
use crate::commands::checkpoint::{contradiction, Pinned, Pins};
use crate::output::reading;

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

/// Why verification stopped: something in the file, or the disk that it lies on.
pub enum Stopped {
    Fault(Fault),
    Read(std::io::Error),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Verifies a file, with signatures checked on all cores. Should one not hold, or the chain end in a fault, it is gone through once
/// more, signature by signature: that names the first fault.
pub fn verify(
    path: &Path,
    make: impl Fn() -> ChainVerifier,
    pins: &Pins,
) -> Result<(ChainVerifier, Result<(), Fault>), std::io::Error> {
    let signatures = std::cell::RefCell::new(Signatures::start());
    let mut verifier = make();
    let later = |checks: &[Check]| signatures.borrow_mut().take(checks);
    let first = records(path, &mut verifier, pins, &later);
    let hold = signatures.into_inner().finish();
    if let (Ok(()), true) = (&first, hold) {
        return Ok((verifier, Ok(())));
    }
    if let Err(Stopped::Read(error)) = first {
        return Err(error);
    }
    let mut verifier = make();
    match records(path, &mut verifier, pins, &verify_batch) {
        Ok(()) => {
            let (expected, found) = ("signatures that hold", "one that did not, the first time");
            let fault = framing(&verifier, "signature", expected, found);
            Ok((verifier, Err(fault)))
        }
        Err(Stopped::Fault(fault)) => Ok((verifier, Err(fault))),
        Err(Stopped::Read(error)) => Err(error),
    }
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

fn framing(
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

fn records(
    path: &Path,
    verifier: &mut ChainVerifier,
    pins: &Pins,
    check: &dyn Fn(&[Check]) -> bool,
) -> Result<(), Stopped> {
    let file = File::open(path).map_err(Stopped::Read)?;
    let bytes = file.metadata().map_err(Stopped::Read)?.len();
    let mut file = BufReader::with_capacity(BUFFER, file);
    let bar = reading(bytes);
    let mut magic = [0; EXPORT_MAGIC.len()];
    let filled = fill(&mut file, &mut magic)?;
    if magic != *EXPORT_MAGIC {
        let found = hex::encode(&magic[..filled]);
        return Err(framing(verifier, "magic", hex::encode(EXPORT_MAGIC), found).into());
    }
    let mut payload = Vec::new();
    let mut head = [0; 5];
    loop {
        match fill(&mut file, &mut head)? {
            0 => break,
            5 => {}
            n => {
                return Err(
                    framing(verifier, "truncated", "a record head of 5 bytes", format!("{n} bytes")).into()
                )
            }
        }
        let kind = payload_of(&mut file, head, &mut payload, verifier)?;
        let before = verifier.tip().map_or(0, |tip| tip.log.size());
        verifier.record_by(kind, &payload, check)?;
        passes(verifier, pins, before)?;
        bar.inc((head.len() + payload.len()) as u64);
    }
    bar.finish_and_clear();
    reaches(verifier, pins)?;
    Ok(verifier.finish()?)
}

/// Reads the payload behind a head. What there is of it goes into the fault of a head that is none: it tells the height.
fn payload_of(
    file: &mut impl Read,
    head: [u8; 5],
    payload: &mut Vec<u8>,
    verifier: &ChainVerifier,
) -> Result<RecordKind, Stopped> {
    let [_, length @ ..] = head;
    let (parsed, said) = (parse_head(head), u32::from_be_bytes(length) as usize);
    payload.resize(said.min(MAX_BLOCK_BYTES), 0);
    if let Ok((_, len)) = parsed {
        payload.resize(len, 0);
    }
    let filled = fill(file, payload)?;
    let rest = || [&head[..], &payload[..filled]].concat();
    let (kind, len) = parsed.map_err(|e| verifier.framing_fault("framing", &rest(), "a known record", e))?;
    if filled < len {
        let (expected, found) = (format!("{len} bytes of payload"), format!("{filled} bytes"));
        return Err(verifier.framing_fault("truncated", &rest(), expected, found).into());
    }
    Ok(kind)
}

fn checkpoint_fault(verifier: &ChainVerifier, kind: &'static str, pin: &Pinned) -> Option<Fault> {
    let tip = verifier.tip()?;
    let (expected, found) = contradiction(pin, &tip.chain_id, tip.log.size(), &tip.log.root())?;
    Some(Fault { height: tip.height, index: None, kind, expected, found })
}

/// The log that grew from `before` leaves must have been what a checkpoint says at its size, which is a block's end.
fn passes(verifier: &ChainVerifier, pins: &Pins, before: u64) -> Result<(), Fault> {
    let now = verifier.tip().map_or(0, |tip| tip.log.size());
    let mut passed = pins.all().filter(|pin| before < pin.checkpoint.size && pin.checkpoint.size <= now);
    passed.find_map(|pin| checkpoint_fault(verifier, "checkpoint", pin)).map_or(Ok(()), Err)
}

/// A file that ends before a checkpoint was cut, or is another chain's.
fn reaches(verifier: &ChainVerifier, pins: &Pins) -> Result<(), Fault> {
    let now = verifier.tip().map_or(0, |tip| tip.log.size());
    let mut beyond = pins.all().filter(|pin| pin.checkpoint.size > now);
    beyond.find_map(|pin| checkpoint_fault(verifier, "truncated", pin)).map_or(Ok(()), Err)
}
