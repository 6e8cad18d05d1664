//! Validator sets, each certified by the one before: from genesis to every later key, without the blocks between.
//!
//! ```text
//! genesis ─▶ set 1 ─certificate over header h─▶ set 2, from h + 1 ─certificate over header i─▶ set 3, from i + 1 ...
//!                                              └ a plan that the reader accepts: those who remain of set 2 instead
//! ```
//! A chain shows that its sets were in force from their heights on. That a later change was left out behind its end it can't
//! show: who has to know the set of one height needs a header of that height, which names the hash of its set.
//!
//! Behind a recovery ([`crate::recovery`]) nothing is certified by those before it: the reader trusts the plan's hash, which it was
//! told some other way. Before block 1 there is none: such a network begins with another genesis.

use std::collections::BTreeSet;

use assent_proto::ledger::v1::{Block, Certificate, Header, Recover, SetChange, ValidatorSet};

use crate::block::{header_hash, Tip};
use crate::encoding::decode;
use crate::entry::MAX_ENTRY_BYTES;
use crate::genesis::CheckedGenesis;
use crate::hash::Hash;
use crate::recovered::{plan_of, without_signatures, Recovered};
use crate::recovery::new_set;
use crate::voters::{same, StepError, Voters};
use crate::PROTOCOL_VERSION;

pub use crate::voters::FirstSet;

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
    Link { link: usize, error: StepError },
}

impl SetError {
    /// The recovery that the reader did not accept, when that is all that is wrong so far.
    pub fn not_accepted(&self) -> Option<&Recovered> {
        match self {
            Self::Link { error: StepError::NotAccepted(recovered), .. } => Some(recovered),
            _ => None,
        }
    }
}

/// What a chain of sets leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Walked {
    /// The first set, then one for each link, from strictly ascending heights. Genesis' is from height 1.
    pub sets: Vec<SetFrom>,
    /// Recoveries among the links: each was accepted by the reader.
    pub recoveries: Vec<Recovered>,
}

/// The sets that a chain leads to: genesis' from height 1, then one for each link, from strictly ascending heights. `accepted` are
/// the hashes of recoveries' plans that the reader accepts.
///
/// Each link's header is of this chain, later than the one before, and names the set in force and the link's other one; more
/// than 2/3 of the set in force signed it. A link that changes nothing is refused.
pub fn verify_set_chain(
    genesis: &CheckedGenesis,
    accepted: &BTreeSet<Hash>,
    changes: &[SetChange],
) -> Result<Vec<SetFrom>, SetError> {
    walk_sets(&FirstSet::of(genesis, accepted), changes).map(|walked| walked.sets)
}

/// [`verify_set_chain`] for who has genesis, but not the file with all its organizations; with the recoveries on the way.
pub(crate) fn walk_sets(first: &FirstSet<'_>, changes: &[SetChange]) -> Result<Walked, SetError> {
    walk(first, Voters::new(first), changes)
}

/// [`walk_sets`] from a header on that the reader trusts, the one behind which `first` begins: its own link can't be left out.
pub(crate) fn walk_sets_from(
    first: &FirstSet<'_>,
    (header, bytes): (&Header, &[u8]),
    changes: &[SetChange],
) -> Result<Walked, SetError> {
    let mut voters = Voters::new(first);
    if changes.first().is_none_or(|change| change.header != bytes) {
        let hash = header_hash(first.chain_id, bytes);
        voters.header(header, hash, None).map_err(|error| SetError::Link { link: 0, error })?;
    }
    walk(first, voters, changes)
}

fn walk(first: &FirstSet<'_>, mut voters: Voters, changes: &[SetChange]) -> Result<Walked, SetError> {
    if changes.len() > MAX_SET_CHANGES {
        return Err(SetError::TooMany { found: changes.len() });
    }
    let from = first.height.saturating_add(1);
    let mut walked = Walked { sets: vec![(from, first.validators.clone())], recoveries: Vec::new() };
    for (link, change) in changes.iter().enumerate() {
        let recovered =
            follow(&mut voters, first.chain_id, change).map_err(|error| SetError::Link { link, error })?;
        walked.sets.push((voters.height() + 1, voters.next().clone()));
        walked.recoveries.extend(recovered);
    }
    Ok(walked)
}

/// Goes on by one link. Everything in it is needed: a reader has to find one form only.
fn follow(voters: &mut Voters, chain_id: &str, change: &SetChange) -> Result<Option<Recovered>, StepError> {
    let rule = |why: String| Err(StepError::Rule(why));
    let header: Header = decode("Header", &change.header, MAX_ENTRY_BYTES)?;
    if header.protocol_version != PROTOCOL_VERSION {
        return rule(format!("protocol version {}, expected {PROTOCOL_VERSION}", header.protocol_version));
    }
    same("chain id", chain_id, &header.chain_id)?;
    voters.header(&header, header_hash(chain_id, &change.header), change.next.as_ref())?;
    let Some(certificate) = &change.certificate else { return rule("no certificate".into()) };
    voters.verify(certificate)?;
    match (&change.recovery, voters.changes()) {
        (None, false) => return rule("the set does not change".into()),
        (Some(_), false) if change.next.is_some() => {
            return rule("a set is shown that the header does not change to".into())
        }
        _ => {}
    }
    let Some(plan) = &change.recovery else { return Ok(None) };
    if !plan.signatures.is_empty() {
        return rule("the plan of a recovery has signatures, which its hash does not cover".into());
    }
    voters.recover(plan).map(Some)
}

/// The set that votes behind a link, as it says; none when it says nothing.
pub fn set_after(change: &SetChange) -> Option<ValidatorSet> {
    match &change.recovery {
        Some(plan) => new_set(plan).ok(),
        None => change.next.clone(),
    }
}

/// The set that votes at a height, as far as a chain of sets goes; genesis' before height 1.
pub fn set_at(sets: &[SetFrom], height: u64) -> Option<&ValidatorSet> {
    let found = sets.iter().rev().find(|(from, _)| *from <= height);
    found.or(sets.first()).map(|(_, set)| set)
}

/// Gathers the links while somebody goes through blocks that hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SetRecorder {
    /// The last block's header.
    header: Vec<u8>,
    /// The set that it changes to; its certificate stands in the next block.
    next: Option<ValidatorSet>,
    changes: Vec<SetChange>,
}

impl SetRecorder {
    /// The next block, which was applied; `tip` is what it led to.
    pub fn block(&mut self, tip: &Tip, block: &Block) {
        self.link(&block.previous_certificate, plan_of(&tip.chain_id, block).as_ref());
        self.header = block.header.clone();
        self.next = (tip.voters != tip.validators).then(|| tip.validators.clone());
    }

    /// The certificate over the last block.
    pub fn certificate(&mut self, encoded: &[u8]) {
        self.link(encoded, None);
    }

    fn link(&mut self, certificate: &[u8], plan: Option<&Recover>) {
        let next = self.next.take();
        if next.is_none() && plan.is_none() {
            return;
        }
        let header = std::mem::take(&mut self.header);
        // It was verified with its block.
        let certificate = decode::<Certificate>("Certificate", certificate, MAX_ENTRY_BYTES).ok();
        let recovery = plan.map(without_signatures);
        self.changes.push(SetChange { header, certificate, next, recovery });
    }

    /// The links so far.
    pub fn changes(&self) -> &[SetChange] {
        &self.changes
    }
}
