//! Keys of members: what is signed when one takes the place of another, and which keys serve somebody.

use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::scheduled_change::Kind;
use assent_proto::ledger::v1::{KeyPurpose, Membership, Organization};

use super::error::GovernanceError;
use super::form::organization;
use super::power::validators;
use crate::hash::{framed, Context};
use crate::keys::screen;
use crate::peer_id::peer_key;

/// The bytes that the old and the new key sign when one takes the place of the other. `old_key` is empty where the present one is
/// suspended; `effective_height` is 0 in a replacement by vote.
pub fn handover_sign_bytes(
    chain_id: &str,
    organization: &str,
    purpose: KeyPurpose,
    old_key: &[u8],
    new_key: &[u8],
    effective_height: u64,
) -> Vec<u8> {
    // Purposes are small positive numbers.
    let purpose = (i32::from(purpose) as u32).to_be_bytes();
    framed(
        Context::KeyHandover,
        chain_id,
        &[organization.as_bytes(), &purpose, old_key, new_key, &effective_height.to_be_bytes()],
    )
}

/// The bytes that the vote key of an approved validator signs when it is ready.
pub fn ready_sign_bytes(chain_id: &str, organization: &str, vote_key: &[u8], height: u64) -> Vec<u8> {
    framed(Context::ValidatorReady, chain_id, &[organization.as_bytes(), vote_key, &height.to_be_bytes()])
}

/// A member's record.
pub(super) fn member<'a>(membership: &'a Membership, id: &str) -> Result<&'a Organization, GovernanceError> {
    let found = membership.organizations.iter().find(|o| o.id == id);
    found.ok_or_else(|| GovernanceError::UnknownOrganization(id.to_owned()))
}

/// A member's present key: 32 bytes, a certificate in DER, or empty for an entry key that is suspended. None where it has no
/// such key: no validator, or a peer id that is no Ed25519 key's.
pub fn present_key(membership: &Membership, organization: &str, purpose: KeyPurpose) -> Option<Vec<u8>> {
    let member = member(membership, organization).ok()?;
    match purpose {
        KeyPurpose::Unspecified => None,
        KeyPurpose::Entry => Some(member.entry_key.clone()),
        KeyPurpose::Vote => {
            let validator = validators(membership).iter().find(|v| v.organization == organization);
            validator.map(|v| v.vote_key.clone())
        }
        KeyPurpose::ConsensusPeer => peer_key(&member.consensus_peer_id).map(|key| key.to_vec()),
        KeyPurpose::ExchangePeer => peer_key(&member.exchange_peer_id).map(|key| key.to_vec()),
        KeyPurpose::CertificateAuthority => Some(member.ca_certificate.clone()),
        KeyPurpose::Checkpoint => Some(member.checkpoint_key.clone()),
    }
}

/// Name of a key in sentences.
pub(super) fn key_name(purpose: KeyPurpose) -> &'static str {
    match purpose {
        KeyPurpose::Unspecified => "the key",
        KeyPurpose::Entry => "the entry key",
        KeyPurpose::Vote => "the vote key",
        KeyPurpose::ConsensusPeer => "the key of the consensus peer",
        KeyPurpose::ExchangePeer => "the key of the exchange peer",
        KeyPurpose::CertificateAuthority => "the certificate authority",
        KeyPurpose::Checkpoint => "the checkpoint key",
    }
}

/// Keys of a record, with their purposes.
pub(super) fn keys_of(member: &Organization) -> Vec<(KeyPurpose, Vec<u8>)> {
    let peer = |id: &str| peer_key(id).map(|key| key.to_vec()).unwrap_or_default();
    vec![
        (KeyPurpose::Entry, member.entry_key.clone()),
        (KeyPurpose::Checkpoint, member.checkpoint_key.clone()),
        (KeyPurpose::ConsensusPeer, peer(&member.consensus_peer_id)),
        (KeyPurpose::ExchangePeer, peer(&member.exchange_peer_id)),
        (KeyPurpose::CertificateAuthority, member.ca_certificate.clone()),
    ]
}

/// Refuses a key that must not be registered, or that serves somebody: any member for any purpose, validators that wait, vote
/// keys of before, and whatever is scheduled. (Open proposals reserve nothing: else a proposal could keep another's key out.)
pub(super) fn check_new_key(
    membership: &Membership,
    purpose: KeyPurpose,
    key: &[u8],
) -> Result<(), GovernanceError> {
    let what = key_name(purpose);
    if purpose != KeyPurpose::CertificateAuthority {
        // Other lengths are refused before: see `form`.
        let key = key.try_into().map_err(|_| GovernanceError::Key { what, why: "not 32 bytes" })?;
        screen(&key).map_err(|why| GovernanceError::Key { what, why })?;
    }
    match serves(membership, key) {
        true => Err(GovernanceError::KeyInUse(what)),
        false => Ok(()),
    }
}

fn serves(membership: &Membership, key: &[u8]) -> bool {
    let of_member = |member: &Organization| keys_of(member).iter().any(|(_, k)| k == key);
    let vote_keys = validators(membership).iter().chain(&membership.joining).map(|v| &v.vote_key);
    let former = membership.former_vote_keys.iter().map(|f| &f.vote_key);
    let scheduled = |kind: &Kind| match kind {
        Kind::Validator(validator) => validator.vote_key == key,
        Kind::Key(replace) => replace.new_key == key,
        Kind::Addresses(_) | Kind::Suspended(_) => false,
        Kind::Proposal(proposal) => match proposal.change.as_ref().and_then(|c| c.change.as_ref()) {
            Some(Change::AddOrganization(add)) => {
                organization(&add.organization).is_ok_and(|o| of_member(&o))
            }
            Some(Change::AddValidator(add)) => add.vote_key == key,
            Some(Change::ReplaceKey(replace)) => replace.new_key == key,
            Some(Change::RemoveOrganization(_) | Change::RemoveValidator(_)) | None => false,
        },
    };
    membership.organizations.iter().any(of_member)
        || vote_keys.chain(former).any(|k| k == key)
        || membership.scheduled.iter().filter_map(|c| c.kind.as_ref()).any(scheduled)
}
