//! What import accepts, and what it refuses by which name (CONSENT.md, FHIR R4 Consent).

use super::demo::DEMO;
use super::*;
use serde_json::{json, Value};

const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const TYPES: &str = "http://hl7.org/fhir/resource-types";

fn demo() -> Value {
    serde_json::from_str(DEMO).expect("JSON")
}

fn coding(system: &str, code: &str) -> Value {
    json!({"system": system, "code": code})
}

fn import(consent: &Value) -> Result<Imported, Vec<Issue>> {
    import_consent(consent.to_string().as_bytes())
}

/// Puts a value at a JSON pointer, whose parent exists; null removes it.
fn put(consent: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match consent.pointer_mut(parent).expect(pointer) {
        Value::Object(map) if value.is_null() => drop(map.remove(key)),
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        Value::Array(list) => list[key.parse::<usize>().expect("an index")] = value,
        _ => panic!("{pointer}"),
    }
}

/// One change of the demo's consent, the reason it is refused by, and where.
#[test]
#[rustfmt::skip] // a table, a row a line
fn refusals() {
    let practitioner = json!({"reference": "Practitioner/1"});
    let role = |code: &str| coding("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", code);
    let nested = |inner: Value| json!([inner]);
    let actor = "/provision/actor/0/reference";
    let inner = "/provision/provision/0";
    let at = |key: &str| format!("{inner}/{key}");
    let rows: Vec<(&str, String, Value, &str)> = vec![
        // What must be there, and in which form
        ("not-a-consent", "/resourceType".into(), json!("Contract"), "Consent.resourceType"),
        ("missing-field", "/status".into(), Value::Null, "Consent.status"),
        ("bad-status", "/status".into(), json!("on-hold"), "Consent.status"),
        ("wrong-type", "/status".into(), json!(1), "Consent.status"),
        ("missing-field", "/scope".into(), Value::Null, "Consent.scope"),
        ("missing-field", "/category".into(), Value::Null, "Consent.category"),
        ("missing-subject", "/patient".into(), Value::Null, "Consent.patient"),
        ("bad-reference", "/patient/reference".into(), json!("Group/1"), "Consent.patient"),
        ("unresolvable-reference", "/patient/reference".into(), json!("http://x.example/fhir/Patient/1"), "Consent.patient"),
        ("unresolvable-reference", "/patient".into(), json!({"identifier": {"system": "s", "value": "v"}}), "Consent.patient"),
        ("bad-date", "/dateTime".into(), json!("yesterday"), "Consent.dateTime"),
        ("bad-id", "/id".into(), json!("a b"), "Consent.id"),
        ("unknown-field", "/provision/exception".into(), json!(true), "Consent.provision.exception"),
        ("unknown-field", "/grantor".into(), json!([]), "Consent.grantor"),
        ("unknown-field", at("purposes"), json!([]), "Consent.provision.provision[0].purposes"),
        ("empty-list", "/provision/purpose".into(), json!([]), "Consent.provision.purpose"),
        ("empty-list", at("securityLabel"), json!([]), "Consent.provision.provision[0].securityLabel"),
        ("wrong-type", "/provision/purpose".into(), coding(ACT_REASON, "TREAT"), "Consent.provision.purpose"),
        ("wrong-type", inner.into(), json!("deny"), "Consent.provision.provision[0]"),
        ("empty-value", inner.into(), json!({}), "Consent.provision.provision[0]"),
        ("wrong-type", "/provision/type".into(), Value::Array(vec![]), "Consent.provision.type"),
        // Refuse also
        ("modifier-extension", "/modifierExtension".into(), json!([{}]), "Consent.modifierExtension"),
        ("modifier-extension", at("modifierExtension"), json!([{}]), "Consent.provision.provision[0].modifierExtension"),
        ("implicit-rules", "/implicitRules".into(), json!("urn:x"), "Consent.implicitRules"),
        ("unknown-extension", "/provision/extension".into(), json!([{"url": "urn:x"}]), "Consent.provision.extension"),
        ("unknown-extension", "/provision/actor/0/extension".into(), json!([{}]), "Consent.provision.actor[0].extension"),
        ("unknown-extension", "/provision/_type".into(), json!({}), "Consent.provision._type"),
        ("data-dependents", "/provision/data".into(), json!([{"meaning": "dependents", "reference": {"reference": "Observation/1"}}]), "Consent.provision.data"),
        ("mixed-data-meanings", "/provision/data".into(),
            json!([{"meaning": "instance", "reference": {"reference": "Observation/1"}}, {"meaning": "authoredby", "reference": practitioner}]),
            "Consent.provision.data"),
        ("unknown-code-system", "/provision/purpose/0/system".into(), json!("urn:x"), "Consent.provision.purpose[0]"),
        ("unknown-code-system", "/category/0/coding/0/system".into(), json!("urn:x"), "Consent.category[0].coding[0]"),
        ("unknown-code", "/provision/purpose/0/code".into(), json!("TREATMENT"), "Consent.provision.purpose[0]"),
        ("unknown-code", at("securityLabel/0/code"), json!("PSI"), "Consent.provision.provision[0].securityLabel[0]"),
        ("unknown-code", at("securityLabel/0/code"), json!("_ActInformationSensitivityPolicy"), "Consent.provision.provision[0].securityLabel[0]"),
        ("unknown-code", at("class"), nested(coding(TYPES, "Observatoin")), "Consent.provision.provision[0].class[0]"),
        ("unknown-code", at("type"), json!("forbid"), "Consent.provision.provision[0].type"),
        ("code-without-system", "/provision/purpose/0/system".into(), Value::Null, "Consent.provision.purpose[0]"),
        ("uncoded-concept", "/scope".into(), json!({"text": "privacy"}), "Consent.scope"),
        ("uncoded-concept", "/provision/purpose/0/code".into(), Value::Null, "Consent.provision.purpose[0]"),
        ("value-set-as-system", "/provision/purpose/0/system".into(), json!("http://terminology.hl7.org/ValueSet/v3-PurposeOfUse"), "Consent.provision.purpose[0]"),
        ("mixed-labels", at("securityLabel"), json!([coding(ACT_CODE, "PSY"), coding(CONFIDENTIALITY, "R")]), "Consent.provision.provision[0].securityLabel"),
        ("data-period-with-time", at("dataPeriod"), json!({"start": "2020-01-01T00:00:00Z"}), "Consent.provision.provision[0].dataPeriod"),
        ("imprecise-date-on-deny", at("period"), json!({"end": "2027"}), "Consent.provision.provision[0].period"),
        ("imprecise-date-on-deny", at("period"), json!({"start": "2026-05"}), "Consent.provision.provision[0].period"),
        ("recipient-role", "/provision/actor/0/role/coding/0".into(), role("CST"), "Consent.provision.actor[0].role.coding[0]"),
        ("recipient-role", "/provision/actor/0/role/coding/0".into(), role("AUT"), "Consent.provision.actor[0].role.coding[0]"),
        ("unknown-code", "/provision/actor/0/role/coding/0".into(), role("WIT"), "Consent.provision.actor[0].role.coding[0]"),
        ("missing-field", "/provision/actor/0/role".into(), Value::Null, "Consent.provision.actor[0].role"),
        ("missing-field", actor.into(), Value::Null, "Consent.provision.actor[0].reference"),
        ("display-only-reference", actor.into(), json!({"display": "Birch Clinic"}), "Consent.provision.actor[0].reference"),
        ("unresolvable-reference", actor.into(), json!({"reference": "#birch"}), "Consent.provision.actor[0].reference"),
        ("unresolvable-reference", actor.into(), json!({"reference": "urn:uuid:0"}), "Consent.provision.actor[0].reference"),
        ("unresolvable-reference", actor.into(), json!({"identifier": {"value": "birch"}}), "Consent.provision.actor[0].reference"),
        ("ambiguous-reference", actor.into(), json!({"reference": "Organization/1", "identifier": {"system": "s", "value": "v"}}), "Consent.provision.actor[0].reference"),
        ("bad-reference", actor.into(), json!({"reference": "Organization/1", "type": "Practitioner"}), "Consent.provision.actor[0].reference"),
        ("display-only-reference", "/performer".into(), json!([{"display": "the mother"}]), "Consent.performer[0]"),
        ("not-verified", "/verification".into(), json!([{"verified": false}]), "Consent.verification[0]"),
        ("unsupported-scope", "/scope/coding/0/code".into(), json!("treatment"), "Consent.scope.coding[0]"),
        ("unsupported-scope", "/scope/coding/0/code".into(), json!("adr"), "Consent.scope.coding[0]"),
        ("unsupported-category", "/category/0/coding/0".into(), coding(ACT_CODE, "EMRGONLY"), "Consent.category[0].coding[0]"),
        // Root
        ("base-undefined", "/provision".into(), Value::Null, "Consent.provision"),
        ("base-contradiction", "/policyRule".into(), json!({"coding": [coding(ACT_CODE, "OPTOUT")]}), "Consent.provision.type"),
        ("base-contradiction", "/policyRule".into(), json!({"coding": [coding(ACT_CODE, "OPTOUT"), coding(ACT_CODE, "OPTIN")]}), "Consent.policyRule"),
        ("untyped-root-limit", "/provision/type".into(), Value::Null, "Consent.provision"),
        ("unsupported-policy-rule", "/policyRule".into(), json!({"coding": [coding(ACT_CODE, "OPTINR")]}), "Consent.policyRule.coding[0]"),
        // Nesting
        ("ambiguous-nesting", at("type"), json!("permit"), "Consent.provision.provision"),
        ("ambiguous-nesting", at("type"), Value::Null, "Consent.provision.provision"),
        ("ambiguous-nesting", "/provision/provision".into(), json!([{"type": "deny"}, {"type": "permit"}]), "Consent.provision.provision"),
        ("ambiguous-nesting", "/provision/class".into(), json!([coding(TYPES, "Observation")]), "Consent.provision.provision"),
        ("ambiguous-nesting", at("provision"), json!([{"type": "deny"}]), "Consent.provision.provision"),
        ("too-many-rules", "/provision/provision".into(), json!(vec![json!({"type": "deny"}); 10_000]), "Consent.provision"),
        ("empty-period", "/provision/period".into(), json!({"start": "2026-02-01", "end": "2026-01-01"}), "Consent.provision.period"),
        ("bad-date", "/provision/period/end".into(), json!("2030-02-30"), "Consent.provision.period.end"),
        ("bad-date", "/provision/period/end".into(), json!("2030-02-20T10:00:00"), "Consent.provision.period.end"),
        // Valid, and beyond the narrowed scope
        ("unsupported-actor-kind", actor.into(), json!({"reference": "Device/1"}), "Consent.provision.actor[0].reference"),
        ("code-without-system", at("code"), json!([{"coding": [{"code": "1-1"}]}]), "Consent.provision.provision[0].code[0].coding[0]"),
        ("uncoded-concept", at("code"), json!([{"text": "blood pressure"}]), "Consent.provision.provision[0].code[0]"),
        ("value-set-as-system", at("code"), json!([{"coding": [coding("http://x.example/ValueSet/bp", "1-1")]}]), "Consent.provision.provision[0].code[0].coding[0]"),
        ("imprecise-date-on-deny", at("dataPeriod"), json!({"start": "2020"}), "Consent.provision.provision[0].dataPeriod"),
        ("empty-period", at("dataPeriod"), json!({"start": "2020-02-01", "end": "2020-01-01"}), "Consent.provision.provision[0].dataPeriod"),
        ("bad-date", at("dataPeriod"), json!({"start": "10000-01-01"}), "Consent.provision.provision[0].dataPeriod.start"),
        ("bad-date", "/provision/period/end".into(), json!("10000-01-01"), "Consent.provision.period.end"),
        ("unsupported-related-data", at("data"), json!([{"meaning": "related", "reference": {"reference": "Task/1"}}]), "Consent.provision.provision[0].data[0].reference"),
        ("unresolvable-reference", at("data"), json!([{"meaning": "instance", "reference": {"identifier": {"system": "s", "value": "v"}}}]), "Consent.provision.provision[0].data[0].reference"),
        ("unknown-code", at("data"), json!([{"meaning": "kin", "reference": {"reference": "Observation/1"}}]), "Consent.provision.provision[0].data[0].meaning"),
        ("missing-field", at("data"), json!([{"reference": {"reference": "Observation/1"}}]), "Consent.provision.provision[0].data[0].meaning"),
        ("missing-field", at("data"), json!([{"meaning": "instance"}]), "Consent.provision.provision[0].data[0].reference"),
        ("bad-identifier", actor.into(), json!({"identifier": {"system": "a|b", "value": "c"}}), "Consent.provision.actor[0].reference.identifier"),
        ("hidden-characters", actor.into(), json!({"identifier": {"system": "urn:assent:organization", "value": "bir\u{200b}ch"}}), "Consent.provision.actor[0].reference.identifier"),
        ("hidden-characters", actor.into(), json!({"identifier": {"system": "urn:assent:organization", "value": "\u{202e}hcrib"}}), "Consent.provision.actor[0].reference.identifier"),
        ("hidden-characters", actor.into(), json!({"identifier": {"system": "urn:assent:organization", "value": "birch\u{7}"}}), "Consent.provision.actor[0].reference.identifier"),
        ("unsupported-class", at("class"), nested(coding("urn:ietf:bcp:13", "application/hl7-cda+xml")), "Consent.provision.provision[0].class[0]"),
        ("unsupported-label", at("securityLabel/0/code"), json!("42CFRPart2"), "Consent.provision.provision[0].securityLabel[0]"),
        ("unsupported-profile", "/meta".into(), json!({"profile": ["https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit"]}), "Consent.meta.profile"),
        ("unsupported-contained", "/contained".into(), json!([]), "Consent.contained"),
        ("multiple-codings", "/provision/action".into(), json!([{"coding": [
            coding("http://terminology.hl7.org/CodeSystem/consentaction", "access"),
            coding("http://terminology.hl7.org/CodeSystem/consentaction", "use")]}]), "Consent.provision.action[0]"),
    ];
    assert!(import(&demo()).is_ok());
    for (reason, pointer, value, expression) in rows {
        let mut consent = demo();
        put(&mut consent, &pointer, value);
        let issues = import(&consent).expect_err(&format!("{reason} at {pointer}"));
        let found = issues.iter().any(|i| i.reason == reason && i.expression == expression && i.severity == Severity::Error);
        assert!(found, "{reason} at {expression}: {issues:#?}");
    }
}

