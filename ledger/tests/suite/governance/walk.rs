//! A random walk: whatever the members do, the invariants of membership hold after every block.

use std::collections::BTreeSet;

use assent_ledger::audit::verify_export;
use assent_ledger::block::{build_block, Proposal};
use assent_ledger::certificate::{is_quorum, total_power, validator_set_hash};
use assent_ledger::governance::present_key;
use assent_ledger::keys::{verify_batch, SigningKey};
use assent_ledger::membership::members_root;
use assent_ledger::state::organization;
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::{Header, KeyPurpose, Operation};
use proptest::prelude::*;
use prost::Message;

use super::{
    add_organization, add_validator, addresses, approve, members, network, propose, ready, record,
    remove_organization, remove_validator, replace_key, rotate, step, suspend,
};
use crate::chain::{key, public, Chain, CHAIN};
use crate::records::replay;

const ALL: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

/// What one member tries in one block.
#[derive(Debug, Clone, Copy)]
struct Try {
    author: usize,
    what: u8,
    target: usize,
    lead: u64,
}

fn tries() -> impl Strategy<Value = Vec<(u32, Vec<Try>)>> {
    let one = (0..ALL.len(), 0u8..22, 0..ALL.len(), 1u64..9).prop_map(|(author, what, target, lead)| Try {
        author,
        what,
        target,
        lead,
    });
    let round = prop_oneof![6 => Just(0u32), 1 => 1u32..3];
    prop::collection::vec((round, prop::collection::vec(one, 0..6)), 40..80)
}

/// A chain, and all private keys that ever were.
struct World {
    chain: Chain,
    keys: Vec<SigningKey>,
    made: u8,
}

impl World {
    fn fresh(&mut self, purpose: &str) -> SigningKey {
        self.made = self.made.wrapping_add(1);
        let key = key(self.made, purpose, "fresh");
        self.chain.know(key.clone());
        self.keys.push(key.clone());
        key
    }

    fn private(&self, organization: &str, purpose: KeyPurpose) -> Option<SigningKey> {
        let present = present_key(&members(&self.chain), organization, purpose)?;
        self.keys.iter().find(|key| public(key).as_slice() == present).cloned()
    }

    fn operations(&mut self, tried: Try) -> Vec<(&'static str, Operation)> {
        let (author, target) = (ALL[tried.author], ALL[tried.target]);
        let at = self.chain.next() + 1 + tried.lead;
        let rotation = |world: &mut Self, purpose| {
            let old = world.private(author, purpose)?;
            let new = world.fresh("rotated");
            Some(step(Step::RotateKey(rotate(author, purpose, &old, &new, at))))
        };
        let one = match tried.what {
            0 => Some(propose(at, add_organization(&record(target)))),
            1 | 2 => {
                let key = self.fresh("vote");
                Some(propose(at, add_validator(target, &key)))
            }
            3 | 4 => Some(propose(at, remove_validator(target))),
            5 => Some(propose(at, remove_organization(target, Some(author)))),
            6 => {
                let new = self.fresh("replaced");
                let purpose =
                    [KeyPurpose::Entry, KeyPurpose::Vote][usize::from(tried.lead.is_multiple_of(2))];
                Some(propose(at, replace_key(&self.chain, target, purpose, &new)))
            }
            7 => rotation(self, KeyPurpose::Entry),
            8 => rotation(self, KeyPurpose::Vote),
            9 => rotation(self, KeyPurpose::Checkpoint),
            10 => Some(suspend(target)),
            11 => Some(addresses(tried.lead as u16)),
            12..=14 => {
                let joining = members(&self.chain).joining.into_iter().find(|v| v.organization == author);
                let key =
                    joining.and_then(|v| self.keys.iter().find(|k| public(k)[..] == v.vote_key[..]).cloned());
                key.map(|key| ready(author, &key, self.chain.tip.height))
            }
            // Mostly they approve, else nothing would ever be decided.
            _ => {
                let voters = ALL.iter().cycle().skip(tried.author).take(tried.lead as usize + 1);
                let proposals = members(&self.chain).proposals;
                let each = |voter: &&'static str| {
                    let voter = *voter;
                    proposals.iter().map(move |p| (voter, approve(p.number))).collect::<Vec<_>>()
                };
                return voters.flat_map(each).collect();
            }
        };
        one.into_iter().map(|operation| (author, operation)).collect()
    }

    fn block(&mut self, round: u32, tries: Vec<Try>) -> usize {
        let mut entries = Vec::new();
        for tried in tries {
            for (author, operation) in self.operations(tried) {
                entries.push(self.chain.entry(author, vec![operation]));
            }
        }
        let offered = entries.len();
        let proposer = self.chain.turn(round);
        let proposal = Proposal { proposer, round, ..self.chain.proposal() };
        let (block, _, dropped) =
            build_block(&self.chain.tip, &self.chain.store, entries, &proposal, &verify_batch).unwrap();
        self.chain.take(block);
        offered - dropped.len()
    }

    fn check(&self) {
        let (tip, membership) = (&self.chain.tip, members(&self.chain));
        let set = membership.validators.clone().unwrap();
        assert_eq!(set, tip.validators);
        assert!(!set.validators.is_empty());
        assert!(set.validators.windows(2).all(|w| w[0].vote_key < w[1].vote_key));
        assert!(set.validators.iter().all(|v| v.power == 1));
        assert!(membership.organizations.windows(2).all(|w| w[0].id < w[1].id));
        assert_eq!(set.members_root, members_root(&membership.organizations));
        let header = Header::decode(self.chain.headers.last().unwrap().as_slice()).unwrap();
        assert_eq!(header.next_validator_set_hash, validator_set_hash(CHAIN, &set));
        assert_eq!(header.validator_set_hash, validator_set_hash(CHAIN, &tip.voters));
        // Between two heights one seat changes at most.
        let keys = |set: &assent_proto::ledger::v1::ValidatorSet| {
            set.validators.iter().map(|v| v.vote_key.clone()).collect::<BTreeSet<_>>()
        };
        let (before, after) = (keys(&tip.voters), keys(&set));
        assert!(before.difference(&after).count() <= 1 && after.difference(&before).count() <= 1);
        // More than 2/3 of those before are still there, unless it grew from below four.
        if before.len() >= 4 && before.len() > after.len() {
            assert!(is_quorum(after.len() as u64, before.len() as u64));
        }
        let mut voters: Vec<&str> = set.validators.iter().map(|v| v.organization.as_str()).collect();
        voters.sort_unstable();
        assert!(voters.windows(2).all(|w| w[0] != w[1]));
        let mut able = 0;
        for member in &membership.organizations {
            let stored = organization(&self.chain.store, CHAIN, &member.id).unwrap().unwrap();
            assert_eq!(stored.entry_key, member.entry_key);
            assert!(!stored.removed);
            able += u64::from(!member.entry_key.is_empty() && voters.contains(&member.id.as_str()));
        }
        assert!(voters.iter().all(|id| membership.organizations.iter().any(|o| o.id == *id)));
        assert!(is_quorum(able, total_power(&set)), "{able} of {} can approve", total_power(&set));
        // What waits, waits for a later height, and the tip knows for which.
        let heights: Vec<u64> = membership.scheduled.iter().map(|c| c.effective_height).collect();
        assert!(heights.windows(2).all(|w| w[0] <= w[1]));
        let open = membership.proposals.iter().filter_map(|p| Some(p.change.as_ref()?.effective_height));
        let next = heights.iter().copied().chain(open).min().unwrap_or_default();
        assert_eq!(tip.change_height, next);
        assert!(next == 0 || next > tip.height + 1);
        assert!(membership.proposals.len() <= 32 && membership.former_vote_keys.len() <= 64);
        assert!(tip.bench.0.keys().all(|address| after.contains(address.as_slice())));
    }
}

