//! The form of a grant, and of a signature over one.

use assent_ledger::entry::control_sign_bytes;
use assent_ledger::hash::sha256;
use assent_ledger::Hash;
use assent_proto::ledger::v1::Slot;
use assent_proto::v1::{CommitGrantRequest, Grant};
use prost::Message;

use crate::grpc::border;
use crate::refusal::Refusal;

/// Most consents that one grant supersedes.
const MAX_SUPERSEDED: usize = 64;
/// Longest id of a consent, in bytes.
const MAX_CONSENT_ID_BYTES: usize = 1024;

/// The method that a proof for PrepareGrant is signed for: it covers the change as well.
pub fn prepare_method(grant: &Grant) -> String {
    format!("PrepareGrant/{}", hex::encode(sha256(&grant.encode_to_vec())))
}

/// Checks the form of a grant; the new control key, if there is one.
pub fn check_grant(grant: &Grant) -> Result<Option<[u8; 32]>, Refusal> {
    if grant.consent.len() > border::MAX_DOCUMENT_BYTES {
        border::document("grant.consent", &grant.consent, border::MAX_DOCUMENT_BYTES)?;
    }
    if !grant.supersedes.is_empty() && grant.consent.is_empty() {
        let message = "empty, so that nothing takes the place of what grant.supersedes names";
        return Err(border::malformed("grant.consent", message));
    }
    if grant.supersedes.len() > MAX_SUPERSEDED {
        let message = format!("{} ids, at most {MAX_SUPERSEDED}", grant.supersedes.len());
        return Err(border::malformed("grant.supersedes", message));
    }
    for (n, id) in grant.supersedes.iter().enumerate() {
        let field = format!("grant.supersedes[{n}]");
        border::document(&field, id.as_bytes(), MAX_CONSENT_ID_BYTES)?;
        if grant.supersedes[..n].contains(id) {
            return Err(border::malformed(&field, "named twice"));
        }
    }
    border::control_key("grant.new_control_key", &grant.new_control_key)
}

/// A signed grant whose form is right.
pub struct SignedGrant {
    /// The subject's handle.
    pub handle: Hash,
    pub(super) commitment: Hash,
    pub(super) consent_seq: u64,
    pub(super) new_control_key: Option<[u8; 32]>,
    pub(super) signature: [u8; 64],
}

impl SignedGrant {
    /// Checks the form.
    pub fn read(body: &CommitGrantRequest) -> Result<Self, Refusal> {
        border::request_id(&body.request_id)?;
        border::organization("custodian", &body.custodian)?;
        Ok(Self {
            handle: border::bytes("handle", &body.handle)?,
            commitment: border::bytes("commitment", &body.commitment)?,
            consent_seq: body.consent_seq,
            new_control_key: border::control_key("new_control_key", &body.new_control_key)?,
            signature: border::bytes("control_signature", &body.control_signature)?,
        })
    }

    /// What the control key signed.
    pub fn message(&self, chain_id: &str, custodian: &str) -> Vec<u8> {
        let key = self.new_control_key.as_ref().map(|key| key.as_slice());
        control_sign_bytes(chain_id, custodian, &self.handle, self.consent_seq, &self.commitment, key)
    }

    /// The signature over [`Self::message`].
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// True when a slot may have taken this grant: it stands there as its last change, or others came after it.
    pub fn may_stand_in(&self, slot: &Slot) -> bool {
        match slot.consent_seq.checked_sub(self.consent_seq) {
            None | Some(0) => false,
            Some(1) => slot.commitment == self.commitment,
            Some(_) => true,
        }
    }

    /// True when a key is what this grant made the slot's: then it may be committed already, and be asked for again.
    pub fn made(&self, key: Option<&[u8]>) -> bool {
        self.new_control_key.as_ref().is_some_and(|new| key == Some(new.as_slice()))
    }
}
