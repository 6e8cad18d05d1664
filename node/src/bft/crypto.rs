//! Signing and verifying what the engine sends, over the ledger's bytes: a certificate's signatures are checked by the
//! offline auditor with nothing but `assent-ledger`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use assent_ledger::certificate::{proposal_sign_bytes, vote_sign_bytes};
use assent_ledger::hash::sha256;
use assent_ledger::keys::{self, SigningKey};
use assent_ledger::Hash;
use assent_proto::ledger::v1 as proto;
use async_trait::async_trait;
use malachite_app_channel::app::types::core::{
    NilOrVal, SignedMessage, ValidatorProof, VoteExtensionScope, VoteType,
};
use malachite_signing::{Error, Signer, VerificationResult, Verifier};

use super::prevotes::Prevotes;
use super::scheme::{PublicKey, Signature};
use super::types::{Address, BftContext, PartHeader, Proposal, ProposalPart, Vote};

/// The ledger's form of a vote.
fn vote_to_proto(vote: &Vote) -> Option<proto::Vote> {
    Some(proto::Vote {
        r#type: match vote.kind {
            VoteType::Prevote => proto::VoteType::Prevote.into(),
            VoteType::Precommit => proto::VoteType::Precommit.into(),
        },
        height: vote.height.0,
        round: vote.round.as_u32()?,
        header_hash: match vote.value {
            NilOrVal::Nil => None,
            NilOrVal::Val(hash) => Some(hash.0.to_vec()),
        },
        address: vote.address.0.to_vec(),
    })
}

/// Verifies for one chain.
#[derive(Debug, Clone)]
pub struct ChainVerifier {
    chain_id: String,
    prevotes: Prevotes,
}

impl ChainVerifier {
    /// A verifier for signatures of this chain.
    pub fn new(chain_id: &str) -> Self {
        Self { chain_id: chain_id.to_owned(), prevotes: Prevotes::default() }
    }

    /// What the engine has it verify from now on.
    pub fn prevotes(&self) -> Prevotes {
        self.prevotes.clone()
    }

    /// Whether `signature` is by the vote's own address.
    pub fn vote_holds(&self, vote: &Vote, signature: &Signature) -> bool {
        self.vote(vote, signature, &vote.address.0)
    }

    fn vote(&self, vote: &Vote, signature: &Signature, key: &Hash) -> bool {
        vote_to_proto(vote)
            .is_some_and(|v| keys::verify(key, &vote_sign_bytes(&self.chain_id, &v), &signature.0))
    }

    /// Whether a part is signed by its publisher.
    pub fn part_holds(&self, part: &ProposalPart) -> bool {
        let message = part_sign_bytes(&self.chain_id, &part.header, part.index, &part.data);
        keys::verify(&part.header.publisher.0, &message, &part.signature.0)
    }

    fn proposal(&self, p: &Proposal) -> Option<Vec<u8>> {
        let round = p.round.as_u32()?;
        Some(proposal_sign_bytes(
            &self.chain_id,
            p.height.0,
            round,
            p.pol_round.as_u32(),
            &p.value.0,
            &p.address.0,
        ))
    }
}

