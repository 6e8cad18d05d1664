//! `assentd.toml`: every key with a value of a wrong type, and values that can't be used.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use assent_node::config::Config;
use assent_node::limits::Limits;

use crate::net::Net;

/// No limit has these.
const NUMBERS: &[&str] = &["\"many\"", "true", "-1", "1.5", "0", "70_000", "5_000_000_000", "[]"];

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
    ("keep_blocks", &["\"all\"", "true", "-1", "1.5", "1", "99"]),
    ("snapshot_lag_heights", &["\"far\"", "true", "-1", "1.5"]),
    ("accept_recoveries", &["7", "true", "\"00\"", "[7]", "[\"\"]", "[\"00\"]"]),
    ("grpc", &["7", "\"127.0.0.1:1\"", "[]"]),
    ("grpc.listen", &["7", "true", "\"localhost\"", "\"127.0.0.1\"", "\"127.0.0.1:99999\"", "[]"]),
    ("grpc.certificate", &["7", "true", "[]"]),
    ("grpc.key", &["7", "true", "[]"]),
    ("grpc.requests_per_second", &["\"many\"", "true", "-1", "1.5", "0", "5_000_000_000"]),
    ("grpc.burst", &["\"many\"", "true", "-1", "1.5", "0", "5_000_000_000"]),
    ("grpc.authority", &["7", "true", "[]"]),
    ("grpc.revoked", &["7", "true", "[]"]),
    ("limits", &["7", "\"many\"", "[]"]),
    ("limits.grpc_connections", NUMBERS),
    ("limits.grpc_connections_per_client", NUMBERS),
    ("limits.grpc_connections_without_certificate", NUMBERS),
    ("limits.grpc_handshakes", NUMBERS),
    ("limits.grpc_handshake_seconds", NUMBERS),
    ("limits.grpc_silence_seconds", NUMBERS),
    ("limits.grpc_calls_per_connection", NUMBERS),
    ("limits.watch_streams", NUMBERS),
    ("limits.watch_streams_per_client", NUMBERS),
    ("limits.control_key_calls_per_second", NUMBERS),
    ("admin", &["7", "\"127.0.0.1:1\"", "[]"]),
    ("admin.listen", &["7", "true", "\"localhost\"", "[]"]),
    ("consensus", &["7", "\"/ip4/127.0.0.1/tcp/1\"", "[]"]),
    ("consensus.listen", &["7", "true", "[]", "\"127.0.0.1:1\"", "\"/ip4/localhost/tcp/1\""]),
    ("exchange", &["7", "\"/ip4/127.0.0.1/tcp/1\"", "[]"]),
    ("exchange.listen", &["7", "true", "[]", "\"127.0.0.1:1\"", "\"/ip4/localhost/tcp/1\""]),
    ("tlog", &["7", "\"127.0.0.1:1\"", "[]"]),
    ("tlog.listen", &["7", "true", "\"localhost\"", "[]"]),
];

