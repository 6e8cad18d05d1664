//! Validators that contradict themselves: forks of two exports, what a ledger has, and evidence files.

use std::path::PathBuf;

use assent_ledger::conviction::EVIDENCE_MAGIC;
use serde_json::{json, Value};

use crate::chain::{Chain, CHAIN};
use crate::program::{assent, Run};

const ELM: usize = 3;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn verify(&self, bytes: &[u8], genesis_hash: &str) -> Run {
        let path = self.write("file", bytes);
        assent(&["verify", &path, "--genesis-hash", genesis_hash, "--output", "json"])
    }
}

fn chain() -> Chain {
    Chain::new(1, [3; 32], None)
}

/// Two branches from height 5 on: who certifies each, in which round.
pub fn fork(left: (&[usize], u32), right: (&[usize], u32)) -> [Chain; 2] {
    [("Dr Ash", left), ("Dr Elder", right)].map(|(actor, (signers, round))| {
        let mut chain = chain();
        chain.branch(actor, signers, round);
        chain
    })
}

#[test]
fn an_evidence_file_says_who_did_what_and_when() {
    let (folder, chain) = (Folder::new(), chain());
    let file = chain.evidence_file(ELM, 7);
    let json = folder.verify(&file, &chain.genesis_hash()).exits(0).json();
    assert_eq!(
        (&json["ok"], &json["kind"], &json["offence"]),
        (&true.into(), &"evidence".into(), &"precommits".into())
    );
    assert_eq!(
        (&json["organization"], &json["height"], &json["round"]),
        (&"elm".into(), &7.into(), &3.into())
    );
    assert_eq!((&json["chain_id"], &json["key_from"]), (&CHAIN.into(), &1.into()));
    assert_eq!(json["first"], "01".repeat(32));
    let path = folder.path("file");
    let text = assent(&["verify", &path, "--genesis-hash", &chain.genesis_hash()]).exits(0);
    assert!(
        text.out.starts_with("holds: the validator of elm signed two precommits of block 7, round 3\n"),
        "{text:?}"
    );
    // Anybody can make a network in which somebody lies.
    let text = assent(&["verify", &path]).exits(4);
    assert!(text.out.starts_with("consistent, not anchored: ") && text.out.contains(&chain.genesis_hash()));
    folder.verify(&file, &Chain::new(2, [3; 32], None).genesis_hash()).exits(3);
}

#[test]
fn every_single_flipped_byte_of_evidence_is_found() {
    let (folder, chain) = (Folder::new(), chain());
    let (file, hash) = (chain.evidence_file(ELM, 7), chain.genesis_hash());
    let genesis = chain.export().1[1].bytes.len();
    for at in 0..file.len() {
        // Genesis' bytes are found alike, for the hash is over all of them.
        if (40..genesis).contains(&at) && at % 5 != 0 {
            continue;
        }
        let mut bad = file.clone();
        bad[at] ^= 1 << (at % 8);
        let run = folder.verify(&bad, &hash);
        assert_eq!(run.exit, 3, "byte {at} of {}: {run:?}", file.len());
    }
    for len in [0, 7, 8, 9, file.len() / 2, file.len() - 1] {
        folder.verify(&file[..len], &hash).exits(3);
    }
    folder.verify(&[file.as_slice(), b"\0"].concat(), &hash).exits(3);
    folder.verify(&[file.as_slice(), &file[8..]].concat(), &hash).exits(3);
}

/// A hole of a hundred megabytes takes no time to refuse.
#[test]
fn an_evidence_file_of_100_mb_is_refused_by_its_size() {
    let (folder, chain) = (Folder::new(), chain());
    let path = folder.write("large", EVIDENCE_MAGIC);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100 << 20).unwrap();
    let run = assent(&["verify", &path, "--genesis-hash", &chain.genesis_hash()]).exits(3);
    assert!(run.err.contains("the file has more than 16777224 bytes"), "{run:?}");
}

fn compare(folder: &Folder, chains: &[Chain; 2], more: &[&str]) -> Run {
    let [one, other] = chains;
    let (a, b) = (folder.write("a", &one.export().0), folder.write("b", &other.export().0));
    let mut arguments = vec!["audit", "evidence", "--compare", &a, &b];
    arguments.extend(more);
    assent(&arguments)
}

