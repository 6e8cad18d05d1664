//! `BAD_INPUT.md`: the check of its tests' names finds what it looks for, and every reason to refuse FHIR has a row.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What bad_input.sh says of a log and a table.
fn checked(log: &str, table: &str) -> Result<(), String> {
    let here = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = here.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (log, table) = (write("log", log), write("table", table));
    let output = Command::new(folder().join("bad_input.sh")).args([log, table]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    if output.status.success() {
        assert_eq!(said, "");
        return Ok(());
    }
    Err(said)
}

#[test]
fn a_row_whose_test_did_not_run_and_pass_is_found() {
    let table = std::fs::read_to_string(folder().join("BAD_INPUT.md")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| bad input "));
    let last = rows.filter_map(|row| row.rsplit('|').nth(1));
    let names: BTreeSet<&str> = last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(names.len() > 50, "{names:?}");
    let log_of = |end: &str| -> String {
        names
            .iter()
            .map(|name| {
                format!(
                    "test {name} ... {}\n",
                    if name.ends_with("wrong_type_is_named") { end } else { "ok" }
                )
            })
            .collect()
    };
    assert_eq!(checked(&log_of("ok"), &table), Ok(()));
    for end in ["FAILED", "ignored", ""] {
        let said = checked(&log_of(end), &table).unwrap_err();
        assert!(said.contains("config::every_key_with_a_wrong_type_is_named ran and passed"), "{said}");
    }
    for row in ["| a | b | c |  |", "| a | b | c | no name |", "| a | b | `c` |"] {
        let said = checked(&log_of("ok"), &format!("{table}{row}\n")).unwrap_err();
        assert!(said.contains("names no test"), "{row}: {said}");
    }
    assert!(checked("", &table).is_err() && checked(&log_of("ok"), "").is_err());
}

/// Reasons in a source: the texts right behind one of these.
fn reasons(file: &Path, before: &[&str]) -> BTreeSet<String> {
    let source = std::fs::read_to_string(file).unwrap();
    let text = |rest: &str| rest.trim_start().strip_prefix('"')?.split('"').next().map(str::to_owned);
    before.iter().flat_map(|before| source.split(before).skip(1).filter_map(text)).collect()
}

#[test]
fn every_reason_to_refuse_fhir_has_a_row_and_every_row_a_reason() {
    let consent = folder().parent().unwrap().join("ledger/src/consent");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(consent.join("import")).unwrap().map(|item| item.unwrap().path()).collect();
    files.push(consent.join("resource.rs"));
    files.extend(std::fs::read_dir(consent.join("resource")).unwrap().map(|item| item.unwrap().path()));
    let mut found = reasons(&consent.join("json.rs"), &["reason: ", "=> "]);
    found.extend(files.iter().flat_map(|file| reasons(file, &["refuse(", "Refusal::new("])));
    let table = std::fs::read_to_string(folder().join("BAD_INPUT.md")).unwrap();
    let listed: BTreeSet<String> = table
        .lines()
        .filter(|line| line.contains("CONSENT_REFUSED, `") || line.contains("RESOURCE_REFUSED, `"))
        .filter_map(|line| line.split("REFUSED, `").nth(1)?.split('`').next().map(str::to_owned))
        .collect();
    assert!(listed.len() > 30, "{listed:?}");
    assert_eq!(found, listed);
}
