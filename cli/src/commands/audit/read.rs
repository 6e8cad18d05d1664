//! An export verified on all cores.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use assent_ledger::audit::{ChainVerifier, Fault, RecordKind};
use assent_ledger::block::Verify;
use assent_ledger::keys::{verify_batch, Check};

use super::signatures::Signatures;
use crate::commands::checkpoint::{contradiction, Pinned, Pins};
use crate::commands::reader::{framing, Reader, Stopped};
use crate::output::reading;

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

/// What is gathered from records once they are found good.
pub trait Gather {
    /// Takes over the last record; an error ends the reading as a fault does.
    fn take(&mut self, kind: RecordKind, payload: &[u8], verifier: &ChainVerifier) -> Result<(), Fault>;
}

/// Nothing is gathered.
impl Gather for () {
    fn take(&mut self, _: RecordKind, _: &[u8], _: &ChainVerifier) -> Result<(), Fault> {
        Ok(())
    }
}

/// Verifies a file, with signatures checked on all cores. Should one not hold, or the chain end in a fault, it is gone through once
/// more, signature by signature: that names the first fault. What was gathered counts only where there is none.
pub fn verify<G: Gather>(
    path: &Path,
    make: impl Fn() -> (ChainVerifier, G),
    pins: &Pins,
) -> Result<(ChainVerifier, Result<G, Fault>), std::io::Error> {
    let signatures = std::cell::RefCell::new(Signatures::start());
    let (mut verifier, mut gathered) = make();
    let later = |checks: &[Check]| signatures.borrow_mut().take(checks);
    let first = records(path, &mut verifier, &mut gathered, pins, &later);
    let hold = signatures.into_inner().finish();
    if let (Ok(()), true) = (&first, hold) {
        return Ok((verifier, Ok(gathered)));
    }
    if let Err(Stopped::Read(error)) = first {
        return Err(error);
    }
    let (mut verifier, mut gathered) = make();
    match records(path, &mut verifier, &mut gathered, pins, &verify_batch) {
        Ok(()) => {
            let (expected, found) = ("signatures that hold", "one that did not, the first time");
            let fault = framing(&verifier, "signature", expected, found);
            Ok((verifier, Err(fault)))
        }
        Err(Stopped::Fault(fault)) => Ok((verifier, Err(fault))),
        Err(Stopped::Read(error)) => Err(error),
    }
}

fn records(
    path: &Path,
    verifier: &mut ChainVerifier,
    gathered: &mut impl Gather,
    pins: &Pins,
    check: Verify<'_>,
) -> Result<(), Stopped> {
    let file = File::open(path).map_err(Stopped::Read)?;
    let bytes = file.metadata().map_err(Stopped::Read)?.len();
    let mut reader = Reader::new(BufReader::with_capacity(BUFFER, file));
    let bar = reading(bytes);
    loop {
        let before = verifier.tip().map_or(0, |tip| tip.log.size());
        let Some((kind, payload)) = reader.next(verifier, check)? else { break };
        gathered.take(kind, payload, verifier)?;
        passes(verifier, pins, before)?;
        bar.inc(reader.record_bytes());
    }
    bar.finish_and_clear();
    reaches(verifier, pins)?;
    Ok(verifier.finish()?)
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
