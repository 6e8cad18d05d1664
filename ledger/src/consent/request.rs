//! What is asked, by whom, for what (CONSENT.md, Decision, "Request").

use serde::Deserialize;

use super::json::{self, JsonFault};
use super::model::Reference;
use super::tables;

/// Bytes of one request as JSON.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Who asks, for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Every reference that denotes the asking organization, from authentication and the custodian's registry.
    pub recipient: Vec<Reference>,
    /// The person acting, asserted by the client: `Practitioner/x`, or `Patient/x` for a patient's own app.
    pub actor: Option<Reference>,
    /// That person's groups, from the custodian's registry; an empty list states that there are none.
    pub groups: Option<Vec<Reference>>,
    /// The groups whose members that registry knows: a rule that names another one is UNKNOWN. `None` where every group
    /// counts as known, as offline.
    pub known_groups: Option<Vec<Reference>>,
    /// That person's role, a code or a REF.
    pub role: Option<String>,
    /// Exactly one purpose of use.
    pub purpose: String,
    /// `access` unless stated otherwise.
    pub action: String,
    /// Why the glass is broken; absent where nobody breaks it.
    pub break_glass: Option<BreakGlassReason>,
    /// The law that demands the release; absent where none does.
    pub required_by_law: Option<RequiredByLaw>,
    /// Whether the recipient is a health plan, which the custodian's registry knows and nobody offline.
    pub recipient_is_plan: bool,
}

/// Emergency access as it is asked for (Decision 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakGlassReason {
    pub reason: String,
}

/// A release that a law demands (Decision 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredByLaw {
    /// The law, as an officer cites it.
    pub citation: String,
    /// The officer who approved.
    pub approver: Reference,
}

/// Why a request can't be asked at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    #[error("the request names no recipient organization")]
    NoRecipient,
    #[error("{0:?} is no purpose of use in HL7's v3 ActReason")]
    UnknownPurpose(String),
    #[error("{0:?} is not one of access, collect, correct, disclose, use")]
    UnknownAction(String),
    #[error("{0} is empty")]
    EmptyText(&'static str),
    #[error("the request can't be read: {0}")]
    Malformed(String),
    #[error("{name}: {text:?} is neither Type/id nor system|value")]
    BadReference { name: &'static str, text: String },
}

/// INTERFACES.md, `assent consent evaluate`, "Request".
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    recipient: WrittenRecipient,
    purpose: String,
    action: Option<String>,
    break_glass: Option<WrittenBreakGlass>,
    required_by_law: Option<WrittenLaw>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRecipient {
    organization: String,
    practitioner: Option<String>,
    groups: Option<Vec<String>>,
    role: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBreakGlass {
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLaw {
    citation: String,
    approver: String,
}

fn reference(name: &'static str, text: &str) -> Result<Reference, RequestFault> {
    Reference::parse(text).ok_or_else(|| RequestFault::BadReference { name, text: text.to_owned() })
}

/// consentaction's codes, which have no hierarchy.
pub(super) const ACTIONS: [&str; 5] = ["access", "collect", "correct", "disclose", "use"];

impl Request {
    /// A request for access by one organization, for one purpose.
    pub fn access(recipient: Vec<Reference>, purpose: &str) -> Self {
        Self {
            recipient,
            actor: None,
            groups: None,
            known_groups: None,
            role: None,
            purpose: purpose.to_owned(),
            action: "access".to_owned(),
            break_glass: None,
            required_by_law: None,
            recipient_is_plan: false,
        }
    }

    /// Reads and checks a request as INTERFACES.md writes it. Strict: unknown and repeated keys are refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestFault> {
        let value = json::parse(bytes, MAX_REQUEST_BYTES)
            .map_err(|JsonFault { message, .. }| RequestFault::Malformed(message))?;
        let written: Written =
            serde_json::from_value(value).map_err(|error| RequestFault::Malformed(error.to_string()))?;
        let who = written.recipient;
        let mut request =
            Self::access(vec![reference("recipient.organization", &who.organization)?], &written.purpose);
        request.actor =
            who.practitioner.map(|text| reference("recipient.practitioner", &text)).transpose()?;
        let groups =
            who.groups.map(|groups| groups.iter().map(|text| reference("recipient.groups", text)).collect());
        request.groups = groups.transpose()?;
        request.role = who.role;
        if let Some(action) = written.action {
            request.action = action;
        }
        request.break_glass = written.break_glass.map(|asked| BreakGlassReason { reason: asked.reason });
        request.required_by_law = match written.required_by_law {
            None => None,
            Some(law) => {
                let approver = reference("required_by_law.approver", &law.approver)?;
                Some(RequiredByLaw { citation: law.citation, approver })
            }
        };
        request.check()?;
        Ok(request)
    }

    /// For the border: `decide` answers a request that fails this too, but cannot say why it withholds.
    pub fn check(&self) -> Result<(), RequestFault> {
        if self.recipient.is_empty() {
            return Err(RequestFault::NoRecipient);
        }
        // The tree's root names no purpose, and would slip past every DENY that names one.
        if !tables::is_purpose(&self.purpose) || self.purpose == tables::ANY_PURPOSE {
            return Err(RequestFault::UnknownPurpose(self.purpose.clone()));
        }
        if !ACTIONS.contains(&self.action.as_str()) {
            return Err(RequestFault::UnknownAction(self.action.clone()));
        }
        let texts = [
            ("role", self.role.as_deref()),
            ("break_glass.reason", self.break_glass.as_ref().map(|asked| asked.reason.as_str())),
            ("required_by_law.citation", self.required_by_law.as_ref().map(|law| law.citation.as_str())),
        ];
        match texts.iter().find(|(_, text)| text.is_some_and(|text| text.trim().is_empty())) {
            Some((name, _)) => Err(RequestFault::EmptyText(name)),
            None => Ok(()),
        }
    }

    /// Whether this is somebody asking for what is about themselves (Decision 3, PATRQT).
    pub(super) fn is_own(&self, subject: &str) -> bool {
        let actor = || match &self.actor {
            Some(Reference::Literal(text)) => text == subject,
            Some(Reference::Identifier { .. }) | None => false,
        };
        self.purpose == "PATRQT" && actor()
    }
}
