//! A ledger that went through a recovery of a lost quorum: undecided until its reader says the plan's hash.

use crate::audit::without_entries;
use crate::chain::Chain;
use crate::node::Node;
use crate::program::assent;

struct Folder(tempfile::TempDir);

impl Folder {
    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Four blocks by four, and three by two: of these the first is the recovery.
fn recovered() -> (Folder, Chain, String) {
    let mut chain = Chain::new(1, [3; 32], None);
    let plan = chain.recover();
    chain.heartbeat();
    chain.heartbeat();
    (Folder(tempfile::tempdir().unwrap()), chain, plan)
}

#[test]
fn an_audit_waits_for_the_readers_word() {
    let (folder, chain, plan) = recovered();
    let (file, hash) = (folder.write("export", &chain.export().0), chain.genesis_hash());
    let verify =
        |more: &[&str]| assent(&[&["audit", "verify", &file, "--genesis-hash", &hash], more].concat());
    for level in ["full", "structural"] {
        let run = verify(&["--level", level]).exits(4);
        assert!(run.out.starts_with("not decided, a recovery needs your acceptance: "), "{run:?}");
        for part in ["heights verified  0 to 4", "first fault at height 5, entry 0: recovery", &plan] {
            assert!(run.out.contains(part), "{part}: {run:?}");
        }
        // Another plan's hash is no word about this one.
        verify(&["--level", level, "--accept-recovery", &hash]).exits(4);
        let json = verify(&["--level", level, "--output", "json"]).exits(4).json();
        assert_eq!(
            (&json["ok"], &json["to"], &json["fault"]["kind"]),
            (&false.into(), &4.into(), &"recovery".into())
        );
        let found = json["fault"]["found"].as_str().unwrap();
        assert!(
            found.contains(&format!("say --accept-recovery {plan} if its operators published it")),
            "{found}"
        );

        let accepted = ["--level", level, "--accept-recovery", &hash, "--accept-recovery", &plan];
        let run = verify(&accepted).exits(0);
        assert!(run.out.contains("RECOVERY of a lost quorum, NOT certified by the set before"), "{run:?}");
        let json = verify(&[accepted.as_slice(), &["--output", "json"]].concat()).exits(0).json();
        let recovery = &json["recoveries"][0];
        assert_eq!((&recovery["height"], &recovery["plan"]), (&5.into(), &plan.as_str().into()));
        assert_eq!(recovery["removed"], serde_json::json!(["dogwood", "elm"]));
        assert_eq!(json["to"], 7);
    }
    let run = verify(&["--accept-recovery", "00"]).exits(2);
    assert!(run.err.contains("not the hash of a plan: 64 hex digits"), "{run:?}");
}

#[test]
fn an_export_without_its_entries_is_audited_by_its_plan() {
    let (folder, chain, plan) = recovered();
    let (export, spans) = chain.export();
    let span = spans.iter().find(|span| span.height == 5).unwrap();
    let (file, hash) = (folder.write("export", &without_entries(&export, span)), chain.genesis_hash());
    let verify = |more: &[&str]| {
        let asked = ["audit", "verify", &file, "--genesis-hash", &hash, "--output", "json"];
        assent(&[&asked[..], more].concat())
    };
    for level in ["full", "structural"] {
        let json = verify(&["--level", level]).exits(4).json();
        assert_eq!((&json["to"], &json["fault"]["kind"]), (&4.into(), &"recovery".into()), "{level}");
    }
    let accepted = ["--accept-recovery", &plan, "--level"];
    let json = verify(&[&accepted[..], &["structural"]].concat()).exits(0).json();
    assert_eq!((&json["to"], &json["recoveries"][0]["plan"]), (&7.into(), &plan.as_str().into()));
    let json = verify(&[&accepted[..], &["full"]].concat()).exits(4).json();
    assert_eq!((&json["fault"], &json["level"]), (&serde_json::Value::Null, &"structural".into()));
}

#[test]
fn a_receipt_from_behind_it_waits_for_the_same_word() {
    let (folder, chain, plan) = recovered();
    let hash = chain.genesis_hash();
    // The access is of a block before.
    for (kind, bytes) in chain.receipt_files().into_iter().filter(|(kind, _)| *kind != "access") {
        let file = folder.write(kind, &bytes);
        let verify = |more: &[&str]| assent(&[&["verify", &file, "--genesis-hash", &hash], more].concat());
        let run = verify(&[]).exits(4);
        for part in [
            "RECOVERY_NOT_ACCEPTED",
            "not decided",
            "dogwood, elm",
            "fire in",
            &format!("--accept-recovery {plan}"),
        ] {
            assert!(run.err.contains(part), "{kind}: {part}: {run:?}");
        }
        verify(&["--accept-recovery", &hash]).exits(4);
        let json = verify(&["--output", "json"]).exits(4).json();
        assert_eq!(json["error"]["reason"], "RECOVERY_NOT_ACCEPTED");
        let run = verify(&["--accept-recovery", &plan]).exits(0);
        assert!(run.out.contains("stands on a RECOVERY of a lost quorum, NOT certified"), "{kind}: {run:?}");
        assert!(run.out.contains("- that those whom a recovery left out agreed to it"), "{kind}: {run:?}");
        let json = verify(&["--accept-recovery", &plan, "--output", "json"]).exits(0).json();
        assert_eq!(
            (&json["set_changes"], &json["recoveries"][0]["plan"]),
            (&1.into(), &plan.as_str().into())
        );
        // Bytes that are wrong stay wrong.
        let mut bad = bytes;
        *bad.last_mut().unwrap() ^= 1;
        let file = folder.write(kind, &bad);
        assent(&["verify", &file, "--genesis-hash", &hash, "--accept-recovery", &plan]).exits(3);
    }
}

#[test]
fn a_receipt_that_waits_for_it_is_not_written() {
    let (_, chain, plan) = recovered();
    let node = Node::start();
    let (hash, out, handle) = (chain.genesis_hash(), node.text("receipt"), hex::encode([3; 32]));
    let body = chain.receipt_files()[0].1[8..].to_vec();
    node.told.set(|script| script.receipt = body);
    let asked = [
        "receipt",
        "slot",
        "--custodian",
        "cedar",
        "--handle",
        &handle,
        "--out",
        &out,
        "--genesis-hash",
        &hash,
    ];
    let run = node.crm(&asked).exits(4);
    assert!(run.err.contains("RECOVERY_NOT_ACCEPTED"), "{run:?}");
    assert!(!node.path("receipt").exists());
    node.crm(&[asked.as_slice(), &["--accept-recovery", &plan]].concat()).exits(0);
    assent(&["verify", &out, "--genesis-hash", &hash, "--accept-recovery", &plan]).exits(0);
}

#[test]
fn evidence_is_looked_for_behind_it_and_those_who_remain_are_not_convicted() {
    let (folder, mut chain, plan) = recovered();
    let hash = chain.genesis_hash();
    let anchor = ["--genesis-hash", hash.as_str()];
    let accept = ["--accept-recovery", plan.as_str()];
    // Birch contradicts itself behind it: that stands.
    assert!(chain.report(chain.contradiction(0, 6)));
    let file = folder.write("export", &chain.export().0);
    let list = |more: &[&str]| {
        assent(&[&["audit", "evidence", &file, "--output", "json"], &anchor[..], more].concat())
    };
    let json = list(&[]).exits(4).json();
    assert_eq!((&json["fault"]["kind"], &json["evidence"]), (&"recovery".into(), &serde_json::json!([])));
    let out = folder.0.path().join("pieces").to_str().unwrap().to_owned();
    let json = list(&[&accept[..], &["--out", &out]].concat()).exits(0).json();
    assert_eq!(json["files"], serde_json::json!(["birch-6-3-precommits.evidence"]));
    // A key of genesis: its file needs no recovery. What it can't rule out it says.
    let piece = format!("{out}/birch-6-3-precommits.evidence");
    let run = assent(&["verify", &piece, "--genesis-hash", &hash]).exits(0);
    assert!(run.out.contains("Not so if a recovery of a lost quorum lies right before block 6"), "{run:?}");
    // The old set's own block of that height, in the same round: all four signed it, two of them again.
    let mut other = Chain::new(1, [3; 32], None);
    other.branch("Dr Elder", &[0, 1, 2, 3], 0);
    let other = folder.write("other", &other.export().0);
    let compare = |more: &[&str]| {
        assent(&[&["audit", "evidence", "--compare", &file, &other], &anchor[..], more].concat())
    };
    let run = compare(&[]).exits(4);
    assert!(run.out.starts_with("not decided, a recovery needs your acceptance"), "{run:?}");
    for sides in [[&file, &other], [&other, &file]] {
        let asked = ["audit", "evidence", "--compare", sides[0], sides[1]];
        let run = assent(&[&asked[..], &anchor, &accept].concat()).exits(3);
        for part in ["FORK at height 5", "signed both  birch, cedar", "that convicts nobody"] {
            assert!(run.out.contains(part), "{part}: {run:?}");
        }
        assert!(!run.out.contains("signed two"), "{run:?}");
    }
}

/// Birch voted at the recovered height in both sets, as the plan asked of it. Whoever makes a file by hand leaves the recovery out:
/// the two signatures are there, what they mean depends on it.
#[test]
fn a_file_that_leaves_the_recovery_out_says_on_what_it_depends() {
    let (folder, chain, _) = recovered();
    let hash = chain.genesis_hash();
    let file = folder.write("handmade", &chain.evidence_file(0, 5));
    let verify = |more: &[&str]| assent(&[&["verify", &file, "--genesis-hash", &hash], more].concat());
    let run = verify(&[]).exits(0);
    for part in ["birch signed two precommits of block 5", "Not so if a recovery", "right before block 5"] {
        assert!(run.out.contains(part), "{part}: {run:?}");
    }
    let json = verify(&["--output", "json"]).exits(0).json();
    assert_eq!((&json["one_set"], &json["organization"]), (&false.into(), &"birch".into()));
}
