//! The rules of Tendermint, numbered by the lines of algorithm 1 in arXiv:1807.04938.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use assent_ledger::certificate::is_quorum;
use assent_ledger::Hash;
use assent_node::order::{Candidate, Fatal, Replica, Verdict};
use assent_proto::ledger::v1::{Certificate, VoteType};

use super::engine::{Engine, Message, Output, Proposal, Step, Timer};
use super::keys::{short, Vote};
use super::Bug;

/// Time-outs as a node has them, in milliseconds.
const PROPOSE_MS: u64 = 500;
const VOTE_MS: u64 = 200;
const DELTA_MS: u64 = 250;
const MAX_TIMEOUT_MS: u64 = 10_000;

impl<R: Replica> Engine<R> {
    pub fn timeout(&mut self, now: u64, timer: Timer) -> Result<(), Fatal> {
        self.now = now;
        if !self.running || (timer.height, timer.round) != (self.height, self.round) {
            return Ok(());
        }
        match (timer.step, self.step) {
            // Line 57.
            (Step::Propose, Step::Propose) => self.vote(VoteType::Prevote, None),
            // Line 61.
            (Step::Prevote, Step::Prevote) => self.vote(VoteType::Precommit, None),
            // Line 65.
            (Step::Precommit, _) => self.start_round(self.round + 1)?,
            _ => {}
        }
        self.advance()
    }

    /// Line 11.
    pub(super) fn start_round(&mut self, round: u32) -> Result<(), Fatal> {
        (self.round, self.step) = (round, Step::Propose);
        self.wal.borrow_mut().round = round;
        self.known_blocks()?;
        let Some(own) = self.own().filter(|own| self.proposer(round) == Some(*own)) else {
            self.timer(PROPOSE_MS, Step::Propose);
            return Ok(());
        };
        if let Some(proposal) = self.proposals.get(&(self.height, round)) {
            self.out.push(Output::Broadcast(Message::Proposal(proposal.clone())));
            return Ok(());
        }
        let candidate = match self.valid {
            None => self.replica.build(self.height, round)?,
            Some((valid_round, hash)) => {
                let stored = self.replica.undecided_by_hash(self.height, &hash)?;
                let stored = stored.ok_or_else(|| Fatal::Corrupt("a block with a polka is gone".into()))?;
                Candidate { round, pol_round: Some(valid_round), proposer: own, ..stored }
            }
        };
        self.judged.insert((round, candidate.hash), true);
        let what = if candidate.pol_round.is_some() { "proposes again" } else { "proposes" };
        self.note(what, round, Some(candidate.hash));
        let signature = self.signer.sign(own, Proposal::sign_bytes(&self.chain_id, &candidate));
        let proposal = Rc::new(Proposal { candidate, signature });
        self.wal.borrow_mut().proposals.push(proposal.clone());
        self.proposals.insert((self.height, round), proposal.clone());
        self.out.push(Output::Broadcast(Message::Proposal(proposal)));
        Ok(())
    }

    fn note(&mut self, what: &'static str, round: u32, hash: Option<Hash>) {
        let name = hash.map_or("nil".into(), |h| short(&h));
        self.out.push(Output::Note(what, format!("{}/{round} {name}", self.height)));
    }

    fn timer(&mut self, base_ms: u64, step: Step) {
        let after = base_ms.saturating_add(DELTA_MS * u64::from(self.round)).min(MAX_TIMEOUT_MS);
        let timer = Timer { height: self.height, round: self.round, step };
        self.out.push(Output::Timer(after, timer));
    }

    fn vote(&mut self, kind: VoteType, hash: Option<Hash>) {
        self.step = if kind == VoteType::Prevote { Step::Prevote } else { Step::Precommit };
        // One without a vote follows the steps of the others.
        let Some(own) = self.own() else { return };
        let vote = self.signer.vote(own, kind, self.height, self.round, hash);
        self.note(if kind == VoteType::Prevote { "prevotes" } else { "precommits" }, self.round, hash);
        {
            let mut wal = self.wal.borrow_mut();
            (wal.locked, wal.valid) = (self.locked, self.valid);
            wal.votes.push(vote.clone());
        }
        self.votes.insert((self.height, kind, self.round, vote.address, hash), vote.clone());
        self.out.push(Output::Broadcast(Message::Vote(vote)));
    }

    /// Voters of a round, for a value, or any.
    fn count(&self, kind: VoteType, round: u32, value: Option<Option<Hash>>) -> u64 {
        let range = (self.height, kind, round, [0; 32], None)..(self.height, kind, round + 1, [0; 32], None);
        let votes = self.votes.range(range).filter(|(_, v)| value.is_none_or(|value| v.hash == value));
        votes.map(|(_, v)| v.address).collect::<BTreeSet<_>>().len() as u64
    }

    fn quorum(&self, kind: VoteType, round: u32, value: Option<Option<Hash>>) -> bool {
        is_quorum(self.count(kind, round, value), self.set.validators.len() as u64)
    }

