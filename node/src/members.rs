//! Who is a member now: the membership after this node's newest block, for everything that talks to others or checks what they
//! sign.
//!
//! ```text
//! commit ─▶ Members ─▶ exchange swarm, consensus peers, gRPC authorities, gossip, own keys, status
//! ```
//! Replaced before the new tip is told: whoever hears of a block finds the members that it made.

use std::fmt;
use std::sync::Arc;

use assent_ledger::keys::PublicKey;
use assent_proto::ledger::v1::{Membership, Organization, Validator};
use tokio::sync::watch;

/// The members as of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Present {
    /// As the state has it: what holds at the next height.
    pub membership: Membership,
    /// Block that made it so; 0 is genesis.
    pub since: u64,
}

/// What an organization is on this ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Votes.
    Validator,
    /// Is to vote once it says that it is ready.
    Joining,
    /// Follows and submits entries, without a vote.
    Observer,
    /// No member, as of this node's newest block.
    Stranger,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Validator => "validator",
            Self::Joining => "joining",
            Self::Observer => "observer",
            Self::Stranger => "not a member",
        })
    }
}

impl Present {
    /// A member.
    pub fn organization(&self, id: &str) -> Option<&Organization> {
        self.membership.organizations.iter().find(|o| o.id == id)
    }

    /// Key that a member's signatures are checked with; none of a stranger, and none while it is suspended.
    pub fn entry_key(&self, id: &str) -> Option<PublicKey> {
        self.organization(id)?.entry_key.as_slice().try_into().ok()
    }

    /// Those that vote at the next height.
    pub fn validators(&self) -> &[Validator] {
        self.membership.validators.as_ref().map_or(&[], |set| &set.validators)
    }

    /// Key that a member votes with, or will once it is ready.
    pub fn vote_key(&self, id: &str) -> Option<&[u8]> {
        let mut seats = self.validators().iter().chain(&self.membership.joining);
        seats.find(|v| v.organization == id).map(|v| v.vote_key.as_slice())
    }

    /// Organizations with a vote, but for one.
    pub fn other_validators(&self, own: &str) -> Vec<String> {
        let others = self.validators().iter().filter(|v| v.organization != own);
        others.map(|v| v.organization.clone()).collect()
    }

    /// Members but for one.
    pub fn others<'a>(&'a self, own: &'a str) -> impl Iterator<Item = &'a Organization> {
        self.membership.organizations.iter().filter(move |o| o.id != own)
    }

    /// What an organization is.
    pub fn role(&self, id: &str) -> Role {
        let among = |seats: &[Validator]| seats.iter().any(|v| v.organization == id);
        match () {
            () if self.organization(id).is_none() => Role::Stranger,
            () if among(self.validators()) => Role::Validator,
            () if among(&self.membership.joining) => Role::Joining,
            () => Role::Observer,
        }
    }

    /// True when these organizations together have more than 2/3 of the power.
    pub fn is_quorum(&self, organizations: &[String]) -> bool {
        let power = |all: bool| -> u128 {
            let counted = self.validators().iter().filter(|v| all || organizations.contains(&v.organization));
            counted.map(|v| u128::from(v.power)).sum()
        };
        power(false) * 3 > power(true) * 2
    }
}

/// The present members. Cheap to clone; all clones see the same.
#[derive(Debug, Clone)]
pub struct Members(Arc<watch::Sender<Arc<Present>>>);

impl Members {
    /// As a block made them.
    pub fn new(membership: Membership, since: u64) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(Present { membership, since }))))
    }

    /// A block changed them.
    pub fn replace(&self, membership: Membership, since: u64) {
        self.0.send_replace(Arc::new(Present { membership, since }));
    }

    /// As they are now.
    pub fn present(&self) -> Arc<Present> {
        self.0.borrow().clone()
    }

    /// Every change, or at least the newest.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Present>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use assent_proto::ledger::v1::ValidatorSet;

    use super::*;

    /// Members a, b, c, ... with keys of their number; the first `voting` vote.
    pub(crate) fn membership(names: &[&str], voting: usize) -> Membership {
        let organization = |(n, id): (usize, &&str)| Organization {
            id: (*id).into(),
            entry_key: vec![n as u8 + 1; 32],
            ..Default::default()
        };
        let seat = |(n, id): (usize, &&str)| Validator {
            organization: (*id).into(),
            vote_key: vec![n as u8 + 101; 32],
            power: 1,
        };
        Membership {
            validators: Some(ValidatorSet {
                validators: names.iter().enumerate().take(voting).map(seat).collect(),
                ..Default::default()
            }),
            organizations: names.iter().enumerate().map(organization).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn roles_keys_and_quorums_are_those_of_the_newest_block() {
        let members = Members::new(membership(&["a", "b", "c", "d"], 3), 0);
        let mut seen = members.subscribe();
        let present = members.present();
        assert_eq!(
            (present.role("a"), present.role("d"), present.role("e")),
            (Role::Validator, Role::Observer, Role::Stranger)
        );
        assert_eq!((present.entry_key("b"), present.entry_key("e")), (Some([2; 32]), None));
        assert_eq!((present.vote_key("c"), present.vote_key("d")), (Some(&[103; 32][..]), None));
        assert_eq!(present.other_validators("b"), ["a", "c"]);
        let two = ["a".to_owned(), "b".to_owned()];
        assert!(!present.is_quorum(&two) && !present.is_quorum(&["d".to_owned()]));

        let mut next = membership(&["a", "b", "d"], 2);
        next.organizations[1].entry_key.clear();
        next.joining = vec![Validator { organization: "d".into(), vote_key: vec![9; 32], power: 1 }];
        members.replace(next, 7);
        assert!(seen.has_changed().unwrap() && seen.borrow_and_update().since == 7);
        let present = members.present();
        assert_eq!((present.role("c"), present.role("d")), (Role::Stranger, Role::Joining));
        // Suspended: nothing that it signed holds.
        assert_eq!((present.entry_key("b"), present.vote_key("d")), (None, Some(&[9; 32][..])));
        assert!(present.is_quorum(&two) && !present.is_quorum(&two[..1]));
    }
}
