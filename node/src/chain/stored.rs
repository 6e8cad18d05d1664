//! What the database holds besides ledger messages. Internal: may change with a migration.

use assent_ledger::bench::{Absence, Bench};
use assent_ledger::block::Tip;
use assent_ledger::log::Frontier;
use assent_ledger::Hash;
use assent_proto::ledger::v1::ValidatorSet;

use crate::order::Candidate;

fn hash(bytes: &[u8]) -> Option<Hash> {
    bytes.try_into().ok()
}

/// The tip.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredTip {
    #[prost(string, tag = "1")]
    chain_id: String,
    #[prost(uint64, tag = "2")]
    height: u64,
    #[prost(bytes = "vec", tag = "3")]
    header_hash: Vec<u8>,
    #[prost(uint64, tag = "4")]
    time_ms: u64,
    #[prost(bytes = "vec", tag = "5")]
    state_root: Vec<u8>,
    #[prost(uint64, tag = "6")]
    state_version: u64,
    #[prost(uint64, tag = "7")]
    log_size: u64,
    #[prost(bytes = "vec", repeated, tag = "8")]
    log_peaks: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "9")]
    validators: Option<ValidatorSet>,
    #[prost(message, repeated, tag = "10")]
    bench: Vec<StoredAbsence>,
    /// None when they are the validators.
    #[prost(message, optional, tag = "11")]
    voters: Option<ValidatorSet>,
    #[prost(uint64, tag = "12")]
    change_height: u64,
    /// None when no recovery is agreed to.
    #[prost(bytes = "vec", optional, tag = "13")]
    recovery: Option<Vec<u8>>,
}

/// A proposer that missed its last turn.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StoredAbsence {
    #[prost(bytes = "vec", tag = "1")]
    address: Vec<u8>,
    #[prost(uint32, tag = "2")]
    missed: u32,
    #[prost(uint64, tag = "3")]
    until: u64,
}

fn absence(address: &Hash, absence: &Absence) -> StoredAbsence {
    StoredAbsence { address: address.to_vec(), missed: absence.missed, until: absence.until }
}

impl From<&Tip> for StoredTip {
    fn from(tip: &Tip) -> Self {
        Self {
            chain_id: tip.chain_id.clone(),
            height: tip.height,
            header_hash: tip.header_hash.to_vec(),
            time_ms: tip.time_ms,
            state_root: tip.state_root.to_vec(),
            state_version: tip.state_version,
            log_size: tip.log.size(),
            log_peaks: tip.log.peaks().iter().map(|p| p.to_vec()).collect(),
            validators: Some(tip.validators.clone()),
            bench: tip.bench.0.iter().map(|(address, a)| absence(address, a)).collect(),
            voters: (tip.voters != tip.validators).then(|| tip.voters.clone()),
            change_height: tip.change_height,
            recovery: tip.recovery.map(|plan| plan.to_vec()),
        }
    }
}

impl StoredTip {
    /// The tip; none when what is stored is not one.
    pub fn into_tip(self) -> Option<Tip> {
        let peaks = self.log_peaks.iter().map(|p| hash(p)).collect::<Option<Vec<_>>>()?;
        let seat =
            |a: &StoredAbsence| Some((hash(&a.address)?, Absence { missed: a.missed, until: a.until }));
        let bench = self.bench.iter().map(seat).collect::<Option<_>>()?;
        let validators = self.validators?;
        Some(Tip {
            chain_id: self.chain_id,
            height: self.height,
            header_hash: hash(&self.header_hash)?,
            time_ms: self.time_ms,
            state_root: hash(&self.state_root)?,
            state_version: self.state_version,
            log: Frontier::from_parts(self.log_size, peaks)?,
            voters: self.voters.unwrap_or_else(|| validators.clone()),
            validators,
            change_height: self.change_height,
            bench: Bench(bench),
            recovery: match self.recovery {
                Some(plan) => Some(hash(&plan)?),
                None => None,
            },
        })
    }
}

/// A block whose entries are gone, save those that concern this node's organization. Their leaf hashes stay in the log.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StoredPruned {
    /// Exact bytes of the header.
    #[prost(bytes = "vec", tag = "1")]
    pub header: Vec<u8>,
    /// Exact bytes of the certificate over the block before.
    #[prost(bytes = "vec", tag = "2")]
    pub previous_certificate: Vec<u8>,
    /// Number of entries that it had.
    #[prost(uint64, tag = "3")]
    pub entries: u64,
    /// Those that are kept, in order.
    #[prost(message, repeated, tag = "4")]
    pub kept: Vec<KeptEntry>,
}

/// An entry of a pruned block.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeptEntry {
    /// Its place among the block's entries.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// Its exact bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub bytes: Vec<u8>,
}

/// Where an entry stands.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EntryPlace {
    /// Height of its block.
    #[prost(uint64, tag = "1")]
    pub height: u64,
    /// Index of its leaf in the log.
    #[prost(uint64, tag = "2")]
    pub leaf: u64,
}

/// Where an access stands.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AccessPlace {
    /// Height of its block.
    #[prost(uint64, tag = "1")]
    pub height: u64,
    /// Index of its entry's leaf in the log.
    #[prost(uint64, tag = "2")]
    pub leaf: u64,
    /// Position of the operation in the entry.
    #[prost(uint32, tag = "3")]
    pub operation: u32,
    /// Commitment to the event.
    #[prost(bytes = "vec", tag = "4")]
    pub commitment: Vec<u8>,
    /// Access head before it; empty before the first.
    #[prost(bytes = "vec", tag = "5")]
    pub previous_head: Vec<u8>,
}

/// An undecided block.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredCandidate {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(uint32, tag = "2")]
    round: u32,
    #[prost(uint32, optional, tag = "3")]
    pol_round: Option<u32>,
    #[prost(bytes = "vec", tag = "4")]
    proposer: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    bytes: Vec<u8>,
}

impl From<&Candidate> for StoredCandidate {
    fn from(candidate: &Candidate) -> Self {
        Self {
            height: candidate.height,
            round: candidate.round,
            pol_round: candidate.pol_round,
            proposer: candidate.proposer.to_vec(),
            hash: candidate.hash.to_vec(),
            bytes: candidate.bytes.to_vec(),
        }
    }
}

impl StoredCandidate {
    /// The candidate; none when what is stored is not one.
    pub fn into_candidate(self) -> Option<Candidate> {
        Some(Candidate {
            height: self.height,
            round: self.round,
            pol_round: self.pol_round,
            proposer: hash(&self.proposer)?,
            hash: hash(&self.hash)?,
            bytes: self.bytes.into(),
        })
    }
}
