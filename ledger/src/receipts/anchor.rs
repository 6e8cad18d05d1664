//! From what the reader trusts to a header.
//!
//! ```text
//! genesis hash ─▶ genesis ───────────────────────┐
//! checkpoint ─inclusion─▶ a header ─▶ its set ───┴─(chain of sets)─▶ set of a later header ─certificate─▶ Header
//!            └─inclusion─▶ Header, when it stands in that log
//! ```
//! A checkpoint says of every header up to its last leaf whether it stands there. Later ones are certified, as from genesis.

use std::collections::BTreeSet;
use std::sync::Arc;

use assent_proto::ledger::v1::{
    anchor, Anchor, Certificate, CheckpointStart, GenesisStart, Header, InCheckpoint, SetChange, ValidatorSet,
};

use super::keys::{AnchoredAt, Members, Start};
use super::{read, rule, ReceiptFault, Trust};
use crate::block::header_hash;
use crate::certificate::{is_quorum, total_power, validator_set_hash, verify_certificate};
use crate::checkpoint::origin;
use crate::encoding::{array, decode, fields_at, id, EncodingError};
use crate::entry::MAX_ENTRY_BYTES;
use crate::genesis::check_inner;
use crate::hash::Hash;
use crate::log::{tagged_leaf_hash, verify_inclusion, LEAF_HEADER};
use crate::receipt::{same, same_text, ReceiptError};
use crate::recovered::Recovered;
use crate::sets::{set_at, walk_sets, walk_sets_from, FirstSet, SetFrom, Walked, MAX_SET_CHANGES};
use crate::PROTOCOL_VERSION;

/// Most hashes from a leaf to the root of a log.
const MAX_PATH: usize = 64;

/// The genesis hash that a receipt starts at: not to be trusted for that. None for one that starts at a checkpoint.
pub fn genesis_hash_of(bytes: &[u8]) -> Result<Option<Hash>, ReceiptFault> {
    genesis_hash_in(read(bytes)?.anchor.as_ref())
}

/// The same of any file's anchor.
pub fn genesis_hash_in(anchor: Option<&Anchor>) -> Result<Option<Hash>, ReceiptFault> {
    match anchor.and_then(|anchor| anchor.start.as_ref()) {
        Some(anchor::Start::Genesis(start)) => Ok(Some(check_inner(&start.genesis)?.2)),
        _ => Ok(None),
    }
}

/// Refuses, before anything is decoded, more changes than a chain may have in the anchor at `path` of a message.
pub(crate) fn limit_changes(message: &'static str, bytes: &[u8], path: &[u32]) -> Result<(), EncodingError> {
    // Beside the changes genesis and a certificate; or a checkpoint with its path, a header, its set, and a certificate.
    for (start, others) in [(2, 2), (3, 4 + MAX_PATH)] {
        fields_at(message, bytes, &[path, &[start]].concat(), MAX_SET_CHANGES + others)?;
    }
    Ok(())
}

/// The log that a reader's checkpoint pins.
#[derive(Debug)]
struct Log {
    origin: String,
    size: u64,
    root: Hash,
}

impl Log {
    /// A header that stands in it: the last leaf that its block adds, so its place is known.
    fn header(&self, bytes: &[u8], path: &[Vec<u8>]) -> Result<(Header, Hash), ReceiptFault> {
        let (header, hash) = read_header(bytes)?;
        same_text("log of the header", &self.origin, &origin(&header.chain_id))?;
        let path: Vec<Hash> = path.iter().map(|h| array("Anchor", "path", h)).collect::<Result<_, _>>()?;
        if header.log_size >= self.size {
            return rule(
                "the header stands behind the last leaf of the checkpoint, which says nothing of it",
            );
        }
        match verify_inclusion(
            &tagged_leaf_hash(LEAF_HEADER, bytes),
            header.log_size,
            self.size,
            &self.root,
            &path,
        ) {
            true => Ok((header, hash)),
            false => rule("the header is not in the log of the checkpoint"),
        }
    }
}

/// Where a chain of sets begins.
#[derive(Debug)]
enum Base {
    Genesis(Hash),
    Checkpoint(Log),
}

/// The validator sets that an anchor leads through from its start.
#[derive(Debug)]
pub(crate) struct SetChain {
    chain_id: String,
    from: Base,
    sets: Vec<SetFrom>,
    recoveries: Vec<Recovered>,
    members: Arc<[Members]>,
}

