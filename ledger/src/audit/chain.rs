//! One chain, record by record.

use std::collections::{BTreeMap, BTreeSet};

use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{Certificate, Header, ValidatorSet};

use super::memory::StateInMemory;
use super::steps::SetStep;
use super::{Fault, RecordKind};
use crate::block::{apply_block, apply_genesis, BlockError, Tip, Verify};
use crate::certificate::{certificate_checks, validator_set_hash, verify_certificate};
use crate::encoding::decode;
use crate::entry::CheckedEntry;
use crate::genesis::check_genesis_file;
use crate::hash::Hash;
use crate::keys::verify_batch;
use crate::recovered::Recovered;
use crate::state::ReadError;
use crate::tree::StateTree;

/// Kind of the fault that is none: a full verification met a block without its entries, and can't go on.
pub const PRUNED: &str = "pruned";

/// How much is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Everything.
    Full,
    /// Encodings, links, log roots, certificates, validator sets.
    Structural,
}

impl Level {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Structural => "structural",
        }
    }
}

/// Counts of what was verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries.
    pub entries: u64,
    /// Operations; none are looked at structurally.
    pub operations: u64,
    /// Signatures: authors, patients, validators.
    pub signatures: u64,
}

/// What one organization wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OrganizationCounts {
    /// Entries, each with a sequence number that no other has.
    pub entries: u64,
    /// SetConsent.
    pub consents: u64,
    /// RecordAccess.
    pub accesses: u64,
    /// Withdraw, of whichever custodian's patients.
    pub withdrawals: u64,
}

/// Verifies records one by one; holds the state that they lead to.
pub struct ChainVerifier {
    pub(super) level: Level,
    expected_genesis: Option<Hash>,
    genesis_hash: Option<Hash>,
    pub(super) tip: Option<Tip>,
    pub(super) state: StateInMemory,
    pub(super) sealed: bool,
    /// Hash of the set that the next record has to hold.
    pub(super) awaited_set: Option<Hash>,
    /// What was verified so far.
    pub counts: Counts,
    /// By organization; empty structurally.
    pub organizations: BTreeMap<String, OrganizationCounts>,
    /// Every validator set, in order.
    pub sets: Vec<SetStep>,
    /// Heights whose entries are not in the file: first and last of each run.
    pub pruned: Vec<(u64, u64)>,
    /// Recoveries of a lost quorum, in order: each was accepted by the auditor.
    pub recoveries: Vec<Recovered>,
    /// Plans of recoveries that the auditor accepts.
    pub(super) accepted: BTreeSet<Hash>,
}

impl ChainVerifier {
    /// With the genesis hash that the auditor trusts, or none: then the chain can only be found consistent, not anchored.
    pub fn new(level: Level, expected_genesis: Option<Hash>) -> Self {
        Self {
            level,
            expected_genesis,
            genesis_hash: None,
            tip: None,
            state: StateInMemory::default(),
            sealed: false,
            awaited_set: None,
            counts: Counts::default(),
            organizations: BTreeMap::new(),
            sets: Vec::new(),
            pruned: Vec::new(),
            recoveries: Vec::new(),
            accepted: BTreeSet::new(),
        }
    }

    /// The level that it verifies at.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The chain's end so far.
    pub fn tip(&self) -> Option<&Tip> {
        self.tip.as_ref()
    }

    /// The state that the blocks so far lead to; that of genesis where only the structure is verified.
    pub fn state(&self) -> &StateInMemory {
        &self.state
    }

    /// The chain's own genesis hash.
    pub fn genesis_hash(&self) -> Option<Hash> {
        self.genesis_hash
    }

    /// Verifies the next record.
    pub fn record(&mut self, kind: RecordKind, payload: &[u8]) -> Result<(), Fault> {
        self.record_by(kind, payload, &verify_batch)
    }

