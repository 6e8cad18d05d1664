//! What a decision says (CONSENT.md, Decision, "Output").

use std::fmt;

/// Ordered from least to most favourable (CONSENT.md, Decision 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Deny,
    Indeterminate,
    NoConsent,
    Permit,
    PermitOverride,
}

impl Outcome {
    pub fn is_permitted(self) -> bool {
        matches!(self, Self::Permit | Self::PermitOverride)
    }

    /// As INTERFACES.md writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "DENY",
            Self::Indeterminate => "INDETERMINATE",
            Self::NoConsent => "NO_CONSENT",
            Self::Permit => "PERMIT",
            Self::PermitOverride => "PERMIT_OVERRIDE",
        }
    }
}

/// What made the outcome, for the custodian's staff, the patient and the auditor; never for the recipient.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DecidedBy {
    Consent {
        consent: String,
        rule: String,
    },
    DefaultPolicy {
        id: String,
    },
    /// Decision 2 and 3: `frozen-slot`, `REQUIRED_BY_LAW`, `PATRQT`, `PSYTHPN`, `42CFRPart2`, `self-pay`.
    HardRule {
        id: &'static str,
    },
}

/// As reasons that are committed to name it.
impl fmt::Display for DecidedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consent { consent, rule } => write!(f, "{consent}/{rule}"),
            Self::DefaultPolicy { id } => write!(f, "default-policy:{id}"),
            Self::HardRule { id } => write!(f, "hard-rule:{id}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceDecision {
    pub reference: String,
    pub outcome: Outcome,
    /// Every rule of the winning outcome, in input order; empty for NO_CONSENT without rules.
    pub decided_by: Vec<DecidedBy>,
    /// v3 ActCode codes, sorted; only with a permit.
    pub obligations: Vec<String>,
    /// The record carries no label, and the policy says to take it as assessed N.
    pub assumed_labels: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Permitted if any record is, else the least favourable; NO_CONSENT if there are none.
    pub outcome: Outcome,
    /// In input order.
    pub resources: Vec<ResourceDecision>,
    /// The first start or end, after `at_ms`, of a consent or rule that could matter. Caps are the caller's.
    pub not_after_ms: Option<i64>,
}
