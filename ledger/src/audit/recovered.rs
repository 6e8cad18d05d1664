//! Recoveries of a lost quorum: blocks that the validators before them did not certify. An auditor has to say that it accepts each.

use assent_proto::ledger::v1::Block;

use super::{ChainVerifier, Fault, Level};
use crate::block::{apply_block, BlockError, Tip, Verify, MAX_BLOCK_BYTES};
use crate::encoding::decode;
use crate::hash::Hash;
use crate::recovered::{describe, plan_of, Recovered};
use crate::recovery::agree;

/// Kind of the fault that is the auditor's to decide: a recovery that nobody said to accept.
pub const RECOVERY: &str = "recovery";

impl ChainVerifier {
    /// Accepts the recoveries with these plans. Their operators have to have published them some other way: whoever remains could
    /// make one up.
    pub fn accepting(mut self, plans: impl IntoIterator<Item = Hash>) -> Self {
        self.accepted.extend(plans);
        self
    }

    /// The tip that the next block follows: after a recovery that is accepted, with the new validators. A recovery that holds but is not
    /// accepted is a fault of kind [`RECOVERY`].
    pub(super) fn recovered(
        &self,
        tip: &Tip,
        payload: &[u8],
        verify: Verify<'_>,
    ) -> Result<Option<(Tip, Recovered)>, Fault> {
        // A block that does not decode is named as such when it is applied.
        let block = decode::<Block>("Block", payload, MAX_BLOCK_BYTES).ok();
        let Some(plan) = block.and_then(|block| plan_of(&tip.chain_id, &block)) else { return Ok(None) };
        let recovered = describe(&tip.chain_id, (tip.height, &tip.header_hash), &tip.validators, &plan)
            .map_err(|error| self.block_fault(&BlockError::Entry { index: 0, error }))?;
        let agreed = agree(tip, &plan).map_err(|e| self.block_fault(&e.into()))?;
        if self.accepted.contains(&recovered.plan) {
            return Ok(Some((agreed, recovered)));
        }
        if self.level == Level::Full {
            // One that breaks a rule is nobody's to accept.
            apply_block(&agreed, &self.state, payload, verify).map_err(|e| self.block_fault(&e))?;
        }
        let found = recovered.question();
        Err(Fault { index: Some(0), ..self.fault(RECOVERY, "more than 2/3 of the validators before", found) })
    }

    pub(super) fn note_recovery(&mut self, tip: &Tip, recovered: Recovered) {
        self.step(recovered.height, &tip.chain_id, tip.validators.clone());
        self.recoveries.push(recovered);
    }
}