impl SetChain {
    /// The sets of an anchor, and its header. The last set is that of the header; `ahead` heights more may be shown.
    pub(crate) fn verify(
        trust: &Trust,
        anchor: &Anchor,
        ahead: u64,
    ) -> Result<(Self, AnchoredAt), ReceiptFault> {
        let (chain, at) = match (trust, &anchor.start) {
            (_, None) => return rule("the receipt starts nowhere"),
            (Trust::Genesis { hash, accepted }, Some(anchor::Start::Genesis(start))) => {
                let chain = Self::from_genesis(hash, accepted, start)?;
                let at = chain.certified(&anchor.header, start.certificate.as_ref())?;
                (chain, at)
            }
            (Trust::Checkpoint { origin, size, root, accepted }, Some(anchor::Start::Checkpoint(start))) => {
                if start.size != *size {
                    let why = format!(
                        "it starts at a checkpoint of {} leaves, the given one has {size}",
                        start.size
                    );
                    return Err(ReceiptFault::OtherAnchor(why));
                }
                let log = Log { origin: origin.clone(), size: *size, root: *root };
                Self::from_checkpoint(log, accepted, &anchor.header, start)?
            }
            (Trust::Genesis { .. }, Some(anchor::Start::Checkpoint(start))) => {
                let size = start.size;
                let why =
                    format!("it starts at a checkpoint of {size} leaves: give that one with --checkpoint");
                return Err(ReceiptFault::OtherAnchor(why));
            }
            (Trust::Checkpoint { .. }, Some(anchor::Start::Genesis(_))) => {
                let why = "it starts at genesis: give the genesis hash with --genesis-hash".to_owned();
                return Err(ReceiptFault::OtherAnchor(why));
            }
        };
        match chain.sets.last() {
            Some((from, _)) if *from <= at.header.height.saturating_add(ahead) => Ok((chain, at)),
            _ => rule("the header is older than the validator set that is shown for it"),
        }
    }

    fn from_genesis(
        expected: &Hash,
        accepted: &BTreeSet<Hash>,
        start: &GenesisStart,
    ) -> Result<Self, ReceiptFault> {
        let (genesis, validators, hash) = check_inner(&start.genesis)?;
        if hash != *expected {
            let (expected, found) = (hex::encode(expected), hex::encode(hash));
            return Err(ReceiptError::GenesisHash { expected, found }.into());
        }
        let chain_id = genesis.chain_id;
        let first =
            FirstSet { chain_id: &chain_id, validators: &validators, height: 0, hash: &hash, accepted };
        let walked = walk_sets(&first, &start.changes)?;
        Self::of(chain_id, Base::Genesis(hash), walked, &start.changes)
    }

    /// A header in the log, and the sets from there on; the anchor's header is that one or a later one.
    fn from_checkpoint(
        log: Log,
        accepted: &BTreeSet<Hash>,
        anchored: &[u8],
        start: &CheckpointStart,
    ) -> Result<(Self, AnchoredAt), ReceiptFault> {
        let within = start.from.is_empty();
        let bytes = if within { anchored } else { &start.from };
        let (header, hash) = log.header(bytes, &start.path)?;
        let Some(validators) = &start.validators else { return rule("the validator set is missing") };
        same_set(&header, validators)?;
        let before = array("Header", "previous_header_hash", &header.previous_header_hash)?;
        let (chain_id, height) = (header.chain_id.clone(), header.height - 1);
        let first = FirstSet { chain_id: &chain_id, validators, height, hash: &before, accepted };
        // Which sets follow is nobody's question about a header in the log.
        let walked = match within && start.changes.is_empty() {
            true => Walked { sets: vec![(header.height, validators.clone())], recoveries: Vec::new() },
            false => walk_sets_from(&first, (&header, bytes), &start.changes)?,
        };
        let mut chain = Self::of(chain_id, Base::Checkpoint(log), walked, &start.changes)?;
        if !within {
            let at = chain.certified(anchored, start.certificate.as_ref())?;
            return Ok((chain, at));
        }
        if start.certificate.is_some() {
            return rule("a header in the log of the checkpoint needs no certificate");
        }
        // Of an earlier moment no other keys can be shown.
        let first = chain.members.iter().take(1).map(|members| Members { from: 0, ..members.clone() });
        chain.members = first.chain(chain.members.iter().skip(1).cloned()).collect();
        let at = chain.at(header, hash, chain.members.clone(), true);
        Ok((chain, at))
    }

    fn of(chain_id: String, from: Base, walked: Walked, changes: &[SetChange]) -> Result<Self, ReceiptFault> {
        let Walked { sets, recoveries } = walked;
        for (change, (_, set)) in changes.iter().zip(&sets) {
            must_be_short(set, change.certificate.as_ref())?;
        }
        let mut since_ms = vec![0];
        for change in changes {
            since_ms.push(decode::<Header>("Header", &change.header, MAX_ENTRY_BYTES)?.time_ms);
        }
        let members = sets.iter().zip(since_ms).map(|((from, set), since_ms)| Members {
            from: *from,
            root: set.members_root.clone(),
            since_ms,
        });
        Ok(Self { members: members.collect(), chain_id, from, sets, recoveries })
    }

