//! Calls of clients: a request to some validator, a retry of one whose outcome is unknown, and what validators tell of entries.

use std::rc::Rc;

use assent_ledger::entry::check_entry;
use assent_ledger::Hash;
use assent_node::chain::mempool::{dead, Admitted};
use assent_node::chain::replica::Outcome;
use assent_node::order::Fatal;
use rand::seq::SliceRandom;
use rand::Rng;

use super::clients::{State, Wish};
use super::consortium::CHAIN;
use super::engine::Message;
use super::world::{broken, Event, World};
use super::Broken;

/// An entry and its name.
type Signed = (Hash, Rc<Vec<u8>>);

fn failed<T>(fatal: Fatal) -> Result<T, Broken> {
    broken("no failure", fatal.to_string())
}

impl World {
    /// A client calls, and the next one will.
    pub(super) fn client(&mut self) -> Result<(), Broken> {
        if self.healed {
            return Ok(());
        }
        let pause = self.rng.gen_range(1..2 * self.plan.pause_ms);
        self.at(self.now + pause, Event::Client);
        let requests = self.clients.requests.iter().enumerate();
        let open: Vec<usize> = requests.filter(|(_, r)| r.state == State::Open).map(|(i, _)| i).collect();
        match open.choose(&mut self.rng) {
            Some(request) if self.rng.gen_ratio(1, 3) => self.retry(*request),
            _ => {
                let request = self.clients.wish(&mut self.rng, self.plan.nodes, self.plan.governs);
                self.first_entry(request)
            }
        }
    }

    /// After healing: something nobody else writes to.
    pub(super) fn submit_probe(&mut self, who: usize) -> Result<Hash, Broken> {
        let request = self.clients.add(who, vec![Wish::Consent(u8::MAX)]);
        let entry = self.signed(request, 120_000, false)?;
        match entry {
            Some((hash, entry)) => self
                .offer(who, hash, &entry)?
                .map(|()| hash)
                .ok_or_else(|| Broken { invariant: "liveness", what: "a new write is refused".into() }),
            None => broken("liveness", format!("validator {who} does not run, or has no key")),
        }
    }

    /// Signs at the author's node, with what that node shows.
    fn signed(&mut self, request: usize, life_ms: u64, wrong: bool) -> Result<Option<Signed>, Broken> {
        let author = self.clients.requests[request].author;
        self.validators[author].set_clock(&self.consortium, self.now);
        let Some(running) = &self.validators[author].running else { return Ok(None) };
        let view = running.store.view().or_else(failed)?;
        // As `Submitter::sign` does.
        let until = running.mempool.ledger_ms(&view.tip) + life_ms;
        let entry = self.clients.sign(&self.consortium, &mut self.rng, request, &view, until, wrong);
        let Some(entry) = entry.or_else(failed)? else { return Ok(None) };
        Ok(Some((assent_ledger::entry::entry_hash(CHAIN, &entry), entry)))
    }

    /// An entry for a request, offered to the author's node. One that it refuses was seen by nobody else.
    fn first_entry(&mut self, request: usize) -> Result<(), Broken> {
        let life_ms = *[2_000, 20_000, 120_000].choose(&mut self.rng).unwrap_or(&0);
        let wrong = self.rng.gen_ratio(1, 12);
        let Some((hash, entry)) = self.signed(request, life_ms, wrong)? else { return Ok(()) };
        let author = self.clients.requests[request].author;
        if self.offer(author, hash, &entry)?.is_none() {
            self.clients.forget_last(request);
        }
        Ok(())
    }

