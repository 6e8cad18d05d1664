//! The engine's codec over [`super::wire`]: gossip, synchronisation and the write-ahead log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use bytes::Bytes;
use malachite_app_channel::app::consensus::LivenessMsg;
use malachite_app_channel::app::types::codec::{Codec, HasEncodedLen};
use malachite_app_channel::app::types::core::{
    ExtendedCommitCertificate, ExtendedCommitSignature, PolkaCertificate, PolkaSignature, RoundCertificate,
    RoundCertificateType, RoundSignature, SignedMessage, ValidatorProof, Validity,
};
use malachite_app_channel::app::types::streaming::{StreamId, StreamMessage};
use malachite_app_channel::app::types::sync::{RawDecidedValue, Request, Response, Status};
use malachite_app_channel::app::types::{PeerId, ProposedValue, SignedConsensusMsg};
use malachite_app_channel::app::streaming::StreamContent;
use malachite_sync::{ValueRequest, ValueResponse};
use prost::Message;

use super::types::{Address, BftContext, Height, ProposalPart, Signature};
use super::wire::{
    self, err, CertificateWire, CodecError, ConsensusWire, DecidedWire, LivenessWire, PartWire, ProofWire, ProposalWire,
    ProposedWire, RequestWire, ResponseWire, StatusWire, StreamWire, VoteWire,
};
use super::{PART_BYTES, SYNC_BATCH};
use assent_ledger::block::MAX_BLOCK_BYTES;

/// Longest vote or proposal.
const MAX_CONSENSUS: usize = 1024;
/// Longest certificate of votes.
const MAX_CERTIFICATE: usize = 64 * 1024;
/// Longest part with its header.
const MAX_PART: usize = PART_BYTES + 1024;
/// Longest answer to a peer that catches up.
const MAX_RESPONSE: usize = SYNC_BATCH * (MAX_BLOCK_BYTES + MAX_CERTIFICATE) + 1024;

/// Encodes and decodes. Also notes the highest tip that peers report: the only place where we learn of it.
#[derive(Debug, Clone, Default)]
pub struct WireCodec {
    reported_tip: Arc<AtomicU64>,
}

impl WireCodec {
    /// The highest tip reported since the last call. Anybody's word: a hint.
    pub fn take_reported_tip(&self) -> u64 {
        self.reported_tip.swap(0, Ordering::Relaxed)
    }
}

/// Decodes a message whose length is bounded.
fn read<M: Message + Default>(bytes: Bytes, max: usize) -> Result<M, CodecError> {
    if bytes.len() > max {
        return err(format!("{} bytes, at most {max} allowed", bytes.len()));
    }
    Ok(M::decode(bytes)?)
}

fn write(message: &impl Message) -> Result<Bytes, CodecError> {
    Ok(message.encode_to_vec().into())
}

impl Codec<ProposalPart> for WireCodec {
    type Error = CodecError;
    fn decode(&self, bytes: Bytes) -> Result<ProposalPart, CodecError> {
        read::<PartWire>(bytes, MAX_PART)?.parse()
    }
    fn encode(&self, part: &ProposalPart) -> Result<Bytes, CodecError> {
        write(&PartWire::of(part))
    }
}

impl Codec<StreamMessage<ProposalPart>> for WireCodec {
    type Error = CodecError;
    fn decode(&self, bytes: Bytes) -> Result<StreamMessage<ProposalPart>, CodecError> {
        let m: StreamWire = read(bytes, MAX_PART + 128)?;
        if m.stream.len() > 64 {
            return err("stream id is too long");
        }
        let content = match m.part {
            None => StreamContent::Fin,
            Some(part) => StreamContent::Data(part.parse()?),
        };
        Ok(StreamMessage::new(StreamId::new(m.stream), m.sequence, content))
    }
    fn encode(&self, m: &StreamMessage<ProposalPart>) -> Result<Bytes, CodecError> {
        write(&StreamWire {
            stream: m.stream_id.to_bytes(),
            sequence: m.sequence,
            part: m.content.as_data().map(PartWire::of),
        })
    }
}

