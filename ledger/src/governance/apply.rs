//! What each change does. Nothing here asks whether it may: see [`super::change`].

use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::scheduled_change::Kind;
use assent_proto::ledger::v1::{FormerVoteKey, KeyPurpose, Membership, OrganizationState, Validator};

use super::{form, MAX_FORMER_VOTE_KEYS, POWER};
use crate::peer_id::peer_id;
use crate::state::{organization, organization_key, Overlay, ReadError, StateRead};

/// Does what [`super::change::check_change`] allowed; `next` is the first height at which it holds.
pub(super) fn apply_change<R: StateRead>(
    state: &mut Overlay<'_, R>,
    chain_id: &str,
    membership: &mut Membership,
    change: &Change,
    next: u64,
) -> Result<(), ReadError> {
    match change {
        Change::AddOrganization(op) => {
            // It was decodable when it was checked.
            let Ok(record) = form::organization(&op.organization) else { return Ok(()) };
            let fresh = OrganizationState { entry_key: record.entry_key.clone(), ..Default::default() };
            state.put(organization_key(chain_id, &record.id), &fresh);
            let at = membership.organizations.partition_point(|o| o.id < record.id);
            membership.organizations.insert(at, record);
        }
        Change::RemoveOrganization(op) => {
            change_organization(state, chain_id, &op.organization, |state| {
                state.removed = true;
                state.successor = op.successor.clone();
            })?;
            remove_validator(membership, &op.organization, next);
            membership.organizations.retain(|o| o.id != op.organization);
            membership.suspensions.retain(|s| s.organization != op.organization);
            drop_own(membership, &op.organization);
        }
        Change::AddValidator(op) => membership.joining.push(Validator {
            organization: op.organization.clone(),
            vote_key: op.vote_key.clone(),
            power: POWER,
        }),
        Change::RemoveValidator(op) => remove_validator(membership, &op.organization, next),
        Change::ReplaceKey(op) => {
            // Decided by all: it ends what the organization itself has under way for this key. Of a stolen entry key, everything.
            match op.purpose() {
                KeyPurpose::Entry => drop_own(membership, &op.organization),
                _ => membership.scheduled.retain(|c| {
                    !matches!(&c.kind, Some(Kind::Key(key))
                        if key.organization == op.organization && key.purpose == op.purpose)
                }),
            }
            set_key(state, chain_id, membership, &op.organization, op.purpose(), &op.new_key, next)?;
        }
    }
    Ok(())
}

/// Drops what an organization alone has scheduled.
pub(super) fn drop_own(membership: &mut Membership, organization: &str) {
    membership.scheduled.retain(|change| match &change.kind {
        Some(Kind::Key(key)) => key.organization != organization,
        Some(Kind::Addresses(addresses)) => addresses.organization != organization,
        Some(Kind::Proposal(_) | Kind::Validator(_) | Kind::Suspended(_)) | None => true,
    });
}

fn change_organization<R: StateRead>(
    state: &mut Overlay<'_, R>,
    chain_id: &str,
    id: &str,
    change: impl FnOnce(&mut OrganizationState),
) -> Result<(), ReadError> {
    let missing = || ReadError(format!("organization {id} is a member without a state"));
    let mut stored = organization(state, chain_id, id)?.ok_or_else(missing)?;
    change(&mut stored);
    state.put(organization_key(chain_id, id), &stored);
    Ok(())
}

fn retire(membership: &mut Membership, validator: Validator, next: u64) {
    let Validator { organization, vote_key, .. } = validator;
    let former = FormerVoteKey { organization, vote_key, last_height: next.saturating_sub(1) };
    membership.former_vote_keys.push(former);
    let surplus = membership.former_vote_keys.len().saturating_sub(MAX_FORMER_VOTE_KEYS);
    membership.former_vote_keys.drain(..surplus);
}

/// A validator votes no more from height `next` on; what it has under way goes.
pub(crate) fn remove_validator(membership: &mut Membership, organization: &str, next: u64) {
    membership.joining.retain(|v| v.organization != organization);
    membership
        .scheduled
        .retain(|c| !matches!(&c.kind, Some(Kind::Validator(v)) if v.organization == organization));
    // A new key of one that votes no more has no place.
    let vote = i32::from(KeyPurpose::Vote);
    membership.scheduled.retain(
        |c| !matches!(&c.kind, Some(Kind::Key(k)) if k.organization == organization && k.purpose == vote),
    );
    let set = membership.validators.get_or_insert_default();
    let (gone, stay) =
        std::mem::take(&mut set.validators).into_iter().partition(|v| v.organization == organization);
    set.validators = stay;
    let gone: Vec<Validator> = gone;
    gone.into_iter().for_each(|validator| retire(membership, validator, next));
}

/// A validator votes from the next height on.
pub(super) fn add_validator(membership: &mut Membership, validator: Validator) {
    let set = membership.validators.get_or_insert_default();
    let at = set.validators.partition_point(|v| v.vote_key < validator.vote_key);
    set.validators.insert(at, validator);
}

/// Puts a new key in the place of a member's present one, wherever that stands.
pub(super) fn set_key<R: StateRead>(
    state: &mut Overlay<'_, R>,
    chain_id: &str,
    membership: &mut Membership,
    organization: &str,
    purpose: KeyPurpose,
    key: &[u8],
    next: u64,
) -> Result<(), ReadError> {
    if purpose == KeyPurpose::Vote {
        let set = membership.validators.get_or_insert_default();
        if let Some(at) = set.validators.iter().position(|v| v.organization == organization) {
            let old = set.validators.remove(at);
            let new = Validator { vote_key: key.to_vec(), ..old.clone() };
            add_validator(membership, new);
            retire(membership, old, next);
        }
        return Ok(());
    }
    if purpose == KeyPurpose::Entry {
        change_organization(state, chain_id, organization, |state| state.entry_key = key.to_vec())?;
    }
    let Some(member) = membership.organizations.iter_mut().find(|o| o.id == organization) else {
        return Ok(());
    };
    let name = || key.try_into().map(|key| peer_id(&key)).unwrap_or_default();
    match purpose {
        KeyPurpose::Entry => member.entry_key = key.to_vec(),
        KeyPurpose::Checkpoint => member.checkpoint_key = key.to_vec(),
        KeyPurpose::ConsensusPeer => member.consensus_peer_id = name(),
        KeyPurpose::ExchangePeer => member.exchange_peer_id = name(),
        KeyPurpose::CertificateAuthority => member.ca_certificate = key.to_vec(),
        KeyPurpose::Vote | KeyPurpose::Unspecified => {}
    }
    Ok(())
}
