//! `assent status`: what a node is and how it does.

use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::{Answer, GetStatusRequest, GetStatusResponse};
use serde_json::{json, Value};

use crate::connect::{self, NodeArgs};
use crate::exit::{printable, Failure};
use crate::output::{fields, table, time, Report};
use crate::profile::Profile;
use crate::text::now_ms;

/// Arguments of `assent status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    node: NodeArgs,
}

impl StatusArgs {
    /// Asks and prints.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = NodeServiceClient::new(node.channel.clone());
            let status = node.answer(client.get_status(GetStatusRequest {})).await?;
            Ok(Report::ok(text(&status), json(&status)))
        })
    }
}

/// The state of the ledger that an answer was given from, for JSON output.
pub fn answer_json(answer: &Option<Answer>) -> Value {
    answer
        .as_ref()
        .map_or(Value::Null, |a| json!({ "height": a.height, "time_ms": a.time_ms, "token": a.token }))
}

/// The same for people.
pub fn answer_text(answer: &Option<Answer>) -> String {
    answer.as_ref().map_or("unknown".to_owned(), |a| format!("height {}, {}", a.height, time(a.time_ms)))
}

fn text(status: &GetStatusResponse) -> String {
    let fresh = match status.fresh {
        true => "yes".to_owned(),
        false => format!("NO: {}", printable(&status.not_fresh_reason)),
    };
    let connected = match status.connected.is_empty() {
        true => "nobody".to_owned(),
        false => printable(&status.connected.join(", ")),
    };
    let ends = status.certificate_ends.iter();
    let ends = ends.map(|end| certificate(&end.which, end.end_ms, now_ms())).collect::<Vec<_>>().join("; ");
    let mut head = vec![
        ("organization", printable(&status.organization)),
        ("role", printable(&status.role)),
        ("chain", printable(&status.chain_id)),
        ("genesis hash", hex::encode(&status.genesis_hash)),
        ("ledger", answer_text(&status.answer)),
        ("header", hex::encode(&status.header_hash)),
        ("state root", hex::encode(&status.state_root)),
        ("entries", format!("{} committed, {} waiting", status.entries, status.mempool_entries)),
        ("log size", status.log_size.to_string()),
        ("members", format!("{}, {} of them validators", status.members, status.validators.len())),
        ("fresh", fresh),
        ("connected to", connected),
        ("certificates", ends),
        ("version", printable(&format!("{} ({})", status.version, status.ordering))),
    ];
    head.extend(lacks(status).map(|lacks| ("vault lacks", lacks)));
    let rows = status.validators.iter().map(|v| {
        let signed =
            if v.last_signed_height == 0 { "-".to_owned() } else { v.last_signed_height.to_string() };
        let key = hex::encode(&v.vote_key);
        [printable(&v.organization), v.power.to_string(), signed, format!("{}…", &key[..key.len().min(16)])]
    });
    fields(&head) + &table(["validator", "power", "last signed", "vote key"], rows)
}

/// Said only when there is something to say.
fn lacks(status: &GetStatusResponse) -> Option<String> {
    let (consents, accesses) = (status.vault_missing_consents, status.vault_missing_accesses);
    (consents + accesses > 0)
        .then(|| format!("the consents of {consents} patients, {accesses} accesses: an old backup?"))
}

/// Days until a certificate ends, in capitals from 30 on.
fn certificate(which: &str, end_ms: u64, now_ms: u64) -> String {
    let (which, day_ms) = (printable(which), 24 * 3_600_000);
    match end_ms.saturating_sub(now_ms) / day_ms {
        _ if end_ms <= now_ms => format!("{which} HAS ENDED"),
        days if days < 30 => format!("{which} ENDS IN {days} DAYS"),
        days => format!("{which} ends in {days} days"),
    }
}

fn json(status: &GetStatusResponse) -> Value {
    let validators: Vec<Value> = status
        .validators
        .iter()
        .map(|v| {
            json!({
                "organization": v.organization, "vote_key": hex::encode(&v.vote_key), "power": v.power,
                "last_signed_height": v.last_signed_height,
            })
        })
        .collect();
    json!({
        "ok": true,
        "answer": answer_json(&status.answer),
        "chain_id": status.chain_id,
        "genesis_hash": hex::encode(&status.genesis_hash),
        "organization": status.organization,
        "role": status.role,
        "members": status.members,
        "version": status.version,
        "ordering": status.ordering,
        "header_hash": hex::encode(&status.header_hash),
        "state_root": hex::encode(&status.state_root),
        "log_size": status.log_size,
        "entries": status.entries,
        "mempool_entries": status.mempool_entries,
        "fresh": status.fresh,
        "not_fresh_reason": status.not_fresh_reason,
        "connected": status.connected,
        "certificate_ends": status.certificate_ends.iter()
            .map(|end| json!({ "which": end.which, "end_ms": end.end_ms })).collect::<Vec<_>>(),
        "vault_missing_consents": status.vault_missing_consents,
        "vault_missing_accesses": status.vault_missing_accesses,
        "validators": validators,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_near_is_in_capitals() {
        let day = 24 * 3_600_000;
        assert_eq!(certificate("node", 100 * day, 0), "node ends in 100 days");
        assert_eq!(certificate("node", 30 * day, 1), "node ENDS IN 29 DAYS");
        assert_eq!(certificate("client", day, day), "client HAS ENDED");
    }
}
