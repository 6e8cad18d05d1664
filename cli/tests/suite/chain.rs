//! A small real chain: four organizations, a consent, two accesses, each block with a certificate of all four.

use std::collections::BTreeMap;

use assent_ledger::audit::{write_record, RecordKind, EXPORT_MAGIC};
use assent_ledger::block::{apply_genesis, build_block, Proposal, Tip};
use assent_ledger::certificate::{precommit, vote_sign_bytes};
use assent_ledger::checkpoint::{origin, Checkpoint};
use assent_ledger::commitment::{commit, digests_root};
use assent_ledger::conviction::make_evidence_file;
use assent_ledger::entry::{check_entry, sign_entry};
use assent_ledger::evidence::conflicting_votes;
use assent_ledger::genesis::{make_genesis_file, CheckedGenesis};
use assent_ledger::hash::Context;
use assent_ledger::keys::{sign, verify_batch, SigningKey};
use assent_ledger::log::{inclusion_proof, root_at, LogRead};
use assent_ledger::membership::member;
use assent_ledger::receipt::{request_hash, sign_message};
use assent_ledger::receipts::{
    behind_checkpoint, from_checkpoint, from_genesis, prove_member, shortened, BUNDLE_MAGIC, HISTORY_MAGIC,
    RECEIPT_MAGIC,
};
use assent_ledger::recovery::{agree, make_plan, plan_hash, sign_plan};
use assent_ledger::sets::SetRecorder;
use assent_ledger::state::{slot, slot_key, MemoryState, ReadError, StateRead};
use assent_ledger::tree::{self, MemoryNodes, NodeRead};
use assent_ledger::Hash;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{
    receipt, AccessClaim, AccessEvent, AccessHistory, Anchor, Block, Certificate, CommitSignature,
    DataRequest, Decision, DecisionClaim, EntryBody, Header, HistoryAccess, InclusionProof, LateAccess,
    LateProof, MemberProof, Operation, Organization, Receipt, RecordAccess, RecordBundle, ReportEvidence,
    SetChange, SetConsent, Signed, SlotClaim, Validator, ValidatorSet,
};
use assent_proto::v1::{Answer, GetBlockResponse};
use prost::Message;

pub const CHAIN: &str = "testnet-cli";
const ORGANIZATIONS: [&str; 4] = ["birch", "cedar", "dogwood", "elm"];
const CUSTODIAN: &str = "cedar";
const START_MS: u64 = 1_700_000_000_000;

struct Committed {
    block: Vec<u8>,
    header: Vec<u8>,
    log_size: u64,
    certificate: Certificate,
}

/// An access as the custodian keeps it.
struct Access {
    height: usize,
    leaf: u64,
    entry: Vec<u8>,
    event: Vec<u8>,
    salt: [u8; 32],
}

#[derive(Default)]
struct State {
    values: MemoryState,
    nodes: MemoryNodes,
    log: BTreeMap<(u8, u64), Hash>,
}

impl StateRead for State {
    fn value(&self, key: &Hash) -> Result<Option<Vec<u8>>, ReadError> {
        self.values.value(key)
    }
}

impl NodeRead for State {
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.nodes.node(key)
    }
}

impl LogRead for State {
    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        self.log.get(&(level, index)).copied()
    }
}

pub struct Chain {
    genesis_file: Vec<u8>,
    genesis: CheckedGenesis,
    votes: Vec<SigningKey>,
    entries: Vec<SigningKey>,
    tip: Tip,
    state: State,
    blocks: Vec<Committed>,
    accesses: Vec<Access>,
    sequence: u64,
    sets: SetRecorder,
    pub handle: [u8; 32],
    pub resources: Vec<Vec<u8>>,
}

/// Where a record of the export lies: its height and its bytes, head included.
pub struct Span {
    pub height: u64,
    pub bytes: std::ops::Range<usize>,
}

fn receipt_file(anchor: Anchor, claim: receipt::Claim) -> Vec<u8> {
    let receipt = Receipt { anchor: Some(anchor), claim: Some(claim) };
    [RECEIPT_MAGIC.as_slice(), &receipt.encode_to_vec()].concat()
}

