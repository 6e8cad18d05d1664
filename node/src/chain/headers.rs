//! The chain of headers from genesis on, checked without the entries: what makes a snapshot's tip worth believing.
//!
//! The certificate over the last header is verified by the set that votes on it. That set is reached from genesis: where a header
//! names another set for the next height, its certificate, by the set known until then, stands in the block after it. Every other
//! header and certificate hangs by its hash from the last header.

use std::collections::BTreeMap;

use assent_ledger::bench::Bench;
use assent_ledger::block::header_hash;
use assent_ledger::certificate::{certificate_hash, validator_set_hash, verify_certificate};
use assent_ledger::encoding::decode;
use assent_ledger::entry::MAX_ENTRY_BYTES;
use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::log::{tagged_leaf_hash, Frontier, LEAF_HEADER};
use assent_ledger::{Hash, PROTOCOL_VERSION};
use assent_proto::ledger::v1::{Certificate, Header, ValidatorSet};

/// Why a snapshot is not taken: a fixed word, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {sentence}")]
pub struct Refused {
    /// The word.
    pub reason: &'static str,
    /// What was wrong.
    pub sentence: String,
}

impl Refused {
    /// A word with its sentence.
    pub fn new(reason: &'static str, sentence: impl Into<String>) -> Self {
        Self { reason, sentence: sentence.into() }
    }
}

/// The end of the headers so far.
pub struct Headers {
    chain_id: String,
    /// Sets that somebody says there were, by hash.
    sets: BTreeMap<Hash, ValidatorSet>,
    /// The set that votes on the next header.
    set: ValidatorSet,
    set_hash: Hash,
    /// The set that the last header names for the next one, when it is another.
    next_set: Option<Hash>,
    /// Height of the last header; 0 before the first.
    pub height: u64,
    /// Its hash; of genesis before the first.
    pub header_hash: Hash,
    /// Its time.
    pub time_ms: u64,
    /// The log, the last header included.
    pub log: Frontier,
    /// Proposers that missed their last turn.
    pub bench: Bench,
    /// The last header.
    pub last: Header,
}

impl Headers {
    /// At genesis. What `sets` holds counts only where a certified header names its hash.
    pub fn new(genesis: &CheckedGenesis, sets: impl IntoIterator<Item = ValidatorSet>) -> Self {
        let chain_id = genesis.chain_id.clone();
        let set = genesis.validators.clone();
        Self {
            sets: sets.into_iter().map(|set| (validator_set_hash(&chain_id, &set), set)).collect(),
            set_hash: validator_set_hash(&chain_id, &set),
            set,
            next_set: None,
            height: 0,
            header_hash: genesis.hash,
            time_ms: genesis.time_ms,
            log: Frontier::default(),
            bench: Bench::default(),
            last: Header::default(),
            chain_id,
        }
    }

    /// Takes the next header, with the leaf hashes of its block's entries; tells every complete subtree of the log that they make.
    pub fn next(
        &mut self,
        header_bytes: &[u8],
        previous_certificate: &[u8],
        leaves: &[Hash],
        mut made: impl FnMut(u8, u64, Hash),
    ) -> Result<&Header, Refused> {
        let height = self.height + 1;
        let wrong = |what: &str| Refused::new("header", format!("header {height}: {what}"));
        let header: Header =
            decode("Header", header_bytes, MAX_ENTRY_BYTES).map_err(|e| wrong(&e.to_string()))?;
        if header.protocol_version != PROTOCOL_VERSION {
            let sentence = format!("header {height} is of protocol {}", header.protocol_version);
            return Err(Refused::new("newer-format", sentence));
        }
        if header.chain_id != self.chain_id {
            return Err(Refused::new("other-chain", format!("header {height} is of another chain")));
        }
        self.follow_set(previous_certificate)?;
        for leaf in leaves {
            self.log.append(*leaf, &mut made);
        }
        let links = [
            (header.height == height, "its height"),
            (header.time_ms > self.time_ms, "its time"),
            (header.previous_header_hash == self.header_hash, "the header before it"),
            (
                header.previous_certificate_hash == certificate_hash(&self.chain_id, previous_certificate),
                "the certificate before it",
            ),
            (header.validator_set_hash == self.set_hash, "its validator set"),
        ];
        if let Some((_, what)) = links.iter().find(|(holds, _)| !holds) {
            return Err(wrong(&format!("{what} does not follow from what came before")));
        }
        if (header.log_size, header.log_root.as_slice()) != (self.log.size(), &self.log.root()) {
            return Err(Refused::new(
                "log-root",
                format!("the log at header {height} has another root or size"),
            ));
        }
        let proposer = Hash::try_from(header.proposer.as_slice()).map_err(|_| wrong("its proposer"))?;
        let next: Hash = header
            .next_validator_set_hash
            .as_slice()
            .try_into()
            .map_err(|_| wrong("its next validator set"))?;
        self.next_set = (next != self.set_hash).then_some(next);
        self.log.append(tagged_leaf_hash(LEAF_HEADER, header_bytes), &mut made);
        self.bench = self.bench.after(&self.set, height, header.round, &proposer);
        if let Some(next) = &self.next_set {
            self.bench = std::mem::take(&mut self.bench).within(&self.known_set(next)?);
        }
        self.height = height;
        self.header_hash = header_hash(&self.chain_id, header_bytes);
        self.time_ms = header.time_ms;
        self.last = header;
        Ok(&self.last)
    }

    /// Where the last header names another set for the next height: that takes the certificate of the one known.
    fn follow_set(&mut self, certificate: &[u8]) -> Result<(), Refused> {
        let Some(next) = self.next_set.take() else { return Ok(()) };
        self.verify(certificate)?;
        self.set = self.known_set(&next)?;
        self.set_hash = next;
        Ok(())
    }

    fn known_set(&self, hash: &Hash) -> Result<ValidatorSet, Refused> {
        let missing = || {
            let sentence = format!("the validator set after block {} is not in it", self.height);
            Refused::new("validator-set", sentence)
        };
        self.sets.get(hash).cloned().ok_or_else(missing)
    }

    /// Verifies a certificate over the last header by the set that votes on it.
    pub fn verify(&self, certificate: &[u8]) -> Result<(), Refused> {
        let wrong = |e: String| Refused::new("certificate", format!("certificate over {}: {e}", self.height));
        let certificate: Certificate =
            decode("Certificate", certificate, MAX_ENTRY_BYTES).map_err(|e| wrong(e.to_string()))?;
        verify_certificate(&self.chain_id, &self.set, self.height, &self.header_hash, &certificate)
            .map_err(|e| wrong(e.to_string()))
    }

    /// Hash of the set that votes on the last header.
    pub fn voters_hash(&self) -> Hash {
        self.set_hash
    }

    /// The set that votes at the next height.
    pub fn next_validators(&self) -> Result<ValidatorSet, Refused> {
        self.next_set.map_or_else(|| Ok(self.set.clone()), |next| self.known_set(&next))
    }
}
