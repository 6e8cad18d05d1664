//! Networks of real processes: `up`, a second `up`, `down`, and what goes wrong.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::Value;

fn testnet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_assent-testnet"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("assent-testnet starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Takes the network down whatever the test does.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        testnet(&["down", "--dir", text(self.0)]);
    }
}

/// A bystander that is ended with the test.
struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// True while a process exists and has not ended.
fn lives(pid: u64) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn pids(network: &Value) -> Vec<u64> {
    network["nodes"].as_array().unwrap().iter().map(|node| node["pid"].as_u64().unwrap()).collect()
}

fn network_json(dir: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join("network.json")).unwrap()).unwrap()
}

#[test]
fn up_leaves_a_network_running_and_down_stops_just_that() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("net");
    let _down = Down(&dir);
    let up = testnet(&["up", "--dir", text(&dir)]);
    assert!(up.status.success(), "{}", said(&up));
    let network = network_json(&dir);
    has_the_fixed_form(&network);
    let nodes = pids(&network);
    assert_eq!(nodes.len(), 4);
    assert!(nodes.iter().all(|pid| lives(*pid)), "the nodes outlive `up`");

    // A second one refuses, and leaves all as it was.
    let again = testnet(&["up", "--dir", text(&dir)]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(said(&again).contains("a network runs in"), "{}", said(&again));
    assert!(said(&again).contains("assent-testnet down --dir"), "{}", said(&again));
    assert_eq!(network_json(&dir), network);
    assert!(nodes.iter().all(|pid| lives(*pid)));

    // A process with the node's name and another folder, and one whose argument is right but not its name.
    let config = dir.join("cedar/assentd.toml");
    let sleeper = |name: &str, argument: &Path| {
        let script = ["-c", "sleep 120; true", "x"];
        Bystander(Command::new("bash").arg0(name).args(script).arg(argument).spawn().unwrap())
    };
    let others = [sleeper("assentd", Path::new("/elsewhere/assentd.toml")), sleeper("editor", &config)];

    let down = testnet(&["down", "--dir", text(&dir)]);
    assert!(down.status.success() && said(&down).contains("4 nodes stopped"), "{}", said(&down));
    assert!(!said(&down).contains("killed"), "{}", said(&down));
    assert!(!nodes.iter().any(|pid| lives(*pid)));
    for other in &others {
        assert!(lives(u64::from(other.0.id())), "`down` ended a process that is not its own");
    }
    let down = testnet(&["down", "--dir", text(&dir)]);
    assert!(down.status.success() && said(&down).contains("no node was running"), "{}", said(&down));

    a_foreign_process_under_a_known_id_is_left_alone(&dir, &others[0]);
    a_stopped_network_starts_again_unless_a_port_is_taken(&dir, &network);
}

/// Process ids are reused: one in network.json may by now be somebody else's.
fn a_foreign_process_under_a_known_id_is_left_alone(dir: &Path, other: &Bystander) {
    let original = std::fs::read_to_string(dir.join("network.json")).unwrap();
    let mut network = network_json(dir);
    network["nodes"][0]["pid"] = other.0.id().into();
    std::fs::write(dir.join("network.json"), network.to_string()).unwrap();
    let down = testnet(&["down", "--dir", text(dir)]);
    assert!(down.status.success() && said(&down).contains("no node was running"), "{}", said(&down));
    assert!(lives(u64::from(other.0.id())));
    std::fs::write(dir.join("network.json"), original).unwrap();
}

fn a_stopped_network_starts_again_unless_a_port_is_taken(dir: &Path, before: &Value) {
    let address = before["nodes"][2]["grpc"].as_str().unwrap().strip_prefix("https://").unwrap();
    let taken = TcpListener::bind(address).unwrap();
    let up = testnet(&["up", "--dir", text(dir)]);
    assert_eq!(up.status.code(), Some(1), "{}", said(&up));
    let (_, port) = address.split_once(':').unwrap();
    assert!(said(&up).contains("dogwood") && said(&up).contains(port), "{}", said(&up));
    assert!(said(&up).contains("in use"), "{}", said(&up));
    assert_eq!(&network_json(dir), before, "a start that failed leaves network.json as it was");
    drop(taken);

    let up = testnet(&["up", "--dir", text(dir)]);
    assert!(up.status.success(), "{}", said(&up));
    let after = network_json(dir);
    assert_eq!(after["genesis_hash"], before["genesis_hash"]);
    assert!(pids(&after).iter().all(|pid| lives(*pid)));
    let other = testnet(&["up", "--dir", text(dir), "--nodes", "3"]);
    assert_eq!(other.status.code(), Some(1), "{}", said(&other));
}

