//! One row per clause of CONSENT.md that `decide` implements.

use super::*;
use Effect::{Deny, Permit};
use Outcome as O;

fn check(rows: Vec<(&str, Vec<Consent>, Request, ResourceDescriptor, Outcome)>) {
    for (clause, consents, request, record, expected) in rows {
        let found = decided(&consents, &request, &record);
        assert_eq!(found.outcome, expected, "{clause}: {found:?}");
    }
}

fn with(base: Base, change: impl FnOnce(&mut Consent)) -> Consent {
    let mut made = consent(base);
    change(&mut made);
    made
}

fn by_clause(id: u32, clause: Clause) -> Rule {
    Rule { clause, ..rule(id, Permit) }
}

fn literal(text: &str) -> Option<Reference> {
    Some(Reference::Literal(text.to_owned()))
}

fn normal() -> ResourceDescriptor {
    record(Conf::N, &[])
}

#[test]
#[rustfmt::skip] // a table, a row a line
fn base_and_context() {
    let to = |value: &str| Some(vec![Recipient::Organization(organization(value))]);
    let person = || Some(vec![Recipient::Practitioner(Reference::Literal("Practitioner/1".into()))]);
    let treat = || birch("TREAT");
    check(vec![
        ("model: no consent", vec![], treat(), normal(), O::NoConsent),
        ("model: base PERMIT", vec![consent(Base::Permit)], treat(), normal(), O::Permit),
        ("model: base DENY", vec![consent(Base::Deny)], treat(), normal(), O::Deny),
        ("model: base LIMIT withholds as NO_CONSENT", vec![consent(Base::Limit)], treat(), normal(), O::NoConsent),
        ("model: base NONE", vec![consent(Base::None)], treat(), normal(), O::NoConsent),
        ("model: base speaks where its context holds", vec![with(Base::Deny, |c| c.context.recipients = to("elm"))],
            treat(), normal(), O::NoConsent),
        ("model: the context names the recipient", vec![with(Base::Permit, |c| c.context.recipients = to("birch"))],
            treat(), normal(), O::Permit),
        ("model: context UNKNOWN, base DENY", vec![with(Base::Deny, |c| c.context.recipients = person())],
            treat(), normal(), O::Indeterminate),
        ("model: context UNKNOWN, base PERMIT", vec![with(Base::Permit, |c| c.context.recipients = person())],
            treat(), normal(), O::NoConsent),
        ("5: a stated person is compared", vec![with(Base::Permit, |c| c.context.recipients = person())],
            Request { actor: literal("Practitioner/1"), ..treat() }, normal(), O::Permit),
        ("8: organization and practitioner are alternatives",
            vec![with(Base::Permit, |c| c.context.recipients = Some([person(), to("birch")].into_iter().flatten().flatten().collect()))],
            treat(), normal(), O::Permit),
        ("model: an empty list says nothing definite", vec![with(Base::Deny, |c| c.context.recipients = Some(vec![]))],
            treat(), normal(), O::Indeterminate),
        ("model: actions", vec![with(Base::Permit, |c| c.context.actions = texts(&["correct"]))],
            treat(), normal(), O::NoConsent),
        ("model: action named", vec![with(Base::Permit, |c| c.context.actions = texts(&["use", "access"]))],
            treat(), normal(), O::Permit),
        ("4: of another patient", vec![with(Base::Permit, |c| c.subject = "Patient/q".into())],
            treat(), normal(), O::NoConsent),
    ]);
}

#[test]
#[rustfmt::skip] // a table, a row a line
fn states_and_time() {
    let treat = || birch("TREAT");
    let in_state = |base, state| vec![with(base, |c| { c.state = state; c.rules.push(labelled_rule(1, Deny, &["PSY"])); })];
    let during = |start, end| vec![with(Base::Permit, |c| c.context.valid = Period { start_ms: start, end_ms: end })];
    let psy = || record(Conf::R, &["PSY"]);
    let mut rows = vec![
        ("4: ends now: over", during(None, Some(NOW_MS)), treat(), normal(), O::NoConsent),
        ("4: ends after now", during(None, Some(NOW_MS + 1)), treat(), normal(), O::Permit),
        ("4: starts now", during(Some(NOW_MS), None), treat(), normal(), O::Permit),
        ("4: starts after now", during(Some(NOW_MS + 1), None), treat(), normal(), O::NoConsent),
        ("revoked: permits are withdrawn", in_state(Base::Permit, ConsentState::Revoked), treat(), normal(), O::NoConsent),
        ("revoked: denies stand", in_state(Base::Permit, ConsentState::Revoked), treat(), psy(), O::Deny),
        ("revoked: base DENY stands", in_state(Base::Deny, ConsentState::Revoked), treat(), normal(), O::Deny),
    ];
    for state in [ConsentState::Proposed, ConsentState::Rejected, ConsentState::Superseded, ConsentState::EnteredInError] {
        rows.push(("4: nothing stands", in_state(Base::Deny, state), treat(), psy(), O::NoConsent));
    }
    check(rows);
}

