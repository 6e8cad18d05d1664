//! Equivocation, from the engine's messages to the ledger's form.
//!
//! ```text
//! every vote and proposal, as it comes or goes ─▶ Witness ─ two that contradict each other ─┐
//! Finalized: what the engine itself found ────────────────────────────────────────────────┴▶ verify_evidence ─▶ queue
//! ```
//! The engine drops votes of a height that it has left; a liar's second precommit may come just then. So the witness listens at
//! the door as well. It checks signatures only where two messages contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use assent_ledger::certificate::{proposal_sign_bytes, vote_sign_bytes};
use assent_ledger::evidence::{conflicting_proposals, conflicting_votes, verify_evidence, OffenceKind};
use assent_ledger::keys;
use assent_ledger::Hash;
use assent_proto::ledger::v1 as proto;
use malachite_app_channel::app::types::core::{NilOrVal, SignedMessage, VoteType};
use malachite_app_channel::app::types::{MisbehaviorEvidence, SignedConsensusMsg};
use tokio::sync::mpsc;

use super::scheme::Signature;
use super::types::{BftContext, Proposal, Vote};

/// Heights above the newest block whose messages are remembered, and one below it.
const HEIGHTS_AHEAD: u64 = 2;
/// Rounds from this on aren't remembered here; the engine still finds what it finds.
const MAX_ROUNDS: u32 = 64;

/// What can be signed once.
type Place = (u64, u32, OffenceKind, Hash);

/// What was signed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    /// Header; none is nil.
    hash: Option<Hash>,
    /// Of a proposal.
    pol_round: Option<u32>,
    signature: [u8; 64],
}

/// Remembers who said what, and tells when somebody contradicts himself.
pub struct Witness {
    chain_id: String,
    out: Option<mpsc::Sender<proto::ReportEvidence>>,
    tip: u64,
    /// Addresses of this height's validators, and of the last one's.
    voters: [BTreeSet<Hash>; 2],
    said: BTreeMap<Place, Said>,
    told: BTreeSet<Place>,
}

impl Witness {
    /// Tells `out`; with none it says so in the log only.
    pub fn new(
        chain_id: &str,
        out: Option<mpsc::Sender<proto::ReportEvidence>>,
        tip: u64,
        set: &proto::ValidatorSet,
    ) -> Self {
        let chain_id = chain_id.to_owned();
        let voters = [addresses(set), BTreeSet::new()];
        Self { chain_id, out, tip, voters, said: BTreeMap::new(), told: BTreeSet::new() }
    }

    /// A block was committed.
    pub fn advance(&mut self, tip: u64, set: &proto::ValidatorSet) {
        self.tip = tip;
        self.voters.swap(0, 1);
        self.voters[0] = addresses(set);
        self.said.retain(|place, _| place.0 >= tip);
        self.told.retain(|place| place.0 >= tip);
    }

    /// A message came or went; its signature need not hold.
    pub fn hears(&mut self, message: &SignedConsensusMsg<BftContext>) {
        let read = match message {
            SignedConsensusMsg::Vote(vote) => of_vote(vote),
            SignedConsensusMsg::Proposal(proposal) => of_proposal(proposal),
        };
        let Some((place, said)) = read else { return };
        let (height, round, _, address) = place;
        let near = height >= self.tip && height - self.tip <= HEIGHTS_AHEAD && round < MAX_ROUNDS;
        if !near || !self.voters.iter().any(|set| set.contains(&address)) {
            return;
        }
        let before = *self.said.entry(place).or_insert(said);
        if before == said || self.told.contains(&place) {
            return;
        }
        if !self.holds(&place, &before) {
            // Somebody put words into its mouth.
            self.said.insert(place, said);
        } else if before.hash != said.hash {
            self.tell(place, before, said);
        }
    }

