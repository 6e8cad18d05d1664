//! Bundles, histories, packs and late releases across changes of validators and of the keys that sign, and lies about keys.

use std::collections::BTreeSet;

use assent_ledger::commitment::{commit, slot_commitment};
use assent_ledger::hash::Context;
use assent_ledger::late::{verify_late, verify_late_bundle};
use assent_ledger::pack::{verify_pack, PACK_MAGIC};
use assent_ledger::receipt::{request_hash, sign_message};
use assent_ledger::receipts::{
    from_genesis, verify_bundle, verify_history, verify_receipt, Start, MAX_KEY_AGE_MS,
};
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::{
    anchor, AccessHistory, GenesisStart, HistoryAccess, KeyPurpose, LateAccess, LateBundle, LateProof,
    MemberProof, OpenedReasons, PatientPack, Reasons, RecordBundle, Signed,
};
use prost::Message;

use crate::chain::{key, Chain, CHAIN};
use crate::governance::{four, remove_validator, rotate, step};
use crate::late::late;
use crate::pinned;
use crate::records::{
    anchor as way, history, history_access, op, patient, receipt, request, set_consent, trust, with_key,
    Access,
};

const SALT: [u8; 32] = [0x5a; 32];
const CHANGED: &[u8] = include_bytes!("../fixtures/pack/changed.pack");
const CHANGED_GENESIS: &str = include_str!("../fixtures/pack/changed-genesis-hash.txt");

/// A chain on which Cedar records accesses of Birch's, with all that is made of them.
pub struct World {
    pub chain: Chain,
    pub accesses: Vec<Access>,
    pub shown: Vec<HistoryAccess>,
    bundles: Vec<RecordBundle>,
}

impl World {
    pub fn new() -> Self {
        let mut chain = four();
        let mut first = with_key(set_consent("cedar", 0, 1), &patient());
        first.commitment = slot_commitment(CHAIN, &SALT, &[]).to_vec();
        chain.step(vec![("cedar", op(first))]);
        let (accesses, shown, bundles) = Default::default();
        let mut world = Self { chain, accesses, shown, bundles };
        world.access();
        world
    }

    pub fn decided(&self) -> Access {
        let n = self.accesses.len() as u8 + 1;
        let mut access = Access::new(&self.chain, "birch", n, 1);
        access.event.reasons = commit(Context::ReasonsCommitment, CHAIN, &[n; 32], &why(n)).to_vec();
        access
    }

    pub fn record(&mut self, access: Access) {
        self.chain.step(vec![("cedar", access.operation())]);
        self.shown.push(history_access(&self.chain, &access));
        let proof = Some(receipt(&self.chain, &access));
        self.bundles.push(RecordBundle { proof, resources: access.resources.clone() });
        self.accesses.push(access);
    }

    pub fn access(&mut self) {
        self.record(self.decided());
    }

    /// Another entry key of a member's, from the height after the next two blocks on: the first of them is made.
    pub fn rotate(&mut self, who: &str, seed: u8) {
        let (old, new) = (self.chain.present_entry_key(who), key(seed, "entry", who));
        self.chain.know(new.clone());
        let at = self.chain.next() + 2;
        let operation = step(Step::RotateKey(rotate(who, KeyPurpose::Entry, &old, &new, at)));
        self.chain.step(vec![(who, operation)]);
    }

    pub fn rotated(&mut self, who: &str, seed: u8) {
        self.rotate(who, seed);
        self.chain.commit(vec![]);
    }

    pub fn history(&self) -> AccessHistory {
        history(&self.chain, self.shown.clone())
    }

    pub fn pack(&self) -> PatientPack {
        let reasons = (1..=self.accesses.len() as u8)
            .map(|n| OpenedReasons { reasons: why(n), salt: vec![n; 32] })
            .collect();
        let history = self.history().encode_to_vec();
        PatientPack { history, salt: SALT.to_vec(), consents: vec![], reasons }
    }

    /// What Cedar signs without quorum, now; the keys are those that count after the last block.
    pub fn late(&self) -> LateBundle {
        let access = late(&self.chain);
        let request = Signed::decode(access.event.request.as_slice()).unwrap();
        let body = LateAccess {
            request_hash: request_hash(CHAIN, &request.body).to_vec(),
            event: access.event.encode_to_vec(),
            salt: access.salt.to_vec(),
        };
        let key = self.chain.present_entry_key("cedar");
        let header = self.chain.headers.last().unwrap().clone();
        let certificate = self.chain.certificate();
        let anchor = from_genesis(&self.chain.genesis, &self.chain.next_changes(), header, &certificate);
        let proof = LateProof {
            late_access: Some(sign_message(Context::LateAccess, CHAIN, "cedar", &key, body.encode_to_vec())),
            anchor: Some(anchor.unwrap()),
            custodian: self.chain.member("cedar"),
            recipient: access.recipient,
        };
        LateBundle { proof: Some(proof), resources: access.resources }
    }

