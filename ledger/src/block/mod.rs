//! Blocks: made by [`build_block`], checked and applied by the one [`apply_block`].

use std::collections::BTreeMap;

use assent_proto::ledger::v1::{Block, Header, OrganizationState, ValidatorSet};
use prost::Message;

mod build;
mod header;

pub use build::{build_block, next_time, time_is_plausible, Built, Dropped, Proposal};
pub use header::header_hash;
pub(crate) use header::{check_shape, previous_certificate_checks};

use self::header::{check_time, check_turn, compare_headers, expected_header, Expected};
use crate::bench::Bench;
use crate::certificate::CertificateError;
use crate::encoding::{decode, EncodingError};
use crate::entry::{check_entry, CheckedEntry, MAX_ENTRY_BYTES};
use crate::execute::{execute_entry, ExecuteError, Moment, Signatures};
use crate::genesis::CheckedGenesis;
use crate::hash::Hash;
use crate::keys::Check;
use crate::log::{tagged_leaf_hash, Frontier, LEAF_HEADER};
use crate::membership::{genesis_membership, membership_key, settle};
use crate::recovery::{execute_recovery, RecoveryError};
use crate::state::{organization_key, Overlay, ReadError, StateRead};
use crate::tree::{self, StateTree, TreeUpdate};

/// Largest sum of the entries' bytes in a block.
pub const MAX_BLOCK_ENTRY_BYTES: usize = 1 << 20;
/// Largest encoded block: entries, header, certificate and framing.
pub const MAX_BLOCK_BYTES: usize = MAX_BLOCK_ENTRY_BYTES + (128 << 10);
/// Most operations in a block.
pub const MAX_BLOCK_OPERATIONS: usize = 4096;
/// Furthest that a fresh proposal's time may lie ahead of a validator's clock, in milliseconds.
pub const MAX_CLOCK_LEAD_MS: u64 = 2000;

/// The end of the chain: all that is needed to judge the next block, besides the state.
#[derive(Debug, Clone, PartialEq)]
pub struct Tip {
    /// Chain id.
    pub chain_id: String,
    /// Height; 0 after genesis.
    pub height: u64,
    /// Hash of the header; of genesis at height 0.
    pub header_hash: Hash,
    /// Block time in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Root of the state.
    pub state_root: Hash,
    /// Version of the state tree: number of blocks that changed it.
    pub state_version: u64,
    /// The log, this header included.
    pub log: Frontier,
    /// Validators that voted at this height; at height 0 those of genesis.
    pub voters: ValidatorSet,
    /// Validators that vote at the next height.
    pub validators: ValidatorSet,
    /// Next height at which the membership is scheduled to change; 0 when none is.
    pub change_height: u64,
    /// Proposers that missed their last turn.
    pub bench: Bench,
    /// Plan of the recovery that the next block has to start with: the operators agreed to it ([`crate::recovery::agree`]). None as long as
    /// there is a quorum.
    pub recovery: Option<Hash>,
}

/// What applying a block changes. Nothing of it is stored yet.
#[derive(Debug, Clone)]
pub struct Applied<U = TreeUpdate> {
    /// The new end of the chain.
    pub tip: Tip,
    /// The header.
    pub header: Header,
    /// The header's exact bytes.
    pub header_bytes: Vec<u8>,
    /// The entries.
    pub entries: Vec<CheckedEntry>,
    /// New values by state key.
    pub changes: BTreeMap<Hash, Vec<u8>>,
    /// Change of the state tree; none when the state did not change.
    pub tree: Option<U>,
    /// New complete subtrees of the log: (level, index, hash).
    pub log_nodes: Vec<(u8, u64, Hash)>,
    /// Number of signatures that were checked.
    pub signatures: usize,
}

