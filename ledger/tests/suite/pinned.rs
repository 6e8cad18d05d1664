//! Histories, packs, bundles and late releases from a pinned checkpoint: what it shows of before, and of what came later.

use std::collections::BTreeSet;

use assent_ledger::checkpoint::{sign_note, Checkpoint, KeyKind, VerifierKey};
use assent_ledger::late::{verify_late, verify_late_bundle};
use assent_ledger::pack::{verify_pack, PACK_MAGIC};
use assent_ledger::receipts::{
    behind_checkpoint, verify, verify_bundle, verify_history, ReceiptFault, Start, Trust,
};
use assent_proto::ledger::v1::{
    anchor, AccessHistory, CheckpointStart, Header, InCheckpoint, LateBundle, PatientPack, Receipt,
    RecordBundle, SetChange,
};
use prost::Message;

use crate::after_changes::World;
use crate::governance::remove_validator;
use crate::records::{
    behind, header_at, in_log, leaves_at, pinned, pinned_at, place, trust, voters_at, within,
};
use crate::recovered;

/// Accesses before and after each of two changes: of Birch's key, which overtakes one that was asked for, and of the validators.
pub fn world() -> World {
    let mut world = World::new();
    world.rotate("birch", 7);
    let asked = world.decided();
    world.chain.commit(vec![]);
    world.record(asked);
    let by = ["birch", "cedar", "dogwood"];
    let at = world.chain.decide(&by, remove_validator("elm"));
    world.chain.until(at);
    world.access();
    world
}

fn height(header: &[u8]) -> u64 {
    Header::decode(header).unwrap().height
}

/// The world's history for who pinned the log of so many leaves. Its sets go on from a header in it.
fn history(world: &World, size: u64, from: u64) -> AccessHistory {
    let chain = &world.chain;
    let mut history = world.history();
    history.anchor = Some(behind(chain, size, from, chain.changes()));
    for shown in history.accesses.iter_mut() {
        let height = height(&shown.header);
        if height > from {
            continue;
        }
        let (path, voters) = (place(chain, size, height), voters_at(chain, height));
        let path = path.iter().map(|hash| hash.to_vec()).collect();
        let validators = (voters != voters_at(chain, from)).then_some(voters);
        (shown.certificate, shown.in_checkpoint) = (None, Some(InCheckpoint { path, validators }));
    }
    history
}

fn pack(world: &World, history: &AccessHistory) -> Vec<u8> {
    PatientPack { history: history.encode_to_vec(), ..world.pack() }.encode_to_vec()
}

fn bundle(world: &World, size: u64, from: u64) -> Vec<u8> {
    let access = world.accesses.last().unwrap();
    let anchor = Some(behind(&world.chain, size, from, world.chain.changes()));
    let proof = Some(Receipt { anchor, ..crate::records::receipt(&world.chain, access) });
    RecordBundle { proof, resources: access.resources.clone() }.encode_to_vec()
}

fn late(world: &World, size: u64, from: u64) -> LateBundle {
    let mut late = world.late();
    late.proof.as_mut().unwrap().anchor = Some(behind(&world.chain, size, from, &world.chain.next_changes()));
    late
}

fn start(anchor: &mut Option<assent_proto::ledger::v1::Anchor>) -> &mut CheckpointStart {
    match anchor.as_mut().unwrap().start.as_mut() {
        Some(anchor::Start::Checkpoint(start)) => start,
        other => panic!("{other:?}"),
    }
}

fn says<T: std::fmt::Debug>(result: Result<T, ReceiptFault>, what: &str) {
    let error = result.expect_err(what).to_string();
    assert!(error.contains(what), "{what}: {error}");
}

