//! The laws of CONSENT.md, over generated worlds: every attribute, nesting, break-glass, default policy, several patients.
//! Widening is: what was withheld is released.

use super::reference::{generate, Random, Tree, World};
use super::*;
use proptest::prelude::*;

const WORLDS: usize = 20_000;

fn at(world: &World, consents: &[Consent], at_ms: i64) -> Decision {
    decide(&DecisionInput {
        consents,
        policy: world.policy.as_ref(),
        request: &world.request,
        resources: &world.records,
        at_ms,
        frozen: world.frozen,
    })
}

fn outcomes(world: &World, consents: &[Consent]) -> Vec<(Outcome, Vec<String>)> {
    at(world, consents, world.at_ms).resources.into_iter().map(|r| (r.outcome, r.obligations)).collect()
}

/// Whatever is released with `after` was released before. Says how many records were withheld that weren't.
fn never_widens(world: &World, after: &[Consent]) -> usize {
    let pairs = outcomes(world, &world.consents).into_iter().zip(outcomes(world, after));
    pairs
        .map(|(before, after)| {
            let (before, after) = (before.0.is_permitted(), after.0.is_permitted());
            assert!(before || !after, "widened: {world:#?}");
            usize::from(before && !after)
        })
        .sum()
}

/// Runs a law over many worlds, each with randomness of its own. The law says how often it had something to say.
fn for_all_worlds(seed: u64, law: impl Fn(&World, &mut Random, &Tree) -> usize) {
    let (tree, mut random) = (Tree::of_the_tables(), Random(seed));
    let mut told = 0;
    for _ in 0..WORLDS {
        let world = generate(&mut random, &tree);
        told += law(&world, &mut random, &tree);
    }
    assert!(told > WORLDS / 100, "the law was put to the test {told} times");
}

/// A consent of another generated world.
fn another(random: &mut Random, tree: &Tree) -> Consent {
    loop {
        if let Some(found) = generate(random, tree).consents.pop() {
            return Consent { id: "more".into(), revision: 0, ..found };
        }
    }
}

fn denies_only(consent: Consent) -> Consent {
    let deny = |rule: &Rule| rule.clause.effect == Effect::Deny;
    Consent {
        base: if consent.base == Base::Permit { Base::Deny } else { consent.base },
        root_rule: consent.root_rule.filter(deny),
        rules: consent.rules.into_iter().filter(deny).collect(),
        ..consent
    }
}

#[test]
fn adding_a_consent_that_denies_never_widens() {
    for_all_worlds(1, |world, random, tree| {
        let mut after = world.consents.clone();
        let place = random.below(after.len() + 1);
        after.insert(place, denies_only(another(random, tree)));
        never_widens(world, &after)
    });
}

#[test]
fn adding_a_deny_rule_never_widens() {
    for_all_worlds(2, |world, random, tree| {
        let mut after = world.consents.clone();
        if after.is_empty() {
            return 0;
        }
        let rules = another(random, tree).rules;
        let Some(more) = rules.into_iter().find(|rule| rule.clause.effect == Effect::Deny) else { return 0 };
        let which = random.below(after.len());
        let clause = match random.once_in(2) {
            true => Clause { data: more.clause.data, ..Clause::of(Effect::Deny) },
            false => more.clause,
        };
        let within = if random.once_in(2) { vec![] } else { more.within };
        after[which].rules.push(Rule { id: "more".into(), clause, within, ..more });
        never_widens(world, &after)
    });
}

#[test]
fn revoking_never_widens() {
    for_all_worlds(3, |world, random, _| {
        let mut after = world.consents.clone();
        for consent in &mut after {
            if consent.state == ConsentState::Active && random.once_in(2) {
                consent.state = consent.state.after(Step::Revoke).expect("active");
            }
        }
        never_widens(world, &after)
    });
}

