//! A patient's will in few words, written as a FHIR R4 Consent that `import_consent` reads as just that.
//!
//! ```text
//!   effect, scope ........ the root's type and its conditions      base, context, root rule
//!   exceptions ........... provisions of the opposite type         one rule each, within the root's context
//! ```
//!
//! What R4 and the import of it can't say without a guess is refused with a reason, and never narrowed: a deny that is cut
//! down by its context releases what the patient meant to keep.

use serde_json::{json, Map, Value};

use super::dates;
use super::import::{
    is_id, ACT_REASON, CONSENT_ACTION, CONSENT_SCOPE, LOINC, MAX_RULES, PARTICIPATION, RESOURCE_TYPES,
};
use super::model::{Effect, Reference};
use super::request::ACTIONS;
use super::resource::ACT_CODE;
use super::tables;

/// Identifier system by which consents name organizations of the network.
pub const ORGANIZATION_SYSTEM: &str = "urn:assent:organization";

/// Resource types that a literal reference to a person may have.
const PERSONS: [&str; 3] = ["Practitioner", "RelatedPerson", "Patient"];

/// A directive: what it does, to whom, for what, about what, and where the contrary holds. An empty list means any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    pub effect: Effect,
    pub scope: Scope,
    /// First moment at which it holds, in milliseconds since 1970 UTC.
    pub valid_from_ms: Option<i64>,
    /// First moment at which it no longer holds.
    pub valid_until_ms: Option<i64>,
    pub exceptions: Vec<Scope>,
}

/// To whom, for what, about what. All of it must hold; within one list, any item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Organization ids of the network.
    pub organizations: Vec<String>,
    /// REFs of persons: `Practitioner/x`, or `system|value`.
    pub practitioners: Vec<String>,
    pub purposes: Vec<String>,
    pub actions: Vec<String>,
    pub resource_types: Vec<String>,
    pub sensitivity: Vec<String>,
}

/// Why a directive can't be written, and where: `scope.purposes[0]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct DirectiveFault {
    /// `UPPER_SNAKE_CASE`.
    pub reason: &'static str,
    pub field: String,
    pub message: &'static str,
}

fn fault<T>(
    reason: &'static str,
    field: impl Into<String>,
    message: &'static str,
) -> Result<T, DirectiveFault> {
    Err(DirectiveFault { reason, field: field.into(), message })
}

/// The FHIR R4 Consent that says a directive: active, of `patient` ("Patient/x"), given at `at_ms`, under `id`.
pub fn compose_consent(
    directive: &Directive,
    id: &str,
    patient: &str,
    at_ms: i64,
) -> Result<Vec<u8>, DirectiveFault> {
    check(directive)?;
    let opposite = if directive.effect == Effect::Permit { Effect::Deny } else { Effect::Permit };
    let mut root = provision(directive.effect, &directive.scope);
    if let Some(period) = period(directive)? {
        root.insert("period".to_owned(), period);
    }
    if !directive.exceptions.is_empty() {
        let nested = directive.exceptions.iter().map(|scope| Value::from(provision(opposite, scope)));
        root.insert("provision".to_owned(), nested.collect());
    }
    let policy = if directive.effect == Effect::Permit { "OPTIN" } else { "OPTOUT" };
    let purposes = &directive.scope.purposes;
    let is_research = !purposes.is_empty() && purposes.iter().all(|p| tables::purpose_within(p, "HRESCH"));
    let scope = if is_research { "research" } else { "patient-privacy" };
    let Some(given) = moment(at_ms) else {
        return fault("DATE_OUT_OF_RANGE", "date_time", "no FHIR dateTime can say it");
    };
    let consent = json!({
        "resourceType": "Consent",
        "id": id,
        "status": "active",
        "scope": { "coding": [{ "system": CONSENT_SCOPE, "code": scope }] },
        "category": [{ "coding": [{ "system": LOINC, "code": "59284-0" }] }],
        "patient": { "reference": patient },
        "dateTime": given,
        "policyRule": { "coding": [{ "system": ACT_CODE, "code": policy }] },
        "provision": root,
    });
    Ok(consent.to_string().into_bytes())
}

fn check(directive: &Directive) -> Result<(), DirectiveFault> {
    check_scope("scope", &directive.scope)?;
    if directive.exceptions.len() > MAX_RULES {
        return fault("TOO_MANY_EXCEPTIONS", "exceptions", "more than 1,000 are not evaluated");
    }
    let root = &directive.scope;
    if !directive.exceptions.is_empty() && (!root.resource_types.is_empty() || !root.sensitivity.is_empty()) {
        return fault(
            "EXCEPTIONS_TO_DATA",
            "exceptions",
            "FHIR has two readings of exceptions where the scope names resource types or sensitivity: record two consents",
        );
    }
    for (n, exception) in directive.exceptions.iter().enumerate() {
        let field = format!("exceptions[{n}]");
        if *exception == Scope::default() {
            return fault("EMPTY_EXCEPTION", field, "an exception from everything; name what it is about");
        }
        check_scope(&field, exception)?;
        check_within(&field, root, exception)?;
    }
    Ok(())
}