impl Codec<SignedConsensusMsg<BftContext>> for WireCodec {
    type Error = CodecError;
    fn decode(&self, bytes: Bytes) -> Result<SignedConsensusMsg<BftContext>, CodecError> {
        let m: ConsensusWire = read(bytes, MAX_CONSENSUS)?;
        match (m.vote, m.proposal) {
            (Some(vote), None) => {
                let (vote, signature) = vote.parse()?;
                Ok(SignedConsensusMsg::Vote(SignedMessage::new(vote, signature)))
            }
            (None, Some(proposal)) => {
                let (proposal, signature) = proposal.parse()?;
                Ok(SignedConsensusMsg::Proposal(SignedMessage::new(proposal, signature)))
            }
            _ => err("neither one vote nor one proposal"),
        }
    }
    fn encode(&self, m: &SignedConsensusMsg<BftContext>) -> Result<Bytes, CodecError> {
        write(&match m {
            SignedConsensusMsg::Vote(v) => {
                ConsensusWire { vote: Some(VoteWire::of(&v.message, &v.signature)?), proposal: None }
            }
            SignedConsensusMsg::Proposal(p) => {
                ConsensusWire { vote: None, proposal: Some(ProposalWire::of(&p.message, &p.signature)?) }
            }
        })
    }
}

fn polka_wire(c: &PolkaCertificate<BftContext>) -> Result<CertificateWire, CodecError> {
    Ok(CertificateWire {
        height: c.height.0,
        round: wire::number(c.round)?,
        value: wire::copy(&c.value_id.0),
        kind: 0,
        signatures: wire::pack(c.polka_signatures.iter().map(|s| (&s.address, &s.signature))),
    })
}

fn polka(c: &CertificateWire) -> Result<PolkaCertificate<BftContext>, CodecError> {
    Ok(PolkaCertificate {
        height: Height(c.height),
        round: wire::round(c.round)?,
        value_id: wire::block_hash(&c.value)?,
        polka_signatures: wire::unpack(&c.signatures)?.into_iter().map(|(a, s)| PolkaSignature::new(a, s)).collect(),
    })
}

fn skip_wire(c: &RoundCertificate<BftContext>) -> Result<CertificateWire, CodecError> {
    Ok(CertificateWire {
        height: c.height.0,
        round: wire::number(c.round)?,
        value: Bytes::new(),
        kind: match c.cert_type {
            RoundCertificateType::Skip => 1,
            RoundCertificateType::Precommit => 2,
        },
        signatures: wire::pack_votes(
            c.round_signatures.iter().map(|s| (s.vote_type, s.value_id, s.address, s.signature)),
        ),
    })
}

fn skip(c: &CertificateWire) -> Result<RoundCertificate<BftContext>, CodecError> {
    Ok(RoundCertificate {
        height: Height(c.height),
        round: wire::round(c.round)?,
        cert_type: match c.kind {
            1 => RoundCertificateType::Skip,
            2 => RoundCertificateType::Precommit,
            other => return err(format!("round certificate of unknown kind {other}")),
        },
        round_signatures: wire::unpack_votes(&c.signatures)?
            .into_iter()
            .map(|(kind, value, address, signature)| RoundSignature::new(kind, value, address, signature))
            .collect(),
    })
}

impl Codec<LivenessMsg<BftContext>> for WireCodec {
    type Error = CodecError;
    fn decode(&self, bytes: Bytes) -> Result<LivenessMsg<BftContext>, CodecError> {
        let m: LivenessWire = read(bytes, MAX_CERTIFICATE)?;
        match (m.vote, m.polka, m.skip) {
            (Some(vote), None, None) => {
                let (vote, signature) = vote.parse()?;
                Ok(LivenessMsg::Vote(SignedMessage::new(vote, signature)))
            }
            (None, Some(c), None) => Ok(LivenessMsg::PolkaCertificate(polka(&c)?)),
            (None, None, Some(c)) => Ok(LivenessMsg::SkipRoundCertificate(skip(&c)?)),
            _ => err("not exactly one liveness message"),
        }
    }
    fn encode(&self, m: &LivenessMsg<BftContext>) -> Result<Bytes, CodecError> {
        let mut out = LivenessWire::default();
        match m {
            LivenessMsg::Vote(v) => out.vote = Some(VoteWire::of(&v.message, &v.signature)?),
            LivenessMsg::PolkaCertificate(c) => out.polka = Some(polka_wire(c)?),
            LivenessMsg::SkipRoundCertificate(c) => out.skip = Some(skip_wire(c)?),
        }
        write(&out)
    }
}

