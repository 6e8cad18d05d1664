//! Where a setting comes from: flag, then environment (clap does both), then `--profile FILE`, then the default.

use std::path::{Path, PathBuf};

use assent_ledger::Hash;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::{files, text};

/// A profile file. Paths are relative to its folder; unknown keys are refused.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// URL of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Client certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Key of the client certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Certificate authority of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Chain id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<String>,
    /// Genesis hash that is trusted, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub genesis_hash: Option<String>,
    /// Seconds to wait for an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

impl Profile {
    /// Reads the file, if one is named.
    pub fn load(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let mut profile: Self = toml::from_str(&files::read_text(path)?).map_err(|e| {
            let what = e.message().lines().next().unwrap_or_default().to_owned();
            Failure::usage("MALFORMED_PROFILE", format!("{}: {what}", path.display()))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in [&mut profile.cert, &mut profile.key, &mut profile.ca].into_iter().flatten() {
            *file = folder.join(&*file);
        }
        Ok(profile)
    }
}

/// The auditor's anchor on the command line.
#[derive(Debug, clap::Args)]
pub struct AnchorArgs {
    /// Genesis hash that you trust, in hex [env: ASSENT_GENESIS_HASH]
    #[arg(long, value_name = "HASH", env = "ASSENT_GENESIS_HASH", hide_env = true)]
    genesis_hash: Option<String>,
}

impl AnchorArgs {
    /// The anchor, or none: then nothing can be more than consistent.
    pub fn resolve(&self, profile: &Profile) -> Result<Option<Hash>, Failure> {
        let given = self.genesis_hash.as_ref().or(profile.genesis_hash.as_ref());
        given.map(|text| text::hash("the genesis hash", text)).transpose()
    }

    /// The anchor, for commands that can't do without.
    pub fn require(&self, profile: &Profile) -> Result<Hash, Failure> {
        self.resolve(profile)?.ok_or_else(|| {
            Failure::usage("NO_ANCHOR", "no genesis hash is given, so nothing could be verified")
                .help("give --genesis-hash HASH as you got it from someone you trust, not from this node")
        })
    }
}

/// The chain id on the command line.
#[derive(Debug, clap::Args)]
pub struct ChainArgs {
    /// Chain that signatures are for [env: ASSENT_CHAIN_ID]
    #[arg(long, value_name = "ID", env = "ASSENT_CHAIN_ID", hide_env = true)]
    chain_id: Option<String>,
}

impl ChainArgs {
    /// The chain id, if it is given.
    pub fn resolve(&self, profile: &Profile) -> Result<Option<String>, Failure> {
        let given = self.chain_id.clone().or_else(|| profile.chain_id.clone());
        given.map(|given| text::id("the chain id", &given).map(|()| given)).transpose()
    }
}