    fn at(&self, header: Header, hash: Hash, members: Arc<[Members]>, within: bool) -> AnchoredAt {
        let (set_changes, recoveries) = (self.sets.len().saturating_sub(1), self.recoveries.clone());
        let start = match &self.from {
            Base::Genesis(hash) => Start::Genesis { hash: *hash, set_changes, recoveries },
            Base::Checkpoint(log) => Start::Checkpoint { size: log.size, within, set_changes, recoveries },
        };
        AnchoredAt { header, hash, start, members }
    }

    /// A header that stands in a file beside the anchor's: certified, or in the log of the checkpoint.
    pub(crate) fn header(
        &self,
        bytes: &[u8],
        certificate: Option<&Certificate>,
        shown: Option<&InCheckpoint>,
    ) -> Result<AnchoredAt, ReceiptFault> {
        let Some(shown) = shown else { return self.certified(bytes, certificate) };
        let Base::Checkpoint(log) = &self.from else { return rule("this does not start at a checkpoint") };
        let Some((first, set)) = self.sets.first() else { return rule("there is no validator set") };
        let (header, hash) = log.header(bytes, &shown.path)?;
        if certificate.is_some() || header.height > *first {
            return rule("a header is shown in the log of the checkpoint that has, or needs, a certificate");
        }
        let set = match &shown.validators {
            Some(same) if same == set => return rule("a validator set is shown again"),
            Some(own) => own,
            None => set,
        };
        same_set(&header, set)?;
        let members = [Members { from: 0, root: set.members_root.clone(), since_ms: 0 }];
        Ok(self.at(header, hash, members.into(), true))
    }

    /// A header with precommits by the set of its height.
    fn certified(&self, bytes: &[u8], certificate: Option<&Certificate>) -> Result<AnchoredAt, ReceiptFault> {
        let (header, hash) = read_header(bytes)?;
        same_text("chain id of the header", &self.chain_id, &header.chain_id)?;
        let in_log = |(from, _): &SetFrom| matches!(self.from, Base::Checkpoint(_)) && header.height <= *from;
        if self.sets.first().is_some_and(in_log) {
            return rule(
                "the header is not after the one in the checkpoint that the sets go on from: show it there",
            );
        }
        let Some(set) = set_at(&self.sets, header.height) else { return rule("there is no validator set") };
        same_set(&header, set)?;
        let certificate = must_be_short(set, certificate)?;
        verify_certificate(&self.chain_id, set, header.height, &hash, certificate)
            .map_err(|e| ReceiptError::Certificate(e.to_string()))?;
        Ok(self.at(header, hash, self.members.clone(), false))
    }

    /// Refuses a chain that does not come to the set which votes after a header of it.
    pub(crate) fn must_reach_next(&self, header: &Header) -> Result<(), ReceiptFault> {
        let Some(set) = set_at(&self.sets, header.height.saturating_add(1)) else {
            return rule("there is no validator set");
        };
        let found = validator_set_hash(&header.chain_id, set);
        Ok(same("validator set after the header", &header.next_validator_set_hash, &found)?)
    }
}

fn read_header(bytes: &[u8]) -> Result<(Header, Hash), ReceiptFault> {
    let header: Header = decode("Header", bytes, MAX_ENTRY_BYTES)?;
    id("Header", "chain_id", &header.chain_id)?;
    if header.protocol_version != PROTOCOL_VERSION || header.height == 0 {
        return rule("the header is of another protocol version, or of height 0");
    }
    let hash = header_hash(&header.chain_id, bytes);
    Ok((header, hash))
}

fn same_set(header: &Header, set: &ValidatorSet) -> Result<(), ReceiptError> {
    let found = validator_set_hash(&header.chain_id, set);
    same("validator set of the header", &header.validator_set_hash, &found)
}

/// A certificate without which the quorum would be lost by any signature: a surplus one is a byte that nobody needs.
fn must_be_short<'a>(
    set: &ValidatorSet,
    certificate: Option<&'a Certificate>,
) -> Result<&'a Certificate, ReceiptFault> {
    let Some(certificate) = certificate else { return rule("a certificate is missing") };
    let power = |address: &[u8]| set.validators.iter().find(|v| v.vote_key == address).map_or(0, |v| v.power);
    let powers: Vec<u64> = certificate.signatures.iter().map(|s| power(&s.address)).collect();
    let signed = powers.iter().fold(0, |sum: u64, power| sum.saturating_add(*power));
    let least = powers.iter().min().copied().unwrap_or_default();
    match is_quorum(signed - least, total_power(set)) {
        true => rule("a certificate has more signatures than are needed"),
        false => Ok(certificate),
    }
}
