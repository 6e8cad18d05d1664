//! Operations, requests, accesses, receipts and histories for tests.

use assent_ledger::block::apply_block;
use assent_ledger::checkpoint::origin;
use assent_ledger::commitment::{commit, digests_root};
use assent_ledger::entry::{cancel_sign_bytes, control_sign_bytes, withdraw_sign_bytes};
use assent_ledger::hash::{Context, Hash};
use assent_ledger::keys::{sign, verify_batch, SigningKey};
use assent_ledger::log::{inclusion_proof, root_at};
use assent_ledger::receipt::sign_message;
use assent_ledger::receipts::{behind_checkpoint, from_checkpoint, from_genesis, shortened, Start, Trust};
use assent_ledger::recovery::plan_hash;
use assent_ledger::sets::{set_at, verify_set_chain};
use assent_ledger::state::{slot, slot_key};
use assent_ledger::tree;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{
    receipt, AccessClaim, AccessEvent, AccessHistory, Anchor, Block, CancelReplacement, DataRequest, Govern,
    Header, HistoryAccess, InclusionProof, MemberProof, Operation, Receipt, RecordAccess, RecordBundle,
    Recover, ReportEvidence, SetChange, SetConsent, SetPolicy, ValidatorSet, Withdraw,
};
use prost::Message;

use crate::chain::{key, public, Chain, CHAIN, START_MS};

pub const HANDLE: Hash = [0x11; 32];

/// The patient's control key.
pub fn patient() -> SigningKey {
    key(9, "control", "patient")
}

pub fn set_consent(custodian: &str, seq: u64, commitment: u8) -> SetConsent {
    SetConsent {
        custodian: custodian.into(),
        handle: HANDLE.to_vec(),
        expected_consent_seq: seq,
        commitment: vec![commitment; 32],
        control_key: None,
        control_signature: None,
    }
}

/// The same operation with a signature of the control key.
pub fn by_patient(mut op: SetConsent, key: &SigningKey) -> SetConsent {
    let new_key = op.control_key.as_deref();
    let message = control_sign_bytes(
        CHAIN,
        &op.custodian,
        &op.handle,
        op.expected_consent_seq,
        &op.commitment,
        new_key,
    );
    op.control_signature = Some(sign(key, &message).to_vec());
    op
}

pub fn with_key(mut op: SetConsent, key: &SigningKey) -> SetConsent {
    op.control_key = Some(public(key).to_vec());
    op
}

pub fn withdraw(custodian: &str, withdraw_seq: u64, key: &SigningKey) -> Withdraw {
    let message = withdraw_sign_bytes(CHAIN, custodian, &HANDLE, withdraw_seq);
    Withdraw {
        custodian: custodian.into(),
        handle: HANDLE.to_vec(),
        withdraw_seq,
        patient_signature: sign(key, &message).to_vec(),
    }
}

/// Cancels `waiting`, which was recorded with a consent sequence.
pub fn cancel(
    custodian: &str,
    consent_seq: u64,
    waiting: &SigningKey,
    key: &SigningKey,
) -> CancelReplacement {
    let message = cancel_sign_bytes(CHAIN, custodian, &HANDLE, consent_seq, &public(waiting));
    CancelReplacement {
        custodian: custodian.into(),
        handle: HANDLE.to_vec(),
        consent_seq,
        patient_signature: sign(key, &message).to_vec(),
    }
}

pub fn record_access(custodian: &str, consent_seq: u64, policy_seq: u64, commitment: Hash) -> RecordAccess {
    RecordAccess {
        custodian: custodian.into(),
        handle: HANDLE.to_vec(),
        expected_consent_seq: consent_seq,
        expected_policy_seq: policy_seq,
        commitment: commitment.to_vec(),
    }
}

pub fn set_policy(seq: u64, commitment: u8) -> SetPolicy {
    SetPolicy { expected_policy_seq: seq, commitment: vec![commitment; 32] }
}

/// An operation of any kind.
pub fn op(kind: impl Into<Wrapped>) -> Operation {
    Operation { kind: Some(kind.into().0) }
}

pub struct Wrapped(Kind);

macro_rules! wraps {
    ($($name:ident),*) => { $(impl From<$name> for Wrapped {
        fn from(op: $name) -> Self { Wrapped(Kind::$name(op)) }
    })* };
}
wraps!(SetConsent, Withdraw, RecordAccess, SetPolicy, CancelReplacement, Govern, Recover, ReportEvidence);

