//! Chains of validator sets: what leads from genesis to a later set, and what does not.

use std::collections::BTreeSet;

use assent_ledger::block::header_hash;
use assent_ledger::certificate::{precommit, validator_set_hash, vote_sign_bytes};
use assent_ledger::conviction::{make_evidence_file, verify_evidence_file, ConvictionError, EVIDENCE_MAGIC};
use assent_ledger::evidence::conflicting_votes;
use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::sets::{set_at, verify_set_chain, SetError, MAX_SET_CHANGES};
use assent_ledger::voters::StepError;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    Certificate, CommitSignature, EvidenceFile, Header, SetChange, Validator, ValidatorSet,
};
use prost::Message;

use crate::chain::{key, public, Chain, CHAIN, FOUR};

/// No recovery is accepted.
const NONE: BTreeSet<Hash> = BTreeSet::new();

fn vote_key(name: &str) -> SigningKey {
    key(1, "vote", name)
}

fn set(names: &[&str], members: u8) -> ValidatorSet {
    let mut validators: Vec<Validator> = names
        .iter()
        .map(|name| Validator {
            organization: name.to_string(),
            vote_key: public(&vote_key(name)).to_vec(),
            power: 1,
        })
        .collect();
    validators.sort_by(|a, b| a.vote_key.cmp(&b.vote_key));
    ValidatorSet { validators, members_root: vec![members; 32] }
}

fn certificate(header: &[u8], height: u64, signers: &[&str]) -> Certificate {
    let hash = header_hash(CHAIN, header);
    let mut signatures: Vec<CommitSignature> = signers
        .iter()
        .map(|name| {
            let address = public(&vote_key(name));
            let message = vote_sign_bytes(CHAIN, &precommit(height, 0, &hash, &address));
            CommitSignature { address: address.to_vec(), signature: sign(&vote_key(name), &message).to_vec() }
        })
        .collect();
    signatures.sort_by(|a, b| a.address.cmp(&b.address));
    Certificate { height, round: 0, header_hash: hash.to_vec(), signatures }
}

fn link(height: u64, before: &ValidatorSet, next: &ValidatorSet, signers: &[&str]) -> SetChange {
    link_after(Vec::new(), height, before, next, signers)
}

fn link_after(
    previous_header_hash: Vec<u8>,
    height: u64,
    before: &ValidatorSet,
    next: &ValidatorSet,
    signers: &[&str],
) -> SetChange {
    let header = Header {
        previous_header_hash,
        protocol_version: 1,
        chain_id: CHAIN.into(),
        height,
        time_ms: 5,
        validator_set_hash: validator_set_hash(CHAIN, before).to_vec(),
        next_validator_set_hash: validator_set_hash(CHAIN, next).to_vec(),
        ..Default::default()
    };
    let header = header.encode_to_vec();
    let certificate = Some(certificate(&header, height, signers));
    SetChange { header, certificate, next: Some(next.clone()), recovery: None }
}

/// Genesis of four; fir joins at 11; birch leaves at 21; a member without a vote comes at 22.
fn world() -> (CheckedGenesis, [ValidatorSet; 3], Vec<SetChange>) {
    let genesis = Chain::new().genesis;
    let five = set(&["birch", "cedar", "dogwood", "elm", "fir"], 1);
    let later = set(&["cedar", "dogwood", "elm", "fir"], 1);
    let last = set(&["cedar", "dogwood", "elm", "fir"], 2);
    let at_20 = link(20, &five, &later, &["birch", "cedar", "dogwood", "fir"]);
    let before = header_hash(CHAIN, &at_20.header).to_vec();
    let at_21 = link_after(before, 21, &later, &last, &["cedar", "dogwood", "fir"]);
    let chain = vec![link(10, &genesis.validators, &five, &FOUR), at_20, at_21];
    (genesis, [five, later, last], chain)
}

#[test]
fn a_chain_leads_from_genesis_to_each_set_and_says_from_when() {
    let (genesis, [five, later, last], chain) = world();
    let sets = verify_set_chain(&genesis, &NONE, &chain).unwrap();
    let expected = [(1, genesis.validators.clone()), (11, five.clone()), (21, later), (22, last.clone())];
    assert_eq!(sets, expected);
    for (height, set) in
        [(0, &genesis.validators), (10, &genesis.validators), (11, &five), (20, &five), (99, &last)]
    {
        assert_eq!(set_at(&sets, height), Some(set), "height {height}");
    }
    assert_eq!(verify_set_chain(&genesis, &NONE, &[]).unwrap(), expected[..1]);
    // Any beginning of a chain is one.
    assert_eq!(verify_set_chain(&genesis, &NONE, &chain[..2]).unwrap(), expected[..3]);
}

