//! What an audit found, in words and as JSON: what was checked, what was not, and the first fault.

use std::path::Path;

use assent_ledger::audit::{ChainVerifier, Counts, Fault, Level, SetStep};
use assent_ledger::checkpoint::Checkpoint;
use serde_json::{json, Value};

use crate::commands::checkpoint::{Pinned, Pins};
use crate::commands::recoveries;
use crate::exit::{printable, Exit};
use crate::output::{fields, paragraph, table, Report};

/// What no file can show about itself.
const CUT: &str = "A file that was cut at a block's edge shows it only by the missing certificate\n\
                   record at its end; one that ends with a certificate may still lack later\n\
                   blocks: compare the last height.";
/// What the structural level leaves out.
const STRUCTURAL: [&str; 3] = [
    "signatures of the organizations and patients over entries",
    "admission rules: what entries do, in which order, by whom",
    "state roots: consents, accesses, policies and keys that headers commit to",
];

/// An audit that has ended.
pub struct Verified<'a> {
    /// The export.
    pub file: &'a Path,
    /// Level that was asked for.
    pub asked: Level,
    /// Somebody said where the chain has to begin.
    pub anchored: bool,
    /// Checkpoints that it had to lead through.
    pub pins: &'a Pins,
    /// Where it ended; at which level.
    pub verifier: &'a ChainVerifier,
    /// Whether it holds.
    pub outcome: Result<(), Fault>,
}

impl Verified<'_> {
    /// Full was asked for, and could not be done.
    fn fell_short(&self) -> bool {
        self.asked == Level::Full && self.verifier.level() == Level::Structural
    }

    fn exit(&self) -> Exit {
        match (&self.outcome, self.anchored && !self.fell_short()) {
            (Err(fault), _) => recoveries::exit_of(fault),
            (Ok(()), true) => Exit::Ok,
            (Ok(()), false) => Exit::Undecided,
        }
    }

    fn not_checked(&self) -> Vec<String> {
        if self.verifier.level() == Level::Full {
            return Vec::new();
        }
        let gone = self.verifier.pruned.iter().map(|(first, last)| {
            format!("entries of heights {first} to {last}: the node that wrote this file no longer has them")
        });
        gone.chain(STRUCTURAL.map(str::to_owned)).collect()
    }

    fn verdict(&self) -> &'static str {
        match (&self.outcome, self.fell_short(), self.anchored) {
            (Err(fault), ..) => recoveries::verdict_of(fault),
            (Ok(()), true, _) => "not fully verified, the structure holds",
            (Ok(()), false, false) => "consistent, not anchored",
            (Ok(()), false, true) if self.asked == Level::Structural => "the structure holds",
            (Ok(()), false, true) => "holds",
        }
    }
}

/// The report.
pub fn report(verified: &Verified<'_>) -> Report {
    let exit = verified.exit();
    let verifier = verified.verifier;
    let to = verifier.tip().map_or(0, |tip| tip.height);
    let chain_id = verifier.tip().map(|tip| tip.chain_id.clone());
    let genesis_hash = verifier.genesis_hash().map(hex::encode);
    let Counts { entries, operations, signatures } = verifier.counts;
    let mut organizations = serde_json::Map::new();
    for (id, of) in &verifier.organizations {
        let counts = json!({
            "entries": of.entries, "consents": of.consents, "accesses": of.accesses, "withdrawals": of.withdrawals,
        });
        organizations.insert(id.clone(), counts);
    }
    let json = json!({
        "ok": exit == Exit::Ok, "level": verifier.level().name(),
        "anchored": verified.anchored && verified.outcome.is_ok(),
        "chain_id": chain_id, "genesis_hash": genesis_hash, "from": 0, "to": to,
        "entries": entries, "operations": operations, "signatures": signatures,
        "validator_sets": sets_json(&verifier.sets), "organizations": organizations,
        "recoveries": verifier.recoveries.iter().map(recoveries::json).collect::<Vec<_>>(),
        "checkpoints": verified.pins.all().map(pin_json).collect::<Vec<_>>(),
        "not_checked": verified.not_checked(),
        "fault": verified.outcome.as_ref().err().map_or(Value::Null, fault_json),
    });
    Report::with(exit, text(verified, to), json)
}

