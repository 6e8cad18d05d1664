//! `assent verify`: bundles and histories offline.

use std::path::PathBuf;

use crate::chain::Chain;
use crate::program::{assent, assent_with, Run};

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

    fn verify(&self, bytes: &[u8], genesis_hash: &str) -> Run {
        let path = self.write(bytes);
        assent(&["verify", path.to_str().unwrap(), "--genesis-hash", genesis_hash, "--output", "json"])
    }
}

fn chain() -> Chain {
    Chain::new(1, [3; 32], None)
}

#[test]
fn a_good_bundle_holds_and_says_what_it_shows() {
    let (folder, chain) = (Folder::new(), chain());
    let json = folder.verify(&chain.bundle(), &chain.genesis_hash()).exits(0).json();
    assert_eq!(json["ok"], true);
    assert_eq!(json["resources"], 2);
    let access = &json["access"];
    assert_eq!((&access["custodian"], &access["recipient"]), (&"cedar".into(), &"birch".into()));
    assert_eq!(
        (&access["purpose"], &access["actor"], &access["height"]),
        (&"TREAT".into(), &"Dr Beech".into(), &4.into())
    );
}

#[test]
fn every_single_flipped_byte_of_a_bundle_is_found() {
    let (folder, chain) = (Folder::new(), chain());
    let good = chain.bundle();
    let hash = chain.genesis_hash();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let run = folder.verify(&bad, &hash);
        assert_eq!(run.exit, 3, "byte {at} of {}: {run:?}", good.len());
        assert_eq!(run.json()["ok"], false);
    }
}

#[test]
fn flipped_bytes_of_a_history_are_found() {
    let (folder, chain) = (Folder::new(), chain());
    let good = chain.history_file(2);
    let hash = chain.genesis_hash();
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        let run = folder.verify(&bad, &hash);
        assert_eq!(run.exit, 3, "byte {at} of {}: {run:?}", good.len());
    }
}

#[test]
fn a_history_shows_all_accesses_or_does_not_hold() {
    let (folder, chain) = (Folder::new(), chain());
    let json = folder.verify(&chain.history_file(2), &chain.genesis_hash()).exits(0).json();
    assert_eq!((&json["kind"], &json["n"]), (&"history".into(), &2.into()));
    assert_eq!(json["accesses"][0]["actor"], "Dr Ash");
    assert_eq!(json["accesses"][1]["n"], 2);
    for left in [0, 1] {
        folder.verify(&chain.history_file(left), &chain.genesis_hash()).exits(3);
    }
}

#[test]
fn truncated_joined_and_foreign_files_do_not_hold() {
    let (folder, chain) = (Folder::new(), chain());
    let (bundle, hash) = (chain.bundle(), chain.genesis_hash());
    for len in [0, 1, 7, 8, 9, bundle.len() / 2, bundle.len() - 1] {
        folder.verify(&bundle[..len], &hash).exits(3);
    }
    folder.verify(&[bundle.clone(), bundle.clone()].concat(), &hash).exits(3);
    folder.verify(&[bundle.as_slice(), b"\0"].concat(), &hash).exits(3);
    folder.verify(b"{\"resourceType\":\"Bundle\"}", &hash).exits(3);
    let run = folder.verify(&chain.export().0, &hash).exits(3);
    assert!(run.err.contains("assent audit verify"), "{run:?}");
}

#[test]
fn another_genesis_or_none() {
    let (folder, chain) = (Folder::new(), chain());
    let other = Chain::new(2, [3; 32], None);
    for file in [chain.bundle(), chain.history_file(2)] {
        folder.verify(&file, &other.genesis_hash()).exits(3);
        folder.verify(&file, &"0".repeat(64)).exits(3);
        let path = folder.write(&file);
        let run = assent(&["verify", path.to_str().unwrap()]).exits(4);
        assert!(run.out.starts_with("consistent, not anchored"), "{run:?}");
        assert!(run.out.contains(&chain.genesis_hash()));
        let json = assent(&["verify", path.to_str().unwrap(), "--output", "json"]).exits(4).json();
        assert_eq!((&json["ok"], &json["anchored"]), (&false.into(), &false.into()));
        // Without an anchor a broken file is still a broken file.
        let mut bad = file.clone();
        let last = bad.len() - 1;
        bad[last] ^= 1;
        assent(&["verify", folder.write(&bad).to_str().unwrap()]).exits(3);
    }
}

#[test]
fn the_anchor_comes_from_flag_then_environment_then_profile() {
    let (folder, chain) = (Folder::new(), chain());
    let path = folder.write(&chain.bundle());
    let (path, good, bad) = (path.to_str().unwrap(), chain.genesis_hash(), "1".repeat(64));
    let profile = folder.0.path().join("profile.toml");
    let profile_path = profile.to_str().unwrap();
    std::fs::write(&profile, format!("genesis_hash = \"{good}\"\n")).unwrap();
    assent(&["verify", path, "--profile", profile_path]).exits(0);
    assent_with(&[("ASSENT_GENESIS_HASH", &bad)], &["verify", path, "--profile", profile_path]).exits(3);
    assent_with(&[("ASSENT_GENESIS_HASH", &bad)], &["verify", path, "--genesis-hash", &good]).exits(0);
    std::fs::write(&profile, "genesis_hsah = \"\"\n").unwrap();
    let run = assent(&["verify", path, "--profile", profile_path]).exits(2);
    assert!(run.err.contains("genesis_hsah"), "{run:?}");
}

#[test]
fn paths_and_anchors_are_usage_errors() {
    let (folder, chain) = (Folder::new(), chain());
    assent(&["verify", "/nonexistent/file", "--genesis-hash", &chain.genesis_hash()]).exits(2);
    assent(&["verify", folder.0.path().to_str().unwrap(), "--genesis-hash", &chain.genesis_hash()]).exits(2);
    let path = folder.write(&chain.bundle());
    let path = path.to_str().unwrap();
    for hash in ["", "12", "0x00", &"g".repeat(64), &"0".repeat(66)] {
        assent(&["verify", path, "--genesis-hash", hash]).exits(2);
    }
    let run = assent(&["verify", path, "--checkpoint", path]).exits(2);
    assert!(run.err.contains("malformed"), "{run:?}");
}
