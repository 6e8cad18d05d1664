//! Reading a record for what a decision needs (CONSENT.md, "Reading resources"). The record's exact bytes stay with the
//! caller. What would leave a question about whose record it is, or how it is labelled, is refused.

use serde_json::{Map, Value};

use super::clinical::ClinicalDate;
use super::issue::{quoted, Refusal};
use super::json::{self, JsonFault};
use super::model::{Code, Conf, Reference};
use super::tables;

mod facts;
mod subjects;

/// Bytes of one record.
pub const MAX_RESOURCE_BYTES: usize = 16 * 1024 * 1024;

pub(super) const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
pub(super) const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
/// Labels of these systems say what a record may be used for, or how sound it is; not how sensitive.
const OTHER_LABELS: [&str; 2] = [
    "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
];
/// Label and policy rule of 42 CFR Part 2, as v3 ActCode writes it.
pub(super) const PART2_LABEL: &str = "42CFRPart2";

/// What a decision needs to know of one record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResourceDescriptor {
    /// `Observation/1`.
    pub reference: String,
    pub resource_type: String,
    /// The highest one.
    pub confidentiality: Option<Conf>,
    /// Sensitivity codes of v3 ActCode; a label outside the tables is kept as `system|code`.
    pub sensitivity: Vec<String>,
    /// Labels that say nothing of sensitivity: laws, obligations, refrains (`42CFRPart2`).
    pub handling: Vec<String>,
    /// `meta.security` holds a v3 Confidentiality coding.
    pub assessed: bool,
    /// Every patient it is about: `Patient/x`, sorted.
    pub subjects: Vec<String>,
    pub codes: Vec<Code>,
    /// Absent where it was never assessed.
    pub clinical_date: Option<ClinicalDate>,
    /// As references are written, by both names where an author has two.
    pub authors: Vec<Reference>,
    /// An author is named in a way that can't be compared, and may be anybody.
    pub has_unnamed_author: bool,
    /// `Encounter/x`; empty where the record names none, or none that can be compared.
    pub encounters: Vec<String>,
}

impl ResourceDescriptor {
    /// No label of any kind (CONSENT.md, Decision 5, `unlabelled`).
    pub fn is_unlabelled(&self) -> bool {
        !self.assessed
            && self.confidentiality.is_none()
            && self.sensitivity.is_empty()
            && self.handling.is_empty()
    }
}

/// Reads one FHIR R4 resource.
pub fn describe_resource(json: &[u8]) -> Result<ResourceDescriptor, Refusal> {
    let value = json::parse(json, MAX_RESOURCE_BYTES)
        .map_err(|JsonFault { reason, message }| Refusal::new(reason, "$this", message))?;
    let Some(map) = value.as_object() else {
        return Err(Refusal::new("wrong-type", "$this", "a resource is a JSON object"));
    };
    let resource_type = text(map, "resourceType")?;
    if !tables::is_resource_type(resource_type) {
        return Err(Refusal::new("unknown-code", "resourceType", quoted(resource_type)));
    }
    if matches!(resource_type, "Bundle" | "Parameters") {
        let message = format!("a {resource_type} holds other records; describe each of them");
        return Err(Refusal::new("container", "resourceType", message));
    }
    let mut found = ResourceDescriptor {
        reference: format!("{resource_type}/{}", text(map, "id")?),
        resource_type: resource_type.to_owned(),
        ..Default::default()
    };
    read_labels(map, &mut found)?;
    found.subjects = subjects::read(map, resource_type, &found.reference)?;
    facts::read(map, &mut found);
    Ok(found)
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Result<&'a str, Refusal> {
    match map.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(_) => Err(Refusal::new("wrong-type", key, "expected text")),
        None => Err(Refusal::new("missing-field", key, format!("the record has no {key}"))),
    }
}

fn read_labels(map: &Map<String, Value>, found: &mut ResourceDescriptor) -> Result<(), Refusal> {
    let wrong = |message| Refusal::new("wrong-type", "meta.security", message);
    let labels = match map.get("meta") {
        None => return Ok(()),
        Some(Value::Object(meta)) => meta.get("security"),
        Some(_) => return Err(wrong("meta is not an object")),
    };
    let labels = match labels {
        None => return Ok(()),
        Some(Value::Array(labels)) => labels,
        Some(_) => return Err(wrong("expected a list of codings")),
    };
    for label in labels {
        let system = label.get("system").and_then(Value::as_str).unwrap_or_default();
        let code = label.get("code").and_then(Value::as_str);
        let code = code.ok_or_else(|| wrong("a label without a code"))?;
        read_label(system, code, found);
    }
    Ok(())
}

fn read_label(system: &str, code: &str, found: &mut ResourceDescriptor) {
    match (system, Conf::parse(code)) {
        (CONFIDENTIALITY, Some(level)) => {
            found.assessed = true;
            found.confidentiality = found.confidentiality.max(Some(level));
        }
        (ACT_CODE, _) if tables::is_sensitivity(code) => found.sensitivity.push(code.to_owned()),
        (ACT_CODE, _) if tables::is_handling(code) => found.handling.push(code.to_owned()),
        (system, _) if OTHER_LABELS.contains(&system) => found.handling.push(code.to_owned()),
        // Outside the tables: UNKNOWN to every DENY, covered by no PERMIT (CONSENT.md, Decision 8).
        _ => found.sensitivity.push(format!("{system}|{code}")),
    }
}

/// How a FHIR Reference names its target.
#[derive(Default)]
struct Named {
    /// `Type/id`; a version is left out, for it is the same thing's.
    literal: Option<String>,
    identifier: Option<Reference>,
    /// The type it states.
    kind: Option<String>,
    /// It has a literal of another form (a URL, a contained resource), or none at all: whom it names can't be told.
    is_unclear: bool,
}

fn named(reference: &Value) -> Named {
    let part =
        |of: &Value, key| of.get(key).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
    let written = part(reference, "reference");
    let literal = written.as_deref().and_then(plain_literal).map(str::to_owned);
    let identifier = reference
        .get("identifier")
        .and_then(|i| Some(Reference::Identifier { system: part(i, "system")?, value: part(i, "value")? }));
    let is_unclear = literal.is_none() && (written.is_some() || identifier.is_none());
    Named { literal, identifier, kind: part(reference, "type"), is_unclear }
}

/// `Type/id`, what follows `/_history/` left out.
fn plain_literal(text: &str) -> Option<&str> {
    let text = text.split_once("/_history/").map_or(text, |(text, _)| text);
    let (kind, id) = text.split_once('/')?;
    let is_plain = |b: u8| b.is_ascii_graphic() && !b"/?#|".contains(&b);
    let sound = tables::is_resource_type(kind) && !id.is_empty() && id.bytes().all(is_plain);
    sound.then_some(text)
}

/// The items of a list, or the one thing that is there.
fn each(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    match value {
        Some(Value::Array(items)) => items.iter(),
        Some(one) => std::slice::from_ref(one).iter(),
        None => [].iter(),
    }
}