/// From every checkpoint, over every header in it: what holds is told by the keys alone that have to be shown.
#[test]
fn a_history_holds_from_every_checkpoint_and_shows_what_it_does_from_genesis() {
    let world = world();
    let chain = &world.chain;
    let whole = verify_history(&trust(chain), &world.history().encode_to_vec()).unwrap();
    let tip = chain.tip.height;
    for pin in 1..=tip {
        let (trust, size) = (pinned_at(chain, pin), leaves_at(chain, pin));
        let mut held = 0;
        for from in 1..=pin {
            let history = history(&world, size, from);
            let found = verify_history(&trust, &history.encode_to_vec());
            let fits = whole.accesses.iter().all(|access| {
                let decided = access.event.height + 1;
                let keys = |height| voters_at(chain, height).members_root;
                if access.height > from {
                    decided >= from
                } else {
                    keys(decided) == keys(access.height)
                }
            });
            assert_eq!(found.is_ok(), fits, "pinned at {pin}, from {from}: {found:?}");
            let Ok(found) = found else { continue };
            held += 1;
            assert_eq!((&found.accesses, &found.slot), (&whole.accesses, &whole.slot));
            let changes = chain.changes().iter().filter(|change| height(&change.header) >= from).count();
            assert_eq!(
                found.at.start,
                Start::Checkpoint { size, within: from == tip, set_changes: changes, recoveries: vec![] }
            );
            let whole = verify_pack(&trust, &pack(&world, &history)).unwrap();
            assert_eq!((whole.accesses, whole.at), (found.accesses, found.at));
        }
        assert!(held > 0, "no way from the checkpoint of block {pin}");
    }
}

#[test]
fn bundles_and_late_releases_hold_from_a_checkpoint_too() {
    let mut world = world();
    let tip = world.chain.tip.height;
    for (pin, from, inside) in [(1, 1, false), (tip - 1, 2, false), (tip, tip, true)] {
        let (trust, size) = (pinned_at(&world.chain, pin), leaves_at(&world.chain, pin));
        let (at, access, _) = verify_bundle(&trust, &bundle(&world, size, from)).unwrap();
        assert_eq!(access.event, world.accesses.last().unwrap().event);
        let late = verify_late_bundle(&trust, &late(&world, size, from).encode_to_vec()).unwrap().0;
        for at in [at, late.at] {
            assert!(
                matches!(at.start, Start::Checkpoint { within, .. } if within == inside),
                "{:?}",
                at.start
            );
        }
    }
    // The quorum is lost right at the block that changes the custodian's key: the next height counts.
    world.rotated("cedar", 8);
    let tip = world.chain.tip.height;
    for (pin, from) in [(tip, tip), (tip, tip - 1), (1, 1)] {
        let (trust, size) = (pinned_at(&world.chain, pin), leaves_at(&world.chain, pin));
        let mut late = late(&world, size, from).proof.unwrap();
        verify_late(&trust, &late).unwrap();
        start(&mut late.anchor).changes.pop();
        let short = verify_late(&trust, &late).unwrap_err().to_string();
        assert!(short.contains("validator set after the header") || short.contains("not there"), "{short}");
    }
}

