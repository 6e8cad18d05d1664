//! `assent history`: who looked, when, why. Verified here: all n of n accesses, none left out.

use std::path::PathBuf;

use assent_ledger::receipts::{
    decode_history, genesis_hash_in, verify_history, AnchoredAt, VerifiedAccess, HISTORY_MAGIC,
    MAX_BUNDLE_BYTES,
};
use assent_proto::ledger::v1::{DataRequest, Slot};
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::GetHistoryRequest;
use serde_json::{json, Value};

use crate::commands::trust::{sent, way, TrustArgs};
use crate::commands::verify::access_json;
use crate::commands::wallet::{ControlKey, Wallet};
use crate::connect::{self, Node, ServerArgs};
use crate::exit::{printable, Failure};
use crate::files::{self, PRIVATE};
use crate::output::{table, time, Report};
use crate::profile::{ChainArgs, Profile};

/// Arguments of `assent history`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct HistoryArgs {
    /// Wallet
    #[arg(long, value_name = "FILE")]
    wallet: PathBuf,
    /// Organization that holds the records
    #[arg(long, value_name = "ID")]
    custodian: String,
    /// File to keep the verified history in
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    node: ServerArgs,
}

impl HistoryArgs {
    /// Asks the custodian's node and verifies what it says. Nothing is written unless everything holds.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let against = self.trust.resolve(profile)?;
        let wallet = Wallet::load(&self.wallet)?;
        let control = wallet.control_key(&self.custodian, self.chain.resolve(profile)?)?;
        if let Some(out) = &self.out {
            files::refuse_existing(out)?;
        }
        let bytes = connect::run(async {
            let node = self.node.connect(profile).await?;
            fetch(&node, &control, against.checkpoint_size()).await
        })?;
        let lie = |why: &dyn std::fmt::Display| {
            Failure::verification(
                "BAD_HISTORY",
                format!("the history that the node sent does not hold: {why}"),
            )
            .help("do not rely on it; ask again, and tell the custodian and the other organizations")
        };
        let history = decode_history(&bytes).map_err(|e| lie(&e))?;
        if history.custodian != control.custodian || history.handle != control.handle {
            return Err(lie(&"it is somebody else's"));
        }
        let own = genesis_hash_in(history.anchor.as_ref()).map_err(|e| lie(&e))?;
        let shown = verify_history(&against.trust(own), &bytes).map_err(|e| sent(e, lie))?;
        if let Some(out) = &self.out {
            files::write_new(out, &[HISTORY_MAGIC.as_slice(), &bytes].concat(), PRIVATE)?;
        }
        let mut json = json(&shown.custodian, &shown.at, &shown.slot, &shown.accesses);
        json["file"] = json!(self.out);
        let text = text(&shown.at, &shown.slot, &shown.accesses);
        Ok(against.verdict(&shown.at.start, text, json))
    }
}

async fn fetch(node: &Node, control: &ControlKey, checkpoint_size: u64) -> Result<Vec<u8>, Failure> {
    let mut client =
        PatientServiceClient::new(node.channel.clone()).max_decoding_message_size(MAX_BUNDLE_BYTES);
    let proof = Some(control.proof("GetHistory"));
    let request = GetHistoryRequest { proof, patient: None, checkpoint_size };
    Ok(node.answer(client.get_history(request)).await?.history)
}

/// A verified history for people.
pub fn text(at: &AnchoredAt, slot: &Slot, accesses: &[VerifiedAccess]) -> String {
    let state = if slot.frozen { "withdrawn" } else { "not withdrawn" };
    let head = format!(
        "{} of {} accesses, {state}, as of height {}, {}\n{}\n",
        accesses.len(),
        slot.access_seq,
        at.header.height,
        time(at.header.time_ms),
        way(&at.start),
    );
    if accesses.is_empty() {
        return head + "Nobody looked.";
    }
    let rows = accesses.iter().map(|access| {
        let request = &access.request;
        [
            access.access_seq.to_string(),
            time(access.time_ms),
            printable(&why(request)),
            printable(&request.recipient),
            printable(&request.actor),
            access.event.resources.to_string(),
        ]
    });
    head + &table(["n", "when", "why", "organization", "person", "resources"], rows)
}

/// Purpose, and the reason where the glass was broken.
fn why(request: &DataRequest) -> String {
    match request.break_glass_reason.as_str() {
        "" => request.purpose.clone(),
        reason => format!("{}, glass broken: {reason}", request.purpose),
    }
}

/// The same for JSON output.
pub fn json(custodian: &str, at: &AnchoredAt, slot: &Slot, accesses: &[VerifiedAccess]) -> Value {
    let list: Vec<Value> = accesses
        .iter()
        .map(|access| {
            let mut json = access_json(access);
            json["n"] = access.access_seq.into();
            json
        })
        .collect();
    json!({
        "custodian": custodian, "chain_id": at.header.chain_id, "height": at.header.height, "time_ms": at.header.time_ms,
        "n": slot.access_seq, "frozen": slot.frozen, "withdraw_seq": slot.withdraw_seq, "accesses": list,
    })
}
