//! What each change asks for. What it does is in [`super::apply`].

use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::scheduled_change::Kind;
use assent_proto::ledger::v1::{AddValidator, KeyPurpose, Membership, Organization, RemoveOrganization};

use super::error::GovernanceError;
use super::handover::{check_new_key, key_name, keys_of, member, present_key};
use super::power::{can_approve_without, less_than_a_third, power_of, validators};
use super::{form, MAX_ORGANIZATIONS};
use crate::certificate::MAX_VALIDATORS;
use crate::execute::ExecuteError;
use crate::state::{organization, StateRead};

/// Whether a change is possible now: asked when it is proposed, and again when its height has come.
pub(super) fn check_change(
    state: &impl StateRead,
    chain_id: &str,
    membership: &Membership,
    change: &Change,
) -> Result<(), ExecuteError> {
    match change {
        Change::AddOrganization(op) => {
            let record = form::organization(&op.organization)?;
            // A state outlives the membership: no id is given twice.
            if organization(state, chain_id, &record.id)?.is_some() {
                return Err(GovernanceError::OrganizationExists(record.id).into());
            }
            check_record(membership, &record)?;
        }
        Change::RemoveOrganization(op) => check_removal(membership, op)?,
        Change::AddValidator(op) => check_validator(membership, op)?,
        Change::RemoveValidator(op) => {
            member(membership, &op.organization)?;
            let waits = membership.joining.iter().any(|v| v.organization == op.organization)
                || ready(membership, &op.organization);
            if power_of(membership, &op.organization) == 0 && !waits {
                return Err(GovernanceError::NoValidator(op.organization.clone()).into());
            }
            check_power(membership, &op.organization)?;
        }
        Change::ReplaceKey(op) => {
            member(membership, &op.organization)?;
            check_replacement(membership, &op.organization, op.purpose(), &op.new_key)?;
        }
    }
    Ok(())
}

fn check_record(membership: &Membership, record: &Organization) -> Result<(), GovernanceError> {
    let count = membership.organizations.len();
    if count >= MAX_ORGANIZATIONS {
        return Err(GovernanceError::TooManyOrganizations(count));
    }
    let keys = keys_of(record);
    for (index, (purpose, key)) in keys.iter().enumerate() {
        check_new_key(membership, *purpose, key)?;
        if keys.iter().take(index).any(|(_, other)| other == key) {
            return Err(GovernanceError::KeyInUse(key_name(*purpose)));
        }
    }
    Ok(())
}

fn check_removal(membership: &Membership, op: &RemoveOrganization) -> Result<(), GovernanceError> {
    member(membership, &op.organization)?;
    if let Some(successor) = &op.successor {
        if *successor == op.organization || member(membership, successor).is_err() {
            return Err(GovernanceError::Successor(successor.clone()));
        }
    }
    check_power(membership, &op.organization)
}

/// For the removal of a validator, when there is one.
fn check_power(membership: &Membership, organization: &str) -> Result<(), GovernanceError> {
    if power_of(membership, organization) == 0 {
        return Ok(());
    }
    less_than_a_third(membership, organization).map_err(|(power, total)| GovernanceError::TooMuchPower {
        organization: organization.to_owned(),
        power,
        total,
    })?;
    match can_approve_without(membership, organization, false) {
        true => Ok(()),
        false => Err(GovernanceError::NobodyLeftToApprove(organization.to_owned())),
    }
}

/// True when a validator of this organization is scheduled.
fn ready(membership: &Membership, organization: &str) -> bool {
    membership
        .scheduled
        .iter()
        .any(|c| matches!(&c.kind, Some(Kind::Validator(v)) if v.organization == organization))
}

/// One more of power 1 is less than 1/3 of four and more; below four there would be no growth otherwise.
fn check_validator(membership: &Membership, op: &AddValidator) -> Result<(), GovernanceError> {
    member(membership, &op.organization)?;
    let waits = membership.joining.iter().any(|v| v.organization == op.organization);
    if waits || power_of(membership, &op.organization) > 0 || ready(membership, &op.organization) {
        return Err(GovernanceError::ValidatorExists(op.organization.clone()));
    }
    let scheduled = membership.scheduled.iter().filter(|c| matches!(c.kind, Some(Kind::Validator(_))));
    let count = validators(membership).len() + membership.joining.len() + scheduled.count();
    if count >= MAX_VALIDATORS {
        return Err(GovernanceError::TooManyValidators(count));
    }
    check_new_key(membership, KeyPurpose::Vote, &op.vote_key)
}

/// Whether a member's key may be replaced by another.
pub(super) fn check_replacement(
    membership: &Membership,
    organization: &str,
    purpose: KeyPurpose,
    new_key: &[u8],
) -> Result<(), GovernanceError> {
    if present_key(membership, organization, purpose).is_none() {
        return Err(GovernanceError::NoSuchKey(organization.to_owned()));
    }
    check_new_key(membership, purpose, new_key)
}