/// Each is made of true parts, and refused for what it leaves open.
#[test]
fn what_a_checkpoint_does_not_show_is_refused_by_name() {
    let world = world();
    let chain = &world.chain;
    let (pin, tip) = (4, chain.tip.height);
    let (trust, size) = (pinned_at(chain, pin), leaves_at(chain, pin));
    let from = 2;
    let edited = |edit: &dyn Fn(&mut AccessHistory)| {
        let mut changed = history(&world, size, from);
        edit(&mut changed);
        verify_history(&trust, &changed.encode_to_vec()).map(|_| ())
    };
    assert_eq!(edited(&|_| {}), Ok(()));
    let other =
        |trust: &Trust| verify_history(trust, &history(&world, size, from).encode_to_vec()).map(|_| ());
    // Another anchor: neither right nor wrong.
    for (trust, what) in [
        (crate::records::trust(chain), "it starts at a checkpoint of"),
        (pinned_at(chain, pin + 1), "the given one has"),
    ] {
        assert!(matches!(other(&trust), Err(ReceiptFault::OtherAnchor(why)) if why.contains(what)), "{what}");
    }
    let genesis = verify_history(&trust, &world.history().encode_to_vec()).map(|_| ());
    assert!(matches!(genesis, Err(ReceiptFault::OtherAnchor(why)) if why.contains("it starts at genesis")));
    says(other(&pinned(size, [1; 32])), "not in the log of the checkpoint");
    // A header of behind the checkpoint that is said to stand in it.
    let late_header = |h: &mut AccessHistory| {
        let own = in_log(chain, leaves_at(chain, tip), tip);
        h.anchor = Some(own);
        start(&mut h.anchor).size = size;
    };
    says(edited(&late_header), "behind the last leaf of the checkpoint");
    // An access of before, or of the very height that the sets go on from, that only its validators signed.
    let signed = |h: &mut AccessHistory| {
        (h.accesses[0].certificate, h.accesses[0].in_checkpoint) = (world.shown[0].certificate.clone(), None);
    };
    assert_eq!(height(&world.shown[0].header), from);
    says(edited(&signed), "not after the one in the checkpoint");
    // One of later that is shown in the log all the same, or in both ways.
    let far = |h: &mut AccessHistory| {
        let path = place(chain, leaves_at(chain, tip), height(&world.shown[2].header));
        let path = path.iter().map(|hash| hash.to_vec()).collect();
        (h.accesses[2].certificate, h.accesses[2].in_checkpoint) =
            (None, Some(InCheckpoint { path, validators: None }));
    };
    says(edited(&far), "behind the last leaf of the checkpoint");
    let both = |h: &mut AccessHistory| h.accesses[0].certificate.clone_from(&world.shown[0].certificate);
    says(edited(&both), "needs, a certificate");
    let neither = |h: &mut AccessHistory| h.accesses[2].certificate = None;
    says(edited(&neither), "certificate is missing");
    let again = |h: &mut AccessHistory| {
        h.accesses[0].in_checkpoint.as_mut().unwrap().validators = Some(voters_at(chain, from));
    };
    says(edited(&again), "shown again");
    let foreign = |h: &mut AccessHistory| {
        h.accesses[0].in_checkpoint.as_mut().unwrap().validators = Some(voters_at(chain, tip));
    };
    says(edited(&foreign), "validator set of the header");
    // The sets: a link left out or added, another set to begin with, none.
    let at = |h: &mut AccessHistory, edit: &dyn Fn(&mut CheckpointStart)| edit(start(&mut h.anchor));
    says(edited(&|h| at(h, &|s| drop(s.changes.remove(0)))), "link 0");
    says(edited(&|h| at(h, &|s| drop(s.changes.pop()))), "validator set of the header");
    says(edited(&|h| at(h, &|s| s.changes.push(s.changes[0].clone()))), "expected");
    says(edited(&|h| at(h, &|s| s.validators = None)), "validator set is missing");
    says(edited(&|h| at(h, &|s| s.validators = Some(voters_at(chain, tip)))), "validator set of the header");
    says(edited(&|h| at(h, &|s| s.certificate = None)), "certificate is missing");
    let all = &chain.changes()[0].certificate;
    says(edited(&|h| at(h, &|s| s.changes[0].certificate.clone_from(all))), "more signatures");
    says(edited(&|h| at(h, &|s| s.from.clone_from(&chain.headers[2]))), "not in the log");
    says(edited(&|h| at(h, &|s| drop(s.path.pop()))), "not in the log");
    // From genesis nothing is shown in a checkpoint.
    let mut from_genesis = world.history();
    from_genesis.accesses[0].in_checkpoint = Some(InCheckpoint::default());
    let found = verify_history(&crate::records::trust(chain), &from_genesis.encode_to_vec());
    says(found, "does not start at a checkpoint");
    // A header that stands in the log, with a certificate that it does not need.
    let (all, own) = (leaves_at(chain, tip), pinned_at(chain, tip));
    let mut plain = world.history();
    let found = |history: &AccessHistory| verify_history(&own, &history.encode_to_vec());
    plain.anchor = Some(in_log(chain, all, tip));
    start(&mut plain.anchor).certificate = Some(chain.certificate());
    says(found(&plain), "needs no certificate");
}

