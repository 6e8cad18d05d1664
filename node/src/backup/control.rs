//! The door for commands on the node's own machine: a UNIX socket in the data folder, for the node's own user (mode 0600).
//! Whoever may use it can read the files beside it anyway.
//!
//! ```text
//! command ─▶ "checkpoint\n"      node: ledger, then vault, as hard links in data/checkpoint
//!         ◀─ "ok PATH\n", or "corrupt SENTENCE\n", or "error SENTENCE\n"
//! command reads the files, and hangs up ─▶ node removes data/checkpoint
//! ```
//! The node itself reads and writes none of the bytes: they go where the command may write, at the command's cost.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::create::{checkpoint, Remove};
use super::BackupError;
use crate::chain::Store;
use crate::vault::Vault;

const SOCKET: &str = "control.sock";
const CHECKPOINT: &str = "checkpoint";
/// A checkpoint writes out what is in memory: up to 200 MB.
const ANSWER: Duration = Duration::from_secs(120);
const MAX_LINE_BYTES: u64 = 4096;

/// Where checkpoints are made; nothing of an earlier process is left in it.
pub fn checkpoint_folder(data: &Path) -> PathBuf {
    data.join(CHECKPOINT)
}

/// Serves one command after the other until shut down; what an earlier process left behind is removed. The stores must be open:
/// that keeps a second process away from the socket.
pub fn serve(data: &Path, store: Store, vault: Vault, shutdown: CancellationToken) -> std::io::Result<()> {
    let path = data.join(SOCKET);
    for left in [std::fs::remove_file(&path), std::fs::remove_dir_all(checkpoint_folder(data))] {
        match left {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let unlink = Unlink(path.clone());
    let (folder, owner) = (checkpoint_folder(data), std::fs::metadata(&path)?.uid());
    tokio::spawn(async move {
        let _unlink = unlink;
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = stream else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                answered = answer(stream, owner, &folder, &store, &vault) => {
                    if let Err(error) = answered {
                        tracing::warn!(%error, "a command on the control socket got no answer");
                    }
                }
            }
        }
    });
    Ok(())
}

/// The socket's file goes with the task, however that ends.
struct Unlink(PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn answer(
    stream: UnixStream,
    owner: u32,
    folder: &Path,
    store: &Store,
    vault: &Vault,
) -> std::io::Result<()> {
    // The mode of the file says the same; this does not depend on the folder it lies in.
    let theirs = stream.peer_cred()?.uid();
    if theirs != owner && theirs != 0 {
        return Err(std::io::Error::other(format!("user {theirs} is not the node's")));
    }
    let (read, mut write) = stream.into_split();
    let mut lines = tokio::io::BufReader::new(read.take(MAX_LINE_BYTES)).lines();
    let said = tokio::time::timeout(Duration::from_secs(5), lines.next_line()).await;
    let said = said.map_err(|_| std::io::Error::from(ErrorKind::TimedOut))??;
    let Some(said) = said else {
        return Ok(()); // it only wanted to know whether a node runs
    };
    if said != "checkpoint" {
        return write.write_all(b"error no such command; this node knows: checkpoint\n").await;
    }
    let _remove = Remove(folder.to_owned());
    match tokio::task::block_in_place(|| checkpoint(store, vault, folder)) {
        Ok(()) => {
            let path = std::fs::canonicalize(folder)?;
            write.write_all(format!("ok {}\n", path.display()).as_bytes()).await?;
            // Until the command has read everything, or has died.
            while lines.next_line().await?.is_some() {}
            Ok(())
        }
        Err(BackupError::Corrupt(what)) => write.write_all(format!("corrupt {what}\n").as_bytes()).await,
        Err(error) => write.write_all(format!("error {error}\n").as_bytes()).await,
    }
}

/// True when a node runs on a data folder.
pub fn is_running(data: &Path) -> bool {
    Connection::connect(data.join(SOCKET)).is_ok()
}

/// A checkpoint that a running node made; it goes when this is dropped.
pub struct Lent {
    /// Folder with `ledger` and `vault`.
    pub folder: PathBuf,
    _connection: Connection,
}

/// Asks the node that runs on a data folder for a checkpoint; none when none runs.
pub fn borrow(data: &Path) -> Result<Option<Lent>, BackupError> {
    let path = data.join(SOCKET);
    let connection = match Connection::connect(&path) {
        Ok(connection) => connection,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None)
        }
        Err(error) => return Err(BackupError::io(&path, &error)),
    };
    let talk = || -> std::io::Result<String> {
        connection.set_read_timeout(Some(ANSWER))?;
        (&connection).write_all(b"checkpoint\n")?;
        let mut line = String::new();
        BufReader::new(&connection).read_line(&mut line)?;
        Ok(line)
    };
    let line = talk().map_err(|e| BackupError::io(&path, &e))?;
    match line.trim_end().split_once(' ') {
        Some(("ok", folder)) => Ok(Some(Lent { folder: folder.into(), _connection: connection })),
        Some(("corrupt", sentence)) => Err(BackupError::Corrupt(format!("the running node: {sentence}"))),
        Some(("error", sentence)) => Err(BackupError::Failed(format!("the running node: {sentence}"))),
        _ => Err(BackupError::Failed("the running node hung up; its log says why".into())),
    }
}
