//! The rule book of `execute`: one row for every reason of refusal, and what each operation does.

use assent_ledger::entry::{check_entry, CheckedEntry, MAX_NOT_AFTER_MS};
use assent_ledger::execute::{execute_entry, ExecuteError, Signatures};
use assent_ledger::hash::Hash;
use assent_ledger::state::{organization_key, policy, slot, Overlay, ReadError, StateRead};
use assent_proto::ledger::v1::{Entry, EntryBody, Operation, OrganizationState, Slot};
use prost::Message;

use crate::chain::{key, moment, Chain, CHAIN};
use crate::records::{
    by_patient, cancel, op, patient, record_access, set_consent, set_policy, with_key, withdraw, HANDLE,
};

/// Cedar has one slot with a control key (consent sequence 1), Birch one without.
fn world() -> Chain {
    let mut chain = Chain::new();
    let cedar = chain.entry("cedar", vec![op(with_key(set_consent("cedar", 0, 1), &patient()))]);
    let birch = chain.entry("birch", vec![op(set_consent("birch", 0, 1))]);
    chain.commit(vec![cedar, birch]);
    chain
}

fn run_on(state: &impl StateRead, chain: &Chain, entry: &CheckedEntry) -> Result<(), ExecuteError> {
    execute_entry(&mut Overlay::new(state), moment(chain.next_ms()), entry, &mut Signatures::Immediate)
}

fn run(chain: &Chain, author: &str, operations: Vec<Operation>) -> Result<(), ExecuteError> {
    run_on(&chain.store, chain, &chain.signed(&chain.body(author, 2, operations)))
}

fn slot_of(chain: &Chain, custodian: &str) -> Slot {
    slot(&chain.store, CHAIN, custodian, &HANDLE).unwrap().unwrap()
}

struct BrokenStore;

impl StateRead for BrokenStore {
    fn value(&self, _: &Hash) -> Result<Option<Vec<u8>>, ReadError> {
        Err(ReadError("disk".into()))
    }
}

