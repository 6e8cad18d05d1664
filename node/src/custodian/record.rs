//! A new consent: as FHIR or in few words, alone or in the place of others, all in one entry or not at all.

use assent_ledger::consent::{
    compose_consent, import_consent, import_consent_leniently, read_body, recorded_state, ConsentState,
    Directive, DirectiveFault, Imported, Step, StepFault,
};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    ConsentBody, ConsentState as RecordedState, Grantor, LegalBasis as RecordedBasis,
};

use super::changing::{Opened, Reply, Write};
use super::checks::{check_elements, check_grantor, check_subject};
use super::consents::{id_of, refused};
use super::opened::LOST_CONSENTS;
use super::{fresh_bytes, Custodian, PatientName, Queued, RecordedConsent};
use crate::refusal::{Kind, Refusal};

/// How a consent is said.
#[derive(Clone)]
pub enum Form {
    /// In few words.
    Directive(Directive),
    /// FHIR R4 Consent as JSON.
    Fhir(Vec<u8>),
}

/// A consent to record.
#[derive(Clone)]
pub struct NewConsent {
    /// How it is said.
    pub form: Form,
    /// Take the leniencies that CONSENT.md names.
    pub lenient: bool,
    /// Who grants it, when that is not the patient.
    pub grantor: Option<Grantor>,
    /// The law that it rests on, when the FHIR Consent does not say it.
    pub legal_basis: RecordedBasis,
    /// SHA-256 of the signed form, or empty.
    pub evidence_sha256: Vec<u8>,
    /// A minor's own, hidden from representatives.
    pub confidential: bool,
    /// An officer records it: only an officer resolves what a feed left unresolved.
    pub by_officer: bool,
    /// Ids of the consents whose place it takes.
    pub supersedes: Vec<String>,
}

opaque_debug!(Form, NewConsent);

/// A new consent that stands in an opened set.
pub(super) struct Applied {
    pub id: String,
    pub revision: u64,
    pub imported: Imported,
}

impl Custodian {
    /// Records a consent; those that it supersedes change in the same entry. `body_hash` is of all that is asked for.
    pub async fn record_consent(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        patient: PatientName,
        new: NewConsent,
        control_key: Option<[u8; 32]>,
    ) -> Result<RecordedConsent, Refusal> {
        let write = Write { client, request_id, body_hash };
        let prepare = || self.prepare_record(write, &patient, &new, control_key);
        RecordedConsent::of(self.change(write, prepare).await?)
    }

    fn prepare_record(
        &self,
        write: Write<'_>,
        patient: &PatientName,
        new: &NewConsent,
        control_key: Option<[u8; 32]>,
    ) -> Result<Queued, Refusal> {
        let view = self.parts.store.view()?;
        let mut opened = match new.supersedes.iter().any(|id| id == LOST_CONSENTS) {
            false => self.open_patient(&view, patient)?,
            true if new.by_officer => self.open_lost(&view, patient)?,
            true => return Err(officer_needed("only an officer can begin a patient's consents anew")),
        };
        let Applied { id: consent_id, revision, imported } = self.apply_new(&mut opened, new)?;
        let key = opened.new_key(control_key)?;
        let reply = Reply { consent_id, revision, rules: imported.sentences, ..Reply::default() };
        self.queue_set(write, opened, key, reply)
    }

    /// Puts a new consent into an opened set, and takes those that it supersedes out of force.
    pub(super) fn apply_new(&self, opened: &mut Opened, new: &NewConsent) -> Result<Applied, Refusal> {
        if let Some(grantor) = &new.grantor {
            check_grantor(grantor, &opened.subject, opened.time_ms)?;
        }
        let fhir = match &new.form {
            Form::Directive(directive) => self.composed(opened, directive)?,
            Form::Fhir(fhir) => fhir.clone(),
        };
        let first = read_fhir(&fhir, new.lenient).map_err(|issues| refused(&issues))?;
        check_subject(&opened.subject, &first)?;
        let id = id_of(&first);
        let revision = next_revision(opened, &id, &new.supersedes)?;
        let body = ConsentBody {
            revision,
            lenient: new.lenient,
            grantor: new.grantor.clone(),
            legal_basis: new.legal_basis.into(),
            evidence_sha256: new.evidence_sha256.clone(),
            supersedes: new.supersedes.clone(),
            confidential: new.confidential,
            ..self.first_body(&opened.subject.handle, &id, first.consent.state, fhir)
        };
        // From here on as it will be read for every decision, with what is recorded beside the FHIR.
        let imported =
            read_body(&body, &opened.subject.patient_reference).map_err(|issues| refused(&issues))?;
        if imported.consent.state == ConsentState::Active {
            opened.must_not_be_frozen()?;
            check_elements(&imported.consent)?;
        } else if !new.supersedes.is_empty() {
            return Err(Refusal::invalid(
                "SUPERSEDING_NOT_ACTIVE",
                "supersedes",
                "a consent that is not active takes no other's place: nothing would stand",
            ));
        }
        for (n, superseded) in new.supersedes.iter().enumerate() {
            if opened.lost.is_some() && superseded == LOST_CONSENTS {
                continue;
            }
            supersede(opened, superseded, new)
                .map_err(|refusal| refusal.with("field", format!("supersedes[{n}]")))?;
        }
        opened.put(body);
        Ok(Applied { id, revision, imported })
    }

