//! How a story ends: everything heals, a new write must come through, the ledger must fall quiet, all must stand at one height, and then
//! the log is looked at.

use std::collections::BTreeSet;

use assent_ledger::entry::CheckedEntry;
use assent_ledger::Hash;
use assent_node::chain::Store;
use assent_proto::ledger::v1::Block;
use prost::Message;

use super::invariants::{liveness, quiet, AT_END};
use super::plan::Fault;
use super::world::{broken, Event, World};
use super::{Broken, Bug};

/// The write that must come through is made this long after healing.
const PROBE_AFTER_MS: u64 = 1_000;
/// After it has come through, all have this long to stand at the same height.
const SETTLE_MS: u64 = 15_000;

impl World {
    /// Everybody runs and hears everybody from here on. Clocks stay as they are, and liars lie.
    pub(super) fn heal(&mut self) -> Result<(), Broken> {
        self.fault(Fault::Join)?;
        self.healed = true;
        for who in 0..self.validators.len() {
            self.validators[who].light_fuse(0);
            self.start(who)?;
        }
        self.at(self.now + PROBE_AFTER_MS, Event::Probe);
        Ok(())
    }

    pub(super) fn probe(&mut self) -> Result<(), Broken> {
        let who = self.plan.steadiest();
        let hash = self.submit_probe(who)?;
        let tip = self.highest();
        self.at(self.now + liveness::LIMIT_MS, Event::Bound { hash, tip });
        Ok(())
    }

    fn is_empty(&self, height: u64) -> bool {
        let block = self.stores().find_map(|store| store.block(height).ok().flatten());
        block.and_then(|b| Block::decode(b.as_slice()).ok()).is_some_and(|b| b.entries.is_empty())
    }

    fn highest(&self) -> u64 {
        self.seen.iter().copied().max().unwrap_or_default()
    }

    /// The write must be everywhere, and the ledger quiet again.
    pub(super) fn bound(&mut self, hash: &Hash, tip: u64) -> Result<(), Broken> {
        let place = |store: &Store| store.entry_place(hash).ok().flatten().map(|p| p.height);
        let places: Vec<_> = self.stores().map(place).collect();
        liveness::check(&places).or_else(|what| broken("liveness", what))?;
        if self.plan.bug == Bug::None {
            let empty = (tip + 1..=self.highest()).filter(|height| self.is_empty(*height)).count();
            let quiet = quiet::check(empty as u64, liveness::LIMIT_MS);
            quiet.or_else(|what| broken("quiet", format!("{what}; {}", self.waiting())))?;
        }
        self.at(self.now, Event::Settled(self.now + SETTLE_MS));
        Ok(())
    }

    /// What waits in which validator's mempool.
    fn waiting(&self) -> String {
        let all = self.validators.iter().filter_map(|v| Some((v.me, v.running.as_ref()?)));
        let each = all.flat_map(|(who, running)| {
            let told = move |e: CheckedEntry| format!("at {who}: {:?}", e.body);
            running.mempool.select().into_iter().map(told)
        });
        each.collect::<Vec<_>>().join("; ")
    }

    /// All at one height: the last invariants are looked at.
    pub(super) fn settled(&mut self, until: u64) -> Result<(), Broken> {
        let tips: BTreeSet<u64> = self.stores().filter_map(|s| s.tip().ok()).map(|tip| tip.height).collect();
        if tips.len() > 1 && self.now < until {
            self.at(self.now + 10, Event::Settled(until));
            return Ok(());
        }
        if tips.len() > 1 {
            return broken("liveness", format!("tips differ for {SETTLE_MS} ms: {tips:?}"));
        }
        for (name, check) in AT_END {
            check(self).or_else(|what| broken(name, what))?;
        }
        self.done = true;
        Ok(())
    }
}
