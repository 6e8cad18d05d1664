//! Makes a backup: of the running node, by its leave, or of a stopped one.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use assent_ledger::genesis::{check_genesis_file, CheckedGenesis};
use assent_ledger::PROTOCOL_VERSION;

use super::control::{borrow, checkpoint_folder, Lent};
use super::file::{list, write, Manifest};
use super::{lines, when, BackupError};
use crate::chain::{now_ms, Store};
use crate::config::{read_file, Config, ConfigError, NodeKeys};
use crate::space;
use crate::vault::Vault;

/// A backup that was made.
#[derive(Debug, Clone)]
pub struct Created {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of the whole file, hex.
    pub sha256: String,
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = lines(&[
            ("backup", self.path.display().to_string()),
            ("organization", self.manifest.organization.clone()),
            ("height", self.manifest.height.to_string()),
            ("block time", when(self.manifest.time_ms)),
            ("bytes", self.bytes.to_string()),
            ("SHA-256", self.sha256.clone()),
        ]);
        f.write_str(&fields)
    }
}

/// A folder that goes when this is dropped.
pub(super) struct Remove(pub PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Hard links to all that both stores hold: the ledger first, so that the vault opens all that this ledger commits to.
pub(super) fn checkpoint(store: &Store, vault: &Vault, folder: &Path) -> Result<(), BackupError> {
    DirBuilder::new().mode(0o700).create(folder).map_err(|e| BackupError::io(folder, &e))?;
    store.checkpoint(&folder.join("ledger"))?;
    Ok(vault.checkpoint(&folder.join("vault"))?)
}

/// Whoever holds the checkpoint while it is read: the running node, or this process.
enum Held {
    Lent(Lent),
    Own(Remove),
}

impl Held {
    fn folder(&self) -> &Path {
        match self {
            Self::Lent(lent) => &lent.folder,
            Self::Own(own) => &own.0,
        }
    }
}

/// A node's configuration and genesis.
pub(super) fn node_of(dir: &Path) -> Result<Config, BackupError> {
    Ok(Config::read(&dir.join("assentd.toml"))?)
}

pub(super) fn genesis_of(file: &[u8], path: &Path) -> Result<CheckedGenesis, BackupError> {
    Ok(check_genesis_file(file).map_err(|e| ConfigError(format!("{}: {e}", path.display())))?)
}

/// Writes ledger and vault of the node in `dir` to `out`.
pub fn create(dir: &Path, out: &Path) -> Result<Created, BackupError> {
    let config = node_of(dir)?;
    let genesis_file = read_file(&config.genesis)?;
    let genesis = genesis_of(&genesis_file, &config.genesis)?;
    if out.exists() {
        let what = format!("{} is there already: name another file", out.display());
        return Err(BackupError::refused("FILE_EXISTS", what));
    }
    if !config.data_dir.join("ledger/CURRENT").exists() || !config.data_dir.join("vault/CURRENT").exists() {
        let what = format!("{} holds no ledger and vault: nothing to back up", config.data_dir.display());
        return Err(BackupError::refused("NO_LEDGER", what));
    }
    let held = match borrow(&config.data_dir)? {
        Some(lent) => Held::Lent(lent),
        None => Held::Own(alone(&config, &genesis_file, &genesis)?),
    };
    let root = held.folder();
    let beside = root.join("genesis.bin");
    std::fs::write(&beside, &genesis_file).map_err(|e| BackupError::io(&beside, &e))?;
    let tip = Store::open_copy(&root.join("ledger"), &genesis_file)
        .and_then(|store| store.tip())
        .map_err(|e| BackupError::Failed(e.to_string()))?;
    let manifest = Manifest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_version: PROTOCOL_VERSION,
        chain_id: genesis.chain_id.clone(),
        genesis_hash: hex::encode(genesis.hash),
        organization: config.organization.clone(),
        height: tip.height,
        header_hash: hex::encode(tip.header_hash),
        time_ms: tip.time_ms,
        created_ms: now_ms(),
        files: list(root)?,
    };
    room(&config, &manifest, out)?;
    let (bytes, sha256) = write(root, &manifest, out)?;
    Ok(Created { manifest, path: out.to_owned(), bytes, sha256 })
}

/// No node runs: this process opens the stores, which keeps one from starting meanwhile.
fn alone(config: &Config, genesis_file: &[u8], genesis: &CheckedGenesis) -> Result<Remove, BackupError> {
    let keys = NodeKeys::read(&config.keys_dir)?;
    let failed = |e: &dyn fmt::Display| BackupError::Failed(e.to_string());
    let store =
        Store::open(&config.data_dir.join("ledger"), genesis_file, genesis).map_err(|e| failed(&e))?;
    let vault =
        Vault::open(&config.data_dir.join("vault"), &keys.vault.to_bytes()).map_err(|e| failed(&e))?;
    let folder = checkpoint_folder(&config.data_dir);
    // Left behind by a process that was killed: no other can be at work, the stores are open here.
    drop(Remove(folder.clone()));
    let own = Remove(folder);
    checkpoint(&store, &vault, &own.0)?;
    Ok(own)
}

/// A backup must not be what fills the node's disk.
fn room(config: &Config, manifest: &Manifest, out: &Path) -> Result<(), BackupError> {
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let device = |path: &Path| File::open(path).and_then(|f| f.metadata()).map(|m| m.dev());
    let target = device(folder).map_err(|e| BackupError::io(folder, &e))?;
    let same = device(&config.data_dir).is_ok_and(|data| data == target);
    let kept = if same { config.min_free_mib } else { 0 };
    enough(folder, manifest.bytes(), kept)
}

/// Room for so many bytes, and so many MiB left.
pub(super) fn enough(folder: &Path, bytes: u64, kept_mib: u64) -> Result<(), BackupError> {
    let free = space::free_mib(folder).map_err(|e| BackupError::Failed(e.to_string()))?;
    // The manifest, and what the file system itself takes.
    let needed = (bytes >> 20).saturating_add(2);
    if free >= needed.saturating_add(kept_mib) {
        return Ok(());
    }
    let stays =
        if kept_mib > 0 { format!(", and min_free_mib ({kept_mib} MiB) stay free") } else { String::new() };
    Err(BackupError::Failed(format!(
        "{}: {needed} MiB are needed{stays}; {free} MiB are free",
        folder.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_names_what_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(enough(folder.path(), 1, 0), Ok(()));
        let said = enough(folder.path(), 5 << 50, 128).unwrap_err();
        assert!(said.exit_code() == 7 && said.to_string().contains("5368709122 MiB are needed"), "{said}");
        assert!(said.to_string().contains("min_free_mib (128 MiB) stay free"), "{said}");
    }
}