/// INTERFACES.md, "assent-testnet".
fn has_the_fixed_form(network: &Value) {
    let keys = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(network), ["chain_id", "clients", "genesis_hash", "nodes"]);
    assert!(network["chain_id"].as_str().unwrap().starts_with("testnet-"));
    assert_eq!(hex::decode(network["genesis_hash"].as_str().unwrap()).unwrap().len(), 32);
    for node in network["nodes"].as_array().unwrap() {
        let named = [
            "admin",
            "consensus",
            "data",
            "grpc",
            "log",
            "organization",
            "peer",
            "pid",
            "tlog",
            "validator_key",
        ];
        assert_eq!(keys(node), named);
        let field = |name: &str| node[name].as_str().unwrap();
        assert!(field("grpc").starts_with("https://127.0.0.1:"), "{node}");
        assert!(field("admin").starts_with("http://127.0.0.1:"), "{node}");
        for name in ["peer", "consensus"] {
            assert!(
                field(name).starts_with("/ip4/127.0.0.1/tcp/") && field(name).contains("/p2p/12D3Koo"),
                "{node}"
            );
        }
        assert_eq!(hex::decode(field("validator_key")).unwrap().len(), 32);
        assert!(Path::new(field("data")).is_absolute() && Path::new(field("data")).is_dir(), "{node}");
        assert!(Path::new(field("log").strip_prefix("file://").unwrap()).is_file(), "{node}");
    }
    let clients = network["clients"].as_array().unwrap();
    for client in clients {
        assert_eq!(keys(client), ["ca", "cert", "key", "name", "organization", "role"]);
        for name in ["ca", "cert", "key"] {
            let path = Path::new(client[name].as_str().unwrap());
            assert!(path.is_absolute(), "{client}");
            assert!(std::fs::read_to_string(path).unwrap().starts_with("-----BEGIN "), "{client}");
        }
    }
    for organization in ["cedar", "birch", "dogwood", "elm"] {
        for role in ["crm", "ehr", "portal", "registrar", "officer", "auditor", "operator"] {
            let is = |client: &&Value| client["organization"] == organization && client["role"] == role;
            assert_eq!(clients.iter().filter(is).count(), 1, "{organization} {role}");
        }
    }
}

#[test]
fn a_folder_with_something_else_in_it_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("letter.txt"), "dear").unwrap();
    for command in ["up", "demo"] {
        let refused = testnet(&[command, "--dir", text(temp.path())]);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(said(&refused).contains("is not empty and holds no network"), "{}", said(&refused));
    }
    assert_eq!(std::fs::read_to_string(temp.path().join("letter.txt")).unwrap(), "dear");
    assert!(!temp.path().join("cedar").exists() && !temp.path().join("network.json").exists());
}

#[test]
fn down_says_what_is_missing() {
    let temp = tempfile::tempdir().unwrap();
    let nothing = testnet(&["down", "--dir", text(temp.path())]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(said(&nothing).contains("holds no network"), "{}", said(&nothing));
    let nowhere = testnet(&["down", "--dir", text(&temp.path().join("nowhere"))]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(said(&nowhere).contains("there is no folder"), "{}", said(&nowhere));
}

#[test]
fn usage_errors_exit_2() {
    for arguments in [&["up"][..], &["up", "--dir", "x", "--nodes", "0"], &["sideways"], &["demo", "--fast"]]
    {
        assert_eq!(testnet(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("demo");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_assent-testnet"))
        .args(["demo", "--quick", "--dir", text(&dir)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !dir.join("network.json").exists()
        && demo.try_wait().unwrap().is_none()
        && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    let nodes = pids(&network_json(&dir));
    assert!(nodes.len() == 4 && nodes.iter().all(|pid| lives(*pid)));
    kill(Pid::from_raw(demo.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1));
    assert!(!nodes.iter().any(|pid| lives(*pid)));
    assert!(!dir.exists(), "a folder that the demo made is gone with it");
}
