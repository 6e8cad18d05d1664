//! The life of a control key: a lost one replaced after 14 days, the replacement cancelled, a minor's coming of age.

use assent_ledger::block::build_block;
use assent_ledger::entry::{check_entry, sign_entry, CheckedEntry};
use assent_ledger::execute::{execute_entry, ExecuteError, Signatures};
use assent_ledger::keys::{verify_batch, SigningKey};
use assent_ledger::replacement::{control_key_at, settled, REPLACEMENT_WAIT_MS};
use assent_ledger::state::{slot, MemoryState, Overlay};
use assent_proto::ledger::v1::{EntryBody, KeyReplacement, Operation, Slot};
use proptest::prelude::*;

use crate::chain::{key, moment, public, Chain, CHAIN, START_MS};
use crate::records::{
    by_patient, cancel, op, patient, record_access, replay, set_consent, with_key, withdraw, HANDLE,
};

const NONE_WAITS: ExecuteError = ExecuteError::NoReplacement { expected: 2, found: 2 };
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn phone(n: u8) -> SigningKey {
    key(n, "control", "new phone")
}

fn entry(author: &str, sequence: u64, time_ms: u64, operations: Vec<Operation>) -> CheckedEntry {
    let not_after_ms = time_ms + 1;
    let body =
        EntryBody { chain_id: CHAIN.into(), author: author.into(), sequence, not_after_ms, operations };
    check_entry(CHAIN, &sign_entry(&key(1, "entry", author), &body)).unwrap()
}

/// The rules alone, at any block time: no blocks are made.
struct World {
    state: MemoryState,
    sequence: u64,
}

impl World {
    /// Cedar has a slot under the patient's key, consent sequence 1.
    fn new() -> Self {
        let mut world = Self { state: Chain::new().store.values, sequence: 0 };
        world.run(START_MS, "cedar", op(with_key(set_consent("cedar", 0, 1), &patient()))).unwrap();
        world
    }

    fn run(&mut self, time_ms: u64, author: &str, operation: Operation) -> Result<(), ExecuteError> {
        self.sequence += 1;
        let entry = entry(author, self.sequence, time_ms, vec![operation]);
        let mut overlay = Overlay::new(&self.state);
        execute_entry(&mut overlay, moment(time_ms), &entry, &mut Signatures::Immediate)?;
        let changes = std::mem::take(&mut overlay.changes);
        self.state.0.extend(changes);
        Ok(())
    }

    fn slot(&self) -> Slot {
        slot(&self.state, CHAIN, "cedar", &HANDLE).unwrap().unwrap()
    }
}

#[test]
fn a_key_without_the_present_ones_signature_waits_14_days_to_the_millisecond() {
    let mut world = World::new();
    let (old, new, at) = (patient(), phone(1), START_MS + 5);
    world.run(at, "cedar", op(with_key(set_consent("cedar", 1, 2), &new))).unwrap();
    let slot = world.slot();
    let effective_ms = at + REPLACEMENT_WAIT_MS;
    let waiting = KeyReplacement { control_key: public(&new).to_vec(), effective_ms, consent_seq: 2 };
    assert_eq!(slot.replacement, Some(waiting));
    assert_eq!((slot.consent_seq, slot.control_key.as_deref()), (2, Some(&public(&old)[..])));
    assert_eq!(control_key_at(&slot, effective_ms - 1), Some(&public(&old)[..]));
    assert_eq!(control_key_at(&slot, effective_ms), Some(&public(&new)[..]));
    assert_eq!(settled(slot.clone(), effective_ms - 1), slot);
    assert_eq!(settled(slot, effective_ms).replacement, None);

    // In the last millisecond the old key counts and the new one does not; in the next it is the other way round.
    let last = effective_ms - 1;
    let early = world.run(last, "elm", op(withdraw("cedar", 0, &new)));
    assert_eq!(early, Err(ExecuteError::ControlSignature));
    world.run(last, "elm", op(withdraw("cedar", 0, &old))).unwrap();
    let late = world.run(effective_ms, "elm", op(withdraw("cedar", 1, &old)));
    assert_eq!(late, Err(ExecuteError::ControlSignature));
    assert_eq!(world.slot().control_key, Some(public(&old).to_vec()), "nothing touched the slot since");
    world.run(effective_ms, "cedar", op(by_patient(set_consent("cedar", 3, 4), &new))).unwrap();
    let slot = world.slot();
    assert_eq!((slot.frozen, slot.control_key, slot.replacement), (false, Some(public(&new).to_vec()), None));
}