#[test]
#[rustfmt::skip] // a table, a row a line
fn purposes_across_the_tree() {
    let base = |listed: &'static [&'static str]| with(Base::Permit, |c| c.context.purposes = texts(listed));
    let deny = |listed: &'static [&'static str]| with(Base::Deny, |c| c.context.purposes = texts(listed));
    let nested = |effect, outer: &'static [&'static str], own: Option<&'static [&'static str]>| {
        with(Base::None, |c| {
            c.context.purposes = texts(outer);
            c.rules = vec![by_clause(1, Clause { purposes: own.and_then(texts), ..Clause::of(effect) })];
        })
    };
    let mut rows = vec![];
    let mut row = |clause, consent: Consent, purpose: &str, expected| {
        rows.push((clause, vec![consent], birch(purpose), normal(), expected));
    };
    for purpose in ["TREAT", "ETREAT", "ERTREAT", "COC"] {
        row("8: PERMIT covers its descendants", base(&["TREAT"]), purpose, O::Permit);
    }
    for (parent, purpose) in [
        (&["TREAT"][..], "BTG"), (&["ETREAT"][..], "BTG"), (&["TREAT"][..], "CLINTRL"), (&["TREAT"][..], "POPHLTH"),
        (&["HOPERAT"][..], "MILCDM"), (&["HOPERAT"][..], "HLEGAL"), (&["HOPERAT"][..], "FRAUD"), (&["HOPERAT"][..], "DONAT"),
        (&["HOPERAT"][..], "GOV"), (&["PurposeOfUse"][..], "HMARKT"),
    ] {
        row("8: must be named in a PERMIT", with(Base::Permit, |c| c.context.purposes = texts(parent)), purpose, O::NoConsent);
        row("8: named, it is covered", with(Base::Permit, |c| c.context.purposes = texts(&[purpose])), purpose, O::Permit);
        row("8: DENY covers all descendants", with(Base::Deny, |c| c.context.purposes = texts(parent)), purpose, O::Deny);
        row("model: PERMIT without purposes", consent(Base::Permit), purpose, O::NoConsent);
        row("model: DENY without purposes", consent(Base::Deny), purpose, O::Deny);
    }
    row("8: not the parent", base(&["ETREAT"]), "TREAT", O::NoConsent);
    row("8: another branch", base(&["TREAT"]), "HPAYMT", O::NoConsent);
    row("8: HL7's table has CAREMGT under HOPERAT", base(&["TREAT"]), "CAREMGT", O::NoConsent);
    row("8: HRESCH and below", deny(&["HRESCH"]), "CLINTRCHPC", O::Deny);
    row("8: the innermost list names it", nested(Permit, &["TREAT"], Some(&["POPHLTH"])), "POPHLTH", O::Permit);
    row("8: an ancestor restricts by the plain tree", nested(Permit, &["HOPERAT"], Some(&["POPHLTH"])), "POPHLTH", O::NoConsent);
    row("8: named outside, not innermost", nested(Permit, &["POPHLTH"], Some(&["TREAT"])), "POPHLTH", O::NoConsent);
    row("8: without its own, the context's list is innermost", nested(Permit, &["POPHLTH"], None), "POPHLTH", O::Permit);
    row("8: a nested DENY within the context", nested(Deny, &["TREAT"], Some(&["ETREAT"])), "BTG", O::Deny);
    row("request: an unknown purpose is covered by no PERMIT", consent(Base::Permit), "NONSENSE", O::NoConsent);
    row("request: an unknown purpose may be denied", deny(&["TREAT"]), "NONSENSE", O::Indeterminate);
    check(rows);
}

