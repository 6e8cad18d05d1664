//! Evidence against validators, present and former.

use assent_ledger::certificate::{proposal_sign_bytes, vote_sign_bytes};
use assent_ledger::governance::evidence_key;
use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::state::{organization, StateRead};
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::report_evidence::Kind;
use assent_proto::ledger::v1::{
    ConflictingProposals, ConflictingVotes, KeyPurpose, Operation, ReportEvidence, SignedProposal, Vote,
    VoteType,
};
use prost::Message;

use super::{four, rotate, step};
use crate::chain::{key, public, Chain, CHAIN};
use crate::records::op;

pub fn vote(key: &SigningKey, kind: VoteType, height: u64, round: u32, hash: Option<u8>) -> Vote {
    Vote {
        r#type: kind.into(),
        height,
        round,
        header_hash: hash.map(|byte| vec![byte; 32]),
        address: public(key).to_vec(),
    }
}

pub fn votes(chain_id: &str, key: &SigningKey, first: &Vote, second: &Vote) -> Operation {
    let signed = |vote: &Vote| sign(key, &vote_sign_bytes(chain_id, vote)).to_vec();
    let kind = Kind::Votes(ConflictingVotes {
        first: first.encode_to_vec(),
        first_signature: signed(first),
        second: second.encode_to_vec(),
        second_signature: signed(second),
    });
    op(ReportEvidence { kind: Some(kind) })
}

fn precommits(key: &SigningKey, height: u64, round: u32) -> Operation {
    let of = |hash| vote(key, VoteType::Precommit, height, round, hash);
    votes(CHAIN, key, &of(Some(1)), &of(Some(2)))
}

pub fn proposal(key: &SigningKey, height: u64, round: u32, pol: Option<u32>, hash: u8) -> SignedProposal {
    let (address, header_hash) = (public(key), [hash; 32]);
    let message = proposal_sign_bytes(CHAIN, height, round, pol, &header_hash, &address);
    SignedProposal {
        height,
        round,
        pol_round: pol,
        header_hash: header_hash.to_vec(),
        address: address.to_vec(),
        signature: sign(key, &message).to_vec(),
    }
}

pub fn proposals(first: SignedProposal, second: SignedProposal) -> Operation {
    let kind = Kind::Proposals(ConflictingProposals { first: Some(first), second: Some(second) });
    op(ReportEvidence { kind: Some(kind) })
}

fn count(chain: &Chain, name: &str) -> u64 {
    organization(&chain.store, CHAIN, name).unwrap().unwrap().evidence
}

#[test]
fn evidence_stands_once_and_counts_against_its_organization() {
    let mut chain = four();
    chain.until(3);
    let elm = chain.vote_key("elm");
    chain.step(vec![("birch", precommits(&elm, 2, 0))]);
    assert_eq!((count(&chain, "elm"), count(&chain, "birch")), (1, 0));
    let key = evidence_key(CHAIN, &public(&elm), 2, 0, 2);
    assert!(chain.store.value(&key).unwrap().is_some());
    for author in ["birch", "cedar", "elm"] {
        assert_eq!(chain.reason(author, precommits(&elm, 2, 0)), "EVIDENCE_KNOWN");
    }
    // Another round, another type, nil against a block, proposals: each is its own.
    chain.step(vec![("cedar", precommits(&elm, 2, 1))]);
    let prevote = |hash| vote(&elm, VoteType::Prevote, 2, 0, hash);
    chain.step(vec![("cedar", votes(CHAIN, &elm, &prevote(None), &prevote(Some(1))))]);
    let two = proposals(proposal(&elm, 2, 0, None, 1), proposal(&elm, 2, 0, Some(0), 2));
    chain.step(vec![("elm", two)]);
    assert_eq!(count(&chain, "elm"), 4);
    // In one entry twice: nothing of it.
    let entry = chain.entry("birch", vec![precommits(&elm, 3, 0), precommits(&elm, 3, 0)]);
    let (_, _, dropped) = chain.propose(vec![entry]);
    assert_eq!(dropped[0].1.reason(), "EVIDENCE_KNOWN");
}

