//! What organizations want of the membership: a step that is possible in their own node's view, drawn when it is signed.
//!
//! Observers come and go, nodes get and lose votes, vote and entry keys rotate, entry keys are suspended and come back by vote. Proposals are
//! approved by the others, each when a client of theirs comes to it.

use assent_ledger::governance::{handover_sign_bytes, present_key, ready_sign_bytes};
use assent_ledger::membership::membership;
use assent_ledger::peer_id::peer_id;
use assent_node::chain::View;
use assent_node::order::Fatal;
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::{
    AddOrganization, AddValidator, ApproveChange, KeyPurpose, Membership, Organization, ProposeChange,
    RemoveOrganization, RemoveValidator, ReplaceKey, RotateKey, SuspendEntryKey, ValidatorReady,
};
use prost::Message;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::Rng;

use super::consortium::{Consortium, CHAIN};

/// Heights that a change lies ahead at most.
const LEAD: u64 = 16;

/// What governors remember.
pub struct Governors {
    /// Its entry key is never touched: it writes what must come through at the end.
    pub steady: usize,
    /// The set may not become smaller: below four, nobody in it may be unreliable.
    pub least: usize,
    /// The largest set of any height so far.
    pub largest: usize,
    /// Removals of validators that were ever signed, whatever became of them.
    removals: usize,
    /// Keys and observers that were ever made.
    made: u64,
}

/// One who governs, and what it sees.
struct Governor<'a> {
    consortium: &'a Consortium,
    members: Membership,
    who: usize,
    name: &'a str,
    height: u64,
    rng: &'a mut StdRng,
    memory: &'a mut Governors,
}

impl Governors {
    pub fn new(steady: usize, least: usize, largest: usize) -> Self {
        Self { steady, least, largest, removals: 0, made: 0 }
    }

    /// Some step of an organization; none when its view suggests none.
    pub fn step(
        &mut self,
        consortium: &Consortium,
        rng: &mut StdRng,
        who: usize,
        view: &View<'_>,
    ) -> Result<Option<Step>, Fatal> {
        let members = membership(view, CHAIN).map_err(|e| Fatal::Corrupt(e.to_string()))?;
        let (name, height) = (consortium.names[who].as_str(), view.tip.height);
        Ok(Governor { consortium, members, who, name, height, rng, memory: self }.step())
    }
}

