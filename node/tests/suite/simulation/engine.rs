//! The simulated implementation of the ordering boundary: Tendermint (arXiv:1807.04938, algorithm 1) over a real [`Replica`],
//! driven by calls that carry the time, answering with what to send and when to be called again.
//!
//! ```text
//! message, timer, tick ─▶ Engine ──build, validate, commit──▶ Replica (store, mempool)
//!                           └──▶ Wal first, then outputs ─▶ world
//! ```
//! Its rules are in `rules`. An idle engine makes no empty blocks: a height starts when entries wait, somebody was seen to work on it, or the heartbeat is
//! due. Lost messages are made up for by gossip: every tick an engine sends all votes and proposals that it knows of its height.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use assent_ledger::bench::turn;
use assent_ledger::certificate::{proposal_sign_bytes, verify_certificate};
use assent_ledger::Hash;
use assent_node::order::{Candidate, Fatal, Replica, Verdict};
use assent_proto::ledger::v1::{Block, Certificate, Header, ValidatorSet, VoteType};
use prost::Message as _;

use super::keys::{short, Signer, Vote};
use super::Bug;

/// An idle ledger makes a block after this long.
const HEARTBEAT_MS: u64 = 10_000;
/// A peer that is ahead is asked for blocks at most this often.
const ASK_PAUSE_MS: u64 = 400;
/// Blocks in one answer to a peer that is behind.
const SYNC_BATCH: u64 = 5;
const SYNC_BYTES: usize = 4 << 20;

/// A block, proposed.
#[derive(Debug, Clone)]
pub struct Proposal {
    pub candidate: Candidate,
    pub signature: [u8; 64],
}

impl Proposal {
    pub fn sign_bytes(chain_id: &str, c: &Candidate) -> Vec<u8> {
        proposal_sign_bytes(chain_id, c.height, c.round, c.pol_round, &c.hash, &c.proposer)
    }
}

/// What engines say to each other.
#[derive(Debug, Clone)]
pub enum Message {
    Proposal(Rc<Proposal>),
    Vote(Vote),
    /// Everything that the sender knows of its height, and its tip.
    Gossip {
        tip: u64,
        proposals: Vec<Rc<Proposal>>,
        votes: Rc<Vec<Vote>>,
    },
    /// Who is behind asks for blocks from this height on.
    Ask {
        from: u64,
    },
    Blocks(Rc<Vec<(Certificate, bytes::Bytes)>>),
    /// An entry on its way to every mempool.
    Entry(Rc<Vec<u8>>),
}

/// What a call of the engine leads to.
#[derive(Debug)]
pub enum Output {
    Broadcast(Message),
    Send(usize, Message),
    Timer(u64, Timer),
    /// For the trace: what kind of thing happened, and to what.
    Note(&'static str, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Propose,
    Prevote,
    Precommit,
}

/// A time-out of a step.
#[derive(Debug, Clone, Copy)]
pub struct Timer {
    pub height: u64,
    pub round: u32,
    pub step: Step,
}

/// What the engine has on disk: written before a message leaves, so that it is not signed differently after a crash.
#[derive(Debug, Default, Clone)]
pub struct Wal {
    pub(super) height: u64,
    pub(super) round: u32,
    pub(super) locked: Option<(u32, Hash)>,
    pub(super) valid: Option<(u32, Hash)>,
    /// Its own, and those that prove what it is locked on.
    pub(super) votes: Vec<Vote>,
    /// Its own.
    pub(super) proposals: Vec<Rc<Proposal>>,
}

pub struct Engine<R> {
    pub replica: R,
    pub(super) signer: Rc<Signer>,
    /// Its organization: the key that votes for it is the one that the set names.
    pub(super) name: String,
    pub(super) bug: Bug,
    pub(super) wal: Rc<RefCell<Wal>>,
    pub(super) chain_id: String,
    pub(super) set: ValidatorSet,
    pub(super) height: u64,
    pub(super) round: u32,
    pub(super) step: Step,
    pub(super) running: bool,
    pub(super) locked: Option<(u32, Hash)>,
    pub(super) valid: Option<(u32, Hash)>,
    /// First of each round of this height, and what came early for the next.
    pub(super) proposals: BTreeMap<(u64, u32), Rc<Proposal>>,
    /// By height, type, round, voter and value. A liar's two votes both count, each for its value, as they would in a certificate: else
    /// some could never be shown what others locked on.
    pub(super) votes: BTreeMap<(u64, VoteType, u32, Hash, Option<Hash>), Vote>,
    /// What the replica said about a block in a round.
    pub(super) judged: BTreeMap<(u32, Hash), bool>,
    /// Rules that fire once a round, by line of the paper.
    pub(super) fired: BTreeSet<(u8, u32)>,
    pub(super) now: u64,
    pub(super) committed_ms: u64,
    pub(super) asked_ms: u64,
    pub(super) out: Vec<Output>,
}

impl<R: Replica> Engine<R> {
    /// Takes up where store and log stand.
    pub fn new(
        replica: R,
        signer: Rc<Signer>,
        name: String,
        bug: Bug,
        wal: Rc<RefCell<Wal>>,
        now: u64,
    ) -> Result<Self, Fatal> {
        let (chain_id, set) = (replica.chain_id(), replica.validators());
        if bug == Bug::LosesLog {
            wal.replace(Wal::default());
        }
        let mut engine = Self {
            replica,
            signer,
            name,
            bug,
            wal,
            chain_id,
            set,
            height: 0,
            round: 0,
            step: Step::Propose,
            running: false,
            locked: None,
            valid: None,
            proposals: BTreeMap::new(),
            votes: BTreeMap::new(),
            judged: BTreeMap::new(),
            fired: BTreeSet::new(),
            now,
            committed_ms: now,
            asked_ms: 0,
            out: Vec::new(),
        };
        engine.next_height();
        if engine.wal.borrow().height == engine.height {
            engine.resume()?;
        }
        Ok(engine)
    }

