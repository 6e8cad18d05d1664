//! A FHIR R4 Consent, read losslessly or refused (CONSENT.md, FHIR R4 Consent): a deny that is skipped widens access.
//!
//! ```text
//!   bytes --json--> every key once --this file--> status, scope, patient, policyRule
//!                                  --provision--> provisions as written --nesting--> base, rules
//!   any error on the way: all of them, and no consent
//! ```

mod codes;
mod dates;
mod nesting;
mod provision;
mod reader;

use codes::Coding;
use nesting::Around;
use reader::{Findings, Object};
use serde_json::Value;

use super::issue::{quoted, Issue};
use super::json::{self, JsonFault};
use super::model::{Consent, ConsentState, Effect, LegalBasis, Reference};
use super::resource::{ACT_CODE, PART2_LABEL};
use super::words;

/// Bytes of one Consent.
pub const MAX_CONSENT_BYTES: usize = 1024 * 1024;

/// A consent, what is worth knowing of how it was read, and its rules in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub consent: Consent,
    pub notes: Vec<Issue>,
    pub sentences: Vec<String>,
}

/// Reads one Consent. An expired or inactive one imports as history; its state says that nothing stands.
pub fn import_consent(bytes: &[u8]) -> Result<Imported, Vec<Issue>> {
    let mut findings = Findings::default();
    let consent = match json::parse(bytes, MAX_CONSENT_BYTES) {
        Ok(value) => read(&value, &mut findings),
        Err(JsonFault { reason, message }) => {
            findings.refuse(reason, "Consent", message);
            None
        }
    };
    match consent {
        Some(consent) if findings.errors.is_empty() => {
            let sentences = words::sentences(&consent);
            Ok(Imported { consent, notes: findings.notes, sentences })
        }
        _ => Err(findings.errors),
    }
}

fn read(value: &Value, to: &mut Findings) -> Option<Consent> {
    let mut object = Object::new(value, "Consent".to_owned(), to)?;
    if object.text("resourceType", to) != Some("Consent") {
        to.refuse("not-a-consent", "Consent.resourceType", "expected a Consent");
        return None;
    }
    let id = id(&mut object, to);
    check_meta(&mut object, to);
    let state = state(&mut object, to);
    let is_research = is_research(&mut object, to);
    check_category(&mut object, to);
    let subject = subject(&mut object, to);
    check_circumstances(&mut object, to);
    let (policy_effect, legal_basis) = policy_rule(&mut object, to);
    let root = object.object("provision", to).map(|root| provision::read(root, to));
    object.finish(to);
    let meaning = nesting::meaning(root.as_ref(), &Around { policy_effect, is_research }, to);
    let (state, subject, meaning) = (state?, subject?, meaning?);
    let obligations = legal_basis.filter(|basis| basis.is_part2()).map(|_| "NORDSCLCD".to_owned());
    Some(Consent {
        id,
        subject,
        state,
        context: meaning.context,
        base: meaning.base,
        root_rule: meaning.root_rule,
        rules: meaning.rules,
        legal_basis,
        obligations: obligations.into_iter().collect(),
    })
}

fn missing(path: &str, to: &mut Findings) {
    to.refuse("missing-field", path, "FHIR requires it");
}

/// INTERFACES.md: Consent.id, else `system|value`; else empty, for the caller to assign.
fn id(object: &mut Object, to: &mut Findings) -> String {
    let id = object.text("id", to);
    if let Some(id) = id.filter(|id| !codes::is_id(id)) {
        to.refuse("bad-id", "Consent.id", format!("{} is no FHIR id", quoted(id)));
    }
    let identifiers = object.objects("identifier", to).unwrap_or_default();
    let identifiers: Vec<_> = identifiers.into_iter().map(|i| codes::identifier(i, to)).collect();
    let first =
        || identifiers.into_iter().flatten().map(|(system, value)| format!("{system}|{value}")).next();
    id.map(str::to_owned).or_else(first).unwrap_or_default()
}

/// Nesting of the IHE profile has a reading of its own, which is not evaluated yet.
fn check_meta(object: &mut Object, to: &mut Findings) {
    let Some(mut meta) = object.object("meta", to) else {
        return;
    };
    for key in ["versionId", "lastUpdated", "source", "security", "tag"] {
        meta.take(key);
    }
    let path = meta.at("profile");
    let profiles = match meta.take("profile") {
        None => &[],
        Some(Value::Array(profiles)) => profiles.as_slice(),
        Some(_) => {
            to.refuse("wrong-type", &path, "expected a list");
            &[]
        }
    };
    for profile in profiles {
        match profile.as_str() {
            None => to.refuse("wrong-type", &path, "expected text"),
            Some(url) if url.contains("profiles.ihe.net/") => {
                let message = "IHE's reading of provisions can't be evaluated yet";
                to.refuse("unsupported-profile", &path, message);
            }
            Some(_) => {}
        }
    }
    meta.finish(to);
}

/// A Consent that isn't active has nothing standing: only a revocation that is recorded here leaves denies standing,
/// so FHIR's `inactive` is not our REVOKED.
fn state(object: &mut Object, to: &mut Findings) -> Option<ConsentState> {
    let path = object.at("status");
    if !object.has("status") {
        missing(&path, to);
    }
    match object.text("status", to)? {
        "draft" | "proposed" => Some(ConsentState::Proposed),
        "active" => Some(ConsentState::Active),
        "rejected" => Some(ConsentState::Rejected),
        "inactive" => Some(ConsentState::Superseded),
        "entered-in-error" => Some(ConsentState::EnteredInError),
        other => {
            to.refuse("bad-status", &path, format!("{} is no status of a Consent", quoted(other)));
            None
        }
    }
}

