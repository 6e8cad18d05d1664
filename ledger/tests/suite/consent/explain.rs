//! Explanations: the decision's own outcome, every rule's reasons, and claims that deciding again bears out.

use std::collections::BTreeMap;

use super::reference::{generate, Random, Tree, World};
use super::*;

const WORLDS: usize = 10_000;

fn input(world: &World) -> DecisionInput<'_> {
    DecisionInput {
        consents: &world.consents,
        policy: world.policy.as_ref(),
        request: &world.request,
        resources: &world.records,
        at_ms: world.at_ms,
        frozen: world.frozen,
    }
}

/// The change, made by hand.
fn changed(world: &World, change: &Change) -> World {
    let mut world = world.clone();
    match change {
        Change::WithoutRule { consent, rule } => {
            for c in world.consents.iter_mut().filter(|c| c.id == *consent) {
                c.rules.retain(|r| r.id != *rule);
                if rule == "0" {
                    (c.base, c.root_rule) = (Base::None, None);
                }
            }
        }
        Change::WithoutConsent { consent } => world.consents.retain(|c| c.id != *consent),
        Change::NotWithdrawn => world.frozen = false,
        Change::WithoutPolicy => world.policy = None,
        Change::Assessed => {
            for record in world.records.iter_mut().filter(|r| !r.assessed) {
                (record.assessed, record.confidentiality) = (true, Some(Conf::N));
            }
        }
    }
    world
}

#[test]
fn an_explanation_is_the_decision_and_its_claims_are_true() {
    let (tree, mut random) = (Tree::of_the_tables(), Random(0xE1));
    let mut claims = BTreeMap::new();
    for _ in 0..WORLDS {
        let world = generate(&mut random, &tree);
        let explained = explain(&input(&world));
        assert_eq!(explained.decision, decide(&input(&world)));
        assert_eq!(explained.resources.len(), world.records.len());
        for (n, why) in explained.resources.iter().enumerate() {
            let outcome = explained.decision.resources[n].outcome;
            for claim in &why.would_change {
                let then = decide(&input(&changed(&world, &claim.change))).resources[n].outcome;
                assert_eq!(then, claim.outcome, "{claim}: {world:#?}");
                assert_ne!(then, outcome, "{claim}");
                let kind = format!("{:?}", claim.change);
                *claims.entry(kind.split(' ').next().unwrap_or_default().to_owned()).or_insert(0) += 1;
            }
        }
    }
    assert!(claims.len() == 5 && claims.values().all(|count| *count > WORLDS / 200), "{claims:?}");
}

#[test]
fn every_rule_that_decided_was_tried_and_what_holds_has_no_objection() {
    let (tree, mut random) = (Tree::of_the_tables(), Random(0xE2));
    let (mut deciding, mut seen) = (0, BTreeMap::new());
    for _ in 0..WORLDS {
        let world = generate(&mut random, &tree);
        let explained = explain(&input(&world));
        for (decision, why) in explained.decision.resources.iter().zip(&explained.resources) {
            for tried in &why.tried {
                assert_eq!(tried.holds == Kleene::True, tried.because.is_empty(), "{tried:?}");
                tried.because.iter().for_each(|name| *seen.entry(*name).or_insert(0) += 1);
            }
            for by in &decision.decided_by {
                let DecidedBy::Consent { consent, rule } = by else { continue };
                let tried = why.tried.iter().filter(|t| t.consent == *consent && t.rule == *rule);
                let holds: Vec<Kleene> = tried.map(|t| t.holds).collect();
                assert!(holds.iter().any(|h| *h != Kleene::False), "{by:?} decided: {why:#?} {world:#?}");
                deciding += 1;
            }
        }
    }
    let names = [
        "action",
        "authority",
        "data.authors",
        "data.codes",
        "data.confidentiality",
        "data.dates",
        "data.encounters",
        "data.instances",
        "data.labels",
        "data.types",
        "period",
        "purpose",
        "recipient",
        "revoked",
        "unresolved",
    ];
    assert!(deciding > WORLDS / 5, "{deciding}");
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), names, "{seen:?}");
}

#[test]
fn it_says_what_it_means() {
    let deny = labelled_rule(1, Effect::Deny, &["PSY"]);
    let consents = [Consent { rules: vec![deny], ..consent(Base::Permit) }];
    let (request, resources) = (birch("TREAT"), [record(Conf::N, &["PSY"]), unlabelled()]);
    let input = DecisionInput {
        consents: &consents,
        policy: None,
        request: &request,
        resources: &resources,
        at_ms: NOW_MS,
        frozen: false,
    };
    let explained = explain(&input);
    let said =
        |n: usize| explained.resources[n].would_change.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        said(0),
        ["without rule c/1 the outcome would be PERMIT", "without consent c the outcome would be NO_CONSENT"]
    );
    assert_eq!(
        said(1)[0],
        "if the record's labels were assessed, as confidentiality N and nothing more, the outcome would be PERMIT"
    );
    let tried = &explained.resources[1].tried[0];
    assert_eq!((tried.holds, tried.because.as_slice()), (Kleene::Unknown, &["data.labels"][..]));
    assert_eq!((tried.rule.as_str(), tried.effect), ("1", "DENY"));
}
