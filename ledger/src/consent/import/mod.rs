//! A FHIR R4 Consent, read losslessly or refused (CONSENT.md, FHIR R4 Consent): a deny that is skipped widens access.
//!
//! ```text
//!   bytes --json--> every key once --this file--> status, scope, patient, policyRule
//!                                  --circumstances--> what is kept and says nothing to a decision
//!                                  --provision--> provisions as written --nesting--> base, rules
//!   any error on the way: all of them, and no consent
//! ```

mod circumstances;
mod codes;
mod data;
mod nesting;
mod period;
mod provision;
mod reader;
mod recipient;

use codes::Coding;
use nesting::Around;
use reader::{Findings, Object};
use serde_json::Value;

use super::issue::{quoted, Issue};
use super::json::{self, JsonFault};
use super::model::{Consent, ConsentState, Effect, LegalBasis, Reference};
use super::resource::{ACT_CODE, PART2_LABEL};
use super::words;

pub use codes::{
    has_hidden_characters, is_id, ACT_REASON, CONSENT_ACTION, CONSENT_SCOPE, LOINC, PARTICIPATION,
    RESOURCE_TYPES,
};
pub use nesting::MAX_RULES;

/// Bytes of one Consent.
pub const MAX_CONSENT_BYTES: usize = 1024 * 1024;

/// A consent, what is worth knowing of how it was read, and its rules in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub consent: Consent,
    pub notes: Vec<Issue>,
    pub sentences: Vec<String>,
}

/// What can be told of a Consent though it is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Its id, as import would take it; empty where it has none, or none that can be taken.
    pub id: String,
    /// The state that its status says; none where that can't be told.
    pub state: Option<ConsentState>,
    /// The reference to its patient, where that can be told.
    pub subject: Option<String>,
}

/// Reads id, status and patient alone, for a consent of a feed that is refused: who keeps it as unresolved needs them.
pub fn consent_head(bytes: &[u8]) -> Head {
    let mut findings = Findings::default();
    let parsed = json::parse(bytes, MAX_CONSENT_BYTES).ok();
    let Some(mut object) =
        parsed.as_ref().and_then(|value| Object::new(value, "Consent".to_owned(), &mut findings))
    else {
        return Head::default();
    };
    let id = id(&mut object, &mut findings);
    let id = if findings.errors.is_empty() { id } else { String::new() };
    Head { id, state: state(&mut object, &mut findings), subject: subject(&mut object, &mut findings) }
}

/// Reads one Consent. An expired or inactive one imports as history; its state says that nothing stands.
pub fn import_consent(bytes: &[u8]) -> Result<Imported, Vec<Issue>> {
    import(bytes, Findings::default())
}

/// The same, but takes a scope found in category, and known aliases of code systems; each leniency is a note.
pub fn import_consent_leniently(bytes: &[u8]) -> Result<Imported, Vec<Issue>> {
    import(bytes, Findings { is_lenient: true, ..Findings::default() })
}

/// The same as one of these, but for the sentences: for who only decides.
pub(super) fn import_silently(bytes: &[u8], is_lenient: bool) -> Result<Consent, Vec<Issue>> {
    import_with(bytes, Findings { is_lenient, ..Findings::default() }).map(|(consent, _)| consent)
}

fn import(bytes: &[u8], findings: Findings) -> Result<Imported, Vec<Issue>> {
    let (consent, notes) = import_with(bytes, findings)?;
    let sentences = words::sentences(&consent);
    Ok(Imported { consent, notes, sentences })
}

