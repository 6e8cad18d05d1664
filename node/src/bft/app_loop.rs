//! One task that owns the engine's channels and answers them by asking the [`Replica`].
//!
//! ```text
//! StartedRound ─▶ stored and early blocks      GetValue ─▶ build, answer, publish parts
//! part ─▶ assembly ─▶ validate                 Decided ─▶ commit, answer
//! Finalized ─▶ answered when there is work: that is how an idle network makes no blocks
//! ```
//! The engine waits for every answer but those to Decided and Finalized, so none is held back otherwise.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use assent_ledger::Hash;
use malachite_app_channel::app::consensus::SignedConsensusMsg;
use malachite_app_channel::app::engine::host::Next;
use malachite_app_channel::app::engine::network::NetworkRef;
use malachite_app_channel::app::engine::util::events::Event;
use malachite_app_channel::app::types::core::{HeightParams, LinearTimeouts, Round, Validity};
use malachite_app_channel::app::types::{LocallyProposedValue, ProposedValue};
use malachite_app_channel::{AppMsg, Channels, EngineHandle, Reply};
use tokio::sync::{watch, Notify};
use tokio::task::block_in_place;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::assembly::{Added, Assembled, Assembly};
use super::certificate;
use super::codec::WireCodec;
use super::crypto::{ChainSigner, ChainVerifier};
use super::types::{Address, BftContext, BlockHash, Height, ProposalPart, ValidatorSet};
use super::BftStatus;
use crate::order::{Candidate, Fatal, Replica, Verdict};

/// `has_work` is asked at least this often while idle.
const POLL: Duration = Duration::from_millis(250);
/// An idle node starts a height because a peer reports a higher tip, but at most once in this time: it's anybody's word.
const REPORTED_TIP_PAUSE: Duration = Duration::from_secs(1);
/// The engine's actors have this long to stop.
const STOP: Duration = Duration::from_secs(10);

/// The engine, started.
pub struct Engine {
    /// Its questions, and what it is told.
    pub channels: Channels<BftContext>,
    /// Supervisor of its actors.
    pub handle: EngineHandle,
    /// Its network, which is stopped first.
    pub network: NetworkRef<BftContext>,
    /// The codec it uses.
    pub codec: WireCodec,
    /// Signs parts.
    pub signer: ChainSigner,
    /// Where it listens.
    pub listen: SocketAddr,
    /// For every height.
    pub timeouts: LinearTimeouts,
}

/// The task's state.
pub struct App<R> {
    pub(super) replica: R,
    pub(super) chain_id: String,
    pub(super) engine: Engine,
    verifier: ChainVerifier,
    assembly: Assembly,
    status: watch::Sender<BftStatus>,
    /// Height that the engine works on, 0 before the first.
    pub(super) height: u64,
    /// Blocks of this height that were validated, by round.
    validated: BTreeSet<(u32, Hash)>,
    /// The question that is answered when there is work.
    held: Option<(Reply<Next<BftContext>>, Instant)>,
    /// Highest height that a validator was seen to work on, at most the tip + 2.
    seen: u64,
}

/// The engine no longer listens: it has stopped.
pub(super) fn answer<T>(reply: Reply<T>, value: T) -> Result<(), Fatal> {
    reply.send(value).map_err(|_| Fatal::Engine("it takes no answer any more".into()))
}

impl<R: Replica> App<R> {
    /// The task, and where its status can be seen.
    pub fn new(chain_id: &str, replica: R, engine: Engine) -> (Self, watch::Receiver<BftStatus>) {
        let now = Instant::now();
        let height = replica.tip();
        let (status, receiver) =
            watch::channel(BftStatus { height, round: 0, idle: false, last_progress: now, last_message: now });
        let app = Self {
            replica,
            chain_id: chain_id.to_owned(),
            engine,
            verifier: ChainVerifier::new(chain_id),
            assembly: Assembly::new(chain_id),
            status,
            height: 0,
            validated: BTreeSet::new(),
            held: None,
            seen: 0,
        };
        (app, receiver)
    }

