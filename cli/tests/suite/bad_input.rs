//! Files that are too deep or too large: rows of `testnet/BAD_INPUT.md` that no other file has. None of them needs a node.

use std::io::Write;
use std::path::{Path, PathBuf};

use assent_ledger::receipts::{BUNDLE_MAGIC, MAX_BUNDLE_BYTES};

use crate::program::{assent, Run};

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

const PATIENT: [&str; 6] = ["--custodian", "cedar", "--identifier", "urn:x|1", "--birth-date", "2000-02-29"];

fn reason(run: Run) -> String {
    let json = run.exits(2).json();
    json["error"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn json_nested_10_000_deep_is_a_usage_error_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let lone = write(folder.path(), "lone.json", &deep);
    let inside = |start: &str| write(folder.path(), "inside.json", &format!("{start}{deep}}}"));
    let run = |arguments: &[&str], file: &Path| {
        assent(&[arguments, &[file.to_str().unwrap(), "--output", "json"]].concat())
    };
    let policy = inside(r#"{"id":"p","version":1,"rules":"#);
    let import = [&["consent", "import"], &PATIENT[..]].concat();
    let genesis =
        ["genesis", "--chain-id", "net-1", "--out", folder.path().join("genesis.bin").to_str().unwrap()]
            .map(str::to_owned);
    let genesis: Vec<&str> = genesis.iter().map(String::as_str).collect();
    for file in [&lone, &policy] {
        assert_eq!(reason(run(&["policy", "set"], file)), "MALFORMED_JSON");
        assert_eq!(reason(run(&import, file)), "MALFORMED_JSON");
        run(&["wallet", "show"], file).exits(2);
        run(&genesis, file).exits(2);
    }
    let resource = inside(r#"{"resourceType":"Patient","id":"p","extension":"#);
    assert_eq!(reason(run(&["records", "load"], &resource)), "MALFORMED_RECORDS");
    assert!(!folder.path().join("genesis.bin").exists());
}

#[test]
fn oversized_files_are_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    // Holes: no byte of them is on the disk.
    let sparse = |name: &str, start: &[u8], len: u64| {
        let path = folder.path().join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(start).unwrap();
        file.set_len(len).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let document = sparse("document", b"{", (128 << 10) + 1);
    let json = ["--output", "json"];
    assert_eq!(reason(assent(&[&["policy", "set", &document][..], &json].concat())), "TOO_LARGE");
    let import = [&["consent", "import", &document], &PATIENT[..], &json].concat();
    assert_eq!(reason(assent(&import)), "TOO_LARGE");
    let records = sparse("records", b"{", (2 << 20) + 1);
    assert_eq!(reason(assent(&[&["records", "load", &records][..], &json].concat())), "MALFORMED_RECORDS");
    // What a verifier is given is judged, not read: exit 3.
    let bundle = sparse("bundle", BUNDLE_MAGIC, MAX_BUNDLE_BYTES as u64 + 100);
    let run = assent(&["verify", &bundle, "--genesis-hash", &"0".repeat(64)]).exits(3);
    assert!(run.err.contains("the file has more than"), "{run:?}");
}