    fn judge(&mut self, c: &Candidate) -> Result<bool, Fatal> {
        if let Some(valid) = self.judged.get(&(c.round, c.hash)) {
            return Ok(*valid);
        }
        let verdict = self.replica.validate(c, c.pol_round.is_none())?;
        if let Verdict::Invalid(reason) = &verdict {
            self.out.push(Output::Note("finds invalid", format!("{}/{} {reason}", c.height, c.round)));
        }
        let valid = verdict == Verdict::Valid(c.hash);
        self.judged.insert((c.round, c.hash), valid);
        Ok(valid)
    }

    pub(super) fn advance(&mut self) -> Result<(), Fatal> {
        while self.running && (self.decide()? || self.skip_ahead()? || self.fire()?) {}
        Ok(())
    }

    /// Line 49. A block that this node refused for its time alone comes by catching up.
    fn decide(&mut self) -> Result<bool, Fatal> {
        let all: Vec<_> = self.proposals.range((self.height, 0)..(self.height + 1, 0)).collect();
        let enough = |round: u32, hash: Hash| match self.bug {
            Bug::CommitsEarly => self.count(VoteType::Precommit, round, Some(Some(hash))) >= 2,
            _ => self.quorum(VoteType::Precommit, round, Some(Some(hash))),
        };
        let decided = all.iter().find(|(key, p)| enough(key.1, p.candidate.hash));
        let Some(proposal) = decided.map(|(_, p)| (*p).clone()) else { return Ok(false) };
        let c = &proposal.candidate;
        if !self.judge(c)? {
            return Ok(false);
        }
        let signatures = self.votes.values().filter(|v| {
            (v.height, v.kind, v.round, v.hash) == (c.height, VoteType::Precommit, c.round, Some(c.hash))
        });
        let signatures = signatures.map(Vote::commit_signature).collect();
        let header_hash = c.hash.to_vec();
        self.commit(Certificate { height: c.height, round: c.round, header_hash, signatures }, "decided")?;
        self.start_if_needed()?;
        Ok(true)
    }

    /// Line 55: somebody honest is in a later round.
    fn skip_ahead(&mut self) -> Result<bool, Fatal> {
        let mut voters: BTreeMap<u32, BTreeSet<Hash>> = BTreeMap::new();
        for key in self.votes.keys().filter(|k| k.0 == self.height && k.2 > self.round) {
            voters.entry(key.2).or_default().insert(key.3);
        }
        let n = self.set.validators.len();
        let Some(round) = voters.into_iter().rev().find(|(_, v)| v.len() * 3 > n).map(|(r, _)| r) else {
            return Ok(false);
        };
        self.start_round(round)?;
        Ok(true)
    }

    /// The rules of the current round.
    fn fire(&mut self) -> Result<bool, Fatal> {
        let round = self.round;
        let proposal = self.proposals.get(&(self.height, round)).cloned();
        if let Some(c) = proposal.as_ref().map(|p| &p.candidate) {
            let polka = |r: u32| self.quorum(VoteType::Prevote, r, Some(Some(c.hash)));
            // Lines 22 and 28.
            let may_prevote = match c.pol_round {
                None => true,
                Some(pol) => pol < round && polka(pol),
            };
            if self.step == Step::Propose && may_prevote {
                let free = match self.locked {
                    _ if self.bug == Bug::ForgetsLock => true,
                    None => true,
                    Some((_, hash)) if hash == c.hash => true,
                    Some((locked, _)) => c.pol_round.is_some_and(|pol| locked <= pol),
                };
                let value = (self.judge(c)? && free).then_some(c.hash);
                self.vote(VoteType::Prevote, value);
                return Ok(true);
            }
            // Line 36.
            if self.step >= Step::Prevote
                && polka(round)
                && !self.fired.contains(&(36, round))
                && self.judge(c)?
            {
                self.fired.insert((36, round));
                self.valid = (self.bug != Bug::ForgetsLock).then_some((round, c.hash));
                if self.step == Step::Prevote {
                    self.locked = Some((round, c.hash));
                    self.vote(VoteType::Precommit, Some(c.hash));
                }
                // With what proves it to others: a liar does not say the same again.
                let polka = self.votes.values().filter(|v| {
                    (v.height, v.kind, v.round, v.hash)
                        == (self.height, VoteType::Prevote, round, Some(c.hash))
                });
                let mut wal = self.wal.borrow_mut();
                wal.valid = self.valid;
                wal.votes.extend(polka.cloned());
                return Ok(true);
            }
        }
        // Line 44.
        if self.step == Step::Prevote && self.quorum(VoteType::Prevote, round, Some(None)) {
            self.vote(VoteType::Precommit, None);
            return Ok(true);
        }
        // Line 34.
        let any = self.quorum(VoteType::Prevote, round, None);
        if self.step == Step::Prevote && any && self.fired.insert((34, round)) {
            self.timer(VOTE_MS, Step::Prevote);
            return Ok(true);
        }
        // Line 47.
        if self.quorum(VoteType::Precommit, round, None) && self.fired.insert((47, round)) {
            self.timer(VOTE_MS, Step::Precommit);
            return Ok(true);
        }
        Ok(false)
    }
}
