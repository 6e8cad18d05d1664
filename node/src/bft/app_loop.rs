//! One task that owns the engine's channels and answers them by asking the [`Replica`].
//!
//! ```text
//! StartedRound ─▶ stored and early blocks      GetValue ─▶ build, answer, publish parts
//! part ─▶ assembly ─▶ validate                 Decided ─▶ commit, answer
//! Finalized ─▶ answered when there is work: that is how an idle network makes no blocks
//! ```
//! The engine waits for every answer but those to Decided and Finalized, so none is held back otherwise.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use assent_ledger::Hash;
use malachite_app_channel::app::engine::host::Next;
use malachite_app_channel::app::engine::network::NetworkRef;
use malachite_app_channel::app::engine::util::events::Event;
use malachite_app_channel::app::types::core::{HeightParams, LinearTimeouts, Round, Validity};
use malachite_app_channel::app::types::ProposedValue;
use malachite_app_channel::{AppMsg, Channels, EngineHandle, Reply};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{watch, Notify};
use tokio::task::block_in_place;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::assembly::Assembly;
use super::certificate;
use super::codec::WireCodec;
use super::course::{Course, Watch};
use super::crypto::{ChainSigner, ChainVerifier};
use super::evidence::Witness;
use super::prevotes::Prevotes;
use super::types::{Address, BftContext, BlockHash, Height};
use super::validators::ValidatorSet;
use super::{BftConfig, BftStatus};
use crate::order::{Candidate, Fatal, Replica};

/// `has_work` is asked at least this often while idle.
const POLL: Duration = Duration::from_millis(250);
/// Who comes from the bench has this part of the usual time to propose: most often it is still away, and two of them may have their
/// turns one after the other.
const TRIAL_SHARE: u32 = 2;
/// Whether its own keys are still the right ones is looked at this often, and at every block.
const LOOK_AT_KEYS: Duration = Duration::from_secs(1);
/// The engine's actors have this long to stop.
const STOP: Duration = Duration::from_secs(10);
/// And this long after a failure: one that hangs never will.
const STOP_FAILED: Duration = Duration::from_secs(2);

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
    /// What it found out about prevotes.
    pub prevotes: Prevotes,
    /// Where it listens.
    pub listen: SocketAddr,
    /// For every height.
    pub timeouts: LinearTimeouts,
}

/// The task's state.
pub struct App<R> {
    pub(super) replica: R,
    pub(super) chain_id: String,
    /// What the engine was started with.
    config: BftConfig,
    pub(super) engine: Engine,
    pub(super) verifier: ChainVerifier,
    pub(super) assembly: Assembly,
    pub(super) status: watch::Sender<BftStatus>,
    /// Height that the engine works on, 0 before the first.
    pub(super) height: u64,
    /// Round of it.
    pub(super) round: u32,
    /// Blocks of this height that were validated, by round.
    pub(super) validated: BTreeSet<(u32, Hash)>,
    /// The question that is answered when there is work.
    pub(super) held: Option<(Reply<Next<BftContext>>, Instant)>,
    /// Last height whose block came by catching up.
    pub(super) synced: u64,
    /// Highest tip that a peer reports.
    pub(super) reported: u64,
    /// Highest height that a validator was seen to work on, at most the tip + 2.
    pub(super) seen: u64,
    /// Whether it votes.
    pub(super) watch: Watch,
    /// Hears who contradicts himself.
    witness: Witness,
    /// The course that it has to change to.
    turn: Option<Course>,
    /// The engine's own keys are no longer those of the ledger.
    rekeyed: bool,
}

/// Why an engine has ended, failures apart.
pub enum Ended {
    /// It was told to.
    Shutdown,
    /// The next one has another course.
    Turned(Course),
    /// The ledger names another own key from the next height on.
    Rekeyed,
}

/// What outlives an engine.
pub type Kept<R> = (R, Watch, watch::Sender<BftStatus>);

/// The engine no longer listens: it has stopped.
pub(super) fn answer<T>(reply: Reply<T>, value: T) -> Result<(), Fatal> {
    reply.send(value).map_err(|_| Fatal::Engine("it takes no answer any more".into()))
}

impl<R: Replica> App<R> {
    /// The task.
    pub fn new(
        config: &BftConfig,
        replica: R,
        engine: Engine,
        watch: Watch,
        status: watch::Sender<BftStatus>,
    ) -> Self {
        let votes = watch.votes(&replica.validators());
        status.send_replace(BftStatus { votes, ..BftStatus::new(replica.tip()) });
        let chain_id = config.chain_id.as_str();
        let witness = Witness::new(chain_id, config.evidence.clone(), replica.tip(), &replica.validators());
        Self {
            replica,
            chain_id: chain_id.to_owned(),
            config: config.clone(),
            engine,
            verifier: ChainVerifier::new(chain_id),
            assembly: Assembly::new(chain_id),
            status,
            height: 0,
            round: 0,
            validated: BTreeSet::new(),
            held: None,
            synced: 0,
            reported: 0,
            seen: 0,
            watch,
            witness,
            turn: None,
            rekeyed: false,
        }
    }

