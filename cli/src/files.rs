//! Files: read with a limit, written whole or not at all, never over something that is there.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::exit::Failure;

/// Longest text file that is read: keys, cards, profiles, wallets.
pub const MAX_TEXT_BYTES: u64 = 1 << 20;
/// Mode of files with secrets.
pub const PRIVATE: u32 = 0o600;
/// Mode of all other files.
pub const PUBLIC: u32 = 0o644;

/// Reads a file of at most `max` bytes. What can't be read is a usage error.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage("UNREADABLE", format!("{} can't be read: {error}", path.display()))
            .help("check the path and who may read it")
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > max {
        return Err(Failure::usage("TOO_LARGE", format!("{} has more than {max} bytes", path.display())));
    }
    Ok(bytes)
}

/// Reads a small text file.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path, MAX_TEXT_BYTES)?)
        .map_err(|_| Failure::usage("NOT_TEXT", format!("{} is not UTF-8 text", path.display())))
}

fn unwritable(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::error("UNWRITABLE", format!("{} can't be written: {error}", path.display()))
        .help("check the folder, who may write to it, and free space")
}

fn exists(path: &Path) -> Failure {
    Failure::error("EXISTS", format!("{} exists already; nothing was changed", path.display()))
        .help("choose another name, or move the existing one away first")
}

/// Refuses a path that is taken, before any work is done for it.
pub fn refuse_existing(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unwritable(path, error)),
        Ok(_) => Err(exists(path)),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The directory entry, too, must be on disk.
fn sync_parent(path: &Path) -> Result<(), Failure> {
    File::open(parent(path)).and_then(|dir| dir.sync_all()).map_err(|e| unwritable(path, e))
}

/// A file that appears under its name only when it is complete and on disk.
pub struct NewFile {
    temporary: NamedTempFile,
    target: PathBuf,
}

impl NewFile {
    /// Starts a file beside its final place.
    pub fn create(target: &Path, mode: u32) -> Result<Self, Failure> {
        let temporary = tempfile::Builder::new()
            .prefix(".assent-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(parent(target))
            .map_err(|e| unwritable(target, e))?;
        Ok(Self { temporary, target: target.to_owned() })
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.temporary.write_all(bytes).map_err(|e| unwritable(&self.target, e))
    }

    /// Puts it in place; fails if something is there by now.
    pub fn commit(self) -> Result<(), Failure> {
        self.temporary.as_file().sync_all().map_err(|e| unwritable(&self.target, e))?;
        match self.temporary.persist_noclobber(&self.target) {
            Ok(_) => sync_parent(&self.target),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Err(exists(&self.target)),
            Err(error) => Err(unwritable(&self.target, error.error)),
        }
    }

    /// Puts it in place of what is there.
    pub fn replace(self) -> Result<(), Failure> {
        self.temporary.as_file().sync_all().map_err(|e| unwritable(&self.target, e))?;
        self.temporary.persist(&self.target).map_err(|e| unwritable(&self.target, e.error))?;
        sync_parent(&self.target)
    }
}

/// Writes a new file.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let mut file = NewFile::create(path, mode)?;
    file.write(bytes)?;
    file.commit()
}

/// A folder that appears under its name only when everything in it is written.
pub struct NewFolder {
    temporary: TempDir,
    target: PathBuf,
}

impl NewFolder {
    /// Starts a folder beside its final place. The target may be an empty folder, nothing else.
    pub fn create(target: &Path, taken_help: &str) -> Result<Self, Failure> {
        let taken = match target.read_dir() {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(_) => true,
        };
        if taken {
            return Err(exists(target).help(taken_help));
        }
        std::fs::create_dir_all(parent(target)).map_err(|e| unwritable(target, e))?;
        let temporary = tempfile::Builder::new()
            .prefix(".assent-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent(target))
            .map_err(|e| unwritable(target, e))?;
        Ok(Self { temporary, target: target.to_owned() })
    }

    /// Where the files go meanwhile.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Makes a folder inside that only the owner may enter.
    pub fn folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path().join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|e| unwritable(&path, e))?;
        Ok(path)
    }

    /// Puts it in place.
    pub fn commit(self) -> Result<(), Failure> {
        std::fs::rename(self.temporary.path(), &self.target).map_err(|e| match e.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => exists(&self.target),
            _ => unwritable(&self.target, e),
        })?;
        // What the guard would remove now has its final name.
        let _ = self.temporary.keep();
        sync_parent(&self.target)
    }
}