    /// Everything that was made holds, and says how many changes there were.
    fn holds(&self, set_changes: &[usize]) {
        let trust = trust(&self.chain);
        let hash = self.chain.genesis.hash;
        let from = |n| Start::Genesis { hash, set_changes: n, recoveries: Vec::new() };
        for ((access, bundle), changes) in self.accesses.iter().zip(&self.bundles).zip(set_changes) {
            let (at, shown, _) = verify_bundle(&trust, &bundle.encode_to_vec()).unwrap();
            assert_eq!((shown.event, at.start), (access.event.clone(), from(*changes)));
        }
        let events: Vec<_> = self.accesses.iter().map(|access| access.event.clone()).collect();
        let found = verify_history(&trust, &self.history().encode_to_vec()).unwrap();
        assert_eq!(found.accesses.into_iter().map(|a| a.event).collect::<Vec<_>>(), events);
        assert_eq!(found.at.start, from(*set_changes.last().unwrap()));
        let found = verify_pack(&trust, &self.pack().encode_to_vec()).unwrap();
        assert_eq!(found.accesses.len(), set_changes.len());
        verify_late_bundle(&trust, &self.late().encode_to_vec()).unwrap();
    }

    /// An access that Cedar recorded last, as a liar made it: why the receipt is refused. The history says the same.
    fn lie(&self, edit: impl Fn(&Chain, &mut Access)) -> String {
        let mut chain = self.chain.clone();
        let mut access = self.decided();
        edit(&chain, &mut access);
        chain.step(vec![("cedar", access.operation())]);
        let all = [self.shown.clone(), vec![history_access(&chain, &access)]].concat();
        let history = verify_history(&trust(&chain), &history(&chain, all).encode_to_vec());
        let alone = verify_receipt(&trust(&chain), &receipt(&chain, &access));
        assert_eq!(history.map(|_| ()), alone.as_ref().map(|_| ()).map_err(Clone::clone));
        alone.map_or_else(|e| e.to_string(), |_| String::new())
    }
}

fn why(n: u8) -> Vec<u8> {
    Reasons { decided_by: vec![format!("c1/{n}")] }.encode_to_vec()
}

#[test]
fn all_files_hold_across_a_change_of_validators() {
    let mut world = World::new();
    let by = ["birch", "cedar", "dogwood"];
    let at = world.chain.decide(&by, remove_validator("elm"));
    world.chain.until(at);
    world.access();
    world.holds(&[0, 1]);
}

#[test]
fn all_files_hold_across_a_rotation_of_the_recipients_key() {
    let mut world = World::new();
    world.rotated("birch", 7);
    world.access();
    world.rotated("birch", 8);
    world.access();
    world.holds(&[0, 1, 2]);
}

/// The next block is the first under the new key: what was asked before counts by the old one.
#[test]
fn an_access_that_a_rotation_overtook_holds() {
    let mut world = World::new();
    world.rotate("birch", 7);
    let asked = world.decided();
    world.chain.commit(vec![]);
    world.record(asked);
    world.access();
    world.holds(&[0, 1, 1]);
}

#[test]
fn all_files_hold_across_a_rotation_of_the_custodians_key() {
    let mut world = World::new();
    world.rotated("cedar", 7);
    world.access();
    world.holds(&[0, 1]);
    // The quorum is lost right at the block that changes the key: the next height counts.
    world.rotated("cedar", 8);
    let late = world.late();
    assert_ne!(world.chain.changes().len(), world.chain.next_changes().len());
    verify_late_bundle(&trust(&world.chain), &late.encode_to_vec()).unwrap();
}

/// The Python verifier is tested on this file too. After a change of format: write what the failed test left beside it.
#[test]
fn the_kept_pack_is_the_one_that_is_made_now() {
    let world = pinned::world();
    world.holds(&[0, 1, 2]);
    let file = [PACK_MAGIC.as_slice(), &world.pack().encode_to_vec()].concat();
    if file != CHANGED {
        let path = std::env::temp_dir().join("changed.pack");
        std::fs::write(&path, &file).unwrap();
        panic!("differs: {} has it, genesis hash {}", path.display(), hex::encode(world.chain.genesis.hash));
    }
    assert_eq!(hex::encode(world.chain.genesis.hash), CHANGED_GENESIS.trim());
}

