//! What a consent is once it is read, and what is asked of it (CONSENT.md, Model). Full shape where that costs
//! nothing; attributes that `CDA-1` doesn't evaluate yet are absent, so that none can be stored and then ignored.

use serde::{Deserialize, Serialize};

use super::tables;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Effect {
    #[serde(alias = "permit")]
    Permit,
    #[serde(alias = "deny")]
    Deny,
}

/// What a consent says where none of its rules does. LIMIT: not by this consent and by no default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Base {
    Permit,
    Deny,
    Limit,
    None,
}

/// EXPIRED is missing on purpose: it is computed from block time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConsentState {
    Proposed,
    Active,
    Rejected,
    /// Withdrawn *here*: its denies stand ("Revoking never widens"). FHIR's `inactive` is imported as Superseded.
    Revoked,
    Superseded,
    EnteredInError,
}

/// Milliseconds since 1970 UTC, `[start_ms, end_ms)`; an absent bound is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    #[serde(default)]
    pub start_ms: Option<i64>,
    #[serde(default)]
    pub end_ms: Option<i64>,
}

impl Period {
    pub fn contains(&self, at_ms: i64) -> bool {
        self.start_ms.is_none_or(|start| start <= at_ms) && self.end_ms.is_none_or(|end| at_ms < end)
    }

    /// The first bound after `at_ms`, where an answer may change.
    pub fn next_bound(&self, at_ms: i64) -> Option<i64> {
        [self.start_ms, self.end_ms].into_iter().flatten().filter(|bound| *bound > at_ms).min()
    }
}

/// A FHIR reference: literal `Type/id`, or by business identifier. Equal only if written alike; who denotes whom is
/// the caller's registry, which lists every reference of the asking organization in `Request::recipient`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reference {
    Literal(String),
    Identifier { system: String, value: String },
}

impl Reference {
    /// INTERFACES.md's REF: `system|value`, or a literal `Type/id`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('|') {
            Some((system, value)) if !system.is_empty() && !value.is_empty() => {
                Some(Self::Identifier { system: system.to_owned(), value: value.to_owned() })
            }
            Some(_) => None,
            None => {
                let (kind, id) = text.split_once('/')?;
                let sound = !kind.is_empty() && !id.is_empty() && !id.contains('/') && !text.contains(':');
                sound.then(|| Self::Literal(text.to_owned()))
            }
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Identifier { system, value } => write!(f, "{system}|{value}"),
        }
    }
}

/// Whom a rule is about. Only organizations are imported so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Recipient {
    Organization(Reference),
    Practitioner(Reference),
    Group(Reference),
    Role(String),
}

/// v3 Confidentiality, ordered U < L < M < N < R < V.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Conf {
    U,
    L,
    M,
    N,
    R,
    V,
}

impl Conf {
    pub fn parse(code: &str) -> Option<Self> {
        Some(match code {
            "U" => Self::U,
            "L" => Self::L,
            "M" => Self::M,
            "N" => Self::N,
            "R" => Self::R,
            "V" => Self::V,
            _ => return None,
        })
    }
}

/// Which records a rule is about; an absent attribute means any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFilter {
    #[serde(default)]
    pub types: Option<Vec<String>>,
    /// Sensitivity codes of v3 ActCode.
    #[serde(default)]
    pub labels: Option<Vec<String>>,
    /// A PERMIT's bound covers it and lower, a DENY's it and higher.
    #[serde(default)]
    pub confidentiality: Option<Conf>,
}

impl DataFilter {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Conditions that every rule of a consent carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    pub valid: Period,
    #[serde(default)]
    pub recipients: Option<Vec<Recipient>>,
    #[serde(default)]
    pub purposes: Option<Vec<String>>,
    #[serde(default)]
    pub actions: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Provision path: root "0", then "1", "2"; "1.2" once there are levels.
    pub id: String,
    pub group: u32,
    pub depth: u32,
    pub effect: Effect,
    pub valid: Period,
    #[serde(default)]
    pub recipients: Option<Vec<Recipient>>,
    #[serde(default)]
    pub purposes: Option<Vec<String>>,
    #[serde(default)]
    pub actions: Option<Vec<String>>,
    pub data: DataFilter,
}

/// The law that a consent rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LegalBasis {
    HipaaAuthorization,
    Part2Tpo,
    Part2Specific,
    GdprExplicitConsent,
    SelfPayRestriction,
    DomainPolicy,
}

impl LegalBasis {
    pub fn is_part2(self) -> bool {
        matches!(self, Self::Part2Tpo | Self::Part2Specific)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// `Consent.id`, else `system|value` of its first identifier, else empty: then the caller assigns one.
    pub id: String,
    /// `Patient/<id>`, as written.
    pub subject: String,
    pub state: ConsentState,
    pub context: Context,
    pub base: Base,
    /// The root's data attributes, which belong to no group (CONSENT.md, Decision 6).
    #[serde(default)]
    pub root_rule: Option<Rule>,
    #[serde(default)]
    pub rules: Vec<Rule>,
    #[serde(default)]
    pub legal_basis: Option<LegalBasis>,
    /// v3 ActCode obligations and refrains that go with what this consent permits.
    #[serde(default)]
    pub obligations: Vec<String>,
}

/// Who asks, for what (CONSENT.md, Decision, "Request").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Every reference that denotes the asking organization, from authentication and the custodian's registry.
    pub recipient: Vec<Reference>,
    /// The person acting, asserted by the client: `Practitioner/x`, or `Patient/x` for a patient's own app.
    pub actor: Option<String>,
    /// Exactly one purpose of use.
    pub purpose: String,
    /// `access` unless stated otherwise.
    pub action: String,
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
}

/// consentaction's codes, which have no hierarchy.
pub(super) const ACTIONS: [&str; 5] = ["access", "collect", "correct", "disclose", "use"];

impl Request {
    /// A request for access by one organization, for one purpose.
    pub fn access(recipient: Vec<Reference>, purpose: &str) -> Self {
        Self { recipient, actor: None, purpose: purpose.to_owned(), action: "access".to_owned() }
    }

    /// For the border: `decide` answers a request that fails this too, but cannot say why it withholds.
    pub fn check(&self) -> Result<(), RequestFault> {
        if self.recipient.is_empty() {
            return Err(RequestFault::NoRecipient);
        }
        if !tables::is_purpose(&self.purpose) {
            return Err(RequestFault::UnknownPurpose(self.purpose.clone()));
        }
        if !ACTIONS.contains(&self.action.as_str()) {
            return Err(RequestFault::UnknownAction(self.action.clone()));
        }
        Ok(())
    }
}
