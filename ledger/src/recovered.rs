//! A recovery of a lost quorum, as whoever follows a chain meets it: the validators before did not certify what comes after it.
//!
//! What a reader trusts is the hash of the plan, which has to reach it some other way. It covers block, validators and reason, not
//! the plan's signatures: whoever has them shows no more than that those who remain agree.

use std::fmt;

use assent_proto::ledger::v1::{Block, Recover, ValidatorSet};

use crate::entry::check_entry;
use crate::execute::ExecuteError;
use crate::hash::Hash;
use crate::recovery::{check_recover, check_tip, left_out, new_set, plan_hash, RecoveryError};

/// A recovery in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Height of its block: the first one that the remaining validators voted on.
    pub height: u64,
    /// Hash of the plan.
    pub plan: Hash,
    /// Organizations that remain, in ascending order: all of them signed the plan.
    pub by: Vec<String>,
    /// Organizations whose validators are gone, in ascending order.
    pub removed: Vec<String>,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, by, removed, reason, .. } = self;
        let (by, removed) = (by.join(", "), removed.join(", "));
        write!(
            f,
            "a recovery with plan {} by {by}, without {removed}, because of {reason:?}",
            hex::encode(plan)
        )
    }
}

impl Recovered {
    /// What a reader who has not accepted it is asked to decide.
    pub fn question(&self) -> String {
        format!("{self}: say --accept-recovery {} if its operators published it", hex::encode(self.plan))
    }
}

/// What a plan does behind the header of this height and hash, where `before` would vote next. Says nothing about its signatures.
pub fn describe(
    chain_id: &str,
    (height, header_hash): (u64, &Hash),
    before: &ValidatorSet,
    plan: &Recover,
) -> Result<Recovered, ExecuteError> {
    check_recover(plan)?;
    if height == 0 {
        return Err(RecoveryError::NoBlock.into());
    }
    check_tip(height, header_hash, plan)?;
    let set = new_set(plan)?;
    let removed = left_out(before, &set)?;
    let mut by: Vec<String> = set.validators.into_iter().map(|v| v.organization).collect();
    by.sort();
    let (height, reason) = (height.saturating_add(1), plan.reason.clone());
    Ok(Recovered { height, plan: plan_hash(chain_id, plan), by, removed, reason })
}

/// The plan that a block starts with, if it does.
pub fn plan_of(chain_id: &str, block: &Block) -> Option<Recover> {
    check_entry(chain_id, block.entries.first()?).ok()?.recovery().cloned()
}

/// A plan as those keep it who only follow: its hash covers no signature.
pub fn without_signatures(plan: &Recover) -> Recover {
    Recover { signatures: Vec::new(), ..plan.clone() }
}
