//! At most once: an entry stands in the log once, a sequence number of an organization too, and of the entries that were signed for
//! one request one. What its author's node gave up as dead, so that the request may be signed again, never comes.

use std::collections::{BTreeMap, BTreeSet};

use assent_ledger::Hash;

use super::log::{self, Logged};
use crate::simulation::keys::short;
use crate::simulation::world::World;

pub fn check(world: &World) -> Result<(), String> {
    let store = world.stores().next().ok_or("no validator")?;
    let refused = world.clients.refused.keys().copied().collect();
    once(&log::read(store)?, &world.clients.by_entry, &refused)
}

fn once(log: &[Logged], request_of: &BTreeMap<Hash, usize>, refused: &BTreeSet<Hash>) -> Result<(), String> {
    let (mut entries, mut sequences, mut requests) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for Logged { height, hash, body } in log {
        let name = format!("entry {} at height {height}", short(hash));
        if !entries.insert(hash) {
            return Err(format!("{name} stands in the log twice"));
        }
        if !sequences.insert((&body.author, body.sequence)) {
            return Err(format!("{name}: {} used number {} before", body.author, body.sequence));
        }
        let request = request_of.get(hash).ok_or_else(|| format!("{name}: nobody signed it"))?;
        if !requests.insert(request) {
            return Err(format!("{name}: request {request} took effect before"));
        }
        if refused.contains(hash) {
            return Err(format!("{name} was refused for good"));
        }
    }
    Ok(())
}

#[test]
fn whatever_comes_twice_is_found() {
    let entry = |hash: u8, sequence| Logged {
        height: 1,
        hash: [hash; 32],
        body: assent_proto::ledger::v1::EntryBody { author: "a".into(), sequence, ..Default::default() },
    };
    let requests: BTreeMap<Hash, usize> = [([1; 32], 1), ([2; 32], 2), ([3; 32], 2)].into();
    let refused = BTreeSet::from([[9; 32]]);
    let judge = |log: &[Logged]| once(log, &requests, &refused);
    assert!(judge(&[entry(1, 1), entry(2, 2)]).is_ok());
    assert!(judge(&[entry(1, 1), entry(1, 2)]).unwrap_err().contains("twice"));
    assert!(judge(&[entry(1, 1), entry(2, 1)]).unwrap_err().contains("number 1"));
    assert!(judge(&[entry(2, 1), entry(3, 2)]).unwrap_err().contains("request 2"));
    assert!(judge(&[entry(4, 1)]).unwrap_err().contains("nobody"));
    assert!(once(&[entry(1, 1)], &requests, &[[1; 32]].into()).unwrap_err().contains("refused"));
}
