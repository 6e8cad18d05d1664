//! The codec and the assembly against what a hostile peer may send.

use assent_ledger::keys::SigningKey;
use assent_proto::ledger::v1 as proto;
use bytes::Bytes;
use malachite_app_channel::app::consensus::LivenessMsg;
use malachite_app_channel::app::streaming::StreamContent;
use malachite_app_channel::app::types::codec::{Codec, HasEncodedLen};
use malachite_app_channel::app::types::core::{
    NilOrVal, PolkaCertificate, PolkaSignature, Round, RoundCertificate, RoundCertificateType,
    RoundSignature, SignedMessage, ValidatorProof, Validity, VoteType,
};
use malachite_app_channel::app::types::streaming::{StreamId, StreamMessage};
use malachite_app_channel::app::types::sync::{RawDecidedValue, Request, Response, Status};
use malachite_app_channel::app::types::{PeerId, ProposedValue, SignedConsensusMsg};
use malachite_app_channel::Signer;
use malachite_sync::{ValueRequest, ValueResponse};
use prost::Message;

use super::assembly::{cut, Added, Assembly};
use super::codec::WireCodec;
use super::crypto::{ChainSigner, ChainVerifier};
use super::scheme::Signature;
use super::types::{Address, BftContext, BlockHash, Height, Proposal, ProposalPart, Vote};
use super::validators::ValidatorSet;
use super::wire::{CertificateWire, ConsensusWire, LivenessWire, VoteWire};
use super::{certificate, header_of, pack, peer_id};

const CHAIN: &str = "unit";

fn signer(seed: u8) -> ChainSigner {
    ChainSigner::new(CHAIN, SigningKey::from_bytes(&[seed; 32]))
}

fn set(signers: &[&ChainSigner]) -> ValidatorSet {
    let mut keys: Vec<_> = signers.iter().map(|s| s.address().0).collect();
    keys.sort_unstable();
    let validator =
        |k: [u8; 32]| proto::Validator { organization: "o".into(), vote_key: k.to_vec(), power: 1 };
    ValidatorSet::from_proto(&proto::ValidatorSet {
        validators: keys.into_iter().map(validator).collect(),
        ..Default::default()
    })
    .unwrap()
}

fn block(height: u64, size: usize) -> (BlockHash, Bytes) {
    let header = proto::Header { height, ..Default::default() }.encode_to_vec();
    let block = proto::Block { header, previous_certificate: vec![], entries: vec![vec![1; size]] };
    let bytes = Bytes::from(block.encode_to_vec());
    (BlockHash(header_of(CHAIN, &bytes).unwrap().0), bytes)
}

fn parts(signer: &ChainSigner, height: u64, round: u32, size: usize) -> Vec<ProposalPart> {
    let (hash, bytes) = block(height, size);
    cut(signer, height, round, None, hash.0, &bytes)
}

/// Encodes, decodes, compares; then every truncation and many changed bytes must be answered without a panic.
fn survives<T>(value: &T)
where
    WireCodec: Codec<T>,
    T: PartialEq + std::fmt::Debug,
{
    let codec = WireCodec::default();
    let bytes = codec.encode(value).unwrap();
    assert_eq!(&codec.decode(bytes.clone()).unwrap(), value);
    for len in 0..bytes.len().min(2000) {
        let _ = codec.decode(bytes.slice(..len));
    }
    for at in 0..bytes.len().min(2000) {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.to_vec();
            changed[at] = value;
            let _ = codec.decode(changed.into());
        }
    }
    assert!(codec.decode(vec![0; 30 << 20].into()).is_err());
}

fn votes() -> Vec<SignedMessage<BftContext, Vote>> {
    let address = Address([3; 32]);
    let vote = |kind, value| Vote { kind, height: Height(u64::MAX), round: Round::new(7), value, address };
    [vote(VoteType::Prevote, NilOrVal::Nil), vote(VoteType::Precommit, NilOrVal::Val(BlockHash([5; 32])))]
        .map(|v| SignedMessage::new(v, Signature([9; 64])))
        .into()
}

