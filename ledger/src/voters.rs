//! Who votes on which header: one walk from genesis, or from a header that the reader trusts, over changes that a set certified, and over recoveries of a lost quorum.
//!
//! ```text
//! header h, of the set in force ── names another set ─────────▶ that one votes from h + 1, once h is certified
//!                               └─ a plan that is accepted ───▶ those who remain do: nobody else certified that
//! ```
//! Headers may be left out as long as the set stays the same. Who walks has to verify the certificate over each header behind which
//! the set changes ([`Voters::verify`]); every other header hangs by its hash from a later one. A walk that met an error is over.

use std::collections::BTreeSet;

use assent_proto::ledger::v1::{Certificate, Header, Recover, ValidatorSet};

use crate::certificate::{validator_set_hash, verify_certificate, CertificateError};
use crate::encoding::{array, EncodingError};
use crate::execute::ExecuteError;
use crate::genesis::{check_validator_set, CheckedGenesis};
use crate::hash::Hash;
use crate::recovered::{describe, Recovered};
use crate::recovery::new_set;

/// Where a walk begins.
#[derive(Debug, Clone, Copy)]
pub struct FirstSet<'a> {
    /// Chain id.
    pub chain_id: &'a str,
    /// Those who vote on the first header: genesis' validators.
    pub validators: &'a ValidatorSet,
    /// Height of the header before that one; 0 is genesis.
    pub height: u64,
    /// Its hash; the genesis hash.
    pub hash: &'a Hash,
    /// Hashes of the plans of recoveries that the reader accepts.
    pub accepted: &'a BTreeSet<Hash>,
}

impl<'a> FirstSet<'a> {
    /// At a genesis.
    pub fn of(genesis: &'a CheckedGenesis, accepted: &'a BTreeSet<Hash>) -> Self {
        let CheckedGenesis { chain_id, validators, hash, .. } = genesis;
        Self { chain_id, validators, height: 0, hash, accepted }
    }
}

/// Why a header, or a recovery, does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("{field} is {found}, expected {expected}")]
    Mismatch { field: &'static str, expected: String, found: String },
    #[error("the header names validator set {0} for the next height, which is not there")]
    NoSet(String),
    #[error("{0}")]
    Rule(String),
    #[error("the plan of the recovery: {0}")]
    Plan(#[from] ExecuteError),
    /// It holds, and only the reader can decide: neither right nor wrong.
    #[error("{}", .0.question())]
    NotAccepted(Box<Recovered>),
}

pub(crate) fn same(
    field: &'static str,
    expected: impl AsRef<[u8]>,
    found: impl AsRef<[u8]>,
) -> Result<(), StepError> {
    let (expected, found) = (expected.as_ref(), found.as_ref());
    if expected == found {
        return Ok(());
    }
    Err(StepError::Mismatch { field, expected: hex::encode(expected), found: hex::encode(found) })
}

/// A set with its hash.
#[derive(Debug, Clone, PartialEq)]
struct Hashed {
    set: ValidatorSet,
    hash: Hash,
}

impl Hashed {
    fn new(chain_id: &str, set: ValidatorSet) -> Self {
        Self { hash: validator_set_hash(chain_id, &set), set }
    }
}

/// The walk so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Voters {
    chain_id: String,
    accepted: BTreeSet<Hash>,
    height: u64,
    header_hash: Hash,
    /// Voted on the last header.
    present: Hashed,
    /// Votes on the next one, when it is another.
    next: Option<Hashed>,
    /// There is a recovery behind the last header.
    recovered: bool,
}

impl Voters {
    /// Where it begins.
    pub fn new(first: &FirstSet<'_>) -> Self {
        Self {
            chain_id: first.chain_id.to_owned(),
            accepted: first.accepted.clone(),
            height: first.height,
            header_hash: *first.hash,
            present: Hashed::new(first.chain_id, first.validators.clone()),
            next: None,
            recovered: false,
        }
    }

    /// Height of the last header; 0 at genesis.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Hash of the last header; at genesis that one's.
    pub fn header_hash(&self) -> Hash {
        self.header_hash
    }

    /// The set that voted on the last header.
    pub fn present(&self) -> &ValidatorSet {
        &self.present.set
    }

    /// Its hash.
    pub fn present_hash(&self) -> Hash {
        self.present.hash
    }

    /// The set that votes on the next header.
    pub fn next(&self) -> &ValidatorSet {
        self.next.as_ref().map_or(&self.present.set, |next| &next.set)
    }

    /// Its hash.
    pub fn next_hash(&self) -> Hash {
        self.next.as_ref().map_or(self.present.hash, |next| next.hash)
    }

    /// True when that is another than the one that voted on the last header.
    pub fn changes(&self) -> bool {
        self.next.is_some()
    }

    /// Goes on to a header with this hash. `named` is the set that it names for the next height; not looked at when that stays the same.
    pub fn header(
        &mut self,
        header: &Header,
        hash: Hash,
        named: Option<&ValidatorSet>,
    ) -> Result<(), StepError> {
        let expected = self.height.saturating_add(1);
        if header.height < expected || header.height == u64::MAX {
            return Err(StepError::Rule(format!("height {}, expected {expected} or more", header.height)));
        }
        if header.height == expected {
            same("previous_header_hash", self.header_hash, &header.previous_header_hash)?;
        }
        if let Some(next) = self.next.take() {
            self.present = next;
        }
        same("validator_set_hash", self.present.hash, &header.validator_set_hash)?;
        if header.next_validator_set_hash != header.validator_set_hash {
            let missing = || StepError::NoSet(hex::encode(&header.next_validator_set_hash));
            let next = Hashed::new(&self.chain_id, named.ok_or_else(missing)?.clone());
            same("next_validator_set_hash", next.hash, &header.next_validator_set_hash)?;
            check_validator_set(&next.set).map_err(|e| StepError::Rule(e.to_string()))?;
            array::<32>("ValidatorSet", "members_root", &next.set.members_root)?;
            self.next = Some(next);
        }
        (self.height, self.header_hash, self.recovered) = (header.height, hash, false);
        Ok(())
    }

    /// Verifies a certificate over the last header, by the set that votes on it.
    pub fn verify(&self, certificate: &Certificate) -> Result<(), StepError> {
        let Self { chain_id, present, height, header_hash, .. } = self;
        Ok(verify_certificate(chain_id, &present.set, *height, header_hash, certificate)?)
    }

    /// Goes on without those whom a plan leaves out of the next set. The plan follows the last header, and its hash was accepted; its
    /// signatures are not looked at.
    pub fn recover(&mut self, plan: &Recover) -> Result<Recovered, StepError> {
        let recovered = describe(&self.chain_id, (self.height, &self.header_hash), self.next(), plan)?;
        if self.recovered {
            return Err(StepError::Rule(format!("a second recovery behind height {}", self.height)));
        }
        if !self.accepted.contains(&recovered.plan) {
            return Err(StepError::NotAccepted(Box::new(recovered)));
        }
        self.next = Some(Hashed::new(&self.chain_id, new_set(plan)?));
        self.recovered = true;
        Ok(recovered)
    }
}