/// Bytes that the publisher of a part signs, framed as in [`assent_ledger::hash`].
fn part_sign_bytes(chain_id: &str, h: &PartHeader, index: u32, data: &[u8]) -> Vec<u8> {
    let context = b"assent/1/proposal-part";
    let mut out = vec![context.len() as u8];
    out.extend_from_slice(context);
    out.push(chain_id.len() as u8);
    out.extend_from_slice(chain_id.as_bytes());
    let pol = h.pol_round.map(u32::to_be_bytes);
    let parts: [&[u8]; 8] = [
        &h.height.to_be_bytes(),
        &h.round.to_be_bytes(),
        pol.as_ref().map_or(&[], |r| &r[..]),
        &h.publisher.0,
        &h.hash.0,
        &h.total.to_be_bytes(),
        &index.to_be_bytes(),
        &sha256(data),
    ];
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Signs for one validator on one chain.
#[derive(Clone)]
pub struct ChainSigner {
    key: SigningKey,
    verifier: ChainVerifier,
    /// Shared by all clones.
    signed: Arc<AtomicU64>,
}

impl ChainSigner {
    /// A signer with this vote key.
    pub fn new(chain_id: &str, key: SigningKey) -> Self {
        Self { key, verifier: ChainVerifier::new(chain_id), signed: Arc::default() }
    }

    /// The validator's address.
    pub fn address(&self) -> Address {
        Address(self.key.verifying_key().to_bytes())
    }

    /// The highest height that a vote was signed for.
    pub fn signed_until(&self) -> u64 {
        self.signed.load(Ordering::Acquire)
    }

    /// Signs one part.
    pub fn sign_part(&self, header: &PartHeader, index: u32, data: &[u8]) -> Signature {
        self.sign(&part_sign_bytes(&self.verifier.chain_id, header, index, data))
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(keys::sign(&self.key, message))
    }
}

#[async_trait]
impl Verifier<BftContext> for ChainVerifier {
    async fn verify_signed_vote(
        &self,
        vote: &Vote,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        let holds = self.vote(vote, signature, &key.0);
        if holds {
            self.prevotes.saw(vote);
        }
        Ok(VerificationResult::from_bool(holds))
    }

    async fn verify_signed_proposal(
        &self,
        proposal: &Proposal,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        let holds = self.proposal(proposal).is_some_and(|m| keys::verify(&key.0, &m, &signature.0));
        Ok(VerificationResult::from_bool(holds))
    }

    // There are no vote extensions, so none is ever right.
    async fn verify_signed_vote_extension(
        &self,
        _: &VoteExtensionScope<BftContext>,
        _: &(),
        _: &Signature,
        _: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(VerificationResult::Invalid)
    }

    async fn verify_validator_proof(
        &self,
        proof: &ValidatorProof<BftContext>,
    ) -> Result<VerificationResult, Error> {
        let holds = proof
            .decoded_public_key()
            .is_ok_and(|key| keys::verify(&key.0, &proof.preimage(), &proof.signature.0));
        Ok(VerificationResult::from_bool(holds))
    }
}

#[async_trait]
impl Signer<BftContext> for ChainSigner {
    async fn sign_vote(&self, vote: Vote) -> Result<SignedMessage<BftContext, Vote>, Error> {
        let plain = vote_to_proto(&vote).ok_or_else(|| Error::from_source("a vote without a round"))?;
        self.signed.fetch_max(plain.height, Ordering::AcqRel);
        let signature = self.sign(&vote_sign_bytes(&self.verifier.chain_id, &plain));
        Ok(SignedMessage::new(vote, signature))
    }

    async fn sign_proposal(&self, proposal: Proposal) -> Result<SignedMessage<BftContext, Proposal>, Error> {
        let message = self
            .verifier
            .proposal(&proposal)
            .ok_or_else(|| Error::from_source("a proposal without a round"))?;
        let signature = self.sign(&message);
        Ok(SignedMessage::new(proposal, signature))
    }

    async fn sign_vote_extension(
        &self,
        _: VoteExtensionScope<BftContext>,
        (): (),
    ) -> Result<SignedMessage<BftContext, ()>, Error> {
        Err(Error::from_source("vote extensions are not in use"))
    }

    // The preimage is the engine's: it names no chain.
    async fn sign_validator_proof(
        &self,
        public_key: Vec<u8>,
        peer_id: Vec<u8>,
    ) -> Result<ValidatorProof<BftContext>, Error> {
        let signature = self.sign(&ValidatorProof::<BftContext>::signing_bytes(&public_key, &peer_id));
        Ok(ValidatorProof::new(public_key, peer_id, signature))
    }
}
