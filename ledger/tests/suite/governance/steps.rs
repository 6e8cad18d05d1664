//! Each step does what ARCHITECTURE.md says, at its height and not before.

use assent_ledger::certificate::validator_set_hash;
use assent_ledger::execute::ExecuteError;
use assent_ledger::governance::POSTPONED_HEIGHTS;
use assent_ledger::membership::members_root;
use assent_ledger::state::organization;
use assent_proto::ledger::v1::{Header, KeyPurpose};
use prost::Message;

use super::{
    add_organization, add_validator, addresses, approve, four, members, network, propose, ready, record,
    remove_organization, remove_validator, replace_key, suspend, voters,
};
use crate::chain::{key, public, Chain, CHAIN, FOUR};
use crate::records::{op, patient, record_access, set_consent, set_policy, with_key, withdraw};

const THREE: [&str; 3] = ["birch", "cedar", "dogwood"];

fn header(chain: &Chain, height: u64) -> Header {
    Header::decode(chain.headers[height as usize - 1].as_slice()).unwrap()
}

#[test]
fn a_change_holds_from_its_height_on_and_headers_tell_it() {
    let mut chain = four();
    let genesis_hash = validator_set_hash(CHAIN, &chain.genesis.validators);
    let effective = chain.decide(&THREE, add_organization(&record("fir")));
    assert!(members(&chain).proposals.is_empty() && members(&chain).scheduled.len() == 1);
    chain.until(effective - 2);
    assert_eq!(chain.reason("fir", op(set_policy(0, 1))), "UNKNOWN_AUTHOR");
    chain.until(effective - 1);
    assert_eq!(chain.reason("fir", op(set_policy(0, 1))), "");
    let (before, at) = (header(&chain, effective - 2), header(&chain, effective - 1));
    assert_eq!(before.next_validator_set_hash, genesis_hash);
    assert_eq!(at.validator_set_hash, genesis_hash);
    assert_eq!(at.next_validator_set_hash, validator_set_hash(CHAIN, &chain.tip.validators));
    assert_ne!(at.next_validator_set_hash, genesis_hash);
    assert_eq!(chain.tip.validators.members_root, members_root(&members(&chain).organizations));
    chain.step(vec![("fir", op(set_policy(0, 1)))]);
    assert_eq!((voters(&chain).len(), chain.tip.change_height), (4, 0));
}

#[test]
fn what_is_not_approved_in_time_is_void_and_two_thirds_are_not_enough() {
    let mut chain = network(&["a", "b", "c"]);
    let effective = chain.decide(&["a", "b"], add_organization(&record("fir")));
    assert_eq!(members(&chain).proposals[0].approvals, ["a", "b"]);
    assert_eq!(chain.tip.change_height, effective);
    chain.until(effective - 1);
    assert!(members(&chain).proposals.is_empty() && members(&chain).organizations.len() == 3);
    assert_eq!(chain.reason("c", approve(1)), "NO_PROPOSAL");
    // In the last block before its height it is still in time.
    let effective = chain.decide(&["a", "b"], add_organization(&record("fir")));
    chain.until(effective - 2);
    chain.step(vec![("c", approve(2))]);
    assert_eq!((chain.next(), members(&chain).organizations.len()), (effective, 4));
}

#[test]
fn a_validator_comes_when_it_is_ready_and_goes() {
    let mut chain = four();
    let vote = key(2, "vote", "fir");
    chain.know(vote.clone());
    let effective = chain.decide(&THREE, add_organization(&record("fir")));
    chain.until(effective - 1);
    let effective = chain.decide(&THREE, add_validator("fir", &vote));
    chain.until(effective - 1);
    assert_eq!((members(&chain).joining.len(), voters(&chain).len()), (1, 4));
    let said = chain.next();
    chain.step(vec![("fir", ready("fir", &vote, said - 1))]);
    assert_eq!(voters(&chain).len(), 4);
    chain.commit(vec![]);
    assert_eq!((voters(&chain).len(), chain.next()), (5, said + 2));
    assert!(members(&chain).joining.is_empty() && members(&chain).scheduled.is_empty());
    // All five sign and take their turns.
    let mut proposers = std::collections::BTreeSet::new();
    for _ in 0..5 {
        chain.commit(vec![]);
        proposers.insert(header(&chain, chain.tip.height).proposer);
    }
    assert!(proposers.contains(public(&vote).as_slice()) && proposers.len() == 5);

    let effective = chain.decide(&["birch", "cedar", "elm", "fir"], remove_validator("fir"));
    chain.until(effective - 1);
    let members = members(&chain);
    assert_eq!(voters(&chain), FOUR);
    assert_eq!(members.organizations.len(), 5);
    let former = &members.former_vote_keys[0];
    assert_eq!((former.organization.as_str(), former.last_height), ("fir", effective - 1));
    assert_eq!(chain.reason("elm", propose(chain.next() + 2, add_validator("fir", &vote))), "KEY_IN_USE");
}

