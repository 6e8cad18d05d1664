//! What travels and what is logged, as protobuf messages written by hand.
//!
//! Lists are packed into one bytes field with entries of a fixed length, or framed with a count known beforehand: a peer
//! can't make us allocate more than a small multiple of what it sends.

use assent_ledger::Hash;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use malachite_app_channel::app::types::core::{NilOrVal, Round, VoteType};

use super::types::{Address, BlockHash, PartHeader, Proposal, ProposalPart, Signature, Vote};

/// Why bytes are none of our messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

impl From<prost::DecodeError> for CodecError {
    fn from(e: prost::DecodeError) -> Self {
        Self(e.to_string())
    }
}

pub(super) fn err<T>(reason: impl Into<String>) -> Result<T, CodecError> {
    Err(CodecError(reason.into()))
}

/// Highest round that we take from anybody: the engine adds to rounds without a check.
const MAX_ROUND: u32 = 1 << 20;
/// Most signatures in a certificate.
const MAX_SIGNATURES: usize = assent_ledger::certificate::MAX_VALIDATORS;

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
    #[prost(bytes = "bytes", tag = "6")]
    pub digest: Bytes,
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

fn array<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N], CodecError> {
    bytes.try_into().map_err(|_| CodecError(format!("{what}: {} bytes, {N} needed", bytes.len())))
}

pub(super) fn address(bytes: &[u8]) -> Result<Address, CodecError> {
    array("address", bytes).map(Address)
}

pub(super) fn block_hash(bytes: &[u8]) -> Result<BlockHash, CodecError> {
    array("header hash", bytes).map(BlockHash)
}

pub(super) fn signature(bytes: &[u8]) -> Result<Signature, CodecError> {
    array("signature", bytes).map(Signature)
}

pub(super) fn copy(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A round that must be there.
pub(super) fn round(r: u32) -> Result<Round, CodecError> {
    if r > MAX_ROUND {
        return err(format!("round {r} is too high"));
    }
    Ok(Round::new(r))
}

/// A round, or nil.
pub(super) fn optional_round(r: Option<u32>) -> Result<Round, CodecError> {
    r.map_or(Ok(Round::Nil), round)
}

/// The number of a round that must not be nil.
pub(super) fn number(r: Round) -> Result<u32, CodecError> {
    r.as_u32().map_or_else(|| err("nil where a round is needed"), Ok)
}

fn kind(number: u32) -> Result<VoteType, CodecError> {
    match number {
        1 => Ok(VoteType::Prevote),
        2 => Ok(VoteType::Precommit),
        _ => err(format!("vote of unknown kind {number}")),
    }
}

fn kind_number(kind: VoteType) -> u32 {
    match kind {
        VoteType::Prevote => 1,
        VoteType::Precommit => 2,
    }
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
            digest: copy(&h.digest),
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
        let digest: Hash = array("digest", &self.digest)?;
        Ok(ProposalPart {
            header: PartHeader {
                height: self.height,
                round: self.round,
                pol_round: self.pol_round,
                publisher: address(&self.publisher)?,
                hash: block_hash(&self.hash)?,
                digest,
                total: self.total,
            },
            signature: signature(&self.signature)?,
            index: self.index,
            data: self.data,
        })
    }
}

/// Packs (address, signature) pairs.
pub(super) fn pack<'a>(pairs: impl Iterator<Item = (&'a Address, &'a Signature)>) -> Bytes {
    let mut out = BytesMut::new();
    for (address, signature) in pairs {
        out.put_slice(&address.0);
        out.put_slice(&signature.0);
    }
    out.freeze()
}

/// The (address, signature) pairs of [`pack`].
pub(super) fn unpack(bytes: &[u8]) -> Result<Vec<(Address, Signature)>, CodecError> {
    entries(bytes, 96)?.map(|e| Ok((address(&e[..32])?, signature(&e[32..])?))).collect()
}

/// One vote inside a round certificate.
pub(super) type RoundVote = (VoteType, NilOrVal<BlockHash>, Address, Signature);

/// Packs the votes of a round certificate.
pub(super) fn pack_votes<'a>(votes: impl Iterator<Item = RoundVote>) -> Bytes {
    let mut out = BytesMut::new();
    for (kind, value, address, signature) in votes {
        out.put_u8(kind_number(kind) as u8);
        let (some, hash) = match value {
            NilOrVal::Nil => (0, [0; 32]),
            NilOrVal::Val(hash) => (1, hash.0),
        };
        out.put_u8(some);
        out.put_slice(&hash);
        out.put_slice(&address.0);
        out.put_slice(&signature.0);
    }
    out.freeze()
}

/// The votes of [`pack_votes`].
pub(super) fn unpack_votes(bytes: &[u8]) -> Result<Vec<RoundVote>, CodecError> {
    entries(bytes, 130)?
        .map(|e| {
            let value = match e[1] {
                0 => NilOrVal::Nil,
                1 => NilOrVal::Val(block_hash(&e[2..34])?),
                other => return err(format!("neither nil nor a value: {other}")),
            };
            Ok((kind(e[0].into())?, value, address(&e[34..66])?, signature(&e[66..])?))
        })
        .collect()
}

fn entries(bytes: &[u8], size: usize) -> Result<std::slice::ChunksExact<'_, u8>, CodecError> {
    if bytes.len() % size != 0 || bytes.len() / size > MAX_SIGNATURES {
        return err(format!("{} bytes of signatures", bytes.len()));
    }
    Ok(bytes.chunks_exact(size))
}

/// Puts byte strings behind each other, each after its length.
pub(super) fn frames(items: impl Iterator<Item = Vec<u8>>) -> Bytes {
    let mut out = BytesMut::new();
    for item in items {
        out.put_u32(item.len() as u32);
        out.put_slice(&item);
    }
    out.freeze()
}

/// The byte strings of [`frames`], at most `max` of them, without copying.
pub(super) fn unframe(mut bytes: Bytes, max: usize) -> Result<Vec<Bytes>, CodecError> {
    let mut out = Vec::new();
    while bytes.has_remaining() {
        if out.len() == max || bytes.remaining() < 4 {
            return err("too many values, or cut off");
        }
        let len = bytes.get_u32() as usize;
        if len > bytes.remaining() {
            return err("a value is cut off");
        }
        out.push(bytes.split_to(len));
    }
    Ok(out)
}
