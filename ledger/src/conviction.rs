//! Evidence files: what a validator signed, and whose key it is, verified with nothing but the genesis hash.
//!
//! ```text
//! genesis hash ─▶ genesis ─(chain of sets)─▶ a set that has the key ─▶ organization
//!                                            two signatures by the key, verified by themselves
//!                                            the two headers that they name: of one set
//! ```
//! The chain of sets is the shortest that shows the key. So a file says: this key is a validator's of this organization, since
//! that height. Whether it still had a vote at the height of the offence the file doesn't say; a retired key must not contradict
//! itself either.
//!
//! Right behind a recovery of a lost quorum an honest validator may have signed in the set before, and again in the new one
//! ([`crate::evidence`]). A header names its set, and an honest validator votes for none of another: so two headers of one set convict
//! at any height. Without them a file can't show that there was no recovery, for whoever makes it may leave that out: the verdict is
//! then conditional ([`Conviction::one_set`]), and the reader has to ask the ledger.

use std::collections::BTreeSet;

use assent_proto::ledger::v1::{EvidenceFile, Header, ReportEvidence, SetChange, ValidatorSet};
use prost::Message;

use crate::block::header_hash;
use crate::encoding::{decode, fields, EncodingError};
use crate::entry::MAX_ENTRY_BYTES;
use crate::evidence::{verify_evidence, EvidenceError, Offence, WHICH};
use crate::genesis::{check_genesis_file, CheckedGenesis, GenesisError};
use crate::hash::Hash;
use crate::sets::{walk_sets, FirstSet, SetError, MAX_SET_CHANGES};

/// First bytes of an evidence file.
pub const EVIDENCE_MAGIC: &[u8; 8] = b"ASSENTE1";
/// Longest evidence file without its magic: genesis, evidence, and more set changes than a consortium makes.
pub const MAX_EVIDENCE_BYTES: usize = 16 << 20;

/// Why an evidence file convicts nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvictionError {
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    #[error("genesis hash is {found}, expected {expected}")]
    GenesisHash { expected: String, found: String },
    #[error(transparent)]
    Sets(#[from] SetError),
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    #[error("EvidenceFile.evidence is missing")]
    NoEvidence,
    #[error("{address} is in none of the validator sets that the file shows")]
    Stranger { address: String },
    #[error("height {height} is the first after a recovery: an honest validator may have voted there in both sets")]
    Recovered { height: u64 },
    #[error("the file shows {0} headers: the two that the messages name, or none")]
    Headers(usize),
    #[error("the {0} header is not the one that the {0} message names")]
    OtherHeader(&'static str),
    #[error("the two headers are of two validator sets: an honest validator may have signed both, around a recovery")]
    TwoSets,
    #[error("the file shows {found} set changes, {needed} are enough")]
    Surplus { found: usize, needed: usize },
}

/// What an evidence file shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conviction {
    /// Chain id.
    pub chain_id: String,
    /// Organization whose validator it is.
    pub organization: String,
    /// First height at which its key voted.
    pub voted_from: u64,
    /// What it did.
    pub offence: Offence,
    /// The file shows that it signed both in one validator set. Else it convicts only if no recovery lies right before the height.
    pub one_set: bool,
}

fn organization_of(set: &ValidatorSet, key: &Hash) -> Option<String> {
    set.validators.iter().find(|v| v.vote_key == key).map(|v| v.organization.clone())
}

/// True when these are the headers that the two messages name, and of one validator set; false when none are shown.
fn in_one_set(chain_id: &str, offence: &Offence, headers: &[Vec<u8>]) -> Result<bool, ConvictionError> {
    let [first, second] = headers else {
        return match headers.len() {
            0 => Ok(false),
            found => Err(ConvictionError::Headers(found)),
        };
    };
    let set_of = |which, named: Option<Hash>, bytes: &[u8]| -> Result<Vec<u8>, ConvictionError> {
        if named != Some(header_hash(chain_id, bytes)) {
            return Err(ConvictionError::OtherHeader(which));
        }
        Ok(decode::<Header>("Header", bytes, MAX_ENTRY_BYTES)?.validator_set_hash)
    };
    let [one, other] = WHICH;
    match set_of(one, offence.first, first)? == set_of(other, offence.second, second)? {
        true => Ok(true),
        false => Err(ConvictionError::TwoSets),
    }
}