/// Why a block is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("header.{field} is {found}, expected {expected}")]
    Header { field: &'static str, expected: String, found: String },
    #[error("certificate of the block before: {0}")]
    Certificate(#[from] CertificateError),
    #[error("entry {index}: {error}")]
    Entry { index: usize, error: ExecuteError },
    #[error("entry {index} is malformed: {error}")]
    EntryForm { index: usize, error: EncodingError },
    #[error("entry {index} is a withdrawal behind another entry")]
    WithdrawalOrder { index: usize },
    #[error("block holds {found} {what}, at most {max} allowed")]
    TooLarge { what: &'static str, found: usize, max: usize },
    #[error("a signature in the block does not verify")]
    Signature,
}

impl BlockError {
    /// What kind of fault this is, for reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Encoding(_) | Self::EntryForm { .. } => "malformed",
            Self::Read(_) => "state-unreadable",
            Self::Header { .. } => "header-mismatch",
            Self::Certificate(_) => "certificate",
            Self::Entry { .. } => "admission-rule",
            Self::WithdrawalOrder { .. } => "withdrawal-order",
            Self::TooLarge { .. } => "too-large",
            Self::Signature => "signature",
        }
    }
}

/// What genesis makes: tip, values by state key, and tree nodes.
pub type GenesisState = (Tip, BTreeMap<Hash, Vec<u8>>, TreeUpdate);

/// State and tip after genesis: every organization with an empty sequence window.
pub fn apply_genesis(genesis: &CheckedGenesis) -> Result<GenesisState, ReadError> {
    let mut changes = BTreeMap::new();
    for organization in &genesis.organizations {
        let state = OrganizationState { entry_key: organization.entry_key.clone(), ..Default::default() };
        changes.insert(organization_key(&genesis.chain_id, &organization.id), state.encode_to_vec());
    }
    changes.insert(membership_key(&genesis.chain_id), genesis_membership(genesis).encode_to_vec());
    let update = tree::update(&tree::MemoryNodes::default(), 0, &changes)?;
    let tip = Tip {
        chain_id: genesis.chain_id.clone(),
        height: 0,
        header_hash: genesis.hash,
        time_ms: genesis.time_ms,
        state_root: update.root,
        state_version: 0,
        log: Frontier::default(),
        voters: genesis.validators.clone(),
        validators: genesis.validators.clone(),
        change_height: 0,
        bench: Bench::default(),
        recovery: None,
    };
    Ok((tip, changes, update))
}

/// Whether all of these signatures hold. An auditor passes [`crate::keys::verify_batch`]; a node that found some to hold before need not
/// check those again. One that answers true for what does not hold accepts a block that others refuse.
pub type Verify<'a> = &'a dyn Fn(&[Check]) -> bool;

/// Checks a block against the tip and the state, and says what it changes. Every rule of the ledger is in here.
pub fn apply_block<S: StateRead + StateTree>(
    tip: &Tip,
    state: &S,
    bytes: &[u8],
    verify: Verify<'_>,
) -> Result<Applied<S::Update>, BlockError> {
    let block: Block = decode("Block", bytes, MAX_BLOCK_BYTES)?;
    let header: Header = decode("Header", &block.header, MAX_ENTRY_BYTES)?;
    check_time(tip, header.time_ms)?;
    let mut checks = previous_certificate_checks(tip, &block.previous_certificate)?;
    let entries = check_entries(tip, &block.entries)?;

    let mut overlay = Overlay::new(state);
    let mut signatures = Signatures::Collect(Vec::new());
    if tip.recovery.is_some() && entries.is_empty() {
        return Err(first_entry(RecoveryError::Missing));
    }
    for entry in entries.iter().enumerate() {
        execute(&mut overlay, tip, header.time_ms, entry, &mut signatures)?;
    }
    checks.extend(signatures.into_checks());
    let settled = settle(&mut overlay, tip, entries.iter().any(CheckedEntry::governs))?;
    let changes = std::mem::take(&mut overlay.changes);
    let proposal = Proposal {
        proposer: crate::encoding::array("Header", "proposer", &header.proposer)?,
        round: header.round,
        now_ms: header.time_ms,
        previous_certificate: block.previous_certificate,
    };
    check_turn(tip, &header)?;
    let expected = expected_header(tip, state, &entries, &changes, &proposal, header.time_ms, settled)?;
    compare_headers(&expected.header, &header)?;
    if !verify(&checks) {
        return Err(bad_signature(tip, state, &entries, header.time_ms, &checks));
    }
    let signatures = checks.len();
    Ok(finish(tip, expected, entries, changes, signatures))
}

