//! Decides, records, and only then releases. The order is the product.
//!
//! ```text
//! evaluate ─▶ event, salt durable ─▶ RecordAccess committed ─▶ slot and policy rechecked ─▶ receipt, records
//! ```

use std::time::{Duration, Instant};

use assent_ledger::commitment::digests_root;
use assent_ledger::consent::{asked, tables_sha256, Outcome, Rules, ALGORITHM};
use assent_ledger::entry::entry_hash;
use assent_ledger::hash::Context;
use assent_ledger::receipt::{request_hash, sign_message, verify_message};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    operation::Kind as OperationKind, AccessEvent, DataRequest, Decision, NotReleased, Operation, Receipt,
    RecordAccess, Signed,
};
use prost::Message;

use super::asked::check_reason;
use super::contact::outreach_form;
use super::event::fits;
use super::{blocking, Custodian, Evaluation, PermittedRelease, Queued};
use crate::chain::now_ms;
use crate::chain::view::View;
use crate::exchange::Proof;
use crate::refusal::{Kind, Refusal};
use crate::vault::{Access, Pending, Review};

/// Longest life of a decision, in milliseconds.
const DECISION_LIFE_MS: u64 = 3_600_000;
/// Longest life of a decision that records are released under, in milliseconds.
const RELEASE_LIFE_MS: u64 = 30_000;
/// Furthest that a request's expiry may lie ahead: its life of an hour, and five minutes between two clocks. Shorter than the
/// time that its nonce is remembered.
const MAX_REQUEST_AHEAD_MS: u64 = 65 * 60 * 1000;
/// Longest request: a client's query takes a fourth of this. The event holds it, and an event that is too long to verify would
/// spoil the patient's history.
const MAX_REQUEST_BYTES: usize = 16 << 10;
/// Most resource types in a request, as in a client's query.
const MAX_RESOURCE_TYPES: usize = 64;
/// Answers that are not a permit go out at multiples of this.
const ANSWER_STEP: Duration = Duration::from_millis(50);
/// Evaluations of one request before it is given up: each lost compare-and-set costs one.
const MAX_ATTEMPTS: usize = 5;

/// What goes to the recipient.
#[derive(Clone)]
pub struct Released {
    /// Receipt of the committed access, or what stands for it without quorum.
    pub proof: Proof,
    /// Hash of the header of the block that holds it, or of the late access: what the recipient acknowledges.
    pub header_hash: Hash,
    /// The permitted resources, in order.
    pub resources: Vec<Vec<u8>>,
    /// The subject's handle.
    pub handle: Hash,
    /// Sequences that must still stand while bytes go out.
    pub sequences: (u64, u64),
    /// Block time from which another decision may hold: a consent or a membership starts or ends then.
    pub next_change_ms: Option<u64>,
    /// Released under break-glass, which may override a withdrawal.
    pub overrides: bool,
}

opaque_debug!(Released);

/// A checked request: signed by the recipient it names, for this custodian.
pub struct CheckedRequest {
    /// The request.
    pub request: DataRequest,
    /// Its name.
    pub hash: Hash,
    /// The signed form.
    pub signed: Signed,
}

/// Waits until the next multiple of [`ANSWER_STEP`] after the question came.
pub(crate) async fn answer_step(started: Instant) {
    let steps = started.elapsed().as_nanos() / ANSWER_STEP.as_nanos() + 1;
    let wait = u32::try_from(steps).map_or(Duration::ZERO, |steps| ANSWER_STEP * steps);
    tokio::time::sleep_until((started + wait).into()).await;
}

fn is_past(change_ms: Option<u64>, time_ms: u64) -> bool {
    change_ms.is_some_and(|change| time_ms >= change)
}

impl Custodian {
    /// Checks form, addressee and signature of a request that `peer` sent.
    pub fn check_form(&self, peer: &str, signed: Signed) -> Result<CheckedRequest, Refusal> {
        let malformed = |what: &str| Refusal::invalid("MALFORMED_REQUEST", "request", what.to_owned());
        let request: DataRequest =
            assent_ledger::encoding::decode("DataRequest", &signed.body, MAX_REQUEST_BYTES)
                .map_err(|e| malformed(&e.to_string()))?;
        if request.chain_id != self.chain_id() || request.custodian != self.organization() {
            return Err(malformed("the request is for another chain or custodian"));
        }
        if request.recipient != peer || signed.organization != peer {
            return Err(malformed("the request names another recipient than the peer that sent it"));
        }
        if request.nonce.len() != 32 {
            return Err(malformed("the nonce is not 32 bytes"));
        }
        let key = self.parts.entry_key_of(peer);
        let key =
            key.ok_or_else(|| malformed("the recipient is no member, or its entry key is suspended"))?;
        if !verify_message(Context::Request, self.chain_id(), &key, &signed) {
            return Err(malformed("the recipient's signature does not verify"));
        }
        if request.resource_types.len() > MAX_RESOURCE_TYPES {
            return Err(malformed("the request names too many resource types"));
        }
        if !request.outreach_channel.is_empty() {
            outreach_form(&request).map_err(malformed)?;
        }
        // Before anybody looks for the patient: a known and an unknown one get the same answer.
        asked(&request, &Rules::default(), 0).check().map_err(|e| malformed(&e.to_string()))?;
        check_reason(&request.break_glass_reason).map_err(malformed)?;
        let hash = request_hash(self.chain_id(), &signed.body);
        Ok(CheckedRequest { request, hash, signed })
    }

