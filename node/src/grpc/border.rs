//! Checks at the border: what a service gets behind these has the right form. Each refusal names the field and never
//! repeats its content, which may identify a patient.

use assent_ledger::consent::has_hidden_characters;
use assent_ledger::encoding::is_id;
use assent_ledger::keys::screen;
use assent_proto::v1::{CohortQuestion, CohortSubject, Patient, Query};
use time::macros::format_description;

use crate::custodian::{check_reason, PatientName};
use crate::recipient;
use crate::refusal::Refusal;

/// Longest request id, in bytes.
pub const MAX_REQUEST_ID_BYTES: usize = 64;
/// Longest identifier system or value, in bytes.
pub const MAX_IDENTIFIER_BYTES: usize = 256;
/// Longest name of an acting person, in bytes.
pub const MAX_ACTOR_BYTES: usize = 256;
/// Longest code, in bytes.
pub const MAX_CODE_BYTES: usize = 64;
/// Most resource types in a query.
pub const MAX_RESOURCE_TYPES: usize = 64;
/// Most patients in one message of ImportSubjects: the operations of one entry.
pub const MAX_SUBJECTS_PER_MESSAGE: usize = assent_ledger::entry::MAX_ENTRY_OPERATIONS;
/// Most queries in one BatchCheckConsent.
pub const MAX_BATCH_QUERIES: usize = 256;
/// Most patients in one message of CheckCohort.
pub const MAX_COHORT_SUBJECTS: usize = 1_024;
/// Most resources in one message of LoadRecords.
pub const MAX_RESOURCES_PER_MESSAGE: usize = 10_000;
/// Longest resource, in bytes: below the 4 MiB that gRPC clients take in one message by default.
pub const MAX_RESOURCE_BYTES: usize = 2 << 20;
/// Longest consent or policy, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 128 << 10;

/// A field that has not the form it must have.
pub fn malformed(field: &str, what: impl std::fmt::Display) -> Refusal {
    Refusal::invalid("MALFORMED_REQUEST", field, format!("{field}: {what}"))
}

/// A text: 1 byte or more, bounded, on one line.
pub fn text(field: &str, value: &str, max_bytes: usize) -> Result<(), Refusal> {
    if value.is_empty() || value.len() > max_bytes {
        return Err(malformed(field, format!("{} bytes, 1 to {max_bytes} needed", value.len())));
    }
    if has_hidden_characters(value) || value.trim() != value {
        return Err(malformed(field, "holds a character that can't be seen, or white space at an end"));
    }
    Ok(())
}

/// A code.
pub fn code(field: &str, value: &str) -> Result<(), Refusal> {
    text(field, value, MAX_CODE_BYTES)?;
    if value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Ok(());
    }
    Err(malformed(field, "not a code: letters, digits, '-', '_' and '.' only"))
}

/// A request id.
pub fn request_id(value: &str) -> Result<(), Refusal> {
    if (1..=MAX_REQUEST_ID_BYTES).contains(&value.len()) && value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Ok(());
    }
    Err(malformed(
        "request_id",
        format!("1 to {MAX_REQUEST_ID_BYTES} printable ASCII bytes needed, found {}", value.len()),
    ))
}

/// An organization id.
pub fn organization(field: &str, value: &str) -> Result<(), Refusal> {
    if is_id(value) {
        return Ok(());
    }
    Err(malformed(field, "not an organization id: 1 to 32 bytes of [a-z0-9-]"))
}

/// Exactly N bytes.
pub fn bytes<const N: usize>(field: &str, value: &[u8]) -> Result<[u8; N], Refusal> {
    value.try_into().map_err(|_| malformed(field, format!("{} bytes, {N} needed", value.len())))
}

