//! `assent ask`: ask a patient for consent, and see where that stands.

use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::{AskConsentRequest, AskState, GetConsentAskRequest};
use serde_json::json;

use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, NodeArgs};
use crate::exit::Failure;
use crate::output::{fields, time, Report};
use crate::profile::Profile;
use crate::text::{self, PatientArgs};

/// Arguments of `assent ask`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    override_usage = "assent ask --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> --purpose <CODE> --until <TIME>\n       --reason <TEXT> [OPTIONS]\n       assent ask status --ask <HEX> [OPTIONS]"
)]
pub struct AskArgs {
    #[command(subcommand)]
    about: Option<AskCommand>,
    // Apart from each other: clap sees an optional group only by its own arguments.
    #[command(flatten)]
    patient: Option<PatientArgs>,
    #[command(flatten)]
    ask: Option<NewAskArgs>,
    #[command(flatten)]
    node: NodeArgs,
}

/// What else there is about asks.
#[derive(Debug, clap::Subcommand)]
enum AskCommand {
    /// Say where an ask of this client stands
    Status(StatusArgs),
}

/// What is asked.
#[derive(Debug, clap::Args)]
struct NewAskArgs {
    /// Purpose: a code of v3 ActReason, repeatable
    #[arg(long = "purpose", value_name = "CODE", required = true)]
    purposes: Vec<String>,
    /// Action: a FHIR consent action code, repeatable; access by default
    #[arg(long = "action", value_name = "CODE")]
    actions: Vec<String>,
    /// FHIR resource type, repeatable; any by default
    #[arg(long = "type", value_name = "TYPE")]
    resource_types: Vec<String>,
    /// End of the consent, such as 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    until: String,
    /// Why, in words for the patient
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Name of this ask, to retry it; fresh by default
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// Arguments of `assent ask status`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
struct StatusArgs {
    /// The ask, hex: `assent ask` says it
    #[arg(long = "ask", value_name = "HEX")]
    id: String,
    #[command(flatten)]
    node: NodeArgs,
}

impl AskArgs {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        match (&self.about, &self.patient, &self.ask) {
            (Some(AskCommand::Status(args)), ..) => args.run(profile),
            (None, Some(patient), Some(ask)) => ask.run(patient, &self.node, profile),
            // clap has asked for both already.
            (None, ..) => Err(Failure::usage("NOTHING_ASKED", "nothing is asked for")),
        }
    }
}

impl NewAskArgs {
    fn run(&self, patient: &PatientArgs, node: &NodeArgs, profile: &Profile) -> Result<Report, Failure> {
        let request_id = text::request_id(&self.request_id)?;
        let request = AskConsentRequest {
            request_id: request_id.clone(),
            patient: Some(patient.parse()?),
            purposes: self.purposes.clone(),
            actions: self.actions.clone(),
            resource_types: self.resource_types.clone(),
            valid_until_ms: text::moment("--until", &self.until)?,
            reason: self.reason.clone(),
        };
        let answer = connect::run(async {
            let node = node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            node.answer(client.ask_consent(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let id = hex::encode(&answer.ask_id);
        let text = "asked; nothing is permitted before the patient grants it\n".to_owned()
            + &fields(&[
                ("ask", id.clone()),
                ("expires", time(answer.expires_ms)),
                ("ledger", answer_text(&answer.answer)),
            ]);
        let json = json!({
            "ok": true, "ask_id": id, "expires_ms": answer.expires_ms, "request_id": request_id,
            "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(text, json))
    }
}

impl StatusArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request = GetConsentAskRequest { ask_id: text::hash("--ask", &self.id)?.to_vec() };
        let answer = connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            node.answer(client.get_consent_ask(request)).await
        })?;
        // A state that this program does not know is no grant.
        let state = match answer.state() {
            AskState::Pending => "PENDING",
            AskState::Granted => "GRANTED",
            AskState::Expired => "EXPIRED",
            AskState::Unspecified => {
                return Err(Failure::error(
                    "UNKNOWN_STATE",
                    format!("the node answered state {}", answer.state),
                ))
            }
        };
        let rows = [("expires", time(answer.expires_ms)), ("ledger", answer_text(&answer.answer))];
        let json = json!({
            "ok": true, "state": state, "expires_ms": answer.expires_ms, "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(format!("{state}\n") + &fields(&rows), json))
    }
}
