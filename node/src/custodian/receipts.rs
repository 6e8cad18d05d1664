//! Receipts of slots and accesses that a custodian makes.

use assent_ledger::receipts::{one_consent, MAX_BYTES};
use assent_ledger::state::slot_key;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    consent_opening, receipt, AllConsents, ConsentEntry, ConsentOpening, ConsentRevision, Slot, SlotClaim,
};
use prost::Message;

use super::opened::leaves;
use super::Custodian;
use crate::chain::receipts::StartAt;
use crate::refusal::{Kind, Refusal};

/// Room in a receipt for a consent's own bytes.
const MAX_REVISION_BYTES: usize = MAX_BYTES / 2;

/// How far a slot's commitment is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenTo {
    /// Not at all.
    Nothing,
    /// One consent, by id.
    One(String),
    /// The list of all.
    All,
}

impl Custodian {
    /// Encoded receipt of any slot of the ledger as the newest block left it, or of its absence. Only this organization's own
    /// can be opened.
    pub fn slot_receipt(
        &self,
        custodian: &str,
        handle: &Hash,
        open: &OpenTo,
        start: StartAt,
    ) -> Result<Vec<u8>, Refusal> {
        let view = self.parts.store.view()?;
        let slot = view.slot(custodian, handle)?;
        let consents = match (&slot, open) {
            (_, OpenTo::Nothing) | (None, _) => None,
            (Some(slot), open) => Some(self.opening(handle, slot, open)?),
        };
        let claim = SlotClaim {
            custodian: custodian.to_owned(),
            handle: handle.to_vec(),
            state_proof: view.prove_slot(custodian, handle, slot.as_ref())?,
            state_key: slot_key(self.chain_id(), custodian, handle).to_vec(),
            slot,
            consents,
        };
        let anchor = view.anchor(&self.parts.genesis, view.tip.height, start)?;
        view.checked(&self.parts.genesis, anchor, receipt::Claim::Slot(claim))
    }

    fn opening(&self, handle: &Hash, slot: &Slot, open: &OpenTo) -> Result<ConsentOpening, Refusal> {
        let set = self.open_set(handle, &slot.commitment)?;
        let mut leaves = leaves(self.chain_id(), &set);
        let shows = match open {
            OpenTo::One(id) => {
                let mut one = one_consent(self.chain_id(), &leaves, id).ok_or_else(|| {
                    let message =
                        "no such consent of this patient: ask for the list of all, which shows that";
                    Refusal::new(Kind::NotFound, "CONSENT_NOT_FOUND", message)
                })?;
                let record = set.consents.iter().find(|record| record.body.id == *id);
                one.revision =
                    record.filter(|record| record.body.encoded_len() <= MAX_REVISION_BYTES).map(|record| {
                        ConsentRevision { salt: record.salt.to_vec(), body: Some(record.body.clone()) }
                    });
                consent_opening::Shows::One(one)
            }
            _ => {
                leaves.sort();
                let entry = |leaf: assent_ledger::commitment::ConsentLeaf| ConsentEntry {
                    id: leaf.id,
                    commitment: leaf.commitment.to_vec(),
                };
                let consents = leaves.into_iter().map(entry).collect();
                consent_opening::Shows::All(AllConsents { consents })
            }
        };
        Ok(ConsentOpening { salt: set.salt.to_vec(), shows: Some(shows) })
    }

    /// Encoded receipt of one access to a subject's records here, by its number from 1.
    pub fn access_receipt(&self, handle: &Hash, access_seq: u64, start: StartAt) -> Result<Vec<u8>, Refusal> {
        let view = self.parts.store.view()?;
        let not_found = || {
            let message = "the patient has no access of that number here: `assent history` lists them";
            Refusal::new(Kind::NotFound, "ACCESS_NOT_FOUND", message)
        };
        let place = view.access_place(self.organization(), handle, access_seq)?.ok_or_else(not_found)?;
        let lost = || {
            Refusal::unavailable(
                "HISTORY_INCOMPLETE",
                "the custodian's vault lacks an access event: its operator must restore it",
            )
        };
        let commitment: Hash = place.commitment.as_slice().try_into().map_err(|_| lost())?;
        let access = self.parts.vault.access(&commitment)?.ok_or_else(lost)?;
        let (receipt, _) = view.prove_access(&self.parts.genesis, &place, access)?;
        view.access_receipt(&self.parts.genesis, receipt, start)
    }
}
