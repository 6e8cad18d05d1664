//! Whose turn it is to propose, and who sits on the bench.
//!
//! Turns go round in order of address. A proposer that misses two of its turns in a row, with nothing proposed between, is
//! benched: others take its turns, so that a dead validator does not cost a time-out every few heights. One miss alone benches
//! nobody: at a start peers may not be connected yet. Everything follows from the headers (round and proposer), never from
//! certificates, which differ between nodes.

use std::collections::BTreeMap;

use assent_proto::ledger::v1::ValidatorSet;

use crate::hash::Hash;

/// Missed turns in a row that bench a proposer.
const MISSES_TO_BENCH: u32 = 2;
/// Heights on the bench at first; doubled each time it fails again.
const FIRST_HEIGHTS: u64 = 32;
/// Doublings at most: 1,024 heights.
const MAX_DOUBLINGS: u32 = 5;

/// What is remembered of a proposer that missed its last turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// Turns missed in a row.
    pub missed: u32,
    /// Last height at which it is benched; 0 when it never was.
    pub until: u64,
}

impl Absence {
    /// True while it is on the bench, or would be had there been room.
    pub fn is_absent(&self, height: u64) -> bool {
        self.missed >= MISSES_TO_BENCH || self.until >= height
    }
}

/// Proposers that missed their last turn, by address. Part of the tip.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bench(pub BTreeMap<Hash, Absence>);

impl Bench {
    /// Addresses that propose at a height, in order of turn: all that aren't benched, or all when nobody is left.
    pub fn proposers(&self, set: &ValidatorSet, height: u64) -> Vec<Hash> {
        let all = || set.validators.iter().filter_map(|v| <Hash>::try_from(v.vote_key.as_slice()).ok());
        let active: Vec<Hash> = all().filter(|a| !self.is_benched(a, height)).collect();
        match active.is_empty() {
            true => all().collect(),
            false => active,
        }
    }

    /// Address whose turn a round is; none for an empty set.
    pub fn proposer(&self, set: &ValidatorSet, height: u64, round: u32) -> Option<Hash> {
        turn(&self.proposers(set, height), height, round).copied()
    }

    /// True when the turn of round 0 is one's that sat on the bench and has not proposed since: it is waited for less long.
    pub fn tries_again(&self, set: &ValidatorSet, height: u64) -> bool {
        let first = self.proposer(set, height, 0);
        first.is_some_and(|a| self.0.get(&a).is_some_and(|absence| absence.until > 0))
    }

    fn is_benched(&self, address: &Hash, height: u64) -> bool {
        self.0.get(address).is_some_and(|a| a.until >= height)
    }

    /// The bench after a block at `height` that `proposer` built for `round`: everybody whose turn an earlier round was has
    /// missed it. At most f = (n - 1) / 3 are benched at once.
    pub fn after(&self, set: &ValidatorSet, height: u64, round: u32, proposer: &Hash) -> Self {
        let mut next = self.clone();
        let turns = self.proposers(set, height);
        let rounds = round.min(u32::try_from(turns.len()).unwrap_or(u32::MAX));
        for missed in (0..rounds).filter_map(|r| turn(&turns, height, r)).filter(|a| *a != proposer) {
            next.miss(set, height, missed);
        }
        next.0.remove(proposer);
        next
    }

    /// The bench of a set: who votes no more, or by another key, is not on it.
    pub fn within(mut self, set: &ValidatorSet) -> Self {
        self.0.retain(|address, _| set.validators.iter().any(|v| v.vote_key == address));
        self
    }

    fn miss(&mut self, set: &ValidatorSet, height: u64, address: &Hash) {
        let others = self.0.iter().filter(|(a, x)| *a != address && x.until > height).count();
        let room = others < (set.validators.len().saturating_sub(1)) / 3;
        let absence = self.0.entry(*address).or_insert(Absence { missed: 0, until: 0 });
        absence.missed = absence.missed.saturating_add(1);
        if room && absence.missed >= MISSES_TO_BENCH {
            let doublings = (absence.missed - MISSES_TO_BENCH).min(MAX_DOUBLINGS);
            absence.until = height.saturating_add(FIRST_HEIGHTS << doublings);
        }
    }
}

