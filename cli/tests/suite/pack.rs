//! `assent patient pack` and `assent verify` of what it wrote: the pack that the ledger's tests keep, and lies about it.

use std::path::PathBuf;

use assent_proto::ledger::v1::PatientPack;
use prost::Message;

use crate::node::Node;
use crate::program::{assent, Run};

const GOOD: &[u8] = include_bytes!("../../../ledger/tests/fixtures/pack/good.pack");
const GENESIS_HASH: &str = include_str!("../../../ledger/tests/fixtures/pack/genesis-hash.txt");
const CHANGED: &[u8] = include_bytes!("../../../ledger/tests/fixtures/pack/changed.pack");
const CHANGED_GENESIS: &str = include_str!("../../../ledger/tests/fixtures/pack/changed-genesis-hash.txt");
const HANDLE: [u8; 32] = [0x11; 32];

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn verify(&self, bytes: &[u8], more: &[&str]) -> Run {
        let path = self.write(bytes);
        let arguments = ["verify", path.to_str().unwrap(), "--genesis-hash", GENESIS_HASH.trim()];
        assent(&[arguments.as_slice(), more].concat())
    }
}

fn edited(edit: impl Fn(&mut PatientPack)) -> Vec<u8> {
    let mut pack = PatientPack::decode(&GOOD[8..]).unwrap();
    edit(&mut pack);
    pack.encode_to_vec()
}

#[test]
fn a_good_pack_holds_and_says_in_words_what_it_proves_and_what_not() {
    let folder = Folder::new();
    let run = folder.verify(GOOD, &[]).exits(0);
    for said in [
        "holds: all of one patient's consents and accesses at cedar",
        "3 of 3 accesses, not withdrawn, as of height 4",
        "access 2 by: c1/2",
        "consent: c1, revision 1, ACTIVE",
        "consent: c2, revision 3, REVOKED",
        "rule: ",
        "contact: reminders by sms; surveys by none; campaigns by any",
        "It proves:",
        "No ledger can prove:\n- who looked at a screen",
        "second chart of the same person",
    ] {
        assert!(run.out.contains(said), "{said}: {}", run.out);
    }
    let prose = run.out.split_once("It proves:").unwrap().1;
    assert!(prose.lines().all(|line| line.chars().count() <= 80), "{prose}");
    let json = folder.verify(GOOD, &["--output", "json"]).exits(0).json();
    assert_eq!((&json["ok"], &json["kind"], &json["n"]), (&true.into(), &"pack".into(), &3.into()));
    assert_eq!(json["handle"], hex::encode(HANDLE));
    assert_eq!(json["accesses"][1]["decided_by"][0], "c1/2");
    assert_eq!(json["consents"][1]["state"], "REVOKED");
    assert!(json["consents"][0]["rules"][0].as_str().unwrap().contains("birch"), "{json}");
    assert_eq!(
        (json["proves"].as_array().unwrap().len(), json["unproven"].as_array().unwrap().len()),
        (4, 6)
    );
}

/// One that was made across a rotation and a change of validators.
#[test]
fn a_pack_says_how_many_changes_of_validators_it_went_through() {
    let folder = Folder::new();
    let path = folder.write(CHANGED);
    let arguments = ["verify", path.to_str().unwrap(), "--genesis-hash", CHANGED_GENESIS.trim()];
    let run = assent(&arguments).exits(0);
    assert!(run.out.contains("\nfrom genesis, over 2 changes of validators\n"), "{run:?}");
    let json = assent(&[arguments.as_slice(), &["--output", "json"]].concat()).exits(0).json();
    assert_eq!((&json["set_changes"], &json["n"]), (&2.into(), &3.into()));
    // It holds for its own chain only.
    folder.verify(CHANGED, &[]).exits(3);
}

