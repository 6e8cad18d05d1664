//! Four validators, two of them gone for ever: the other two go on, and everybody can see it.

use assent_ledger::audit::{verify_export_by, ChainVerifier, Fault, Level, PRUNED, RECOVERY};
use assent_ledger::block::{apply_block, build_block, BlockError};
use assent_ledger::entry::{check_entry, CheckedEntry};
use assent_ledger::execute::Signatures;
use assent_ledger::hash::Hash;
use assent_ledger::keys::verify_batch;
use assent_ledger::membership::membership;
use assent_ledger::recovered::without_signatures;
use assent_ledger::recovery::{agree, check_plan, make_plan, new_set, plan_hash, sign_plan};
use assent_proto::ledger::v1::{Block, EntryBody, Header, Recover, SetConsent, ValidatorSet};
use prost::Message;

use crate::chain::{key, public, Chain, CHAIN};
use crate::fuzzed::pruned;
use crate::governance::{approve, four, members, propose, remove_validator, voters};
use crate::records::{op, patient, set_consent, with_key, withdraw};

const REMAIN: [&str; 2] = ["birch", "cedar"];
const WHY: &str = "fire in the shared data center";

fn consent(custodian: &str, handle: u8, seq: u64) -> SetConsent {
    SetConsent { handle: vec![handle; 32], ..set_consent(custodian, seq, 7) }
}

/// A chain of some blocks, with consents in them.
pub fn before() -> Chain {
    let mut chain = four();
    for handle in 1..4 {
        let consent = consent("birch", handle, 0);
        let entry = chain.entry("birch", vec![op(consent)]);
        chain.commit(vec![entry]);
    }
    chain
}

fn signed(chain: &Chain, mut plan: Recover, by: &[&str]) -> Recover {
    for organization in by {
        sign_plan(CHAIN, &mut plan, organization, &chain.entry_key(organization));
    }
    plan
}

fn unsigned(chain: &Chain) -> Recover {
    make_plan(&chain.tip, &REMAIN.map(str::to_owned), WHY)
}

fn plan(chain: &Chain) -> Recover {
    signed(chain, unsigned(chain), &REMAIN)
}

fn entry(chain: &Chain, author: &str, plan: &Recover) -> CheckedEntry {
    let operations = vec![op(plan.clone())];
    let body = EntryBody { chain_id: CHAIN.into(), author: author.into(), operations, ..Default::default() };
    chain.signed(&body)
}

/// Reason why a block with this recovery is refused, whose plan was agreed to.
fn refused(chain: &Chain, plan: &Recover) -> &'static str {
    let mut agreed = chain.clone();
    agreed.tip = agree(&chain.tip, plan).unwrap();
    if agreed.tip.validators.validators.is_empty() {
        agreed.tip.validators = chain.tip.validators.clone();
    }
    let entry = entry(chain, "birch", plan);
    match build_block(&agreed.tip, &agreed.store, vec![entry], &agreed.proposal(), &verify_batch) {
        Ok(_) => "",
        Err(error) => reason(&error),
    }
}

fn reason(error: &BlockError) -> &'static str {
    match error {
        BlockError::Entry { index: 0, error } => error.reason(),
        other => panic!("{other}"),
    }
}

/// Goes on with those who remain.
pub fn recover(chain: &mut Chain) -> Hash {
    let plan = plan(chain);
    check_plan(&chain.tip, &chain.store, &plan, &mut Signatures::Immediate).unwrap();
    let entry = entry(chain, "cedar", &plan);
    chain.tip = agree(&chain.tip, &plan).unwrap();
    chain.commit(vec![entry]);
    plan_hash(CHAIN, &plan)
}

/// A chain that two of four went on with, and the plan.
pub fn recovered() -> (Chain, Hash) {
    let mut chain = before();
    let plan = recover(&mut chain);
    (chain, plan)
}