/// Whatever touches the slot first writes the settled key down.
#[test]
fn an_access_settles_the_slot_too() {
    let mut world = World::new();
    world.run(START_MS, "cedar", op(with_key(set_consent("cedar", 1, 2), &phone(1)))).unwrap();
    let effective_ms = START_MS + REPLACEMENT_WAIT_MS;
    world.run(effective_ms, "cedar", op(record_access("cedar", 2, 0, [7; 32]))).unwrap();
    let slot = world.slot();
    assert_eq!((slot.control_key, slot.replacement), (Some(public(&phone(1)).to_vec()), None));
}

#[test]
fn a_later_replacement_restarts_the_wait() {
    let mut world = World::new();
    world.run(START_MS, "cedar", op(with_key(set_consent("cedar", 1, 2), &phone(1)))).unwrap();
    let later = START_MS + 13 * DAY_MS;
    world.run(later, "cedar", op(with_key(set_consent("cedar", 2, 3), &phone(1)))).unwrap();
    let waiting = world.slot().replacement.unwrap();
    assert_eq!((waiting.effective_ms, waiting.consent_seq), (later + REPLACEMENT_WAIT_MS, 3));
    let first_end = START_MS + REPLACEMENT_WAIT_MS;
    assert_eq!(control_key_at(&world.slot(), first_end), Some(&public(&patient())[..]));
    // A consent written down meanwhile changes nothing of the wait.
    world.run(first_end, "cedar", op(set_consent("cedar", 3, 9))).unwrap();
    assert_eq!(world.slot().replacement, Some(waiting));
}

#[test]
fn the_present_key_replaces_at_once_and_ends_the_wait() {
    let mut world = World::new();
    world.run(START_MS, "cedar", op(with_key(set_consent("cedar", 1, 2), &phone(1)))).unwrap();
    // Signed, without a new key: it lifts a withdrawal, and the other key goes on waiting.
    world.run(START_MS, "cedar", op(by_patient(set_consent("cedar", 2, 3), &patient()))).unwrap();
    assert!(world.slot().replacement.is_some());
    let mine = by_patient(with_key(set_consent("cedar", 3, 4), &phone(2)), &patient());
    world.run(START_MS, "cedar", op(mine)).unwrap();
    let slot = world.slot();
    assert_eq!((slot.control_key, slot.replacement), (Some(public(&phone(2)).to_vec()), None));
}

#[test]
fn cancelling_works_through_any_organization_until_the_last_millisecond_and_once() {
    let effective_ms = START_MS + REPLACEMENT_WAIT_MS;
    let waiting = || {
        let mut world = World::new();
        world.run(START_MS, "cedar", op(with_key(set_consent("cedar", 1, 2), &phone(1)))).unwrap();
        world
    };
    let good = || op(cancel("cedar", 2, &phone(1), &patient()));
    let mut late = waiting();
    assert_eq!(late.run(effective_ms, "elm", good()), Err(NONE_WAITS));

    let mut world = waiting();
    world.run(effective_ms - 1, "elm", good()).unwrap();
    let slot = world.slot();
    assert_eq!((slot.consent_seq, slot.replacement.clone()), (2, None), "nothing else in flight is void");
    assert_eq!(control_key_at(&slot, u64::MAX), Some(&public(&patient())[..]));
    // The same signature again does nothing, for a replacement that is recorded later either.
    assert_eq!(world.run(effective_ms - 1, "elm", good()), Err(NONE_WAITS));
    world.run(effective_ms, "cedar", op(with_key(set_consent("cedar", 2, 3), &phone(1)))).unwrap();
    let replayed = world.run(effective_ms, "elm", good());
    assert_eq!(replayed, Err(ExecuteError::StaleReplacement { expected: 2, found: 3 }));
    assert!(world.slot().replacement.is_some());

    // It names the key that waits: not another one.
    let mut world = waiting();
    let other = world.run(START_MS, "elm", op(cancel("cedar", 2, &phone(2), &patient())));
    assert_eq!(other, Err(ExecuteError::ControlSignature));
    // A withdrawal's signature, and the waiting key's own, cancel nothing.
    let mut borrowed = cancel("cedar", 2, &phone(1), &patient());
    borrowed.patient_signature = withdraw("cedar", 2, &patient()).patient_signature;
    assert_eq!(world.run(START_MS, "elm", op(borrowed)), Err(ExecuteError::ControlSignature));
    let by_waiting = world.run(START_MS, "elm", op(cancel("cedar", 2, &phone(1), &phone(1))));
    assert_eq!(by_waiting, Err(ExecuteError::ControlSignature));
    assert!(world.slot().replacement.is_some());
}

