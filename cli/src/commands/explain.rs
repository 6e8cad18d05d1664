//! `assent explain`: why a recipient gets what it gets, for the custodian's own staff.

use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::{ExplainDecisionRequest, ExplainDecisionResponse, ResourceExplanation, TriedRule};
use serde_json::{json, Value};

use crate::commands::check::QueryArgs;
use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, NodeArgs};
use crate::exit::{printable, Failure};
use crate::output::{fields, table, time, Report};
use crate::profile::Profile;
use crate::text;

/// Width of a terminal that the report must fit.
const COLUMNS: usize = 80;

/// Arguments of `assent explain`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent explain --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> --purpose <CODE> --actor <NAME>\n       --recipient <ID> [OPTIONS]"
)]
pub struct ExplainArgs {
    #[command(flatten)]
    query: QueryArgs,
    /// Organization that asks
    #[arg(long, value_name = "ID")]
    recipient: String,
    /// As of this height; records are those of now
    #[arg(long, value_name = "HEIGHT", value_parser = clap::value_parser!(u64).range(1..))]
    height: Option<u64>,
    /// Show every rule that was tried
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    node: NodeArgs,
}

impl ExplainArgs {
    /// Asks; that nothing is released is an answer like any other.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        text::id("--recipient", &self.recipient)?;
        let query = self.query.parse()?;
        let request = ExplainDecisionRequest {
            patient: query.patient,
            recipient: self.recipient.clone(),
            actor: query.actor,
            purpose: query.purpose,
            action: query.action,
            resource_types: query.resource_types,
            break_glass_reason: query.break_glass_reason,
            height: self.height.unwrap_or(0),
            consistency: None,
        };
        let answer = connect::run(async {
            let node = self.node.connect(profile).await?;
            // Each record comes with every rule: more than the default limit of a message.
            let mut client =
                DecisionServiceClient::new(node.channel.clone()).max_decoding_message_size(64 << 20);
            node.answer(client.explain_decision(request)).await
        })?;
        Ok(Report::ok(self.text(&answer), explained_json(&answer)))
    }

    fn text(&self, answer: &ExplainDecisionResponse) -> String {
        let decided = format!("{} at height {}", time(answer.decided_time_ms), answer.decided_height);
        let state = format!(
            "consent {}, policy {}{}",
            answer.consent_seq,
            answer.policy_seq,
            if answer.frozen { ", withdrawn by the patient" } else { "" }
        );
        let mut said = format!("{}\n", printable(&answer.outcome))
            + &fields(&[
                ("decided as of", decided),
                ("sequences", state),
                ("algorithm", printable(&answer.algorithm)),
                ("ledger", answer_text(&answer.answer)),
            ]);
        if answer.resources.is_empty() {
            return said + "The patient has no records of these types.\n";
        }
        let rows = answer.resources.iter().map(|resource| {
            // One rule a line.
            let decided_by: Vec<String> = resource.decided_by.iter().map(|by| short(by, 28)).collect();
            [short(&resource.resource, 28), short(&resource.outcome, 15), decided_by.join("\n")]
        });
        said += &(table(["record", "outcome", "decided by"], rows) + "\n");
        for resource in &answer.resources {
            if resource.would_change.is_empty() && !resource.assumed_labels && !self.verbose {
                continue;
            }
            said += &format!("\n{}\n", short(&resource.resource, COLUMNS - 2));
            if resource.assumed_labels {
                said += "- it carries no label, and the policy says to take it as assessed N\n";
            }
            for change in &resource.would_change {
                said += &wrapped(&printable(change));
            }
            if self.verbose && !resource.tried.is_empty() {
                let head = ["consent", "rule", "effect", "holds", "because"];
                said += &(table(head, resource.tried.iter().map(tried_row)) + "\n");
            }
        }
        said
    }
}

fn tried_row(tried: &TriedRule) -> [String; 5] {
    let because: Vec<String> = tried.because.iter().map(|name| short(name, 20)).collect();
    [
        short(&tried.consent_id, 20),
        short(&tried.rule, 10),
        short(&tried.effect, 6),
        short(&tried.holds, 7),
        because.join("\n"),
    ]
}

/// At most so many characters: the tables must fit the terminal, and the JSON has the whole.
fn short(text: &str, most: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most - 2).chain("..".chars()).collect()
}

/// A sentence with a dash before it, over as many lines as it takes.
fn wrapped(sentence: &str) -> String {
    let (mut said, mut line) = (String::new(), "-".to_owned());
    for word in sentence.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            said += &(line + "\n");
            line = " ".to_owned();
        }
        line = line + " " + word;
    }
    said + &line + "\n"
}

fn explained_json(answer: &ExplainDecisionResponse) -> Value {
    json!({
        "ok": true, "outcome": answer.outcome, "decided_height": answer.decided_height,
        "decided_time_ms": answer.decided_time_ms, "algorithm": answer.algorithm, "tables": hex::encode(&answer.tables),
        "consent_seq": answer.consent_seq, "policy_seq": answer.policy_seq, "frozen": answer.frozen,
        "resources": answer.resources.iter().map(resource_json).collect::<Vec<_>>(),
        "answer": answer_json(&answer.answer),
    })
}

fn resource_json(resource: &ResourceExplanation) -> Value {
    let tried = resource.tried.iter().map(|tried| {
        json!({
            "consent": tried.consent_id, "rule": tried.rule, "effect": tried.effect, "holds": tried.holds,
            "because": tried.because,
        })
    });
    json!({
        "resource": resource.resource, "outcome": resource.outcome, "decided_by": resource.decided_by,
        "obligations": resource.obligations, "assumed_labels": resource.assumed_labels,
        "would_change": resource.would_change, "tried": tried.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_are_cut() {
        assert_eq!((short("abcd", 4).as_str(), short("abcde", 4).as_str()), ("abcd", "ab.."));
        assert_eq!(short("äöüäö", 4), "äö..");
    }

    #[test]
    fn sentences_fit_the_terminal_and_lose_no_word() {
        let sentence = "without rule c/1 the outcome would be PERMIT ".repeat(6);
        let said = wrapped(sentence.trim_end());
        assert!(
            said.lines().count() > 2 && said.lines().all(|line| line.chars().count() <= COLUMNS),
            "{said}"
        );
        let words = said.trim_start_matches("- ").split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words, sentence.trim_end());
    }
}
