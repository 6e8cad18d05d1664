//! `assent audit verify`: a whole ledger from genesis, asking nobody. `audit export` is in [`super::export`].

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use assent_ledger::audit::{parse_head, ChainVerifier, Counts, Fault, RecordKind, EXPORT_MAGIC};
use assent_ledger::block::MAX_BLOCK_BYTES;
use assent_ledger::certificate::verify_certificate;
use assent_ledger::checkpoint::Checkpoint;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{Block, Certificate};
use prost::Message;
use serde_json::{json, Value};

use crate::commands::checkpoint::{contradiction, CheckpointArgs, Pinned, Pins};
use crate::commands::export::ExportArgs;
use crate::exit::{printable, Exit, Failure};
use crate::output::{fields, progress, Report};
use crate::profile::{AnchorArgs, Profile};

/// What no file can show about itself.
const CUT: &str = "A file that was cut at a block's edge shows it only by the missing certificate record at its\n\
                   end; one that ends with a certificate may still lack later blocks: compare the last height.";

/// The auditor's commands.
#[derive(Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// Write a node's whole ledger to a file
    Export(ExportArgs),
    /// Verify such a file from genesis, offline
    Verify(VerifyArgs),
}

/// Arguments of `assent audit verify`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct VerifyArgs {
    /// Export
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    anchor: AnchorArgs,
    /// full; structural is not built yet
    #[arg(long, value_name = "LEVEL", value_parser = ["full", "structural"], default_value = "full",
          hide_default_value = true, hide_possible_values = true)]
    level: String,
    #[command(flatten)]
    checkpoints: CheckpointArgs,
}

impl AuditCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        match self {
            Self::Export(args) => args.run(profile),
            Self::Verify(args) => args.run(profile),
        }
    }
}

impl VerifyArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        if self.level != "full" {
            return Err(Failure::usage("NOT_BUILT_YET", "--level structural is not built yet")
                .help("--level full checks everything that structural would"));
        }
        let anchor = self.anchor.resolve(profile)?;
        let pins = self.checkpoints.read()?;
        let unreadable =
            |e| Failure::usage("UNREADABLE", format!("{} can't be read: {e}", self.file.display()));
        let file = File::open(&self.file).map_err(unreadable)?;
        let mut verifier = ChainVerifier::new(anchor);
        let outcome = match verify(BufReader::new(file), &mut verifier, &pins) {
            Ok(()) => Ok(()),
            Err(Stopped::Fault(fault)) => Err(fault),
            Err(Stopped::Read(error)) => return Err(unreadable(error)),
        };
        Ok(report(&self.file, anchor, &pins, &verifier, outcome))
    }
}

