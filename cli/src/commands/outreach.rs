//! `assent contact-preferences` and `assent outreach`: by which channels a patient wants to be contacted, and whether they may be.

use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::{CheckOutreachRequest, Consistency, OutreachKind, SetContactPreferencesRequest};
use serde_json::json;

use crate::commands::custodian::WriteArgs;
use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, NodeArgs};
use crate::exit::{printable, Failure};
use crate::output::{fields, time, Report};
use crate::profile::Profile;
use crate::text::{self, PatientArgs};

/// Arguments of `assent contact-preferences`.
///
/// What is not named is any channel; none alone means by none.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent contact-preferences --custodian <ID>\n       --identifier <SYSTEM|VALUE> --birth-date <DATE> [OPTIONS]"
)]
pub struct PreferencesArgs {
    #[command(flatten)]
    patient: PatientArgs,
    /// Channel for reminders, repeatable: sms, email, phone, post, app, none
    #[arg(long, value_name = "CHANNEL")]
    reminder: Vec<String>,
    /// Channel for surveys, repeatable
    #[arg(long, value_name = "CHANNEL")]
    survey: Vec<String>,
    /// Channel for campaigns, repeatable
    #[arg(long, value_name = "CHANNEL")]
    campaign: Vec<String>,
    #[command(flatten)]
    write: WriteArgs,
}

impl PreferencesArgs {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request_id = text::request_id(&self.write.request_id)?;
        let request = SetContactPreferencesRequest {
            request_id: request_id.clone(),
            patient: Some(self.patient.parse()?),
            reminder: self.reminder.clone(),
            survey: self.survey.clone(),
            campaign: self.campaign.clone(),
        };
        let answer = connect::run(async {
            let node = self.write.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            node.answer(client.set_contact_preferences(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let text = "recorded\n".to_owned()
            + &fields(&[
                ("sequence", answer.consent_seq.to_string()),
                ("ledger", answer_text(&answer.answer)),
            ]);
        let json = json!({
            "ok": true, "consent_seq": answer.consent_seq, "request_id": request_id,
            "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(text, json))
    }
}

/// What a patient is contacted for.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    Reminder,
    Survey,
    Campaign,
}

/// Arguments of `assent outreach`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent outreach --kind <KIND> --channel <CHANNEL>\n       --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> --actor <NAME> [OPTIONS]"
)]
pub struct OutreachArgs {
    /// What for: reminder, survey or campaign
    #[arg(long, value_enum, value_name = "KIND", hide_possible_values = true)]
    kind: Kind,
    /// By which channel: sms, email, phone, post or app
    #[arg(long, value_name = "CHANNEL")]
    channel: String,
    #[command(flatten)]
    patient: PatientArgs,
    /// Person or program acting
    #[arg(long, value_name = "NAME")]
    actor: String,
    /// The answer must come from this height or a later one
    #[arg(long, value_name = "HEIGHT")]
    min_height: Option<u64>,
    #[command(flatten)]
    node: NodeArgs,
}

impl OutreachArgs {
    /// Asks; everything but a permit is an error.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let kind = match self.kind {
            Kind::Reminder => OutreachKind::Reminder,
            Kind::Survey => OutreachKind::Survey,
            Kind::Campaign => OutreachKind::Campaign,
        };
        let request = CheckOutreachRequest {
            patient: Some(self.patient.parse()?),
            kind: kind.into(),
            channel: self.channel.clone(),
            actor: self.actor.clone(),
            consistency: self.min_height.map(|min_height| Consistency { min_height, ..Default::default() }),
        };
        let answer = connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = DecisionServiceClient::new(node.channel.clone());
            node.answer(client.check_outreach(request)).await
        })?;
        let obligations = match answer.obligations.is_empty() {
            true => "none".to_owned(),
            false => printable(&answer.obligations.join(", ")),
        };
        let text = format!("the patient may be contacted by {}\n", printable(&self.channel))
            + &fields(&[
                ("purpose", printable(&answer.purpose)),
                ("obligations", obligations),
                ("at most until", time(answer.not_after_ms)),
                ("ledger", answer_text(&answer.answer)),
            ]);
        let json = json!({
            "ok": true, "channel": self.channel, "purpose": answer.purpose, "obligations": answer.obligations,
            "not_after_ms": answer.not_after_ms, "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(text, json))
    }
}
