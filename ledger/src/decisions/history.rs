//! What an export says of one slot: each commitment that it had, each access, the custodian's policies, and what block times and
//! recipients' keys were meanwhile. Read while the export is verified.

use std::collections::{BTreeMap, BTreeSet};

use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{AccessEvent, Block, DataRequest, DecisionOpenings, Signed};
use prost::Message;

use crate::audit::{ChainVerifier, RecordKind};
use crate::entry::check_entry;
use crate::keys::PublicKey;
use crate::state::{organization, policy, slot};

/// What a slot became with a consent sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentStep {
    /// Height of the block.
    pub height: u64,
    /// Commitment to the consents.
    pub commitment: Vec<u8>,
    /// The patient has withdrawn.
    pub frozen: bool,
}

/// What a policy slot became with a policy sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyStep {
    /// Height of the block.
    pub height: u64,
    /// Commitment to the rules.
    pub commitment: Vec<u8>,
}

/// One access as the ledger holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedAccess {
    /// Height of the block.
    pub height: u64,
    /// Index of its entry in the block.
    pub index: usize,
    /// Block time in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Commitment to the event.
    pub commitment: Vec<u8>,
    /// Consent sequence that the operation names.
    pub consent_seq: u64,
    /// Policy sequence that the operation names.
    pub policy_seq: u64,
}

/// One slot of a chain, from genesis to its end.
#[derive(Debug, Clone)]
pub struct SlotHistory {
    /// Chain.
    pub chain_id: String,
    /// Organization that holds the records.
    pub custodian: String,
    /// The subject's handle there.
    pub handle: Vec<u8>,
    /// By consent sequence, from 1.
    pub consents: Vec<ConsentStep>,
    /// By policy sequence, from 1.
    pub policies: Vec<PolicyStep>,
    /// By access sequence, from 1.
    pub accesses: Vec<RecordedAccess>,
    /// Block times by height; that of genesis first.
    times: Vec<u64>,
    /// Entry keys of the recipients that the openings name, with the heights of the blocks after which they count; none while suspended.
    keys: BTreeMap<String, Vec<(u64, Option<PublicKey>)>>,
}

/// The recipient that an event's request names; none when it can't be read. Nothing is verified by this.
pub(super) fn recipient_of(event: &AccessEvent) -> Option<String> {
    let signed = Signed::decode(event.request.as_slice()).ok()?;
    Some(DataRequest::decode(signed.body.as_slice()).ok()?.recipient)
}

fn recipients(file: &DecisionOpenings) -> BTreeSet<String> {
    let recipient = |event: &[u8]| recipient_of(&AccessEvent::decode(event).ok()?);
    file.accesses.iter().filter_map(|access| recipient(&access.event)).collect()
}

impl SlotHistory {
    /// Nothing yet, of the slot that openings are about.
    pub fn of(file: &DecisionOpenings) -> Self {
        Self {
            chain_id: file.chain_id.clone(),
            custodian: file.custodian.clone(),
            handle: file.handle.clone(),
            consents: Vec::new(),
            policies: Vec::new(),
            accesses: Vec::new(),
            times: Vec::new(),
            keys: recipients(file).into_iter().map(|id| (id, Vec::new())).collect(),
        }
    }

    /// Takes over a record that `verifier`, at the level [`crate::audit::Level::Full`], has just found good.
    pub fn read(&mut self, kind: RecordKind, payload: &[u8], verifier: &ChainVerifier) -> Result<(), String> {
        let Some(tip) = verifier.tip() else { return Ok(()) };
        match kind {
            RecordKind::Genesis if tip.chain_id != self.chain_id => {
                return Err(format!(
                    "the export is of chain {}, the openings of {}",
                    tip.chain_id, self.chain_id
                ));
            }
            RecordKind::Genesis => {}
            RecordKind::Block => self.block(payload, tip.height, tip.time_ms)?,
            _ => return Ok(()),
        }
        self.times.push(tip.time_ms);
        self.note_keys(verifier, tip.height)
    }

    fn block(&mut self, payload: &[u8], height: u64, time_ms: u64) -> Result<(), String> {
        let block = Block::decode(payload).map_err(|e| e.to_string())?;
        for (index, bytes) in block.entries.iter().enumerate() {
            let entry = check_entry(&self.chain_id, bytes).map_err(|e| e.to_string())?;
            for operation in entry.body.operations {
                if let Some(kind) = operation.kind {
                    self.operation(&entry.body.author, kind, (height, index, time_ms));
                }
            }
        }
        Ok(())
    }

