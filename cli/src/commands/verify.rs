//! `assent verify`: a receipt, a bundle, a history, a patient pack or evidence, offline, asking nobody.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use assent_ledger::audit::EXPORT_MAGIC;
use assent_ledger::conviction::{EVIDENCE_MAGIC, MAX_EVIDENCE_BYTES};
use assent_ledger::genesis::check_genesis;
use assent_ledger::late::{decode_late_bundle, verify_late_bundle, VerifiedLate, LATE_MAGIC};
use assent_ledger::pack::{decode_pack, history_of, verify_pack, PACK_MAGIC};
use assent_ledger::receipts::{
    decode_bundle, decode_history, genesis_hash_in, verify_bundle, verify_history, VerifiedAccess,
    BUNDLE_MAGIC, HISTORY_MAGIC, MAX_BUNDLE_BYTES, MAX_BYTES as MAX_RECEIPT_BYTES, RECEIPT_MAGIC,
};
use assent_ledger::split::{MAX_SPLIT_BYTES, SPLIT_MAGIC};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{AccessEvent, DataRequest};
use serde_json::{json, Value};

use crate::commands::trust::{refused, way, Against, TrustArgs};
use crate::commands::{evidence, history, packed, receipt, split};
use crate::exit::{printable, Exit, Failure};
use crate::output::{fields, time, Report};
use crate::profile::Profile;

/// Arguments of `assent verify`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct VerifyArgs {
    /// Receipt, bundle, history, pack, late release, or evidence
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// For a receipt of an access: the records' SHA-256, a line each
    #[arg(long, value_name = "FILE")]
    digests: Option<PathBuf>,
}

impl VerifyArgs {
    /// Verifies. Whatever is in the file that isn't right is a failed verification; only the path is a usage error.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let against = self.trust.resolve(profile)?;
        let digests = self.digests.as_deref().map(receipt::read_digests).transpose()?;
        let bytes = self.read()?;
        let magic = bytes.get(..BUNDLE_MAGIC.len()).unwrap_or_default();
        let body = bytes.get(BUNDLE_MAGIC.len()..).unwrap_or_default();
        if magic == RECEIPT_MAGIC {
            return receipt::verify_file(&against, digests, body);
        }
        // What is silently not used would be worse than an error.
        if digests.is_some() {
            let what = "only a receipt (ASSENTR1) is verified against a list of digests";
            return Err(Failure::new(Exit::Undecided, "OTHER_ANCHOR", what).help("leave out --digests"));
        }
        match magic {
            magic if magic == BUNDLE_MAGIC => bundle(&against, body),
            magic if magic == HISTORY_MAGIC => history_file(&against, body),
            magic if magic == EXPORT_MAGIC => {
                Err(fault("this is a ledger export").help("verify it with `assent audit verify`"))
            }
            magic if magic == PACK_MAGIC => pack(&against, body),
            magic if magic == LATE_MAGIC => late(&against, body),
            magic if magic == SPLIT_MAGIC && against.pin.is_none() => {
                split::verify(&self.trust.keys()?, body)
            }
            magic if (magic == EVIDENCE_MAGIC || magic == SPLIT_MAGIC) && against.pin.is_some() => {
                let what = "evidence (ASSENTE1, ASSENTV1) is not verified against a checkpoint";
                Err(Failure::new(Exit::Undecided, "OTHER_ANCHOR", what).help("leave out --checkpoint"))
            }
            magic if magic == EVIDENCE_MAGIC => evidence::verify(&against, body),
            _ => Err(fault("neither a receipt nor a bundle nor a history nor a patient pack")),
        }
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let path = self.file.display();
        let unreadable = |e| Failure::usage("UNREADABLE", format!("{path} can't be read: {e}"));
        let mut bytes = Vec::new();
        let mut file = File::open(&self.file).map_err(unreadable)?;
        let magic = BUNDLE_MAGIC.len() as u64;
        file.by_ref().take(magic).read_to_end(&mut bytes).map_err(unreadable)?;
        let max = magic
            + match bytes.as_slice() {
                magic if magic == EVIDENCE_MAGIC => MAX_EVIDENCE_BYTES as u64,
                magic if magic == SPLIT_MAGIC => MAX_SPLIT_BYTES as u64,
                magic if magic == RECEIPT_MAGIC => MAX_RECEIPT_BYTES as u64,
                _ => MAX_BUNDLE_BYTES as u64,
            };
        // By its size, before it is read; by what comes, where nobody knows a size.
        let size = file.metadata().map_err(unreadable)?.len();
        if size <= max {
            file.take(max + 1 - magic).read_to_end(&mut bytes).map_err(unreadable)?;
        }
        match size.max(bytes.len() as u64) > max {
            true => Err(fault(&format!("the file has more than {max} bytes"))),
            false => Ok(bytes),
        }
    }
}

fn fault(why: &str) -> Failure {
    Failure::verification("DOES_NOT_HOLD", why)
}

/// Something in the file that isn't right.
pub fn does_not_hold(error: impl std::fmt::Display) -> Failure {
    fault(&printable(&error.to_string()))
        .help("do not rely on this file; get it again from where it came from")
}

/// The anchor to verify against: the given one, or the file's own, which proves consistency only.
pub fn anchor_of(given: Option<Hash>, genesis: &[u8]) -> Result<Hash, Failure> {
    match given {
        Some(hash) => Ok(hash),
        None => check_genesis(genesis).map(|(_, _, hash)| hash).map_err(does_not_hold),
    }
}

