//! What a consent is once it is read (CONSENT.md, Model): the part that decides. Salt, signed form and the exact FHIR
//! bytes are the vault's.

use serde::{Deserialize, Serialize};

use super::clinical::DayRange;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Effect {
    #[serde(alias = "permit")]
    Permit,
    #[serde(alias = "deny")]
    Deny,
}

/// What a consent says where none of its rules does. LIMIT: not by this consent and by no default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Base {
    Permit,
    Deny,
    Limit,
    None,
}

/// EXPIRED is missing on purpose: it is computed from block time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Recipient {
    Organization(Reference),
    /// A person: a practitioner, a related person, a patient.
    Practitioner(Reference),
    /// A group or care team, whose members the custodian's registry knows.
    Group(Reference),
    /// A role, by a `PractitionerRole` or by its code in a system.
    Role(Reference),
    /// An identifier whose kind isn't written: whoever asks under it.
    Named(Reference),
}

/// v3 Confidentiality, ordered U < L < M < N < R < V.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFilter {
    /// FHIR resource types.
    #[serde(default)]
    pub types: Option<Vec<String>>,
    /// What the record is coded as.
    #[serde(default)]
    pub codes: Option<Vec<Code>>,
    /// Sensitivity codes of v3 ActCode.
    #[serde(default)]
    pub labels: Option<Vec<String>>,
    /// A PERMIT's bound covers it and lower, a DENY's it and higher.
    #[serde(default)]
    pub confidentiality: Option<Conf>,
    /// Days of the record's clinical date.
    #[serde(default)]
    pub dates: Option<DayRange>,
    /// Who wrote the record.
    #[serde(default)]
    pub authors: Option<Vec<Reference>>,
    /// The encounters themselves, and records made in them: `Encounter/x`.
    #[serde(default)]
    pub encounters: Option<Vec<String>>,
    /// Single records: `Type/id`.
    #[serde(default)]
    pub instances: Option<Vec<String>>,
}

impl DataFilter {
    /// Whether it says nothing, and so means any record.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A code within its system. A consent's always has one; a record's may lack it, and then can't be compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    #[serde(default)]
    pub system: Option<String>,
    pub code: String,
}

/// Conditions that every rule of a consent carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// One provision: an effect under conditions. All of them must hold; within one, any item (Decision 5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    /// What follows where the conditions hold.
    pub effect: Effect,
    #[serde(default)]
    pub valid: Period,
    #[serde(default)]
    pub recipients: Option<Vec<Recipient>>,
    #[serde(default)]
    pub purposes: Option<Vec<String>>,
    #[serde(default)]
    pub actions: Option<Vec<String>>,
    #[serde(default)]
    pub data: DataFilter,
}

impl Clause {
    /// An effect without any condition.
    pub fn of(effect: Effect) -> Self {
        Self {
            effect,
            valid: Period::default(),
            recipients: None,
            purposes: None,
            actions: None,
            data: DataFilter::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Provision path: root "0", then "1", "1.2".
    pub id: String,
    /// Rules of one group override one another by depth (Decision 6).
    pub group: u32,
    /// From 1; the deepest rule that holds speaks.
    pub depth: u32,
    /// What it says itself.
    pub clause: Clause,
    /// The provisions it is nested in, outermost first, whose conditions it carries (Model, "the R5 reading").
    #[serde(default)]
    pub within: Vec<Clause>,
}

/// The law that a consent rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// `Consent.id`, else `system|value` of its first identifier, else empty: then the caller assigns one.
    pub id: String,
    /// Counts from 0; of several with one id and subject the highest counts (Decision 4, "latest revisions").
    #[serde(default)]
    pub revision: u64,
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
    /// When the authority of a representative who granted it ends: from then on it permits nothing, and its denies
    /// stand as a revoked one's do. Milliseconds since 1970 UTC; absent for a patient's own.
    #[serde(default)]
    pub authority_ends_ms: Option<i64>,
    /// An active consent of a feed that import refused: until an officer resolves it, nobody knows what it denies.
    #[serde(default)]
    pub unresolved: bool,
    /// v3 ActCode obligations and refrains that go with what this consent permits.
    #[serde(default)]
    pub obligations: Vec<String>,
}
