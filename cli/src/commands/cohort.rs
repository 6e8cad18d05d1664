//! `assent cohort`: one question about many patients.

use std::path::PathBuf;

use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::{CheckCohortRequest, CohortQuestion, CohortSubject, Verdict};
use serde::Deserialize;
use serde_json::json;
use tonic::codegen::tokio_stream;

use crate::commands::check::a_purpose;
use crate::connect::{self, NodeArgs};
use crate::exit::Failure;
use crate::files;
use crate::output::{progress, Report};
use crate::profile::Profile;
use crate::text;

/// Longest list of patients.
const MAX_LIST_BYTES: u64 = 256 << 20;
/// Patients of one message.
const PER_MESSAGE: usize = 1_024;

/// Arguments of `assent cohort`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent cohort --custodian <ID> --system <URI> --purpose <CODE>\n       --actor <NAME> --patients <FILE> [OPTIONS]"
)]
pub struct CohortArgs {
    /// Organization that holds the records
    #[arg(long, value_name = "ID")]
    custodian: String,
    /// Identifier system of all patients, such as urn:x:mrn
    #[arg(long, value_name = "URI")]
    system: String,
    /// Patients: lines VALUE,BIRTH-DATE or {"identifier_value","birth_date"}
    #[arg(long, value_name = "FILE")]
    patients: PathBuf,
    /// Purpose: one code of v3 ActReason, such as HRESCH
    #[arg(long, value_name = "CODE")]
    purpose: String,
    /// Person acting, or program
    #[arg(long, value_name = "NAME")]
    actor: String,
    /// Action: a FHIR consent action code; access by default
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
    action: String,
    /// FHIR resource type, repeatable; all by default
    #[arg(long = "type", value_name = "TYPE")]
    resource_types: Vec<String>,
    #[command(flatten)]
    node: NodeArgs,
}

/// A line of NDJSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    identifier_value: String,
    birth_date: String,
}

fn subject(number: usize, line: &str) -> Result<CohortSubject, Failure> {
    // The line may name a patient: only its number is said.
    let malformed = |what: &str| {
        Failure::usage("MALFORMED_PATIENTS", format!("line {number} of the list is not {what}"))
            .help("a line is VALUE,YYYY-MM-DD or {\"identifier_value\":\"17\",\"birth_date\":\"2000-02-29\"}")
    };
    let (identifier_value, birth_date) = match line.starts_with('{') {
        true => {
            let line: Line = serde_json::from_str(line)
                .map_err(|_| malformed("an object of identifier_value and birth_date"))?;
            (line.identifier_value, line.birth_date)
        }
        false => {
            let (value, date) = line.rsplit_once(',').ok_or_else(|| malformed("VALUE,BIRTH-DATE"))?;
            (value.trim().to_owned(), date.trim().to_owned())
        }
    };
    let format = time::macros::format_description!("[year]-[month]-[day]");
    if identifier_value.is_empty() || time::Date::parse(&birth_date, format).is_err() {
        return Err(malformed("an identifier and a date"));
    }
    Ok(CohortSubject { identifier_value, birth_date })
}

fn name(verdict: i32) -> &'static str {
    match Verdict::try_from(verdict) {
        Ok(Verdict::Permit) => "PERMIT",
        Ok(Verdict::PermitOverride) => "PERMIT_OVERRIDE",
        Ok(Verdict::NotReleased) => "NOT_RELEASED",
        Ok(Verdict::Unavailable) => "UNAVAILABLE",
        // What this program does not know is no permit.
        Ok(Verdict::Unspecified) | Err(_) => "UNKNOWN",
    }
}

impl CohortArgs {
    /// Asks; a line for each patient, in the order of the list.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        text::id("--custodian", &self.custodian)?;
        a_purpose(&self.purpose)?;
        let bytes = files::read(&self.patients, MAX_LIST_BYTES)?;
        let list = String::from_utf8(bytes).map_err(|_| {
            Failure::usage("NOT_TEXT", format!("{} is not UTF-8 text", self.patients.display()))
        })?;
        let lines = list.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let subjects: Vec<CohortSubject> =
            lines.map(|(n, line)| subject(n + 1, line.trim())).collect::<Result<_, _>>()?;
        if subjects.is_empty() {
            return Err(Failure::usage("MALFORMED_PATIENTS", "the list of patients is empty"));
        }
        let verdicts = connect::run(self.ask(profile, &subjects))?;
        let each = || subjects.iter().zip(&verdicts);
        let text: String = each()
            .map(|(s, verdict)| {
                let value = crate::exit::printable(&s.identifier_value);
                format!("{value},{},{}\n", s.birth_date, name(*verdict))
            })
            .collect();
        let json: Vec<_> = each()
            .map(|(s, verdict)| {
                json!({"identifier_value": s.identifier_value, "birth_date": s.birth_date, "verdict": name(*verdict)})
            })
            .collect();
        Ok(Report::ok(text, json!({ "ok": true, "verdicts": json })))
    }

    async fn ask(&self, profile: &Profile, subjects: &[CohortSubject]) -> Result<Vec<i32>, Failure> {
        let mut question = Some(CohortQuestion {
            custodian: self.custodian.clone(),
            identifier_system: self.system.clone(),
            purpose: self.purpose.clone(),
            actor: self.actor.clone(),
            action: self.action.clone(),
            resource_types: self.resource_types.clone(),
            consistency: None,
        });
        let messages: Vec<CheckCohortRequest> = subjects
            .chunks(PER_MESSAGE)
            .map(|chunk| CheckCohortRequest { question: question.take(), subjects: chunk.to_vec() })
            .collect();
        let node = self.node.connect(profile).await?;
        let mut client = DecisionServiceClient::new(node.channel.clone());
        let mut answers = node.answer(client.check_cohort(tokio_stream::iter(messages))).await?;
        let bar = progress("patients");
        let mut verdicts = Vec::with_capacity(subjects.len());
        while let Some(answer) = node.next(&mut answers).await? {
            bar.inc(answer.verdicts.len() as u64);
            verdicts.extend(answer.verdicts);
        }
        bar.finish_and_clear();
        if verdicts.len() != subjects.len() {
            let (found, asked) = (verdicts.len(), subjects.len());
            return Err(Failure::error("BAD_ANSWER", format!("{found} verdicts came for {asked} patients")));
        }
        Ok(verdicts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_csv_or_json_and_never_repeated_in_an_error() {
        for line in [
            "a,b-17,2000-02-29",
            " a,b-17 , 2000-02-29",
            r#"{"identifier_value":"a,b-17","birth_date":"2000-02-29"}"#,
        ] {
            let found = subject(1, line.trim()).unwrap();
            assert_eq!(
                (found.identifier_value.as_str(), found.birth_date.as_str()),
                ("a,b-17", "2000-02-29")
            );
        }
        for line in ["17", "17,2000", ",2000-02-29", "{}", r#"{"identifier_value":"17","birth_date":"x"}"#] {
            let failure = subject(9, line).err().unwrap();
            assert!(failure.what.contains("line 9") && !failure.what.contains("17"), "{}", failure.what);
        }
    }
}