/// Scopes patient-privacy and research; other scopes are about something else.
fn is_research(object: &mut Object, to: &mut Findings) -> bool {
    let Some(scope) = object.object("scope", to) else {
        missing("Consent.scope", to);
        return false;
    };
    let Some(scope) = codes::one_coding(scope, to) else {
        return false;
    };
    match (scope.system, scope.code) {
        (codes::CONSENT_SCOPE, "patient-privacy") => {}
        (codes::CONSENT_SCOPE, "research") => return true,
        (codes::CONSENT_SCOPE, code) => {
            let message = format!("{} is not a consent to the use of records", quoted(code));
            to.refuse("unsupported-scope", &scope.path, message);
        }
        _ => codes::unknown_system(&scope, to),
    }
    false
}

/// A category is kept and says nothing to a decision, save for those that would narrow it.
fn check_category(object: &mut Object, to: &mut Findings) {
    let Some(categories) = object.objects("category", to) else {
        return missing("Consent.category", to);
    };
    for coding in categories.into_iter().flat_map(|category| codes::concept(category, to)).collect::<Vec<_>>()
    {
        match (coding.system, coding.code.to_ascii_lowercase().as_str()) {
            (codes::CONSENT_CATEGORY | ACT_CODE, "emrgonly" | "rsdid" | "rsreid") => {
                to.refuse(
                    "unsupported-category",
                    &coding.path,
                    "a category that narrows the consent can't be evaluated",
                );
            }
            (codes::CONSENT_CATEGORY | ACT_CODE | codes::LOINC, _) => {}
            _ => codes::unknown_system(&coding, to),
        }
    }
}

/// The patient, by a literal reference that a record of this custodian can carry too.
fn subject(object: &mut Object, to: &mut Findings) -> Option<String> {
    let Some(patient) = object.object("patient", to) else {
        to.refuse("missing-subject", "Consent.patient", "whose consent it is must be written");
        return None;
    };
    let target = codes::reference(patient, to)?;
    match target.reference {
        Reference::Literal(text) if target.kind.as_deref() == Some("Patient") => Some(text),
        Reference::Literal(text) => {
            to.refuse("bad-reference", &target.path, format!("{} is no Patient", quoted(&text)));
            None
        }
        Reference::Identifier { .. } => {
            to.refuse("unresolvable-reference", &target.path, "the patient must be named as Patient/id");
            None
        }
    }
}

/// How the consent came about: kept, checked for form, and no part of a decision, except that `verified: false` refuses.
fn check_circumstances(object: &mut Object, to: &mut Findings) {
    for key in ["language", "text"] {
        object.take(key);
    }
    if object.take("contained").is_some() {
        to.refuse("unsupported-contained", "Consent.contained", "contained resources can't be evaluated");
    }
    check_date(object, "dateTime", to);
    for key in ["performer", "organization"] {
        for reference in object.objects(key, to).unwrap_or_default() {
            codes::reference(reference, to);
        }
    }
    if let Some(mut source) = object.object("sourceAttachment", to) {
        for key in ["contentType", "language", "data", "url", "size", "hash", "title", "creation"] {
            source.take(key);
        }
        source.finish(to);
    }
    if let Some(source) = object.object("sourceReference", to) {
        codes::reference(source, to);
    }
    for mut policy in object.objects("policy", to).unwrap_or_default() {
        policy.text("authority", to);
        policy.text("uri", to);
        policy.finish(to);
    }
    for mut verification in object.objects("verification", to).unwrap_or_default() {
        match verification.boolean("verified", to) {
            Some(true) => {}
            Some(false) => to.refuse("not-verified", &verification.path, "it is marked as not verified"),
            None => missing(&verification.at("verified"), to),
        }
        if let Some(with) = verification.object("verifiedWith", to) {
            codes::reference(with, to);
        }
        check_date(&mut verification, "verificationDate", to);
        verification.finish(to);
    }
}

fn check_date(object: &mut Object, key: &'static str, to: &mut Findings) {
    if let Some(text) = object.text(key, to).filter(|text| dates::parse(text).is_none()) {
        to.refuse("bad-date", &object.at(key), format!("{} is no FHIR dateTime", quoted(text)));
    }
}

/// OPTIN and OPTOUT are a base, 42CFRPart2 and hipaa-auth a legal basis; any other rule would have to be obeyed.
fn policy_rule(object: &mut Object, to: &mut Findings) -> (Option<Effect>, Option<LegalBasis>) {
    let (mut effect, mut basis) = (None, None);
    let Some(rule) = object.object("policyRule", to) else {
        return (None, None);
    };
    let path = rule.path.clone();
    for coding in codes::concept(rule, to) {
        let said = match (coding.system, coding.code) {
            (ACT_CODE, "OPTIN") => Some(Effect::Permit),
            (ACT_CODE, "OPTOUT") => Some(Effect::Deny),
            (ACT_CODE, PART2_LABEL) => {
                basis = Some(LegalBasis::Part2Specific);
                None
            }
            (codes::CONSENT_POLICY, "hipaa-auth") => {
                basis = basis.or(Some(LegalBasis::HipaaAuthorization));
                None
            }
            _ => {
                refuse_policy(&coding, to);
                None
            }
        };
        if said.is_some() && effect.is_some() && said != effect {
            to.refuse("base-contradiction", &path, "both OPTIN and OPTOUT");
        }
        effect = said.or(effect);
    }
    (effect, basis)
}

fn refuse_policy(coding: &Coding, to: &mut Findings) {
    if [ACT_CODE, codes::CONSENT_POLICY].contains(&coding.system) {
        let message = format!("the policy {} can't be evaluated yet", quoted(coding.code));
        to.refuse("unsupported-policy-rule", &coding.path, message);
    } else {
        codes::unknown_system(coding, to);
    }
}
