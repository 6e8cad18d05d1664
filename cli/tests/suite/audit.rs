//! `assent audit verify`: whole exports offline.

use assent_ledger::audit::{write_record, RecordKind};
use assent_ledger::log::{tagged_leaf_hash, LEAF_ENTRY};
use assent_ledger::recovered::{plan_of, without_signatures};
use assent_proto::ledger::v1::{Block, PrunedBlock};
use prost::Message;

use crate::chain::{Chain, Span, CHAIN};
use crate::program::{assent, Run};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn verify(&self, bytes: &[u8], more: &[&str]) -> Run {
        let path = self.0.path().join("export");
        std::fs::write(&path, bytes).unwrap();
        let mut arguments = vec!["audit", "verify", path.to_str().unwrap(), "--output", "json"];
        arguments.extend(more);
        assent(&arguments)
    }
}

fn chain() -> Chain {
    Chain::new(1, [3; 32], None)
}

#[test]
fn a_good_export_holds() {
    let (folder, chain) = (Folder::new(), chain());
    let (export, _) = chain.export();
    let hash = chain.genesis_hash();
    let json = folder.verify(&export, &["--genesis-hash", &hash]).exits(0).json();
    assert_eq!(json["ok"], true);
    assert_eq!((&json["level"], &json["chain_id"]), (&"full".into(), &CHAIN.into()));
    assert_eq!((&json["from"], &json["to"]), (&0.into(), &4.into()));
    assert_eq!((&json["entries"], &json["operations"]), (&3.into(), &3.into()));
    // Three authors, and four validators at each of four heights.
    assert_eq!(json["signatures"], 19);
    assert_eq!((&json["not_checked"], &json["fault"]), (&serde_json::json!([]), &serde_json::Value::Null));
    let path = folder.0.path().join("export");
    let run = assent(&["audit", "verify", path.to_str().unwrap(), "--genesis-hash", &hash]).exits(0);
    assert!(run.out.contains("compare the last height"), "{run:?}");
}

#[test]
fn a_flipped_byte_is_found_and_placed() {
    let (folder, chain) = (Folder::new(), chain());
    let (export, spans) = chain.export();
    let hash = chain.genesis_hash();
    for span in &spans {
        // Every byte of the head, then every eleventh.
        let bytes = span.bytes.clone().enumerate().filter(|(n, _)| *n < 5 || n % 11 == 0).map(|(_, at)| at);
        for at in bytes {
            let mut bad = export.clone();
            bad[at] ^= 1 << (at % 8);
            let run = folder.verify(&bad, &["--genesis-hash", &hash]);
            assert_eq!(run.exit, 3, "byte {at} of {}: {run:?}", export.len());
            let json = run.json();
            assert_eq!(json["ok"], false);
            assert_eq!(json["fault"]["height"], span.height, "byte {at} in {:?}: {json}", span.bytes);
        }
    }
}

#[test]
fn cut_joined_and_reordered_exports_do_not_hold() {
    let (folder, chain) = (Folder::new(), chain());
    let (export, spans) = chain.export();
    let hash = chain.genesis_hash();
    let anchor = ["--genesis-hash", hash.as_str()];
    for span in &spans[1..] {
        let genesis_end = spans[1].bytes.end;
        for cut in [span.bytes.start, span.bytes.start + 3, span.bytes.end - 1]
            .into_iter()
            .filter(|cut| *cut != genesis_end)
        {
            let run = folder.verify(&export[..cut], &anchor).exits(3);
            assert!(run.json()["fault"]["kind"].is_string());
        }
    }
    // What is left of a cut right behind genesis is the whole export of a chain without blocks: only the height tells.
    let json = folder.verify(&export[..spans[1].bytes.end], &anchor).exits(0).json();
    assert_eq!(json["to"], 0);
    let part = |n: usize| &export[spans[n].bytes.clone()];
    folder.verify(b"", &anchor).exits(3);
    folder.verify(&[&export[..], &export[..]].concat(), &anchor).exits(3);
    folder.verify(&[&export[..], b"\0"].concat(), &anchor).exits(3);
    folder
        .verify(&[part(0), part(1), part(3), part(2), part(4), part(5), part(6)].concat(), &anchor)
        .exits(3);
    folder.verify(&[part(0), part(1), part(2), part(4), part(5), part(6)].concat(), &anchor).exits(3);
    folder.verify(&[part(0), part(1), part(2), part(2), part(3)].concat(), &anchor).exits(3);
}

