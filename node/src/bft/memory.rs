//! Whether this validator still knows what it signed: the engine's log checked before the engine sees it, and two small files.
//!
//! | file | says |
//! |---|---|
//! | `data/never-voted` | made by `assent init`; gone, on disk, before the first vote |
//! | `data/consensus/wal/consensus.wal` | what was signed at the height that it names |
//! | `data/consensus/voted-until` | while following: nothing was signed above this height |
//!
//! The ledger's tip is synced before the next height starts. So a whole memory is a log of the height of the tip or of the next
//! one; everything else is a folder that was emptied, or put together from different times.

use std::fs::{remove_file, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use malachite_app_channel::app::consensus::Input;
use malachite_app_channel::app::engine::wal::decode_entry;
use malachite_app_channel::app::types::core::{Proposal as _, Vote as _};
use malachite_app_channel::app::wal::{Log, Version};

use super::codec::{WireCodec, MAX_CERTIFICATE};
use super::types::BftContext;
use crate::order::Fatal;

/// Version and height.
const LOG_HEAD: usize = 12;
/// Flag, length and checksum of an entry.
const ENTRY_HEAD: usize = 13;
/// Kind and length of what an entry holds; a timeout has ten bytes in all.
const CONTENT_HEAD: u64 = 9;
const TIMEOUT: (u8, u64) = (2, 10);

/// What a validator knows of its own votes.
#[derive(Debug, PartialEq, Eq)]
pub enum Memory {
    /// It never voted.
    Never,
    /// All are in the log, or belong to heights that the ledger has.
    Kept,
    /// It may have voted, and can't say where; why it is thought so.
    Lost(String),
}

/// The files of a node that hold its memory.
#[derive(Debug, Clone)]
pub struct Files {
    marker: PathBuf,
    home: PathBuf,
}

fn storage(path: &Path, error: &io::Error) -> Fatal {
    Fatal::Storage(format!("{}: {error}", path.display()))
}

/// Removes a file and syncs its folder; one that is gone already is fine.
fn forget(path: &Path) -> Result<(), Fatal> {
    match remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        outcome => outcome.map_err(|e| storage(path, &e))?,
    }
    sync_folder(path)
}

fn sync_folder(path: &Path) -> Result<(), Fatal> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| storage(folder, &e))
}

/// Removes the never-voted marker of a node that orders alone.
pub fn remove_marker(marker: &Path) -> Result<(), Fatal> {
    forget(marker)
}

impl Files {
    /// `marker` is the never-voted file, `home` the consensus folder.
    pub fn new(marker: PathBuf, home: PathBuf) -> Self {
        Self { marker, home }
    }

    /// The engine's log while it votes.
    pub fn log(&self) -> PathBuf {
        self.home.join("wal").join("consensus.wal")
    }

    /// Its log while it doesn't: the other one is left as it is.
    pub fn following_log(&self) -> PathBuf {
        self.home.join("wal").join("following.wal")
    }

    fn until(&self) -> PathBuf {
        self.home.join("voted-until")
    }

    /// What this validator knows of its votes, with `tip` in its ledger; `seated` says that it votes at the next height. A damaged
    /// log is corruption.
    pub fn recall(&self, tip: u64, seated: bool) -> Result<Memory, Fatal> {
        let log = read_log(&self.log())?;
        let marker = self.marker.try_exists().map_err(|e| storage(&self.marker, &e))?;
        if marker && tip == 0 && log.is_none_or(|log| log.entries == 0 && log.height <= 1) {
            return Ok(Memory::Never);
        }
        // It followed without a vote until now.
        if marker && !seated {
            return Ok(Memory::Never);
        }
        if marker {
            return Ok(Memory::Lost(format!("{} lies beside a ledger or a log", self.marker.display())));
        }
        if self.read_until()?.is_some_and(|until| until <= tip) {
            return Ok(Memory::Kept);
        }
        Ok(match log {
            Some(log) if log.height > 0 && (log.height == tip || log.height == tip + 1) => Memory::Kept,
            Some(log) => Memory::Lost(format!(
                "its log of votes is of block {}, its ledger of block {tip}: they are not of one time",
                log.height
            )),
            None => Memory::Lost("its log of votes is missing".into()),
        })
    }