fn check_scope(field: &str, scope: &Scope) -> Result<(), DirectiveFault> {
    if !scope.organizations.is_empty() && !scope.practitioners.is_empty() {
        return fault(
            "MIXED_RECIPIENTS",
            field,
            "organizations and persons in one list are alternatives in FHIR, not both at once: record two consents",
        );
    }
    let unknown = |list: &str, items: &[String], known: &dyn Fn(&str) -> bool, message| match items
        .iter()
        .position(|item| !known(item))
    {
        Some(n) => fault("UNKNOWN_CODE", format!("{field}.{list}[{n}]"), message),
        None => Ok(()),
    };
    let organization = |id: &str| crate::encoding::is_id(id);
    unknown("organizations", &scope.organizations, &organization, "not an organization id")?;
    let person = |text: &str| person(text).is_some();
    unknown("practitioners", &scope.practitioners, &person, "neither Practitioner/x nor system|value")?;
    unknown("purposes", &scope.purposes, &is_purpose, "no purpose of HL7's v3 ActReason")?;
    let action = |code: &str| ACTIONS.contains(&code);
    unknown("actions", &scope.actions, &action, "not one of access, collect, correct, disclose, use")?;
    unknown("resource_types", &scope.resource_types, &tables::is_resource_type, "no FHIR R4 resource type")?;
    let label = |code: &str| tables::is_sensitivity(code) && !tables::is_abstract(code);
    unknown("sensitivity", &scope.sensitivity, &label, "no sensitivity of HL7's v3 ActCode")
}

/// The root of the purposes names none.
fn is_purpose(code: &str) -> bool {
    tables::is_purpose(code) && code != tables::ANY_PURPOSE
}

/// An exception holds within the scope alone. One that reaches beyond would be cut down silently.
fn check_within(field: &str, root: &Scope, exception: &Scope) -> Result<(), DirectiveFault> {
    let outside = |list: &str, outer: &[String], inner: &[String], within: &dyn Fn(&str, &str) -> bool| {
        let covered = |item: &String| outer.iter().any(|listed| within(item, listed));
        match inner.iter().position(|item| !outer.is_empty() && !covered(item)) {
            Some(n) => fault(
                "EXCEPTION_OUTSIDE_SCOPE",
                format!("{field}.{list}[{n}]"),
                "the scope does not cover it, so that the exception would say nothing: record it by itself",
            ),
            None => Ok(()),
        }
    };
    let same = |item: &str, listed: &str| item == listed;
    outside("organizations", &root.organizations, &exception.organizations, &same)?;
    outside("practitioners", &root.practitioners, &exception.practitioners, &same)?;
    outside("purposes", &root.purposes, &exception.purposes, &tables::purpose_within)?;
    outside("actions", &root.actions, &exception.actions, &same)
}

fn provision(effect: Effect, scope: &Scope) -> Map<String, Value> {
    let kind = if effect == Effect::Permit { "permit" } else { "deny" };
    let mut found = Map::new();
    found.insert("type".to_owned(), kind.into());
    let mut put = |key: &str, list: Vec<Value>| {
        if !list.is_empty() {
            found.insert(key.to_owned(), list.into());
        }
    };
    let coded = |system: &str, codes: &[String]| -> Vec<Value> {
        codes.iter().map(|code| json!({ "system": system, "code": code })).collect()
    };
    let organizations = scope.organizations.iter().map(
        |id| json!({ "type": "Organization", "identifier": { "system": ORGANIZATION_SYSTEM, "value": id } }),
    );
    let persons = scope.practitioners.iter().filter_map(|text| person(text));
    let role = json!({ "coding": [{ "system": PARTICIPATION, "code": "IRCP" }] });
    let actor = |reference: Value| json!({ "role": role, "reference": reference });
    put("actor", organizations.chain(persons).map(actor).collect());
    let actions = coded(CONSENT_ACTION, &scope.actions);
    put("action", actions.into_iter().map(|coding| json!({ "coding": [coding] })).collect());
    put("purpose", coded(ACT_REASON, &scope.purposes));
    put("class", coded(RESOURCE_TYPES, &scope.resource_types));
    put("securityLabel", coded(ACT_CODE, &scope.sensitivity));
    found
}

/// A person as a FHIR reference. The kind stands beside an identifier: without, a request that states no person would slip
/// past a deny.
fn person(text: &str) -> Option<Value> {
    match Reference::parse(text)? {
        Reference::Literal(text) => {
            let (kind, id) = text.split_once('/')?;
            (PERSONS.contains(&kind) && is_id(id)).then(|| json!({ "reference": text }))
        }
        Reference::Identifier { system, value } => {
            Some(json!({ "type": "Practitioner", "identifier": { "system": system, "value": value } }))
        }
    }
}

/// FHIR's end is inclusive to its precision: the last millisecond, or the last day.
fn period(directive: &Directive) -> Result<Option<Value>, DirectiveFault> {
    let (from, until) = (directive.valid_from_ms, directive.valid_until_ms);
    if from.zip(until).is_some_and(|(from, until)| from >= until) {
        return fault("EMPTY_PERIOD", "valid_until_ms", "it ends before it starts");
    }
    let mut found = Map::new();
    let bounds = [("start", "valid_from_ms", from, 0), ("end", "valid_until_ms", until, 1)];
    for (key, field, bound, inclusive) in bounds {
        let Some(bound_ms) = bound else { continue };
        let text = moment(bound_ms - inclusive).map(|text| match bound_ms.rem_euclid(dates::DAY_MS) {
            0 => text.split('T').next().unwrap_or_default().to_owned(),
            _ => text,
        });
        let Some(text) = text else {
            return fault("DATE_OUT_OF_RANGE", field, "no FHIR dateTime can say it");
        };
        found.insert(key.to_owned(), text.into());
    }
    Ok((!found.is_empty()).then(|| found.into()))
}

/// A moment to the millisecond, in UTC; none outside the years 1 to 9999.
fn moment(at_ms: i64) -> Option<String> {
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000).ok()?;
    let (hour, minute, second, milli) = at.time().as_hms_milli();
    let sound = (1..=9999).contains(&at.year());
    sound.then(|| format!("{}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z", at.date()))
}