#[test]
#[rustfmt::skip] // a table, a row a line
fn labels_and_types() {
    let deny = |labels: &[&str]| vec![with(Base::Permit, |c| c.rules = vec![labelled_rule(1, Deny, labels)])];
    let permit = |labels: &[&str]| vec![with(Base::Deny, |c| c.rules = vec![labelled_rule(1, Permit, labels)])];
    let bound = |base, effect, conf| {
        let data = DataFilter { confidentiality: Some(conf), ..Default::default() };
        vec![with(base, |c| c.rules = vec![data_rule(1, effect, data)])]
    };
    let types = |base, effect, kind: &str| {
        let data = DataFilter { types: texts(&[kind]), ..Default::default() };
        vec![with(base, |c| c.rules = vec![data_rule(1, effect, data)])]
    };
    let has = |labels: &[&str]| record(Conf::R, labels);
    let unassessed = |labels: &[&str]| ResourceDescriptor { confidentiality: None, assessed: false, ..has(labels) };
    let treat = || birch("TREAT");
    check(vec![
        ("8: DENY any", deny(&["PSY"]), treat(), has(&["HIV", "PSY"]), O::Deny),
        ("8: DENY another", deny(&["PSY"]), treat(), has(&["HIV"]), O::Permit),
        ("5: assessed, none", deny(&["PSY"]), treat(), normal(), O::Permit),
        ("5: never assessed is UNKNOWN", deny(&["PSY"]), treat(), unlabelled(), O::Indeterminate),
        ("5: a label that is there counts", deny(&["PSY"]), treat(), unassessed(&["PSY"]), O::Deny),
        ("5: another is there, the rest unassessed", deny(&["PSY"]), treat(), unassessed(&["HIV"]), O::Indeterminate),
        ("8: below a DENY's", deny(&["SUD"]), treat(), has(&["OPIOIDUD"]), O::Deny),
        ("8: ETHUD under ETH too", deny(&["ETH"]), treat(), has(&["ETHUD"]), O::Deny),
        ("8: OPIOIDUD under ETH too", deny(&["ETH"]), treat(), has(&["OPIOIDUD"]), O::Deny),
        ("8: broader than a DENY's", deny(&["PSY"]), treat(), has(&["SPI"]), O::Indeterminate),
        ("8: outside the tables", deny(&["PSY"]), treat(), has(&["urn:x|secret"]), O::Indeterminate),
        ("8: DENY BH covers MH", deny(&["BH"]), treat(), has(&["MH"]), O::Deny),
        ("8: DENY BH covers PSY", deny(&["BH"]), treat(), has(&["PSY"]), O::Deny),
        ("8: DENY BH covers SUD and below", deny(&["BH"]), treat(), has(&["ETHUD"]), O::Deny),
        ("8: DENY BH covers its own", deny(&["BH"]), treat(), has(&["DVD"]), O::Deny),
        ("8: BH is broader than a DENY PSY", deny(&["PSY"]), treat(), has(&["BH"]), O::Indeterminate),
        ("8: PERMIT BH only BH", permit(&["BH"]), treat(), has(&["MH"]), O::Deny),
        ("8: PERMIT BH and below", permit(&["BH"]), treat(), has(&["DVD"]), O::Permit),
        ("8: PERMIT covers all", permit(&["SUD", "HIV"]), treat(), has(&["ETHUD", "HIV"]), O::Permit),
        ("8: PERMIT covers not all", permit(&["SUD"]), treat(), has(&["SUD", "HIV"]), O::Deny),
        ("8: PERMIT and no such label", permit(&["SUD"]), treat(), normal(), O::Deny),
        ("5: an UNKNOWN PERMIT says nothing", permit(&["SUD"]), treat(), unassessed(&["SUD"]), O::Deny),
        ("8: PERMIT and a label outside the tables", permit(&["SUD"]), treat(), has(&["SUD", "urn:x|s"]), O::Deny),
        ("8: permit bound covers lower", bound(Base::Deny, Permit, Conf::N), treat(), record(Conf::L, &[]), O::Permit),
        ("8: permit bound, higher", bound(Base::Deny, Permit, Conf::N), treat(), record(Conf::R, &[]), O::Deny),
        ("8: deny bound covers higher", bound(Base::Permit, Deny, Conf::R), treat(), record(Conf::V, &[]), O::Deny),
        ("8: deny bound, lower", bound(Base::Permit, Deny, Conf::R), treat(), normal(), O::Permit),
        ("5: confidentiality unassessed", bound(Base::Permit, Deny, Conf::R), treat(), unlabelled(), O::Indeterminate),
        ("model: type", types(Base::Permit, Deny, "Observation"), treat(), normal(), O::Deny),
        ("model: another type", types(Base::Permit, Deny, "Condition"), treat(), normal(), O::Permit),
    ]);
}

