//! The chain of headers from genesis on, checked without the entries: what makes the tip of a peer's snapshot worth believing.
//!
//! The certificate over the last header is verified by the set that votes on it. That set is reached from genesis
//! ([`crate::voters`]): where a header names another set for the next height, or a recovery follows that the reader accepts, its
//! certificate, by the set known until then, stands in the block after it. Every other header and certificate hangs by its hash from
//! the last header.

use std::collections::{BTreeMap, BTreeSet};

use assent_proto::ledger::v1::{Certificate, Header, Recover, ValidatorSet};

use crate::bench::Bench;
use crate::block::header_hash;
use crate::certificate::{certificate_hash, validator_set_hash};
use crate::encoding::decode;
use crate::entry::MAX_ENTRY_BYTES;
use crate::genesis::CheckedGenesis;
use crate::hash::Hash;
use crate::log::{tagged_leaf_hash, Frontier, LEAF_HEADER};
use crate::recovered::without_signatures;
use crate::voters::{FirstSet, StepError, Voters};
use crate::PROTOCOL_VERSION;

/// Why a header, or the certificate over one, does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadersError {
    /// It is wrong by itself, or does not follow from what came before.
    #[error("header {height}: {why}")]
    Header { height: u64, why: String },
    /// It is of rules that this program does not know.
    #[error("header {height} is of protocol {version}")]
    Protocol { height: u64, version: u32 },
    #[error("header {0} is of another chain")]
    OtherChain(u64),
    #[error("the log at header {0} has another root or size")]
    LogRoot(u64),
    #[error("certificate over {height}: {why}")]
    Certificate { height: u64, why: String },
    /// Of the walk over the sets.
    #[error(transparent)]
    Step(#[from] StepError),
}

/// The end of the headers so far.
pub struct Headers {
    chain_id: String,
    /// Sets that somebody says there were, by hash.
    sets: BTreeMap<Hash, ValidatorSet>,
    /// Plans of recoveries that somebody says there were, by the height that they follow.
    plans: BTreeMap<u64, Recover>,
    voters: Voters,
    /// Time of the last header.
    pub time_ms: u64,
    /// The log, the last header included.
    pub log: Frontier,
    /// Proposers that missed their last turn.
    pub bench: Bench,
    /// The last header.
    pub last: Header,
}

impl Headers {
    /// At genesis. What `sets` holds counts only where a certified header names its hash; of `plans` those whose hash `accepted` has.
    pub fn new(
        genesis: &CheckedGenesis,
        accepted: &BTreeSet<Hash>,
        sets: impl IntoIterator<Item = ValidatorSet>,
        plans: impl IntoIterator<Item = Recover>,
    ) -> Self {
        let chain_id = genesis.chain_id.clone();
        Self {
            sets: sets.into_iter().map(|set| (validator_set_hash(&chain_id, &set), set)).collect(),
            plans: plans.into_iter().map(|plan| (plan.height, plan)).collect(),
            voters: Voters::new(&FirstSet::of(genesis, accepted)),
            time_ms: genesis.time_ms,
            log: Frontier::default(),
            bench: Bench::default(),
            last: Header::default(),
            chain_id,
        }
    }

    /// Height of the last header; 0 before the first.
    pub fn height(&self) -> u64 {
        self.voters.height()
    }

    /// Who votes on the last header, and on the next one.
    pub fn voters(&self) -> &Voters {
        &self.voters
    }

    /// Takes the next header, with the leaf hashes of its block's entries; tells every complete subtree of the log that they make. The
    /// plan, without signatures, when the block carries out a recovery.
    pub fn next(
        &mut self,
        header_bytes: &[u8],
        previous_certificate: &[u8],
        leaves: &[Hash],
        mut made: impl FnMut(u8, u64, Hash),
    ) -> Result<Option<Recover>, HeadersError> {
        let height = self.height() + 1;
        let wrong = |why: &str| HeadersError::Header { height, why: why.to_owned() };
        let header: Header =
            decode("Header", header_bytes, MAX_ENTRY_BYTES).map_err(|e| wrong(&e.to_string()))?;
        if header.protocol_version != PROTOCOL_VERSION {
            return Err(HeadersError::Protocol { height, version: header.protocol_version });
        }
        if header.chain_id != self.chain_id {
            return Err(HeadersError::OtherChain(height));
        }
        let recovered = self.change_set(previous_certificate)?;
        for leaf in leaves {
            self.log.append(*leaf, &mut made);
        }
        let links = [
            (header.height == height, "its height"),
            (header.time_ms > self.time_ms, "its time"),
            (header.previous_header_hash == self.voters.header_hash(), "the header before it"),
            (
                header.previous_certificate_hash == certificate_hash(&self.chain_id, previous_certificate),
                "the certificate before it",
            ),
            (header.validator_set_hash == self.voters.next_hash(), "its validator set"),
        ];
        if let Some((_, what)) = links.iter().find(|(holds, _)| !holds) {
            return Err(wrong(&format!("{what} does not follow from what came before")));
        }
        if (header.log_size, header.log_root.as_slice()) != (self.log.size(), &self.log.root()) {
            return Err(HeadersError::LogRoot(height));
        }
        let proposer = Hash::try_from(header.proposer.as_slice()).map_err(|_| wrong("its proposer"))?;
        let named = Hash::try_from(header.next_validator_set_hash.as_slice());
        let named = self.sets.get(&named.map_err(|_| wrong("its next validator set"))?);
        self.voters.header(&header, header_hash(&self.chain_id, header_bytes), named)?;
        self.log.append(tagged_leaf_hash(LEAF_HEADER, header_bytes), &mut made);
        self.bench = self.bench.after(self.voters.present(), height, header.round, &proposer);
        self.leave_bench();
        self.time_ms = header.time_ms;
        self.last = header;
        Ok(recovered)
    }

    fn leave_bench(&mut self) {
        if self.voters.changes() {
            self.bench = std::mem::take(&mut self.bench).within(self.voters.next());
        }
    }

    /// Where others vote on the next header: that takes the certificate over the last one. The plan of a recovery among it.
    fn change_set(&mut self, certificate: &[u8]) -> Result<Option<Recover>, HeadersError> {
        let plan = self.plans.remove(&self.height());
        // Genesis has no certificate.
        if self.height() > 0 && (self.voters.changes() || plan.is_some()) {
            self.verify(certificate)?;
        }
        if let Some(plan) = &plan {
            self.voters.recover(plan)?;
            self.leave_bench();
        }
        Ok(plan.map(|plan| without_signatures(&plan)))
    }

    /// Verifies a certificate over the last header by the set that votes on it.
    pub fn verify(&self, certificate: &[u8]) -> Result<(), HeadersError> {
        let wrong = |why: String| HeadersError::Certificate { height: self.height(), why };
        let certificate: Certificate =
            decode("Certificate", certificate, MAX_ENTRY_BYTES).map_err(|e| wrong(e.to_string()))?;
        self.voters.verify(&certificate).map_err(|e| wrong(e.to_string()))
    }
}
