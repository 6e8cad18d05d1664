//! FHIR out (CONSENT.md, "Export gives back the same FHIR").

use super::demo::DEMO;
use super::*;
use serde_json::Value;

fn recorded(revision: u64) -> Recorded {
    Recorded { consent_id: "demo".into(), revision, height: 33, commitment: [0xab; 32] }
}

fn without_ours(exported: &[u8]) -> (Value, Vec<Value>) {
    let mut value: Value = serde_json::from_slice(exported).expect("JSON");
    let all = value["extension"].as_array().expect("extensions").clone();
    let (ours, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|e| e["url"] == LEDGER_EXTENSION);
    match others.is_empty() {
        true => drop(value.as_object_mut().expect("object").remove("extension")),
        false => value["extension"] = others.into(),
    }
    (value, ours)
}

#[test]
fn gives_back_the_same_with_one_extension() {
    let exported = export_consent(DEMO.as_bytes(), &recorded(2)).expect("exportable");
    let (rest, ours) = without_ours(&exported);
    assert_eq!(rest, serde_json::from_str::<Value>(DEMO).expect("JSON"));
    let parts = serde_json::json!([
        { "url": "consent", "valueString": "demo" }, { "url": "revision", "valueString": "2" },
        { "url": "height", "valueString": "33" }, { "url": "commitment", "valueString": "ab".repeat(32) },
    ]);
    assert_eq!((ours.len(), &ours[0]["extension"]), (1, &parts));
    let again = import_consent(&exported).expect("importable again").consent;
    assert_eq!(again, import_consent(DEMO.as_bytes()).expect("importable").consent);
}

#[test]
fn values_stay_as_they_are_written_and_an_older_extension_goes() {
    let other = r#"{"url":"urn:x","valueDecimal":1.50}"#;
    let fhir = DEMO.replacen("\"status\"", &format!("\"extension\":[{other}],\"status\""), 1);
    let once = export_consent(fhir.as_bytes(), &recorded(1)).expect("exportable");
    let twice = export_consent(&once, &recorded(2)).expect("exportable");
    assert!(String::from_utf8(twice.clone()).expect("UTF-8").contains(other), "1.50 is not 1.5");
    let (rest, ours) = without_ours(&twice);
    assert_eq!(rest, serde_json::from_str::<Value>(&fhir).expect("JSON"));
    assert_eq!((ours.len(), &ours[0]["extension"][1]["valueString"]), (1, &Value::from("2")));
    for bad in ["", "[]", "{", "{\"extension\":1}"] {
        assert_eq!(export_consent(bad.as_bytes(), &recorded(1)).expect_err(bad).reason, "not-json");
    }
}
