//! Checkpoints that this node signs, and its memory of the last one.
//!
//! ```text
//! asked ─▶ does the log still lead through the last signed one? ─no─▶ alarm, nothing is signed
//!              │ yes                                                  (never two roots for one size)
//!              ▼
//!          larger than it? ─▶ data/checkpoint-signed, synced ─▶ signature
//! ```
//! One checkpoint is all that must be kept. Each one that was signed led through the one before; a log that leads through the largest
//! therefore has the same root at the size of every other, or SHA-256 is broken.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use assent_ledger::checkpoint::{origin, sign_note, Checkpoint};
use assent_ledger::keys::SigningKey;
use assent_ledger::log::root_at;

use super::tiles::is_header;
use super::Figures;
use crate::app::Parts;
use crate::chain::{Store, View};
use crate::order::Fatal;

/// In the data folder: text of the largest checkpoint that this node signed.
pub const SIGNED: &str = "checkpoint-signed";
/// Longest text of it, in bytes.
const MAX_BYTES: usize = 4096;

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The log never ended there, or not yet.
    #[error("no block of this log ended at that size")]
    NoBlockEnd,
    /// This node's ledger is older than what it signed.
    #[error("this node has signed a checkpoint of a longer log, and signs again once it has caught up")]
    Behind,
    /// This node's ledger is another one than it signed.
    #[error("at {0} leaves this node's log is another one than it signed before: it signs nothing")]
    Contradiction(u64),
    /// The memory could not be written.
    #[error("{0}")]
    Unwritten(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] Fatal),
}

#[derive(Debug, Default)]
struct Memory {
    /// The largest checkpoint that was signed.
    last: Option<Checkpoint>,
    /// The note over it.
    note: Option<String>,
}

/// Signs checkpoints of one log.
pub struct Signer {
    name: String,
    origin: String,
    key: SigningKey,
    path: PathBuf,
    memory: Mutex<Memory>,
    figures: Figures,
}

impl Signer {
    /// With the memory that lies in the data folder. One that can't be read ends the start: without it a node might sign again what
    /// it signed otherwise before.
    pub fn open(parts: &Parts, key: SigningKey, data_dir: &Path) -> Result<Self, Fatal> {
        Self::new(&parts.organization, parts.chain_id(), key, data_dir, parts.checkpoints.clone())
    }

    /// The same from its parts.
    pub fn new(
        organization: &str,
        chain_id: &str,
        key: SigningKey,
        data_dir: &Path,
        figures: Figures,
    ) -> Result<Self, Fatal> {
        let (path, origin) = (data_dir.join(SIGNED), origin(chain_id));
        let broken = |why: &str| {
            Fatal::Corrupt(format!(
                "{}: {why}; it is the memory of which checkpoints this node signed: put it back as it was",
                path.display()
            ))
        };
        let last = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Fatal::Storage(format!("{}: {error}", path.display()))),
            Ok(bytes) if bytes.len() > MAX_BYTES => return Err(broken("too long")),
            Ok(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| broken("not UTF-8"))?;
                Some(Checkpoint::parse(&text).map_err(|e| broken(&e.to_string()))?)
            }
        };
        if last.as_ref().is_some_and(|last| last.origin != origin) {
            return Err(broken("of another chain"));
        }
        figures.set_signed(last.as_ref().map_or(0, |last| last.size));
        let memory = Mutex::new(Memory { last, note: None });
        Ok(Self { name: format!("{organization}.{chain_id}"), origin, key, path, memory, figures })
    }

    /// A note over the newest block's log.
    pub fn newest(&self, store: &Store) -> Result<String, SignError> {
        let mut memory = self.lock();
        let view = store.view()?;
        let size = view.tip.log.size();
        if let Memory { last: Some(last), note: Some(note) } = &*memory {
            if last.size == size && last.root == view.tip.log.root() {
                return Ok(note.clone());
            }
        }
        self.sign(&mut memory, &view, size)
    }

    /// A note over the log as it was at the end of a block.
    pub fn at(&self, store: &Store, size: u64) -> Result<String, SignError> {
        let mut memory = self.lock();
        let view = store.view()?;
        if size > view.tip.log.size() || size > 0 && !is_header(&view, size - 1)? {
            return Err(SignError::NoBlockEnd);
        }
        self.sign(&mut memory, &view, size)
    }

    // The view is taken under the lock: an older one would seem to have lost what was signed meanwhile.
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, memory: &mut Memory, view: &View<'_>, size: u64) -> Result<String, SignError> {
        let root = |size| {
            root_at(view, size).ok_or_else(|| Fatal::Corrupt(format!("hashes below size {size} are missing")))
        };
        if let Some(last) = &memory.last {
            if last.size > view.tip.log.size() {
                return Err(SignError::Behind);
            }
            if root(last.size)? != last.root {
                let count = self.figures.contradiction();
                if count.is_power_of_two() {
                    tracing::error!(
                        size = last.size,
                        count,
                        "this log contradicts a checkpoint that this node signed: no checkpoint is signed"
                    );
                }
                return Err(SignError::Contradiction(last.size));
            }
        }
        let checkpoint =
            Checkpoint { origin: self.origin.clone(), size, root: root(size)?, extensions: Vec::new() };
        let text = checkpoint.text();
        let is_larger = memory.last.as_ref().is_none_or(|last| size > last.size);
        if is_larger {
            self.write(&text)?;
        }
        let line =
            sign_note(&text, &self.name, &self.key).map_err(|e| SignError::Unwritten(e.to_string()))?;
        let note = format!("{text}\n{line}");
        if is_larger {
            self.figures.set_signed(size);
            *memory = Memory { last: Some(checkpoint), note: Some(note.clone()) };
        } else if memory.last.as_ref().is_some_and(|last| last.size == size) {
            memory.note = Some(note.clone());
        }
        Ok(note)
    }

    /// On disk, whole, before anybody can have the signature.
    fn write(&self, text: &str) -> Result<(), SignError> {
        let new = self.path.with_extension("new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| SignError::Unwritten(format!("{}: {error}", self.path.display())))
    }
}
