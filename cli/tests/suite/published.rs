//! `assent checkpoint` against nodes that agree, lag, lie and keep silent: logs over plain HTTP, as a node publishes them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use assent_ledger::checkpoint::{open_note, sign_note, Checkpoint, KeyKind, OpenedNote, VerifierKey};
use assent_ledger::hash::sha256;
use assent_ledger::keyfile::to_pem;
use assent_ledger::keys::SigningKey;
use assent_ledger::log::{leaf_hash, root_of, Frontier, LogRead};
use assent_ledger::tiles::{hash_tile, TilePath};
use assent_ledger::Hash;

use crate::chain::{Chain, CHAIN};
use crate::program::{assent, Run};

const ORIGIN: &str = "assent/testnet-cli";

pub fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&sha256(name.as_bytes()))
}

pub fn vkey(name: &str, kind: KeyKind) -> VerifierKey {
    VerifierKey::new(name, kind, key(name).verifying_key().to_bytes()).unwrap()
}

/// A log whose leaves are the same up to a place, and another fork's behind it.
#[derive(Clone, Default)]
pub struct Log {
    leaves: Vec<Hash>,
    nodes: BTreeMap<(u8, u64), Hash>,
}

impl LogRead for Log {
    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        self.nodes.get(&(level, index)).copied()
    }
}

impl Log {
    /// Of so many leaves, which are `fork`'s own from number `common` on.
    pub fn new(size: usize, common: usize, fork: u8) -> Self {
        let (mut log, mut frontier) = (Self::default(), Frontier::default());
        for n in 0..size {
            let fork = if n < common { 0 } else { fork };
            let leaf = leaf_hash(&[&n.to_be_bytes()[..], &[fork]].concat());
            frontier.append(leaf, |level, index, hash| {
                log.nodes.insert((level, index), hash);
            });
            log.leaves.push(leaf);
        }
        log
    }

    pub fn note(&self, size: usize, name: &str) -> String {
        let root = root_of(&self.leaves[..size]);
        let text =
            Checkpoint { origin: ORIGIN.into(), size: size as u64, root, extensions: Vec::new() }.text();
        format!("{text}\n{}", sign_note(&text, name, &key(name)).unwrap())
    }
}

/// What a node says at a path, when it does not say what is true.
type Lies = BTreeMap<String, (u16, Vec<u8>)>;

/// A node that publishes a log. Its thread ends with the test.
pub struct Published {
    pub url: String,
    state: Arc<Mutex<(Log, Lies)>>,
}

impl Published {
    pub fn new(name: &'static str, log: Log) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new((log, Lies::new())));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap() == 0 {
                        break;
                    }
                    request.push(byte[0]);
                }
                let request = String::from_utf8(request).unwrap();
                let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
                let (status, body) = Self::answer(&shared.lock().unwrap(), name, path);
                let head = format!("HTTP/1.0 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
            }
        });
        Self { url, state }
    }

    fn answer((log, lies): &(Log, Lies), name: &str, path: &str) -> (u16, Vec<u8>) {
        if let Some(lie) = lies.get(path) {
            return lie.clone();
        }
        let note = |size: usize| (200, log.note(size, name).into_bytes());
        let none = (404, b"no".to_vec());
        if path == "checkpoint" {
            return note(log.leaves.len());
        }
        if let Some(size) = path.strip_prefix("checkpoint/") {
            return size.parse().ok().filter(|size| *size <= log.leaves.len()).map_or(none, note);
        }
        let tile = path.strip_prefix("tile/").and_then(TilePath::parse);
        match tile.filter(|tile| tile.is_within(log.leaves.len() as u64)) {
            Some(tile) => (200, hash_tile(log, &tile).unwrap()),
            None => none,
        }
    }

    pub fn set(&self, log: Log) {
        self.state.lock().unwrap().0 = log;
    }

    pub fn lie(&self, path: &str, status: u16, body: &[u8]) {
        self.state.lock().unwrap().1.insert(path.into(), (status, body.to_vec()));
    }

    pub fn be_honest(&self) {
        self.state.lock().unwrap().1.clear();
    }
}

pub const NAMES: [&str; 4] =
    ["birch.testnet-cli", "cedar.testnet-cli", "dogwood.testnet-cli", "elm.testnet-cli"];

pub fn four(logs: [Log; 4]) -> Vec<Published> {
    NAMES.into_iter().zip(logs).map(|(name, log)| Published::new(name, log)).collect()
}

pub fn same(size: usize) -> Vec<Published> {
    four([size; 4].map(|size| Log::new(size, size, 0)))
}

/// The flags that name all nodes' keys.
pub fn keys() -> Vec<String> {
    let flags = |name| ["--checkpoint-key".to_owned(), vkey(name, KeyKind::Ed25519).to_string()];
    NAMES.into_iter().flat_map(flags).collect()
}