/// The header that the sets go on from changes them: that link can't be left out, and no other header of its height goes for it.
#[test]
fn the_sets_go_on_from_the_very_header_in_the_checkpoint() {
    let world = world();
    let chain = &world.chain;
    let changes = chain.changes();
    let from = height(&changes[1].header);
    let (trust, size) = (pinned_at(chain, from), leaves_at(chain, from));
    let receipt = |changes: &[SetChange]| {
        let header = chain.headers.last().unwrap().clone();
        let start = in_log(chain, size, from);
        let anchor = behind_checkpoint(start, changes, header, &chain.certificate()).ok();
        let access = world.accesses.last().unwrap();
        verify(&trust, &Receipt { anchor, ..crate::records::receipt(chain, access) }.encode_to_vec())
    };
    assert!(receipt(&changes[1..]).is_ok());
    says(receipt(&[]), "which is not there");
    says(receipt(changes), "height");
    // The old validators sign another header at the same height.
    let mut forked = changes[1].clone();
    let mut header = Header::decode(forked.header.as_slice()).unwrap();
    header.time_ms += 1;
    forked.header = header.encode_to_vec();
    let hash = assent_ledger::block::header_hash(crate::chain::CHAIN, &forked.header);
    forked.certificate = Some(chain.certify(from, &hash, &crate::chain::FOUR));
    says(receipt(&[forked]), "which is not there");
    // Nor does one that changes nothing, beside one that stands in the log.
    let from = from - 1;
    let (trust, size) = (pinned_at(chain, from), leaves_at(chain, from));
    let mut header = header_at(chain, from);
    header.next_validator_set_hash.clone_from(&header_at(chain, chain.tip.height).validator_set_hash);
    let bytes = header.encode_to_vec();
    let hash = assent_ledger::block::header_hash(crate::chain::CHAIN, &bytes);
    let certificate = Some(chain.certify(from, &hash, &crate::chain::FOUR));
    let link = SetChange {
        header: bytes,
        certificate,
        next: Some(voters_at(chain, chain.tip.height)),
        recovery: None,
    };
    let header = chain.headers.last().unwrap().clone();
    let anchor = behind_checkpoint(in_log(chain, size, from), &[link], header, &chain.certificate()).ok();
    let access = world.accesses.last().unwrap();
    let receipt = Receipt { anchor, ..crate::records::receipt(chain, access) };
    says(verify(&trust, &receipt.encode_to_vec()), "expected");
}

#[test]
fn no_byte_of_a_pinned_file_can_be_changed() {
    let world = world();
    let chain = &world.chain;
    let (trust, size) = (pinned_at(chain, 4), leaves_at(chain, 4));
    let history = history(&world, size, 2);
    assert!(history.accesses[0].in_checkpoint.is_some() && history.accesses[2].in_checkpoint.is_none());
    let (pack, history) = (pack(&world, &history), history.encode_to_vec());
    let (bundle, late) = (bundle(&world, size, 2), late(&world, size, 2).encode_to_vec());
    type Holds<'a> = &'a dyn Fn(&[u8]) -> bool;
    let files: [(&str, &[u8], Holds<'_>); 4] = [
        ("history", &history, &|bytes| verify_history(&trust, bytes).is_ok()),
        ("pack", &pack, &|bytes| verify_pack(&trust, bytes).is_ok()),
        ("bundle", &bundle, &|bytes| verify_bundle(&trust, bytes).is_ok()),
        ("late", &late, &|bytes| verify_late_bundle(&trust, bytes).is_ok()),
    ];
    for (name, good, holds) in files {
        assert!(holds(good), "{name}");
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << (at * 5 % 8);
            assert!(!holds(&bad), "{name}: flip {at} of {}", good.len());
            assert!(!holds(&good[..at]), "{name}: cut {at}");
        }
        assert!(!holds(&[good, &[0]].concat()), "{name}: surplus");
    }
}