    /// The same, with signatures checked by `verify`. One that puts them off answers true for now; should any not hold, the
    /// chain has to be verified again with [`ChainVerifier::record`], which names the fault.
    pub fn record_by(&mut self, kind: RecordKind, payload: &[u8], verify: Verify<'_>) -> Result<(), Fault> {
        self.checked_record(kind, payload, verify).map_err(|fault| self.placed(fault, kind, payload))
    }

    fn checked_record(&mut self, kind: RecordKind, payload: &[u8], verify: Verify<'_>) -> Result<(), Fault> {
        if self.sealed {
            return Err(self.fault("trailing-record", "the end of the file", format!("{kind:?} record")));
        }
        if self.tip.is_none() {
            return match kind {
                RecordKind::Genesis => self.genesis(payload),
                _ => Err(self.fault("record-order", "Genesis record", format!("{kind:?} record"))),
            };
        }
        match (kind, self.awaited_set, self.level) {
            (RecordKind::ValidatorSet, Some(hash), _) => self.validator_set(hash, payload),
            (_, Some(_), _) => {
                Err(self.fault("record-order", "ValidatorSet record", format!("{kind:?} record")))
            }
            (RecordKind::Block, None, Level::Full) => self.block(payload, verify),
            (RecordKind::Pruned, None, Level::Full) => {
                Err(self.fault(PRUNED, "a block with its entries", "their leaf hashes only"))
            }
            (RecordKind::Block, None, Level::Structural) => self.whole_block(payload, verify),
            (RecordKind::Pruned, None, Level::Structural) => self.pruned_block(payload, verify),
            (RecordKind::Certificate, None, _) => self.certificate(payload, verify),
            (RecordKind::Genesis | RecordKind::ValidatorSet, None, _) => {
                Err(self.fault("record-order", "Block or Certificate record", format!("{kind:?} record")))
            }
        }
    }

    fn genesis(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let genesis = check_genesis_file(payload)
            .map_err(|e| self.fault("genesis", "a valid genesis", e.to_string()))?;
        if let Some(expected) = self.expected_genesis.filter(|expected| *expected != genesis.hash) {
            return Err(self.fault("genesis-hash", hex::encode(expected), hex::encode(genesis.hash)));
        }
        let unreadable = |e: ReadError| Fault {
            height: 0,
            index: None,
            kind: "genesis",
            expected: "a readable state".into(),
            found: e.to_string(),
        };
        let (tip, changes, _) = apply_genesis(&genesis).map_err(unreadable)?;
        let (_, update) = self.state.update(0, &changes).map_err(unreadable)?;
        self.state.apply(changes, Some(update));
        self.genesis_hash = Some(genesis.hash);
        self.step(1, &tip.chain_id, tip.validators.clone());
        self.tip = Some(tip);
        Ok(())
    }

    pub(super) fn step(&mut self, height: u64, chain_id: &str, set: ValidatorSet) {
        let before = self.sets.last().map(|step| &step.set);
        let step = SetStep::new(height, chain_id, before, set);
        self.sets.push(step);
    }

    fn block(&mut self, payload: &[u8], verify: Verify<'_>) -> Result<(), Fault> {
        let Some(tip) = &self.tip else {
            return Err(self.fault("record-order", "Genesis record", "Block record"));
        };
        let applied = match apply_block(tip, &self.state, payload, verify) {
            Ok(applied) => applied,
            // No block that recovers a lost quorum follows by the rules alone.
            Err(error) => match self.recovered(tip, payload, verify)? {
                None => return Err(self.block_fault(&error)),
                Some((tip, recovered)) => {
                    let applied = apply_block(&tip, &self.state, payload, verify);
                    let applied = applied.map_err(|error| self.block_fault(&error))?;
                    self.note_recovery(&tip, recovered);
                    applied
                }
            },
        };
        self.counts.entries += applied.entries.len() as u64;
        self.counts.signatures += applied.signatures as u64;
        for entry in &applied.entries {
            self.count(entry);
        }
        self.state.apply(applied.changes, applied.tree);
        self.await_set(&applied.header);
        self.tip = Some(applied.tip);
        Ok(())
    }

