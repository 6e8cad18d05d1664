//! Equivocation: what convicts, what does not, files of it, and forks.

use std::collections::BTreeSet;

use assent_ledger::audit::verify_export;
use assent_ledger::certificate::{proposal_sign_bytes, vote_sign_bytes};
use assent_ledger::conviction::{
    make_evidence_file, verify_evidence_file, ConvictionError, EVIDENCE_MAGIC, MAX_EVIDENCE_BYTES,
};
use assent_ledger::evidence::{
    conflicting_proposals, conflicting_votes, signed_both, verify_evidence, EvidenceError, Offence,
    OffenceKind,
};
use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::Hash;
use assent_proto::ledger::v1::report_evidence::Kind;
use assent_proto::ledger::v1::{
    Block, Certificate, ConflictingVotes, EvidenceFile, ReportEvidence, SetChange, SignedProposal, Vote,
    VoteType,
};
use prost::Message;

use crate::chain::{key, public, Chain, CHAIN};
use crate::records::{op, set_policy};

/// No recovery is accepted.
const NONE: BTreeSet<Hash> = BTreeSet::new();

fn elm() -> SigningKey {
    key(1, "vote", "elm")
}

fn vote(kind: VoteType, hash: Option<u8>) -> Vote {
    Vote {
        r#type: kind.into(),
        height: 7,
        round: 2,
        header_hash: hash.map(|n| vec![n; 32]),
        address: public(&elm()).to_vec(),
    }
}

fn signed(key: &SigningKey, vote: &Vote) -> Vec<u8> {
    sign(key, &vote_sign_bytes(CHAIN, vote)).to_vec()
}

fn two(first: &Vote, second: &Vote) -> ReportEvidence {
    conflicting_votes((first, &signed(&elm(), first)), (second, &signed(&elm(), second)))
}

fn proposal(hash: u8, pol_round: Option<u32>) -> SignedProposal {
    let address = public(&elm());
    let message = proposal_sign_bytes(CHAIN, 7, 2, pol_round, &[hash; 32], &address);
    SignedProposal {
        height: 7,
        round: 2,
        pol_round,
        header_hash: vec![hash; 32],
        address: address.to_vec(),
        signature: sign(&elm(), &message).to_vec(),
    }
}

/// Every kind of evidence that there is.
fn samples() -> Vec<(OffenceKind, ReportEvidence)> {
    use VoteType::{Precommit, Prevote};
    vec![
        (OffenceKind::Prevotes, two(&vote(Prevote, Some(1)), &vote(Prevote, Some(2)))),
        (OffenceKind::Prevotes, two(&vote(Prevote, None), &vote(Prevote, Some(2)))),
        (OffenceKind::Precommits, two(&vote(Precommit, Some(1)), &vote(Precommit, None))),
        (OffenceKind::Proposals, conflicting_proposals(proposal(1, None), proposal(2, None))),
        (OffenceKind::Proposals, conflicting_proposals(proposal(2, Some(1)), proposal(1, None))),
    ]
}

fn votes_of(evidence: &mut ReportEvidence) -> &mut ConflictingVotes {
    match evidence.kind.as_mut() {
        Some(Kind::Votes(votes)) => votes,
        _ => panic!("no votes"),
    }
}

#[test]
fn two_signatures_that_contradict_each_other_convict() {
    for (kind, evidence) in samples() {
        let offence = verify_evidence(CHAIN, &evidence).unwrap();
        assert_eq!((offence.kind, offence.height, offence.round), (kind, 7, 2));
        assert_eq!(offence.validator, public(&elm()));
        assert_ne!(offence.first, offence.second);
        // On another chain the same bytes are nobody's.
        let elsewhere = verify_evidence("testnet-other", &evidence);
        assert!(matches!(elsewhere, Err(EvidenceError::Signature { which: "first", .. })), "{elsewhere:?}");
    }
    // Whoever saw them in the other order reports the same.
    let (a, b) = (vote(VoteType::Prevote, Some(1)), vote(VoteType::Prevote, Some(2)));
    assert_eq!(two(&a, &b), two(&b, &a));
    let (a, b) = (proposal(1, None), proposal(2, None));
    assert_eq!(conflicting_proposals(a.clone(), b.clone()), conflicting_proposals(b, a));
}

