//! A lost control key: `assent replace-key` registers another one, as the custodian's registrar; `assent cancel-replacement` is the
//! present key's "no" to that, through any node and without a client certificate.

use std::path::PathBuf;

use assent_ledger::entry::cancel_sign_bytes;
use assent_ledger::hash::sha256;
use assent_ledger::keys::sign;
use assent_proto::ledger::v1::CancelReplacement;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::{CancelReplacementRequest, GetSlotRequest, ReplaceControlKeyRequest};
use serde_json::json;

use crate::commands::status::{answer_json, answer_text};
use crate::commands::wallet::{ControlKey, Wallet};
use crate::connect::{self, Node, NodeArgs, ServerArgs};
use crate::exit::Failure;
use crate::output::{fields, time, Report};
use crate::profile::{ChainArgs, Profile};
use crate::text::{self, PatientArgs};

/// Arguments of `assent cancel-replacement`.
#[derive(Debug, clap::Args)]
pub struct CancelArgs {
    /// Wallet
    #[arg(long, value_name = "FILE")]
    wallet: PathBuf,
    /// Organization that holds the records
    #[arg(long, value_name = "ID")]
    custodian: String,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    node: ServerArgs,
}

impl CancelArgs {
    /// Asks which key waits, signs against just that one, and waits until it stands in the ledger.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let wallet = Wallet::load(&self.wallet)?;
        let control = wallet.control_key(&self.custodian, self.chain.resolve(profile)?)?;
        connect::run(async {
            let node = self.node.connect(profile).await?;
            cancel(&node, &control).await
        })
    }
}

async fn cancel(node: &Node, control: &ControlKey) -> Result<Report, Failure> {
    let mut client = PatientServiceClient::new(node.channel.clone());
    let request = GetSlotRequest { proof: Some(control.proof("GetSlot")) };
    let answer = node.answer(client.get_slot(request)).await?;
    let slot = answer.slot.ok_or_else(|| Failure::error("NO_SLOT", "the node answered without a slot"))?;
    let Some(waiting) = slot.replacement else {
        let text =
            "no other control key waits\n".to_owned() + &fields(&[("ledger", answer_text(&answer.answer))]);
        let json = json!({
            "ok": true, "cancelled": false, "custodian": control.custodian, "control_key": null,
            "effective_ms": null, "height": null, "answer": answer_json(&answer.answer),
        });
        return Ok(Report::ok(text, json));
    };
    let message = cancel_sign_bytes(
        &control.chain_id,
        &control.custodian,
        &control.handle,
        waiting.consent_seq,
        &waiting.control_key,
    );
    let signature = sign(&control.key, &message);
    let operation = CancelReplacement {
        custodian: control.custodian.clone(),
        handle: control.handle.to_vec(),
        consent_seq: waiting.consent_seq,
        patient_signature: signature.to_vec(),
    };
    // Named by what is signed, so that a retry is the same cancellation.
    let request_id = hex::encode(&sha256(&signature)[..16]);
    let request = CancelReplacementRequest { request_id, cancel: Some(operation) };
    let answer = node.answer(client.cancel_replacement(request)).await?;
    let key = hex::encode(&waiting.control_key);
    let text = format!("cancelled at {}: your key stays\n", control.custodian)
        + &fields(&[
            ("key that waited", key.clone()),
            ("until", time(waiting.effective_ms)),
            ("recorded", format!("height {}", answer.height)),
            ("ledger", answer_text(&answer.answer)),
        ]);
    let json = json!({
        "ok": true, "cancelled": true, "custodian": control.custodian, "control_key": key,
        "effective_ms": waiting.effective_ms, "height": answer.height, "answer": answer_json(&answer.answer),
    });
    Ok(Report::ok(text, json))
}

/// Arguments of `assent replace-key`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent replace-key --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> --control-key <HEX> [OPTIONS]"
)]
pub struct ReplaceKeyArgs {
    #[command(flatten)]
    patient: PatientArgs,
    /// New control key, hex: `assent wallet show` says it
    #[arg(long, value_name = "HEX")]
    control_key: String,
    /// Name of this write, to retry it; fresh by default
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

impl ReplaceKeyArgs {
    /// Registers the key; it waits.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request_id = text::request_id(&self.request_id)?;
        let request = ReplaceControlKeyRequest {
            request_id: request_id.clone(),
            patient: Some(self.patient.parse()?),
            control_key: text::hash("--control-key", &self.control_key)?.to_vec(),
        };
        let answer = connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = PatientServiceClient::new(node.channel.clone());
            node.answer(client.replace_control_key(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let text = "registered; it waits, and the present key can cancel it until then\n".to_owned()
            + &fields(&[("counts from", time(answer.effective_ms)), ("ledger", answer_text(&answer.answer))]);
        let json = json!({
            "ok": true, "effective_ms": answer.effective_ms, "request_id": request_id,
            "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(text, json))
    }
}