fn text(verified: &Verified<'_>, to: u64) -> String {
    let verifier = verified.verifier;
    let known = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    let Counts { entries, operations, signatures } = verifier.counts;
    let mut text = format!("{}: {}\n", verified.verdict(), verified.file.display());
    let mut rows = vec![
        ("chain", known(verifier.tip().map(|tip| tip.chain_id.clone()))),
        ("genesis hash", known(verifier.genesis_hash().map(hex::encode))),
        ("level", verifier.level().name().to_owned()),
        ("heights verified", format!("0 to {to}")),
        ("entries", entries.to_string()),
    ];
    if verifier.level() == Level::Full {
        rows.push(("operations", operations.to_string()));
    }
    rows.push(("signatures", signatures.to_string()));
    text += &fields(&rows);
    text += &sets_text(verifier);
    if !verifier.organizations.is_empty() && verified.outcome.is_ok() {
        let rows = verifier.organizations.iter().map(|(id, of)| {
            [
                id.clone(),
                of.entries.to_string(),
                of.consents.to_string(),
                of.accesses.to_string(),
                of.withdrawals.to_string(),
            ]
        });
        text += &table(["organization", "entries", "consents", "accesses", "withdrawals"], rows);
        text += "\n";
    }
    for Pinned { checkpoint, signed_by } in verified.pins.all().filter(|_| verified.outcome.is_ok()) {
        let (size, names) = (checkpoint.size, printable(&signed_by.join(", ")));
        text += &format!("leads through the checkpoint of {names} at {size} leaves\n");
    }
    for what in verified.not_checked() {
        text += &paragraph("not checked: ", &what);
    }
    match (&verified.outcome, verified.anchored) {
        (Err(fault), _) => text += &fault_text(fault),
        (Ok(()), false) => {
            text += "Nobody said that this genesis is the right one: compare its hash, or give it\nwith --genesis-hash.\n";
            text += CUT;
        }
        (Ok(()), _) if verified.pins.end.is_some() => {}
        (Ok(()), _) => text += CUT,
    }
    text
}

fn sets_text(verifier: &ChainVerifier) -> String {
    let said = |step: &SetStep| {
        let SetStep { height, changed, .. } = step;
        if let Some(recovered) = verifier.recoveries.iter().find(|r| r.height == *height) {
            return recoveries::text("validators changed: ", recovered);
        }
        let certified = format!("from height {height}, certified by the set before: {}", changed.join(", "));
        paragraph("validators changed: ", &certified)
    };
    verifier.sets.iter().skip(1).map(said).collect()
}

fn sets_json(sets: &[SetStep]) -> Vec<Value> {
    let one = |step: &SetStep| {
        let names: Vec<&str> = step.set.validators.iter().map(|v| v.organization.as_str()).collect();
        let SetStep { height, hash, changed, .. } = step;
        json!({ "from": height, "hash": hex::encode(hash), "validators": names, "changed": changed })
    };
    sets.iter().map(one).collect()
}

fn pin_json(pin: &Pinned) -> Value {
    let Checkpoint { size, root, .. } = &pin.checkpoint;
    json!({ "size": size, "root": hex::encode(root), "signed_by": pin.signed_by })
}

/// A fault for people.
pub fn fault_text(fault: &Fault) -> String {
    let index = fault.index.map(|index| format!(", entry {index}")).unwrap_or_default();
    format!("first fault at height {}{index}: {}\n", fault.height, fault.kind)
        + &fields(&[("expected", printable(&fault.expected)), ("found", printable(&fault.found))])
}

/// A fault for JSON output.
pub fn fault_json(fault: &Fault) -> Value {
    json!({
        "height": fault.height, "index": fault.index, "kind": fault.kind,
        "expected": fault.expected, "found": fault.found,
    })
}