/// The command's arguments for these nodes, all of whose keys count.
pub fn arguments(command: &[&str], nodes: &[Published], more: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = command.iter().map(|part| part.to_string()).collect();
    all.extend(nodes.iter().map(|node| node.url.clone()));
    all.extend(keys());
    all.extend(more.iter().map(|part| part.to_string()));
    all
}

fn collect(nodes: &[Published], more: &[&str]) -> Run {
    assent(&arguments(&["checkpoint", "--output", "json"], nodes, more))
}

pub fn opened(path: &std::path::Path) -> OpenedNote {
    let mut known: Vec<VerifierKey> = NAMES.iter().map(|name| vkey(name, KeyKind::Ed25519)).collect();
    known.push(vkey("witness.example", KeyKind::Cosignature));
    open_note(&std::fs::read(path).unwrap(), &known).unwrap()
}

#[test]
fn signatures_of_all_nodes_come_together_in_one_note() {
    let folder = tempfile::tempdir().unwrap();
    // Some are ahead, over tiles' edges: all sign the smallest.
    let nodes = four([700, 300, 257, 66_000].map(|size| Log::new(size, size, 0)));
    let out = folder.path().join("note");
    let json = collect(&nodes, &["--out", out.to_str().unwrap()]).exits(0).json();
    assert_eq!((&json["ok"], &json["size"], &json["asked"]), (&true.into(), &257.into(), &4.into()));
    assert_eq!(json["signed_by"].as_array().unwrap().len(), 4);
    let note = opened(&out);
    assert_eq!((note.signed_by.len(), note.unknown), (4, 0));
    assert_eq!(Checkpoint::parse(&note.text).unwrap().size, 257);
    // The file is there: nothing is overwritten.
    let json = collect(&nodes, &["--out", out.to_str().unwrap()]).exits(1).json();
    assert_eq!(json["error"]["reason"], "EXISTS");
    let text = assent(&arguments(&["checkpoint"], &nodes, &[])).exits(0).out;
    assert!(text.starts_with("4 of 4 nodes asked signed one checkpoint\n"), "{text}");
}

#[test]
fn what_is_not_answered_is_suspicion_and_no_proof() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = same(300);
    let ahead = Log::new(500, 500, 0);
    nodes[3].set(ahead.clone());
    let note = ahead.note(500, NAMES[3]);
    let other = Log::new(500, 500, 0).note(500, "stranger.example");
    for (n, (path, status, body)) in [
        ("checkpoint", 500, &b"STOPPING: this node stops"[..]),
        ("checkpoint", 404, b""),
        ("checkpoint", 200, b""),
        ("checkpoint", 200, note.trim_end().as_bytes()),
        ("checkpoint", 200, note.replace("\n500\n", "\n501\n").as_bytes()),
        ("checkpoint", 200, other.as_bytes()),
        ("checkpoint/300", 404, b""),
        ("checkpoint/300", 200, note.as_bytes()),
        ("tile/0/001.p/244", 404, b""),
        ("tile/0/001.p/244", 200, &[7; 244 * 32]),
        ("tile/0/001.p/244", 200, &[7; 243 * 32]),
    ]
    .into_iter()
    .enumerate()
    {
        nodes[3].be_honest();
        nodes[3].lie(path, status, body);
        let out = folder.path().join(format!("note-{n}"));
        let json = collect(&nodes, &["--out", out.to_str().unwrap()]).exits(4).json();
        assert_eq!((&json["ok"], &json["contradiction"]), (&false.into(), &serde_json::Value::Null));
        let suspicions = json["suspicions"].as_array().unwrap();
        assert_eq!((suspicions.len(), &suspicions[0]["node"]), (1, &nodes[3].url.as_str().into()), "{json}");
        assert_eq!(opened(&out).signed_by.len(), 3, "what the others signed counts: {path} {status}");
    }
    nodes[3].be_honest();
    collect(&nodes, &[]).exits(0);
    // Nobody there at all.
    let nobody = ["checkpoint", "http://127.0.0.1:1", "--checkpoint-key"];
    let birch = vkey(NAMES[0], KeyKind::Ed25519).to_string();
    let run = assent(&[&nobody[..], &[&birch]].concat()).exits(4);
    assert!(run.out.contains("A suspicion proves nothing"), "{run:?}");
    // Usage.
    let reason = |arguments: &[&str], exit| assent(arguments).exits(exit).json()["error"]["reason"].clone();
    let json = ["--output", "json"];
    assert_eq!(reason(&[&nobody[..2], &json].concat(), 2), "NO_CHECKPOINT_KEY");
    assert_eq!(reason(&[&nobody[..], &["birch"], &json].concat(), 2), "MALFORMED_KEY");
    let https = ["checkpoint", "https://127.0.0.1:1", "--checkpoint-key", &birch];
    assert_eq!(reason(&[&https[..], &json].concat(), 2), "MALFORMED_URL");
}

