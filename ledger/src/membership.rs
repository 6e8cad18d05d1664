//! Who is a member, who votes, and what changes at which height.
//!
//! The state holds one [`Membership`]. A header names the set that votes on its block and the one of the next height; a set
//! names, by the root of a tree over them, the members' keys. So the sets, each certified by the one before, lead from genesis
//! to every key that a signature has to be checked with.

use assent_proto::ledger::v1::{Member, Membership, Organization, ValidatorSet};
use prost::Message;

use crate::block::Tip;
use crate::genesis::CheckedGenesis;
use crate::governance::activate;
use crate::hash::{hash, Context, Hash};
use crate::log::{leaf_hash, root_of};
use crate::state::{read, Overlay, ReadError, StateRead};

/// State key of the membership.
pub fn membership_key(chain_id: &str) -> Hash {
    hash(Context::StateMembership, chain_id, &[])
}

/// The membership after the last block.
pub fn membership(state: &impl StateRead, chain_id: &str) -> Result<Membership, ReadError> {
    read(state, &membership_key(chain_id))?.ok_or_else(|| ReadError("the membership is missing".into()))
}

/// Leaf of a member in the tree of members.
pub fn member_leaf(organization: &Organization) -> Hash {
    leaf_hash(&member(organization).encode_to_vec())
}

/// What a validator set says of a member.
pub fn member(organization: &Organization) -> Member {
    Member {
        id: organization.id.clone(),
        entry_key: organization.entry_key.clone(),
        checkpoint_key: organization.checkpoint_key.clone(),
    }
}

/// Root of the tree of members, which are in ascending order of id.
pub fn members_root(organizations: &[Organization]) -> Hash {
    root_of(&organizations.iter().map(member_leaf).collect::<Vec<_>>())
}

/// As genesis makes it.
pub fn genesis_membership(genesis: &CheckedGenesis) -> Membership {
    Membership {
        validators: Some(genesis.validators.clone()),
        organizations: genesis.organizations.clone(),
        ..Default::default()
    }
}

/// What follows from a block for the next height.
pub(crate) struct Settled {
    /// Validators that vote at the next height.
    pub validators: ValidatorSet,
    /// Next height at which something is scheduled to change; 0 when nothing is.
    pub change_height: u64,
}

/// Carries out what is scheduled for the height after this block's. `governed` says that an entry of the block is about
/// membership; otherwise the membership is looked at only when its time has come.
pub(crate) fn settle<R: StateRead>(
    state: &mut Overlay<'_, R>,
    tip: &Tip,
    governed: bool,
) -> Result<Settled, ReadError> {
    let next = tip.height + 2;
    if !governed && tip.change_height != next {
        return Ok(Settled { validators: tip.validators.clone(), change_height: tip.change_height });
    }
    let mut membership = membership(state, &tip.chain_id)?;
    if activate(state, &mut membership, tip, next)? {
        state.put(membership_key(&tip.chain_id), &membership);
    }
    let change_height = change_height(&membership);
    Ok(Settled { validators: membership.validators.unwrap_or_default(), change_height })
}

/// Next height at which something is scheduled to change; 0 when nothing is.
pub fn change_height(membership: &Membership) -> u64 {
    let scheduled = membership.scheduled.iter().map(|change| change.effective_height);
    let proposed = membership.proposals.iter().filter_map(|p| Some(p.change.as_ref()?.effective_height));
    scheduled.chain(proposed).min().unwrap_or_default()
}