/// One entry of a block: the first one after an agreed recovery is that recovery.
fn execute<S: StateRead>(
    state: &mut Overlay<'_, S>,
    tip: &Tip,
    time_ms: u64,
    (index, entry): (usize, &CheckedEntry),
    signatures: &mut Signatures,
) -> Result<(), BlockError> {
    let outcome = match (index, tip.recovery) {
        (0, Some(plan)) => execute_recovery(state, tip, &plan, entry, signatures),
        _ => execute_entry(state, moment(tip, time_ms), entry, signatures),
    };
    outcome.map_err(|error| BlockError::Entry { index, error })
}

fn first_entry(error: RecoveryError) -> BlockError {
    BlockError::Entry { index: 0, error: error.into() }
}

fn moment(tip: &Tip, time_ms: u64) -> Moment<'_> {
    Moment { chain_id: &tip.chain_id, height: tip.height + 1, time_ms }
}

fn check_entries(tip: &Tip, encoded: &[Vec<u8>]) -> Result<Vec<CheckedEntry>, BlockError> {
    let mut entries = Vec::with_capacity(encoded.len());
    let (mut bytes, mut operations, mut withdrawals_over) = (0, 0, false);
    for (index, encoded) in encoded.iter().enumerate() {
        let entry =
            check_entry(&tip.chain_id, encoded).map_err(|error| BlockError::EntryForm { index, error })?;
        bytes += entry.bytes.len();
        operations += entry.body.operations.len();
        if entry.is_withdrawal() && withdrawals_over {
            return Err(BlockError::WithdrawalOrder { index });
        }
        withdrawals_over |= !entry.is_withdrawal() && (index, entry.recovery().is_some()) != (0, true);
        entries.push(entry);
    }
    if bytes > MAX_BLOCK_ENTRY_BYTES {
        return Err(BlockError::TooLarge {
            what: "bytes of entries",
            found: bytes,
            max: MAX_BLOCK_ENTRY_BYTES,
        });
    }
    if operations > MAX_BLOCK_OPERATIONS {
        return Err(BlockError::TooLarge {
            what: "operations",
            found: operations,
            max: MAX_BLOCK_OPERATIONS,
        });
    }
    Ok(entries)
}

/// Checks one by one to name the culprit.
fn bad_signature<S: StateRead>(
    tip: &Tip,
    state: &S,
    entries: &[CheckedEntry],
    time_ms: u64,
    checks: &[Check],
) -> BlockError {
    let mut overlay = Overlay::new(state);
    for entry in entries.iter().enumerate() {
        if let Err(error) = execute(&mut overlay, tip, time_ms, entry, &mut Signatures::Immediate) {
            return error;
        }
    }
    let voter = checks
        .iter()
        .find(|c| !c.holds())
        .and_then(|bad| tip.voters.validators.iter().find(|v| v.vote_key == bad.public_key));
    match voter {
        Some(v) => CertificateError::Signature { organization: v.organization.clone() }.into(),
        None => BlockError::Signature,
    }
}

fn finish<U>(
    tip: &Tip,
    expected: Expected<U>,
    entries: Vec<CheckedEntry>,
    changes: BTreeMap<Hash, Vec<u8>>,
    signatures: usize,
) -> Applied<U> {
    let Expected { header, mut log, mut log_nodes, tree, settled } = expected;
    let header_bytes = header.encode_to_vec();
    log.append(tagged_leaf_hash(LEAF_HEADER, &header_bytes), |l, i, h| log_nodes.push((l, i, h)));
    let proposer = header.proposer.as_slice().try_into().unwrap_or_default();
    let bench = tip.bench.after(&tip.validators, header.height, header.round, &proposer);
    let bench = bench.within(&settled.validators);
    let tip = Tip {
        chain_id: tip.chain_id.clone(),
        height: header.height,
        header_hash: header_hash(&tip.chain_id, &header_bytes),
        time_ms: header.time_ms,
        state_root: tree.as_ref().map_or(tip.state_root, |(root, _)| *root),
        state_version: tip.state_version + u64::from(tree.is_some()),
        log,
        voters: tip.validators.clone(),
        validators: settled.validators,
        change_height: settled.change_height,
        bench,
        recovery: None,
    };
    let tree = tree.map(|(_, update)| update);
    Applied { tip, header, header_bytes, entries, changes, tree, log_nodes, signatures }
}
