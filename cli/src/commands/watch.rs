//! `assent watch-consents`: every change of consents at a custodian, one line each, until it is stopped.

use std::io::Write;

use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::{ConsentChange, ConsentRecord, WatchConsentsRequest, WatchConsentsResponse};
use serde_json::{json, Value};

use crate::commands::status::answer_json;
use crate::connect::{self, NodeArgs};
use crate::exit::{printable, Exit, Failure};
use crate::output::{time, Format, Report};
use crate::profile::Profile;
use crate::text::OptionalPatientArgs;

/// Arguments of `assent watch-consents`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true, override_usage = "assent watch-consents [OPTIONS]")]
pub struct WatchArgs {
    /// Go on behind this token of an earlier watch; from now on by default
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    resume: String,
    #[command(flatten)]
    patient: OptionalPatientArgs,
    /// End after so many changes; never by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    changes: Option<u64>,
    /// Seconds between signs of life, below --timeout; 10 by default
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    heartbeat: Option<u32>,
    #[command(flatten)]
    node: NodeArgs,
}

impl WatchArgs {
    /// Prints what comes as it comes.
    pub fn run(&self, profile: &Profile, format: Format) -> Result<Report, Failure> {
        let request = WatchConsentsRequest {
            resume_token: self.resume.clone(),
            patient: self.patient.parse()?,
            heartbeat_ms: self.heartbeat.unwrap_or_default() * 1000,
        };
        let (mut token, mut seen) = (self.resume.clone(), 0);
        let watching = connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            let mut stream = node.answer(client.watch_consents(request)).await?;
            while self.changes.is_none_or(|most| seen < most) {
                let message = node.next(&mut stream).await?.ok_or_else(|| {
                    Failure::new(Exit::Unavailable, "STREAM_ENDED", "the node ended the watch without a word")
                })?;
                print(format, &message)?;
                seen += u64::from(message.change.is_some());
                token = message.resume_token;
            }
            Ok(())
        });
        match watching {
            Ok(()) => {
                let text = format!("{seen} changes; go on with --resume {}", printable(&token));
                Ok(Report::ok(text, json!({ "ok": true, "changes": seen, "resume_token": token })))
            }
            Err(failure) if token.is_empty() || failure.exit != Exit::Unavailable => Err(failure),
            Err(failure) => {
                let help = format!("{}; go on with --resume {}", failure.help, printable(&token));
                Err(failure.help(help.trim_start_matches("; ")))
            }
        }
    }
}

fn print(format: Format, message: &WatchConsentsResponse) -> Result<(), Failure> {
    let line = match (format, &message.change) {
        (Format::Json, change) => json!({
            "change": change.as_ref().map(change_json), "resume_token": message.resume_token,
            "answer": answer_json(&message.answer),
        })
        .to_string(),
        (Format::Text, Some(change)) => text(change),
        (Format::Text, None) => return Ok(()),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|_| Failure::error("OUTPUT_CLOSED", "nobody reads what this prints any more"))
}

fn text(change: &ConsentChange) -> String {
    let frozen = if change.frozen { ", withdrawn: everything is denied" } else { "" };
    let consents: String = change
        .consents
        .iter()
        .map(|c| format!(", consent {} revision {} {}", printable(&c.consent_id), c.revision, state(c)))
        .collect();
    format!(
        "height {}: {} sequence {}{consents}{frozen}",
        change.height,
        printable(&change.patient_reference),
        change.consent_seq
    )
}

fn state(consent: &ConsentRecord) -> String {
    consent.state().as_str_name().trim_start_matches("CONSENT_STATE_").to_owned()
}

fn change_json(change: &ConsentChange) -> Value {
    json!({
        "handle": hex::encode(&change.handle), "patient_reference": change.patient_reference,
        "consent_seq": change.consent_seq, "height": change.height, "frozen": change.frozen,
        "consents": change.consents.iter().map(consent_json).collect::<Vec<_>>(),
    })
}

fn consent_json(consent: &ConsentRecord) -> Value {
    json!({
        "consent_id": consent.consent_id, "revision": consent.revision, "state": state(consent),
        "expired": consent.expired, "rules": consent.rules, "consent_seq": consent.consent_seq,
        "height": consent.height, "time_ms": consent.time_ms, "time": time(consent.time_ms),
        "commitment": hex::encode(&consent.commitment), "supersedes": consent.supersedes,
        "unresolved": consent.unresolved, "confidential": consent.confidential,
    })
}