fn seeded(world: u8, kind: u8, n: usize) -> SigningKey {
    SigningKey::from_bytes(&assent_ledger::hash::sha256(&[world, kind, n as u8]))
}

impl Chain {
    /// A chain with a consent (height 1), an access (2), nothing (3), an access (4). `world` chooses all keys.
    pub fn new(world: u8, handle: [u8; 32], control_key: Option<[u8; 32]>) -> Self {
        let mut chain = Self::genesis(world, handle);
        chain.consent(control_key);
        chain.access("Dr Ash");
        chain.block(Vec::new());
        chain.access("Dr Beech");
        chain
    }

    fn genesis(world: u8, handle: [u8; 32]) -> Self {
        let votes: Vec<_> = (0..4).map(|n| seeded(world, 1, n)).collect();
        let entries: Vec<_> = (0..4).map(|n| seeded(world, 2, n)).collect();
        let validators = ORGANIZATIONS.iter().zip(&votes).map(|(id, key)| Validator {
            organization: id.to_string(),
            vote_key: key.verifying_key().to_bytes().to_vec(),
            power: 1,
        });
        let organizations = ORGANIZATIONS.iter().zip(&entries).map(|(id, key)| Organization {
            id: id.to_string(),
            name: id.to_string(),
            entry_key: key.verifying_key().to_bytes().to_vec(),
            checkpoint_key: seeded(world, 3, id.len()).verifying_key().to_bytes().to_vec(),
            ..Default::default()
        });
        let set = ValidatorSet { validators: validators.collect(), ..Default::default() };
        let (genesis_file, genesis) =
            make_genesis_file(CHAIN, START_MS, set, organizations.collect()).unwrap();
        let (tip, changes, update) = apply_genesis(&genesis).unwrap();
        let mut state = State::default();
        state.values.0.extend(changes);
        state.nodes.apply(update);
        let resources =
            vec![br#"{"resourceType":"Basic","id":"1"}"#.to_vec(), br#"{"resourceType":"Basic"}"#.to_vec()];
        let (blocks, accesses, sequence) = (Vec::new(), Vec::new(), 0);
        Self {
            genesis_file,
            genesis,
            votes,
            entries,
            tip,
            state,
            blocks,
            accesses,
            sequence,
            sets: SetRecorder::default(),
            handle,
            resources,
        }
    }

    pub fn genesis_hash(&self) -> String {
        hex::encode(self.genesis.hash)
    }

    fn entry(&mut self, kind: Kind) -> Vec<u8> {
        self.sequence += 1;
        let body = EntryBody {
            chain_id: CHAIN.into(),
            author: CUSTODIAN.into(),
            sequence: self.sequence,
            not_after_ms: self.tip.time_ms + 60_000,
            operations: vec![Operation { kind: Some(kind) }],
        };
        sign_entry(&self.entries[1], &body)
    }

    fn block(&mut self, entries: Vec<Vec<u8>>) {
        let previous_certificate =
            self.blocks.last().map(|b| b.certificate.encode_to_vec()).unwrap_or_default();
        let bench = &self.tip.bench;
        let proposer = bench.proposer(&self.tip.validators, self.tip.height + 1, 0).unwrap();
        let proposal = Proposal { proposer, round: 0, now_ms: self.tip.time_ms + 1000, previous_certificate };
        let count = entries.len();
        let candidates = entries.iter().map(|bytes| check_entry(CHAIN, bytes).unwrap()).collect();
        let (block, applied, dropped) =
            build_block(&self.tip, &self.state, candidates, &proposal, &verify_batch).unwrap();
        assert!(dropped.is_empty() && applied.entries.len() == count, "{dropped:?}");
        self.state.values.0.extend(applied.changes);
        if let Some(update) = applied.tree {
            self.state.nodes.apply(update);
        }
        self.state
            .log
            .extend(applied.log_nodes.into_iter().map(|(level, index, hash)| ((level, index), hash)));
        let (height, hash) = (applied.header.height, applied.tip.header_hash);
        let votes =
            |n: &usize| applied.tip.voters.validators.iter().any(|v| v.organization == ORGANIZATIONS[*n]);
        let signers: Vec<usize> = (0..4).filter(votes).collect();
        let certificate = self.certify(height, &hash, &signers, 0);
        self.sets.block(&applied.tip, &Block::decode(block.as_slice()).unwrap());
        let log_size = applied.header.log_size;
        self.blocks.push(Committed { block, header: applied.header_bytes, log_size, certificate });
        self.tip = applied.tip;
    }

    fn certify(&self, height: u64, hash: &Hash, signers: &[usize], round: u32) -> Certificate {
        let mut signatures: Vec<CommitSignature> = signers
            .iter()
            .map(|n| {
                let address = self.votes[*n].verifying_key().to_bytes();
                let message = vote_sign_bytes(CHAIN, &precommit(height, round, hash, &address));
                CommitSignature {
                    address: address.to_vec(),
                    signature: sign(&self.votes[*n], &message).to_vec(),
                }
            })
            .collect();
        signatures.sort_by(|a, b| a.address.cmp(&b.address));
        Certificate { height, round, header_hash: hash.to_vec(), signatures }
    }

    /// One more block, with an access by `actor`, that these organizations certify in this round.
    pub fn branch(&mut self, actor: &str, signers: &[usize], round: u32) {
        self.access(actor);
        let certificate = self.certify(self.tip.height, &self.tip.header_hash, signers, round);
        self.blocks.last_mut().unwrap().certificate = certificate;
    }

    /// Dogwood and Elm are gone for ever: one more block, by the other two. The plan's hash.
    pub fn recover(&mut self) -> String {
        let keep = &ORGANIZATIONS[..2];
        let names: Vec<String> = keep.iter().map(|id| id.to_string()).collect();
        let mut plan = make_plan(&self.tip, &names, "fire in the shared data center");
        for (id, key) in keep.iter().zip(&self.entries) {
            sign_plan(CHAIN, &mut plan, id, key);
        }
        let operations = vec![Operation { kind: Some(Kind::Recover(plan.clone())) }];
        let (chain_id, author) = (CHAIN.to_owned(), CUSTODIAN.to_owned());
        let body = EntryBody { chain_id, author, operations, ..Default::default() };
        self.tip = agree(&self.tip, &plan).unwrap();
        self.block(vec![sign_entry(&self.entries[1], &body)]);
        hex::encode(plan_hash(CHAIN, &plan))
    }

    /// One more block, empty.
    pub fn heartbeat(&mut self) {
        self.block(Vec::new());
    }

    /// Two precommits of an organization that contradict each other.
    pub fn contradiction(&self, organization: usize, height: u64) -> ReportEvidence {
        let key = &self.votes[organization];
        let votes = [1, 2].map(|n| precommit(height, 3, &[n; 32], &key.verifying_key().to_bytes()));
        let signatures = votes.clone().map(|vote| sign(key, &vote_sign_bytes(CHAIN, &vote)));
        conflicting_votes((&votes[0], &signatures[0]), (&votes[1], &signatures[1]))
    }

    /// A file of it.
    pub fn evidence_file(&self, organization: usize, height: u64) -> Vec<u8> {
        make_evidence_file(
            &self.genesis,
            &Default::default(),
            &[],
            &[],
            &self.contradiction(organization, height),
        )
        .unwrap()
        .0
    }

    /// One more block, with evidence as Cedar reports it; false when this ledger does not execute that.
    pub fn report(&mut self, evidence: ReportEvidence) -> bool {
        let entry = self.entry(Kind::ReportEvidence(evidence));
        let candidate = check_entry(CHAIN, &entry).unwrap();
        let proposer = self.tip.bench.proposer(&self.tip.validators, self.tip.height + 1, 0).unwrap();
        let previous_certificate = self.blocks.last().unwrap().certificate.encode_to_vec();
        let proposal = Proposal { proposer, round: 0, now_ms: self.tip.time_ms + 1000, previous_certificate };
        let (.., dropped) =
            build_block(&self.tip, &self.state, vec![candidate], &proposal, &verify_batch).unwrap();
        if let Some((_, error)) = dropped.first() {
            assert_eq!(error.reason(), "GOVERNANCE_NOT_EXECUTED");
            return false;
        }
        self.block(vec![entry]);
        true
    }

    fn consent(&mut self, control_key: Option<[u8; 32]>) {
        let entry = self.entry(Kind::SetConsent(SetConsent {
            custodian: CUSTODIAN.into(),
            handle: self.handle.to_vec(),
            expected_consent_seq: 0,
            commitment: vec![5; 32],
            control_key: control_key.map(|key| key.to_vec()),
            control_signature: None,
        }));
        self.block(vec![entry]);
    }

    fn access(&mut self, actor: &str) {
        let slot = slot(&self.state, CHAIN, CUSTODIAN, &self.handle).unwrap().unwrap();
        let request = DataRequest {
            chain_id: CHAIN.into(),
            custodian: CUSTODIAN.into(),
            recipient: "birch".into(),
            client: format!("spiffe://{CHAIN}/org/birch/crm/desk"),
            actor: actor.into(),
            identifier_system: "urn:x:mrn".into(),
            identifier_value: "17".into(),
            birth_date: "2000-02-29".into(),
            purpose: "TREAT".into(),
            action: "access".into(),
            nonce: vec![9; 32],
            not_after_ms: self.tip.time_ms + 30_000,
            ..Default::default()
        };
        let request = request.encode_to_vec();
        let signed = sign_message(Context::Request, CHAIN, "birch", &self.entries[0], request);
        let event = AccessEvent {
            custodian: CUSTODIAN.into(),
            handle: self.handle.to_vec(),
            request: signed.encode_to_vec(),
            outcome: "PERMIT".into(),
            reasons: vec![5; 32],
            consent_seq: slot.consent_seq,
            resources: self.resources.len() as u64,
            digests_root: digests_root(self.resources.iter().map(Vec::as_slice)).to_vec(),
            time_ms: self.tip.time_ms,
            ..Default::default()
        };
        let (event, salt) = (event.encode_to_vec(), [self.accesses.len() as u8 + 1; 32]);
        let entry = self.entry(Kind::RecordAccess(RecordAccess {
            custodian: CUSTODIAN.into(),
            handle: self.handle.to_vec(),
            expected_consent_seq: slot.consent_seq,
            expected_policy_seq: 0,
            commitment: commit(Context::AccessCommitment, CHAIN, &salt, &event).to_vec(),
        }));
        let (height, leaf) = (self.blocks.len(), self.tip.log.size());
        self.block(vec![entry.clone()]);
        self.accesses.push(Access { height, leaf, entry, event, salt });
    }

    /// A late access to what access 1 was to, as a node would give it.
    pub fn late(&self, reason: &str) -> LateProof {
        let first = AccessEvent::decode(self.accesses[1].event.as_slice()).unwrap();
        let request = Signed::decode(first.request.as_slice()).unwrap();
        let request = DataRequest::decode(request.body.as_slice()).unwrap();
        let request = DataRequest { break_glass_reason: reason.into(), ..request }.encode_to_vec();
        let signed = sign_message(Context::Request, CHAIN, "birch", &self.entries[0], request);
        let event = AccessEvent {
            request: signed.encode_to_vec(),
            outcome: "PERMIT_OVERRIDE".into(),
            late: true,
            ..first
        };
        let promise = LateAccess {
            request_hash: request_hash(CHAIN, &signed.body).to_vec(),
            event: event.encode_to_vec(),
            salt: vec![6; 32],
        };
        let promise = promise.encode_to_vec();
        let promise = sign_message(Context::LateAccess, CHAIN, CUSTODIAN, &self.entries[1], promise);
        LateProof {
            late_access: Some(promise),
            anchor: Some(self.anchor(self.blocks.len() - 1)),
            custodian: self.member(CUSTODIAN),
            recipient: self.member("birch"),
        }
    }

    fn member(&self, id: &str) -> Option<MemberProof> {
        prove_member(&self.genesis.organizations.iter().map(member).collect::<Vec<_>>(), id)
    }

    fn anchor(&self, place: usize) -> Anchor {
        let block = &self.blocks[place];
        let height = |header: &[u8]| Header::decode(header).unwrap().height;
        let before = |change: &&SetChange| height(&change.header) < height(&block.header);
        let changes: Vec<SetChange> = self.sets.changes().iter().filter(before).cloned().collect();
        from_genesis(&self.genesis, &changes, block.header.clone(), &block.certificate).unwrap()
    }

    fn claim(&self, n: usize) -> AccessClaim {
        let access = &self.accesses[n];
        let block = &self.blocks[access.height];
        let path = inclusion_proof(&self.state, access.leaf, block.log_size).unwrap();
        let path = path.iter().map(|hash| hash.to_vec()).collect();
        AccessClaim {
            event: access.event.clone(),
            salt: access.salt.to_vec(),
            entry: access.entry.clone(),
            operation: 0,
            inclusion: Some(InclusionProof { index: access.leaf, size: block.log_size, path }),
            recipient: self.member("birch"),
        }
    }

    /// The receipt of access `n`, from 0, as a node would give it.
    pub fn receipt(&self, n: usize) -> Receipt {
        let anchor = Some(self.anchor(self.accesses[n].height));
        Receipt { anchor, claim: Some(receipt::Claim::Access(self.claim(n))) }
    }

    /// A bundle file, as `assent request` writes it.
    pub fn bundle(&self) -> Vec<u8> {
        let bundle = RecordBundle { proof: Some(self.receipt(1)), resources: self.resources.clone() };
        [BUNDLE_MAGIC.as_slice(), &bundle.encode_to_vec()].concat()
    }

    fn history_access(&self, n: usize) -> HistoryAccess {
        let block = &self.blocks[self.accesses[n].height];
        HistoryAccess {
            header: block.header.clone(),
            certificate: Some(shortened(&self.genesis.validators, &block.certificate)),
            access: Some(self.claim(n)),
            in_checkpoint: None,
        }
    }

    /// The encoded history of the first `accesses` accesses.
    pub fn history(&self, accesses: usize) -> Vec<u8> {
        let slot = slot(&self.state, CHAIN, CUSTODIAN, &self.handle).unwrap().unwrap();
        let key = slot_key(CHAIN, CUSTODIAN, &self.handle);
        let proof =
            tree::prove(&self.state, self.tip.state_version, &key, Some(&slot.encode_to_vec())).unwrap();
        let history = AccessHistory {
            custodian: CUSTODIAN.into(),
            handle: self.handle.to_vec(),
            slot: Some(slot),
            state_proof: proof,
            anchor: Some(self.anchor(self.blocks.len() - 1)),
            accesses: (0..accesses).map(|n| self.history_access(n)).collect(),
        };
        history.encode_to_vec()
    }

    /// A history file.
    pub fn history_file(&self, accesses: usize) -> Vec<u8> {
        [HISTORY_MAGIC.as_slice(), &self.history(accesses)].concat()
    }

    /// Blocks from height 1 on, as a node gives them one by one.
    pub fn blocks(&self) -> Vec<GetBlockResponse> {
        let answer = Some(Answer { height: self.blocks.len() as u64, ..Default::default() });
        let one = |b: &Committed| GetBlockResponse {
            answer: answer.clone(),
            block: b.block.clone(),
            certificate: b.certificate.encode_to_vec(),
        };
        self.blocks.iter().map(one).collect()
    }

    /// Receipt files, all under the last header, by claim.
    pub fn receipt_files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let anchor = self.anchor(self.blocks.len() - 1);
        let access = receipt::Claim::Access(self.claim(1));
        let of = |claim| receipt_file(anchor.clone(), claim);
        vec![
            ("slot", of(self.slot_claim(self.handle))),
            ("absence", of(self.slot_claim([8; 32]))),
            ("access", of(access)),
        ]
    }

