//! What travels and what is logged, as protobuf messages written by hand.
//!
//! Lists are packed (see [`super::pack`]): a peer can't make us allocate more than a small multiple of what it sends.

use bytes::Bytes;
use malachite_app_channel::app::types::core::NilOrVal;

use super::pack::{
    address, block_hash, copy, err, kind, kind_number, number, optional_round, round, signature, CodecError,
};
use super::scheme::Signature;
use super::types::{PartHeader, Proposal, ProposalPart, Vote};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct VoteWire {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(uint64, tag = "2")]
    pub height: u64,
    #[prost(uint32, tag = "3")]
    pub round: u32,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub value: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "5")]
    pub address: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    pub signature: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ProposalWire {
    #[prost(uint64, tag = "1")]
    pub height: u64,
    #[prost(uint32, tag = "2")]
    pub round: u32,
    #[prost(uint32, optional, tag = "3")]
    pub pol_round: Option<u32>,
    #[prost(bytes = "bytes", tag = "4")]
    pub value: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub address: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    pub signature: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ConsensusWire {
    #[prost(message, optional, tag = "1")]
    pub vote: Option<VoteWire>,
    #[prost(message, optional, tag = "2")]
    pub proposal: Option<ProposalWire>,
}

/// A polka, round or commit certificate: what its signatures are is told by where it stands.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CertificateWire {
    #[prost(uint64, tag = "1")]
    pub height: u64,
    #[prost(uint32, tag = "2")]
    pub round: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub value: Bytes,
    #[prost(uint32, tag = "4")]
    pub kind: u32,
    #[prost(bytes = "bytes", tag = "5")]
    pub signatures: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LivenessWire {
    #[prost(message, optional, tag = "1")]
    pub vote: Option<VoteWire>,
    #[prost(message, optional, tag = "2")]
    pub polka: Option<CertificateWire>,
    #[prost(message, optional, tag = "3")]
    pub skip: Option<CertificateWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PartWire {
    #[prost(uint64, tag = "1")]
    pub height: u64,
    #[prost(uint32, tag = "2")]
    pub round: u32,
    #[prost(uint32, optional, tag = "3")]
    pub pol_round: Option<u32>,
    #[prost(bytes = "bytes", tag = "4")]
    pub publisher: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub hash: Bytes,
    #[prost(uint32, tag = "7")]
    pub total: u32,
    #[prost(bytes = "bytes", tag = "8")]
    pub signature: Bytes,
    #[prost(uint32, tag = "9")]
    pub index: u32,
    #[prost(bytes = "bytes", tag = "10")]
    pub data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StreamWire {
    #[prost(bytes = "bytes", tag = "1")]
    pub stream: Bytes,
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// Absent at the end of a stream.
    #[prost(message, optional, tag = "3")]
    pub part: Option<PartWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ProofWire {
    #[prost(bytes = "bytes", tag = "1")]
    pub public_key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub peer_id: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub signature: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusWire {
    #[prost(bytes = "bytes", tag = "1")]
    pub peer_id: Bytes,
    #[prost(uint64, tag = "2")]
    pub tip: u64,
    #[prost(uint64, tag = "3")]
    pub history_min: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RequestWire {
    #[prost(uint64, tag = "1")]
    pub from: u64,
    #[prost(uint64, tag = "2")]
    pub to: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResponseWire {
    #[prost(uint64, tag = "1")]
    pub start: u64,
    /// [`frames`] of [`DecidedWire`].
    #[prost(bytes = "bytes", tag = "2")]
    pub values: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DecidedWire {
    #[prost(bytes = "bytes", tag = "1")]
    pub block: Bytes,
    #[prost(message, optional, tag = "2")]
    pub certificate: Option<CertificateWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ProposedWire {
    #[prost(uint64, tag = "1")]
    pub height: u64,
    #[prost(uint32, optional, tag = "2")]
    pub round: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    pub valid_round: Option<u32>,
    #[prost(bytes = "bytes", tag = "4")]
    pub proposer: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
    #[prost(bool, tag = "6")]
    pub valid: bool,
}

impl VoteWire {
    pub fn of(vote: &Vote, signature: &Signature) -> Result<Self, CodecError> {
        Ok(Self {
            kind: kind_number(vote.kind),
            height: vote.height.0,
            round: number(vote.round)?,
            value: match vote.value {
                NilOrVal::Nil => None,
                NilOrVal::Val(hash) => Some(copy(&hash.0)),
            },
            address: copy(&vote.address.0),
            signature: copy(&signature.0),
        })
    }

    pub fn parse(self) -> Result<(Vote, Signature), CodecError> {
        let vote = Vote {
            kind: kind(self.kind)?,
            height: super::types::Height(self.height),
            round: round(self.round)?,
            value: match self.value {
                None => NilOrVal::Nil,
                Some(hash) => NilOrVal::Val(block_hash(&hash)?),
            },
            address: address(&self.address)?,
        };
        Ok((vote, signature(&self.signature)?))
    }
}

impl ProposalWire {
    pub fn of(p: &Proposal, signature: &Signature) -> Result<Self, CodecError> {
        Ok(Self {
            height: p.height.0,
            round: number(p.round)?,
            pol_round: p.pol_round.as_u32(),
            value: copy(&p.value.0),
            address: copy(&p.address.0),
            signature: copy(&signature.0),
        })
    }

    pub fn parse(self) -> Result<(Proposal, Signature), CodecError> {
        let proposal = Proposal {
            height: super::types::Height(self.height),
            round: round(self.round)?,
            value: block_hash(&self.value)?,
            pol_round: optional_round(self.pol_round)?,
            address: address(&self.address)?,
        };
        Ok((proposal, signature(&self.signature)?))
    }
}

impl PartWire {
    pub fn of(part: &ProposalPart) -> Self {
        let h = &part.header;
        Self {
            height: h.height,
            round: h.round,
            pol_round: h.pol_round,
            publisher: copy(&h.publisher.0),
            hash: copy(&h.hash.0),
            total: h.total,
            signature: copy(&part.signature.0),
            index: part.index,
            data: part.data.clone(),
        }
    }

    pub fn parse(self) -> Result<ProposalPart, CodecError> {
        round(self.round)?;
        if self.pol_round.is_some_and(|pol| pol >= self.round) {
            return err("proof of lock is not of an earlier round");
        }
        Ok(ProposalPart {
            header: PartHeader {
                height: self.height,
                round: self.round,
                pol_round: self.pol_round,
                publisher: address(&self.publisher)?,
                hash: block_hash(&self.hash)?,
                total: self.total,
            },
            signature: signature(&self.signature)?,
            index: self.index,
            data: self.data,
        })
    }
}