    /// Serves the engine until `shutdown`, another course or a failure, then stops it and waits for it.
    pub async fn run(mut self, shutdown: &CancellationToken) -> (Kept<R>, Result<Ended, Fatal>) {
        let result = self.serve(shutdown).await;
        if let Err(fatal) = &result {
            self.watch.fails(fatal);
        }
        self.status.send_modify(|s| s.votes = false);
        // Unanswered questions would keep the engine's actors waiting.
        self.held = None;
        let log = self.watch.log();
        let Engine { mut channels, handle, network, listen, .. } = self.engine;
        let stopped = tokio::time::timeout(if result.is_ok() { STOP } else { STOP_FAILED }, async {
            // Fails only if it has ended before.
            let _ = network.stop_and_wait(Some("shutdown".into()), None).await;
            handle.actor.stop(Some("shutdown".into()));
            let _ = handle.handle.await;
            while channels.consensus.recv().await.is_some() {}
            // The next engine of this process needs both; the log is closed by a thread that nobody can wait for.
            while TcpListener::bind(listen).is_err() || is_locked(&log) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if stopped.await.is_err() {
            tracing::warn!("the consensus engine did not stop in time");
        }
        ((self.replica, self.watch, self.status), result)
    }

    async fn serve(&mut self, shutdown: &CancellationToken) -> Result<Ended, Fatal> {
        let mut events = self.engine.channels.events.subscribe();
        let wake: Arc<Notify> = self.replica.wake();
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut keys = tokio::time::interval(LOOK_AT_KEYS);
        keys.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(Ended::Shutdown),
                message = self.engine.channels.consensus.recv() => {
                    let Some(message) = message else {
                        return Err(Fatal::Engine("its channel closed; the log above says why".into()));
                    };
                    let handled = self.handle(message).await;
                    // An engine that is being stopped refuses answers: no failure.
                    if handled.is_err() && shutdown.is_cancelled() {
                        return Ok(Ended::Shutdown);
                    }
                    handled?;
                }
                event = events.recv() => self.heard(event)?,
                () = wake.notified() => {}
                _ = poll.tick() => {}
                // No block has to come for it: an engine that nobody talks to gets none.
                _ = keys.tick() => self.look_at_keys(),
            }
            if let Some(course) = self.turn.take().or_else(|| self.watch.next(&self.replica)) {
                return Ok(Ended::Turned(course));
            }
            if self.rekeyed {
                return Ok(Ended::Rekeyed);
            }
            self.start_next()?;
        }
    }

    /// The engine tells what it does: a sign of life, a hint, or that its log is damaged.
    fn heard(&mut self, event: Result<Event<BftContext>, RecvError>) -> Result<(), Fatal> {
        self.status.send_modify(|s| s.last_message = Instant::now());
        match event {
            Ok(Event::Received(message)) => {
                self.witness.hears(&message);
                self.see(&message)
            }
            // Another process with this key may say otherwise.
            Ok(Event::Published(message)) => {
                self.witness.hears(&message);
                Ok(())
            }
            // It stands still from here on, by design.
            Ok(Event::WalCorrupted(error)) => Err(Fatal::Corrupt(format!("the engine's log: {error}"))),
            Ok(Event::WalReplayError(error)) => {
                Err(Fatal::Corrupt(format!("the engine's log contradicts the ledger: {error}")))
            }
            // What is missed here is sent again.
            _ => Ok(()),
        }
    }

    async fn handle(&mut self, message: AppMsg<BftContext>) -> Result<(), Fatal> {
        // Those two come from its synchronisation, which lives on when consensus has stopped.
        if !matches!(message, AppMsg::GetHistoryMinHeight { .. } | AppMsg::GetDecidedValues { .. }) {
            self.status.send_modify(|s| s.last_message = Instant::now());
        }
        match message {
            AppMsg::ConsensusReady { reply } => {
                let next = Height(self.replica.tip() + 1);
                answer(reply, (next, self.params()?))
            }
            AppMsg::StartedRound { height, round, reply_value, .. } => {
                let set = self.replica.validators();
                block_in_place(|| self.watch.round_starts(&set))?;
                let values = self.started(height.0, number(round)?)?;
                answer(reply_value, values)
            }
            AppMsg::GetValue { height, round, reply, .. } => {
                self.propose(height.0, number(round)?, reply).await
            }
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
                let by: Vec<_> = certificate.signatures.iter().map(|s| s.address.clone()).collect();
                block_in_place(|| self.replica.commit(certificate))?;
                let signed = self.engine.signer.signed_until();
                self.turn = self.watch.committed(self.replica.tip(), by, signed);
                self.look_at_keys();
                let tip = self.replica.tip();
                let votes = self.watch.votes(&self.replica.validators());
                self.assembly.advance(tip);
                self.witness.advance(tip, &self.replica.validators());
                self.engine.prevotes.advance(tip);
                self.validated.clear();
                self.status.send_modify(|s| (s.votes, s.last_progress) = (votes, Instant::now()));
                answer(reply, ())
            }
            AppMsg::Finalized { evidence, reply, .. } => {
                self.witness.told_by_engine(&evidence);
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

    fn look_at_keys(&mut self) {
        self.rekeyed = self.config.wiring.as_ref().is_some_and(|w| w.names_other_keys(&self.config));
    }

    pub(super) fn validators(&self) -> Result<ValidatorSet, Fatal> {
        let set = ValidatorSet::from_proto(&self.replica.validators())
            .map_err(|e| Fatal::Corrupt(format!("validator set: {e}")))?;
        Ok(set.with_proposers(&self.replica.proposers()))
    }

    pub(super) fn params(&self) -> Result<HeightParams<BftContext>, Fatal> {
        let mut timeouts = self.engine.timeouts;
        if self.replica.tries_again() {
            timeouts.propose /= TRIAL_SHARE;
        }
        Ok(HeightParams::new(self.validators()?, timeouts, None))
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

/// True while an engine has the log open.
fn is_locked(log: &Path) -> bool {
    File::open(log).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn number(round: Round) -> Result<u32, Fatal> {
    round.as_u32().ok_or_else(|| Fatal::Engine("it asked about no round".into()))
}
