//! Signed notes, checkpoints, verifier keys, and the paths and bundles of tiles.

use std::sync::LazyLock;

use assent_ledger::checkpoint::{open_note, Checkpoint, VerifierKey};
use assent_ledger::tiles::{leaves, push_leaf, TilePath};

use super::edit::Form;
use super::{given, good};

/// A checkpoint with two signatures; the same with a witness's; the three keys, one a line.
pub(super) const GOOD: &[&[u8]] = good!["note/checkpoint", "note/cosigned", "note/keys"];

static KEYS: LazyLock<Vec<VerifierKey>> = LazyLock::new(|| {
    let lines = std::str::from_utf8(GOOD[2]).unwrap().lines();
    lines.map(|line| VerifierKey::parse(line).unwrap()).collect()
});

/// A text that a known key signed is the good one; what is parsed is written the same; a good file is read.
pub fn note(input: &[u8]) {
    let Some(given) = given(input, Form::Text, GOOD) else { return };
    let opened = open_note(&given.bytes, &KEYS);
    if let Ok(opened) = &opened {
        let signed = std::str::from_utf8(GOOD[0]).unwrap().split_once("\n\n").unwrap().0;
        assert!(opened.signed_by.is_empty() || opened.text.strip_suffix('\n') == Some(signed));
        assert!(opened.signed_by.len() <= KEYS.len());
        as_checkpoint(&opened.text);
    }
    match given.good.filter(|good| GOOD[*good] == given.bytes) {
        Some(2) | None => {}
        Some(n) => assert_eq!(opened.map(|opened| (opened.signed_by.len(), opened.unknown)), Ok((n + 2, 0))),
    }
    if let Ok(text) = std::str::from_utf8(&given.bytes) {
        as_checkpoint(text);
        for line in text.lines() {
            if let Ok(key) = VerifierKey::parse(line) {
                assert_eq!(key.to_string(), line);
            }
            if let Some(tile) = TilePath::parse(line) {
                assert_eq!(tile.to_string(), format!("tile/{line}"));
                assert!(!tile.is_within(0));
            }
        }
    }
    as_bundle(&given.bytes);
}

fn as_checkpoint(text: &str) {
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(checkpoint.text(), text);
    }
}

fn as_bundle(bytes: &[u8]) {
    for width in [1, 2, 256] {
        let Some(found) = leaves(bytes, width) else { continue };
        assert_eq!(found.len(), usize::from(width));
        let mut again = Vec::new();
        if found
            .iter()
            .all(|leaf| leaf.split_first().is_some_and(|(kind, leaf)| push_leaf(&mut again, *kind, leaf)))
        {
            assert_eq!(again, bytes);
        }
    }
}
