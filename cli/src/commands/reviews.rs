//! `assent reviews`: what the officer looks at afterwards: releases under break-glass.

use assent_proto::v1::review_service_client::ReviewServiceClient;
use assent_proto::v1::{Answer, CloseReviewRequest, ListReviewsRequest, Review};
use serde_json::{json, Value};

use crate::commands::custodian::WriteArgs;
use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, Node, NodeArgs};
use crate::exit::{printable, Failure};
use crate::output::{fields, time, Report};
use crate::profile::Profile;
use crate::text;

/// Most items that a node puts on a page.
const PAGE: u32 = 500;

/// Releases under break-glass.
#[derive(Debug, clap::Subcommand)]
pub enum ReviewsCommand {
    /// List those that wait, oldest first
    List(ListArgs),
    /// Close one, with your judgement
    Close(CloseArgs),
}

impl ReviewsCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        match self {
            Self::List(args) => args.run(profile),
            Self::Close(args) => args.run(profile),
        }
    }
}

/// Arguments of `assent reviews list`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct ListArgs {
    /// Those that are closed too
    #[arg(long)]
    all: bool,
    /// Show at most so many, the oldest; 50 by default
    #[arg(long, value_name = "N", default_value_t = 50, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    #[command(flatten)]
    node: NodeArgs,
}

/// Arguments of `assent reviews close`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct CloseArgs {
    /// The item, in hex: `assent reviews list` says it
    #[arg(value_name = "REVIEW")]
    review: String,
    /// Your judgement, in words
    #[arg(long, value_name = "TEXT")]
    note: String,
    #[command(flatten)]
    write: WriteArgs,
}

/// What the pages of a list held.
struct Items {
    answer: Option<Answer>,
    list: Vec<Review>,
    more: bool,
}

impl ListArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let items = connect::run(async {
            let node = self.node.connect(profile).await?;
            self.fetch(&node).await
        })?;
        let json = json!({
            "ok": true, "reviews": items.list.iter().map(review_json).collect::<Vec<_>>(), "more": items.more,
            "answer": answer_json(&items.answer),
        });
        Ok(Report::ok(list_text(&items), json))
    }

    async fn fetch(&self, node: &Node) -> Result<Items, Failure> {
        let mut client = ReviewServiceClient::new(node.channel.clone());
        let mut items = Items { answer: None, list: Vec::new(), more: true };
        let mut request = ListReviewsRequest { include_closed: self.all, ..Default::default() };
        let mut left = self.limit;
        while left > 0 && items.more {
            request.page_size = left.min(PAGE);
            let page = node.answer(client.list_reviews(request.clone())).await?;
            if page.reviews.is_empty() && !page.next_page_token.is_empty() {
                return Err(Failure::error("BAD_ANSWER", "the node sent an empty page that is not the last"));
            }
            left = left.saturating_sub(page.reviews.len() as u32);
            items.answer = items.answer.or(page.answer);
            items.list.extend(page.reviews);
            items.more = !page.next_page_token.is_empty();
            request.page_token = page.next_page_token;
        }
        Ok(items)
    }
}

fn list_text(items: &Items) -> String {
    let more = if items.more { ", there are more: --limit N" } else { "" };
    let mut text = format!("{} items{more}\n", items.list.len());
    for item in &items.list {
        let recorded = match (item.height, item.late) {
            (0, _) => "released without quorum, not in the ledger yet".to_owned(),
            (height, true) => format!("released without quorum, height {height}"),
            (height, false) => format!("height {height}"),
        };
        let mut rows = vec![
            ("review", hex::encode(&item.review_id)),
            ("when", time(item.time_ms)),
            ("who", printable(&format!("{} of {}, through {}", item.actor, item.recipient, item.client))),
            ("why", printable(&format!("{}: {}", item.purpose, item.reason))),
            ("patient", printable(&format!("{}, {} resources", item.patient_reference, item.resources))),
            ("recorded", recorded),
        ];
        if !item.closed_by.is_empty() {
            rows.push(("closed", printable(&format!("by {}: {}", item.closed_by, item.note))));
        }
        text += "\n";
        text += &fields(&rows);
    }
    text + "\n" + &fields(&[("ledger", answer_text(&items.answer))])
}

fn review_json(item: &Review) -> Value {
    let closed = (!item.closed_by.is_empty()).then(|| json!({ "by": item.closed_by, "note": item.note }));
    json!({
        "review": hex::encode(&item.review_id), "time_ms": item.time_ms, "time": time(item.time_ms),
        "recipient": item.recipient, "client": item.client, "actor": item.actor, "purpose": item.purpose,
        "reason": item.reason, "patient_reference": item.patient_reference, "resources": item.resources,
        "late": item.late, "height": item.height, "closed": closed,
    })
}

impl CloseArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let review_id = text::hash("REVIEW", &self.review)?;
        if self.note.trim().is_empty() {
            return Err(Failure::usage("MALFORMED_NOTE", "--note must say something"));
        }
        let request_id = text::request_id(&self.write.request_id)?;
        let request = CloseReviewRequest {
            request_id: request_id.clone(),
            review_id: review_id.to_vec(),
            note: self.note.clone(),
        };
        let answer = connect::run(async {
            let node = self.write.node.connect(profile).await?;
            let mut client = ReviewServiceClient::new(node.channel.clone());
            node.answer(client.close_review(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let text = "closed\n".to_owned() + &fields(&[("ledger", answer_text(&answer.answer))]);
        let json = json!({
            "ok": true, "review": hex::encode(review_id), "request_id": request_id,
            "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(text, json))
    }
}
