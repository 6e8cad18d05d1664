//! From what the reader trusts to a header.

use std::collections::BTreeSet;

use assent_proto::ledger::v1::{
    anchor, Anchor, Certificate, CheckpointStart, GenesisStart, Header, MemberProof, ValidatorSet,
};
use prost::Message;

use super::path::root_from;
use super::{read, rule, ReceiptFault, Trust};
use crate::block::header_hash;
use crate::certificate::{is_quorum, total_power, validator_set_hash, verify_certificate};
use crate::checkpoint::origin;
use crate::encoding::{array, decode, id};
use crate::entry::MAX_ENTRY_BYTES;
use crate::genesis::check_inner;
use crate::hash::Hash;
use crate::keys::PublicKey;
use crate::log::{leaf_hash, tagged_leaf_hash, verify_inclusion, LEAF_HEADER};
use crate::receipt::{same, same_text, ReceiptError};
use crate::recovered::Recovered;
use crate::sets::{walk_sets, FirstSet, Walked};
use crate::PROTOCOL_VERSION;

/// Where a receipt starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At genesis.
    Genesis {
        /// Its hash.
        hash: Hash,
        /// Changes of validators on the way to the header.
        set_changes: usize,
        /// Recoveries among them: the reader accepted each.
        recoveries: Vec<Recovered>,
    },
    /// At a checkpoint.
    Checkpoint {
        /// Leaves in its log.
        size: u64,
    },
}

/// A header that follows from what the reader trusts.
#[derive(Debug, Clone, PartialEq)]
pub struct AnchoredAt {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: Hash,
    /// Where it was come from.
    pub start: Start,
    /// Root of the tree of members whose keys count at the header.
    members_root: Vec<u8>,
}

impl AnchoredAt {
    /// The entry key of an organization that a proof shows to be a member at the header.
    pub(super) fn entry_key(&self, id: &str, proof: Option<&MemberProof>) -> Result<PublicKey, ReceiptError> {
        let missing = || ReceiptError::Rule("the proof of a member's keys is missing");
        let proof = proof.ok_or_else(missing)?;
        let (member, path) = (proof.member.as_ref().ok_or_else(missing)?, proof.path.as_ref());
        same_text("member whose keys are shown", id, &member.id)?;
        let root = root_from(&leaf_hash(&member.encode_to_vec()), path.ok_or_else(missing)?)?;
        same("root of the members", &self.members_root, &root)?;
        if member.entry_key.is_empty() {
            return Err(ReceiptError::Rule("the member's entry key was suspended at the header"));
        }
        Ok(array("Member", "entry_key", &member.entry_key)?)
    }
}

/// The genesis hash that a receipt starts at: not to be trusted for that. None for one that starts at a checkpoint.
pub fn genesis_hash_of(bytes: &[u8]) -> Result<Option<Hash>, ReceiptFault> {
    match read(bytes)?.anchor.and_then(|anchor| anchor.start) {
        Some(anchor::Start::Genesis(start)) => Ok(Some(check_inner(&start.genesis)?.2)),
        _ => Ok(None),
    }
}

pub(super) fn verify(trust: &Trust, anchor: &Anchor) -> Result<AnchoredAt, ReceiptFault> {
    let header: Header = decode("Header", &anchor.header, MAX_ENTRY_BYTES)?;
    id("Header", "chain_id", &header.chain_id)?;
    if header.protocol_version != PROTOCOL_VERSION || header.height == 0 {
        return rule("the header is of another protocol version, or of height 0");
    }
    let hash = header_hash(&header.chain_id, &anchor.header);
    match (trust, &anchor.start) {
        (Trust::Genesis { hash: expected, accepted }, Some(anchor::Start::Genesis(start))) => {
            from_genesis((expected, accepted), header, hash, start)
        }
        (Trust::Checkpoint { origin, size, root }, Some(anchor::Start::Checkpoint(start))) => {
            from_checkpoint((origin, *size, root), header, hash, &anchor.header, start)
        }
        (Trust::Genesis { .. }, Some(anchor::Start::Checkpoint(start))) => {
            let why = format!(
                "it starts at a checkpoint of {} leaves: give that one with --checkpoint",
                start.size
            );
            Err(ReceiptFault::OtherAnchor(why))
        }
        (Trust::Checkpoint { .. }, Some(anchor::Start::Genesis(_))) => {
            let why = "it starts at genesis: give the genesis hash with --genesis-hash".to_owned();
            Err(ReceiptFault::OtherAnchor(why))
        }
        (_, None) => rule("the receipt starts nowhere"),
    }
}

