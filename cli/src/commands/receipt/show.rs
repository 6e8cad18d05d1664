//! `assent verify` of a receipt: what it shows, and what it does not.

use std::path::Path;

use assent_ledger::commitment::root_of_digests;
use assent_ledger::receipts::{
    genesis_hash_of, verify, AnchoredAt, Claim, Consents, Start, Verified, VerifiedDecision, VerifiedSlot,
};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{AccessEvent, Slot};
use serde_json::{json, Value};

use crate::commands::trust::{refused, way, Against};
use crate::commands::verify::{access_fields, access_json};
use crate::exit::{printable, Failure};
use crate::files;
use crate::output::{fields, time, Report};

/// Longest list of digests, in bytes.
const MAX_DIGESTS_BYTES: u64 = 8 << 20;

/// What a receipt shows, for people and for programs.
struct Shown {
    kind: &'static str,
    what: String,
    rows: Vec<(&'static str, String)>,
    /// What a reader might think that it shows.
    not: Vec<&'static str>,
    json: Value,
}

/// SHA-256 digests in hex at the beginning of lines, as `sha256sum` prints them.
pub fn read_digests(path: &Path) -> Result<Vec<Hash>, Failure> {
    let bytes = files::read(path, MAX_DIGESTS_BYTES)?;
    let malformed = |n: usize| {
        let what = format!("{}: line {n} does not begin with 64 hex digits", path.display());
        Failure::usage("MALFORMED_DIGESTS", what).help("make the list with sha256sum, in the records' order")
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed(1))?;
    let digest = |(n, line): (usize, &str)| {
        let word = line.split_whitespace().next().unwrap_or_default();
        let mut digest = [0; 32];
        hex::decode_to_slice(word, &mut digest).map_err(|_| malformed(n + 1)).map(|()| digest)
    };
    text.lines().enumerate().map(digest).collect()
}

/// Verifies a receipt file behind its magic.
pub fn verify_file(against: &Against, digests: Option<Vec<Hash>>, body: &[u8]) -> Result<Report, Failure> {
    judge(against, digests, body).map(|(_, report)| report)
}

/// Verifies a receipt against whichever anchor it starts at.
pub fn judge(
    against: &Against,
    digests: Option<Vec<Hash>>,
    body: &[u8],
) -> Result<(Verified, Report), Failure> {
    let own = genesis_hash_of(body).map_err(refused)?;
    let verified = verify(&against.trust(own), body).map_err(refused)?;
    let mut shown = match &verified.claim {
        Claim::Slot(slot) => slot_shown(slot),
        Claim::Decision(decision) => decision_shown(decision),
        Claim::Access(access) => Shown {
            kind: "access",
            what: "an access that stands in the ledger".to_owned(),
            rows: access_fields(access),
            not: vec!["what the records say", "that there was no other access: a history shows that"],
            json: json!({ "access": access_json(access) }),
        },
    };
    if let Some(digests) = digests {
        let Claim::Access(access) = &verified.claim else {
            let what = "--digests goes with a receipt of an access, and this is none";
            return Err(Failure::usage("NO_RECORDS", what));
        };
        check_digests(&access.event, &digests)?;
        shown
            .rows
            .push(("records", format!("{}: these digests are those that were released", digests.len())));
        shown.json["digests"] = digests.len().into();
    }
    let recoveries = match &verified.at.start {
        Start::Genesis { recoveries, .. } => {
            shown.not.push("that the validators signed no second chain: a checkpoint that others saw does");
            recoveries
        }
        Start::Checkpoint { within, recoveries, .. } => {
            if !within {
                shown.not.push(
                    "that the validators signed no second chain after your checkpoint: a later one does",
                );
            }
            recoveries
        }
    };
    if !recoveries.is_empty() {
        shown.not.push("that those whom a recovery left out agreed to it: you accepted its plan");
    }
    let report = report(against, &verified.at, shown);
    Ok((verified, report))
}

fn check_digests(event: &AccessEvent, digests: &[Hash]) -> Result<(), Failure> {
    if event.resources == digests.len() as u64 && event.digests_root == root_of_digests(digests) {
        return Ok(());
    }
    let what = format!(
        "the receipt is for {} records with root {}, the list has {} with root {}",
        event.resources,
        hex::encode(&event.digests_root),
        digests.len(),
        hex::encode(root_of_digests(digests)),
    );
    Err(Failure::verification("OTHER_RECORDS", what).help("list all records of the release, in its order"))
}

fn report(against: &Against, at: &AnchoredAt, mut shown: Shown) -> Report {
    let header = &at.header;
    let (height, when) = (header.height, time(header.time_ms));
    shown.rows.push(("as of", format!("height {height}, {when}")));
    shown.rows.push(("header", format!("{}, {}", hex::encode(at.hash), way(&at.start))));
    let not: String = shown.not.iter().map(|not| format!("\n- {not}")).collect();
    let text = format!("{}\n{}\nIt does not show:{not}", shown.what, fields(&shown.rows));
    let mut json = shown.json;
    json["kind"] = "receipt".into();
    json["claim"] = shown.kind.into();
    json["shows"] = shown.what.into();
    json["does_not_show"] = json!(shown.not);
    json["chain_id"] = header.chain_id.clone().into();
    json["height"] = height.into();
    json["time_ms"] = header.time_ms.into();
    json["time"] = when.into();
    json["header_hash"] = hex::encode(at.hash).into();
    against.verdict(&at.start, text, json)
}

fn slot_json(slot: &Slot) -> Value {
    json!({
        "consent_seq": slot.consent_seq, "frozen": slot.frozen, "withdraw_seq": slot.withdraw_seq,
        "access_seq": slot.access_seq, "commitment": hex::encode(&slot.commitment),
    })
}

fn slot_shown(shown: &VerifiedSlot) -> Shown {
    let mut rows = vec![("custodian", printable(&shown.custodian)), ("handle", hex::encode(shown.handle))];
    let mut json = json!({ "custodian": shown.custodian, "handle": hex::encode(shown.handle), "slot": null });
    let mut not = vec!["whose handle it is: patient and custodian know", "that nothing changed since"];
    let Some(slot) = &shown.slot else {
        let what = "nothing was ever committed under this handle".to_owned();
        return Shown { kind: "absence", what, rows, not, json };
    };
    json["slot"] = slot_json(slot);
    rows.push(("withdrawn", if slot.frozen { "yes: decisions are DENY" } else { "no" }.to_owned()));
    rows.push((
        "changes",
        format!("{} of consent, {} withdrawals among them", slot.consent_seq, slot.withdraw_seq),
    ));
    rows.push(("accesses", slot.access_seq.to_string()));
    match &shown.consents {
        None => not.push("which consents its commitment stands for"),
        Some(Consents::All(leaves)) => {
            let ids: Vec<String> = leaves.iter().map(|leaf| printable(&leaf.id)).collect();
            let all = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
            rows.push(("consents", format!("{}, and no other: {all}", leaves.len())));
            not.push("what the consents say");
            json["consents"] = json!({
                "all": true, "count": leaves.len(),
                "list": leaves.iter().map(|leaf| json!({ "id": leaf.id, "commitment": hex::encode(leaf.commitment) })).collect::<Vec<_>>(),
            });
        }
        Some(Consents::One { leaf, count, body }) => {
            rows.push(("consent", format!("{}, one of {count}", printable(&leaf.id))));
            let mut one = json!({ "id": leaf.id, "commitment": hex::encode(leaf.commitment) });
            match body {
                None => not.push("what the consent says"),
                Some(body) => {
                    let state = body.state().as_str_name().trim_start_matches("CONSENT_STATE_").to_owned();
                    rows.push(("revision", format!("{}, {state}", body.revision)));
                    one["revision"] = body.revision.into();
                    one["state"] = state.into();
                    one["fhir"] = serde_json::from_slice(&body.fhir).unwrap_or(Value::Null);
                }
            }
            json["consents"] = json!({ "all": false, "count": count, "list": [one] });
        }
    }
    Shown {
        kind: "slot",
        what: "the state of one patient's consent at one custodian".to_owned(),
        rows,
        not,
        json,
    }
}

fn decision_shown(shown: &VerifiedDecision) -> Shown {
    let VerifiedDecision { request, decision, slot, policy_shown } = shown;
    let mut not =
        vec!["that anything was released: a receipt of the access shows that", "that nothing changed since"];
    if !policy_shown {
        not.push("that the custodian's own policy was still the same: that is its word");
    }
    let rows = vec![
        ("custodian", printable(&request.custodian)),
        ("recipient", printable(&request.recipient)),
        ("client", printable(&request.client)),
        ("actor", printable(&request.actor)),
        ("purpose", printable(&request.purpose)),
        ("outcome", printable(&decision.outcome)),
        ("decided", format!("at height {}, {}", decision.height, time(decision.time_ms))),
        ("counts until", format!("{}, unless something changes", time(decision.not_after_ms))),
    ];
    let json = json!({
        "custodian": request.custodian, "recipient": request.recipient, "client": request.client, "actor": request.actor,
        "purpose": request.purpose, "action": request.action, "resource_types": request.resource_types,
        "outcome": decision.outcome, "obligations": decision.obligations, "consent_seq": decision.consent_seq,
        "policy_seq": decision.policy_seq, "policy_shown": policy_shown, "algorithm": decision.algorithm,
        "decided_height": decision.height, "decided_time_ms": decision.time_ms, "not_after_ms": decision.not_after_ms,
        "slot": slot_json(slot),
    });
    let what = "a permit, and that the consent it rests on still stood".to_owned();
    Shown { kind: "decision", what, rows, not, json }
}