fn bundle(against: &Against, body: &[u8]) -> Result<Report, Failure> {
    let proof = decode_bundle(body).map_err(does_not_hold)?.proof;
    let own = genesis_hash_in(proof.and_then(|proof| proof.anchor).as_ref()).map_err(refused)?;
    let (at, access, bundle) = verify_bundle(&against.trust(own), body).map_err(refused)?;
    let count = bundle.resources.len();
    let mut rows = access_fields(&access);
    rows.push(("proven", way(&at.start)));
    let text = format!("{count} resources and their receipt\n") + &fields(&rows);
    let json = json!({ "kind": "bundle", "resources": count, "access": access_json(&access) });
    Ok(against.verdict(&at.start, text, json))
}

fn late(against: &Against, body: &[u8]) -> Result<Report, Failure> {
    let proof = decode_late_bundle(body).map_err(does_not_hold)?.proof;
    let own = genesis_hash_in(proof.and_then(|proof| proof.anchor).as_ref()).map_err(refused)?;
    let (late, bundle) = verify_late_bundle(&against.trust(own), body).map_err(refused)?;
    let count = bundle.resources.len();
    let text = format!(
        "{count} resources released without quorum: the custodian's word\n\
         Whether the access is in the ledger, only the receipt shows: request it again\n\
         by its request id.\n"
    ) + &fields(&late_fields(&late));
    let json = json!({ "kind": "late", "resources": count, "access": late_json(&late) });
    Ok(against.verdict(&late.at.start, text, json))
}

fn history_file(against: &Against, body: &[u8]) -> Result<Report, Failure> {
    let own =
        genesis_hash_in(decode_history(body).map_err(does_not_hold)?.anchor.as_ref()).map_err(refused)?;
    let shown = verify_history(&against.trust(own), body).map_err(refused)?;
    let mut json = history::json(&shown.custodian, &shown.at, &shown.slot, &shown.accesses);
    json["kind"] = "history".into();
    let text = history::text(&shown.at, &shown.slot, &shown.accesses);
    Ok(against.verdict(&shown.at.start, text, json))
}

fn pack(against: &Against, body: &[u8]) -> Result<Report, Failure> {
    let history = decode_pack(body).and_then(|pack| history_of(&pack)).map_err(does_not_hold)?;
    let own = genesis_hash_in(history.anchor.as_ref()).map_err(refused)?;
    let pack = verify_pack(&against.trust(own), body).map_err(refused)?;
    Ok(against.verdict(&pack.at.start, packed::text(&pack), packed::json(&pack)))
}

/// What holds without an anchor is only consistent: anybody can make a chain of their own.
pub fn verdict(anchored: bool, genesis_hash: &Hash, text: String, mut json: Value) -> Report {
    json["ok"] = anchored.into();
    json["anchored"] = anchored.into();
    json["genesis_hash"] = hex::encode(genesis_hash).into();
    match anchored {
        true => Report::ok(format!("holds: {text}"), json),
        false => {
            let note = format!(
                "consistent, not anchored: {text}\nIt follows from genesis {}, but nobody said that this is the \
                 right one:\ncompare it, or give it with --genesis-hash.",
                hex::encode(genesis_hash)
            );
            Report::with(Exit::Undecided, note, json)
        }
    }
}

/// One access for people.
pub fn access_fields(access: &VerifiedAccess) -> Vec<(&'static str, String)> {
    let mut rows = event_fields(&access.event, &access.request);
    let late = if access.event.late { ", after a release without quorum" } else { "" };
    rows.push(("recorded", format!("height {}, {}{late}", access.height, time(access.time_ms))));
    rows
}

/// One access that is not in the ledger yet.
pub fn late_fields(late: &VerifiedLate) -> Vec<(&'static str, String)> {
    let mut rows = event_fields(&late.event, &late.request);
    rows.push(("released", format!("{}, without quorum", time(late.event.time_ms))));
    let header = &late.at.header;
    rows.push(("keys", format!("of height {}, {}", header.height, time(header.time_ms))));
    rows.push(("proven", way(&late.at.start)));
    rows
}

fn event_fields(event: &AccessEvent, request: &DataRequest) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("custodian", printable(&request.custodian)),
        ("recipient", printable(&request.recipient)),
        ("client", printable(&request.client)),
        ("actor", printable(&request.actor)),
        ("purpose", printable(&request.purpose)),
        ("outcome", printable(&event.outcome)),
    ];
    if !request.break_glass_reason.is_empty() {
        rows.push(("reason", printable(&request.break_glass_reason)));
    }
    rows
}

/// One access for JSON output.
pub fn access_json(access: &VerifiedAccess) -> Value {
    let mut json = event_json(&access.event, &access.request);
    json["height"] = access.height.into();
    json["time_ms"] = access.time_ms.into();
    json["time"] = time(access.time_ms).into();
    json["header_hash"] = hex::encode(access.header_hash).into();
    json
}

/// The same of one that is not in the ledger yet; the time is that of the release.
pub fn late_json(late: &VerifiedLate) -> Value {
    let mut json = event_json(&late.event, &late.request);
    json["time_ms"] = late.event.time_ms.into();
    json["time"] = time(late.event.time_ms).into();
    json["commitment"] = hex::encode(late.commitment).into();
    json["keys_height"] = late.at.header.height.into();
    json["keys_time_ms"] = late.at.header.time_ms.into();
    json
}

fn event_json(event: &AccessEvent, request: &DataRequest) -> Value {
    json!({
        "custodian": request.custodian, "recipient": request.recipient, "client": request.client,
        "actor": request.actor, "purpose": request.purpose, "action": request.action,
        "resource_types": request.resource_types, "outcome": event.outcome, "obligations": event.obligations,
        "resources": event.resources, "break_glass_reason": request.break_glass_reason, "late": event.late,
    })
}
