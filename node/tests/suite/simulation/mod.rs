//! Simulation: whole consortiums in one thread, in virtual time, with lossy links, crashes, bad clocks and liars; hundreds of them, each
//! from one seed.
//!
//! ```text
//! cargo test --release -p assent-node -- simulation::                           all, ASSENT_SIM_SEEDS of them (500)
//! ASSENT_SIM_SEED=17 cargo test --release -p assent-node -- --nocapture simulation::seeds      one, with its trace
//! ```
//! Real are ledger, store, mempool, replica, keys and signatures; a model are the consensus engine ([`engine`]), the network and the
//! clients. What must hold is in [`invariants`], one file each. That each of them can fail is shown here, by bugs that are built in on
//! purpose ([`Bug`]), and in the files, by logs that break them.

mod byzantine;
mod calls;
mod clients;
mod consortium;
mod ending;
mod engine;
mod governors;
mod invariants;
mod keys;
mod network;
mod plan;
mod replica;
mod rules;
mod trace;
mod world;

use std::collections::BTreeMap;

use plan::Plan;
use world::World;

/// Seeds of a run.
const SEEDS: u64 = 500;

/// A bug that is built in, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    None,
    /// Prevotes for any valid block, whatever it is locked on.
    ForgetsLock,
    /// Loses the engine's log in a crash, and signs anew.
    LosesLog,
    /// Commits with two precommits.
    CommitsEarly,
    /// Two of four sign whatever each receiver likes to hear.
    TwoCollude,
    /// Acknowledges what only waits.
    TellsEarly,
    /// Counts votes by the set of genesis for ever.
    KeepsOldSet,
}

/// An invariant does not hold.
#[derive(Debug)]
pub struct Broken {
    pub invariant: &'static str,
    pub what: String,
}

/// What a run came to.
struct Run {
    hash: String,
    counts: BTreeMap<&'static str, u64>,
    outcome: Result<(), Broken>,
}

fn run(seed: u64, bug: Bug, print: bool) -> Run {
    match World::new(Plan::new(seed, bug), print) {
        Err(broken) => Run { hash: String::new(), counts: BTreeMap::new(), outcome: Err(broken) },
        Ok(mut world) => {
            let outcome = world.run();
            Run { hash: world.trace.hash(), counts: world.trace.counts, outcome }
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect(name))
}

/// The first seed that breaks an invariant under a bug, and which. One that is named is replayed.
fn first_broken(bug: Bug, seeds: std::ops::Range<u64>) -> Option<(u64, Broken)> {
    let one = number("ASSENT_SIM_SEED");
    let mut seeds = one.map_or(seeds, |seed| seed..seed + 1);
    seeds.find_map(|seed| Some((seed, run(seed, bug, one.is_some()).outcome.err()?)))
}

#[test]
fn seeds() {
    let one = number("ASSENT_SIM_SEED");
    let seeds = one.map_or(0..number("ASSENT_SIM_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let started = std::time::Instant::now();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds.clone() {
        let run = run(seed, Bug::None, one.is_some());
        if let Err(Broken { invariant, what }) = run.outcome {
            panic!(
                "seed {seed} breaks {invariant}: {what}\nreplay it: ASSENT_SIM_SEED={seed} \
                 cargo test --release -p assent-node -- --nocapture simulation::seeds"
            );
        }
        run.counts.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
    }
    let took = started.elapsed();
    eprintln!("{} seeds in {took:.1?}: {counts:?}", seeds.end - seeds.start);
    // A simulation in which nothing goes wrong shows nothing.
    if seeds.end - seeds.start >= 100 {
        let all =
            ["breaks off", "caught up", "crashes", "decided", "finds invalid", "gives up", "proposes again"];
        let governed = ["gets a vote", "loses its vote", "has a new vote key"];
        for what in all
            .into_iter()
            .chain(["refuses from a peer", "signs again", "tells", "turns away"])
            .chain(governed)
        {
            assert!(counts.contains_key(what), "it never happened that a validator {what}");
        }
    }
}

#[test]
fn a_seed_is_always_the_same_story() {
    for seed in [1, 5, 12] {
        let hashes = [run(seed, Bug::None, false).hash, run(seed, Bug::None, false).hash];
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
        assert_ne!(hashes[0], run(seed + 100, Bug::None, false).hash);
    }
}

#[test]
fn a_forgotten_lock_is_found() {
    let (seed, broken) = first_broken(Bug::ForgetsLock, 0..200).expect("it breaks nothing");
    eprintln!("seed {seed}: {broken:?}");
    assert_eq!(broken.invariant, "agreement");
}

#[test]
fn a_lost_log_is_found() {
    let (seed, broken) = first_broken(Bug::LosesLog, 0..200).expect("it breaks nothing");
    eprintln!("seed {seed}: {broken:?}");
    assert!(["agreement", "one_proposal"].contains(&broken.invariant));
}

#[test]
fn two_liars_of_four_are_found() {
    let (seed, broken) = first_broken(Bug::TwoCollude, 0..200).expect("it breaks nothing");
    eprintln!("seed {seed}: {broken:?}");
    assert_eq!(broken.invariant, "agreement");
}

/// The boundary holds by itself: the replica refuses a certificate of too few, whatever the engine believes.
#[test]
fn an_early_commit_is_refused_by_the_replica() {
    let (seed, broken) = first_broken(Bug::CommitsEarly, 0..20).expect("it breaks nothing");
    eprintln!("seed {seed}: {broken:?}");
    assert_eq!(broken.invariant, "no failure");
    assert!(broken.what.contains("more than 2/3 needed"), "{}", broken.what);
}

/// The same for who may vote: votes by a set that is past don't make a certificate.
#[test]
fn an_old_set_is_refused_by_the_replica() {
    let (seed, broken) = first_broken(Bug::KeepsOldSet, 0..100).expect("it breaks nothing");
    eprintln!("seed {seed}: {broken:?}");
    assert_eq!(broken.invariant, "no failure");
}

#[test]
fn an_early_acknowledgement_is_found() {
    let (seed, broken) = first_broken(Bug::TellsEarly, 0..20).expect("it breaks nothing");
    eprintln!("seed {seed}: {broken:?}");
    assert_eq!(broken.invariant, "acknowledged");
}
