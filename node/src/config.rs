//! Configuration: `assentd.toml`, overridden by the environment (`ASSENTD_GRPC__LISTEN` and the like). Unknown keys are refused.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use assent_ledger::keyfile::from_pem;
use assent_ledger::keys::SigningKey;
use assent_ledger::Hash;
use figment::providers::{Env, Format, Toml};
use figment::Figment;
use serde::Deserialize;

use crate::grpc::quota::Rate;
use crate::limits::Limits;

mod check;

/// Longest file, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Variables of the environment that are none of the file's keys.
const NOT_KEYS: [&str; 2] = ["config", "log"];

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
    /// Heights whose blocks stay whole; of older ones this organization's entries and what proofs need. 0: all stay whole.
    #[serde(default)]
    pub keep_blocks: u64,
    /// A node without blocks of its own that is more heights behind joins from a peer's snapshot. 0: never.
    #[serde(default = "snapshot_lag")]
    pub snapshot_lag_heights: u64,
    /// Plans of recoveries of a lost quorum, by their hashes in hex, that a snapshot may have gone through.
    #[serde(default)]
    pub accept_recoveries: Vec<String>,
    /// The clients' door.
    pub grpc: GrpcSection,
    /// Liveness, readiness, metrics.
    pub admin: AdminSection,
    /// The consensus swarm.
    pub consensus: SwarmSection,
    /// The exchange swarm.
    pub exchange: SwarmSection,
    /// Checkpoints and tiles of the log, for everybody; none: they are not published.
    pub tlog: Option<TlogSection>,
    /// How much of this node clients may take up.
    #[serde(default)]
    pub limits: Limits,
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
    /// The organization's own authority, PEM: its operator's, while the ledger does not know the organization.
    #[serde(default = "authority")]
    pub authority: PathBuf,
    /// Revoked clients' certificates, one a line.
    #[serde(default = "revoked")]
    pub revoked: PathBuf,
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

/// Others catch up from what is kept.
const MIN_KEEP_BLOCKS: u64 = 100;
/// `[tlog]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlogSection {
    /// Address to listen on.
    pub listen: SocketAddr,
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
fn authority() -> PathBuf {
    "tls/ca.pem".into()
}
fn revoked() -> PathBuf {
    "tls/revoked".into()
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
fn snapshot_lag() -> u64 {
    10_000
}

impl Config {
    /// Reads a file; paths in it are relative to its folder.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        if !path.is_file() {
            let hint = "make a node's folder with `assent init`, or name its file with --config";
            return Err(ConfigError(format!("{}: no such file; {hint}", path.display())));
        }
        let named = |why: String| ConfigError(format!("{}: {why}", path.display()));
        let bytes = std::fs::metadata(path).map_err(|e| named(e.to_string()))?.len();
        if bytes > MAX_CONFIG_BYTES {
            return Err(named(format!("{bytes} bytes long, at most {MAX_CONFIG_BYTES} are read")));
        }
        let environment = Env::prefixed("ASSENTD_").ignore(&NOT_KEYS).split("__");
        let figment = Figment::new().merge(Toml::file_exact(path)).merge(environment);
        for section in ["grpc", "limits", "admin", "consensus", "exchange", "tlog"] {
            // A list would be taken for the section's values in their order.
            if figment.find_value(section).is_ok_and(|value| value.as_dict().is_none()) {
                return Err(named(format!("{section} is no section: write [{section}] and its keys below")));
            }
        }
        let mut config: Self = figment.extract().map_err(|e| named(e.to_string()))?;
        check::check(&config).map_err(named)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for relative in [
            &mut config.genesis,
            &mut config.data_dir,
            &mut config.keys_dir,
            &mut config.grpc.certificate,
            &mut config.grpc.key,
            &mut config.grpc.authority,
            &mut config.grpc.revoked,
        ] {
            *relative = folder.join(&*relative);
        }
        Ok(config)
    }

    /// Plans of recoveries that the operator accepts: each was checked when the file was read.
    pub fn accepted_recoveries(&self) -> BTreeSet<Hash> {
        self.accept_recoveries.iter().filter_map(|text| check::plan(text)).collect()
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
            let bytes = read_file(&path).map_err(|e| ConfigError(format!("keys_dir: {e}")))?;
            let text = String::from_utf8(bytes).unwrap_or_default();
            from_pem(&text).map_err(|e| ConfigError(format!("keys_dir: {}: {e}", path.display())))
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
