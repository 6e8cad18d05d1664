//! Decides, records, and only then releases. The order is the product.
//!
//! ```text
//! evaluate ─▶ event, salt durable ─▶ RecordAccess committed ─▶ slot and policy rechecked ─▶ receipt, records
//! ```

use assent_ledger::commitment::{commit, digests_root};
use assent_ledger::consent::{tables_sha256, ALGORITHM};
use assent_ledger::hash::Context;
use assent_ledger::receipt::{lone_receipt, request_hash, sign_message, verify_message};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    operation::Kind as OperationKind, AccessEvent, AccessReceipt, DataRequest, Decision, NotReleased,
    Operation, RecordAccess, Signed,
};
use prost::Message;

use super::{blocking, fresh_bytes, Custodian, Evaluation, PermittedRelease, Queued};
use crate::chain::now_ms;
use crate::refusal::{Kind, Refusal};
use crate::vault::{Access, Pending};

/// Longest life of a decision, in milliseconds.
const DECISION_LIFE_MS: u64 = 3_600_000;
/// Evaluations of one request before it is given up: each lost compare-and-set costs one.
const MAX_ATTEMPTS: usize = 5;

/// What goes to the recipient.
#[derive(Debug, Clone)]
pub struct Released {
    /// Receipt of the committed access.
    pub receipt: AccessReceipt,
    /// Hash of the header of the block that holds it.
    pub header_hash: Hash,
    /// The permitted resources, in order.
    pub resources: Vec<Vec<u8>>,
    /// The subject's handle.
    pub handle: Hash,
    /// Sequences that must still stand while bytes go out.
    pub sequences: (u64, u64),
}

/// A checked request: signed by the recipient it names, for this custodian, in time.
pub struct CheckedRequest {
    /// The request.
    pub request: DataRequest,
    /// Its name.
    pub hash: Hash,
    /// The signed form.
    pub signed: Signed,
}

impl Custodian {
    /// Checks form, addressee, signature and time of a request that `peer` sent.
    pub fn check_request(&self, peer: &str, signed: Signed) -> Result<CheckedRequest, Refusal> {
        let malformed = |what: &str| Refusal::invalid("MALFORMED_REQUEST", "request", what.to_owned());
        let request: DataRequest = assent_ledger::encoding::decode(
            "DataRequest",
            &signed.body,
            assent_ledger::entry::MAX_ENTRY_BYTES,
        )
        .map_err(|e| malformed(&e.to_string()))?;
        if request.chain_id != self.chain_id() || request.custodian != self.organization() {
            return Err(malformed("the request is for another chain or custodian"));
        }
        if request.recipient != peer || signed.organization != peer {
            return Err(malformed(
                "the request names another recipient than the peer that sent it",
            ));
        }
        if request.nonce.len() != 32 {
            return Err(malformed("the nonce is not 32 bytes"));
        }
        let key = self
            .parts
            .store
            .view()?
            .organization(peer)?
            .map(|o| o.entry_key)
            .unwrap_or_default();
        let key = key
            .try_into()
            .map_err(|_| malformed("the recipient is not on the ledger"))?;
        if !verify_message(Context::Request, self.chain_id(), &key, &signed) {
            return Err(malformed("the recipient's signature does not verify"));
        }
        if now_ms() > request.not_after_ms {
            return Err(malformed("the request has expired"));
        }
        let hash = request_hash(self.chain_id(), &signed.body);
        Ok(CheckedRequest {
            request,
            hash,
            signed,
        })
    }

    /// Decides only: a signed permit, or none for everything else.
    pub async fn decide(&self, checked: &CheckedRequest) -> Result<Option<Signed>, Refusal> {
        match blocking(|| self.evaluate(&checked.request))? {
            Evaluation::NotReleased => Ok(None),
            Evaluation::Permitted(permitted) => Ok(Some(self.sign_decision(&checked.hash, &permitted))),
        }
    }

