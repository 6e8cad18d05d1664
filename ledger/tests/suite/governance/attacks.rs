//! What somebody may try who has an old key, another's message, or no vote.

use assent_ledger::block::BlockError;
use assent_ledger::entry::{check_entry, sign_entry};
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::{KeyPurpose, RotateKey};

use super::{add_organization, add_validator, approve, four, members, propose, ready, record, rotate, step};
use crate::chain::{key, Chain, CHAIN};
use crate::records::{op, set_policy};

const BY: [&str; 3] = ["birch", "cedar", "dogwood"];

fn rotated(rotation: RotateKey) -> assent_proto::ledger::v1::Operation {
    step(Step::RotateKey(rotation))
}

#[test]
fn a_handover_is_for_one_purpose_height_organization_and_chain() {
    let chain = four();
    let at = chain.next() + 5;
    let (old, new) = (key(1, "consensus", "elm"), key(7, "peer", "elm"));
    let good = rotate("elm", KeyPurpose::ConsensusPeer, &old, &new, at);
    assert_eq!(chain.reason("elm", rotated(good.clone())), "");
    let other_height = RotateKey { effective_height: at + 1, ..good.clone() };
    assert_eq!(chain.reason("elm", rotated(other_height)), "BAD_HANDOVER_SIGNATURE");
    // The exchange peer's key signs for its own purpose only: the old signature is of the consensus peer's.
    let other_purpose = RotateKey { purpose: KeyPurpose::ExchangePeer.into(), ..good.clone() };
    assert_eq!(chain.reason("elm", rotated(other_purpose)), "BAD_HANDOVER_SIGNATURE");
    assert_eq!(chain.reason("birch", rotated(good.clone())), "BAD_HANDOVER_SIGNATURE");
    let another_chain = {
        let message = assent_ledger::governance::handover_sign_bytes(
            "another",
            "elm",
            KeyPurpose::ConsensusPeer,
            &crate::chain::public(&old),
            &crate::chain::public(&new),
            at,
        );
        let sign = |key| assent_ledger::keys::sign(key, &message).to_vec();
        RotateKey { old_signature: sign(&old), new_signature: sign(&new), ..good }
    };
    assert_eq!(chain.reason("elm", rotated(another_chain)), "BAD_HANDOVER_SIGNATURE");
}

#[test]
fn an_old_keys_signatures_are_worth_nothing_after_its_height() {
    let mut chain = four();
    let (old, new) = (chain.vote_key("elm"), key(7, "vote", "elm"));
    chain.know(new.clone());
    let at = chain.next() + 4;
    let rotation = rotate("elm", KeyPurpose::Vote, &old, &new, at);
    chain.step(vec![("elm", rotated(rotation.clone()))]);
    // Replayed while it is under way and afterwards.
    assert_eq!(chain.reason("elm", rotated(rotation.clone())), "KEY_CHANGE_UNDER_WAY");
    chain.until(at + 1);
    let later = RotateKey { effective_height: at + 20, ..rotation };
    assert_eq!(chain.reason("elm", rotated(later)), "KEY_IN_USE");
    let third = key(8, "vote", "elm");
    let stale = rotate("elm", KeyPurpose::Vote, &old, &third, at + 20);
    assert_eq!(chain.reason("elm", rotated(stale)), "BAD_HANDOVER_SIGNATURE");
    // A certificate in which the old key signs proves nothing: the next block is refused.
    let hash = chain.tip.header_hash;
    let forged = chain.certify(chain.tip.height, &hash, &["birch", "cedar", "elm"]);
    let mut proposal = chain.proposal();
    proposal.previous_certificate = prost::Message::encode_to_vec(&forged);
    let verify = assent_ledger::keys::verify_batch;
    let (block, _, _) =
        assent_ledger::block::build_block(&chain.tip, &chain.store, vec![], &proposal, &verify).unwrap();
    let refused = chain.apply(&block).unwrap_err();
    assert!(matches!(refused, BlockError::Certificate(_)), "{refused}");
}

