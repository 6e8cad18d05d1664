//! One function for each decoder, which gives it an input and states what must hold of the outcome; a law that does not hold is a
//! panic. Fuzz targets call them with what libFuzzer makes up, a test with the kept corpus.
//!
//! ```text
//! input = 0, bytes      the bytes as they stand
//!         n, script     good file n of the decoder (good/), edited
//! ```
//! Good files are only ever appended to a list: the kept inputs name them by number.

use edit::{edited, Form};

mod consent;
mod decisions;
mod edit;
mod entry;
mod export;
mod genesis;
mod headers;
mod note;
mod pack;
mod proof;
mod receipt;
mod split;

pub use consent::consent;
pub use decisions::decisions;
pub use entry::entry;
pub use export::export;
pub use genesis::genesis;
pub use headers::headers;
pub use note::note;
pub use pack::pack;
pub use proof::proof;
pub use receipt::receipt;
pub use split::split;

/// A decoder's laws.
pub type Law = fn(&[u8]);

/// All of them, by the names of targets and of the folders of their inputs.
pub const LAWS: [(&str, Law); 11] = [
    ("consent", consent),
    ("decisions", decisions),
    ("entry", entry),
    ("export", export),
    ("genesis", genesis),
    ("headers", headers),
    ("note", note),
    ("pack", pack),
    ("proof", proof),
    ("receipt", receipt),
    ("split", split),
];

/// A file of `good/`, by decoder and name.
macro_rules! good {
    ($($file:literal),* $(,)?) => { &[$(include_bytes!(concat!("../../good/", $file)) as &[u8]),*] };
}
use good;

/// What an input stands for: the good file that it edits, if it does, and the bytes to decode.
struct Given {
    good: Option<usize>,
    bytes: Vec<u8>,
}

fn given(input: &[u8], form: Form, goods: &[impl AsRef<[u8]>]) -> Option<Given> {
    let (first, rest) = input.split_first()?;
    let Some(good) = usize::from(*first).checked_sub(1) else {
        return Some(Given { good: None, bytes: rest.to_vec() });
    };
    let file = goods.get(good)?.as_ref();
    let bytes = edited(form, file, rest).expect("a good file is of its form");
    assert!(!rest.is_empty() || bytes == file, "a file without an edit is another one");
    Some(Given { good: Some(good), bytes })
}
