//! `assent consent get`, `list`, `revisions`, `export`: what was recorded, and when.

use std::path::PathBuf;

use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::{
    Consistency, ExportConsentRequest, GetConsentRequest, ListConsentRevisionsRequest, ListConsentsRequest,
};
use serde_json::{json, Value};

use super::shown::{foot, record_json, record_text, Found};
use crate::commands::status::answer_json;
use crate::connect::{self, NodeArgs};
use crate::exit::{printable, Failure};
use crate::files;
use crate::output::Report;
use crate::profile::Profile;
use crate::text::PatientArgs;

/// Arguments of `assent consent get`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent consent get --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> [OPTIONS] <CONSENT>"
)]
pub struct GetArgs {
    /// Id of the consent
    #[arg(value_name = "CONSENT")]
    consent: String,
    /// This revision; the latest by default
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    revision: u64,
    /// As of this height; now by default
    #[arg(long, value_name = "HEIGHT", default_value_t = 0, hide_default_value = true)]
    height: u64,
    /// Leave out what is hidden from representatives
    #[arg(long)]
    for_representative: bool,
    /// The answer must come from this height or a later one
    #[arg(long, value_name = "HEIGHT")]
    min_height: Option<u64>,
    #[command(flatten)]
    patient: PatientArgs,
    #[command(flatten)]
    node: NodeArgs,
}

impl GetArgs {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request = GetConsentRequest {
            patient: Some(self.patient.parse()?),
            consent_id: self.consent.clone(),
            revision: self.revision,
            height: self.height,
            for_representative: self.for_representative,
            consistency: self.min_height.map(|min_height| Consistency { min_height, ..Default::default() }),
        };
        let answer = connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            node.answer(client.get_consent(request)).await
        })?;
        let missing = || Failure::error("BAD_ANSWER", "the node sent no consent");
        let record = answer.consent.ok_or_else(missing)?;
        let json =
            json!({ "ok": true, "consent": record_json(&record), "answer": answer_json(&answer.answer) });
        Ok(Report::ok(record_text(&record) + &foot(&answer.answer), json))
    }
}

/// Arguments of `assent consent list`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent consent list --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> [OPTIONS]"
)]
pub struct ListArgs {
    /// Only those of which something stands
    #[arg(long)]
    standing: bool,
    /// Leave out what is hidden from representatives
    #[arg(long)]
    for_representative: bool,
    /// Show at most so many; 50 by default
    #[arg(long, value_name = "N", default_value_t = 50, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    #[command(flatten)]
    patient: PatientArgs,
    #[command(flatten)]
    node: NodeArgs,
}

impl ListArgs {
    /// Asks page by page.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let mut request = ListConsentsRequest {
            patient: Some(self.patient.parse()?),
            standing_only: self.standing,
            for_representative: self.for_representative,
            ..Default::default()
        };
        let mut found = Found::up_to(self.limit);
        let mut contact = None;
        connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            while found.wants_more() {
                request.page_size = found.page_size();
                let page = node.answer(client.list_consents(request.clone())).await?;
                contact = contact.take().or(page.contact_preferences);
                request.page_token = found.take(page.answer, page.consents, page.next_page_token)?;
            }
            Ok(())
        })?;
        let contact =
            contact.map(|c| json!({ "reminder": c.reminder, "survey": c.survey, "campaign": c.campaign }));
        let mut json = found.json("consents");
        json["contact_preferences"] = contact.unwrap_or(Value::Null);
        Ok(Report::ok(found.text("consents"), json))
    }
}

/// Arguments of `assent consent revisions`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent consent revisions --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> [OPTIONS] <CONSENT>"
)]
pub struct RevisionsArgs {
    /// Id of the consent
    #[arg(value_name = "CONSENT")]
    consent: String,
    /// Leave out what is hidden from representatives
    #[arg(long)]
    for_representative: bool,
    /// Show at most so many, the newest; 50 by default
    #[arg(long, value_name = "N", default_value_t = 50, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    #[command(flatten)]
    patient: PatientArgs,
    #[command(flatten)]
    node: NodeArgs,
}

impl RevisionsArgs {
    /// Asks page by page.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let mut request = ListConsentRevisionsRequest {
            patient: Some(self.patient.parse()?),
            consent_id: self.consent.clone(),
            for_representative: self.for_representative,
            ..Default::default()
        };
        let mut found = Found::up_to(self.limit);
        connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            while found.wants_more() {
                request.page_size = found.page_size();
                let page = node.answer(client.list_consent_revisions(request.clone())).await?;
                request.page_token = found.take(page.answer, page.revisions, page.next_page_token)?;
            }
            Ok(())
        })?;
        Ok(Report::ok(found.text("revisions"), found.json("revisions")))
    }
}

/// Arguments of `assent consent export`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent consent export --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> [OPTIONS] <CONSENT>"
)]
pub struct ExportArgs {
    /// Id of the consent
    #[arg(value_name = "CONSENT")]
    consent: String,
    /// This revision; the latest by default
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    revision: u64,
    /// Write the exact bytes to a new file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    patient: PatientArgs,
    #[command(flatten)]
    node: NodeArgs,
}

impl ExportArgs {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        if let Some(out) = &self.out {
            files::refuse_existing(out)?;
        }
        let request = ExportConsentRequest {
            patient: Some(self.patient.parse()?),
            consent_id: self.consent.clone(),
            revision: self.revision,
        };
        let answer = connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            node.answer(client.export_consent(request)).await
        })?;
        let consent: Value = serde_json::from_slice(&answer.consent)
            .map_err(|_| Failure::error("BAD_ANSWER", "the node sent something that is not JSON"))?;
        let mut json = json!({ "ok": true, "consent": consent, "answer": answer_json(&answer.answer) });
        let Some(out) = &self.out else {
            return Ok(Report::ok(printable(&String::from_utf8_lossy(&answer.consent)), json));
        };
        files::write_new(out, &answer.consent, files::PRIVATE)?;
        json["file"] = out.display().to_string().into();
        Ok(Report::ok(format!("written to {}\n", out.display()) + &foot(&answer.answer), json))
    }
}