/// A control key, or none when empty. Keys that must not be registered are refused before anything is stored.
pub fn control_key(field: &str, value: &[u8]) -> Result<Option<[u8; 32]>, Refusal> {
    if value.is_empty() {
        return Ok(None);
    }
    let key = bytes::<32>(field, value)?;
    screen(&key).map_err(|why| Refusal::invalid("BAD_CONTROL_KEY", field, format!("{field}: {why}")))?;
    Ok(Some(key))
}

/// A document: 1 byte or more, bounded.
pub fn document(field: &str, value: &[u8], max_bytes: usize) -> Result<(), Refusal> {
    if (1..=max_bytes).contains(&value.len()) {
        return Ok(());
    }
    Err(malformed(field, format!("{} bytes, 1 to {max_bytes} needed", value.len())))
}

fn birth_date(field: &str, value: &str) -> Result<(), Refusal> {
    let form = format_description!("[year]-[month]-[day]");
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    if value.len() == 10 && digits == 8 && time::Date::parse(value, form).is_ok() {
        return Ok(());
    }
    Err(malformed(field, "not a date of the form YYYY-MM-DD"))
}

/// A patient: the custodian that is named, and the name there.
pub fn patient(field: &str, patient: Option<Patient>) -> Result<(String, PatientName), Refusal> {
    let patient = patient.ok_or_else(|| malformed(field, "missing"))?;
    let of = |name: &str| format!("{field}.{name}");
    organization(&of("custodian"), &patient.custodian)?;
    text(&of("identifier_system"), &patient.identifier_system, MAX_IDENTIFIER_BYTES)?;
    text(&of("identifier_value"), &patient.identifier_value, MAX_IDENTIFIER_BYTES)?;
    birth_date(&of("birth_date"), &patient.birth_date)?;
    let Patient { custodian, identifier_system: system, identifier_value: value, birth_date } = patient;
    Ok((custodian, PatientName { system, value, birth_date }))
}

/// How records refer to a patient: "Patient/" and a FHIR id.
pub fn patient_reference(value: &str) -> Result<(), Refusal> {
    let id = value.strip_prefix("Patient/").unwrap_or_default();
    let fits = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    if (1..=64).contains(&id.len()) && fits {
        return Ok(());
    }
    Err(malformed(
        "patient_reference",
        "not \"Patient/\" and a FHIR id of 1 to 64 letters, digits, '-' and '.'",
    ))
}

/// Resources of one message.
pub fn resources(resources: &[Vec<u8>]) -> Result<(), Refusal> {
    if resources.is_empty() || resources.len() > MAX_RESOURCES_PER_MESSAGE {
        let found = resources.len();
        return Err(malformed(
            "resources",
            format!("{found} resources, 1 to {MAX_RESOURCES_PER_MESSAGE} a message"),
        ));
    }
    for (n, resource) in resources.iter().enumerate() {
        document(&format!("resources[{n}]"), resource, MAX_RESOURCE_BYTES)?;
    }
    Ok(())
}

/// What is asked for.
pub fn query(query: Option<Query>) -> Result<recipient::Query, Refusal> {
    let query = query.ok_or_else(|| malformed("query", "missing"))?;
    let (custodian, name) = patient("query.patient", query.patient)?;
    let PatientName { system, value, birth_date } = name;
    let asked = recipient::Query {
        custodian,
        system,
        value,
        birth_date,
        purpose: query.purpose,
        actor: query.actor,
        action: query.action,
        resource_types: query.resource_types,
        break_glass_reason: query.break_glass_reason,
    };
    purpose_and_data("query", &asked)?;
    check_reason(&asked.break_glass_reason).map_err(|why| malformed("query.break_glass_reason", why))?;
    Ok(asked)
}

/// What is asked for each patient of a cohort; the patient is left empty.
pub fn cohort_question(question: CohortQuestion) -> Result<recipient::Query, Refusal> {
    organization("question.custodian", &question.custodian)?;
    text("question.identifier_system", &question.identifier_system, MAX_IDENTIFIER_BYTES)?;
    let asked = recipient::Query {
        custodian: question.custodian,
        system: question.identifier_system,
        value: String::new(),
        birth_date: String::new(),
        purpose: question.purpose,
        actor: question.actor,
        action: question.action,
        resource_types: question.resource_types,
        break_glass_reason: String::new(),
    };
    purpose_and_data("question", &asked)?;
    Ok(asked)
}

