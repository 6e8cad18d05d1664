//! `assent consent preview`: what a change would do, before it is made.

use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::preview_consent_request::Change;
use assent_proto::v1::{PreviewConsentRequest, PreviewConsentResponse, Probe, ProbeEffect};
use serde_json::{json, Value};

use super::said::ConsentArgs;
use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, NodeArgs};
use crate::exit::{printable, Failure};
use crate::output::{fields, paragraph, Report};
use crate::profile::Profile;
use crate::text::PatientArgs;

/// Arguments of `assent consent preview`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent consent preview --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE>\n       (--file <FILE> | --permit | --deny | --revoke <ID>) [OPTIONS]"
)]
pub struct PreviewArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    /// To revoke the consent of this id
    #[arg(long, value_name = "ID")]
    revoke: Option<String>,
    /// Access to try, repeatable: ORGANIZATION:PURPOSE[:ACTION]
    ///
    /// By default those that the consent names.
    #[arg(long, value_name = "PROBE")]
    probe: Vec<String>,
    /// Person who acts in each --probe
    #[arg(long, value_name = "REF", requires = "probe")]
    actor: Option<String>,
    #[command(flatten)]
    patient: PatientArgs,
    #[command(flatten)]
    node: NodeArgs,
}

impl PreviewArgs {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let change = match (&self.revoke, self.consent.is_empty()) {
            (Some(id), true) => Change::Revoke(id.clone()),
            (Some(_), false) => {
                return Err(Failure::usage("TWO_CHANGES", "give a consent or --revoke, not both"))
            }
            (None, _) => Change::Record(self.consent.parse()?),
        };
        let request = PreviewConsentRequest {
            patient: Some(self.patient.parse()?),
            supersedes: self.consent.supersedes.clone(),
            probes: self.probe.iter().map(|text| self.probe(text)).collect::<Result<_, _>>()?,
            consistency: None,
            change: Some(change),
        };
        let answer = connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            node.answer(client.preview_consent(request)).await
        })?;
        let json = json!({
            "ok": true, "rules": answer.rules, "still_denied": answer.still_denied,
            "effects": answer.effects.iter().map(effect_json).collect::<Vec<_>>(),
            "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(text(&answer), json))
    }

    fn probe(&self, text: &str) -> Result<Probe, Failure> {
        let parts: Vec<&str> = text.split(':').collect();
        let (recipient, purpose, action) = match parts.as_slice() {
            [recipient, purpose] => (recipient, purpose, ""),
            [recipient, purpose, action] => (recipient, purpose, *action),
            _ => {
                let what = format!("--probe must be ORGANIZATION:PURPOSE[:ACTION], not {text:?}");
                return Err(Failure::usage("MALFORMED_PROBE", what));
            }
        };
        Ok(Probe {
            recipient: (*recipient).to_owned(),
            actor: self.actor.clone().unwrap_or_default(),
            purpose: (*purpose).to_owned(),
            action: action.to_owned(),
        })
    }
}

fn text(answer: &PreviewConsentResponse) -> String {
    let mut text = String::new();
    text.extend(answer.rules.iter().map(|rule| paragraph("rule: ", rule)));
    text.extend(answer.still_denied.iter().map(|rule| paragraph("still denied: ", rule)));
    for effect in &answer.effects {
        let probe = effect.probe.clone().unwrap_or_default();
        let head = format!("{} for {}, {}", probe.recipient, probe.purpose, probe.action);
        text += &paragraph("", &head);
        if effect.changes.is_empty() && effect.neutralised.is_empty() {
            text += "  nothing changes\n";
        }
        for change in &effect.changes {
            let (before, after) = (&change.before, &change.after);
            text += &paragraph(
                "  ",
                &format!("{}: {before} -> {after}{}", change.resource, by(&change.decided_by)),
            );
        }
        for held in &effect.neutralised {
            let said = format!("{}: withheld all the same, {}{}", held.resource, held.outcome, by(&held.by));
            text += &paragraph("  ", &said);
        }
    }
    text + "nothing was recorded\n" + &fields(&[("ledger", answer_text(&answer.answer))])
}

fn by(rules: &[String]) -> String {
    match rules {
        [] => String::new(),
        rules => format!(", by {}", printable(&rules.join(", "))),
    }
}

fn effect_json(effect: &ProbeEffect) -> Value {
    let probe = effect.probe.clone().unwrap_or_default();
    let changes = effect.changes.iter().map(|change| {
        json!({
            "resource": change.resource, "before": change.before, "after": change.after,
            "decided_by": change.decided_by,
        })
    });
    let neutralised = effect
        .neutralised
        .iter()
        .map(|held| json!({ "resource": held.resource, "outcome": held.outcome, "by": held.by }));
    json!({
        "recipient": probe.recipient, "actor": probe.actor, "purpose": probe.purpose, "action": probe.action,
        "changes": changes.collect::<Vec<_>>(), "neutralised": neutralised.collect::<Vec<_>>(),
    })
}
