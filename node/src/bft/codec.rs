//! The engine's codec over [`super::wire`]: gossip and the write-ahead log. Synchronisation is in [`super::codec_sync`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use bytes::Bytes;
use malachite_app_channel::app::consensus::LivenessMsg;
use malachite_app_channel::app::streaming::StreamContent;
use malachite_app_channel::app::types::codec::Codec;
use malachite_app_channel::app::types::core::{
    PolkaCertificate, PolkaSignature, RoundCertificate, RoundCertificateType, RoundSignature, SignedMessage,
    ValidatorProof,
};
use malachite_app_channel::app::types::streaming::{StreamId, StreamMessage};
use malachite_app_channel::app::types::SignedConsensusMsg;
use prost::Message;

use super::pack::{self, err, CodecError};
use super::types::{BftContext, Height, ProposalPart};
use super::wire::{
    CertificateWire, ConsensusWire, LivenessWire, PartWire, ProofWire, ProposalWire, StreamWire, VoteWire,
};
use super::PART_BYTES;

/// Longest vote or proposal.
pub(super) const MAX_CONSENSUS: usize = 1024;
/// Longest certificate of votes.
pub(super) const MAX_CERTIFICATE: usize = 64 * 1024;
/// Longest part with its header.
const MAX_PART: usize = PART_BYTES + 1024;

/// Encodes and decodes. Also notes the highest tip that peers report: the only place where we learn of it.
#[derive(Debug, Clone, Default)]
pub struct WireCodec {
    pub(super) reported_tip: Arc<AtomicU64>,
}

impl WireCodec {
    /// The highest tip reported since the last call. Anybody's word: a hint.
    pub fn take_reported_tip(&self) -> u64 {
        self.reported_tip.swap(0, Ordering::Relaxed)
    }
}

/// Decodes a message whose length is bounded.
pub(super) fn read<M: Message + Default>(bytes: Bytes, max: usize) -> Result<M, CodecError> {
    if bytes.len() > max {
        return err(format!("{} bytes, at most {max} allowed", bytes.len()));
    }
    Ok(M::decode(bytes)?)
}

pub(super) fn write(message: &impl Message) -> Result<Bytes, CodecError> {
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
        round: pack::number(c.round)?,
        value: pack::copy(&c.value_id.0),
        kind: 0,
        signatures: pack::pack(c.polka_signatures.iter().map(|s| (&s.address, &s.signature))),
    })
}

fn polka(c: &CertificateWire) -> Result<PolkaCertificate<BftContext>, CodecError> {
    Ok(PolkaCertificate {
        height: Height(c.height),
        round: pack::round(c.round)?,
        value_id: pack::block_hash(&c.value)?,
        polka_signatures: pack::unpack(&c.signatures)?
            .into_iter()
            .map(|(a, s)| PolkaSignature::new(a, s))
            .collect(),
    })
}

fn skip_wire(c: &RoundCertificate<BftContext>) -> Result<CertificateWire, CodecError> {
    Ok(CertificateWire {
        height: c.height.0,
        round: pack::number(c.round)?,
        value: Bytes::new(),
        kind: match c.cert_type {
            RoundCertificateType::Skip => 1,
            RoundCertificateType::Precommit => 2,
        },
        signatures: pack::pack_votes(
            c.round_signatures.iter().map(|s| (s.vote_type, s.value_id, s.address, s.signature)),
        ),
    })
}

fn skip(c: &CertificateWire) -> Result<RoundCertificate<BftContext>, CodecError> {
    Ok(RoundCertificate {
        height: Height(c.height),
        round: pack::round(c.round)?,
        cert_type: match c.kind {
            1 => RoundCertificateType::Skip,
            2 => RoundCertificateType::Precommit,
            other => return err(format!("round certificate of unknown kind {other}")),
        },
        round_signatures: pack::unpack_votes(&c.signatures)?
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
        Ok(ValidatorProof::new(m.public_key.to_vec(), m.peer_id.to_vec(), pack::signature(&m.signature)?))
    }
    fn encode(&self, p: &ValidatorProof<BftContext>) -> Result<Bytes, CodecError> {
        write(&ProofWire {
            public_key: pack::copy(&p.public_key),
            peer_id: pack::copy(&p.peer_id),
            signature: pack::copy(&p.signature.0),
        })
    }
}
