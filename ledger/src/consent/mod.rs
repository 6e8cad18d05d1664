//! Consent: the model, the decision `CDA-1`, and FHIR R4 in and out of it (CONSENT.md).
//!
//! ```text
//!   Consent (FHIR JSON) --import_consent--> Consent ---+
//!   record  (FHIR JSON) --describe_resource--> descriptor --+--> decide --> Decision
//!   default policy (JSON) --DefaultPolicy::parse-----------+      ^
//!   who asks, for what  --Request--------------------------------+
//!   block time, frozen slot, as arguments ------------------------+
//! ```
//!
//! Pure: no clock, file, network, random number or unordered map. The same input gives the same decision
//! anywhere, which is what lets a patient or an auditor evaluate it again.
//!
//! **Narrowed** (issue 2): one level of rules over recipient organization, purpose, action, resource type, label
//! and period. Whatever is valid FHIR but lies beyond that is refused by name at import, never ignored, so
//! the full algorithm can replace this one without touching callers.

mod decide;
mod import;
mod issue;
mod json;
mod kleene;
mod matching;
mod model;
mod policy;
mod resource;
mod speaking;
mod tables;
mod words;

pub use decide::{decide, DecidedBy, Decision, DecisionInput, Outcome, ResourceDecision};
pub use import::{import_consent, Imported, MAX_CONSENT_BYTES};
pub use issue::{operation_outcome, Issue, Refusal, Severity, ISSUE_SYSTEM};
pub use kleene::Kleene;
pub use model::{
    Base, Conf, Consent, ConsentState, Context, DataFilter, Effect, LegalBasis, Period, Recipient, Reference,
    Request, RequestFault, Rule,
};
pub use policy::{BreakGlass, DefaultPolicy, PolicyFault, PolicyRule, PolicyVersion, Unlabelled};
pub use resource::{describe_resource, ClinicalDate, Code, ResourceDescriptor, MAX_RESOURCE_BYTES};
pub use tables::{is_purpose, is_sensitivity, tables_sha256, TABLES_TSV};

/// The algorithm that every decision names, beside the hash of its code tables (CONSENT.md, head).
pub const ALGORITHM: &str = "CDA-1";
