//! `assent policy`: the custodian's own rules: its default policy, and its registry of organizations, persons and groups.

use std::path::PathBuf;

use assent_proto::v1::policy_service_client::PolicyServiceClient;
use assent_proto::v1::{GetPolicyRequest, SetPolicyRequest};
use serde_json::{json, Value};

use crate::commands::custodian::{json_file, WriteArgs};
use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, NodeArgs};
use crate::exit::{printable, Failure};
use crate::output::{fields, Report};
use crate::profile::Profile;
use crate::text;

/// The custodian's own rules.
#[derive(Debug, clap::Subcommand)]
pub enum PolicyCommand {
    /// Replace the default policy and the registry
    Set(SetArgs),
    /// Show the rules, as they are or were
    Get(GetArgs),
}

impl PolicyCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        match self {
            Self::Set(args) => args.run(profile),
            Self::Get(args) => args.run(profile),
        }
    }
}

/// Arguments of `assent policy set`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct SetArgs {
    /// Default policy as JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Registry as JSON; without it there is none from then on
    #[arg(long, value_name = "FILE")]
    registry: Option<PathBuf>,
    #[command(flatten)]
    write: WriteArgs,
}

impl SetArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request_id = text::request_id(&self.write.request_id)?;
        let request = SetPolicyRequest {
            request_id: request_id.clone(),
            policy: json_file(&self.file)?,
            registry: self.registry.as_deref().map(json_file).transpose()?.unwrap_or_default(),
        };
        let answer = connect::run(async {
            let node = self.write.node.connect(profile).await?;
            let mut client = PolicyServiceClient::new(node.channel.clone());
            node.answer(client.set_policy(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let rows =
            [("policy sequence", answer.policy_seq.to_string()), ("ledger", answer_text(&answer.answer))];
        let json = json!({
            "ok": true, "policy_seq": answer.policy_seq, "request_id": request_id,
            "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(fields(&rows), json))
    }
}

/// Arguments of `assent policy get`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct GetArgs {
    /// Version: sequence of the policy slot; the present one by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    sequence: Option<u64>,
    #[command(flatten)]
    node: NodeArgs,
}

impl GetArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request = GetPolicyRequest { policy_seq: self.sequence.unwrap_or(0) };
        let answer = connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = PolicyServiceClient::new(node.channel.clone());
            node.answer(client.get_policy(request)).await
        })?;
        let (policy, registry) = (document(&answer.policy)?, document(&answer.registry)?);
        let shown = |document: &Option<Value>| match document {
            Some(value) => printable(&value.to_string()),
            None => "none".to_owned(),
        };
        let rows = [
            ("policy sequence", answer.policy_seq.to_string()),
            ("recorded", format!("height {}", answer.height)),
            ("policy", shown(&policy)),
            ("registry", shown(&registry)),
            ("ledger", answer_text(&answer.answer)),
        ];
        let json = json!({
            "ok": true, "policy_seq": answer.policy_seq, "height": answer.height, "policy": policy,
            "registry": registry, "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(fields(&rows), json))
    }
}

fn document(bytes: &[u8]) -> Result<Option<Value>, Failure> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let read = serde_json::from_slice(bytes);
    read.map(Some).map_err(|e| Failure::error("BAD_ANSWER", format!("the node sent what is not JSON: {e}")))
}