#[test]
fn every_message_survives_the_wire_and_hostile_bytes() {
    let (height, round, hash, address, signature) =
        (Height(4), Round::new(2), BlockHash([5; 32]), Address([3; 32]), Signature([9; 64]));
    for vote in votes() {
        survives(&SignedConsensusMsg::Vote(vote.clone()));
        survives(&LivenessMsg::Vote(vote));
    }
    for pol_round in [Round::Nil, Round::ZERO] {
        let proposal = Proposal { height, round, value: hash, pol_round, address };
        survives(&SignedConsensusMsg::<BftContext>::Proposal(SignedMessage::new(proposal, signature)));
        let (proposer, value) = (address, hash);
        for validity in [Validity::Valid, Validity::Invalid] {
            let p: ProposedValue<BftContext> =
                ProposedValue { height, round, valid_round: pol_round, proposer, value, validity };
            survives(&p);
        }
    }
    let polka_signatures = vec![PolkaSignature::new(address, signature); 3];
    let polka: PolkaCertificate<BftContext> =
        PolkaCertificate { height, round, value_id: hash, polka_signatures };
    survives(&polka);
    survives(&LivenessMsg::PolkaCertificate(polka));
    for cert_type in [RoundCertificateType::Skip, RoundCertificateType::Precommit] {
        let round_signatures = votes()
            .into_iter()
            .map(|v| RoundSignature::new(v.message.kind, v.message.value, v.message.address, v.signature))
            .collect();
        let c: RoundCertificate<BftContext> = RoundCertificate { height, round, cert_type, round_signatures };
        survives(&LivenessMsg::SkipRoundCertificate(c));
    }
    let part = parts(&signer(1), 4, 2, 100).remove(0);
    survives(&part);
    let stream = StreamId::new(Bytes::from_static(b"stream"));
    survives(&StreamMessage::new(stream.clone(), 3, StreamContent::Data(part)));
    survives(&StreamMessage::<ProposalPart>::new(stream, 4, StreamContent::Fin));
    survives(&ValidatorProof::<BftContext>::new(vec![1; 32], vec![2; 38], signature));
    let peer: PeerId = peer_id(&[1; 32]).parse().unwrap();
    survives(&Status::<BftContext> { peer_id: peer, tip_height: Height(9), history_min_height: Height(1) });
    survives(&Request::<BftContext>::ValueRequest(ValueRequest::new(Height(2)..=Height(6))));
    let certificate = certificate::from_proto(&proto::Certificate {
        height: 4,
        round: 2,
        header_hash: vec![5; 32],
        signatures: vec![proto::CommitSignature { address: vec![3; 32], signature: vec![9; 64] }],
    });
    let value = RawDecidedValue::new(block(4, 10).1, certificate.unwrap());
    let response = Response::ValueResponse(ValueResponse::new(Height(4), vec![value; 5]));
    survives(&response);
    let codec = WireCodec::default();
    assert_eq!(codec.encoded_len(&response).unwrap(), codec.encode(&response).unwrap().len());
}

#[test]
fn lists_and_rounds_are_bounded() {
    let pair = (Address([1; 32]), Signature([2; 64]));
    let packed = |n: usize| pack::pack(std::iter::repeat_n((&pair.0, &pair.1), n));
    assert_eq!(pack::unpack(&packed(256)).unwrap().len(), 256);
    assert!(pack::unpack(&packed(257)).is_err());
    assert!(pack::unpack(&packed(1)[1..]).is_err());
    let frames = |n: usize| pack::frames(std::iter::repeat_n(vec![], n));
    assert!(pack::unframe(frames(5), 5).is_ok() && pack::unframe(frames(6), 5).is_err());
    assert!(pack::unframe(Bytes::from_static(&[0xff; 4]), 5).is_err());
    assert!(pack::round(1 << 20).is_ok() && pack::round(u32::MAX).is_err());
}

