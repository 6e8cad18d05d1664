//! Consents as files: our own with their cases, and what is made of HL7's examples.

use super::*;
use serde_json::Value;

fn folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn moment(text: &str) -> i64 {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).expect(text);
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).expect(text)
}

/// One case of a fixture; says what was wrong.
fn check(consent: &Consent, case: &Value) -> Result<Outcome, String> {
    let request = Request::parse(case["request"].to_string().as_bytes()).map_err(|e| e.to_string())?;
    let record = describe_resource(case["record"].to_string().as_bytes()).map_err(|e| e.to_string())?;
    let at_ms = case["at"].as_str().map_or(NOW_MS, moment);
    let found = decide(&DecisionInput {
        consents: std::slice::from_ref(consent),
        policy: None,
        request: &request,
        resources: std::slice::from_ref(&record),
        at_ms,
        frozen: false,
    });
    let found = &found.resources[0];
    let rules: Vec<Value> = found
        .decided_by
        .iter()
        .filter_map(|who| match who {
            DecidedBy::Consent { rule, .. } => Some(rule.as_str().into()),
            _ => None,
        })
        .collect();
    let obligations = case.get("obligations").cloned().unwrap_or_else(|| serde_json::json!([]));
    let same = found.outcome.as_str() == case["outcome"]
        && Value::from(rules) == case["by"]
        && Value::from(found.obligations.clone()) == obligations;
    same.then_some(found.outcome).ok_or_else(|| format!("{found:?}"))
}

#[test]
fn every_fixture_is_importable_and_decides_as_written() {
    let mut files: Vec<_> =
        std::fs::read_dir(folder().join("consents")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "{}", files.len());
    let mut ihe = 0;
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let fixture: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let imported = import_consent(fixture["consent"].to_string().as_bytes())
            .unwrap_or_else(|issues| panic!("{name}: {issues:#?}"));
        assert_eq!(imported.consent.id, name);
        ihe += usize::from(fixture["consent"]["meta"].is_object());
        let outcomes: Vec<Outcome> = fixture["cases"]
            .as_array()
            .unwrap()
            .iter()
            .map(|case| {
                check(&imported.consent, case).unwrap_or_else(|e| panic!("{name}: {}: {e}", case["says"]))
            })
            .collect();
        assert!(
            outcomes.iter().any(|o| o.is_permitted()) && outcomes.iter().any(|o| !o.is_permitted()),
            "{name}"
        );
    }
    assert!(ihe >= 6, "{ihe}");
}

/// What is decided of HL7's own twelve, and why. None can be read without a guess: R4's text gives the root no type, and these
/// mean opposite things by a root's conditions ("basic" permits within its period, "notTime" denies within it).
#[test]
#[rustfmt::skip] // a table, a row a line
fn hl7s_examples() {
    let expected: [(&str, &[&str], &str); 12] = [
        ("Emergency", &["unsupported-category", "recipient-role", "untyped-root-limit"],
            "emergency only is in the category; an opt-out whose untyped root names ETREAT: permitted or denied?"),
        ("Out", &["recipient-role", "untyped-root-limit"],
            "an opt-out from one organization, named as custodian at an untyped root"),
        ("basic", &["untyped-root-limit"], "an opt-in with a bare period: permitted within it, and denied outside?"),
        ("grantor", &["recipient-role", "untyped-root-limit"], "a custodian among the recipients of an untyped root"),
        ("notAuthor", &["recipient-role", "untyped-root-limit"],
            "\"withhold what f001 wrote\", but it is written as the custodian of an opt-in"),
        ("notOrg", &["base-contradiction"], "the policyRule opts in, the root's type denies"),
        ("notThem", &["untyped-root-limit"], "an opt-in that means to deny a nurse: the untyped root says the opposite"),
        ("notThis", &["unsupported-related-data", "untyped-root-limit"],
            "what a Task refers to isn't written in the records; and permitted or denied?"),
        ("notTime", &["untyped-root-limit"], "as basic, but meant as a denial"),
        ("pkb", &["untyped-root-limit", "ambiguous-nesting"], "an opt-out with untyped exceptions, some equal to the root"),
        ("signature", &["recipient-role", "unsupported-class", "untyped-root-limit", "ambiguous-nesting"],
            "an author among the recipients, a MIME type as class, a permit nested in an opt-in"),
        ("smartonfhir", &["ambiguous-nesting"], "a permit nested in an opt-in: all else denied, or nothing?"),
    ];
    let text = std::fs::read_to_string(folder().join("hl7-r4-consent-examples.ndjson")).unwrap();
    // Its lines are in the order of file names, where capitals come first.
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), expected.len());
    for (line, (name, reasons, why)) in lines.iter().zip(expected) {
        assert!(line.contains(&format!("\"consent-example-{name}\"")), "{name}");
        for import in [import_consent, import_consent_leniently] {
            let issues = import(line.as_bytes()).expect_err(why);
            let mut found: Vec<&str> = issues.iter().map(|issue| issue.reason).collect();
            found.dedup();
            assert_eq!(found, reasons, "{name}: {why}");
        }
    }
}
