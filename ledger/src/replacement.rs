//! A control key that waits to take the place of the present one: the way back for a lost phone, and for a minor who comes of
//! age (ARCHITECTURE.md, "Control key").
//!
//! ```text
//! SetConsent with a new key, unsigned ─▶ waits, visible ─┬─ 14 days of block time ─▶ it is the control key
//!                                                        ├─ CancelReplacement, signed by the present key ─▶ gone
//!                                                        └─ SetConsent with a new key, signed by the present key ─▶ gone
//! ```
//! Nothing happens in the state when the wait is over: whoever reads a slot settles it by the block time that it is read at.

use assent_proto::ledger::v1::{CancelReplacement, KeyReplacement, Slot};

use crate::encoding::array;
use crate::entry::cancel_sign_bytes;
use crate::execute::{ExecuteError, Signatures};
use crate::keys::Check;
use crate::state::{slot, slot_key, Overlay, ReadError, StateRead};

/// Block time that a new control key waits, in milliseconds.
pub const REPLACEMENT_WAIT_MS: u64 = 14 * 24 * 60 * 60 * 1000;

/// A key that waits from `time_ms` on, recorded with the consent sequence `consent_seq`.
pub(crate) fn pending(control_key: &[u8], time_ms: u64, consent_seq: u64) -> KeyReplacement {
    KeyReplacement {
        control_key: control_key.to_vec(),
        effective_ms: time_ms.saturating_add(REPLACEMENT_WAIT_MS),
        consent_seq,
    }
}

/// A slot as it counts at a block time: a replacement whose wait is over is the control key.
pub fn settled(mut slot: Slot, time_ms: u64) -> Slot {
    if let Some(waiting) = slot.replacement.take_if(|waiting| waiting.effective_ms <= time_ms) {
        slot.control_key = Some(waiting.control_key);
    }
    slot
}

/// The control key of a slot at a block time.
pub fn control_key_at(slot: &Slot, time_ms: u64) -> Option<&[u8]> {
    match &slot.replacement {
        Some(waiting) if waiting.effective_ms <= time_ms => Some(&waiting.control_key),
        _ => slot.control_key.as_deref(),
    }
}

/// A subject's slot as it counts at a block time.
pub fn settled_slot(
    state: &impl StateRead,
    chain_id: &str,
    time_ms: u64,
    custodian: &str,
    handle: &[u8],
) -> Result<Option<Slot>, ReadError> {
    Ok(slot(state, chain_id, custodian, handle)?.map(|slot| settled(slot, time_ms)))
}

/// By the key that would be replaced; the consent sequence stays, so nothing else in flight is void.
pub(crate) fn cancel_replacement<R: StateRead>(
    state: &mut Overlay<'_, R>,
    chain_id: &str,
    time_ms: u64,
    op: &CancelReplacement,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    let slot = settled_slot(state, chain_id, time_ms, &op.custodian, &op.handle)?;
    let mut slot = slot.ok_or(ExecuteError::NoSlot)?;
    let none = ExecuteError::NoReplacement { expected: op.consent_seq, found: slot.consent_seq };
    let waiting = slot.replacement.take().ok_or(none)?;
    if waiting.consent_seq != op.consent_seq {
        return Err(ExecuteError::StaleReplacement { expected: op.consent_seq, found: waiting.consent_seq });
    }
    let key = slot.control_key.as_ref().ok_or(ExecuteError::NoControlKey)?;
    let check = Check {
        public_key: array("Slot", "control_key", key)?,
        message: cancel_sign_bytes(chain_id, &op.custodian, &op.handle, op.consent_seq, &waiting.control_key),
        signature: array("CancelReplacement", "patient_signature", &op.patient_signature)?,
    };
    signatures.check(check, ExecuteError::ControlSignature)?;
    state.put(slot_key(chain_id, &op.custodian, &op.handle), &slot);
    Ok(())
}
