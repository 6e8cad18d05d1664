//! Fields and lists of [`super::wire`]: fixed lengths, known counts, bounded rounds.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use malachite_app_channel::app::types::core::{NilOrVal, Round, VoteType};

use super::scheme::Signature;
use super::types::{Address, BlockHash};

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

pub(super) fn kind(number: u32) -> Result<VoteType, CodecError> {
    match number {
        1 => Ok(VoteType::Prevote),
        2 => Ok(VoteType::Precommit),
        _ => err(format!("vote of unknown kind {number}")),
    }
}

pub(super) fn kind_number(kind: VoteType) -> u32 {
    match kind {
        VoteType::Prevote => 1,
        VoteType::Precommit => 2,
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
pub(super) fn pack_votes(votes: impl Iterator<Item = RoundVote>) -> Bytes {
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
    if !bytes.len().is_multiple_of(size) || bytes.len() / size > MAX_SIGNATURES {
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
