//! What the custodian's own systems tell their node: patients and consents. Records are in [`super::records`], rules in
//! [`super::policy`].

use std::path::{Path, PathBuf};

use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::{CreateSubjectRequest, ImportConsentRequest};
use serde_json::json;

use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, NodeArgs};
use crate::exit::{printable, Failure};
use crate::files;
use crate::output::{fields, paragraph, Report};
use crate::profile::Profile;
use crate::text::{self, PatientArgs};

/// Longest consent or policy.
const MAX_DOCUMENT_BYTES: u64 = 128 << 10;

/// Patients.
#[derive(Debug, clap::Subcommand)]
pub enum SubjectCommand {
    /// Register a patient
    Create(CreateArgs),
}

impl SubjectCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let Self::Create(args) = self;
        args.run(profile)
    }
}

/// Names a write.
#[derive(Debug, clap::Args)]
pub struct WriteArgs {
    /// Name of this write, to retry it; fresh by default
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Where the node is.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// The patient's control key.
#[derive(Debug, clap::Args)]
pub struct ControlKeyArgs {
    /// Patient's control key, hex: `assent wallet show` says it
    #[arg(long, value_name = "HEX")]
    control_key: Option<String>,
}

impl ControlKeyArgs {
    /// The key's bytes; empty when there is none.
    pub fn parse(&self) -> Result<Vec<u8>, Failure> {
        match &self.control_key {
            Some(hex) => Ok(text::hash("--control-key", hex)?.to_vec()),
            None => Ok(Vec::new()),
        }
    }
}

/// Arguments of `assent subject create`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent subject create --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE>\n       --patient-reference <REFERENCE> [OPTIONS]"
)]
pub struct CreateArgs {
    #[command(flatten)]
    patient: PatientArgs,
    /// How the records refer to the patient: Patient/ID
    #[arg(long, value_name = "REFERENCE")]
    patient_reference: String,
    #[command(flatten)]
    control_key: ControlKeyArgs,
    #[command(flatten)]
    write: WriteArgs,
}

impl CreateArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let reference = &self.patient_reference;
        if reference.strip_prefix("Patient/").is_none_or(|id| id.is_empty() || id.contains('/')) {
            return Err(Failure::usage("MALFORMED_REFERENCE", "--patient-reference must be Patient/ID"));
        }
        let request_id = text::request_id(&self.write.request_id)?;
        let request = CreateSubjectRequest {
            request_id: request_id.clone(),
            patient: Some(self.patient.parse()?),
            patient_reference: reference.clone(),
            control_key: self.control_key.parse()?,
        };
        let answer = connect::run(async {
            let node = self.write.node.connect(profile).await?;
            let mut client = SubjectServiceClient::new(node.channel.clone());
            node.answer(client.create_subject(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let handle = hex::encode(&answer.handle);
        let text = "registered; tell the handle to nobody but the patient\n".to_owned()
            + &fields(&[("handle", handle.clone()), ("ledger", answer_text(&answer.answer))]);
        let json = json!({
            "ok": true, "handle": handle, "request_id": request_id, "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(text, json))
    }
}

/// Arguments of `assent consent import`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent consent import --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> [OPTIONS] <FILE>"
)]
pub struct ImportArgs {
    /// FHIR R4 Consent as JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Take a scope in category, and known aliases of systems
    #[arg(long)]
    lenient: bool,
    /// From a feed: keep what is refused, and withhold all
    #[arg(long)]
    keep_unresolved: bool,
    #[command(flatten)]
    patient: PatientArgs,
    #[command(flatten)]
    control_key: ControlKeyArgs,
    #[command(flatten)]
    write: WriteArgs,
}

impl ImportArgs {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request_id = text::request_id(&self.write.request_id)?;
        let request = ImportConsentRequest {
            request_id: request_id.clone(),
            patient: Some(self.patient.parse()?),
            consent: match self.keep_unresolved {
                // What is no JSON is kept too: nobody knows what it denies.
                true => files::read(&self.file, MAX_DOCUMENT_BYTES)?,
                false => json_file(&self.file)?,
            },
            control_key: self.control_key.parse()?,
            lenient: self.lenient,
            keep_unresolved: self.keep_unresolved,
        };
        let answer = connect::run(async {
            let node = self.write.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            node.answer(client.import_consent(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let handle = hex::encode(&answer.handle);
        let mut text = fields(&[
            ("consent", printable(&answer.consent_id)),
            ("sequence", answer.consent_seq.to_string()),
            ("handle", handle.clone()),
            ("ledger", answer_text(&answer.answer)),
        ]);
        if answer.unresolved {
            text += "UNRESOLVED: refused and kept; all is withheld until an officer resolves it\n";
        }
        text.extend(answer.rules.iter().map(|rule| paragraph("rule: ", rule)));
        let json = json!({
            "ok": true, "consent_id": answer.consent_id, "consent_seq": answer.consent_seq, "rules": answer.rules,
            "unresolved": answer.unresolved, "handle": handle, "request_id": request_id,
            "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(text, json))
    }
}

/// The exact bytes of a JSON file: the node keeps and hashes them.
pub fn json_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = files::read(path, MAX_DOCUMENT_BYTES)?;
    match serde_json::from_slice::<serde_json::Value>(&bytes) {
        Ok(serde_json::Value::Object(_)) => Ok(bytes),
        Ok(_) => Err(Failure::usage("MALFORMED_JSON", format!("{} is not a JSON object", path.display()))),
        Err(e) => Err(Failure::usage("MALFORMED_JSON", format!("{} is not JSON: {e}", path.display()))),
    }
}
