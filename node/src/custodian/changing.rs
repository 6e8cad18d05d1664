//! Changes of what a patient's slot commits to: opened, changed in memory, committed as one SetConsent.
//!
//! ```text
//! open_patient ─▶ set of consents as of the newest block ─▶ changed ─▶ queue_set ─▶ commit
//!                                                               ╲▶ preview: decided on, and dropped
//! ```

use std::collections::BTreeSet;

use assent_ledger::replacement::control_key_at;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{operation::Kind as OperationKind, ConsentBody, Operation, SetConsent, Slot};
use prost::Message;

use super::{blocking, fresh_bytes, Custodian, PatientName, Queued};
use crate::chain::View;
use crate::refusal::{Kind, Refusal};
use crate::vault::{ConsentRecord, ConsentSet, Pending, Subject};

/// A patient's slot and what it commits to, as of a block.
pub(super) struct Opened {
    pub subject: Subject,
    pub slot: Slot,
    pub set: ConsentSet,
    /// Block time in milliseconds since 1970.
    pub time_ms: i64,
    /// The set is empty in the place of one that the vault has lost: ids of all consents in earlier ones that it still has.
    pub lost: Option<BTreeSet<String>>,
}

/// Who names a write how, and the hash of all that it asks for.
#[derive(Clone, Copy)]
pub(super) struct Write<'a> {
    pub client: &'a str,
    pub request_id: &'a str,
    pub body_hash: Hash,
}

/// The reply to a change, as stored for retries.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Reply {
    #[prost(string, tag = "1")]
    pub consent_id: String,
    #[prost(uint64, tag = "2")]
    pub consent_seq: u64,
    /// Rules in words: all of a new consent, or those that go on denying after a revocation.
    #[prost(string, repeated, tag = "3")]
    pub rules: Vec<String>,
    #[prost(bytes = "vec", tag = "4")]
    pub handle: Vec<u8>,
    #[prost(uint64, tag = "5")]
    pub revision: u64,
    #[prost(bool, tag = "6")]
    pub unresolved: bool,
}

pub(crate) fn patient_not_found() -> Refusal {
    let message = "no such patient here: check identifier and birth date";
    Refusal::new(Kind::NotFound, "PATIENT_NOT_FOUND", message)
}

pub(super) fn consent_not_found() -> Refusal {
    Refusal::new(
        Kind::NotFound,
        "CONSENT_NOT_FOUND",
        "the patient has no such consent: list them to see the ids",
    )
}

impl Opened {
    /// The place of a consent in the set.
    pub fn find(&self, id: &str) -> Option<usize> {
        self.set.consents.iter().position(|record| record.body.id == id)
    }

    /// Puts a revision in the place of the one before, or adds a consent.
    pub fn put(&mut self, body: ConsentBody) {
        self.set.consents.retain(|record| record.body.id != body.id);
        self.set.consents.push(ConsentRecord { body, salt: fresh_bytes() });
    }

    /// What would be active can't be recorded while the patient has withdrawn.
    pub fn must_not_be_frozen(&self) -> Result<(), Refusal> {
        if !self.slot.frozen {
            return Ok(());
        }
        Err(Refusal::new(
            Kind::FailedPrecondition,
            "SLOT_FROZEN",
            "the patient has withdrawn: only their control key can lift that",
        ))
    }

    /// The control key to put into a slot that has none yet.
    pub fn new_key(&self, control_key: Option<[u8; 32]>) -> Result<Option<Vec<u8>>, Refusal> {
        let time_ms = u64::try_from(self.time_ms).unwrap_or_default();
        match (control_key_at(&self.slot, time_ms), control_key) {
            (None, key) => Ok(key.map(|k| k.to_vec())),
            (Some(present), Some(key)) if present != key => Err(Refusal::new(
                Kind::FailedPrecondition,
                "CONTROL_KEY_PRESENT",
                "the slot has another control key: replacing it needs that key's signature",
            )),
            (Some(_), _) => Ok(None),
        }
    }
}

impl Custodian {
    fn slot_of(&self, view: &View<'_>, patient: &PatientName) -> Result<(Subject, Slot), Refusal> {
        let vault = &self.parts.vault;
        let subject = vault
            .subject_by_identifier(&patient.system, &patient.value, &patient.birth_date)?
            .ok_or_else(patient_not_found)?;
        let slot = view.slot(self.organization(), &subject.handle)?.ok_or_else(|| {
            Refusal::new(
                Kind::FailedPrecondition,
                "SUBJECT_NOT_COMMITTED",
                "the patient's registration is not committed yet",
            )
        })?;
        Ok((subject, slot))
    }

