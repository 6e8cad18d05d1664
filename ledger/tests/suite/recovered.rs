//! Behind a recovery: the chain of sets, receipts and evidence, for who was told the plan's hash and who was not.

use std::collections::BTreeSet;

use assent_ledger::block::header_hash;
use assent_ledger::certificate::{precommit, validator_set_hash, vote_sign_bytes};
use assent_ledger::conviction::{make_evidence_file, verify_evidence_file, ConvictionError, EVIDENCE_MAGIC};
use assent_ledger::evidence::{conflicting_votes, verify_evidence};
use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::receipts::{from_genesis, verify, ReceiptFault, Start, Trust};
use assent_ledger::recovered::Recovered;
use assent_ledger::recovery::{make_plan, plan_hash, sign_plan};
use assent_ledger::sets::{set_at, verify_set_chain, SetError};
use assent_ledger::state::slot_key;
use assent_ledger::voters::{FirstSet, StepError, Voters};
use assent_ledger::{tree, Hash};
use assent_proto::ledger::v1::{
    anchor, receipt, Certificate, EvidenceFile, GenesisStart, Header, Receipt, Recover, ReportEvidence,
    SetChange, SlotClaim, ValidatorSet, VoteType,
};
use prost::Message;

use crate::chain::{key, public, Chain, CHAIN};
use crate::governance::evidence::{vote, votes};
use crate::governance::{add_organization, record, rotate, step};
use crate::receipt_files::changes;
use crate::recovery::{before, recover};

fn accepting(plans: &[Hash]) -> BTreeSet<Hash> {
    plans.iter().copied().collect()
}

/// Four blocks by four, then by two, of which cedar votes with a new key from height 8 on.
fn world() -> (Chain, Hash, Vec<SetChange>) {
    let mut chain = before();
    let plan = recover(&mut chain);
    let (old, new) = (chain.vote_key("cedar"), key(7, "vote", "cedar"));
    chain.know(new.clone());
    let purpose = assent_proto::ledger::v1::KeyPurpose::Vote;
    let rotation = rotate("cedar", purpose, &old, &new, 8);
    chain.step(vec![("cedar", step(assent_proto::ledger::v1::govern::Step::RotateKey(rotation)))]);
    chain.until(9);
    let changes = changes(&chain);
    (chain, plan, changes)
}

fn names(set: &ValidatorSet) -> Vec<&str> {
    let mut names: Vec<&str> = set.validators.iter().map(|v| v.organization.as_str()).collect();
    names.sort();
    names
}

