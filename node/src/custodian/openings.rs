//! All that was decided about one patient, opened: consents, rules, events, reasons and records, for an auditor who decides it
//! again (`assent_ledger::decisions`).
//!
//! What the vault has lost, and records that are no longer as they were released, stay out: the auditor names what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use assent_ledger::block::Tip;
use assent_ledger::decisions::MAX_DECISIONS_BYTES;
use assent_ledger::hash::sha256;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{AccessEvent, DecisionOpenings, OpenedAccess, OpenedPolicy, OpenedSet};
use prost::Message;

use super::opened::alarm;
use super::pack::packed;
use super::timeline::Timeline;
use super::{blocking, Custodian, PatientName};
use crate::chain::View;
use crate::refusal::{Kind, Refusal};
use crate::vault::Subject;

impl Custodian {
    /// Encoded `DecisionOpenings` of a patient as of the newest block, which is said too. Without records the recipients' bundles
    /// are needed beside it.
    pub async fn open_decisions(
        &self,
        patient: &PatientName,
        with_records: bool,
    ) -> Result<(Arc<Tip>, Vec<u8>), Refusal> {
        blocking(|| {
            let view = self.parts.store.view()?;
            let file = self.opened_decisions(&view, patient, with_records)?;
            match file.encoded_len() <= MAX_DECISIONS_BYTES {
                true => Ok((view.tip.clone(), file.encode_to_vec())),
                false => Err(Refusal::new(
                    Kind::FailedPrecondition,
                    "DECISIONS_TOO_LARGE",
                    "more than one file takes: ask without records, and use the recipients' bundles",
                )),
            }
        })
    }

    fn opened_decisions(
        &self,
        view: &View<'_>,
        patient: &PatientName,
        with_records: bool,
    ) -> Result<DecisionOpenings, Refusal> {
        let not_found = || {
            let message = "no such patient here: check identifier and birth date";
            Refusal::new(Kind::NotFound, "PATIENT_NOT_FOUND", message)
        };
        let vault = &self.parts.vault;
        let subject = vault.subject_by_identifier(&patient.system, &patient.value, &patient.birth_date)?;
        let subject = subject.ok_or_else(not_found)?;
        let slot = view.slot(self.organization(), &subject.handle)?.ok_or_else(not_found)?;
        let mut file = DecisionOpenings {
            chain_id: self.chain_id().to_owned(),
            custodian: self.organization().to_owned(),
            handle: subject.handle.to_vec(),
            patient_reference: subject.patient_reference.clone(),
            ..Default::default()
        };
        self.open_sets(view, &subject, slot.consent_seq, &mut file)?;
        self.open_accesses(view, &subject, slot.access_seq, &mut file)?;
        // One for each access: one that could not be read would be no event of this program's.
        let event = |access: &OpenedAccess| AccessEvent::decode(access.event.as_slice()).unwrap_or_default();
        let events: Vec<AccessEvent> = file.accesses.iter().map(event).collect();
        self.open_policies(view, events.iter().map(|event| event.policy_seq).collect(), &mut file)?;
        self.open_records(&subject, &events, with_records, &mut file)?;
        Ok(file)
    }

    /// Every set that the slot has committed to, once.
    fn open_sets(
        &self,
        view: &View<'_>,
        subject: &Subject,
        last_seq: u64,
        file: &mut DecisionOpenings,
    ) -> Result<(), Refusal> {
        let mut timeline = Timeline::of(self, view, &subject.handle, last_seq);
        let (mut seen, mut places) = (BTreeSet::new(), BTreeMap::new());
        for consent_seq in 1..=last_seq {
            let (change, set) = match timeline.at(consent_seq) {
                Ok(found) => found,
                Err(refusal) if refusal.reason == "VAULT_MISMATCH" => continue,
                Err(refusal) => return Err(refusal),
            };
            if !seen.insert(change.commitment.clone()) {
                continue;
            }
            let mut opened = OpenedSet { consent_seq, salt: set.salt.to_vec(), consents: Vec::new() };
            for consent in packed(set.clone()) {
                let next = u32::try_from(file.consents.len()).unwrap_or(u32::MAX);
                let place = *places.entry((consent.id.clone(), consent.salt.clone())).or_insert(next);
                opened.consents.push(place);
                if place == next {
                    file.consents.push(consent);
                }
            }
            file.sets.push(opened);
        }
        Ok(())
    }

    fn open_accesses(
        &self,
        view: &View<'_>,
        subject: &Subject,
        last_seq: u64,
        file: &mut DecisionOpenings,
    ) -> Result<(), Refusal> {
        for access_seq in 1..=last_seq {
            let place =
                match (view.access_place(self.organization(), &subject.handle, access_seq)?, view.own_gap()?)
                {
                    (Some(place), _) => place,
                    (None, Some((height, _))) => return Err(Refusal::pruned(height, view.whole_from()?)),
                    (None, None) => return Err(alarm("the ledger's index lacks an access of a slot")),
                };
            let commitment: Hash =
                place.commitment.as_slice().try_into().map_err(|_| alarm("a commitment is not 32 bytes"))?;
            let Some(access) = self.parts.vault.access(&commitment)? else { continue };
            let reasons = match self.opened_reasons(&access.event) {
                Ok(reasons) => Some(reasons),
                Err(refusal) if refusal.reason == "VAULT_MISMATCH" => None,
                Err(refusal) => return Err(refusal),
            };
            let salt = access.salt.to_vec();
            file.accesses.push(OpenedAccess {
                access_seq,
                event: access.event,
                salt,
                reasons,
                digests: Vec::new(),
            });
        }
        Ok(())
    }

    /// The versions that accesses were decided under: what else the custodian ruled is nobody's business here.
    fn open_policies(
        &self,
        view: &View<'_>,
        policies: BTreeSet<u64>,
        file: &mut DecisionOpenings,
    ) -> Result<(), Refusal> {
        for policy_seq in policies.into_iter().filter(|seq| *seq > 0) {
            let change = view.policy_change(self.organization(), policy_seq)?;
            let commitment = change.and_then(|change| Hash::try_from(change.commitment.as_slice()).ok());
            let opened =
                commitment.map(|commitment| self.parts.vault.policy(&commitment)).transpose()?.flatten();
            if let Some((salt, body)) = opened {
                file.policies.push(OpenedPolicy { policy_seq, salt: salt.to_vec(), body });
            }
        }
        Ok(())
    }

    /// Digests of what each access released, and the records that are still as they were: the vault keeps no older ones.
    fn open_records(
        &self,
        subject: &Subject,
        events: &[AccessEvent],
        with_records: bool,
        file: &mut DecisionOpenings,
    ) -> Result<(), Refusal> {
        let mut released = BTreeSet::new();
        for (access, event) in file.accesses.iter_mut().zip(events) {
            let root = Hash::try_from(event.digests_root.as_slice()).ok();
            let digests = root.map(|root| self.parts.vault.released(&root)).transpose()?.flatten();
            access.digests = digests.iter().flatten().map(|digest| digest.to_vec()).collect();
            released.extend(digests.into_iter().flatten());
        }
        if with_records {
            let records =
                self.parts.vault.records_of(&subject.handle)?.into_iter().map(|record| record.bytes);
            file.records = records.filter(|record| released.remove(&sha256(record))).collect();
        }
        Ok(())
    }
}