/// The registrar registers the child's own key; the parent's can cancel until it counts. In real blocks, audited.
#[test]
fn a_minor_comes_of_age() {
    let (parent, child) = (patient(), phone(18));
    let mut chain = Chain::new();
    let first = chain.entry("cedar", vec![op(with_key(set_consent("cedar", 0, 1), &parent))]);
    chain.commit(vec![first]);
    let registered = chain.entry("cedar", vec![op(with_key(set_consent("cedar", 1, 2), &child))]);
    chain.commit(vec![registered]);
    let effective_ms = chain.tip.time_ms + REPLACEMENT_WAIT_MS;

    let at = |chain: &mut Chain, time_ms: u64, author: &str, sequence: u64, operation: Operation| {
        let mut proposal = chain.proposal();
        proposal.now_ms = time_ms;
        let entries = vec![entry(author, sequence, time_ms, vec![operation])];
        let (block, _, dropped) =
            build_block(&chain.tip, &chain.store, entries, &proposal, &verify_batch).unwrap();
        let refused = dropped.into_iter().next().map(|(_, error)| error);
        if refused.is_none() {
            chain.take(block);
        }
        refused
    };
    // In another run of time the parent does cancel.
    let mut cancelled = chain.clone();
    let parents_no = op(cancel("cedar", 2, &child, &parent));
    assert_eq!(at(&mut cancelled, effective_ms - 1, "elm", 1, parents_no.clone()), None);
    let too_late = op(withdraw("cedar", 0, &child));
    assert_eq!(
        at(&mut cancelled, effective_ms, "elm", 2, too_late.clone()),
        Some(ExecuteError::ControlSignature)
    );

    assert_eq!(at(&mut chain, effective_ms, "elm", 1, parents_no), Some(NONE_WAITS));
    let parents = op(withdraw("cedar", 0, &parent));
    assert_eq!(at(&mut chain, effective_ms, "elm", 1, parents), Some(ExecuteError::ControlSignature));
    assert_eq!(at(&mut chain, effective_ms, "elm", 1, too_late), None);
    let back = op(by_patient(set_consent("cedar", 3, 3), &child));
    assert_eq!(at(&mut chain, effective_ms + 1, "cedar", 3, back), None);
    let slot = slot(&chain.store, CHAIN, "cedar", &HANDLE).unwrap().unwrap();
    assert_eq!((slot.frozen, slot.control_key), (false, Some(public(&child).to_vec())));
    let again = replay(&chain);
    assert_eq!((again.tip, again.store), (chain.tip.clone(), chain.store.clone()));
    let audited = assent_ledger::audit::verify_export(&chain.export(), Some(chain.genesis.hash), |_| {});
    assert_eq!(audited.1, Ok(()));
}

/// What a custodian can try without the patient.
fn attempt(n: u8, consent_seq: u64, mallory: &SigningKey, waiting_seq: u64) -> (&'static str, Operation) {
    match n % 6 {
        0 | 1 => ("cedar", op(with_key(set_consent("cedar", consent_seq, n), mallory))),
        2 => ("cedar", op(set_consent("cedar", consent_seq, n))),
        3 => ("cedar", op(by_patient(set_consent("cedar", consent_seq, n), mallory))),
        4 => ("cedar", op(record_access("cedar", consent_seq, 0, [n; 32]))),
        _ => ("birch", op(cancel("cedar", waiting_seq, mallory, mallory))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_custodian_alone_neither_takes_over_nor_unfreezes_before_14_days(
        attempts in prop::collection::vec((any::<u8>(), 0..4 * DAY_MS), 1..24),
        cancel_at in prop::option::of(0usize..24),
    ) {
        let (mut world, mallory) = (World::new(), phone(66));
        world.run(START_MS, "elm", op(withdraw("cedar", 0, &patient()))).unwrap();
        let mut time_ms = START_MS;
        // When the wait began that has neither been restarted nor cancelled.
        let mut since: Option<u64> = None;
        for (index, (n, pause_ms)) in attempts.into_iter().enumerate() {
            time_ms += pause_ms;
            let taken = since.is_some_and(|since| since + REPLACEMENT_WAIT_MS <= time_ms);
            let slot = world.slot();
            prop_assert_eq!(control_key_at(&slot, time_ms) == Some(&public(&mallory)[..]), taken);
            if taken {
                break;
            }
            prop_assert!(slot.frozen);
            let waiting_seq = slot.replacement.as_ref().map_or(0, |waiting| waiting.consent_seq);
            if cancel_at == Some(index) {
                let outcome = world.run(time_ms, "elm", op(cancel("cedar", waiting_seq, &mallory, &patient())));
                prop_assert_eq!(outcome.is_ok(), since.take().is_some());
                continue;
            }
            let (author, operation) = attempt(n, slot.consent_seq, &mallory, waiting_seq);
            let outcome = world.run(time_ms, author, operation);
            match n % 6 {
                0 | 1 => {
                    prop_assert_eq!(outcome, Ok(()));
                    since = Some(time_ms);
                }
                3 | 5 => prop_assert!(outcome.is_err()),
                _ => prop_assert_eq!(outcome, Ok(())),
            }
            prop_assert!(world.slot().frozen);
        }
    }
}