#[test]
#[rustfmt::skip] // a table, a row a line
fn groups_root_rules_and_consents() {
    let psy = |n, effect| labelled_rule(n, effect, &["PSY"]);
    let deep = |r: Rule, group, depth| Rule { group, depth, ..r };
    let rules = |base, rules: Vec<Rule>| vec![with(base, |c| c.rules = rules)];
    let root = |base, effect| vec![with(base, |c| c.root_rule = Some(Rule { group: 0, depth: 0, ..psy(0, effect) }))];
    let r = || record(Conf::R, &["PSY"]);
    let treat = || birch("TREAT");
    let join = |a: Vec<Consent>, b: Vec<Consent>| a.into_iter().chain(b).collect::<Vec<_>>();
    let unknown_deny = || rules(Base::None, vec![psy(1, Deny)]);
    check(vec![
        ("6: the deepest TRUE speaks", rules(Base::None, vec![deep(rule(1, Deny), 1, 1), deep(rule(2, Permit), 1, 2)]), treat(), r(), O::Permit),
        ("6: DENY wins a tie", rules(Base::None, vec![deep(rule(1, Deny), 1, 1), deep(rule(2, Permit), 1, 1)]), treat(), r(), O::Deny),
        ("6: UNKNOWN DENY as deep", rules(Base::None, vec![deep(rule(1, Permit), 1, 1), deep(psy(2, Deny), 1, 1)]), treat(), unlabelled(), O::Indeterminate),
        ("6: UNKNOWN DENY less deep", rules(Base::None, vec![deep(rule(1, Permit), 1, 2), deep(psy(2, Deny), 1, 1)]), treat(), unlabelled(), O::Permit),
        ("6: UNKNOWN DENY where d says DENY", rules(Base::None, vec![deep(rule(1, Deny), 1, 1), deep(psy(2, Deny), 1, 2)]), treat(), unlabelled(), O::Deny),
        ("6: root rule speaks before the base", root(Base::Limit, Permit), treat(), r(), O::Permit),
        ("6: else the base", root(Base::Limit, Permit), treat(), normal(), O::NoConsent),
        ("6: a root deny", root(Base::None, Deny), treat(), r(), O::Deny),
        ("6: a root deny UNKNOWN", root(Base::None, Deny), treat(), unlabelled(), O::Indeterminate),
        ("6: a root deny elsewhere says nothing", root(Base::None, Deny), treat(), normal(), O::NoConsent),
        ("7: groups, DENY wins", rules(Base::Permit, vec![rule(1, Permit), rule(2, Deny)]), treat(), r(), O::Deny),
        ("7: groups, INDETERMINATE before PERMIT", rules(Base::Permit, vec![rule(1, Permit), psy(2, Deny)]), treat(), unlabelled(), O::Indeterminate),
        ("7: INDETERMINATE becomes DENY", rules(Base::Deny, vec![psy(1, Deny)]), treat(), unlabelled(), O::Deny),
        ("7: but not where a rule says PERMIT", rules(Base::Deny, vec![psy(1, Deny), rule(2, Permit)]), treat(), unlabelled(), O::Indeterminate),
        ("7: consents, any DENY", join(rules(Base::Permit, vec![]), rules(Base::None, vec![psy(1, Deny)])), treat(), r(), O::Deny),
        ("7: consents, DENY before INDETERMINATE", join(unknown_deny(), rules(Base::Deny, vec![])), treat(), unlabelled(), O::Deny),
        ("7: consents, INDETERMINATE before PERMIT", join(unknown_deny(), rules(Base::Permit, vec![])), treat(), unlabelled(), O::Indeterminate),
        ("7: another consent may permit what one limits", join(rules(Base::Limit, vec![]), rules(Base::Permit, vec![])), treat(), r(), O::Permit),
    ]);
}

