//! Reads a backup: its head first, which says whether this version may, then file by file against the hashes.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::file::{copy, Manifest, CHUNK_BYTES, FORMAT, MAGIC, MAX_MANIFEST_BYTES};
use super::BackupError;

/// A backup that is being read: behind its head, which is whole.
pub struct Reader {
    path: PathBuf,
    from: BufReader<File>,
    /// What it says of itself.
    pub manifest: Manifest,
}

impl Reader {
    /// Opens a backup and reads its head.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let file = File::open(path)
            .map_err(|e| BackupError::refused("NO_SUCH_FILE", format!("{}: {e}", path.display())))?;
        let mut from = BufReader::with_capacity(CHUNK_BYTES, file);
        let manifest = read_head(&mut from, path)?;
        Ok(Self { path: path.to_owned(), from, manifest })
    }

    /// Reads all files, writes each below `into` if there is one, and compares each with its hash.
    pub fn unpack(mut self, into: Option<&Path>) -> Result<Manifest, BackupError> {
        for folder in ["ledger", "vault"] {
            if let Some(root) = into {
                let place = root.join(folder);
                let made = DirBuilder::new().recursive(true).mode(0o700).create(&place);
                made.map_err(|e| BackupError::io(&place, &e))?;
            }
        }
        for packed in &self.manifest.files {
            let damaged = |what: &str| {
                BackupError::Damaged(format!("{} in {} {what}", packed.path, self.path.display()))
            };
            let mut place: (PathBuf, Box<dyn WriteSync>) = match into {
                None => (self.path.clone(), Box::new(std::io::sink())),
                Some(root) => {
                    let place = root.join(&packed.path);
                    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place);
                    let file = file.map_err(|e| BackupError::io(&place, &e))?;
                    (place, Box::new(file))
                }
            };
            let hash = copy(&mut self.from, packed.bytes, &mut place.1);
            match hash.map_err(|e| BackupError::io(&place.0, &e))? {
                None => return Err(damaged("is cut off")),
                Some(hash) if hash != packed.sha256 => return Err(damaged("is not what was put there")),
                Some(_) => place.1.sync().map_err(|e| BackupError::io(&place.0, &e))?,
            }
        }
        let more = self.from.read(&mut [0]).map_err(|e| BackupError::io(&self.path, &e))?;
        match more {
            0 => Ok(self.manifest),
            _ => Err(BackupError::Damaged(format!("{}: bytes behind the last file", self.path.display()))),
        }
    }
}

/// Where a file goes.
trait WriteSync: Write {
    fn sync(&self) -> std::io::Result<()>;
}

impl WriteSync for File {
    fn sync(&self) -> std::io::Result<()> {
        self.sync_all()
    }
}

impl WriteSync for std::io::Sink {
    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }
}

fn read_head(from: &mut impl Read, path: &Path) -> Result<Manifest, BackupError> {
    let shown = path.display();
    let damaged = |what: &str| BackupError::Damaged(format!("the head of {shown} {what}"));
    let mut fixed = [0; MAGIC.len() + 8];
    let begins = from.read_exact(&mut fixed).is_ok() && fixed.starts_with(MAGIC);
    if !begins {
        return Err(BackupError::refused("NOT_A_BACKUP", format!("{shown} is no backup of an Assent node")));
    }
    let number = |at: usize| fixed[at..].first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
    let (format, length) = (number(MAGIC.len()), number(MAGIC.len() + 4) as usize);
    if length > MAX_MANIFEST_BYTES {
        return Err(damaged("names an impossible length"));
    }
    let (mut json, mut digest) = (vec![0; length], [0; 32]);
    if from.read_exact(&mut json).and_then(|()| from.read_exact(&mut digest)).is_err() {
        return Err(damaged("is cut off"));
    }
    let found = Sha256::new().chain_update(fixed).chain_update(&json).finalize();
    if found.as_slice() != digest {
        return Err(damaged("is not what was put there"));
    }
    if format != FORMAT {
        return Err(BackupError::refused(
            "BACKUP_FORMAT",
            format!("{shown} is of format {format}; this version of assentd reads format {FORMAT}: take the version that made it, or a newer one"),
        ));
    }
    let manifest: Manifest = serde_json::from_slice(&json).map_err(|e| {
        BackupError::refused("BACKUP_FORMAT", format!("the manifest of {shown} can't be read: {e}"))
    })?;
    if manifest.protocol_version != assent_ledger::PROTOCOL_VERSION {
        return Err(BackupError::refused(
            "BACKUP_FORMAT",
            format!(
                "{shown} is of a ledger with protocol_version {}; this version of assentd knows {}",
                manifest.protocol_version,
                assent_ledger::PROTOCOL_VERSION
            ),
        ));
    }
    match manifest.files.iter().find(|packed| !is_ours(&packed.path)) {
        None => Ok(manifest),
        Some(packed) => Err(BackupError::refused(
            "BACKUP_FORMAT",
            format!("{shown} names a file {:?}, which no backup holds", packed.path),
        )),
    }
}

/// Nothing that leads out of the folder that it is unpacked into.
fn is_ours(path: &str) -> bool {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    path == "genesis.bin" || path.strip_prefix("ledger/").or(path.strip_prefix("vault/")).is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for good in ["genesis.bin", "ledger/CURRENT", "vault/000012.sst", "ledger/OPTIONS-000007"] {
            assert!(is_ours(good), "{good}");
        }
        for bad in [
            "",
            "ledger",
            "ledger/",
            "ledger/..",
            "ledger/../keys/vote.pem",
            "/etc/passwd",
            "keys/a",
            "ledger/a/b",
            "ledger/.x",
        ] {
            assert!(!is_ours(bad), "{bad}");
        }
    }
}
