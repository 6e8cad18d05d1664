//! `assent governance`: who is a member, who votes, with which keys, and how that changes.

mod handover;
mod list;
mod propose;

use std::path::Path;

use assent_ledger::keyfile;
use assent_ledger::keys::SigningKey;
use assent_proto::ledger::v1::{KeyPurpose, Membership};
use assent_proto::v1::governance_service_client::GovernanceServiceClient;
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::{Answer, ApproveRequest, GetMembershipRequest, GetStatusRequest, SuspendRequest};
use serde_json::json;
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::commands::custodian::WriteArgs;
use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, Node};
use crate::exit::{printable, Failure};
use crate::files;
use crate::output::{fields, Report};
use crate::profile::Profile;
use crate::text;

/// Heights from now at which a change holds.
pub const DEFAULT_LEAD: u64 = 100;
/// What keys are for, as commands and key files name it.
pub const PURPOSES: [&str; 6] =
    ["entry", "vote", "consensus-peer", "exchange-peer", "checkpoint", "certificate-authority"];

/// Members, validators and their keys.
#[derive(Debug, clap::Subcommand)]
pub enum GovernanceCommand {
    /// Show members, validators, proposals, what is scheduled
    List(list::ListArgs),
    /// Propose a change that the others approve
    #[command(subcommand)]
    Propose(propose::ProposeCommand),
    /// Approve an open proposal
    Approve(ApproveArgs),
    /// Vote to stop an organization's entry key at once
    Suspend(SuspendArgs),
    /// Sign for a new key that the others shall vote for
    Handover(handover::HandoverArgs),
}

impl GovernanceCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        match self {
            Self::List(args) => args.run(profile),
            Self::Propose(command) => command.run(profile),
            Self::Approve(args) => args.run(profile),
            Self::Suspend(args) => args.run(profile),
            Self::Handover(args) => args.run(profile),
        }
    }
}

/// The service behind a connection.
pub fn service(node: &Node) -> GovernanceServiceClient<Channel> {
    GovernanceServiceClient::new(node.channel.clone())
}

/// The membership as the node's ledger has it, and from which height.
pub async fn membership(node: &Node) -> Result<(Membership, Option<Answer>), Failure> {
    let answer = node.answer(service(node).get_membership(GetMembershipRequest {})).await?;
    let missing = || Failure::error("BAD_ANSWER", "the node answered without a membership");
    Ok((answer.membership.ok_or_else(missing)?, answer.answer))
}

/// Chain that a node is of.
pub async fn chain_id(node: &connect::Node) -> Result<String, Failure> {
    let mut client = NodeServiceClient::new(node.channel.clone());
    let status = node.answer(client.get_status(GetStatusRequest {})).await?;
    Ok(status.chain_id)
}

/// Height of an answer.
pub fn height(answer: &Option<Answer>) -> u64 {
    answer.as_ref().map_or(0, |answer| answer.height)
}

/// A purpose by its name.
pub fn purpose(name: &str) -> KeyPurpose {
    match name {
        "entry" => KeyPurpose::Entry,
        "vote" => KeyPurpose::Vote,
        "consensus-peer" => KeyPurpose::ConsensusPeer,
        "exchange-peer" => KeyPurpose::ExchangePeer,
        "checkpoint" => KeyPurpose::Checkpoint,
        "certificate-authority" => KeyPurpose::CertificateAuthority,
        _ => KeyPurpose::Unspecified,
    }
}

/// Name of a purpose.
pub fn purpose_name(purpose: KeyPurpose) -> &'static str {
    match purpose {
        KeyPurpose::Unspecified => "unknown",
        KeyPurpose::Entry => "entry",
        KeyPurpose::Vote => "vote",
        KeyPurpose::ConsensusPeer => "consensus-peer",
        KeyPurpose::ExchangePeer => "exchange-peer",
        KeyPurpose::Checkpoint => "checkpoint",
        KeyPurpose::CertificateAuthority => "certificate-authority",
    }
}

/// An Ed25519 key from its file.
pub fn load_key(path: &Path) -> Result<SigningKey, Failure> {
    keyfile::from_pem(&Zeroizing::new(files::read_text(path)?))
        .map_err(|e| Failure::usage("MALFORMED_KEY", format!("{}: {e}", path.display())))
}

/// What a decision led to, in words.
pub fn holds(effective_height: u64) -> String {
    match effective_height {
        0 => "waits for approval: more than 2/3 of the validators' organizations".to_owned(),
        height => format!("decided, holds from height {height} on"),
    }
}

/// Arguments of `assent governance approve`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct ApproveArgs {
    /// Number of the proposal: `assent governance list` says it
    #[arg(value_name = "NUMBER")]
    proposal: u64,
    #[command(flatten)]
    write: WriteArgs,
}

impl ApproveArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request_id = text::request_id(&self.write.request_id)?;
        let request = ApproveRequest { request_id: request_id.clone(), proposal: self.proposal };
        let answer = connect::run(async {
            let node = self.write.node.connect(profile).await?;
            node.answer(service(&node).approve(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let rows = [
            ("proposal", self.proposal.to_string()),
            ("approved", format!("height {}", answer.height)),
            ("change", holds(answer.effective_height)),
            ("ledger", answer_text(&answer.answer)),
        ];
        let json = json!({
            "ok": true, "proposal": self.proposal, "height": answer.height,
            "effective_height": answer.effective_height, "request_id": request_id,
            "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(fields(&rows), json))
    }
}

/// Arguments of `assent governance suspend`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct SuspendArgs {
    /// Organization whose entry key is in wrong hands
    #[arg(value_name = "ORG")]
    organization: String,
    #[command(flatten)]
    write: WriteArgs,
}

impl SuspendArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        text::id("ORGANIZATION", &self.organization)?;
        let request_id = text::request_id(&self.write.request_id)?;
        let organization = self.organization.clone();
        let request = SuspendRequest { request_id: request_id.clone(), organization };
        let answer = connect::run(async {
            let node = self.write.node.connect(profile).await?;
            node.answer(service(&node).suspend(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let state = match answer.suspended {
            true => "suspended: the ledger takes no entry of it any more",
            false => "in force until more than 1/3 of the validators' organizations voted",
        };
        let rows = [
            ("organization", printable(&self.organization)),
            ("voted", format!("height {}", answer.height)),
            ("entry key", state.to_owned()),
            ("ledger", answer_text(&answer.answer)),
        ];
        let json = json!({
            "ok": true, "organization": self.organization, "height": answer.height,
            "suspended": answer.suspended, "request_id": request_id, "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(fields(&rows), json))
    }
}
