//! What was wrong, said so that a person can mend it (CONSENT.md, FHIR R4 Consent): severity, FHIR's issue type, our
//! reason, a FHIRPath expression and a sentence.

use serde_json::{json, Value};

/// The code system of our reasons, in `details.coding`.
pub const ISSUE_SYSTEM: &str = "urn:assent:issue";

/// Issues kept of one document; a document with more is refused all the same.
pub(super) const MAX_ISSUES: usize = 100;
/// Characters of a foreign name or code that a message quotes.
const MAX_QUOTED_CHARS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Information,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub severity: Severity,
    /// FHIR's issue type: `structure`, `not-supported`, `code-invalid` and so on.
    pub code: &'static str,
    /// Ours: `ambiguous-nesting` and so on.
    pub reason: &'static str,
    /// FHIRPath of what the issue is about.
    pub expression: String,
    pub message: String,
}

impl Issue {
    pub(super) fn error(reason: &'static str, expression: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: issue_type(reason),
            reason,
            expression: expression.to_owned(),
            message: message.into(),
        }
    }

    pub(super) fn note(reason: &'static str, expression: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Information,
            code: "informational",
            ..Self::error(reason, expression, message)
        }
    }

    /// `OperationOutcome.issue`, as INTERFACES.md `assent consent lint` prints it.
    pub fn to_operation_outcome_json(&self) -> Value {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Information => "information",
        };
        json!({
            "severity": severity,
            "code": self.code,
            "details": { "coding": [{ "system": ISSUE_SYSTEM, "code": self.reason }], "text": self.message },
            "expression": [self.expression],
        })
    }
}

/// A whole OperationOutcome.
pub fn operation_outcome(issues: &[Issue]) -> Value {
    let issues: Vec<Value> = issues.iter().map(Issue::to_operation_outcome_json).collect();
    json!({ "resourceType": "OperationOutcome", "issue": issues })
}

/// A record that can't be described, and so can't be decided on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at {expression}: {message}")]
pub struct Refusal {
    pub reason: &'static str,
    pub expression: String,
    pub message: String,
}

impl Refusal {
    pub(super) fn new(reason: &'static str, expression: &str, message: impl Into<String>) -> Self {
        Self { reason, expression: expression.to_owned(), message: message.into() }
    }
}

/// A foreign string, short enough for a message.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    let dots = if short.len() < text.len() { "..." } else { "" };
    format!("{short:?}{dots}")
}

/// FHIR's issue type for each of our reasons.
fn issue_type(reason: &str) -> &'static str {
    match reason {
        "too-large" | "too-deep" | "too-many-rules" => "too-long",
        "not-json" | "duplicate-key" | "unknown-field" | "not-a-consent" | "empty-list" | "wrong-type"
        | "empty-value" => "structure",
        "missing-field"
        | "missing-subject"
        | "base-undefined"
        | "untyped-provision"
        | "uncoded-concept"
        | "code-without-system"
        | "display-only-reference" => "required",
        "bad-date" | "bad-id" | "bad-identifier" | "hidden-characters" | "bad-reference" | "empty-period" => {
            "value"
        }
        "bad-status" | "unknown-code" | "unknown-code-system" | "value-set-as-system" => "code-invalid",
        "unresolvable-reference" => "not-found",
        "modifier-extension" | "implicit-rules" | "unknown-extension" => "extension",
        "not-verified" => "suppressed",
        "base-contradiction"
        | "ambiguous-nesting"
        | "untyped-root-limit"
        | "mixed-labels"
        | "mixed-data-meanings"
        | "multiple-codings"
        | "ambiguous-reference"
        | "imprecise-date-on-deny"
        | "recipient-role"
        | "data-period-with-time" => "business-rule",
        _ => "not-supported",
    }
}