    /// What the engine found in the height that it finalized.
    pub fn told_by_engine(&mut self, evidence: &MisbehaviorEvidence<BftContext>) {
        let votes = evidence.votes.iter().flat_map(|(_, pairs)| pairs);
        let votes = votes.map(|(a, b)| (of_vote(a), of_vote(b)));
        let proposals = evidence.proposals.iter().flat_map(|(_, pairs)| pairs);
        let proposals = proposals.map(|(a, b)| (of_proposal(a), of_proposal(b)));
        for pair in votes.chain(proposals) {
            if let (Some((place, first)), Some((_, second))) = pair {
                // Two proposals of one block contradict nothing.
                if first.hash != second.hash && !self.told.contains(&place) {
                    self.tell(place, first, second);
                }
            }
        }
    }

    fn tell(&mut self, place: Place, first: Said, second: Said) {
        let evidence = evidence(&place, &first, &second);
        let offence = match verify_evidence(&self.chain_id, &evidence) {
            Ok(offence) => offence,
            Err(error) => return tracing::debug!(%error, "no equivocation"),
        };
        self.told.insert(place);
        let (kind, height, round) = (offence.kind.word(), offence.height, offence.round);
        tracing::warn!(validator = %hex::encode(offence.validator), kind, height, round, "equivocation");
        if self.out.as_ref().is_some_and(|out| out.try_send(evidence).is_err()) {
            tracing::warn!("too much evidence waits to be reported: this piece is left to the other nodes");
        }
    }

    fn holds(&self, (height, round, kind, address): &Place, said: &Said) -> bool {
        let message = match (kind, said.hash) {
            (OffenceKind::Proposals, Some(hash)) => {
                proposal_sign_bytes(&self.chain_id, *height, *round, said.pol_round, &hash, address)
            }
            (OffenceKind::Proposals, None) => return false,
            _ => vote_sign_bytes(&self.chain_id, &vote(*height, *round, *kind, address, said.hash)),
        };
        keys::verify(address, &message, &said.signature)
    }
}

fn addresses(set: &proto::ValidatorSet) -> BTreeSet<Hash> {
    set.validators.iter().filter_map(|v| v.vote_key.as_slice().try_into().ok()).collect()
}

fn of_vote(signed: &SignedMessage<BftContext, Vote>) -> Option<(Place, Said)> {
    let vote = &signed.message;
    let Signature(signature) = signed.signature;
    let kind = match vote.kind {
        VoteType::Prevote => OffenceKind::Prevotes,
        VoteType::Precommit => OffenceKind::Precommits,
    };
    let hash = match vote.value {
        NilOrVal::Nil => None,
        NilOrVal::Val(hash) => Some(hash.0),
    };
    let place = (vote.height.0, vote.round.as_u32()?, kind, vote.address.0);
    Some((place, Said { hash, pol_round: None, signature }))
}

fn of_proposal(signed: &SignedMessage<BftContext, Proposal>) -> Option<(Place, Said)> {
    let p = &signed.message;
    let Signature(signature) = signed.signature;
    let place = (p.height.0, p.round.as_u32()?, OffenceKind::Proposals, p.address.0);
    Some((place, Said { hash: Some(p.value.0), pol_round: p.pol_round.as_u32(), signature }))
}

fn vote(height: u64, round: u32, kind: OffenceKind, address: &Hash, hash: Option<Hash>) -> proto::Vote {
    let kind = match kind {
        OffenceKind::Precommits => proto::VoteType::Precommit,
        OffenceKind::Prevotes | OffenceKind::Proposals => proto::VoteType::Prevote,
    };
    proto::Vote {
        r#type: kind.into(),
        height,
        round,
        header_hash: hash.map(|hash| hash.to_vec()),
        address: address.to_vec(),
    }
}

fn evidence(place: &Place, first: &Said, second: &Said) -> proto::ReportEvidence {
    let (height, round, kind, address) = place;
    if *kind == OffenceKind::Proposals {
        let proposal = |said: &Said| proto::SignedProposal {
            height: *height,
            round: *round,
            pol_round: said.pol_round,
            header_hash: said.hash.map(|hash| hash.to_vec()).unwrap_or_default(),
            address: address.to_vec(),
            signature: said.signature.to_vec(),
        };
        return conflicting_proposals(proposal(first), proposal(second));
    }
    let vote = |said: &Said| vote(*height, *round, *kind, address, said.hash);
    conflicting_votes((&vote(first), &first.signature), (&vote(second), &second.signature))
}

#[cfg(test)]
mod tests;