#[test]
fn two_that_sign_both_sides_of_a_fork_are_convicted() {
    let folder = Folder::new();
    let chains = fork((&[0, 1, 2], 0), (&[1, 2, 3], 0));
    let (hash, out) = (chains[0].genesis_hash(), folder.path("evidence"));
    for chain in &chains {
        let export = folder.write("side", &chain.export().0);
        assent(&["audit", "verify", &export, "--genesis-hash", &hash]).exits(0);
    }
    let json = compare(&folder, &chains, &["--genesis-hash", &hash, "--output", "json"]).exits(3).json();
    assert_eq!((&json["fork"]["height"], &json["fork"]["same_round"]), (&5.into(), &true.into()));
    assert_eq!(json["fork"]["signed_both"], json!(["cedar", "dogwood"]));
    let named: Vec<&Value> =
        json["evidence"].as_array().unwrap().iter().map(|e| &e["organization"]).collect();
    assert!(named.len() == 2 && named.contains(&&"cedar".into()) && named.contains(&&"dogwood".into()));

    let run = compare(&folder, &chains, &["--genesis-hash", &hash, "--out", &out]).exits(3);
    assert!(run.out.starts_with("FORK at height 5: "), "{run:?}");
    assert!(run.out.contains("cedar signed two precommits of block 5, round 0"), "{run:?}");
    for who in ["cedar", "dogwood"] {
        let file = PathBuf::from(&out).join(format!("{who}-5-0-precommits.evidence"));
        // Both headers are shown, of one set: that convicts whether there was a recovery or not.
        let run = assent(&["verify", file.to_str().unwrap(), "--genesis-hash", &hash]).exits(0);
        assert!(!run.out.contains("recovery"), "{run:?}");
        assert!(
            run.out.contains(&format!("the validator of {who} signed two precommits of block 5")),
            "{run:?}"
        );
    }
    // Nothing is overwritten.
    compare(&folder, &chains, &["--genesis-hash", &hash, "--out", &out]).exits(1);
    // Without an anchor it is the fork of some network.
    compare(&folder, &chains, &[]).exits(4);
}

#[test]
fn later_blocks_convict_where_the_fork_itself_does_not() {
    let folder = Folder::new();
    let mut chains = fork((&[0, 1, 2], 0), (&[1, 2, 3], 1));
    let hash = chains[0].genesis_hash();
    let flags = ["--genesis-hash", &hash, "--output", "json"];
    let json = compare(&folder, &chains, &flags).exits(3).json();
    assert_eq!((&json["fork"]["same_round"], &json["evidence"]), (&false.into(), &json!([])));
    assert_eq!(json["fork"]["signed_both"], json!(["cedar", "dogwood"]));
    let text = compare(&folder, &chains, &flags[..2]).exits(3);
    assert!(text.out.contains("different rounds") && text.out.contains("consensus logs"), "{text:?}");
    // They go on, each on its side.
    for chain in &mut chains {
        chain.branch("Dr Oak", &[0, 1, 2], 0);
    }
    let json = compare(&folder, &chains, &flags).exits(3).json();
    assert_eq!(json["fork"]["height"], 5);
    let pieces = json["evidence"].as_array().unwrap();
    assert!(pieces.len() == 3 && pieces.iter().all(|piece| piece["height"] == 6), "{json}");
}

