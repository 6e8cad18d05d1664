//! The rest of [`super::codec`]: catching up, and the values in the write-ahead log.

use std::sync::atomic::Ordering;

use assent_ledger::block::MAX_BLOCK_BYTES;
use bytes::Bytes;
use malachite_app_channel::app::types::codec::{Codec, HasEncodedLen};
use malachite_app_channel::app::types::core::{ExtendedCommitCertificate, ExtendedCommitSignature, Validity};
use malachite_app_channel::app::types::sync::{RawDecidedValue, Request, Response, Status};
use malachite_app_channel::app::types::{PeerId, ProposedValue};
use malachite_sync::{ValueRequest, ValueResponse};
use prost::Message;

use super::codec::{read, write, WireCodec, MAX_CERTIFICATE, MAX_CONSENSUS};
use super::pack::{self, err, CodecError};
use super::scheme::Signature;
use super::types::{Address, BftContext, Height};
use super::wire::{CertificateWire, DecidedWire, ProposedWire, RequestWire, ResponseWire, StatusWire};
use super::SYNC_BATCH;

/// Longest answer to a peer that catches up.
const MAX_RESPONSE: usize = SYNC_BATCH * (MAX_BLOCK_BYTES + MAX_CERTIFICATE) + 1024;

impl Codec<Status<BftContext>> for WireCodec {
    type Error = CodecError;
    fn decode(&self, bytes: Bytes) -> Result<Status<BftContext>, CodecError> {
        let m: StatusWire = read(bytes, MAX_CONSENSUS)?;
        let peer_id = PeerId::from_bytes(&m.peer_id).map_err(|e| CodecError(e.to_string()))?;
        self.reported_tip.fetch_max(m.tip, Ordering::Relaxed);
        Ok(Status { peer_id, tip_height: Height(m.tip), history_min_height: Height(m.history_min) })
    }
    fn encode(&self, s: &Status<BftContext>) -> Result<Bytes, CodecError> {
        write(&StatusWire {
            peer_id: s.peer_id.to_bytes().into(),
            tip: s.tip_height.0,
            history_min: s.history_min_height.0,
        })
    }
}

impl Codec<Request<BftContext>> for WireCodec {
    type Error = CodecError;
    fn decode(&self, bytes: Bytes) -> Result<Request<BftContext>, CodecError> {
        let m: RequestWire = read(bytes, MAX_CONSENSUS)?;
        Ok(Request::ValueRequest(ValueRequest::new(Height(m.from)..=Height(m.to))))
    }
    fn encode(&self, r: &Request<BftContext>) -> Result<Bytes, CodecError> {
        let Request::ValueRequest(r) = r;
        write(&RequestWire { from: r.range.start().0, to: r.range.end().0 })
    }
}

fn decided_wire(v: &RawDecidedValue<BftContext>) -> Result<DecidedWire, CodecError> {
    let c = &v.certificate;
    Ok(DecidedWire {
        block: v.value_bytes.clone(),
        certificate: Some(CertificateWire {
            height: c.height.0,
            round: pack::number(c.round)?,
            value: pack::copy(&c.value_id.0),
            kind: 0,
            signatures: pack::pack(c.commit_signatures.iter().map(|s| (&s.address, &s.signature))),
        }),
    })
}

fn decided(bytes: Bytes) -> Result<RawDecidedValue<BftContext>, CodecError> {
    let m = DecidedWire::decode(bytes)?;
    if m.block.len() > MAX_BLOCK_BYTES {
        return err("the block is too long");
    }
    let Some(c) = m.certificate else {
        return err("a block without a certificate");
    };
    let signature =
        |(address, signature): (Address, Signature)| ExtendedCommitSignature::new(address, signature, None);
    let certificate = ExtendedCommitCertificate {
        height: Height(c.height),
        round: pack::round(c.round)?,
        value_id: pack::block_hash(&c.value)?,
        commit_signatures: pack::unpack(&c.signatures)?.into_iter().map(signature).collect(),
    };
    Ok(RawDecidedValue::new(m.block, certificate))
}

impl Codec<Response<BftContext>> for WireCodec {
    type Error = CodecError;
    fn decode(&self, bytes: Bytes) -> Result<Response<BftContext>, CodecError> {
        let m: ResponseWire = read(bytes, MAX_RESPONSE)?;
        let values =
            pack::unframe(m.values, SYNC_BATCH)?.into_iter().map(decided).collect::<Result<_, _>>()?;
        Ok(Response::ValueResponse(ValueResponse::new(Height(m.start), values)))
    }
    fn encode(&self, r: &Response<BftContext>) -> Result<Bytes, CodecError> {
        let Response::ValueResponse(r) = r;
        let values = r.values.iter().map(decided_wire).collect::<Result<Vec<_>, _>>()?;
        write(&ResponseWire {
            start: r.start_height.0,
            values: pack::frames(values.iter().map(Message::encode_to_vec)),
        })
    }
}

impl HasEncodedLen<Response<BftContext>> for WireCodec {
    fn encoded_len(&self, r: &Response<BftContext>) -> Result<usize, CodecError> {
        self.encode(r).map(|bytes| bytes.len())
    }
}

impl Codec<ProposedValue<BftContext>> for WireCodec {
    type Error = CodecError;
    fn decode(&self, bytes: Bytes) -> Result<ProposedValue<BftContext>, CodecError> {
        let m: ProposedWire = read(bytes, MAX_CONSENSUS)?;
        Ok(ProposedValue {
            height: Height(m.height),
            round: pack::optional_round(m.round)?,
            valid_round: pack::optional_round(m.valid_round)?,
            proposer: pack::address(&m.proposer)?,
            value: pack::block_hash(&m.value)?,
            validity: Validity::from_bool(m.valid),
        })
    }
    fn encode(&self, v: &ProposedValue<BftContext>) -> Result<Bytes, CodecError> {
        write(&ProposedWire {
            height: v.height.0,
            round: v.round.as_u32(),
            valid_round: v.valid_round.as_u32(),
            proposer: pack::copy(&v.proposer.0),
            value: pack::copy(&v.value.0),
            valid: v.validity.is_valid(),
        })
    }
}
