//! Split views: two signed notes that contradict each other.

use std::sync::LazyLock;

use assent_ledger::checkpoint::VerifierKey;
use assent_ledger::split::{make_split, verify_split, SplitView, SPLIT_MAGIC};

use super::edit::Form;
use super::{given, good};

/// A split view; the same, one of its notes cosigned by a witness; two notes that do not contradict each other.
const GOOD: &[&[u8]] = good!["split/split", "split/cosigned", "split/grown"];

static KEYS: LazyLock<Vec<VerifierKey>> = LazyLock::new(|| {
    let [keys]: &[&[u8]; 1] = good!["split/keys"];
    std::str::from_utf8(keys).unwrap().lines().map(|line| VerifierKey::parse(line).unwrap()).collect()
});

/// What the first two show.
static SHOWN: LazyLock<[SplitView; 2]> =
    LazyLock::new(|| [0, 1].map(|n| verify_split(GOOD[n], &KEYS).expect("a good file is refused")));

/// What holds shows the one contradiction that the known keys signed, and it can be written again.
pub fn split(input: &[u8]) {
    let Some(given) = given(input, Form::Text, GOOD) else { return };
    judge(&given.bytes);
    if let Some(mended) = mended(&given.bytes) {
        judge(&mended);
    }
}

fn judge(bytes: &[u8]) {
    let Ok(view) = verify_split(bytes, &KEYS) else {
        return assert!(!GOOD[..2].contains(&bytes), "a good file is refused");
    };
    let [first, cosigned] = &*SHOWN;
    assert_eq!((&view.origin, view.size, view.roots), (&first.origin, first.size, first.roots));
    for (found, known) in view.signed_by.iter().zip(&cosigned.signed_by) {
        assert!(!found.is_empty() && found.iter().all(|name| known.contains(name)));
    }
    let (length, notes) = bytes.split_first_chunk::<4>().unwrap();
    let (one, other) = notes.split_at(u32::from_be_bytes(*length) as usize);
    let [one, other] = [one, other].map(|note| std::str::from_utf8(note).unwrap());
    let again = make_split([(&view.roots[1], other), (&view.roots[0], one)]);
    assert_eq!(again.strip_prefix(SPLIT_MAGIC), Some(bytes));
}

/// The file with the length put right that stands before its notes, so that changed notes come to be opened: the second begins where the
/// first line comes again.
fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    let notes = bytes.get(4..)?;
    let line = &notes[..=notes.iter().position(|byte| *byte == b'\n')?];
    let second = (line.len()..notes.len()).find(|at| notes[*at..].starts_with(line))?;
    Some([&(second as u32).to_be_bytes(), notes].concat())
}
