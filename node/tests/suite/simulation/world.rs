//! The simulated world: one thread, virtual time, a queue of events, a lossy network between the validators, and clients.
//!
//! ```text
//! Plan(seed) ─▶ faults ─┐
//! clients ──────────────┤─▶ queue ─▶ one event ─▶ Validator ─▶ outputs ─▶ network: late, lost, twice ─▶ queue
//! timers, ticks ────────┘                └─▶ invariants
//! ```
//! The only source of chance is one generator, made from the seed, so a seed is a whole story.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use assent_ledger::block::header_hash;
use assent_ledger::Hash;
use assent_node::chain::Store;
use assent_node::order::{Fatal, Replica};
use assent_proto::ledger::v1::Header;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::byzantine::Liar;
use super::clients::Clients;
use super::consortium::{Consortium, CHAIN};
use super::engine::{Engine, Message, Output, Timer};
use super::invariants::agreement::Agreement;
use super::invariants::one_proposal::OneProposal;
use super::invariants::sets::Sets;
use super::plan::{Fault, Plan};
use super::replica::{is_crash, Fused, Running, Validator};
use super::trace::Trace;
use super::{Broken, Bug};

/// Gossip and resending.
const TICK_MS: u64 = 250;

pub(super) enum Event {
    Deliver { from: usize, to: usize, message: Message },
    Timer { who: usize, life: u32, timer: Timer },
    Tick { who: usize, life: u32 },
    Client,
    Fault(Fault),
    Heal,
    Probe,
    Bound { hash: Hash, tip: u64 },
    Settled(u64),
}

pub struct World {
    pub consortium: Consortium,
    pub clients: Clients,
    pub trace: Trace,
    pub(super) plan: Plan,
    pub(super) rng: StdRng,
    pub(super) now: u64,
    pub(super) validators: Vec<Validator>,
    pub(super) queue: BTreeMap<(u64, u64), Event>,
    pub(super) events: u64,
    pub(super) groups: Vec<u8>,
    pub(super) cuts: BTreeSet<(usize, usize)>,
    pub(super) healed: bool,
    /// What the liars among them have told: they act as one.
    pub(super) liar: Liar,
    pub(super) agreement: Agreement,
    pub(super) proposals: OneProposal,
    pub(super) sets: Sets,
    /// Height up to which a validator's blocks were looked at.
    pub(super) seen: Vec<u64>,
    pub(super) done: bool,
    _folder: tempfile::TempDir,
}

pub(super) fn broken<T>(invariant: &'static str, what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken { invariant, what: what.into() })
}

impl World {
    pub fn new(plan: Plan, print: bool) -> Result<Self, Broken> {
        // Synced writes to memory: a crash here is the loss of a process, not of a disk.
        let memory = std::path::Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let folder = folder.map_err(|e| Broken { invariant: "set up", what: e.to_string() })?;
        let validators = (0..plan.nodes)
            .map(|me| Validator::new(me, plan.skew_ms[me], folder.path().join(me.to_string())))
            .collect();
        let consortium = Consortium::new(plan.nodes, plan.observers);
        let mut world = Self {
            sets: Sets::new(&consortium.genesis.validators),
            consortium,
            clients: Clients::new(plan.governors()),
            trace: Trace::new(print),
            rng: StdRng::seed_from_u64(!plan.seed),
            now: 0,
            validators,
            queue: BTreeMap::new(),
            events: 0,
            groups: vec![0; plan.nodes],
            cuts: BTreeSet::new(),
            healed: false,
            liar: Liar::default(),
            agreement: Agreement::default(),
            proposals: OneProposal::default(),
            seen: vec![0; plan.nodes],
            done: false,
            _folder: folder,
            plan,
        };
        world.trace.line(0, None, "plan", &format!("{:?}", world.plan));
        for who in 0..world.plan.nodes {
            world.start(who)?;
        }
        for (at, fault) in world.plan.faults.clone() {
            world.at(at, Event::Fault(fault));
        }
        world.at(world.plan.heal_ms, Event::Heal);
        world.at(0, Event::Client);
        Ok(world)
    }