    /// Serves the engine until `shutdown` or a failure, then stops it and waits for it.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Fatal> {
        let result = self.serve(&shutdown).await;
        // Unanswered questions would keep the engine's actors waiting.
        self.held = None;
        let Engine { mut channels, handle, network, listen, .. } = self.engine;
        let stopped = tokio::time::timeout(STOP, async {
            // Fails only if it has ended before.
            let _ = network.stop_and_wait(Some("shutdown".into()), None).await;
            handle.actor.stop(Some("shutdown".into()));
            let _ = handle.handle.await;
            while channels.consensus.recv().await.is_some() {}
            while TcpListener::bind(listen).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if stopped.await.is_err() {
            tracing::warn!("the consensus engine did not stop in time");
        }
        result
    }

    async fn serve(&mut self, shutdown: &CancellationToken) -> Result<(), Fatal> {
        let mut events = self.engine.channels.events.subscribe();
        let wake: Arc<Notify> = self.replica.wake();
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                message = self.engine.channels.consensus.recv() => {
                    let Some(message) = message else {
                        return Err(Fatal::Engine("its channel closed; the log above says why".into()));
                    };
                    let handled = self.handle(message).await;
                    // An engine that is being stopped refuses answers: no failure.
                    if handled.is_err() && shutdown.is_cancelled() {
                        return Ok(());
                    }
                    handled?;
                }
                event = events.recv() => match event {
                    Ok(Event::Received(message)) => self.see(&message)?,
                    // A vote that is missed here is sent again.
                    Ok(_) | Err(_) => {}
                },
                () = wake.notified() => {}
                _ = poll.tick() => {}
            }
            self.start_next()?;
        }
    }

    async fn handle(&mut self, message: AppMsg<BftContext>) -> Result<(), Fatal> {
        self.status.send_modify(|s| s.last_message = Instant::now());
        match message {
            AppMsg::ConsensusReady { reply } => {
                let next = Height(self.replica.tip() + 1);
                answer(reply, (next, self.params()?))
            }
            AppMsg::StartedRound { height, round, reply_value, .. } => {
                let values = self.started(height.0, number(round)?)?;
                answer(reply_value, values)
            }
            AppMsg::GetValue { height, round, reply, .. } => self.propose(height.0, number(round)?, reply).await,
            AppMsg::ReceivedProposalPart { part, reply, .. } => {
                let value = match part.content.into_data() {
                    Some(part) => self.receive(part)?,
                    None => None,
                };
                answer(reply, value)
            }
            AppMsg::RestreamProposal { height, round, valid_round, value_id, .. } => {
                self.restream(height.0, number(round)?, valid_round.as_u32(), value_id).await
            }
            AppMsg::Decided { certificate, reply, .. } => {
                let certificate = certificate::to_proto(&certificate)
                    .ok_or_else(|| Fatal::Engine("it decided in no round".into()))?;
                block_in_place(|| self.replica.commit(certificate))?;
                let tip = self.replica.tip();
                self.assembly.advance(tip);
                self.validated.clear();
                self.status.send_modify(|s| s.last_progress = Instant::now());
                answer(reply, ())
            }
            AppMsg::Finalized { reply, .. } => {
                // Answered by `start_next`, at once if there is work.
                self.held = Some((reply, Instant::now()));
                Ok(())
            }
            AppMsg::GetHistoryMinHeight { reply } => answer(reply, Height(self.replica.history_min())),
            AppMsg::GetDecidedValues { range, reply } => {
                let values = self.serve_decided(range.start().0, range.end().0)?;
                answer(reply, values)
            }
            AppMsg::ProcessSyncedValue { height, round, proposer, value_bytes, reply } => {
                let outcome = self.synced(height.0, number(round)?, proposer, value_bytes)?;
                answer(reply, outcome)
            }
            AppMsg::ExtendVote { reply, .. } => answer(reply, None),
            // There are none, so the list is empty; whatever came would carry nothing.
            AppMsg::VerifyVoteExtensions { extensions, reply, .. } => {
                answer(reply, extensions.into_iter().map(|(address, ())| (address, Ok(()))).collect())
            }
        }
    }

    /// Answers `Finalized` with the next height when there is a reason to have one.
    fn start_next(&mut self) -> Result<(), Fatal> {
        let Some((_, since)) = &self.held else { return Ok(()) };
        let tip = self.replica.tip();
        let reported =
            || since.elapsed() >= REPORTED_TIP_PAUSE && self.engine.codec.take_reported_tip() > tip;
        let now = Instant::now();
        if self.seen > tip || self.replica.has_work() || reported() {
            let params = self.params()?;
            self.status.send_modify(|s| (s.idle, s.last_progress) = (false, now));
            if let Some((reply, _)) = self.held.take() {
                return answer(reply, Next::Start(Height(tip + 1), params));
            }
        }
        self.status.send_modify(|s| (s.idle, s.last_progress, s.last_message) = (true, now, now));
        Ok(())
    }

    /// The engine shows every message before it checks it: a validator's vote or proposal for the next height means work.
    fn see(&mut self, message: &SignedConsensusMsg<BftContext>) -> Result<(), Fatal> {
        let (tip, height) = (self.replica.tip(), message.height().0);
        if height <= tip || height <= self.seen {
            return Ok(());
        }
        let validators = self.validators()?;
        if let SignedConsensusMsg::Vote(vote) = message {
            if validators.contains(&vote.message.address) && self.verifier.vote_holds(&vote.message, &vote.signature) {
                self.saw(height, tip);
            }
        }
        Ok(())
    }

    /// Bounded, so that one validator's absurd height can't start heights for ever.
    fn saw(&mut self, height: u64, tip: u64) {
        self.seen = self.seen.max(height.min(tip + 2));
    }

    /// A round starts: what we have for it.
    fn started(&mut self, height: u64, round: u32) -> Result<Vec<ProposedValue<BftContext>>, Fatal> {
        self.height = height;
        let now = Instant::now();
        self.status.send_modify(|s| {
            *s = BftStatus { height, round, idle: false, last_message: now, last_progress: if round == 0 { now } else { s.last_progress } };
        });
        let stored = block_in_place(|| self.replica.undecided(height, round))?;
        let mut values: Vec<_> = stored.iter().map(|c| value(c, Validity::Valid)).collect();
        self.validated.extend(stored.iter().map(|c| (c.round, c.hash)));
        for block in self.assembly.take(height) {
            values.extend(self.judge(block)?);
        }
        Ok(values)
    }

    async fn propose(
        &mut self,
        height: u64,
        round: u32,
        reply: Reply<LocallyProposedValue<BftContext>>,
    ) -> Result<(), Fatal> {
        let block = block_in_place(|| self.replica.build(height, round))?;
        if (block.height, block.round) != (height, round) {
            return Err(Fatal::Corrupt(format!("built a block for {}/{} instead of {height}/{round}", block.height, block.round)));
        }
        self.validated.insert((round, block.hash));
        answer(reply, LocallyProposedValue::new(Height(height), Round::new(round), BlockHash(block.hash)))?;
        self.publish(height, round, block.pol_round, block.hash, &block.bytes).await
    }

    fn receive(&mut self, part: ProposalPart) -> Result<Option<ProposedValue<BftContext>>, Fatal> {
        let (tip, height, publisher) = (self.replica.tip(), part.header.height, part.header.publisher);
        if height <= tip {
            return Ok(None);
        }
        match self.assembly.add(part, tip, &self.validators()?) {
            Added::Refused(reason) => {
                tracing::warn!(height, publisher = %publisher, reason, "refused a part of a block");
                return Ok(None);
            }
            Added::Taken => self.saw(height, tip),
            Added::Complete => self.saw(height, tip),
        }
        // A block for a later height waits in the assembly until its height starts.
        if height != self.height {
            return Ok(None);
        }
        // More than one only if several came in while the height was being started.
        let mut values = Vec::new();
        for block in self.assembly.take(height) {
            values.extend(self.judge(block)?);
        }
        Ok(values.pop())
    }

    /// Validates a complete block. `None` if there is nothing to say about it.
    fn judge(&mut self, block: Assembled) -> Result<Option<ProposedValue<BftContext>>, Fatal> {
        let h = block.header;
        let proposer = self.validators()?.proposer(h.height, h.round);
        if self.validated.contains(&(h.round, h.hash.0)) {
            return Ok(None);
        }
        let candidate = Candidate {
            height: h.height,
            round: h.round,
            pol_round: h.pol_round,
            proposer: proposer.0,
            hash: h.hash.0,
            bytes: block.bytes,
        };
        let fresh = h.pol_round.is_none();
        match block_in_place(|| self.replica.validate(&candidate, fresh))? {
            Verdict::Valid(hash) if hash == candidate.hash => {
                self.validated.insert((h.round, hash));
                Ok(Some(value(&candidate, Validity::Valid)))
            }
            Verdict::Valid(_) => Err(Fatal::Corrupt("a block was validated under another hash".into())),
            Verdict::Invalid(reason) => {
                tracing::warn!(height = h.height, round = h.round, publisher = %h.publisher, reason, "block is invalid");
                // Only its proposer can spoil a proposal: another's bytes may differ behind the same header.
                Ok((h.publisher == proposer).then(|| value(&candidate, Validity::Invalid)))
            }
        }
    }

    pub(super) fn validators(&self) -> Result<ValidatorSet, Fatal> {
        ValidatorSet::from_proto(&self.replica.validators()).map_err(|e| Fatal::Corrupt(format!("validator set: {e}")))
    }

    fn params(&self) -> Result<HeightParams<BftContext>, Fatal> {
        Ok(HeightParams::new(self.validators()?, self.engine.timeouts, None))
    }
}

/// What the engine is told about a block.
pub(super) fn value(c: &Candidate, validity: Validity) -> ProposedValue<BftContext> {
    ProposedValue {
        height: Height(c.height),
        round: Round::new(c.round),
        valid_round: c.pol_round.map_or(Round::Nil, Round::new),
        proposer: Address(c.proposer),
        value: BlockHash(c.hash),
        validity,
    }
}

fn number(round: Round) -> Result<u32, Fatal> {
    round.as_u32().ok_or_else(|| Fatal::Engine("it asked about no round".into()))
}
