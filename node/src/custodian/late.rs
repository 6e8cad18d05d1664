//! Break-glass without quorum: the custodian's word goes out with the records, and the ledger gets the access afterwards.
//!
//! ```text
//! not fresh, a reason ─▶ evaluate on the last state: PERMIT_OVERRIDE? ─▶ room for this person?
//!   ─▶ event, salt, review item, debt durable ─▶ signed LateAccess, records
//! fresh again ─▶ RecordAccess with the sequences of now, until it is in the ledger ─▶ debt paid ─▶ ReceiptOf is answered
//! ```
//! A commit that timed out is unknown, not refused: when an ordinary attempt for the same request was queued before, its entry
//! may be committed too. Then the history shows both, which is too much and never too little.

use std::time::{Duration, Instant};

use assent_ledger::commitment::digests_root;
use assent_ledger::entry::entry_hash;
use assent_ledger::hash::Context;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    operation::Kind as OperationKind, AccessEvent, LateAccess as Promise, Operation, Receipt, RecordAccess,
};
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::asked::breaks_glass;
use super::evaluate::Basis;
use super::event::fits;
use super::release::CheckedRequest;
use super::{answer_step, blocking, Custodian, Evaluation, PermittedRelease, Released, COMMIT_WAIT};
use crate::exchange::Proof;
use crate::refusal::{Kind, Refusal};
use crate::vault::{LateAccess, Pending, Review};

/// Most accesses of one person, as one recipient asserts them, that wait for the quorum.
pub const MAX_LATE_PER_ACTOR: usize = 16;
/// How often the custodian looks whether it can pay what it owes the ledger.
const PAY_INTERVAL: Duration = Duration::from_secs(1);

fn broken() -> Refusal {
    Refusal::unavailable(
        "NODE_FAILING",
        "a late access can't be read back: its operator finds the cause in the log",
    )
}

impl Custodian {
    /// True when a release of this request does not wait for the ledger; also each retry of one that did not.
    pub(super) fn goes_late(&self, checked: &CheckedRequest) -> Result<bool, Refusal> {
        Ok(breaks_glass(&checked.request)
            && (self.must_be_fresh().is_err() || self.late_review(&checked.hash)?.is_some()))
    }

    fn late_review(&self, request_hash: &Hash) -> Result<Option<Review>, Refusal> {
        Ok(self.parts.vault.review(request_hash)?.filter(|review| review.late))
    }

    /// Releases under the custodian's word. What is not released looks like any question to a node without quorum, and takes
    /// as long for a patient that nobody knows.
    pub(super) async fn release_late(&self, checked: &CheckedRequest) -> Result<Option<Released>, Refusal> {
        let started = Instant::now();
        let released = self.prepare_late(checked).await?;
        if released.is_none() {
            answer_step(started).await;
            self.must_be_fresh()?;
        }
        Ok(released)
    }

    async fn prepare_late(&self, checked: &CheckedRequest) -> Result<Option<Released>, Refusal> {
        let guard = self.preparing.lock().await;
        let earlier = blocking(|| self.late_review(&checked.hash))?;
        if earlier.is_none() {
            // Before anybody looks for the patient.
            blocking(|| self.room_for_late(checked))?;
        }
        let Evaluation::Permitted(permitted) = self.evaluate_on(Basis::Last, &checked.request)? else {
            return Ok(None);
        };
        fits(&permitted)?;
        let commitment = match earlier {
            Some(review) => review.commitment,
            None => blocking(|| self.promise(checked, &permitted))?,
        };
        drop(guard);
        // Event, salt, review item and debt: on disk before a byte goes.
        self.parts.vault.durable().await?;
        blocking(|| self.late_released(checked, *permitted, &commitment))
    }

    fn room_for_late(&self, checked: &CheckedRequest) -> Result<(), Refusal> {
        let request = &checked.request;
        match self.parts.vault.late_accesses_of(&request.recipient, &request.actor)? {
            waiting if waiting < MAX_LATE_PER_ACTOR => Ok(()),
            _ => Err(Refusal::new(
                Kind::ResourceExhausted,
                "TOO_MANY_LATE_ACCESSES",
                format!(
                    "{MAX_LATE_PER_ACTOR} releases to this person wait for the ledger: retry when it goes on"
                ),
            )),
        }
    }

    fn promise(&self, checked: &CheckedRequest, permitted: &PermittedRelease) -> Result<Hash, Refusal> {
        let prepared = self.prepare_event(checked, permitted, true)?;
        let late = LateAccess {
            request_hash: checked.hash,
            handle: permitted.handle,
            commitment: prepared.commitment,
            recipient: checked.request.recipient.clone(),
            actor: checked.request.actor.clone(),
            entry: Vec::new(),
        };
        let review = prepared.review(checked, permitted);
        let mut writes = prepared.writes();
        writes.extend([Pending::LateAccess(&late), Pending::Review(&review)]);
        self.parts.vault.stage_pending(&writes)?;
        tracing::warn!(recipient = %late.recipient, "released under break-glass without quorum");
        Ok(prepared.commitment)
    }