/// The one whose turn a round is, among those who propose at a height.
pub fn turn<T>(proposers: &[T], height: u64, round: u32) -> Option<&T> {
    let count = proposers.len() as u128;
    let number = u128::from(height.saturating_sub(1)) + u128::from(round);
    proposers.get(usize::try_from(number.checked_rem(count)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use assent_proto::ledger::v1::Validator;

    fn set(n: u8) -> ValidatorSet {
        let validators = (1..=n)
            .map(|i| Validator { organization: format!("o{i}"), vote_key: vec![i; 32], power: 1 })
            .collect();
        ValidatorSet { validators, ..Default::default() }
    }

    /// Heights of a chain in which `dead` never proposes: how many rounds were lost.
    fn lost_rounds(n: u8, dead: &[u8], heights: u64) -> (u64, Bench) {
        let (set, mut bench, mut lost) = (set(n), Bench::default(), 0);
        for height in 1..=heights {
            let round =
                (0..100).find(|r| !dead.contains(&bench.proposer(&set, height, *r).unwrap()[0])).unwrap();
            let proposer = bench.proposer(&set, height, round).unwrap();
            bench = bench.after(&set, height, round, &proposer);
            lost += u64::from(round);
        }
        (lost, bench)
    }

    #[test]
    fn turns_go_round() {
        let set = set(4);
        let who = |h, r| Bench::default().proposer(&set, h, r).unwrap()[0];
        assert_eq!([who(1, 0), who(2, 0), who(3, 0), who(4, 0), who(5, 0), who(1, 1)], [1, 2, 3, 4, 1, 2]);
        assert_eq!(turn(&[0u8; 0], 1, 0), None);
        assert!(Bench::default().proposer(&set, u64::MAX, u32::MAX).is_some());
    }

    #[test]
    fn one_miss_benches_nobody_and_the_next_proposal_clears_it() {
        let set = set(4);
        let bench = Bench::default().after(&set, 1, 1, &[2; 32]);
        assert_eq!(bench.0.get(&[1; 32]), Some(&Absence { missed: 1, until: 0 }));
        assert_eq!(bench.proposers(&set, 2).len(), 4);
        assert_eq!(bench.after(&set, 5, 0, &[1; 32]), Bench::default());
    }

    #[test]
    fn a_dead_proposer_costs_ever_fewer_rounds_and_at_most_f_are_benched() {
        // Without a bench one of four would cost 1,000 rounds of 4,000 heights.
        let (lost, bench) = lost_rounds(4, &[3], 4_000);
        assert!(lost < 12, "{lost}");
        assert_eq!(bench.0.len(), 1);
        let (lost, _) = lost_rounds(7, &[2, 5], 4_000);
        assert!(lost < 24, "{lost}");
        // Two of four: only one may sit.
        let (_, bench) = lost_rounds(4, &[1, 2], 400);
        assert_eq!(bench.0.values().filter(|a| a.until > 400).count(), 1);
        // Alone there is nobody to bench.
        assert_eq!(lost_rounds(1, &[], 100), (0, Bench::default()));
    }

    #[test]
    fn who_comes_from_the_bench_tries_again_until_it_has_proposed() {
        let set = set(4);
        let tries = |until, height| {
            let bench = Bench(BTreeMap::from([([1; 32], Absence { missed: 2, until })]));
            bench.tries_again(&set, height)
        };
        // The turn of 1 is at 5. One that missed and never sat is waited for as any other; nor are others hurried.
        assert_eq!([tries(4, 5), tries(0, 5), tries(4, 6), tries(9, 5)], [true, false, false, false]);
        assert!(!Bench::default().tries_again(&set, 5));
    }

    #[test]
    fn an_absurd_round_is_cheap() {
        let bench = Bench::default().after(&set(4), u64::MAX, u32::MAX, &[2; 32]);
        assert_eq!(bench.0.len(), 3);
    }
}
