//! `assent wallet`: the patient's control keys.

use std::os::unix::fs::PermissionsExt;

use crate::program::{assent, assent_with};

#[test]
fn a_wallet_is_private_and_has_a_key_of_its_own_for_each_custodian() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.json");
    let file = path.to_str().unwrap();
    assent(&["wallet", "create", "--out", file, "--chain-id", "testnet-cli"]).exits(0);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let key = |custodian: &str| {
        let json =
            assent(&["wallet", "show", file, "--custodian", custodian, "--output", "json"]).exits(0).json();
        json["control_key"].as_str().unwrap().to_owned()
    };
    assert_eq!(key("cedar").len(), 64);
    assert_eq!(key("cedar"), key("cedar"));
    assert_ne!(key("cedar"), key("birch"));

    let handle = "ab".repeat(32);
    assent(&["wallet", "add", file, "--custodian", "cedar", "--handle", &handle]).exits(0);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let run = assent(&["wallet", "show", file, "--output", "json"]).exits(0);
    let json = run.json();
    assert_eq!(json["custodians"][0]["handle"], handle);
    assert_eq!(json["chain_id"], "testnet-cli");
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(!run.out.contains(stored["seed"].as_str().unwrap()), "the seed is never printed");

    // The same handle again is fine, another one is not.
    assent(&["wallet", "add", file, "--custodian", "cedar", "--handle", &handle]).exits(0);
    assent(&["wallet", "add", file, "--custodian", "cedar", "--handle", &"cd".repeat(32)]).exits(1);
    assent(&["wallet", "add", file, "--custodian", "cedar", "--handle", "ab"]).exits(2);
    assent(&["wallet", "add", file, "--custodian", "birch", "--handle", &handle, "--chain-id", "other"])
        .exits(2);
}

#[test]
fn a_wallet_is_never_overwritten_and_a_broken_one_is_refused_without_telling_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.json");
    let file = path.to_str().unwrap();
    assent(&["wallet", "create", "--out", file]).exits(0);
    let before = std::fs::read(&path).unwrap();
    let run = assent(&["wallet", "create", "--out", file]).exits(1);
    assert!(run.err.contains("exists already"), "{run:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    for broken in ["", "{}", r#"{"version":2,"seed":"secret"}"#, r#"{"version":1,"seed":"secret"}"#] {
        std::fs::write(&path, broken).unwrap();
        let run = assent(&["wallet", "show", file]).exits(2);
        assert!(!run.err.contains("secret") && !run.out.contains("secret"), "{run:?}");
    }
}

#[test]
fn withdrawing_says_what_is_missing_before_it_asks_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.json");
    let file = path.to_str().unwrap();
    assent(&["wallet", "create", "--out", file]).exits(0);
    let run =
        assent(&["withdraw", "--wallet", file, "--custodian", "cedar", "--ca", "/nonexistent"]).exits(6);
    assert!(run.err.contains("wallet add"), "{run:?}");
    assent(&["wallet", "add", file, "--custodian", "cedar", "--handle", &"ab".repeat(32)]).exits(0);
    let run =
        assent(&["withdraw", "--wallet", file, "--custodian", "cedar", "--ca", "/nonexistent"]).exits(2);
    assert!(run.err.contains("--chain-id"), "{run:?}");
    let environment = [("ASSENT_CHAIN_ID", "testnet-cli")];
    let run = assent_with(&environment, &["withdraw", "--wallet", file, "--custodian", "cedar"]).exits(2);
    assert!(run.err.contains("--ca"), "{run:?}");
}
