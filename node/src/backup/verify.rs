//! Checks a backup without a node: every byte against its hash, then what the bytes say against genesis and each other.

use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use std::sync::Arc;

use assent_ledger::genesis::check_genesis_file;
use assent_ledger::keyfile::from_pem;

use super::create::{enough, Remove};
use super::file::Manifest;
use super::reader::Reader;
use super::{lines, when, BackupError};
use crate::chain::whole::{check, Whole};
use crate::chain::Store;
use crate::config::read_file;
use crate::custodian::{count_lacks, Lacking};
use crate::members::Present;
use crate::vault::{Vault, VaultError};

/// A backup that holds.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The ledger.
    pub ledger: Whole,
    /// What the vault lacks; none when it was not opened.
    pub vault: Option<Lacking>,
    /// Its genesis hash was compared with one that was given.
    pub anchored: bool,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Manifest { chain_id, genesis_hash, organization, version, .. } = &self.manifest;
        let Whole { height, entries, values } = self.ledger;
        let vault = match &self.vault {
            None => "every byte as it was put there; NOT opened (--keys)".to_owned(),
            Some(lacking) => format!("opens with vault.pem; {lacking}"),
        };
        let anchor = if self.anchored { "as given" } else { "NOT compared (--genesis-hash)" };
        f.write_str(&lines(&[
            ("organization", organization.clone()),
            ("chain", chain_id.clone()),
            ("genesis hash", format!("{genesis_hash}, {anchor}")),
            ("height", height.to_string()),
            ("block time", when(self.manifest.time_ms)),
            ("made", format!("{}, by assentd {version}", when(self.manifest.created_ms))),
            ("ledger", format!("holds: {entries} entries, {values} values, certificate of block {height}")),
            ("vault", vault),
            ("not checked", "signatures of entries: assent audit verify".to_owned()),
        ]))
    }
}

/// Checks a backup in a copy below the system's temporary folder.
pub fn verify(file: &Path, genesis_hash: Option<&str>, keys: Option<&Path>) -> Result<Verified, BackupError> {
    let anchor = genesis_hash.map(anchor).transpose()?;
    let secret = keys.map(vault_key).transpose()?;
    let reader = Reader::open(file)?;
    if let Some(anchor) = anchor.as_ref().filter(|anchor| **anchor != reader.manifest.genesis_hash) {
        return Err(other_chain(file, &reader.manifest, anchor));
    }
    let root = std::env::temp_dir();
    enough(&root, reader.manifest.bytes(), 0)?;
    let copy = Remove(root.join(format!("assentd-backup-{:016x}", rand::random::<u64>())));
    DirBuilder::new().mode(0o700).create(&copy.0).map_err(|e| BackupError::io(&copy.0, &e))?;
    let manifest = reader.unpack(Some(&copy.0))?;
    let (_, ledger, vault) = check_copy(&copy.0, &manifest, secret.as_ref())?;
    Ok(Verified { manifest, ledger, vault, anchored: anchor.is_some() })
}

fn anchor(text: &str) -> Result<String, BackupError> {
    let text = text.to_ascii_lowercase();
    match hex::decode(&text).map(|bytes| bytes.len()) {
        Ok(32) => Ok(text),
        _ => Err(BackupError::refused("BAD_GENESIS_HASH", "--genesis-hash: 64 hex digits are needed")),
    }
}

fn vault_key(keys: &Path) -> Result<[u8; 32], BackupError> {
    let path = keys.join("vault.pem");
    let text = String::from_utf8(read_file(&path)?).unwrap_or_default();
    let key =
        from_pem(&text).map_err(|e| BackupError::refused("BAD_KEY", format!("{}: {e}", path.display())))?;
    Ok(key.to_bytes())
}

/// The backup is of another chain than is asked for.
pub(super) fn other_chain(file: &Path, manifest: &Manifest, wanted: &str) -> BackupError {
    let what = format!(
        "{} is of chain {}, genesis hash {}; wanted is genesis hash {wanted}",
        file.display(),
        manifest.chain_id,
        manifest.genesis_hash
    );
    BackupError::refused("OTHER_CHAIN", what)
}

/// Checks what was unpacked below `root`, without changing it.
pub(super) fn check_copy(
    root: &Path,
    manifest: &Manifest,
    vault_secret: Option<&[u8; 32]>,
) -> Result<(Arc<Present>, Whole, Option<Lacking>), BackupError> {
    let damaged = |what: String| BackupError::Damaged(what);
    let genesis_file = std::fs::read(root.join("genesis.bin"))
        .map_err(|_| damaged("the backup holds no genesis.bin".into()))?;
    let genesis = check_genesis_file(&genesis_file).map_err(|e| damaged(format!("genesis.bin: {e}")))?;
    if (hex::encode(genesis.hash), &genesis.chain_id) != (manifest.genesis_hash.clone(), &manifest.chain_id) {
        return Err(damaged("genesis.bin is not the one that the manifest names".into()));
    }
    let store =
        Store::open_copy(&root.join("ledger"), &genesis_file).map_err(|e| damaged(format!("ledger: {e}")))?;
    let ledger = check(&store, &genesis).map_err(|e| damaged(format!("ledger: {e}")))?;
    let view = store.view().map_err(|e| damaged(format!("ledger: {e}")))?;
    if (view.tip.height, hex::encode(view.tip.header_hash)) != (manifest.height, manifest.header_hash.clone())
    {
        return Err(damaged("the ledger's newest block is not the one that the manifest names".into()));
    }
    store.read_members().map_err(|e| damaged(format!("ledger: {e}")))?;
    let present = store.members().present();
    let Some(secret) = vault_secret else {
        return Ok((present, ledger, None));
    };
    let vault = Vault::open_copy(&root.join("vault"), secret).map_err(|error| match error {
        // Every byte is as it was put there.
        VaultError::Corrupt { what } => BackupError::refused("WRONG_VAULT_KEY", format!("the vault: {what}")),
        other => damaged(other.to_string()),
    })?;
    let lacking = count_lacks(&view, &vault, &manifest.organization, || Ok(()))
        .map_err(|e| damaged(format!("vault: {e}")))?;
    drop(view);
    Ok((present, ledger, Some(lacking)))
}
