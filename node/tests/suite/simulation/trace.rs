//! What happened, line by line: hashed always, so that two runs of a seed can be compared; counted by kind, so that a simulation in
//! which nothing happens is noticed; printed when one seed is replayed.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

#[derive(Default)]
pub struct Trace {
    hasher: Sha256,
    print: bool,
    pub counts: BTreeMap<&'static str, u64>,
}

impl Trace {
    pub fn new(print: bool) -> Self {
        Self { print, ..Self::default() }
    }

    /// Something happened at a virtual time; to a validator, if `who` is one.
    pub fn line(&mut self, now: u64, who: Option<usize>, what: &'static str, detail: &str) {
        *self.counts.entry(what).or_default() += 1;
        let who = who.map_or_else(|| "-".to_owned(), |who| who.to_string());
        let line = format!("{now:>7} {who} {what} {detail}\n");
        self.hasher.update(&line);
        if self.print {
            eprint!("{line}");
        }
    }

    /// Names this very run.
    pub fn hash(&self) -> String {
        hex::encode(self.hasher.clone().finalize())
    }
}
