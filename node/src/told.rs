//! What the others' ledgers name this node by, when they are ahead of its own.
//!
//! ```text
//! status of a peer: its height, and the asker's keys as its ledger has them ─▶ Told
//!   ─▶ those ahead of this node, with more than 1/3 of the power, agree for 2 s ─▶ in force
//!      ╲▶ a file holds the consensus peer key ─▶ the engine is reached under it: else nobody lets it catch up
//!       ╲▶ no file holds a key ─▶ not ready: `other-key`
//! ```
//! More than 1/3: somebody honest is among them. Only for how this node is reached, and for what it says of itself: what it signs
//! and votes with goes by its own ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use assent_proto::ledger::v1::ValidatorSet;

use crate::freshness::is_over_a_third;
use crate::members::Present;
use crate::own_keys::{named, Named, OwnKeys, Purpose};

/// The same has to be said for so long: a block that only this node lacks yet is no matter.
const LASTS: Duration = Duration::from_secs(2);

/// An organization's keys as a ledger names them, in the order of [`Purpose::ALL`]; what it has none of is empty.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Names {
    #[prost(bytes = "vec", repeated, tag = "1")]
    keys: Vec<Vec<u8>>,
}

impl Names {
    /// As this membership has them.
    pub fn of(present: &Present, organization: &str) -> Self {
        let key = |purpose| named(present, organization, purpose).map(|n| n.bytes().to_vec());
        Self { keys: Purpose::ALL.map(|purpose| key(purpose).unwrap_or_default()).to_vec() }
    }

    /// How a key is named.
    pub fn get(&self, purpose: Purpose) -> Option<Named<'_>> {
        Named::of(purpose, self.keys.get(purpose as usize).filter(|key| !key.is_empty())?)
    }
}

/// What is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// This node's keys.
    pub names: Names,
    /// Who says so.
    pub by: Vec<String>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By organization: its height, and what its ledger has.
    said: BTreeMap<String, (u64, Names)>,
    /// Of the last look, and when it was first so.
    last: Option<(Said, Instant)>,
    now: Arc<Said>,
}

/// What others tell. Cheap to clone; all clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<Mutex<Inner>>);

impl Told {
    /// At this height an organization's ledger names this node so.
    pub fn note(&self, organization: &str, height: u64, names: Names) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.said.insert(organization.to_owned(), (height, names));
    }

    /// What is in force.
    pub fn now(&self) -> Arc<Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now.clone()
    }

    /// Weighs what was said, for a node whose newest block is `tip`.
    pub fn look(&self, set: &ValidatorSet, tip: u64, now: Instant) -> Arc<Said> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = weighed(&inner.said, set, tip);
        let since = match &inner.last {
            Some((last, since)) if last.names == said.names => *since,
            _ => now,
        };
        if said.by.is_empty() || now.saturating_duration_since(since) >= LASTS {
            inner.now = Arc::new(said.clone());
        }
        inner.last = Some((said, since));
        inner.now.clone()
    }
}

/// What those agree on who are ahead and hold more than 1/3 of the power, the highest first.
fn weighed(said: &BTreeMap<String, (u64, Names)>, set: &ValidatorSet, tip: u64) -> Said {
    let mut ahead: Vec<(&u64, &Names)> =
        said.values().filter(|(height, _)| *height > tip).map(|(height, names)| (height, names)).collect();
    ahead.sort_by_key(|(height, _)| std::cmp::Reverse(**height));
    for (_, names) in ahead {
        let says = |o: &str| said.get(o).is_some_and(|(height, of)| *height > tip && of == names);
        if is_over_a_third(set, says) {
            let mut by: Vec<String> = set.validators.iter().map(|v| v.organization.clone()).collect();
            by.retain(|o| says(o));
            by.sort();
            return Said { names: names.clone(), by };
        }
    }
    Said::default()
}

/// Purposes for which the others name a key that no file holds, and this node's own ledger does not name.
pub fn missing(said: &Said, present: &Present, own: &str, keys: &OwnKeys) -> Vec<Purpose> {
    let lacks = |purpose: &Purpose| {
        let theirs = said.names.get(*purpose);
        theirs.is_some_and(|n| named(present, own, *purpose) != Some(n) && !keys.holds(*purpose, n))
    };
    Purpose::ALL.into_iter().filter(lacks).collect()
}

