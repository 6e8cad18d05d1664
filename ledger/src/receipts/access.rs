//! One access: what was committed, who asked for it, and that the entry stands in the log of its header.
//!
//! ```text
//! resources ─digests─▶ AccessEvent ─salt─▶ commitment ─▶ Entry ─inclusion─▶ Header
//!                      request ◀─signature─ recipient's entry key ◀─ members ◀─ validator set of the decision's height
//! ```
//! The request is checked with the recipient's key so that no custodian can make up who asked. It counts by the key of the
//! moment of the decision: the event names the block. So nobody's change of key makes an access of before unprovable.

use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{AccessClaim, AccessEvent, DataRequest, RecordAccess};

use super::{rule, AnchoredAt, ReceiptFault};
use crate::commitment::commit;
use crate::encoding::{array, decode};
use crate::entry::{check_entry, MAX_ENTRY_BYTES};
use crate::hash::{Context, Hash};
use crate::late::may_be_late;
use crate::log::{tagged_leaf_hash, verify_inclusion, LEAF_ENTRY};
use crate::receipt::{same, same_text, verified_request, ReceiptError};

/// What a verified access shows.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedAccess {
    /// The event.
    pub event: AccessEvent,
    /// The request that led to it.
    pub request: DataRequest,
    /// Height of the block that holds it.
    pub height: u64,
    /// Block time in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Hash of that block's header.
    pub header_hash: Hash,
    /// Its number among the subject's accesses at the custodian, from 1; 0 when nothing proves it: only a history does.
    pub access_seq: u64,
    /// The commitment on the ledger.
    pub commitment: Hash,
}

/// Verifies an access under the header of the block that holds it. Which number it has only a history proves: 0 is reported.
pub(super) fn access(at: &AnchoredAt, claim: &AccessClaim) -> Result<VerifiedAccess, ReceiptFault> {
    let AnchoredAt { header, hash, .. } = at;
    let chain_id = header.chain_id.as_str();
    let Some(inclusion) = &claim.inclusion else { return rule("the inclusion proof is missing") };
    let path: Vec<Hash> =
        inclusion.path.iter().map(|h| array("InclusionProof", "path", h)).collect::<Result<_, _>>()?;
    if inclusion.size != header.log_size {
        return rule("the inclusion proof is for another log size than the header's");
    }
    let root = array("Header", "log_root", &header.log_root)?;
    let leaf = tagged_leaf_hash(LEAF_ENTRY, &claim.entry);
    if !verify_inclusion(&leaf, inclusion.index, inclusion.size, &root, &path) {
        return Err(ReceiptError::NotIncluded.into());
    }
    let entry = check_entry(chain_id, &claim.entry)?;
    let operation = entry.body.operations.get(claim.operation as usize).and_then(|o| o.kind.as_ref());
    let Some(Kind::RecordAccess(operation)) = operation else {
        return rule("the operation that the receipt names is not a RecordAccess");
    };
    let salt = array("AccessClaim", "salt", &claim.salt)?;
    let commitment = commit(Context::AccessCommitment, chain_id, &salt, &claim.event);
    same("commitment of the access", &operation.commitment, &commitment)?;
    let event: AccessEvent = decode("AccessEvent", &claim.event, MAX_ENTRY_BYTES)?;
    array::<32>("AccessEvent", "reasons", &event.reasons)?;
    same_text("custodian", &operation.custodian, &event.custodian)?;
    same_text("author of the entry", &operation.custodian, &entry.body.author)?;
    same("handle", &operation.handle, &event.handle)?;
    if event.height >= header.height {
        return rule("the event was decided after a block that is not before the header's");
    }
    let key_of = |id: &str| at.entry_key_when(event.height, event.late, id, claim.recipient.as_ref());
    let (_, request) = verified_request(chain_id, key_of, &event)?;
    if !recorded_in_time(&event, &request, operation) {
        return rule("the event was decided under other sequences than the operation names");
    }
    Ok(VerifiedAccess {
        event,
        request,
        height: header.height,
        time_ms: header.time_ms,
        header_hash: *hash,
        access_seq: 0,
        commitment,
    })
}

/// An access is recorded under the sequences that it was decided under. Only one that was released under break-glass without
/// quorum is recorded late, under those of that moment, which may be newer.
fn recorded_in_time(event: &AccessEvent, request: &DataRequest, operation: &RecordAccess) -> bool {
    let (consent_seq, policy_seq) = (operation.expected_consent_seq, operation.expected_policy_seq);
    match event.late {
        false => (consent_seq, policy_seq) == (event.consent_seq, event.policy_seq),
        true => {
            may_be_late(event, request) && event.consent_seq <= consent_seq && event.policy_seq <= policy_seq
        }
    }
}