    /// A receipt of the last access that starts at a checkpoint of the whole log.
    pub fn pinned_receipt(&self) -> (Checkpoint, Vec<u8>) {
        let last = self.blocks.last().unwrap();
        let (size, root) = (self.tip.log.size(), self.tip.log.root());
        let path = inclusion_proof(&self.state, size - 1, size).unwrap();
        let anchor = from_checkpoint(size, &path, self.genesis.validators.clone(), last.header.clone());
        let checkpoint = Checkpoint { origin: origin(CHAIN), size, root, extensions: Vec::new() };
        (checkpoint, receipt_file(anchor, receipt::Claim::Access(self.claim(1))))
    }

    /// The checkpoint of the first block, and a receipt of a permit of now that starts there.
    pub fn pinned_decision(&self) -> (Checkpoint, Vec<u8>) {
        let (first, last) = (&self.blocks[0], self.blocks.last().unwrap());
        let size = first.log_size + 1;
        let path = inclusion_proof(&self.state, first.log_size, size).unwrap();
        let start = from_checkpoint(size, &path, self.genesis.validators.clone(), first.header.clone());
        let anchor = behind_checkpoint(start, &[], last.header.clone(), &last.certificate).unwrap();
        let root = root_at(&self.state, size).unwrap();
        let checkpoint = Checkpoint { origin: origin(CHAIN), size, root, extensions: Vec::new() };
        (checkpoint, receipt_file(anchor, self.decision_claim()))
    }

