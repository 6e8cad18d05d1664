//! Validator sets, and how each followed from the one before.

use std::collections::BTreeSet;

use assent_proto::ledger::v1::ValidatorSet;

use crate::certificate::validator_set_hash;
use crate::hash::Hash;

/// A validator set. The one before certified the header that names it; the first is genesis'.
#[derive(Debug, Clone, PartialEq)]
pub struct SetStep {
    /// First height that it votes on.
    pub height: u64,
    /// Its hash, as headers name it.
    pub hash: Hash,
    /// Organizations: `+` came, `-` went, `*` votes with a new key; "members" when a member or a member's key changed.
    pub changed: Vec<String>,
    /// The set.
    pub set: ValidatorSet,
}

impl SetStep {
    /// The set that votes from a height on, after the one before.
    pub(super) fn new(height: u64, chain_id: &str, before: Option<&ValidatorSet>, set: ValidatorSet) -> Self {
        let changed = before.map(|before| set_changes(before, &set)).unwrap_or_default();
        Self { height, hash: validator_set_hash(chain_id, &set), changed, set }
    }
}

/// What differs between two sets.
fn set_changes(before: &ValidatorSet, after: &ValidatorSet) -> Vec<String> {
    let key = |set: &ValidatorSet, organization: &str| -> Option<Vec<u8>> {
        set.validators.iter().find(|v| v.organization == organization).map(|v| v.vote_key.clone())
    };
    let all: BTreeSet<&str> =
        before.validators.iter().chain(&after.validators).map(|v| v.organization.as_str()).collect();
    let mut changed: Vec<String> = all
        .into_iter()
        .filter_map(|id| match (key(before, id), key(after, id)) {
            (None, Some(_)) => Some(format!("+{id}")),
            (Some(_), None) => Some(format!("-{id}")),
            (old, new) => (old != new).then(|| format!("*{id}")),
        })
        .collect();
    if before.members_root != after.members_root {
        changed.push("members".into());
    }
    changed
}
