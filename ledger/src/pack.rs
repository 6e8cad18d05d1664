//! A patient pack: all of one patient's consents and all n of n accesses at one custodian, in one file that stands alone.
//!
//! ```text
//! consents ─salts─▶ commitments ─▶ map ─salt─▶ slot commitment ─┐
//! reasons ─salts─▶ access events ─▶ history ─▶ access head ─────┴─▶ Slot ─state proof─▶ Header ◀─(chain of sets)─ genesis hash, or checkpoint
//! ```
//! The slot names the number of accesses, the head of their chain and one commitment to all consents: nothing can be left out,
//! added or taken from somebody else. Consents are those of the slot's latest state; what earlier revisions said is not in it.
//! Every byte is covered.

use assent_proto::ledger::v1::{
    AccessEvent, AccessHistory, ConsentBody, ContactPreferences, OpenedReasons, PackedConsent, PatientPack,
    Reasons, Slot,
};

use crate::commitment::{commit, slot_commitment, ConsentLeaf};
use crate::consent::recorded_state;
use crate::encoding::{array, decode, fields, EncodingError};
use crate::entry::MAX_ENTRY_BYTES;
use crate::hash::{Context, Hash};
use crate::receipt::{same, same_text, ReceiptError};
use crate::receipts::{
    decode_history, verify_history, AnchoredAt, ReceiptFault, Trust, VerifiedAccess, VerifiedHistory,
    MAX_HISTORY_BYTES, MAX_PARTS,
};

/// First bytes of a pack file.
pub const PACK_MAGIC: &[u8; 8] = b"ASSENTK1";
/// Longest pack: a history, and as much for the consents and reasons.
pub const MAX_PACK_BYTES: usize = 2 * MAX_HISTORY_BYTES;
/// Longest body of one consent: a FHIR Consent, and what is recorded beside it.
pub const MAX_PACKED_BODY_BYTES: usize = 4 << 20;

/// Where the contact preferences stand in the map of consents. No consent has this id: those of FHIR hold no colon, and those
/// made of an identifier hold a bar.
pub const CONTACT_PREFERENCES: &str = "urn:assent:contact-preferences";

/// What a consent names among those that it supersedes when an officer begins a patient's consents anew, because the vault has lost
/// what the slot commits to (an old backup): committed to, and listed, with the consent. No consent has this id either.
pub const LOST_CONSENTS: &str = "urn:assent:lost-consents";

/// What a verified pack shows.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedPack {
    /// The header that everything is anchored in.
    pub at: AnchoredAt,
    /// Organization that holds the records.
    pub custodian: String,
    /// The subject's handle there.
    pub handle: Hash,
    /// The slot.
    pub slot: Slot,
    /// All accesses, from number 1.
    pub accesses: Vec<VerifiedAccess>,
    /// The rules that decided each access, in the same order.
    pub reasons: Vec<Reasons>,
    /// All consents in their latest revision, in the order of ids.
    pub consents: Vec<ConsentBody>,
    /// The contact preferences, if there are any.
    pub contact: Option<ContactPreferences>,
}

/// Decodes and verifies a pack (without its magic).
pub fn verify_pack(trust: &Trust, bytes: &[u8]) -> Result<VerifiedPack, ReceiptFault> {
    let pack = decode_pack(bytes)?;
    let VerifiedHistory { at, custodian, handle, slot, accesses } = verify_history(trust, &pack.history)?;
    let (reasons, consents, contact) = Default::default();
    let mut verified = VerifiedPack { at, custodian, handle, slot, accesses, reasons, consents, contact };
    open_consents(&mut verified, &pack)?;
    open_reasons(&mut verified, &pack.reasons)?;
    Ok(verified)
}

/// Decodes a pack, which shows nothing yet.
pub fn decode_pack(bytes: &[u8]) -> Result<PatientPack, EncodingError> {
    if bytes.len() <= MAX_PACK_BYTES {
        fields("PatientPack", bytes, 2 * MAX_PARTS + 2)?;
    }
    decode("PatientPack", bytes, MAX_PACK_BYTES)
}

/// The history inside a pack, which is not verified by this.
pub fn history_of(pack: &PatientPack) -> Result<AccessHistory, EncodingError> {
    decode_history(&pack.history)
}

/// Recomputes the slot's commitment from all that the pack opens.
fn open_consents(verified: &mut VerifiedPack, pack: &PatientPack) -> Result<(), ReceiptError> {
    if !pack.consents.windows(2).all(|pair| pair[0].id < pair[1].id) {
        return Err(ReceiptError::Rule("consents are not in strictly ascending order of id"));
    }
    let chain_id = verified.at.header.chain_id.clone();
    let mut leaves = Vec::with_capacity(pack.consents.len());
    for packed in &pack.consents {
        let salt = array("PackedConsent", "salt", &packed.salt)?;
        let commitment = commit(Context::ConsentCommitment, &chain_id, &salt, &packed.body);
        leaves.push(ConsentLeaf { id: packed.id.clone(), commitment });
        open_consent(verified, packed)?;
    }
    let salt = array("PatientPack", "salt", &pack.salt)?;
    same("commitment to all consents", &verified.slot.commitment, &slot_commitment(&chain_id, &salt, &leaves))
}

fn open_consent(verified: &mut VerifiedPack, packed: &PackedConsent) -> Result<(), ReceiptError> {
    if packed.id == CONTACT_PREFERENCES {
        let contact: ContactPreferences = decode("ContactPreferences", &packed.body, MAX_PACKED_BODY_BYTES)?;
        same_text("custodian of the contact preferences", &verified.custodian, &contact.custodian)?;
        same("handle of the contact preferences", &verified.handle, &contact.handle)?;
        verified.contact = Some(contact);
        return Ok(());
    }
    let body: ConsentBody = decode("ConsentBody", &packed.body, MAX_PACKED_BODY_BYTES)?;
    same_text("id of a consent", &packed.id, &body.id)?;
    same_text("custodian of a consent", &verified.custodian, &body.custodian)?;
    same("handle of a consent", &verified.handle, &body.handle)?;
    if body.revision == 0 || recorded_state(&body).is_none() {
        return Err(ReceiptError::Rule("a consent has no revision, or a state that nobody knows"));
    }
    verified.consents.push(body);
    Ok(())
}

fn open_reasons(verified: &mut VerifiedPack, opened: &[OpenedReasons]) -> Result<(), ReceiptError> {
    if opened.len() != verified.accesses.len() {
        return Err(ReceiptError::Mismatch {
            what: "number of opened reasons",
            expected: verified.accesses.len().to_string(),
            found: opened.len().to_string(),
        });
    }
    let chain_id = verified.at.header.chain_id.as_str();
    for (access, opened) in verified.accesses.iter().zip(opened) {
        verified.reasons.push(reasons(chain_id, &access.event, opened)?);
    }
    Ok(())
}

fn reasons(chain_id: &str, event: &AccessEvent, opened: &OpenedReasons) -> Result<Reasons, ReceiptError> {
    let salt = array("OpenedReasons", "salt", &opened.salt)?;
    let commitment = commit(Context::ReasonsCommitment, chain_id, &salt, &opened.reasons);
    same("commitment to the reasons of an access", &event.reasons, &commitment)?;
    Ok(decode("Reasons", &opened.reasons, MAX_ENTRY_BYTES)?)
}
