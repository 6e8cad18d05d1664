//! FHIR's data types as a consent uses them: Coding, CodeableConcept, Identifier, Reference.

use super::reader::{Findings, Object};
use crate::consent::issue::quoted;
use crate::consent::resource::{ACT_CODE, CONFIDENTIALITY};
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

/// Other names that the field has for these systems: HL7's before R4 and its OIDs. Only a lenient import takes them.
const ALIASES: [(&str, &str); 25] = [
    ("http://hl7.org/fhir/consentaction", CONSENT_ACTION),
    ("urn:oid:2.16.840.1.113883.4.642.4.1227", CONSENT_ACTION),
    ("http://hl7.org/fhir/consentcategorycodes", CONSENT_CATEGORY),
    ("urn:oid:2.16.840.1.113883.4.642.4.1226", CONSENT_CATEGORY),
    ("http://hl7.org/fhir/consentpolicycodes", CONSENT_POLICY),
    ("urn:oid:2.16.840.1.113883.4.642.4.1229", CONSENT_POLICY),
    ("http://hl7.org/fhir/consentscope", CONSENT_SCOPE),
    ("urn:oid:2.16.840.1.113883.4.642.4.1228", CONSENT_SCOPE),
    ("http://hl7.org/fhir/v3/ActReason", ACT_REASON),
    ("urn:oid:2.16.840.1.113883.5.8", ACT_REASON),
    ("http://hl7.org/fhir/v3/ActCode", ACT_CODE),
    ("urn:oid:2.16.840.1.113883.5.4", ACT_CODE),
    ("http://hl7.org/fhir/v3/Confidentiality", CONFIDENTIALITY),
    ("urn:oid:2.16.840.1.113883.5.25", CONFIDENTIALITY),
    ("http://hl7.org/fhir/v3/ParticipationType", PARTICIPATION),
    ("urn:oid:2.16.840.1.113883.5.90", PARTICIPATION),
    ("http://hl7.org/fhir/v3/RoleCode", ROLE_CODE),
    ("urn:oid:2.16.840.1.113883.5.111", ROLE_CODE),
    ("http://terminology.hl7.org/CodeSystem/resource-types", RESOURCE_TYPES),
    ("http://hl7.org/fhir/CodeSystem/resource-types", RESOURCE_TYPES),
    ("https://loinc.org", LOINC),
    ("urn:oid:2.16.840.1.113883.6.1", LOINC),
    ("https://snomed.info/sct", "http://snomed.info/sct"),
    ("urn:oid:2.16.840.1.113883.6.96", "http://snomed.info/sct"),
    ("urn:oid:2.16.840.1.113883.6.88", "http://www.nlm.nih.gov/research/umls/rxnorm"),
];

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
    let system = known_by(system, &path, to);
    (!system.contains("/ValueSet/")).then_some(Coding { system, code, path })
}

/// A system by the name that R4 gives it, where a lenient import knows it by another.
fn known_by<'a>(system: &'a str, path: &str, to: &mut Findings) -> &'a str {
    match ALIASES.iter().find(|(alias, _)| to.is_lenient && *alias == system) {
        Some((_, name)) => {
            to.note("lenient-code-system", path, format!("{} read as {name}", quoted(system)));
            name
        }
        None => system,
    }
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
    let path = object.path.clone();
    object.finish(to);
    let (system, value) = found.0.zip(found.1)?;
    if system.contains('|') {
        // `a|b` + `c` would be written like `a` + `b|c`, where identifiers are compared as texts.
        to.refuse("bad-identifier", &path, "an identifier's system must not hold a |");
    }
    if [system, value].into_iter().any(has_hidden_characters) {
        to.refuse(
            "hidden-characters",
            &path,
            "characters that can't be seen make two identifiers look alike",
        );
    }
    Some((system, value))
}

/// Control, bidirectional and zero-width characters. Letters of other scripts that look alike are told apart by their
/// bytes, as everything here is; these can't even be seen.
pub fn has_hidden_characters(text: &str) -> bool {
    text.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    })
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