#[test]
fn one_organization_has_one_vote() {
    let mut chain = four();
    let at = chain.next() + 30;
    let entry = chain.entry("birch", vec![propose(at, add_organization(&record("fir"))), approve(1)]);
    let (_, _, dropped) = chain.propose(vec![entry]);
    assert_eq!(dropped[0].1.reason(), "ALREADY_APPROVED");
    chain.step(vec![("birch", propose(at, add_organization(&record("fir"))))]);
    chain.step(vec![("cedar", approve(1))]);
    for voter in ["birch", "cedar"] {
        assert_eq!(chain.reason(voter, approve(1)), "ALREADY_APPROVED");
    }
    // Twice in one block: the second is dropped, and a block that holds it is refused.
    let twice = [chain.entry("dogwood", vec![approve(1)]), chain.entry("dogwood", vec![approve(1)])];
    let (_, applied, dropped) = chain.propose(twice.to_vec());
    assert_eq!((applied.entries.len(), dropped.len()), (1, 1));
    assert_eq!(members(&chain).proposals.len(), 1);
}

#[test]
fn an_observer_proposes_and_approves_nothing() {
    let mut chain = four();
    let effective = chain.decide(&BY, add_organization(&record("fir")));
    chain.until(effective - 1);
    let at = chain.next() + 30;
    assert_eq!(chain.reason("fir", propose(at, add_organization(&record("gorse")))), "NOT_A_VOTER");
    chain.step(vec![("birch", propose(at, add_organization(&record("gorse"))))]);
    assert_eq!(chain.reason("fir", approve(2)), "NOT_A_VOTER");
    // Nor does it make itself a validator.
    assert_eq!(chain.reason("fir", ready("fir", &key(1, "vote", "fir"), chain.next() - 1)), "NOT_JOINING");
}

#[test]
fn only_the_approved_key_says_that_it_is_ready() {
    let mut chain = four();
    let vote = key(1, "vote", "fir");
    let effective = chain.decide(&BY, add_organization(&record("fir")));
    chain.until(effective - 1);
    let effective = chain.decide(&BY, add_validator("fir", &vote));
    chain.until(effective - 1);
    let height = chain.next() - 1;
    assert_eq!(chain.reason("fir", ready("fir", &key(2, "vote", "fir"), height)), "BAD_READY_SIGNATURE");
    assert_eq!(chain.reason("elm", ready("fir", &vote, height)), "NOT_JOINING");
    let said = ready("fir", &vote, height);
    chain.step(vec![("fir", said.clone())]);
    assert_eq!(chain.reason("fir", said), "NOT_JOINING");
}

#[test]
fn a_block_that_skips_or_adds_a_change_is_refused() {
    let mut chain = four();
    let effective = chain.decide(&BY, add_organization(&record("fir")));
    chain.until(effective - 2);
    let (block, _, _) = chain.propose(vec![]);
    let mut told = <assent_proto::ledger::v1::Block as prost::Message>::decode(block.as_slice()).unwrap();
    let mut header =
        <assent_proto::ledger::v1::Header as prost::Message>::decode(told.header.as_slice()).unwrap();
    header.next_validator_set_hash = header.validator_set_hash.clone();
    told.header = prost::Message::encode_to_vec(&header);
    let refused = chain.apply(&prost::Message::encode_to_vec(&told)).unwrap_err();
    assert!(refused.to_string().starts_with("header.next_validator_set_hash"), "{refused}");
}

#[test]
fn a_removed_organizations_entries_are_refused_and_its_id_stays_taken() {
    let mut chain = super::network(&["birch", "cedar", "dogwood", "elm", "fir"]);
    let old: Chain = chain.clone();
    let by = ["birch", "cedar", "dogwood", "elm"];
    let effective = chain.decide(&by, super::remove_organization("fir", None));
    chain.until(effective - 1);
    let bytes = sign_entry(&old.entry_key("fir"), &chain.body("fir", 7, vec![op(set_policy(0, 1))]));
    assert_eq!(chain.reason_of(&check_entry(CHAIN, &bytes).unwrap()), "ORGANIZATION_REMOVED");
    let back = propose(chain.next() + 3, add_organization(&record("fir")));
    assert_eq!(chain.reason("elm", back), "MEMBER_EXISTS");
}
