//! The next block, from entries that wait.

use assent_proto::ledger::v1::Block;
use prost::Message;

use super::header::{check_time, expected_header};
use super::{
    execute, finish, first_entry, moment, Applied, BlockError, Tip, Verify, MAX_BLOCK_ENTRY_BYTES,
    MAX_BLOCK_OPERATIONS, MAX_CLOCK_LEAD_MS,
};
use crate::entry::CheckedEntry;
use crate::execute::{execute_entry, ExecuteError, Signatures};
use crate::hash::Hash;
use crate::membership::settle;
use crate::recovery::RecoveryError;
use crate::state::{Overlay, StateRead};
use crate::tree::StateTree;

/// Who builds a block, when, on what.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Address of the proposer.
    pub proposer: Hash,
    /// Round that the block is for.
    pub round: u32,
    /// The proposer's clock in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Encoded certificate of the block before; empty at height 1.
    pub previous_certificate: Vec<u8>,
}

/// Block time: later than the block before, and the proposer's clock if that is later still.
pub fn next_time(tip: &Tip, now_ms: u64) -> u64 {
    now_ms.max(tip.time_ms + 1)
}

/// False when a *fresh* proposal's time lies too far ahead of this validator's clock. A time of exactly previous + 1 ms is
/// always fine, and re-proposed, replayed and synced blocks are never judged by a clock.
pub fn time_is_plausible(tip: &Tip, header_time_ms: u64, now_ms: u64) -> bool {
    header_time_ms == tip.time_ms + 1 || header_time_ms <= now_ms.saturating_add(MAX_CLOCK_LEAD_MS)
}

/// An entry that has no effect now, and why.
pub type Dropped = (Hash, ExecuteError);

/// A block as bytes, what it changes, and what was dropped.
pub type Built<U> = (Vec<u8>, Applied<U>, Vec<Dropped>);

/// Builds the next block from candidates, in order, withdrawals first; what fails is dropped and returned with its reason,
/// what no longer fits is left out.
pub fn build_block<S: StateRead + StateTree>(
    tip: &Tip,
    state: &S,
    candidates: Vec<CheckedEntry>,
    proposal: &Proposal,
    verify: Verify<'_>,
) -> Result<Built<S::Update>, BlockError> {
    let time_ms = next_time(tip, proposal.now_ms);
    check_time(tip, time_ms)?;
    let at = moment(tip, time_ms);
    let (withdrawals, others): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(CheckedEntry::is_withdrawal);
    let mut overlay = Overlay::new(state);
    let (mut entries, mut dropped) = (Vec::new(), Vec::new());
    let (mut bytes, mut operations, mut signatures) = (0, 0, 0);
    let (recoveries, others): (Vec<_>, Vec<_>) = match tip.recovery {
        Some(_) => others.into_iter().partition(|entry: &CheckedEntry| entry.recovery().is_some()),
        None => (Vec::new(), others),
    };
    if tip.recovery.is_some() {
        let entry = recoveries.into_iter().next().ok_or(RecoveryError::Missing).map_err(first_entry)?;
        execute(&mut overlay, tip, time_ms, (0, &entry), &mut Signatures::Immediate)?;
        bytes += entry.bytes.len();
        operations += entry.body.operations.len();
        signatures += 1;
        entries.push(entry);
    }
    for entry in withdrawals.into_iter().chain(others) {
        let fits = bytes + entry.bytes.len() <= MAX_BLOCK_ENTRY_BYTES
            && operations + entry.body.operations.len() <= MAX_BLOCK_OPERATIONS;
        if !fits {
            continue;
        }
        let mut collected = Signatures::Collect(Vec::new());
        let mut scratch = Overlay::new(&overlay);
        let mut outcome = execute_entry(&mut scratch, at, &entry, &mut collected);
        let mut changes = std::mem::take(&mut scratch.changes);
        if outcome.is_ok() && !verify(&collected.into_checks()) {
            let mut scratch = Overlay::new(&overlay);
            outcome = execute_entry(&mut scratch, at, &entry, &mut Signatures::Immediate);
            changes = std::mem::take(&mut scratch.changes);
        }
        match outcome {
            Ok(()) => {
                overlay.changes.extend(changes);
                bytes += entry.bytes.len();
                operations += entry.body.operations.len();
                signatures += 1;
                entries.push(entry);
            }
            Err(ExecuteError::Read(error)) => return Err(error.into()),
            Err(error) => dropped.push((entry.hash, error)),
        }
    }
    let settled = settle(&mut overlay, tip, entries.iter().any(CheckedEntry::governs))?;
    let changes = std::mem::take(&mut overlay.changes);
    let expected = expected_header(tip, state, &entries, &changes, proposal, time_ms, settled)?;
    let block = Block {
        header: expected.header.encode_to_vec(),
        previous_certificate: proposal.previous_certificate.clone(),
        entries: entries.iter().map(|e| e.bytes.clone()).collect(),
    };
    let applied = finish(tip, expected, entries, changes, signatures);
    Ok((block.encode_to_vec(), applied, dropped))
}
