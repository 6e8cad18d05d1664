//! `assent audit watch`: pins, growth, alarms, and what is only suspicion.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{assent, Run};
use crate::published::{arguments, four, keys, opened, same, Log, Published};

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn arguments(&self, nodes: &[Published], more: &[&str]) -> Vec<String> {
        let (state, metrics) = (self.path("state"), self.path("metrics.prom"));
        let flags = ["--state", &state, "--metrics-file", &metrics, "--output", "json"];
        arguments(&["audit", "watch"], nodes, &[&flags, more].concat())
    }

    fn look(&self, nodes: &[Published]) -> Run {
        assent(&self.arguments(nodes, &["--once"]))
    }

    fn metric(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("metrics.prom")).unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    }

    /// Sizes that are pinned, smallest first.
    fn pins(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.path("state")).unwrap().map(|entry| entry.unwrap().path());
        let notes = files.filter(|path| path.extension().is_some_and(|e| e == "note"));
        let mut sizes: Vec<String> =
            notes.map(|path| opened(&path).text.lines().nth(1).unwrap().to_owned()).collect();
        sizes.sort();
        sizes
    }
}

#[test]
fn a_log_that_grows_is_pinned_as_it_grows() {
    let desk = Desk::new();
    let nodes = four([300, 300, 310, 600].map(|size| Log::new(size, size, 0)));
    let json = desk.look(&nodes).exits(0).json();
    assert_eq!((&json["ok"], &json["evidence"]), (&true.into(), &Value::Null));
    assert_eq!(desk.pins(), ["300", "300", "310", "600"]);
    assert_eq!(desk.metric("assent_watch_leaves"), ["300", "300", "310", "600"]);
    nodes.iter().for_each(|node| node.set(Log::new(900, 900, 0)));
    desk.look(&nodes).exits(0);
    assert_eq!(desk.pins(), ["900"; 4]);
    assert_eq!(desk.metric("assent_watch_contradictions"), ["0"]);
    assert_eq!(desk.metric("assent_watch_suspicious"), ["0"; 4]);
    desk.look(&nodes).exits(0);
}

#[test]
fn what_is_no_proof_is_counted_and_pins_nothing() {
    let desk = Desk::new();
    let nodes = same(300);
    desk.look(&nodes).exits(0);
    let longer = Log::new(400, 400, 0);
    nodes[3].set(longer.clone());
    for (path, status, body) in [
        ("checkpoint", 503, &b"CATCHING_UP: later"[..]),
        ("checkpoint", 200, b"garbage"),
        ("tile/0/001.p/144", 404, b""),
        ("tile/0/001.p/144", 200, &[7; 144 * 32]),
        // Back to what it was long ago: an older note of its own, which anybody may have kept.
        ("checkpoint", 200, Log::new(100, 100, 0).note(100, "elm.testnet-cli").as_bytes()),
    ] {
        nodes[3].be_honest();
        nodes[3].lie(path, status, body);
        let json = desk.look(&nodes).exits(4).json();
        assert_eq!((&json["ok"], &json["contradiction"]), (&false.into(), &Value::Null));
        assert!(
            json["suspicions"].as_array().unwrap().iter().any(|s| s["node"] == nodes[3].url.as_str()),
            "{json}"
        );
        assert_eq!(desk.pins(), ["300"; 4], "{path}");
        assert_eq!(desk.metric("assent_watch_suspicious")[3], "1");
        assert_eq!(desk.metric("assent_watch_contradictions"), ["0"]);
    }
    nodes[3].be_honest();
    desk.look(&nodes).exits(0);
    assert_eq!(desk.pins(), ["300", "300", "300", "400"]);
    // A memory that was touched is not read over.
    let pin = std::fs::read_dir(desk.path("state")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&pin).unwrap();
    std::fs::write(&pin, text.replacen("00\n", "01\n", 1)).unwrap();
    assert_eq!(desk.look(&nodes).exits(2).json()["error"]["reason"], "MALFORMED_STATE");
}

