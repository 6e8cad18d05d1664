//! The ledger against the reference model: equal on every generated case, and able to tell every mutant.

use std::collections::BTreeMap;

use super::reference::{generate, Model, Mutant, Random, Tree, World, MUTANTS};
use super::*;

const CASES: usize = 100_000;
const SEED: u64 = 0x00C0_5E17;

fn by_ledger(world: &World) -> Vec<ResourceDecision> {
    decide(&DecisionInput {
        consents: &world.consents,
        policy: world.policy.as_ref(),
        request: &world.request,
        resources: &world.records,
        at_ms: world.at_ms,
        frozen: world.frozen,
    })
    .resources
}

/// Each outcome occurs often enough that agreeing on it means something.
#[test]
fn ledger_and_reference_agree_on_every_case() {
    let (tree, mut random) = (Tree::of_the_tables(), Random(SEED));
    let mut seen = BTreeMap::new();
    for n in 0..CASES {
        let world = generate(&mut random, &tree);
        let model = Model { tree: &tree, world: &world, mutant: Mutant::None };
        let (ours, theirs) = (by_ledger(&world), model.decide());
        for ((ours, theirs), record) in ours.iter().zip(&theirs).zip(&world.records) {
            *seen.entry(ours.outcome.as_str()).or_insert(0) += 1;
            let found = (ours.outcome, ours.decided_by.clone(), ours.obligations.clone());
            assert_eq!(&found, theirs, "case {n}: ledger, reference: {record:#?} {world:#?}");
            assert_eq!(ours.assumed_labels, model.assumes(record), "case {n}");
        }
    }
    assert!(seen.len() == 5 && seen.values().all(|count| *count > CASES / 100), "{seen:?}");
}

/// A reading that is broken in one arm differs from the ledger's, so a ledger that is broken there differs from the reference.
#[test]
fn every_mutant_is_caught() {
    let tree = Tree::of_the_tables();
    for mutant in MUTANTS {
        let mut random = Random(SEED);
        let caught = (0..CASES).find(|_| {
            let world = generate(&mut random, &tree);
            let theirs = Model { tree: &tree, world: &world, mutant }.decide();
            by_ledger(&world).iter().zip(&theirs).any(|(ours, theirs)| ours.outcome != theirs.0)
        });
        assert!(caught.is_some(), "{mutant:?} agrees on {CASES} cases");
    }
}
