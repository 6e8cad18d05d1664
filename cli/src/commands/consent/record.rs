//! `assent consent record`, `revoke`, `mark-error`: changes of a patient's consents.

use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::{MarkConsentErrorRequest, RecordConsentRequest, RevokeConsentRequest};
use serde_json::json;

use super::said::ConsentArgs;
use crate::commands::custodian::{ControlKeyArgs, WriteArgs};
use crate::commands::status::{answer_json, answer_text};
use crate::connect;
use crate::exit::{printable, Failure};
use crate::output::{fields, paragraph, Report};
use crate::profile::Profile;
use crate::text::{self, PatientArgs};

/// Arguments of `assent consent record`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent consent record --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> (--file <FILE> | --permit | --deny) [OPTIONS]"
)]
pub struct RecordArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    #[command(flatten)]
    patient: PatientArgs,
    #[command(flatten)]
    control_key: ControlKeyArgs,
    #[command(flatten)]
    write: WriteArgs,
}

impl RecordArgs {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request_id = text::request_id(&self.write.request_id)?;
        let request = RecordConsentRequest {
            request_id: request_id.clone(),
            patient: Some(self.patient.parse()?),
            consent: Some(self.consent.parse()?),
            supersedes: self.consent.supersedes.clone(),
            control_key: self.control_key.parse()?,
        };
        let answer = connect::run(async {
            let node = self.write.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            node.answer(client.record_consent(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let handle = hex::encode(&answer.handle);
        let mut text = fields(&[
            ("consent", printable(&answer.consent_id)),
            ("revision", answer.revision.to_string()),
            ("sequence", answer.consent_seq.to_string()),
            ("handle", handle.clone()),
            ("ledger", answer_text(&answer.answer)),
        ]);
        text.extend(answer.rules.iter().map(|rule| paragraph("rule: ", rule)));
        let json = json!({
            "ok": true, "consent_id": answer.consent_id, "revision": answer.revision,
            "consent_seq": answer.consent_seq, "rules": answer.rules, "handle": handle, "request_id": request_id,
            "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(text, json))
    }
}

/// Arguments of `assent consent revoke`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent consent revoke --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> [OPTIONS] <CONSENT>"
)]
pub struct RevokeArgs {
    /// Id of the consent
    #[arg(value_name = "CONSENT")]
    consent: String,
    #[command(flatten)]
    patient: PatientArgs,
    #[command(flatten)]
    write: WriteArgs,
}

impl RevokeArgs {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request_id = text::request_id(&self.write.request_id)?;
        let request = RevokeConsentRequest {
            request_id: request_id.clone(),
            patient: Some(self.patient.parse()?),
            consent_id: self.consent.clone(),
        };
        let answer = connect::run(async {
            let node = self.write.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            node.answer(client.revoke_consent(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let mut text = "revoked: nothing that it permits holds any more\n".to_owned()
            + &fields(&[
                ("sequence", answer.consent_seq.to_string()),
                ("ledger", answer_text(&answer.answer)),
            ]);
        text.extend(answer.still_denied.iter().map(|rule| paragraph("still denied: ", rule)));
        let json = json!({
            "ok": true, "consent_seq": answer.consent_seq, "still_denied": answer.still_denied,
            "request_id": request_id, "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(text, json))
    }
}

/// Arguments of `assent consent mark-error`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent consent mark-error --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> [OPTIONS] <CONSENT>"
)]
pub struct MarkErrorArgs {
    /// Id of the consent
    #[arg(value_name = "CONSENT")]
    consent: String,
    #[command(flatten)]
    patient: PatientArgs,
    #[command(flatten)]
    write: WriteArgs,
}

impl MarkErrorArgs {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request_id = text::request_id(&self.write.request_id)?;
        let request = MarkConsentErrorRequest {
            request_id: request_id.clone(),
            patient: Some(self.patient.parse()?),
            consent_id: self.consent.clone(),
        };
        let answer = connect::run(async {
            let node = self.write.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            node.answer(client.mark_consent_error(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let text = "marked as recorded in error: nothing of it stands\n".to_owned()
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
