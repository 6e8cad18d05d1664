//! `assent withdraw`: freezes a slot, through any node, signed by the control key. Needs no client certificate.

use std::path::PathBuf;

use assent_ledger::entry::withdraw_sign_bytes;
use assent_ledger::hash::sha256;
use assent_ledger::keys::sign;
use assent_proto::ledger::v1::Withdraw;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::{GetSlotRequest, WithdrawRequest};
use serde_json::json;

use crate::commands::status::{answer_json, answer_text};
use crate::commands::wallet::{ControlKey, Wallet};
use crate::connect::{self, Node, ServerArgs};
use crate::exit::Failure;
use crate::output::{fields, Report};
use crate::profile::{ChainArgs, Profile};

/// Arguments of `assent withdraw`.
#[derive(Debug, clap::Args)]
pub struct WithdrawArgs {
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

impl WithdrawArgs {
    /// Asks for the slot, signs for its present sequence, submits, and waits until it stands in the ledger.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let wallet = Wallet::load(&self.wallet)?;
        let control = wallet.control_key(&self.custodian, self.chain.resolve(profile)?)?;
        connect::run(async {
            let node = self.node.connect(profile).await?;
            withdraw(&node, &control).await
        })
    }
}

async fn withdraw(node: &Node, control: &ControlKey) -> Result<Report, Failure> {
    let mut client = PatientServiceClient::new(node.channel.clone());
    let request = GetSlotRequest { proof: Some(control.proof("GetSlot")) };
    let answer = node.answer(client.get_slot(request)).await?;
    let slot = answer.slot.ok_or_else(|| Failure::error("NO_SLOT", "the node answered without a slot"))?;
    let withdraw_seq = slot.withdraw_seq;
    if slot.frozen {
        let text = "withdrawn already\n".to_owned() + &fields(&[("ledger", answer_text(&answer.answer))]);
        let json = json!({
            "ok": true, "already": true, "custodian": control.custodian, "withdraw_seq": withdraw_seq,
            "height": null, "answer": answer_json(&answer.answer),
        });
        return Ok(Report::ok(text, json));
    }
    let message = withdraw_sign_bytes(&control.chain_id, &control.custodian, &control.handle, withdraw_seq);
    let signature = sign(&control.key, &message);
    let operation = Withdraw {
        custodian: control.custodian.clone(),
        handle: control.handle.to_vec(),
        withdraw_seq,
        patient_signature: signature.to_vec(),
    };
    // Named by what is signed: trying again while the outcome is unknown does not withdraw twice.
    let request_id = hex::encode(&sha256(&signature)[..16]);
    let answer =
        node.answer(client.withdraw(WithdrawRequest { request_id, withdraw: Some(operation) })).await?;
    let rows = [("recorded", format!("height {}", answer.height)), ("ledger", answer_text(&answer.answer))];
    let text = format!("withdrawn at {}: nothing more is released\n", control.custodian) + &fields(&rows);
    let json = json!({
        "ok": true, "already": false, "custodian": control.custodian, "withdraw_seq": withdraw_seq,
        "height": answer.height, "answer": answer_json(&answer.answer),
    });
    Ok(Report::ok(text, json))
}
