//! Real chains for tests: a genesis from fixed seeds, blocks by `build_block`, certificates by the validators' keys.

use std::collections::BTreeMap;

use assent_ledger::audit::{write_record, RecordKind, EXPORT_MAGIC};
use assent_ledger::block::{
    apply_block, apply_genesis, build_block, Applied, BlockError, Dropped, Proposal, Tip,
};
use assent_ledger::certificate::{precommit, vote_sign_bytes};
use assent_ledger::entry::{check_entry, sign_entry, CheckedEntry};
use assent_ledger::execute::Moment;
use assent_ledger::genesis::{make_genesis_file, CheckedGenesis};
use assent_ledger::hash::{sha256, Hash};
use assent_ledger::keys::{sign, verify_batch, SigningKey};
use assent_ledger::log::LogRead;
use assent_ledger::membership;
use assent_ledger::receipts::prove_member;
use assent_ledger::sets::SetRecorder;
use assent_ledger::state::{organization, MemoryState, ReadError, StateRead};
use assent_ledger::tree::{MemoryNodes, NodeRead};
use assent_proto::ledger::v1::{
    Block, Certificate, CommitSignature, EntryBody, MemberProof, Operation, Organization, SetChange,
    Validator, ValidatorSet,
};
use prost::Message;

pub const CHAIN: &str = "testnet-cedar-1";
pub const START_MS: u64 = 1_767_225_600_000;
pub const FOUR: [&str; 4] = ["birch", "cedar", "dogwood", "elm"];

/// The key of `owner` for one purpose; every seed gives other keys.
pub fn key(seed: u8, purpose: &str, owner: &str) -> SigningKey {
    SigningKey::from_bytes(&sha256(format!("{seed}/{purpose}/{owner}").as_bytes()))
}

pub fn public(key: &SigningKey) -> Hash {
    key.verifying_key().to_bytes()
}

/// Values, tree nodes and log nodes in memory.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Store {
    pub values: MemoryState,
    pub nodes: MemoryNodes,
    pub log: BTreeMap<(u8, u64), Hash>,
}

impl StateRead for Store {
    fn value(&self, key: &Hash) -> Result<Option<Vec<u8>>, ReadError> {
        self.values.value(key)
    }
}

impl NodeRead for Store {
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.nodes.node(key)
    }
}

impl LogRead for Store {
    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        self.log.get(&(level, index)).copied()
    }
}

impl Store {
    pub fn take(&mut self, applied: &Applied) {
        self.values.0.extend(applied.changes.clone());
        if let Some(update) = &applied.tree {
            self.nodes.apply(update.clone());
        }
        self.log.extend(applied.log_nodes.iter().map(|(level, index, hash)| ((*level, *index), *hash)));
    }
}

/// A chain of which all validators sign every header.
#[derive(Clone)]
pub struct Chain {
    pub seed: u8,
    pub names: Vec<String>,
    pub file: Vec<u8>,
    pub genesis: CheckedGenesis,
    pub tip: Tip,
    pub store: Store,
    pub blocks: Vec<Vec<u8>>,
    pub headers: Vec<Vec<u8>>,
    /// Certificate of the last block; empty at height 0.
    pub certificate: Vec<u8>,
    sequences: BTreeMap<String, u64>,
    /// Keys that came after genesis, by their public halves.
    keys: BTreeMap<Vec<u8>, SigningKey>,
    /// Validator sets that vote from the height after.
    sets: BTreeMap<u64, Vec<u8>>,
    recorder: SetRecorder,
}

/// A block at height 1: no operation but those of governance looks at it.
pub fn moment(time_ms: u64) -> Moment<'static> {
    Moment { chain_id: CHAIN, height: 1, time_ms }
}

impl Chain {
    pub fn new() -> Self {
        Self::of(1, &FOUR)
    }

    /// A chain of these organizations, each with one validator of power 1.
    pub fn of(seed: u8, names: &[&str]) -> Self {
        let organizations = names.iter().map(|name| Organization {
            id: name.to_string(),
            name: format!("{name} hospital"),
            entry_key: public(&key(seed, "entry", name)).to_vec(),
            checkpoint_key: public(&key(seed, "checkpoint", name)).to_vec(),
            ..Default::default()
        });
        Self::with(seed, names, organizations.collect())
    }

