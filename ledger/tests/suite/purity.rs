//! The ledger's answers must not depend on when, where or in which order it is asked.

use std::path::{Path, PathBuf};

const FORBIDDEN: &[&str] = &[
    "HashMap",
    "HashSet",
    "Instant::now",
    "SystemTime",
    "now_utc",
    "now_local",
    "OsRng",
    "thread_rng",
    "getrandom",
    "static mut",
    "thread_local",
    "RandomState",
];
const FORBIDDEN_STD: &[&str] = &["time", "fs", "net", "env", "process", "thread", "os"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            false => {}
        }
    }
}

/// What a source names that the ledger must not, comments aside.
fn faults(source: &str) -> Vec<String> {
    let code: String = source.lines().map(|l| l.split("//").next().unwrap_or("").to_owned() + "\n").collect();
    let mut found: Vec<String> =
        FORBIDDEN.iter().filter(|word| code.contains(**word)).map(|word| word.to_string()).collect();
    for (at, _) in code.match_indices("std::") {
        let rest = &code[at + 5..];
        // Either `std::fs` or a list `std::{collections::BTreeMap, fs}`.
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.split(';').next().unwrap_or("").split(['{', '}', ',']).collect(),
            None => vec![rest],
        };
        for name in names {
            let word: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if FORBIDDEN_STD.contains(&word.as_str()) {
                found.push(format!("std::{word}"));
            }
        }
    }
    found
}

#[test]
fn no_clock_file_network_or_unordered_map() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 15, "{} files", files.len());
    for file in files {
        let found = faults(&std::fs::read_to_string(&file).unwrap());
        assert!(found.is_empty(), "{}: {found:?}", file.display());
    }
}

#[test]
fn the_scan_finds_what_it_looks_for() {
    for bad in [
        "use std::collections::HashMap;",
        "let t = std::time::Instant::now();",
        "use std::{collections::BTreeMap, fs};",
        "std::env::var(\"X\")",
        "let now = OffsetDateTime::now_utc();",
    ] {
        assert!(!faults(bad).is_empty(), "{bad}");
    }
    assert!(
        faults("use std::collections::BTreeMap; // std::fs, HashMap\nlet x = time::Date::MIN;").is_empty()
    );
}

#[test]
fn clippy_is_told_too() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("clippy.toml")).unwrap();
    for word in ["HashMap", "HashSet", "Instant", "SystemTime", "std::fs", "std::net", "std::env"] {
        assert!(text.contains(word), "clippy.toml does not name {word}");
    }
}

/// ARCHITECTURE.md, Crates: the ledger reaches no runtime, no network stack and no database.
#[test]
fn no_runtime_network_or_database_is_reached() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-p", "assent-ledger", "-e", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("jmt"), "{tree}");
    for line in tree.lines() {
        let name = line.split(' ').next().unwrap_or("");
        let bad = ["tokio", "tonic", "rocksdb", "librocksdb-sys", "libp2p", "mio", "socket2", "hyper"]
            .contains(&name);
        assert!(!bad && !name.starts_with("libp2p-") && !name.starts_with("arc-malachitebft"), "{name}");
    }
}