pub fn request(recipient: &str, nonce: u8) -> DataRequest {
    DataRequest {
        chain_id: CHAIN.into(),
        custodian: "cedar".into(),
        recipient: recipient.into(),
        client: format!("spiffe://{CHAIN}/org/{recipient}/crm/frontdesk"),
        actor: "Practitioner/7".into(),
        identifier_system: "urn:assent:sample:mrn".into(),
        identifier_value: "MRN-000000".into(),
        birth_date: "2000-01-01".into(),
        purpose: "TREAT".into(),
        action: "access".into(),
        resource_types: vec!["Observation".into()],
        nonce: vec![nonce; 32],
        not_after_ms: START_MS + 600_000,
        check_only: false,
        ..Default::default()
    }
}

/// One access of Cedar's with its opening.
#[derive(Clone)]
pub struct Access {
    pub event: AccessEvent,
    pub salt: Hash,
    pub resources: Vec<Vec<u8>>,
    /// Keys of who asked, when it was decided.
    pub recipient: Option<MemberProof>,
}

impl Access {
    pub fn new(chain: &Chain, recipient: &str, nonce: u8, consent_seq: u64) -> Self {
        let resources = vec![br#"{"resourceType":"Observation"}"#.to_vec(), vec![nonce; 5]];
        let body = request(recipient, nonce).encode_to_vec();
        let signed =
            sign_message(Context::Request, CHAIN, recipient, &chain.present_entry_key(recipient), body);
        let event = AccessEvent {
            custodian: "cedar".into(),
            handle: HANDLE.to_vec(),
            request: signed.encode_to_vec(),
            outcome: "PERMIT".into(),
            reasons: vec![5; 32],
            obligations: vec![],
            consent_seq,
            policy_seq: 0,
            resources: resources.len() as u64,
            digests_root: digests_root(resources.iter().map(Vec::as_slice)).to_vec(),
            time_ms: chain.tip.time_ms,
            late: false,
            height: chain.tip.height,
        };
        Self { event, salt: [nonce; 32], resources, recipient: chain.member(recipient) }
    }

    pub fn operation(&self) -> Operation {
        let commitment = commit(Context::AccessCommitment, CHAIN, &self.salt, &self.event.encode_to_vec());
        op(record_access(&self.event.custodian, self.event.consent_seq, self.event.policy_seq, commitment))
    }
}

/// The access as operation 0 of the last entry of the chain's last block.
pub fn claim(chain: &Chain, access: &Access) -> AccessClaim {
    let block = Block::decode(chain.blocks.last().unwrap().as_slice()).unwrap();
    // The header is the last leaf of the log, the entry the one before.
    let size = chain.tip.log.size() - 1;
    let path = inclusion_proof(&chain.store, size - 1, size).unwrap();
    AccessClaim {
        event: access.event.encode_to_vec(),
        salt: access.salt.to_vec(),
        entry: block.entries.last().unwrap().clone(),
        operation: 0,
        inclusion: Some(InclusionProof {
            index: size - 1,
            size,
            path: path.iter().map(|h| h.to_vec()).collect(),
        }),
        recipient: access.recipient.clone(),
    }
}

/// From genesis to the chain's last header.
pub fn anchor(chain: &Chain) -> Anchor {
    let header = chain.headers.last().unwrap().clone();
    from_genesis(&chain.genesis, chain.changes(), header, &chain.certificate()).unwrap()
}

/// A checkpoint that the reader pinned, and no recovery.
pub fn pinned(size: u64, root: Hash) -> Trust {
    Trust::Checkpoint { origin: origin(CHAIN), size, root, accepted: Default::default() }
}

/// The chain's log as it was after the block at a height.
pub fn pinned_at(chain: &Chain, height: u64) -> Trust {
    let size = leaves_at(chain, height);
    pinned(size, root_at(&chain.store, size).unwrap())
}

pub fn leaves_at(chain: &Chain, height: u64) -> u64 {
    header_at(chain, height).log_size + 1
}

pub fn header_at(chain: &Chain, height: u64) -> Header {
    Header::decode(chain.headers[height as usize - 1].as_slice()).unwrap()
}

/// The set that votes at a height, up to the one after the tip's.
pub fn voters_at(chain: &Chain, height: u64) -> ValidatorSet {
    let changes = chain.next_changes();
    let plans = changes.iter().filter_map(|change| change.recovery.as_ref());
    let accepted = plans.map(|plan| plan_hash(CHAIN, plan)).collect();
    let sets = verify_set_chain(&chain.genesis, &accepted, &changes).unwrap();
    set_at(&sets, height).unwrap().clone()
}

/// Where a header stands in the log of so many leaves.
pub fn place(chain: &Chain, size: u64, height: u64) -> Vec<Hash> {
    inclusion_proof(&chain.store, header_at(chain, height).log_size, size).unwrap()
}

pub fn in_log(chain: &Chain, size: u64, height: u64) -> Anchor {
    let header = chain.headers[height as usize - 1].clone();
    from_checkpoint(size, &place(chain, size, height), voters_at(chain, height), header)
}

/// From the header at a height, in the log of so many leaves, to the chain's last one, with these of the chain's changes.
pub fn behind(chain: &Chain, size: u64, from: u64, changes: &[SetChange]) -> Anchor {
    let after = |change: &&SetChange| Header::decode(change.header.as_slice()).unwrap().height >= from;
    let changes: Vec<SetChange> = changes.iter().filter(after).cloned().collect();
    let header = chain.headers.last().unwrap().clone();
    behind_checkpoint(in_log(chain, size, from), &changes, header, &chain.certificate()).unwrap()
}

/// A header that stands in the log of a checkpoint.
pub fn within(size: u64) -> Start {
    Start::Checkpoint { size, within: true, set_changes: 0, recoveries: Vec::new() }
}

/// Receipt of the access that the last block holds.
pub fn receipt(chain: &Chain, access: &Access) -> Receipt {
    let claim = receipt::Claim::Access(claim(chain, access));
    Receipt { anchor: Some(anchor(chain)), claim: Some(claim) }
}

/// The same as a history carries it.
pub fn history_access(chain: &Chain, access: &Access) -> HistoryAccess {
    HistoryAccess {
        header: chain.headers.last().unwrap().clone(),
        certificate: Some(shortened(&chain.tip.voters, &chain.certificate())),
        access: Some(claim(chain, access)),
        in_checkpoint: None,
    }
}

pub fn trust(chain: &Chain) -> Trust {
    Trust::genesis(chain.genesis.hash)
}

/// A chain on which Cedar recorded three accesses of Birch's, Dogwood's and Birch's, with what was made of them on the way.
pub fn three_accesses() -> (Chain, Vec<Access>, Vec<HistoryAccess>, Vec<RecordBundle>) {
    let mut chain = Chain::new();
    let first = chain.entry("cedar", vec![op(with_key(set_consent("cedar", 0, 1), &patient()))]);
    chain.commit(vec![first]);
    let (mut accesses, mut shown, mut bundles) = (vec![], vec![], vec![]);
    for (n, recipient) in ["birch", "dogwood", "birch"].into_iter().enumerate() {
        let access = Access::new(&chain, recipient, n as u8 + 1, 1);
        let other = chain.entry("elm", vec![op(set_policy(n as u64, n as u8))]);
        let entry = chain.entry("cedar", vec![access.operation()]);
        chain.commit(vec![other, entry]);
        shown.push(history_access(&chain, &access));
        let proof = Some(receipt(&chain, &access));
        bundles.push(RecordBundle { proof, resources: access.resources.clone() });
        accesses.push(access);
    }
    (chain, accesses, shown, bundles)
}

pub fn history(chain: &Chain, accesses: Vec<HistoryAccess>) -> AccessHistory {
    let slot = slot(&chain.store, CHAIN, "cedar", &HANDLE).unwrap().unwrap();
    let key = slot_key(CHAIN, "cedar", &HANDLE);
    let proof =
        tree::prove(&chain.store, chain.tip.state_version, &key, Some(&slot.encode_to_vec())).unwrap();
    AccessHistory {
        custodian: "cedar".into(),
        handle: HANDLE.to_vec(),
        slot: Some(slot),
        state_proof: proof,
        anchor: Some(anchor(chain)),
        accesses,
    }
}

/// Applies a chain's blocks anew, from its genesis.
pub fn replay(chain: &Chain) -> Chain {
    let names: Vec<&str> = chain.names.iter().map(String::as_str).collect();
    let mut again = Chain::with(chain.seed, &names, chain.genesis.organizations.clone());
    for block in &chain.blocks {
        let applied = apply_block(&again.tip, &again.store, block, &verify_batch).unwrap();
        again.store.take(&applied);
        again.tip = applied.tip;
    }
    again
}