#[test]
fn every_broken_link_is_refused() {
    let (genesis, [five, later, _], chain) = world();
    let elsewhere = CheckedGenesis { chain_id: "testnet-other".into(), ..genesis.clone() };
    verify_set_chain(&elsewhere, &NONE, &chain).unwrap_err();
    let other = Chain::of(2, &FOUR).genesis;
    assert!(matches!(
        verify_set_chain(&other, &NONE, &chain),
        Err(SetError::Link { link: 0, error: StepError::Mismatch { .. } })
    ));
    let refused = |chain: &[SetChange], link: usize, says: &str| {
        let error = verify_set_chain(&genesis, &NONE, chain).unwrap_err().to_string();
        assert!(error.contains(&format!("link {link} ")) && error.contains(says), "{says}: {error}");
    };
    // Left out, out of order, twice.
    refused(&chain[1..], 0, "validator_set_hash");
    refused(&[chain[0].clone(), chain[2].clone()], 1, "validator_set_hash");
    refused(&[chain[1].clone(), chain[0].clone()], 0, "validator_set_hash");
    refused(&[chain[0].clone(), chain[0].clone()], 1, "height 10, expected 11 or more");
    // By a set that isn't in force yet, by too few, by strangers.
    let edit = |height, signers: &[&str]| vec![link(height, &genesis.validators, &five, signers)];
    refused(&edit(10, &["birch", "cedar", "dogwood", "fir"]), 0, "not a validator");
    refused(&edit(10, &["birch", "cedar"]), 0, "2 of 4");
    refused(&edit(10, &[]), 0, "0 of 4");
    refused(&edit(0, &FOUR), 0, "height 0, expected 1 or more");
    refused(&edit(1, &FOUR), 0, "previous_header_hash");
    // A set that doesn't change, or that isn't what the header names.
    refused(&[link(10, &genesis.validators, &genesis.validators, &FOUR)], 0, "does not change");
    let mut swapped = chain.clone();
    swapped[0].next = Some(later);
    refused(&swapped, 0, "next_validator_set_hash");
    type Edit = fn(&mut SetChange);
    let edits: [(&str, Edit); 6] = [
        ("no certificate", |c| c.certificate = None),
        ("which is not there", |c| c.next = None),
        ("canonical", |c| c.header.extend([0x08, 0x01])),
        ("certificate is for header", |c| {
            c.header = {
                let mut header = Header::decode(c.header.as_slice()).unwrap();
                header.time_ms += 1;
                header.encode_to_vec()
            }
        }),
        ("does not verify", |c| c.certificate.as_mut().unwrap().signatures[1].signature[7] ^= 1),
        ("strictly ascending", |c| c.certificate.as_mut().unwrap().signatures.swap(0, 1)),
    ];
    for (says, edit) in edits {
        let mut bad = chain.clone();
        edit(&mut bad[1]);
        refused(&bad, 1, says);
    }
    // Certified, but no set.
    let empty = ValidatorSet::default();
    refused(&[link(10, &genesis.validators, &empty, &FOUR)], 0, "0 validators");
    let mut unordered = five.clone();
    unordered.validators.reverse();
    refused(&[link(10, &genesis.validators, &unordered, &FOUR)], 0, "strictly ascending");
    let mut rootless = five;
    rootless.members_root.clear();
    refused(&[link(10, &genesis.validators, &rootless, &FOUR)], 0, "members_root");
    let found = verify_set_chain(&genesis, &NONE, &vec![SetChange::default(); MAX_SET_CHANGES + 1]);
    assert_eq!(found, Err(SetError::TooMany { found: MAX_SET_CHANGES + 1 }));
}

/// Evidence against a key that came later takes along just the links that show it.
#[test]
fn evidence_against_a_later_key_brings_the_sets_along() {
    let (genesis, _, chain) = world();
    let evidence = |name: &str| {
        let key = vote_key(name);
        let votes = [1, 2].map(|n| precommit(30, 0, &[n; 32], &public(&key)));
        let signatures = votes.clone().map(|vote| sign(&key, &vote_sign_bytes(CHAIN, &vote)));
        conflicting_votes((&votes[0], &signatures[0]), (&votes[1], &signatures[1]))
    };
    let (file, fir) = make_evidence_file(&genesis, &NONE, &chain, &[], &evidence("fir")).unwrap();
    assert_eq!((fir.organization.as_str(), fir.voted_from), ("fir", 11));
    let body = &file[EVIDENCE_MAGIC.len()..];
    let decoded = EvidenceFile::decode(body).unwrap();
    assert_eq!(decoded.sets, chain[..1]);
    for at in 0..body.len() {
        let mut bad = body.to_vec();
        bad[at] ^= 1 << (at % 8);
        verify_evidence_file(&genesis.hash, &NONE, &bad).expect_err(&format!("byte {at}"));
    }
    // Birch is in genesis, and has left since: the file needs no sets.
    let (file, birch) = make_evidence_file(&genesis, &NONE, &chain, &[], &evidence("birch")).unwrap();
    assert_eq!((birch.organization.as_str(), birch.voted_from), ("birch", 1));
    assert!(EvidenceFile::decode(&file[EVIDENCE_MAGIC.len()..]).unwrap().sets.is_empty());
    // Links that nobody needs are surplus; without the one that shows the key it is a stranger's.
    let longer = EvidenceFile { sets: chain.clone(), ..decoded.clone() }.encode_to_vec();
    let found = verify_evidence_file(&genesis.hash, &NONE, &longer);
    assert_eq!(found, Err(ConvictionError::Surplus { found: 3, needed: 1 }));
    let shorter = EvidenceFile { sets: Vec::new(), ..decoded }.encode_to_vec();
    assert!(matches!(
        verify_evidence_file(&genesis.hash, &NONE, &shorter),
        Err(ConvictionError::Stranger { .. })
    ));
}
