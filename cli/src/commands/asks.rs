//! `assent asks`: what a patient is asked for, and the patient's answer.

use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::{Answer, AnswerConsentAskRequest, AskAnswer, ConsentAsk, ListConsentAsksRequest};
use serde_json::{json, Value};

use crate::commands::custodian::WriteArgs;
use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, Node, NodeArgs};
use crate::exit::{printable, Failure};
use crate::output::{fields, time, Report};
use crate::profile::Profile;
use crate::text::{self, PatientArgs};

/// Most asks that a node puts on a page.
const PAGE: u32 = 500;

/// What a patient is asked for.
#[derive(Debug, clap::Subcommand)]
pub enum AsksCommand {
    /// List what a patient is asked for
    List(ListArgs),
    /// Record the patient's answer
    Answer(AnswerArgs),
}

impl AsksCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        match self {
            Self::List(args) => args.run(profile),
            Self::Answer(args) => args.run(profile),
        }
    }
}

/// Arguments of `assent asks list`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent asks list --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> [OPTIONS]"
)]
pub struct ListArgs {
    #[command(flatten)]
    patient: PatientArgs,
    /// Those that were answered or expired too
    #[arg(long)]
    all: bool,
    /// Show at most so many, the newest; 50 by default
    #[arg(long, value_name = "N", default_value_t = 50, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    #[command(flatten)]
    node: NodeArgs,
}

/// What the pages of a list held.
struct Asks {
    answer: Option<Answer>,
    list: Vec<ConsentAsk>,
    more: bool,
}

impl ListArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request = ListConsentAsksRequest {
            patient: Some(self.patient.parse()?),
            include_closed: self.all,
            ..Default::default()
        };
        let asks = connect::run(async {
            let node = self.node.connect(profile).await?;
            fetch(&node, request, self.limit).await
        })?;
        let json = json!({
            "ok": true, "asks": asks.list.iter().map(ask_json).collect::<Vec<_>>(), "more": asks.more,
            "answer": answer_json(&asks.answer),
        });
        Ok(Report::ok(text(&asks), json))
    }
}

async fn fetch(node: &Node, mut request: ListConsentAsksRequest, limit: u32) -> Result<Asks, Failure> {
    let mut client = ConsentServiceClient::new(node.channel.clone());
    let mut asks = Asks { answer: None, list: Vec::new(), more: true };
    let mut left = limit;
    while left > 0 && asks.more {
        request.page_size = left.min(PAGE);
        let page = node.answer(client.list_consent_asks(request.clone())).await?;
        if page.asks.is_empty() && !page.next_page_token.is_empty() {
            return Err(Failure::error("BAD_ANSWER", "the node sent an empty page that is not the last"));
        }
        left = left.saturating_sub(page.asks.len() as u32);
        asks.answer = asks.answer.or(page.answer);
        asks.list.extend(page.asks);
        asks.more = !page.next_page_token.is_empty();
        request.page_token = page.next_page_token;
    }
    Ok(asks)
}

fn said(ask: &ConsentAsk) -> &'static str {
    match ask.answer() {
        AskAnswer::Unspecified => "none yet",
        AskAnswer::Granted => "GRANTED",
        AskAnswer::Declined => "DECLINED",
    }
}

fn text(asks: &Asks) -> String {
    let more = if asks.more { ", there are more: --limit N" } else { "" };
    let mut out = format!("{} asks{more}\n", asks.list.len());
    for ask in &asks.list {
        let list = |codes: &[String], none: &str| match codes.is_empty() {
            true => none.to_owned(),
            false => printable(&codes.join(", ")),
        };
        out += &fields(&[
            ("ask", hex::encode(&ask.ask_id)),
            ("reason", printable(&ask.reason)),
            ("who", printable(&format!("{} ({})", ask.recipient, ask.client))),
            ("purposes", list(&ask.purposes, "none")),
            ("actions", list(&ask.actions, "access")),
            ("types", list(&ask.resource_types, "any")),
            ("until", time(ask.valid_until_ms)),
            ("came", time(ask.time_ms)),
            ("expires", time(ask.expires_ms)),
            ("answer", said(ask).to_owned()),
        ]);
        out += "\n";
    }
    out + &fields(&[("ledger", answer_text(&asks.answer))])
}

fn ask_json(ask: &ConsentAsk) -> Value {
    let said = (ask.answer() != AskAnswer::Unspecified).then(|| said(ask));
    json!({
        "ask_id": hex::encode(&ask.ask_id), "recipient": ask.recipient, "client": ask.client,
        "purposes": ask.purposes, "actions": ask.actions, "resource_types": ask.resource_types,
        "valid_until_ms": ask.valid_until_ms, "reason": ask.reason, "time_ms": ask.time_ms,
        "expires_ms": ask.expires_ms, "said": said, "consent_id": ask.consent_id,
    })
}

/// Arguments of `assent asks answer`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent asks answer --ask <HEX> (--grant | --decline)\n       --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> [OPTIONS]"
)]
pub struct AnswerArgs {
    /// The ask, hex: `assent asks list` says it
    #[arg(long = "ask", value_name = "HEX")]
    id: String,
    /// The patient grants it: records a consent
    #[arg(long, required_unless_present = "decline", conflicts_with = "decline")]
    grant: bool,
    /// The patient declines it: the asker is not told
    #[arg(long)]
    decline: bool,
    #[command(flatten)]
    patient: PatientArgs,
    #[command(flatten)]
    write: WriteArgs,
}

impl AnswerArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let request_id = text::request_id(&self.write.request_id)?;
        let answer = if self.grant { AskAnswer::Granted } else { AskAnswer::Declined };
        let request = AnswerConsentAskRequest {
            request_id: request_id.clone(),
            patient: Some(self.patient.parse()?),
            ask_id: text::hash("--ask", &self.id)?.to_vec(),
            answer: answer.into(),
        };
        let answer = connect::run(async {
            let node = self.write.node.connect(profile).await?;
            let mut client = ConsentServiceClient::new(node.channel.clone());
            node.answer(client.answer_consent_ask(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let mut text = match self.grant {
            true => {
                fields(&[("granted", printable(&answer.consent_id)), ("ledger", answer_text(&answer.answer))])
            }
            false => "declined; the asker is not told\n".to_owned(),
        };
        for rule in &answer.rules {
            text += &format!("rule: {}\n", printable(rule));
        }
        let json = json!({
            "ok": true, "granted": self.grant, "consent_id": answer.consent_id, "rules": answer.rules,
            "request_id": request_id, "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(text, json))
    }
}
