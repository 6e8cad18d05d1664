//! Which blocks more than 2/3 of the power prevoted, as the engine found it: it never tells its application.
//!
//! A part that says that its block is proposed again is only its publisher's word, and so is the round in it: the engine pairs blocks
//! and signed proposals by hash alone. So a block that this node did not find valid before is spared the look at the clock only when
//! these votes were seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use assent_ledger::certificate::is_quorum;
use malachite_app_channel::app::types::core::{NilOrVal, Validator, ValidatorSet as _, VoteType};

use super::types::{Address, BlockHash, Vote};
use super::validators::ValidatorSet;

/// Most (height, round, block) that votes are kept for.
const MAX_VOTED: usize = 1024;

type Voted = BTreeMap<(u64, u32, BlockHash), BTreeSet<Address>>;

/// Prevotes for blocks of the heights above the tip, each with a signature that holds.
#[derive(Debug, Clone, Default)]
pub struct Prevotes(Arc<Mutex<Voted>>);

impl Prevotes {
    fn lock(&self) -> MutexGuard<'_, Voted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A vote whose signature holds.
    pub fn saw(&self, vote: &Vote) {
        let (VoteType::Prevote, NilOrVal::Val(hash), Some(round)) =
            (vote.kind, vote.value, vote.round.as_u32())
        else {
            return;
        };
        let mut voted = self.lock();
        let key = (vote.height.0, round, hash);
        if voted.len() < MAX_VOTED || voted.contains_key(&key) {
            voted.entry(key).or_default().insert(vote.address);
        }
    }

    /// Whether more than 2/3 of the power prevoted a block in a round.
    pub fn polka(&self, height: u64, round: u32, hash: BlockHash, set: &ValidatorSet) -> bool {
        let voted = self.lock();
        let by = voted.get(&(height, round, hash)).into_iter().flatten();
        let power = by.filter_map(|a| set.get_by_address(a)).map(Validator::voting_power).sum();
        is_quorum(power, set.total_voting_power())
    }

    /// Forgets everything up to a height.
    pub fn advance(&self, tip: u64) {
        self.lock().retain(|(height, _, _), _| *height > tip);
    }
}

#[cfg(test)]
mod tests {
    use assent_proto::ledger::v1 as proto;
    use malachite_app_channel::app::types::core::Round;

    use super::super::types::Height;
    use super::*;

    #[test]
    fn more_than_two_thirds_make_a_polka_and_nobody_counts_twice() {
        let validator =
            |k: u8| proto::Validator { organization: String::new(), vote_key: vec![k; 32], power: 1 };
        let set = proto::ValidatorSet { validators: (1..=4).map(validator).collect(), ..Default::default() };
        let set = ValidatorSet::from_proto(&set).unwrap();
        let (prevotes, hash) = (Prevotes::default(), BlockHash([9; 32]));
        let vote = |key: u8, kind, value| {
            let address = Address([key; 32]);
            prevotes.saw(&Vote { kind, height: Height(5), round: Round::new(1), value, address });
            prevotes.polka(5, 1, hash, &set)
        };
        use VoteType::{Precommit, Prevote};
        assert!(!vote(1, Prevote, NilOrVal::Val(hash)));
        assert!(!vote(2, Prevote, NilOrVal::Val(hash)));
        assert!(!vote(2, Prevote, NilOrVal::Val(hash)), "the same one");
        assert!(!vote(3, Precommit, NilOrVal::Val(hash)), "no prevote");
        assert!(!vote(3, Prevote, NilOrVal::Nil), "for nothing");
        assert!(!vote(3, Prevote, NilOrVal::Val(BlockHash([8; 32]))), "for another");
        assert!(!vote(7, Prevote, NilOrVal::Val(hash)), "no validator");
        assert!(vote(3, Prevote, NilOrVal::Val(hash)));
        assert!(!prevotes.polka(5, 0, hash, &set) && !prevotes.polka(4, 1, hash, &set));
        prevotes.advance(5);
        assert!(!prevotes.polka(5, 1, hash, &set));
        for height in 0..5_000 {
            let value = NilOrVal::Val(hash);
            let (round, address) = (Round::ZERO, Address([1; 32]));
            prevotes.saw(&Vote { kind: Prevote, height: Height(height), round, value, address });
        }
        assert_eq!(prevotes.lock().len(), MAX_VOTED);
    }
}