fn walk(voters: usize, blocks: Vec<(u32, Vec<Try>)>) -> (World, usize) {
    let chain = network(&ALL[..voters]);
    let keys = ALL
        .iter()
        .flat_map(|name| ["entry", "vote", "checkpoint"].into_iter().map(|purpose| key(1, purpose, name)));
    let mut world = World { keys: keys.collect(), chain, made: 10 };
    let mut taken = 0;
    for (round, tries) in blocks {
        taken += world.block(round, tries);
        world.check();
    }
    (world, taken)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn membership_keeps_its_invariants(voters in 1usize..8, blocks in tries()) {
        let (world, _) = walk(voters, blocks);
        let again = replay(&world.chain);
        prop_assert_eq!(&again.tip, &world.chain.tip);
        prop_assert_eq!(&again.store, &world.chain.store);
        let (verifier, outcome) = verify_export(&world.chain.export(), Some(world.chain.genesis.hash), |_| {});
        prop_assert_eq!(outcome, Ok(()));
        prop_assert_eq!(verifier.tip(), Some(&world.chain.tip));
        let last = verifier.sets.last().unwrap();
        prop_assert_eq!(last.hash, validator_set_hash(CHAIN, &world.chain.tip.validators));
    }
}

/// A walk that stood still would show nothing: this one must come through every kind of change.
#[test]
fn the_walk_gets_somewhere() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut changed: BTreeSet<char> = BTreeSet::new();
    let (mut sizes, mut suspended, mut steps) = (BTreeSet::new(), false, 0);
    for voters in [4, 5, 6, 7, 4, 5, 6, 7] {
        let (world, taken) = walk(voters, tries().new_tree(&mut runner).unwrap().current());
        let (verifier, _) = verify_export(&world.chain.export(), None, |_| {});
        changed.extend(verifier.sets.iter().flat_map(|s| s.changed.iter().filter_map(|c| c.chars().next())));
        sizes.insert(world.chain.tip.validators.validators.len());
        suspended |= members(&world.chain).organizations.iter().any(|o| o.entry_key.is_empty());
        steps += taken;
    }
    assert_eq!(changed, BTreeSet::from(['*', '+', '-', 'm']), "{sizes:?}, {steps} steps");
    assert!(sizes.len() > 2 && suspended && steps > 200, "{sizes:?} {suspended} {steps}");
}