    /// A patient's slot in a view, and the consents that it commits to.
    pub(super) fn open_patient(&self, view: &View<'_>, patient: &PatientName) -> Result<Opened, Refusal> {
        let (subject, slot) = self.slot_of(view, patient)?;
        let set = self.open_set(&subject.handle, &slot.commitment)?;
        let time_ms = i64::try_from(view.tip.time_ms).unwrap_or(i64::MAX);
        Ok(Opened { subject, slot, set, time_ms, lost: None })
    }

    /// A patient's slot whose consents the vault has lost, with none in their place: whatever they permitted or denied, an officer
    /// says anew, and the consent that does names [`LOST_CONSENTS`](super::LOST_CONSENTS).
    pub(super) fn open_lost(&self, view: &View<'_>, patient: &PatientName) -> Result<Opened, Refusal> {
        let (subject, slot) = self.slot_of(view, patient)?;
        match self.open_set(&subject.handle, &slot.commitment) {
            Err(refusal) if refusal.reason == "VAULT_MISMATCH" => {}
            Err(other) => return Err(other),
            Ok(_) => {
                let message = "the vault has this patient's consents: name those whose place it takes";
                return Err(Refusal::new(Kind::FailedPrecondition, "NOTHING_LOST", message));
            }
        }
        // Their revisions count on, and nobody knows how far they got.
        let mut ids = BTreeSet::new();
        for consent_seq in 1..slot.consent_seq {
            let change = view.slot_change(self.organization(), &subject.handle, consent_seq)?;
            let commitment = change.and_then(|change| Hash::try_from(change.commitment.as_slice()).ok());
            let Some(commitment) = commitment else { continue };
            let set = self.parts.vault.consent_set(&subject.handle, &commitment)?;
            ids.extend(set.into_iter().flat_map(|set| set.consents).map(|record| record.body.id));
        }
        let time_ms = i64::try_from(view.tip.time_ms).unwrap_or(i64::MAX);
        Ok(Opened { subject, slot, set: ConsentSet::empty(fresh_bytes()), time_ms, lost: Some(ids) })
    }

    /// Signs a SetConsent to the changed set, and stores set, entry and reply in one batch. Nothing is submitted yet. The reply
    /// gets its consent sequence and handle here.
    pub(super) fn queue_set(
        &self,
        write: Write<'_>,
        mut opened: Opened,
        control_key: Option<Vec<u8>>,
        reply: Reply,
    ) -> Result<Queued, Refusal> {
        opened.set.salt = fresh_bytes();
        let handle = &opened.subject.handle;
        let commitment = self.commitment_of(&opened.set);
        let operation = SetConsent {
            custodian: self.organization().to_owned(),
            handle: handle.to_vec(),
            expected_consent_seq: opened.slot.consent_seq,
            commitment: commitment.to_vec(),
            control_key,
            control_signature: None,
        };
        let reply = Reply { consent_seq: opened.slot.consent_seq + 1, handle: handle.to_vec(), ..reply };
        let operations = vec![Operation { kind: Some(OperationKind::SetConsent(operation)) }];
        let (queued, record) = self.queue(write.body_hash, operations, reply.encode_to_vec())?;
        self.parts.vault.stage_pending(&[
            Pending::ConsentSet { handle, commitment: &commitment, set: &opened.set },
            Pending::Request { client: write.client, request_id: write.request_id, record: &record },
        ])?;
        Ok(queued)
    }

    /// Stores the reply to a write that changes nothing, for its retries.
    pub(super) fn queue_nothing(&self, write: Write<'_>, reply: &Reply) -> Result<Queued, Refusal> {
        let (queued, record) = self.queue(write.body_hash, Vec::new(), reply.encode_to_vec())?;
        let Write { client, request_id, .. } = write;
        self.parts.vault.stage_pending(&[Pending::Request { client, request_id, record: &record }])?;
        Ok(queued)
    }

    /// Prepares a change unless its request id has one already, and commits it: its reply, and the height of its block.
    pub(super) async fn change(
        &self,
        write: Write<'_>,
        prepare: impl FnOnce() -> Result<Queued, Refusal>,
    ) -> Result<(Reply, u64), Refusal> {
        let guard = self.preparing.lock().await;
        let queued = match self.queued(write.client, write.request_id, &write.body_hash)? {
            Some(queued) => queued,
            None => blocking(prepare)?,
        };
        drop(guard);
        let height = if queued.entry.is_empty() {
            self.parts.vault.durable().await?;
            self.parts.tip().height
        } else {
            self.commit(write.client, write.request_id, write.body_hash, &queued).await?
        };
        let unreadable = |_| Refusal::unavailable("NODE_FAILING", "a stored reply does not decode");
        Ok((Reply::decode(queued.reply.as_slice()).map_err(unreadable)?, height))
    }
}