/// A request that was signed by a key of Birch's, decided after a block.
fn signed_by(access: &mut Access, key: &assent_ledger::keys::SigningKey, height: u64) {
    let body = request("birch", 9).encode_to_vec();
    access.event.request = sign_message(Context::Request, CHAIN, "birch", key, body).encode_to_vec();
    access.event.height = height;
}

#[test]
fn a_key_of_another_time_is_refused() {
    let mut world = World::new();
    let (old, old_proof) = (world.chain.entry_key("birch"), world.chain.member("birch"));
    let before = world.chain.tip.height;
    world.rotated("birch", 7);
    world.access();
    world.holds(&[0, 1]);
    let (new, new_proof) = (world.chain.present_entry_key("birch"), world.chain.member("birch"));
    let now = world.chain.tip.height;
    let lie = |key, height, proof: &Option<MemberProof>| {
        world.lie(|_, access| {
            signed_by(access, key, height);
            access.recipient.clone_from(proof);
        })
    };
    assert_eq!(lie(&new, now, &new_proof), "");
    assert!(lie(&old, now, &old_proof).contains("root of the members"));
    assert!(lie(&old, now, &new_proof).contains("recipient's signature"));
    assert!(lie(&new, before, &new_proof).contains("root of the members"));
    assert!(lie(&new, before, &old_proof).contains("recipient's signature"));
    assert!(lie(&new, now + 1, &new_proof).contains("not before the header's"));
    // For an hour the old key may have asked before it was replaced, and the custodian says that it did.
    assert_eq!(lie(&old, before, &old_proof), "");
    world.chain.pause(MAX_KEY_AGE_MS);
    let late_lie = world.lie(|_, access| {
        signed_by(access, &old, before);
        access.recipient.clone_from(&old_proof);
    });
    assert!(late_lie.contains("more than an hour"), "{late_lie}");
    let honest = world.lie(|chain, access| signed_by(access, &new, chain.tip.height));
    assert_eq!(honest, "");
}

