//! The laws of CONSENT.md, over random consents. Widening is: what was withheld is released.

use super::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const PURPOSES: [&str; 9] =
    ["PurposeOfUse", "TREAT", "ETREAT", "BTG", "POPHLTH", "HPAYMT", "HMARKT", "HRESCH", "PATRQT"];
const LABELS: [&str; 8] = ["SPI", "BH", "MH", "PSY", "PSYTHPN", "SUD", "ETHUD", "HIV"];
const LEVELS: [Conf; 3] = [Conf::L, Conf::N, Conf::R];

fn some_of(items: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    subsequence(items, 1..=2).prop_map(|list| list.into_iter().map(str::to_owned).collect())
}

fn recipients() -> impl Strategy<Value = Vec<Recipient>> {
    let one = prop_oneof![
        3 => select(vec!["birch", "elm"]).prop_map(|name| Recipient::Organization(organization(name))),
        1 => Just(Recipient::Practitioner(Reference::Literal("Practitioner/1".into()))),
    ];
    vec(one, 1..3)
}

fn period() -> impl Strategy<Value = Period> {
    let bound = || option::weighted(0.3, (-3i64..4).prop_map(|days| NOW_MS + days * DAY_MS));
    (bound(), bound()).prop_map(|(start_ms, end_ms)| Period { start_ms, end_ms })
}

fn filter() -> impl Strategy<Value = DataFilter> {
    let types = option::weighted(0.3, some_of(&["Observation", "Condition"]));
    let labels = option::weighted(0.5, some_of(&LABELS));
    (types, labels, option::weighted(0.2, select(&LEVELS[..])))
        .prop_map(|(types, labels, confidentiality)| DataFilter { types, labels, confidentiality })
}

fn effect() -> impl Strategy<Value = Effect> {
    select(vec![Effect::Permit, Effect::Deny])
}

fn a_rule() -> impl Strategy<Value = Rule> {
    let who = (option::weighted(0.2, recipients()), option::weighted(0.3, some_of(&PURPOSES)));
    (1u32..3, 1u32..4, effect(), period(), who, filter()).prop_map(
        |(group, depth, effect, valid, who, data)| Rule {
            group,
            depth,
            valid,
            recipients: who.0,
            purposes: who.1,
            data,
            ..rule(1, effect)
        },
    )
}

fn a_consent() -> impl Strategy<Value = Consent> {
    let base = select(vec![Base::Permit, Base::Permit, Base::Deny, Base::Limit, Base::None]);
    let state = select(vec![
        ConsentState::Active,
        ConsentState::Active,
        ConsentState::Active,
        ConsentState::Revoked,
        ConsentState::Proposed,
    ]);
    let context = (period(), option::weighted(0.4, recipients()), option::weighted(0.4, some_of(&PURPOSES)));
    let root = option::weighted(0.3, (effect(), filter()));
    let law = (any::<bool>(), select(vec![PATIENT, "Patient/q"]));
    (base, state, context, root, vec(a_rule(), 0..4), law).prop_map(
        |(base, state, context, root, rules, (part2, subject))| Consent {
            state,
            subject: subject.to_owned(),
            context: Context { valid: context.0, recipients: context.1, purposes: context.2, actions: None },
            root_rule: root.map(|(effect, data)| Rule { group: 0, depth: 0, data, ..rule(0, effect) }),
            rules: (1..)
                .zip(rules)
                .map(|(n, rule): (u32, Rule)| Rule { id: n.to_string(), ..rule })
                .collect(),
            legal_basis: part2.then_some(LegalBasis::Part2Tpo),
            obligations: if part2 { vec!["NORDSCLCD".to_owned()] } else { vec![] },
            ..consent(base)
        },
    )
}

fn consents() -> impl Strategy<Value = Vec<Consent>> {
    vec(a_consent(), 1..5).prop_map(|list| {
        (0..)
            .zip(list)
            .map(|(n, consent): (u32, Consent)| Consent { id: format!("c{n}"), ..consent })
            .collect()
    })
}

fn records() -> impl Strategy<Value = Vec<ResourceDescriptor>> {
    let labels = subsequence(&LABELS[..], 0..3);
    let subjects = subsequence(vec![PATIENT, "Patient/q"], 0..3);
    let one = (
        option::weighted(0.7, select(&LEVELS[..])),
        labels,
        any::<bool>(),
        subjects,
        select(vec!["Observation", "Condition"]),
    );
    vec(
        one.prop_map(|(level, labels, part2, subjects, kind)| ResourceDescriptor {
            resource_type: kind.to_owned(),
            confidentiality: level,
            assessed: level.is_some(),
            subjects: subjects.into_iter().map(str::to_owned).collect(),
            handling: if part2 { vec!["42CFRPart2".to_owned()] } else { vec![] },
            ..record(Conf::N, &labels)
        }),
        1..5,
    )
}

fn request() -> impl Strategy<Value = Request> {
    (select(&PURPOSES[..]), select(vec![None, Some("Practitioner/1"), Some(PATIENT)]))
        .prop_map(|(purpose, actor)| Request { actor: actor.map(str::to_owned), ..birch(purpose) })
}

fn a_policy() -> impl Strategy<Value = Option<DefaultPolicy>> {
    let rules = vec((effect(), option::of(some_of(&PURPOSES))), 1..3);
    let unlabelled =
        option::of(some_of(&PURPOSES).prop_map(|purposes| Unlabelled { assume: "N".into(), purposes }));
    option::of((rules, unlabelled).prop_map(|(rules, unlabelled)| {
        DefaultPolicy {
            id: "d".into(),
            version: PolicyVersion::Number(1),
            rules: rules
                .into_iter()
                .map(|(effect, purposes)| PolicyRule { effect, purposes, organizations: None })
                .collect(),
            break_glass: None,
            unlabelled,
        }
    }))
}

