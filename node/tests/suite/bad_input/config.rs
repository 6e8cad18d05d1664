//! `assentd.toml`: every key with a value of a wrong type, and values that can't be used.

use std::process::Command;

use assent_node::config::Config;

use crate::net::Net;

/// Every key of the file and values that it can't have; a key that the node knows and that isn't here fails the test below.
const KEYS: &[(&str, &[&str])] = &[
    ("organization", &["7", "true", "[\"cedar\"]", "1.5", "{ a = 1 }"]),
    ("ordering", &["7", "true", "\"raft\"", "[]"]),
    ("genesis", &["7", "true", "[]"]),
    ("data_dir", &["7", "true", "[]"]),
    ("keys_dir", &["7", "true", "[]"]),
    ("heartbeat_seconds", &["\"ten\"", "true", "-1", "1.5", "[10]"]),
    ("max_staleness_seconds", &["\"thirty\"", "true", "-1", "1.5", "[30]"]),
    ("min_free_mib", &["\"thirty\"", "true", "-1", "1.5", "[30]"]),
    ("grpc", &["7", "\"127.0.0.1:1\"", "[]"]),
    ("grpc.listen", &["7", "true", "\"localhost\"", "\"127.0.0.1\"", "\"127.0.0.1:99999\"", "[]"]),
    ("grpc.certificate", &["7", "true", "[]"]),
    ("grpc.key", &["7", "true", "[]"]),
    ("grpc.requests_per_second", &["\"many\"", "true", "-1", "1.5", "0", "5_000_000_000"]),
    ("grpc.burst", &["\"many\"", "true", "-1", "1.5", "0", "5_000_000_000"]),
    ("admin", &["7", "\"127.0.0.1:1\"", "[]"]),
    ("admin.listen", &["7", "true", "\"localhost\"", "[]"]),
    ("consensus", &["7", "\"/ip4/127.0.0.1/tcp/1\"", "[]"]),
    ("consensus.listen", &["7", "true", "[]", "\"127.0.0.1:1\"", "\"/ip4/localhost/tcp/1\""]),
    ("exchange", &["7", "\"/ip4/127.0.0.1/tcp/1\"", "[]"]),
    ("exchange.listen", &["7", "true", "[]", "\"127.0.0.1:1\"", "\"/ip4/localhost/tcp/1\""]),
];

/// Every key with a value that is fine.
fn whole(net: &Net) -> toml::Table {
    let text = std::fs::read_to_string(net.members[0].dir.join("assentd.toml")).unwrap();
    let mut table: toml::Table = text.parse().unwrap();
    for key in ["genesis", "data_dir", "keys_dir"] {
        table.insert(key.into(), "x".into());
    }
    table.insert("min_free_mib".into(), 1.into());
    for key in ["requests_per_second", "burst"] {
        table["grpc"].as_table_mut().unwrap().insert(key.into(), 10.into());
    }
    table
}

fn put(table: &mut toml::Table, key: &str, value: Option<toml::Value>) {
    let (table, key) = match key.split_once('.') {
        Some((section, key)) => (table[section].as_table_mut().unwrap(), key),
        None => (table, key),
    };
    match value {
        Some(value) => drop(table.insert(key.to_owned(), value)),
        None => drop(table.remove(key)),
    }
}

fn parse(value: &str) -> toml::Value {
    format!("v = {value}").parse::<toml::Table>().unwrap().remove("v").unwrap()
}

/// Why a file with this content is refused.
fn refused(net: &Net, table: &toml::Table) -> Option<String> {
    let path = net.members[0].dir.join("changed.toml");
    std::fs::write(&path, table.to_string()).unwrap();
    let error = Config::read(&path).err()?.to_string();
    assert!(error.starts_with(&path.display().to_string()), "which file is wrong? {error}");
    Some(error)
}

#[test]
fn every_key_with_a_wrong_type_is_named() {
    let net = Net::new(1);
    let good = whole(&net);
    assert_eq!(refused(&net, &good), None);
    for (key, values) in KEYS {
        for value in *values {
            let mut table = good.clone();
            put(&mut table, key, Some(parse(value)));
            let error = refused(&net, &table).unwrap_or_else(|| panic!("{key} = {value} was taken"));
            assert!(error.contains(key), "{key} = {value}: {error}");
        }
    }
    // The list is whole: an unknown key makes figment list all that it knows.
    let mut known = 0;
    for section in ["", "grpc.", "admin.", "consensus.", "exchange."] {
        let mut table = good.clone();
        put(&mut table, &format!("{section}colour"), Some(parse("1")));
        let error = refused(&net, &table).unwrap();
        assert!(error.contains("unknown field: found `colour`"), "{error}");
        let is_key = |word: &&str| {
            !word.is_empty() && *word != "colour" && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        for key in error.split('`').filter(is_key) {
            known += 1;
            let key = format!("{section}{key}");
            assert!(KEYS.iter().any(|(k, _)| *k == key), "{key} is not tested");
        }
    }
    assert_eq!(known, KEYS.len(), "a key above is none");
}

#[test]
fn keys_that_must_be_there_are_named() {
    let net = Net::new(1);
    let good = whole(&net);
    for key in [
        "organization",
        "grpc",
        "grpc.listen",
        "grpc.certificate",
        "grpc.key",
        "admin",
        "admin.listen",
        "consensus",
        "consensus.listen",
        "exchange",
        "exchange.listen",
    ] {
        let mut table = good.clone();
        put(&mut table, key, None);
        let error = refused(&net, &table).unwrap_or_else(|| panic!("{key} can be left out"));
        assert!(error.contains(key.rsplit('.').next().unwrap()), "{key}: {error}");
    }
}

#[test]
fn the_program_exits_2_and_names_file_and_key() {
    let net = Net::new(1);
    let path = net.members[0].dir.join("assentd.toml");
    let run = |environment: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_assentd"))
            .arg("--config")
            .arg(&path)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (exit, said) = run(&[("ASSENTD_GRPC__LISTEN", "7")]);
    assert!(exit == Some(2) && said.contains("GRPC.LISTEN"), "{exit:?} {said}");
    for (from, to, named) in [
        ("heartbeat_seconds = 2", "heartbeat_seconds = \"2\"", "heartbeat_seconds"),
        ("heartbeat_seconds = \"2\"", "heartbeat_seconds = 60", "max_staleness_seconds"),
        ("heartbeat_seconds = 60", "heartbeat_seconds", "assentd.toml"),
    ] {
        net.configure(0, from, to);
        let (exit, said) = run(&[]);
        assert!(exit == Some(2) && said.contains(named), "{exit:?} {said}");
    }
    std::fs::remove_file(&path).unwrap();
    let (exit, said) = run(&[]);
    assert!(exit == Some(2) && said.contains("no such file"), "{exit:?} {said}");
}
