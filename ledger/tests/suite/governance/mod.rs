//! Membership by governance: steps, reasons, attacks, evidence, and a random walk.

mod attacks;
pub mod evidence;
mod keys;
mod reasons;
mod sets;
mod steps;
mod walk;

use assent_ledger::block::Proposal;
use assent_ledger::entry::CheckedEntry;
use assent_ledger::execute::{execute_entry, ExecuteError, Moment, Signatures};
use assent_ledger::governance::{handover_sign_bytes, present_key, ready_sign_bytes};
use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::membership;
use assent_ledger::peer_id::peer_id;
use assent_ledger::state::Overlay;
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::{
    AddOrganization, AddValidator, ApproveChange, Govern, KeyPurpose, Membership, Operation, Organization,
    ProposeChange, RemoveOrganization, RemoveValidator, ReplaceKey, RotateKey, SetAddresses, SuspendEntryKey,
    ValidatorReady,
};
use prost::Message;

use crate::chain::{key, public, Chain, CHAIN, FOUR};
use crate::records::op;

/// A member's record, complete.
pub fn record(name: &str) -> Organization {
    let of = |purpose| public(&key(1, purpose, name));
    Organization {
        id: name.into(),
        name: format!("{name} hospital"),
        entry_key: of("entry").to_vec(),
        consensus_peer_id: peer_id(&of("consensus")),
        consensus_address: "/ip4/192.0.2.7/tcp/7413".into(),
        exchange_peer_id: peer_id(&of("exchange")),
        exchange_address: "/dns4/node.example/tcp/7414".into(),
        ca_certificate: authority(name),
        checkpoint_key: of("checkpoint").to_vec(),
    }
}

/// What looks like a certificate to a ledger.
pub fn authority(text: &str) -> Vec<u8> {
    [&[0x30, text.len() as u8], text.as_bytes()].concat()
}

/// A chain of these organizations, each with a validator.
pub fn network(names: &[&str]) -> Chain {
    Chain::with(1, names, names.iter().map(|name| record(name)).collect())
}

pub fn four() -> Chain {
    network(&FOUR)
}

pub fn step(step: Step) -> Operation {
    op(Govern { step: Some(step) })
}

pub fn propose(effective_height: u64, change: Change) -> Operation {
    step(Step::Propose(ProposeChange { effective_height, change: Some(change) }))
}

pub fn approve(proposal: u64) -> Operation {
    step(Step::Approve(ApproveChange { proposal }))
}

pub fn suspend(organization: &str) -> Operation {
    step(Step::SuspendEntryKey(SuspendEntryKey { organization: organization.into() }))
}

pub fn addresses(port: u16) -> Operation {
    let address = format!("/ip4/192.0.2.8/tcp/{port}");
    step(Step::SetAddresses(SetAddresses { consensus_address: address.clone(), exchange_address: address }))
}

pub fn add_organization(record: &Organization) -> Change {
    Change::AddOrganization(AddOrganization { organization: record.encode_to_vec() })
}

pub fn remove_organization(organization: &str, successor: Option<&str>) -> Change {
    let successor = successor.map(str::to_owned);
    Change::RemoveOrganization(RemoveOrganization { organization: organization.into(), successor })
}

pub fn add_validator(organization: &str, key: &SigningKey) -> Change {
    Change::AddValidator(AddValidator { organization: organization.into(), vote_key: public(key).to_vec() })
}

pub fn remove_validator(organization: &str) -> Change {
    Change::RemoveValidator(RemoveValidator { organization: organization.into() })
}

pub fn replace_key(chain: &Chain, organization: &str, purpose: KeyPurpose, new: &SigningKey) -> Change {
    let old = present_key(&members(chain), organization, purpose).unwrap_or_default();
    let message = handover_sign_bytes(CHAIN, organization, purpose, &old, &public(new), 0);
    Change::ReplaceKey(ReplaceKey {
        organization: organization.into(),
        purpose: purpose.into(),
        new_key: public(new).to_vec(),
        new_signature: sign(new, &message).to_vec(),
    })
}

pub fn rotate(
    organization: &str,
    purpose: KeyPurpose,
    old: &SigningKey,
    new: &SigningKey,
    effective_height: u64,
) -> RotateKey {
    let message =
        handover_sign_bytes(CHAIN, organization, purpose, &public(old), &public(new), effective_height);
    RotateKey {
        purpose: purpose.into(),
        new_key: public(new).to_vec(),
        effective_height,
        old_signature: sign(old, &message).to_vec(),
        new_signature: sign(new, &message).to_vec(),
    }
}

pub fn ready(organization: &str, key: &SigningKey, height: u64) -> Operation {
    let message = ready_sign_bytes(CHAIN, organization, &public(key), height);
    step(Step::ValidatorReady(ValidatorReady { height, vote_signature: sign(key, &message).to_vec() }))
}

pub fn members(chain: &Chain) -> Membership {
    membership::membership(&chain.store, CHAIN).unwrap()
}

/// Organizations that vote at the next height.
pub fn voters(chain: &Chain) -> Vec<String> {
    let mut names: Vec<String> =
        chain.tip.validators.validators.iter().map(|v| v.organization.clone()).collect();
    names.sort();
    names
}

impl Chain {
    /// Height of the next block.
    pub fn next(&self) -> u64 {
        self.tip.height + 1
    }

    /// One block with these operations, each in an entry of its own.
    pub fn step(&mut self, steps: Vec<(&str, Operation)>) {
        let entries = steps.into_iter().map(|(author, operation)| self.entry(author, vec![operation]));
        let entries = entries.collect();
        self.commit(entries);
    }

    /// Empty blocks until the tip has this height.
    pub fn until(&mut self, height: u64) {
        while self.tip.height < height {
            self.commit(vec![]);
        }
    }

    /// A block of the round in which it is not this validator's turn.
    pub fn commit_without(&mut self, absent: &[u8]) {
        let round = (0..9).find(|round| self.turn(*round) != absent).unwrap();
        let proposal = Proposal { proposer: self.turn(round), round, ..self.proposal() };
        let verify = assent_ledger::keys::verify_batch;
        let (block, _, _) =
            assent_ledger::block::build_block(&self.tip, &self.store, vec![], &proposal, &verify).unwrap();
        self.take(block);
    }

    /// Proposed by the first, approved by the others, in one block each; returns the height at which it holds.
    pub fn decide(&mut self, by: &[&str], change: Change) -> u64 {
        let effective = self.next() + 6;
        self.step(vec![(by[0], propose(effective, change))]);
        let number = members(self).last_proposal;
        for voter in &by[1..] {
            self.step(vec![(voter, approve(number))]);
        }
        effective
    }

    /// Reason of the refusal of an operation in the next block; "" when it is taken.
    pub fn reason(&self, author: &str, operation: Operation) -> &'static str {
        self.reason_of(&self.signed(&self.body(author, 500, vec![operation])))
    }

    pub fn reason_of(&self, entry: &CheckedEntry) -> &'static str {
        self.refusal(entry).map_or("", |error| error.reason())
    }

    /// Why the next block can't hold an entry; none when it can.
    pub fn refusal(&self, entry: &CheckedEntry) -> Option<ExecuteError> {
        let at = Moment { chain_id: CHAIN, height: self.next(), time_ms: self.next_ms() };
        execute_entry(&mut Overlay::new(&self.store), at, entry, &mut Signatures::Immediate).err()
    }
}