    fn sign_decision(&self, hash: &Hash, permitted: &PermittedRelease) -> Signed {
        let not_after = permitted.time_ms + DECISION_LIFE_MS;
        let decision = Decision {
            request_hash: hash.to_vec(),
            custodian: self.organization().to_owned(),
            handle: permitted.handle.to_vec(),
            outcome: permitted.outcome.as_str().to_owned(),
            consent_seq: permitted.consent_seq,
            policy_seq: permitted.policy_seq,
            algorithm: ALGORITHM.to_owned(),
            tables: tables_sha256().to_vec(),
            height: permitted.height,
            time_ms: permitted.time_ms,
            not_after_ms: permitted.next_change_ms.map_or(not_after, |t| t.min(not_after)),
            obligations: permitted.obligations.clone(),
        };
        self.sign(Context::Decision, decision.encode_to_vec())
    }

    /// The one answer for everything that is not a permit.
    pub fn not_released(&self, hash: &Hash) -> Signed {
        let answer = NotReleased {
            request_hash: hash.to_vec(),
            time_ms: self.parts.tip().time_ms,
        };
        self.sign(Context::NotReleased, answer.encode_to_vec())
    }

    fn sign(&self, context: Context, body: Vec<u8>) -> Signed {
        sign_message(
            context,
            self.chain_id(),
            self.organization(),
            &self.parts.entry_key,
            body,
        )
    }

    /// Evaluates, commits the access, and returns what may go out; none for everything that is not a permit.
    pub async fn release(&self, checked: &CheckedRequest) -> Result<Option<Released>, Refusal> {
        let client = format!("recipient:{}", checked.request.recipient);
        let nonce = hex::encode(&checked.request.nonce);
        for _ in 0..MAX_ATTEMPTS {
            let Evaluation::Permitted(permitted) = blocking(|| self.evaluate(&checked.request))? else {
                return Ok(None);
            };
            let guard = self.preparing.lock().await;
            let queued = match self.queued(&client, &nonce, &checked.hash)? {
                Some(queued) => queued,
                None => blocking(|| self.prepare_access(&client, &nonce, checked, &permitted))?,
            };
            drop(guard);
            match self.commit(&client, &nonce, checked.hash, &queued).await {
                Ok(height) => return blocking(|| self.released(*permitted, &queued, height)),
                // Lost the compare-and-set: consent or policy changed since. Evaluate again.
                Err(refusal) if refusal.kind == Kind::Aborted => continue,
                Err(refusal) => return Err(refusal),
            }
        }
        Err(Refusal::unavailable(
            "TOO_MUCH_CHANGE",
            "consent or policy changed at every attempt: retry",
        ))
    }

    fn prepare_access(
        &self,
        client: &str,
        nonce: &str,
        checked: &CheckedRequest,
        permitted: &PermittedRelease,
    ) -> Result<Queued, Refusal> {
        let event = AccessEvent {
            custodian: self.organization().to_owned(),
            handle: permitted.handle.to_vec(),
            request: checked.signed.encode_to_vec(),
            outcome: permitted.outcome.as_str().to_owned(),
            decided_by: permitted.decided_by.clone(),
            obligations: permitted.obligations.clone(),
            consent_seq: permitted.consent_seq,
            policy_seq: permitted.policy_seq,
            resources: permitted.records.len() as u64,
            digests_root: digests_root(permitted.records.iter().map(|r| r.bytes.as_slice())).to_vec(),
            time_ms: permitted.time_ms,
        };
        let access = Access {
            handle: permitted.handle,
            salt: fresh_bytes(),
            event: event.encode_to_vec(),
        };
        let commitment = commit(
            Context::AccessCommitment,
            self.chain_id(),
            &access.salt,
            &access.event,
        );
        let operation = RecordAccess {
            custodian: self.organization().to_owned(),
            handle: permitted.handle.to_vec(),
            expected_consent_seq: permitted.consent_seq,
            expected_policy_seq: permitted.policy_seq,
            commitment: commitment.to_vec(),
        };
        let operations = vec![Operation {
            kind: Some(OperationKind::RecordAccess(operation)),
        }];
        let (queued, record) = self.queue(checked.hash, operations, commitment.to_vec());
        self.parts.vault.put_pending(&[
            Pending::Access {
                commitment: &commitment,
                access: &access,
            },
            Pending::Request {
                client,
                request_id: nonce,
                record: &record,
            },
        ])?;
        Ok(queued)
    }

