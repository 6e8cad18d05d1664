//! What can go wrong in the vault. No text here holds an identifier, a key of a row or a value.

use thiserror::Error;

/// An error of the vault.
#[derive(Debug, Clone, Error)]
pub enum VaultError {
    /// The disk said no; a restart may help (exit 7).
    #[error("vault storage failed: {what}")]
    Storage {
        /// What was tried, and the store's own words.
        what: String,
    },
    /// What is stored is not what was written, or the key is another one (exit 9): restore a backup, never restart by itself.
    #[error("vault is corrupt: {what}")]
    Corrupt {
        /// What was found.
        what: String,
    },
    /// There is one already.
    #[error("there is already {what}")]
    Exists {
        /// What would have been the second: "a subject with this identifier" and the like.
        what: &'static str,
    },
    /// A value or a batch over its limit; nothing was written.
    #[error("{what} of {bytes} bytes is over the limit of {max_bytes} bytes")]
    TooLarge {
        /// "a value" or "a batch".
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
}

impl VaultError {
    /// The exit code of a node that stops because of this (INTERFACES.md).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Corrupt { .. } => 9,
            Self::Storage { .. } => 7,
            Self::Exists { .. } | Self::TooLarge { .. } => 1,
        }
    }

    pub(super) fn from_store(doing: &str, error: rocksdb::Error) -> Self {
        let what = format!("{doing}: {error}");
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Self::Corrupt { what },
            _ => Self::Storage { what },
        }
    }
}
