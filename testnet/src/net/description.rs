//! `network.json`: what scripts read to find nodes and clients. Its form is fixed in INTERFACES.md.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{failed, Error, While};

/// A network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Chain id.
    pub chain_id: String,
    /// Genesis hash in hex.
    pub genesis_hash: String,
    /// The nodes, one an organization.
    pub nodes: Vec<Node>,
    /// Client certificates, each for its own organization's node.
    pub clients: Vec<Client>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Organization that runs it.
    pub organization: String,
    /// Process id.
    pub pid: u32,
    /// URL of the gRPC services.
    pub grpc: String,
    /// Multiaddr of the exchange swarm.
    pub peer: String,
    /// Multiaddr of the consensus swarm.
    pub consensus: String,
    /// URL of health and metrics.
    pub admin: String,
    /// URL of the published log; empty when there is none.
    #[serde(default)]
    pub tlog: String,
    /// Data folder.
    pub data: PathBuf,
    /// Vote key in hex.
    pub validator_key: String,
    /// URL of the log file.
    pub log: String,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Organization that issued the certificate.
    pub organization: String,
    /// Role.
    pub role: String,
    /// Name.
    pub name: String,
    /// Certificate file.
    pub cert: PathBuf,
    /// Key file.
    pub key: PathBuf,
    /// File of the organization's certificate authority.
    pub ca: PathBuf,
}

/// The file's name.
pub const FILE: &str = "network.json";

impl Network {
    /// Reads a folder's network; none when there is no such file.
    pub fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return failed(format!("reading {}: {error}", path.display())),
        };
        serde_json::from_str(&text).map(Some).during(|| format!("reading {}", path.display()))
    }

    /// Writes it whole or not at all.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let (path, new) = (dir.join(FILE), dir.join("network.json.new"));
        let mut text = serde_json::to_string_pretty(self).during(|| "writing network.json".into())?;
        text.push('\n');
        std::fs::write(&new, text).during(|| format!("writing {}", new.display()))?;
        std::fs::rename(&new, &path).during(|| format!("writing {}", path.display()))
    }

    /// An organization's node.
    pub fn node(&self, organization: &str) -> Result<&Node, Error> {
        let found = self.nodes.iter().find(|n| n.organization == organization);
        found.ok_or_else(|| Error::Failed(format!("the network has no node of {organization}")))
    }

    /// An organization's client of a role.
    pub fn client(&self, organization: &str, role: &str) -> Result<&Client, Error> {
        let found = self.clients.iter().find(|c| c.organization == organization && c.role == role);
        found.ok_or_else(|| {
            Error::Failed(format!("the network has no client of {organization} with role {role}"))
        })
    }
}

/// Folder of an organization's node.
pub fn node_dir(dir: &Path, organization: &str) -> PathBuf {
    dir.join(organization)
}

/// Configuration file of an organization's node: the argument by which its process is known.
pub fn config_path(dir: &Path, organization: &str) -> PathBuf {
    node_dir(dir, organization).join("assentd.toml")
}

/// Log file of an organization's node.
pub fn log_path(dir: &Path, organization: &str) -> PathBuf {
    node_dir(dir, organization).join("assentd.log")
}
