//! What a slot's and the policy slot's commitments open to. Recomputed from the vault each time: a mismatch (a restored backup)
//! is UNAVAILABLE and an alarm, never an answer.

use assent_ledger::commitment::{commit, slot_commitment, ConsentLeaf};
use assent_ledger::consent::{consent_commitment, read_consent, Consent, Rules};
use assent_ledger::hash::Context;
pub use assent_ledger::pack::{CONTACT_PREFERENCES, LOST_CONSENTS};
use assent_ledger::Hash;
use assent_proto::ledger::v1::PolicyBody;
use prost::Message;

use super::Custodian;
use crate::refusal::Refusal;
use crate::vault::{ConsentSet, Subject};

pub(super) fn alarm(what: &str) -> Refusal {
    tracing::error!(alarm = "vault-mismatch", "{what}");
    Refusal::unavailable(
        "VAULT_MISMATCH",
        "the custodian's vault does not match the ledger: its operator must restore it",
    )
}

/// Commitments of everything in a set.
pub(super) fn leaves(chain_id: &str, set: &ConsentSet) -> Vec<ConsentLeaf> {
    let consents = set.consents.iter().map(|consent| ConsentLeaf {
        id: consent.body.id.clone(),
        commitment: consent_commitment(chain_id, &consent.salt, &consent.body),
    });
    let contact = set.contact.iter().map(|contact| ConsentLeaf {
        id: CONTACT_PREFERENCES.to_owned(),
        commitment: commit(
            Context::ConsentCommitment,
            chain_id,
            &contact.salt,
            &contact.preferences.encode_to_vec(),
        ),
    });
    consents.chain(contact).collect()
}

impl Custodian {
    /// What a slot has to commit to for a set of consents.
    pub(super) fn commitment_of(&self, set: &ConsentSet) -> Hash {
        slot_commitment(self.chain_id(), &set.salt, &leaves(self.chain_id(), set))
    }

    /// The set of consents that a slot's commitment stands for, recomputed.
    pub(super) fn open_set(&self, handle: &Hash, commitment: &[u8]) -> Result<ConsentSet, Refusal> {
        let commitment: Hash =
            commitment.try_into().map_err(|_| alarm("a slot's commitment is not 32 bytes"))?;
        let set = self
            .parts
            .vault
            .consent_set(handle, &commitment)?
            .ok_or_else(|| alarm("the vault lacks the consents that a slot commits to"))?;
        if self.commitment_of(&set) != commitment {
            return Err(alarm("a slot's recomputed commitment differs"));
        }
        Ok(set)
    }

    /// The encoded rules that the policy slot's commitment stands for, recomputed; none before the first SetPolicy.
    pub(super) fn open_policy(&self, commitment: &[u8]) -> Result<Option<PolicyBody>, Refusal> {
        if commitment.is_empty() {
            return Ok(None);
        }
        let commitment: Hash =
            commitment.try_into().map_err(|_| alarm("the policy's commitment is not 32 bytes"))?;
        let (salt, body) = self
            .parts
            .vault
            .policy(&commitment)?
            .ok_or_else(|| alarm("the vault lacks the policy that the ledger commits to"))?;
        if commit(Context::PolicyCommitment, self.chain_id(), &salt, &body) != commitment {
            return Err(alarm("the policy's recomputed commitment differs"));
        }
        PolicyBody::decode(body.as_slice()).map(Some).map_err(|_| alarm("the stored policy does not decode"))
    }

    /// The rules that the policy slot's commitment stands for.
    pub(super) fn open_rules(&self, commitment: &[u8]) -> Result<Rules, Refusal> {
        let Some(body) = self.open_policy(commitment)? else {
            return Ok(Rules::default());
        };
        Rules::read(&body).map_err(|_| alarm("the stored policy or registry does not parse"))
    }

    /// All consents of a set, as the decision takes them.
    pub(super) fn open_consents(&self, subject: &Subject, set: &ConsentSet) -> Result<Vec<Consent>, Refusal> {
        let consents =
            set.consents.iter().map(|record| read_consent(&record.body, &subject.patient_reference));
        consents.collect::<Result<_, _>>().map_err(|_| alarm("a stored consent does not import"))
    }
}