impl Governor<'_> {
    fn step(mut self) -> Option<Step> {
        if let Some(waits) = self.members.joining.iter().find(|v| v.organization == self.name) {
            let key = waits.vote_key.clone();
            return Some(self.ready(&key));
        }
        let open = self.members.proposals.iter().find(|p| !p.approvals.iter().any(|id| id == self.name));
        if let Some(proposal) = open.map(|p| p.number).filter(|_| self.rng.gen_ratio(9, 10)) {
            return Some(Step::Approve(ApproveChange { proposal }));
        }
        let waits = self.members.suspensions.iter().find(|s| !s.votes.iter().any(|id| id == self.name));
        if let Some(organization) = waits.map(|s| s.organization.clone()) {
            return Some(Step::SuspendEntryKey(SuspendEntryKey { organization }));
        }
        match self.rng.gen_range(0..10) {
            0 => self.rotate(KeyPurpose::Vote),
            1 if self.who == self.memory.steady => None,
            1 => self.rotate(KeyPurpose::Entry),
            2 => self.suspend(),
            _ => {
                let change = self.change()?;
                Some(Step::Propose(ProposeChange { effective_height: self.soon(), change: Some(change) }))
            }
        }
    }

    /// Now and then a height that has gone by when the entry comes to stand.
    fn soon(&mut self) -> u64 {
        self.height + self.rng.gen_range(2..LEAD)
    }

    fn new_key(&mut self, who: usize, purpose: KeyPurpose) -> [u8; 32] {
        self.memory.made += 1;
        self.consortium.new_key(who, purpose.as_str_name(), self.memory.made)
    }

    fn has_vote(&self, name: &str) -> bool {
        self.members.validators.iter().flat_map(|set| &set.validators).any(|v| v.organization == name)
    }

    fn ready(&self, vote_key: &[u8]) -> Step {
        let message = ready_sign_bytes(CHAIN, self.name, vote_key, self.height);
        let vote_key = vote_key.try_into().expect("32 bytes, as the ledger checks");
        let vote_signature = self.consortium.signer.sign(vote_key, message).to_vec();
        Step::ValidatorReady(ValidatorReady { height: self.height, vote_signature })
    }

    fn rotate(&mut self, purpose: KeyPurpose) -> Option<Step> {
        let old = present_key(&self.members, self.name, purpose)?;
        let old = <[u8; 32]>::try_from(old).ok()?;
        let (new, effective_height) = (self.new_key(self.who, purpose), self.soon());
        let message = handover_sign_bytes(CHAIN, self.name, purpose, &old, &new, effective_height);
        let signed = |key| self.consortium.signer.sign(key, message.clone()).to_vec();
        let (old_signature, new_signature) = (signed(old), signed(new));
        let (purpose, new_key) = (purpose.into(), new.to_vec());
        Some(Step::RotateKey(RotateKey { purpose, new_key, effective_height, old_signature, new_signature }))
    }

    fn suspend(&mut self) -> Option<Step> {
        let others = (0..self.consortium.names.len()).filter(|i| ![self.who, self.memory.steady].contains(i));
        let target = *others.collect::<Vec<_>>().choose(self.rng)?;
        let organization = self.consortium.names[target].clone();
        Some(Step::SuspendEntryKey(SuspendEntryKey { organization }))
    }

    fn change(&mut self) -> Option<Change> {
        let stopped =
            self.members.organizations.iter().find(|o| o.entry_key.is_empty()).map(|o| o.id.clone());
        if let Some(organization) = stopped {
            return self.restore(&organization);
        }
        let without = self.consortium.names.iter().find(|name| !self.has_vote(name)).cloned();
        match (self.rng.gen_range(0..8), without) {
            (0..=4, Some(organization)) => {
                let who = self.consortium.names.iter().position(|name| *name == organization)?;
                let vote_key = self.new_key(who, KeyPurpose::Vote).to_vec();
                Some(Change::AddValidator(AddValidator { organization, vote_key }))
            }
            (0..=5, _) => self.remove_validator(),
            (6, _) => Some(self.add_observer()),
            (_, _) => {
                let strangers = |o: &&Organization| !self.consortium.names.contains(&o.id);
                let organization = self.members.organizations.iter().find(strangers)?.id.clone();
                Some(Change::RemoveOrganization(RemoveOrganization { organization, successor: None }))
            }
        }
    }

    fn restore(&mut self, organization: &str) -> Option<Change> {
        let who = self.consortium.names.iter().position(|name| *name == organization)?;
        let (purpose, new) = (KeyPurpose::Entry, self.new_key(who, KeyPurpose::Entry));
        let message = handover_sign_bytes(CHAIN, organization, purpose, &[], &new, 0);
        let new_signature = self.consortium.signer.sign(new, message).to_vec();
        let (organization, purpose) = (organization.to_owned(), purpose.into());
        Some(Change::ReplaceKey(ReplaceKey { organization, purpose, new_key: new.to_vec(), new_signature }))
    }

    fn remove_validator(&mut self) -> Option<Change> {
        if self.memory.largest <= self.memory.least + self.memory.removals {
            return None;
        }
        self.memory.removals += 1;
        let all: Vec<_> = self.members.validators.iter().flat_map(|set| &set.validators).collect();
        let organization = all.choose(self.rng)?.organization.clone();
        Some(Change::RemoveValidator(RemoveValidator { organization }))
    }

    /// Without a node of its own.
    fn add_observer(&mut self) -> Change {
        self.memory.made += 1;
        let id = format!("observer-{}", self.memory.made);
        let mut key = |purpose| self.new_key(usize::MAX, purpose);
        let record = Organization {
            entry_key: key(KeyPurpose::Entry).to_vec(),
            checkpoint_key: key(KeyPurpose::Checkpoint).to_vec(),
            consensus_peer_id: peer_id(&key(KeyPurpose::ConsensusPeer)),
            exchange_peer_id: peer_id(&key(KeyPurpose::ExchangePeer)),
            consensus_address: "/ip4/127.0.0.1/tcp/1".into(),
            exchange_address: "/ip4/127.0.0.1/tcp/2".into(),
            // One DER sequence, of its own.
            ca_certificate: [&[0x30, 8], self.memory.made.to_be_bytes().as_slice()].concat(),
            name: id.clone(),
            id,
        };
        Change::AddOrganization(AddOrganization { organization: record.encode_to_vec() })
    }
}