#[test]
#[rustfmt::skip] // a table, a row a line
fn hard_rules() {
    let notes_only = || with(Base::Limit, |c| c.root_rule = Some(Rule { group: 0, depth: 0, ..labelled_rule(0, Permit, &["PSYTHPN"]) }));
    let compound = || with(Base::Deny, |c| c.rules = vec![labelled_rule(1, Permit, &["PSYTHPN"]), labelled_rule(2, Permit, &["HIV"])]);
    let broad = || with(Base::Deny, |c| c.rules = vec![labelled_rule(1, Permit, &["SPI"])]);
    let part2 = || with(Base::Permit, |c| c.legal_basis = Some(LegalBasis::Part2Specific));
    let note = || record(Conf::R, &["PSYTHPN"]);
    let sealed = || ResourceDescriptor { handling: vec!["42CFRPart2".into()], ..record(Conf::R, &["SUD"]) };
    let own = || Request { actor: literal(PATIENT), ..birch("PATRQT") };
    let other = || Request { actor: literal("Patient/q"), ..birch("PATRQT") };
    let both = || ResourceDescriptor { subjects: vec![PATIENT.into(), "Patient/q".into()], ..normal() };
    let treat = || birch("TREAT");
    check(vec![
        ("3: psychotherapy notes, a general permit", vec![consent(Base::Permit)], treat(), note(), O::NoConsent),
        ("3: psychotherapy notes, a broader label", vec![broad()], treat(), note(), O::NoConsent),
        ("3: psychotherapy notes, named among others", vec![compound()], treat(), note(), O::NoConsent),
        ("3: psychotherapy notes, named alone", vec![notes_only()], treat(), note(), O::Permit),
        ("3: psychotherapy notes, one of two consents", vec![consent(Base::Permit), notes_only()], treat(), note(), O::Permit),
        ("3: psychotherapy notes denied all the same", vec![consent(Base::Deny), notes_only()], treat(), note(), O::Deny),
        ("3: Part 2, another basis", vec![consent(Base::Permit)], treat(), sealed(), O::NoConsent),
        ("3: Part 2, its basis", vec![part2()], treat(), sealed(), O::Permit),
        ("3: HMARKT is never inherited", vec![consent(Base::Permit)], birch("HMARKT"), normal(), O::NoConsent),
        ("3: PATRQT of the subject skips consents", vec![consent(Base::Deny)], own(), normal(), O::Permit),
        ("3: save for psychotherapy notes", vec![], own(), note(), O::NoConsent),
        ("3: PATRQT of another", vec![consent(Base::Deny)], other(), normal(), O::Deny),
        ("3: PATRQT without a person", vec![consent(Base::Deny)], birch("PATRQT"), normal(), O::Deny),
        ("9: two patients, one consents", vec![consent(Base::Permit)], treat(), both(), O::NoConsent),
        ("9: two patients, one asks for itself", vec![], own(), both(), O::NoConsent),
        ("9: two patients, one denies", vec![consent(Base::Permit), with(Base::Deny, |c| c.subject = "Patient/q".into())],
            treat(), both(), O::Deny),
        ("9: nobody named: no consent permits it", vec![consent(Base::Permit)], treat(),
            ResourceDescriptor { subjects: vec![], ..normal() }, O::NoConsent),
        ("9: nobody named: a deny may be meant", vec![consent(Base::Deny)], treat(),
            ResourceDescriptor { subjects: vec![], ..normal() }, O::Deny),
    ]);
    let found = decided(&[part2()], &treat(), &sealed());
    assert_eq!(found.obligations, ["NORDSCLCD"], "3: Part 2 goes with its notice");
    let found = decided(&[consent(Base::Permit)], &treat(), &note());
    assert_eq!(found.decided_by, [DecidedBy::HardRule { id: "PSYTHPN" }]);
}

