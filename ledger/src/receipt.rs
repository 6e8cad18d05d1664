//! What all proofs are checked with: signed messages between organizations, digests of resources, and what can be wrong.

use assent_proto::ledger::v1::{AccessEvent, DataRequest, Signed};

use crate::commitment::digests_root;
use crate::encoding::{decode, EncodingError};
use crate::entry::MAX_ENTRY_BYTES;
use crate::hash::{framed, hash, Context, Hash};
use crate::keys::{sign, verify, PublicKey, SigningKey};

/// What is wrong with a proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    #[error("genesis hash is {found}, expected {expected}")]
    GenesisHash { expected: String, found: String },
    #[error("certificate: {0}")]
    Certificate(String),
    #[error("{what} does not match: expected {expected}, found {found}")]
    Mismatch { what: &'static str, expected: String, found: String },
    #[error("the entry is not in the log that the header commits to")]
    NotIncluded,
    #[error("the slot is not in the state that the header commits to")]
    StateProof,
    #[error("{0}")]
    Rule(&'static str),
}

pub(crate) fn same(what: &'static str, expected: &[u8], found: &[u8]) -> Result<(), ReceiptError> {
    if expected == found {
        return Ok(());
    }
    Err(ReceiptError::Mismatch { what, expected: hex::encode(expected), found: hex::encode(found) })
}

pub(crate) fn same_text(what: &'static str, expected: &str, found: &str) -> Result<(), ReceiptError> {
    if expected == found {
        return Ok(());
    }
    // A stranger's text does not go into messages as it is.
    let shown = |text: &str| text.chars().take(64).flat_map(char::escape_debug).collect();
    Err(ReceiptError::Mismatch { what, expected: shown(expected), found: shown(found) })
}

/// Signs a message of an organization.
pub fn sign_message(
    context: Context,
    chain_id: &str,
    organization: &str,
    key: &SigningKey,
    body: Vec<u8>,
) -> Signed {
    let signature = sign(key, &framed(context, chain_id, &[organization.as_bytes(), &body])).to_vec();
    Signed { body, organization: organization.to_owned(), signature }
}

/// Checks the signature of an organization's message against its entry key.
pub fn verify_message(context: Context, chain_id: &str, key: &PublicKey, signed: &Signed) -> bool {
    let message = framed(context, chain_id, &[signed.organization.as_bytes(), &signed.body]);
    signed.signature.as_slice().try_into().is_ok_and(|signature| verify(key, &message, signature))
}

/// Name of a request: decisions, answers and acknowledgements are bound to it.
pub fn request_hash(chain_id: &str, request_body: &[u8]) -> Hash {
    hash(Context::Request, chain_id, &[request_body])
}

/// Name of an ask for consent: what the custodian says of it is bound to it.
pub fn ask_hash(chain_id: &str, ask_body: &[u8]) -> Hash {
    hash(Context::Ask, chain_id, &[ask_body])
}

/// The request that an event holds, signed by the recipient that it names, for this chain and custodian.
pub(crate) fn verified_request(
    chain_id: &str,
    key_of: impl Fn(&str) -> Result<PublicKey, ReceiptError>,
    event: &AccessEvent,
) -> Result<(Signed, DataRequest), ReceiptError> {
    let signed: Signed = decode("Signed", &event.request, MAX_ENTRY_BYTES)?;
    let request: DataRequest = decode("DataRequest", &signed.body, MAX_ENTRY_BYTES)?;
    same_text("chain id of the request", chain_id, &request.chain_id)?;
    same_text("custodian of the request", &event.custodian, &request.custodian)?;
    same_text("recipient of the request", &request.recipient, &signed.organization)?;
    if !verify_message(Context::Request, chain_id, &key_of(&request.recipient)?, &signed) {
        return Err(ReceiptError::Rule("the recipient's signature over the request does not verify"));
    }
    Ok((signed, request))
}

/// Verifies the resources against an event.
pub fn verify_digests(event: &AccessEvent, resources: &[Vec<u8>]) -> Result<(), ReceiptError> {
    if event.resources != resources.len() as u64 {
        return Err(ReceiptError::Mismatch {
            what: "number of resources",
            expected: event.resources.to_string(),
            found: resources.len().to_string(),
        });
    }
    same("digests of the resources", &event.digests_root, &digests_root(resources.iter().map(Vec::as_slice)))
}
