//! `assent notices`: what a patient must know: releases under break-glass, control keys that wait. With the wallet, or by the
//! portal in the patient's name.

use std::path::PathBuf;

use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::{Answer, ListNoticesRequest, Notice, NoticeKind, Patient};
use serde_json::{json, Value};

use crate::commands::status::{answer_json, answer_text};
use crate::commands::wallet::{ControlKey, Wallet};
use crate::connect::{self, Node, NodeArgs};
use crate::exit::{printable, Failure};
use crate::output::{fields, table, time, Report};
use crate::profile::{ChainArgs, Profile};
use crate::text::PatientArgs;

/// Most notices that a node puts on a page.
const PAGE: u32 = 500;

/// Arguments of `assent notices`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent notices --custodian <ID> --wallet <FILE> [OPTIONS]\n       assent notices --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> [OPTIONS]"
)]
pub struct NoticesArgs {
    /// Organization that holds the records
    #[arg(long, value_name = "ID")]
    custodian: String,
    /// Wallet; needs no client certificate
    #[arg(long, value_name = "FILE", conflicts_with_all = ["identifier", "birth_date"])]
    #[arg(required_unless_present = "identifier")]
    wallet: Option<PathBuf>,
    /// For the portal: patient's identifier, SYSTEM|VALUE
    #[arg(long, value_name = "SYSTEM|VALUE", requires = "birth_date")]
    identifier: Option<String>,
    /// For the portal: patient's birth date, YYYY-MM-DD
    #[arg(long, value_name = "DATE", requires = "identifier")]
    birth_date: Option<String>,
    /// Show at most so many, the newest; 50 by default
    #[arg(long, value_name = "N", default_value_t = 50, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    node: NodeArgs,
}

/// Who asks.
enum Asker {
    Patient(Box<ControlKey>),
    Portal(Patient),
}

struct Notices {
    answer: Option<Answer>,
    list: Vec<Notice>,
    more: bool,
}

impl NoticesArgs {
    /// Asks page by page.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let asker = self.asker(profile)?;
        let notices = connect::run(async {
            let node = match asker {
                Asker::Patient(_) => self.node.connect_without_certificate(profile).await?,
                Asker::Portal(_) => self.node.connect(profile).await?,
            };
            self.fetch(&node, &asker).await
        })?;
        let json = json!({
            "ok": true, "notices": notices.list.iter().map(notice_json).collect::<Vec<_>>(), "more": notices.more,
            "answer": answer_json(&notices.answer),
        });
        Ok(Report::ok(text(&notices), json))
    }

    fn asker(&self, profile: &Profile) -> Result<Asker, Failure> {
        match (&self.wallet, &self.identifier, &self.birth_date) {
            (Some(wallet), ..) => {
                let wallet = Wallet::load(wallet)?;
                let key = wallet.control_key(&self.custodian, self.chain.resolve(profile)?)?;
                Ok(Asker::Patient(Box::new(key)))
            }
            (None, Some(identifier), Some(birth_date)) => {
                PatientArgs::of(&self.custodian, identifier, birth_date).parse().map(Asker::Portal)
            }
            _ => Err(Failure::usage("NO_PATIENT", "give --wallet FILE, or --identifier and --birth-date")),
        }
    }

    async fn fetch(&self, node: &Node, asker: &Asker) -> Result<Notices, Failure> {
        let mut client = PatientServiceClient::new(node.channel.clone());
        let mut notices = Notices { answer: None, list: Vec::new(), more: true };
        let (mut left, mut token) = (self.limit, String::new());
        while left > 0 && notices.more {
            let mut request = ListNoticesRequest {
                page_size: left.min(PAGE),
                page_token: std::mem::take(&mut token),
                ..Default::default()
            };
            // A proof counts once.
            match asker {
                Asker::Patient(control) => request.proof = Some(control.proof("ListNotices")),
                Asker::Portal(patient) => request.patient = Some(patient.clone()),
            }
            let page = node.answer(client.list_notices(request)).await?;
            if page.notices.is_empty() && !page.next_page_token.is_empty() {
                return Err(Failure::error("BAD_ANSWER", "the node sent an empty page that is not the last"));
            }
            left = left.saturating_sub(page.notices.len() as u32);
            notices.answer = notices.answer.or(page.answer);
            notices.list.extend(page.notices);
            notices.more = !page.next_page_token.is_empty();
            token = page.next_page_token;
        }
        Ok(notices)
    }
}

fn kind(notice: &Notice) -> &'static str {
    match notice.kind() {
        NoticeKind::BreakGlass => "BREAK_GLASS",
        NoticeKind::KeyReplacement => "KEY_REPLACEMENT",
        NoticeKind::Unspecified => "UNKNOWN",
    }
}

fn text(notices: &Notices) -> String {
    let more = if notices.more { ", there are more: --limit N" } else { "" };
    let head = format!("{} notices{more}\n", notices.list.len());
    let foot = fields(&[("ledger", answer_text(&notices.answer))]);
    if notices.list.is_empty() {
        return head + &foot;
    }
    let rows = notices.list.iter().map(|notice| {
        let what = match notice.kind() {
            NoticeKind::BreakGlass => {
                printable(&format!("{} resources, {}: {}", notice.resources, notice.purpose, notice.reason))
            }
            NoticeKind::KeyReplacement => {
                format!("a new control key counts from {}, unless you cancel it", time(notice.effective_ms))
            }
            NoticeKind::Unspecified => "a newer program is needed to read this".to_owned(),
        };
        let who = (notice.kind() == NoticeKind::BreakGlass)
            .then(|| printable(&format!("{} of {}", notice.actor, notice.recipient)));
        [time(notice.time_ms), kind(notice).to_owned(), who.unwrap_or_default(), what]
    });
    head + &table(["when", "notice", "who", "what"], rows) + "\n" + &foot
}

fn notice_json(notice: &Notice) -> Value {
    json!({
        "kind": kind(notice), "time_ms": notice.time_ms, "time": time(notice.time_ms),
        "recipient": notice.recipient, "actor": notice.actor, "purpose": notice.purpose, "reason": notice.reason,
        "resources": notice.resources, "effective_ms": notice.effective_ms,
    })
}
