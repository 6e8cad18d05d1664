//! `assent audit verify`: whole exports offline.

use crate::chain::{Chain, CHAIN};
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
fn what_is_not_built_yet_is_refused() {
    let (folder, chain) = (Folder::new(), chain());
    let (export, _) = chain.export();
    let run = folder.verify(&export, &["--level", "structural"]).exits(2);
    assert!(run.err.contains("not built yet"), "{run:?}");
    folder.verify(&export, &["--level", "some"]).exits(2);
    assent(&["audit", "verify", "/nonexistent/export", "--genesis-hash", &chain.genesis_hash()]).exits(2);
}