/// Both fields of `InCheckpoint`: an access under another set than the one that the history's sets go on from.
#[test]
fn each_field_of_a_header_in_the_checkpoint_is_covered() {
    let mut world = World::new();
    let by = ["birch", "cedar", "dogwood"];
    let at = world.chain.decide(&by, remove_validator("elm"));
    world.chain.until(at);
    world.access();
    let chain = &world.chain;
    let tip = chain.tip.height;
    let (trust, size) = (pinned_at(chain, tip), leaves_at(chain, tip));
    let good = history(&world, size, tip);
    let shown = verify_history(&trust, &good.encode_to_vec()).unwrap();
    assert_eq!(shown.at.start, within(size));
    let edit = |edit: &dyn Fn(&mut InCheckpoint)| {
        let mut bad = good.clone();
        edit(bad.accesses[0].in_checkpoint.as_mut().unwrap());
        assert_ne!(bad, good);
        verify_history(&trust, &bad.encode_to_vec())
    };
    says(edit(&|shown| shown.path[0][0] ^= 1), "not in the log");
    says(edit(&|shown| shown.path[0].push(0)), "33 bytes");
    says(edit(&|shown| shown.validators = None), "validator set of the header");
    says(
        edit(&|shown| shown.validators.as_mut().unwrap().members_root[0] ^= 1),
        "validator set of the header",
    );
}

/// What stands in the log of the checkpoint others saw, a recovery too. One that came later waits for the reader's word.
#[test]
fn only_a_recovery_behind_the_checkpoint_needs_the_readers_word() {
    let (chain, plan, receipt) = recovered::receipt();
    let links = crate::receipt_files::changes(&chain);
    let header = chain.headers.last().unwrap().clone();
    let certificate = chain.certificate();
    let made = |pin: u64, from: u64, voters: &assent_proto::ledger::v1::ValidatorSet| {
        let size = leaves_at(&chain, pin);
        let place = place(&chain, size, from);
        let start = chain.headers[from as usize - 1].clone();
        let start = assent_ledger::receipts::from_checkpoint(size, &place, voters.clone(), start);
        let after: Vec<SetChange> = links.iter().filter(|l| height(&l.header) >= from).cloned().collect();
        let anchor = behind_checkpoint(start, &after, header.clone(), &certificate).unwrap();
        Receipt { anchor: Some(anchor), ..receipt.clone() }.encode_to_vec()
    };
    let accepting = |pin: u64, plans: &[[u8; 32]]| match pinned_at(&chain, pin) {
        Trust::Checkpoint { origin, size, root, .. } => {
            Trust::Checkpoint { origin, size, root, accepted: plans.iter().copied().collect::<BTreeSet<_>>() }
        }
        other => other,
    };
    // The recovery follows block 3: it lies behind checkpoints up to that one.
    let four = &chain.genesis.validators;
    for pin in [1, 3] {
        let before = made(pin, pin, four);
        match verify(&accepting(pin, &[]), &before) {
            Err(ReceiptFault::Sets(error)) => assert_eq!(error.not_accepted().unwrap().plan, plan),
            other => panic!("{other:?}"),
        }
        let shown = verify(&accepting(pin, &[plan]), &before).unwrap().at.start;
        assert!(
            matches!(&shown, Start::Checkpoint { recoveries, set_changes: 2, .. } if recoveries[0].plan == plan)
        );
    }
    let two = assent_ledger::recovery::new_set(links[0].recovery.as_ref().unwrap()).unwrap();
    let after = made(5, 5, &two);
    let shown = verify(&accepting(5, &[]), &after).unwrap().at.start;
    assert!(matches!(&shown, Start::Checkpoint { recoveries, set_changes: 1, .. } if recoveries.is_empty()));
}

