//! The registry: its JSON, who belongs where and when, and what a rule about an unknown group is.

use assent_ledger::consent::{Registry, RegistryFault};

use super::*;

const REGISTRY: &str = r#"{"organizations":[
    {"id":"birch","references":["Organization/birch-hospital","urn:oid:1.2|77"]},
    {"id":"payer","is_plan":true}],
  "groups":[
    {"id":"Group/icu","members":[
      {"organization":"birch","actor":"Practitioner/grey","valid":{"start":"2026-01-01T00:00:00Z","end":"2026-07-01T00:00:00+02:00"}},
      {"organization":"elm","actor":"Practitioner/grey","valid":{"start":"2027-01-01T00:00:00Z"}}]},
    {"id":"urn:x:teams|er","members":[{"organization":"birch","actor":"Practitioner/grey"}]}]}"#;

fn literal(text: &str) -> Reference {
    Reference::Literal(text.to_owned())
}

/// 2026-01-01T00:00:00Z.
const YEAR_2026_MS: i64 = 1_767_225_600_000;

#[test]
fn names_and_members_are_found() {
    let registry = Registry::parse(REGISTRY.as_bytes()).unwrap();
    let oid = Reference::Identifier { system: "urn:oid:1.2".into(), value: "77".into() };
    assert_eq!(registry.references("birch"), [literal("Organization/birch-hospital"), oid]);
    assert!(registry.references("elm").is_empty() && registry.references("payer").is_empty());
    assert!(registry.is_plan("payer") && !registry.is_plan("birch") && !registry.is_plan("elm"));
    assert_eq!(registry.organizations().into_iter().collect::<Vec<_>>(), ["birch", "elm", "payer"]);
    let (grey, er) = (
        literal("Practitioner/grey"),
        Reference::Identifier { system: "urn:x:teams".into(), value: "er".into() },
    );
    let icu = literal("Group/icu");
    // The end is that of 30 June, 22:00 UTC; it no longer counts at that millisecond, the start does.
    let end = YEAR_2026_MS + 181 * 86_400_000 - 2 * 3_600_000;
    for (at, expected) in [
        (YEAR_2026_MS - 1, vec![er.clone()]),
        (YEAR_2026_MS, vec![icu.clone(), er.clone()]),
        (end - 1, vec![icu.clone(), er.clone()]),
        (end, vec![er.clone()]),
    ] {
        assert_eq!(registry.groups_of("birch", &grey, at), expected, "{at}");
    }
    assert_eq!(registry.next_change("birch", &grey, YEAR_2026_MS - 1), Some(YEAR_2026_MS));
    assert_eq!(registry.next_change("birch", &grey, YEAR_2026_MS), Some(end));
    assert_eq!(registry.next_change("birch", &grey, end), None);
    // The same name in another organization's mouth is another person; a stranger belongs nowhere.
    assert!(registry.groups_of("elm", &grey, YEAR_2026_MS).is_empty());
    assert!(registry.groups_of("payer", &grey, YEAR_2026_MS).is_empty());
    assert!(registry.groups_of("birch", &literal("Practitioner/eve"), YEAR_2026_MS).is_empty());
    assert_eq!(registry.groups(), [icu, er]);
    assert_eq!(Registry::parse(b"{}"), Ok(Registry::default()));
}

#[test]
fn what_is_wrong_is_named() {
    let fault = |text: &str| Registry::parse(text.as_bytes()).expect_err(text).to_string();
    for (from, to, path) in [
        (r#""is_plan":true"#, r#""is_plan":true,"colour":1"#, "colour"),
        (r#""is_plan":true"#, r#""is_plan":1"#, "boolean"),
        (r#""id":"payer""#, r#""id":"payer","id":"p""#, "twice"),
        (r#""id":"payer""#, r#""id":"birch""#, "organizations: \"birch\" occurs twice"),
        (r#""id":"payer""#, r#""id":"Payer""#, "organizations[1].id"),
        (r#""is_plan":true"#, r#""references":[]"#, "organizations[1].references is an empty list"),
        (
            r#""is_plan":true"#,
            r#""references":["urn:oid:1.2|77"]"#,
            "references: \"urn:oid:1.2|77\" occurs twice",
        ),
        // No organization passes for another one of the network.
        (
            r#""is_plan":true"#,
            r#""references":["urn:assent:organization|birch"]"#,
            "organizations[1].references[0]",
        ),
        (r#""is_plan":true"#, r#""references":["Practitioner/1"]"#, "organizations[1].references[0]"),
        (r#""is_plan":true"#, r#""references":["payer"]"#, "organizations[1].references[0]"),
        ("Group/icu", "Practitioner/icu", "groups[0].id"),
        ("Group/icu", "urn:x:teams|er", "groups: \"urn:x:teams|er\" occurs twice"),
        (r#""organization":"elm""#, r#""organization":"birch""#, "groups[0].members"),
        (r#""organization":"elm""#, r#""organization":"""#, "groups[0].members[1].organization"),
        ("2027-01-01T00:00:00Z", "2027-01-01", "groups[0].members[1].valid.start"),
        ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00", "groups[0].members[1].valid.start"),
        ("2026-07-01T00:00:00+02:00", "2026-01-01T01:00:00+01:00", "groups[0].members[0].valid ends before"),
        (
            r#"[{"organization":"birch","actor":"Practitioner/grey"}]"#,
            "[]",
            "groups[1].members is an empty list",
        ),
        (r#""actor":"Practitioner/grey"}"#, r#""actor":"Patient/ada"}"#, "groups[1].members[0].actor"),
        (r#""actor":"Practitioner/grey"}"#, r#""actor":"Dr. Grey"}"#, "groups[1].members[0].actor"),
    ] {
        assert!(REGISTRY.contains(from), "{from}");
        let found = fault(&REGISTRY.replacen(from, to, 1));
        assert!(found.contains(path), "{to}: {found}");
    }
    assert!(fault("[]").contains("map") || fault("[]").contains("struct"));
    assert!(fault(r#"{"groups":[]}"#).contains("groups is an empty list"));
    let many: Vec<String> = (0..257).map(|n| format!(r#"{{"id":"o-{n}"}}"#)).collect();
    let many = format!(r#"{{"organizations":[{}]}}"#, many.join(","));
    assert!(matches!(
        Registry::parse(many.as_bytes()),
        Err(RegistryFault::TooMany { found: 257, max: 256, .. })
    ));
}

/// A consent may name a group that the registry never heard of: whether it speaks then, nobody can say.
#[test]
fn a_rule_about_an_unknown_group_is_unknown() {
    let outcome = |base, known: Option<Vec<Reference>>| {
        let recipients = Some(vec![Recipient::Group(literal("Group/icu"))]);
        let consents = [Consent { context: Context { recipients, ..Default::default() }, ..consent(base) }];
        let request = Request { groups: Some(vec![]), known_groups: known, ..birch("TREAT") };
        decided(&consents, &request, &record(Conf::N, &[])).outcome
    };
    let other = || Some(vec![literal("Group/er")]);
    let icu = || Some(vec![literal("Group/icu")]);
    for (base, known, expected) in [
        (Base::Deny, None, Outcome::NoConsent),
        (Base::Deny, icu(), Outcome::NoConsent),
        (Base::Deny, other(), Outcome::Indeterminate),
        (Base::Permit, icu(), Outcome::NoConsent),
        (Base::Permit, other(), Outcome::NoConsent),
    ] {
        assert_eq!(outcome(base, known.clone()), expected, "{base:?} {known:?}");
    }
}