#[test]
fn malformed_bytes() {
    let reason = |bytes: &[u8]| import_consent(bytes).expect_err("refused").remove(0).reason;
    assert_eq!(reason(b""), "not-json");
    assert_eq!(reason(b"{} {}"), "not-json");
    assert_eq!(reason(b"\xff"), "not-json");
    assert_eq!(reason(b"[]"), "wrong-type");
    assert_eq!(
        reason(DEMO.replacen("\"type\": \"deny\"", "\"type\": \"deny\", \"type\": \"permit\"", 1).as_bytes()),
        "duplicate-key"
    );
    assert_eq!(
        reason(DEMO.replacen("\"type\"", "\"ty\\u0070e\": \"deny\", \"type\"", 1).as_bytes()),
        "duplicate-key"
    );
    assert_eq!(reason(&[b"[".repeat(100), b"]".repeat(100)].concat()), "too-deep");
    assert_eq!(reason(&b"[".repeat(1_000_000)), "too-deep");
    assert_eq!(reason(&b" ".repeat(MAX_CONSENT_BYTES + 1)), "too-large");
}

#[test]
fn an_issue_is_an_operation_outcome() {
    let mut consent = demo();
    put(&mut consent, "/provision/provision/0/type", json!("permit"));
    let issues = import(&consent).expect_err("refused");
    let outcome = operation_outcome(&issues);
    assert_eq!(outcome["resourceType"], "OperationOutcome");
    let issue = &outcome["issue"][0];
    assert_eq!((&issue["severity"], &issue["code"]), (&json!("error"), &json!("business-rule")));
    assert_eq!(issue["details"]["coding"][0], json!({"system": ISSUE_SYSTEM, "code": "ambiguous-nesting"}));
    assert_eq!(issue["expression"], json!(["Consent.provision.provision"]));
}

