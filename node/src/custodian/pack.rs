//! Everything about one patient's consents and accesses, with proof that it is everything: the patient pack.

use assent_ledger::Hash;
use assent_proto::ledger::v1::{AccessEvent, OpenedReasons, PackedConsent, PatientPack};
use prost::Message;

use super::opened::{alarm, CONTACT_PREFERENCES};
use super::{blocking, Custodian};
use crate::chain::receipts::StartAt;
use crate::refusal::Refusal;
use crate::vault::ConsentSet;

impl Custodian {
    /// Encoded `PatientPack` of a subject at this custodian: history and consents of one moment of the ledger.
    pub async fn pack(&self, handle: Hash, start: StartAt) -> Result<Vec<u8>, Refusal> {
        blocking(|| self.read_pack(&handle, start))
    }

    fn read_pack(&self, handle: &Hash, start: StartAt) -> Result<Vec<u8>, Refusal> {
        let history = self.history_in(&self.parts.store.view()?, handle, start)?;
        let commitment = history.slot.as_ref().map(|slot| slot.commitment.as_slice()).unwrap_or_default();
        let set = self.open_set(handle, commitment)?;
        let reasons = history.accesses.iter().map(|access| {
            self.opened_reasons(access.access.as_ref().map_or(&[], |claim| claim.event.as_slice()))
        });
        let pack = PatientPack {
            reasons: reasons.collect::<Result<_, _>>()?,
            salt: set.salt.to_vec(),
            consents: packed(set),
            history: history.encode_to_vec(),
        };
        Ok(pack.encode_to_vec())
    }

    pub(super) fn opened_reasons(&self, event: &[u8]) -> Result<OpenedReasons, Refusal> {
        let lost = || alarm("the vault lacks the reasons of an access");
        let event = AccessEvent::decode(event).map_err(|_| lost())?;
        let commitment: Hash = event.reasons.as_slice().try_into().map_err(|_| lost())?;
        let why = self.parts.vault.access(&commitment)?.ok_or_else(lost)?;
        Ok(OpenedReasons { reasons: why.event, salt: why.salt.to_vec() })
    }
}

/// All that the slot's commitment covers, in the order of ids.
pub(super) fn packed(set: ConsentSet) -> Vec<PackedConsent> {
    let consents = set.consents.into_iter().map(|consent| PackedConsent {
        id: consent.body.id.clone(),
        body: consent.body.encode_to_vec(),
        salt: consent.salt.to_vec(),
    });
    let contact = set.contact.into_iter().map(|contact| PackedConsent {
        id: CONTACT_PREFERENCES.to_owned(),
        body: contact.preferences.encode_to_vec(),
        salt: contact.salt.to_vec(),
    });
    let mut packed: Vec<_> = consents.chain(contact).collect();
    packed.sort_by(|a, b| a.id.cmp(&b.id));
    packed
}
