//! Who votes with how much power, and what their votes decide.

use std::collections::BTreeSet;

use assent_proto::ledger::v1::scheduled_change::Kind;
use assent_proto::ledger::v1::{propose_change::Change, KeyPurpose};
use assent_proto::ledger::v1::{Membership, ScheduledChange, Validator, ValidatorSet};

use crate::bench::Bench;
use crate::certificate::{is_quorum, total_power};

/// The validators that vote at the next height.
pub(super) fn validators(membership: &Membership) -> &[Validator] {
    membership.validators.as_ref().map_or(&[], |set| &set.validators)
}

/// Power of an organization's validators; 0 when it has none.
pub(super) fn power_of(membership: &Membership, organization: &str) -> u64 {
    let own = validators(membership).iter().filter(|v| v.organization == organization);
    own.map(|v| v.power).fold(0, u64::saturating_add)
}

fn total(membership: &Membership) -> u64 {
    membership.validators.as_ref().map_or(0, total_power)
}

/// Power behind the votes of organizations, those that still have a validator, and all power.
fn behind(membership: &Membership, organizations: &[String]) -> (u64, u64) {
    let voted = organizations.iter().map(|o| power_of(membership, o)).fold(0, u64::saturating_add);
    (voted, total(membership))
}

/// True when less than 1/3 of the power is an organization's.
pub(super) fn less_than_a_third(membership: &Membership, organization: &str) -> Result<(), (u64, u64)> {
    let (power, total) = (power_of(membership, organization), total(membership));
    match u128::from(power) * 3 < u128::from(total) {
        true => Ok(()),
        false => Err((power, total)),
    }
}

/// True when without `gone` those organizations that can sign entries still have more than 2/3 of the power that is left: a
/// suspended key comes back by their vote only. `stays` says that the validator of `gone` keeps its power.
pub(super) fn can_approve_without(membership: &Membership, gone: &str, stays: bool) -> bool {
    let stopped = |organization: &str| {
        let suspended =
            |change: &ScheduledChange| matches!(&change.kind, Some(Kind::Suspended(o)) if o == organization);
        let member = membership.organizations.iter().find(|o| o.id == organization);
        member.is_none_or(|o| o.entry_key.is_empty()) || membership.scheduled.iter().any(suspended)
    };
    let (mut able, mut all) = (0u64, 0u64);
    for validator in validators(membership) {
        let leaves = validator.organization == gone;
        if leaves && !stays {
            continue;
        }
        all = all.saturating_add(validator.power);
        if !leaves && !stopped(&validator.organization) {
            able = able.saturating_add(validator.power);
        }
    }
    is_quorum(able, all)
}

/// Moves what enough votes were given for to the scheduled changes. `next` is the height after the present block.
pub(super) fn count_votes(membership: &mut Membership, next: u64) {
    let open = std::mem::take(&mut membership.proposals);
    for proposal in open {
        let (approved, total) = behind(membership, &proposal.approvals);
        let effective = proposal.change.as_ref().map_or(0, |c| c.effective_height);
        match is_quorum(approved, total) {
            true => schedule(membership, effective.max(next), Kind::Proposal(proposal)),
            false => membership.proposals.push(proposal),
        }
    }
    let waiting = std::mem::take(&mut membership.suspensions);
    for suspension in waiting {
        let (voted, total) = behind(membership, &suspension.votes);
        let enough = u128::from(voted) * 3 > u128::from(total);
        match enough && can_approve_without(membership, &suspension.organization, true) {
            true => schedule(membership, next, Kind::Suspended(suspension.organization)),
            false => membership.suspensions.push(suspension),
        }
    }
}

/// Schedules a change for a height; one that touches the validators for the next height that no other such change has.
pub(super) fn schedule(membership: &mut Membership, mut effective_height: u64, kind: Kind) {
    if touches_validators(&kind) {
        let taken: Vec<u64> = membership
            .scheduled
            .iter()
            .filter(|change| change.kind.as_ref().is_some_and(touches_validators))
            .map(|change| change.effective_height)
            .collect();
        while taken.contains(&effective_height) {
            effective_height = effective_height.saturating_add(1);
        }
    }
    let at = membership.scheduled.partition_point(|change| change.effective_height <= effective_height);
    membership.scheduled.insert(at, ScheduledChange { effective_height, kind: Some(kind) });
}

/// True for changes after which other keys vote. (A member that goes may have a validator.)
fn touches_validators(kind: &Kind) -> bool {
    let vote = i32::from(KeyPurpose::Vote);
    match kind {
        Kind::Validator(_) => true,
        Kind::Key(key) => key.purpose == vote,
        Kind::Addresses(_) | Kind::Suspended(_) => false,
        Kind::Proposal(proposal) => match proposal.change.as_ref().and_then(|c| c.change.as_ref()) {
            Some(Change::RemoveOrganization(_) | Change::RemoveValidator(_)) => true,
            Some(Change::ReplaceKey(key)) => key.purpose == vote,
            Some(Change::AddOrganization(_) | Change::AddValidator(_)) | None => false,
        },
    }
}

/// True when those of a set that did not miss their turns, as far as headers tell, are a quorum of it.
pub(super) fn reachable(set: &ValidatorSet, bench: &Bench, height: u64) -> bool {
    let missing = bench.0.iter().filter(|(_, absence)| absence.is_absent(height));
    let absent: BTreeSet<&[u8]> = missing.map(|(address, _)| address.as_slice()).collect();
    let present = set.validators.iter().filter(|v| !absent.contains(v.vote_key.as_slice()));
    is_quorum(present.map(|v| v.power).fold(0, u64::saturating_add), total_power(set))
}