/// "Splitting a consent into two equal ones changes nothing."
#[test]
fn two_equal_consents_are_as_one() {
    for_all_worlds(4, |world, random, _| {
        if world.consents.is_empty() {
            return 0;
        }
        let mut doubled = world.consents.clone();
        let which = random.below(doubled.len());
        let twin = doubled[which].clone();
        // Its revisions go with it: an earlier one alone would count.
        let revisions: Vec<Consent> = doubled
            .iter()
            .filter(|c| c.id == twin.id && c.subject == twin.subject)
            .map(|c| Consent { id: "twin".into(), ..c.clone() })
            .collect();
        doubled.extend(revisions);
        assert_eq!(outcomes(world, &world.consents), outcomes(world, &doubled));
        1
    });
}

#[test]
fn the_order_of_consents_changes_nothing() {
    for_all_worlds(5, |world, random, _| {
        let mut turned = world.consents.clone();
        turned.reverse();
        if !turned.is_empty() {
            let by = random.below(turned.len());
            turned.rotate_left(by);
        }
        assert_eq!(outcomes(world, &world.consents), outcomes(world, &turned));
        let not_after = |consents: &[Consent]| at(world, consents, world.at_ms).not_after_ms;
        assert_eq!(not_after(&world.consents), not_after(&turned));
        usize::from(world.consents.len() > 1)
    });
}

#[test]
fn nothing_changes_before_not_after() {
    for_all_worlds(6, |world, random, _| {
        let now = at(world, &world.consents, world.at_ms);
        let wait = random.of(&[1, 1000, DAY_MS - 1, DAY_MS, 5 * DAY_MS]);
        let last = now.not_after_ms.map_or(wait, |end| end - world.at_ms - 1);
        let later = world.at_ms + wait.min(last);
        assert_eq!(now.resources, at(world, &world.consents, later).resources);
        usize::from(later > world.at_ms)
    });
}

/// "Every path gives the same outcome": a record's does not depend on what else is asked for.
#[test]
fn each_record_is_decided_by_itself() {
    for_all_worlds(7, |world, _, _| {
        let together = at(world, &world.consents, world.at_ms).resources;
        for (record, found) in world.records.iter().zip(&together) {
            let alone = World { records: vec![record.clone()], ..world.clone() };
            assert_eq!(at(&alone, &alone.consents, alone.at_ms).resources[0], *found);
        }
        usize::from(together.len() > 1)
    });
}

#[test]
fn labelling_a_record_psy_never_releases_it_under_a_deny() {
    for_all_worlds(8, |world, _, _| {
        let mut consents = world.consents.clone();
        let rules = vec![labelled_rule(1, Effect::Deny, &["PSY"])];
        consents.push(Consent { id: "deny".into(), rules, ..consent(Base::None) });
        let overridden = world.request.purpose == "PATRQT"
            || world.request.required_by_law.is_some()
            || world.request.break_glass.is_some();
        if overridden {
            return 0;
        }
        let found = at(world, &consents, world.at_ms).resources;
        let caught = world.records.iter().zip(found).filter(|(record, _)| {
            record.sensitivity.iter().any(|l| l == "PSY") && record.subjects.iter().any(|s| s == PATIENT)
        });
        caught.map(|(_, found)| assert_eq!(found.outcome, Outcome::Deny, "{found:?}")).count()
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is cut from or put into a consent, import answers, and a refusal has a reason.
    #[test]
    fn import_answers_any_bytes(at in any::<prop::sample::Index>(), cut in 0usize..40, put in "[\\[\\]{}\":,a-z0-9 ]{0,12}") {
        let demo = super::demo::DEMO;
        let from = at.index(demo.len());
        let to = (from + cut).min(demo.len());
        let changed = format!("{}{put}{}", &demo[..from], &demo[to..]);
        for import in [import_consent, import_consent_leniently] {
            if let Err(issues) = import(changed.as_bytes()) {
                prop_assert!(!issues.is_empty() && issues.iter().all(|i| i.severity == Severity::Error));
            }
        }
        let _ = describe_resource(changed.as_bytes());
        let _ = Request::parse(changed.as_bytes());
        let _ = export_consent(changed.as_bytes(), &Recorded { consent_id: String::new(), revision: 0, height: 0, commitment: [0; 32] });
    }
}
