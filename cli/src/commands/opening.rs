//! What a custodian asks a patient to sign, opened: the commitment covers what the answer lists, the new consent says exactly
//! what was sent, and the signature can't be kept for a later state of the slot.

use assent_ledger::commitment::{slot_commitment, ConsentLeaf};
use assent_ledger::consent::{consent_commitment, Imported};
use assent_ledger::encoding::{array, decode};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{ConsentBody, ConsentState, Slot};
use assent_proto::v1::{Grant, PrepareGrantResponse};

use crate::commands::wallet::ControlKey;

/// Longest body of a consent.
const MAX_BODY_BYTES: usize = 1 << 20;

/// What may be signed.
#[derive(Debug)]
pub struct Opened {
    /// The commitment.
    pub commitment: Hash,
    /// Id and revision of the new consent, if there is one.
    pub consent: Option<(String, u64)>,
    /// Number of consents that the commitment covers.
    pub consents: usize,
}

/// True when the custodian's answer is for the slot as this node's ledger has it. A signature for a later one could be kept,
/// and used after the patient has withdrawn.
pub fn is_for(slot: &Slot, prepared: &PrepareGrantResponse) -> bool {
    slot.consent_seq == prepared.consent_seq
}

/// Opens a prepared grant; says what is wrong with it.
pub fn open(
    control: &ControlKey,
    grant: &Grant,
    imported: Option<&Imported>,
    prepared: &PrepareGrantResponse,
) -> Result<Opened, String> {
    let bytes = |field, value: &[u8]| {
        array::<32>("PrepareGrantResponse", field, value).map_err(|error| error.to_string())
    };
    let commitment = bytes("commitment", &prepared.commitment)?;
    let mut leaves = Vec::with_capacity(prepared.consents.len());
    for consent in &prepared.consents {
        let commitment = bytes("consents.commitment", &consent.commitment)?;
        leaves.push(ConsentLeaf { id: consent.consent_id.clone(), commitment });
    }
    leaves.sort();
    if leaves.windows(2).any(|pair| pair[0].id == pair[1].id) {
        return Err("it lists one consent twice".to_owned());
    }
    if slot_commitment(&control.chain_id, &bytes("salt", &prepared.salt)?, &leaves) != commitment {
        return Err("what it lists does not make up the commitment".to_owned());
    }
    let leaf = |id: &str| leaves.iter().find(|leaf| leaf.id == id);
    if let Some(lost) = grant.supersedes.iter().find(|id| leaf(id).is_none()) {
        return Err(format!("the superseded consent {lost:?} is not in it"));
    }
    let consents = leaves.len();
    let Some(imported) = imported else {
        return match prepared.body.is_empty() {
            true => Ok(Opened { commitment, consent: None, consents }),
            false => Err("it adds a consent that nobody asked for".to_owned()),
        };
    };
    let body: ConsentBody =
        decode("ConsentBody", &prepared.body, MAX_BODY_BYTES).map_err(|e| e.to_string())?;
    if body.fhir != grant.consent {
        return Err("the new consent is not the one that was sent".to_owned());
    }
    if body.id.is_empty() || !imported.consent.id.is_empty() && body.id != imported.consent.id {
        return Err("the new consent has another id than the one that was sent".to_owned());
    }
    // Nothing beside the FHIR Consent that changes what it means: no other state, no leniency, no other grantor or basis.
    let expected = ConsentBody {
        custodian: control.custodian.clone(),
        handle: control.handle.to_vec(),
        id: body.id.clone(),
        revision: body.revision,
        state: ConsentState::from(imported.consent.state).into(),
        fhir: grant.consent.clone(),
        supersedes: grant.supersedes.clone(),
        ..Default::default()
    };
    if body != expected || body.revision == 0 {
        return Err("the new consent is recorded in another way than was asked".to_owned());
    }
    let salt = bytes("body_salt", &prepared.body_salt)?;
    let own = consent_commitment(&control.chain_id, &salt, &body);
    if leaf(&body.id).map(|leaf| leaf.commitment) != Some(own) {
        return Err("the new consent is not what the commitment covers".to_owned());
    }
    Ok(Opened { commitment, consent: Some((body.id, body.revision)), consents })
}
