//! What receipts are made of, for who has the ledger.

use assent_proto::ledger::v1::{
    anchor, Anchor, Certificate, CheckpointStart, ConsentEntry, GenesisFile, GenesisStart, Member,
    MemberProof, OneConsent, SetChange, ValidatorSet,
};
use prost::Message;

use super::path::tree_path;
use crate::certificate::{is_quorum, total_power};
use crate::commitment::{consent_leaf_hash, ConsentLeaf};
use crate::encoding::decode;
use crate::genesis::{CheckedGenesis, MAX_GENESIS_BYTES};
use crate::hash::Hash;
use crate::log::leaf_hash;
use crate::sets::set_after;

/// What a receipt can't be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a receipt can't be made: {0}")]
pub struct MakeError(&'static str);

/// A certificate as receipts carry it, of the set that voted: without signatures that are not needed, those of the least power
/// first.
pub fn shortened(set: &ValidatorSet, certificate: &Certificate) -> Certificate {
    let power = |address: &[u8]| set.validators.iter().find(|v| v.vote_key == address).map_or(0, |v| v.power);
    let mut kept: Vec<_> = certificate.signatures.iter().map(|s| (power(&s.address), s.clone())).collect();
    let total = total_power(set);
    let mut signed = kept.iter().fold(0u64, |sum, (power, _)| sum.saturating_add(*power));
    while let Some(place) = kept.iter().enumerate().min_by_key(|(_, (power, _))| *power).map(|(at, _)| at) {
        let power = kept[place].0;
        if !is_quorum(signed - power, total) {
            break;
        }
        signed -= power;
        kept.remove(place);
    }
    let signatures = kept.into_iter().map(|(_, signature)| signature).collect();
    Certificate { signatures, ..certificate.clone() }
}

/// An anchor from genesis. `changes` are all that lead to the set that voted on the header, or to the one after it.
pub fn from_genesis(
    genesis: &CheckedGenesis,
    changes: &[SetChange],
    header: Vec<u8>,
    certificate: &Certificate,
) -> Result<Anchor, MakeError> {
    let file: GenesisFile = decode("GenesisFile", &genesis.bytes, MAX_GENESIS_BYTES)
        .map_err(|_| MakeError("the genesis file does not decode"))?;
    let (changes, certificate) = certified(&genesis.validators, changes, &header, certificate)?;
    let start = GenesisStart { genesis: file.genesis, changes, certificate: Some(certificate) };
    Ok(Anchor { header, start: Some(anchor::Start::Genesis(start)) })
}

/// The changes from a set on, and the certificate over a header behind them, or behind all but the last, without what is not needed.
fn certified(
    first: &ValidatorSet,
    changes: &[SetChange],
    header: &[u8],
    certificate: &Certificate,
) -> Result<(Vec<SetChange>, Certificate), MakeError> {
    let mut set = first.clone();
    let mut voters = None;
    let mut short = Vec::with_capacity(changes.len());
    for change in changes {
        let (Some(certificate), Some(next)) = (&change.certificate, set_after(change)) else {
            return Err(MakeError("a change of validators has no certificate or no set"));
        };
        if change.header == *header {
            voters = Some(set.clone());
        }
        short.push(SetChange { certificate: Some(shortened(&set, certificate)), ..change.clone() });
        set = next;
    }
    Ok((short, shortened(voters.as_ref().unwrap_or(&set), certificate)))
}

/// An anchor from a checkpoint: the path of the header's leaf in a log of `size`, and the set that voted on it.
pub fn from_checkpoint(size: u64, path: &[Hash], validators: ValidatorSet, header: Vec<u8>) -> Anchor {
    let path = path.iter().map(|hash| hash.to_vec()).collect();
    let start = CheckpointStart { size, path, validators: Some(validators), ..Default::default() };
    Anchor { header, start: Some(anchor::Start::Checkpoint(start)) }
}

/// An anchor that goes on from one made by [`from_checkpoint`]: to a later header, or to the set after its own. `changes` are all
/// from its header on that lead to the set that voted on the header, or to the one after it.
pub fn behind_checkpoint(
    from: Anchor,
    changes: &[SetChange],
    header: Vec<u8>,
    certificate: &Certificate,
) -> Result<Anchor, MakeError> {
    let (Some(anchor::Start::Checkpoint(mut start)), within) = (from.start, from.header == header) else {
        return Err(MakeError("the anchor does not start at a checkpoint"));
    };
    let first = start.validators.clone().unwrap_or_default();
    let (changes, certificate) = certified(&first, changes, &header, certificate)?;
    start.changes = changes;
    if !within {
        (start.from, start.certificate) = (from.header, Some(certificate));
    }
    Ok(Anchor { header, start: Some(anchor::Start::Checkpoint(start)) })
}

/// Shows one member's keys among all members, which are in ascending order of id; none when it isn't one.
pub fn prove_member(members: &[Member], id: &str) -> Option<MemberProof> {
    let index = members.iter().position(|member| member.id == id)?;
    let leaves: Vec<Hash> = members.iter().map(|member| leaf_hash(&member.encode_to_vec())).collect();
    Some(MemberProof { member: Some(members[index].clone()), path: tree_path(&leaves, index) })
}

/// Shows one consent among all of a slot; none when it isn't there. Its revision is left out.
pub fn one_consent(chain_id: &str, leaves: &[ConsentLeaf], id: &str) -> Option<OneConsent> {
    let mut leaves: Vec<&ConsentLeaf> = leaves.iter().collect();
    leaves.sort();
    let index = leaves.iter().position(|leaf| leaf.id == id)?;
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| consent_leaf_hash(chain_id, leaf)).collect();
    let commitment = leaves[index].commitment.to_vec();
    Some(OneConsent {
        consent: Some(ConsentEntry { id: id.to_owned(), commitment }),
        count: hashes.len() as u64,
        path: tree_path(&hashes, index),
        revision: None,
    })
}
