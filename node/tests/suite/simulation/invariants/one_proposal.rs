//! One proposal: an honest validator proposes one block for a height and round, also when it crashes after it built one.

use std::collections::BTreeMap;

use assent_ledger::Hash;
use assent_node::order::Candidate;

/// Blocks by height, round and proposer.
#[derive(Default)]
pub struct OneProposal {
    first: BTreeMap<(u64, u32, Hash), Hash>,
}

impl OneProposal {
    /// A block is proposed.
    pub fn proposed(&mut self, c: &Candidate) -> Result<(), String> {
        let first = self.first.entry((c.height, c.round, c.proposer)).or_insert(c.hash);
        match *first == c.hash {
            true => Ok(()),
            false => Err(format!("two blocks for {}/{} by one proposer", c.height, c.round)),
        }
    }
}

#[test]
fn a_second_block_is_found() {
    let candidate = |round, hash| Candidate {
        height: 1,
        round,
        pol_round: None,
        proposer: [7; 32],
        hash: [hash; 32],
        bytes: Default::default(),
    };
    let mut seen = OneProposal::default();
    seen.proposed(&candidate(0, 1)).unwrap();
    seen.proposed(&candidate(0, 1)).unwrap();
    seen.proposed(&candidate(1, 2)).unwrap();
    assert!(seen.proposed(&candidate(0, 2)).is_err());
}