#[test]
fn frozen_and_overall() {
    let consents = [with(Base::Permit, |c| c.rules = vec![labelled_rule(1, Deny, &["PSY"])])];
    let (request, resources) = (birch("TREAT"), [normal(), record(Conf::R, &["PSY"])]);
    let at = |frozen, resources| {
        decide(&DecisionInput {
            consents: &consents,
            policy: None,
            request: &request,
            resources,
            at_ms: NOW_MS,
            frozen,
        })
    };
    let open = at(false, &resources[..]);
    assert_eq!(open.outcome, O::Permit, "overall: permitted if any is");
    assert_eq!(open.resources.iter().map(|r| r.outcome).collect::<Vec<_>>(), [O::Permit, O::Deny]);
    assert_eq!(at(false, &resources[1..]).outcome, O::Deny, "overall: else the least favourable");
    assert_eq!(at(false, &[]).outcome, O::NoConsent);
    let frozen = at(true, &resources[..]);
    assert!(frozen.resources.iter().all(|r| r.outcome == O::Deny), "2: frozen slot");
    assert_eq!((frozen.outcome, at(true, &[]).outcome), (O::Deny, O::Deny));
    let order = [O::Deny, O::Indeterminate, O::NoConsent, O::Permit, O::PermitOverride];
    assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "9: the order of outcomes");
}

#[test]
fn who_decided_and_obligations() {
    let named = |id: &str, base, obligation: &str, rules| Consent {
        id: id.into(),
        obligations: vec![obligation.into()],
        rules,
        ..consent(base)
    };
    let (treat, psy) = (birch("TREAT"), record(Conf::R, &["PSY"]));
    let permits = [named("b", Base::Permit, "Y", vec![]), named("a", Base::Permit, "X", vec![])];
    let found = decided(&permits, &treat, &psy);
    assert_eq!(found.decided_by, [by("b", "0"), by("a", "0")], "input order; base is \"0\"");
    assert_eq!(found.obligations, ["X", "Y"], "7: obligations united");
    let denies = [
        named(
            "a",
            Base::Permit,
            "X",
            vec![labelled_rule(1, Deny, &["PSY"]), labelled_rule(2, Deny, &["HIV"]), rule(3, Deny)],
        ),
        named("b", Base::Permit, "Y", vec![]),
    ];
    let found = decided(&denies, &treat, &psy);
    assert_eq!(found.decided_by, [by("a", "1"), by("a", "3")], "every rule of the winning outcome");
    assert!(found.obligations.is_empty());
    let other = Consent { id: "q".into(), subject: "Patient/q".into(), ..consent(Base::Deny) };
    let both = ResourceDescriptor { subjects: vec![PATIENT.into(), "Patient/q".into()], ..psy.clone() };
    let found = decided(&[consent(Base::Permit), other], &treat, &both);
    assert_eq!(found.decided_by, [by("q", "0")], "9: only who made it the least favourable");
    assert_eq!(decided(&[], &treat, &psy).decided_by, [], "NO_CONSENT without rules is empty");
    assert_eq!(decided(&[consent(Base::Limit)], &treat, &psy).decided_by, [by("c", "0")]);
}

#[test]
fn not_after_is_the_next_bound() {
    let until = |end, state| {
        with(Base::Permit, |c| {
            c.context.valid = Period { start_ms: Some(NOW_MS - DAY_MS), end_ms: Some(end) };
            c.state = state;
        })
    };
    let consents = [
        until(NOW_MS + 5 * DAY_MS, ConsentState::Active),
        until(NOW_MS + DAY_MS, ConsentState::Superseded),
        with(Base::None, |c| {
            let valid = Period { start_ms: Some(NOW_MS + 3 * DAY_MS), end_ms: None };
            c.rules = vec![by_clause(1, Clause { valid, ..Clause::of(Deny) })];
        }),
    ];
    let request = birch("TREAT");
    let input = DecisionInput {
        consents: &consents,
        policy: None,
        request: &request,
        resources: &[],
        at_ms: NOW_MS,
        frozen: false,
    };
    assert_eq!(decide(&input).not_after_ms, Some(NOW_MS + 3 * DAY_MS));
}

#[test]
fn requests_are_checked_at_the_border() {
    assert_eq!(birch("TREAT").check(), Ok(()));
    assert_eq!(birch("treat").check(), Err(RequestFault::UnknownPurpose("treat".into())));
    assert_eq!(Request::access(vec![], "TREAT").check(), Err(RequestFault::NoRecipient));
    let odd = Request { action: "delete".into(), ..birch("TREAT") };
    assert_eq!(odd.check(), Err(RequestFault::UnknownAction("delete".into())));
}