    /// The same, and in time.
    pub fn check_request(&self, peer: &str, signed: Signed) -> Result<CheckedRequest, Refusal> {
        let malformed = |what: &str| Refusal::invalid("MALFORMED_REQUEST", "request", what.to_owned());
        let checked = self.check_form(peer, signed)?;
        let now = now_ms();
        if now > checked.request.not_after_ms {
            return Err(malformed("the request has expired"));
        }
        if checked.request.not_after_ms > now + MAX_REQUEST_AHEAD_MS {
            return Err(malformed("the request expires too far ahead"));
        }
        Ok(checked)
    }

    /// Decides only: a signed permit, or none for everything else.
    pub async fn decide(&self, checked: &CheckedRequest) -> Result<Option<Signed>, Refusal> {
        match self.judge(&checked.request)? {
            Evaluation::NotReleased => Ok(None),
            Evaluation::Permitted(permitted) => Ok(Some(self.sign_decision(&checked.hash, &permitted))),
        }
    }

    /// Decides a question of this organization's own, which needs no signature: the permit, or none for everything else. With
    /// it, how many changes of the patient's records were counted before they were read.
    pub fn decide_unsigned(&self, question: &DataRequest) -> Result<Option<(Decision, u64)>, Refusal> {
        let Evaluation::Permitted(permitted) = self.judge(question)? else {
            return Ok(None);
        };
        Ok(Some((self.decision(Vec::new(), &permitted), permitted.record_changes)))
    }

    fn sign_decision(&self, hash: &Hash, permitted: &PermittedRelease) -> Signed {
        self.sign(Context::Decision, self.decision(hash.to_vec(), permitted).encode_to_vec())
    }

    fn decision(&self, request_hash: Vec<u8>, permitted: &PermittedRelease) -> Decision {
        let not_after = permitted.time_ms + DECISION_LIFE_MS;
        Decision {
            request_hash,
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
        }
    }

    /// The one answer for everything that is not a permit.
    pub fn not_released(&self, hash: &Hash) -> Signed {
        let answer = NotReleased { request_hash: hash.to_vec(), time_ms: self.parts.tip().time_ms };
        self.sign(Context::NotReleased, answer.encode_to_vec())
    }

    /// The same, at a time that does not tell whether there is a patient with records that had to be read: at a multiple of
    /// [`ANSWER_STEP`] after the request came.
    pub async fn not_released_since(&self, started: Instant, hash: &Hash) -> Signed {
        answer_step(started).await;
        self.not_released(hash)
    }

    pub(super) fn sign(&self, context: Context, body: Vec<u8>) -> Signed {
        sign_message(context, self.chain_id(), self.organization(), &self.parts.entry_key(), body)
    }