    /// After the commit: recheck, and put receipt and resources together. A retry of a nonce gets the same receipt, as long as
    /// the same resources are still permitted.
    fn released(
        &self,
        permitted: PermittedRelease,
        queued: &Queued,
        height: u64,
    ) -> Result<Option<Released>, Refusal> {
        let broken = || {
            Refusal::unavailable(
                "RECEIPT_UNAVAILABLE",
                "the receipt can't be made now: retry with the same request_id",
            )
        };
        let commitment: Hash = queued.reply.as_slice().try_into().map_err(|_| broken())?;
        let access = self.parts.vault.access(&commitment)?.ok_or_else(broken)?;
        let event = AccessEvent::decode(access.event.as_slice()).map_err(|_| broken())?;
        let view = self.parts.store.view()?;
        let slot = view
            .slot(self.organization(), &permitted.handle)?
            .ok_or_else(broken)?;
        let policy = view.policy(self.organization())?;
        let sequences = (event.consent_seq, event.policy_seq);
        let resources: Vec<Vec<u8>> = permitted.records.into_iter().map(|r| r.bytes).collect();
        let same_resources = event.digests_root == digests_root(resources.iter().map(Vec::as_slice));
        if slot.frozen || (slot.consent_seq, policy.policy_seq) != sequences || !same_resources {
            return Ok(None);
        }
        for access_seq in (1..=slot.access_seq).rev() {
            let Some(place) = view.access_place(self.organization(), &permitted.handle, access_seq)? else {
                break;
            };
            if place.height < height {
                break;
            }
            if place.commitment == commitment {
                let receipt = view.receipt(&place, access_seq, access.event, access.salt)?;
                let receipt = lone_receipt(&self.parts.genesis, receipt);
                let header_hash = assent_ledger::block::header_hash(self.chain_id(), &receipt.header);
                let handle = permitted.handle;
                return Ok(Some(Released {
                    receipt,
                    header_hash,
                    resources,
                    handle,
                    sequences,
                }));
            }
        }
        Err(broken())
    }

    /// True while the state that a release was decided under still stands: looked at before the first byte and at each block.
    pub fn still_stands(&self, released: &Released) -> Result<bool, Refusal> {
        let view = self.parts.store.view()?;
        let slot = view
            .slot(self.organization(), &released.handle)?
            .unwrap_or_default();
        let policy = view.policy(self.organization())?;
        Ok(!slot.frozen && (slot.consent_seq, policy.policy_seq) == released.sequences)
    }

    /// Stores the recipient's signed acknowledgement, once checked.
    pub fn acknowledge(
        &self,
        checked: &CheckedRequest,
        expected: &[u8],
        signed: &Signed,
    ) -> Result<(), Refusal> {
        let peer = &checked.request.recipient;
        let key = self
            .parts
            .store
            .view()?
            .organization(peer)?
            .map(|o| o.entry_key)
            .unwrap_or_default();
        let verified = key
            .try_into()
            .is_ok_and(|key| verify_message(Context::Acknowledgement, self.chain_id(), &key, signed));
        if !verified || signed.body != expected || signed.organization != *peer {
            return Err(Refusal::invalid(
                "BAD_ACKNOWLEDGEMENT",
                "acknowledgement",
                "the acknowledgement does not verify",
            ));
        }
        Ok(self
            .parts
            .vault
            .put_acknowledgement(&checked.hash, &signed.encode_to_vec())?)
    }
}
