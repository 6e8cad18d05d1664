//! A history: all n of n accesses to one patient's records at one custodian.
//!
//! ```text
//! genesis hash ─▶ genesis ─(chain of sets)─▶ set of each height ─certificate─▶ Header of each access, and of the slot
//! checkpoint ─inclusion─▶ Header of each access before one in its log; from that one on (chain of sets) as above
//! accesses ─▶ commitments ─▶ access head ─▶ Slot ─state proof─▶ Header
//! ```

use assent_proto::ledger::v1::{AccessHistory, Slot};
use prost::Message;

use super::access::{access, VerifiedAccess};
use super::anchor::{limit_changes, SetChain};
use super::bundle::MAX_PARTS;
use super::claim::in_state;
use super::{rule, AnchoredAt, ReceiptFault, Trust};
use crate::commitment::next_access_head;
use crate::encoding::{array, decode, fields, EncodingError};
use crate::hash::Hash;
use crate::receipt::{same, same_text, ReceiptError};
use crate::state::slot_key;

/// First bytes of a history file.
pub const HISTORY_MAGIC: &[u8; 8] = b"ASSENTH1";
/// Longest history.
pub const MAX_HISTORY_BYTES: usize = 64 << 20;

/// What a verified history shows.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedHistory {
    /// The header that the slot stands under.
    pub at: AnchoredAt,
    /// Organization that holds the records.
    pub custodian: String,
    /// The subject's handle there.
    pub handle: Hash,
    /// The slot.
    pub slot: Slot,
    /// All accesses, from number 1.
    pub accesses: Vec<VerifiedAccess>,
}

/// Decodes a history (without its magic), which shows nothing yet.
pub fn decode_history(bytes: &[u8]) -> Result<AccessHistory, EncodingError> {
    if bytes.len() <= MAX_HISTORY_BYTES {
        fields("AccessHistory", bytes, MAX_PARTS + 5)?;
        limit_changes("AccessHistory", bytes, &[9])?;
    }
    decode("AccessHistory", bytes, MAX_HISTORY_BYTES)
}

/// Decodes and verifies a history (without its magic): the slot in the state, and all n of n accesses, whose commitments give
/// the slot's access head. Every byte of it is covered.
pub fn verify_history(trust: &Trust, bytes: &[u8]) -> Result<VerifiedHistory, ReceiptFault> {
    let history = decode_history(bytes)?;
    let Some(anchor) = &history.anchor else { return rule("the history has no anchor") };
    let (chain, at) = SetChain::verify(trust, anchor, 0)?;
    let chain_id = at.header.chain_id.as_str();
    let Some(slot) = history.slot else { return rule("the history has no slot") };
    let handle: Hash = array("AccessHistory", "handle", &history.handle)?;
    let key = slot_key(chain_id, &history.custodian, &handle);
    in_state(&at, &key, Some(slot.encode_to_vec()), &history.state_proof)?;
    if slot.access_seq != history.accesses.len() as u64 {
        return Err(ReceiptFault::Proof(ReceiptError::Mismatch {
            what: "number of accesses",
            expected: slot.access_seq.to_string(),
            found: history.accesses.len().to_string(),
        }));
    }
    let mut head: Option<Hash> = None;
    let mut accesses = Vec::with_capacity(history.accesses.len());
    for (n, shown) in (1u64..).zip(&history.accesses) {
        let Some(claim) = &shown.access else { return rule("an access is missing") };
        let under = chain.header(&shown.header, shown.certificate.as_ref(), shown.in_checkpoint.as_ref())?;
        let access = VerifiedAccess { access_seq: n, ..access(&under, claim)? };
        same_text("custodian of an access", &history.custodian, &access.event.custodian)?;
        same("handle of an access", &handle, &access.event.handle)?;
        head = Some(next_access_head(chain_id, head.as_ref().map(|h| &h[..]), n, &access.commitment));
        accesses.push(access);
    }
    same(
        "access head",
        slot.access_head.as_deref().unwrap_or_default(),
        head.as_ref().map_or(&[][..], |h| h),
    )?;
    Ok(VerifiedHistory { custodian: history.custodian, handle, at, slot, accesses })
}