    /// Evaluates, commits the access, and returns what may go out; none for everything that is not a permit.
    pub async fn release(&self, checked: &CheckedRequest) -> Result<Option<Released>, Refusal> {
        if self.goes_late(checked)? {
            return self.release_late(checked).await;
        }
        let client = format!("recipient:{}", checked.request.recipient);
        let nonce = hex::encode(&checked.request.nonce);
        for _ in 0..MAX_ATTEMPTS {
            let Evaluation::Permitted(permitted) = self.evaluate(&checked.request)? else {
                return Ok(None);
            };
            fits(&permitted)?;
            let guard = self.preparing.lock().await;
            let queued = match self.queued(&client, &nonce, &checked.hash)? {
                Some(queued) => queued,
                None => self.prepare_access(&client, &nonce, checked, &permitted)?,
            };
            drop(guard);
            match self.commit(&client, &nonce, checked.hash, &queued).await {
                // The commit took too long, or the node stood still meanwhile: evaluate again, the access is recorded once.
                Ok(_) if self.parts.tip().time_ms > permitted.time_ms.saturating_add(RELEASE_LIFE_MS) => {
                    continue
                }
                Ok(height) => return blocking(|| self.released(*permitted, &queued, height)),
                // Lost the compare-and-set: consent or policy changed since. Evaluate again.
                Err(refusal) if refusal.kind == Kind::Aborted => continue,
                // Unknown, and the quorum is gone: an emergency does not wait for it.
                Err(refusal) if refusal.reason == "COMMIT_UNKNOWN" && self.goes_late(checked)? => {
                    return self.release_late(checked).await
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Err(Refusal::unavailable("TOO_MUCH_CHANGE", "consent or policy changed at every attempt: retry"))
    }

    fn prepare_access(
        &self,
        client: &str,
        nonce: &str,
        checked: &CheckedRequest,
        permitted: &PermittedRelease,
    ) -> Result<Queued, Refusal> {
        let prepared = self.prepare_event(checked, permitted, false)?;
        let operation = RecordAccess {
            custodian: self.organization().to_owned(),
            handle: permitted.handle.to_vec(),
            expected_consent_seq: permitted.consent_seq,
            expected_policy_seq: permitted.policy_seq,
            commitment: prepared.commitment.to_vec(),
        };
        let operations = vec![Operation { kind: Some(OperationKind::RecordAccess(operation)) }];
        let (queued, record) = self.queue(checked.hash, operations, prepared.commitment.to_vec())?;
        let review = (permitted.outcome == Outcome::PermitOverride).then(|| Review {
            entry_hash: Some(entry_hash(self.chain_id(), &queued.entry)),
            ..prepared.review(checked, permitted)
        });
        let mut writes = prepared.writes();
        writes.push(Pending::Request { client, request_id: nonce, record: &record });
        // In the same write: whatever happens, the officer and the patient hear of it.
        writes.extend(review.as_ref().map(Pending::Review));
        self.parts.vault.stage_pending(&writes)?;
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
        let slot = view.slot(self.organization(), &permitted.handle)?.ok_or_else(broken)?;
        let policy = view.policy(self.organization())?;
        let sequences = (event.consent_seq, event.policy_seq);
        let resources: Vec<Vec<u8>> = permitted.records.into_iter().map(|r| r.bytes).collect();
        let same_resources = event.digests_root == digests_root(resources.iter().map(Vec::as_slice));
        let overrides = permitted.outcome == Outcome::PermitOverride;
        let changed = (slot.frozen && !overrides) || (slot.consent_seq, policy.policy_seq) != sequences;
        if changed || !same_resources || is_past(permitted.next_change_ms, view.tip.time_ms) {
            return Ok(None);
        }
        let (receipt, header_hash) =
            self.receipt_of(&view, &commitment, access, height)?.ok_or_else(broken)?;
        Ok(Some(Released {
            proof: Proof::Receipt(Box::new(receipt)),
            header_hash,
            resources,
            handle: permitted.handle,
            sequences,
            next_change_ms: permitted.next_change_ms,
            overrides,
        }))
    }

    /// The receipt of an access that the block at `height` holds, and the hash of that block's header.
    pub(super) fn receipt_of(
        &self,
        view: &View<'_>,
        commitment: &Hash,
        access: Access,
        height: u64,
    ) -> Result<Option<(Receipt, Hash)>, Refusal> {
        let slot = view.slot(self.organization(), &access.handle)?.unwrap_or_default();
        for access_seq in (1..=slot.access_seq).rev() {
            let Some(place) = view.access_place(self.organization(), &access.handle, access_seq)? else {
                break;
            };
            if place.height < height {
                break;
            }
            if place.commitment == commitment {
                return view.prove_access(&self.parts.genesis, &place, access).map(Some);
            }
        }
        Ok(None)
    }

    /// True while the state that a release was decided under still stands: looked at before the first byte and at each block.
    pub fn still_stands(&self, released: &Released) -> Result<bool, Refusal> {
        let mut now = 0;
        match released.proof {
            Proof::Receipt(_) => self.must_be_fresh()?,
            // Without quorum only this machine's clock goes on.
            Proof::Late(_) => now = now_ms(),
        }
        let view = self.parts.store.view()?;
        let slot = view.slot(self.organization(), &released.handle)?.unwrap_or_default();
        let policy = view.policy(self.organization())?;
        let may = !slot.frozen || released.overrides;
        let same = may && (slot.consent_seq, policy.policy_seq) == released.sequences;
        Ok(same && !is_past(released.next_change_ms, view.tip.time_ms.max(now)))
    }

    /// Stores the recipient's signed acknowledgement, once checked.
    pub fn acknowledge(
        &self,
        checked: &CheckedRequest,
        expected: &[u8],
        signed: &Signed,
    ) -> Result<(), Refusal> {
        let peer = &checked.request.recipient;
        let verified = self
            .parts
            .entry_key_of(peer)
            .is_some_and(|key| verify_message(Context::Acknowledgement, self.chain_id(), &key, signed));
        if !verified || signed.body != expected || signed.organization != *peer {
            return Err(Refusal::invalid(
                "BAD_ACKNOWLEDGEMENT",
                "acknowledgement",
                "the acknowledgement does not verify",
            ));
        }
        Ok(self.parts.vault.put_acknowledgement(&checked.hash, &signed.encode_to_vec())?)
    }
}