#[test]
fn every_reason_has_an_entry_that_provokes_it() {
    let chain = world();
    let stranger = key(8, "control", "stranger");
    let policy_entry = |edit: &dyn Fn(&mut EntryBody)| {
        let mut body = chain.body("cedar", 2, vec![op(set_policy(0, 1))]);
        edit(&mut body);
        run_on(&chain.store, &chain, &chain.signed(&body))
    };
    let now = chain.next_ms();
    let mut short_key = chain.store.clone();
    let broken = OrganizationState { entry_key: vec![1; 31], ..Default::default() }.encode_to_vec();
    short_key.values.0.insert(organization_key(CHAIN, "cedar"), broken);
    let good = chain.signed(&chain.body("cedar", 2, vec![op(set_policy(0, 1))]));
    let mut forged = Entry::decode(good.bytes.as_slice()).unwrap();
    forged.signature[9] ^= 1;
    let forged = check_entry(CHAIN, &forged.encode_to_vec()).unwrap();
    let cedar = |operation| run(&chain, "cedar", vec![operation]);
    let waiting =
        |cancel| run(&chain, "cedar", vec![op(with_key(set_consent("cedar", 1, 2), &stranger)), op(cancel)]);

    let rows: Vec<(&str, Result<(), ExecuteError>)> = vec![
        ("MALFORMED_ENTRY", run_on(&short_key, &chain, &good)),
        ("STATE_UNREADABLE", run_on(&BrokenStore, &chain, &good)),
        ("UNKNOWN_AUTHOR", run(&chain, "fir", vec![op(set_policy(0, 1))])),
        ("BAD_AUTHOR_SIGNATURE", run_on(&chain.store, &chain, &forged)),
        ("ENTRY_EXPIRED", policy_entry(&|b| b.not_after_ms = now - 1)),
        ("ENTRY_EXPIRED", policy_entry(&|b| b.not_after_ms = 0)),
        ("NOT_AFTER_TOO_FAR", policy_entry(&|b| b.not_after_ms = now + MAX_NOT_AFTER_MS + 1)),
        ("NOT_AFTER_TOO_FAR", policy_entry(&|b| b.not_after_ms = u64::MAX)),
        ("SEQUENCE_USED_OR_OUT_OF_WINDOW", policy_entry(&|b| b.sequence = 0)),
        ("SEQUENCE_USED_OR_OUT_OF_WINDOW", policy_entry(&|b| b.sequence = 1)),
        ("SEQUENCE_USED_OR_OUT_OF_WINDOW", policy_entry(&|b| b.sequence = 1025)),
        ("SEQUENCE_USED_OR_OUT_OF_WINDOW", policy_entry(&|b| b.sequence = u64::MAX)),
        ("NOT_THE_CUSTODIAN", run(&chain, "birch", vec![op(set_consent("cedar", 1, 2))])),
        ("NOT_THE_CUSTODIAN", run(&chain, "birch", vec![op(record_access("cedar", 1, 0, [1; 32]))])),
        ("NO_SLOT", run(&chain, "elm", vec![op(record_access("elm", 0, 0, [1; 32]))])),
        ("NO_SLOT", cedar(op(withdraw("elm", 0, &patient())))),
        ("STALE_CONSENT_SEQUENCE", cedar(op(set_consent("cedar", 0, 2)))),
        ("STALE_CONSENT_SEQUENCE", cedar(op(set_consent("cedar", 2, 2)))),
        ("STALE_CONSENT_SEQUENCE", cedar(op(set_consent("cedar", u64::MAX, 2)))),
        ("STALE_CONSENT_SEQUENCE", cedar(op(record_access("cedar", 0, 0, [1; 32])))),
        ("STALE_POLICY_SEQUENCE", cedar(op(record_access("cedar", 1, 1, [1; 32])))),
        ("STALE_POLICY_SEQUENCE", cedar(op(set_policy(1, 1)))),
        ("STALE_WITHDRAW_SEQUENCE", cedar(op(withdraw("cedar", 1, &patient())))),
        ("STALE_WITHDRAW_SEQUENCE", cedar(op(withdraw("cedar", u64::MAX, &patient())))),
        ("NO_CONTROL_KEY", cedar(op(withdraw("birch", 0, &patient())))),
        ("CONTROL_KEY_UNCHANGED", cedar(op(with_key(set_consent("cedar", 1, 2), &patient())))),
        ("NO_SLOT", cedar(op(cancel("elm", 1, &stranger, &patient())))),
        ("NO_REPLACEMENT", cedar(op(cancel("cedar", 1, &stranger, &patient())))),
        ("NO_REPLACEMENT", cedar(op(cancel("birch", 1, &stranger, &patient())))),
        ("STALE_REPLACEMENT", waiting(cancel("cedar", 1, &stranger, &patient()))),
        ("STALE_REPLACEMENT", waiting(cancel("cedar", 3, &stranger, &patient()))),
        ("BAD_CONTROL_SIGNATURE", waiting(cancel("cedar", 2, &stranger, &stranger))),
        ("BAD_CONTROL_SIGNATURE", waiting(cancel("cedar", 2, &patient(), &patient()))),
        (
            "CONTROL_SIGNATURE_SURPLUS",
            run(&chain, "birch", vec![op(by_patient(set_consent("birch", 1, 2), &patient()))]),
        ),
        ("BAD_CONTROL_KEY", {
            let mut weak = set_consent("birch", 1, 2);
            weak.control_key = Some([&[1][..], &[0; 31]].concat());
            run(&chain, "birch", vec![op(weak)])
        }),
        ("BAD_CONTROL_SIGNATURE", cedar(op(by_patient(set_consent("cedar", 1, 2), &stranger)))),
        ("BAD_CONTROL_SIGNATURE", cedar(op(withdraw("cedar", 0, &stranger)))),
    ];
    for (number, (reason, outcome)) in rows.iter().enumerate() {
        let error = outcome.as_ref().expect_err(reason);
        assert_eq!(error.reason(), *reason, "row {number}: {error}");
        assert!(!error.to_string().is_empty());
    }
    // The flat match of `reason` names every variant; so many different ones stand above.
    let reasons: std::collections::BTreeSet<_> = rows.iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons.len(), 19);
}

#[test]
fn limits_themselves_are_allowed() {
    let chain = world();
    let (now, base) = (chain.next_ms(), chain.body("cedar", 2, vec![op(set_policy(0, 1))]));
    let edge = |body: EntryBody| run_on(&chain.store, &chain, &chain.signed(&body));
    assert_eq!(edge(EntryBody { not_after_ms: now, ..base.clone() }), Ok(()));
    assert_eq!(edge(EntryBody { not_after_ms: now + MAX_NOT_AFTER_MS, ..base.clone() }), Ok(()));
    assert_eq!(edge(EntryBody { sequence: 1024, ..base }), Ok(()));
}

/// A control signature counts for exactly one operation: every part of what it covers matters.
#[test]
fn a_control_signature_covers_the_whole_operation() {
    let chain = world();
    let signed = by_patient(set_consent("cedar", 1, 2), &patient());
    assert_eq!(run(&chain, "cedar", vec![op(signed.clone())]), Ok(()));
    let mut other = signed.clone();
    other.commitment = vec![3; 32];
    assert_eq!(run(&chain, "cedar", vec![op(other)]), Err(ExecuteError::ControlSignature));
    let with_new_key = with_key(signed, &key(8, "control", "stranger"));
    assert_eq!(run(&chain, "cedar", vec![op(with_new_key)]), Err(ExecuteError::ControlSignature));
    // Made for the sequence after: not for this one.
    let mut early = by_patient(set_consent("cedar", 2, 2), &patient());
    early.expected_consent_seq = 1;
    assert_eq!(run(&chain, "cedar", vec![op(early)]), Err(ExecuteError::ControlSignature));
}