fn audit(chain: &Chain, level: Level, accepted: &[Hash]) -> (ChainVerifier, Result<(), Fault>) {
    audited(&chain.export(), chain, level, accepted)
}

fn audited(
    export: &[u8],
    chain: &Chain,
    level: Level,
    accepted: &[Hash],
) -> (ChainVerifier, Result<(), Fault>) {
    let verifier = ChainVerifier::new(level, Some(chain.genesis.hash)).accepting(accepted.iter().copied());
    verify_export_by(verifier, export, |_| {})
}

#[test]
fn two_of_four_go_on_and_nothing_is_lost() {
    let mut chain = before();
    let (values, blocks, log) = (chain.store.values.clone(), chain.blocks.clone(), chain.tip.log.size());
    let lost = chain.tip.validators.clone();
    let plan = recover(&mut chain);
    assert_eq!(voters(&chain), REMAIN);
    assert_eq!(chain.tip.recovery, None);
    let after = members(&chain);
    assert_eq!((after.recoveries, after.recovered_heights), (vec![plan.to_vec()], vec![4]));
    assert_eq!(after.organizations.len(), 4, "members stay, without a vote");
    let mut former: Vec<_> = after.former_vote_keys.iter().map(|f| f.organization.as_str()).collect();
    former.sort();
    assert_eq!(former, ["dogwood", "elm"]);
    assert!(after.former_vote_keys.iter().all(|f| f.last_height == 3));
    // Blocks, leaves and every value of before are there.
    assert_eq!(chain.blocks[..3], blocks);
    assert_eq!(chain.tip.log.size(), log + 2);
    let changed = values.0.iter().filter(|(key, value)| chain.store.values.0.get(*key) != Some(*value));
    assert_eq!(changed.count(), 1, "the membership alone");
    // The lost set did not sign the block; the header names the new one, and both of it signed.
    let header = Header::decode(chain.headers[3].as_slice()).unwrap();
    let hash = |set: &ValidatorSet| assent_ledger::certificate::validator_set_hash(CHAIN, set).to_vec();
    assert_eq!(header.validator_set_hash, hash(&chain.tip.validators));
    assert_ne!(header.validator_set_hash, hash(&lost));
    let one = chain.certify(4, &chain.tip.header_hash, &["birch"]);
    let both = chain.certify(4, &chain.tip.header_hash, &REMAIN);
    let holds = |certificate| {
        let (set, hash) = (&chain.tip.voters, &chain.tip.header_hash);
        assent_ledger::certificate::verify_certificate(CHAIN, set, 4, hash, certificate).is_ok()
    };
    assert_eq!((holds(&one), holds(&both)), (false, true));
    // And on it goes; all four can write.
    for author in ["birch", "elm"] {
        let consent = consent(author, 9, 0);
        let entry = chain.entry(author, vec![op(consent)]);
        chain.commit(vec![entry]);
    }
    assert_eq!(chain.tip.height, 6);
}

#[test]
fn an_auditor_has_to_accept_it_and_then_sees_it() {
    let mut chain = before();
    let plan = recover(&mut chain);
    chain.until(6);
    for level in [Level::Full, Level::Structural] {
        for accepted in [vec![], vec![[9; 32]]] {
            let (verifier, outcome) = audit(&chain, level, &accepted);
            let fault = outcome.unwrap_err();
            assert_eq!((fault.kind, fault.height, fault.index), (RECOVERY, 4, Some(0)));
            for part in [&hex::encode(plan)[..], "--accept-recovery", "birch, cedar", "dogwood, elm", WHY] {
                assert!(fault.found.contains(part), "{part}: {}", fault.found);
            }
            assert_eq!(verifier.tip().unwrap().height, 3);
        }
        let (verifier, outcome) = audit(&chain, level, &[plan]);
        assert_eq!(outcome, Ok(()));
        let [recovered] = &verifier.recoveries[..] else { panic!() };
        assert_eq!((recovered.height, recovered.plan, recovered.reason.as_str()), (4, plan, WHY));
        assert_eq!(
            (&recovered.by[..], &recovered.removed[..]),
            (&["birch", "cedar"].map(str::to_owned)[..], &["dogwood", "elm"].map(str::to_owned)[..])
        );
        let tip = verifier.tip().unwrap();
        assert_eq!((tip.header_hash, &tip.validators), (chain.tip.header_hash, &chain.tip.validators));
        assert_eq!(verifier.sets.last().unwrap().height, 4);
    }
}