    /// The stores of all validators. At the end all of them run.
    pub fn stores(&self) -> impl Iterator<Item = &Store> {
        self.validators.iter().filter_map(|v| v.running.as_ref().map(|r| &r.store))
    }

    /// Lives through the whole plan.
    pub fn run(&mut self) -> Result<(), Broken> {
        while !self.done {
            let Some(((at, _), event)) = self.queue.pop_first() else {
                return broken("liveness", "nothing happens any more");
            };
            self.now = at;
            self.handle(event)?;
        }
        let state = self.rng.gen::<u64>();
        self.trace.line(self.now, None, "end", &format!("{state:x} after {} events", self.events));
        Ok(())
    }

    pub(super) fn at(&mut self, at: u64, event: Event) {
        self.events += 1;
        self.queue.insert((at, self.events), event);
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::Timer { who, life, timer } if self.alive(who, life) => {
                self.drive(who, |engine, now| engine.timeout(now, timer))
            }
            Event::Tick { who, life } if self.alive(who, life) => self.tick(who),
            Event::Timer { .. } | Event::Tick { .. } => Ok(()),
            Event::Client => self.client(),
            Event::Fault(fault) => self.fault(fault),
            Event::Heal => self.heal(),
            Event::Probe => self.probe(),
            Event::Bound { hash, tip } => self.bound(&hash, tip),
            Event::Settled(until) => self.settled(until),
        }
    }

    fn alive(&self, who: usize, life: u32) -> bool {
        self.validators[who].running.is_some() && self.validators[who].life == life
    }

    /// Starts a validator on what it has on disk.
    pub(super) fn start(&mut self, who: usize) -> Result<(), Broken> {
        if self.validators[who].running.is_some() {
            return Ok(());
        }
        self.trace.line(self.now, Some(who), "starts", "");
        let started = self.validators[who].start(&self.consortium, self.plan.bug, self.now);
        started.or_else(|fatal| broken("no failure", format!("validator {who} does not start: {fatal}")))?;
        let life = self.validators[who].life;
        let first = self.now + self.rng.gen_range(0..TICK_MS);
        self.at(first, Event::Tick { who, life });
        self.drive(who, |_, _| Ok(()))
    }

    /// What a validator's state names after the heights that it has committed.
    fn look_at_members(&mut self, who: usize) -> Result<(), Broken> {
        for (height, members) in self.validators[who].take_named() {
            let changed = self.sets.named(height, &members).or_else(|what| broken("sets", what))?;
            if let Some(what) = changed {
                self.trace.line(self.now, None, what, &format!("from height {} on", height + 1));
            }
        }
        self.clients.governors.largest = self.sets.largest();
        Ok(())
    }

    fn crash(&mut self, who: usize) {
        if self.validators[who].running.is_some() {
            self.trace.line(self.now, Some(who), "crashes", "");
            self.validators[who].crash();
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) -> Result<(), Broken> {
        self.trace.line(self.now, None, "fault", &format!("{fault:?}"));
        match fault {
            // Healing brought it back for good.
            _ if self.healed => {}
            Fault::Crash(who) => self.crash(who),
            Fault::CrashWithin(who, boundary) => self.validators[who].light_fuse(boundary),
            Fault::Restart(who) => self.start(who)?,
            Fault::Split(groups) => self.groups = groups,
            Fault::Cut(from, to) => drop(self.cuts.insert((from, to))),
            Fault::Join => {
                self.groups.fill(0);
                self.cuts.clear();
            }
        }
        Ok(())
    }

    fn tick(&mut self, who: usize) -> Result<(), Broken> {
        let life = self.validators[who].life;
        self.at(self.now + TICK_MS, Event::Tick { who, life });
        if let Some(running) = &mut self.validators[who].running {
            let Running { resend, mempool, .. } = running;
            resend.retain(|(hash, _)| mempool.contains(hash));
            let again: Vec<_> = resend.iter().map(|(_, entry)| entry.clone()).collect();
            for entry in again {
                self.broadcast(who, &Message::Entry(entry));
            }
        }
        self.drive(who, |engine, now| engine.tick(now))
    }

    /// One call of a validator's engine, and all that comes of it.
    pub(super) fn drive(
        &mut self,
        who: usize,
        call: impl FnOnce(&mut Engine<Fused>, u64) -> Result<(), Fatal>,
    ) -> Result<(), Broken> {
        self.validators[who].set_clock(&self.consortium, self.now);
        let Some(running) = &mut self.validators[who].running else { return Ok(()) };
        let outcome = call(&mut running.engine, self.now);
        let outputs = running.engine.take_outputs();
        self.look_at_members(who)?;
        match outcome {
            Ok(()) => {}
            Err(fatal) if is_crash(&fatal) => {
                self.trace.line(self.now, Some(who), "breaks off", "");
                self.crash(who);
                return Ok(());
            }
            Err(fatal) => return broken("no failure", format!("validator {who}: {fatal}")),
        }
        for output in outputs {
            self.output(who, output)?;
        }
        self.look_at_tip(who)?;
        self.hear(who)
    }

    fn output(&mut self, who: usize, output: Output) -> Result<(), Broken> {
        match output {
            Output::Broadcast(message) => {
                if let Message::Proposal(proposal) = &message {
                    let one = self.proposals.proposed(&proposal.candidate);
                    one.or_else(|what| broken("one_proposal", what))?;
                }
                self.broadcast(who, &message);
            }
            Output::Send(to, message) => self.send(who, to, message),
            Output::Timer(after, timer) => {
                let life = self.validators[who].life;
                self.at(self.now + after, Event::Timer { who, life, timer });
            }
            Output::Note(what, detail) => self.trace.line(self.now, Some(who), what, &detail),
        }
        Ok(())
    }

    /// What a validator has committed since it was last looked at.
    fn look_at_tip(&mut self, who: usize) -> Result<(), Broken> {
        let Some(running) = &self.validators[who].running else { return Ok(()) };
        while self.seen[who] < running.engine.replica.tip() {
            let height = self.seen[who] + 1;
            let committed = running.store.view().and_then(|view| view.committed(height));
            let Ok(Some(committed)) = committed else {
                return broken("no failure", format!("validator {who} has no block {height}"));
            };
            let Header { round, proposer, .. } = &committed.header;
            let detail = format!("{height} built for round {round} by {}", super::keys::short(proposer));
            self.trace.line(self.now, Some(who), "has", &detail);
            let hash = header_hash(CHAIN, &committed.block.header);
            let voted =
                self.sets.voted(&self.consortium.signer, &hash, &committed.header, &committed.certificate);
            voted.or_else(|what| broken("sets", what))?;
            let agreed = self.agreement.commit(who, height, hash, committed.header.state_root);
            agreed.or_else(|what| broken("agreement", what))?;
            if committed.block.entries.is_empty() {
                self.trace.line(self.now, Some(who), "empty block", "");
            }
            self.seen[who] = height;
        }
        Ok(())
    }

    /// True where a bug tells clients too early.
    pub(super) fn tells_early(&self) -> bool {
        self.plan.bug == Bug::TellsEarly
    }

    /// Some entry, for the trace.
    pub(super) fn note_entry(&mut self, who: usize, what: &'static str, hash: &Hash, detail: &str) {
        let detail = format!("{} {detail}", super::keys::short(hash));
        self.trace.line(self.now, Some(who), what, &detail);
    }

    pub(super) fn queue_resend(&mut self, who: usize, hash: Hash, entry: Rc<Vec<u8>>) {
        if let Some(running) = &mut self.validators[who].running {
            if running.resend.iter().all(|(known, _)| *known != hash) {
                running.resend.push((hash, entry));
            }
        }
    }
}
