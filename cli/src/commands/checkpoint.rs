//! Checkpoints that others signed, as an auditor gives them to `assent audit verify`.

use std::path::{Path, PathBuf};

use assent_ledger::checkpoint::{open_note, origin, Checkpoint, NoteFault, VerifierKey, MAX_NOTE_BYTES};

use crate::exit::{printable, Exit, Failure};
use crate::files;

/// The auditor's checkpoints and the keys that count for them.
#[derive(Debug, clap::Args)]
pub struct CheckpointArgs {
    /// Checkpoint (signed C2SP note) that the chain must lead through
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Checkpoint that the file must reach: shows a cut end
    #[arg(long, value_name = "FILE")]
    expect_checkpoint: Option<PathBuf>,
    /// Key that may sign checkpoints, repeatable: name+id+base64
    #[arg(long, value_name = "VKEY")]
    checkpoint_key: Vec<String>,
}

/// A checkpoint to verify one file against, and the keys that count for it.
#[derive(Debug, clap::Args)]
pub struct PinArgs {
    /// Checkpoint (signed C2SP note) that the proof starts at
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Key that may sign checkpoints, repeatable: name+id+base64
    #[arg(long, value_name = "VKEY")]
    checkpoint_key: Vec<String>,
}

impl PinArgs {
    /// The keys that count.
    pub fn keys(&self) -> Result<Vec<VerifierKey>, Failure> {
        known_keys(&self.checkpoint_key)
    }

    /// Reads and verifies it, as [`CheckpointArgs::read`] does.
    pub fn read(&self) -> Result<Option<Pinned>, Failure> {
        let known = self.keys()?;
        self.checkpoint.as_deref().map(|path| pinned(path, &known)).transpose()
    }
}

/// A checkpoint that a known key signed.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// Names of the keys that signed it.
    pub signed_by: Vec<String>,
}

/// What was given, read and verified.
#[derive(Debug, Default)]
pub struct Pins {
    /// The anchor.
    pub anchor: Option<Pinned>,
    /// The end.
    pub end: Option<Pinned>,
}

impl Pins {
    /// All of them, by size.
    pub fn all(&self) -> impl Iterator<Item = &Pinned> {
        self.anchor.iter().chain(&self.end)
    }
}

impl CheckpointArgs {
    /// Reads and verifies what is given. Malformed: exit 2. A known key's signature that fails: 3. No known key signed: 4.
    pub fn read(&self) -> Result<Pins, Failure> {
        let known = known_keys(&self.checkpoint_key)?;
        let read = |path: &Option<PathBuf>| path.as_deref().map(|path| pinned(path, &known)).transpose();
        Ok(Pins { anchor: read(&self.checkpoint)?, end: read(&self.expect_checkpoint)? })
    }
}

fn known_keys(texts: &[String]) -> Result<Vec<VerifierKey>, Failure> {
    let known = texts.iter().map(|text| {
        VerifierKey::parse(text)
            .map_err(|e| Failure::usage("MALFORMED_KEY", format!("--checkpoint-key: {e}")))
    });
    known.collect()
}

fn pinned(path: &Path, known: &[VerifierKey]) -> Result<Pinned, Failure> {
    let text = files::read(path, MAX_NOTE_BYTES as u64)?;
    let at = |fault: NoteFault| {
        let what = printable(&format!("{}: {fault}", path.display()));
        match fault {
            NoteFault::Malformed(_) => Failure::usage("MALFORMED_CHECKPOINT", what),
            NoteFault::BadSignature(_) => Failure::verification("CHECKPOINT_SIGNATURE", what),
        }
    };
    let opened = open_note(&text, known).map_err(at)?;
    let checkpoint = Checkpoint::parse(&opened.text).map_err(at)?;
    if checkpoint.size == 0 {
        let what = format!("{}: a checkpoint of an empty log pins nothing", path.display());
        return Err(Failure::usage("MALFORMED_CHECKPOINT", what));
    }
    if opened.signed_by.is_empty() {
        let what = format!("{}: no key that you named has signed it", path.display());
        return Err(Failure::new(Exit::Undecided, "UNKNOWN_CHECKPOINT_KEY", what)
            .help("give the key of a node or witness that you trust with --checkpoint-key"));
    }
    let signed_by = opened.signed_by.iter().map(|(key, _)| key.name().to_owned()).collect();
    Ok(Pinned { checkpoint, signed_by })
}

/// Why a chain does not lead through a checkpoint: what was expected and what was found.
pub fn contradiction(pin: &Pinned, chain_id: &str, size: u64, root: &[u8; 32]) -> Option<(String, String)> {
    let Checkpoint { origin: said, size: pinned, root: pinned_root, .. } = &pin.checkpoint;
    if *said != origin(chain_id) {
        return Some((printable(said), origin(chain_id)));
    }
    if size == *pinned && root == pinned_root {
        return None;
    }
    let root_of = |size: u64, root: &[u8; 32]| format!("root {} at {size} leaves", hex::encode(root));
    Some((root_of(*pinned, pinned_root), root_of(size, root)))
}