fn from_genesis(
    (expected, accepted): (&Hash, &BTreeSet<Hash>),
    header: Header,
    hash: Hash,
    start: &GenesisStart,
) -> Result<AnchoredAt, ReceiptFault> {
    let (genesis, first, genesis_hash) = check_inner(&start.genesis)?;
    if genesis_hash != *expected {
        let (expected, found) = (hex::encode(expected), hex::encode(genesis_hash));
        return Err(ReceiptError::GenesisHash { expected, found }.into());
    }
    let chain_id = genesis.chain_id.as_str();
    same_text("chain id of the header", chain_id, &header.chain_id)?;
    let first = FirstSet { chain_id, validators: &first, genesis_hash: &genesis_hash, accepted };
    let Walked { sets, recoveries } = walk_sets(&first, &start.changes)?;
    let Some((from, set)) = sets.last() else { return rule("there is no validator set") };
    if header.height < *from {
        return rule("the header is older than the validator set that is shown for it");
    }
    same_set(&header, set)?;
    for (change, (_, set)) in start.changes.iter().zip(&sets) {
        must_be_short(set, change.certificate.as_ref())?;
    }
    let certificate = must_be_short(set, start.certificate.as_ref())?;
    verify_certificate(chain_id, set, header.height, &hash, certificate)
        .map_err(|e| ReceiptError::Certificate(e.to_string()))?;
    let start = Start::Genesis { hash: genesis_hash, set_changes: start.changes.len(), recoveries };
    Ok(AnchoredAt { header, hash, start, members_root: set.members_root.clone() })
}

fn same_set(header: &Header, set: &ValidatorSet) -> Result<(), ReceiptError> {
    let found = validator_set_hash(&header.chain_id, set);
    same("validator set of the header", &header.validator_set_hash, &found)
}

/// A certificate without which the quorum would be lost by any signature: a surplus one is a byte that nobody needs.
fn must_be_short<'a>(
    set: &ValidatorSet,
    certificate: Option<&'a Certificate>,
) -> Result<&'a Certificate, ReceiptFault> {
    let Some(certificate) = certificate else { return rule("a certificate is missing") };
    let power = |address: &[u8]| set.validators.iter().find(|v| v.vote_key == address).map_or(0, |v| v.power);
    let powers: Vec<u64> = certificate.signatures.iter().map(|s| power(&s.address)).collect();
    let signed = powers.iter().fold(0, |sum: u64, power| sum.saturating_add(*power));
    let least = powers.iter().min().copied().unwrap_or_default();
    match is_quorum(signed - least, total_power(set)) {
        true => rule("a certificate has more signatures than are needed"),
        false => Ok(certificate),
    }
}

/// The header is the last leaf that its block adds, so its place is known.
fn from_checkpoint(
    (pinned, size, root): (&str, u64, &Hash),
    header: Header,
    hash: Hash,
    bytes: &[u8],
    start: &CheckpointStart,
) -> Result<AnchoredAt, ReceiptFault> {
    if start.size != size {
        let why = format!("it starts at a checkpoint of {} leaves, the given one has {size}", start.size);
        return Err(ReceiptFault::OtherAnchor(why));
    }
    same_text("log of the header", pinned, &origin(&header.chain_id))?;
    let path: Vec<Hash> =
        start.path.iter().map(|h| array("CheckpointStart", "path", h)).collect::<Result<_, _>>()?;
    let leaf = tagged_leaf_hash(LEAF_HEADER, bytes);
    if !verify_inclusion(&leaf, header.log_size, size, root, &path) {
        return rule("the header is not in the log of the checkpoint");
    }
    let Some(set) = &start.validators else { return rule("the validator set is missing") };
    same_set(&header, set)?;
    Ok(AnchoredAt { header, hash, start: Start::Checkpoint { size }, members_root: set.members_root.clone() })
}
