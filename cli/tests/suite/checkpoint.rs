//! Checkpoints that an auditor pins: as the anchor, and as the end that a file must reach.

use std::path::{Path, PathBuf};

use assent_ledger::audit::{write_record, ChainVerifier, Level, RecordKind, EXPORT_MAGIC};
use assent_ledger::checkpoint::{cosign_note, origin, sign_note, Checkpoint, KeyKind, VerifierKey};
use assent_ledger::keys::SigningKey;
use assent_proto::ledger::v1::Block;
use prost::Message;

use crate::chain::{Chain, CHAIN};
use crate::program::{assent, Run};

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn vkey(name: &str, n: u8, kind: KeyKind) -> String {
    VerifierKey::new(name, kind, key(n).verifying_key().to_bytes()).unwrap().to_string()
}

struct Desk {
    folder: tempfile::TempDir,
    /// Records of the export: kind and payload.
    records: Vec<(RecordKind, Vec<u8>)>,
    /// Checkpoints after genesis and each block.
    checkpoints: Vec<Checkpoint>,
}

impl Desk {
    fn new(world: u8) -> Self {
        let chain = Chain::new(world, [3; 32], None);
        let (export, spans) = chain.export();
        let kinds = [RecordKind::Genesis, RecordKind::Block, RecordKind::Certificate];
        let mut verifier = ChainVerifier::new(Level::Full, None);
        let (mut records, mut checkpoints) = (Vec::new(), Vec::new());
        for span in &spans[1..] {
            let bytes = &export[span.bytes.clone()];
            let kind = kinds.into_iter().find(|kind| kind.byte() == bytes[0]).unwrap();
            verifier.record(kind, &bytes[5..]).unwrap();
            records.push((kind, bytes[5..].to_vec()));
            let log = &verifier.tip().unwrap().log;
            let (size, root) = (log.size(), log.root());
            checkpoints.push(Checkpoint { origin: origin(CHAIN), size, root, extensions: Vec::new() });
        }
        Self { folder: tempfile::tempdir().unwrap(), records, checkpoints }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The export up to a height, as a node had it then: its last certificate is the one that the next block carries.
    fn export(&self, height: usize) -> PathBuf {
        let mut out = EXPORT_MAGIC.to_vec();
        for (kind, payload) in &self.records[..=height] {
            write_record(&mut out, *kind, payload);
        }
        let (kind, next) = &self.records[height + 1];
        let certificate = match kind {
            RecordKind::Block => Block::decode(next.as_slice()).unwrap().previous_certificate,
            _ => next.clone(),
        };
        write_record(&mut out, RecordKind::Certificate, &certificate);
        self.file(&format!("export-{height}"), &out)
    }

    /// A note on a checkpoint, signed by Birch.
    fn note(&self, checkpoint: &Checkpoint) -> PathBuf {
        let text = checkpoint.text();
        self.file("note", format!("{text}\n{}", sign_note(&text, "birch", &key(1)).unwrap()).as_bytes())
    }

    fn verify(&self, export: &Path, more: &[&str]) -> Run {
        let mut arguments = vec!["audit", "verify", export.to_str().unwrap(), "--output", "json"];
        arguments.extend(more);
        assent(&arguments)
    }
}

#[test]
fn a_checkpoint_anchors_a_chain_that_leads_through_it() {
    let desk = Desk::new(1);
    let (birch, whole) = (vkey("birch", 1, KeyKind::Ed25519), desk.export(4));
    for checkpoint in &desk.checkpoints[1..5] {
        let note = desk.note(checkpoint);
        let flags = ["--checkpoint", note.to_str().unwrap(), "--checkpoint-key", &birch];
        let json = desk.verify(&whole, &flags).exits(0).json();
        assert_eq!((&json["ok"], &json["anchored"]), (&true.into(), &true.into()));
        let said = &json["checkpoints"][0];
        assert_eq!((&said["size"], &said["signed_by"][0]), (&checkpoint.size.into(), &"birch".into()));
    }
    // The same sizes of another chain, another root, and a size that is no block's end.
    let last = desk.checkpoints[4].clone();
    let others = [
        Desk::new(2).checkpoints[4].clone(),
        Checkpoint { root: [7; 32], ..last.clone() },
        Checkpoint { origin: origin("other-chain"), ..last.clone() },
        Checkpoint { size: desk.checkpoints[1].size - 1, ..last.clone() },
    ];
    for other in &others {
        let note = desk.note(other);
        let flags = ["--checkpoint", note.to_str().unwrap(), "--checkpoint-key", &birch];
        let json = desk.verify(&whole, &flags).exits(3).json();
        assert_eq!((&json["fault"]["kind"], &json["anchored"]), (&"checkpoint".into(), &false.into()));
    }
}

#[test]
fn a_file_that_was_cut_at_a_blocks_edge_is_found() {
    let desk = Desk::new(1);
    let birch = vkey("birch", 1, KeyKind::Ed25519);
    let genesis = Chain::new(1, [3; 32], None).genesis_hash();
    let note = desk.note(&desk.checkpoints[3]);
    let flags = [
        "--genesis-hash",
        &genesis,
        "--expect-checkpoint",
        note.to_str().unwrap(),
        "--checkpoint-key",
        &birch,
    ];
    for height in 1..=4 {
        let export = desk.export(height);
        // By itself it holds.
        desk.verify(&export, &["--genesis-hash", &genesis]).exits(0);
        let run = desk.verify(&export, &flags);
        if height >= 3 {
            run.exits(0);
            continue;
        }
        let json = run.exits(3).json();
        assert_eq!((&json["fault"]["kind"], &json["fault"]["height"]), (&"truncated".into(), &height.into()));
    }
    // Without an anchor it is consistent, however long.
    desk.verify(&desk.export(4), &flags[2..]).exits(4);
    let text =
        assent(&[&["audit", "verify", desk.export(4).to_str().unwrap()], &flags[..]].concat()).exits(0);
    assert!(!text.out.contains("compare the last height") && text.out.contains("leads through"), "{text:?}");
}

#[test]
fn keys_and_notes_that_do_not_count() {
    let desk = Desk::new(1);
    let (birch, whole) = (vkey("birch", 1, KeyKind::Ed25519), desk.export(4));
    let note = desk.note(&desk.checkpoints[4]);
    let with = |note: &PathBuf, keys: &[&str]| {
        let mut flags = vec!["--checkpoint", note.to_str().unwrap()];
        keys.iter().for_each(|key| flags.extend(["--checkpoint-key", key]));
        desk.verify(&whole, &flags)
    };
    let reason = |run: Run, exit: i32| run.exits(exit).json()["error"]["reason"].clone();
    assert_eq!(reason(with(&note, &[]), 4), "UNKNOWN_CHECKPOINT_KEY");
    assert_eq!(reason(with(&note, &[&vkey("birch", 2, KeyKind::Ed25519)]), 4), "UNKNOWN_CHECKPOINT_KEY");
    assert_eq!(reason(with(&note, &["birch"]), 2), "MALFORMED_KEY");
    let text = std::fs::read_to_string(&note).unwrap();
    let lie = desk.file(
        "lie",
        text.replace("\n5\n", "\n6\n").replace("\n9\n", "\n8\n").replace("\n7\n", "\n6\n").as_bytes(),
    );
    assert_eq!(reason(with(&lie, &[&birch]), 3), "CHECKPOINT_SIGNATURE");
    let cut = desk.file("cut", text.trim_end().as_bytes());
    assert_eq!(reason(with(&cut, &[&birch]), 2), "MALFORMED_CHECKPOINT");
    assert_eq!(reason(with(&PathBuf::from("/nonexistent"), &[&birch]), 2), "UNREADABLE");
    let empty = desk.note(&Checkpoint { size: 0, ..desk.checkpoints[1].clone() });
    assert_eq!(reason(with(&empty, &[&birch]), 2), "MALFORMED_CHECKPOINT");
    // A witness that somebody else runs counts too, and a signature twice counts once.
    let text = desk.checkpoints[4].text();
    let line = cosign_note(&text, "witness.example", &key(9), 1_763_000_000).unwrap();
    let seen = desk.file("seen", format!("{text}\n{line}{line}").as_bytes());
    let json = with(&seen, &[&vkey("witness.example", 9, KeyKind::Cosignature)]).exits(0).json();
    assert_eq!(json["checkpoints"][0]["signed_by"], serde_json::json!(["witness.example"]));
}
