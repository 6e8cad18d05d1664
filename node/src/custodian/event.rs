//! What is made durable before a release: the access event, its reasons, and the review item of one under break-glass.

use assent_ledger::commitment::{commit, root_of_digests};
use assent_ledger::entry::MAX_ENTRY_BYTES;
use assent_ledger::hash::{sha256, Context};
use assent_ledger::keys::PublicKey;
use assent_ledger::receipt::verify_message;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{AccessEvent, Reasons};
use prost::Message;

use super::release::CheckedRequest;
use super::{fresh_bytes, Custodian, PermittedRelease};
use crate::exchange::MAX_RELEASE_BYTES;
use crate::refusal::Refusal;
use crate::vault::{Access, Pending, Review};

/// Most resources of one release: what a bundle may hold.
const MAX_RELEASE_RESOURCES: usize = 60_000;

/// What is durable before anything goes out: event, reasons, and what commits to them.
pub(super) struct PreparedEvent {
    pub(super) access: Access,
    pub(super) commitment: Hash,
    reasons: Access,
    why: Hash,
    /// Of what is released, and their root.
    digests: Vec<Hash>,
    root: Hash,
    late: bool,
}

impl PreparedEvent {
    pub(super) fn writes(&self) -> Vec<Pending<'_>> {
        vec![
            Pending::Access { commitment: &self.commitment, access: &self.access },
            Pending::Access { commitment: &self.why, access: &self.reasons },
            Pending::Released { root: &self.root, digests: &self.digests },
        ]
    }

    /// For the officer and the patient, without the entry that records it.
    pub(super) fn review(&self, checked: &CheckedRequest, permitted: &PermittedRelease) -> Review {
        Review {
            request_hash: checked.hash,
            handle: permitted.handle,
            commitment: self.commitment,
            entry_hash: None,
            time_ms: permitted.time_ms,
            request: checked.signed.body.clone(),
            resources: permitted.records.len() as u64,
            late: self.late,
            closed: None,
        }
    }
}

/// Refuses what no recipient would take, before the access is recorded.
pub(super) fn fits(permitted: &PermittedRelease) -> Result<(), Refusal> {
    // 16 bytes a resource are more than their framing takes.
    let bytes: usize = permitted.records.iter().map(|r| r.bytes.len() + 16).sum();
    if bytes <= MAX_RELEASE_BYTES && permitted.records.len() <= MAX_RELEASE_RESOURCES {
        return Ok(());
    }
    Err(too_large())
}

fn too_large() -> Refusal {
    Refusal::unavailable(
        "RELEASE_TOO_LARGE",
        "more records than one release takes: ask for fewer resource types",
    )
}

impl Custodian {
    /// Encoded proof of the keys that the recipient had after the block at `height`. Under these very keys the access is
    /// proven for ever, so the request must be signed by them.
    fn recipients_keys(&self, checked: &CheckedRequest, height: u64) -> Result<Vec<u8>, Refusal> {
        let view = self.parts.store.view()?;
        let recipient = &checked.request.recipient;
        let proof = view.member_proof(&self.parts.genesis, height.saturating_add(1), recipient)?;
        let key = proof.member.as_ref().and_then(|member| member.entry_key.as_slice().try_into().ok());
        let genuine =
            |key: PublicKey| verify_message(Context::Request, self.chain_id(), &key, &checked.signed);
        match key.is_some_and(genuine) {
            true => Ok(proof.encode_to_vec()),
            false => Err(Refusal::unavailable(
                "KEY_CHANGED",
                "the recipient's entry key changed while the request was judged: ask anew",
            )),
        }
    }

    /// The access event with its reasons, and what commits to both.
    pub(super) fn prepare_event(
        &self,
        checked: &CheckedRequest,
        permitted: &PermittedRelease,
        late: bool,
    ) -> Result<PreparedEvent, Refusal> {
        // Which rules decided goes under a commitment of its own: the receipt carries the event to the recipient.
        let reasons = Reasons { decided_by: permitted.decided_by.clone() }.encode_to_vec();
        let handle = permitted.handle;
        let reasons = Access { handle, salt: fresh_bytes(), event: reasons, recipient: Vec::new() };
        let why = commit(Context::ReasonsCommitment, self.chain_id(), &reasons.salt, &reasons.event);
        let digests: Vec<Hash> = permitted.records.iter().map(|record| sha256(&record.bytes)).collect();
        let root = root_of_digests(&digests);
        let event = AccessEvent {
            custodian: self.organization().to_owned(),
            handle: permitted.handle.to_vec(),
            request: checked.signed.encode_to_vec(),
            outcome: permitted.outcome.as_str().to_owned(),
            reasons: why.to_vec(),
            obligations: permitted.obligations.clone(),
            consent_seq: permitted.consent_seq,
            policy_seq: permitted.policy_seq,
            resources: permitted.records.len() as u64,
            digests_root: root.to_vec(),
            time_ms: permitted.time_ms,
            late,
            height: permitted.height,
        };
        let (event, recipient) = (event.encode_to_vec(), self.recipients_keys(checked, permitted.height)?);
        let access = Access { handle, salt: fresh_bytes(), event, recipient };
        if access.event.len() > MAX_ENTRY_BYTES {
            return Err(too_large());
        }
        let commitment = commit(Context::AccessCommitment, self.chain_id(), &access.salt, &access.event);
        Ok(PreparedEvent { access, commitment, reasons, why, digests, root, late })
    }
}
