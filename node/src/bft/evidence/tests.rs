//! What the witness makes of honest, lying and forged messages.

use assent_ledger::keys::SigningKey;
use malachite_app_channel::app::types::core::Round;
use malachite_app_channel::Signer;

use super::super::crypto::ChainSigner;
use super::super::types::{Address, BlockHash, Height};
use super::*;

const CHAIN: &str = "unit";
const TIP: u64 = 10;

fn signer(seed: u8) -> ChainSigner {
    ChainSigner::new(CHAIN, SigningKey::from_bytes(&[seed; 32]))
}

fn set(seeds: &[u8]) -> proto::ValidatorSet {
    let validator = |seed: &u8| proto::Validator {
        organization: format!("org-{seed}"),
        vote_key: signer(*seed).address().0.to_vec(),
        power: 1,
    };
    proto::ValidatorSet { validators: seeds.iter().map(validator).collect(), ..Default::default() }
}

fn witness() -> (Witness, mpsc::Receiver<proto::ReportEvidence>) {
    let (out, queue) = mpsc::channel(4);
    (Witness::new(CHAIN, Some(out), TIP, &set(&[1, 2])), queue)
}

async fn vote(seed: u8, kind: VoteType, height: u64, value: Option<u8>) -> SignedConsensusMsg<BftContext> {
    let value = value.map_or(NilOrVal::Nil, |n| NilOrVal::Val(BlockHash([n; 32])));
    let (height, round, address) = (Height(height), Round::new(0), signer(seed).address());
    let vote = Vote { kind, height, round, value, address };
    SignedConsensusMsg::Vote(signer(seed).sign_vote(vote).await.unwrap())
}

async fn proposal(seed: u8, value: u8, pol_round: Round) -> SignedConsensusMsg<BftContext> {
    let (value, address) = (BlockHash([value; 32]), signer(seed).address());
    let proposal = Proposal { height: Height(TIP + 1), round: Round::new(1), value, pol_round, address };
    SignedConsensusMsg::Proposal(signer(seed).sign_proposal(proposal).await.unwrap())
}

/// The same words, signed by nobody.
fn forged(message: &SignedConsensusMsg<BftContext>) -> SignedConsensusMsg<BftContext> {
    let mut message = message.clone();
    match &mut message {
        SignedConsensusMsg::Vote(vote) => vote.signature.0[0] ^= 1,
        SignedConsensusMsg::Proposal(proposal) => proposal.signature.0[0] ^= 1,
    }
    message
}

#[tokio::test]
async fn two_votes_or_proposals_of_one_round_become_evidence_that_holds_once() {
    use VoteType::{Precommit, Prevote};
    let nil = Round::Nil;
    let pairs = [
        (vote(1, Prevote, TIP + 1, Some(1)).await, vote(1, Prevote, TIP + 1, Some(2)).await, "prevotes"),
        (vote(1, Precommit, TIP + 2, None).await, vote(1, Precommit, TIP + 2, Some(2)).await, "precommits"),
        // Of the height that was just decided.
        (vote(2, Precommit, TIP, Some(1)).await, vote(2, Precommit, TIP, Some(2)).await, "precommits"),
        (proposal(2, 1, nil).await, proposal(2, 2, Round::new(0)).await, "proposals"),
    ];
    let (mut witness, mut queue) = witness();
    for (first, second, kind) in &pairs {
        for message in [first, first, second, second, first] {
            witness.hears(message);
        }
        let evidence = queue.try_recv().unwrap();
        let offence = verify_evidence(CHAIN, &evidence).unwrap();
        assert_eq!(offence.kind.word(), *kind);
        assert!(queue.try_recv().is_err(), "{kind}: told twice");
    }
}

