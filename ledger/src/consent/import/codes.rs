//! FHIR's data types as a consent uses them: Coding, CodeableConcept, Identifier, Reference.

use super::reader::{Findings, Object};
use crate::consent::issue::quoted;
use crate::consent::Reference;

pub const CONSENT_ACTION: &str = "http://terminology.hl7.org/CodeSystem/consentaction";
pub const CONSENT_CATEGORY: &str = "http://terminology.hl7.org/CodeSystem/consentcategorycodes";
pub const CONSENT_POLICY: &str = "http://terminology.hl7.org/CodeSystem/consentpolicycodes";
pub const CONSENT_SCOPE: &str = "http://terminology.hl7.org/CodeSystem/consentscope";
pub const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
pub const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
pub const ROLE_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleCode";
pub const RESOURCE_TYPES: &str = "http://hl7.org/fhir/resource-types";
pub const LOINC: &str = "http://loinc.org";

/// A code within its system, and where it stood.
pub struct Coding<'a> {
    pub system: &'a str,
    pub code: &'a str,
    pub path: String,
}

/// CONSENT.md, "Refuse also": codes without system, value-set urls used as systems.
pub fn coding<'a>(mut object: Object<'a>, to: &mut Findings) -> Option<Coding<'a>> {
    let (system, code) = (object.text("system", to), object.text("code", to));
    for key in ["version", "display", "userSelected"] {
        object.take(key);
    }
    let path = object.path.clone();
    match (system, code) {
        (None, _) => to.refuse("code-without-system", &path, "a code means nothing without its system"),
        (_, None) => to.refuse("uncoded-concept", &path, "no code"),
        (Some(system), _) if system.contains("/ValueSet/") => {
            to.refuse(
                "value-set-as-system",
                &path,
                format!("{} is a value set, not a code system", quoted(system)),
            );
        }
        (Some(_), Some(_)) => {}
    }
    object.finish(to);
    let (system, code) = (system?, code?);
    (!system.contains("/ValueSet/")).then_some(Coding { system, code, path })
}

/// All codings of a concept; text alone can't be evaluated.
pub fn concept<'a>(mut object: Object<'a>, to: &mut Findings) -> Vec<Coding<'a>> {
    object.take("text");
    let found = object.objects("coding", to);
    if found.is_none() {
        to.refuse("uncoded-concept", &object.path, "text alone can't be evaluated; a coding is needed");
    }
    object.finish(to);
    found.unwrap_or_default().into_iter().filter_map(|c| coding(c, to)).collect()
}

/// The one coding of a concept. Several are translations of one another, which nobody here can check.
pub fn one_coding<'a>(object: Object<'a>, to: &mut Findings) -> Option<Coding<'a>> {
    let path = object.path.clone();
    let mut found = concept(object, to);
    if found.len() > 1 {
        to.refuse("multiple-codings", &path, "several codings, where which of them holds would be a guess");
    }
    found.pop()
}

pub fn unknown_system(coding: &Coding, to: &mut Findings) {
    to.refuse("unknown-code-system", &coding.path, format!("{} isn't evaluated here", quoted(coding.system)));
}

pub fn unknown_code(coding: &Coding, to: &mut Findings) {
    let message =
        format!("{} is no code of {} that can stand here", quoted(coding.code), quoted(coding.system));
    to.refuse("unknown-code", &coding.path, message);
}

/// `(system, value)` of a business identifier, where it has both.
pub fn identifier<'a>(mut object: Object<'a>, to: &mut Findings) -> Option<(&'a str, &'a str)> {
    let found = (object.text("system", to), object.text("value", to));
    for key in ["use", "type", "period", "assigner"] {
        object.take(key);
    }
    object.finish(to);
    found.0.zip(found.1)
}

/// A reference that can be told from any other, with the resource type it names or states.
pub struct Target {
    pub reference: Reference,
    pub kind: Option<String>,
    pub path: String,
}

/// CONSENT.md, "Refuse also": unresolvable and display-only references. A logical reference by identifier resolves in
/// the custodian's registry; a reference and an identifier together might name two, which can't be checked here.
pub fn reference(mut object: Object, to: &mut Findings) -> Option<Target> {
    let path = object.path.clone();
    let literal = object.text("reference", to);
    let stated = object.text("type", to);
    let identified = object.has("identifier");
    let by_identifier = object.object("identifier", to).and_then(|i| identifier(i, to));
    object.take("display");
    object.finish(to);
    let reference = match (literal, identified) {
        (Some(_), true) => {
            to.refuse("ambiguous-reference", &path, "both a reference and an identifier; they may name two");
            return None;
        }
        (None, false) => {
            to.refuse("display-only-reference", &path, "neither a reference nor an identifier");
            return None;
        }
        (Some(text), false) => literal_reference(text),
        (None, true) => {
            by_identifier.map(|(s, v)| Reference::Identifier { system: s.to_owned(), value: v.to_owned() })
        }
    };
    let Some(reference) = reference else {
        let message = "only Type/id, or an identifier with system and value, can be resolved";
        to.refuse("unresolvable-reference", &path, message);
        return None;
    };
    let named = match &reference {
        Reference::Literal(text) => text.split_once('/').map(|(kind, _)| kind),
        Reference::Identifier { .. } => None,
    };
    if let (Some(named), Some(stated)) = (named, stated) {
        if named != stated {
            to.refuse("bad-reference", &path, format!("refers to a {named} and says {}", quoted(stated)));
            return None;
        }
    }
    let kind = named.or(stated).map(str::to_owned);
    Some(Target { reference, kind, path })
}

fn literal_reference(text: &str) -> Option<Reference> {
    let (kind, id) = text.split_once('/')?;
    let sound = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphabetic()) && is_id(id);
    sound.then(|| Reference::Literal(text.to_owned()))
}

/// FHIR's `id`.
pub fn is_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}