#[test]
fn what_an_honest_validator_may_sign_does_not_convict() {
    use VoteType::{Precommit, Prevote};
    let one = vote(Prevote, Some(1));
    let cases = [
        (vote(Prevote, Some(1)), EvidenceError::Same),
        (vote(Precommit, Some(2)), EvidenceError::Apart("type")),
        (Vote { height: 8, ..vote(Prevote, Some(2)) }, EvidenceError::Apart("height")),
        (Vote { round: 3, ..vote(Prevote, Some(2)) }, EvidenceError::Apart("round")),
    ];
    for (other, error) in cases {
        assert_eq!(verify_evidence(CHAIN, &two(&one, &other)), Err(error));
    }
    let other = Vote { address: public(&key(1, "vote", "cedar")).to_vec(), ..vote(Prevote, Some(2)) };
    assert_eq!(verify_evidence(CHAIN, &two(&one, &other)), Err(EvidenceError::Apart("address")));
    // The same block, proposed again with a proof of lock.
    let again = conflicting_proposals(proposal(1, None), proposal(1, Some(1)));
    assert_eq!(verify_evidence(CHAIN, &again), Err(EvidenceError::Same));
}

#[test]
fn each_field_of_evidence_counts() {
    type Edit = fn(&mut ReportEvidence);
    let vote_edits: [(&str, Edit); 8] = [
        ("MALFORMED_EVIDENCE", |e| votes_of(e).first.push(0)),
        ("MALFORMED_EVIDENCE", |e| votes_of(e).second.clear()),
        ("MALFORMED_EVIDENCE", |e| votes_of(e).first_signature.push(0)),
        ("MALFORMED_EVIDENCE", |e| votes_of(e).second = vec![0; 10_000]),
        ("BAD_EVIDENCE_SIGNATURE", |e| votes_of(e).first_signature[5] ^= 1),
        ("BAD_EVIDENCE_SIGNATURE", |e| votes_of(e).second_signature[40] ^= 1),
        ("BAD_EVIDENCE_SIGNATURE", |e| {
            let votes = votes_of(e);
            std::mem::swap(&mut votes.first_signature, &mut votes.second_signature);
        }),
        ("MALFORMED_EVIDENCE", |e| e.kind = None),
    ];
    let good = samples().remove(0).1;
    for (number, (reason, edit)) in vote_edits.iter().enumerate() {
        let mut bad = good.clone();
        edit(&mut bad);
        assert_eq!(verify_evidence(CHAIN, &bad).unwrap_err().reason(), *reason, "edit {number}");
    }
    // Neither an unknown type, nor a hash of another length, nor a field written twice.
    let one = vote(VoteType::Prevote, Some(1));
    let other = vote(VoteType::Prevote, Some(2));
    for bad in [
        Vote { r#type: 0, ..other.clone() },
        Vote { r#type: 3, ..other.clone() },
        Vote { header_hash: Some(vec![2; 31]), ..other.clone() },
        Vote { header_hash: Some(Vec::new()), ..other.clone() },
        Vote { address: vec![1; 31], ..other.clone() },
    ] {
        assert_eq!(verify_evidence(CHAIN, &two(&one, &bad)).unwrap_err().reason(), "MALFORMED_EVIDENCE");
    }
    let mut doubled = good.clone();
    votes_of(&mut doubled).second.extend([0x10, 0x07]);
    assert_eq!(verify_evidence(CHAIN, &doubled).unwrap_err().reason(), "MALFORMED_EVIDENCE");
    let Some(Kind::Proposals(good)) = samples().remove(3).1.kind else { panic!("no proposals") };
    let edits: [fn(&mut SignedProposal); 7] = [
        |p| p.height += 1,
        |p| p.round += 1,
        |p| p.pol_round = Some(0),
        |p| p.header_hash[0] ^= 1,
        |p| p.address[0] ^= 1,
        |p| p.signature[0] ^= 1,
        |p| p.signature.truncate(63),
    ];
    for edit in edits {
        let mut bad = good.clone();
        edit(bad.second.as_mut().unwrap());
        verify_evidence(CHAIN, &ReportEvidence { kind: Some(Kind::Proposals(bad)) }).unwrap_err();
    }
    let mut half = good;
    half.first = None;
    verify_evidence(CHAIN, &ReportEvidence { kind: Some(Kind::Proposals(half)) }).unwrap_err();
}

/// With a key of small order anybody can make signatures that hold: such an address convicts nobody.
#[test]
fn a_key_of_small_order_is_nobody() {
    let mut identity = vec![0; 32];
    identity[0] = 1;
    let of = |hash| Vote { address: identity.clone(), ..vote(VoteType::Prevote, Some(hash)) };
    let mut zero = [0; 64];
    zero[0] = 1;
    let evidence = conflicting_votes((&of(1), &zero), (&of(2), &zero));
    let found = verify_evidence(CHAIN, &evidence);
    assert!(matches!(found, Err(EvidenceError::Address { .. })), "{found:?}");
}

#[test]
fn an_evidence_file_verifies_with_the_genesis_hash_alone() {
    let chain = Chain::new();
    for (kind, evidence) in samples() {
        let (file, made) = make_evidence_file(&chain.genesis, &NONE, &[], &[], &evidence).unwrap();
        let body = file.strip_prefix(EVIDENCE_MAGIC.as_slice()).unwrap();
        let conviction = verify_evidence_file(&chain.genesis.hash, &NONE, body).unwrap();
        assert_eq!(conviction, made);
        assert_eq!((conviction.organization.as_str(), conviction.voted_from), ("elm", 1));
        assert_eq!((conviction.chain_id.as_str(), conviction.offence.kind), (CHAIN, kind));
        for at in 0..body.len() {
            let mut bad = body.to_vec();
            bad[at] ^= 1 << (at % 8);
            verify_evidence_file(&chain.genesis.hash, &NONE, &bad)
                .expect_err(&format!("{kind:?}: byte {at}"));
            verify_evidence_file(&chain.genesis.hash, &NONE, &body[..at])
                .expect_err(&format!("{kind:?}: cut at {at}"));
        }
        verify_evidence_file(&chain.genesis.hash, &NONE, &[body, &[0]].concat()).unwrap_err();
        verify_evidence_file(&chain.genesis.hash, &NONE, &[body, body].concat()).unwrap_err();
        let other = Chain::of(2, &crate::chain::FOUR).genesis;
        let found = verify_evidence_file(&other.hash, &NONE, body);
        assert!(matches!(found, Err(ConvictionError::GenesisHash { .. })), "{found:?}");
        // Whose key it is, another network doesn't say.
        let found = make_evidence_file(&other, &NONE, &[], &[], &evidence);
        assert!(matches!(found, Err(ConvictionError::Stranger { .. })), "{found:?}");
    }
}

#[test]
fn an_evidence_file_is_bounded() {
    let chain = Chain::new();
    let evidence = Some(samples().remove(0).1);
    let file = |sets| EvidenceFile {
        genesis: chain.file.clone(),
        evidence: evidence.clone(),
        sets,
        headers: Vec::new(),
    };
    // Two bytes each: a hundred times that in memory.
    let many = file(vec![SetChange::default(); 4099]).encode_to_vec();
    let found = verify_evidence_file(&chain.genesis.hash, &NONE, &many).unwrap_err().to_string();
    assert!(found.contains("too many parts"), "{found}");
    let long = vec![0; MAX_EVIDENCE_BYTES + 1];
    let found = verify_evidence_file(&chain.genesis.hash, &NONE, &long).unwrap_err().to_string();
    assert!(found.contains("at most"), "{found}");
    let empty = EvidenceFile { genesis: chain.file.clone(), ..Default::default() }.encode_to_vec();
    assert_eq!(verify_evidence_file(&chain.genesis.hash, &NONE, &empty), Err(ConvictionError::NoEvidence));
}

/// A chain that three of the four certified, from its newest block on.
fn closed(chain: &Chain, signers: [&str; 3]) -> Certificate {
    chain.certify(chain.tip.height, &chain.tip.header_hash, &signers)
}

fn every_part_of_its_headers_counts(genesis: &Hash, body: &[u8]) {
    let headers = EvidenceFile::decode(body).unwrap().headers;
    let with = |headers: &[&Vec<u8>]| {
        let headers = headers.iter().map(|bytes| bytes.to_vec()).collect();
        let file = EvidenceFile { headers, ..EvidenceFile::decode(body).unwrap() };
        verify_evidence_file(genesis, &NONE, &file.encode_to_vec())
    };
    let [first, second] = &headers[..] else { panic!() };
    assert!(with(&[first, second]).unwrap().one_set);
    assert!(!with(&[]).unwrap().one_set);
    assert_eq!(with(&[first]), Err(ConvictionError::Headers(1)));
    assert_eq!(with(&[first, second, second]), Err(ConvictionError::Headers(3)));
    assert_eq!(with(&[second, first]), Err(ConvictionError::OtherHeader("first")));
    assert_eq!(with(&[first, first]), Err(ConvictionError::OtherHeader("second")));
    for at in 0..first.len() {
        let mut bad = first.clone();
        bad[at] ^= 1 << (at % 8);
        assert_eq!(with(&[&bad, second]), Err(ConvictionError::OtherHeader("first")), "byte {at}");
    }
}

/// Two of four sign both branches of a fork: each branch verifies, and both together convict the two.
#[test]
fn two_that_collude_are_named_by_any_two_exports() {
    let mut chain = Chain::new();
    chain.commit(vec![]);
    let (mut left, mut right) = (chain.clone(), chain);
    let entry = left.entry("cedar", vec![op(set_policy(0, 1))]);
    left.commit(vec![entry]);
    let entry = right.entry("cedar", vec![op(set_policy(0, 2))]);
    right.commit(vec![entry]);
    let (one, other) =
        (closed(&left, ["birch", "cedar", "dogwood"]), closed(&right, ["cedar", "dogwood", "elm"]));
    for (branch, certificate) in [(&mut left, &one), (&mut right, &other)] {
        branch.certificate = certificate.encode_to_vec();
        branch.commit(vec![]);
        assert_eq!(verify_export(&branch.export(), Some(branch.genesis.hash), |_| {}).1, Ok(()));
        // The certificate that convicts stands in the next block.
        let next = Block::decode(branch.blocks[2].as_slice()).unwrap();
        assert_eq!(next.previous_certificate, certificate.encode_to_vec());
    }
    let both = signed_both(&one, &other).unwrap();
    let mut named = Vec::new();
    let headers = [right.headers[1].clone(), left.headers[1].clone()];
    for found in &both {
        let (file, conviction) =
            make_evidence_file(&left.genesis, &NONE, &[], &headers, found.evidence.as_ref().unwrap())
                .unwrap();
        let Offence { kind, height, round, .. } = conviction.offence;
        assert_eq!((kind, height, round), (OffenceKind::Precommits, 2, 0));
        assert!(conviction.one_set);
        every_part_of_its_headers_counts(&left.genesis.hash, &file[EVIDENCE_MAGIC.len()..]);
        named.push(conviction.organization);
    }
    named.sort();
    assert_eq!(named, ["cedar", "dogwood"]);
    // The same by certificates of two rounds: who signed both is named, but no two messages convict.
    let later = Certificate { round: 1, ..other };
    let both = signed_both(&one, &later).unwrap();
    assert_eq!(both.len(), 2);
    assert!(both.iter().all(|found| found.evidence.is_none()));
}
