//! What the law asks of a consent, what still stands of one, and what can be told of one that is refused.

use super::demo::DEMO;
use super::*;

#[test]
fn an_authorization_names_recipient_purpose_and_end() {
    let context = Context {
        valid: Period { start_ms: None, end_ms: Some(NOW_MS) },
        recipients: Some(vec![Recipient::Organization(organization("birch"))]),
        purposes: texts(&["TREAT"]),
        actions: None,
    };
    let bare = |basis| Consent { legal_basis: basis, ..consent(Base::Permit) };
    let demanding = [LegalBasis::HipaaAuthorization, LegalBasis::Part2Tpo, LegalBasis::Part2Specific];
    for basis in demanding {
        assert_eq!(missing_elements(&bare(Some(basis))), ["recipient", "purpose", "end"]);
        let whole = Consent { context: context.clone(), ..bare(Some(basis)) };
        assert!(missing_elements(&whole).is_empty());
        let endless = Context { valid: Period::default(), ..context.clone() };
        assert_eq!(missing_elements(&Consent { context: endless, ..whole }), ["end"]);
    }
    for basis in [None, Some(LegalBasis::GdprExplicitConsent), Some(LegalBasis::DomainPolicy)] {
        assert!(missing_elements(&bare(basis)).is_empty(), "{basis:?}");
    }
    // Each rule that permits, by itself, by what it is nested in, or by the context; one that denies needs nothing.
    let part2 = |rules| Consent { base: Base::Deny, rules, ..bare(Some(LegalBasis::Part2Specific)) };
    let clause = Clause {
        valid: context.valid,
        recipients: context.recipients.clone(),
        purposes: context.purposes.clone(),
        ..Clause::of(Effect::Permit)
    };
    let whole = Rule { clause: clause.clone(), ..rule(1, Effect::Permit) };
    assert!(missing_elements(&part2(vec![whole.clone(), rule(2, Effect::Deny)])).is_empty());
    assert_eq!(
        missing_elements(&part2(vec![whole, rule(2, Effect::Permit)])),
        ["recipient", "purpose", "end"]
    );
    let nested = Rule { within: vec![clause], ..rule(1, Effect::Permit) };
    assert!(missing_elements(&part2(vec![nested])).is_empty());
}

#[test]
fn a_parents_authority_ends_with_the_eighteenth_birthday() {
    let midnight = |day: &str| {
        let format = time::macros::format_description!("[year]-[month]-[day]");
        time::Date::parse(day, format).expect(day).midnight().assume_utc().unix_timestamp() * 1000
    };
    for authority in ["parent", "guardian-of-minor"] {
        for (born, last) in
            [("2010-06-01", "2028-06-01"), ("2008-02-29", "2026-02-28"), ("1980-12-31", "1998-12-31")]
        {
            assert_eq!(authority_limit_ms(authority, born), Some(midnight(last) + DAY_MS - 1), "{born}");
        }
    }
    assert_eq!(authority_limit_ms("healthcare-proxy", "2010-06-01"), None);
    assert_eq!(authority_limit_ms("parent", "2010-13-01"), None);
}

#[test]
fn what_a_revoked_consent_still_denies_is_said() {
    let imported = import_consent(DEMO.as_bytes()).expect("importable");
    let said = still_denied(&imported.consent);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("Rule 1: deny records labelled PSY, for "), "{said:?}");
    assert!(still_denied(&consent(Base::Permit)).is_empty() && still_denied(&consent(Base::None)).is_empty());
    assert_eq!(still_denied(&consent(Base::Deny)), ["Deny any use by anyone."]);
    assert_eq!(still_denied(&consent(Base::Limit)), ["For any use by anyone: no default applies."]);
    assert_eq!(still_denied(&Consent::unresolved("u", PATIENT)).len(), 1);
}

#[test]
fn what_stands_and_what_is_over() {
    let ends = |end_ms| Context { valid: Period { start_ms: None, end_ms }, ..Context::default() };
    let with = |base, state, end_ms, authority_ends_ms| Consent {
        state,
        context: ends(end_ms),
        authority_ends_ms,
        ..consent(base)
    };
    let (over, later) = (Some(NOW_MS), Some(NOW_MS + 1));
    use ConsentState::*;
    for (case, stands, is_over) in [
        (with(Base::Permit, Active, None, None), true, false),
        (with(Base::Permit, Active, later, later), true, false),
        (with(Base::Permit, Active, over, None), false, true),
        (with(Base::Permit, Active, None, over), false, true),
        (with(Base::Deny, Active, None, over), true, true),
        (with(Base::Permit, Revoked, None, None), false, false),
        (with(Base::Deny, Revoked, None, None), true, false),
        (with(Base::Deny, Revoked, over, None), false, true),
        (with(Base::Deny, Superseded, None, None), false, false),
        (with(Base::Deny, EnteredInError, None, None), false, false),
        (with(Base::Deny, Proposed, None, None), false, false),
        (Consent::unresolved("u", PATIENT), true, false),
    ] {
        assert_eq!((case.something_stands(NOW_MS), case.is_over(NOW_MS)), (stands, is_over), "{case:?}");
    }
}

#[test]
fn the_head_of_a_refused_consent() {
    let head = |fhir: &str| consent_head(fhir.as_bytes());
    let demo = import_consent(DEMO.as_bytes()).expect("importable").consent;
    let found = head(DEMO);
    assert_eq!((found.id, found.state, found.subject), (demo.id, Some(demo.state), Some(demo.subject)));
    assert_eq!(head("{"), Head::default());
    assert_eq!(head("[]"), Head::default());
    // What is written twice can't be told.
    assert_eq!(head(r#"{"status":"active","status":"inactive"}"#), Head::default());
    assert_eq!(head(r#"{"status":"inactive"}"#).state, Some(ConsentState::Superseded));
    assert_eq!(head(r#"{"status":"on"}"#).state, None);
    assert_eq!(head(r#"{"id":"a b","status":"active"}"#).id, "");
    let identified = head(r#"{"identifier":[{"system":"urn:x","value":"7"}]}"#);
    assert_eq!((identified.id.as_str(), identified.subject), ("urn:x|7", None));
}
