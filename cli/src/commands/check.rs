//! `assent check`: would anything be released?

use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::{CheckConsentRequest, CheckConsentResponse, Consistency, Outcome, Query};
use serde_json::json;

use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, NodeArgs};
use crate::exit::{printable, Failure};
use crate::output::{fields, time, Report};
use crate::profile::Profile;
use crate::text::PatientArgs;

/// What is asked for, on the command line.
#[derive(Debug, clap::Args)]
pub struct QueryArgs {
    #[command(flatten)]
    patient: PatientArgs,
    /// Purpose: one code of v3 ActReason, such as TREAT
    #[arg(long, value_name = "CODE")]
    purpose: String,
    /// Person acting; the patient will see it
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    actor: String,
    /// Action: a FHIR consent action code; access by default
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
    action: String,
    /// FHIR resource type, repeatable; all by default
    #[arg(long = "type", value_name = "TYPE")]
    resource_types: Vec<String>,
    /// Break the glass, for this reason; patient and officer will read it
    #[arg(long, value_name = "REASON")]
    break_glass: Option<String>,
}

/// Longest reason for breaking the glass, in characters.
const MAX_REASON_CHARS: usize = 500;

fn reason(given: &str) -> Result<String, Failure> {
    let reason = given.trim();
    let fits = (1..=MAX_REASON_CHARS).contains(&reason.chars().count());
    match fits && !reason.chars().any(char::is_control) {
        true => Ok(reason.to_owned()),
        false => Err(Failure::usage(
            "MALFORMED_REASON",
            "--break-glass must be a reason of 1 to 500 characters, in one line",
        )),
    }
}

/// The form of a purpose.
pub fn a_purpose(code: &str) -> Result<(), Failure> {
    if code.is_empty() || code.chars().any(|c| !c.is_ascii_alphanumeric()) {
        return Err(Failure::usage(
            "MALFORMED_PURPOSE",
            "--purpose must be exactly one code of v3 ActReason",
        )
        .help("such as TREAT, HPAYMT, HOPERAT, HRESCH or ETREAT"));
    }
    Ok(())
}

impl QueryArgs {
    /// Checks the form.
    pub fn parse(&self) -> Result<Query, Failure> {
        a_purpose(&self.purpose)?;
        Ok(Query {
            patient: Some(self.patient.parse()?),
            purpose: self.purpose.clone(),
            actor: self.actor.clone(),
            action: self.action.clone(),
            resource_types: self.resource_types.clone(),
            break_glass_reason: self.break_glass.as_deref().map(reason).transpose()?.unwrap_or_default(),
        })
    }
}

/// Arguments of `assent check`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent check --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> --purpose <CODE> [OPTIONS]"
)]
pub struct CheckArgs {
    #[command(flatten)]
    query: QueryArgs,
    /// The answer must come from this height or a later one
    #[arg(long, value_name = "HEIGHT")]
    min_height: Option<u64>,
    /// The newest block must not be older; the node's own bound by default
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    max_staleness: Option<u64>,
    #[command(flatten)]
    node: NodeArgs,
}

impl CheckArgs {
    /// Asks; everything but a permit is an error.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let query = self.query.parse()?;
        let consistency = Consistency {
            min_height: self.min_height.unwrap_or_default(),
            max_staleness_ms: self.max_staleness.unwrap_or_default(),
        };
        let consistency = Some(consistency).filter(|asked| *asked != Consistency::default());
        let request = CheckConsentRequest { query: Some(query), consistency, omit_decision: false };
        connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = DecisionServiceClient::new(node.channel.clone());
            report(&node.answer(client.check_consent(request)).await?)
        })
    }
}

fn report(answer: &CheckConsentResponse) -> Result<Report, Failure> {
    // An outcome that this program does not know is no permit.
    let outcome = match answer.outcome() {
        Outcome::Permit => "PERMIT",
        Outcome::PermitOverride => "PERMIT_OVERRIDE",
        Outcome::Unspecified => {
            return Err(Failure::error(
                "UNKNOWN_OUTCOME",
                format!("the node answered outcome {}", answer.outcome),
            ))
        }
    };
    let note = if answer.may_be_incomplete { " (may be incomplete)" } else { "" };
    let obligations = match answer.obligations.is_empty() {
        true => "none".to_owned(),
        false => printable(&answer.obligations.join(", ")),
    };
    let text = format!("{outcome}{note}\n")
        + &fields(&[
            ("obligations", obligations),
            ("decided", decided(answer)),
            ("ledger", answer_text(&answer.answer)),
        ]);
    let json = json!({
        "ok": true, "outcome": outcome, "may_be_incomplete": answer.may_be_incomplete,
        "obligations": answer.obligations, "decided_time_ms": answer.decided_time_ms,
        "not_after_ms": answer.not_after_ms, "cached": answer.cached, "answer": answer_json(&answer.answer),
    });
    Ok(Report::ok(text, json))
}

/// From when the answer is, and until when it counts if nothing changes.
fn decided(answer: &CheckConsentResponse) -> String {
    let asked = if answer.cached { "unchanged since" } else { "asked now" };
    format!("{} ({asked}), at most until {}", time(answer.decided_time_ms), time(answer.not_after_ms))
}
