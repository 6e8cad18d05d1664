//! `assent accesses`: what this client itself got through its node, newest first.

use assent_proto::v1::exchange_service_client::ExchangeServiceClient;
use assent_proto::v1::{Answer, ListAccessesRequest, Outcome, OwnAccess};
use serde_json::{json, Value};

use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, Node, NodeArgs};
use crate::exit::{printable, Failure};
use crate::output::{fields, table, time, Report};
use crate::profile::Profile;

/// Most accesses that a node puts on a page.
const PAGE: u32 = 500;

/// Arguments of `assent accesses`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct AccessesArgs {
    /// Show at most so many, the newest; 50 by default
    #[arg(long, value_name = "N", default_value_t = 50, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    #[command(flatten)]
    node: NodeArgs,
}

/// What the pages of a list held.
struct Accesses {
    answer: Option<Answer>,
    list: Vec<OwnAccess>,
    more: bool,
}

impl AccessesArgs {
    /// Asks page by page.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let accesses = connect::run(async {
            let node = self.node.connect(profile).await?;
            fetch(&node, self.limit).await
        })?;
        let json = json!({
            "ok": true, "accesses": accesses.list.iter().map(access_json).collect::<Vec<_>>(), "more": accesses.more,
            "answer": answer_json(&accesses.answer),
        });
        Ok(Report::ok(text(&accesses), json))
    }
}

async fn fetch(node: &Node, limit: u32) -> Result<Accesses, Failure> {
    let mut client = ExchangeServiceClient::new(node.channel.clone());
    let mut accesses = Accesses { answer: None, list: Vec::new(), more: true };
    let mut request = ListAccessesRequest::default();
    let mut left = limit;
    while left > 0 && accesses.more {
        request.page_size = left.min(PAGE);
        let page = node.answer(client.list_accesses(request.clone())).await?;
        if page.accesses.is_empty() && !page.next_page_token.is_empty() {
            return Err(Failure::error("BAD_ANSWER", "the node sent an empty page that is not the last"));
        }
        left = left.saturating_sub(page.accesses.len() as u32);
        accesses.answer = accesses.answer.or(page.answer);
        accesses.list.extend(page.accesses);
        accesses.more = !page.next_page_token.is_empty();
        request.page_token = page.next_page_token;
    }
    Ok(accesses)
}

fn text(accesses: &Accesses) -> String {
    let count = accesses.list.len();
    let more = if accesses.more { ", there are more: --limit N" } else { "" };
    let head = format!("{count} accesses{more}\n");
    let foot = fields(&[("ledger", answer_text(&accesses.answer))]);
    if accesses.list.is_empty() {
        return head + &foot;
    }
    let rows = accesses.list.iter().map(|access| {
        let query = access.query.clone().unwrap_or_default();
        let patient = query.patient.unwrap_or_default();
        [
            time(access.time_ms),
            printable(&patient.custodian),
            printable(&format!("{}|{}", patient.identifier_system, patient.identifier_value)),
            printable(&query.purpose),
            printable(&query.actor),
            access.resources.to_string(),
            access.height.to_string(),
            printable(&access.request_id),
        ]
    });
    let columns = ["when", "custodian", "patient", "why", "person", "resources", "height", "request id"];
    head + &table(columns, rows) + "\n" + &foot
}

fn access_json(access: &OwnAccess) -> Value {
    let query = access.query.clone().unwrap_or_default();
    let patient = query.patient.unwrap_or_default();
    let outcome = match access.outcome() {
        Outcome::Permit => "PERMIT",
        Outcome::PermitOverride => "PERMIT_OVERRIDE",
        Outcome::Unspecified => "UNKNOWN",
    };
    json!({
        "request_id": access.request_id, "custodian": patient.custodian,
        "identifier": format!("{}|{}", patient.identifier_system, patient.identifier_value),
        "birth_date": patient.birth_date, "actor": query.actor, "purpose": query.purpose, "action": query.action,
        "resource_types": query.resource_types, "outcome": outcome, "resources": access.resources,
        "height": access.height, "time_ms": access.time_ms, "time": time(access.time_ms),
        "entry_hash": hex::encode(&access.entry_hash), "request_hash": hex::encode(&access.request_hash),
    })
}
