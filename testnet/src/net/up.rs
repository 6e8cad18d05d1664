//! `up` and `down`.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::binaries::Binaries;
use crate::error::{failed, Error, While};
use crate::net::cluster::Cluster;
use crate::net::create::create;
use crate::net::description::{config_path, Network};
use crate::net::process::{is_ours, stop_others, Care};

/// Number of nodes when nobody says.
pub const DEFAULT_NODES: usize = 4;
const LOCK: &str = ".assent-testnet.lock";

/// Creates a network in a folder and starts it, or starts the stopped one that is there. Leaves it running.
///
/// When it fails, what it started is stopped and what it created is removed.
pub async fn up(dir: &Path, nodes: Option<usize>) -> Result<Network, Error> {
    let binaries = Binaries::beside_this()?;
    let mut claimed = Claimed::new(dir)?;
    let started = tokio::select! {
        started = start(&binaries, &claimed, nodes) => started,
        interrupted = interrupted() => Err(interrupted),
    };
    // A start that was interrupted dropped its cluster, which killed the nodes.
    if started.is_ok() {
        claimed.keep();
    }
    started
}

async fn start(binaries: &Binaries, claimed: &Claimed, nodes: Option<usize>) -> Result<Network, Error> {
    let dir = &claimed.dir;
    let mut cluster = make_cluster(binaries, claimed, nodes, Care::Detached).await?;
    if let Err(error) = cluster.wait_ready().await {
        cluster.stop().await;
        return Err(error);
    }
    cluster.network.write(dir)?;
    Ok(cluster.leave_running())
}

/// Starts the nodes of a claimed folder, whose network is created when there is none.
pub async fn make_cluster(
    binaries: &Binaries,
    claimed: &Claimed,
    nodes: Option<usize>,
    care: Care,
) -> Result<Cluster, Error> {
    let network = match &claimed.stopped {
        None => create(binaries, &claimed.dir, nodes.unwrap_or(DEFAULT_NODES)).await?,
        Some(network) => match nodes {
            Some(nodes) if nodes != network.nodes.len() => {
                return failed(format!(
                    "{} holds a network of {} nodes: leave --nodes out, or choose another folder",
                    claimed.dir.display(),
                    network.nodes.len()
                ))
            }
            _ => network.clone(),
        },
    };
    Cluster::start(binaries, &claimed.dir, network, care)
}

/// Ends with [`Error::Interrupted`] on Ctrl-C or SIGTERM.
pub async fn interrupted() -> Error {
    use tokio::signal::unix::{signal, SignalKind};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return Error::Failed("signals can't be listened for".into());
    };
    tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
    Error::Interrupted
}

/// Stops the nodes of a folder's network; says what it did.
pub async fn down(dir: &Path) -> Result<String, Error> {
    let Ok(dir) = dir.canonicalize() else {
        return failed(format!("there is no folder {}", dir.display()));
    };
    let _lock = lock(&dir)?;
    let Some(network) = Network::read(&dir)? else {
        return failed(format!("{} holds no network: `assent-testnet up --dir` makes one", dir.display()));
    };
    let running = running(&dir, &network);
    let killed = stop_others(&running).await;
    Ok(match (running.len(), killed.as_slice()) {
        (0, _) => "no node was running".into(),
        (n, []) => format!("{n} nodes stopped"),
        (n, killed) => format!("{n} nodes stopped; {} had to be killed", killed.len()),
    })
}

/// Process id and configuration of each node that runs.
fn running(dir: &Path, network: &Network) -> Vec<(u32, PathBuf)> {
    let known = network.nodes.iter().map(|n| (n.pid, config_path(dir, &n.organization)));
    known.filter(|(pid, config)| is_ours(*pid, config)).collect()
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK);
    let file = File::create(&path).during(|| format!("writing {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            failed(format!("another assent-testnet works in {}: wait until it is done", dir.display()))
        }
        Err(TryLockError::Error(error)) => failed(format!("locking {}: {error}", path.display())),
    }
}

/// A folder that we may use: empty, or with a network that is stopped. Unless kept, what was not there before is removed.
#[derive(Debug)]
pub struct Claimed {
    /// The folder, absolute.
    pub dir: PathBuf,
    stopped: Option<Network>,
    existed: bool,
    kept: bool,
    _lock: File,
}

impl Claimed {
    /// Claims a folder, and makes it where it is missing.
    pub fn new(dir: &Path) -> Result<Self, Error> {
        let existed = dir.exists();
        std::fs::create_dir_all(dir).during(|| format!("making {}", dir.display()))?;
        let dir = dir.canonicalize().during(|| format!("looking at {}", dir.display()))?;
        // From here on a refusal must leave the folder as it was.
        let claim = |dir: &Path| -> Result<(File, Option<Network>), Error> {
            let lock = lock(dir)?;
            Ok((lock, usable(dir)?))
        };
        match claim(&dir) {
            Ok((lock, stopped)) => Ok(Self { dir, stopped, existed, kept: false, _lock: lock }),
            Err(error) => {
                if !existed {
                    let _ = std::fs::remove_dir_all(&dir); // made above, by us
                }
                Err(error)
            }
        }
    }

    /// The folder has the network of an earlier run.
    pub fn holds_network(&self) -> bool {
        self.stopped.is_some()
    }

    /// What is in the folder stays.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

/// The stopped network of a folder, or none when it is empty.
fn usable(dir: &Path) -> Result<Option<Network>, Error> {
    if let Some(network) = Network::read(dir)? {
        let running = running(dir, &network);
        if running.is_empty() {
            return Ok(Some(network));
        }
        let pids: Vec<_> = running.iter().map(|(pid, _)| pid.to_string()).collect();
        return failed(format!(
            "a network runs in {0} (process {1}): use it, stop it with `assent-testnet down --dir {0}`, or choose another folder",
            dir.display(),
            pids.join(", ")
        ));
    }
    let entries = std::fs::read_dir(dir).during(|| format!("looking at {}", dir.display()))?;
    if entries.flatten().any(|entry| entry.file_name() != LOCK) {
        return failed(format!("{} is not empty and holds no network: choose another folder", dir.display()));
    }
    Ok(None)
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if self.kept || self.stopped.is_some() {
            return;
        }
        if !self.existed {
            let _ = std::fs::remove_dir_all(&self.dir);
            return;
        }
        // It was there and empty.
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    }
}
