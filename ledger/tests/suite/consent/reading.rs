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
    assert_eq!(
        found.clinical_date,
        Some(ClinicalDate { start: Some(Days { first: 18_262, last: 18_262 }), end: None })
    );
    assert_eq!(
        (found.authors, found.encounters),
        (vec![Reference::Literal("Practitioner/1".into())], vec!["Encounter/9".to_owned()])
    );
    let found = read(json!({"resourceType": "Condition", "id": "1", "onsetDateTime": "2019-05", "recorder": {"reference": "Practitioner/2"}})).expect("readable");
    assert_eq!(
        found.clinical_date,
        Some(ClinicalDate::moment(Days { first: 18_017, last: 18_047 })),
        "a month is any of its days"
    );
    assert_eq!(found.authors, [Reference::Literal("Practitioner/2".into())]);
    let found = read(json!({"resourceType": "Procedure", "id": "1", "performer": [{"actor": {"reference": "Practitioner/3"}}]})).expect("readable");
    assert_eq!(
        (found.authors, found.clinical_date),
        (vec![Reference::Literal("Practitioner/3".into())], None)
    );
}

/// "What was never assessed": a name that can't be compared may be anybody's, a date that can't be read any day.
#[test]
fn what_cannot_be_told_is_left_open() {
    let observation = |more: Value| {
        let mut record = json!({"resourceType": "Observation", "id": "1", "subject": {"reference": "Patient/p/_history/3"}});
        record.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        read(record).expect("readable")
    };
    let plain = observation(json!({}));
    assert_eq!(plain.subjects, ["Patient/p"], "a version is the same patient's");
    assert!(plain.authors.is_empty() && !plain.has_unnamed_author && plain.clinical_date.is_none());
    for performer in [
        json!({"display": "Dr. Nine"}),
        json!({"reference": "https://x.example/fhir/Practitioner/9"}),
        json!({"reference": "#nine"}),
        json!({"identifier": {"value": "9"}}),
    ] {
        let found = observation(json!({"performer": [performer]}));
        assert!(found.has_unnamed_author && found.authors.is_empty(), "{found:?}");
    }
    let both = json!({"reference": "Practitioner/9", "identifier": {"system": "s", "value": "9"}});
    let found = observation(json!({"performer": [both]}));
    assert_eq!((found.authors.len(), found.has_unnamed_author), (2, false));
    for unreadable in ["10000-01-01", "2020-02-30", "yesterday", ""] {
        assert_eq!(observation(json!({"effectiveDateTime": unreadable})).clinical_date, None, "{unreadable}");
        let period = json!({"effectivePeriod": {"start": "2020-01-01", "end": unreadable}});
        assert_eq!(observation(period).clinical_date, None, "{unreadable}");
    }
    let backwards = json!({"effectivePeriod": {"start": "2020-02-01", "end": "2020-01-01"}});
    assert_eq!(observation(backwards).clinical_date, None);
    let age = json!({"resourceType": "Condition", "id": "1", "onsetAge": {"value": 40}});
    assert_eq!(read(age).expect("readable").clinical_date, None);
    let document = json!({"resourceType": "DocumentReference", "id": "1", "context": {"encounter": [{"reference": "Encounter/1"}]}});
    assert_eq!(read(document).expect("readable").encounters, ["Encounter/1"]);
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
        (json!({"resourceType": "Observation", "id": "1", "subject": {"reference": "http://x.example/Patient/p"}}), "unresolvable-reference"),
        (json!({"resourceType": "Observation", "id": "1", "subject": {"reference": "#p"}}), "unresolvable-reference"),
        (json!({"resourceType": "Appointment", "id": "1", "participant": [{"actor": {"reference": "urn:uuid:0"}}]}), "unresolvable-reference"),
    ] {
        assert_eq!(read(record.clone()).expect_err(reason).reason, reason, "{record}");
    }
    let twice = br#"{"resourceType": "Patient", "id": "p", "meta": {"security": []}, "meta": {}}"#;
    assert_eq!(describe_resource(twice).expect_err("twice").reason, "duplicate-key");
}
