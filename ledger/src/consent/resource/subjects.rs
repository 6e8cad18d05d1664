//! Whom a record is about: subject, patient, beneficiary, Patient participants; a Patient itself (INTERFACES.md).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{each, named};
use crate::consent::issue::Refusal;

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

fn unclear(key: &str) -> Refusal {
    let message = "whose record this is can't be told: only Type/id, or an identifier, can";
    Refusal::new("unresolvable-reference", key, message)
}

/// All subjects, sorted. A reference that can't be told from others might be any patient's, and refuses the record.
pub fn read(map: &Map<String, Value>, resource_type: &str, own: &str) -> Result<Vec<String>, Refusal> {
    let mut about = BTreeSet::new();
    if resource_type == "Patient" {
        about.insert(own.to_owned());
    }
    for key in ["subject", "patient", "beneficiary"] {
        for reference in each(map.get(key)) {
            let who = named(reference);
            let name =
                who.literal.or_else(|| who.identifier.filter(|_| !who.is_unclear).map(|i| i.to_string()));
            let name = name.ok_or_else(|| unclear(key))?;
            let kind = name.split_once('/').map_or("", |(kind, _)| kind);
            if !NOT_PATIENTS.contains(&kind) {
                about.insert(name);
            }
        }
    }
    let participants = each(map.get("participant")).flat_map(|p| [p.get("actor"), p.get("member")]);
    let members = each(map.get("member")).map(|m| m.get("entity"));
    let others = participants.chain(members).chain([map.get("actor")]).flatten().flat_map(|r| each(Some(r)));
    for reference in others {
        let who = named(reference);
        let stated = who.kind.as_deref();
        match (who.literal, who.identifier) {
            (Some(literal), _) if literal.starts_with("Patient/") => about.insert(literal),
            (None, Some(identifier)) if stated == Some("Patient") => about.insert(identifier.to_string()),
            // A participant who is only described is nobody's subject; one who is referred to may be.
            (None, None) if reference.get("reference").is_some() && stated.is_none_or(|s| s == "Patient") => {
                return Err(unclear("participant"));
            }
            _ => continue,
        };
    }
    Ok(about.into_iter().collect())
}
