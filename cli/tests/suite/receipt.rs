//! `assent verify` of receipts: what holds, what doesn't, and what can't be decided.

use std::path::{Path, PathBuf};

use assent_ledger::checkpoint::{sign_note, Checkpoint, KeyKind, VerifierKey};
use assent_ledger::keys::SigningKey;
use assent_proto::ledger::v1::{Receipt, RecordBundle};
use assent_proto::v1::receipt_service_server::ReceiptService;
use assent_proto::v1::*;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::chain::Chain;
use crate::node::{Node, Told};
use crate::program::{assent, Run};

#[tonic::async_trait]
impl ReceiptService for Told {
    async fn get_slot_receipt(
        &self,
        _: Request<GetSlotReceiptRequest>,
    ) -> Result<Response<GetSlotReceiptResponse>, Status> {
        let receipt = self.0.lock().unwrap().receipt.clone();
        Ok(Response::new(GetSlotReceiptResponse { answer: None, receipt }))
    }

    async fn get_access_receipt(
        &self,
        _: Request<GetAccessReceiptRequest>,
    ) -> Result<Response<GetAccessReceiptResponse>, Status> {
        let receipt = self.0.lock().unwrap().receipt.clone();
        Ok(Response::new(GetAccessReceiptResponse { answer: None, receipt }))
    }

    async fn get_decision_receipt(
        &self,
        request: Request<GetDecisionReceiptRequest>,
    ) -> Result<Response<GetDecisionReceiptResponse>, Status> {
        let mut script = self.0.lock().unwrap();
        script.decision_asked = Some(request.into_inner());
        let receipt = script.receipt.clone();
        Ok(Response::new(GetDecisionReceiptResponse { answer: None, receipt }))
    }
}

/// What a node sends is written only when it holds and is what was asked for.
#[test]
fn a_node_that_lies_leaves_no_file() {
    let (desk, node) = (Desk::new(), Node::start());
    let (hash, out) = (desk.chain.genesis_hash(), node.text("receipt"));
    let files = desk.chain.receipt_files();
    let body = |kind: &str| files.iter().find(|(k, _)| *k == kind).unwrap().1[8..].to_vec();
    let (handle, other) = (hex::encode([3; 32]), hex::encode([8; 32]));
    let anchor = ["--out", out.as_str(), "--genesis-hash", hash.as_str()];
    let slot = |handle: &str| {
        let asked = ["receipt", "slot", "--custodian", "cedar", "--handle", handle];
        node.crm(&[asked.as_slice(), &anchor].concat())
    };
    let access = || node.crm(&[["receipt", "access", "--request-id", "r-1"].as_slice(), &anchor].concat());
    let decision = || {
        let asked = ["receipt", "decision", "--custodian", "cedar", "--identifier", "urn:x:mrn|17"];
        let what = ["--birth-date", "2000-02-29", "--purpose", "TREAT"];
        node.crm(&[asked.as_slice(), &what, &anchor].concat())
    };
    let mut flipped = body("slot");
    flipped[50] ^= 1;
    for lie in [flipped, body("access"), body("absence"), b"?".to_vec(), Vec::new()] {
        node.told.set(|script| script.receipt = lie);
        let run = slot(&handle).exits(3);
        assert!(run.err.contains("BAD_RECEIPT"), "{run:?}");
        assert!(!node.path("receipt").exists());
    }
    node.told.set(|script| script.receipt = body("slot"));
    slot(&other).exits(3);
    access().exits(3);
    decision().exits(3);
    let run = slot(&handle).exits(0);
    assert!(run.out.starts_with("holds: the state of one patient's consent"), "{run:?}");
    let path = node.path("receipt");
    assert_eq!(std::fs::read(&path).unwrap(), files[0].1);
    assent(&["verify", &out, "--genesis-hash", &hash]).exits(0);
    // Nothing is overwritten.
    slot(&handle).exits(1);
    std::fs::remove_file(&path).unwrap();
    node.told.set(|script| script.receipt = body("access"));
    access().exits(0);
    std::fs::remove_file(&path).unwrap();
    node.told.set(|script| script.receipt = body("absence"));
    assert!(slot(&other).exits(0).out.contains("nothing was ever committed"), "absence");
}