#[test]
fn what_is_no_evidence_is_refused() {
    let mut chain = four();
    chain.until(3);
    let (elm, cedar) = (chain.vote_key("elm"), chain.vote_key("cedar"));
    let of = |hash| vote(&elm, VoteType::Precommit, 2, 0, hash);
    let both = |first: &Vote, second: &Vote| votes(CHAIN, &elm, first, second);
    let forged = {
        let mut forged = precommits(&elm, 2, 0);
        if let Some(assent_proto::ledger::v1::operation::Kind::ReportEvidence(op)) = &mut forged.kind {
            if let Some(Kind::Votes(op)) = &mut op.kind {
                op.second_signature[5] ^= 1;
            }
        }
        forged
    };
    let stranger = key(9, "vote", "stranger");
    let same_block = proposals(proposal(&elm, 2, 0, None, 1), proposal(&elm, 2, 0, Some(0), 1));
    let table = [
        (both(&of(Some(1)), &of(Some(1))), "NO_CONTRADICTION"),
        (both(&of(None), &of(None)), "NO_CONTRADICTION"),
        (both(&of(Some(1)), &vote(&elm, VoteType::Prevote, 2, 0, Some(2))), "NO_CONTRADICTION"),
        (both(&of(Some(1)), &vote(&elm, VoteType::Precommit, 3, 0, Some(2))), "NO_CONTRADICTION"),
        (both(&of(Some(1)), &vote(&elm, VoteType::Precommit, 2, 1, Some(2))), "NO_CONTRADICTION"),
        (both(&of(Some(1)), &vote(&cedar, VoteType::Precommit, 2, 0, Some(2))), "NO_CONTRADICTION"),
        (same_block, "NO_CONTRADICTION"),
        (precommits(&elm, 0, 0), "EVIDENCE_HEIGHT_NOT_REACHED"),
        (precommits(&elm, chain.next() + 1, 0), "EVIDENCE_HEIGHT_NOT_REACHED"),
        (precommits(&elm, chain.next(), 0), ""),
        (precommits(&stranger, 2, 0), "NOT_A_VALIDATOR_KEY"),
        (precommits(&chain.entry_key("elm"), 2, 0), "NOT_A_VALIDATOR_KEY"),
        (forged, "BAD_EVIDENCE_SIGNATURE"),
        (votes("another-chain", &elm, &of(Some(1)), &of(Some(2))), "BAD_EVIDENCE_SIGNATURE"),
        (votes(CHAIN, &cedar, &of(Some(1)), &of(Some(2))), "BAD_EVIDENCE_SIGNATURE"),
        (proposals(proposal(&elm, 2, 0, None, 1), proposal(&elm, 2, 0, None, 2)), ""),
    ];
    for (index, (operation, reason)) in table.into_iter().enumerate() {
        assert_eq!(chain.reason("birch", operation), reason, "row {index}");
    }
}

#[test]
fn a_former_key_answers_for_its_own_heights() {
    let mut chain = four();
    let (old, new) = (chain.vote_key("elm"), key(7, "vote", "elm"));
    chain.know(new.clone());
    let at = chain.next() + 3;
    chain.step(vec![("elm", step(Step::RotateKey(rotate("elm", KeyPurpose::Vote, &old, &new, at))))]);
    chain.until(at + 2);
    assert_eq!(chain.reason("birch", precommits(&old, at, 0)), "NOT_A_VALIDATOR_KEY");
    assert_eq!(chain.reason("birch", precommits(&new, at, 0)), "");
    chain.step(vec![("birch", precommits(&old, at - 1, 0))]);
    assert_eq!(count(&chain, "elm"), 1);
}

#[test]
fn evidence_of_a_wrong_form_is_refused_by_field() {
    use assent_ledger::entry::{check_entry, sign_entry};
    let chain = four();
    let elm = chain.vote_key("elm");
    let good = vote(&elm, VoteType::Precommit, 2, 0, Some(1));
    let kind = |vote: Vote| votes(CHAIN, &elm, &vote, &good);
    let none = proposal(&elm, 2, 0, None, 1);
    let one = Kind::Proposals(ConflictingProposals { first: Some(none.clone()), second: None });
    let short = SignedProposal { header_hash: vec![1; 31], ..none.clone() };
    let table = [
        (op(ReportEvidence { kind: None }), "ReportEvidence.kind"),
        (kind(Vote { r#type: 0, ..good.clone() }), "Vote.type"),
        (kind(Vote { r#type: 3, ..good.clone() }), "Vote.type"),
        (kind(Vote { address: vec![1; 33], ..good.clone() }), "Vote.address"),
        (kind(Vote { header_hash: Some(vec![]), ..good.clone() }), "Vote.header_hash"),
        (op(ReportEvidence { kind: Some(one) }), "ConflictingProposals.second"),
        (proposals(short, none), "SignedProposal.header_hash"),
    ];
    for (operation, field) in table {
        let body = chain.body("birch", 1, vec![operation]);
        let refused = check_entry(CHAIN, &sign_entry(&chain.entry_key("birch"), &body)).unwrap_err();
        assert!(refused.to_string().starts_with(field), "{field}: {refused}");
    }
}
