//! From what the reader trusts to a header.

use std::collections::BTreeSet;
use std::sync::Arc;

use assent_proto::ledger::v1::{
    anchor, Anchor, Certificate, CheckpointStart, GenesisStart, Header, ValidatorSet,
};

use super::keys::{AnchoredAt, Members, Start};
use super::{read, rule, ReceiptFault, Trust};
use crate::block::header_hash;
use crate::certificate::{is_quorum, total_power, validator_set_hash, verify_certificate};
use crate::checkpoint::origin;
use crate::encoding::{array, decode, fields_at, id, EncodingError};
use crate::entry::MAX_ENTRY_BYTES;
use crate::genesis::check_inner;
use crate::hash::Hash;
use crate::log::{tagged_leaf_hash, verify_inclusion, LEAF_HEADER};
use crate::receipt::{same, same_text, ReceiptError};
use crate::sets::{set_at, walk_sets, FirstSet, SetFrom, Walked, MAX_SET_CHANGES};
use crate::PROTOCOL_VERSION;

/// The genesis hash that a receipt starts at: not to be trusted for that. None for one that starts at a checkpoint.
pub fn genesis_hash_of(bytes: &[u8]) -> Result<Option<Hash>, ReceiptFault> {
    genesis_hash_in(read(bytes)?.anchor.as_ref())
}

/// The same of any file's anchor.
pub fn genesis_hash_in(anchor: Option<&Anchor>) -> Result<Option<Hash>, ReceiptFault> {
    match anchor.and_then(|anchor| anchor.start.as_ref()) {
        Some(anchor::Start::Genesis(start)) => Ok(Some(check_inner(&start.genesis)?.2)),
        _ => Ok(None),
    }
}

/// Refuses, before anything is decoded, more changes than a chain may have in the anchor at `path` of a message.
pub(crate) fn limit_changes(message: &'static str, bytes: &[u8], path: &[u32]) -> Result<(), EncodingError> {
    // Beside the changes genesis and a certificate.
    fields_at(message, bytes, path, MAX_SET_CHANGES + 2).map(|_| ())
}

pub(super) fn verify(trust: &Trust, anchor: &Anchor) -> Result<AnchoredAt, ReceiptFault> {
    match (trust, &anchor.start) {
        (Trust::Checkpoint { origin, size, root }, Some(anchor::Start::Checkpoint(start))) => {
            from_checkpoint((origin, *size, root), &anchor.header, start)
        }
        (Trust::Genesis { .. }, Some(anchor::Start::Checkpoint(start))) => {
            let why = format!(
                "it starts at a checkpoint of {} leaves: give that one with --checkpoint",
                start.size
            );
            Err(ReceiptFault::OtherAnchor(why))
        }
        _ => Ok(SetChain::verify(trust, anchor, 0)?.1),
    }
}

/// The validator sets that an anchor leads through from genesis.
#[derive(Debug)]
pub(crate) struct SetChain {
    chain_id: String,
    start: Start,
    sets: Vec<SetFrom>,
    members: Arc<[Members]>,
}

impl SetChain {
    /// The sets of an anchor that starts at genesis, and its header. The last set is that of the header; `ahead` heights more
    /// may be shown.
    pub(crate) fn verify(
        trust: &Trust,
        anchor: &Anchor,
        ahead: u64,
    ) -> Result<(Self, AnchoredAt), ReceiptFault> {
        let start = match (trust, &anchor.start) {
            (_, None) => return rule("the receipt starts nowhere"),
            (_, Some(anchor::Start::Checkpoint(_))) => return rule("this does not start at a checkpoint"),
            (Trust::Checkpoint { .. }, Some(anchor::Start::Genesis(_))) => {
                let why = "it starts at genesis: give the genesis hash with --genesis-hash".to_owned();
                return Err(ReceiptFault::OtherAnchor(why));
            }
            (Trust::Genesis { hash, accepted }, Some(anchor::Start::Genesis(start))) => {
                (hash, accepted, start)
            }
        };
        let (expected, accepted, start) = start;
        let chain = Self::from_genesis(expected, accepted, start)?;
        let at = chain.header(&anchor.header, start.certificate.as_ref())?;
        match chain.sets.last() {
            Some((from, _)) if *from <= at.header.height.saturating_add(ahead) => Ok((chain, at)),
            _ => rule("the header is older than the validator set that is shown for it"),
        }
    }