    /// What Birch may know of the patient 17.
    fn decision_claim(&self) -> receipt::Claim {
        let request = DataRequest {
            chain_id: CHAIN.into(),
            custodian: CUSTODIAN.into(),
            recipient: "birch".into(),
            client: "crm-desk".into(),
            identifier_system: "urn:x:mrn".into(),
            identifier_value: "17".into(),
            birth_date: "2000-02-29".into(),
            purpose: "TREAT".into(),
            action: "access".into(),
            nonce: vec![4; 16],
            not_after_ms: self.tip.time_ms + 1000,
            check_only: true,
            ..Default::default()
        };
        let request = request.encode_to_vec();
        let slot = slot(&self.state, CHAIN, CUSTODIAN, &self.handle).unwrap().unwrap();
        let decision = Decision {
            request_hash: request_hash(CHAIN, &request).to_vec(),
            custodian: CUSTODIAN.into(),
            handle: self.handle.to_vec(),
            outcome: "PERMIT".into(),
            consent_seq: slot.consent_seq,
            algorithm: "CDA-1".into(),
            tables: vec![2; 32],
            height: self.tip.height,
            time_ms: self.tip.time_ms,
            not_after_ms: self.tip.time_ms + 30_000,
            ..Default::default()
        };
        let signed =
            sign_message(Context::Decision, CHAIN, CUSTODIAN, &self.entries[1], decision.encode_to_vec());
        let (key, value) = (slot_key(CHAIN, CUSTODIAN, &self.handle), slot.encode_to_vec());
        receipt::Claim::Decision(DecisionClaim {
            request,
            decision: Some(signed),
            custodian: self.member(CUSTODIAN),
            state_proof: tree::prove(&self.state, self.tip.state_version, &key, Some(&value)).unwrap(),
            slot: Some(slot),
            policy: None,
        })
    }