#[test]
#[rustfmt::skip] // a table, a row a line
fn root_shapes() {
    let opt = |code: &str| json!({"coding": [coding(ACT_CODE, code)]});
    let label = json!([coding(ACT_CODE, "PSY")]);
    let research = json!({"coding": [coding("http://terminology.hl7.org/CodeSystem/consentscope", "research")]});
    for (policy, root, base, root_rule, nested) in [
        (Some("OPTIN"), None, Base::Permit, None, 0),
        (Some("OPTOUT"), None, Base::Deny, None, 0),
        (None, Some(json!({"type": "permit"})), Base::Permit, None, 0),
        (Some("OPTIN"), Some(json!({"type": "permit"})), Base::Permit, None, 0),
        (None, Some(json!({"type": "deny"})), Base::Deny, None, 0),
        (None, Some(json!({"type": "permit", "securityLabel": label})), Base::Limit, Some(Effect::Permit), 0),
        (None, Some(json!({"type": "deny", "class": [coding(TYPES, "Observation")]})), Base::None, Some(Effect::Deny), 0),
        (None, Some(json!({"type": "deny", "provision": [{"type": "permit"}, {"type": "permit"}]})), Base::Deny, None, 2),
        (None, Some(json!({"type": "deny", "provision": [{"type": "deny", "securityLabel": label}]})), Base::Deny, None, 1),
        (Some("OPTIN"), Some(json!({"provision": [{"type": "deny"}]})), Base::Permit, None, 1),
        (Some("OPTIN"), Some(json!({"period": {"start": "2026-01-01"}, "provision": [{"type": "deny"}]})), Base::Permit, None, 1),
    ] {
        let mut consent = demo();
        put(&mut consent, "/provision", root.clone().unwrap_or(Value::Null));
        put(&mut consent, "/policyRule", policy.map_or(Value::Null, opt));
        let found = import(&consent).unwrap_or_else(|issues| panic!("{root:?}: {issues:#?}")).consent;
        assert_eq!((found.base, found.root_rule.map(|r| r.clause.effect), found.rules.len()), (base, root_rule, nested), "{root:?}");
    }
    let mut consent = demo();
    put(&mut consent, "/scope", research);
    assert_eq!(import(&consent).expect("fine").consent.context.purposes, texts(&["TREAT"]));
    put(&mut consent, "/provision/purpose", Value::Null);
    assert_eq!(import(&consent).expect("fine").consent.context.purposes, texts(&["HRESCH"]), "research means HRESCH");
    put(&mut consent, "/provision", json!({"period": {"end": "2030-01-01"}}));
    put(&mut consent, "/policyRule", opt("OPTIN"));
    let issues = import(&consent).expect_err("a period with nothing nested");
    assert_eq!(issues[0].reason, "untyped-root-limit");
}

