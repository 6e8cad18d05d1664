//! `assent governance list`: members, validators, and what is on its way.

use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::scheduled_change::Kind;
use assent_proto::ledger::v1::{Membership, Organization, ProposeChange};
use prost::Message;
use serde_json::{json, Value};

use super::{membership, purpose_name};
use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, NodeArgs};
use crate::exit::{printable, Failure};
use crate::output::{table, Report};
use crate::profile::Profile;

/// Arguments of `assent governance list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    node: NodeArgs,
}

impl ListArgs {
    /// Asks and prints.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let (members, answer) = connect::run(async {
            let node = self.node.connect(profile).await?;
            membership(&node).await
        })?;
        let text = format!("{}ledger  {}", text(&members), answer_text(&answer));
        let mut json = json(&members);
        json["answer"] = answer_json(&answer);
        Ok(Report::ok(text, json))
    }
}

/// A change in words.
fn change(change: Option<&ProposeChange>) -> String {
    match change.and_then(|c| c.change.as_ref()) {
        Some(Change::AddOrganization(op)) => {
            let record = Organization::decode(op.organization.as_slice()).unwrap_or_default();
            format!("add-organization {} ({})", record.id, record.name)
        }
        Some(Change::RemoveOrganization(op)) => match &op.successor {
            Some(successor) => format!("remove-organization {}, successor {successor}", op.organization),
            None => format!("remove-organization {}, slots frozen", op.organization),
        },
        Some(Change::AddValidator(op)) => {
            format!("add-validator {} {}", op.organization, hex::encode(&op.vote_key))
        }
        Some(Change::RemoveValidator(op)) => format!("remove-validator {}", op.organization),
        Some(Change::ReplaceKey(op)) => {
            format!("replace-key {} {}", op.organization, purpose_name(op.purpose()))
        }
        None => "unknown".to_owned(),
    }
}

fn scheduled(kind: Option<&Kind>) -> String {
    match kind {
        Some(Kind::Proposal(p)) => format!("{} (proposal {})", change(p.change.as_ref()), p.number),
        Some(Kind::Key(key)) => format!("new {} key of {}", purpose_name(key.purpose()), key.organization),
        Some(Kind::Addresses(a)) => format!("new addresses of {}", a.organization),
        Some(Kind::Validator(v)) => format!("{} votes", v.organization),
        Some(Kind::Suspended(id)) => format!("entry key of {id} stops"),
        None => "unknown".to_owned(),
    }
}

fn status(members: &Membership, organization: &Organization) -> String {
    let votes = members.validators.iter().flat_map(|set| &set.validators);
    let mut words = Vec::new();
    if votes.into_iter().any(|v| v.organization == organization.id) {
        words.push("votes");
    }
    if members.joining.iter().any(|v| v.organization == organization.id) {
        words.push("waits to be ready");
    }
    if organization.entry_key.is_empty() {
        words.push("ENTRY KEY SUSPENDED");
    }
    words.join(", ")
}

fn text(members: &Membership) -> String {
    let mut out = table(
        ["organization", "name", "status"],
        members.organizations.iter().map(|o| [printable(&o.id), printable(&o.name), status(members, o)]),
    );
    out.push('\n');
    if !members.proposals.is_empty() {
        let rows = members.proposals.iter().map(|p| {
            let height = p.change.as_ref().map_or(0, |c| c.effective_height);
            [
                p.number.to_string(),
                printable(&change(p.change.as_ref())),
                height.to_string(),
                printable(&p.approvals.join(", ")),
            ]
        });
        out += &format!("\n{}\n", table(["proposal", "change", "by height", "approved by"], rows));
    }
    if !members.scheduled.is_empty() {
        let rows = members
            .scheduled
            .iter()
            .map(|c| [c.effective_height.to_string(), printable(&scheduled(c.kind.as_ref()))]);
        out += &format!("\n{}\n", table(["from height", "scheduled"], rows));
    }
    if !members.suspensions.is_empty() {
        let rows =
            members.suspensions.iter().map(|s| [printable(&s.organization), printable(&s.votes.join(", "))]);
        out += &format!("\n{}\n", table(["suspension of", "voted for by"], rows));
    }
    out
}

fn json(members: &Membership) -> Value {
    let of = |v: &assent_proto::ledger::v1::Validator| json!({ "organization": v.organization, "vote_key": hex::encode(&v.vote_key), "power": v.power });
    let organizations = members.organizations.iter().map(|o| {
        json!({
            "id": o.id, "name": o.name, "status": status(members, o),
            "entry_key": hex::encode(&o.entry_key), "checkpoint_key": hex::encode(&o.checkpoint_key),
            "consensus_peer_id": o.consensus_peer_id, "consensus_address": o.consensus_address,
            "exchange_peer_id": o.exchange_peer_id, "exchange_address": o.exchange_address,
        })
    });
    let proposals = members.proposals.iter().map(|p| {
        json!({
            "number": p.number, "proposer": p.proposer, "change": change(p.change.as_ref()),
            "effective_height": p.change.as_ref().map_or(0, |c| c.effective_height), "approvals": p.approvals,
        })
    });
    let waiting = members
        .scheduled
        .iter()
        .map(|c| json!({ "effective_height": c.effective_height, "change": scheduled(c.kind.as_ref()) }));
    let suspensions =
        members.suspensions.iter().map(|s| json!({ "organization": s.organization, "votes": s.votes }));
    json!({
        "ok": true,
        "organizations": organizations.collect::<Vec<_>>(),
        "validators": members.validators.iter().flat_map(|s| &s.validators).map(of).collect::<Vec<_>>(),
        "joining": members.joining.iter().map(of).collect::<Vec<_>>(),
        "proposals": proposals.collect::<Vec<_>>(),
        "scheduled": waiting.collect::<Vec<_>>(),
        "suspensions": suspensions.collect::<Vec<_>>(),
    })
}