/// A network recovered between two checkpoints: packs from genesis, from the one before and from the one after.
#[test]
fn a_pack_starts_at_a_checkpoint_of_before_or_after_a_recovery() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/tests/fixtures/pack");
    let file = |name: &str| format!("{kept}/{name}");
    let trusted = std::fs::read(file("recovered.json")).unwrap();
    let trusted: serde_json::Value = serde_json::from_slice(&trusted).unwrap();
    let of = |name: &str| trusted[name].as_str().unwrap();
    let (hash, plan, key) = (of("genesis_hash"), of("plan"), of("checkpoint_key"));
    let (before, after) = (file("recovered-before.note"), file("recovered-after.note"));
    let genesis = ["--genesis-hash", hash];
    let [before, after] = [&before, &after].map(|note| ["--checkpoint", note, "--checkpoint-key", key]);
    let verify = |name: &str, trust: &[&str]| assent(&[["verify", &file(name)].as_slice(), trust].concat());
    let word = ["--accept-recovery", plan];
    for (name, trust, way) in [
        ("recovered.pack", &genesis[..], "from genesis, over 2 changes of validators"),
        ("recovered-before.pack", &before, "from the checkpoint of 4 leaves, over 2 changes of validators"),
    ] {
        let run = verify(name, trust).exits(4);
        assert!(run.err.contains(&format!("say --accept-recovery {plan}")), "{run:?}");
        let run = verify(name, &[trust, &word].concat()).exits(0);
        assert!(run.out.contains(way) && run.out.contains("you accepted its plan"), "{run:?}");
    }
    // The recovery stands in the log that others saw: nobody has to accept it.
    let run = verify("recovered-after.pack", &after).exits(0);
    assert!(
        run.out.contains("\nfrom the checkpoint of 11 leaves, over 1 changes of validators\n"),
        "{run:?}"
    );
    let json = verify("recovered-after.pack", &[after.as_slice(), &["--output", "json"]].concat()).json();
    let signed = serde_json::json!({ "size": 11, "signed_by": ["witness"], "within": false });
    assert_eq!((&json["checkpoint"], &json["n"]), (&signed, &3.into()));
    assert_eq!(json["recoveries"], serde_json::json!([]));
    // Elsewhere than at what is given: undecided. The checkpoint signed by nobody who is named: likewise.
    for (name, trust) in [
        ("recovered.pack", &before[..]),
        ("recovered-before.pack", &genesis),
        ("recovered-before.pack", &after),
        ("recovered-after.pack", &before),
    ] {
        let run = verify(name, &[trust, &["--output", "json"]].concat()).exits(4);
        assert_eq!(run.json()["error"]["reason"], "OTHER_ANCHOR", "{name}");
    }
    verify("recovered-after.pack", &after[..2]).exits(4);
    verify("recovered-after.pack", &["--checkpoint", &file("recovered.json")]).exits(2);
}

/// It asks for the pack from the checkpoint, and keeps it only if it starts there.
#[test]
fn a_patient_asks_for_a_pack_from_a_checkpoint() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/tests/fixtures/pack");
    let read = |name: &str| std::fs::read(format!("{kept}/{name}")).unwrap();
    let trusted: serde_json::Value = serde_json::from_slice(&read("recovered.json")).unwrap();
    let node = Node::start();
    let (wallet, out, ca) = (node.text("wallet"), node.text("pack"), node.text("birch/tls/ca.pem"));
    assent(&["wallet", "create", "--out", &wallet, "--chain-id", "testnet-cedar-1"]).exits(0);
    assent(&["wallet", "add", &wallet, "--custodian", "cedar", "--handle", &hex::encode(HANDLE)]).exits(0);
    let note = format!("{kept}/recovered-after.note");
    let pack = || {
        let who = ["patient", "pack", "--wallet", &wallet, "--custodian", "cedar", "--out", &out];
        let pin = ["--checkpoint", &note, "--checkpoint-key", trusted["checkpoint_key"].as_str().unwrap()];
        assent(&[who.as_slice(), &["--node", &node.url, "--ca", &ca], &pin].concat())
    };
    for other in ["recovered.pack", "recovered-before.pack"] {
        node.told.set(|script| script.pack = read(other)[8..].to_vec());
        let run = pack().exits(3);
        assert!(run.err.contains("BAD_PACK") && !node.path("pack").exists(), "{run:?}");
    }
    node.told.set(|script| script.pack = read("recovered-after.pack")[8..].to_vec());
    pack().exits(0);
    assert_eq!(node.told.0.lock().unwrap().pack_asked.take().unwrap().checkpoint_size, 11);
    assert_eq!(std::fs::read(&out).unwrap(), read("recovered-after.pack"));
}

