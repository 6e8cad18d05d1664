//! Past decisions made again: an auditor gets one patient's opened bodies from the custodian, and a ledger export from anybody.
//!
//! ```text
//! consents ─salts─▶ commitments ─▶ set ─salt─▶ commitment ─┐
//! policy, registry ───────────────────────salt─▶ commitment ─┼─▶ SetConsent, SetPolicy, RecordAccess ─▶ export ◀─ genesis hash
//! records ─digests─▶ access event ─────────salt─▶ commitment ─┘
//!                         └─ request, time, sequences ─▶ decide (CDA-1) ─▶ the same outcome, rules and obligations?
//! ```
//! The evaluation is the node's own ([`crate::consent::decide`] behind [`crate::consent::asked`]), with the consents, rules and
//! records as they stood. What a record says of itself is bound only by its digest in the event, so the records come whole.
//!
//! An event commits to what was released. What was withheld, and what was asked for and refused, is on no ledger: see
//! [`NOT_SHOWN`].

mod history;
mod opened;
mod replay;

use std::collections::BTreeSet;

use assent_proto::ledger::v1::DecisionOpenings;

pub use history::{ConsentStep, PolicyStep, RecordedAccess, SlotHistory};
pub use opened::{Opened, OpenedEvent, Records};
pub use replay::{replay, Replay, Replayed, Verdict};

use crate::encoding::{array, decode, fields, id, EncodingError};
use crate::hash::sha256;
use crate::receipts::{MAX_BUNDLE_BYTES, MAX_PARTS};

/// First bytes of a decisions file.
pub const DECISIONS_MAGIC: &[u8; 8] = b"ASSENTD1";
/// Longest decisions file: as a bundle, for it holds records.
pub const MAX_DECISIONS_BYTES: usize = MAX_BUNDLE_BYTES;
/// Most consents, sets, policies, accesses and records in one, together.
const MAX_DECISIONS_PARTS: usize = 4 * MAX_PARTS;

/// What no replay shows. Whoever reads one must not take it for more.
pub const NOT_SHOWN: [&str; 5] = [
    "that something was withheld which should have been given: the ledger commits to what was released, and a refusal leaves no \
     entry",
    "that a record carries the labels it should: the rules were tried on the labels that it had",
    "that the person named with an access is the one who acted, or belongs to the groups that the custodian's registry lists",
    "that the handle is this patient's: only the custodian's vault says so, though each record and consent names the patient",
    "that a late access was decided when it says: without quorum the custodian's clock says it",
];

/// Something that isn't as the ledger or the rules have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Machine-readable reason.
    pub reason: &'static str,
    /// What it is about.
    pub what: String,
    /// What ledger or rules say.
    pub expected: String,
    /// What the file or the event says.
    pub found: String,
}

impl Finding {
    fn new(
        reason: &'static str,
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self { reason, what: what.into(), expected: expected.into(), found: found.into() }
    }
}

fn malformed(field: &'static str, reason: &str) -> EncodingError {
    EncodingError::Field { message: "DecisionOpenings", field, reason: reason.to_owned() }
}

/// Decodes a decisions file (without its magic) and checks its form: orders, places, and that nothing in it is unused. It shows
/// nothing yet.
pub fn decode_openings(bytes: &[u8]) -> Result<DecisionOpenings, EncodingError> {
    if bytes.len() <= MAX_DECISIONS_BYTES {
        fields("DecisionOpenings", bytes, MAX_DECISIONS_PARTS)?;
    }
    let file: DecisionOpenings = decode("DecisionOpenings", bytes, MAX_DECISIONS_BYTES)?;
    id("DecisionOpenings", "chain_id", &file.chain_id)?;
    id("DecisionOpenings", "custodian", &file.custodian)?;
    array::<32>("DecisionOpenings", "handle", &file.handle)?;
    ascending("sets", file.sets.iter().map(|set| set.consent_seq))?;
    ascending("policies", file.policies.iter().map(|policy| policy.policy_seq))?;
    ascending("accesses", file.accesses.iter().map(|access| access.access_seq))?;
    // A place or digest takes less than what it names.
    let lists = file.sets.iter().map(|set| set.consents.len());
    if lists.chain(file.accesses.iter().map(|access| access.digests.len())).any(|len| len > MAX_PARTS) {
        return Err(EncodingError::TooMany { message: "DecisionOpenings", max: MAX_PARTS });
    }
    consents_named(&file)?;
    records_named(&file)?;
    Ok(file)
}

/// From 1 on, each number once.
fn ascending(field: &'static str, numbers: impl Iterator<Item = u64>) -> Result<(), EncodingError> {
    let mut last = 0;
    for number in numbers {
        if number <= last {
            return Err(malformed(field, "not in strictly ascending order from 1"));
        }
        last = number;
    }
    Ok(())
}

/// Every place is there, and every consent has a place that names it: no byte of the file goes unchecked. A set holds an id once.
fn consents_named(file: &DecisionOpenings) -> Result<(), EncodingError> {
    let mut named = vec![false; file.consents.len()];
    for set in &file.sets {
        let mut last: Option<&str> = None;
        for place in set.consents.iter().map(|place| *place as usize) {
            let (Some(named), Some(consent)) = (named.get_mut(place), file.consents.get(place)) else {
                return Err(malformed("sets", "a consent is named that is not there"));
            };
            if last.is_some_and(|last| last >= consent.id.as_str()) {
                return Err(malformed("sets", "consents are not in strictly ascending order of id"));
            }
            (*named, last) = (true, Some(consent.id.as_str()));
        }
    }
    match named.iter().all(|named| *named) {
        true => Ok(()),
        false => Err(malformed("consents", "one is there that no set names")),
    }
}

/// Every record is one that an access released, and there once.
fn records_named(file: &DecisionOpenings) -> Result<(), EncodingError> {
    let mut released = BTreeSet::new();
    for digest in file.accesses.iter().flat_map(|access| &access.digests) {
        released.insert(array::<32>("OpenedAccess", "digests", digest)?);
    }
    match file.records.iter().all(|record| released.remove(&sha256(record))) {
        true => Ok(()),
        false => Err(malformed("records", "one is there that no access released, or twice")),
    }
}
