//! Consents as messages say them, into what the custodian takes, and back.

use assent_ledger::consent::{Directive, Effect, Scope};
use assent_proto::ledger::v1::Grantor;
use assent_proto::v1::{
    self as said, new_consent, DirectiveScope, Neutralised, PreviewConsentResponse, ResourceChange,
};

use crate::custodian::{Form, NewConsent, Preview, Probe, ProbeEffect};
use crate::grpc::auth::{Client, Role};
use crate::grpc::border::{self, malformed};
use crate::refusal::Refusal;

/// Longest id of a consent, in bytes: an identifier's system and value.
const MAX_CONSENT_ID_BYTES: usize = 4096;
/// Most items in one list of a directive, most exceptions, and most consents that one takes the place of.
const MAX_ITEMS: usize = 100;
/// Longest name of a legal authority, in bytes.
const MAX_AUTHORITY_BYTES: usize = 64;

pub fn consent_id(field: &str, id: &str) -> Result<(), Refusal> {
    if (1..=MAX_CONSENT_ID_BYTES).contains(&id.len()) {
        return Ok(());
    }
    Err(malformed(field, format!("{} bytes, 1 to {MAX_CONSENT_ID_BYTES} needed", id.len())))
}

fn few<T>(field: &str, items: &[T]) -> Result<(), Refusal> {
    match items.len() {
        found if found <= MAX_ITEMS => Ok(()),
        found => Err(malformed(field, format!("{found} items, at most {MAX_ITEMS}"))),
    }
}

fn distinct_ids(ids: &[String]) -> Result<(), Refusal> {
    few("supersedes", ids)?;
    for (n, id) in ids.iter().enumerate() {
        let field = format!("supersedes[{n}]");
        consent_id(&field, id)?;
        if ids.iter().take(n).any(|other| other == id) {
            return Err(malformed(&field, "stands there twice"));
        }
    }
    Ok(())
}

/// A consent to record.
pub fn new_consent(
    client: &Client,
    consent: Option<said::NewConsent>,
    supersedes: Vec<String>,
) -> Result<NewConsent, Refusal> {
    distinct_ids(&supersedes)?;
    let consent = consent.ok_or_else(|| malformed("consent", "missing"))?;
    let legal_basis =
        consent.legal_basis.try_into().map_err(|_| malformed("consent.legal_basis", "unknown"))?;
    if let Some(grantor) = &consent.grantor {
        check_grantor(grantor)?;
        if consent.confidential {
            return Err(malformed(
                "consent.confidential",
                "hides what patients grant themselves, not a grantor's",
            ));
        }
    }
    let evidence = consent.evidence_sha256;
    if !evidence.is_empty() {
        border::bytes::<32>("consent.evidence_sha256", &evidence)?;
    }
    let form = match consent.form {
        None => return Err(malformed("consent.form", "neither a directive nor a FHIR Consent")),
        Some(new_consent::Form::Fhir(fhir)) => {
            border::document("consent.fhir", &fhir, border::MAX_DOCUMENT_BYTES)?;
            Form::Fhir(fhir)
        }
        Some(new_consent::Form::Directive(directive)) => Form::Directive(self::directive(directive)?),
    };
    Ok(NewConsent {
        form,
        lenient: consent.lenient,
        grantor: consent.grantor,
        legal_basis,
        evidence_sha256: evidence,
        confidential: consent.confidential,
        by_officer: client.role == Role::Officer,
        supersedes,
    })
}

/// Its form alone; what is missing, and whether it counts, is judged with the patient.
fn check_grantor(grantor: &Grantor) -> Result<(), Refusal> {
    if !grantor.authority.is_empty() {
        border::text("consent.grantor.authority", &grantor.authority, MAX_AUTHORITY_BYTES)?;
    }
    if !grantor.evidence_sha256.is_empty() {
        border::bytes::<32>("consent.grantor.evidence_sha256", &grantor.evidence_sha256)?;
    }
    Ok(())
}

fn directive(directive: said::Directive) -> Result<Directive, Refusal> {
    let field = "consent.directive";
    let effect = match directive.effect() {
        said::Effect::Permit => Effect::Permit,
        said::Effect::Deny => Effect::Deny,
        said::Effect::Unspecified => {
            return Err(malformed(&format!("{field}.effect"), "neither permit nor deny"))
        }
    };
    few(&format!("{field}.exceptions"), &directive.exceptions)?;
    let exceptions = directive.exceptions.into_iter().enumerate();
    let exceptions = exceptions.map(|(n, exception)| scope(&format!("{field}.exceptions[{n}]"), exception));
    let moment = |name: &str, ms: u64| match ms {
        0 => Ok(None),
        ms => i64::try_from(ms).map(Some).map_err(|_| malformed(&format!("{field}.{name}"), "out of range")),
    };
    Ok(Directive {
        effect,
        scope: scope(&format!("{field}.scope"), directive.scope.unwrap_or_default())?,
        valid_from_ms: moment("valid_from_ms", directive.valid_from_ms)?,
        valid_until_ms: moment("valid_until_ms", directive.valid_until_ms)?,
        exceptions: exceptions.collect::<Result<_, _>>()?,
    })
}

fn scope(field: &str, scope: DirectiveScope) -> Result<Scope, Refusal> {
    let DirectiveScope { organizations, practitioners, purposes, actions, resource_types, sensitivity } =
        scope;
    let lists = [
        ("organizations", &organizations),
        ("practitioners", &practitioners),
        ("purposes", &purposes),
        ("actions", &actions),
        ("resource_types", &resource_types),
        ("sensitivity", &sensitivity),
    ];
    for (name, list) in lists {
        few(&format!("{field}.{name}"), list)?;
        for (n, item) in list.iter().enumerate() {
            border::text(&format!("{field}.{name}[{n}]"), item, border::MAX_ACTOR_BYTES)?;
        }
    }
    Ok(Scope { organizations, practitioners, purposes, actions, resource_types, sensitivity })
}

/// One access that a preview is worked out for.
pub fn probe(n: usize, probe: said::Probe) -> Result<Probe, Refusal> {
    let of = |name: &str| format!("probes[{n}].{name}");
    border::organization(&of("recipient"), &probe.recipient)?;
    border::code(&of("purpose"), &probe.purpose)?;
    if !probe.actor.is_empty() {
        border::text(&of("actor"), &probe.actor, border::MAX_ACTOR_BYTES)?;
    }
    let action = match probe.action.as_str() {
        "" => "access".to_owned(),
        action => {
            border::code(&of("action"), action)?;
            probe.action
        }
    };
    Ok(Probe { recipient: probe.recipient, actor: probe.actor, purpose: probe.purpose, action })
}

/// What a change would do.
pub fn preview(preview: Preview, answer: said::Answer) -> PreviewConsentResponse {
    let effects = preview.effects.into_iter().map(|ProbeEffect { probe, changes, neutralised }| {
        let Probe { recipient, actor, purpose, action } = probe;
        let changes = changes.into_iter().map(|(resource, before, after, decided_by)| ResourceChange {
            resource,
            before: before.to_owned(),
            after: after.to_owned(),
            decided_by,
        });
        let neutralised = neutralised.into_iter().map(|(resource, outcome, by)| Neutralised {
            resource,
            outcome: outcome.to_owned(),
            by,
        });
        said::ProbeEffect {
            probe: Some(said::Probe { recipient, actor, purpose, action }),
            changes: changes.collect(),
            neutralised: neutralised.collect(),
        }
    });
    PreviewConsentResponse {
        answer: Some(answer),
        effects: effects.collect(),
        rules: preview.rules,
        still_denied: preview.still_denied,
    }
}
