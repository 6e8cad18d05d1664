//! Entries: what an organization signs and submits. Here is their form; what they do is in [`crate::execute`].

use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{Entry, EntryBody, Operation, Recover};
use prost::Message;

use crate::encoding::{array, decode, id, EncodingError};
use crate::evidence::check_evidence;
use crate::governance::check_govern;
use crate::hash::{framed, hash, Context, Hash};
use crate::keys::{sign, Check, PublicKey, SigningKey};
use crate::recovery::check_recover;

/// Longest encoded entry.
pub const MAX_ENTRY_BYTES: usize = 65_535;
/// Most operations in one entry.
pub const MAX_ENTRY_OPERATIONS: usize = 256;
/// Furthest that `not_after` may lie ahead of block time, in milliseconds.
pub const MAX_NOT_AFTER_MS: u64 = 10 * 60 * 1000;

/// An entry whose form is right: decoded once, canonical, every field of the right length.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedEntry {
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// Hash of the bytes: its name in mempool and index.
    pub hash: Hash,
    /// The signed part.
    pub body: EntryBody,
    signature: [u8; 64],
    body_bytes: Vec<u8>,
}

impl CheckedEntry {
    /// The signature check against the author's entry key.
    pub fn signature_check(&self, entry_key: &PublicKey) -> Check {
        Check {
            public_key: *entry_key,
            message: entry_sign_bytes(&self.body.chain_id, &self.body_bytes),
            signature: self.signature,
        }
    }

    /// True when it holds withdrawals, which run first in a block and share an entry with nothing else.
    pub fn is_withdrawal(&self) -> bool {
        matches!(self.body.operations.first().and_then(|o| o.kind.as_ref()), Some(Kind::Withdraw(_)))
    }

    /// True when it holds steps of governance, or a recovery.
    pub fn governs(&self) -> bool {
        self.body.operations.iter().any(|o| matches!(o.kind, Some(Kind::Govern(_) | Kind::Recover(_))))
    }

    /// The recovery that it holds, and nothing else.
    pub fn recovery(&self) -> Option<&Recover> {
        match self.body.operations.first().and_then(|o| o.kind.as_ref()) {
            Some(Kind::Recover(op)) => Some(op),
            _ => None,
        }
    }
}

/// The bytes that an author signs.
pub fn entry_sign_bytes(chain_id: &str, body: &[u8]) -> Vec<u8> {
    framed(Context::Entry, chain_id, &[body])
}

/// Name of an entry: a hash over its exact bytes.
pub fn entry_hash(chain_id: &str, bytes: &[u8]) -> Hash {
    hash(Context::Entry, chain_id, &[bytes])
}

/// The bytes that a control key signs to change consents, unfreeze, or hand over to a new key.
pub fn control_sign_bytes(
    chain_id: &str,
    custodian: &str,
    handle: &[u8],
    expected_consent_seq: u64,
    commitment: &[u8],
    new_control_key: Option<&[u8]>,
) -> Vec<u8> {
    framed(
        Context::Control,
        chain_id,
        &[
            custodian.as_bytes(),
            handle,
            &expected_consent_seq.to_be_bytes(),
            commitment,
            new_control_key.unwrap_or_default(),
        ],
    )
}

/// The bytes that a control key signs to withdraw.
pub fn withdraw_sign_bytes(chain_id: &str, custodian: &str, handle: &[u8], withdraw_seq: u64) -> Vec<u8> {
    framed(Context::Withdraw, chain_id, &[custodian.as_bytes(), handle, &withdraw_seq.to_be_bytes()])
}

/// The bytes that a control key signs to cancel the key that waits to take its place.
pub fn cancel_sign_bytes(
    chain_id: &str,
    custodian: &str,
    handle: &[u8],
    consent_seq: u64,
    waiting_key: &[u8],
) -> Vec<u8> {
    framed(
        Context::CancelReplacement,
        chain_id,
        &[custodian.as_bytes(), handle, &consent_seq.to_be_bytes(), waiting_key],
    )
}