impl Codec<PolkaCertificate<BftContext>> for WireCodec {
    type Error = CodecError;
    fn decode(&self, bytes: Bytes) -> Result<PolkaCertificate<BftContext>, CodecError> {
        polka(&read(bytes, MAX_CERTIFICATE)?)
    }
    fn encode(&self, c: &PolkaCertificate<BftContext>) -> Result<Bytes, CodecError> {
        write(&polka_wire(c)?)
    }
}

impl Codec<ValidatorProof<BftContext>> for WireCodec {
    type Error = CodecError;
    fn decode(&self, bytes: Bytes) -> Result<ValidatorProof<BftContext>, CodecError> {
        let m: ProofWire = read(bytes, MAX_CONSENSUS)?;
        Ok(ValidatorProof::new(m.public_key.to_vec(), m.peer_id.to_vec(), wire::signature(&m.signature)?))
    }
    fn encode(&self, p: &ValidatorProof<BftContext>) -> Result<Bytes, CodecError> {
        write(&ProofWire {
            public_key: wire::copy(&p.public_key),
            peer_id: wire::copy(&p.peer_id),
            signature: wire::copy(&p.signature.0),
        })
    }
}

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
            round: wire::number(c.round)?,
            value: wire::copy(&c.value_id.0),
            kind: 0,
            signatures: wire::pack(c.commit_signatures.iter().map(|s| (&s.address, &s.signature))),
        }),
    })
}

fn decided(bytes: Bytes) -> Result<RawDecidedValue<BftContext>, CodecError> {
    let m = DecidedWire::decode(bytes)?;
    if m.block.len() > MAX_BLOCK_BYTES {
        return err("the block is too long");
    }
    let Some(c) = m.certificate else { return err("a block without a certificate") };
    let signature = |(address, signature): (Address, Signature)| ExtendedCommitSignature::new(address, signature, None);
    let certificate = ExtendedCommitCertificate {
        height: Height(c.height),
        round: wire::round(c.round)?,
        value_id: wire::block_hash(&c.value)?,
        commit_signatures: wire::unpack(&c.signatures)?.into_iter().map(signature).collect(),
    };
    Ok(RawDecidedValue::new(m.block, certificate))
}

impl Codec<Response<BftContext>> for WireCodec {
    type Error = CodecError;
    fn decode(&self, bytes: Bytes) -> Result<Response<BftContext>, CodecError> {
        let m: ResponseWire = read(bytes, MAX_RESPONSE)?;
        let values = wire::unframe(m.values, SYNC_BATCH)?.into_iter().map(decided).collect::<Result<_, _>>()?;
        Ok(Response::ValueResponse(ValueResponse::new(Height(m.start), values)))
    }
    fn encode(&self, r: &Response<BftContext>) -> Result<Bytes, CodecError> {
        let Response::ValueResponse(r) = r;
        let values = r.values.iter().map(decided_wire).collect::<Result<Vec<_>, _>>()?;
        write(&ResponseWire {
            start: r.start_height.0,
            values: wire::frames(values.iter().map(Message::encode_to_vec)),
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
            round: wire::optional_round(m.round)?,
            valid_round: wire::optional_round(m.valid_round)?,
            proposer: wire::address(&m.proposer)?,
            value: wire::block_hash(&m.value)?,
            validity: Validity::from_bool(m.valid),
        })
    }
    fn encode(&self, v: &ProposedValue<BftContext>) -> Result<Bytes, CodecError> {
        write(&ProposedWire {
            height: v.height.0,
            round: v.round.as_u32(),
            valid_round: v.valid_round.as_u32(),
            proposer: wire::copy(&v.proposer.0),
            value: wire::copy(&v.value.0),
            valid: v.validity.is_valid(),
        })
    }
}