#[cfg(test)]
mod tests {
    use assent_ledger::keys::SigningKey;
    use assent_proto::ledger::v1::Validator;

    use super::*;
    use crate::bft::peer_id;
    use crate::members::tests::membership;

    fn names(n: u8) -> Names {
        let mut of = membership(&["a"], 1);
        of.organizations[0].entry_key = SigningKey::from_bytes(&[n; 32]).verifying_key().to_bytes().to_vec();
        of.organizations[0].consensus_peer_id = peer_id(&[n; 32]);
        Names::of(&Present { membership: of, since: 0 }, "a")
    }

    #[test]
    fn names_are_those_of_the_membership_and_survive_the_wire() {
        use prost::Message;
        let of = Names::decode(names(3).encode_to_vec().as_slice()).unwrap();
        assert_eq!(of.get(Purpose::ConsensusPeer), Some(Named::PeerId(&peer_id(&[3; 32]))));
        let entry = SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes();
        assert_eq!(of.get(Purpose::Entry), Some(Named::Key(&entry)));
        assert_eq!(of.get(Purpose::Checkpoint), None);
        // An older peer says nothing, a stranger has none, and what is no text is no peer id.
        assert_eq!(Names::default().get(Purpose::Entry), None);
        assert_eq!(Names { keys: vec![vec![0xff]; 5] }.get(Purpose::ConsensusPeer), None);
        let stranger = Present { membership: membership(&["a"], 1), since: 0 };
        assert!(Purpose::ALL.iter().all(|p| Names::of(&stranger, "z").get(*p).is_none()));
    }

    #[test]
    fn more_than_a_third_that_are_ahead_have_to_agree_for_two_seconds() {
        let seat = |n: u8| Validator { organization: format!("o{n}"), vote_key: vec![n; 32], power: 1 };
        let set = ValidatorSet { validators: (0..4).rev().map(seat).collect(), ..Default::default() };
        let (told, begin) = (Told::default(), Instant::now());
        let by = |tip, second| told.look(&set, tip, begin + Duration::from_secs(second)).by.clone();
        told.note("o1", 9, names(1));
        told.note("a stranger", 99, names(1));
        assert!(by(5, 0).is_empty() && by(5, 9).is_empty(), "one of four may lie");
        told.note("o2", 8, names(1));
        told.note("o3", 7, names(2));
        assert!(by(5, 10).is_empty() && by(5, 11).is_empty());
        assert_eq!(by(5, 12), ["o1", "o2"]);
        assert_eq!(told.now().names, names(1));
        // Something else, said by as many: two seconds again.
        told.note("o2", 10, names(2));
        assert_eq!((by(5, 13), by(5, 14)), (vec!["o1".into(), "o2".into()], vec!["o1".into(), "o2".into()]));
        assert_eq!((by(5, 15), told.now().names.clone()), (vec!["o2".into(), "o3".into()], names(2)));
        // Nobody is ahead any more: this node's own ledger says it all, at once.
        assert!(by(10, 15).is_empty() && told.now().names == Names::default());
    }

    #[test]
    fn what_no_file_holds_and_only_the_others_name_is_missing() {
        let keys = OwnKeys::from(SigningKey::from_bytes(&[1; 32]));
        let mut of = membership(&["a"], 1);
        of.organizations[0].entry_key = SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes().to_vec();
        of.organizations[0].consensus_peer_id = peer_id(&[1; 32]);
        let present = Present { membership: of, since: 0 };
        let said = |n| Said { names: names(n), by: vec!["b".into()] };
        assert!(missing(&said(1), &present, "a", &keys).is_empty(), "its own ledger says the same");
        assert_eq!(missing(&said(2), &present, "a", &keys), [Purpose::Entry, Purpose::ConsensusPeer]);
        assert!(missing(&Said::default(), &present, "a", &keys).is_empty());
    }
}