    /// The same bytes again, to the author's node or to another. When its own node says that they can never be committed, and only
    /// then, new ones are signed.
    fn retry(&mut self, request: usize) -> Result<(), Broken> {
        let author = self.clients.requests[request].author;
        let Some((hash, entry)) = self.clients.requests[request].entries.last().cloned() else {
            return self.first_entry(request);
        };
        if self.clients.refused.contains_key(&hash) {
            self.note_entry(author, "signs again", &hash, "");
            return self.first_entry(request);
        }
        if self.rng.gen_ratio(1, 3) {
            let who = self.rng.gen_range(0..self.plan.nodes);
            return self.offer(who, hash, &entry).map(drop);
        }
        if self.offer(author, hash, &entry)?.is_none() {
            if let Some(reason) = self.is_dead(author, &entry)? {
                self.refuse(author, hash, reason);
            }
        }
        Ok(())
    }

    /// As `Submitter::is_dead` does: why, if so.
    fn is_dead(&mut self, who: usize, entry: &[u8]) -> Result<Option<String>, Broken> {
        let Some(running) = &self.validators[who].running else { return Ok(None) };
        let view = running.store.view().or_else(failed)?;
        let Ok(checked) = check_entry(CHAIN, entry) else { return broken("no failure", "a malformed entry") };
        if view.entry_place(&checked.hash).or_else(failed)?.is_some() {
            return Ok(None);
        }
        Ok(dead(&view, &checked).or_else(failed)?.map(|error| error.reason().to_owned()))
    }

    /// Offers an entry to a validator: none when it does not run, or does not take it.
    fn offer(&mut self, who: usize, hash: Hash, entry: &Rc<Vec<u8>>) -> Result<Option<()>, Broken> {
        self.validators[who].set_clock(&self.consortium, self.now);
        let Some(running) = &self.validators[who].running else { return Ok(None) };
        let admitted = running.mempool.admit(&running.store, CHAIN, entry);
        let place = running.store.entry_place(&hash).or_else(failed)?;
        match admitted {
            Ok((_, Admitted::Committed)) => {
                if let Some(place) = place {
                    self.tell(who, hash, place.height)?;
                }
                Ok(Some(()))
            }
            Ok((_, Admitted::Waiting)) => {
                self.note_entry(who, "takes", &hash, "");
                if self.tells_early() {
                    self.clients.acknowledged.entry(hash).or_default();
                }
                self.queue_resend(who, hash, entry.clone());
                self.broadcast(who, &Message::Entry(entry.clone()));
                self.drive(who, |engine, now| engine.receive(now, who, Message::Entry(entry.clone())))?;
                Ok(Some(()))
            }
            Err(error) => {
                self.note_entry(who, "turns away", &hash, &error.to_string());
                Ok(None)
            }
        }
    }

    /// What a validator tells those who wait.
    pub(super) fn hear(&mut self, who: usize) -> Result<(), Broken> {
        loop {
            let Some(running) = &mut self.validators[who].running else { return Ok(()) };
            match running.outcomes.try_recv() {
                Ok(Outcome::Committed(hash, height)) => self.tell(who, hash, height)?,
                Ok(Outcome::Dropped(hash, error)) => {
                    let request = self.clients.by_entry.get(&hash).map(|r| &self.clients.requests[*r]);
                    // Others drop what they may be sent again; only the author's own node speaks for good.
                    if request.is_some_and(|request| request.author == who) {
                        self.refuse(who, hash, error.reason().to_owned());
                    }
                }
                Err(_) => return Ok(()),
            }
        }
    }

    fn refuse(&mut self, who: usize, hash: Hash, reason: String) {
        self.note_entry(who, "gives up", &hash, &reason);
        self.clients.refused.insert(hash, reason);
    }

    fn tell(&mut self, who: usize, hash: Hash, height: u64) -> Result<(), Broken> {
        let told = *self.clients.acknowledged.entry(hash).or_default().get_or_insert(height);
        if told != height {
            return broken("acknowledged", format!("validator {who} tells {height}, another told {told}"));
        }
        if let Some(request) = self.clients.by_entry.get(&hash) {
            self.clients.requests[*request].state = State::Committed(height);
        }
        self.note_entry(who, "tells", &hash, &height.to_string());
        Ok(())
    }
}