/// Where the entries are gone the plan is still there: what the auditor accepts is its hash.
#[test]
fn a_recovery_whose_entries_were_pruned_is_audited_by_its_plan() {
    let (mut chain, plan) = recovered();
    chain.until(6);
    let entry = Block::decode(chain.blocks[3].as_slice()).unwrap().entries[0].clone();
    let whole = check_entry(CHAIN, &entry).unwrap().recovery().unwrap().clone();
    let unsigned = without_signatures(&whole);
    let audited = |level, recovery: Option<&Recover>, accepted: &[Hash]| {
        let export = pruned(&chain, |height| recovery.filter(|_| height == 4).cloned());
        audited(&export, &chain, level, accepted)
    };
    let kind = |recovery: Option<&Recover>, accepted: &[Hash]| {
        let fault = audited(Level::Structural, recovery, accepted).1.unwrap_err();
        assert_eq!(fault.height, 4, "{fault:?}");
        fault.kind
    };
    let (verifier, outcome) = audited(Level::Structural, Some(&unsigned), &[plan]);
    assert_eq!(outcome, Ok(()));
    assert_eq!((verifier.recoveries[0].height, verifier.recoveries[0].plan), (4, plan));
    assert_eq!(
        (verifier.tip().unwrap().header_hash, &verifier.pruned[..]),
        (chain.tip.header_hash, &[(1, 6)][..])
    );
    assert_eq!(audited(Level::Full, Some(&unsigned), &[plan]).1.unwrap_err().kind, PRUNED);
    for accepted in [&[][..], &[[9; 32]]] {
        assert_eq!(kind(Some(&unsigned), accepted), RECOVERY);
    }
    // A hash is accepted for its plan, which has one form, and for its place.
    let other = Recover { reason: "another".into(), ..unsigned.clone() };
    assert_eq!(kind(Some(&other), &[plan]), RECOVERY);
    assert_eq!(kind(Some(&whole), &[plan]), "malformed");
    assert_ne!(kind(None, &[plan]), RECOVERY);
    let export = pruned(&chain, |height| (height == 5).then(|| unsigned.clone()));
    assert_eq!(self::audited(&export, &chain, Level::Structural, &[plan]).1.unwrap_err().height, 4);
    // What the header names has to be the plan's validators.
    let all = make_plan(&before().tip, &["birch".to_owned()], WHY);
    assert_ne!(kind(Some(&all), &[plan_hash(CHAIN, &all)]), RECOVERY);
}

#[test]
fn a_recovery_that_breaks_a_rule_is_no_question_to_the_auditor() {
    let mut chain = before();
    let plan = recover(&mut chain);
    let mut block = Block::decode(chain.blocks[3].as_slice()).unwrap();
    // The entry ends with its own signature; its body with the plan, that with the reason.
    *block.entries[0].last_mut().unwrap() ^= 1;
    chain.blocks[3] = block.encode_to_vec();
    for accepted in [vec![], vec![plan]] {
        let fault = audit(&chain, Level::Full, &accepted).1.unwrap_err();
        assert_ne!(fault.kind, RECOVERY, "{fault:?}");
        assert_eq!(fault.height, 4);
    }
}

