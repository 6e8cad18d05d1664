//! FHIR: consents and records.

use std::sync::LazyLock;

use assent_ledger::consent::{
    consent_head, describe_resource, export_consent, import_consent, import_consent_leniently, Recorded,
};

use super::edit::Form;
use super::given;

macro_rules! consents {
    ($($name:literal),* $(,)?) => { &[$(include_bytes!(concat!("../../../tests/fixtures/consents/", $name, ".json")) as &[u8]),*] };
}

/// Cases of the fixtures.
const CASES: &[&[u8]] = consents![
    "action",
    "all-deny-tree",
    "author",
    "code",
    "date",
    "deny-confidentiality",
    "deny-sensitivity",
    "encounter",
    "group",
    "ihe-basic",
    "ihe-break-glass-only",
    "ihe-by-author",
    "ihe-by-data",
    "ihe-not-timeframe",
    "ihe-psy-for-one",
    "ihe-research",
    "ihe-root-data",
    "ihe-timeframe",
    "instance",
    "nested-r5-with-root-data",
    "nested-r5",
    "not-this-group",
    "not-this-practitioner",
    "opt-in-with-exception",
    "opt-out",
    "organization-by-identifier",
    "organization-or-practitioner",
    "organization",
    "part-2",
    "period",
    "permit-confidentiality",
    "permit-date",
    "permit-sensitivity",
    "practitioner-only",
    "psychotherapy-notes",
    "research-opt-out",
    "research-scope",
    "role",
    "type",
];

/// Their consents.
static GOOD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let consent =
        |case: &&[u8]| serde_json::from_slice::<serde_json::Value>(case).unwrap()["consent"].to_string();
    CASES.iter().map(|case| consent(case).into_bytes()).collect()
});

/// What is imported strictly is imported leniently and alike, and comes back from its export.
pub fn consent(input: &[u8]) {
    let Some(given) = given(input, Form::Text, &GOOD) else { return };
    let bytes = given.bytes.as_slice();
    let (strict, lenient, head) =
        (import_consent(bytes), import_consent_leniently(bytes), consent_head(bytes));
    drop(describe_resource(bytes));
    let recorded = Recorded { consent_id: "c".into(), revision: 1, height: 2, commitment: [3; 32] };
    let exported = export_consent(bytes, &recorded);
    if let Err(issues) = &lenient {
        assert!(!issues.is_empty() && strict.is_err());
    }
    let Ok(imported) = strict else { return };
    assert_eq!(lenient.as_ref(), Ok(&imported));
    let consent = &imported.consent;
    assert_eq!(
        (&head.id, head.state, head.subject.as_ref()),
        (&consent.id, Some(consent.state), Some(&consent.subject))
    );
    let again = export_consent(&exported.clone().expect("what was imported is exported"), &recorded);
    assert_eq!(exported, again, "an export of an export is another one");
    let again = import_consent(&exported.unwrap()).expect("what was exported is imported");
    assert_eq!((&again.consent, &again.sentences), (consent, &imported.sentences));
}
