//! `assent proof`: each kind, what holds, what does not, and what is malformed.

use std::collections::BTreeMap;
use std::path::Path;

use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::log::{consistency_proof, empty_root, inclusion_proof, leaf_hash, root_of, LogRead};
use assent_ledger::tree::{prove, update, MemoryNodes};
use assent_ledger::Hash;

use crate::program::{assent, Run};

/// Complete subtrees of a log of seven leaves.
struct Log(Vec<Hash>);

impl LogRead for Log {
    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        let (width, start) = (1usize << level, (index as usize) << level);
        self.0.get(start..start + width).map(root_of)
    }
}

fn log() -> Log {
    Log((0..7u8).map(|n| leaf_hash(&[n])).collect())
}

fn list(path: &[Hash]) -> String {
    path.iter().map(hex::encode).collect::<Vec<_>>().join(",")
}

fn proof(kind: &str, flags: &[(&str, String)]) -> Run {
    let mut arguments = vec!["proof".to_owned(), kind.into(), "--output".into(), "json".into()];
    arguments.extend(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
    assent(&arguments)
}

/// The same flags with one of them changed.
fn with(flags: &[(&'static str, String)], flag: &str, value: &str) -> Vec<(&'static str, String)> {
    let mut changed = flags.to_vec();
    changed.iter_mut().find(|(name, _)| *name == flag).unwrap().1 = value.into();
    changed
}

fn holds(run: Run) {
    let said = run.exits(0).json();
    assert_eq!((said["holds"].as_bool(), said["reason"].as_str()), (Some(true), Some("")));
}

fn fails(run: Run) {
    let said = run.exits(3).json();
    assert!(said["holds"] == false && !said["reason"].as_str().unwrap().is_empty(), "{said}");
}

#[test]
fn inclusion() {
    let log = log();
    for size in 1..=7u64 {
        for index in 0..size {
            let path = inclusion_proof(&log, index, size).unwrap();
            let flags = [
                ("leaf-hash", hex::encode(log.0[index as usize])),
                ("index", index.to_string()),
                ("size", size.to_string()),
                ("root", hex::encode(root_of(&log.0[..size as usize]))),
                ("proof", list(&path)),
            ];
            holds(proof("inclusion", &flags));
            fails(proof("inclusion", &with(&flags, "leaf-hash", &"00".repeat(32))));
            fails(proof("inclusion", &with(&flags, "proof", &list(&[path.clone(), vec![[7; 32]]].concat()))));
            fails(proof("inclusion", &with(&flags, "index", &size.to_string())));
            if let Some((_, shorter)) = path.split_last() {
                fails(proof("inclusion", &with(&flags, "proof", &list(shorter))));
            }
        }
    }
    let flags = [
        ("leaf-hash", hex::encode(log.0[0]).to_uppercase()),
        ("index", "0".into()),
        ("size", "1".into()),
        ("root", hex::encode(log.0[0])),
        ("proof", String::new()),
    ];
    holds(proof("inclusion", &flags));
    fails(proof("inclusion", &with(&flags, "size", "0")));
    fails(proof(
        "inclusion",
        &with(&with(&flags, "size", &u64::MAX.to_string()), "index", "18446744073709551614"),
    ));
    for (flag, malformed) in [
        ("leaf-hash", "0x00"),
        ("leaf-hash", &"00".repeat(31)),
        ("root", &"zz".repeat(32)),
        ("index", "-1"),
        ("index", "+0"),
        ("index", " 0"),
        ("index", ""),
        ("size", "0x1"),
        ("size", "18446744073709551616"),
        ("proof", ","),
        ("proof", &format!("{},", "00".repeat(32))),
    ] {
        proof("inclusion", &with(&flags, flag, malformed)).exits(2);
    }
}

#[test]
fn consistency() {
    let log = log();
    let root = |size: u64| hex::encode(root_of(&log.0[..size as usize]));
    for new in 0..=7u64 {
        for old in 0..=new {
            let path = consistency_proof(&log, old, new).unwrap();
            let flags = [
                ("old-size", old.to_string()),
                ("new-size", new.to_string()),
                ("old-root", root(old)),
                ("new-root", root(new)),
                ("proof", list(&path)),
            ];
            holds(proof("consistency", &flags));
            fails(proof("consistency", &with(&flags, "old-root", &"00".repeat(32))));
            fails(proof("consistency", &with(&flags, "proof", &list(&[path, vec![[7; 32]]].concat()))));
            if old != new {
                fails(proof(
                    "consistency",
                    &with(&with(&flags, "old-size", &new.to_string()), "new-size", &old.to_string()),
                ));
            }
            if old != 0 {
                fails(proof("consistency", &with(&flags, "new-root", &"00".repeat(32))));
            }
        }
    }
    assert_eq!(root(0), hex::encode(empty_root()));
}

/// Five keys, as the published proof has them: key n is 32 bytes of n, its value "value n".
fn state() -> (Hash, MemoryNodes) {
    let changes: BTreeMap<Hash, Vec<u8>> = (1..=5u8).map(|n| ([n; 32], value(n))).collect();
    let mut nodes = MemoryNodes::default();
    let made = update(&nodes, 0, &changes).unwrap();
    let root = made.root;
    nodes.apply(made);
    (root, nodes)
}

fn value(n: u8) -> Vec<u8> {
    format!("value {n}").into_bytes()
}

#[test]
fn state_present_and_absent() {
    let (root, nodes) = state();
    // The published file and the root beside it (cli/README.md): whoever verifies state proofs can try their program on it.
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/state.proof");
    let made = prove(&nodes, 0, &[3; 32], Some(&value(3))).unwrap();
    assert_eq!(std::fs::read(&published).ok().as_ref(), Some(&made), "root {}", hex::encode(root));
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    assert!(page.contains(&hex::encode(root)), "cli/README.md must say the root {}", hex::encode(root));

    let flags = [
        ("root", hex::encode(root)),
        ("key", "03".repeat(32)),
        ("value", hex::encode(value(3))),
        ("proof", published.display().to_string()),
    ];
    holds(proof("state", &flags));
    fails(proof("state", &flags[..2].iter().cloned().chain([flags[3].clone()]).collect::<Vec<_>>()));
    fails(proof("state", &with(&flags, "value", "")));
    fails(proof("state", &with(&flags, "value", &hex::encode(value(4)))));
    fails(proof("state", &with(&flags, "key", &"04".repeat(32))));
    fails(proof("state", &with(&flags, "root", &"00".repeat(32))));

    let here = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = here.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let absent = prove(&nodes, 0, &[9; 32], None).unwrap();
    let flags = [("root", hex::encode(root)), ("key", "09".repeat(32)), ("proof", file("absent", &absent))];
    holds(proof("state", &flags));
    fails(proof("state", &[flags.to_vec(), vec![("value", "00".into())]].concat()));
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("cut", made[..made.len() - 1].to_vec()),
        ("surplus", [made.clone(), vec![0]].concat()),
        ("long", vec![0; 1 << 20]),
    ] {
        proof("state", &with(&flags, "proof", &file(name, &bytes))).exits(2);
    }
    proof("state", &with(&flags, "proof", "no such file")).exits(2);
    // Every bit of the published proof counts.
    for bit in 0..made.len() * 8 {
        let mut flipped = made.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!assent_ledger::tree::verify(&root, &[3; 32], Some(&value(3)), &flipped), "bit {bit}");
    }
}

#[test]
fn signatures_single_and_batch() {
    let key = SigningKey::from_bytes(&[9; 32]);
    let flags = [
        ("public-key", hex::encode(key.verifying_key().to_bytes())),
        ("message", hex::encode(b"yes")),
        ("signature", hex::encode(sign(&key, b"yes"))),
    ];
    // A point of small order, which ZIP-215 takes: identity as key and R, zero as S.
    let identity = "01".to_owned() + &"00".repeat(31);
    let small = [
        ("public-key", identity.clone()),
        ("message", String::new()),
        ("signature", identity + &"00".repeat(32)),
    ];
    for batch in [false, true] {
        let proof = |flags: &[(&'static str, String)]| {
            let mut arguments = vec!["proof".to_owned(), "signature".into(), "--output=json".into()];
            arguments.extend(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
            arguments.extend(batch.then(|| "--batch".to_owned()));
            assent(&arguments)
        };
        holds(proof(&flags));
        holds(proof(&small));
        fails(proof(&with(&flags, "message", &hex::encode(b"no"))));
        fails(proof(&with(&flags, "public-key", &"02".repeat(32))));
        // S + L, which names the same scalar.
        fails(proof(&with(
            &small,
            "signature",
            &("01".to_owned()
                + &"00".repeat(31)
                + "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010"),
        )));
        for (flag, malformed) in
            [("public-key", "00"), ("signature", &*"00".repeat(63)), ("message", "0"), ("message", "0xff")]
        {
            proof(&with(&flags, flag, malformed)).exits(2);
        }
    }
}