    /// What is to be done since the last call.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    pub fn tick(&mut self, now: u64) -> Result<(), Fatal> {
        self.now = now;
        self.start_if_needed()?;
        let (mut proposals, mut votes) = (Vec::new(), Vec::new());
        if self.running {
            let of_height = (self.height, 0)..(self.height + 1, 0);
            proposals.extend(self.proposals.range(of_height).map(|(_, p)| p.clone()));
            votes.extend(self.votes.iter().filter(|(k, _)| k.0 == self.height).map(|(_, v)| v.clone()));
        }
        let gossip = Message::Gossip { tip: self.replica.tip(), proposals, votes: Rc::new(votes) };
        self.out.push(Output::Broadcast(gossip));
        Ok(())
    }

    pub fn receive(&mut self, now: u64, from: usize, message: Message) -> Result<(), Fatal> {
        self.now = now;
        match message {
            Message::Proposal(proposal) => self.take_proposal(proposal),
            Message::Vote(vote) => self.take_vote(vote),
            Message::Gossip { tip, proposals, votes } => {
                proposals.into_iter().for_each(|p| self.take_proposal(p));
                votes.iter().for_each(|v| self.take_vote(v.clone()));
                if tip > self.replica.tip() && now >= self.asked_ms + ASK_PAUSE_MS {
                    self.asked_ms = now;
                    self.out.push(Output::Send(from, Message::Ask { from: self.replica.tip() + 1 }));
                }
            }
            Message::Ask { from: first } => {
                let last = first.saturating_add(SYNC_BATCH - 1);
                let blocks = self.replica.decided(first, last, SYNC_BYTES)?;
                self.out.push(Output::Send(from, Message::Blocks(Rc::new(blocks))));
            }
            Message::Blocks(blocks) => {
                for (certificate, bytes) in blocks.iter() {
                    self.catch_up(certificate, bytes)?;
                }
            }
            Message::Entry(_) => {}
        }
        self.start_if_needed()?;
        self.advance()
    }

    fn take_proposal(&mut self, proposal: Rc<Proposal>) {
        let c = &proposal.candidate;
        let ahead = c.height.checked_sub(self.height);
        let key = (c.height, c.round);
        if !matches!(ahead, Some(0 | 1)) || self.proposals.contains_key(&key) {
            return;
        }
        // The next height's proposers are known when it starts; until then the signature must do.
        let message = Proposal::sign_bytes(&self.chain_id, c);
        if (ahead == Some(1) || self.proposer(c.round) == Some(c.proposer))
            && self.signer.holds(c.proposer, message, proposal.signature)
        {
            self.proposals.insert(key, proposal);
        }
    }

    fn take_vote(&mut self, vote: Vote) {
        let key = (vote.height, vote.kind, vote.round, vote.address, vote.hash);
        let known = is_in(&self.set, &vote.address);
        if (vote.height == self.height || vote.height == self.height + 1)
            && known
            && !self.votes.contains_key(&key)
            && self.signer.vote_holds(&vote)
        {
            self.votes.insert(key, vote);
        }
    }

