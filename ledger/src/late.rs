//! A release under break-glass without quorum: what the custodian signed before its access stands in the ledger.
//!
//! ```text
//! LateAccess ◀─signature─ custodian ◀─ members after the header ◀─ validator set ◀─(chain of sets)─ genesis hash, or checkpoint
//!     └─ event (late, PERMIT_OVERRIDE) ─▶ request ◀─signature─ recipient ◀─ members when it was decided
//! ```
//! It proves who released what to whom, and that the custodian owes the ledger this very access. It does not prove that the
//! access was recorded: only the receipt does, once the quorum is back. Nor does it prove when: whoever has an old key can show
//! the header of a time when that counted. So the header's height and time are shown with the release's.

use assent_proto::ledger::v1::{AccessEvent, DataRequest, LateAccess, LateBundle, LateProof};

use crate::commitment::commit;
use crate::encoding::{array, decode, EncodingError};
use crate::entry::MAX_ENTRY_BYTES;
use crate::hash::{hash, Context, Hash};
use crate::receipt::{request_hash, same, same_text, verified_request, verify_digests, verify_message};
use crate::receipts::{
    limit_changes, limit_parts, AnchoredAt, ReceiptFault, SetChain, Trust, MAX_BUNDLE_BYTES,
};

/// First bytes of a file that holds a late release.
pub const LATE_MAGIC: &[u8; 8] = b"ASSENTL1";

/// The one outcome that is released without quorum.
pub const LATE_OUTCOME: &str = "PERMIT_OVERRIDE";

/// What a verified late access shows.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedLate {
    /// The newest header that the custodian had.
    pub at: AnchoredAt,
    /// The event.
    pub event: AccessEvent,
    /// The request that led to it.
    pub request: DataRequest,
    /// What acknowledgements name in place of a header hash.
    pub hash: Hash,
    /// The commitment that the custodian owes the ledger.
    pub commitment: Hash,
}

/// Name of a late access: acknowledgements are bound to it.
pub fn late_hash(chain_id: &str, body: &[u8]) -> Hash {
    hash(Context::LateAccess, chain_id, &[body])
}

/// True when an event may be late at all: only break-glass with a reason is released without quorum.
pub(crate) fn may_be_late(event: &AccessEvent, request: &DataRequest) -> bool {
    event.outcome == LATE_OUTCOME && !request.break_glass_reason.trim().is_empty()
}

/// Verifies a late access: both signatures, by keys of the header that it shows.
pub fn verify_late(trust: &Trust, proof: &LateProof) -> Result<VerifiedLate, ReceiptFault> {
    let signed = proof.late_access.as_ref().ok_or(ReceiptFault::Rule("the late access is missing"))?;
    let anchor = proof.anchor.as_ref().ok_or(ReceiptFault::Rule("the late access has no anchor"))?;
    let (chain, at) = SetChain::verify(trust, anchor, 1)?;
    // Without quorum the chain stands still: keys that were to change at the next height have changed.
    chain.must_reach_next(&at.header)?;
    let chain_id = at.header.chain_id.as_str();
    let key = at.next_entry_key(&signed.organization, proof.custodian.as_ref())?;
    if !verify_message(Context::LateAccess, chain_id, &key, signed) {
        return Err(ReceiptFault::Rule("the custodian's signature over the late access does not verify"));
    }
    let late: LateAccess = decode("LateAccess", &signed.body, 2 * MAX_ENTRY_BYTES)?;
    let salt = array("LateAccess", "salt", &late.salt)?;
    let event: AccessEvent = decode("AccessEvent", &late.event, MAX_ENTRY_BYTES)?;
    array::<32>("AccessEvent", "handle", &event.handle)?;
    array::<32>("AccessEvent", "reasons", &event.reasons)?;
    same_text("custodian", &signed.organization, &event.custodian)?;
    if event.height > at.header.height {
        return Err(ReceiptFault::Rule("the event was decided after a block that is behind the header"));
    }
    let key_of = |id: &str| at.entry_key_when(event.height, true, id, proof.recipient.as_ref());
    let (signed_request, request) = verified_request(chain_id, key_of, &event)?;
    same("request hash", &late.request_hash, &request_hash(chain_id, &signed_request.body))?;
    if !event.late || !may_be_late(&event, &request) {
        return Err(ReceiptFault::Rule("the event is not a late one under break-glass with a reason"));
    }
    let commitment = commit(Context::AccessCommitment, chain_id, &salt, &late.event);
    let hash = late_hash(chain_id, &signed.body);
    Ok(VerifiedLate { event, request, hash, commitment, at })
}

/// Decodes a late release (without its magic), which shows nothing yet.
pub fn decode_late_bundle(bytes: &[u8]) -> Result<LateBundle, EncodingError> {
    limit_parts("LateBundle", bytes, 4)?;
    limit_changes("LateBundle", bytes, &[4, 2])?;
    decode("LateBundle", bytes, MAX_BUNDLE_BYTES)
}

/// Decodes and verifies a late release (without its magic): signatures, and every digest. Every byte of it is covered.
pub fn verify_late_bundle(trust: &Trust, bytes: &[u8]) -> Result<(VerifiedLate, LateBundle), ReceiptFault> {
    let bundle = decode_late_bundle(bytes)?;
    let late =
        verify_late(trust, bundle.proof.as_ref().ok_or(ReceiptFault::Rule("the late access is missing"))?)?;
    verify_digests(&late.event, &bundle.resources)?;
    Ok((late, bundle))
}