/// Patients of one message of a cohort, by identifier and birth date.
pub fn cohort_subjects(subjects: Vec<CohortSubject>) -> Result<Vec<(String, String)>, Refusal> {
    let found = subjects.len();
    if found > MAX_COHORT_SUBJECTS {
        return Err(malformed(
            "subjects",
            format!("{found} patients, at most {MAX_COHORT_SUBJECTS} a message"),
        ));
    }
    for (index, subject) in subjects.iter().enumerate() {
        let at = |refusal: Refusal| refusal.with("subject", index);
        text("subjects.identifier_value", &subject.identifier_value, MAX_IDENTIFIER_BYTES).map_err(at)?;
        birth_date("subjects.birth_date", &subject.birth_date).map_err(at)?;
    }
    Ok(subjects.into_iter().map(|s| (s.identifier_value, s.birth_date)).collect())
}

/// Everything but the patient.
fn purpose_and_data(field: &str, query: &recipient::Query) -> Result<(), Refusal> {
    let of = |name: &str| format!("{field}.{name}");
    code(&of("purpose"), &query.purpose)?;
    text(&of("actor"), &query.actor, MAX_ACTOR_BYTES)?;
    if !query.action.is_empty() {
        code(&of("action"), &query.action)?;
    }
    let found = query.resource_types.len();
    if found > MAX_RESOURCE_TYPES {
        return Err(malformed(&of("resource_types"), format!("{found} types, at most {MAX_RESOURCE_TYPES}")));
    }
    for (n, kind) in query.resource_types.iter().enumerate() {
        code(&of(&format!("resource_types[{n}]")), kind)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for good in ["2004-02-16", "2004-02-29", "1899-12-31"] {
            assert!(birth_date("f", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "2004-2-16",
            "2003-02-29",
            "+004-02-16",
            "2004-02-16 ",
            "16.02.2004",
            "2004-13-01",
            "２004-02-1",
        ] {
            assert!(birth_date("f", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn request_ids() {
        assert!(request_id("a").is_ok() && request_id(&"x".repeat(64)).is_ok());
        for bad in ["", "a\n", "ü", &"x".repeat(65)] {
            let refusal = request_id(bad).unwrap_err();
            assert_eq!(refusal.metadata["field"], "request_id");
        }
    }

    #[test]
    fn a_refusal_names_the_field_and_not_its_content() {
        let patient_of = |value: &str| Patient {
            custodian: "cedar".into(),
            identifier_system: "urn:x".into(),
            identifier_value: value.into(),
            birth_date: "2004-02-16".into(),
        };
        assert!(patient("patient", Some(patient_of("MRN-1"))).is_ok());
        let refusal = patient("patient", Some(patient_of("MRN-1\u{7}"))).unwrap_err();
        assert_eq!(refusal.metadata["field"], "patient.identifier_value");
        assert!(!refusal.message.contains("MRN-1"));
        assert_eq!(patient("query.patient", None).unwrap_err().metadata["field"], "query.patient");
    }

    #[test]
    fn control_keys_are_screened() {
        assert_eq!(control_key("control_key", &[]).unwrap(), None);
        assert_eq!(control_key("control_key", &[1; 31]).unwrap_err().reason, "MALFORMED_REQUEST");
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(control_key("control_key", &identity).unwrap_err().reason, "BAD_CONTROL_KEY");
    }

    #[test]
    fn references() {
        assert!(patient_reference("Patient/a-1.b").is_ok());
        for bad in ["", "Patient/", "patient/a", "Patient/a/b", "Group/a", "Patient/a b"] {
            assert!(patient_reference(bad).is_err(), "{bad}");
        }
    }
}
