//! Checkpoints of the log as others' tools read them: C2SP `signed-note`, `tlog-checkpoint` and `tlog-cosignature`.
//!
//! ```text
//! assent/testnet-cedar-1            origin: names the log
//! 4711                              leaves
//! 4Nd3...Y=                         root, base64
//!
//! — birch.testnet-cedar-1 x08go...  key name, base64 of key id (4) and signature
//! ```
//! The signature is over the text up to the blank line, with its last newline, and so over no domain tag of ours: the format forbids
//! one. A checkpoint key signs nothing else.

use std::fmt;

use base64::prelude::{Engine, BASE64_STANDARD};

use crate::hash::{sha256, Hash};
use crate::keys::{self, PublicKey, SigningKey};

/// Longest signed note, in bytes: what Go's `sumdb/note` takes.
pub const MAX_NOTE_BYTES: usize = 1_000_000;
/// Most signatures on one note: likewise.
pub const MAX_SIGNATURES: usize = 100;

/// What a log was at a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Names the log; not empty.
    pub origin: String,
    /// Leaves in the log.
    pub size: u64,
    /// Root of the log.
    pub root: Hash,
    /// Further lines, which this program does not read; none empty.
    pub extensions: Vec<String>,
}

/// Why a note or a checkpoint does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteFault {
    /// Not of the form of a signed note or checkpoint.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A key that is known did not make the signature under its name.
    #[error("the signature of {0} does not verify")]
    BadSignature(String),
}

fn malformed<T>(what: &'static str) -> Result<T, NoteFault> {
    Err(NoteFault::Malformed(what))
}

/// The origin of a chain's log.
pub fn origin(chain_id: &str) -> String {
    format!("assent/{chain_id}")
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        let extensions = self.extensions.iter().flat_map(|line| [line.as_str(), "\n"]);
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64_STANDARD.encode(self.root))
            + &extensions.collect::<String>()
    }

    /// Reads the text of a note.
    pub fn parse(text: &str) -> Result<Self, NoteFault> {
        let Some(lines) = text.strip_suffix('\n') else {
            return malformed("the last line has no newline");
        };
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return malformed("a checkpoint has three lines: origin, size, root");
        };
        if origin.is_empty() {
            return malformed("the origin is empty");
        }
        let canonical = size == "0" || !size.starts_with('0');
        let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
        let Some(size) = (canonical && digits).then(|| size.parse().ok()).flatten() else {
            return malformed("the size is not a decimal number below 2^64 without leading zeros");
        };
        let Some(root) = BASE64_STANDARD.decode(root).ok().and_then(|root| root.try_into().ok()) else {
            return malformed("the root is not the base64 of 32 bytes");
        };
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return malformed("an extension line is empty");
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions })
    }
}

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// A log's own Ed25519 signature over the note.
    Ed25519,
    /// A witness's cosignature, with its time.
    Cosignature,
}

impl KeyKind {
    fn algorithm(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Cosignature => 4,
        }
    }
}

/// A key that notes are verified with: `name+keyid+base64`, as C2SP `signed-note` writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    key: PublicKey,
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64_STANDARD.encode([&[self.kind.algorithm()], self.key.as_slice()].concat());
        write!(f, "{}+{}+{key}", self.name, hex::encode(self.id()))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

impl VerifierKey {
    /// A key under a name, which holds no white space and no plus.
    pub fn new(name: &str, kind: KeyKind, key: PublicKey) -> Result<Self, NoteFault> {
        if !is_name(name) {
            return malformed("a key's name is empty, or holds white space or a plus");
        }
        if keys::screen(&key).is_err() {
            return malformed("not a key that may be used");
        }
        Ok(Self { name: name.to_owned(), kind, key })
    }

