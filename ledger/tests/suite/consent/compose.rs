//! A directive as FHIR: it imports to just what was said, or is refused.

use proptest::prelude::*;

use super::*;

fn all(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn scope(change: impl FnOnce(&mut Scope)) -> Scope {
    let mut scope = Scope::default();
    change(&mut scope);
    scope
}

fn directive(effect: Effect, scope: Scope) -> Directive {
    Directive { effect, scope, valid_from_ms: None, valid_until_ms: None, exceptions: Vec::new() }
}

fn composed(directive: &Directive) -> Imported {
    let fhir = compose_consent(directive, "d-1", PATIENT, NOW_MS).expect("composed");
    import_consent(&fhir).unwrap_or_else(|issues| panic!("{}: {issues:#?}", String::from_utf8_lossy(&fhir)))
}

/// "An absent list means any."
fn listed(items: &[String]) -> Option<Vec<String>> {
    (!items.is_empty()).then(|| items.to_vec())
}

fn recipients(scope: &Scope) -> Option<Vec<Recipient>> {
    let organizations = scope.organizations.iter().map(|id| Recipient::Organization(organization(id)));
    let persons =
        scope.practitioners.iter().map(|text| Recipient::Practitioner(Reference::parse(text).expect(text)));
    let found: Vec<_> = organizations.chain(persons).collect();
    (!found.is_empty()).then_some(found)
}

fn data(scope: &Scope) -> DataFilter {
    let (types, labels) = (listed(&scope.resource_types), listed(&scope.sensitivity));
    DataFilter { types, labels, ..DataFilter::default() }
}

/// What a directive means, said a second time and without FHIR.
fn meant(directive: &Directive) -> Consent {
    let Directive { effect, scope, valid_from_ms, valid_until_ms, exceptions } = directive;
    let opposite = if *effect == Effect::Permit { Effect::Deny } else { Effect::Permit };
    let has_data = !data(scope).is_empty();
    let root_rule = Rule {
        id: "0".into(),
        group: 0,
        depth: 0,
        clause: Clause { data: data(scope), ..Clause::of(*effect) },
        within: Vec::new(),
    };
    let exception = |(n, exception): (usize, &Scope)| {
        let clause = Clause {
            recipients: recipients(exception),
            purposes: listed(&exception.purposes),
            actions: listed(&exception.actions),
            data: data(exception),
            ..Clause::of(opposite)
        };
        Rule { clause, ..super::rule(n as u32 + 1, opposite) }
    };
    Consent {
        id: "d-1".into(),
        context: Context {
            valid: Period { start_ms: *valid_from_ms, end_ms: *valid_until_ms },
            recipients: recipients(scope),
            purposes: listed(&scope.purposes),
            actions: listed(&scope.actions),
        },
        root_rule: has_data.then_some(root_rule),
        rules: exceptions.iter().enumerate().map(exception).collect(),
        ..consent(match (effect, has_data) {
            (Effect::Permit, false) => Base::Permit,
            (Effect::Permit, true) => Base::Limit,
            (Effect::Deny, false) => Base::Deny,
            (Effect::Deny, true) => Base::None,
        })
    }
}

#[test]
fn a_research_opt_out_denies_hresch_and_below_without_a_reason() {
    let opt_out = directive(Effect::Deny, scope(|s| s.purposes = all(&["HRESCH"])));
    let imported = composed(&opt_out);
    let fhir = compose_consent(&opt_out, "d-1", PATIENT, NOW_MS).expect("composed");
    let fhir: serde_json::Value = serde_json::from_slice(&fhir).expect("JSON");
    assert_eq!(fhir["scope"]["coding"][0]["code"], "research");
    assert_eq!(fhir["dateTime"], "2026-06-01T00:00:00.000Z");
    let policy = br#"{"id":"p","version":1,"rules":[{"effect":"PERMIT"}]}"#;
    let policy = DefaultPolicy::parse(policy).expect("a policy");
    let permit = consent(Base::Permit);
    for (purpose, outcome) in [
        ("HRESCH", Outcome::Deny),
        ("BIORCH", Outcome::Deny),
        ("CLINTRCHPC", Outcome::Deny),
        ("TREAT", Outcome::Permit),
        ("HPAYMT", Outcome::Permit),
    ] {
        for consents in [vec![imported.consent.clone()], vec![permit.clone(), imported.consent.clone()]] {
            for record in [record(Conf::N, &[]), record(Conf::R, &["PSY"]), unlabelled()] {
                let found = decided_with(&consents, Some(&policy), &birch(purpose), &record);
                assert_eq!(found.outcome, outcome, "{purpose}");
            }
        }
    }
}

#[test]
fn what_is_written_is_what_is_said() {
    let until = Some(1_798_761_600_000); // 2027-01-01
    let birch = || scope(|s| s.organizations = all(&["birch"]));
    let cases = [
        directive(Effect::Permit, Scope::default()),
        directive(Effect::Deny, Scope::default()),
        Directive { valid_until_ms: until, ..directive(Effect::Permit, birch()) },
        Directive { valid_from_ms: Some(NOW_MS + 1), ..directive(Effect::Deny, birch()) },
        Directive {
            valid_from_ms: Some(NOW_MS),
            valid_until_ms: Some(NOW_MS + 1),
            ..directive(Effect::Deny, birch())
        },
        directive(Effect::Permit, scope(|s| s.resource_types = all(&["Observation", "Condition"]))),
        directive(Effect::Deny, scope(|s| s.sensitivity = all(&["PSY"]))),
        directive(
            Effect::Deny,
            scope(|s| s.practitioners = all(&["Practitioner/eve", "urn:x|7", "Patient/q"])),
        ),
        Directive {
            exceptions: vec![
                scope(|s| s.sensitivity = all(&["PSY", "SUD"])),
                scope(|s| s.practitioners = all(&["Practitioner/eve"])),
            ],
            ..directive(Effect::Permit, birch())
        },
        Directive {
            exceptions: vec![scope(|s| {
                s.organizations = all(&["birch"]);
                s.purposes = all(&["TREAT"]);
                s.actions = all(&["access"]);
            })],
            ..directive(Effect::Deny, Scope::default())
        },
    ];
    for case in cases {
        assert_eq!(composed(&case).consent, meant(&case), "{case:?}");
    }
    // A day's end is written as the day.
    let until = Directive { valid_until_ms: until, ..directive(Effect::Permit, Scope::default()) };
    assert!(composed(&until).sentences[0].contains("through 2026-12-31"));
}

#[test]
#[rustfmt::skip] // a table, a row a line
fn what_can_not_be_said_without_a_guess_is_refused() {
    let permit = |change: fn(&mut Scope)| directive(Effect::Permit, scope(change));
    let but = |root: fn(&mut Scope), exception: fn(&mut Scope)| Directive {
        exceptions: vec![scope(exception)], ..directive(Effect::Deny, scope(root))
    };
    let during = |from, until| Directive { valid_from_ms: from, valid_until_ms: until, ..permit(|_| {}) };
    for (case, reason, field) in [
        (permit(|s| { s.organizations = all(&["a"]); s.practitioners = all(&["Practitioner/x"]); }), "MIXED_RECIPIENTS", "scope"),
        (permit(|s| s.organizations = all(&["a", "Organization/b"])), "UNKNOWN_CODE", "scope.organizations[1]"),
        (permit(|s| s.practitioners = all(&["eve"])), "UNKNOWN_CODE", "scope.practitioners[0]"),
        (permit(|s| s.practitioners = all(&["Organization/eve"])), "UNKNOWN_CODE", "scope.practitioners[0]"),
        (permit(|s| s.practitioners = all(&["Practitioner/e v e"])), "UNKNOWN_CODE", "scope.practitioners[0]"),
        (permit(|s| s.purposes = all(&["TREAT", "treat"])), "UNKNOWN_CODE", "scope.purposes[1]"),
        (permit(|s| s.purposes = all(&["PurposeOfUse"])), "UNKNOWN_CODE", "scope.purposes[0]"),
        (permit(|s| s.actions = all(&["read"])), "UNKNOWN_CODE", "scope.actions[0]"),
        (permit(|s| s.resource_types = all(&["Observations"])), "UNKNOWN_CODE", "scope.resource_types[0]"),
        (permit(|s| s.sensitivity = all(&["R"])), "UNKNOWN_CODE", "scope.sensitivity[0]"),
        (but(|_| {}, |s| s.purposes = all(&["x"])), "UNKNOWN_CODE", "exceptions[0].purposes[0]"),
        (but(|_| {}, |_| {}), "EMPTY_EXCEPTION", "exceptions[0]"),
        (but(|s| s.resource_types = all(&["Observation"]), |s| s.purposes = all(&["TREAT"])), "EXCEPTIONS_TO_DATA", "exceptions"),
        (but(|s| s.sensitivity = all(&["PSY"]), |s| s.purposes = all(&["TREAT"])), "EXCEPTIONS_TO_DATA", "exceptions"),
        (but(|s| s.organizations = all(&["a"]), |s| s.organizations = all(&["a", "b"])), "EXCEPTION_OUTSIDE_SCOPE", "exceptions[0].organizations[1]"),
        (but(|s| s.practitioners = all(&["urn:x|1"]), |s| s.practitioners = all(&["urn:x|2"])), "EXCEPTION_OUTSIDE_SCOPE", "exceptions[0].practitioners[0]"),
        (but(|s| s.purposes = all(&["ETREAT"]), |s| s.purposes = all(&["TREAT"])), "EXCEPTION_OUTSIDE_SCOPE", "exceptions[0].purposes[0]"),
        (but(|s| s.actions = all(&["access"]), |s| s.actions = all(&["use"])), "EXCEPTION_OUTSIDE_SCOPE", "exceptions[0].actions[0]"),
        (during(Some(5), Some(5)), "EMPTY_PERIOD", "valid_until_ms"),
        (during(Some(i64::MAX), None), "DATE_OUT_OF_RANGE", "valid_from_ms"),
        (during(None, Some(253_402_300_800_001)), "DATE_OUT_OF_RANGE", "valid_until_ms"),
    ] {
        let fault = compose_consent(&case, "d-1", PATIENT, NOW_MS).expect_err(reason);
        assert_eq!((fault.reason, fault.field.as_str()), (reason, field), "{case:?}");
    }
    let many = Directive {
        exceptions: vec![scope(|s| s.purposes = all(&["TREAT"])); MAX_RULES + 1], ..directive(Effect::Deny, Scope::default())
    };
    assert_eq!(compose_consent(&many, "d", PATIENT, NOW_MS).expect_err("too many").reason, "TOO_MANY_EXCEPTIONS");
}

fn some_of(items: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![2 => Just(Vec::new()), 1 => prop::sample::subsequence(items, 1..=items.len()).prop_map(|l| all(&l))]
}

fn any_scope() -> impl Strategy<Value = Scope> {
    let who = (some_of(&["birch", "cedar"]), some_of(&["Practitioner/ada", "urn:x|7"]));
    let what = (some_of(&["TREAT", "ETREAT", "HRESCH", "BIORCH", "HMARKT"]), some_of(&["access", "use"]));
    let data = (some_of(&["Observation", "Condition"]), some_of(&["PSY", "SUD", "HIV"]));
    (who, what, data).prop_map(
        |((organizations, practitioners), (purposes, actions), (types, sensitivity))| Scope {
            organizations,
            practitioners,
            purposes,
            actions,
            resource_types: types,
            sensitivity,
        },
    )
}

fn any_directive() -> impl Strategy<Value = Directive> {
    let bound = || {
        prop_oneof![
            Just(None),
            (-10_000i64..60_000).prop_map(|d| Some(d * DAY_MS)),
            (0..NOW_MS * 2).prop_map(Some)
        ]
    };
    (any::<bool>(), any_scope(), bound(), bound(), prop::collection::vec(any_scope(), 0..3)).prop_map(
        |(permit, scope, valid_from_ms, valid_until_ms, exceptions)| Directive {
            effect: if permit { Effect::Permit } else { Effect::Deny },
            scope,
            valid_from_ms,
            valid_until_ms,
            exceptions,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Composed and imported, it is what was said; what can't be said is refused, not narrowed.
    #[test]
    fn composed_then_imported_gives_what_was_said(directive in any_directive()) {
        match compose_consent(&directive, "d-1", PATIENT, NOW_MS) {
            Ok(fhir) => {
                let imported = import_consent(&fhir);
                prop_assert!(imported.is_ok(), "{imported:#?}");
                let imported = imported.unwrap();
                prop_assert_eq!(imported.consent, meant(&directive));
            }
            Err(fault) => prop_assert!(!fault.reason.is_empty() && !fault.field.is_empty()),
        }
    }
}