fn import_with(bytes: &[u8], mut findings: Findings) -> Result<(Consent, Vec<Issue>), Vec<Issue>> {
    let consent = match json::parse(bytes, MAX_CONSENT_BYTES) {
        Ok(value) => read(&value, &mut findings),
        Err(JsonFault { reason, message }) => {
            findings.refuse(reason, "Consent", message);
            None
        }
    };
    match consent {
        Some(consent) if findings.errors.is_empty() => Ok((consent, findings.notes)),
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
    let is_ihe = is_ihe(&mut object, to);
    let state = state(&mut object, to);
    let is_research = scope_and_category(&mut object, to);
    let subject = subject(&mut object, to);
    circumstances::check(&mut object, to);
    let (policy_effect, legal_basis) = policy_rule(&mut object, to);
    let root = object.object("provision", to).map(|root| provision::read(root, to));
    object.finish(to);
    let around = Around { policy_effect, is_research, is_ihe };
    let meaning = nesting::meaning(root.as_ref(), &around, to);
    let (state, subject, meaning) = (state?, subject?, meaning?);
    let obligations = legal_basis.filter(|basis| basis.is_part2()).map(|_| "NORDSCLCD".to_owned());
    Some(Consent {
        id,
        revision: 0,
        subject,
        state,
        context: meaning.context,
        base: meaning.base,
        root_rule: meaning.root_rule,
        rules: meaning.rules,
        legal_basis,
        authority_ends_ms: None,
        unresolved: false,
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

/// IHE's Privacy Consent on FHIR, whose nesting has a reading of its own.
const IHE_PCF: &str = "https://profiles.ihe.net/ITI/PCF/StructureDefinition/";

/// Whether meta.profile names IHE's. Another profile of theirs might have another reading still.
fn is_ihe(object: &mut Object, to: &mut Findings) -> bool {
    let Some(mut meta) = object.object("meta", to) else {
        return false;
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
    let mut found = false;
    for profile in profiles {
        match profile.as_str() {
            None => to.refuse("wrong-type", &path, "expected text"),
            Some(url) if url.starts_with(IHE_PCF) => found = true,
            Some(url) if url.contains("profiles.ihe.net/") => {
                to.refuse(
                    "unsupported-profile",
                    &path,
                    "of IHE's profiles only Privacy Consent on FHIR is known",
                );
            }
            Some(_) => {}
        }
    }
    meta.finish(to);
    found
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

/// Whether this is about research. Scopes patient-privacy and research; other scopes are about something else. A lenient
/// import takes a scope that stands in category instead.
fn scope_and_category(object: &mut Object, to: &mut Findings) -> bool {
    let lenient = to.is_lenient && !object.has("scope");
    let scope = match object.object("scope", to) {
        Some(scope) => codes::one_coding(scope, to),
        None if lenient => None,
        None => {
            missing("Consent.scope", to);
            None
        }
    };
    let mut misplaced = categories(object, to);
    if lenient {
        match misplaced.pop() {
            Some(found) if misplaced.is_empty() => {
                to.note("lenient-scope", &found.path, "read as the scope, which is missing");
                return is_research(&found, to);
            }
            Some(_) => to.refuse("multiple-codings", "Consent.category", "several scopes"),
            None => missing("Consent.scope", to),
        }
    }
    for found in &misplaced {
        codes::unknown_system(found, to);
    }
    scope.is_some_and(|scope| is_research(&scope, to))
}

fn is_research(scope: &Coding, to: &mut Findings) -> bool {
    match (scope.system, scope.code) {
        (codes::CONSENT_SCOPE, "patient-privacy") => {}
        (codes::CONSENT_SCOPE, "research") => return true,
        (codes::CONSENT_SCOPE, code) => {
            let message = format!("{} is not a consent to the use of records", quoted(code));
            to.refuse("unsupported-scope", &scope.path, message);
        }
        _ => codes::unknown_system(scope, to),
    }
    false
}

/// A category is kept and says nothing to a decision, save for those that would narrow it. What is a scope is given back.
fn categories<'a>(object: &mut Object<'a>, to: &mut Findings) -> Vec<Coding<'a>> {
    let Some(categories) = object.objects("category", to) else {
        missing("Consent.category", to);
        return Vec::new();
    };
    let codings: Vec<_> = categories.into_iter().flat_map(|category| codes::concept(category, to)).collect();
    let mut scopes = Vec::new();
    for coding in codings {
        match (coding.system, coding.code.to_ascii_lowercase().as_str()) {
            (codes::CONSENT_CATEGORY | ACT_CODE, "emrgonly" | "rsdid" | "rsreid") => {
                to.refuse(
                    "unsupported-category",
                    &coding.path,
                    "a category that narrows the consent can't be evaluated",
                );
            }
            (codes::CONSENT_CATEGORY | ACT_CODE | codes::LOINC, _) => {}
            (codes::CONSENT_SCOPE, _) => scopes.push(coding),
            _ => codes::unknown_system(&coding, to),
        }
    }
    scopes
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

/// OPTIN and OPTOUT are a base; 42CFRPart2, hipaa-auth and the self-pay restriction a legal basis; any other rule would have to be obeyed.
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
            (ACT_CODE, "HIPAASelfPay") | (codes::CONSENT_POLICY, "hipaa-self-pay") => {
                // Which recipient is a plan only the custodian's registry knows (Decision 3).
                to.note(
                    "self-pay-needs-registry",
                    &coding.path,
                    "the self-pay restriction is not evaluated offline",
                );
                basis = basis.or(Some(LegalBasis::SelfPayRestriction));
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
        let message = format!("the policy {} can't be evaluated", quoted(coding.code));
        to.refuse("unsupported-policy-rule", &coding.path, message);
    } else {
        codes::unknown_system(coding, to);
    }
}