#[test]
fn without_the_operators_agreement_nobody_can_recover() {
    let mut chain = before();
    let plan = plan(&chain);
    let entry = entry(&chain, "birch", &plan);
    assert_eq!(chain.reason_of(&entry), "RECOVERY_NOT_AGREED");
    let (_, applied, dropped) = chain.propose(vec![entry.clone()]);
    assert_eq!((applied.entries.len(), dropped.len()), (0, 1));
    // Nor in a block that the recovered ones built and certified by themselves.
    let mut agreed = chain.clone();
    agreed.tip = agree(&chain.tip, &plan).unwrap();
    let (block, _, _) = agreed.propose(vec![entry.clone()]);
    let error = chain.apply(&block).unwrap_err();
    assert_eq!(reason(&error), "RECOVERY_NOT_AGREED");
    // Another plan than that which was agreed to.
    let mut other = unsigned(&chain);
    other.reason = "another".into();
    let other = signed(&chain, other, &REMAIN);
    agreed.tip = agree(&chain.tip, &other).unwrap();
    let error = apply_block(&agreed.tip, &agreed.store, &block, &verify_batch).unwrap_err();
    assert_eq!(reason(&error), "RECOVERY_OTHER_PLAN");
    // Where it was agreed to, the block has to start with it.
    let mut agreed = chain.clone();
    agreed.tip = agree(&chain.tip, &plan).unwrap();
    let error =
        build_block(&agreed.tip, &agreed.store, vec![], &agreed.proposal(), &verify_batch).unwrap_err();
    assert_eq!(reason(&error), "RECOVERY_MISSING");
    let (empty, _, _) =
        build_block(&chain.tip, &chain.store, vec![], &chain.proposal(), &verify_batch).unwrap();
    assert_eq!(reason(&agreed.apply(&empty).unwrap_err()), "RECOVERY_MISSING");
    let other = chain.entry("birch", vec![op(consent("birch", 5, 0))]);
    let (first, ..) = chain.propose(vec![other.clone()]);
    assert_eq!(reason(&agreed.apply(&first).unwrap_err()), "RECOVERY_MISSING");
    // In the middle of the block it is nothing.
    let (block, ..) = agreed.propose(vec![entry, other]);
    let mut block = Block::decode(block.as_slice()).unwrap();
    assert_eq!(block.entries.len(), 2);
    block.entries.swap(0, 1);
    assert_eq!(reason(&agreed.apply(&block.encode_to_vec()).unwrap_err()), "RECOVERY_MISSING");
    block.entries = vec![block.entries[1].clone(), block.entries[1].clone()];
    let error = agreed.apply(&block.encode_to_vec()).unwrap_err();
    assert!(
        matches!(
            &error,
            BlockError::Entry { index: 1, error } if error.reason() == "RECOVERY_NOT_AGREED"
        ),
        "{error}"
    );
}

