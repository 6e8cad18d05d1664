//! Validator sets, each certified by the one before: from genesis to every later key, without the blocks between.
//!
//! ```text
//! genesis ─▶ set 1 ─certificate over header h─▶ set 2, from h + 1 ─certificate over header i─▶ set 3, from i + 1 ...
//! ```
//! A chain shows that its sets were in force from their heights on. That a later change was left out behind its end it can't
//! show: who has to know the set of one height needs a header of that height, which names the hash of its set.

use assent_proto::ledger::v1::{Block, Certificate, Header, SetChange, ValidatorSet};

use crate::block::{header_hash, Tip};
use crate::certificate::{validator_set_hash, verify_certificate, CertificateError};
use crate::encoding::{array, decode, EncodingError};
use crate::entry::MAX_ENTRY_BYTES;
use crate::genesis::{check_validator_set, CheckedGenesis};
use crate::hash::Hash;
use crate::PROTOCOL_VERSION;

/// Most links of a chain.
pub const MAX_SET_CHANGES: usize = 4096;

/// A set, and the first height at which it votes.
pub type SetFrom = (u64, ValidatorSet);

/// Why a chain of sets shows nothing. `link` counts from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error("the chain of validator sets has {found} links, at most {MAX_SET_CHANGES} allowed")]
    TooMany { found: usize },
    #[error("link {link} of the validator sets: {error}")]
    Encoding { link: usize, error: EncodingError },
    #[error("link {link} of the validator sets: {error}")]
    Certificate { link: usize, error: CertificateError },
    #[error("link {link} of the validator sets: {field} is {found}, expected {expected}")]
    Mismatch { link: usize, field: &'static str, expected: String, found: String },
    #[error("link {link} of the validator sets: {why}")]
    Rule { link: usize, why: String },
}

fn same(
    link: usize,
    field: &'static str,
    expected: impl AsRef<[u8]>,
    found: impl AsRef<[u8]>,
) -> Result<(), SetError> {
    let (expected, found) = (expected.as_ref(), found.as_ref());
    if expected == found {
        return Ok(());
    }
    Err(SetError::Mismatch { link, field, expected: hex::encode(expected), found: hex::encode(found) })
}

/// The sets that a chain leads to: genesis' from height 1, then one for each link, from strictly ascending heights.
///
/// Each link's header is of this chain, later than the one before, and names the set in force and the link's other one; more
/// than 2/3 of the set in force signed it. A link that changes nothing is refused.
pub fn verify_set_chain(genesis: &CheckedGenesis, changes: &[SetChange]) -> Result<Vec<SetFrom>, SetError> {
    let CheckedGenesis { chain_id, validators, hash, .. } = genesis;
    verify_sets_from(&FirstSet { chain_id, validators, genesis_hash: hash }, changes)
}

/// Where a chain of sets begins.
pub(crate) struct FirstSet<'a> {
    /// Chain id.
    pub chain_id: &'a str,
    /// Genesis' validators.
    pub validators: &'a ValidatorSet,
    /// Genesis hash.
    pub genesis_hash: &'a Hash,
}

/// [`verify_set_chain`] for who has genesis, but not the file with all its organizations.
pub(crate) fn verify_sets_from(
    first: &FirstSet<'_>,
    changes: &[SetChange],
) -> Result<Vec<SetFrom>, SetError> {
    if changes.len() > MAX_SET_CHANGES {
        return Err(SetError::TooMany { found: changes.len() });
    }
    let mut sets = Vec::with_capacity(changes.len() + 1);
    let mut from = 1;
    let mut current = first.validators;
    for (link, change) in changes.iter().enumerate() {
        let header: Header = decode("Header", &change.header, MAX_ENTRY_BYTES)
            .map_err(|error| SetError::Encoding { link, error })?;
        let (next, height) = check_link(first, link, (from, current), &header, change)?;
        sets.push((from, current.clone()));
        (from, current) = (height + 1, next);
    }
    sets.push((from, current.clone()));
    Ok(sets)
}

fn check_link<'a>(
    first: &FirstSet<'_>,
    link: usize,
    (from, current): (u64, &ValidatorSet),
    header: &Header,
    change: &'a SetChange,
) -> Result<(&'a ValidatorSet, u64), SetError> {
    let rule = |why: String| Err(SetError::Rule { link, why });
    if header.protocol_version != PROTOCOL_VERSION {
        return rule(format!("protocol version {}, expected {PROTOCOL_VERSION}", header.protocol_version));
    }
    same(link, "chain id", first.chain_id, &header.chain_id)?;
    if header.height < from || header.height == u64::MAX {
        return rule(format!("height {}, expected {from} or more", header.height));
    }
    if header.height == 1 {
        same(link, "previous_header_hash", first.genesis_hash, &header.previous_header_hash)?;
    }
    let (Some(certificate), Some(next)) = (&change.certificate, &change.next) else {
        return rule("no certificate or no set".into());
    };
    let hash = |set| validator_set_hash(first.chain_id, set);
    same(link, "validator_set_hash", hash(current), &header.validator_set_hash)?;
    same(link, "next_validator_set_hash", hash(next), &header.next_validator_set_hash)?;
    if header.validator_set_hash == header.next_validator_set_hash {
        return rule("the set does not change".into());
    }
    let voted = header_hash(first.chain_id, &change.header);
    verify_certificate(first.chain_id, current, header.height, &voted, certificate)
        .map_err(|error| SetError::Certificate { link, error })?;
    check_validator_set(next).map_err(|e| SetError::Rule { link, why: e.to_string() })?;
    array::<32>("ValidatorSet", "members_root", &next.members_root)
        .map_err(|error| SetError::Encoding { link, error })?;
    Ok((next, header.height))
}

/// The set that votes at a height, as far as a chain of sets goes; genesis' before height 1.
pub fn set_at(sets: &[SetFrom], height: u64) -> Option<&ValidatorSet> {
    let found = sets.iter().rev().find(|(from, _)| *from <= height);
    found.or(sets.first()).map(|(_, set)| set)
}

/// Gathers the links while somebody goes through blocks that hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SetRecorder {
    /// The last block's header and what it changes to; its certificate stands in the next block.
    pending: Option<(Vec<u8>, ValidatorSet)>,
    changes: Vec<SetChange>,
}

impl SetRecorder {
    /// The next block, which was applied; `tip` is what it led to.
    pub fn block(&mut self, tip: &Tip, block: &Block) {
        self.certificate(&block.previous_certificate);
        if tip.voters != tip.validators {
            self.pending = Some((block.header.clone(), tip.validators.clone()));
        }
    }

    /// The certificate over the last block.
    pub fn certificate(&mut self, encoded: &[u8]) {
        let Some((header, next)) = self.pending.take() else { return };
        // It was verified with its block.
        let certificate = decode::<Certificate>("Certificate", encoded, MAX_ENTRY_BYTES).ok();
        self.changes.push(SetChange { header, certificate, next: Some(next) });
    }

    /// The links so far.
    pub fn changes(&self) -> &[SetChange] {
        &self.changes
    }
}
