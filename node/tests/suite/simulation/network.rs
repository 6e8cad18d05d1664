//! The network between the validators: late, lost, twice, out of order, apart; and what liars make of it.

use rand::Rng;

use super::consortium::CHAIN;
use super::engine::Message;
use super::world::{Event, World};
use super::Broken;

impl World {
    pub(super) fn deliver(&mut self, from: usize, to: usize, message: Message) -> Result<(), Broken> {
        self.validators[to].set_clock(&self.consortium, self.now);
        let Some(running) = &mut self.validators[to].running else { return Ok(()) };
        if let Message::Entry(entry) = &message {
            // Refused, or here already: its author sends it again while it waits.
            let _ = running.mempool.admit(&running.store, CHAIN, entry);
        }
        self.drive(to, |engine, now| engine.receive(now, from, message))
    }

    pub(super) fn broadcast(&mut self, from: usize, message: &Message) {
        for to in (0..self.validators.len()).filter(|to| *to != from) {
            self.send(from, to, message.clone());
        }
    }

    /// Late, lost, twice, and out of order. After healing, only late.
    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) {
        let apart = self.groups[from] != self.groups[to] || self.cuts.contains(&(from, to));
        let lost = !self.healed && self.rng.gen_ratio(self.plan.lost, 100);
        if apart || lost {
            return;
        }
        let Some(message) = self.twisted(from, to, message) else { return };
        let copies = 1 + u32::from(self.rng.gen_ratio(self.plan.doubled, 100));
        for _ in 0..copies {
            let at = self.now + self.rng.gen_range(self.plan.delay_ms.clone());
            self.at(at, Event::Deliver { from, to, message: message.clone() });
        }
    }

    fn twisted(&mut self, from: usize, to: usize, message: Message) -> Option<Message> {
        if !self.plan.byzantine.contains(&from) {
            return Some(message);
        }
        let Self { liar, plan, consortium, rng, .. } = self;
        liar.twist(&plan.byzantine, &self.validators[from], consortium, rng, to, message)
    }
}
