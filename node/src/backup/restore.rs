//! Puts a backup back into a node's folder, after everything in it was verified beside its place.
//!
//! ```text
//! FILE ─▶ data/restoring ─▶ hashes, ledger, vault with this node's key ─▶ never-voted goes ─▶ vault, then ledger renamed
//! ```
//! Cut off anywhere, the node's folder still says nothing wrong of its votes: a ledger without `data/consensus` makes it follow.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::control::is_running;
use super::create::{enough, genesis_of, node_of, Remove};
use super::file::Manifest;
use super::reader::Reader;
use super::verify::{check_copy, other_chain};
use super::{lines, when, BackupError};
use crate::bft::memory;
use crate::config::{read_file, Config, NodeKeys};
use crate::custodian::Lacking;
use crate::node::{check_membership, NEVER_VOTED};
use crate::own_keys::OwnKeys;

/// What is put back, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Ledger and vault of a validator that the others will tell what it lacks.
    Follow,
    /// Ledger and vault of the only validator, which makes other blocks in the place of those that are lost.
    LoseLaterBlocks,
    /// The vault, beside a ledger that is whole.
    VaultOnly,
}

/// What lies in the node's folder now.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// What the vault lacked already when the backup was made.
    pub lacking: Lacking,
    how: How,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let votes = match self.how {
            How::Follow => "follows, and votes two blocks above what the others have",
            How::LoseLaterBlocks => "goes on from here: blocks that it made later are lost",
            How::VaultOnly => "votes as before: ledger and votes are as they were",
        };
        f.write_str(&lines(&[
            ("restored", self.manifest.organization.clone()),
            ("height", self.manifest.height.to_string()),
            ("block time", when(self.manifest.time_ms)),
            ("vault", self.lacking.to_string()),
            ("at its start", votes.to_owned()),
        ]))
    }
}

/// Verifies the backup, and puts it into the node's folder, which has keys and no data.
pub fn restore(file: &Path, dir: &Path, how: How) -> Result<Restored, BackupError> {
    let config = node_of(dir)?;
    must_be_empty(&config, how)?;
    let keys = NodeKeys::read(&config.keys_dir)?;
    let reader = Reader::open(file)?;
    if reader.manifest.organization != config.organization {
        let what = format!(
            "{} is of the node of {}, this folder of {}",
            file.display(),
            reader.manifest.organization,
            config.organization
        );
        return Err(BackupError::refused("OTHER_ORGANIZATION", what));
    }
    let genesis = genesis_of(&read_file(&config.genesis)?, &config.genesis)?;
    let hash = hex::encode(genesis.hash);
    if reader.manifest.genesis_hash != hash {
        return Err(other_chain(file, &reader.manifest, &hash));
    }
    if genesis.validators.validators.len() == 1 && how == How::Follow {
        let what = format!(
            "this is the only validator: nobody has the blocks after {} any more, and it would sign others in their place. Auditors \
             who hold the lost ones will see both. Say --lose-later-blocks if the newest data/ is gone for good",
            reader.manifest.height
        );
        return Err(BackupError::refused("ONLY_VALIDATOR", what));
    }
    let data = &config.data_dir;
    DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|e| BackupError::io(data, &e))?;
    enough(data, reader.manifest.bytes(), config.min_free_mib)?;
    let staging = data.join("restoring");
    // Of a restore that was cut off: it is in no place where a node looks.
    drop(Remove(staging.clone()));
    let staging = Remove(staging);
    let manifest = reader.unpack(Some(&staging.0))?;
    let (present, _, lacking) = check_copy(&staging.0, &manifest, Some(&keys.vault.to_bytes()))?;
    check_membership(&config, &OwnKeys::new(config.keys_dir.clone(), &keys), &present, manifest.height)?;
    put_in_place(&config, &staging.0, how)?;
    Ok(Restored { manifest, lacking: lacking.unwrap_or_default(), how })
}

/// Neither stores nor a memory of votes: what lies there is worth more than any backup, or is of another time.
fn must_be_empty(config: &Config, how: How) -> Result<(), BackupError> {
    if is_running(&config.data_dir) {
        let what = format!("a node runs on {}: stop it first", config.data_dir.display());
        return Err(BackupError::refused("NODE_RUNS", what));
    }
    let ledger = config.data_dir.join("ledger");
    if how == How::VaultOnly && !ledger.join("CURRENT").exists() {
        let what = format!("{} is missing: put back ledger and vault together", ledger.display());
        return Err(BackupError::refused("NO_LEDGER", what));
    }
    let parts: &[&str] = match how {
        How::VaultOnly => &["vault"],
        How::Follow | How::LoseLaterBlocks => &["ledger", "vault", "consensus"],
    };
    for part in parts {
        let place = config.data_dir.join(part);
        if place.symlink_metadata().is_ok() {
            let what = format!("{} is there: move the old data away, and keep it", place.display());
            return Err(BackupError::refused("DATA_EXISTS", what));
        }
    }
    Ok(())
}

fn put_in_place(config: &Config, staging: &Path, how: How) -> Result<(), BackupError> {
    let data = &config.data_dir;
    let mut parts = vec!["vault"];
    if how != How::VaultOnly {
        // First of all: what comes back has voted, also when its ledger is at genesis.
        memory::remove_marker(&data.join(NEVER_VOTED)).map_err(|e| BackupError::Failed(e.to_string()))?;
        parts.push("ledger");
    }
    for part in parts {
        let (from, to) = (staging.join(part), data.join(part));
        let sync = |folder: &Path| File::open(folder).and_then(|f| f.sync_all());
        let place = sync(&from).and_then(|()| std::fs::rename(&from, &to)).and_then(|()| sync(data));
        place.map_err(|e| BackupError::io(&to, &e))?;
    }
    Ok(())
}
