//! `assent governance propose`: changes that more than 2/3 of the validators' organizations approve.

use std::path::{Path, PathBuf};

use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::{
    AddOrganization, AddValidator, Membership, ProposeChange, RemoveOrganization, RemoveValidator,
};
use assent_proto::v1::ProposeRequest;
use prost::Message;
use serde_json::json;

use super::handover::handover;
use super::{chain_id, height, holds, membership, service, DEFAULT_LEAD, PURPOSES};
use crate::card::Card;
use crate::commands::custodian::WriteArgs;
use crate::commands::status::{answer_json, answer_text};
use crate::connect;
use crate::exit::Failure;
use crate::output::{fields, Report};
use crate::profile::Profile;
use crate::text;

/// Changes of the membership.
#[derive(Debug, clap::Subcommand)]
pub enum ProposeCommand {
    /// A new member, without a vote
    AddOrganization(CardArgs),
    /// A member goes, and its validator
    RemoveOrganization(RemoveArgs),
    /// A member gets a vote, once its node is ready
    AddValidator(CardArgs),
    /// A member loses its vote
    RemoveValidator(OrganizationArgs),
    /// A member's key that is lost or suspended
    ReplaceKey(ReplaceArgs),
}

/// When, and where to.
#[derive(Debug, clap::Args)]
pub struct WhenArgs {
    /// First height at which it holds; 100 from now by default
    #[arg(long, value_name = "N")]
    at_height: Option<u64>,
    #[command(flatten)]
    write: WriteArgs,
}

/// An organization by its card.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct CardArgs {
    /// The organization's card
    #[arg(value_name = "CARD.json")]
    card: PathBuf,
    #[command(flatten)]
    when: WhenArgs,
}

/// A member.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct OrganizationArgs {
    /// The member
    #[arg(value_name = "ORG")]
    organization: String,
    #[command(flatten)]
    when: WhenArgs,
}

/// A member that goes.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct RemoveArgs {
    /// The member
    #[arg(value_name = "ORG")]
    organization: String,
    /// Member that acts for its patients from then on; none: frozen
    #[arg(long, value_name = "ORG")]
    successor: Option<String>,
    #[command(flatten)]
    when: WhenArgs,
}

/// A new key of a member.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct ReplaceArgs {
    /// The member
    #[arg(value_name = "ORG")]
    organization: String,
    /// Its purpose, such as entry or vote; a wrong one lists them all
    #[arg(value_name = "PURPOSE", value_parser = PURPOSES, hide_possible_values = true)]
    purpose: String,
    /// What `governance handover` wrote, or an authority's certificate
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    when: WhenArgs,
}

impl ProposeCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let when = match self {
            Self::AddOrganization(args) | Self::AddValidator(args) => &args.when,
            Self::RemoveOrganization(args) => &args.when,
            Self::RemoveValidator(args) => &args.when,
            Self::ReplaceKey(args) => &args.when,
        };
        let request_id = text::request_id(&when.write.request_id)?;
        let answer = connect::run(async {
            let node = when.write.node.connect(profile).await?;
            let (members, now) = membership(&node).await?;
            let chain_id = chain_id(&node).await?;
            let change = self.change(&members, &chain_id)?;
            let effective_height = when.at_height.unwrap_or_else(|| height(&now) + DEFAULT_LEAD);
            let change = Some(ProposeChange { effective_height, change: Some(change) });
            let request = ProposeRequest { request_id: request_id.clone(), change };
            node.answer(service(&node).propose(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let rows = [
            ("proposal", answer.proposal.to_string()),
            ("recorded", format!("height {}", answer.height)),
            ("change", holds(answer.effective_height)),
            ("ledger", answer_text(&answer.answer)),
        ];
        let json = json!({
            "ok": true, "proposal": answer.proposal, "height": answer.height,
            "effective_height": answer.effective_height, "request_id": request_id,
            "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(fields(&rows), json))
    }

    fn change(&self, members: &Membership, chain_id: &str) -> Result<Change, Failure> {
        match self {
            Self::AddOrganization(args) => {
                let organization = card(&args.card, chain_id)?.organization()?.encode_to_vec();
                Ok(Change::AddOrganization(AddOrganization { organization }))
            }
            Self::AddValidator(args) => {
                let card = card(&args.card, chain_id)?;
                let vote_key = text::hash("vote_key", &card.vote_key)?.to_vec();
                Ok(Change::AddValidator(AddValidator { organization: card.id, vote_key }))
            }
            Self::RemoveOrganization(args) => {
                text::id("ORGANIZATION", &args.organization)?;
                let (organization, successor) = (args.organization.clone(), args.successor.clone());
                successor.as_ref().map_or(Ok(()), |id| text::id("--successor", id))?;
                Ok(Change::RemoveOrganization(RemoveOrganization { organization, successor }))
            }
            Self::RemoveValidator(args) => {
                text::id("ORGANIZATION", &args.organization)?;
                Ok(Change::RemoveValidator(RemoveValidator { organization: args.organization.clone() }))
            }
            Self::ReplaceKey(args) => {
                let handover = handover(members, chain_id, &args.organization, &args.purpose, &args.file)?;
                Ok(Change::ReplaceKey(handover))
            }
        }
    }
}

fn card(path: &Path, chain_id: &str) -> Result<Card, Failure> {
    let card = Card::load(path)?;
    match card.chain_id == chain_id {
        true => Ok(card),
        false => Err(Failure::usage(
            "CHAIN_ID",
            format!("the card of {} is for chain {:?}, not {chain_id:?}", card.id, card.chain_id),
        )),
    }
}