#[test]
fn two_changes_of_the_validators_never_share_a_height() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut chain = network(&names);
    let at = chain.next() + 12;
    let operations =
        vec![("a", propose(at, remove_validator("f"))), ("b", propose(at, remove_validator("g")))];
    chain.step(operations);
    for voter in ["a", "b", "c", "d", "e"] {
        for number in [1, 2].into_iter().filter(|n| names[*n as usize - 1] != voter) {
            if members(&chain).proposals.iter().any(|p| p.number == number) {
                chain.step(vec![(voter, approve(number))]);
            }
        }
    }
    let heights: Vec<u64> = members(&chain).scheduled.iter().map(|c| c.effective_height).collect();
    assert_eq!(heights, [at, at + 1]);
    chain.until(at - 1);
    assert_eq!(voters(&chain).len(), 6);
    chain.until(at);
    assert_eq!(voters(&chain), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_successor_acts_for_the_slots_of_a_removed_custodian_and_its_own_successor_after_it() {
    let mut chain = network(&["birch", "cedar", "dogwood", "elm", "fir"]);
    let consent = chain.entry("cedar", vec![op(with_key(set_consent("cedar", 0, 1), &patient()))]);
    chain.commit(vec![consent]);
    let by = ["birch", "dogwood", "elm", "fir"];
    let effective = chain.decide(&by, remove_organization("cedar", Some("birch")));
    chain.until(effective - 1);
    assert_eq!(voters(&chain), by);
    assert!(organization(&chain.store, CHAIN, "cedar").unwrap().unwrap().removed);
    assert_eq!(chain.reason("cedar", op(set_policy(0, 1))), "ORGANIZATION_REMOVED");
    assert_eq!(chain.reason("dogwood", op(set_consent("cedar", 1, 2))), "NOT_THE_CUSTODIAN");
    chain.step(vec![("birch", op(set_consent("cedar", 1, 2)))]);
    chain.step(vec![("birch", op(record_access("cedar", 2, 0, [1; 32])))]);
    // The successor's own policy is another slot.
    chain.step(vec![("birch", op(set_policy(0, 1)))]);
    assert_eq!(chain.reason("birch", op(record_access("cedar", 2, 1, [1; 32]))), "STALE_POLICY_SEQUENCE");

    let effective = chain.decide(&["dogwood", "elm", "fir"], remove_organization("birch", Some("elm")));
    chain.until(effective - 1);
    assert_eq!(chain.reason("elm", op(set_consent("cedar", 2, 3))), "");
    assert_eq!(chain.reason("fir", op(set_consent("cedar", 2, 3))), "NOT_THE_CUSTODIAN");
    assert_eq!(
        chain.reason("fir", propose(chain.next() + 2, add_organization(&record("cedar")))),
        "MEMBER_EXISTS"
    );
}

#[test]
fn without_a_successor_slots_are_frozen_but_for_the_patient() {
    let mut chain = network(&["birch", "cedar", "dogwood", "elm", "fir"]);
    let consent = chain.entry("cedar", vec![op(with_key(set_consent("cedar", 0, 1), &patient()))]);
    chain.commit(vec![consent]);
    let effective = chain.decide(&["birch", "dogwood", "elm", "fir"], remove_organization("cedar", None));
    chain.until(effective - 1);
    for author in ["birch", "dogwood", "elm", "fir"] {
        assert_eq!(chain.reason(author, op(set_consent("cedar", 1, 2))), "NOT_THE_CUSTODIAN");
        assert_eq!(chain.reason(author, op(record_access("cedar", 1, 0, [1; 32]))), "NOT_THE_CUSTODIAN");
    }
    assert_eq!(chain.reason("elm", op(withdraw("cedar", 0, &patient()))), "");
}

#[test]
fn more_than_a_third_stop_an_entry_key_at_the_next_height_and_a_vote_brings_it_back() {
    let mut chain = four();
    chain.step(vec![("birch", suspend("elm"))]);
    assert_eq!(chain.reason("elm", op(set_policy(0, 1))), "");
    assert_eq!(chain.reason("birch", suspend("elm")), "ALREADY_VOTED");
    // What a thief has scheduled for later comes to nothing.
    let thief = key(3, "entry", "thief");
    let stolen = super::rotate("elm", KeyPurpose::Entry, &chain.entry_key("elm"), &thief, chain.next() + 5);
    let stolen = super::step(assent_proto::ledger::v1::govern::Step::RotateKey(stolen));
    chain.step(vec![("elm", stolen), ("elm", addresses(1))]);
    chain.step(vec![("dogwood", suspend("elm"))]);
    assert_eq!(chain.reason("elm", op(set_policy(0, 1))), "ENTRY_KEY_SUSPENDED");
    assert_eq!(chain.reason("cedar", suspend("elm")), "ALREADY_SUSPENDED");
    let now = members(&chain);
    let elm = now.organizations.iter().find(|o| o.id == "elm").unwrap();
    assert!(elm.entry_key.is_empty() && now.scheduled.is_empty() && now.suspensions.is_empty());
    assert_eq!(voters(&chain), FOUR);
    assert_eq!(chain.tip.validators.members_root, members_root(&now.organizations));
    // With another one suspended two of four could sign: nobody could bring a key back.
    assert_eq!(chain.reason("birch", suspend("cedar")), "NOBODY_LEFT_TO_APPROVE");
    let removal = propose(chain.next() + 2, remove_validator("cedar"));
    assert_eq!(chain.reason("birch", removal), "NOBODY_LEFT_TO_APPROVE");

    let fresh = key(4, "entry", "elm");
    chain.know(fresh.clone());
    let change = replace_key(&chain, "elm", KeyPurpose::Entry, &fresh);
    let effective = chain.decide(&THREE, change);
    chain.until(effective - 2);
    assert_eq!(chain.reason("elm", op(set_policy(0, 1))), "ENTRY_KEY_SUSPENDED");
    chain.until(effective - 1);
    chain.step(vec![("elm", op(set_policy(0, 1)))]);
}

#[test]
fn votes_of_a_suspended_key_count_no_more() {
    let mut chain = four();
    let at = chain.next() + 20;
    chain.step(vec![("birch", propose(at, add_organization(&record("fir"))))]);
    chain.step(vec![("elm", approve(1)), ("elm", suspend("cedar"))]);
    assert_eq!(members(&chain).proposals[0].approvals, ["birch", "elm"]);
    chain.step(vec![("birch", suspend("elm")), ("dogwood", suspend("elm"))]);
    assert_eq!(members(&chain).proposals[0].approvals, ["birch"]);
    assert!(members(&chain).suspensions[0].votes.is_empty());
    chain.step(vec![("cedar", approve(1))]);
    assert!(members(&chain).scheduled.is_empty());
    chain.step(vec![("dogwood", approve(1))]);
    assert_eq!(members(&chain).scheduled[0].effective_height, at);
}

/// A suspension drops an approval; if the same key comes back, the entry that gave it a second time gives it again.
#[test]
fn an_approval_that_was_given_may_have_to_be_given_again() {
    let mut chain = four();
    let at = chain.next() + 20;
    chain.step(vec![("birch", propose(at, add_organization(&record("fir"))))]);
    chain.step(vec![("elm", approve(1))]);
    let again = chain.entry("elm", vec![approve(1)]);
    match chain.refusal(&again) {
        Some(ExecuteError::Governance(error)) => {
            assert_eq!((error.reason(), error.is_final()), ("ALREADY_APPROVED", false));
        }
        other => panic!("{other:?}"),
    }
    chain.step(vec![("birch", suspend("elm")), ("dogwood", suspend("elm"))]);
    let same = replace_key(&chain, "elm", KeyPurpose::Entry, &chain.entry_key("elm"));
    let effective = chain.decide(&THREE, same);
    chain.until(effective - 1);
    assert_eq!(members(&chain).proposals[0].approvals, ["birch"]);
    chain.commit(vec![again]);
    assert_eq!(members(&chain).proposals[0].approvals, ["birch", "elm"]);
}

#[test]
fn a_validator_goes_only_while_the_others_are_there() {
    let names = ["a", "b", "c", "d", "e"];
    let mut chain = network(&names);
    let absent = public(&chain.vote_key("e"));
    // Two turns missed: on the bench.
    while chain.tip.bench.0.get(&absent).is_none_or(|absence| absence.missed < 2) {
        chain.commit_without(&absent);
    }
    // Without d three of four would be there: fine. Without c too, two of three: not.
    let effective = chain.decide(&["a", "b", "c", "d"], remove_validator("d"));
    chain.until(effective - 1);
    assert_eq!(voters(&chain), ["a", "b", "c", "e"]);
    assert!(chain.tip.bench.0.contains_key(&absent));
    let effective = chain.decide(&["a", "b", "c"], remove_validator("c"));
    chain.until(effective - 1);
    assert_eq!(voters(&chain).len(), 4);
    assert_eq!(members(&chain).scheduled[0].effective_height, effective + POSTPONED_HEIGHTS);
    // It comes back and proposes; then the change may come.
    chain.until(effective + POSTPONED_HEIGHTS - 1);
    assert_eq!(voters(&chain).len(), if chain.tip.bench.0.contains_key(&absent) { 4 } else { 3 });
    chain.until(effective + 3 * POSTPONED_HEIGHTS - 1);
    assert_eq!(voters(&chain), ["a", "b", "e"]);
    assert!(members(&chain).scheduled.is_empty());
}

#[test]
fn the_bench_forgets_who_votes_no_more() {
    let mut chain = four();
    let absent = public(&chain.vote_key("elm"));
    while !chain.tip.bench.0.contains_key(&absent) {
        chain.commit_without(&absent);
    }
    let effective = chain.next() + 4;
    for (author, operation) in [
        ("birch", propose(effective, remove_validator("elm"))),
        ("cedar", approve(1)),
        ("dogwood", approve(1)),
    ] {
        let entry = chain.entry(author, vec![operation]);
        let round = u32::from(chain.turn(0) == absent);
        let proposal =
            assent_ledger::block::Proposal { proposer: chain.turn(round), round, ..chain.proposal() };
        let verify = assent_ledger::keys::verify_batch;
        let (block, _, dropped) =
            assent_ledger::block::build_block(&chain.tip, &chain.store, vec![entry], &proposal, &verify)
                .unwrap();
        assert_eq!(dropped, vec![]);
        chain.take(block);
    }
    while chain.next() < effective {
        chain.commit_without(&absent);
    }
    assert_eq!(voters(&chain), THREE);
    assert!(!chain.tip.bench.0.contains_key(&absent));
}

#[test]
fn fewer_voters_may_make_votes_enough() {
    let mut chain = network(&["a", "b", "c", "d", "e"]);
    let late = chain.next() + 40;
    chain.step(vec![("a", propose(late, add_organization(&record("fir"))))]);
    chain.step(vec![("b", approve(1)), ("c", approve(1))]);
    let effective = chain.decide(&["a", "b", "c", "d"], remove_validator("e"));
    chain.until(effective - 2);
    assert_eq!(members(&chain).proposals.len(), 1);
    // Three of five are not enough; three of four are.
    chain.until(effective - 1);
    assert!(members(&chain).proposals.is_empty());
    assert_eq!(members(&chain).scheduled[0].effective_height, late);
    chain.until(late - 1);
    assert_eq!(members(&chain).organizations.len(), 6);
}

#[test]
fn addresses_hold_two_heights_later_and_the_last_ones_count() {
    let mut chain = four();
    let height = chain.next();
    chain.step(vec![("elm", addresses(1)), ("elm", addresses(2))]);
    assert_eq!(members(&chain).scheduled.len(), 1);
    let of_elm = |chain: &Chain| members(chain).organizations[3].consensus_address.clone();
    assert_eq!(of_elm(&chain), "/ip4/192.0.2.7/tcp/7413");
    chain.until(height + 1);
    assert_eq!(of_elm(&chain), "/ip4/192.0.2.8/tcp/2");
}
