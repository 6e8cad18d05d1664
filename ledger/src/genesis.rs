//! Genesis: the first validator set and the organizations, and the auditor's anchor over both.

use assent_proto::ledger::v1::{Genesis, GenesisFile, Organization, OrganizationList, ValidatorSet};
use prost::Message;

use crate::certificate::MAX_VALIDATORS;
use crate::encoding::{array, decode, id, EncodingError};
use crate::hash::{hash, Context, Hash};
use crate::keys::screen;
use crate::membership::members_root;
use crate::PROTOCOL_VERSION;

/// Latest time that a genesis or a block may have, in milliseconds since the Unix epoch: the end of the year 9999, after which
/// RFC 3339 has no words. So `time + 1 ms` never overflows.
pub const MAX_TIME_MS: u64 = 253_402_300_799_999;
/// Longest genesis file.
pub const MAX_GENESIS_BYTES: usize = 4 << 20;

/// A checked genesis file.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedGenesis {
    /// Chain id.
    pub chain_id: String,
    /// Time of genesis in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// First validator set.
    pub validators: ValidatorSet,
    /// All organizations, in ascending order of id.
    pub organizations: Vec<Organization>,
    /// The genesis file: the organizations' keys too.
    pub bytes: Vec<u8>,
    /// The auditor's anchor.
    pub hash: Hash,
}

/// Why a genesis is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    #[error("genesis: {0}")]
    Rule(String),
}

fn rule<T>(text: impl Into<String>) -> Result<T, GenesisError> {
    Err(GenesisError::Rule(text.into()))
}

/// The genesis hash: over a domain tag, the chain id and the exact bytes of `Genesis`.
pub fn genesis_hash(chain_id: &str, genesis: &[u8]) -> Hash {
    hash(Context::Genesis, chain_id, &[genesis])
}

/// Genesis, first validators and hash of a genesis file, as evidence carries it.
pub fn check_genesis(file: &[u8]) -> Result<(Genesis, ValidatorSet, Hash), GenesisError> {
    check_genesis_file(file)?;
    check_inner(&decode::<GenesisFile>("GenesisFile", file, MAX_GENESIS_BYTES)?.genesis)
}

/// Genesis alone, without the organizations that it commits to.
pub(crate) fn check_inner(bytes: &[u8]) -> Result<(Genesis, ValidatorSet, Hash), GenesisError> {
    let genesis: Genesis = decode("Genesis", bytes, MAX_GENESIS_BYTES)?;
    if genesis.protocol_version != PROTOCOL_VERSION {
        return rule(format!(
            "protocol version {}, this program knows {PROTOCOL_VERSION}",
            genesis.protocol_version
        ));
    }
    id("Genesis", "chain_id", &genesis.chain_id)?;
    if genesis.time_ms > MAX_TIME_MS {
        return rule(format!("time {} ms, at most {MAX_TIME_MS} allowed", genesis.time_ms));
    }
    array::<32>("Genesis", "organizations_hash", &genesis.organizations_hash)?;
    let set = genesis.validators.clone().unwrap_or_default();
    check_validator_set(&set)?;
    let hash = genesis_hash(&genesis.chain_id, bytes);
    Ok((genesis, set, hash))
}

pub(crate) fn check_validator_set(set: &ValidatorSet) -> Result<(), GenesisError> {
    if set.validators.is_empty() || set.validators.len() > MAX_VALIDATORS {
        return rule(format!("{} validators, 1 to {MAX_VALIDATORS} needed", set.validators.len()));
    }
    for validator in &set.validators {
        id("Validator", "organization", &validator.organization)?;
        let key = array("Validator", "vote_key", &validator.vote_key)?;
        screen(&key)
            .map_err(|why| GenesisError::Rule(format!("vote key of {}: {why}", validator.organization)))?;
        if validator.power == 0 || validator.power > 1 << 32 {
            return rule(format!(
                "power {} of {}: 1 to 2^32 needed",
                validator.power, validator.organization
            ));
        }
    }
    if !set.validators.windows(2).all(|w| w[0].vote_key < w[1].vote_key) {
        return rule("validators are not in strictly ascending order of vote key");
    }
    Ok(())
}

/// Decodes and checks a whole genesis file.
pub fn check_genesis_file(bytes: &[u8]) -> Result<CheckedGenesis, GenesisError> {
    let file: GenesisFile = decode("GenesisFile", bytes, MAX_GENESIS_BYTES)?;
    let (genesis, validators, hash) = check_inner(&file.genesis)?;
    let expected = crate::hash::hash(Context::Organizations, &genesis.chain_id, &[&file.organizations]);
    if genesis.organizations_hash != expected {
        return rule("the organizations are not those that genesis commits to");
    }
    let list: OrganizationList = decode("OrganizationList", &file.organizations, MAX_GENESIS_BYTES)?;
    for organization in &list.organizations {
        id("Organization", "id", &organization.id)?;
        let key = array("Organization", "entry_key", &organization.entry_key)?;
        screen(&key).map_err(|why| GenesisError::Rule(format!("entry key of {}: {why}", organization.id)))?;
        let key = array("Organization", "checkpoint_key", &organization.checkpoint_key)?;
        screen(&key)
            .map_err(|why| GenesisError::Rule(format!("checkpoint key of {}: {why}", organization.id)))?;
    }
    if !list.organizations.windows(2).all(|w| w[0].id < w[1].id) {
        return rule("organizations are not in strictly ascending order of id");
    }
    if validators.members_root != members_root(&list.organizations) {
        return rule("the members' keys are not those that the validator set commits to");
    }
    for validator in &validators.validators {
        if !list.organizations.iter().any(|o| o.id == validator.organization) {
            return rule(format!("validator {} is not among the organizations", validator.organization));
        }
    }
    Ok(CheckedGenesis {
        chain_id: genesis.chain_id,
        time_ms: genesis.time_ms,
        validators,
        organizations: list.organizations,
        bytes: bytes.to_vec(),
        hash,
    })
}

/// Makes a genesis file; organizations and validators are sorted.
pub fn make_genesis_file(
    chain_id: &str,
    time_ms: u64,
    mut validators: ValidatorSet,
    mut organizations: Vec<Organization>,
) -> Result<(Vec<u8>, CheckedGenesis), GenesisError> {
    validators.validators.sort_by(|a, b| a.vote_key.cmp(&b.vote_key));
    organizations.sort_by(|a, b| a.id.cmp(&b.id));
    validators.members_root = members_root(&organizations).to_vec();
    let organizations = OrganizationList { organizations }.encode_to_vec();
    let genesis = Genesis {
        protocol_version: PROTOCOL_VERSION,
        chain_id: chain_id.to_owned(),
        time_ms,
        validators: Some(validators),
        organizations_hash: hash(Context::Organizations, chain_id, &[&organizations]).to_vec(),
    };
    let file = GenesisFile { genesis: genesis.encode_to_vec(), organizations }.encode_to_vec();
    let checked = check_genesis_file(&file)?;
    Ok((file, checked))
}