    fn slot_claim(&self, handle: [u8; 32]) -> receipt::Claim {
        let slot = slot(&self.state, CHAIN, CUSTODIAN, &handle).unwrap();
        let (key, value) = (slot_key(CHAIN, CUSTODIAN, &handle), slot.as_ref().map(Message::encode_to_vec));
        receipt::Claim::Slot(SlotClaim {
            custodian: CUSTODIAN.into(),
            handle: handle.to_vec(),
            slot,
            state_proof: tree::prove(&self.state, self.tip.state_version, &key, value.as_deref()).unwrap(),
            state_key: key.to_vec(),
            consents: None,
        })
    }

    /// An export file, and where its records lie.
    pub fn export(&self) -> (Vec<u8>, Vec<Span>) {
        let mut out = EXPORT_MAGIC.to_vec();
        let mut spans = vec![Span { height: 0, bytes: 0..out.len() }];
        let mut record = |height: usize, kind: RecordKind, payload: &[u8]| {
            let start = out.len();
            write_record(&mut out, kind, payload);
            spans.push(Span { height: height as u64, bytes: start..out.len() });
        };
        record(0, RecordKind::Genesis, &self.genesis_file);
        for (height, committed) in (1..).zip(&self.blocks) {
            record(height, RecordKind::Block, &committed.block);
        }
        let last = self.blocks.last().unwrap();
        record(self.blocks.len(), RecordKind::Certificate, &last.certificate.encode_to_vec());
        (out, spans)
    }
}
