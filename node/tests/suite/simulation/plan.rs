//! What a seed stands for: how many validators, how bad the network and the clocks are, and which faults come when.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::governors::Governors;
use super::Bug;

/// Clocks are that right, if nothing is wrong with them.
const SKEW_MS: i64 = 500;

/// Something goes wrong, or well again.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Loses everything in memory.
    Crash(usize),
    /// The same in the midst of work: at the n-th boundary of a call of the replica, before or after the write.
    CrashWithin(usize, u32),
    Restart(usize),
    /// Only validators of the same group hear each other.
    Split(Vec<u8>),
    /// One direction of one link is dead.
    Cut(usize, usize),
    /// All links are whole.
    Join,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub bug: Bug,
    /// Nodes, all of organizations of genesis.
    pub nodes: usize,
    /// The last of them, that have no vote at genesis.
    pub observers: usize,
    /// The members change: who votes, and which keys serve them.
    pub governs: bool,
    /// These send what they like.
    pub byzantine: Vec<usize>,
    pub delay_ms: std::ops::Range<u64>,
    /// Of 100 messages.
    pub lost: u32,
    pub doubled: u32,
    /// Wall clock of each validator, against virtual time.
    pub skew_ms: Vec<i64>,
    /// By virtual time.
    pub faults: Vec<(u64, Fault)>,
    /// Mean time between two clients' calls.
    pub pause_ms: u64,
    /// Then everything heals.
    pub heal_ms: u64,
}

impl Plan {
    pub fn new(seed: u64, bug: Bug) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let voters = if rng.gen_ratio(1, 10) { 7 } else { 4 };
        let governs = rng.gen_ratio(1, 4);
        let observers = if governs { rng.gen_range(0..2) } else { 0 };
        let nodes = voters + observers;
        let quick = rng.gen_range(1..20);
        let mut plan = Self {
            seed,
            bug,
            nodes,
            observers,
            governs,
            byzantine: Vec::new(),
            delay_ms: quick..quick + *[5, 50, 300].choose(rng).unwrap_or(&5),
            lost: *[0, 2, 10, 30].choose(rng).unwrap_or(&0),
            doubled: *[0, 10].choose(rng).unwrap_or(&0),
            skew_ms: (0..nodes).map(|_| rng.gen_range(-SKEW_MS..SKEW_MS)).collect(),
            faults: Vec::new(),
            // A change takes several of them.
            pause_ms: if governs { rng.gen_range(80..250) } else { rng.gen_range(150..600) },
            heal_ms: rng.gen_range(6_000..14_000),
        };
        if rng.gen_ratio(1, 5) {
            plan.byzantine.push(rng.gen_range(0..nodes));
        }
        if rng.gen_ratio(1, 5) {
            // An hour, ten years, ten minutes: ahead or behind.
            let far = *[3_600_000, 315_360_000_000, 600_000].choose(rng).unwrap_or(&0);
            // At most one in four is not to be relied on.
            let who = rng.gen_range(0..nodes);
            let who = plan.byzantine.first().copied().unwrap_or(who);
            plan.skew_ms[who] = if rng.gen() { far } else { -far };
        }
        for _ in 0..rng.gen_range(0..6) {
            plan.trouble(rng);
        }
        if bug != Bug::None {
            plan.worsen(rng);
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// No liar, and its clock is right.
    pub fn steadiest(&self) -> usize {
        let right = |who: &usize| (self.byzantine.contains(who), self.skew_ms[*who].abs());
        (0..self.nodes).min_by_key(right).unwrap_or_default()
    }

    /// A set of four bears one that is not to be relied on, a set of three none.
    pub fn governors(&self) -> Governors {
        let relied_on = self.byzantine.is_empty() && self.skew_ms.iter().all(|ms| ms.abs() <= SKEW_MS);
        Governors::new(self.steadiest(), if relied_on { 3 } else { 4 }, self.nodes - self.observers)
    }

    /// Weather in which a bug shows within a few seeds.
    fn worsen(&mut self, rng: &mut StdRng) {
        (self.lost, self.delay_ms, self.pause_ms) = (30, 1..300, 100);
        self.byzantine.clear();
        self.governs = self.bug == Bug::KeepsOldSet;
        self.skew_ms.fill(0);
        match self.bug {
            Bug::TwoCollude => self.byzantine = vec![0, 1],
            Bug::LosesLog => (0..8).for_each(|_| self.crash_all(rng)),
            Bug::ForgetsLock => (0..8).for_each(|_| self.mute(rng)),
            _ => {}
        }
    }

    /// One that hears everybody, and nobody hears it: it decides alone.
    fn mute(&mut self, rng: &mut StdRng) {
        let (at, who) = (rng.gen_range(0..self.heal_ms), rng.gen_range(0..self.nodes));
        let others = (0..self.nodes).filter(|other| *other != who);
        self.faults.extend(others.map(|other| (at, Fault::Cut(who, other))));
        self.faults.push((at + rng.gen_range(1_000..4_000), Fault::Join));
    }

    fn crash_all(&mut self, rng: &mut StdRng) {
        let at = rng.gen_range(0..self.heal_ms);
        for who in 0..self.nodes {
            let back = at + rng.gen_range(50..3_000);
            self.faults.extend([(at, Fault::Crash(who)), (back, Fault::Restart(who))]);
        }
    }

    fn trouble(&mut self, rng: &mut StdRng) {
        let at = rng.gen_range(0..self.heal_ms);
        let until = at + rng.gen_range(50..4_000);
        let who = rng.gen_range(0..self.nodes);
        match rng.gen_range(0..10) {
            0..=1 => self.faults.extend([(at, Fault::Crash(who)), (until, Fault::Restart(who))]),
            2..=5 => {
                let boundary = rng.gen_range(1..12);
                self.faults.extend([(at, Fault::CrashWithin(who, boundary)), (until, Fault::Restart(who))]);
            }
            6 => self.crash_all(rng),
            7..=8 => {
                let groups = (0..self.nodes).map(|_| rng.gen_range(0..2)).collect();
                self.faults.extend([(at, Fault::Split(groups)), (until, Fault::Join)]);
            }
            _ => {
                let deaf = rng.gen_range(0..self.nodes);
                self.faults.extend([(at, Fault::Cut(who, deaf)), (until, Fault::Join)]);
            }
        }
    }
}