    /// Receipt or promise, and the records: none when they are no longer those that the event names.
    fn late_released(
        &self,
        checked: &CheckedRequest,
        permitted: PermittedRelease,
        commitment: &Hash,
    ) -> Result<Option<Released>, Refusal> {
        let access = self.parts.vault.access(commitment)?.ok_or_else(broken)?;
        let event = AccessEvent::decode(access.event.as_slice()).map_err(|_| broken())?;
        let resources: Vec<Vec<u8>> = permitted.records.into_iter().map(|r| r.bytes).collect();
        if event.digests_root != digests_root(resources.iter().map(Vec::as_slice)) {
            return Ok(None);
        }
        let (proof, header_hash) = match self.recorded(&checked.hash)? {
            Some((receipt, hash)) => (Proof::Receipt(Box::new(receipt)), hash),
            None => {
                let request_hash = checked.hash.to_vec();
                let promise = Promise { request_hash, event: access.event, salt: access.salt.to_vec() };
                let signed = self.sign(Context::LateAccess, promise.encode_to_vec());
                let view = self.parts.store.view()?;
                let (proof, hash) = view.prove_late(&self.parts.genesis, signed, &access.recipient)?;
                (Proof::Late(Box::new(proof)), hash)
            }
        };
        Ok(Some(Released {
            proof,
            header_hash,
            resources,
            handle: permitted.handle,
            sequences: (permitted.consent_seq, permitted.policy_seq),
            next_change_ms: permitted.next_change_ms,
            overrides: true,
        }))
    }

    /// The receipt of a late release with the hash of its header, once its access is in the ledger.
    fn recorded(&self, request_hash: &Hash) -> Result<Option<(Receipt, Hash)>, Refusal> {
        let Some(review) = self.late_review(request_hash)? else {
            return Ok(None);
        };
        let view = self.parts.store.view()?;
        let place = review.entry_hash.map(|hash| view.entry_place(&hash)).transpose()?.flatten();
        let Some(place) = place else {
            return Ok(None);
        };
        let access = self.parts.vault.access(&review.commitment)?.ok_or_else(broken)?;
        self.receipt_of(&view, &review.commitment, access, place.height)
    }

    /// The receipt of a late release; none when this request was never released late.
    pub fn late_receipt(&self, checked: &CheckedRequest) -> Result<Option<Receipt>, Refusal> {
        if self.late_review(&checked.hash)?.is_none() {
            return Ok(None);
        }
        match self.recorded(&checked.hash)? {
            Some((receipt, _)) => Ok(Some(receipt)),
            None => Err(Refusal::unavailable(
                "NOT_COMMITTED_YET",
                "the access is not in the ledger yet: retry when the quorum is back",
            )),
        }
    }

    /// Pays what the custodian owes the ledger, whenever it can, until the node stops. A start finds the debts of before.
    pub async fn pay_late_accesses(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(PAY_INTERVAL) => {}
            }
            if self.must_be_fresh().is_err() {
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.pay_all() => {}
            }
        }
    }

    async fn pay_all(&self) {
        let owed = match blocking(|| self.parts.vault.late_accesses()) {
            Ok(owed) => owed,
            Err(error) => {
                tracing::error!(%error, "late accesses can't be read");
                return;
            }
        };
        for late in owed {
            // A commit that failed or timed out is tried again with the same entry, while that can still be committed.
            if let Err(refusal) = self.pay(late).await {
                tracing::warn!(reason = refusal.reason, "a late access is not committed yet");
                if self.must_be_fresh().is_err() {
                    return;
                }
            }
        }
    }

    async fn pay(&self, mut late: LateAccess) -> Result<(), Refusal> {
        let submitter = &self.parts.submitter;
        if late.entry.is_empty() || blocking(|| submitter.is_dead(&late.entry))? {
            late.entry = blocking(|| self.sign_late(&late))?;
            let hash = entry_hash(self.chain_id(), &late.entry);
            self.parts.vault.stage_pending(&[
                Pending::LateAccess(&late),
                Pending::ReviewEntry { request_hash: &late.request_hash, entry_hash: &hash },
            ])?;
            self.parts.vault.durable().await?;
        }
        submitter.commit(&late.entry, COMMIT_WAIT).await?;
        Ok(blocking(|| self.parts.vault.put_pending(&[Pending::LateAccessDone(&late)]))?)
    }

    /// The operation names the sequences of now; the event says under which it was decided.
    fn sign_late(&self, late: &LateAccess) -> Result<Vec<u8>, Refusal> {
        let view = self.parts.store.view()?;
        let slot = view.slot(self.organization(), &late.handle)?.ok_or_else(broken)?;
        let operation = RecordAccess {
            custodian: self.organization().to_owned(),
            handle: late.handle.to_vec(),
            expected_consent_seq: slot.consent_seq,
            expected_policy_seq: view.policy(self.organization())?.policy_seq,
            commitment: late.commitment.to_vec(),
        };
        drop(view);
        let operations = vec![Operation { kind: Some(OperationKind::RecordAccess(operation)) }];
        Ok(self.parts.submitter.sign(operations)?)
    }
}
