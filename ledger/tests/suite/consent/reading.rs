//! Reading records (CONSENT.md, "Reading resources").

use super::*;
use serde_json::{json, Value};

const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

fn read(record: Value) -> Result<ResourceDescriptor, Refusal> {
    describe_resource(record.to_string().as_bytes())
}

fn labelled(labels: &[(&str, &str)]) -> ResourceDescriptor {
    let labels: Vec<_> =
        labels.iter().map(|(system, code)| json!({"system": system, "code": code})).collect();
    read(json!({"resourceType": "Observation", "id": "1", "meta": {"security": labels}})).expect("readable")
}

#[test]
fn labels() {
    let found = labelled(&[
        (CONFIDENTIALITY, "N"),
        (CONFIDENTIALITY, "V"),
        (CONFIDENTIALITY, "L"),
        (ACT_CODE, "PSY"),
    ]);
    assert_eq!((found.confidentiality, found.assessed), (Some(Conf::V), true), "the highest counts");
    assert_eq!(found.sensitivity, ["PSY"]);
    let found = labelled(&[(ACT_CODE, "PSY"), (ACT_CODE, "42CFRPart2"), (ACT_CODE, "NORDSCLCD")]);
    assert_eq!(
        (found.assessed, found.confidentiality),
        (false, None),
        "assessed by a confidentiality coding only"
    );
    assert_eq!(
        (found.sensitivity.len(), found.handling),
        (1, vec!["42CFRPart2".to_owned(), "NORDSCLCD".to_owned()])
    );
    let found = labelled(&[("urn:x", "secret"), (ACT_CODE, "NEWCODE"), (CONFIDENTIALITY, "PSY")]);
    let outside =
        ["urn:x|secret".to_owned(), format!("{ACT_CODE}|NEWCODE"), format!("{CONFIDENTIALITY}|PSY")];
    assert_eq!((found.sensitivity, found.assessed), (outside.to_vec(), false));
    assert!(labelled(&[]).is_unlabelled());
}

#[test]
#[rustfmt::skip] // a table, a row a line
fn subjects() {
    for (record, expected) in [
        (json!({"resourceType": "Patient", "id": "p"}), vec!["Patient/p"]),
        (json!({"resourceType": "Observation", "id": "1", "subject": {"reference": "Patient/p"}}), vec!["Patient/p"]),
        (json!({"resourceType": "Coverage", "id": "1", "beneficiary": {"reference": "Patient/p"}}), vec!["Patient/p"]),
        (json!({"resourceType": "Account", "id": "1", "subject": [{"reference": "Patient/q"}, {"reference": "Patient/p"}]}), vec!["Patient/p", "Patient/q"]),
        (json!({"resourceType": "Appointment", "id": "1", "participant": [
            {"actor": {"reference": "Patient/p"}}, {"actor": {"reference": "Practitioner/1"}}, {"actor": {"display": "a room"}}]}), vec!["Patient/p"]),
        (json!({"resourceType": "CareTeam", "id": "1", "subject": {"reference": "Patient/p"}, "participant": [{"member": {"reference": "Patient/q"}}]}), vec!["Patient/p", "Patient/q"]),
        (json!({"resourceType": "Observation", "id": "1", "subject": {"reference": "Device/1"}}), vec![]),
        (json!({"resourceType": "Observation", "id": "1", "subject": {"reference": "Group/1"}}), vec!["Group/1"]),
        (json!({"resourceType": "Observation", "id": "1", "subject": {"identifier": {"system": "s", "value": "v"}}}), vec!["s|v"]),
    ] {
        assert_eq!(read(record.clone()).expect("readable").subjects, expected, "{record}");
    }
}

#[test]
fn codes_dates_and_authors() {
    let found = read(json!({
        "resourceType": "Observation", "id": "1", "code": {"coding": [{"system": "http://loinc.org", "code": "1-1"}]},
        "effectivePeriod": {"start": "2020-01-01T23:00:00-05:00"}, "performer": [{"reference": "Practitioner/1"}],
        "encounter": {"reference": "Encounter/9"},
    })).expect("readable");
    assert_eq!(found.codes, [Code { system: Some("http://loinc.org".into()), code: "1-1".into() }]);
    assert_eq!(found.clinical_date, Some(ClinicalDate { start: Some("2020-01-01".into()), end: None }));
    assert_eq!(
        (found.authors, found.encounter),
        (vec!["Practitioner/1".to_owned()], Some("Encounter/9".to_owned()))
    );
    let found = read(json!({"resourceType": "Condition", "id": "1", "onsetDateTime": "2019-05", "recorder": {"reference": "Practitioner/2"}})).expect("readable");
    assert_eq!(
        found.clinical_date,
        Some(ClinicalDate { start: Some("2019-05".into()), end: Some("2019-05".into()) })
    );
    assert_eq!(found.authors, ["Practitioner/2"]);
    let found = read(json!({"resourceType": "Procedure", "id": "1", "performer": [{"actor": {"reference": "Practitioner/3"}}]})).expect("readable");
    assert_eq!((found.authors, found.clinical_date), (vec!["Practitioner/3".to_owned()], None));
}

#[test]
#[rustfmt::skip] // a table, a row a line
fn refusals() {
    for (record, reason) in [
        (json!([]), "wrong-type"),
        (json!({"id": "1"}), "missing-field"),
        (json!({"resourceType": "Observation"}), "missing-field"),
        (json!({"resourceType": "Observatoin", "id": "1"}), "unknown-code"),
        (json!({"resourceType": "Bundle", "id": "1"}), "container"),
        (json!({"resourceType": "Observation", "id": "1", "meta": []}), "wrong-type"),
        (json!({"resourceType": "Observation", "id": "1", "meta": {"security": {}}}), "wrong-type"),
        (json!({"resourceType": "Observation", "id": "1", "meta": {"security": [{"system": ACT_CODE}]}}), "wrong-type"),
        (json!({"resourceType": "Observation", "id": "1", "subject": {"display": "Mr. P."}}), "unresolvable-reference"),
    ] {
        assert_eq!(read(record.clone()).expect_err(reason).reason, reason, "{record}");
    }
    let twice = br#"{"resourceType": "Patient", "id": "p", "meta": {"security": []}, "meta": {}}"#;
    assert_eq!(describe_resource(twice).expect_err("twice").reason, "duplicate-key");
}
