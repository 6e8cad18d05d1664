//! `assentd backup`: one file that holds a node's ledger and vault as of one moment, taken while the node runs.
//!
//! ```text
//! create    node (or, if none runs, this process): checkpoint of the ledger, then of the vault ─▶ hashed, packed ─▶ FILE
//! verify    FILE ─▶ every hash ─▶ a copy opened read-only: headers, log, state, certificate ─▶ with keys: the vault too
//! restore   FILE ─▶ data/restoring ─▶ verified there, with the node's keys ─▶ renamed into place
//! ```
//! **The ledger first, then the vault.** Bodies and salts are on disk in the vault before an entry that commits to them is
//! submitted. So a vault that is newer than the ledger opens everything that the ledger commits to; an older one might not.
//!
//! A backup holds no key, no TLS file, nothing of `data/consensus` and no `never-voted`: a validator that comes back from it can't
//! say what it signed, so the guard ([`crate::bft`]) lets it follow, and vote only above what it may have signed for. The vault
//! stays as encrypted as it lies on disk: without `keys/vault.pem` it opens nowhere.

mod control;
mod create;
mod file;
mod reader;
mod restore;
mod verify;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

pub use control::{borrow, is_running, serve};
pub use create::{create, Created};
pub use file::{Manifest, FORMAT};
pub use restore::{restore, How, Restored};
pub use verify::{verify, Verified};

use crate::order::Fatal;
use crate::vault::VaultError;

/// Why a backup is not made, not trusted or not put back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Wrong flags, folder, chain or version; nothing was touched: exit 2.
    #[error("{reason}: {what}")]
    Refused {
        /// Machine-readable.
        reason: &'static str,
        /// What was seen, and what to do.
        what: String,
    },
    /// What is in the file is not what was put there, or does not hold: exit 3.
    #[error("BACKUP_DAMAGED: {0}")]
    Damaged(String),
    /// The disk, or the running node: exit 7.
    #[error("BACKUP_FAILED: {0}")]
    Failed(String),
    /// Ledger or vault came upon damage of their files: exit 9.
    #[error("CORRUPT: {0}")]
    Corrupt(String),
}

impl BackupError {
    /// Exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } => 2,
            Self::Damaged(_) => 3,
            Self::Failed(_) => 7,
            Self::Corrupt(_) => 9,
        }
    }

    fn refused(reason: &'static str, what: impl Into<String>) -> Self {
        Self::Refused { reason, what: what.into() }
    }

    fn io(path: &Path, error: &std::io::Error) -> Self {
        Self::Failed(format!("{}: {error}", path.display()))
    }
}

impl From<Fatal> for BackupError {
    fn from(fatal: Fatal) -> Self {
        match fatal {
            Fatal::Corrupt(_) => Self::Corrupt(fatal.to_string()),
            _ => Self::Failed(fatal.to_string()),
        }
    }
}

impl From<VaultError> for BackupError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Corrupt { .. } => Self::Corrupt(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<crate::config::ConfigError> for BackupError {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::refused("BAD_CONFIGURATION", error.to_string())
    }
}

/// `assentd backup`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write ledger and vault into one file, also while the node runs.
    Create(CreateArgs),
    /// Check a backup; needs no node.
    Verify(VerifyArgs),
    /// Put a backup into a node's folder that has neither ledger nor vault.
    Restore(RestoreArgs),
}

/// Arguments of `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The node's folder, with assentd.toml.
    #[arg(long)]
    dir: PathBuf,
    /// File to make; must not be there.
    #[arg(long)]
    out: PathBuf,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The backup.
    file: PathBuf,
    /// Genesis hash that it has to be of: 64 hex digits.
    #[arg(long)]
    genesis_hash: Option<String>,
    /// Folder with vault.pem: opens the vault, too.
    #[arg(long)]
    keys: Option<PathBuf>,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup.
    file: PathBuf,
    /// The node's folder, without ledger and vault.
    #[arg(long)]
    dir: PathBuf,
    /// The vault alone, beside a whole ledger.
    #[arg(long, conflicts_with = "lose_later_blocks")]
    vault_only: bool,
    /// The only validator's: sign others in their place.
    #[arg(long)]
    lose_later_blocks: bool,
}

/// Runs a command; its result on stdout, an error on stderr.
pub fn main(command: Command) -> ExitCode {
    let outcome = match &command {
        Command::Create(args) => create(&args.dir, &args.out).map(|made| made.to_string()),
        Command::Verify(args) => verify(&args.file, args.genesis_hash.as_deref(), args.keys.as_deref())
            .map(|verified| verified.to_string()),
        Command::Restore(args) => {
            let how = match (args.vault_only, args.lose_later_blocks) {
                (true, _) => How::VaultOnly,
                (_, false) => How::Follow,
                (_, true) => How::LoseLaterBlocks,
            };
            restore(&args.file, &args.dir, how).map(|restored| restored.to_string())
        }
    };
    match outcome {
        Ok(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Lines of a name and a value, for people.
fn lines(fields: &[(&str, String)]) -> String {
    fields.iter().map(|(name, value)| format!("{name:<13} {value}\n")).collect()
}

/// A time in milliseconds since the Unix epoch, for people.
fn when(ms: u64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let moment =
        i64::try_from(ms / 1000).ok().and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok());
    moment.and_then(|m| m.format(format).ok()).unwrap_or_else(|| format!("{ms} ms"))
}
