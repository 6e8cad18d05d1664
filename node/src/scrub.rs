//! `assentd scrub`: reads everything that ledger and vault hold on disk, so that damage is found where nobody looks.
//!
//! RocksDB compares each block of a table file with its checksum when the block is read, and a row that nobody asks for is never read.
//! Here all rows of all families are, past the caches. Of a running node it is a checkpoint (hard links to the same files, by
//! `data/control.sock`), of a stopped one the files themselves; nothing is written to them, and no key is needed.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rocksdb::{
    ColumnFamilyDescriptor, DBRecoveryMode, ErrorKind, InfoLogger, IteratorMode, LogLevel, Options,
    ReadOptions, DB,
};

use crate::backup::{borrow, is_running, BackupError};
use crate::config::{Config, ConfigError};

/// The stores below the data folder.
const STORES: [&str; 2] = ["ledger", "vault"];
/// Table files that are open at once.
const MAX_OPEN_FILES: i32 = 256;
/// Bytes that are read ahead of an iterator.
const READ_AHEAD_BYTES: usize = 2 << 20;

/// Arguments of `assentd scrub`.
#[derive(Debug, Args)]
pub struct ScrubArgs {
    /// The node's folder, with assentd.toml.
    #[arg(long)]
    dir: PathBuf,
}

/// Why a store is not known to be whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScrubError {
    /// Wrong folder: exit 2.
    #[error("{reason}: {what}")]
    Refused {
        /// Machine-readable.
        reason: &'static str,
        /// What was seen, and what to do.
        what: String,
    },
    /// The disk, or the running node: exit 7.
    #[error("SCRUB_FAILED: {0}")]
    Failed(String),
    /// Damage, as RocksDB names it, of each family the first: exit 9.
    #[error("CORRUPT: {}", .0.join("\nerror: CORRUPT: "))]
    Corrupt(Vec<String>),
}

impl ScrubError {
    /// Exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } => 2,
            Self::Failed(_) => 7,
            Self::Corrupt(_) => 9,
        }
    }
}

impl From<ConfigError> for ScrubError {
    fn from(error: ConfigError) -> Self {
        Self::Refused { reason: "BAD_CONFIGURATION", what: error.to_string() }
    }
}

/// What was read of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrubbed {
    /// Rows.
    pub rows: u64,
    /// Table files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl fmt::Display for Scrubbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, files, bytes } = self;
        write!(f, "whole: {rows} rows; {files} table files, {bytes} bytes")
    }
}

/// Runs the command; its result on stdout, an error on stderr.
pub fn main(args: &ScrubArgs) -> ExitCode {
    match scrub(&args.dir) {
        Ok(found) => {
            let lines: String =
                STORES.iter().zip(found).map(|(name, s)| format!("{name:<7} {s}\n")).collect();
            let _ = std::io::stdout().write_all(lines.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Reads all of the ledger and the vault of the node in `dir`.
pub fn scrub(dir: &Path) -> Result<[Scrubbed; 2], ScrubError> {
    let data = Config::read(&dir.join("assentd.toml"))?.data_dir;
    if let Some(name) = STORES.iter().find(|name| !data.join(name).join("CURRENT").exists()) {
        let what = format!("{} holds no {name}: nothing to read", data.display());
        return Err(ScrubError::Refused { reason: "NO_LEDGER", what });
    }
    let lent = borrow(&data).map_err(|error| match error {
        BackupError::Corrupt(what) => ScrubError::Corrupt(vec![what]),
        BackupError::Failed(what) => ScrubError::Failed(what),
        other => ScrubError::Failed(other.to_string()),
    })?;
    let folder = lent.as_ref().map_or(data.as_path(), |lent| lent.folder.as_path());
    let outcome = both(folder);
    if lent.is_none() && is_running(&data) {
        let what = "a node was started meanwhile: run this again".to_owned();
        return Err(ScrubError::Failed(what));
    }
    // What is lent has the names of what lies in the data folder.
    outcome.map_err(|error| match error {
        ScrubError::Corrupt(found) => {
            let (lent, own) = (folder.display().to_string(), data.display().to_string());
            ScrubError::Corrupt(found.iter().map(|what| what.replace(&lent, &own)).collect())
        }
        other => other,
    })
}

/// Both stores, whatever is found in the first.
fn both(folder: &Path) -> Result<[Scrubbed; 2], ScrubError> {
    match STORES.map(|name| read(&folder.join(name))) {
        [Ok(ledger), Ok(vault)] => Ok([ledger, vault]),
        [Err(ScrubError::Corrupt(ledger)), Err(ScrubError::Corrupt(vault))] => {
            Err(ScrubError::Corrupt([ledger, vault].concat()))
        }
        // Damage counts for more than what could not be looked at.
        [Err(error @ ScrubError::Corrupt(_)), _] | [_, Err(error)] | [Err(error), _] => Err(error),
    }
}

/// What RocksDB says; a family is not gone on with where it says something.
fn said(path: &Path, error: &rocksdb::Error) -> ScrubError {
    let what = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::Corruption => ScrubError::Corrupt(vec![what]),
        _ => ScrubError::Failed(what),
    }
}

/// Reads every row of every family of one store.
fn read(path: &Path) -> Result<Scrubbed, ScrubError> {
    let failed = |error: rocksdb::Error| said(path, &error);
    let options = options();
    let names = DB::list_cf(&options, path).map_err(failed)?;
    let families = names.iter().map(|name| ColumnFamilyDescriptor::new(name, self::options()));
    let db = DB::open_cf_descriptors_read_only(&options, path, families, false).map_err(failed)?;
    let files = db.live_files().map_err(failed)?;
    let bytes = files.iter().map(|file| file.size as u64).sum();
    let (mut rows, mut damage) = (0, Vec::new());
    for family in names.iter().filter_map(|name| db.cf_handle(name)) {
        for row in db.iterator_cf_opt(family, reading(), IteratorMode::Start) {
            match row.map_err(failed) {
                Ok(_) => rows += 1,
                Err(ScrubError::Corrupt(found)) => damage.extend(found),
                Err(other) => return Err(other),
            }
        }
    }
    match damage.is_empty() {
        true => Ok(Scrubbed { rows, files: files.len(), bytes }),
        false => Err(ScrubError::Corrupt(damage)),
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    options.set_max_open_files(MAX_OPEN_FILES);
    // Only a torn last record is a crash; anything else in the write-ahead log is damage.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // Of a key that was written often every version is gone through: none of their blocks is jumped over.
    options.set_max_sequential_skip_in_iterations(u64::MAX);
    // No LOG file.
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    options
}

fn reading() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options.fill_cache(false);
    options.set_readahead_size(READ_AHEAD_BYTES);
    options
}
