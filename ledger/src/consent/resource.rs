//! Reading a record for what a decision needs (CONSENT.md, "Reading resources"). The record's exact bytes stay with the
//! caller. What would leave a question about whose record it is, or how it is labelled, is refused.

use serde_json::{Map, Value};

use super::issue::{quoted, Refusal};
use super::json::{self, JsonFault};
use super::model::Conf;
use super::tables;

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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    pub system: Option<String>,
    pub code: String,
}

/// Dates as written, in the record's own offset, cut to the day; a moment has both alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClinicalDate {
    pub start: Option<String>,
    pub end: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    pub clinical_date: Option<ClinicalDate>,
    pub authors: Vec<String>,
    pub encounter: Option<String>,
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
    found.subjects = subjects(map, resource_type, &found.reference)?;
    found.codes = codes(map);
    found.clinical_date = clinical_date(map, resource_type);
    found.authors = authors(map, resource_type);
    found.encounter = map.get("encounter").and_then(reference_text);
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

/// `Type/id` as written, or `system|value`.
fn reference_text(reference: &Value) -> Option<String> {
    if let Some(literal) = reference.get("reference").and_then(Value::as_str).filter(|text| !text.is_empty())
    {
        return Some(literal.to_owned());
    }
    let identifier = reference.get("identifier")?;
    let part = |key| identifier.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    Some(format!("{}|{}", part("system")?, part("value")?))
}

/// What a record may be about without being about a patient.
const NOT_PATIENTS: [&str; 8] = [
    "Device",
    "Location",
    "Medication",
    "Organization",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "Substance",
];

/// All subjects: subject, patient, beneficiary, Patient participants; a Patient itself (INTERFACES.md).
fn subjects(map: &Map<String, Value>, resource_type: &str, own: &str) -> Result<Vec<String>, Refusal> {
    let mut about = std::collections::BTreeSet::new();
    if resource_type == "Patient" {
        about.insert(own.to_owned());
    }
    for key in ["subject", "patient", "beneficiary"] {
        for reference in each(map.get(key)) {
            let unclear =
                || Refusal::new("unresolvable-reference", key, "whose record this is can't be told");
            let who = reference_text(reference).ok_or_else(unclear)?;
            let kind = who.split_once('/').map_or("", |(kind, _)| kind);
            if !NOT_PATIENTS.contains(&kind) {
                about.insert(who);
            }
        }
    }
    let participants = each(map.get("participant")).flat_map(|p| [p.get("actor"), p.get("member")]);
    let members = each(map.get("member")).map(|m| m.get("entity"));
    for reference in
        participants.chain(members).chain([map.get("actor")]).flatten().flat_map(|r| each(Some(r)))
    {
        let stated = reference.get("type").and_then(Value::as_str) == Some("Patient");
        match reference_text(reference) {
            Some(who) if stated || who.starts_with("Patient/") => about.insert(who),
            _ => continue,
        };
    }
    Ok(about.into_iter().collect())
}

/// The items of a list, or the one thing that is there.
fn each(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    match value {
        Some(Value::Array(items)) => items.iter(),
        Some(one) => std::slice::from_ref(one).iter(),
        None => [].iter(),
    }
}

/// code, medicationCodeableConcept, vaccineCode, type (CONSENT.md, Decision 8, "Codes").
fn codes(map: &Map<String, Value>) -> Vec<Code> {
    let concepts = ["code", "medicationCodeableConcept", "vaccineCode", "type"];
    let codings =
        concepts.iter().flat_map(|key| each(map.get(*key))).flat_map(|concept| each(concept.get("coding")));
    codings
        .filter_map(|coding| {
            let part = |key| coding.get(key).and_then(Value::as_str).map(str::to_owned);
            Some(Code { system: part("system"), code: part("code")? })
        })
        .collect()
}

fn clinical_date(map: &Map<String, Value>, resource_type: &str) -> Option<ClinicalDate> {
    let stems: &[&str] = match resource_type {
        "Observation" | "DiagnosticReport" => &["effective"],
        "Condition" => &["recordedDate", "onset"],
        "Procedure" => &["performed"],
        "Encounter" => &["period"],
        "MedicationRequest" => &["authoredOn"],
        "AllergyIntolerance" => &["recordedDate"],
        "Immunization" => &["occurrence"],
        "DocumentReference" => &["date"],
        _ => &[],
    };
    stems.iter().find_map(|stem| {
        let moment = ["", "DateTime", "Instant"].iter().find_map(|end| map.get(&format!("{stem}{end}")));
        if let Some(day) = moment.and_then(day) {
            return Some(ClinicalDate { start: Some(day.clone()), end: Some(day) });
        }
        let period = ["", "Period"].iter().find_map(|end| map.get(&format!("{stem}{end}")))?;
        let bounds =
            ClinicalDate { start: period.get("start").and_then(day), end: period.get("end").and_then(day) };
        (bounds.start.is_some() || bounds.end.is_some()).then_some(bounds)
    })
}

fn day(date: &Value) -> Option<String> {
    date.as_str()
        .filter(|text| !text.is_empty())
        .map(|text| text.split('T').next().unwrap_or(text).to_owned())
}

fn authors(map: &Map<String, Value>, resource_type: &str) -> Vec<String> {
    let key = match resource_type {
        "Observation" | "DiagnosticReport" | "Procedure" | "Immunization" => "performer",
        "Condition" | "AllergyIntolerance" => "recorder",
        "MedicationRequest" => "requester",
        "DocumentReference" => "author",
        _ => return Vec::new(),
    };
    each(map.get(key)).filter_map(|p| reference_text(p.get("actor").unwrap_or(p))).collect()
}