/// Why verification stopped: something in the file, or the disk that it lies on.
enum Stopped {
    Fault(Fault),
    Read(std::io::Error),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
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

/// Record by record: no more than one is in memory, besides the state that they lead to.
fn verify(mut file: impl Read, verifier: &mut ChainVerifier, pins: &Pins) -> Result<(), Stopped> {
    let bar = progress("height");
    let mut magic = [0; EXPORT_MAGIC.len()];
    let filled = fill(&mut file, &mut magic)?;
    if magic != *EXPORT_MAGIC {
        let found = hex::encode(&magic[..filled]);
        return Err(framing(verifier, "magic", hex::encode(EXPORT_MAGIC), found).into());
    }
    let mut payload = Vec::new();
    loop {
        let mut head = [0; 5];
        match fill(&mut file, &mut head)? {
            0 => break,
            5 => {}
            n => {
                return Err(
                    framing(verifier, "truncated", "a record head of 5 bytes", format!("{n} bytes")).into()
                )
            }
        }
        let parsed = parse_head(head);
        let [_, length @ ..] = head;
        payload.resize((u32::from_be_bytes(length) as usize).min(MAX_BLOCK_BYTES), 0);
        if let Ok((_, len)) = parsed {
            payload.resize(len, 0);
        }
        let filled = fill(&mut file, &mut payload)?;
        let (kind, len) = parsed.map_err(|e| {
            place(framing(verifier, "framing", "a known record", e), verifier, &payload[..filled])
        })?;
        if filled < len {
            let (expected, found) = (format!("{len} bytes of payload"), format!("{filled} bytes"));
            let fault = framing(verifier, "truncated", expected, found);
            let height =
                verifier.tip().filter(|_| kind == RecordKind::Certificate).map_or(fault.height, |t| t.height);
            return Err(Fault { height, ..fault }.into());
        }
        let before = verifier.tip().map_or(0, |tip| tip.log.size());
        verifier.record(kind, &payload).map_err(|fault| place(fault, verifier, &payload))?;
        passes(verifier, pins, before)?;
        bar.set_position(verifier.tip().map_or(0, |tip| tip.height));
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

/// Puts a fault at the height of the record that holds the bad byte: a record is what its content says, even when its kind is
/// damaged; and when the votes in a block are for another header than the one before it, it is that one which was changed.
fn place(fault: Fault, verifier: &ChainVerifier, payload: &[u8]) -> Fault {
    let Some(tip) = verifier.tip().filter(|tip| tip.height > 0) else {
        return fault;
    };
    if Certificate::decode(payload).is_ok_and(|certificate| !certificate.signatures.is_empty()) {
        return Fault { height: tip.height, ..fault };
    }
    let Ok(block) = Block::decode(payload) else {
        return fault;
    };
    let votes = Certificate::decode(block.previous_certificate.as_slice()).ok().and_then(|certificate| {
        let voted: Hash = certificate.header_hash.as_slice().try_into().ok()?;
        let quorum =
            verify_certificate(&tip.chain_id, &tip.validators, tip.height, &voted, &certificate).is_ok();
        (quorum && voted != tip.header_hash).then_some(voted)
    });
    match votes {
        Some(voted) => {
            let (expected, found) = (hex::encode(voted), hex::encode(tip.header_hash));
            Fault { height: tip.height, index: None, kind: "header-mismatch", expected, found }
        }
        None => Fault { height: tip.height + 1, ..fault },
    }
}

fn report(
    file: &Path,
    anchor: Option<Hash>,
    pins: &Pins,
    verifier: &ChainVerifier,
    outcome: Result<(), Fault>,
) -> Report {
    let anchored = anchor.is_some() || pins.anchor.is_some();
    let (exit, verdict) = match (&outcome, anchored) {
        (Err(_), _) => (Exit::Verification, "does NOT hold"),
        (Ok(()), true) => (Exit::Ok, "holds"),
        (Ok(()), false) => (Exit::Undecided, "consistent, not anchored"),
    };
    let to = verifier.tip().map_or(0, |tip| tip.height);
    let chain_id = verifier.tip().map(|tip| tip.chain_id.clone());
    let genesis_hash = verifier.genesis_hash().map(hex::encode);
    let Counts { entries, operations, signatures } = verifier.counts;
    let mut text = format!("{verdict}: {}\n", file.display());
    text += &fields(&[
        ("chain", chain_id.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("genesis hash", genesis_hash.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("heights verified", format!("0 to {to}")),
        ("entries", entries.to_string()),
        ("operations", operations.to_string()),
        ("signatures", signatures.to_string()),
    ]);
    for Pinned { checkpoint, signed_by } in pins.all().filter(|_| outcome.is_ok()) {
        let (size, names) = (checkpoint.size, printable(&signed_by.join(", ")));
        text += &format!("leads through the checkpoint of {names} at {size} leaves\n");
    }
    match (&outcome, exit) {
        (Err(fault), _) => text += &fault_text(fault),
        (Ok(()), Exit::Undecided) => {
            text += "Nobody said that this genesis is the right one: compare its hash, or give it with --genesis-hash.\n";
            text += CUT;
        }
        (Ok(()), _) if pins.end.is_some() => {}
        (Ok(()), _) => text += CUT,
    }
    let json = json!({
        "ok": exit == Exit::Ok, "level": "full", "anchored": anchored && outcome.is_ok(),
        "chain_id": chain_id, "genesis_hash": genesis_hash, "from": 0, "to": to,
        "entries": entries, "operations": operations, "signatures": signatures,
        "checkpoints": pins.all().map(pin_json).collect::<Vec<_>>(),
        "not_checked": [], "fault": outcome.err().map_or(Value::Null, fault_json),
    });
    Report::with(exit, text, json)
}

fn pin_json(pin: &Pinned) -> Value {
    let Checkpoint { size, root, .. } = &pin.checkpoint;
    json!({ "size": size, "root": hex::encode(root), "signed_by": pin.signed_by })
}

fn fault_text(fault: &Fault) -> String {
    let index = fault.index.map(|index| format!(", entry {index}")).unwrap_or_default();
    format!("first fault at height {}{index}: {}\n", fault.height, fault.kind)
        + &fields(&[("expected", printable(&fault.expected)), ("found", printable(&fault.found))])
}

fn fault_json(fault: Fault) -> Value {
    json!({
        "height": fault.height, "index": fault.index, "kind": fault.kind,
        "expected": fault.expected, "found": fault.found,
    })
}