    /// A chain of these organizations, of which those named have one validator of power 1 each.
    pub fn with(seed: u8, names: &[&str], organizations: Vec<Organization>) -> Self {
        let validators = names.iter().map(|name| Validator {
            organization: name.to_string(),
            vote_key: public(&key(seed, "vote", name)).to_vec(),
            power: 1,
        });
        let set = ValidatorSet { validators: validators.collect(), ..Default::default() };
        let (file, genesis) = make_genesis_file(CHAIN, START_MS, set, organizations).unwrap();
        let (tip, changes, update) = apply_genesis(&genesis).unwrap();
        let mut store = Store { values: MemoryState(changes), ..Default::default() };
        store.nodes.apply(update);
        Self {
            seed,
            names: names.iter().map(|n| n.to_string()).collect(),
            file,
            genesis,
            tip,
            store,
            blocks: Vec::new(),
            headers: Vec::new(),
            certificate: Vec::new(),
            sequences: BTreeMap::new(),
            keys: BTreeMap::new(),
            sets: BTreeMap::new(),
            recorder: SetRecorder::default(),
        }
    }

    pub fn entry_key(&self, organization: &str) -> SigningKey {
        key(self.seed, "entry", organization)
    }

    pub fn vote_key(&self, organization: &str) -> SigningKey {
        key(self.seed, "vote", organization)
    }

    /// A key that may come to sign entries or vote.
    pub fn know(&mut self, key: SigningKey) {
        self.keys.insert(public(&key).to_vec(), key);
    }

    /// The key that signs an organization's entries now.
    pub fn present_entry_key(&self, author: &str) -> SigningKey {
        let stored = organization(&self.store, CHAIN, author).unwrap().unwrap_or_default();
        self.keys.get(&stored.entry_key).cloned().unwrap_or_else(|| self.entry_key(author))
    }

    /// Time of the next block that [`Chain::propose`] makes.
    pub fn next_ms(&self) -> u64 {
        self.tip.time_ms + 1000
    }

    pub fn body(&self, author: &str, sequence: u64, operations: Vec<Operation>) -> EntryBody {
        let not_after_ms = self.next_ms() + 60_000;
        EntryBody { chain_id: CHAIN.into(), author: author.into(), sequence, not_after_ms, operations }
    }

    /// Signed by the author's key, under the sequence that the body names.
    pub fn signed(&self, body: &EntryBody) -> CheckedEntry {
        check_entry(CHAIN, &sign_entry(&self.present_entry_key(&body.author), body)).unwrap()
    }

    /// Signed by the author, under its next sequence.
    pub fn entry(&mut self, author: &str, operations: Vec<Operation>) -> CheckedEntry {
        let sequence = self.sequences.entry(author.into()).or_default();
        *sequence += 1;
        let body = self.body(author, *self.sequences.get(author).unwrap(), operations);
        self.signed(&body)
    }

    /// Whose turn a round of the next height is.
    pub fn turn(&self, round: u32) -> Hash {
        self.tip.bench.proposer(&self.tip.validators, self.tip.height + 1, round).unwrap()
    }

    pub fn proposal(&self) -> Proposal {
        Proposal {
            proposer: self.turn(0),
            round: 0,
            now_ms: self.next_ms(),
            previous_certificate: self.certificate.clone(),
        }
    }

    pub fn propose(&self, entries: Vec<CheckedEntry>) -> (Vec<u8>, Applied, Vec<Dropped>) {
        build_block(&self.tip, &self.store, entries, &self.proposal(), &verify_batch).unwrap()
    }

    pub fn apply(&self, block: &[u8]) -> Result<Applied, BlockError> {
        apply_block(&self.tip, &self.store, block, &verify_batch)
    }

    /// Commits a block that every rule allows.
    pub fn take(&mut self, block: Vec<u8>) {
        let applied = self.apply(&block).unwrap();
        self.store.take(&applied);
        self.recorder.block(&applied.tip, &Block::decode(block.as_slice()).unwrap());
        self.certificate = self.certify_by_all(&applied.tip).encode_to_vec();
        if applied.tip.validators != applied.tip.voters {
            self.sets.insert(applied.tip.height, applied.tip.validators.encode_to_vec());
        }
        self.tip = applied.tip;
        self.blocks.push(block);
        self.headers.push(applied.header_bytes);
    }

