//! What is scheduled for a height, carried out at the end of the block before.

use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::scheduled_change::Kind;
use assent_proto::ledger::v1::{Membership, OpenProposal};

use super::apply::{add_validator, apply_change, drop_own, set_key};
use super::change::{check_change, check_replacement};
use super::handover::member;
use super::power::{can_approve_without, count_votes, power_of, reachable, schedule};
use super::POSTPONED_HEIGHTS;
use crate::block::Tip;
use crate::execute::ExecuteError;
use crate::membership::members_root;
use crate::state::{Overlay, ReadError, StateRead};

/// Carries out what is scheduled up to height `next`; false when nothing changed. Afterwards everything that waits, waits for a
/// later height.
pub(crate) fn activate<R: StateRead>(
    state: &mut Overlay<'_, R>,
    membership: &mut Membership,
    tip: &Tip,
    next: u64,
) -> Result<bool, ReadError> {
    let before = membership.clone();
    membership.proposals.retain(|p| p.change.as_ref().is_some_and(|c| c.effective_height > next));
    // Keys stop before anything else happens: what a stolen one has scheduled must not come after it.
    while let Some(id) = take_due(membership, next, |kind| matches!(kind, Kind::Suspended(_))) {
        if let Kind::Suspended(id) = id {
            suspend(state, tip, membership, &id, next)?;
        }
    }
    while let Some(kind) = take_due(membership, next, |_| true) {
        carry_out(state, tip, membership, kind, next)?;
    }
    if membership.validators != before.validators {
        // Fewer or other voters may make votes enough that were not.
        count_votes(membership, next.saturating_add(1));
    }
    if membership.organizations != before.organizations {
        let root = members_root(&membership.organizations).to_vec();
        membership.validators.get_or_insert_default().members_root = root;
    }
    Ok(*membership != before)
}

/// The first change whose height has come.
fn take_due(membership: &mut Membership, next: u64, wanted: impl Fn(&Kind) -> bool) -> Option<Kind> {
    let due = |change: &assent_proto::ledger::v1::ScheduledChange| {
        change.effective_height <= next && change.kind.as_ref().is_some_and(&wanted)
    };
    let place = membership.scheduled.iter().position(due)?;
    membership.scheduled.remove(place).kind
}

fn suspend<R: StateRead>(
    state: &mut Overlay<'_, R>,
    tip: &Tip,
    membership: &mut Membership,
    id: &str,
    next: u64,
) -> Result<(), ReadError> {
    if member(membership, id).is_err() {
        return Ok(());
    }
    drop_own(membership, id);
    // Who has given its votes is as uncertain; what was decided by them stays.
    membership.proposals.iter_mut().for_each(|p| p.approvals.retain(|voter| voter != id));
    membership.suspensions.iter_mut().for_each(|s| s.votes.retain(|voter| voter != id));
    let purpose = assent_proto::ledger::v1::KeyPurpose::Entry;
    set_key(state, &tip.chain_id, membership, id, purpose, &[], next)
}

fn carry_out<R: StateRead>(
    state: &mut Overlay<'_, R>,
    tip: &Tip,
    membership: &mut Membership,
    kind: Kind,
    next: u64,
) -> Result<(), ReadError> {
    match kind {
        Kind::Proposal(proposal) => decided(state, tip, membership, proposal, next)?,
        Kind::Key(key) => {
            let possible = check_replacement(membership, &key.organization, key.purpose(), &key.new_key);
            if possible.is_ok() {
                let (id, purpose) = (&key.organization, key.purpose());
                set_key(state, &tip.chain_id, membership, id, purpose, &key.new_key, next)?;
            }
        }
        Kind::Addresses(change) => {
            let member = membership.organizations.iter_mut().find(|o| o.id == change.organization);
            if let (Some(member), Some(addresses)) = (member, change.addresses) {
                member.consensus_address = addresses.consensus_address;
                member.exchange_address = addresses.exchange_address;
            }
        }
        Kind::Validator(validator) => {
            let mut resulting = membership.clone();
            add_validator(&mut resulting, validator.clone());
            // One whose organization can't sign entries would not approve anything.
            match is_reachable(&resulting, tip, next) && can_approve_without(&resulting, "", true) {
                true => *membership = resulting,
                false => postpone(membership, Kind::Validator(validator), next),
            }
        }
        Kind::Suspended(_) => {}
    }
    Ok(())
}

fn decided<R: StateRead>(
    state: &mut Overlay<'_, R>,
    tip: &Tip,
    membership: &mut Membership,
    proposal: OpenProposal,
    next: u64,
) -> Result<(), ReadError> {
    let Some(change) = proposal.change.as_ref().and_then(|c| c.change.as_ref()) else { return Ok(()) };
    match check_change(state, &tip.chain_id, membership, change) {
        Ok(()) => {}
        Err(ExecuteError::Read(error)) => return Err(error),
        // Possible when it was proposed, not any more: void.
        Err(_) => return Ok(()),
    }
    let leaves = match change {
        Change::RemoveValidator(op) => Some(&op.organization),
        Change::RemoveOrganization(op) => Some(&op.organization),
        Change::AddOrganization(_) | Change::AddValidator(_) | Change::ReplaceKey(_) => None,
    };
    if let Some(organization) = leaves.filter(|id| power_of(membership, id) > 0) {
        let mut resulting = membership.clone();
        resulting.validators.get_or_insert_default().validators.retain(|v| v.organization != *organization);
        if !is_reachable(&resulting, tip, next) {
            postpone(membership, Kind::Proposal(proposal), next);
            return Ok(());
        }
    }
    apply_change(state, &tip.chain_id, membership, change, next)
}

fn is_reachable(membership: &Membership, tip: &Tip, next: u64) -> bool {
    membership.validators.as_ref().is_some_and(|set| reachable(set, &tip.bench, next))
}

fn postpone(membership: &mut Membership, kind: Kind, next: u64) {
    schedule(membership, next.saturating_add(POSTPONED_HEIGHTS), kind);
}
