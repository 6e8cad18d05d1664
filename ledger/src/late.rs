//! A release under break-glass without quorum: what the custodian signed before its access stands in the ledger.
//!
//! ```text
//! LateAccess ◀─signature─ custodian ◀─ organizations ◀─ genesis hash
//!     └─ event (late, PERMIT_OVERRIDE) ─▶ request ◀─signature─ recipient
//! ```
//! It proves who released what to whom, and that the custodian owes the ledger this very access. It does not prove that the
//! access was recorded: only the receipt does, once the quorum is back.

use assent_proto::ledger::v1::{AccessEvent, DataRequest, LateAccess, LateBundle, Signed};

use crate::commitment::commit;
use crate::encoding::{array, decode, fields};
use crate::entry::MAX_ENTRY_BYTES;
use crate::genesis::CheckedGenesis;
use crate::hash::{hash, Context, Hash};
use crate::receipt::{
    anchored_genesis, genesis_key, request_hash, same, same_text, verified_request, verify_digests,
    verify_message, ReceiptError, MAX_BUNDLE_BYTES, MAX_PARTS,
};

/// First bytes of a file that holds a late release.
pub const LATE_MAGIC: &[u8; 8] = b"ASSENTL1";

/// The one outcome that is released without quorum.
pub const LATE_OUTCOME: &str = "PERMIT_OVERRIDE";

/// What a verified late access shows.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedLate {
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

/// Verifies a late access against the keys of a checked genesis.
pub fn verify_late(genesis: &CheckedGenesis, signed: &Signed) -> Result<VerifiedLate, ReceiptError> {
    let chain_id = genesis.chain_id.as_str();
    let custodian = genesis.organizations.iter().find(|o| o.id == signed.organization);
    let custodian =
        custodian.ok_or(ReceiptError::Rule("the custodian is not among the organizations of genesis"))?;
    let key = array("Organization", "entry_key", &custodian.entry_key)?;
    if !verify_message(Context::LateAccess, chain_id, &key, signed) {
        return Err(ReceiptError::Rule("the custodian's signature over the late access does not verify"));
    }
    let late: LateAccess = decode("LateAccess", &signed.body, 2 * MAX_ENTRY_BYTES)?;
    let salt = array("LateAccess", "salt", &late.salt)?;
    let event: AccessEvent = decode("AccessEvent", &late.event, MAX_ENTRY_BYTES)?;
    array::<32>("AccessEvent", "handle", &event.handle)?;
    array::<32>("AccessEvent", "reasons", &event.reasons)?;
    same_text("custodian", &signed.organization, &event.custodian)?;
    let (signed_request, request) = verified_request(chain_id, |id| genesis_key(genesis, id), &event)?;
    same("request hash", &late.request_hash, &request_hash(chain_id, &signed_request.body))?;
    if !event.late || !may_be_late(&event, &request) {
        return Err(ReceiptError::Rule("the event is not a late one under break-glass with a reason"));
    }
    let commitment = commit(Context::AccessCommitment, chain_id, &salt, &late.event);
    Ok(VerifiedLate { event, request, hash: late_hash(chain_id, &signed.body), commitment })
}

/// Decodes and verifies a late release (without its magic): signatures, and every digest.
pub fn verify_late_bundle(
    expected_genesis: &Hash,
    bytes: &[u8],
) -> Result<(VerifiedLate, LateBundle), ReceiptError> {
    if bytes.len() <= MAX_BUNDLE_BYTES {
        fields("LateBundle", bytes, MAX_PARTS + 2)?;
    }
    let bundle: LateBundle = decode("LateBundle", bytes, MAX_BUNDLE_BYTES)?;
    let genesis = anchored_genesis(expected_genesis, &bundle.genesis)?;
    let signed = bundle.late_access.as_ref().ok_or(ReceiptError::Rule("the late access is missing"))?;
    let late = verify_late(&genesis, signed)?;
    verify_digests(&late.event, &bundle.resources)?;
    Ok((late, bundle))
}