    /// In a verified block every operation took effect: what it did follows from the rule book (`execute.rs`).
    fn operation(&mut self, author: &str, kind: Kind, (height, index, time_ms): (u64, usize, u64)) {
        let mine = |custodian: &str, handle: &[u8]| custodian == self.custodian && handle == self.handle;
        let last = self.consents.last();
        let frozen = last.is_some_and(|step| step.frozen);
        match kind {
            Kind::SetConsent(op) if mine(&op.custodian, &op.handle) => {
                let frozen = frozen && op.control_signature.is_none();
                self.consents.push(ConsentStep { height, commitment: op.commitment, frozen });
            }
            Kind::Withdraw(op) if mine(&op.custodian, &op.handle) => {
                let commitment = last.map(|step| step.commitment.clone()).unwrap_or_default();
                self.consents.push(ConsentStep { height, commitment, frozen: true });
            }
            Kind::RecordAccess(op) if mine(&op.custodian, &op.handle) => self.accesses.push(RecordedAccess {
                height,
                index,
                time_ms,
                commitment: op.commitment,
                consent_seq: op.expected_consent_seq,
                policy_seq: op.expected_policy_seq,
            }),
            Kind::SetPolicy(op) if author == self.custodian => {
                self.policies.push(PolicyStep { height, commitment: op.commitment });
            }
            _ => {}
        }
    }

    fn note_keys(&mut self, verifier: &ChainVerifier, height: u64) -> Result<(), String> {
        for (id, keys) in &mut self.keys {
            let found = organization(verifier.state(), &self.chain_id, id).map_err(|e| e.to_string())?;
            let key = found.and_then(|found| found.entry_key.as_slice().try_into().ok());
            if keys.last().map(|(_, last)| *last) != Some(key) {
                keys.push((height, key));
            }
        }
        Ok(())
    }

    /// The export has ended. True to the state that it leads to, or else this program followed the slot wrongly.
    pub fn finish(&self, verifier: &ChainVerifier) -> Result<(), String> {
        let state = verifier.state();
        let slot = slot(state, &self.chain_id, &self.custodian, &self.handle).map_err(|e| e.to_string())?;
        let policy = policy(state, &self.chain_id, &self.custodian).map_err(|e| e.to_string())?;
        let slot = slot.unwrap_or_default();
        let (frozen, commitment) =
            self.consents.last().map(|step| (step.frozen, step.commitment.clone())).unwrap_or_default();
        let followed = (self.consents.len() as u64, self.accesses.len() as u64, self.policies.len() as u64);
        let same = followed == (slot.consent_seq, slot.access_seq, policy.policy_seq)
            && (frozen, commitment) == (slot.frozen, slot.commitment)
            && self.policies.last().is_none_or(|last| last.commitment == policy.commitment);
        match same {
            true => Ok(()),
            false => Err("the slot's operations do not lead to the slot in the state".to_owned()),
        }
    }

    /// The step with which the slot got the commitment that it has with a consent sequence: a withdrawal keeps the one before.
    pub(super) fn committed_with(&self, consent_seq: u64) -> Option<&ConsentStep> {
        let step = self.consent(consent_seq)?;
        let first = self.consents.iter().find(|earlier| earlier.commitment == step.commitment)?;
        std::ptr::eq(first, step).then_some(step)
    }

    /// The step of a consent sequence.
    pub fn consent(&self, consent_seq: u64) -> Option<&ConsentStep> {
        self.consents.get(usize::try_from(consent_seq.checked_sub(1)?).ok()?)
    }

    /// The step of a policy sequence.
    pub fn policy(&self, policy_seq: u64) -> Option<&PolicyStep> {
        self.policies.get(usize::try_from(policy_seq.checked_sub(1)?).ok()?)
    }

    /// The access of a number.
    pub fn access(&self, access_seq: u64) -> Option<&RecordedAccess> {
        self.accesses.get(usize::try_from(access_seq.checked_sub(1)?).ok()?)
    }

    /// Time of a block.
    pub(super) fn time_of(&self, height: u64) -> u64 {
        usize::try_from(height).ok().and_then(|height| self.times.get(height)).copied().unwrap_or(u64::MAX)
    }

    /// The key that an organization signs with after the block at a height, and the block time at which another took its place, if one did
    /// before the block at `until`.
    pub(super) fn key_after(&self, id: &str, height: u64, until: u64) -> (Option<PublicKey>, Option<u64>) {
        let keys = self.keys.get(id).map(Vec::as_slice).unwrap_or_default();
        let next = keys.partition_point(|(from, _)| *from <= height);
        let key = next.checked_sub(1).and_then(|present| keys.get(present)).and_then(|(_, key)| *key);
        let ended = keys.get(next).filter(|(from, _)| *from < until);
        (key, ended.map(|(from, _)| self.time_of(*from)))
    }
}
