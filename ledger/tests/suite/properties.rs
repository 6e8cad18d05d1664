//! Laws that hold for any input: the sequence window, atomic entries, order of gossip, replay.

use std::collections::BTreeSet;

use assent_ledger::execute::{execute_entry, sequence_is_free, ExecuteError, Signatures};
use assent_ledger::state::{organization, Overlay, StateRead};
use assent_proto::ledger::v1::Operation;
use proptest::prelude::*;

use crate::chain::{moment, Chain, CHAIN, FOUR};
use crate::records::{op, patient, record_access, replay, set_consent, set_policy, with_key};

/// The law as ARCHITECTURE.md words it: floor < s <= floor + 1,024 and unused is valid once; using s > floor + 512 raises
/// the floor to s - 512, and unused numbers at or below it are void.
#[derive(Default)]
struct NaiveWindow {
    floor: u64,
    used: BTreeSet<u64>,
}

impl NaiveWindow {
    fn free(&self, s: u64) -> bool {
        self.floor < s && s <= self.floor + 1024 && !self.used.contains(&s)
    }

    fn take(&mut self, s: u64) -> bool {
        let free = self.free(s);
        if free {
            self.used.insert(s);
            self.floor = self.floor.max(s.saturating_sub(512));
        }
        free
    }
}

fn steps() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![4 => -3i64..=3, 3 => -1100i64..=1100, 2 => 500i64..=520, 1 => 1020i64..=1028];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_sequence_window_keeps_its_law(steps in steps()) {
        let chain = Chain::new();
        let mut model = NaiveWindow::default();
        let mut state = Overlay::new(&chain.store);
        for step in steps {
            // Around the edges: the floor, the end of the slack, the end of the window, and what was used last.
            let anchor = [model.floor, model.floor + 512, model.used.last().copied().unwrap_or(0)][step.unsigned_abs() as usize % 3];
            let sequence = anchor.saturating_add_signed(step);
            let policy_seq = assent_ledger::state::policy(&state, CHAIN, "cedar").unwrap().policy_seq;
            let entry = chain.signed(&chain.body("cedar", sequence, vec![op(set_policy(policy_seq, 1))]));
            let outcome = execute_entry(&mut state, moment(chain.next_ms()), &entry, &mut Signatures::Collect(vec![]));
            let expected = model.take(sequence);
            let refused = ExecuteError::Sequence { sequence, floor: model.floor };
            prop_assert_eq!(outcome, if expected { Ok(()) } else { Err(refused) });
            let stored = organization(&state, CHAIN, "cedar").unwrap().unwrap();
            prop_assert_eq!(stored.sequence_floor, model.floor);
            prop_assert!(stored.sequence_window.len() <= 128 && stored.sequence_window.last() != Some(&0));
            for s in [model.floor, model.floor + 1, sequence.saturating_sub(1), sequence, sequence + 1, model.floor + 1024, model.floor + 1025] {
                prop_assert_eq!(sequence_is_free(&stored, s), model.free(s), "number {}", s);
            }
        }
    }

    #[test]
    fn an_entry_applies_wholly_or_not_at_all(good in 0usize..6, failing in 0u8..4, collect: bool) {
        let mut chain = Chain::new();
        let first = chain.entry("cedar", vec![op(with_key(set_consent("cedar", 0, 1), &patient()))]);
        chain.commit(vec![first]);
        let mut operations: Vec<Operation> = (0..good as u64).map(|i| op(set_policy(i, i as u8))).collect();
        operations.push(match failing {
            0 => op(set_consent("cedar", 7, 1)),
            1 => op(record_access("cedar", 1, 9, [1; 32])),
            2 => op(set_consent("birch", 0, 1)),
            _ => op(set_policy(99, 1)),
        });
        let entry = chain.signed(&chain.body("cedar", 2, operations.clone()));
        let mut signatures = if collect { Signatures::Collect(vec![]) } else { Signatures::Immediate };
        let mut state = Overlay::new(&chain.store);
        prop_assert!(execute_entry(&mut state, moment(chain.next_ms()), &entry, &mut signatures).is_err());
        prop_assert!(state.changes.is_empty());
        if let Signatures::Collect(checks) = &signatures {
            prop_assert!(checks.is_empty());
        }
        // The number is not used up either: the same entry without its last operation goes through.
        operations.pop();
        operations.push(op(set_consent("cedar", 1, 2)));
        let entry = chain.signed(&chain.body("cedar", 2, operations));
        prop_assert_eq!(execute_entry(&mut state, moment(chain.next_ms()), &entry, &mut Signatures::Immediate), Ok(()));
        let after = organization(&state, CHAIN, "cedar").unwrap().unwrap();
        prop_assert!(!sequence_is_free(&after, 2));
    }

    #[test]
    fn the_order_of_gossip_does_not_matter(order in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle()) {
        let mut chain = Chain::new();
        let mut entries = Vec::new();
        for author in FOUR {
            // Three entries each that touch different slots; their sequences may arrive in any order.
            for n in 0..3u8 {
                let mut consent = set_consent(author, 0, n);
                consent.handle = vec![n + 1; 32];
                entries.push(chain.entry(author, vec![op(consent)]));
            }
        }
        let (_, straight, dropped) = chain.propose(entries.clone());
        prop_assert_eq!(dropped, vec![]);
        let shuffled = order.iter().map(|i| entries[*i].clone()).collect();
        let (block, mixed, dropped) = chain.propose(shuffled);
        prop_assert_eq!(dropped, vec![]);
        prop_assert_eq!(mixed.tip.state_root, straight.tip.state_root);
        prop_assert_eq!(&mixed.changes, &straight.changes);
        prop_assert_eq!(chain.apply(&block).unwrap().tip, mixed.tip);
    }

    #[test]
    fn replay_gives_the_same_state(blocks in prop::collection::vec(prop::collection::vec(0usize..4, 0..4), 1..6)) {
        let mut chain = Chain::new();
        let mut policies = [0u64; 4];
        for authors in blocks {
            let mut entries = Vec::new();
            for author in authors {
                entries.push(chain.entry(FOUR[author], vec![op(set_policy(policies[author], author as u8))]));
                policies[author] += 1;
            }
            chain.commit(entries);
        }
        let again = replay(&chain);
        prop_assert_eq!(&again.tip, &chain.tip);
        prop_assert_eq!(&again.store, &chain.store);
        let (verifier, outcome) = assent_ledger::audit::verify_export(&chain.export(), Some(chain.genesis.hash), |_| {});
        prop_assert_eq!(outcome, Ok(()));
        prop_assert_eq!(verifier.tip(), Some(&chain.tip));
    }
}

/// An empty block is a heartbeat: time and height move, the state and its version do not.
#[test]
fn a_heartbeat_leaves_the_state_alone() {
    let mut chain = Chain::new();
    let before = chain.tip.clone();
    chain.commit(vec![]);
    assert_eq!((chain.tip.state_root, chain.tip.state_version), (before.state_root, 0));
    assert_eq!((chain.tip.height, chain.tip.log.size()), (1, 1));
    assert!(chain.tip.time_ms > before.time_ms);
    assert!(chain.store.value(&[0; 32]).unwrap().is_none());
}
