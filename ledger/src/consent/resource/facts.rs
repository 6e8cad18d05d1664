//! What a record is coded as, when its matter happened, who wrote it, in which encounter (CONSENT.md, Decision 8,
//! "Codes", and "Reading resources").

use serde_json::{Map, Value};

use super::{each, named, ResourceDescriptor};
use crate::consent::clinical::{self, ClinicalDate};
use crate::consent::model::Code;

/// What can't be read is left unassessed, which no rule takes for a match.
pub fn read(map: &Map<String, Value>, found: &mut ResourceDescriptor) {
    found.codes = codes(map);
    found.clinical_date = clinical_date(map, &found.resource_type);
    read_authors(map, found);
    read_encounters(map, found);
}

/// code, medicationCodeableConcept, vaccineCode, type.
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
    let choices: &[&str] = match resource_type {
        "Observation" | "DiagnosticReport" => &["effectiveDateTime", "effectiveInstant", "effectivePeriod"],
        "Condition" => &["recordedDate", "onsetDateTime", "onsetPeriod"],
        "Procedure" => &["performedDateTime", "performedPeriod"],
        "Encounter" => &["period"],
        "MedicationRequest" => &["authoredOn"],
        "AllergyIntolerance" => &["recordedDate"],
        "Immunization" => &["occurrenceDateTime"],
        "DocumentReference" => &["date"],
        _ => &[],
    };
    // The first that is written decides, readable or not.
    match choices.iter().find_map(|key| map.get(*key))? {
        Value::String(text) => clinical::days(text).map(ClinicalDate::moment),
        period => {
            let bound = |key| match period.get(key) {
                None => Some(None),
                Some(text) => text.as_str().and_then(clinical::days).map(Some),
            };
            ClinicalDate::period(bound("start")?, bound("end")?)
        }
    }
}

fn read_authors(map: &Map<String, Value>, found: &mut ResourceDescriptor) {
    let key = match found.resource_type.as_str() {
        "Observation" | "DiagnosticReport" | "Procedure" | "Immunization" => "performer",
        "Condition" | "AllergyIntolerance" => "recorder",
        "MedicationRequest" => "requester",
        "DocumentReference" => "author",
        _ => return,
    };
    for performer in each(map.get(key)) {
        let who = named(performer.get("actor").unwrap_or(performer));
        found.has_unnamed_author |= who.is_unclear;
        found.authors.extend(who.literal.map(crate::consent::Reference::Literal));
        found.authors.extend(who.identifier);
    }
}

/// `encounter`, or the `context` of medications, documents and charges.
fn read_encounters(map: &Map<String, Value>, found: &mut ResourceDescriptor) {
    let context = map.get("context");
    let inner = context.and_then(|context| context.get("encounter"));
    let all = [map.get("encounter"), context, inner].into_iter().flat_map(each);
    let literals = all.filter_map(|reference| named(reference).literal);
    found.encounters.extend(literals.filter(|literal| literal.starts_with("Encounter/")));
}
