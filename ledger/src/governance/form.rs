//! Form of steps of governance: variants, lengths, ids. What is judged against a state is not here.

use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::{Govern, KeyPurpose, Organization, ProposeChange};

use crate::encoding::{array, decode, id, EncodingError};
use crate::peer_id::peer_key;

/// Longest certificate of an authority, in bytes of DER.
pub const MAX_CA_BYTES: usize = 4 << 10;
/// Longest address, in bytes.
const MAX_ADDRESS_BYTES: usize = 256;
/// Longest name for people, in characters.
const MAX_NAME_CHARS: usize = 100;
/// Longest encoding of an organization.
const MAX_ORGANIZATION_BYTES: usize = MAX_CA_BYTES + (2 << 10);

fn refused<T>(
    message: &'static str,
    field: &'static str,
    reason: impl Into<String>,
) -> Result<T, EncodingError> {
    Err(EncodingError::Field { message, field, reason: reason.into() })
}

/// Checks the form of a step.
pub(crate) fn check_govern(op: &Govern) -> Result<(), EncodingError> {
    match op.step.as_ref() {
        None => refused("Govern", "step", "no variant that this program knows"),
        Some(Step::Propose(op)) => check_propose(op),
        Some(Step::Approve(_)) => Ok(()),
        Some(Step::RotateKey(op)) => {
            let authority = key("RotateKey", op.purpose, &op.new_key)?;
            signature("RotateKey", "old_signature", authority, &op.old_signature)?;
            signature("RotateKey", "new_signature", authority, &op.new_signature)
        }
        Some(Step::SuspendEntryKey(op)) => id("SuspendEntryKey", "organization", &op.organization),
        Some(Step::SetAddresses(op)) => {
            address("SetAddresses", "consensus_address", &op.consensus_address)?;
            address("SetAddresses", "exchange_address", &op.exchange_address)
        }
        Some(Step::ValidatorReady(op)) => {
            array::<64>("ValidatorReady", "vote_signature", &op.vote_signature).map(|_| ())
        }
    }
}

fn check_propose(op: &ProposeChange) -> Result<(), EncodingError> {
    match op.change.as_ref() {
        None => refused("ProposeChange", "change", "no variant that this program knows"),
        Some(Change::AddOrganization(op)) => organization(&op.organization).map(|_| ()),
        Some(Change::RemoveOrganization(op)) => {
            id("RemoveOrganization", "organization", &op.organization)?;
            op.successor.as_ref().map_or(Ok(()), |s| id("RemoveOrganization", "successor", s))
        }
        Some(Change::AddValidator(op)) => {
            id("AddValidator", "organization", &op.organization)?;
            array::<32>("AddValidator", "vote_key", &op.vote_key).map(|_| ())
        }
        Some(Change::RemoveValidator(op)) => id("RemoveValidator", "organization", &op.organization),
        Some(Change::ReplaceKey(op)) => {
            id("ReplaceKey", "organization", &op.organization)?;
            let authority = key("ReplaceKey", op.purpose, &op.new_key)?;
            signature("ReplaceKey", "new_signature", authority, &op.new_signature)
        }
    }
}

/// A member's record. Its keys are screened when it is judged.
pub(super) fn organization(bytes: &[u8]) -> Result<Organization, EncodingError> {
    const MESSAGE: &str = "Organization";
    let organization: Organization = decode(MESSAGE, bytes, MAX_ORGANIZATION_BYTES)?;
    id(MESSAGE, "id", &organization.id)?;
    let name = &organization.name;
    if !(1..=MAX_NAME_CHARS).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return refused(MESSAGE, "name", format!("not 1 to {MAX_NAME_CHARS} characters on one line"));
    }
    array::<32>(MESSAGE, "entry_key", &organization.entry_key)?;
    array::<32>(MESSAGE, "checkpoint_key", &organization.checkpoint_key)?;
    peer(MESSAGE, "consensus_peer_id", &organization.consensus_peer_id)?;
    peer(MESSAGE, "exchange_peer_id", &organization.exchange_peer_id)?;
    address(MESSAGE, "consensus_address", &organization.consensus_address)?;
    address(MESSAGE, "exchange_address", &organization.exchange_address)?;
    authority(MESSAGE, "ca_certificate", &organization.ca_certificate)?;
    Ok(organization)
}

/// True when it is a certificate authority's.
fn key(message: &'static str, purpose: i32, new_key: &[u8]) -> Result<bool, EncodingError> {
    match KeyPurpose::try_from(purpose) {
        Ok(KeyPurpose::Unspecified) | Err(_) => {
            refused(message, "purpose", format!("{purpose}, no purpose that this program knows"))
        }
        Ok(KeyPurpose::CertificateAuthority) => authority(message, "new_key", new_key).map(|()| true),
        Ok(_) => array::<32>(message, "new_key", new_key).map(|_| false),
    }
}

fn signature(
    message: &'static str,
    field: &'static str,
    authority: bool,
    signature: &[u8],
) -> Result<(), EncodingError> {
    match authority {
        true => array::<0>(message, field, signature).map(|_| ()),
        false => array::<64>(message, field, signature).map(|_| ()),
    }
}

fn peer(message: &'static str, field: &'static str, id: &str) -> Result<(), EncodingError> {
    match peer_key(id) {
        Some(_) => Ok(()),
        None => refused(message, field, "not the libp2p peer id of an Ed25519 key (12D3KooW...)"),
    }
}

/// A multiaddr by its look; whether anybody listens there no ledger can know.
fn address(message: &'static str, field: &'static str, text: &str) -> Result<(), EncodingError> {
    let printable = text.bytes().all(|b| b.is_ascii_graphic());
    let fits = text.len() <= MAX_ADDRESS_BYTES && printable && text.starts_with('/');
    if fits && text.contains("/tcp/") && !text.contains("/p2p/") {
        return Ok(());
    }
    refused(
        message,
        field,
        format!("not a multiaddr with /tcp/ and without /p2p/ of at most {MAX_ADDRESS_BYTES} bytes"),
    )
}

/// One DER sequence, which is all that is checked of a certificate here: a ledger knows no X.509.
fn authority(message: &'static str, field: &'static str, der: &[u8]) -> Result<(), EncodingError> {
    if der.len() > MAX_CA_BYTES {
        return refused(message, field, format!("{} bytes, at most {MAX_CA_BYTES} allowed", der.len()));
    }
    let whole = match der {
        [0x30, len @ 0..=0x7f, rest @ ..] => rest.len() == usize::from(*len),
        [0x30, 0x81, len, rest @ ..] => *len > 0x7f && rest.len() == usize::from(*len),
        [0x30, 0x82, a, b, rest @ ..] => *a > 0 && rest.len() == usize::from(u16::from_be_bytes([*a, *b])),
        _ => false,
    };
    match whole {
        true => Ok(()),
        false => refused(message, field, "not a certificate in DER"),
    }
}