/// Links to the first set that has the key, that set's first height, and whose key it is there.
fn whose(
    genesis: &CheckedGenesis,
    accepted: &BTreeSet<Hash>,
    changes: &[SetChange],
    &Offence { validator: key, height, .. }: &Offence,
    one_set: bool,
) -> Result<(usize, u64, String), ConvictionError> {
    let walked = walk_sets(&FirstSet::of(genesis, accepted), changes)?;
    if !one_set && walked.recoveries.iter().any(|recovered| recovered.height == height) {
        return Err(ConvictionError::Recovered { height });
    }
    let found = walked.sets.iter().enumerate().find_map(|(link, (from, set))| {
        organization_of(set, &key).map(|organization| (link, *from, organization))
    });
    found.ok_or_else(|| ConvictionError::Stranger { address: hex::encode(key) })
}

/// Makes a file, magic included, from all set changes and headers that are known; those that aren't needed are left out. `accepted`
/// are the plans of recoveries that the maker accepts.
pub fn make_evidence_file(
    genesis: &CheckedGenesis,
    accepted: &BTreeSet<Hash>,
    changes: &[SetChange],
    headers: &[Vec<u8>],
    evidence: &ReportEvidence,
) -> Result<(Vec<u8>, Conviction), ConvictionError> {
    let offence = verify_evidence(&genesis.chain_id, evidence)?;
    let named = |hash: Option<Hash>| {
        let of = |bytes: &&Vec<u8>| hash == Some(header_hash(&genesis.chain_id, bytes));
        headers.iter().find(of).cloned()
    };
    let both = named(offence.first).zip(named(offence.second)).map(|(first, second)| vec![first, second]);
    let shown = |headers: &Vec<Vec<u8>>| in_one_set(&genesis.chain_id, &offence, headers) == Ok(true);
    let headers = both.filter(shown).unwrap_or_default();
    let (needed, ..) = whose(genesis, accepted, changes, &offence, !headers.is_empty())?;
    let file = EvidenceFile {
        genesis: genesis.bytes.clone(),
        evidence: Some(evidence.clone()),
        sets: changes[..needed].to_vec(),
        headers,
    };
    let body = file.encode_to_vec();
    let conviction = verify_evidence_file(&genesis.hash, accepted, &body)?;
    Ok(([EVIDENCE_MAGIC.as_slice(), &body].concat(), conviction))
}

/// The genesis file in an evidence file, which need not be right.
pub fn genesis_of(body: &[u8]) -> Result<Vec<u8>, EncodingError> {
    read(body).map(|file| file.genesis)
}

fn read(body: &[u8]) -> Result<EvidenceFile, EncodingError> {
    if body.len() > MAX_EVIDENCE_BYTES {
        let (len, max) = (body.len(), MAX_EVIDENCE_BYTES);
        return Err(EncodingError::TooLong { message: "EvidenceFile", len, max });
    }
    fields("EvidenceFile", body, MAX_SET_CHANGES + 4)?;
    decode("EvidenceFile", body, MAX_EVIDENCE_BYTES)
}

/// Verifies what stands behind the magic, with the genesis hash that the reader trusts, and the plans of recoveries that it accepts.
pub fn verify_evidence_file(
    anchor: &Hash,
    accepted: &BTreeSet<Hash>,
    body: &[u8],
) -> Result<Conviction, ConvictionError> {
    let file = read(body)?;
    let genesis = check_genesis_file(&file.genesis)?;
    if genesis.hash != *anchor {
        let (expected, found) = (hex::encode(anchor), hex::encode(genesis.hash));
        return Err(ConvictionError::GenesisHash { expected, found });
    }
    let evidence = file.evidence.ok_or(ConvictionError::NoEvidence)?;
    let offence = verify_evidence(&genesis.chain_id, &evidence)?;
    let one_set = in_one_set(&genesis.chain_id, &offence, &file.headers)?;
    let (needed, voted_from, organization) = whose(&genesis, accepted, &file.sets, &offence, one_set)?;
    if file.sets.len() != needed {
        return Err(ConvictionError::Surplus { found: file.sets.len(), needed });
    }
    Ok(Conviction { chain_id: genesis.chain_id, organization, voted_from, offence, one_set })
}