/// The evidence of a report: two notes, both signed by keys of the network, that can't be of one log.
fn convicts(json: &Value, size: u64) {
    assert_eq!((&json["ok"], &json["contradiction"]["size"]), (&false.into(), &size.into()));
    let folder = Path::new(json["evidence"].as_str().unwrap());
    let [one, other] = ["one.note", "other.note"].map(|name| opened(&folder.join(name)));
    assert!(!one.signed_by.is_empty() && !other.signed_by.is_empty() && one.text != other.text);
    let head = |text: &str| text.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(head(&one.text), head(&other.text));
    // One file of both verifies by the keys alone; without them, or with a flipped bit, it shows nothing.
    let file = folder.join("split.evidence");
    let verify = |more: &[String]| {
        let path = file.to_str().unwrap().to_owned();
        assent(&[&["verify".to_owned(), path, "--output".into(), "json".into()], more].concat())
    };
    let keys = keys();
    let split = verify(&keys).exits(0).json();
    assert_eq!((&split["kind"], &split["size"]), (&"split".into(), &size.into()));
    assert_eq!(verify(&[]).exits(4).json()["error"]["reason"], "UNKNOWN_CHECKPOINT_KEY");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[15] ^= 1; // in the text of the first note
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(verify(&keys).exits(3).json()["error"]["reason"], "DOES_NOT_HOLD");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_split_view_and_a_rewritten_past_are_proven() {
    // Two nodes show another history than the other two, behind what all have pinned.
    let desk = Desk::new();
    let nodes = same(300);
    desk.look(&nodes).exits(0);
    for (n, node) in nodes.iter().enumerate() {
        node.set(Log::new(400 + n * 50, 350, (n / 2) as u8));
    }
    let json = desk.look(&nodes).exits(3).json();
    convicts(&json, 400);
    assert_eq!(
        (desk.pins(), desk.metric("assent_watch_contradictions")),
        (vec!["300".to_owned(); 4], vec!["1".to_owned()])
    );
    // Looked at again: the same evidence.
    assert_eq!(desk.look(&nodes).exits(3).json()["evidence"], json["evidence"]);
    assert_eq!(desk.metric("assent_watch_contradictions"), ["1"]);

    // All nodes together rewrite what they signed before: they agree, and the pins tell.
    for size in [300, 301, 400] {
        let desk = Desk::new();
        let nodes = same(300);
        desk.look(&nodes).exits(0);
        nodes.iter().for_each(|node| node.set(Log::new(size, 200, 1)));
        convicts(&desk.look(&nodes).exits(3).json(), 300);
        assert_eq!(desk.pins(), ["300"; 4]);
    }
}

#[test]
fn it_watches_until_there_is_an_alarm() {
    let desk = Desk::new();
    let nodes = same(300);
    let mut watch = Command::new(env!("CARGO_BIN_EXE_assent"))
        .args(desk.arguments(&nodes, &["--every", "1"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while desk.0.path().join("state").read_dir().map_or(0, Iterator::count) < 4 {
        assert!(begin.elapsed() < Duration::from_secs(20), "nothing is pinned");
        std::thread::sleep(Duration::from_millis(50));
    }
    nodes[0].lie("checkpoint", 503, b"");
    while desk.metric("assent_watch_suspicious").first().map(String::as_str) != Some("1") {
        assert!(begin.elapsed() < Duration::from_secs(40), "no suspicion");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(watch.try_wait().unwrap(), None, "a suspicion ends nothing");
    nodes[0].be_honest();
    nodes[0].set(Log::new(300, 200, 1));
    let ended = watch.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3));
    convicts(&serde_json::from_slice(&ended.stdout).unwrap(), 300);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("suspicion  ") && said.contains("proves nothing"), "{said}");
    assert_eq!(desk.pins(), ["300"; 4]);
}
