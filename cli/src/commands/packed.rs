//! A verified patient pack, for people and for programs: what is in it, what it proves, and what no ledger can prove.

use assent_ledger::consent::read_body;
use assent_ledger::pack::{VerifiedPack, LOST_CONSENTS};
use assent_ledger::receipts::Start;
use assent_proto::ledger::v1::{ConsentBody, ContactPreferences};
use serde_json::{json, Value};

use crate::commands::history;
use crate::commands::trust::way;
use crate::exit::printable;
use crate::output::{paragraph, time};

/// What no pack of any ledger proves. Whoever reads one must not take it for more.
pub const UNPROVEN: [&str; 6] = [
    "who looked at a screen or a printout, at the custodian or behind a release",
    "what somebody who got records did with them afterwards: a copy leaves no trace here",
    "records that two organizations passed to each other outside of this network, if both keep silent",
    "accesses to a second chart of the same person that nobody linked: it has a handle and a pack of its own",
    "that the person named with an access is the one who acted: the organization that asked says so and signed it",
    "what happened after this height, and what earlier revisions of the consents said",
];

/// What the pack proves, in words.
fn proven(pack: &VerifiedPack) -> [String; 4] {
    let custodian = &pack.custodian;
    let height = pack.at.header.height;
    [
        format!(
            "the ledger holds exactly {} accesses that {custodian} recorded for this handle until height {height}; all are here",
            pack.slot.access_seq
        ),
        "each was asked for by the organization named, which signed the request; why it was permitted, the custodian committed to \
         before it released".into(),
        format!(
            "the ledger commits to exactly {} consents{} for this handle at {custodian}; all are here, in their latest revision",
            pack.consents.len(),
            if pack.contact.is_some() { " and contact preferences" } else { "" },
        ),
        anchored(&pack.at.start) + "; each consent and access here is of this handle",
    ]
}

/// Why the state of the ledger is the one.
fn anchored(start: &Start) -> String {
    match start {
        Start::Checkpoint { within: true, size, .. } => {
            format!("this state of the ledger stands in the checkpoint of {size} leaves, which others signed")
        }
        _ => format!(
            "more than 2/3 of the validators signed this state of the ledger; they follow {}, each signed by those before",
            way(start)
        ),
    }
}

/// State of a consent without its prefix.
fn state(body: &ConsentBody) -> String {
    body.state().as_str_name().replace("CONSENT_STATE_", "")
}

/// Its rules in words; none when this program can't read it.
fn rules(body: &ConsentBody) -> Option<Vec<String>> {
    // Whose records it is about only the custodian's vault says; the handle of the body stands for it.
    read_body(body, "").ok().map(|imported| imported.sentences)
}

/// Its custodian had lost earlier consents, and began anew with this one.
fn began_anew(body: &ConsentBody) -> bool {
    body.supersedes.iter().any(|id| id == LOST_CONSENTS)
}

/// For people.
pub fn text(pack: &VerifiedPack) -> String {
    let mut out = format!(
        "all of one patient's consents and accesses at {}\nhandle {}\n\n",
        printable(&pack.custodian),
        hex::encode(pack.handle)
    );
    out += history::text(&pack.at, &pack.slot, &pack.accesses).trim_end();
    out += "\n";
    for (access, reasons) in pack.accesses.iter().zip(&pack.reasons) {
        out += &paragraph(&format!("access {} by: ", access.access_seq), &reasons.decided_by.join(" "));
    }
    out += &format!("\n{} consents\n", pack.consents.len());
    for body in &pack.consents {
        out += &consent_text(body);
    }
    if let Some(contact) = &pack.contact {
        out += &contact_text(contact);
    }
    out += "\nIt proves:\n";
    out += &proven(pack).iter().map(|said| paragraph("- ", said)).collect::<String>();
    out += "\nNo ledger can prove:\n";
    out + &UNPROVEN.iter().map(|said| paragraph("- ", said)).collect::<String>()
}

fn consent_text(body: &ConsentBody) -> String {
    let unresolved = if body.unresolved { ", UNRESOLVED: everything is withheld" } else { "" };
    let head = format!("{}, revision {}, {}{unresolved}", body.id, body.revision, state(body));
    let mut out = paragraph("consent: ", &head);
    match rules(body) {
        Some(rules) => out += &rules.iter().map(|rule| paragraph("  rule: ", rule)).collect::<String>(),
        None => out += "  this program can't read what it says\n",
    }
    if let Some(grantor) = &body.grantor {
        let said = format!("{}, until {}", grantor.authority, time(grantor.valid_until_ms));
        out += &paragraph("  granted by: ", &said);
    }
    if began_anew(body) {
        out += &paragraph("  ", "The custodian had lost earlier consents and began anew with this one.");
    }
    out
}

fn contact_text(contact: &ContactPreferences) -> String {
    let by = |channels: &[String]| if channels.is_empty() { "any".to_owned() } else { channels.join(", ") };
    let said = format!(
        "reminders by {}; surveys by {}; campaigns by {}",
        by(&contact.reminder),
        by(&contact.survey),
        by(&contact.campaign)
    );
    paragraph("contact: ", &said)
}

/// For programs.
pub fn json(pack: &VerifiedPack) -> Value {
    let mut json = history::json(&pack.custodian, &pack.at, &pack.slot, &pack.accesses);
    for (n, reasons) in pack.reasons.iter().enumerate() {
        json["accesses"][n]["decided_by"] = json!(reasons.decided_by);
    }
    json["kind"] = "pack".into();
    json["handle"] = hex::encode(pack.handle).into();
    json["consents"] = pack.consents.iter().map(consent_json).collect();
    json["contact_preferences"] = json!(pack.contact.as_ref().map(|contact| json!({
        "reminder": contact.reminder, "survey": contact.survey, "campaign": contact.campaign,
    })));
    json["proves"] = json!(proven(pack));
    json["unproven"] = json!(UNPROVEN);
    json
}

fn consent_json(body: &ConsentBody) -> Value {
    json!({
        "consent_id": body.id, "revision": body.revision, "state": state(body), "rules": rules(body),
        "supersedes": body.supersedes, "began_anew": began_anew(body), "unresolved": body.unresolved,
        "fhir_sha256": hex::encode(assent_ledger::hash::sha256(&body.fhir)),
    })
}
