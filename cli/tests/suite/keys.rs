//! `assent init`, `genesis` and `keys`: folders, files, certificates.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use assent_ledger::genesis::check_genesis_file;
use assent_ledger::keyfile;

use crate::program::{assent, Run};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn init(dir: &Path, organization: &str, more: &[&str]) -> Run {
    let name = format!("{organization} Hospital");
    let arguments =
        ["init", "--dir", text(dir), "--organization", organization, "--name", &name, "--chain-id", "t-1"];
    assent(&[arguments.as_slice(), more].concat())
}

/// Every file below a folder with its content.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(tree(&path)),
            false => drop(files.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    files
}

/// Runs openssl; none when it is not installed, which is said.
fn openssl(arguments: &[&str]) -> Option<String> {
    match Command::new("openssl").args(arguments).output() {
        Err(_) => {
            eprintln!("SKIP openssl: missing openssl, install with apt-get install openssl");
            None
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success(),
                "{arguments:?}: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            );
            Some(text)
        }
    }
}

#[test]
fn a_folder_holds_what_a_node_needs_and_keys_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cedar");
    let json = init(&dir, "cedar", &["--grpc", "127.0.0.1:9001", "--output", "json"]).exits(0).json();
    for secret in ["entry", "vote", "consensus-peer", "exchange-peer", "checkpoint", "vault"] {
        let path = dir.join(format!("keys/{secret}.pem"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{secret}");
        keyfile::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap();
    }
    for secret in ["tls/ca.key", "tls/node.key"] {
        assert_eq!(dir.join(secret).metadata().unwrap().permissions().mode() & 0o777, 0o600, "{secret}");
    }
    let config: toml::Table = std::fs::read_to_string(dir.join("assentd.toml")).unwrap().parse().unwrap();
    assert_eq!(config["ordering"].as_str(), Some("malachite"));
    assert_eq!(config["grpc"]["listen"].as_str(), Some("127.0.0.1:9001"));
    assert!(!dir.join("genesis.bin").exists() && !dir.join("clients").exists());
    assert!(dir.join("data/never-voted").exists(), "the node would not vote");

    let shown = assent(&["keys", "show", "--dir", text(&dir), "--output", "json"]).exits(0).json();
    let card: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("card.json")).unwrap()).unwrap();
    for key in ["entry_key", "vote_key", "consensus_peer_id", "exchange_peer_id"] {
        assert_eq!(shown[key], card[key]);
        assert_eq!(json[key], card[key]);
    }
    // Nothing that is secret stands in the card.
    let card = std::fs::read_to_string(dir.join("card.json")).unwrap();
    assert!(!card.contains("PRIVATE"));
}

#[test]
fn an_existing_folder_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cedar");
    init(&dir, "cedar", &["--single"]).exits(0);
    let before = tree(folder.path());
    for more in [&[][..], &["--single"]] {
        let run = init(&dir, "cedar", more).exits(1);
        assert!(run.err.contains("exists already") && run.err.contains("help: "), "{run:?}");
    }
    assent(&["keys", "issue", "--dir", text(&dir), "--role", "crm", "--name", "local"]).exits(1);
    assent(&["keys", "generate", "--out", text(&dir.join("keys/vote.pem"))]).exits(1);
    let card = dir.join("card.json");
    assent(&["genesis", "--chain-id", "t-1", "--out", text(&dir.join("genesis.bin")), text(&card)]).exits(1);
    assert_eq!(tree(folder.path()), before);
    // A file in the way is refused too, and an empty folder is fine.
    std::fs::write(folder.path().join("file"), "x").unwrap();
    init(&folder.path().join("file"), "cedar", &[]).exits(1);
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    init(&folder.path().join("empty"), "cedar", &[]).exits(0);
}