    fn count(&mut self, entry: &CheckedEntry) {
        self.counts.operations += entry.body.operations.len() as u64;
        if !self.organizations.contains_key(&entry.body.author) {
            self.organizations.insert(entry.body.author.clone(), OrganizationCounts::default());
        }
        let Some(of) = self.organizations.get_mut(&entry.body.author) else { return };
        of.entries += 1;
        for operation in &entry.body.operations {
            match operation.kind {
                Some(Kind::SetConsent(_)) => of.consents += 1,
                Some(Kind::RecordAccess(_)) => of.accesses += 1,
                Some(Kind::Withdraw(_)) => of.withdrawals += 1,
                _ => {}
            }
        }
    }

    /// After a header that names another set for the next height, that set has to follow.
    pub(super) fn await_set(&mut self, header: &Header) {
        if header.next_validator_set_hash != header.validator_set_hash {
            self.awaited_set = header.next_validator_set_hash.as_slice().try_into().ok();
        }
    }

    fn validator_set(&mut self, expected: Hash, payload: &[u8]) -> Result<(), Fault> {
        let set: ValidatorSet = decode("ValidatorSet", payload, RecordKind::ValidatorSet.limit())
            .map_err(|e| self.fault("malformed", "a validator set", e.to_string()))?;
        let Some(tip) = &mut self.tip else {
            return Err(self.fault("record-order", "Genesis record", "ValidatorSet record"));
        };
        let found = validator_set_hash(&tip.chain_id, &set);
        if found != expected {
            return Err(self.fault("validator-set", hex::encode(expected), hex::encode(found)));
        }
        tip.bench = std::mem::take(&mut tip.bench).within(&set);
        tip.validators = set.clone();
        let (from, chain_id) = (tip.height + 1, tip.chain_id.clone());
        self.step(from, &chain_id, set);
        self.awaited_set = None;
        Ok(())
    }

    fn certificate(&mut self, payload: &[u8], verify: Verify<'_>) -> Result<(), Fault> {
        let Some(tip) = &self.tip else {
            return Err(self.fault("record-order", "Genesis record", "nothing"));
        };
        let certificate: Certificate = decode("Certificate", payload, RecordKind::Certificate.limit())
            .map_err(|e| self.fault("malformed", "a certificate", e.to_string()))?;
        let refused = |found: String| self.fault("certificate", "precommits of more than 2/3", found);
        let checks =
            certificate_checks(&tip.chain_id, &tip.voters, tip.height, &tip.header_hash, &certificate)
                .map_err(|e| refused(e.to_string()))?;
        if !verify(&checks) {
            let why =
                verify_certificate(&tip.chain_id, &tip.voters, tip.height, &tip.header_hash, &certificate);
            return Err(refused(
                why.map_or_else(|e| e.to_string(), |()| "another verdict when asked again".into()),
            ));
        }
        self.counts.signatures += checks.len() as u64;
        self.sealed = true;
        Ok(())
    }

    /// The file has ended: true when the last block's certificate was there.
    pub fn finish(&self) -> Result<(), Fault> {
        let Some(tip) = &self.tip else {
            return Err(self.fault("empty", "Genesis record", "nothing"));
        };
        let expected = match self.awaited_set {
            Some(_) => "validator set after the last block",
            None if !self.sealed && tip.height > 0 => "certificate of the last block",
            None => return Ok(()),
        };
        Err(Fault { height: tip.height, ..self.fault("truncated", expected, "end of file") })
    }

    pub(super) fn block_fault(&self, error: &BlockError) -> Fault {
        let index = match error {
            BlockError::Entry { index, .. }
            | BlockError::EntryForm { index, .. }
            | BlockError::WithdrawalOrder { index } => Some(*index),
            _ => None,
        };
        let (expected, found) = match error {
            BlockError::Header { field, expected, found } => (format!("{field} {expected}"), found.clone()),
            other => ("a block that follows every rule".to_owned(), other.to_string()),
        };
        Fault { index, ..self.fault(error.kind(), expected, found) }
    }
}
