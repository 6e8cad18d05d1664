//! What the other validators say their newest block is: authenticated by organization, true or not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use assent_proto::ledger::v1::ValidatorSet;

/// Heights by organization: what each said first since this process started. Cheap to clone.
///
/// The first is the lowest, and any that was said after the start serves: what a validator signed before it, it decided or is
/// about to.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<Mutex<BTreeMap<String, u64>>>);

impl Reports {
    /// An organization says that it has decided this height.
    pub fn note(&self, organization: &str, height: u64) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.entry(organization.to_owned()).or_insert(height);
    }

    /// Height and power of each other validator that has said something.
    pub fn of(&self, set: &ValidatorSet, own: &[u8]) -> Said {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = set.validators.iter().filter(|v| v.vote_key != own);
        let mut heights: Vec<(u64, u128)> = others
            .filter_map(|v| first.get(&v.organization).map(|height| (*height, u128::from(v.power))))
            .collect();
        heights.sort_unstable();
        let power = |all: bool| -> u128 {
            set.validators.iter().filter(|v| all || v.vote_key == own).map(|v| u128::from(v.power)).sum()
        };
        Said { heights, total: power(true), own: power(false) }
    }
}

/// Reports, weighed.
#[derive(Debug)]
pub struct Said {
    /// Ascending, with the power behind each.
    heights: Vec<(u64, u128)>,
    total: u128,
    own: u128,
}

impl Said {
    /// The lowest height that more than 2/3 of the power, this node's own not counted, says it is not above; none while fewer
    /// have spoken. Whoever helped to decide a block together with this node is among them, and knew its parent.
    pub fn settled(&self) -> Option<u64> {
        let mut power = 0;
        let enough = |(_, more): &&(u64, u128)| {
            power += more;
            power * 3 > self.total * 2
        };
        self.heights.iter().find(enough).map(|(height, _)| *height)
    }

    /// The highest height that more than 1/3 of the power says it has decided: then somebody honest has.
    pub fn decided(&self) -> u64 {
        let mut power = 0;
        let enough = |(_, more): &&(u64, u128)| {
            power += more;
            power * 3 > self.total
        };
        self.heights.iter().rev().find(enough).map_or(0, |(height, _)| *height)
    }

    /// True when every other validator has spoken.
    pub fn all_spoke(&self) -> bool {
        self.spoken() + self.own == self.total
    }

    fn spoken(&self) -> u128 {
        self.heights.iter().map(|(_, power)| power).sum()
    }

    /// True when so many have spoken that together with this node they can decide.
    pub fn enough_to_decide(&self) -> bool {
        (self.spoken() + self.own) * 3 > self.total * 2
    }
}

#[cfg(test)]
mod tests {
    use assent_proto::ledger::v1::Validator;

    use super::*;

    fn said(n: u8, reports: &[(u8, u64)]) -> Said {
        let validator = |i: u8| Validator { organization: format!("o-{i}"), vote_key: vec![i; 32], power: 5 };
        let set = ValidatorSet { validators: (0..n).map(validator).collect(), ..Default::default() };
        let known = Reports::default();
        known.note("a stranger", 99);
        known.note("o-0", 77); // this node itself counts for nothing
        for (i, height) in reports {
            known.note(&format!("o-{i}"), *height);
        }
        known.of(&set, &[0; 32])
    }

    #[test]
    fn of_four_all_three_others_must_speak_and_the_highest_counts() {
        assert_eq!(said(4, &[(1, 10), (2, 10)]).settled(), None);
        assert_eq!(said(4, &[(1, 10), (2, 3), (3, 11)]).settled(), Some(11));
        assert_eq!(said(4, &[(1, 10)]).decided(), 0);
        assert_eq!(said(4, &[(1, 10), (2, 12)]).decided(), 10);
        // One lie, however high, moves nothing that needs two.
        assert_eq!(said(4, &[(1, 10), (2, u64::MAX), (3, 11)]).decided(), 11);
        assert!(!said(4, &[(1, 10)]).enough_to_decide());
        assert!(said(4, &[(1, 10), (3, 10)]).enough_to_decide());
    }

    #[test]
    fn of_seven_one_that_lies_or_sleeps_is_not_waited_for() {
        let five = [(1, 10), (2, 10), (3, 9), (4, 10), (5, 2)];
        assert_eq!(said(7, &five).settled(), Some(10));
        assert_eq!(said(7, &[&five[..], &[(6, u64::MAX)]].concat()).settled(), Some(10));
        assert_eq!(said(7, &five[..4]).settled(), None);
    }

    #[test]
    fn the_first_word_counts_and_one_alone_waits_for_nobody() {
        let known = Reports::default();
        known.note("o-1", 5);
        known.note("o-1", 500);
        assert_eq!(known.0.lock().unwrap()["o-1"], 5);
        assert!(said(1, &[]).enough_to_decide());
    }
}