    fn composed(&self, opened: &Opened, directive: &Directive) -> Result<Vec<u8>, Refusal> {
        let present = self.parts.members.present();
        for scope in [&directive.scope].into_iter().chain(&directive.exceptions) {
            for organization in &scope.organizations {
                if present.organization(organization).is_none() {
                    let message = format!(
                        "no organization {organization} in this network: a rule about it would say nothing"
                    );
                    return Err(Refusal::invalid("UNKNOWN_ORGANIZATION", "consent.directive", message));
                }
            }
        }
        if directive.valid_until_ms.is_some_and(|end| end <= opened.time_ms) {
            let field = "consent.directive.valid_until_ms";
            let message = format!("{field}: it is over already at the present block time");
            return Err(Refusal::invalid("DIRECTIVE_ENDED", field, message));
        }
        let id = hex::encode(&fresh_bytes()[..16]);
        let refused = |DirectiveFault { reason, field, message }| {
            let field = format!("consent.directive.{field}");
            Refusal::invalid(reason, &field, format!("{field}: {message}"))
        };
        compose_consent(directive, &id, &opened.subject.patient_reference, opened.time_ms).map_err(refused)
    }
}

pub(super) fn read_fhir(fhir: &[u8], lenient: bool) -> Result<Imported, Vec<assent_ledger::consent::Issue>> {
    match lenient {
        true => import_consent_leniently(fhir),
        false => import_consent(fhir),
    }
}

/// A new consent takes a free id, or the id of one that it supersedes: then as its next revision.
fn next_revision(opened: &Opened, id: &str, supersedes: &[String]) -> Result<u64, Refusal> {
    let present = opened.find(id).and_then(|place| opened.set.consents.get(place));
    match present {
        None if !opened.lost.as_ref().is_some_and(|earlier| earlier.contains(id)) => return Ok(1),
        Some(present) if supersedes.iter().any(|superseded| superseded == id) => {
            return Ok(present.body.revision + 1)
        }
        _ => {}
    }
    Err(Refusal::new(
        Kind::AlreadyExists,
        "CONSENT_ID_TAKEN",
        "the patient has a consent with this id: name it in supersedes to take its place, or choose another id",
    ))
}

pub(super) fn step_refused(fault: StepFault) -> Refusal {
    let StepFault { from, step } = fault;
    let done = if step == Step::Supersede { "superseded" } else { "revoked" };
    Refusal::new(
        Kind::FailedPrecondition,
        "CONSENT_NOT_ACTIVE",
        format!("the consent is {}, and can't be {done}", RecordedState::from(from).as_str_name()),
    )
}

/// The next revision of a consent, in another state.
pub(super) fn in_state(body: &ConsentBody, state: ConsentState) -> ConsentBody {
    ConsentBody { revision: body.revision + 1, state: RecordedState::from(state).into(), ..body.clone() }
}

fn officer_needed(message: &str) -> Refusal {
    Refusal::new(Kind::PermissionDenied, "OFFICER_NEEDED", message)
}

fn supersede(opened: &mut Opened, id: &str, new: &NewConsent) -> Result<(), Refusal> {
    let found = opened.find(id).and_then(|place| opened.set.consents.get(place));
    // For a representative a minor's own consent isn't there.
    let found = found.filter(|record| new.grantor.is_none() || !record.body.confidential);
    let body = found.map(|record| record.body.clone()).ok_or_else(|| {
        let message = "the patient has no consent with this id that could be superseded";
        Refusal::new(Kind::NotFound, "SUPERSEDES_NOT_FOUND", message)
    })?;
    if body.unresolved && !new.by_officer {
        return Err(officer_needed("the consent can't be read, so only an officer can resolve it"));
    }
    let state = recorded_state(&body).unwrap_or(ConsentState::Active);
    let state = state.after(Step::Supersede).map_err(step_refused)?;
    opened.put(in_state(&body, state));
    Ok(())
}
