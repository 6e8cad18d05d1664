//! Recoveries of a lost quorum: blocks that the validators before them did not certify. An auditor has to say that it accepts each.

use assent_proto::ledger::v1::{Block, Recover};

use super::{ChainVerifier, Fault};
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
    /// accepted is a fault of kind [`RECOVERY`]. All of it is checked; [`Self::recover`] checks the plan alone.
    pub(super) fn recovered(
        &self,
        tip: &Tip,
        payload: &[u8],
        verify: Verify<'_>,
    ) -> Result<Option<(Tip, Recovered)>, Fault> {
        // A block that does not decode is named as such when it is applied.
        let block = decode::<Block>("Block", payload, MAX_BLOCK_BYTES).ok();
        let Some(plan) = block.and_then(|block| plan_of(&tip.chain_id, &block)) else { return Ok(None) };
        let (agreed, recovered) = self.followed(tip, &plan)?;
        if !self.accepted.contains(&recovered.plan) {
            // One that breaks a rule is nobody's to accept.
            apply_block(&agreed, &self.state, payload, verify).map_err(|e| self.block_fault(&e))?;
        }
        self.accepted((agreed, recovered)).map(Some)
    }

    /// Goes on by the plan of a block, without looking at its entries.
    pub(super) fn recover(&mut self, plan: &Recover) -> Result<(), Fault> {
        let Some(tip) = &self.tip else { return Ok(()) };
        let (agreed, recovered) = self.accepted(self.followed(tip, plan)?)?;
        self.note_recovery(&agreed, recovered);
        self.tip = Some(Tip { recovery: None, ..agreed });
        Ok(())
    }

    /// What a plan that holds behind the tip makes of it.
    fn followed(&self, tip: &Tip, plan: &Recover) -> Result<(Tip, Recovered), Fault> {
        let recovered = describe(&tip.chain_id, (tip.height, &tip.header_hash), &tip.validators, plan)
            .map_err(|error| self.block_fault(&BlockError::Entry { index: 0, error }))?;
        let agreed = agree(tip, plan).map_err(|e| self.block_fault(&e.into()))?;
        Ok((agreed, recovered))
    }

    fn accepted(&self, (agreed, recovered): (Tip, Recovered)) -> Result<(Tip, Recovered), Fault> {
        if self.accepted.contains(&recovered.plan) {
            return Ok((agreed, recovered));
        }
        let found = recovered.question();
        Err(Fault { index: Some(0), ..self.fault(RECOVERY, "more than 2/3 of the validators before", found) })
    }

    pub(super) fn note_recovery(&mut self, tip: &Tip, recovered: Recovered) {
        self.step(recovered.height, &tip.chain_id, tip.validators.clone());
        self.recoveries.push(recovered);
    }
}