    /// Commits these entries in one block; none may fail.
    pub fn commit(&mut self, entries: Vec<CheckedEntry>) {
        let (block, applied, dropped) = self.propose(entries);
        assert_eq!(dropped, vec![]);
        assert_eq!(self.apply(&block).unwrap().tip, applied.tip);
        self.take(block);
    }

    /// Commits an empty block so long after the last one.
    pub fn pause(&mut self, ms: u64) {
        let proposal = Proposal { now_ms: self.tip.time_ms + ms, ..self.proposal() };
        let (block, ..) = build_block(&self.tip, &self.store, vec![], &proposal, &verify_batch).unwrap();
        self.take(block);
    }

    /// Precommits of `signers` over a header.
    pub fn certify(&self, height: u64, header_hash: &Hash, signers: &[impl AsRef<str>]) -> Certificate {
        let mut signatures: Vec<CommitSignature> =
            signers.iter().map(|name| self.precommit(height, header_hash, name.as_ref())).collect();
        signatures.sort_by(|a, b| a.address.cmp(&b.address));
        Certificate { height, round: 0, header_hash: header_hash.to_vec(), signatures }
    }

    /// Precommits of all that vote at a height.
    fn certify_by_all(&self, tip: &Tip) -> Certificate {
        let sign = |validator: &Validator| {
            let known = self.keys.get(&validator.vote_key).cloned();
            let key = known.unwrap_or_else(|| self.vote_key(&validator.organization));
            assert_eq!(public(&key).as_slice(), validator.vote_key);
            commit_signature(&key, tip.height, &tip.header_hash)
        };
        let signatures = tip.voters.validators.iter().map(sign).collect();
        Certificate { height: tip.height, round: 0, header_hash: tip.header_hash.to_vec(), signatures }
    }

    fn precommit(&self, height: u64, header_hash: &Hash, signer: &str) -> CommitSignature {
        commit_signature(&self.vote_key(signer), height, header_hash)
    }

    /// Changes of validators that lead to those who voted on the last block.
    pub fn changes(&self) -> &[SetChange] {
        self.recorder.changes()
    }

    /// The same, to those who vote on the next one.
    pub fn next_changes(&self) -> Vec<SetChange> {
        let mut recorder = self.recorder.clone();
        recorder.certificate(&self.certificate);
        recorder.changes().to_vec()
    }

    /// Certificate over the last block.
    pub fn certificate(&self) -> Certificate {
        Certificate::decode(self.certificate.as_slice()).unwrap()
    }

    /// Members' keys as they count after the last block.
    pub fn member(&self, id: &str) -> Option<MemberProof> {
        let members = membership::membership(&self.store, CHAIN).unwrap().organizations;
        prove_member(&members.iter().map(membership::member).collect::<Vec<_>>(), id)
    }

    /// The whole chain as an auditor gets it.
    pub fn export(&self) -> Vec<u8> {
        with_sets(&self.file, &self.blocks, &self.certificate, &self.sets)
    }
}

fn commit_signature(key: &SigningKey, height: u64, header_hash: &Hash) -> CommitSignature {
    let vote = precommit(height, 0, header_hash, &public(key));
    CommitSignature {
        address: public(key).to_vec(),
        signature: sign(key, &vote_sign_bytes(CHAIN, &vote)).to_vec(),
    }
}

pub fn export(genesis_file: &[u8], blocks: &[Vec<u8>], certificate: &[u8]) -> Vec<u8> {
    with_sets(genesis_file, blocks, certificate, &BTreeMap::new())
}

fn with_sets(
    genesis_file: &[u8],
    blocks: &[Vec<u8>],
    certificate: &[u8],
    sets: &BTreeMap<u64, Vec<u8>>,
) -> Vec<u8> {
    let mut out = EXPORT_MAGIC.to_vec();
    write_record(&mut out, RecordKind::Genesis, genesis_file);
    for (height, block) in (1u64..).zip(blocks) {
        write_record(&mut out, RecordKind::Block, block);
        if let Some(set) = sets.get(&height) {
            write_record(&mut out, RecordKind::ValidatorSet, set);
        }
    }
    if !certificate.is_empty() {
        write_record(&mut out, RecordKind::Certificate, certificate);
    }
    out
}
