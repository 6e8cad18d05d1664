//! The laws that the fuzz targets state (`ledger/fuzz`), held against the inputs that were kept: what was found once stays found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assent_ledger::audit::{write_record, RecordKind, EXPORT_MAGIC};
use assent_ledger::checkpoint::{cosign_note, origin, sign_note, Checkpoint, KeyKind, VerifierKey};
use assent_ledger::conviction::{make_evidence_file, EVIDENCE_MAGIC};
use assent_ledger::entry::cancel_sign_bytes;
use assent_ledger::hash::Hash;
use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::log::{tagged_leaf_hash, LEAF_ENTRY};
use assent_ledger::recovery::{make_plan, sign_plan};
use assent_ledger::split::{make_split, SPLIT_MAGIC};
use assent_ledger::state::{slot, slot_key};
use assent_ledger::tree;
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{
    Block, CancelReplacement, KeyPurpose, Operation, PrunedBlock, Recover, SetConsent, VoteType,
};
use prost::Message;

use crate::chain::{key, public, Chain, CHAIN};
use crate::governance::{self as governed, evidence};
use crate::late;
use crate::receipt_files::World;
use crate::records::{
    by_patient, history, op, patient, record_access, set_consent, set_policy, three_accesses, with_key,
    withdraw, HANDLE,
};
use crate::recovery::recovered;

#[path = "../../fuzz/src/laws/mod.rs"]
mod laws;

/// Most bytes of the kept inputs together.
const MAX_CORPUS_BYTES: usize = 500_000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

#[expect(clippy::disallowed_methods, reason = "a test reads what is kept")]
fn kept(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let read =
        |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into(), std::fs::read(&path).unwrap());
    files.map(|file| read(file.unwrap().path())).collect()
}

type Files = BTreeMap<String, Vec<u8>>;

fn add(files: &mut Files, folder: &str, name: &str, bytes: impl AsRef<[u8]>) {
    files.insert(format!("{folder}/{name}"), bytes.as_ref().to_vec());
}

/// Every good file, as it is made now.
fn good_files() -> Files {
    let (mut files, world) = (Files::new(), World::new());
    let (plain, _, receipts, bundles) = three_accesses();
    add(&mut files, "genesis", "plain", &plain.file);
    add(&mut files, "genesis", "governed", &world.chain.file);
    for (name, _, receipt) in world.receipts() {
        add(&mut files, "receipt", name, receipt.encode_to_vec());
    }
    add(&mut files, "pack", "history", history(&plain, receipts).encode_to_vec());
    add(&mut files, "pack", "bundle", bundles[1].encode_to_vec());
    add(&mut files, "pack", "late", late::late_release().1.encode_to_vec());
    add(&mut files, "pack", "evidence", evidence_file(&plain));
    let further = further(world.chain.clone());
    for (name, author, operation) in operations(&further) {
        let entry = further.signed(&further.body(author, 500, vec![operation]));
        add(&mut files, "entry", name, &entry.bytes);
    }
    let (chain, plan) = recovered();
    add(&mut files, "export", "governed", world.chain.export());
    add(&mut files, "export", "three-accesses", plain.export());
    add(&mut files, "export", "pruned", pruned(&plain, |_| None));
    add(&mut files, "export", "recovered", chain.export());
    add(&mut files, "export", "recovered.plan", plan);
    add(&mut files, "export", "further", further.export());
    notes(&mut files, &world.chain);
    splits(&mut files);
    proofs(&mut files, &world.chain);
    files
}

/// A chain on which every kind of operation and step can take effect: a validator joins, a change waits to be approved, and a control
/// key to take the place of another.
fn further(mut chain: Chain) -> Chain {
    let joining = chain.decide(&["birch", "cedar", "dogwood"], governed::add_validator("fir", &joiner()));
    chain.until(joining);
    let keyed = |seq, key: SigningKey| SetConsent {
        handle: OTHER.to_vec(),
        ..with_key(set_consent("cedar", seq, 7), &key)
    };
    chain.step(vec![("cedar", op(keyed(0, patient())))]);
    let change = governed::propose(chain.next() + 9, governed::remove_validator("elm"));
    chain.step(vec![("cedar", op(keyed(1, phone()))), ("birch", change)]);
    chain
}

fn joiner() -> SigningKey {
    key(2, "vote", "fir")
}

fn phone() -> SigningKey {
    key(9, "control", "new phone")
}

/// Another subject of Cedar's.
const OTHER: Hash = [0x22; 32];

