//! What goes before consents: break-glass (Decision 1), REQUIRED_BY_LAW and the self-pay restriction (Decision 3).

use super::*;
use Outcome as O;

fn glass(overrides_deny: bool, overrides_frozen: bool) -> DefaultPolicy {
    let text = format!(
        r#"{{"id":"cedar","version":1,"rules":[{{"effect":"DENY","organizations":["Organization/elm"]}}],
        "break_glass":{{"groups":["Group/er"],"purposes":["TREAT","BTG"],
        "overrides_deny":{overrides_deny},"overrides_frozen":{overrides_frozen}}}}}"#
    );
    DefaultPolicy::parse(text.as_bytes()).expect("a policy")
}

fn emergency(purpose: &str) -> Request {
    Request {
        groups: Some(vec![Reference::Literal("Group/er".into())]),
        break_glass: Some(BreakGlassReason { reason: "unconscious".into() }),
        ..birch(purpose)
    }
}

fn found(
    consents: &[Consent],
    policy: &DefaultPolicy,
    request: &Request,
    frozen: bool,
    record: &ResourceDescriptor,
) -> ResourceDecision {
    let resources = std::slice::from_ref(record);
    let input = DecisionInput { consents, policy: Some(policy), request, resources, at_ms: NOW_MS, frozen };
    decide(&input).resources.remove(0)
}

#[test]
#[rustfmt::skip] // a table, a row a line
fn break_glass() {
    let normal = || record(Conf::N, &[]);
    let unknown_deny = || Consent { rules: vec![labelled_rule(1, Effect::Deny, &["PSY"])], ..consent(Base::None) };
    let root_deny = || Consent { root_rule: Some(Rule { group: 0, depth: 0, ..rule(0, Effect::Deny) }), ..unknown_deny() };
    let stranger = || Request { groups: Some(vec![Reference::Literal("Group/lab".into())]), ..emergency("ETREAT") };
    let silent = || Request { break_glass: Some(BreakGlassReason { reason: " ".into() }), ..emergency("ETREAT") };
    let elm = || Request { recipient: vec![Reference::Literal("Organization/elm".into())], ..emergency("ETREAT") };
    let (closed, open) = (glass(false, false), glass(true, true));
    for (clause, consents, policy, request, frozen, record, expected) in [
        ("1: for the treatment family", vec![], &closed, emergency("ETREAT"), false, normal(), O::PermitOverride),
        ("1: COC is of it", vec![], &closed, emergency("COC"), false, normal(), O::PermitOverride),
        ("1: BTG where the policy names it", vec![], &closed, emergency("BTG"), false, normal(), O::PermitOverride),
        ("1: not for payment", vec![], &closed, emergency("HPAYMT"), false, normal(), O::NoConsent),
        ("1: not what merely lies under TREAT", vec![], &closed, emergency("POPHLTH"), false, normal(), O::NoConsent),
        ("1: by an actor in its group", vec![], &closed, stranger(), false, normal(), O::NoConsent),
        ("1: groups not stated", vec![], &closed, Request { groups: None, ..emergency("ETREAT") }, false, normal(), O::NoConsent),
        ("1: with a reason", vec![], &closed, silent(), false, normal(), O::NoConsent),
        ("1: only where it is asked for", vec![], &closed, Request { break_glass: None, ..emergency("ETREAT") }, false, normal(), O::NoConsent),
        ("1: first, before a permit", vec![consent(Base::Permit)], &closed, emergency("ETREAT"), false, normal(), O::PermitOverride),
        ("1: LIMIT is no DENY", vec![consent(Base::Limit)], &closed, emergency("ETREAT"), false, normal(), O::PermitOverride),
        ("1: an explicit DENY", vec![consent(Base::Deny)], &closed, emergency("ETREAT"), false, normal(), O::Deny),
        ("1: unless the policy says so", vec![consent(Base::Deny)], &open, emergency("ETREAT"), false, normal(), O::PermitOverride),
        ("1: the policy's own DENY", vec![], &closed, elm(), false, normal(), O::Deny),
        ("1: which no consent hides", vec![unknown_deny()], &closed, elm(), false, unlabelled(), O::Indeterminate),
        ("1: INDETERMINATE is no explicit DENY", vec![unknown_deny()], &closed, emergency("ETREAT"), false, unlabelled(), O::PermitOverride),
        ("1: but hides none", vec![root_deny()], &closed, emergency("ETREAT"), false, unlabelled(), O::Indeterminate),
        ("1: never psychotherapy notes", vec![], &open, emergency("ETREAT"), false, record(Conf::R, &["PSYTHPN"]), O::NoConsent),
        ("1: a frozen slot", vec![], &closed, emergency("ETREAT"), true, normal(), O::Deny),
        ("1: unless the policy says so", vec![], &open, emergency("ETREAT"), true, normal(), O::PermitOverride),
        ("9: of two patients one denies", vec![Consent { subject: "Patient/q".into(), ..consent(Base::Deny) }], &closed, emergency("ETREAT"),
            false, ResourceDescriptor { subjects: vec![PATIENT.into(), "Patient/q".into()], ..normal() }, O::Deny),
    ] {
        let found = found(&consents, policy, &request, frozen, &record);
        assert_eq!(found.outcome, expected, "{clause}: {found:?}");
        if expected == O::PermitOverride {
            assert_eq!(found.decided_by, [DecidedBy::DefaultPolicy { id: "cedar".into() }]);
        }
    }
    let sealed = ResourceDescriptor { handling: vec!["42CFRPart2".into()], ..record(Conf::R, &["SUD"]) };
    let found = found(&[], &closed, &emergency("ETREAT"), false, &sealed);
    assert_eq!((found.outcome, found.obligations), (O::PermitOverride, vec!["NORDSCLCD".to_owned()]));
}