/// Makes and signs an entry.
pub fn sign_entry(key: &SigningKey, body: &EntryBody) -> Vec<u8> {
    let body_bytes = body.encode_to_vec();
    let signature = sign(key, &entry_sign_bytes(&body.chain_id, &body_bytes)).to_vec();
    Entry { body: body_bytes, signature }.encode_to_vec()
}

/// Checks the form: length, canonical encoding, chain id, 1 to 256 operations, each with a variant and fields of the
/// right length. Signature, window and effect are judged against a state.
pub fn check_entry(chain_id: &str, bytes: &[u8]) -> Result<CheckedEntry, EncodingError> {
    let entry: Entry = decode("Entry", bytes, MAX_ENTRY_BYTES)?;
    let signature = array("Entry", "signature", &entry.signature)?;
    let body: EntryBody = decode("EntryBody", &entry.body, MAX_ENTRY_BYTES)?;
    id("EntryBody", "chain_id", &body.chain_id)?;
    if body.chain_id != chain_id {
        return Err(field(
            "EntryBody",
            "chain_id",
            format!("{:?}, this chain is {chain_id:?}", body.chain_id),
        ));
    }
    id("EntryBody", "author", &body.author)?;
    let count = body.operations.len();
    if count == 0 || count > MAX_ENTRY_OPERATIONS {
        return Err(field("EntryBody", "operations", format!("{count}, 1 to {MAX_ENTRY_OPERATIONS} needed")));
    }
    for operation in &body.operations {
        check_operation(operation)?;
    }
    let withdrawals = body.operations.iter().filter(|o| matches!(o.kind, Some(Kind::Withdraw(_)))).count();
    if withdrawals != 0 && withdrawals != count {
        return Err(field(
            "EntryBody",
            "operations",
            "withdrawals share no entry with other operations".into(),
        ));
    }
    if count > 1 && body.operations.iter().any(|o| matches!(o.kind, Some(Kind::Recover(_)))) {
        return Err(field("EntryBody", "operations", "a recovery stands alone in its entry".into()));
    }
    Ok(CheckedEntry {
        bytes: bytes.to_vec(),
        hash: entry_hash(chain_id, bytes),
        body,
        signature,
        body_bytes: entry.body,
    })
}

fn field(message: &'static str, field: &'static str, reason: String) -> EncodingError {
    EncodingError::Field { message, field, reason }
}

fn check_operation(operation: &Operation) -> Result<(), EncodingError> {
    match operation.kind.as_ref() {
        None => Err(field("Operation", "kind", "no variant that this program knows".into())),
        Some(Kind::SetConsent(op)) => {
            id("SetConsent", "custodian", &op.custodian)?;
            array::<32>("SetConsent", "handle", &op.handle)?;
            array::<32>("SetConsent", "commitment", &op.commitment)?;
            if let Some(key) = &op.control_key {
                array::<32>("SetConsent", "control_key", key)?;
            }
            if let Some(signature) = &op.control_signature {
                array::<64>("SetConsent", "control_signature", signature)?;
            }
            Ok(())
        }
        Some(Kind::Withdraw(op)) => {
            id("Withdraw", "custodian", &op.custodian)?;
            array::<32>("Withdraw", "handle", &op.handle)?;
            array::<64>("Withdraw", "patient_signature", &op.patient_signature).map(|_| ())
        }
        Some(Kind::RecordAccess(op)) => {
            id("RecordAccess", "custodian", &op.custodian)?;
            array::<32>("RecordAccess", "handle", &op.handle)?;
            array::<32>("RecordAccess", "commitment", &op.commitment).map(|_| ())
        }
        Some(Kind::SetPolicy(op)) => array::<32>("SetPolicy", "commitment", &op.commitment).map(|_| ()),
        Some(Kind::CancelReplacement(op)) => {
            id("CancelReplacement", "custodian", &op.custodian)?;
            array::<32>("CancelReplacement", "handle", &op.handle)?;
            array::<64>("CancelReplacement", "patient_signature", &op.patient_signature).map(|_| ())
        }
        Some(Kind::Govern(op)) => check_govern(op),
        Some(Kind::ReportEvidence(op)) => check_evidence(op),
        Some(Kind::Recover(op)) => check_recover(op),
    }
}