struct Desk {
    folder: tempfile::TempDir,
    chain: Chain,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), chain: Chain::new(1, [3; 32], None) }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn verify(&self, bytes: &[u8], more: &[&str]) -> Run {
        let path = self.file("receipt", bytes);
        assent(&[&["verify", path.to_str().unwrap(), "--output", "json"], more].concat())
    }

    /// A note over a checkpoint by this key, and the key as flags name it.
    fn note(&self, checkpoint: &Checkpoint, key: u8) -> (PathBuf, String) {
        let key = SigningKey::from_bytes(&[key; 32]);
        let text = checkpoint.text();
        let note = format!("{text}\n{}", sign_note(&text, "witness", &key).unwrap());
        let name = VerifierKey::new("witness", KeyKind::Ed25519, key.verifying_key().to_bytes()).unwrap();
        (self.file("checkpoint", note.as_bytes()), name.to_string())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn receipts_hold_and_say_what_they_show_and_what_not() {
    let desk = Desk::new();
    let hash = desk.chain.genesis_hash();
    let anchor = ["--genesis-hash", hash.as_str()];
    for (kind, bytes) in desk.chain.receipt_files() {
        assert!(bytes.len() <= 4096, "{kind}: {} bytes", bytes.len());
        let json = desk.verify(&bytes, &anchor).exits(0).json();
        assert_eq!((&json["ok"], &json["claim"]), (&true.into(), &kind.into()));
        assert!(!json["does_not_show"].as_array().unwrap().is_empty());
        assert_eq!(json["height"], 4);
        let path = desk.file("receipt", &bytes);
        let run = assent(&["verify", text(&path), "--genesis-hash", &hash]).exits(0);
        assert!(run.out.starts_with("holds: ") && run.out.contains("It does not show:"), "{run:?}");
        // Without an anchor it is consistent; with another one it does not hold; damaged it never holds.
        assert_eq!(desk.verify(&bytes, &[]).exits(4).json()["ok"], false);
        desk.verify(&bytes, &["--genesis-hash", &"0".repeat(64)]).exits(3);
        for at in (8..bytes.len()).step_by(41) {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            desk.verify(&bad, &anchor).exits(3);
        }
        desk.verify(&bytes[..bytes.len() - 1], &anchor).exits(3);
        desk.verify(&[bytes.as_slice(), &[0]].concat(), &anchor).exits(3);
    }
}

#[test]
fn a_pinned_receipt_needs_its_checkpoint() {
    let desk = Desk::new();
    let (checkpoint, bytes) = desk.chain.pinned_receipt();
    let (note, key) = desk.note(&checkpoint, 7);
    let pin = ["--checkpoint", text(&note), "--checkpoint-key", key.as_str()];
    let json = desk.verify(&bytes, &pin).exits(0).json();
    assert_eq!((&json["anchored"], &json["checkpoint"]["size"]), (&true.into(), &checkpoint.size.into()));
    assert_eq!(json["checkpoint"]["signed_by"][0], "witness");
    let mut bad = bytes.clone();
    bad[100] ^= 1;
    desk.verify(&bad, &pin).exits(3);
    // Nothing that is given says anything of it: undecided.
    let hash = desk.chain.genesis_hash();
    for more in [&[][..], &["--genesis-hash", &hash]] {
        let run = desk.verify(&bytes, more).exits(4);
        assert_eq!(run.json()["error"]["reason"], "OTHER_ANCHOR");
    }
    for (_, starts_at_genesis) in desk.chain.receipt_files() {
        desk.verify(&starts_at_genesis, &pin).exits(4);
    }
    for starts_at_genesis in [desk.chain.bundle(), desk.chain.history_file(2)] {
        let run = desk.verify(&starts_at_genesis, &pin).exits(4);
        assert_eq!(run.json()["error"]["reason"], "OTHER_ANCHOR");
    }
    // A bundle around this receipt needs the checkpoint too.
    let proof = Some(Receipt::decode(&bytes[8..]).unwrap());
    let bundle = RecordBundle { proof, resources: desk.chain.resources.clone() };
    let bundle = [b"ASSENTB1".as_slice(), &bundle.encode_to_vec()].concat();
    assert_eq!(desk.verify(&bundle, &pin).exits(0).json()["checkpoint"]["signed_by"][0], "witness");
    desk.verify(&bundle, &["--genesis-hash", &hash]).exits(4);
    // Signed by nobody that is known; of another root; of another size.
    desk.verify(&bytes, &pin[..2]).exits(4);
    let (note, key) = desk.note(&Checkpoint { root: [1; 32], ..checkpoint.clone() }, 7);
    desk.verify(&bytes, &["--checkpoint", text(&note), "--checkpoint-key", &key]).exits(3);
    let (note, key) = desk.note(&Checkpoint { size: checkpoint.size + 1, ..checkpoint }, 7);
    desk.verify(&bytes, &["--checkpoint", text(&note), "--checkpoint-key", &key]).exits(4);
}

/// The checkpoint is older than the permit: asked for from it, kept, and verified with it alone.
#[test]
fn a_permit_starts_at_an_older_checkpoint() {
    let (desk, node) = (Desk::new(), Node::start());
    let (checkpoint, bytes) = desk.chain.pinned_decision();
    let (note, key) = desk.note(&checkpoint, 7);
    let (out, pin) = (node.text("receipt"), ["--checkpoint", text(&note), "--checkpoint-key", key.as_str()]);
    node.told.set(|script| script.receipt = bytes[8..].to_vec());
    let asked = ["receipt", "decision", "--custodian", "cedar", "--identifier", "urn:x:mrn|17"];
    let what = ["--birth-date", "2000-02-29", "--purpose", "TREAT", "--out", &out];
    node.crm(&[asked.as_slice(), &what, &pin].concat()).exits(0);
    let asked = node.told.0.lock().unwrap().decision_asked.take().unwrap();
    assert_eq!(asked.checkpoint_size, checkpoint.size);
    assert_eq!(std::fs::read(node.path("receipt")).unwrap(), bytes);
    assert!(bytes.len() <= 4096);

    let run = assent(&[["verify", out.as_str()].as_slice(), &pin].concat()).exits(0);
    let way = format!("from the checkpoint of {} leaves, over 0 changes of validators", checkpoint.size);
    for said in [
        "holds: a permit, and that the consent it rests on still stood\n",
        &way,
        "no second chain after your checkpoint",
    ] {
        assert!(run.out.contains(said), "{said}: {run:?}");
    }
    let json = desk.verify(&bytes, &pin).exits(0).json();
    assert_eq!((&json["claim"], &json["set_changes"]), (&"decision".into(), &0.into()));
    let signed = serde_json::json!({ "size": checkpoint.size, "signed_by": ["witness"], "within": false });
    assert_eq!(json["checkpoint"], signed);
    for at in (8..bytes.len()).step_by(37) {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        desk.verify(&bad, &pin).exits(3);
    }
    let hash = desk.chain.genesis_hash();
    assert_eq!(
        desk.verify(&bytes, &["--genesis-hash", &hash]).exits(4).json()["error"]["reason"],
        "OTHER_ANCHOR"
    );
    let (note, key) = desk.note(&Checkpoint { origin: "assent/other".into(), ..checkpoint }, 7);
    desk.verify(&bytes, &["--checkpoint", text(&note), "--checkpoint-key", &key]).exits(3);
}

#[test]
fn a_list_of_digests_is_compared_with_what_was_released() {
    let desk = Desk::new();
    let hash = desk.chain.genesis_hash();
    let files = desk.chain.receipt_files();
    let of = |kind: &str| files.iter().find(|(k, _)| *k == kind).unwrap().1.clone();
    let digest = |bytes: &Vec<u8>| hex::encode(assent_ledger::hash::sha256(bytes));
    let digests: Vec<String> = desk.chain.resources.iter().map(digest).collect();
    let with = |list: String, receipt: &[u8]| {
        let list = desk.file("digests", list.as_bytes());
        desk.verify(receipt, &["--genesis-hash", &hash, "--digests", text(&list)])
    };
    let access = of("access");
    let json = with(format!("{}  a.json\n{}  b.json\n", digests[0], digests[1]), &access).exits(0).json();
    assert_eq!(json["digests"], 2);
    for wrong in [format!("{}\n", digests[0]), format!("{}\n{}\n", digests[1], digests[0]), String::new()] {
        assert_eq!(with(wrong, &access).exits(3).json()["error"]["reason"], "OTHER_RECORDS");
    }
    with("a.json\n".into(), &access).exits(2);
    with(digests.join("\n"), &of("slot")).exits(2);
}

#[test]
fn a_receipt_of_100_mb_is_refused_unread() {
    let desk = Desk::new();
    let path = desk.file("receipt", b"ASSENTR1");
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100 << 20).unwrap();
    let run = assent(&["verify", text(&path), "--genesis-hash", &desk.chain.genesis_hash()]).exits(3);
    assert!(run.err.contains("more than 65544 bytes"), "{run:?}");
}