#[test]
fn a_recovery_is_a_link_for_who_accepts_its_plan() {
    let (chain, plan, links) = world();
    let [recovery, rotation] = &links[..] else { panic!("{} links", links.len()) };
    assert!(recovery.next.is_none() && recovery.recovery.as_ref().unwrap().signatures.is_empty());
    assert!(rotation.recovery.is_none());
    let sets = verify_set_chain(&chain.genesis, &accepting(&[plan]), &links).unwrap();
    let from: Vec<u64> = sets.iter().map(|(from, _)| *from).collect();
    assert_eq!(from, [1, 4, 8]);
    assert_eq!(names(set_at(&sets, 3).unwrap()), ["birch", "cedar", "dogwood", "elm"]);
    assert_eq!(names(set_at(&sets, 4).unwrap()), ["birch", "cedar"]);
    assert_eq!(set_at(&sets, 9), Some(&chain.tip.validators));
    // Each header names the set that the chain leads to at its height.
    for bytes in &chain.headers {
        let header = Header::decode(bytes.as_slice()).unwrap();
        let set = set_at(&sets, header.height).unwrap();
        assert_eq!(header.validator_set_hash, validator_set_hash(CHAIN, set), "height {}", header.height);
    }
    for accepted in [vec![], vec![[9; 32]]] {
        let error = verify_set_chain(&chain.genesis, &accepting(&accepted), &links).unwrap_err();
        let Recovered { height, plan: found, by, removed, .. } = error.not_accepted().unwrap();
        assert_eq!((*height, *found), (4, plan));
        assert_eq!((by.join(" "), removed.join(" ")), ("birch cedar".into(), "dogwood elm".into()));
        let said = error.to_string();
        for part in ["link 0", &format!("--accept-recovery {}", hex::encode(plan)), "dogwood, elm", "fire in"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    // Without the link the later sets follow from nothing.
    let error = verify_set_chain(&chain.genesis, &accepting(&[plan]), &links[1..]).unwrap_err();
    assert!(error.to_string().contains("validator_set_hash"), "{error}");
    assert_eq!(error.not_accepted(), None);
}

/// Whatever is in a link counts, and none that breaks a rule is anybody's to accept.
#[test]
fn every_field_of_a_recoverys_link_is_covered() {
    let (chain, plan, links) = world();
    type Edit<'a> = &'a dyn Fn(&mut SetChange);
    fn plan_of(link: &mut SetChange) -> &mut Recover {
        link.recovery.as_mut().unwrap()
    }
    fn certificate_of(link: &mut SetChange) -> &mut Certificate {
        link.certificate.as_mut().unwrap()
    }
    fn set_of(link: &mut SetChange, edit: impl Fn(&mut ValidatorSet)) {
        let mut set = ValidatorSet::decode(plan_of(link).validators.as_slice()).unwrap();
        edit(&mut set);
        plan_of(link).validators = set.encode_to_vec();
    }
    let stranger = public(&key(9, "vote", "birch")).to_vec();
    let old = chain.genesis.validators.clone();
    let edits: [(&str, &str, Edit<'_>); 20] = [
        ("SetChange.header", "certificate is for header", &|l| {
            let mut header = Header::decode(l.header.as_slice()).unwrap();
            header.time_ms += 1;
            l.header = header.encode_to_vec();
        }),
        ("SetChange.certificate", "no certificate", &|l| l.certificate = None),
        ("Certificate.height", "", &|l| certificate_of(l).height += 1),
        ("Certificate.round", "", &|l| certificate_of(l).round += 1),
        ("Certificate.header_hash", "", &|l| certificate_of(l).header_hash[3] ^= 1),
        ("Certificate.signatures", "", &|l| certificate_of(l).signatures[1].signature[3] ^= 1),
        ("SetChange.next", "does not change to", &|l| l.next = Some(old.clone())),
        ("SetChange.recovery", "the set does not change", &|l| l.recovery = None),
        ("Recover.height", "the plan follows block 2", &|l| plan_of(l).height -= 1),
        ("Recover.height", "the plan follows block 4", &|l| plan_of(l).height += 1),
        ("Recover.header_hash", "the plan follows block 3", &|l| plan_of(l).header_hash[0] ^= 1),
        ("Recover.header_hash", "31 bytes", &|l| plan_of(l).header_hash.truncate(31)),
        ("Recover.validators", "none is left out", &|l| plan_of(l).validators = old.encode_to_vec()),
        ("Recover.validators", "with the keys and powers", &|l| set_of(l, |s| s.validators[0].power += 1)),
        ("Recover.validators", "with the keys and powers", &|l| {
            set_of(l, |s| s.validators[0].vote_key = stranger.clone())
        }),
        ("Recover.validators", "with the keys and powers", &|l| set_of(l, |s| s.validators.reverse())),
        ("Recover.validators", "other members", &|l| set_of(l, |s| s.members_root[0] ^= 1)),
        ("Recover.validators", "1 to 256 needed", &|l| plan_of(l).validators.clear()),
        ("Recover.signatures", "has signatures", &|l| {
            sign_plan(CHAIN, plan_of(l), "birch", &chain.entry_key("birch"))
        }),
        ("Recover.reason", "on one line", &|l| plan_of(l).reason = "a\nb".into()),
    ];
    for (field, says, edit) in edits {
        let mut bad = links.clone();
        edit(&mut bad[0]);
        // Even for a reader who accepts the plan that there is now.
        let now = bad[0].recovery.as_ref().map_or(plan, |now| plan_hash(CHAIN, now));
        let error = verify_set_chain(&chain.genesis, &accepting(&[plan, now]), &bad).expect_err(field);
        assert!(matches!(&error, SetError::Link { link: 0, .. }), "{field}: {error}");
        assert_eq!(error.not_accepted(), None, "{field}");
        assert!(error.to_string().contains(says), "{field}: {error}");
    }
    // Another reason, or others who remain: another plan, which this reader did not accept.
    for edit in [&(|l: &mut SetChange| plan_of(l).reason.push('!')) as Edit<'_>, &|l| {
        set_of(l, |s| drop(s.validators.pop()))
    }] {
        let mut bad = links.clone();
        edit(&mut bad[0]);
        let error = verify_set_chain(&chain.genesis, &accepting(&[plan]), &bad).unwrap_err();
        assert_ne!(error.not_accepted().unwrap().plan, plan);
    }
    // Twice, and where no certified header is.
    let twice = [links[0].clone(), links[0].clone()];
    verify_set_chain(&chain.genesis, &accepting(&[plan]), &twice).unwrap_err();
    let mut at_genesis = links.clone();
    (at_genesis[0].header, at_genesis[0].certificate) = (Vec::new(), None);
    let genesis = Recover {
        height: 0,
        header_hash: chain.genesis.hash.to_vec(),
        ..plan_of(&mut at_genesis[0]).clone()
    };
    at_genesis[0].recovery = Some(genesis.clone());
    verify_set_chain(&chain.genesis, &accepting(&[plan_hash(CHAIN, &genesis)]), &at_genesis).unwrap_err();
}

/// The last block of the old set changes the set: from the next height neither it nor what it names votes.
#[test]
fn a_change_and_a_recovery_behind_one_header_are_one_link() {
    let mut chain = before();
    let by = ["birch", "cedar", "dogwood"];
    let effective = chain.decide(&by, add_organization(&record("fir")));
    chain.until(effective - 1);
    assert_ne!(chain.tip.voters, chain.tip.validators);
    let plan = recover(&mut chain);
    chain.until(effective + 1);
    let links = changes(&chain);
    assert_eq!(links.len(), 1);
    let accepted = accepting(&[plan]);
    let sets = verify_set_chain(&chain.genesis, &accepted, &links).unwrap();
    assert_eq!((sets[1].0, &sets[1].1), (effective, &chain.tip.validators));
    let named = links[0].next.clone().unwrap();
    assert_eq!(names(&named), ["birch", "cedar", "dogwood", "elm"]);
    let with = |next| [SetChange { next, ..links[0].clone() }];
    for (next, says) in [
        (None, "which is not there"),
        (Some(chain.genesis.validators.clone()), "next_validator_set_hash"),
        (Some(chain.tip.validators.clone()), "next_validator_set_hash"),
    ] {
        let error = verify_set_chain(&chain.genesis, &accepted, &with(next)).unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

#[test]
fn a_walk_recovers_once_behind_a_header() {
    let chain = before();
    let of =
        |keep: &[&str]| make_plan(&chain.tip, &keep.iter().map(|s| s.to_string()).collect::<Vec<_>>(), "x");
    let plans = [of(&["birch", "cedar"]), of(&["birch"])];
    let accepted = plans.iter().map(|plan| plan_hash(CHAIN, plan)).collect();
    let mut voters = Voters::new(&FirstSet::of(&chain.genesis, &accepted));
    for (bytes, height) in chain.headers.iter().zip(1..) {
        let header = Header::decode(bytes.as_slice()).unwrap();
        voters.header(&header, header_hash(CHAIN, bytes), None).unwrap();
        assert_eq!((voters.height(), voters.header_hash()), (height, header_hash(CHAIN, bytes)));
        assert!(!voters.changes());
    }
    voters.verify(&Certificate::decode(chain.certificate.as_slice()).unwrap()).unwrap();
    voters.recover(&plans[0]).unwrap();
    assert_eq!((names(voters.present()).len(), names(voters.next())), (4, vec!["birch", "cedar"]));
    let error = voters.recover(&plans[1]).unwrap_err();
    assert!(matches!(&error, StepError::Rule(why) if why.contains("second recovery")), "{error}");
}

/// A receipt of what is not there, from genesis over a recovery: with the trust that it needs.
pub fn receipt() -> (Chain, Hash, Receipt) {
    let (chain, plan, links) = world();
    let certificate = Certificate::decode(chain.certificate.as_slice()).unwrap();
    let header = chain.headers.last().unwrap().clone();
    let anchor = from_genesis(&chain.genesis, &links, header, &certificate).unwrap();
    let key = slot_key(CHAIN, "cedar", &[9; 32]);
    let state_proof = tree::prove(&chain.store, chain.tip.state_version, &key, None).unwrap();
    let claim = SlotClaim {
        custodian: "cedar".into(),
        handle: vec![9; 32],
        state_key: key.to_vec(),
        state_proof,
        ..Default::default()
    };
    (chain, plan, Receipt { anchor: Some(anchor), claim: Some(receipt::Claim::Slot(claim)) })
}

fn start_of(receipt: &mut Receipt) -> &mut GenesisStart {
    match receipt.anchor.as_mut().unwrap().start.as_mut() {
        Some(anchor::Start::Genesis(start)) => start,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_receipt_from_behind_a_recovery_needs_the_readers_word() {
    let (chain, plan, mut receipt) = receipt();
    let hash = chain.genesis.hash;
    let trust = |plans: &[Hash]| Trust::Genesis { hash, accepted: accepting(plans) };
    let good = receipt.encode_to_vec();
    let shown = verify(&trust(&[plan]), &good).unwrap();
    let Start::Genesis { set_changes, recoveries, .. } = shown.at.start else { panic!() };
    assert_eq!((set_changes, recoveries.len(), recoveries[0].plan), (2, 1, plan));
    for plans in [vec![], vec![[9; 32]]] {
        match verify(&trust(&plans), &good) {
            Err(ReceiptFault::Sets(error)) => assert_eq!(error.not_accepted().unwrap().plan, plan),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(verify(&Trust::genesis(hash), &good), verify(&trust(&[]), &good));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at * 5 % 8);
        verify(&trust(&[plan]), &bad).expect_err(&format!("byte {at}"));
        verify(&trust(&[plan]), &good[..at]).expect_err(&format!("cut at {at}"));
    }
    // The old set's certificate is no longer than it has to be, either.
    let three = start_of(&mut receipt).changes[0].certificate.as_mut().unwrap();
    assert_eq!(three.signatures.len(), 3);
    three.signatures.pop();
    let error = verify(&trust(&[plan]), &receipt.encode_to_vec()).unwrap_err().to_string();
    assert!(error.contains("2 of 4"), "{error}");
}

fn two(key: &SigningKey, height: u64) -> ReportEvidence {
    let of = |hash| vote(key, VoteType::Precommit, height, 0, hash);
    let signed = |vote| sign(key, &assent_ledger::certificate::vote_sign_bytes(CHAIN, vote));
    let (nil, block) = (of(None), of(Some(1)));
    conflicting_votes((&nil, &signed(&nil)), (&block, &signed(&block)))
}

/// Birch precommitted at height 4 among four, and again among two: it did what the plan asked of it.
#[test]
fn who_voted_in_both_sets_at_the_recovered_height_is_not_convicted() {
    let (mut chain, plan, links) = world();
    let birch = chain.vote_key("birch");
    let precommits = |height| {
        let of = |hash| vote(&birch, VoteType::Precommit, height, 0, hash);
        votes(CHAIN, &birch, &of(Some(1)), &of(Some(2)))
    };
    let table = [(3, ""), (4, "EVIDENCE_AT_RECOVERY"), (5, ""), (9, "")];
    for (height, reason) in table {
        assert_eq!(chain.reason("cedar", precommits(height)), reason, "height {height}");
    }
    // The lost ones have no vote at that height: what they signed there is nobody's.
    let elm = chain.vote_key("elm");
    let of = |hash| vote(&elm, VoteType::Prevote, 4, 0, hash);
    assert_eq!(chain.reason("cedar", votes(CHAIN, &elm, &of(Some(1)), &of(None))), "NOT_A_VALIDATOR_KEY");
    chain.step(vec![("cedar", precommits(5))]);
    // Nor does who has the ledger make a file of it.
    let accepted = accepting(&[plan]);
    let make = |key: &SigningKey, height| {
        make_evidence_file(&chain.genesis, &accepted, &links, &[], &two(key, height))
    };
    assert_eq!(make(&birch, 4).unwrap_err(), ConvictionError::Recovered { height: 4 });
    make(&birch, 3).unwrap();
    make(&birch, 5).unwrap();
    // Cedar's new key is shown by both links: for who accepts the plan.
    let (file, cedar) = make(&key(7, "vote", "cedar"), 8).unwrap();
    assert_eq!((cedar.organization.as_str(), cedar.voted_from), ("cedar", 8));
    let body = &file[EVIDENCE_MAGIC.len()..];
    let error = verify_evidence_file(&chain.genesis.hash, &BTreeSet::new(), body).unwrap_err();
    assert!(matches!(&error, ConvictionError::Sets(error) if error.not_accepted().is_some()), "{error}");
}

/// A file that leaves the recovery out: by itself it can only convict whom two headers of one set convict.
#[test]
fn a_handmade_file_can_not_make_two_sets_into_one() {
    let (chain, plan, links) = world();
    let (birch, genesis) = (chain.vote_key("birch"), &chain.genesis);
    let new = chain.headers[3].clone();
    // Blocks of the old set at that height: birch had voted for one of them.
    let of_old = |time_ms| {
        let validator_set_hash = validator_set_hash(CHAIN, &genesis.validators).to_vec();
        Header { time_ms, validator_set_hash, ..Header::decode(new.as_slice()).unwrap() }.encode_to_vec()
    };
    let both = |headers: &[Vec<u8>; 2]| {
        let voted = headers.each_ref().map(|header| {
            let hash = header_hash(CHAIN, header);
            let vote = precommit(4, 0, &hash, &public(&birch));
            let signature = sign(&birch, &vote_sign_bytes(CHAIN, &vote));
            (vote, signature)
        });
        conflicting_votes((&voted[0].0, &voted[0].1), (&voted[1].0, &voted[1].1))
    };
    let handmade = |evidence: &ReportEvidence, mut headers: Vec<Vec<u8>>| {
        let first = verify_evidence(CHAIN, evidence).unwrap().first;
        headers.sort_by_key(|header| Some(header_hash(CHAIN, header)) != first);
        let file = EvidenceFile {
            genesis: chain.file.clone(),
            evidence: Some(evidence.clone()),
            headers,
            ..Default::default()
        };
        verify_evidence_file(&genesis.hash, &BTreeSet::new(), &file.encode_to_vec())
    };
    let accepted = accepting(&[plan]);
    // Once in each set, as the plan asks: with the headers it is refused, without them conditional.
    let honest = [of_old(1), new.clone()];
    let evidence = both(&honest);
    assert_eq!(handmade(&evidence, honest.to_vec()), Err(ConvictionError::TwoSets));
    assert!(!handmade(&evidence, Vec::new()).unwrap().one_set);
    let made = make_evidence_file(genesis, &accepted, &links, &honest, &evidence);
    assert_eq!(made.unwrap_err(), ConvictionError::Recovered { height: 4 });
    // Twice in the old one: no recovery excuses that.
    let twice = [of_old(1), of_old(2)];
    let evidence = both(&twice);
    assert!(handmade(&evidence, twice.to_vec()).unwrap().one_set);
    let (_, conviction) = make_evidence_file(genesis, &accepted, &links, &twice, &evidence).unwrap();
    assert!(conviction.one_set && conviction.organization == "birch");
}
