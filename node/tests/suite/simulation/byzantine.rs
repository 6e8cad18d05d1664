//! Validators that sign what they like: they run the same engine, but what they send is changed for each receiver.

use std::collections::BTreeMap;
use std::rc::Rc;

use assent_ledger::block::{build_block, Proposal as BlockProposal};
use assent_ledger::keys::verify_batch;
use assent_ledger::Hash;
use assent_node::order::Candidate;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::Rng;

use super::consortium::{Consortium, CHAIN};
use super::engine::{Message, Proposal};
use super::keys::Vote;
use super::replica::Validator;

/// What they have told whom: they act as one.
#[derive(Default)]
pub struct Liar {
    /// A second block for a height and round.
    others: BTreeMap<(u64, u32), Option<Rc<Proposal>>>,
    /// The block that a receiver was shown.
    shown: BTreeMap<(u64, u32, usize), Hash>,
}

impl Liar {
    /// What the receiver gets instead; none when the message is withheld.
    pub fn twist(
        &mut self,
        liars: &[usize],
        validator: &Validator,
        consortium: &Consortium,
        rng: &mut StdRng,
        to: usize,
        message: Message,
    ) -> Option<Message> {
        // Among themselves they are honest.
        if liars.contains(&to) {
            return Some(message);
        }
        Some(match message {
            Message::Proposal(proposal) => {
                let chosen = match rng.gen_range(0..10) {
                    0 => return None,
                    1 => Rc::new(damaged(&proposal, rng)),
                    2..=5 => self.other(validator, consortium, &proposal).unwrap_or(proposal),
                    _ => proposal,
                };
                let c = &chosen.candidate;
                self.shown.insert((c.height, c.round, to), c.hash);
                Message::Proposal(chosen)
            }
            Message::Vote(vote) => {
                // Whatever this receiver would like to hear, or nothing, or nil.
                let shown = self.shown.get(&(vote.height, vote.round, to)).copied();
                let hash = match rng.gen_range(0..10) {
                    0 => return None,
                    1 => None,
                    _ => shown.or(vote.hash),
                };
                let Vote { kind, height, round, address, .. } = vote;
                Message::Vote(consortium.signer.vote(address, kind, height, round, hash))
            }
            // Its own words are not repeated: they were said to each in another way.
            Message::Gossip { tip, proposals, votes } => {
                let own = |address: &Hash| consortium.signer.is_of(address, validator.me);
                let votes = votes.iter().filter(|v| !own(&v.address)).cloned().collect();
                let proposals = proposals.into_iter().filter(|p| !own(&p.candidate.proposer)).collect();
                let tip = if rng.gen_ratio(1, 10) { rng.gen() } else { tip };
                Message::Gossip { tip, proposals, votes: Rc::new(votes) }
            }
            Message::Blocks(blocks) => {
                let mut blocks = blocks.as_ref().clone();
                if let Some((certificate, bytes)) = blocks.first_mut() {
                    match rng.gen_range(0..3) {
                        0 => *bytes = flipped(bytes, rng),
                        1 => drop(certificate.signatures.pop()),
                        _ => {}
                    }
                }
                Message::Blocks(Rc::new(blocks))
            }
            Message::Ask { from } => Message::Ask { from: if rng.gen() { from } else { rng.gen() } },
            entry => entry,
        })
    }

    /// Another valid block for the same height and round: a moment later.
    fn other(
        &mut self,
        validator: &Validator,
        consortium: &Consortium,
        proposal: &Proposal,
    ) -> Option<Rc<Proposal>> {
        let c = &proposal.candidate;
        let make = || {
            let running = validator.running.as_ref()?;
            let view = running.store.view().ok()?;
            if view.tip.height + 1 != c.height || c.pol_round.is_some() {
                return None;
            }
            let previous_certificate = running.store.certificate(view.tip.height).ok()?.unwrap_or_default();
            let (proposer, round, now_ms) = (c.proposer, c.round, running.mempool.now_ms() + 7);
            let by = BlockProposal { proposer, round, now_ms, previous_certificate };
            let (bytes, applied, _) =
                build_block(&view.tip, &view, running.mempool.select(), &by, &verify_batch).ok()?;
            let candidate =
                Candidate { hash: applied.tip.header_hash, bytes: Bytes::from(bytes), ..c.clone() };
            let signature = consortium.signer.sign(c.proposer, Proposal::sign_bytes(CHAIN, &candidate));
            Some(Rc::new(Proposal { candidate, signature }))
        };
        self.others.entry((c.height, c.round)).or_insert_with(make).clone()
    }
}

fn flipped(bytes: &Bytes, rng: &mut StdRng) -> Bytes {
    let mut bytes = bytes.to_vec();
    let at = rng.gen_range(0..bytes.len().max(1));
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << rng.gen_range(0..8);
    }
    bytes.into()
}

fn damaged(proposal: &Proposal, rng: &mut StdRng) -> Proposal {
    let bytes = flipped(&proposal.candidate.bytes, rng);
    Proposal { candidate: Candidate { bytes, ..proposal.candidate.clone() }, ..proposal.clone() }
}
