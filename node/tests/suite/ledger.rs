//! A ledger driven by hand: real store, mempool and replica, and certificates by all four validators' keys.

use std::sync::Arc;
use std::time::Duration;

use assent_ledger::certificate::{precommit, vote_sign_bytes};
use assent_ledger::entry::sign_entry;
use assent_ledger::keyfile::from_pem;
use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::Hash;
use assent_node::chain::mempool::{AdmitError, Admitted};
use assent_node::chain::replica::Outcome;
use assent_node::chain::{now_ms, Clock, LedgerReplica, Mempool, Store};
use assent_node::order::{Candidate, Replica};
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{
    Certificate, CommitSignature, EntryBody, Operation, RecordAccess, SetConsent, Withdraw,
};
use tokio::sync::{mpsc, Notify};

use crate::net::{Net, CHAIN};

/// Life of the entries here, in milliseconds.
pub const LIFE_MS: u64 = 60_000;

pub struct Ledger {
    pub net: Net,
    pub store: Store,
    pub mempool: Mempool,
    pub replica: LedgerReplica,
    pub outcomes: mpsc::UnboundedReceiver<Outcome>,
}

/// A key of an organization, from its folder.
pub fn key(net: &Net, organization: &str, name: &str) -> SigningKey {
    let dir = &net.members[net.index(organization)].dir;
    let pem = std::fs::read_to_string(dir.join(format!("keys/{name}.pem"))).unwrap();
    from_pem(&pem).unwrap()
}

pub fn set_consent(
    custodian: &str,
    handle: Hash,
    consent_seq: u64,
    control_key: Option<&SigningKey>,
) -> Operation {
    operation(Kind::SetConsent(SetConsent {
        custodian: custodian.into(),
        handle: handle.to_vec(),
        expected_consent_seq: consent_seq,
        commitment: vec![7; 32],
        control_key: control_key.map(|k| k.verifying_key().to_bytes().to_vec()),
        control_signature: None,
    }))
}

pub fn record_access(custodian: &str, handle: Hash, consent_seq: u64, commitment: Hash) -> Operation {
    operation(Kind::RecordAccess(RecordAccess {
        custodian: custodian.into(),
        handle: handle.to_vec(),
        expected_consent_seq: consent_seq,
        expected_policy_seq: 0,
        commitment: commitment.to_vec(),
    }))
}

pub fn withdrawal(custodian: &str, handle: Hash, withdraw_seq: u64, patient: &SigningKey) -> Operation {
    let message = assent_ledger::entry::withdraw_sign_bytes(CHAIN, custodian, &handle, withdraw_seq);
    operation(Kind::Withdraw(Withdraw {
        custodian: custodian.into(),
        handle: handle.to_vec(),
        withdraw_seq,
        patient_signature: sign(patient, &message).to_vec(),
    }))
}

fn operation(kind: Kind) -> Operation {
    Operation { kind: Some(kind) }
}

impl Ledger {
    /// Four organizations at genesis, seen by one of them.
    pub fn new(organization: &str) -> Self {
        Self::with_clock(organization, Clock::default())
    }

    /// The same, by a clock that the test sets.
    pub fn with_clock(organization: &str, clock: Clock) -> Self {
        let net = Net::new(4);
        let i = net.index(organization);
        let file = std::fs::read(net.members[i].dir.join("genesis.bin")).unwrap();
        let store = Store::open(&net.members[i].dir.join("by-hand"), &file, &net.genesis).unwrap();
        let wake = Arc::new(Notify::new());
        let mempool = Mempool::with_clock(wake.clone(), clock);
        let address = key(&net, organization, "vote").verifying_key().to_bytes();
        let (replica, _, outcomes) = LedgerReplica::new(
            store.clone(),
            mempool.clone(),
            organization.to_owned(),
            address,
            Duration::from_secs(10),
            wake,
        )
        .unwrap();
        Self { net, store, mempool, replica, outcomes }
    }

    pub fn entry(&self, author: &str, sequence: u64, operations: Vec<Operation>) -> Vec<u8> {
        self.entry_until(author, sequence, now_ms() + LIFE_MS, operations)
    }

    pub fn entry_until(
        &self,
        author: &str,
        sequence: u64,
        not_after_ms: u64,
        operations: Vec<Operation>,
    ) -> Vec<u8> {
        let body =
            EntryBody { chain_id: CHAIN.into(), author: author.into(), sequence, not_after_ms, operations };
        sign_entry(&key(&self.net, author, "entry"), &body)
    }

    pub fn admit(&self, entry: &[u8]) -> Result<(Hash, Admitted), AdmitError> {
        self.mempool.admit(&self.store, CHAIN, entry)
    }

    pub fn build(&mut self, round: u32) -> Candidate {
        let height = self.replica.tip() + 1;
        self.replica.build(height, round).unwrap()
    }

    /// All four validators precommit.
    pub fn decide(&mut self, candidate: &Candidate) {
        let signatures = self.net.members.iter().map(|member| {
            let vote_key = key(&self.net, &member.id, "vote");
            let address = vote_key.verifying_key().to_bytes();
            let vote = precommit(candidate.height, candidate.round, &candidate.hash, &address);
            CommitSignature {
                address: address.to_vec(),
                signature: sign(&vote_key, &vote_sign_bytes(CHAIN, &vote)).to_vec(),
            }
        });
        let mut signatures: Vec<_> = signatures.collect();
        signatures.sort_by(|a, b| a.address.cmp(&b.address));
        let certificate = Certificate {
            height: candidate.height,
            round: candidate.round,
            header_hash: candidate.hash.to_vec(),
            signatures,
        };
        self.replica.commit(certificate).unwrap();
    }

    /// Builds and commits a block of what waits.
    pub fn block(&mut self) {
        let candidate = self.build(0);
        self.decide(&candidate);
    }

    /// Every outcome so far, in order.
    pub fn outcomes(&mut self) -> Vec<Outcome> {
        std::iter::from_fn(|| self.outcomes.try_recv().ok()).collect()
    }
}
