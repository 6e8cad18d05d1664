//! The demo's consent (testnet/data/consent-demo.json), from bytes to outcomes.

use super::*;

pub const DEMO: &str = r#"{
  "resourceType": "Consent", "id": "demo", "status": "active",
  "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
  "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0", "display": "Consent Document"}]}],
  "patient": {"reference": "Patient/p"},
  "dateTime": "2026-01-05",
  "provision": {
    "type": "permit",
    "period": {"start": "2026-01-01", "end": "2030-12-31"},
    "actor": [{
      "role": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]},
      "reference": {"identifier": {"system": "urn:assent:organization", "value": "birch"}}
    }],
    "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}],
    "provision": [{
      "type": "deny",
      "securityLabel": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"}]
    }]
  }
}"#;

fn observation(id: &str, labels: &[(&str, &str)]) -> ResourceDescriptor {
    let labels: Vec<_> = labels
        .iter()
        .map(|(s, code)| serde_json::json!({"system": format!("http://terminology.hl7.org/CodeSystem/{s}"), "code": code}))
        .collect();
    let record = serde_json::json!({
        "resourceType": "Observation", "id": id, "meta": {"security": labels}, "subject": {"reference": "Patient/p"},
    });
    describe_resource(record.to_string().as_bytes()).expect("a readable record")
}

#[test]
fn birch_sees_all_but_psychiatry_for_treatment() {
    let imported = import_consent(DEMO.as_bytes()).expect("importable");
    let records = [
        observation("plain", &[("v3-Confidentiality", "N")]),
        observation("psy", &[("v3-Confidentiality", "R"), ("v3-ActCode", "PSY")]),
        observation("sud", &[("v3-Confidentiality", "R"), ("v3-ActCode", "SUD")]),
        observation("both", &[("v3-Confidentiality", "R"), ("v3-ActCode", "PSY"), ("v3-ActCode", "SUD")]),
        observation("unlabelled", &[]),
    ];
    let consents = [imported.consent];
    let outcomes = |request: Request, at_ms, frozen| -> Vec<Outcome> {
        let input = DecisionInput {
            consents: &consents,
            policy: None,
            request: &request,
            resources: &records,
            at_ms,
            frozen,
        };
        decide(&input).resources.into_iter().map(|r| r.outcome).collect()
    };
    use Outcome::*;
    assert_eq!(outcomes(birch("TREAT"), NOW_MS, false), [Permit, Deny, Permit, Deny, Indeterminate]);
    assert_eq!(outcomes(birch("HMARKT"), NOW_MS, false), [NoConsent; 5]);
    assert_eq!(outcomes(birch("POPHLTH"), NOW_MS, false), [NoConsent, Deny, NoConsent, Deny, Indeterminate]);
    assert_eq!(
        outcomes(Request::access(vec![organization("dogwood")], "TREAT"), NOW_MS, false),
        [NoConsent; 5]
    );
    assert_eq!(outcomes(birch("TREAT"), NOW_MS, true), [Deny; 5]);
    let new_year_2031 = 1_924_992_000_000;
    assert_eq!(outcomes(birch("TREAT"), new_year_2031 - 1, false)[0], Permit, "the end is inclusive");
    assert_eq!(outcomes(birch("TREAT"), new_year_2031, false), [NoConsent; 5]);
    let new_year_2026 = 1_767_225_600_000;
    assert_eq!(outcomes(birch("TREAT"), new_year_2026 - 1, false), [NoConsent; 5]);
    assert_eq!(outcomes(birch("TREAT"), new_year_2026, false)[0], Permit);
}

#[test]
fn the_patient_is_told_what_it_says() {
    let imported = import_consent(DEMO.as_bytes()).expect("importable");
    assert_eq!(
        imported.sentences,
        [
            "Permit any use by urn:assent:organization|birch for TREAT from 2026-01-01 through 2030-12-31, \
             unless a rule below denies it.",
            "Rule 1: deny records labelled PSY.",
        ]
    );
}

#[test]
fn the_stored_form_reads_back_and_refuses_the_unknown() {
    let consent = import_consent(DEMO.as_bytes()).expect("importable").consent;
    let stored = serde_json::to_string(&consent).expect("serializable");
    assert_eq!(serde_json::from_str::<Consent>(&stored).expect("the same"), consent);
    let more = stored.replacen("\"labels\"", "\"kin\":[],\"labels\"", 1);
    assert!(more != stored && serde_json::from_str::<Consent>(&more).is_err());
}

#[test]
fn the_tables_are_the_committed_ones() {
    // Changing this line is approving another version of the algorithm.
    assert_eq!(
        hex::encode(tables_sha256()),
        "aa74843577580f9daef0b4a806fa90eceff21269dff0302aed3f3da63fb5f8c0"
    );
    assert!(is_purpose("TREAT") && is_sensitivity("PSY") && !is_purpose("PSY"));
    for line in TABLES_TSV.lines().skip(1) {
        let cells: Vec<_> = line.split('\t').collect();
        assert_eq!(cells.len(), 4, "{line}");
        assert!(["purpose", "sensitivity", "handling", "type"].contains(&cells[0]), "{line}");
    }
}