/// Every key with a value that is fine.
fn whole(net: &Net) -> toml::Table {
    let text = std::fs::read_to_string(net.members[0].dir.join("assentd.toml")).unwrap();
    let mut table: toml::Table = text.parse().unwrap();
    for key in ["genesis", "data_dir", "keys_dir"] {
        table.insert(key.into(), "x".into());
    }
    table.insert("min_free_mib".into(), 1.into());
    table.insert("keep_blocks".into(), 100.into());
    table.insert("snapshot_lag_heights".into(), 1.into());
    table.insert("accept_recoveries".into(), vec!["07".repeat(32)].into());
    for key in ["requests_per_second", "burst"] {
        table["grpc"].as_table_mut().unwrap().insert(key.into(), 10.into());
    }
    for key in ["authority", "revoked"] {
        table["grpc"].as_table_mut().unwrap().insert(key.into(), "x".into());
    }
    let limits = Limits::default();
    let limits = limits.all().into_iter().map(|(key, value, _, _)| (key.to_owned(), i64::from(value).into()));
    table.insert("limits".into(), toml::Value::Table(limits.collect()));
    table.insert("tlog".into(), parse("{ listen = '127.0.0.1:7415' }"));
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

const SECTIONS: [&str; 7] = ["", "grpc.", "admin.", "consensus.", "exchange.", "limits.", "tlog."];

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
    for section in SECTIONS {
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

const REQUIRED: [&str; 11] = [
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
];

#[test]
fn keys_that_must_be_there_are_named() {
    let net = Net::new(1);
    let good = whole(&net);
    for key in REQUIRED {
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

/// What stands in assentd.toml, and what the refusal must say.
type Variant = (Vec<u8>, String);

fn variants(net: &Net) -> Vec<Variant> {
    let good = whole(net);
    let mut all: Vec<Variant> = Vec::new();
    let mut with = |key: &str, value: Option<toml::Value>, says: &str| {
        let mut table = good.clone();
        put(&mut table, key, value);
        all.push((table.to_string().into_bytes(), says.to_owned()));
    };
    for (key, values) in KEYS {
        for value in *values {
            with(key, Some(parse(value)), key);
        }
    }
    for key in REQUIRED {
        with(key, None, key.rsplit('.').next().unwrap());
    }
    for section in SECTIONS {
        for unknown in ["colour", "Listen", "grpc_connection"] {
            with(&format!("{section}{unknown}"), Some(parse("1")), unknown);
        }
    }
    for (key, _, least, most) in Limits::default().all() {
        for value in [i64::from(least) - 1, i64::from(most) + 1] {
            with(&format!("limits.{key}"), Some(value.into()), &format!("limits.{key}"));
        }
    }
    for (key, values) in OUT_OF_RANGE {
        for value in *values {
            with(key, Some(parse(value)), key);
        }
    }
    // Twice the same door.
    let listen = good["grpc"]["listen"].clone();
    with("admin.listen", Some(listen.clone()), "admin.listen");
    with("tlog.listen", Some(listen), "tlog.listen");
    // Files that are not there, or are something else.
    for (key, value) in [
        ("genesis", "nowhere"),
        ("genesis", "tls"),
        ("genesis", "tls/node.pem"),
        ("genesis", "keys/vote.pem"),
        ("keys_dir", "nowhere"),
        ("keys_dir", "tls"),
        ("keys_dir", "assentd.toml"),
        ("grpc.certificate", "nowhere"),
        ("grpc.certificate", "tls"),
        ("grpc.certificate", "genesis.bin"),
        ("grpc.certificate", "tls/node.key"),
        ("grpc.key", "nowhere"),
        ("grpc.key", "tls"),
        ("grpc.key", "tls/node.pem"),
        ("grpc.key", "keys/vote.pem"),
        ("grpc.authority", "tls"),
        ("grpc.authority", "genesis.bin"),
        ("grpc.authority", "tls/node.key"),
        ("grpc.revoked", "tls"),
        ("grpc.revoked", "genesis.bin"),
        ("grpc.revoked", "assentd.toml"),
    ] {
        with(key, Some(value.into()), key);
    }
    // Broken as text.
    let text = std::fs::read_to_string(net.members[0].dir.join("assentd.toml")).unwrap();
    for line in text.lines() {
        let broken = match line.split_once(" = ") {
            Some((key, value)) => vec![
                format!("{line}\n{line}"),
                key.to_owned(),
                format!("{key} ="),
                format!("{key} = {value} {value}"),
                format!("{key}: {value}"),
                format!("{key} = 'x"),
            ],
            None => vec![format!("{line}\n{line}"), line.replace(']', ""), format!("[{line}]")],
        };
        all.extend(
            broken
                .into_iter()
                .map(|broken| (text.replacen(line, &broken, 1).into_bytes(), "assentd.toml".into())),
        );
    }
    for cut in (0..text.len() - 20).step_by(17) {
        all.push((text.as_bytes()[..cut].to_vec(), "assentd.toml".into()));
    }
    let besides = |bytes: &[u8]| ([text.as_bytes(), bytes].concat(), "assentd.toml".to_owned());
    all.push(besides(&[b'#', 0xff, 0xfe, b'\n']));
    all.push(besides(b"\0"));
    all.push(besides(&b"# a very long file\n".repeat(100_000)));
    all.push((
        rand::random::<[u8; 32]>().iter().flat_map(|byte| [*byte, 0xff]).collect(),
        "assentd.toml".into(),
    ));
    all
}

/// Right types, wrong values.
const OUT_OF_RANGE: &[(&str, &[&str])] = &[
    ("organization", &["\"\"", "\"Cedar\"", "\"cedar hospital\"", "\"oak\"", "\"a/b\""]),
    ("heartbeat_seconds", &["0", "10", "11", "9_000_000_000_000_000_000"]),
    ("max_staleness_seconds", &["0", "1", "2", "3_601", "9_000_000_000_000_000_000"]),
    ("min_free_mib", &["1_073_741_825", "9_000_000_000_000_000_000"]),
    ("genesis", &["\"\"", "\"a\\u0000b\""]),
    ("data_dir", &["\"\"", "\"a\\u0000b\"", "\"tls/node.pem\"", "\"tls/node.pem/data\""]),
    ("keys_dir", &["\"\"", "\"a\\u0000b\""]),
    ("grpc.certificate", &["\"\""]),
    ("grpc.key", &["\"\""]),
    ("grpc.authority", &["\"\""]),
    ("grpc.revoked", &["\"\""]),
    ("grpc.listen", &["\"127.0.0.1:0\"", "\"[::1]\"", "\"\"", "\"0.0.0.0:0\""]),
    ("admin.listen", &["\"127.0.0.1:0\"", "\"127.0.0.1:-1\"", "\"\""]),
    ("tlog.listen", &["\"127.0.0.1:0\"", "\"127.0.0.1:-1\"", "\"\""]),
    ("consensus.listen", SWARMS),
    ("exchange.listen", SWARMS),
];

const SWARMS: &[&str] = &[
    "\"\"",
    "\"/\"",
    "\"/ip4/127.0.0.1\"",
    "\"/ip4/127.0.0.1/tcp/0\"",
    "\"/ip4/127.0.0.1/tcp/70000\"",
    "\"/ip4/127.0.0.1/udp/7413\"",
    "\"/ip4/127.0.0.1/udp/7413/quic-v1\"",
    "\"/ip4/127.0.0.1/tcp/7413/ws\"",
    "\"/dns4/localhost/tcp/7413\"",
    "\"/tcp/7413\"",
    "\"/memory/7413\"",
];

/// How a node in this folder ends and what it says; none when it has to be ended.
fn ends(dir: &std::path::Path) -> (Option<i32>, String) {
    let mut node = Command::new(env!("CARGO_BIN_EXE_assentd"))
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let exit = loop {
        match node.try_wait().unwrap() {
            Some(status) => break status.code(),
            None if begin.elapsed() > Duration::from_secs(20) => {
                node.kill().unwrap();
                node.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut said = String::new();
    node.stderr.unwrap().read_to_string(&mut said).unwrap();
    (exit, said)
}

/// FAULTS I4.
#[test]
fn three_hundred_malformed_files_end_with_2_name_the_key_and_touch_no_data() {
    let net = Net::new(1);
    let dir = &net.members[0].dir;
    let good: toml::Table = std::fs::read_to_string(dir.join("assentd.toml")).unwrap().parse().unwrap();
    assert!(Config::read(&dir.join("assentd.toml")).is_ok() && good.contains_key("grpc"));
    // `whole` names files that are not there: here they must be.
    let mut variants = variants(&net);
    let real = [
        ("genesis", "genesis.bin"),
        ("data_dir", "data"),
        ("keys_dir", "keys"),
        ("authority", "tls/ca.pem"),
        ("revoked", "tls/none"),
    ];
    for (text, _) in &mut variants {
        let Ok(as_text) = std::str::from_utf8(text) else { continue };
        let mut changed = as_text.to_owned();
        for (key, path) in real {
            changed = changed.replace(&format!("\n{key} = \"x\"\n"), &format!("\n{key} = \"{path}\"\n"));
            changed = changed.replacen(&format!("{key} = \"x\"\n"), &format!("{key} = \"{path}\"\n"), 1);
        }
        *text = changed.into_bytes();
    }
    assert!(variants.len() >= 300, "{} variants", variants.len());
    let files = |net: &Net| {
        let mut files: Vec<_> =
            net.files().into_iter().filter(|(path, _)| !path.ends_with("assentd.toml")).collect();
        files.sort();
        files
    };
    let before = files(&net);
    let mut wrong = Vec::new();
    for (text, says) in &variants {
        std::fs::write(dir.join("assentd.toml"), text).unwrap();
        let (exit, said) = ends(dir);
        if exit != Some(2) || !said.contains(says.as_str()) {
            wrong.push(format!(
                "{says}: {exit:?}: {}\n{said}",
                String::from_utf8_lossy(&text[..text.len().min(2_000)])
            ));
        }
        // One that was taken for good has made files.
        if exit.is_none() {
            break;
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        variants.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
    assert!(files(&net) == before, "files were made or changed");
}

/// Variables that are none of its keys are left alone.
#[test]
fn the_environment_names_the_file_and_the_log_without_being_taken_for_keys() {
    let net = Net::new(1);
    net.configure(0, "heartbeat_seconds = 2", "heartbeat_seconds = 0");
    let output = Command::new(env!("CARGO_BIN_EXE_assentd"))
        .env("ASSENTD_CONFIG", net.members[0].dir.join("assentd.toml"))
        .env("ASSENTD_LOG", "warn")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("heartbeat_seconds (0)"), "{said}");
}