    fn from_genesis(
        expected: &Hash,
        accepted: &BTreeSet<Hash>,
        start: &GenesisStart,
    ) -> Result<Self, ReceiptFault> {
        let (genesis, first, genesis_hash) = check_inner(&start.genesis)?;
        if genesis_hash != *expected {
            let (expected, found) = (hex::encode(expected), hex::encode(genesis_hash));
            return Err(ReceiptError::GenesisHash { expected, found }.into());
        }
        let chain_id = genesis.chain_id;
        let first =
            FirstSet { chain_id: &chain_id, validators: &first, genesis_hash: &genesis_hash, accepted };
        let Walked { sets, recoveries } = walk_sets(&first, &start.changes)?;
        for (change, (_, set)) in start.changes.iter().zip(&sets) {
            must_be_short(set, change.certificate.as_ref())?;
        }
        let mut since_ms = vec![0];
        for change in &start.changes {
            since_ms.push(decode::<Header>("Header", &change.header, MAX_ENTRY_BYTES)?.time_ms);
        }
        let members = sets.iter().zip(since_ms).map(|((from, set), since_ms)| Members {
            from: *from,
            root: set.members_root.clone(),
            since_ms,
        });
        let start = Start::Genesis { hash: genesis_hash, set_changes: start.changes.len(), recoveries };
        Ok(Self { start, members: members.collect(), sets, chain_id })
    }

    /// A header with precommits by the set of its height.
    pub(crate) fn header(
        &self,
        bytes: &[u8],
        certificate: Option<&Certificate>,
    ) -> Result<AnchoredAt, ReceiptFault> {
        let (header, hash) = read_header(bytes)?;
        same_text("chain id of the header", &self.chain_id, &header.chain_id)?;
        let Some(set) = set_at(&self.sets, header.height) else { return rule("there is no validator set") };
        same_set(&header, set)?;
        let certificate = must_be_short(set, certificate)?;
        verify_certificate(&self.chain_id, set, header.height, &hash, certificate)
            .map_err(|e| ReceiptError::Certificate(e.to_string()))?;
        Ok(AnchoredAt { header, hash, start: self.start.clone(), members: self.members.clone() })
    }

    /// Refuses a chain that does not come to the set which votes after a header of it.
    pub(crate) fn must_reach_next(&self, header: &Header) -> Result<(), ReceiptFault> {
        let Some(set) = set_at(&self.sets, header.height.saturating_add(1)) else {
            return rule("there is no validator set");
        };
        let found = validator_set_hash(&header.chain_id, set);
        Ok(same("validator set after the header", &header.next_validator_set_hash, &found)?)
    }
}

fn read_header(bytes: &[u8]) -> Result<(Header, Hash), ReceiptFault> {
    let header: Header = decode("Header", bytes, MAX_ENTRY_BYTES)?;
    id("Header", "chain_id", &header.chain_id)?;
    if header.protocol_version != PROTOCOL_VERSION || header.height == 0 {
        return rule("the header is of another protocol version, or of height 0");
    }
    let hash = header_hash(&header.chain_id, bytes);
    Ok((header, hash))
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
    bytes: &[u8],
    start: &CheckpointStart,
) -> Result<AnchoredAt, ReceiptFault> {
    let (header, hash) = read_header(bytes)?;
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
    let members = [Members { from: 0, root: set.members_root.clone(), since_ms: 0 }];
    Ok(AnchoredAt { header, hash, start: Start::Checkpoint { size }, members: members.into() })
}
