//! How recorded consents are shown, one or many.

use assent_proto::ledger::v1::{ConsentState, LegalBasis};
use assent_proto::v1::{Answer, ConsentRecord};
use serde_json::{json, Value};

use crate::commands::status::{answer_json, answer_text};
use crate::exit::{printable, Failure};
use crate::output::{fields, paragraph, time};

/// Most consents that a node puts on a page.
const PAGE: u32 = 500;

/// What the pages of a list held.
pub struct Found {
    left: u32,
    more: bool,
    answer: Option<Answer>,
    list: Vec<ConsentRecord>,
}

impl Found {
    /// At most so many.
    pub fn up_to(limit: u32) -> Self {
        Self { left: limit, more: true, answer: None, list: Vec::new() }
    }

    /// True while another page is to be asked for.
    pub fn wants_more(&self) -> bool {
        self.left > 0 && self.more
    }

    /// Size of the next page.
    pub fn page_size(&self) -> u32 {
        self.left.min(PAGE)
    }

    /// Takes a page in; the token for the next.
    pub fn take(
        &mut self,
        answer: Option<Answer>,
        page: Vec<ConsentRecord>,
        next: String,
    ) -> Result<String, Failure> {
        if page.is_empty() && !next.is_empty() {
            return Err(Failure::error("BAD_ANSWER", "the node sent an empty page that is not the last"));
        }
        self.left = self.left.saturating_sub(page.len() as u32);
        self.answer = self.answer.take().or(answer);
        self.list.extend(page);
        self.more = !next.is_empty();
        Ok(next)
    }

    /// For people.
    pub fn text(&self, what: &str) -> String {
        let more = if self.more { ", there are more: --limit N" } else { "" };
        let head = format!("{} {what}{more}\n\n", self.list.len());
        let records: String = self.list.iter().map(|record| record_text(record) + "\n").collect();
        head + &records + &foot(&self.answer)
    }

    /// For programs.
    pub fn json(&self, name: &str) -> Value {
        let list: Vec<Value> = self.list.iter().map(record_json).collect();
        json!({ "ok": true, name: list, "more": self.more, "answer": answer_json(&self.answer) })
    }
}

/// The state of the ledger that was read.
pub fn foot(answer: &Option<Answer>) -> String {
    fields(&[("ledger", answer_text(answer))])
}

/// A state without its prefix; one that is unknown by its number.
fn state(record: &ConsentRecord) -> String {
    let name = ConsentState::try_from(record.state).map(|state| state.as_str_name());
    name.map_or_else(|_| record.state.to_string(), |name| name.replace("CONSENT_STATE_", ""))
}

fn basis(record: &ConsentRecord) -> Option<String> {
    let basis = LegalBasis::try_from(record.legal_basis).ok()?;
    (basis != LegalBasis::Unspecified).then(|| basis.as_str_name().replace("LEGAL_BASIS_", ""))
}

/// A consent for people.
pub fn record_text(record: &ConsentRecord) -> String {
    let marks = [
        (record.expired, "expired"),
        (record.unresolved, "UNRESOLVED: everything is withheld"),
        (record.confidential, "confidential"),
    ];
    let marks: Vec<&str> = marks.into_iter().filter(|(set, _)| *set).map(|(_, mark)| mark).collect();
    let state = [vec![state(record)], marks.into_iter().map(str::to_owned).collect()].concat().join(", ");
    let mut rows = vec![
        ("consent", printable(&record.consent_id)),
        ("state", state),
        ("revision", format!("{}, sequence {}", record.revision, record.consent_seq)),
        ("recorded", format!("height {}, {}", record.height, time(record.time_ms))),
    ];
    if let Some(grantor) = &record.grantor {
        let until = time(grantor.valid_until_ms);
        rows.push(("granted by", format!("{}, until {until}", printable(&grantor.authority))));
    }
    rows.extend(basis(record).map(|basis| ("basis", basis)));
    if !record.supersedes.is_empty() {
        rows.push(("supersedes", printable(&record.supersedes.join(" "))));
    }
    let rules: String = record.rules.iter().map(|rule| paragraph("rule: ", rule)).collect();
    fields(&rows) + &rules
}

/// A consent for programs.
pub fn record_json(record: &ConsentRecord) -> Value {
    let grantor = record.grantor.as_ref().map(|grantor| {
        json!({
            "authority": grantor.authority, "evidence_sha256": hex::encode(&grantor.evidence_sha256),
            "valid_until_ms": grantor.valid_until_ms,
        })
    });
    json!({
        "consent_id": record.consent_id, "revision": record.revision, "state": state(record),
        "expired": record.expired, "rules": record.rules, "consent_seq": record.consent_seq,
        "height": record.height, "time_ms": record.time_ms, "commitment": hex::encode(&record.commitment),
        "grantor": grantor, "legal_basis": basis(record), "supersedes": record.supersedes,
        "unresolved": record.unresolved, "confidential": record.confidential,
    })
}