#[test]
fn every_part_of_the_plan_is_checked() {
    let chain = before();
    assert_eq!(refused(&chain, &plan(&chain)), "");
    let with = |change: &dyn Fn(&mut Recover), by: &[&str]| {
        let mut plan = unsigned(&chain);
        change(&mut plan);
        refused(&chain, &signed(&chain, plan, by))
    };
    let set = |change: &dyn Fn(&mut ValidatorSet)| {
        let change = |plan: &mut Recover| {
            let mut set = new_set(plan).unwrap();
            change(&mut set);
            plan.validators = set.encode_to_vec();
        };
        with(&change, &REMAIN)
    };
    assert_eq!(with(&|p| p.height = 2, &REMAIN), "RECOVERY_OTHER_TIP");
    assert_eq!(with(&|p| p.height = 4, &REMAIN), "RECOVERY_OTHER_TIP");
    assert_eq!(with(&|p| p.header_hash = vec![1; 32], &REMAIN), "RECOVERY_OTHER_TIP");
    assert_eq!(set(&|s| s.validators[0].power = 5), "RECOVERY_BAD_SET");
    assert_eq!(set(&|s| s.validators.reverse()), "RECOVERY_BAD_SET");
    assert_eq!(set(&|s| s.members_root = vec![1; 32]), "RECOVERY_BAD_SET");
    let stranger = public(&key(9, "vote", "birch")).to_vec();
    assert_eq!(set(&|s| s.validators[0].vote_key = stranger.clone()), "RECOVERY_BAD_SET");
    assert_eq!(set(&|s| s.validators.push(s.validators[1].clone())), "RECOVERY_BAD_SET");
    let all = |p: &mut Recover| p.validators = chain.tip.validators.encode_to_vec();
    assert_eq!(with(&all, &["birch", "cedar", "dogwood", "elm"]), "RECOVERY_BAD_SET");
    assert_eq!(with(&|_| {}, &["birch"]), "RECOVERY_SIGNERS");
    assert_eq!(with(&|_| {}, &[]), "RECOVERY_SIGNERS");
    assert_eq!(with(&|_| {}, &["birch", "cedar", "elm"]), "RECOVERY_SIGNERS");
    assert_eq!(with(&|_| {}, &["birch", "elm"]), "RECOVERY_SIGNERS");
    // A signature over something else, and one by another key.
    let mut spoiled = plan(&chain);
    spoiled.signatures[0].signature = spoiled.signatures[1].signature.clone();
    assert_eq!(refused(&chain, &spoiled), "BAD_RECOVERY_SIGNATURE");
    let mut stolen = unsigned(&chain);
    sign_plan(CHAIN, &mut stolen, "birch", &chain.entry_key("birch"));
    sign_plan(CHAIN, &mut stolen, "cedar", &chain.vote_key("cedar"));
    assert_eq!(refused(&chain, &stolen), "BAD_RECOVERY_SIGNATURE");
    let mut later = plan(&chain);
    later.reason = "signed for another reason".into();
    assert_eq!(refused(&chain, &later), "BAD_RECOVERY_SIGNATURE");
}

#[test]
fn before_the_first_block_there_is_nothing_to_recover() {
    let chain = four();
    let plan = plan(&chain);
    assert_eq!((plan.height, refused(&chain, &plan)), (0, "RECOVERY_NO_BLOCK"));
    let error = check_plan(&chain.tip, &chain.store, &plan, &mut Signatures::Immediate).unwrap_err();
    assert!(error.to_string().contains("make a new genesis"), "{error}");
    // Nor is it any auditor's to accept.
    let mut recovered = chain.clone();
    recovered.tip = agree(&chain.tip, &plan).unwrap();
    let entry = entry(&chain, "cedar", &plan);
    let header = Header { height: 1, chain_id: CHAIN.into(), ..Default::default() }.encode_to_vec();
    recovered.blocks =
        vec![Block { header, entries: vec![entry.bytes.clone()], ..Default::default() }.encode_to_vec()];
    for level in [Level::Full, Level::Structural] {
        let fault = audit(&recovered, level, &[plan_hash(CHAIN, &plan)]).1.unwrap_err();
        assert!(fault.found.contains("no block was committed yet"), "{fault:?}");
    }
}