/// A value of a later version is no value of this one: nothing is guessed.
#[test]
fn unknown_kinds_and_messages_without_content_are_refused() {
    let codec = WireCodec::default();
    let vote = |kind: u32| VoteWire {
        kind,
        height: 4,
        address: vec![3; 32].into(),
        signature: vec![9; 64].into(),
        ..Default::default()
    };
    let consensus = |kind: u32| ConsensusWire { vote: Some(vote(kind)), proposal: None }.encode_to_vec();
    let liveness = |kind: u32| {
        let skip = CertificateWire { height: 4, kind, ..Default::default() };
        LivenessWire { skip: Some(skip), ..Default::default() }.encode_to_vec()
    };
    let consensus_fault = |bytes: Vec<u8>| {
        let decoded: Result<SignedConsensusMsg<BftContext>, _> = codec.decode(bytes.into());
        decoded.err().map(|e| e.to_string())
    };
    let liveness_fault = |bytes: Vec<u8>| {
        let decoded: Result<LivenessMsg<BftContext>, _> = codec.decode(bytes.into());
        decoded.err().map(|e| e.to_string())
    };
    for good in [1, 2] {
        assert_eq!((consensus_fault(consensus(good)), liveness_fault(liveness(good))), (None, None));
    }
    for bad in [0, 3, u32::MAX] {
        assert_eq!(consensus_fault(consensus(bad)), Some(format!("vote of unknown kind {bad}")));
        assert_eq!(liveness_fault(liveness(bad)), Some(format!("round certificate of unknown kind {bad}")));
    }
    assert_eq!(consensus_fault(Vec::new()).unwrap(), "neither one vote nor one proposal");
    assert_eq!(liveness_fault(Vec::new()).unwrap(), "not exactly one liveness message");
    let both = LivenessWire { vote: Some(vote(1)), ..LivenessWire::decode(liveness(1).as_slice()).unwrap() };
    assert_eq!(liveness_fault(both.encode_to_vec()).unwrap(), "not exactly one liveness message");
}

#[test]
fn parts_in_any_order_make_the_block() {
    let (a, b) = (signer(1), signer(2));
    let set = set(&[&a, &b]);
    let mut assembly = Assembly::new(CHAIN);
    let mut pieces = parts(&a, 7, 0, 700_000);
    assert_eq!(pieces.len(), 3);
    pieces.reverse();
    for (i, piece) in pieces.iter().enumerate() {
        let added = assembly.add(piece.clone(), 6, &set);
        assert!(matches!((i, added), (0 | 1, Added::Taken) | (2, Added::Complete)));
        assert!(matches!(assembly.add(piece.clone(), 6, &set), Added::Taken), "a duplicate");
    }
    let taken = assembly.take(7, 99);
    assert_eq!((taken.len(), &taken[0].bytes), (1, &block(7, 700_000).1));
    assert!(assembly.take(7, 99).is_empty());
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let (a, stranger) = (signer(1), signer(2));
    let set = set(&[&a]);
    let refused = |part: ProposalPart, tip: u64| match Assembly::new(CHAIN).add(part, tip, &set) {
        Added::Refused(reason) => reason,
        other => panic!("{other:?}"),
    };
    let good = parts(&a, 7, 0, 700_000).remove(0);
    let change = |f: &dyn Fn(&mut ProposalPart)| {
        let mut part = good.clone();
        f(&mut part);
        refused(part, 6)
    };
    assert_eq!(refused(good.clone(), 7), "height is not one of the next");
    assert_eq!(refused(parts(&a, 17, 0, 1).remove(0), 0), "height is not one of the next");
    assert_eq!(refused(parts(&stranger, 7, 0, 1).remove(0), 6), "publisher is no validator");
    assert_eq!(change(&|p| p.index = 3), "index or total");
    assert_eq!(change(&|p| p.header.total = 65), "index or total");
    assert_eq!(change(&|p| p.header.total = 2), "signature");
    assert_eq!(change(&|p| p.header.hash = BlockHash([0; 32])), "signature");
    assert_eq!(change(&|p| p.header.round = 1), "signature");
    assert_eq!(change(&|p| p.data = Bytes::new()), "length");
    assert_eq!(change(&|p| p.data = vec![0; 300_000].into()), "length");

    // Another's bytes under its header.
    let mut assembly = Assembly::new(CHAIN);
    let mut small = parts(&a, 7, 0, 10).remove(0);
    small.data = block(7, 11).1;
    assert!(matches!(assembly.add(small, 6, &set), Added::Refused("signature")));
    assert!(assembly.take(7, 99).is_empty());
    // Signed, but the header is another block's.
    let wrong = cut(&a, 7, 0, None, [1; 32], &block(7, 10).1).remove(0);
    assert_eq!(refused(wrong, 6), "hash");
    // Longer than a block may be.
    let mut assembly = Assembly::new(CHAIN);
    let last = parts(&a, 7, 0, 1_300_000).into_iter().map(|p| assembly.add(p, 6, &set)).last();
    assert!(matches!(last, Some(Added::Refused("block is too long") | Added::Taken)), "{last:?}");
    assert!(assembly.take(7, 99).is_empty());
}