#[test]
fn exports_that_agree_or_do_not_hold_are_no_fork() {
    let folder = Folder::new();
    let longer = || {
        let mut longer = chain();
        longer.branch("Dr Ash", &[0, 1, 3], 2);
        longer
    };
    let hash = chain().genesis_hash();
    let flags = ["--genesis-hash", hash.as_str(), "--output", "json"];
    let json = compare(&folder, &[chain(), longer()], &flags).exits(0).json();
    assert_eq!((&json["ok"], &json["alike_to"], &json["fork"]), (&true.into(), &4.into(), &Value::Null));
    // The same block, certified by others: no fork.
    let chains = [(&[0, 1, 2], 0), (&[1, 2, 3], 1)].map(|(signers, round): (&[usize; 3], u32)| {
        let mut chain = chain();
        chain.branch("Dr Ash", signers, round);
        chain
    });
    assert_eq!(compare(&folder, &chains, &flags).exits(0).json()["alike_to"], 5);
    compare(&folder, &chains, &[]).exits(4);
    // Another network, and damage before anything differs.
    let run = compare(&folder, &[chain(), Chain::new(2, [3; 32], None)], &[]).exits(3);
    assert!(run.err.contains("OTHER_NETWORK"), "{run:?}");
    compare(&folder, &[chain(), Chain::new(2, [3; 32], None)], &flags).exits(3);
    let (good, spans) = longer().export();
    let mut bad = good.clone();
    bad[spans[3].bytes.start + 20] ^= 1;
    let (a, b) = (folder.write("a", &good), folder.write("b", &bad));
    let arguments = ["audit", "evidence", "--compare", &a, &b, "--genesis-hash", &hash, "--output", "json"];
    let json = assent(&arguments).exits(3).json();
    assert_eq!((&json["fork"], &json["fault"]["height"]), (&Value::Null, &2.into()));
    assent(&["audit", "evidence", "--compare", &a]).exits(2);
    assent(&["audit", "evidence", "--compare", &a, "/nonexistent"]).exits(2);
    assent(&["audit", "evidence", &a, "--compare", &a, &b]).exits(2);
    assent(&["audit", "evidence"]).exits(2);
}

/// Behind the fork a liar's export may hold whatever it likes: what was found before counts.
#[test]
fn a_branch_that_breaks_off_behind_the_fork_still_convicts() {
    let folder = Folder::new();
    let mut chains = fork((&[0, 1, 2], 0), (&[1, 2, 3], 0));
    let hash = chains[0].genesis_hash();
    for chain in &mut chains {
        chain.branch("Dr Oak", &[0, 1, 2], 0);
    }
    let (mut bad, spans) = chains[1].export();
    bad[spans[7].bytes.end - 9] ^= 1;
    let (a, b) = (folder.write("a", &chains[0].export().0), folder.write("b", &bad));
    let run = assent(&["audit", "evidence", "--compare", &a, &b, "--genesis-hash", &hash]).exits(3);
    assert!(
        run.out.starts_with("FORK at height 5") && run.out.contains("dogwood signed two precommits"),
        "{run:?}"
    );
    assert!(run.out.contains("was not searched further"), "{run:?}");
}

#[test]
fn evidence_on_the_ledger_is_listed_and_written_as_files() {
    let (folder, mut chain) = (Folder::new(), chain());
    let hash = chain.genesis_hash();
    let flags = ["--genesis-hash", &hash, "--output", "json"];
    let list = |chain: &Chain, more: &[&str]| {
        let export = folder.write("export", &chain.export().0);
        assent(&[&["audit", "evidence", &export], more].concat())
    };
    let json = list(&chain, &flags).exits(0).json();
    assert_eq!((&json["ok"], &json["to"], &json["evidence"]), (&true.into(), &4.into(), &json!([])));
    let text = list(&chain, &[]).exits(4);
    assert!(
        text.out.starts_with("consistent, not anchored: up to height 4, 0 pieces of evidence"),
        "{text:?}"
    );
    let evidence = chain.contradiction(ELM, 2);
    if !chain.report(evidence) {
        return;
    }
    let out = folder.path("found");
    let json = list(&chain, &[&flags[..], &["--out", &out]].concat()).exits(0).json();
    let piece = &json["evidence"][0];
    assert_eq!((&piece["organization"], &piece["reported_by"]), (&"elm".into(), &"cedar".into()));
    assert_eq!((&piece["height"], &piece["reported_height"]), (&2.into(), &5.into()));
    let file = PathBuf::from(&out).join("elm-2-3-precommits.evidence");
    assert_eq!(std::fs::read(&file).unwrap(), chain.evidence_file(ELM, 2));
    assent(&["verify", file.to_str().unwrap(), "--genesis-hash", &hash]).exits(0);
    let text = list(&chain, &["--genesis-hash", &hash]).exits(0);
    assert!(text.out.contains("elm signed two precommits of block 2, round 3; reported by cedar in block 5"));
    // What does not hold shows nothing.
    let (mut bad, _) = chain.export();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    let export = folder.write("bad", &bad);
    let json = assent(&[&["audit", "evidence", export.as_str()], &flags[..]].concat()).exits(3).json();
    assert_eq!((&json["evidence"], &json["ok"]), (&json!([]), &false.into()));
}