#[test]
fn required_by_law() {
    let law =
        RequiredByLaw { citation: "statute 1".into(), approver: Reference::Literal("Practitioner/9".into()) };
    let request = Request { required_by_law: Some(law), ..birch("HLEGAL") };
    let note = record(Conf::R, &["PSYTHPN"]);
    for frozen in [false, true] {
        let found = found(&[consent(Base::Deny)], &glass(false, false), &request, frozen, &note);
        assert_eq!(found.outcome, O::Permit, "3: before the frozen check; it releases");
        assert_eq!(found.decided_by, [DecidedBy::HardRule { id: "REQUIRED_BY_LAW" }], "and records");
    }
}

#[test]
fn self_pay() {
    let restriction = || Consent {
        legal_basis: Some(LegalBasis::SelfPayRestriction),
        id: "paid".into(),
        root_rule: Some(Rule { group: 0, depth: 0, ..labelled_rule(0, Effect::Permit, &["HIV"]) }),
        ..consent(Base::Limit)
    };
    let consents = [consent(Base::Permit), restriction()];
    let asks = |purpose: &str, plan| Request { recipient_is_plan: plan, ..birch(purpose) };
    let hiv = record(Conf::R, &["HIV"]);
    let outcome =
        |request: Request, record: &ResourceDescriptor| decided(&consents, &request, record).outcome;
    assert_eq!(outcome(asks("HPAYMT", true), &hiv), O::Deny, "3: denies HPAYMT to plans");
    assert_eq!(outcome(asks("CLMATTCH", true), &hiv), O::Deny, "and below");
    assert_eq!(outcome(asks("HPAYMT", false), &hiv), O::Permit, "not to others");
    assert_eq!(outcome(asks("TREAT", true), &hiv), O::Permit, "not for treatment");
    assert_eq!(outcome(asks("HPAYMT", true), &record(Conf::N, &[])), O::Permit, "not what it isn't about");
    assert_eq!(outcome(asks("HPAYMT", true), &unlabelled()), O::Deny, "but what it may be about");
}
