//! What a replay of decisions found, in words and as JSON.

use assent_ledger::audit::ChainVerifier;
use assent_ledger::consent::{tables_sha256, ALGORITHM};
use assent_ledger::decisions::{Finding, Replay, Replayed, SlotHistory, Verdict, NOT_SHOWN};
use serde_json::{json, Value};

use crate::commands::recoveries;
use crate::exit::{printable, Exit};
use crate::output::{fields, paragraph, table, time, Report};

/// Columns of a recipient's name.
const RECIPIENT_COLUMNS: usize = 20;

/// Decisions made again.
pub struct Again<'a> {
    /// The export, verified.
    pub verifier: &'a ChainVerifier,
    /// Somebody said where the chain has to begin.
    pub anchored: bool,
    /// The slot in it.
    pub history: &'a SlotHistory,
    /// What came out.
    pub replay: Replay,
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Agrees => "agrees",
        Verdict::Differs => "differs",
        Verdict::Undecided => "undecided",
    }
}

/// The report.
pub fn report(again: &Again<'_>) -> Report {
    let verdict = again.replay.verdict();
    let exit = match (verdict, again.anchored) {
        (Verdict::Differs, _) => Exit::Verification,
        (Verdict::Agrees, true) => Exit::Ok,
        (Verdict::Undecided | Verdict::Agrees, _) => Exit::Undecided,
    };
    let history = again.history;
    let json = json!({
        "ok": exit == Exit::Ok, "verdict": name(verdict), "anchored": again.anchored,
        "chain_id": history.chain_id, "genesis_hash": again.verifier.genesis_hash().map(hex::encode),
        "to": again.verifier.tip().map(|tip| tip.height), "custodian": history.custodian,
        "handle": hex::encode(&history.handle), "algorithm": ALGORITHM, "tables": hex::encode(tables_sha256()),
        "accesses": again.replay.accesses.iter().map(access_json).collect::<Vec<_>>(),
        "mismatches": again.replay.mismatches.iter().map(finding_json).collect::<Vec<_>>(),
        "recoveries": again.verifier.recoveries.iter().map(recoveries::json).collect::<Vec<_>>(),
        "not_shown": NOT_SHOWN, "fault": Value::Null,
    });
    Report::with(exit, text(again, verdict), json)
}

fn finding_json(finding: &Finding) -> Value {
    let Finding { reason, what, expected, found } = finding;
    json!({ "reason": reason, "what": what, "expected": expected, "found": found })
}

fn access_json(access: &Replayed) -> Value {
    let event = access.event.as_ref().map(|(event, request)| {
        json!({
            "recipient": request.recipient, "actor": request.actor, "purpose": request.purpose,
            "outcome": event.outcome, "resources": event.resources, "late": event.late,
            "time_ms": event.time_ms, "time": time(event.time_ms),
            "consent_seq": event.consent_seq, "policy_seq": event.policy_seq,
        })
    });
    json!({
        "access_seq": access.access_seq, "height": access.recorded.height, "index": access.recorded.index,
        "verdict": name(access.verdict()), "event": event,
        "differences": access.differences.iter().map(finding_json).collect::<Vec<_>>(), "missing": access.missing,
    })
}

fn headline(again: &Again<'_>, verdict: Verdict) -> String {
    let all = again.replay.accesses.len();
    let of = |verdict| again.replay.accesses.iter().filter(|access| access.verdict() == verdict).count();
    match verdict {
        Verdict::Agrees if again.anchored => {
            format!("agrees: all {all} accesses were decided as the rules say\n")
        }
        Verdict::Agrees => format!("consistent, not anchored: {all} accesses agree with the rules\n"),
        Verdict::Differs => format!(
            "differs: {} of {all} accesses, and {} openings do not match the ledger\n",
            of(Verdict::Differs),
            again.replay.mismatches.len()
        ),
        Verdict::Undecided => {
            format!("can't be decided: {} of {all} accesses, not opened wholly\n", of(Verdict::Undecided))
        }
    }
}

fn text(again: &Again<'_>, verdict: Verdict) -> String {
    let history = again.history;
    let to = again.verifier.tip().map_or(0, |tip| tip.height);
    let mut out = headline(again, verdict)
        + &fields(&[
            ("chain", history.chain_id.clone()),
            ("genesis hash", again.verifier.genesis_hash().map(hex::encode).unwrap_or_default()),
            ("heights", format!("0 to {to}, verified")),
            ("custodian", history.custodian.clone()),
            ("handle", hex::encode(&history.handle)),
            ("rules", format!("{ALGORITHM}, tables {}", hex::encode(&tables_sha256()[..8]))),
        ]);
    for recovered in &again.verifier.recoveries {
        out += &recoveries::text("recovery: ", recovered);
    }
    if !again.replay.accesses.is_empty() {
        let head = ["access", "height", "recipient", "purpose", "outcome", "verdict"];
        out += &(table(head, again.replay.accesses.iter().map(row)) + "\n");
    }
    for Finding { what, expected, found, .. } in &again.replay.mismatches {
        out += &paragraph(&format!("{what}: "), "the opening does not match the ledger");
        out += &paragraph("  ledger: ", expected);
        out += &paragraph("  opening: ", found);
    }
    for access in &again.replay.accesses {
        for Finding { reason, what, expected, found } in &access.differences {
            out +=
                &paragraph(&format!("access {} differs: ", access.access_seq), &format!("{reason}, {what}"));
            out += &paragraph("  rules say: ", expected);
            out += &paragraph("  recorded: ", found);
        }
        for missing in &access.missing {
            out += &paragraph(&format!("access {} is not decided, not opened: ", access.access_seq), missing);
        }
    }
    if again.replay.accesses.iter().any(|access| !access.missing.is_empty()) {
        out += "Records that were replaced since are in the recipients' bundles: --bundle FILE.\n";
    }
    if !again.anchored {
        out += "Nobody said that this genesis is the right one: give --genesis-hash HASH.\n";
    }
    out += "\nIt does not show:\n";
    out + &NOT_SHOWN.iter().map(|said| paragraph("- ", said)).collect::<String>()
}

fn row(access: &Replayed) -> [String; 6] {
    let unknown = || "?".to_owned();
    let event = access.event.as_ref();
    let recipient = event.map_or_else(unknown, |(_, request)| printable(&request.recipient));
    let late = |late| if late { " late" } else { "" };
    [
        access.access_seq.to_string(),
        access.recorded.height.to_string(),
        recipient.chars().take(RECIPIENT_COLUMNS).collect(),
        event.map_or_else(unknown, |(_, request)| printable(&request.purpose).chars().take(10).collect()),
        event.map_or_else(unknown, |(event, _)| {
            printable(&event.outcome).chars().take(15).collect::<String>() + late(event.late)
        }),
        name(access.verdict()).to_owned(),
    ]
}