#[test]
fn a_withdrawal_freezes_until_the_patient_says_otherwise() {
    let mut chain = world();
    let entry = chain.entry("dogwood", vec![op(withdraw("cedar", 0, &patient()))]);
    chain.commit(vec![entry.clone()]);
    let slot = slot_of(&chain, "cedar");
    assert_eq!((slot.frozen, slot.withdraw_seq, slot.consent_seq), (true, 1, 2));
    // The same withdrawal, through another organization, does nothing more.
    let replay = run(&chain, "elm", vec![op(withdraw("cedar", 0, &patient()))]);
    assert_eq!(replay, Err(ExecuteError::WithdrawSequence { expected: 0, found: 1 }));
    // The custodian alone may write consents down, but the slot stays frozen.
    let entry = chain.entry("cedar", vec![op(set_consent("cedar", 2, 5))]);
    chain.commit(vec![entry]);
    assert!(slot_of(&chain, "cedar").frozen);
    let entry = chain.entry("cedar", vec![op(by_patient(set_consent("cedar", 3, 6), &patient()))]);
    chain.commit(vec![entry]);
    let slot = slot_of(&chain, "cedar");
    assert_eq!((slot.frozen, slot.consent_seq, slot.withdraw_seq), (false, 4, 1));
    assert_eq!(slot.commitment, vec![6; 32]);
}

#[test]
fn recording_accesses_stays_possible_while_frozen() {
    let mut chain = world();
    let entry = chain.entry("elm", vec![op(withdraw("cedar", 0, &patient()))]);
    chain.commit(vec![entry]);
    let entry = chain.entry("cedar", vec![op(record_access("cedar", 2, 0, [1; 32]))]);
    chain.commit(vec![entry]);
    assert_eq!((slot_of(&chain, "cedar").access_seq, slot_of(&chain, "cedar").frozen), (1, true));
}

#[test]
fn a_withdrawal_voids_an_access_in_flight() {
    let mut chain = world();
    let access = chain.entry("cedar", vec![op(record_access("cedar", 1, 0, [1; 32]))]);
    let withdrawal = chain.entry("elm", vec![op(withdraw("cedar", 0, &patient()))]);
    // The access came first, yet the withdrawal runs first in the block.
    let (block, applied, dropped) = chain.propose(vec![access.clone(), withdrawal]);
    assert_eq!(dropped, vec![(access.hash, ExecuteError::ConsentSequence { expected: 1, found: 2 })]);
    assert_eq!(applied.entries.len(), 1);
    chain.take(block);
    assert_eq!(slot_of(&chain, "cedar").access_seq, 0);
}

#[test]
fn a_policy_change_voids_an_access_in_flight() {
    let mut chain = world();
    let policy_entry = chain.entry("cedar", vec![op(set_policy(0, 7))]);
    let access = chain.entry("cedar", vec![op(record_access("cedar", 1, 0, [1; 32]))]);
    let (block, _, dropped) = chain.propose(vec![policy_entry, access.clone()]);
    assert_eq!(dropped, vec![(access.hash, ExecuteError::PolicySequence { expected: 0, found: 1 })]);
    chain.take(block);
    assert_eq!(policy(&chain.store, CHAIN, "cedar").unwrap().commitment, vec![7; 32]);
    assert_eq!(policy(&chain.store, CHAIN, "birch").unwrap().policy_seq, 0);
}

#[test]
fn a_new_control_key_takes_over() {
    let mut chain = world();
    let (old, new) = (patient(), key(9, "control", "new phone"));
    let entry = chain.entry("cedar", vec![op(by_patient(with_key(set_consent("cedar", 1, 2), &new), &old))]);
    chain.commit(vec![entry]);
    assert_eq!(run(&chain, "elm", vec![op(withdraw("cedar", 0, &old))]), Err(ExecuteError::ControlSignature));
    assert_eq!(run(&chain, "elm", vec![op(withdraw("cedar", 0, &new))]), Ok(()));
}

/// Numbers at the end of their range are refused or used up, never a panic.
#[test]
fn the_last_sequence_numbers_do_not_overflow() {
    let chain = world();
    let mut store = chain.store.clone();
    let state = OrganizationState {
        entry_key: chain.entry_key("cedar").verifying_key().to_bytes().to_vec(),
        sequence_floor: u64::MAX - 3,
        sequence_window: vec![],
        ..Default::default()
    };
    store.values.0.insert(organization_key(CHAIN, "cedar"), state.encode_to_vec());
    let at = |sequence| {
        let body = chain.body("cedar", sequence, vec![op(set_policy(0, 1))]);
        run_on(&store, &chain, &chain.signed(&body))
    };
    assert_eq!(at(u64::MAX), Ok(()));
    assert_eq!(at(u64::MAX - 2), Ok(()));
    assert!(at(u64::MAX - 3).is_err());
}