fn start_of(proof: &mut LateProof) -> &mut GenesisStart {
    match proof.anchor.as_mut().unwrap().start.as_mut() {
        Some(anchor::Start::Genesis(start)) => start,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_late_release_under_a_key_of_another_time_is_refused() {
    let mut world = World::new();
    let old = world.late();
    world.rotated("cedar", 7);
    world.rotated("birch", 7);
    world.chain.commit(vec![]);
    let (good, trust) = (world.late().proof.unwrap(), trust(&world.chain));
    let old = old.proof.unwrap();
    assert!(verify_late(&trust, &good).is_ok());
    // Of itself the old one holds: it shows the header of its time.
    let shown = verify_late(&trust, &old).unwrap();
    assert!(shown.at.header.height < world.chain.tip.height);
    let refuse = |proof: LateProof, why: &str| {
        let error = verify_late(&trust, &proof).expect_err(why).to_string();
        assert!(error.contains(why), "{why}: {error}");
    };
    refuse(LateProof { late_access: old.late_access.clone(), ..good.clone() }, "custodian's signature");
    refuse(LateProof { custodian: old.custodian.clone(), ..good.clone() }, "root of the members");
    refuse(LateProof { recipient: old.recipient.clone(), ..good.clone() }, "root of the members");
    refuse(LateProof { anchor: old.anchor.clone(), ..good.clone() }, "root of the members");
    // A chain of sets that ends before the header's block, or goes on behind it.
    world.rotated("elm", 7);
    let mut short = world.late().proof.unwrap();
    short.anchor = Some(way(&world.chain));
    refuse(short, "validator set after the header");
    let mut longer = good;
    start_of(&mut longer).changes = start_of(&mut world.late().proof.unwrap()).changes.clone();
    refuse(longer, "older than the validator set");
}

/// Every field of these files' messages, by a change that its reader must notice.
#[test]
fn every_field_of_the_files_is_covered() {
    let mut world = World::new();
    world.rotated("birch", 7);
    world.access();
    world.chain.commit(vec![]);
    world.holds(&[0, 1]);
    let trust = trust(&world.chain);
    let mut seen = BTreeSet::new();
    type Edit<M> = (&'static str, fn(&mut M));
    fn late_of(b: &mut LateBundle) -> &mut LateProof {
        b.proof.as_mut().unwrap()
    }
    let bundles: [Edit<RecordBundle>; 2] =
        [("RecordBundle.resources", |b| b.resources[0][0] ^= 1), ("RecordBundle.proof", |b| b.proof = None)];
    for (name, edit) in bundles {
        let mut bundle = world.bundles[1].clone();
        edit(&mut bundle);
        assert!(verify_bundle(&trust, &bundle.encode_to_vec()).is_err(), "{name}");
        seen.insert(name);
    }
    let histories: [Edit<AccessHistory>; 10] = [
        ("AccessHistory.custodian", |h| h.custodian = "elm".into()),
        ("AccessHistory.handle", |h| h.handle[0] ^= 1),
        ("AccessHistory.slot", |h| h.slot.as_mut().unwrap().consent_seq += 1),
        ("AccessHistory.state_proof", |h| h.state_proof[9] ^= 1),
        ("AccessHistory.anchor", |h| h.anchor.as_mut().unwrap().header[9] ^= 1),
        ("AccessHistory.accesses", |h| h.accesses.swap(0, 1)),
        ("HistoryAccess.header", |h| h.accesses[0].header = h.accesses[1].header.clone()),
        ("HistoryAccess.certificate", |h| h.accesses[0].certificate = h.accesses[1].certificate.clone()),
        ("HistoryAccess.in_checkpoint", |h| h.accesses[0].in_checkpoint = Some(Default::default())),
        ("HistoryAccess.access", |h| h.accesses[1].access = h.accesses[0].access.clone()),
    ];
    for (name, edit) in histories {
        let mut history = world.history();
        edit(&mut history);
        assert!(verify_history(&trust, &history.encode_to_vec()).is_err(), "{name}");
        let pack = PatientPack { history: history.encode_to_vec(), ..world.pack() };
        assert!(verify_pack(&trust, &pack.encode_to_vec()).is_err(), "{name}");
        seen.insert(name);
    }
    let lates: [Edit<LateBundle>; 6] = [
        ("LateBundle.resources", |b| b.resources.truncate(1)),
        ("LateBundle.proof", |b| b.proof = None),
        ("LateProof.late_access", |b| late_of(b).late_access.as_mut().unwrap().body[9] ^= 1),
        ("LateProof.anchor", |b| late_of(b).anchor.as_mut().unwrap().header[9] ^= 1),
        ("LateProof.custodian", |b| late_of(b).custodian = late_of(b).recipient.clone()),
        ("LateProof.recipient", |b| late_of(b).recipient = late_of(b).custodian.clone()),
    ];
    for (name, edit) in lates {
        let mut bundle = world.late();
        edit(&mut bundle);
        assert!(verify_late_bundle(&trust, &bundle.encode_to_vec()).is_err(), "{name}");
        seen.insert(name);
    }
    let mut named = BTreeSet::new();
    let mut message = "";
    for line in include_str!("../../../proto/proto/assent/ledger/v1/bundle.proto").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["message", name, ..] => message = name,
            ["//", ..] | ["syntax", ..] => {}
            [.., field, "=", _] => drop(named.insert(format!("{message}.{field}"))),
            _ => {}
        }
    }
    assert_eq!(seen, named.iter().map(String::as_str).collect());
}

/// A surplus signature or a surplus change of validators is a byte that nobody needs.
#[test]
fn nothing_surplus_is_taken() {
    let mut world = World::new();
    world.rotated("birch", 7);
    world.access();
    let trust = trust(&world.chain);
    let mut history = world.history();
    history.accesses[1].certificate = Some(world.chain.certificate());
    let error = verify_history(&trust, &history.encode_to_vec()).unwrap_err().to_string();
    assert!(error.contains("more signatures"), "{error}");
    // A header with the chain of a later one.
    world.rotated("birch", 8);
    let mut late = world.late().proof.unwrap();
    world.rotated("elm", 7);
    world.chain.commit(vec![]);
    let mut newest = world.late().proof.unwrap();
    let changes = start_of(&mut newest).changes.clone();
    start_of(&mut late).changes.clone_from(&changes);
    let error = verify_late(&trust, &late).unwrap_err().to_string();
    assert!(error.contains("older than the validator set"), "{error}");
    let mut bundle = world.bundles[0].proof.clone().unwrap();
    let Some(anchor::Start::Genesis(start)) = bundle.anchor.as_mut().unwrap().start.as_mut() else {
        unreachable!()
    };
    start.changes = changes[..1].to_vec();
    let error = verify_receipt(&trust, &bundle).unwrap_err().to_string();
    assert!(error.contains("older than the validator set"), "{error}");
}