fn operations(chain: &Chain) -> Vec<(&'static str, &'static str, Operation)> {
    let (new, next) = (key(2, "any", "new"), chain.next());
    let waiting = cancel_sign_bytes(CHAIN, "cedar", &OTHER, 2, &public(&phone()));
    let cancelled = CancelReplacement {
        custodian: "cedar".into(),
        handle: OTHER.to_vec(),
        consent_seq: 2,
        patient_signature: sign(&patient(), &waiting).to_vec(),
    };
    let propose = |change| governed::propose(next + 6, change);
    let rotated = governed::rotate("cedar", KeyPurpose::Vote, &key(1, "vote", "cedar"), &new, next + 6);
    let precommit = |hash| evidence::vote(&key(1, "vote", "elm"), VoteType::Precommit, 3, 0, Some(hash));
    let proposal = |hash| evidence::proposal(&key(1, "vote", "elm"), 3, 0, None, hash);
    let mut plan = make_plan(&chain.tip, &["birch", "cedar"].map(str::to_owned), "fire");
    for name in ["birch", "cedar"] {
        sign_plan(CHAIN, &mut plan, name, &chain.entry_key(name));
    }
    let third = SetConsent { handle: vec![0x33; 32], ..set_consent("cedar", 0, 7) };
    vec![
        ("set-consent", "cedar", op(third)),
        ("set-consent-signed", "cedar", op(by_patient(set_consent("cedar", 1, 7), &patient()))),
        (
            "set-consent-new-key",
            "cedar",
            op(by_patient(with_key(set_consent("cedar", 1, 7), &new), &patient())),
        ),
        ("withdraw", "elm", op(withdraw("cedar", 0, &patient()))),
        ("record-access", "cedar", op(record_access("cedar", 1, 0, [8; 32]))),
        ("set-policy", "cedar", op(set_policy(0, 9))),
        ("cancel-replacement", "cedar", op(cancelled)),
        (
            "propose-rotate-validator",
            "birch",
            propose(governed::replace_key(chain, "elm", KeyPurpose::Vote, &new)),
        ),
        ("propose-add-organization", "birch", propose(governed::add_organization(&governed::record("gum")))),
        ("propose-remove-organization", "birch", propose(governed::remove_organization("elm", Some("fir")))),
        (
            "propose-replace-key",
            "birch",
            propose(governed::replace_key(chain, "elm", KeyPurpose::Entry, &new)),
        ),
        ("approve", "elm", governed::approve(governed::members(chain).last_proposal)),
        ("suspend", "birch", governed::suspend("elm")),
        ("addresses", "cedar", governed::addresses(7)),
        ("rotate", "cedar", governed::step(Step::RotateKey(rotated))),
        ("ready", "fir", governed::ready("fir", &joiner(), chain.tip.height)),
        (
            "evidence-votes",
            "birch",
            evidence::votes(CHAIN, &key(1, "vote", "elm"), &precommit(1), &precommit(2)),
        ),
        ("evidence-proposals", "birch", evidence::proposals(proposal(1), proposal(2))),
        ("recover", "birch", op(plan)),
    ]
}

fn evidence_file(chain: &Chain) -> Vec<u8> {
    let elm = chain.vote_key("elm");
    let vote = |hash| evidence::vote(&elm, VoteType::Prevote, 3, 0, Some(hash));
    let Some(Kind::ReportEvidence(report)) = evidence::votes(CHAIN, &elm, &vote(1), &vote(2)).kind else {
        unreachable!("another operation")
    };
    let (file, _) = make_evidence_file(&chain.genesis, &Default::default(), &[], &[], &report).unwrap();
    file.strip_prefix(EVIDENCE_MAGIC).unwrap().to_vec()
}

/// An export of a node that has no entries any more, with these plans of recoveries.
pub fn pruned(chain: &Chain, recovery: impl Fn(u64) -> Option<Recover>) -> Vec<u8> {
    let mut out = EXPORT_MAGIC.to_vec();
    write_record(&mut out, RecordKind::Genesis, &chain.file);
    for (height, block) in (1..).zip(&chain.blocks) {
        let Block { header, previous_certificate, entries } = Block::decode(block.as_slice()).unwrap();
        let leaf_hashes = entries.iter().map(|entry| tagged_leaf_hash(LEAF_ENTRY, entry).to_vec()).collect();
        let block = PrunedBlock { header, previous_certificate, leaf_hashes, recovery: recovery(height) };
        write_record(&mut out, RecordKind::Pruned, &block.encode_to_vec());
    }
    write_record(&mut out, RecordKind::Certificate, &chain.certificate);
    out
}

fn notes(files: &mut Files, chain: &Chain) {
    let (size, root) = (chain.tip.log.size(), chain.tip.log.root());
    let text = Checkpoint { origin: origin(CHAIN), size, root, extensions: Vec::new() }.text();
    let (mut note, mut keys) = (format!("{text}\n"), String::new());
    let vkey = |name: &str, kind, owner: &str| {
        VerifierKey::new(name, kind, public(&key(1, "checkpoint", owner))).unwrap().to_string() + "\n"
    };
    for owner in ["birch", "cedar"] {
        let name = format!("{owner}.{CHAIN}");
        note += &sign_note(&text, &name, &key(1, "checkpoint", owner)).unwrap();
        keys += &vkey(&name, KeyKind::Ed25519, owner);
    }
    add(files, "note", "checkpoint", &note);
    note += &cosign_note(&text, "witness.example", &key(1, "checkpoint", "witness"), 1_763_000_000).unwrap();
    keys += &vkey("witness.example", KeyKind::Cosignature, "witness");
    add(files, "note", "cosigned", note);
    add(files, "note", "keys", keys);
}