#[test]
fn statuses_and_legal_basis() {
    for (status, state) in [
        ("draft", ConsentState::Proposed),
        ("proposed", ConsentState::Proposed),
        ("active", ConsentState::Active),
        ("rejected", ConsentState::Rejected),
        ("inactive", ConsentState::Superseded),
        ("entered-in-error", ConsentState::EnteredInError),
    ] {
        let mut consent = demo();
        put(&mut consent, "/status", json!(status));
        assert_eq!(import(&consent).expect(status).consent.state, state);
    }
    let mut consent = demo();
    put(&mut consent, "/policyRule", json!({"coding": [coding(ACT_CODE, "42CFRPart2")]}));
    let found = import(&consent).expect("fine").consent;
    assert!(found.legal_basis.is_some_and(LegalBasis::is_part2));
    assert_eq!(found.obligations, ["NORDSCLCD"]);
}

/// "Self-pay restriction" is a legal basis; which recipient is a plan isn't known offline.
#[test]
fn the_self_pay_restriction_is_noted() {
    for (system, code) in [
        (ACT_CODE, "HIPAASelfPay"),
        ("http://terminology.hl7.org/CodeSystem/consentpolicycodes", "hipaa-self-pay"),
    ] {
        let mut consent = demo();
        put(&mut consent, "/policyRule", json!({"coding": [coding(system, code)]}));
        let found = import(&consent).expect("fine");
        assert_eq!(found.consent.legal_basis, Some(LegalBasis::SelfPayRestriction));
        assert_eq!(found.notes[0].reason, "self-pay-needs-registry");
    }
}

