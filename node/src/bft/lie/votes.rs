//! Lies about votes and proposals.

use futures::FutureExt;
use malachite_app_channel::app::engine::network::Msg;
use malachite_app_channel::app::types::core::{NilOrVal, SignedMessage, VoteType};
use malachite_app_channel::app::types::SignedConsensusMsg;
use malachite_signing::Signer;

use super::super::types::{BftContext, BlockHash, Height, Proposal, Vote};
use super::{Liar, Lie, Said};
use malachite_app_channel::app::types::core::Round;

type Signed = SignedConsensusMsg<BftContext>;

impl Liar {
    /// A vote or proposal of its own, on its way out.
    pub(super) fn consensus(&self, message: &Signed) -> Said<Signed> {
        self.memory().at(message.height().0);
        match message {
            _ if self.lie == Lie::Silent => self.unless_silent(),
            SignedConsensusMsg::Vote(vote) if self.made(&vote.signature) => Said::Truth,
            SignedConsensusMsg::Proposal(proposal) if self.made(&proposal.signature) => Said::Truth,
            SignedConsensusMsg::Vote(vote) => self.vote(&vote.message),
            SignedConsensusMsg::Proposal(proposal) => self.proposal(message, &proposal.message),
        }
    }

    /// Nothing at all, if that is its lie.
    pub(super) fn unless_silent<T>(&self) -> Said<T> {
        match self.lie {
            Lie::Silent => {
                let height = self.memory().height;
                self.count(height);
                Said::Nothing
            }
            _ => Said::Truth,
        }
    }

    fn made(&self, signature: &super::Signature) -> bool {
        self.memory().made.contains_key(signature)
    }

    fn vote(&self, vote: &Vote) -> Said<Signed> {
        let (height, round) = (vote.height.0, vote.round.as_u32().unwrap_or(0));
        let (told, proposed) = {
            let memory = self.memory();
            (memory.blocks.get(&(height, round)).copied(), memory.proposed.get(&(height, round)).copied())
        };
        match (self.lie, &vote.value) {
            (Lie::VoteTwice, value) => {
                let Some(second) = self.signed_vote(Vote { value: another(vote, value), ..vote.clone() })
                else {
                    return Said::Truth;
                };
                self.count(height);
                // Now one is heard first, now the other.
                if height.is_multiple_of(2) {
                    self.add(Msg::PublishConsensusMsg(second));
                    return Said::Truth;
                }
                if let Some(first) = self.signed_vote(vote.clone()) {
                    self.add(Msg::PublishConsensusMsg(first));
                }
                Said::Instead(second)
            }
            (Lie::IgnoreLocks, NilOrVal::Nil) => match proposed {
                Some(hash) => {
                    self.count(height);
                    self.instead(Vote { value: NilOrVal::Val(hash), ..vote.clone() })
                }
                None => Said::Truth,
            },
            (Lie::BadBlock(_) | Lie::IgnoreLocks, NilOrVal::Val(hash)) => match told {
                Some((meant, told)) if meant == *hash && told != meant => {
                    self.instead(Vote { value: NilOrVal::Val(told), ..vote.clone() })
                }
                _ => Said::Truth,
            },
            _ => Said::Truth,
        }
    }

    fn instead(&self, vote: Vote) -> Said<Signed> {
        self.signed_vote(vote).map_or(Said::Truth, Said::Instead)
    }

    fn proposal(&self, message: &Signed, proposal: &Proposal) -> Said<Signed> {
        let again = proposal.pol_round.is_defined();
        let concerned = match self.lie {
            Lie::BadBlock(_) => !again,
            Lie::IgnoreLocks => again,
            _ => false,
        };
        let (height, Some(round)) = (proposal.height.0, proposal.round.as_u32()) else {
            return Said::Truth;
        };
        if !concerned {
            return Said::Truth;
        }
        let told = self.memory().blocks.get(&(height, round)).copied();
        match told {
            Some((meant, told)) if meant == proposal.value && told != meant => {
                self.signed_proposal(height, round, told).map_or(Said::Truth, Said::Instead)
            }
            Some(_) => Said::Truth,
            // Its block comes by another way, and says which one the others are told of.
            None => {
                self.memory().held.push(message.clone());
                Said::Nothing
            }
        }
    }

    /// A vote by its key, remembered as its own making.
    fn signed_vote(&self, vote: Vote) -> Option<Signed> {
        let height = vote.height.0;
        let signed = self.signer.sign_vote(vote).now_or_never()?.ok()?;
        self.memory().made.insert(signed.signature, height);
        Some(SignedConsensusMsg::Vote(signed))
    }

    /// A fresh proposal by its key, remembered as its own making.
    pub(super) fn signed_proposal(&self, height: u64, round: u32, value: BlockHash) -> Option<Signed> {
        let proposal = Proposal {
            height: Height(height),
            round: Round::new(round),
            value,
            pol_round: Round::Nil,
            address: self.signer.address(),
        };
        let signed: SignedMessage<BftContext, Proposal> =
            self.signer.sign_proposal(proposal).now_or_never()?.ok()?;
        self.memory().made.insert(signed.signature, height);
        Some(SignedConsensusMsg::Proposal(signed))
    }

    /// What another one says.
    pub(super) fn hear(&self, message: &Signed) {
        if let (Lie::IgnoreLocks, SignedConsensusMsg::Proposal(p)) = (self.lie, message) {
            if let Some(round) = p.message.round.as_u32() {
                self.memory().proposed.insert((p.message.height.0, round), p.message.value);
            }
        }
    }
}

/// Another value than the one voted for: nil, a block that there is not, or both in turn.
fn another(vote: &Vote, value: &NilOrVal<BlockHash>) -> NilOrVal<BlockHash> {
    match (value, vote.kind) {
        (NilOrVal::Val(_), VoteType::Prevote) => NilOrVal::Nil,
        (NilOrVal::Val(hash), VoteType::Precommit) => NilOrVal::Val(BlockHash(hash.0.map(|byte| !byte))),
        (NilOrVal::Nil, _) => NilOrVal::Val(BlockHash([7; 32])),
    }
}
