//! What the runs share: keys, certificates and genesis, made once and copied, and the links between the nodes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::proxy::{Listens, Proxy};
use super::world::NODES;
use crate::binaries::Binaries;
use crate::error::{failed, Error, While};
use crate::net::create::create;
use crate::net::description::Network;

/// Keys, certificates and genesis, made once and copied for each run; and the links, which all runs share.
pub struct Template {
    pub(super) binaries: Binaries,
    pub(super) dir: PathBuf,
    pub(super) network: Network,
    /// Links between the nodes.
    pub proxy: Arc<Proxy>,
    /// A string in every patient's identifier.
    pub canary: String,
}

impl Template {
    /// Makes it in a folder.
    pub async fn make(dir: &Path) -> Result<Self, Error> {
        let binaries = Binaries::beside_this()?;
        let folder = dir.join("template");
        std::fs::create_dir_all(&folder).during(|| format!("making {}", folder.display()))?;
        let network = create(&binaries, &folder, NODES).await?;
        let canary = format!("QZCANARY{:08X}", rand::random::<u32>());
        let mut listens = Vec::new();
        for node in &network.nodes {
            let at = [socket(&node.consensus)?, socket(&node.peer)?];
            listens.push(Listens { organization: node.organization.clone(), at });
        }
        let proxy = Arc::new(Proxy::start(&listens, &canary).await?);
        Ok(Self { binaries, dir: dir.to_owned(), network, proxy, canary })
    }
}

/// The address in `/ip4/A/tcp/P/…`.
fn socket(multiaddr: &str) -> Result<SocketAddr, Error> {
    let parts: Vec<&str> = multiaddr.split('/').collect();
    match parts.as_slice() {
        ["", "ip4", ip, "tcp", port, ..] => {
            format!("{ip}:{port}").parse().during(|| format!("reading {multiaddr}"))
        }
        _ => failed(format!("{multiaddr} is no /ip4/…/tcp/… address")),
    }
}

/// Copies a folder with all that is in it.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let doing = || format!("copying {} to {}", from.display(), to.display());
    std::fs::create_dir_all(to).during(doing)?;
    for entry in std::fs::read_dir(from).during(doing)? {
        let entry = entry.during(doing)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match source.is_dir() {
            true => copy(&source, &target)?,
            false if source.is_file() => drop(std::fs::copy(&source, &target).during(doing)?),
            false => {} // a socket of a node that was killed
        }
    }
    Ok(())
}
