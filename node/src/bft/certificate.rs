//! Certificates: the ledger's form, which auditors read, and the engine's.

use assent_ledger::Hash;
use assent_proto::ledger::v1 as proto;
use malachite_app_channel::app::types::core::{
    CommitCertificate, ExtendedCommitCertificate, ExtendedCommitSignature, Round,
};

use super::scheme::Signature;
use super::types::{Address, BftContext, BlockHash, Height};

/// The ledger's form, with signatures in ascending order of address.
pub fn to_proto(c: &CommitCertificate<BftContext>) -> Option<proto::Certificate> {
    let mut signatures: Vec<_> = c.commit_signatures.iter().map(|s| (s.address.0, s.signature.0)).collect();
    signatures.sort_unstable();
    signatures.dedup_by_key(|s| s.0);
    Some(proto::Certificate {
        height: c.height.0,
        round: c.round.as_u32()?,
        header_hash: c.value_id.0.to_vec(),
        signatures: signatures
            .into_iter()
            .map(|(a, s)| proto::CommitSignature { address: a.to_vec(), signature: s.to_vec() })
            .collect(),
    })
}

/// The engine's form; `None` if a field has a wrong length.
pub fn from_proto(c: &proto::Certificate) -> Option<ExtendedCommitCertificate<BftContext>> {
    let hash: Hash = c.header_hash.as_slice().try_into().ok()?;
    let signature = |s: &proto::CommitSignature| {
        let address: Hash = s.address.as_slice().try_into().ok()?;
        let signature: [u8; 64] = s.signature.as_slice().try_into().ok()?;
        Some(ExtendedCommitSignature::new(Address(address), Signature(signature), None))
    };
    Some(ExtendedCommitCertificate {
        height: Height(c.height),
        round: Round::new(c.round),
        value_id: BlockHash(hash),
        commit_signatures: c.signatures.iter().map(signature).collect::<Option<_>>()?,
    })
}
