//! States and steps (CONSENT.md, "States").

use super::*;
use ConsentState::*;

#[test]
fn only_these_steps_are_taken() {
    let states = [Proposed, Active, Rejected, Revoked, Superseded, EnteredInError];
    let allowed = [
        (Proposed, Step::Activate, Active),
        (Proposed, Step::Reject, Rejected),
        (Active, Step::Revoke, Revoked),
        (Revoked, Step::Revoke, Revoked), // "revoking twice is fine"
        (Active, Step::Supersede, Superseded),
        (Revoked, Step::Supersede, Superseded), // lifts the denies that stood
    ];
    for from in states {
        for step in [Step::Activate, Step::Reject, Step::Revoke, Step::Supersede] {
            let found = allowed.iter().find(|(f, s, _)| (*f, *s) == (from, step)).map(|(_, _, to)| *to);
            assert_eq!(from.after(step).ok(), found, "{from:?} {step:?}");
        }
        assert_eq!(from.after(Step::MarkError), Ok(EnteredInError));
    }
    let fault = Rejected.after(Step::Revoke).expect_err("\"revoking what isn't active\"");
    assert_eq!(fault.to_string(), "a consent that is Rejected can't Revoke");
}

#[test]
fn what_outlives_a_revocation() {
    let with_rules = |base, rules| Consent { rules, ..consent(base) };
    for (consent, stands) in [
        (consent(Base::Permit), false),
        (consent(Base::None), false),
        (consent(Base::Deny), true),
        (consent(Base::Limit), true),
        (with_rules(Base::Permit, vec![rule(1, Effect::Permit)]), false),
        (with_rules(Base::Permit, vec![rule(1, Effect::Deny)]), true),
    ] {
        assert_eq!(consent.stands_after_revocation(), stands, "{consent:?}");
    }
}

#[test]
fn an_unresolved_consent_withholds_until_an_officer_resolves_it() {
    let unresolved = || Consent::unresolved("feed-1", PATIENT);
    let normal = record(Conf::N, &[]);
    let found = decided(&[consent(Base::Permit), unresolved()], &birch("TREAT"), &normal);
    assert_eq!((found.outcome, found.decided_by), (Outcome::Indeterminate, vec![by("feed-1", "0")]));
    let found = decided(&[consent(Base::Deny), unresolved()], &birch("TREAT"), &normal);
    assert_eq!(found.outcome, Outcome::Deny);
    let resolved = Consent { state: Superseded, ..unresolved() };
    assert_eq!(
        decided(&[consent(Base::Permit), resolved], &birch("TREAT"), &normal).outcome,
        Outcome::Permit
    );
}

#[test]
fn only_the_latest_revision_counts() {
    let revision = |revision, base| Consent { revision, ..consent(base) };
    let normal = record(Conf::N, &[]);
    for consents in [
        vec![revision(1, Base::Permit), revision(0, Base::Deny)],
        vec![revision(0, Base::Deny), revision(1, Base::Permit)],
    ] {
        assert_eq!(decided(&consents, &birch("TREAT"), &normal).outcome, Outcome::Permit);
    }
    let ended = Consent { state: EnteredInError, ..revision(1, Base::Permit) };
    let found = decided(&[revision(0, Base::Permit), ended], &birch("TREAT"), &normal);
    assert_eq!(found.outcome, Outcome::NoConsent, "an earlier revision does not come back");
    let others = Consent { subject: "Patient/q".into(), ..revision(1, Base::Deny) };
    assert_eq!(
        decided(&[revision(0, Base::Permit), others], &birch("TREAT"), &normal).outcome,
        Outcome::Permit
    );
}

/// "Representatives ... ends at majority": what they granted permits no more, what they denied stands.
#[test]
fn a_representatives_permits_end_with_the_authority() {
    let until = |end, base| Consent { authority_ends_ms: Some(end), ..consent(base) };
    let normal = record(Conf::N, &[]);
    let outcome = |consent: Consent| decided(&[consent], &birch("TREAT"), &normal).outcome;
    assert_eq!(outcome(until(NOW_MS + 1, Base::Permit)), Outcome::Permit);
    assert_eq!(outcome(until(NOW_MS, Base::Permit)), Outcome::NoConsent);
    assert_eq!(outcome(until(NOW_MS, Base::Deny)), Outcome::Deny);
    let consents = [until(NOW_MS + DAY_MS, Base::Permit)];
    let request = birch("TREAT");
    let found = decide(&DecisionInput {
        consents: &consents,
        policy: None,
        request: &request,
        resources: &[],
        at_ms: NOW_MS,
        frozen: false,
    });
    assert_eq!(found.not_after_ms, Some(NOW_MS + DAY_MS));
}
