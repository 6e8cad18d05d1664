//! Structural verification: encodings, links, log roots, certificates, validator sets, turns. What entries say and do is not
//! looked at; that their bytes are those of the log is.

use assent_proto::ledger::v1::{Block, Header, PrunedBlock};

use super::{ChainVerifier, Fault};
use crate::block::{
    check_shape, header_hash, previous_certificate_checks, BlockError, Tip, Verify, MAX_BLOCK_BYTES,
};
use crate::encoding::{array, decode};
use crate::entry::MAX_ENTRY_BYTES;
use crate::hash::Hash;

use crate::log::{tagged_leaf_hash, LEAF_ENTRY, LEAF_HEADER};
use crate::recovered::plan_of;

/// A block, as far as it is looked at.
struct Outline<'a> {
    header: &'a [u8],
    previous_certificate: &'a [u8],
    leaves: Vec<Hash>,
}

impl ChainVerifier {
    /// The next block, with its entries.
    pub(super) fn whole_block(&mut self, payload: &[u8], verify: Verify<'_>) -> Result<(), Fault> {
        let block: Block = decode("Block", payload, MAX_BLOCK_BYTES)
            .map_err(|e| self.fault("malformed", "a block", e.to_string()))?;
        let chain_id = self.tip.as_ref().map(|tip| tip.chain_id.as_str()).unwrap_or_default();
        if let Some(plan) = plan_of(chain_id, &block) {
            self.recover(&plan)?;
        }
        let leaves = block.entries.iter().map(|entry| tagged_leaf_hash(LEAF_ENTRY, entry)).collect();
        let outline =
            Outline { header: &block.header, previous_certificate: &block.previous_certificate, leaves };
        self.outlined(&outline, verify)
    }

    /// The next block, without its entries.
    pub(super) fn pruned_block(&mut self, payload: &[u8], verify: Verify<'_>) -> Result<(), Fault> {
        let malformed = |this: &Self, e: String| this.fault("malformed", "a block without its entries", e);
        let block: PrunedBlock =
            decode("PrunedBlock", payload, MAX_BLOCK_BYTES).map_err(|e| malformed(self, e.to_string()))?;
        let leaves = block.leaf_hashes.iter().map(|leaf| array("PrunedBlock", "leaf_hashes", leaf));
        let leaves = leaves.collect::<Result<_, _>>().map_err(|e| malformed(self, e.to_string()))?;
        if let Some(plan) = &block.recovery {
            // Its hash does not cover them: nobody could tell which are the ones in the ledger.
            if !plan.signatures.is_empty() {
                return Err(malformed(self, "the plan of its recovery has signatures".into()));
            }
            self.recover(plan)?;
        }
        let outline =
            Outline { header: &block.header, previous_certificate: &block.previous_certificate, leaves };
        self.outlined(&outline, verify)?;
        let height = self.tip.as_ref().map_or(0, |tip| tip.height);
        match self.pruned.last_mut() {
            Some((_, last)) if *last + 1 == height => *last = height,
            _ => self.pruned.push((height, height)),
        }
        Ok(())
    }

    fn outlined(&mut self, block: &Outline<'_>, verify: Verify<'_>) -> Result<(), Fault> {
        let Some(tip) = &mut self.tip else {
            return Err(self.fault("record-order", "Genesis record", "Block record"));
        };
        let (header, signatures) = match follows(tip, block, verify) {
            Ok(followed) => followed,
            Err(error) => return Err(self.block_fault(&error)),
        };
        self.counts.entries += block.leaves.len() as u64;
        self.counts.signatures += signatures as u64;
        self.await_set(&header);
        Ok(())
    }
}

/// Moves the tip on by a block that follows it. The tip is left alone when it doesn't.
fn follows(tip: &mut Tip, block: &Outline<'_>, verify: Verify<'_>) -> Result<(Header, usize), BlockError> {
    let header: Header = decode("Header", block.header, MAX_ENTRY_BYTES)?;
    let checks = previous_certificate_checks(tip, block.previous_certificate)?;
    let mut log = tip.log.clone();
    for leaf in &block.leaves {
        log.append(*leaf, |_, _, _| {});
    }
    let proposer = check_shape(tip, &header, block.previous_certificate, &log)?;
    let state_root = array("Header", "state_root", &header.state_root)?;
    array::<32>("Header", "next_validator_set_hash", &header.next_validator_set_hash)?;
    if !verify(&checks) {
        return Err(BlockError::Signature);
    }
    log.append(tagged_leaf_hash(LEAF_HEADER, block.header), |_, _, _| {});
    tip.bench = tip.bench.after(&tip.validators, header.height, header.round, &proposer);
    tip.height = header.height;
    tip.header_hash = header_hash(&tip.chain_id, block.header);
    tip.time_ms = header.time_ms;
    tip.state_root = state_root;
    tip.log = log;
    tip.voters = tip.validators.clone();
    Ok((header, checks.len()))
}
