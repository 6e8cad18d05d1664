//! A split view in one file: two signed checkpoints of one log and size with different roots. Whoever signed both, or the two who signed
//! one each, showed different people different logs.
//!
//! ```text
//! ASSENTV1 | length of the first note, 4 bytes, big-endian | first note | second note
//! ```
//! Both are C2SP signed notes as they were published. The one with the smaller root comes first.

use crate::checkpoint::{open_note, Checkpoint, NoteFault, VerifierKey, MAX_NOTE_BYTES};
use crate::hash::Hash;

/// First bytes of a file.
pub const SPLIT_MAGIC: &[u8; 8] = b"ASSENTV1";
/// Longest file without its magic.
pub const MAX_SPLIT_BYTES: usize = 4 + 2 * MAX_NOTE_BYTES;

/// Why a file shows no split view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error("the file ends within its first note")]
    Short,
    #[error("note {number}: {fault}")]
    Note { number: usize, fault: NoteFault },
    #[error("note {number} is signed by no key that you named")]
    UnknownKeys { number: usize },
    #[error("the two notes do not contradict each other: {0}")]
    NoContradiction(&'static str),
}

/// Two roots of one log at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitView {
    /// Names the log.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// The roots, in ascending order.
    pub roots: [Hash; 2],
    /// Names of the known keys that signed each.
    pub signed_by: [Vec<String>; 2],
}

/// Makes a file, magic included, of two notes whose roots are given.
pub fn make_split(notes: [(&Hash, &str); 2]) -> Vec<u8> {
    let [mut one, mut other] = notes;
    if one.0 > other.0 {
        std::mem::swap(&mut one, &mut other);
    }
    let length = (one.1.len() as u32).to_be_bytes();
    [SPLIT_MAGIC.as_slice(), &length, one.1.as_bytes(), other.1.as_bytes()].concat()
}

/// Verifies what stands behind the magic, with the keys that the reader knows.
pub fn verify_split(body: &[u8], known: &[VerifierKey]) -> Result<SplitView, SplitError> {
    let (length, notes) = body.split_first_chunk::<4>().ok_or(SplitError::Short)?;
    let length = u32::from_be_bytes(*length) as usize;
    let (one, other) = notes.split_at_checked(length).ok_or(SplitError::Short)?;
    let (one, first) = opened(1, one, known)?;
    let (other, second) = opened(2, other, known)?;
    let refused = |why| Err(SplitError::NoContradiction(why));
    if one.origin != other.origin {
        return refused("they are of two logs");
    }
    if one.size != other.size {
        return refused("they are of two sizes");
    }
    if one.root == other.root {
        return refused("they have one root");
    }
    if one.root > other.root {
        return refused("they are not in the order of their roots");
    }
    Ok(SplitView {
        origin: one.origin,
        size: one.size,
        roots: [one.root, other.root],
        signed_by: [first, second],
    })
}

fn opened(
    number: usize,
    note: &[u8],
    known: &[VerifierKey],
) -> Result<(Checkpoint, Vec<String>), SplitError> {
    let at = |fault| SplitError::Note { number, fault };
    let opened = open_note(note, known).map_err(at)?;
    let checkpoint = Checkpoint::parse(&opened.text).map_err(at)?;
    if opened.signed_by.is_empty() {
        return Err(SplitError::UnknownKeys { number });
    }
    Ok((checkpoint, opened.signed_by.iter().map(|(key, _)| key.name().to_owned()).collect()))
}