    /// Reads `name+keyid+base64`.
    pub fn parse(text: &str) -> Result<Self, NoteFault> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return malformed("a verifier key is name+keyid+base64");
        };
        let bytes = BASE64_STANDARD.decode(key).unwrap_or_default();
        let Some((algorithm, key)) =
            bytes.split_first().and_then(|(a, key)| Some((*a, key.try_into().ok()?)))
        else {
            return malformed("a verifier key's last part is the base64 of 33 bytes");
        };
        let kind = match algorithm {
            1 => KeyKind::Ed25519,
            4 => KeyKind::Cosignature,
            _ => return malformed("a verifier key of an unknown kind"),
        };
        let read = Self::new(name, kind, key)?;
        if hex::encode(read.id()) != id {
            return malformed("a verifier key whose id is not its own");
        }
        Ok(read)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    fn id(&self) -> [u8; 4] {
        let algorithm = [self.kind.algorithm()];
        let hash = sha256(&[self.name.as_bytes(), b"\n", &algorithm, &self.key].concat());
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// When the signature holds: the time that it names, for a cosignature.
    fn verify(&self, text: &str, signature: &[u8]) -> Option<Option<u64>> {
        match self.kind {
            KeyKind::Ed25519 => {
                let signature = signature.try_into().ok()?;
                keys::verify(&self.key, text.as_bytes(), &signature).then_some(None)
            }
            KeyKind::Cosignature => {
                let (time, signature) = signature.split_first_chunk::<8>()?;
                let time = u64::from_be_bytes(*time);
                let signature = signature.try_into().ok()?;
                keys::verify(&self.key, cosigned(time, text).as_bytes(), &signature).then_some(Some(time))
            }
        }
    }
}

fn cosigned(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// The signature line of a note for a text.
pub fn sign_note(text: &str, name: &str, key: &SigningKey) -> Result<String, NoteFault> {
    let verifier = VerifierKey::new(name, KeyKind::Ed25519, key.verifying_key().to_bytes())?;
    Ok(line(&verifier, &keys::sign(key, text.as_bytes())))
}

/// A witness's line for a text that it saw at `time`, in seconds since the Unix epoch.
pub fn cosign_note(text: &str, name: &str, key: &SigningKey, time: u64) -> Result<String, NoteFault> {
    let verifier = VerifierKey::new(name, KeyKind::Cosignature, key.verifying_key().to_bytes())?;
    let signature = keys::sign(key, cosigned(time, text).as_bytes());
    Ok(line(&verifier, &[&time.to_be_bytes(), signature.as_slice()].concat()))
}

fn line(key: &VerifierKey, signature: &[u8]) -> String {
    let id = key.id();
    format!("\u{2014} {} {}\n", key.name, BASE64_STANDARD.encode([&id, signature].concat()))
}

/// A note, with what its known signatures showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedNote {
    /// The signed text.
    pub text: String,
    /// Keys that signed, each once, with the time that a witness named (seconds since the Unix epoch).
    pub signed_by: Vec<(VerifierKey, Option<u64>)>,
    /// Signatures by keys that nobody named.
    pub unknown: usize,
}

/// Reads a signed note. Signatures by unknown keys are counted; one under a known key that does not verify is a fault of the whole
/// note; a second one under the same key counts for nothing.
pub fn open_note(note: &[u8], known: &[VerifierKey]) -> Result<OpenedNote, NoteFault> {
    if note.len() > MAX_NOTE_BYTES {
        return malformed("longer than 1,000,000 bytes");
    }
    let Ok(note) = std::str::from_utf8(note) else {
        return malformed("not UTF-8");
    };
    if note.chars().any(|c| c.is_control() && c != '\n') {
        return malformed("holds a control character");
    }
    let Some(end) = note.rfind("\n\n") else {
        return malformed("no blank line before signatures");
    };
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    let Some(signatures) = signatures.strip_suffix('\n') else {
        return malformed("the last line has no newline");
    };
    let mut opened = OpenedNote { text: text.to_owned(), signed_by: Vec::new(), unknown: 0 };
    for (n, line) in signatures.split('\n').enumerate() {
        if n == MAX_SIGNATURES {
            return malformed("more than 100 signatures");
        }
        let Some((name, encoded)) = line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' '))
        else {
            return malformed("a signature line is a dash, a name and base64");
        };
        let bytes = BASE64_STANDARD.decode(encoded).unwrap_or_default();
        let Some((id, signature)) = bytes.split_first_chunk::<4>().filter(|(_, rest)| !rest.is_empty())
        else {
            return malformed("a signature is no base64 of a key id and a signature");
        };
        if !is_name(name) {
            return malformed("a key's name is empty, or holds white space or a plus");
        }
        let Some(key) = known.iter().find(|key| key.name == name && key.id() == *id) else {
            opened.unknown += 1;
            continue;
        };
        if opened.signed_by.iter().any(|(seen, _)| seen == key) {
            continue;
        }
        let Some(time) = key.verify(text, signature) else {
            return Err(NoteFault::BadSignature(name.to_owned()));
        };
        opened.signed_by.push((key.clone(), time));
    }
    Ok(opened)
}