    /// A block that others decided.
    fn catch_up(&mut self, certificate: &Certificate, bytes: &bytes::Bytes) -> Result<(), Fatal> {
        let height = self.replica.tip() + 1;
        let Ok(hash) = Hash::try_from(certificate.header_hash.as_slice()) else { return Ok(()) };
        // Also what was asked for twice, and a lie.
        if certificate.height != height
            || verify_certificate(&self.chain_id, &self.set, height, &hash, certificate).is_err()
        {
            return Ok(());
        }
        let header =
            Block::decode(bytes.as_ref()).ok().and_then(|b| Header::decode(b.header.as_slice()).ok());
        let built = header.map_or(0, |h| h.round);
        let candidate = Candidate {
            height,
            round: certificate.round,
            pol_round: (built < certificate.round).then_some(built),
            proposer: self.proposer(certificate.round).unwrap_or_default(),
            hash,
            bytes: bytes.clone(),
        };
        match self.replica.validate(&candidate, false)? {
            Verdict::Valid(same) if same == hash => self.commit(certificate.clone(), "caught up"),
            verdict => {
                self.out.push(Output::Note("refuses from a peer", format!("{verdict:?}")));
                Ok(())
            }
        }
    }

    pub(super) fn commit(&mut self, certificate: Certificate, how: &'static str) -> Result<(), Fatal> {
        let (round, hash) = (certificate.round, short(&certificate.header_hash));
        self.replica.commit(certificate)?;
        let height = self.replica.tip();
        self.out.push(Output::Note(how, format!("{height}/{round} {hash}")));
        self.committed_ms = self.now;
        self.next_height();
        Ok(())
    }

    fn next_height(&mut self) {
        if self.bug != Bug::KeepsOldSet {
            self.set = self.replica.validators();
        }
        self.height = self.replica.tip() + 1;
        (self.round, self.step, self.running) = (0, Step::Propose, false);
        (self.locked, self.valid) = (None, None);
        self.proposals.retain(|key, _| key.0 >= self.height);
        let set = &self.set;
        self.votes.retain(|key, _| key.0 >= self.height && is_in(set, &key.3));
        self.judged.clear();
        self.fired.clear();
        let turns = self.replica.proposers();
        let in_turn =
            |p: &Proposal| turn(&turns, self.height, p.candidate.round) == Some(&p.candidate.proposer);
        self.proposals.retain(|key, p| key.0 != self.height || in_turn(p));
    }

    /// After a crash: this height as the log has it.
    fn resume(&mut self) -> Result<(), Fatal> {
        let wal = self.wal.borrow().clone();
        self.running = true;
        (self.round, self.locked, self.valid) = (wal.round, wal.locked, wal.valid);
        for proposal in wal.proposals {
            self.judged.insert((proposal.candidate.round, proposal.candidate.hash), true);
            self.proposals.insert((self.height, proposal.candidate.round), proposal);
        }
        let own = self.own();
        let voted =
            |kind| wal.votes.iter().any(|v| (Some(v.address), v.round, v.kind) == (own, wal.round, kind));
        self.step = match (voted(VoteType::Prevote), voted(VoteType::Precommit)) {
            (_, true) => Step::Precommit,
            (true, false) => Step::Prevote,
            (false, false) => Step::Propose,
        };
        for vote in wal.votes {
            self.votes.insert((self.height, vote.kind, vote.round, vote.address, vote.hash), vote);
        }
        match self.step {
            Step::Propose => self.start_round(wal.round),
            _ => self.known_blocks(),
        }
    }

    pub(super) fn start_if_needed(&mut self) -> Result<(), Fatal> {
        if self.running {
            return Ok(());
        }
        let seen = self.votes.keys().any(|k| k.0 == self.height)
            || self.proposals.keys().any(|k| k.0 == self.height);
        if seen || self.replica.has_work() || self.now >= self.committed_ms + HEARTBEAT_MS {
            self.running = true;
            self.wal.replace(Wal { height: self.height, ..Wal::default() });
            self.start_round(0)?;
            self.advance()?;
        }
        Ok(())
    }

    /// The key that it votes with at this height; none when it has no vote.
    pub(super) fn own(&self) -> Option<Hash> {
        let own = self.set.validators.iter().find(|v| v.organization == self.name)?;
        own.vote_key.as_slice().try_into().ok()
    }

    pub(super) fn proposer(&self, round: u32) -> Option<Hash> {
        turn(&self.replica.proposers(), self.height, round).copied()
    }

    /// Blocks of this round that were judged before a crash.
    pub(super) fn known_blocks(&mut self) -> Result<(), Fatal> {
        for c in self.replica.undecided(self.height, self.round)? {
            self.judged.insert((c.round, c.hash), true);
        }
        Ok(())
    }
}

fn is_in(set: &ValidatorSet, address: &Hash) -> bool {
    set.validators.iter().any(|v| v.vote_key == address)
}