#[test]
fn a_pack_that_was_changed_does_not_hold() {
    let folder = Folder::new();
    for at in (0..GOOD.len()).step_by(31) {
        let mut bad = GOOD.to_vec();
        bad[at] ^= 1 << (at % 8);
        folder.verify(&bad, &[]).exits(3);
    }
    for len in [8, 9, GOOD.len() / 2, GOOD.len() - 1] {
        folder.verify(&GOOD[..len], &[]).exits(3);
    }
    folder.verify(&[GOOD, b"\0"].concat(), &[]).exits(3);
    let left_out = [b"ASSENTK1".as_slice(), &edited(|pack| drop(pack.consents.remove(1)))].concat();
    let run = folder.verify(&left_out, &[]).exits(3);
    assert!(run.err.contains("commitment to all consents"), "{run:?}");
}

#[test]
fn a_pack_of_another_chain_or_without_anchor() {
    let folder = Folder::new();
    let path = folder.write(GOOD);
    let path = path.to_str().unwrap();
    assent(&["verify", path, "--genesis-hash", &"1".repeat(64)]).exits(3);
    let run = assent(&["verify", path]).exits(4);
    assert!(run.out.starts_with("consistent, not anchored"), "{run:?}");
}

#[test]
fn a_patient_keeps_a_pack_only_if_it_holds() {
    let node = Node::start();
    let (wallet, out, ca) = (node.text("wallet"), node.text("pack"), node.text("birch/tls/ca.pem"));
    assent(&["wallet", "create", "--out", &wallet, "--chain-id", "testnet-cedar-1"]).exits(0);
    assent(&["wallet", "add", &wallet, "--custodian", "cedar", "--handle", &hex::encode(HANDLE)]).exits(0);
    let pack = |custodian: &str, wallet: &str| {
        let who = ["patient", "pack", "--wallet", wallet, "--custodian", custodian, "--out", &out];
        let node = ["--node", &node.url, "--ca", &ca, "--genesis-hash", GENESIS_HASH.trim()];
        assent(&[who.as_slice(), &node].concat())
    };
    let lies: [Vec<u8>; 4] = [
        b"?".to_vec(),
        GOOD.to_vec(), // with the magic of the file
        edited(|pack| drop(pack.consents.remove(0))),
        edited(|pack| drop(pack.reasons.pop())),
    ];
    for lie in lies {
        node.told.set(|script| script.pack = lie);
        let run = pack("cedar", &wallet).exits(3);
        assert!(run.err.contains("BAD_PACK") && !node.path("pack").exists(), "{run:?}");
    }
    node.told.set(|script| script.pack = GOOD[8..].to_vec());
    let run = pack("cedar", &wallet).exits(0);
    assert!(run.out.contains("3 of 3 accesses") && run.out.contains(&format!("kept in {out}")), "{run:?}");
    assert_eq!(std::fs::read(&out).unwrap(), GOOD);
    let asked = node.told.0.lock().unwrap().pack_asked.take().unwrap();
    assert!(asked.patient.is_none() && asked.proof.unwrap().handle == HANDLE);
    // Not written over; and a good pack of another patient is a lie as well.
    pack("cedar", &wallet).exits(1);
    let other = node.text("other");
    assent(&["wallet", "create", "--out", &other, "--chain-id", "testnet-cedar-1"]).exits(0);
    assent(&["wallet", "add", &other, "--custodian", "cedar", "--handle", &"22".repeat(32)]).exits(0);
    std::fs::remove_file(&out).unwrap();
    let run = pack("cedar", &other).exits(3);
    assert!(run.err.contains("somebody else's") && !node.path("pack").exists(), "{run:?}");
    pack("birch", &wallet).exits(6);
    assent(&["patient", "pack", "--custodian", "cedar", "--out", &out]).exits(2);
}
