//! The form of a backup.
//!
//! ```text
//! "assent-backup\n" ‖ format (u32) ‖ length of the manifest (u32) ‖ manifest (JSON) ‖ SHA-256 of all before ‖ files, in its order
//! ```
//! Numbers are big-endian. The head keeps this form in every later format, so that a newer one is told from a damaged one. Files
//! are `genesis.bin`, and those directly in `ledger/` and `vault/`; no other name is taken.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::BackupError;

pub(super) const MAGIC: &[u8; 14] = b"assent-backup\n";
/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// RocksDB has a file for each 64 MiB or so, and a line of the manifest has 150 bytes.
pub(super) const MAX_MANIFEST_BYTES: usize = 64 << 20;
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the program that made it.
    pub version: String,
    /// Version of the ledger's rules.
    pub protocol_version: u32,
    /// Chain id.
    pub chain_id: String,
    /// Genesis hash, hex.
    pub genesis_hash: String,
    /// Organization whose node it is of.
    pub organization: String,
    /// Height of its newest block.
    pub height: u64,
    /// Hash of that block's header, hex; of genesis at height 0.
    pub header_hash: String,
    /// Time of that block, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// When the backup was made, likewise, by the clock of the machine.
    pub created_ms: u64,
    /// The files, in the order in which they follow.
    pub files: Vec<Packed>,
}

/// A file in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// `genesis.bin`, or a name in `ledger/` or `vault/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }
}

/// Copies exactly `bytes`; their SHA-256. None when there are fewer.
pub(super) fn copy(from: &mut impl Read, bytes: u64, to: &mut dyn Write) -> std::io::Result<Option<String>> {
    let (mut hash, mut left) = (Sha256::new(), bytes);
    let mut chunk = vec![0; CHUNK_BYTES];
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let got = from.read(&mut chunk[..want])?;
        if got == 0 {
            return Ok(None);
        }
        hash.update(&chunk[..got]);
        to.write_all(&chunk[..got])?;
        left -= got as u64;
    }
    Ok(Some(hex::encode(hash.finalize())))
}

/// Every file of a folder that holds `genesis.bin`, `ledger` and `vault`, hashed.
pub fn list(root: &Path) -> Result<Vec<Packed>, BackupError> {
    let mut paths = vec!["genesis.bin".to_owned()];
    for part in ["ledger", "vault"] {
        let folder = root.join(part);
        let entries = std::fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries.map_err(|e| BackupError::io(&folder, &e))?;
        let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
        paths.extend(names.map(|name| format!("{part}/{name}")));
    }
    paths.sort_unstable();
    let hashed = |path: String| {
        let place = root.join(&path);
        let pack = || -> std::io::Result<Packed> {
            let mut file = File::open(&place)?;
            let bytes = file.metadata()?.len();
            let short = || std::io::Error::other("it got shorter while it was read");
            let sha256 = copy(&mut file, bytes, &mut std::io::sink())?.ok_or_else(short)?;
            Ok(Packed { path, bytes, sha256 })
        };
        pack().map_err(|e| BackupError::io(&place, &e))
    };
    paths.into_iter().map(hashed).collect()
}

fn head(manifest: &Manifest) -> Result<Vec<u8>, BackupError> {
    let json = serde_json::to_vec(manifest).map_err(|e| BackupError::Failed(e.to_string()))?;
    let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= MAX_MANIFEST_BYTES);
    let length = length.ok_or_else(|| BackupError::Failed("too many files for one backup".into()))?;
    let mut head = [MAGIC, &FORMAT.to_be_bytes()[..], &length.to_be_bytes(), &json].concat();
    let digest = Sha256::digest(&head);
    head.extend_from_slice(&digest);
    Ok(head)
}

/// Writes a backup of the files below `root`: as FILE.partial, synced, then renamed. Its size and SHA-256.
pub fn write(root: &Path, manifest: &Manifest, out: &Path) -> Result<(u64, String), BackupError> {
    let partial = beside(out, "partial");
    let written = write_partial(root, manifest, &partial).and_then(|written| {
        let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let place = std::fs::rename(&partial, out).and_then(|()| File::open(folder)?.sync_all());
        place.map_err(|e| BackupError::io(out, &e)).map(|()| written)
    });
    if written.is_err() {
        // What is half written is of no use, and may be what fills the disk.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// Writes on, and keeps the hash of all that it has written.
struct Hashing {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(part)?;
        self.hash.update(&part[..written]);
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn write_partial(root: &Path, manifest: &Manifest, partial: &Path) -> Result<(u64, String), BackupError> {
    let failed = |e: &std::io::Error| BackupError::io(partial, e);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(partial);
    let mut to = Hashing { file: file.map_err(|e| failed(&e))?, hash: Sha256::new(), bytes: 0 };
    to.write_all(&head(manifest)?).map_err(|e| failed(&e))?;
    for packed in &manifest.files {
        let place = root.join(&packed.path);
        let mut from = File::open(&place).map_err(|e| BackupError::io(&place, &e))?;
        let hash = copy(&mut from, packed.bytes, &mut to).map_err(|e| failed(&e))?;
        if hash.as_ref() != Some(&packed.sha256) {
            return Err(BackupError::Failed(format!("{} changed while it was read", place.display())));
        }
    }
    to.file.sync_all().map_err(|e| failed(&e))?;
    Ok((to.bytes, hex::encode(to.hash.finalize())))
}

/// The path with something appended to its name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
