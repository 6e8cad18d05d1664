//! What stands in the state under a header: slots, and what permits were decided on.

use assent_proto::ledger::v1::{
    consent_opening, AllConsents, ConsentEntry, ConsentOpening, DataRequest, Decision, DecisionClaim,
    OneConsent, PolicySlot, Slot, SlotClaim,
};
use prost::Message;

use super::path::root_from;
use super::{rule, AnchoredAt, Consents, ReceiptFault, VerifiedDecision, VerifiedSlot};
use crate::commitment::{consent_leaf_hash, slot_commitment, slot_commitment_of, ConsentLeaf};
use crate::consent::consent_commitment;
use crate::encoding::{array, decode, id};
use crate::entry::MAX_ENTRY_BYTES;
use crate::hash::{Context, Hash};
use crate::receipt::{request_hash, same, same_text, verify_message, ReceiptError};
use crate::state::{policy_key, slot_key};
use crate::tree;

pub(super) fn in_state(
    at: &AnchoredAt,
    key: &Hash,
    value: Option<Vec<u8>>,
    proof: &[u8],
) -> Result<(), ReceiptError> {
    let root = array("Header", "state_root", &at.header.state_root)?;
    match tree::verify(&root, key, value.as_deref(), proof) {
        true => Ok(()),
        false => Err(ReceiptError::StateProof),
    }
}

pub(super) fn slot(at: &AnchoredAt, claim: &SlotClaim) -> Result<VerifiedSlot, ReceiptFault> {
    let chain_id = at.header.chain_id.as_str();
    id("SlotClaim", "custodian", &claim.custodian)?;
    let handle = array("SlotClaim", "handle", &claim.handle)?;
    let key = slot_key(chain_id, &claim.custodian, &handle);
    same("state key", &key, &claim.state_key)?;
    in_state(at, &key, claim.slot.as_ref().map(Message::encode_to_vec), &claim.state_proof)?;
    let consents = match (&claim.slot, &claim.consents) {
        (Some(slot), Some(opening)) => Some(opened(chain_id, claim, slot, opening)?),
        (None, Some(_)) => return rule("consents are opened of a slot that isn't there"),
        (_, None) => None,
    };
    Ok(VerifiedSlot { custodian: claim.custodian.clone(), handle, slot: claim.slot.clone(), consents })
}

fn leaf(entry: &ConsentEntry) -> Result<ConsentLeaf, ReceiptFault> {
    let commitment = array("ConsentEntry", "commitment", &entry.commitment)?;
    Ok(ConsentLeaf { id: entry.id.clone(), commitment })
}

fn opened(
    chain_id: &str,
    claim: &SlotClaim,
    slot: &Slot,
    opening: &ConsentOpening,
) -> Result<Consents, ReceiptFault> {
    let salt = array("ConsentOpening", "salt", &opening.salt)?;
    let (commitment, consents) = match &opening.shows {
        Some(consent_opening::Shows::One(one)) => one_of(chain_id, claim, &salt, one)?,
        Some(consent_opening::Shows::All(all)) => all_of(chain_id, &salt, all)?,
        None => return rule("the opening shows nothing"),
    };
    same("commitment of the slot", &slot.commitment, &commitment)?;
    Ok(consents)
}

fn all_of(chain_id: &str, salt: &Hash, all: &AllConsents) -> Result<(Hash, Consents), ReceiptFault> {
    let leaves: Vec<ConsentLeaf> = all.consents.iter().map(leaf).collect::<Result<_, _>>()?;
    if !leaves.windows(2).all(|pair| pair[0].id < pair[1].id) {
        return rule("consents are not in strictly ascending order of id");
    }
    Ok((slot_commitment(chain_id, salt, &leaves), Consents::All(leaves)))
}

fn one_of(
    chain_id: &str,
    claim: &SlotClaim,
    salt: &Hash,
    one: &OneConsent,
) -> Result<(Hash, Consents), ReceiptFault> {
    let (Some(entry), Some(path)) = (&one.consent, &one.path) else {
        return rule("the opened consent or its path is missing");
    };
    let leaf = leaf(entry)?;
    let root = root_from(&consent_leaf_hash(chain_id, &leaf), path)?;
    let body = match &one.revision {
        None => None,
        Some(revision) => {
            let Some(body) = &revision.body else { return rule("the opened revision is missing") };
            let salt = array("ConsentRevision", "salt", &revision.salt)?;
            same("commitment of the consent", &leaf.commitment, &consent_commitment(chain_id, &salt, body))?;
            same_text("custodian of the consent", &claim.custodian, &body.custodian)?;
            same("handle of the consent", &claim.handle, &body.handle)?;
            same_text("id of the consent", &leaf.id, &body.id)?;
            Some(Box::new(body.clone()))
        }
    };
    let commitment = slot_commitment_of(chain_id, salt, one.count, &root);
    Ok((commitment, Consents::One { leaf, count: one.count, body }))
}

pub(super) fn decision(at: &AnchoredAt, claim: &DecisionClaim) -> Result<VerifiedDecision, ReceiptFault> {
    let chain_id = at.header.chain_id.as_str();
    let (Some(signed), Some(slot)) = (&claim.decision, &claim.slot) else {
        return rule("the decision or the slot is missing");
    };
    let request: DataRequest = decode("DataRequest", &claim.request, MAX_ENTRY_BYTES)?;
    let decision: Decision = decode("Decision", &signed.body, MAX_ENTRY_BYTES)?;
    same_text("chain id of the request", chain_id, &request.chain_id)?;
    same_text("custodian of the request", &signed.organization, &request.custodian)?;
    same_text("custodian of the decision", &signed.organization, &decision.custodian)?;
    same("request hash", &decision.request_hash, &request_hash(chain_id, &claim.request))?;
    let key = at.entry_key(&decision.custodian, claim.custodian.as_ref())?;
    if !verify_message(Context::Decision, chain_id, &key, signed) {
        return rule("the custodian's signature over the decision does not verify");
    }
    if !matches!(decision.outcome.as_str(), "PERMIT" | "PERMIT_OVERRIDE") {
        return rule("the decision is no permit");
    }
    if at.header.height < decision.height || at.header.time_ms < decision.time_ms {
        return rule("the header is older than the decision");
    }
    let handle: Hash = array("Decision", "handle", &decision.handle)?;
    let key = slot_key(chain_id, &decision.custodian, &handle);
    in_state(at, &key, Some(slot.encode_to_vec()), &claim.state_proof)?;
    if slot.consent_seq != decision.consent_seq {
        return rule("the slot has another consent sequence than the decision names");
    }
    if let Some(policy) = &claim.policy {
        let key = policy_key(chain_id, &decision.custodian);
        in_state(at, &key, policy.slot.as_ref().map(Message::encode_to_vec), &policy.state_proof)?;
        let sequence = policy.slot.as_ref().map_or(0, |slot: &PolicySlot| slot.policy_seq);
        if sequence != decision.policy_seq {
            return rule("the policy slot has another sequence than the decision names");
        }
    }
    Ok(VerifiedDecision { request, decision, slot: slot.clone(), policy_shown: claim.policy.is_some() })
}
