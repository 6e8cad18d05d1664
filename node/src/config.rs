//! Configuration: `assentd.toml`, overridden by the environment (`ASSENTD_GRPC__LISTEN` and the like). Unknown keys are refused.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use assent_ledger::keyfile::from_pem;
use assent_ledger::keys::SigningKey;
use figment::providers::{Env, Format, Toml};
use figment::Figment;
use serde::Deserialize;

use crate::grpc::quota::Rate;

/// What is wrong with the configuration: file, key or value, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// How blocks are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ordering {
    /// Byzantine agreement with the other validators.
    Malachite,
    /// This node alone.
    Single,
}

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Id of the organization that runs this node.
    pub organization: String,
    /// How blocks are ordered.
    #[serde(default = "malachite")]
    pub ordering: Ordering,
    /// Genesis file.
    #[serde(default = "genesis")]
    pub genesis: PathBuf,
    /// Folder of the databases.
    #[serde(default = "data")]
    pub data_dir: PathBuf,
    /// Folder of the keys.
    #[serde(default = "keys")]
    pub keys_dir: PathBuf,
    /// An empty block is made after this long without one.
    #[serde(default = "ten")]
    pub heartbeat_seconds: u64,
    /// A node whose tip is older gives no permits.
    #[serde(default = "thirty")]
    pub max_staleness_seconds: u64,
    /// MiB: with fewer free below `data_dir` it gives no permits, and does not start.
    #[serde(default = "min_free")]
    pub min_free_mib: u64,
    /// The clients' door.
    pub grpc: GrpcSection,
    /// Liveness, readiness, metrics.
    pub admin: AdminSection,
    /// The consensus swarm.
    pub consensus: SwarmSection,
    /// The exchange swarm.
    pub exchange: SwarmSection,
    /// Testnets only; never in the file.
    #[serde(skip)]
    pub testnet: crate::fault::Flags,
}

/// `[grpc]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcSection {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Server certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Calls a second that each client may make.
    #[serde(default = "twenty_thousand")]
    pub requests_per_second: u32,
    /// Calls at once; as many as in a second when it isn't there.
    pub burst: Option<u32>,
}

impl GrpcSection {
    /// What each client may ask for.
    pub fn rate(&self) -> Rate {
        let per_second = self.requests_per_second;
        Rate { per_second, burst: self.burst.unwrap_or(per_second) }
    }
}

/// `[admin]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSection {
    /// Address to listen on: loopback, or a network that only operators reach.
    pub listen: SocketAddr,
}

/// `[consensus]` and `[exchange]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwarmSection {
    /// Multiaddr to listen on.
    pub listen: String,
}

fn malachite() -> Ordering {
    Ordering::Malachite
}
fn genesis() -> PathBuf {
    "genesis.bin".into()
}
fn data() -> PathBuf {
    "data".into()
}
fn keys() -> PathBuf {
    "keys".into()
}
fn ten() -> u64 {
    10
}
fn twenty_thousand() -> u32 {
    20_000
}
fn thirty() -> u64 {
    30
}
fn min_free() -> u64 {
    128
}

impl Config {
    /// Reads a file; paths in it are relative to its folder.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        if !path.is_file() {
            let hint = "make a node's folder with `assent init`, or name its file with --config";
            return Err(ConfigError(format!("{}: no such file; {hint}", path.display())));
        }
        let figment =
            Figment::new().merge(Toml::file_exact(path)).merge(Env::prefixed("ASSENTD_").split("__"));
        let mut config: Self =
            figment.extract().map_err(|e| ConfigError(format!("{}: {e}", path.display())))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for relative in [
            &mut config.genesis,
            &mut config.data_dir,
            &mut config.keys_dir,
            &mut config.grpc.certificate,
            &mut config.grpc.key,
        ] {
            *relative = folder.join(&*relative);
        }
        if config.heartbeat_seconds == 0 || config.max_staleness_seconds <= config.heartbeat_seconds {
            let (heartbeat, staleness) = (config.heartbeat_seconds, config.max_staleness_seconds);
            return Err(ConfigError(format!(
                "{}: heartbeat_seconds ({heartbeat}) must be at least 1 and below max_staleness_seconds ({staleness})",
                path.display()
            )));
        }
        for (key, swarm) in [("consensus", &config.consensus), ("exchange", &config.exchange)] {
            if let Err(error) = swarm.listen.parse::<libp2p::Multiaddr>() {
                return Err(ConfigError(format!(
                    "{}: {key}.listen is not a multiaddr such as /ip4/127.0.0.1/tcp/7413: {error}",
                    path.display()
                )));
            }
        }
        let rate = config.grpc.rate();
        if rate.per_second == 0 || rate.burst == 0 {
            return Err(ConfigError(format!(
                "{}: grpc.requests_per_second ({}) and grpc.burst ({}) must be at least 1",
                path.display(),
                rate.per_second,
                rate.burst
            )));
        }
        Ok(config)
    }
}

/// Reads a file; the error names it.
pub fn read_file(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|e| ConfigError(format!("{}: {e}", path.display())))
}

/// The keys of a node, one per purpose.
pub struct NodeKeys {
    /// Signs entries, requests, decisions and acknowledgements.
    pub entry: SigningKey,
    /// Votes.
    pub vote: SigningKey,
    /// Peer id of the consensus swarm.
    pub consensus_peer: SigningKey,
    /// Peer id of the exchange swarm.
    pub exchange_peer: SigningKey,
    /// Encrypts the vault.
    pub vault: SigningKey,
    /// Signs checkpoints.
    pub checkpoint: SigningKey,
}

impl NodeKeys {
    /// Reads the six key files of a folder.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        let key = |name: &str| {
            let path = folder.join(name);
            let text = String::from_utf8(read_file(&path)?).unwrap_or_default();
            from_pem(&text).map_err(|e| ConfigError(format!("{}: {e}", path.display())))
        };
        Ok(Self {
            entry: key("entry.pem")?,
            vote: key("vote.pem")?,
            consensus_peer: key("consensus-peer.pem")?,
            exchange_peer: key("exchange-peer.pem")?,
            vault: key("vault.pem")?,
            checkpoint: key("checkpoint.pem")?,
        })
    }
}