#[test]
fn a_publisher_spoils_only_its_own_share() {
    let (good, bad) = (signer(1), signer(2));
    let set = set(&[&good, &bad]);
    let mut assembly = Assembly::new(CHAIN);
    let honest = parts(&good, 7, 0, 400_000);
    assert!(matches!(assembly.add(honest[0].clone(), 6, &set), Added::Taken));
    for round in 0..100 {
        for part in parts(&bad, 8, round, 1_000_000) {
            assert!(!matches!(assembly.add(part, 6, &set), Added::Refused(_)));
        }
    }
    assert!(
        assembly.take(8, 99).iter().map(|b| b.bytes.len()).sum::<usize>()
            <= 16 * assent_ledger::block::MAX_BLOCK_BYTES
    );
    assert!(matches!(assembly.add(honest[1].clone(), 6, &set), Added::Complete));
    assert_eq!(assembly.take(7, 99).len(), 1);
}

#[tokio::test]
async fn a_precommit_is_the_ledgers() {
    let signer = signer(1);
    let address = signer.address();
    let vote = Vote {
        kind: VoteType::Precommit,
        height: Height(3),
        round: Round::new(1),
        value: NilOrVal::Val(BlockHash([5; 32])),
        address,
    };
    let signed = signer.sign_vote(vote.clone()).await.unwrap();
    let plain = assent_ledger::certificate::precommit(3, 1, &[5; 32], &address.0);
    let bytes = assent_ledger::certificate::vote_sign_bytes(CHAIN, &plain);
    assert!(assent_ledger::keys::verify(&address.0, &bytes, &signed.signature.0));
    assert!(ChainVerifier::new(CHAIN).vote_holds(&vote, &signed.signature));
    assert!(!ChainVerifier::new("other").vote_holds(&vote, &signed.signature));
    let nil = Vote { value: NilOrVal::Nil, ..vote };
    assert!(!ChainVerifier::new(CHAIN).vote_holds(&nil, &signed.signature));
}

#[test]
fn everybody_proposes_in_turn() {
    let signers = [signer(1), signer(2), signer(3)];
    let set = set(&signers.iter().collect::<Vec<_>>());
    let turns: Vec<_> = (0..3).map(|round| set.proposer(5, round)).collect();
    assert_eq!(set.proposer(6, 0), turns[1]);
    assert_eq!(set.proposer(5, 3), turns[0]);
    assert!(turns[0] != turns[1] && turns[1] != turns[2]);
    assert_eq!(set.proposer(u64::MAX, u32::MAX), set.proposer(u64::MAX, u32::MAX));
}

#[test]
fn odd_validator_sets_are_refused() {
    let v = |key: u8, power| proto::Validator { organization: String::new(), vote_key: vec![key; 32], power };
    let parse = |validators| {
        ValidatorSet::from_proto(&proto::ValidatorSet { validators, ..Default::default() }).is_ok()
    };
    assert!(parse(vec![v(1, 1), v(2, 1)]));
    assert!(!parse(vec![]));
    assert!(!parse(vec![v(2, 1), v(1, 1)]));
    assert!(!parse(vec![v(1, 1), v(1, 1)]));
    assert!(!parse(vec![v(1, 0)]));
    assert!(!parse(vec![v(1, u64::MAX), v(2, 1)]));
}
