//! A consent as it is recorded: one revision, and what it decides (CONSENT.md, Model).

use assent_proto::ledger::v1::{ConsentBody, ConsentState as RecordedState, LegalBasis as RecordedBasis};
use prost::Message;

use super::import::{import_consent, import_consent_leniently, import_silently, Imported};
use super::issue::Issue;
use super::model::{Consent, ConsentState, LegalBasis};
use super::words;
use crate::commitment::commit;
use crate::hash::{Context, Hash};

/// Commitment to one revision of a consent.
pub fn consent_commitment(chain_id: &str, salt: &[u8; 32], body: &ConsentBody) -> Hash {
    commit(Context::ConsentCommitment, chain_id, salt, &body.encode_to_vec())
}

/// Reads a recorded revision: the FHIR Consent as it was imported, in the state that is recorded here, with what is recorded
/// beside it. One that can't be read and is recorded as unresolved is [`Consent::unresolved`] for `subject`, the reference by
/// which the custodian's records name the patient; another that can't be read is refused.
pub fn read_body(body: &ConsentBody, subject: &str) -> Result<Imported, Vec<Issue>> {
    if body.unresolved {
        let consent = Consent::unresolved(&body.id, subject);
        let state = recorded_state(body).unwrap_or(ConsentState::Active);
        let consent = Consent { state, revision: body.revision, ..consent };
        return Ok(Imported { consent, notes: Vec::new(), sentences: Vec::new() });
    }
    let read = if body.lenient { import_consent_leniently } else { import_consent };
    let mut imported = read(&body.fhir)?;
    record(&mut imported.consent, body);
    imported.sentences = words::sentences(&imported.consent);
    Ok(imported)
}

/// The consent alone, as [`read_body`] reads it: for who only decides.
pub fn read_consent(body: &ConsentBody, subject: &str) -> Result<Consent, Vec<Issue>> {
    if body.unresolved {
        return read_body(body, subject).map(|imported| imported.consent);
    }
    let mut consent = import_silently(&body.fhir, body.lenient)?;
    record(&mut consent, body);
    Ok(consent)
}

/// What is recorded beside the FHIR Consent counts.
fn record(consent: &mut Consent, body: &ConsentBody) {
    consent.id = body.id.clone();
    consent.revision = body.revision;
    if let Some(state) = recorded_state(body) {
        consent.state = state;
    }
    consent.legal_basis = basis_of(body).or(consent.legal_basis);
    if let Some(grantor) = &body.grantor {
        consent.authority_ends_ms = Some(i64::try_from(grantor.valid_until_ms).unwrap_or(i64::MAX));
    }
    if consent.legal_basis.is_some_and(LegalBasis::is_part2) {
        let no_redisclosure = "NORDSCLCD".to_owned();
        if !consent.obligations.contains(&no_redisclosure) {
            consent.obligations.push(no_redisclosure);
        }
    }
}

/// The state that a revision is recorded in.
pub fn recorded_state(body: &ConsentBody) -> Option<ConsentState> {
    Some(match body.state() {
        RecordedState::Unspecified => return None,
        RecordedState::Proposed => ConsentState::Proposed,
        RecordedState::Active => ConsentState::Active,
        RecordedState::Rejected => ConsentState::Rejected,
        RecordedState::Revoked => ConsentState::Revoked,
        RecordedState::Superseded => ConsentState::Superseded,
        RecordedState::EnteredInError => ConsentState::EnteredInError,
    })
}

fn basis_of(body: &ConsentBody) -> Option<LegalBasis> {
    Some(match body.legal_basis() {
        RecordedBasis::Unspecified => return None,
        RecordedBasis::HipaaAuthorization => LegalBasis::HipaaAuthorization,
        RecordedBasis::Part2Tpo => LegalBasis::Part2Tpo,
        RecordedBasis::Part2Specific => LegalBasis::Part2Specific,
        RecordedBasis::GdprExplicitConsent => LegalBasis::GdprExplicitConsent,
        RecordedBasis::SelfPayRestriction => LegalBasis::SelfPayRestriction,
        RecordedBasis::DomainPolicy => LegalBasis::DomainPolicy,
    })
}

impl From<ConsentState> for RecordedState {
    fn from(state: ConsentState) -> Self {
        match state {
            ConsentState::Proposed => Self::Proposed,
            ConsentState::Active => Self::Active,
            ConsentState::Rejected => Self::Rejected,
            ConsentState::Revoked => Self::Revoked,
            ConsentState::Superseded => Self::Superseded,
            ConsentState::EnteredInError => Self::EnteredInError,
        }
    }
}