#[test]
fn its_entry_is_alone_and_of_one_who_remains() {
    let chain = before();
    let plan = plan(&chain);
    let mut agreed = chain.clone();
    agreed.tip = agree(&chain.tip, &plan).unwrap();
    let tried = |body: &EntryBody| {
        let proposal = agreed.proposal();
        let built =
            build_block(&agreed.tip, &agreed.store, vec![chain.signed(body)], &proposal, &verify_batch);
        built.map_or_else(|error| reason(&error), |_| "")
    };
    let body = |author: &str, sequence, not_after_ms| EntryBody {
        chain_id: CHAIN.into(),
        author: author.into(),
        sequence,
        not_after_ms,
        operations: vec![op(plan.clone())],
    };
    assert_eq!(tried(&body("birch", 0, 0)), "");
    assert_eq!(tried(&body("elm", 0, 0)), "RECOVERY_AUTHOR");
    assert_eq!(tried(&body("birch", 77, 0)), "RECOVERY_NUMBERS");
    assert_eq!(tried(&body("birch", 0, agreed.next_ms())), "RECOVERY_NUMBERS");
    let two = EntryBody { operations: vec![op(plan.clone()), op(plan.clone())], ..body("birch", 0, 0) };
    let encoded = assent_ledger::entry::sign_entry(&chain.entry_key("birch"), &two);
    assert!(assent_ledger::entry::check_entry(CHAIN, &encoded).is_err());
    // Withdrawals come right behind it.
    let mut chain = chain;
    let slot = chain.entry("birch", vec![op(with_key(set_consent("birch", 0, 1), &patient()))]);
    chain.commit(vec![slot]);
    let plan = signed(&chain, unsigned(&chain), &REMAIN);
    let first = entry(&chain, "birch", &plan);
    chain.tip = agree(&chain.tip, &plan).unwrap();
    let withdrawal = chain.entry("cedar", vec![op(withdraw("birch", 0, &patient()))]);
    let (block, applied, dropped) = chain.propose(vec![withdrawal, first.clone()]);
    assert_eq!((applied.entries.len(), dropped), (2, vec![]));
    assert_eq!(applied.entries[0].hash, first.hash);
    chain.take(block);
}

#[test]
fn it_happens_once_and_a_second_loss_needs_a_second_plan() {
    let mut chain = before();
    let first = plan(&chain);
    recover(&mut chain);
    assert_eq!(chain.reason_of(&entry(&chain, "birch", &first)), "RECOVERY_NOT_AGREED");
    let mut again = chain.clone();
    again.tip = agree(&chain.tip, &first).unwrap();
    let entry_again = entry(&chain, "birch", &first);
    let proposal = again.proposal();
    let error =
        build_block(&again.tip, &again.store, vec![entry_again], &proposal, &verify_batch).unwrap_err();
    assert_eq!(reason(&error), "RECOVERY_OTHER_TIP");
    // Then cedar is gone, too.
    let second = signed(&chain, make_plan(&chain.tip, &["birch".to_owned()], "and a flood"), &["birch"]);
    let entry = entry(&chain, "birch", &second);
    chain.tip = agree(&chain.tip, &second).unwrap();
    chain.commit(vec![entry]);
    assert_eq!(voters(&chain), ["birch"]);
    let plans = [plan_hash(CHAIN, &first), plan_hash(CHAIN, &second)];
    let members = membership(&chain.store, CHAIN).unwrap();
    assert_eq!(members.recoveries, plans.map(|p| p.to_vec()));
    assert_eq!(members.recovered_heights, [4, 5]);
    let (verifier, outcome) = audit(&chain, Level::Full, &plans);
    assert_eq!((outcome, verifier.recoveries.len()), (Ok(()), 2));
    assert_eq!(audit(&chain, Level::Full, &plans[..1]).1.unwrap_err().height, 5);
}

#[test]
fn what_the_lost_ones_had_under_way_is_void_and_governance_goes_on() {
    let mut chain = before();
    let height = chain.next() + 50;
    chain.step(vec![("elm", propose(height, remove_validator("birch")))]);
    assert_eq!(members(&chain).proposals.len(), 1);
    recover(&mut chain);
    assert_eq!(members(&chain).proposals, vec![]);
    assert_eq!(chain.reason("cedar", approve(1)), "NO_PROPOSAL");
    assert_eq!(chain.reason("elm", propose(chain.next() + 5, remove_validator("birch"))), "NOT_A_VOTER");
    let back = crate::governance::add_validator("elm", &key(7, "vote", "elm"));
    let effective = chain.decide(&["birch", "cedar"], back);
    chain.until(effective);
    assert_eq!(members(&chain).joining.len(), 1, "elm comes back once it says that it is ready");
}