const IHE: &str = "https://profiles.ihe.net/ITI/PCF/StructureDefinition/IHE.PCF.consentAdvanced";

/// "IHE: types are explicit and may equal the root's"; one list, one group.
#[test]
fn ihes_reading_is_by_profile() {
    let label = |effect: &str, code: &str| json!({"type": effect, "securityLabel": [coding(ACT_CODE, code)]});
    let list = json!([label("deny", "PSY"), label("permit", "HIV")]);
    let root = json!({"type": "permit", "class": [coding(TYPES, "Observation")], "provision": list});
    let mut consent = demo();
    put(&mut consent, "/provision", root);
    let issues = import(&consent).expect_err("two readings");
    assert_eq!(issues[0].reason, "ambiguous-nesting");

    put(&mut consent, "/meta", json!({"profile": [IHE]}));
    let found = import(&consent).expect("one reading").consent;
    let shape: Vec<_> =
        found.rules.iter().map(|r| (r.id.as_str(), r.group, r.depth, r.clause.effect)).collect();
    assert_eq!(
        shape,
        [("0", 1, 1, Effect::Permit), ("1", 1, 2, Effect::Deny), ("2", 1, 3, Effect::Permit)],
        "root data at 1, forbids at 2, permits at 3"
    );
    assert_eq!((found.base, found.root_rule), (Base::Limit, None));
    assert!(found.rules.iter().all(|rule| rule.within.is_empty()), "not the root's data");

    put(&mut consent, "/provision/provision/0/type", Value::Null);
    assert_eq!(import(&consent).expect_err("explicit")[0].reason, "untyped-provision");
    put(&mut consent, "/provision/provision/0", json!({"type": "deny", "provision": [{"type": "permit"}]}));
    assert_eq!(import(&consent).expect_err("one list")[0].reason, "ambiguous-nesting");
}

