//! Votes, validator sets, and certificates: precommits of more than 2/3 of the voting power over one header.

use assent_proto::ledger::v1::{Certificate, ValidatorSet, Vote, VoteType};
use prost::Message;

use crate::encoding::{array, EncodingError};
use crate::hash::{framed, hash, Context, Hash};
use crate::keys::{verify_batch, Check};

/// Most validators in a set.
pub const MAX_VALIDATORS: usize = 256;

/// Why a certificate proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    #[error("certificate is for height {found}, expected {expected}")]
    Height { expected: u64, found: u64 },
    #[error("certificate is for header {found}, expected {expected}")]
    HeaderHash { expected: String, found: String },
    #[error("signatures are not in strictly ascending order of address at {address}")]
    Order { address: String },
    #[error("{address} is not a validator at this height")]
    UnknownValidator { address: String },
    #[error("signature of {organization} does not verify")]
    Signature { organization: String },
    #[error("power {signed} of {total} signed, more than 2/3 needed")]
    Power { signed: u64, total: u64 },
}

/// The bytes that a validator signs for a vote.
pub fn vote_sign_bytes(chain_id: &str, vote: &Vote) -> Vec<u8> {
    framed(Context::Vote, chain_id, &[&vote.encode_to_vec()])
}

/// The bytes that a proposer signs for its proposal.
pub fn proposal_sign_bytes(
    chain_id: &str,
    height: u64,
    round: u32,
    pol_round: Option<u32>,
    header_hash: &Hash,
    address: &Hash,
) -> Vec<u8> {
    let pol = pol_round.map(|r| r.to_be_bytes());
    framed(
        Context::Proposal,
        chain_id,
        &[
            &height.to_be_bytes(),
            &round.to_be_bytes(),
            pol.as_ref().map_or(&[][..], |r| &r[..]),
            header_hash,
            address,
        ],
    )
}

/// The precommit that stands behind one signature of a certificate.
pub fn precommit(height: u64, round: u32, header_hash: &Hash, address: &Hash) -> Vote {
    Vote {
        r#type: VoteType::Precommit.into(),
        height,
        round,
        header_hash: Some(header_hash.to_vec()),
        address: address.to_vec(),
    }
}

/// Hash that headers name a validator set by.
pub fn validator_set_hash(chain_id: &str, set: &ValidatorSet) -> Hash {
    hash(Context::ValidatorSet, chain_id, &[&set.encode_to_vec()])
}

/// Hash that the next header names a certificate by; zero for the empty one at height 1.
pub fn certificate_hash(chain_id: &str, encoded: &[u8]) -> Hash {
    if encoded.is_empty() {
        return [0; 32];
    }
    hash(Context::Certificate, chain_id, &[encoded])
}

/// Sum of the voting power.
pub fn total_power(set: &ValidatorSet) -> u64 {
    set.validators.iter().map(|v| v.power).fold(0, u64::saturating_add)
}

/// True when `signed` is more than 2/3 of `total`.
pub fn is_quorum(signed: u64, total: u64) -> bool {
    u128::from(signed) * 3 > u128::from(total) * 2
}

/// Checks a certificate over the header with `header_hash` at `height`: known signers in ascending order, every
/// signature, and more than 2/3 of the power.
pub fn verify_certificate(
    chain_id: &str,
    set: &ValidatorSet,
    height: u64,
    header_hash: &Hash,
    certificate: &Certificate,
) -> Result<(), CertificateError> {
    let checks = certificate_checks(chain_id, set, height, header_hash, certificate)?;
    if verify_batch(&checks) {
        return Ok(());
    }
    let bad = checks.iter().find(|c| !c.holds());
    let key = bad.map(|c| c.public_key.to_vec()).unwrap_or_default();
    let organization = set.validators.iter().find(|v| v.vote_key == key).map(|v| v.organization.clone());
    Err(CertificateError::Signature { organization: organization.unwrap_or_default() })
}

/// Everything of [`verify_certificate`] but the signatures, which are returned to be checked in a larger batch.
pub fn certificate_checks(
    chain_id: &str,
    set: &ValidatorSet,
    height: u64,
    header_hash: &Hash,
    certificate: &Certificate,
) -> Result<Vec<Check>, CertificateError> {
    if certificate.height != height {
        return Err(CertificateError::Height { expected: height, found: certificate.height });
    }
    if certificate.header_hash != header_hash {
        return Err(CertificateError::HeaderHash {
            expected: hex::encode(header_hash),
            found: hex::encode(&certificate.header_hash),
        });
    }
    let mut signed = 0u64;
    let mut checks = Vec::with_capacity(certificate.signatures.len());
    let mut previous: Option<Hash> = None;
    for signature in &certificate.signatures {
        let address: Hash = array("CommitSignature", "address", &signature.address)?;
        if previous.is_some_and(|p| p >= address) {
            return Err(CertificateError::Order { address: hex::encode(address) });
        }
        previous = Some(address);
        let validator = set
            .validators
            .iter()
            .find(|v| v.vote_key == address)
            .ok_or_else(|| CertificateError::UnknownValidator { address: hex::encode(address) })?;
        let vote = precommit(height, certificate.round, header_hash, &address);
        checks.push(Check {
            public_key: address,
            message: vote_sign_bytes(chain_id, &vote),
            signature: array("CommitSignature", "signature", &signature.signature)?,
        });
        signed = signed.saturating_add(validator.power);
    }
    let total = total_power(set);
    if !is_quorum(signed, total) {
        return Err(CertificateError::Power { signed, total });
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_two_thirds_is_no_quorum() {
        for (signed, total, quorum) in
            [(2, 3, false), (3, 3, true), (3, 4, true), (2, 4, false), (4, 6, false), (5, 6, true)]
        {
            assert_eq!(is_quorum(signed, total), quorum, "{signed} of {total}");
        }
        assert!(is_quorum(u64::MAX, u64::MAX));
    }
}