#[test]
fn a_failed_command_leaves_nothing_half_done() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cedar");
    init(&dir, "Cedar", &[]).exits(2);
    for (flag, bad) in [
        ("--consensus", "/ip4/127.0.0.1"),
        ("--consensus", "127.0.0.1:1"),
        ("--exchange", "/ip4/1.2.3.4/tcp/1/p2p/12D3KooWJvMwP1Sre1XjqvsVBUEdwLH6oMaLzsq1qVLSrV3MDQiL"),
        ("--grpc", "localhost"),
        ("--admin", "1.2.3.4"),
    ] {
        init(&dir, "cedar", &[flag, bad]).exits(2);
    }
    // Found only after keys were made: a name that no certificate can hold.
    init(&dir, "cedar", &["--host", "höst"]).exits(1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    init(&dir, "cedar", &[]).exits(0);
    std::fs::write(dir.join("tls/ca.key"), std::fs::read(dir.join("tls/node.key")).unwrap()).unwrap();
    let run = assent(&["keys", "issue", "--dir", text(&dir), "--role", "crm", "--name", "a"]).exits(1);
    assert!(run.err.contains("KEY_MISMATCH"), "{run:?}");
    assert!(!dir.join("clients").exists());
}

#[test]
fn openssl_reads_the_keys_and_verifies_the_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cedar");
    init(&dir, "cedar", &["--host", "node.cedar.example"]).exits(0);
    assent(&["keys", "issue", "--dir", text(&dir), "--role", "crm", "--name", "frontdesk"]).exits(0);
    let file = |name: &str| text(&dir.join(name)).to_owned();
    let (ca, node, client) =
        (file("tls/ca.pem"), file("tls/node.pem"), file("clients/crm-frontdesk/cert.pem"));

    let Some(shown) = openssl(&["pkey", "-in", &file("keys/vote.pem"), "-pubout", "-outform", "DER"]) else {
        return;
    };
    drop(shown);
    openssl(&["verify", "-x509_strict", "-CAfile", &ca, "-purpose", "sslserver", &node]);
    openssl(&["verify", "-x509_strict", "-CAfile", &ca, "-purpose", "sslclient", &client]);
    let text = |path: &str| openssl(&["x509", "-in", path, "-noout", "-text"]).unwrap_or_default();
    let (ca, node, client) = (text(&ca), text(&node), text(&client));
    assert!(ca.contains("Certificate Sign") && ca.contains("CA:TRUE"), "{ca}");
    let san =
        "DNS:localhost, IP Address:127.0.0.1, DNS:node.cedar.example, URI:spiffe://t-1/org/cedar/node/cedar";
    assert!(node.contains(san) && node.contains("TLS Web Server Authentication"), "{node}");
    assert!(client.contains("URI:spiffe://t-1/org/cedar/crm/frontdesk"), "{client}");
    assert!(
        client.contains("TLS Web Client Authentication") && client.contains("Authority Key Identifier"),
        "{client}"
    );
    let subject = |text: &str| text.lines().find(|l| l.contains("Subject:")).unwrap().to_owned();
    assert!(
        subject(&ca) != subject(&node)
            && subject(&ca) != subject(&client)
            && subject(&node) != subject(&client)
    );
}

#[test]
fn a_key_of_openssl_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    if openssl(&["genpkey", "-algorithm", "ed25519", "-out", text(&path)]).is_none() {
        return;
    }
    let json = assent(&["keys", "show", text(&path), "--output", "json"]).exits(0).json();
    let key = keyfile::from_pem(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(json["public_key"], hex::encode(key.verifying_key().to_bytes()));
    assert!(json["peer_id"].as_str().unwrap().starts_with("12D3KooW"));
}