/// A network that recovered between two checkpoints: its pack from genesis, from the one before, and from the one after; and these.
fn kept() -> Vec<(&'static str, Vec<u8>)> {
    let mut world = World::new();
    let plan = crate::recovery::recover(&mut world.chain);
    world.access();
    world.rotated("birch", 7);
    world.access();
    let chain = &world.chain;
    let file = |history: &AccessHistory| [PACK_MAGIC.as_slice(), &pack(&world, history)].concat();
    let key = crate::chain::key(1, "checkpoint", "witness");
    let note = |pin: u64| {
        let Trust::Checkpoint { origin, size, root, .. } = pinned_at(chain, pin) else { unreachable!() };
        let text = Checkpoint { origin, size, root, extensions: Vec::new() }.text();
        format!("{text}\n{}", sign_note(&text, "witness", &key).unwrap()).into_bytes()
    };
    let verifier = VerifierKey::new("witness", KeyKind::Ed25519, crate::chain::public(&key)).unwrap();
    let (before, after) = (2, chain.tip.height - 1);
    let trusted = format!(
        "{{\"genesis_hash\": \"{}\", \"plan\": \"{}\", \"checkpoint_key\": \"{verifier}\"}}\n",
        hex::encode(chain.genesis.hash),
        hex::encode(plan)
    );
    let all = vec![
        ("recovered.pack", file(&world.history())),
        ("recovered-before.pack", file(&history(&world, leaves_at(chain, before), before))),
        ("recovered-after.pack", file(&history(&world, leaves_at(chain, after), after))),
        ("recovered-before.note", note(before)),
        ("recovered-after.note", note(after)),
        ("recovered.json", trusted.into_bytes()),
    ];
    let trust = |pin: Option<u64>, accepted: BTreeSet<[u8; 32]>| match pin.map(|pin| pinned_at(chain, pin)) {
        Some(Trust::Checkpoint { origin, size, root, .. }) => {
            Trust::Checkpoint { origin, size, root, accepted }
        }
        _ => Trust::Genesis { hash: chain.genesis.hash, accepted },
    };
    for (n, pin, needs_word) in [(0, None, true), (1, Some(before), true), (2, Some(after), false)] {
        let body = &all[n].1[PACK_MAGIC.len()..];
        assert_eq!(verify_pack(&trust(pin, BTreeSet::new()), body).is_err(), needs_word, "{}", all[n].0);
        assert_eq!(verify_pack(&trust(pin, [plan].into()), body).unwrap().accesses.len(), 3);
    }
    all
}

macro_rules! kept_file {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../fixtures/pack/", $name)).as_slice())
    };
}

const KEPT: [(&str, &[u8]); 6] = [
    kept_file!("recovered.pack"),
    kept_file!("recovered-before.pack"),
    kept_file!("recovered-after.pack"),
    kept_file!("recovered-before.note"),
    kept_file!("recovered-after.note"),
    kept_file!("recovered.json"),
];

/// The Python verifier and the tests of `assent` read these too. After a change of format: copy what the failed test left.
#[test]
fn the_kept_packs_around_a_recovery_are_those_that_are_made_now() {
    let made = kept();
    let same = made.iter().map(|(name, bytes)| (*name, bytes.as_slice())).eq(KEPT);
    if !same {
        let folder = std::env::temp_dir().join("assent-recovered");
        std::fs::create_dir_all(&folder).unwrap();
        made.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
        panic!("differ: cp {}/* ledger/tests/fixtures/pack/", folder.display());
    }
}
