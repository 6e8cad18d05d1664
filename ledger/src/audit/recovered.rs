//! Recoveries of a lost quorum: blocks that the validators before them did not certify. An auditor has to say that it accepts each.

use assent_proto::ledger::v1::{Block, Recover};

use super::{ChainVerifier, Fault, Level};
use crate::block::{apply_block, BlockError, Tip, Verify, MAX_BLOCK_BYTES};
use crate::encoding::decode;
use crate::entry::check_entry;
use crate::hash::Hash;
use crate::recovery::{agree, check_recover, check_tip, left_out, new_set, plan_hash};

/// Kind of the fault that is the auditor's to decide: a recovery that nobody said to accept.
pub const RECOVERY: &str = "recovery";

/// A recovery in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Height of its block: the first one that the remaining validators voted on.
    pub height: u64,
    /// Hash of the plan.
    pub plan: Hash,
    /// Organizations that signed it: those that remain.
    pub by: Vec<String>,
    /// Organizations whose validators are gone.
    pub removed: Vec<String>,
    /// Why.
    pub reason: String,
}

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
        let Some(plan) = first_recovery(tip, payload) else { return Ok(None) };
        let recovered = describe(tip, &plan).map_err(|e| self.block_fault(&e))?;
        let agreed = agree(tip, &plan).map_err(|e| self.block_fault(&e.into()))?;
        if self.accepted.contains(&recovered.plan) {
            return Ok(Some((agreed, recovered)));
        }
        if self.level == Level::Full {
            // One that breaks a rule is nobody's to accept.
            apply_block(&agreed, &self.state, payload, verify).map_err(|e| self.block_fault(&e))?;
        }
        let hash = hex::encode(recovered.plan);
        let Recovered { by, removed, reason, .. } = &recovered;
        let found = format!(
            "a recovery with plan {hash} by {}, without {}, because of {reason:?}: say --accept-recovery {hash} if its operators published it",
            by.join(", "),
            removed.join(", ")
        );
        Err(Fault { index: Some(0), ..self.fault(RECOVERY, "more than 2/3 of the validators before", found) })
    }

    pub(super) fn note_recovery(&mut self, tip: &Tip, recovered: Recovered) {
        self.step(recovered.height, &tip.chain_id, tip.validators.clone());
        self.recoveries.push(recovered);
    }
}

fn first_recovery(tip: &Tip, payload: &[u8]) -> Option<Recover> {
    let block: Block = decode("Block", payload, MAX_BLOCK_BYTES).ok()?;
    check_entry(&tip.chain_id, block.entries.first()?).ok()?.recovery().cloned()
}

fn describe(tip: &Tip, plan: &Recover) -> Result<Recovered, BlockError> {
    let refused = |error: crate::recovery::RecoveryError| BlockError::Entry { index: 0, error: error.into() };
    check_recover(plan)?;
    check_tip(tip, plan).map_err(refused)?;
    Ok(Recovered {
        height: tip.height + 1,
        plan: plan_hash(&tip.chain_id, plan),
        by: plan.signatures.iter().map(|s| s.organization.clone()).collect(),
        removed: left_out(&tip.validators, &new_set(plan)?).map_err(refused)?,
        reason: plan.reason.clone(),
    })
}
