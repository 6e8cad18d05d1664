//! A bundle: released records, and the receipt of their access.

use assent_proto::ledger::v1::RecordBundle;
use prost::Message;

use super::access::VerifiedAccess;
use super::anchor::limit_changes;
use super::{rule, verify_receipt, AnchoredAt, Claim, ReceiptFault, Trust, Verified};
use crate::encoding::{decode, fields, EncodingError};
use crate::receipt::verify_digests;

/// First bytes of a bundle file.
pub const BUNDLE_MAGIC: &[u8; 8] = b"ASSENTB1";
/// Longest bundle.
pub const MAX_BUNDLE_BYTES: usize = 256 << 20;
/// Longest proof inside a file with records: all changes of validators that there can be, and an access.
pub const MAX_PROOF_BYTES: usize = 5 << 20;
/// Most resources in a bundle, and most accesses in a history.
pub const MAX_PARTS: usize = 1 << 16;

/// Refuses a proof, in field `tag` of a message, that is longer than [`MAX_PROOF_BYTES`], and more than [`MAX_PARTS`] parts.
pub(crate) fn limit_parts(message: &'static str, bytes: &[u8], tag: u32) -> Result<(), EncodingError> {
    if bytes.len() > MAX_BUNDLE_BYTES {
        return Err(EncodingError::TooLong { message, len: bytes.len(), max: MAX_BUNDLE_BYTES });
    }
    let parts = fields(message, bytes, MAX_PARTS + 1)?;
    match parts.iter().find(|(found, len)| *found == tag && *len > MAX_PROOF_BYTES) {
        Some((_, len)) => Err(EncodingError::TooLong { message, len: *len, max: MAX_PROOF_BYTES }),
        None => Ok(()),
    }
}

/// Decodes a bundle (without its magic), which shows nothing yet.
pub fn decode_bundle(bytes: &[u8]) -> Result<RecordBundle, EncodingError> {
    limit_parts("RecordBundle", bytes, 3)?;
    limit_changes("RecordBundle", bytes, &[3, 1])?;
    decode("RecordBundle", bytes, MAX_BUNDLE_BYTES)
}

/// Decodes and verifies a bundle (without its magic). Every byte of it is covered by the proof.
pub fn verify_bundle(
    trust: &Trust,
    bytes: &[u8],
) -> Result<(AnchoredAt, VerifiedAccess, RecordBundle), ReceiptFault> {
    let bundle = decode_bundle(bytes)?;
    let (at, access) = check_bundle(trust, &bundle)?;
    Ok((at, access, bundle))
}

/// Verifies a bundle that came in parts: the header, and the access.
pub fn check_bundle(
    trust: &Trust,
    bundle: &RecordBundle,
) -> Result<(AnchoredAt, VerifiedAccess), ReceiptFault> {
    let Some(proof) = &bundle.proof else { return rule("the bundle has no receipt") };
    if proof.encoded_len() > MAX_PROOF_BYTES || bundle.resources.len() > MAX_PARTS {
        return rule("the bundle is longer than any that verifies");
    }
    let Verified { at, claim: Claim::Access(access) } = verify_receipt(trust, proof)? else {
        return rule("the receipt is not of an access");
    };
    verify_digests(&access.event, &bundle.resources)?;
    Ok((at, *access))
}