#[test]
fn two_roots_for_one_size_are_proven_by_their_notes() {
    let folder = tempfile::tempdir().unwrap();
    // Two of four, with one network's first 260 leaves, and another history from there on; at the same size and ahead.
    for (n, sizes) in
        [[300, 300, 300, 300], [300, 300, 400, 500], [700, 300, 300, 400]].into_iter().enumerate()
    {
        let [a, b, c, d] = sizes;
        let nodes =
            four([Log::new(a, 260, 0), Log::new(b, 260, 0), Log::new(c, 260, 1), Log::new(d, 260, 1)]);
        let (out, evidence) =
            (folder.path().join(format!("out-{n}")), folder.path().join(format!("evidence-{n}")));
        let flags = ["--out", out.to_str().unwrap(), "--evidence", evidence.to_str().unwrap()];
        let json = collect(&nodes, &flags).exits(3).json();
        assert_eq!((&json["contradiction"]["size"], &json["size"]), (&300.into(), &serde_json::Value::Null));
        assert!(!out.exists(), "no note is made of contradictory ones");
        let [one, other] = ["one.note", "other.note"].map(|name| opened(&evidence.join(name)));
        assert!(!one.signed_by.is_empty() && !other.signed_by.is_empty());
        let [one, other] = [one, other].map(|note| Checkpoint::parse(&note.text).unwrap());
        assert_eq!((one.size, &one.origin), (other.size, &other.origin));
        assert_ne!(one.root, other.root);
    }
    // Where the views have not parted yet, nothing can be seen.
    collect(
        &four([Log::new(260, 260, 0), Log::new(300, 260, 1), Log::new(256, 256, 0), Log::new(260, 260, 1)]),
        &[],
    )
    .exits(0);
}

#[test]
fn a_witness_cosigns_what_grew_from_what_it_saw() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("key.pem"), to_pem(&key("witness.example")).unwrap()).unwrap();
    let nodes = same(300);
    let mut count = 0;
    let mut cosign = |nodes: &[Published], exit: i32| {
        count += 1;
        let (key, state, out) = (path("key.pem"), path("state"), path(&format!("note-{count}")));
        let flags = ["--cosign", &key, "--name", "witness.example", "--state", &state, "--out", &out];
        let json = collect(nodes, &flags).exits(exit).json();
        let note = std::path::Path::new(&out);
        let cosigned = note.exists() && opened(note).signed_by.iter().any(|(_, time)| time.is_some());
        assert_eq!(json["cosigned_by"] == "witness.example", cosigned, "{json}");
        cosigned
    };
    assert!(cosign(&nodes, 0));
    assert!(cosign(&nodes, 0), "the same again");
    nodes.iter().for_each(|node| node.set(Log::new(777, 777, 0)));
    assert!(cosign(&nodes, 0));
    let memory = std::fs::read(path("state")).unwrap();
    // All nodes together give it an older one, one that did not grow from it, and another one of its size.
    assert!(!cosign(&same(776), 4));
    assert!(!cosign(&four([800; 4].map(|size| Log::new(size, 700, 1))), 4));
    assert!(!cosign(&four([777; 4].map(|size| Log::new(size, 700, 1))), 3));
    assert_eq!(std::fs::read(path("state")).unwrap(), memory);
    let text = String::from_utf8(memory).unwrap();
    for garbage in ["", "garbage", text.trim_end(), &text.replace("777", "700")] {
        std::fs::write(path("state"), garbage).unwrap();
        assert!(!cosign(&nodes, 2), "{garbage:?}");
    }
    std::fs::write(path("state"), text).unwrap();
    assert!(cosign(&nodes, 0));
}

#[test]
fn genesis_names_the_keys_that_count() {
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::new(1, [3; 32], None);
    let (export, spans) = chain.export();
    let genesis = folder.path().join("genesis.bin");
    std::fs::write(&genesis, &export[spans[1].bytes.clone()][5..]).unwrap();
    let ask = |hash: &str, exit| {
        let file = genesis.to_str().unwrap();
        let flags = ["--genesis", file, "--genesis-hash", hash, "--output", "json"];
        assent(&[&["checkpoint", "http://127.0.0.1:1"], &flags[..]].concat()).exits(exit).json()
    };
    let keys = ask(&chain.genesis_hash(), 4)["known_keys"].clone();
    let names: Vec<String> = keys
        .as_array()
        .unwrap()
        .iter()
        .map(|k| VerifierKey::parse(k.as_str().unwrap()).unwrap().name().to_owned())
        .collect();
    assert_eq!(names, ["birch", "cedar", "dogwood", "elm"].map(|id| format!("{id}.{CHAIN}")));
    assert_eq!(ask(&"00".repeat(32), 3)["error"]["reason"], "WRONG_GENESIS");
    std::fs::write(&genesis, "garbage").unwrap();
    assert_eq!(ask(&chain.genesis_hash(), 2)["error"]["reason"], "MALFORMED_GENESIS");
}