#[derive(Clone, Debug)]
struct World {
    consents: Vec<Consent>,
    policy: Option<DefaultPolicy>,
    request: Request,
    records: Vec<ResourceDescriptor>,
}

impl World {
    fn at(&self, consents: &[Consent], at_ms: i64) -> Decision {
        let (policy, request, resources) = (self.policy.as_ref(), &self.request, &self.records[..]);
        decide(&DecisionInput { consents, policy, request, resources, at_ms, frozen: false })
    }

    fn outcomes(&self, consents: &[Consent]) -> Vec<(Outcome, Vec<String>)> {
        self.at(consents, NOW_MS).resources.into_iter().map(|r| (r.outcome, r.obligations)).collect()
    }

    /// Whatever is released with `after` was released before.
    fn never_widens(&self, after: &[Consent]) {
        for (before, after) in self.outcomes(&self.consents).iter().zip(self.outcomes(after)) {
            assert!(before.0.is_permitted() || !after.0.is_permitted(), "{before:?} became {after:?}");
        }
    }
}

fn world() -> impl Strategy<Value = World> {
    (consents(), a_policy(), request(), records()).prop_map(|(consents, policy, request, records)| World {
        consents,
        policy,
        request,
        records,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn adding_a_consent_that_denies_never_widens(world in world(), more in a_consent(), place in any::<prop::sample::Index>()) {
        let base = if more.base == Base::Permit { Base::Deny } else { more.base };
        let deny = |rule: &Rule| rule.effect == Effect::Deny;
        let denies = Consent { base, root_rule: more.root_rule.filter(deny), rules: more.rules.into_iter().filter(deny).collect(), id: "more".into(), ..consent(base) };
        let mut after = world.consents.clone();
        after.insert(place.index(after.len() + 1), Consent { subject: more.subject, context: more.context, state: more.state, ..denies });
        world.never_widens(&after);
    }

    #[test]
    fn adding_a_deny_rule_never_widens(world in world(), more in a_rule(), which in any::<prop::sample::Index>()) {
        let mut after = world.consents.clone();
        let which = which.index(after.len());
        after[which].rules.push(Rule { effect: Effect::Deny, id: "more".into(), ..more });
        world.never_widens(&after);
    }

    #[test]
    fn revoking_never_widens(world in world(), which in 1u8..16) {
        let mut after = world.consents.clone();
        for (n, consent) in after.iter_mut().enumerate() {
            if consent.state == ConsentState::Active && which >> n & 1 == 1 {
                consent.state = ConsentState::Revoked;
            }
        }
        world.never_widens(&after);
    }

    #[test]
    fn the_order_of_consents_changes_nothing(world in world(), turn in 0usize..5) {
        let mut turned = world.consents.clone();
        turned.reverse();
        let by = turn.min(turned.len());
        turned.rotate_left(by);
        prop_assert_eq!(world.outcomes(&world.consents), world.outcomes(&turned));
        prop_assert_eq!(world.at(&world.consents, NOW_MS).not_after_ms, world.at(&turned, NOW_MS).not_after_ms);
    }

    #[test]
    fn two_equal_consents_are_as_one(world in world(), which in any::<prop::sample::Index>()) {
        let mut doubled = world.consents.clone();
        let twin = doubled[which.index(doubled.len())].clone();
        doubled.push(Consent { id: "twin".into(), ..twin });
        prop_assert_eq!(world.outcomes(&world.consents), world.outcomes(&doubled));
    }

    #[test]
    fn nothing_changes_before_not_after(world in world(), wait in 0i64..5 * DAY_MS) {
        let now = world.at(&world.consents, NOW_MS);
        let last = now.not_after_ms.map_or(wait, |end| end - NOW_MS - 1);
        let later = NOW_MS + wait.min(last);
        prop_assert_eq!(now.resources, world.at(&world.consents, later).resources);
    }

    #[test]
    fn labelling_a_record_psy_never_releases_it_under_a_deny(world in world()) {
        let mut consents = world.consents.clone();
        consents.push(Consent { rules: vec![labelled_rule(1, Effect::Deny, &["PSY"])], id: "deny".into(), ..consent(Base::None) });
        prop_assume!(world.request.purpose != "PATRQT");
        for (record, found) in world.records.iter().zip(world.at(&consents, NOW_MS).resources) {
            let caught = record.sensitivity.iter().any(|l| l == "PSY") && record.subjects.iter().any(|s| s == PATIENT);
            prop_assert!(!caught || found.outcome == Outcome::Deny, "{found:?}");
        }
    }

    /// Whatever is cut from or put into a consent, import answers, and a refusal has a reason.
    #[test]
    fn import_answers_any_bytes(at in any::<prop::sample::Index>(), cut in 0usize..40, put in "[\\[\\]{}\":,a-z0-9 ]{0,12}") {
        let demo = super::demo::DEMO;
        let from = at.index(demo.len());
        let to = (from + cut).min(demo.len());
        let changed = format!("{}{put}{}", &demo[..from], &demo[to..]);
        if let Err(issues) = import_consent(changed.as_bytes()) {
            prop_assert!(!issues.is_empty() && issues.iter().all(|i| i.severity == Severity::Error));
        }
        let _ = describe_resource(changed.as_bytes());
    }
}
