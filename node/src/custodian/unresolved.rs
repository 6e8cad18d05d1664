//! Consents as they come from other systems: imported without loss, or refused; from a feed, an active one that is refused is
//! kept, and withholds until an officer resolves it.

use assent_ledger::consent::{consent_head, read_body, recorded_state, ConsentState, Head};
use assent_proto::ledger::v1::ConsentBody;

use super::changing::Opened;
use super::checks::{check_elements, check_subject, other_subject};
use super::consents::refused;
use super::record::{read_fhir, Applied};
use super::{fresh_bytes, Custodian};
use crate::refusal::{Kind, Refusal};

/// A consent to import.
#[derive(Clone)]
pub struct ConsentToImport {
    /// FHIR R4 Consent as JSON.
    pub fhir: Vec<u8>,
    /// Take the leniencies that CONSENT.md names.
    pub lenient: bool,
    /// Nobody is there to mend it: keep what is refused, if it may be active.
    pub keep_unresolved: bool,
}

opaque_debug!(ConsentToImport);

/// What an import made of an opened set.
pub(super) struct ImportedConsent {
    pub applied: Applied,
    /// It was refused, and stands as unresolved.
    pub unresolved: bool,
    /// False when just this stands as unresolved already.
    pub is_new: bool,
}

impl Custodian {
    /// Puts an imported consent into an opened set: a new one, or the next revision of the one with its id.
    pub(super) fn apply_import(
        &self,
        opened: &mut Opened,
        import: &ConsentToImport,
    ) -> Result<ImportedConsent, Refusal> {
        let refusal = match self.read_import(opened, import) {
            Ok((body, applied)) => {
                opened.put(body);
                return Ok(ImportedConsent { applied, unresolved: false, is_new: true });
            }
            Err(refusal) if import.keep_unresolved && is_about_content(&refusal) => refusal,
            Err(refusal) => return Err(refusal),
        };
        let Head { id, state, subject } = consent_head(&import.fhir);
        if state.is_some_and(|state| state != ConsentState::Active) {
            return Err(refusal);
        }
        if subject.is_some_and(|subject| subject != opened.subject.patient_reference) {
            return Err(other_subject());
        }
        opened.must_not_be_frozen()?;
        self.keep(opened, import, id)
    }

    /// What stands under its id goes on standing: nobody knows whether this takes its place.
    fn keep(
        &self,
        opened: &mut Opened,
        import: &ConsentToImport,
        id: String,
    ) -> Result<ImportedConsent, Refusal> {
        let same = |body: &&ConsentBody| body.unresolved && body.fhir == import.fhir;
        let bodies = || opened.set.consents.iter().map(|record| &record.body);
        let stands = |body: &ConsentBody| recorded_state(body) == Some(ConsentState::Active);
        let (body, is_new) = match bodies().find(same) {
            Some(body) if stands(body) => (body.clone(), false),
            Some(_) => return Err(changed_here()),
            None => {
                let present = bodies().find(|body| body.id == id);
                let (id, revision) = match present {
                    None if !id.is_empty() => (id, 1),
                    Some(body) if body.unresolved && stands(body) => (id, body.revision + 1),
                    None | Some(_) => (hex::encode(&fresh_bytes()[..16]), 1),
                };
                let first =
                    self.first_body(&opened.subject.handle, &id, ConsentState::Active, import.fhir.clone());
                (ConsentBody { revision, lenient: import.lenient, unresolved: true, ..first }, true)
            }
        };
        let read = read_body(&body, &opened.subject.patient_reference);
        let imported = read.map_err(|issues| refused(&issues))?;
        let applied = Applied { id: body.id.clone(), revision: body.revision, imported };
        if is_new {
            opened.put(body);
        }
        Ok(ImportedConsent { applied, unresolved: true, is_new })
    }

    fn read_import(
        &self,
        opened: &Opened,
        import: &ConsentToImport,
    ) -> Result<(ConsentBody, Applied), Refusal> {
        let imported = read_fhir(&import.fhir, import.lenient).map_err(|issues| refused(&issues))?;
        check_subject(&opened.subject, &imported)?;
        if imported.consent.state == ConsentState::Active {
            opened.must_not_be_frozen()?;
            check_elements(&imported.consent)?;
        }
        let id = super::consents::id_of(&imported);
        let revision = next_revision(opened, &id)?;
        let body = ConsentBody {
            revision,
            lenient: import.lenient,
            ..self.first_body(&opened.subject.handle, &id, imported.consent.state, import.fhir.clone())
        };
        Ok((body, Applied { id, revision, imported }))
    }
}

/// Refused for what the consent says, not for whose it is or what state the slot is in.
fn is_about_content(refusal: &Refusal) -> bool {
    matches!(refusal.reason, "CONSENT_REFUSED" | "LEGAL_BASIS_INCOMPLETE")
}

/// A source may send a consent anew, and it counts as the source says it. Not after a step that was taken here: a feed that
/// repeats itself must not undo a revocation. And what a feed left unresolved an officer resolves.
fn next_revision(opened: &Opened, id: &str) -> Result<u64, Refusal> {
    let Some(present) = opened.find(id).and_then(|place| opened.set.consents.get(place)) else {
        return Ok(1);
    };
    let body = &present.body;
    if body.unresolved {
        return Err(Refusal::new(
            Kind::FailedPrecondition,
            "CONSENT_UNRESOLVED",
            "an earlier version could not be read: an officer must supersede it or mark it as an error",
        ));
    }
    let as_sent = recorded_state(body) == consent_head(&body.fhir).state;
    if body.grantor.is_some() || body.confidential || !as_sent {
        return Err(changed_here());
    }
    Ok(body.revision + 1)
}

fn changed_here() -> Refusal {
    Refusal::new(
        Kind::FailedPrecondition,
        "CONSENT_CHANGED_HERE",
        "this consent was recorded, changed or resolved here since: record one that supersedes it",
    )
}
