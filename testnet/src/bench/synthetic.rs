//! A long chain made in this process, by the ledger's own rules: entries of one operation, a hundred to a block.

use std::io::{BufWriter, Write};
use std::path::Path;

use assent_ledger::audit::{write_record, RecordKind, StateInMemory, EXPORT_MAGIC};
use assent_ledger::block::{apply_genesis, build_block, Proposal, Tip};
use assent_ledger::certificate::{precommit, vote_sign_bytes};
use assent_ledger::entry::{check_entry, sign_entry, CheckedEntry};
use assent_ledger::genesis::make_genesis_file;
use assent_ledger::hash::sha256;
use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::tree::StateTree;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    operation, Certificate, CommitSignature, EntryBody, Operation, Organization, SetConsent, Validator,
    ValidatorSet,
};
use prost::Message;

use crate::error::{Error, While};

const CHAIN: &str = "testnet-synthetic";
const NAMES: [&str; 4] = ["birch", "cedar", "dogwood", "elm"];
/// Entries of a block.
const BLOCK: usize = 100;
const START_MS: u64 = 1_780_000_000_000;

/// Keys of the members, by name.
struct Member {
    name: &'static str,
    entry: SigningKey,
    vote: SigningKey,
}

/// The chain as it grows.
struct Chain {
    members: Vec<Member>,
    state: StateInMemory,
    tip: Tip,
    /// Consent sequence of each slot.
    sequences: Vec<u64>,
    written: u64,
}

/// Writes an export of so many entries over so many slots. The genesis hash.
pub fn write_chain(path: &Path, entries: u64, slots: usize) -> Result<Hash, Error> {
    let doing = || format!("writing {}", path.display());
    let mut out = BufWriter::new(std::fs::File::create(path).during(doing)?);
    let (mut chain, genesis, genesis_file) = Chain::begin(slots)?;
    let mut buffer = EXPORT_MAGIC.to_vec();
    write_record(&mut buffer, RecordKind::Genesis, &genesis_file);
    let mut certificate = Vec::new();
    while chain.written < entries {
        let count = BLOCK.min(usize::try_from(entries - chain.written).unwrap_or(BLOCK));
        let block = chain.block(count, std::mem::take(&mut certificate))?;
        certificate = chain.certify();
        write_record(&mut buffer, RecordKind::Block, &block);
        out.write_all(&buffer).during(doing)?;
        buffer.clear();
    }
    write_record(&mut buffer, RecordKind::Certificate, &certificate);
    out.write_all(&buffer).during(doing)?;
    out.flush().during(doing)?;
    Ok(genesis)
}

impl Chain {
    fn begin(slots: usize) -> Result<(Self, Hash, Vec<u8>), Error> {
        let key =
            |kind: &str, name: &str| SigningKey::from_bytes(&sha256(format!("{kind} {name}").as_bytes()));
        let public = |key: &SigningKey| key.verifying_key().to_bytes().to_vec();
        let members: Vec<Member> =
            NAMES.map(|name| Member { name, entry: key("entry", name), vote: key("vote", name) }).into();
        let validators = members.iter().map(|m| Validator {
            organization: m.name.into(),
            vote_key: public(&m.vote),
            power: 1,
        });
        let organizations = members.iter().map(|m| Organization {
            id: m.name.into(),
            entry_key: public(&m.entry),
            checkpoint_key: public(&key("checkpoint", m.name)),
            ..Default::default()
        });
        let set = ValidatorSet { validators: validators.collect(), ..Default::default() };
        let doing = || "making a chain".to_owned();
        let (file, genesis) =
            make_genesis_file(CHAIN, START_MS, set, organizations.collect()).during(doing)?;
        let (tip, changes, _) = apply_genesis(&genesis).during(doing)?;
        let mut state = StateInMemory::default();
        let (_, update) = state.update(0, &changes).during(doing)?;
        state.apply(changes, Some(update));
        let chain = Self { members, state, tip, sequences: vec![0; slots], written: 0 };
        Ok((chain, genesis.hash, file))
    }

    fn entry(&mut self, time_ms: u64) -> Result<CheckedEntry, Error> {
        let slot = self.written as usize % self.sequences.len();
        let member = &self.members[slot % NAMES.len()];
        let sequence = self.written / NAMES.len() as u64 + 1;
        let commitment = sha256(&self.written.to_be_bytes()).to_vec();
        let consent = SetConsent {
            custodian: member.name.into(),
            handle: sha256(&(slot as u64).to_le_bytes()).to_vec(),
            expected_consent_seq: self.sequences[slot],
            commitment,
            control_key: None,
            control_signature: None,
        };
        let body = EntryBody {
            chain_id: CHAIN.into(),
            author: member.name.into(),
            sequence,
            not_after_ms: time_ms + 60_000,
            operations: vec![Operation { kind: Some(operation::Kind::SetConsent(consent)) }],
        };
        self.sequences[slot] += 1;
        self.written += 1;
        check_entry(CHAIN, &sign_entry(&member.entry, &body)).during(|| "making an entry".into())
    }

    fn block(&mut self, entries: usize, previous_certificate: Vec<u8>) -> Result<Vec<u8>, Error> {
        let now_ms = START_MS + (self.tip.height + 1) * 10;
        let candidates = (0..entries).map(|_| self.entry(now_ms)).collect::<Result<_, _>>()?;
        let proposer = self.tip.bench.proposer(&self.tip.validators, self.tip.height + 1, 0);
        let proposal =
            Proposal { proposer: proposer.unwrap_or_default(), round: 0, now_ms, previous_certificate };
        // They were signed here, a moment ago.
        let (block, applied, _) = build_block(&self.tip, &self.state, candidates, &proposal, &|_| true)
            .during(|| "making a block".into())?;
        self.state.apply(applied.changes, applied.tree);
        self.tip = applied.tip;
        Ok(block)
    }

    /// Precommits of three of four.
    fn certify(&self) -> Vec<u8> {
        let Tip { height, header_hash, .. } = self.tip;
        let mut signatures: Vec<CommitSignature> = self.members[..3]
            .iter()
            .map(|m| {
                let address = m.vote.verifying_key().to_bytes();
                let vote = precommit(height, 0, &header_hash, &address);
                let signature = sign(&m.vote, &vote_sign_bytes(CHAIN, &vote)).to_vec();
                CommitSignature { address: address.to_vec(), signature }
            })
            .collect();
        signatures.sort_by(|a, b| a.address.cmp(&b.address));
        Certificate { height, round: 0, header_hash: header_hash.to_vec(), signatures }.encode_to_vec()
    }
}