/// Of a log whose keys signed three checkpoints: two of one size, and a later one.
fn splits(files: &mut Files) {
    let text = |size, root| {
        Checkpoint { origin: origin(CHAIN), size, root: [root; 32], extensions: Vec::new() }.text()
    };
    let owned = |owner: &str| (format!("{owner}.{CHAIN}"), key(1, "checkpoint", owner));
    let note = |text: &str, owner| {
        let (name, key) = owned(owner);
        format!("{text}\n{}", sign_note(text, &name, &key).unwrap())
    };
    let [one, other, later] = [text(9, 7), text(9, 8), text(10, 9)];
    let (one_note, other_note) = (note(&one, "birch"), note(&other, "cedar"));
    let witness = cosign_note(&other, "witness.example", &key(1, "checkpoint", "witness"), 1_763_000_000);
    let cosigned = other_note.clone() + &witness.unwrap();
    let mut add_split = |name, root: u8, second: &str| {
        let file = make_split([(&[7; 32], &one_note), (&[root; 32], second)]);
        add(files, "split", name, file.strip_prefix(SPLIT_MAGIC).unwrap());
    };
    add_split("split", 8, &other_note);
    add_split("cosigned", 8, &cosigned);
    add_split("grown", 9, &note(&later, "birch"));
    let vkey = |name: &str, kind, owner| {
        VerifierKey::new(name, kind, public(&key(1, "checkpoint", owner))).unwrap().to_string() + "\n"
    };
    let names = ["birch", "cedar"].map(|owner| vkey(&owned(owner).0, KeyKind::Ed25519, owner));
    add(files, "split", "keys", names.concat() + &vkey("witness.example", KeyKind::Cosignature, "witness"));
}

fn proofs(files: &mut Files, chain: &Chain) {
    let (key, absent) = (slot_key(CHAIN, "cedar", &HANDLE), slot_key(CHAIN, "cedar", &[9; 32]));
    let value = slot(&chain.store, CHAIN, "cedar", &HANDLE).unwrap().unwrap().encode_to_vec();
    let prove = |key, value| tree::prove(&chain.store, chain.tip.state_version, key, value).unwrap();
    add(files, "proof", "root", chain.tip.state_root);
    add(files, "proof", "present", prove(&key, Some(&value)));
    add(files, "proof", "absent", prove(&absent, None));
    add(files, "proof", "key", key);
    add(files, "proof", "absent-key", absent);
    add(files, "proof", "value", value);
}

/// After a change of format: copy what the failed test left over `ledger/fuzz/good`, and run `ledger/fuzz/run.sh`.
#[test]
fn the_good_files_are_those_that_are_made_now() {
    let differs = good_files().into_iter().filter(|(name, bytes)| {
        let (folder, file) = name.split_once('/').unwrap();
        kept(&fuzz().join("good").join(folder)).get(file) != Some(bytes)
    });
    let out = std::env::temp_dir().join("assent-fuzz-good");
    let mut names = Vec::new();
    for (name, bytes) in differs {
        let path = out.join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        names.push(name);
    }
    assert!(names.is_empty(), "{names:?} differ: 'cp -r {}/. ledger/fuzz/good'", out.display());
}

#[test]
fn the_laws_hold_for_the_good_files_as_they_stand() {
    for (name, law) in laws::LAWS {
        for good in 1..=64 {
            eprintln!("{name}: good file {good}");
            law(&[good]);
        }
    }
}

#[test]
fn the_laws_hold_for_every_input_that_was_kept() {
    let mut bytes = 0;
    for (name, law) in laws::LAWS {
        let inputs = kept(&fuzz().join("corpus").join(name));
        assert!(inputs.len() >= 20, "{name}: {} inputs", inputs.len());
        for (file, input) in inputs {
            eprintln!("{name}: ledger/fuzz/corpus/{name}/{file}");
            bytes += input.len();
            law(&input);
        }
    }
    assert!(bytes <= MAX_CORPUS_BYTES, "{bytes} bytes are kept");
}

#[test]
fn the_good_entries_take_effect() {
    let chain = further(World::new().chain);
    for (name, author, operation) in operations(&chain) {
        let expected = if name == "recover" { "RECOVERY_NOT_AGREED" } else { "" };
        assert_eq!(chain.reason(author, operation), expected, "{name}");
    }
}