/// "In the R5 reading of nesting a nested rule also carries its ancestors' conditions."
#[test]
fn r5s_reading_nests() {
    let mut consent = demo();
    let inner = json!({"type": "permit", "purpose": [coding(ACT_REASON, "COC")]});
    let outer = json!({"type": "deny", "class": [coding(TYPES, "Condition")], "provision": [inner]});
    put(&mut consent, "/provision/provision", json!([outer, {"type": "deny"}]));
    let found = import(&consent).expect("deeper and alternating");
    let rules = &found.consent.rules;
    let shape: Vec<_> = rules.iter().map(|r| (r.id.as_str(), r.group, r.depth, r.within.len())).collect();
    assert_eq!(shape, [("1", 1, 1, 0), ("1.1", 1, 2, 1), ("2", 2, 1, 0)]);
    assert_eq!(rules[1].within[0], rules[0].clause);
    assert_eq!(
        found.sentences[2],
        "Rule 1.1: permit records for COC of what the rule that it is nested in covers."
    );
    put(&mut consent, "/provision/class", json!([coding(TYPES, "Condition")]));
    let rules = import(&consent).expect("R5's alone").consent.rules;
    assert_eq!(rules[1].within.len(), 2, "the root's data too");
}

#[test]
fn periods_end_inclusive_to_their_precision() {
    let ms = |text: &str| {
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
            .map(|at| i64::try_from(at.unix_timestamp_nanos() / 1_000_000).expect("in range"))
            .expect(text)
    };
    for (start, end, from, to) in [
        ("2026", "2027", "2026-01-01T00:00:00Z", "2028-01-01T00:00:00Z"),
        ("2026-02", "2028-02", "2026-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("2026-02-03", "2026-12-31", "2026-02-03T00:00:00Z", "2027-01-01T00:00:00Z"),
        (
            "2026-01-01T10:00:00+02:00",
            "2026-01-01T10:00:00-05:30",
            "2026-01-01T08:00:00Z",
            "2026-01-01T15:30:01Z",
        ),
        (
            "2026-01-01T00:00:00.5Z",
            "2026-01-01T10:00:00.25Z",
            "2026-01-01T00:00:00.5Z",
            "2026-01-01T10:00:00.26Z",
        ),
        ("9998", "9999-12-31", "9998-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"),
    ] {
        let mut consent = demo();
        put(&mut consent, "/provision/provision", Value::Null);
        put(&mut consent, "/provision/period", json!({"start": start, "end": end}));
        let valid = import(&consent).expect(start).consent.context.valid;
        let sentences = import(&consent).expect(start).sentences;
        assert!(
            sentences[0].contains(" from 9998-01-01 through 9999-12-31") || start != "9998",
            "{sentences:?}"
        );
        let last = if end.starts_with("9999") { 1 } else { 0 };
        assert_eq!(
            (valid.start_ms, valid.end_ms.map(|e| e - last)),
            (Some(ms(from)), Some(ms(to))),
            "{start}..{end}"
        );
    }
}

#[test]
fn the_id_is_the_consents_own_or_its_identifiers() {
    let mut consent = demo();
    assert_eq!(import(&consent).expect("fine").consent.id, "demo");
    put(&mut consent, "/id", Value::Null);
    assert_eq!(import(&consent).expect("fine").consent.id, "", "for the caller to assign");
    put(&mut consent, "/identifier", json!([{"value": "x"}, {"system": "urn:s", "value": "7"}]));
    assert_eq!(import(&consent).expect("fine").consent.id, "urn:s|7");
}

#[test]
fn what_is_only_worth_knowing_is_a_note() {
    let mut consent = demo();
    put(&mut consent, "/extension", json!([{"url": "urn:x"}]));
    let notes = import(&consent).expect("fine").notes;
    let reasons: Vec<_> = notes.iter().map(|n| (n.reason, n.severity)).collect();
    let information = Severity::Information;
    assert_eq!(reasons, [("extension-not-evaluated", information), ("root-type-is-base", information)]);
}

#[test]
fn every_attribute_of_a_rule_arrives() {
    let mut consent = demo();
    let action =
        |code: &str| json!({"coding": [coding("http://terminology.hl7.org/CodeSystem/consentaction", code)]});
    let grantee = json!({
        "role": {"coding": [coding("http://terminology.hl7.org/CodeSystem/v3-RoleCode", "GRANTEE")]},
        "reference": {"reference": "Organization/e", "display": "Elm"},
    });
    let levels = json!([coding(CONFIDENTIALITY, "V"), coding(CONFIDENTIALITY, "R")]);
    let rule = json!({
        "id": "x", "type": "deny", "period": {"start": "2027-01-01"}, "actor": [grantee],
        "action": [action("use"), action("access")], "purpose": [coding(ACT_REASON, "ETREAT")],
        "class": [coding(TYPES, "Condition")], "securityLabel": levels,
        "code": [{"coding": [coding("http://loinc.org", "1-1")]}], "dataPeriod": {"start": "2020-01-01", "end": "2020-12-31"},
        "data": [{"meaning": "authoredby", "reference": {"reference": "Practitioner/9"}}],
    });
    put(&mut consent, "/provision/provision", json!([rule]));
    let imported = import(&consent).expect("importable");
    let clause = Clause {
        valid: Period { start_ms: Some(1_798_761_600_000), end_ms: None },
        recipients: Some(vec![Recipient::Organization(Reference::Literal("Organization/e".into()))]),
        purposes: texts(&["ETREAT"]),
        actions: texts(&["use", "access"]),
        data: DataFilter {
            types: texts(&["Condition"]),
            codes: Some(vec![Code { system: Some("http://loinc.org".into()), code: "1-1".into() }]),
            confidentiality: Some(Conf::R),
            dates: Some(DayRange { first: Some(18_262), last: Some(18_627) }),
            authors: Some(vec![Reference::Literal("Practitioner/9".into())]),
            ..Default::default()
        },
        ..Clause::of(Effect::Deny)
    };
    let expected = Rule { clause, ..super::rule(1, Effect::Deny) };
    assert_eq!(imported.consent.rules, [expected], "several levels of a deny: it and higher, so the lowest");
    assert_eq!(
        imported.sentences[1],
        "Rule 1: deny Condition records coded http://loinc.org|1-1 of confidentiality R (restricted) or higher dated at \
         least partly from 2020-01-01 through 2020-12-31 written by Practitioner/9 for use or access by organization \
         Organization/e for ETREAT from 2027-01-01."
    );
    let levels = json!([coding(CONFIDENTIALITY, "L"), coding(CONFIDENTIALITY, "N")]);
    put(&mut consent, "/provision", json!({"type": "permit", "securityLabel": levels}));
    let root = import(&consent).expect("importable").consent.root_rule.expect("root data");
    assert_eq!(
        (root.id.as_str(), root.clause.data.confidentiality),
        ("0", Some(Conf::N)),
        "of a permit: the highest"
    );
}