#[test]
fn genesis_takes_each_organization_once_and_says_the_hash() {
    let folder = tempfile::tempdir().unwrap();
    let mut cards = Vec::new();
    for organization in ["elm", "cedar", "birch", "dogwood"] {
        let dir = folder.path().join(organization);
        init(&dir, organization, &[]).exits(0);
        cards.push(text(&dir.join("card.json")).to_owned());
    }
    let out = folder.path().join("genesis.bin");
    let make = |chain_id: &str, cards: &[&str]| {
        let arguments = ["genesis", "--output", "json", "--chain-id", chain_id, "--out", text(&out)];
        assent(&[arguments.as_slice(), cards].concat())
    };
    let all: Vec<&str> = cards.iter().map(String::as_str).collect();
    make("t-2", &all).exits(2);
    make("t-1", &[all.as_slice(), &all[..1]].concat()).exits(2);
    make("t-1", &[text(&folder.path().join("elm/assentd.toml"))]).exits(2);
    make("t-1", &[]).exits(2);
    assert!(!out.exists());
    let json = make("t-1", &all).exits(0).json();
    let genesis = check_genesis_file(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(json["genesis_hash"], hex::encode(genesis.hash));
    assert_eq!(json["organizations"], serde_json::json!(["birch", "cedar", "dogwood", "elm"]));
    assert!(
        genesis.validators.validators.iter().all(|v| v.power == 1)
            && genesis.validators.validators.len() == 4
    );
    let birch = &genesis.organizations[0];
    assert!(birch.exchange_peer_id.starts_with("12D3KooW") && !birch.ca_certificate.is_empty());
}

#[test]
fn single_makes_a_network_of_one_and_a_client_for_every_role() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    let json = init(&dir, "cedar", &["--single", "--output", "json"]).exits(0).json();
    let genesis = check_genesis_file(&std::fs::read(dir.join("genesis.bin")).unwrap()).unwrap();
    assert_eq!(json["genesis_hash"], hex::encode(genesis.hash));
    assert_eq!(genesis.validators.validators.len(), 1);
    for role in ["crm", "ehr", "portal", "registrar", "officer", "auditor", "operator"] {
        let client = dir.join(format!("clients/{role}-local"));
        for file in ["cert.pem", "key.pem", "ca.pem"] {
            assert!(client.join(file).exists(), "{role} {file}");
        }
        let profile: toml::Table =
            std::fs::read_to_string(client.join("profile.toml")).unwrap().parse().unwrap();
        assert_eq!(profile["genesis_hash"].as_str(), json["genesis_hash"].as_str());
    }
    // Nobody listens there: the profile works as far as the connection.
    let profile = dir.join("clients/operator-local/profile.toml");
    let run = assent(&["status", "--profile", text(&profile), "--node", "https://127.0.0.1:1"]).exits(7);
    assert!(run.err.contains("assentd"), "{run:?}");
}

#[test]
fn a_revoked_clients_certificate_stands_on_the_list_once() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cedar");
    init(&dir, "cedar", &["--single"]).exits(0);
    let (cert, list) = (dir.join("clients/crm-local/cert.pem"), dir.join("tls/revoked"));
    let revoke =
        |cert: &Path| assent(&["keys", "revoke", "--dir", text(&dir), text(cert), "--output", "json"]);
    let json = revoke(&cert).exits(0).json();
    assert_eq!(
        (json["id"].as_str(), json["listed_before"].as_bool()),
        (Some("spiffe://t-1/org/cedar/crm/local"), Some(false))
    );
    let fingerprint = json["fingerprint"].as_str().unwrap().to_owned();
    if let Some(shown) = openssl(&["x509", "-in", text(&cert), "-noout", "-fingerprint", "-sha256"]) {
        let shown = shown.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
        assert_eq!(shown, fingerprint);
    }
    let written = std::fs::read_to_string(&list).unwrap();
    assert!(written
        .lines()
        .any(|line| line.starts_with(&format!("{fingerprint}  # spiffe://t-1/org/cedar/crm/local, "))));
    assert_eq!(revoke(&cert).exits(0).json()["listed_before"], true);
    assert_eq!(std::fs::read_to_string(&list).unwrap(), written);
    // A line that an operator wrote without an end stays a line of its own.
    std::fs::write(&list, "0a:17").unwrap();
    revoke(&cert).exits(0);
    assert!(std::fs::read_to_string(&list).unwrap().starts_with(&format!("0a:17\n{fingerprint}")));
    // What is no client of this organization's gets on no list.
    let before = tree(&dir);
    let other = folder.path().join("birch");
    init(&other, "birch", &["--single"]).exits(0);
    for wrong in [
        other.join("clients/crm-local/cert.pem"),
        dir.join("tls/ca.pem"),
        dir.join("tls/node.key"),
        dir.join("none"),
    ] {
        revoke(&wrong).exits(2);
    }
    assert_eq!(tree(&dir), before);
}
