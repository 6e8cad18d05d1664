//! The default policy: INTERFACES.md's JSON, and CONSENT.md, Decision 3, 5 and 7.

use super::*;

const POLICY: &str = r#"{"id":"cedar","version":3,"rules":[
    {"effect":"PERMIT","purposes":["TREAT","POPHLTH"]},
    {"effect":"PERMIT","purposes":["HMARKT"]},
    {"effect":"DENY","organizations":["urn:assent:organization|elm"]}],
  "break_glass":{"groups":["Group/er"],"purposes":["BTG"],"overrides_deny":false,"overrides_frozen":false},
  "unlabelled":{"assume":"N","purposes":["TREAT"]}}"#;

fn policy() -> DefaultPolicy {
    DefaultPolicy::parse(POLICY.as_bytes()).expect("the policy above")
}

#[test]
fn speaks_where_no_consent_does() {
    let elm = Request::access(vec![organization("elm")], "TREAT");
    let note = record(Conf::R, &["PSYTHPN"]);
    let part2 = ResourceDescriptor { handling: vec!["42CFRPart2".into()], ..record(Conf::R, &["SUD"]) };
    let revoked = Consent { state: ConsentState::Revoked, ..consent(Base::Limit) };
    let elsewhere = Consent {
        context: Context { purposes: texts(&["HPAYMT"]), ..Default::default() },
        ..consent(Base::Deny)
    };
    let normal = || record(Conf::N, &[]);
    for (clause, consents, request, record, expected) in [
        ("7: falls to the default", vec![], birch("TREAT"), normal(), Outcome::Permit),
        ("7: a consent that says nothing here", vec![elsewhere], birch("TREAT"), normal(), Outcome::Permit),
        ("7: descendants", vec![], birch("COC"), normal(), Outcome::Permit),
        ("8: must be named", vec![], birch("CLINTRL"), normal(), Outcome::NoConsent),
        ("8: named", vec![], birch("POPHLTH"), normal(), Outcome::Permit),
        ("3: HMARKT is never a default", vec![], birch("HMARKT"), normal(), Outcome::NoConsent),
        ("DENY wins", vec![], elm, normal(), Outcome::Deny),
        ("no rule", vec![], birch("HPAYMT"), normal(), Outcome::NoConsent),
        ("a consent goes first", vec![consent(Base::Deny)], birch("TREAT"), normal(), Outcome::Deny),
        ("LIMIT: by no default", vec![consent(Base::Limit)], birch("TREAT"), normal(), Outcome::NoConsent),
        ("LIMIT stands when revoked", vec![revoked], birch("TREAT"), normal(), Outcome::NoConsent),
        ("3: psychotherapy notes have no default", vec![], birch("TREAT"), note, Outcome::NoConsent),
        ("3: Part 2 has no default", vec![], birch("TREAT"), part2, Outcome::NoConsent),
    ] {
        assert_eq!(decided_with(&consents, Some(&policy()), &request, &record).outcome, expected, "{clause}");
    }
    let found = decided_with(&[], Some(&policy()), &birch("TREAT"), &record(Conf::N, &[]));
    assert_eq!(found.decided_by, [DecidedBy::DefaultPolicy { id: "cedar".into() }], "7: reported as that");
}

#[test]
fn unlabelled_records_are_assumed_normal_where_the_policy_says_so() {
    let no_psy = [Consent { rules: vec![labelled_rule(1, Effect::Deny, &["PSY"])], ..consent(Base::Permit) }];
    let found = |policy: Option<&DefaultPolicy>, purpose: &str, record: &ResourceDescriptor| {
        let found = decided_with(&no_psy, policy, &birch(purpose), record);
        (found.outcome, found.assumed_labels)
    };
    let policy = policy();
    assert_eq!(found(None, "TREAT", &unlabelled()), (Outcome::Indeterminate, false), "5: never by default");
    assert_eq!(found(Some(&policy), "TREAT", &unlabelled()), (Outcome::Permit, true));
    assert_eq!(found(Some(&policy), "COC", &unlabelled()), (Outcome::Permit, true), "5: and those below");
    assert_eq!(found(Some(&policy), "HPAYMT", &unlabelled()), (Outcome::Indeterminate, false));
    let some_label = ResourceDescriptor { sensitivity: vec!["HIV".into()], ..unlabelled() };
    assert_eq!(
        found(Some(&policy), "TREAT", &some_label),
        (Outcome::Indeterminate, false),
        "5: without any label"
    );
    assert_eq!(found(Some(&policy), "TREAT", &record(Conf::N, &[])), (Outcome::Permit, false));
}

#[test]
fn malformed_policies_are_refused() {
    for (from, to) in [
        (r#""version":3"#, r#""version":3,"extra":1"#),
        (r#""id":"cedar""#, r#""id":"cedar","id":"elm""#),
        (r#""id":"cedar""#, r#""id":"""#),
        (r#"["BTG"]"#, "[]"),
        (r#"["HMARKT"]"#, "[]"),
        (r#"["urn:assent:organization|elm"]"#, "[]"),
        (r#"["urn:assent:organization|elm"]"#, r#"["elm"]"#),
        (r#"["HMARKT"]"#, r#"["MARKETING"]"#),
        (r#""assume":"N""#, r#""assume":"U""#),
        (r#""effect":"DENY""#, r#""effect":"FORBID""#),
        (r#""effect":"DENY""#, r#""effect":"DENY","labels":["PSY"]"#),
        (r#""overrides_deny":false"#, r#""overrides_deny":"no""#),
    ] {
        assert!(POLICY.contains(from), "{from}");
        let text = POLICY.replacen(from, to, 1);
        assert!(DefaultPolicy::parse(text.as_bytes()).is_err(), "{from} -> {to}");
    }
    assert!(DefaultPolicy::parse(br#"{"id":"x","version":"1","rules":[]}"#).is_err());
    assert!(DefaultPolicy::parse(br#"{"id":"x","version":"1","rules":[{"effect":"DENY"}]}"#).is_ok());
}

#[test]
fn a_policy_survives_its_own_json() {
    let text = serde_json::to_vec(&policy()).expect("serializable");
    assert_eq!(DefaultPolicy::parse(&text), Ok(policy()));
}