    fn read_until(&self) -> Result<Option<u64>, Fatal> {
        match std::fs::read_to_string(self.until()) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(storage(&self.until(), &error)),
        }
    }

    /// While it only follows, the log stays behind the ledger: what was signed until now is in no later block.
    pub fn follows(&self, until: u64) -> Result<(), Fatal> {
        let path = self.until();
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(&self.home)?;
            let mut file = File::create(&path)?;
            writeln!(file, "{until}")?;
            file.sync_all()
        };
        write().map_err(|e| storage(&path, &e))?;
        sync_folder(&path)
    }

    /// Before the ledger of block `tip` gives way to a later one: what is known of votes now is written down so that it holds beside
    /// that one too. What is not known stays unknown.
    pub fn keep_across(&self, tip: u64) -> Result<(), Fatal> {
        match self.recall(tip, true)? {
            Memory::Never => {
                self.follows(0)?;
                forget(&self.marker)
            }
            Memory::Kept if self.read_until()?.is_some_and(|until| until <= tip) => Ok(()),
            Memory::Kept => self.follows(tip.saturating_add(1)),
            Memory::Lost(_) => Ok(()),
        }
    }

    /// After the operator agreed to go on from block `tip` with other validators: what was signed above it counted for the old set, and
    /// is put aside, once. Votes for the next height under the new set are other votes: they name a header that names that set. False when
    /// that was done before: then the log may hold votes of the new set, and stays.
    pub fn put_aside(&self, tip: u64) -> Result<bool, Fatal> {
        let aside = self.home.join("wal").join(format!("before-recovery-{tip}.wal"));
        let failed = |e: io::Error| storage(&aside, &e);
        if aside.try_exists().map_err(failed)? {
            return Ok(false);
        }
        self.follows(tip)?;
        forget(&self.marker)?;
        std::fs::create_dir_all(self.home.join("wal")).map_err(failed)?;
        match std::fs::rename(self.log(), &aside) {
            Err(error) if error.kind() == ErrorKind::NotFound => drop(File::create(&aside).map_err(failed)?),
            outcome => outcome.map_err(failed)?,
        }
        sync_folder(&aside)?;
        Ok(true)
    }

    /// It can't say any more what it signed.
    pub fn lost(&self) -> Result<(), Fatal> {
        forget(&self.until())
    }

    /// Before the first vote: the log is there and of this height, and nothing may say that it never voted.
    pub fn will_vote(&self) -> Result<(), Fatal> {
        for path in [self.log(), self.home.join("wal"), self.home.clone()] {
            sync_folder(&path)?;
        }
        forget(&self.marker)?;
        forget(&self.until())
    }
}

/// A log that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WholeLog {
    height: u64,
    entries: usize,
}

/// Reads the engine's log to the end. The engine would stand still for ever over a damaged entry, and silently drop what follows
/// a damaged length: both are told from a write that was cut off.
fn read_log(path: &Path) -> Result<Option<WholeLog>, Fatal> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(storage(path, &error)),
    };
    let corrupt = |what: String| Fatal::Corrupt(format!("the engine's log {}: {what}", path.display()));
    let Some((head, body)) = bytes.split_at_checked(LOG_HEAD) else {
        // Cut off while it was made: the engine can't open it, and it holds nothing.
        forget(path)?;
        return Ok(None);
    };
    let version = head.first_chunk().map(|b| u32::from_be_bytes(*b)).and_then(|v| Version::try_from(v).ok());
    let version = version.ok_or_else(|| corrupt("its version is unknown".into()))?;
    let height = head.last_chunk().map_or(0, |b| u64::from_be_bytes(*b));
    let entries = count_entries(body).map_err(corrupt)?;

    let file = File::open(path).map_err(|e| storage(path, &e))?;
    // Not opened as the engine does: that would change it, and lock it.
    let mut log = Log::from_raw_parts(file, path.into(), version, height, entries);
    let codec = WireCodec::default();
    for (n, entry) in log.iter().map_err(|e| storage(path, &e))?.take(entries).enumerate() {
        let decoded =
            entry.and_then(|bytes| decode_entry::<BftContext, _, _>(&codec, io::Cursor::new(bytes)));
        let input = decoded.map_err(|e| corrupt(format!("entry {n} is damaged: {e}")))?;
        if let Some(other) = height_of(&input).filter(|other| *other != height) {
            return Err(corrupt(format!("entry {n} is of block {other} in a log of block {height}")));
        }
    }
    Ok(Some(WholeLog { height, entries }))
}

/// Complete entries; what is cut off at the end doesn't count, if it can be that.
fn count_entries(mut rest: &[u8]) -> Result<usize, String> {
    let mut entries = 0;
    while let Some((head, content)) = rest.split_at_checked(ENTRY_HEAD) {
        let length = head[1..].first_chunk().map_or(0, |b| u64::from_be_bytes(*b));
        match usize::try_from(length).ok().and_then(|length| content.split_at_checked(length)) {
            Some((_, next)) => (entries, rest) = (entries + 1, next),
            None if could_be_cut_off(length, content) => break,
            None => return Err(format!("the length of entry {entries} is damaged")),
        }
    }
    Ok(entries)
}

/// The content repeats its length: if the two differ, one of them is damaged.
fn could_be_cut_off(length: u64, content: &[u8]) -> bool {
    let inner = match content.split_first() {
        Some((kind, _)) if *kind == TIMEOUT.0 => Some(TIMEOUT.1),
        Some((_, rest)) => rest.first_chunk().map(|b| u64::from_be_bytes(*b).saturating_add(CONTENT_HEAD)),
        None => None,
    };
    length <= MAX_CERTIFICATE as u64 + CONTENT_HEAD && inner.is_none_or(|inner| inner == length)
}

fn height_of(input: &Input<BftContext>) -> Option<u64> {
    match input {
        Input::Vote(vote) => Some(vote.message.height().0),
        Input::Proposal(proposal) => Some(proposal.message.height().0),
        Input::ProposedValue(value, _) => Some(value.height.0),
        Input::PolkaCertificate(certificate) => Some(certificate.height.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