#[test]
fn a_chain_of_other_keys_does_not_hold_and_without_anchor_is_only_consistent() {
    let (folder, chain) = (Folder::new(), chain());
    let other = Chain::new(2, [3; 32], None);
    let (export, _) = other.export();
    let json = folder.verify(&export, &["--genesis-hash", &chain.genesis_hash()]).exits(3).json();
    assert_eq!((&json["fault"]["height"], &json["fault"]["kind"]), (&0.into(), &"genesis-hash".into()));
    let json = folder.verify(&export, &[]).exits(4).json();
    assert_eq!((&json["ok"], &json["anchored"]), (&false.into(), &false.into()));
    assert_eq!(json["genesis_hash"], other.genesis_hash());
    // Blocks of one chain behind the genesis of another.
    let (mine, spans) = chain.export();
    let (theirs, their_spans) = other.export();
    let mixed = [&mine[..spans[1].bytes.end], &theirs[their_spans[2].bytes.start..]].concat();
    folder.verify(&mixed, &["--genesis-hash", &chain.genesis_hash()]).exits(3);
}

#[test]
fn the_structural_level_says_what_it_leaves_out() {
    let (folder, chain) = (Folder::new(), chain());
    let (export, spans) = chain.export();
    let hash = chain.genesis_hash();
    let anchor = ["--genesis-hash", &hash, "--level", "structural"];
    let json = folder.verify(&export, &anchor).exits(0).json();
    assert_eq!((&json["ok"], &json["level"]), (&true.into(), &"structural".into()));
    assert_eq!(
        (&json["entries"], &json["operations"], &json["signatures"]),
        (&3.into(), &0.into(), &16.into())
    );
    let left_out = json["not_checked"].as_array().unwrap();
    assert!(left_out.iter().any(|what| what.as_str().unwrap().contains("signatures of the organizations")));
    // A changed byte is found all the same: each is covered by the log, a header or a certificate.
    let block = &spans[2];
    let mut bad = export.clone();
    bad[block.bytes.end - 40] ^= 1;
    let json = folder.verify(&bad, &anchor).exits(3).json();
    assert_eq!(json["fault"]["height"], block.height);
    let path = folder.0.path().join("export");
    std::fs::write(&path, &export).unwrap();
    let run = assent(&[
        "audit",
        "verify",
        path.to_str().unwrap(),
        "--genesis-hash",
        &hash,
        "--level",
        "structural",
    ]);
    let said = run.exits(0).out;
    assert!(said.starts_with("the structure holds: ") && said.contains("not checked: "), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
}

/// A node that pruned writes leaf hashes: full verification says that it could not be done.
#[test]
fn an_export_without_entries_is_not_called_fully_verified() {
    let (folder, chain) = (Folder::new(), chain());
    let (export, spans) = chain.export();
    let hash = chain.genesis_hash();
    let span = spans.iter().find(|span| span.height == 1).unwrap();
    let pruned = without_entries(&export, span);
    let json = folder.verify(&pruned, &["--genesis-hash", &hash]).exits(4).json();
    assert_eq!((&json["ok"], &json["level"]), (&false.into(), &"structural".into()));
    assert_eq!(json["fault"], serde_json::Value::Null);
    assert!(json["not_checked"][0].as_str().unwrap().starts_with("entries of heights 1 to 1"), "{json}");
    folder.verify(&pruned, &["--genesis-hash", &hash, "--level", "structural"]).exits(0);
    // Another leaf hash in place of an entry's.
    let mut bad = pruned.clone();
    let end = pruned.len() - (export.len() - span.bytes.end);
    bad[end - 1] ^= 1;
    for level in ["full", "structural"] {
        let json = folder.verify(&bad, &["--genesis-hash", &hash, "--level", level]).exits(3).json();
        assert_eq!(json["fault"]["height"], 1, "{json}");
    }
}

/// A block with leaf hashes in place of its entries.
pub fn pruned(block: &[u8], chain_id: &str) -> Vec<u8> {
    let block = Block::decode(block).unwrap();
    let recovery = plan_of(chain_id, &block).as_ref().map(without_signatures);
    let leaf_hashes = block.entries.iter().map(|e| tagged_leaf_hash(LEAF_ENTRY, e).to_vec()).collect();
    let Block { header, previous_certificate, .. } = block;
    PrunedBlock { header, previous_certificate, leaf_hashes, recovery }.encode_to_vec()
}

/// The export with leaf hashes in place of one block's entries.
pub fn without_entries(export: &[u8], span: &Span) -> Vec<u8> {
    let pruned = pruned(&export[span.bytes.start + 5..span.bytes.end], CHAIN);
    let mut out = export[..span.bytes.start].to_vec();
    write_record(&mut out, RecordKind::Pruned, &pruned);
    out.extend(&export[span.bytes.end..]);
    out
}

#[test]
fn flags_and_paths_are_usage_errors() {
    let (folder, chain) = (Folder::new(), chain());
    let (export, _) = chain.export();
    folder.verify(&export, &["--level", "some"]).exits(2);
    assent(&["audit", "verify", "/nonexistent/export", "--genesis-hash", &chain.genesis_hash()]).exits(2);
}