#[tokio::test]
async fn honest_messages_strangers_and_far_heights_are_no_evidence() {
    use VoteType::{Precommit, Prevote};
    let (mut witness, mut queue) = witness();
    let messages = [
        vote(1, Prevote, TIP + 1, Some(1)).await,
        vote(1, Precommit, TIP + 1, Some(2)).await,
        vote(1, Prevote, TIP + 2, Some(3)).await,
        vote(2, Prevote, TIP + 1, Some(4)).await,
        proposal(1, 5, Round::Nil).await,
        // The same block, proposed again with a proof of lock.
        proposal(1, 5, Round::new(0)).await,
        // No validators; too far away to remember.
        vote(3, Prevote, TIP + 1, Some(1)).await,
        vote(3, Prevote, TIP + 1, Some(2)).await,
        vote(1, Prevote, TIP + 3, Some(1)).await,
        vote(1, Prevote, TIP + 3, Some(2)).await,
        vote(1, Prevote, TIP - 1, Some(1)).await,
        vote(1, Prevote, TIP - 1, Some(2)).await,
    ];
    messages.iter().for_each(|message| witness.hears(message));
    assert!(queue.try_recv().is_err());
    assert_eq!(witness.said.len(), 5);
    // Forgotten with the heights.
    witness.advance(TIP + 2, &set(&[1, 2]));
    assert_eq!(witness.said.len(), 1);
    witness.advance(TIP + 4, &set(&[1, 2]));
    assert!(witness.said.is_empty());
}

/// Nobody can accuse another, nor cover up for a liar by forged words that come first.
#[tokio::test]
async fn forged_messages_neither_accuse_nor_cover_up() {
    let (one, two) = (
        vote(1, VoteType::Prevote, TIP + 1, Some(1)).await,
        vote(1, VoteType::Prevote, TIP + 1, Some(2)).await,
    );
    let (mut witness, mut queue) = witness();
    for message in [&one, &forged(&two), &forged(&one)] {
        witness.hears(message);
    }
    assert!(queue.try_recv().is_err());
    witness.hears(&two);
    verify_evidence(CHAIN, &queue.try_recv().unwrap()).unwrap();

    let (mut witness, mut queue) = self::witness();
    for message in [&forged(&one), &one, &two] {
        witness.hears(message);
    }
    verify_evidence(CHAIN, &queue.try_recv().unwrap()).unwrap();
}

#[tokio::test]
async fn what_the_engine_found_is_told_unless_it_was() {
    let pair = |kind| async move {
        let votes = [vote(1, kind, 3, Some(1)).await, vote(1, kind, 3, Some(2)).await];
        votes.map(|message| match message {
            SignedConsensusMsg::Vote(vote) => vote,
            SignedConsensusMsg::Proposal(_) => unreachable!(),
        })
    };
    let mut found = MisbehaviorEvidence { proposals: Default::default(), votes: Default::default() };
    let [one, two] = pair(VoteType::Prevote).await;
    found.votes.add(one, two);
    let [one, mut two] = pair(VoteType::Precommit).await;
    two.signature.0[9] ^= 1;
    found.votes.add(one, two);
    let proposals = [proposal(2, 1, Round::Nil).await, proposal(2, 2, Round::Nil).await];
    let [one, two] = proposals.map(|message| match message {
        SignedConsensusMsg::Proposal(proposal) => proposal,
        SignedConsensusMsg::Vote(_) => unreachable!(),
    });
    found.proposals.add(one, two);
    let (mut witness, mut queue) = witness();
    witness.told_by_engine(&found);
    witness.told_by_engine(&found);
    let mut told = Vec::new();
    while let Ok(evidence) = queue.try_recv() {
        let offence = verify_evidence(CHAIN, &evidence).unwrap();
        told.push((offence.kind.word(), Address(offence.validator)));
    }
    assert_eq!(told, [("prevotes", signer(1).address()), ("proposals", signer(2).address())]);
}

#[tokio::test]
async fn a_full_queue_loses_evidence_and_nothing_else() {
    let (mut witness, mut queue) = witness();
    for n in 0..3 {
        for seed in [1, 2] {
            for kind in [VoteType::Prevote, VoteType::Precommit] {
                witness.hears(&vote(seed, kind, TIP + n, Some(1)).await);
                witness.hears(&vote(seed, kind, TIP + n, Some(2)).await);
            }
        }
    }
    assert_eq!(std::iter::from_fn(|| queue.try_recv().ok()).count(), 4);
}
