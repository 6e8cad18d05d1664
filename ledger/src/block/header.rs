//! Headers: what one has to be behind a tip.

use std::collections::BTreeMap;

use assent_proto::ledger::v1::{Certificate, Header};

use super::{BlockError, Proposal, Tip};
use crate::certificate::{certificate_checks, certificate_hash, validator_set_hash};
use crate::encoding::{decode, is_id};
use crate::entry::{CheckedEntry, MAX_ENTRY_BYTES};
use crate::genesis::MAX_TIME_MS;
use crate::hash::{hash, Context, Hash};
use crate::keys::Check;
use crate::log::{tagged_leaf_hash, Frontier, LEAF_ENTRY};
use crate::membership::Settled;
use crate::tree::StateTree;
use crate::PROTOCOL_VERSION;

/// Hash of a header: the name of its block, and the value that validators vote on.
pub fn header_hash(chain_id: &str, header: &[u8]) -> Hash {
    hash(Context::Header, chain_id, &[header])
}

pub(super) fn check_turn(tip: &Tip, header: &Header) -> Result<Hash, BlockError> {
    let turn = tip.bench.proposer(&tip.validators, tip.height + 1, header.round).unwrap_or_default();
    match header.proposer == turn {
        true => Ok(turn),
        false => Err(mismatch("proposer", hex::encode(turn), hex::encode(&header.proposer))),
    }
}

/// All of a header that can be checked without looking into entries: everything but the state root and the next validator set.
/// `log` holds the block's entries. The proposer.
pub(crate) fn check_shape(
    tip: &Tip,
    header: &Header,
    previous_certificate: &[u8],
    log: &Frontier,
) -> Result<Hash, BlockError> {
    check_time(tip, header.time_ms)?;
    let proposer = check_turn(tip, header)?;
    let expected = Header {
        log_size: log.size(),
        log_root: log.root().to_vec(),
        ..outline(tip, previous_certificate, header.clone())
    };
    compare_headers(&expected, header)?;
    Ok(proposer)
}

/// A header with all that follows from the tip and the certificate put right.
pub(super) fn outline(tip: &Tip, previous_certificate: &[u8], header: Header) -> Header {
    Header {
        protocol_version: PROTOCOL_VERSION,
        chain_id: tip.chain_id.clone(),
        height: tip.height + 1,
        previous_header_hash: tip.header_hash.to_vec(),
        validator_set_hash: validator_set_hash(&tip.chain_id, &tip.validators).to_vec(),
        previous_certificate_hash: certificate_hash(&tip.chain_id, previous_certificate).to_vec(),
        ..header
    }
}

pub(super) fn check_time(tip: &Tip, time_ms: u64) -> Result<(), BlockError> {
    if time_ms > tip.time_ms && time_ms <= MAX_TIME_MS {
        return Ok(());
    }
    Err(mismatch("time_ms", format!("more than {}, at most {MAX_TIME_MS}", tip.time_ms), time_ms.to_string()))
}

pub(crate) fn previous_certificate_checks(tip: &Tip, encoded: &[u8]) -> Result<Vec<Check>, BlockError> {
    if tip.height == 0 {
        if encoded.is_empty() {
            return Ok(Vec::new());
        }
        return Err(mismatch(
            "previous_certificate",
            "nothing at height 1".into(),
            format!("{} bytes", encoded.len()),
        ));
    }
    let certificate: Certificate = decode("Certificate", encoded, MAX_ENTRY_BYTES)?;
    Ok(certificate_checks(&tip.chain_id, &tip.voters, tip.height, &tip.header_hash, &certificate)?)
}

/// What a header has to be, and what comes of it.
pub(super) struct Expected<U> {
    pub header: Header,
    pub log: Frontier,
    pub log_nodes: Vec<(u8, u64, Hash)>,
    /// The new root, and what has to be stored.
    pub tree: Option<(Hash, U)>,
    pub settled: Settled,
}

pub(super) fn expected_header<S: StateTree>(
    tip: &Tip,
    state: &S,
    entries: &[CheckedEntry],
    changes: &BTreeMap<Hash, Vec<u8>>,
    proposal: &Proposal,
    time_ms: u64,
    settled: Settled,
) -> Result<Expected<S::Update>, BlockError> {
    let mut log = tip.log.clone();
    let mut log_nodes = Vec::new();
    for entry in entries {
        log.append(tagged_leaf_hash(LEAF_ENTRY, &entry.bytes), |l, i, h| log_nodes.push((l, i, h)));
    }
    let tree = match changes.is_empty() {
        true => None,
        false => Some(state.update(tip.state_version + 1, changes)?),
    };
    let own = Header {
        time_ms,
        log_size: log.size(),
        log_root: log.root().to_vec(),
        state_root: tree.as_ref().map_or(tip.state_root, |(root, _)| *root).to_vec(),
        next_validator_set_hash: validator_set_hash(&tip.chain_id, &settled.validators).to_vec(),
        proposer: proposal.proposer.to_vec(),
        round: proposal.round,
        ..Default::default()
    };
    let header = outline(tip, &proposal.previous_certificate, own);
    Ok(Expected { header, log, log_nodes, tree, settled })
}

pub(super) fn mismatch(field: &'static str, expected: String, found: String) -> BlockError {
    BlockError::Header { field, expected, found }
}

pub(super) fn compare_headers(expected: &Header, found: &Header) -> Result<(), BlockError> {
    let hex_pairs = [
        ("previous_header_hash", &expected.previous_header_hash, &found.previous_header_hash),
        ("previous_certificate_hash", &expected.previous_certificate_hash, &found.previous_certificate_hash),
        ("validator_set_hash", &expected.validator_set_hash, &found.validator_set_hash),
        ("next_validator_set_hash", &expected.next_validator_set_hash, &found.next_validator_set_hash),
        ("log_root", &expected.log_root, &found.log_root),
        ("state_root", &expected.state_root, &found.state_root),
    ];
    let numbers = [
        ("protocol_version", u64::from(expected.protocol_version), u64::from(found.protocol_version)),
        ("height", expected.height, found.height),
        ("log_size", expected.log_size, found.log_size),
    ];
    if expected.chain_id != found.chain_id {
        // A stranger's text does not go into messages as it is.
        let found = if is_id(&found.chain_id) { found.chain_id.clone() } else { "no chain id".into() };
        return Err(mismatch("chain_id", expected.chain_id.clone(), found));
    }
    for (field, expected, found) in numbers {
        if expected != found {
            return Err(mismatch(field, expected.to_string(), found.to_string()));
        }
    }
    for (field, expected, found) in hex_pairs {
        if expected != found {
            return Err(mismatch(field, hex::encode(expected), hex::encode(found)));
        }
    }
    Ok(())
}
