//! Consent: the model, the decision `CDA-1`, and FHIR R4 in and out of it (CONSENT.md).
//!
//! ```text
//!   Consent (FHIR JSON) <--export_consent-- bytes as they came
//!   Consent (FHIR JSON) --import_consent--> Consent --------+
//!   record  (FHIR JSON) --describe_resource--> descriptor --+--> decide --> Decision
//!   default policy (JSON) --DefaultPolicy::parse-----------+      ^
//!   who asks, for what  --Request (names, groups: Registry)------+
//!   block time, frozen slot, as arguments ------------------------+
//! ```
//!
//! Pure: no clock, file, network, random number or unordered map. The same input gives the same decision
//! anywhere, which is what lets a patient or an auditor evaluate it again.

mod asked;
mod body;
mod clinical;
mod compose;
mod dates;
mod decide;
mod explain;
mod export;
mod import;
mod issue;
mod json;
mod kleene;
mod legal;
mod lifecycle;
mod matching;
mod model;
mod outcome;
mod policy;
mod registry;
mod request;
mod resource;
mod speaking;
mod tables;
mod words;

pub use asked::{asked, membership_change, Rules, RulesFault};
pub use body::{consent_commitment, read_body, read_consent, recorded_state};
pub use clinical::{ClinicalDate, DayRange, Days};
pub use compose::{compose_consent, Directive, DirectiveFault, Scope, ORGANIZATION_SYSTEM};
pub use decide::{decide, DecisionInput};
pub use explain::{explain, Change, Explanation, ResourceExplanation, Tried, WouldChange};
pub use export::{export_consent, Recorded, LEDGER_EXTENSION};
pub use import::{
    consent_head, has_hidden_characters, import_consent, import_consent_leniently, Head, Imported,
    MAX_CONSENT_BYTES, MAX_RULES,
};
pub use issue::{operation_outcome, Issue, Refusal, Severity, ISSUE_SYSTEM};
pub use kleene::Kleene;
pub use legal::{authority_limit_ms, missing_elements};
pub use lifecycle::{Step, StepFault};
pub use model::{
    Base, Clause, Code, Conf, Consent, ConsentState, Context, DataFilter, Effect, LegalBasis, Period,
    Recipient, Reference, Rule,
};
pub use outcome::{DecidedBy, Decision, Outcome, ResourceDecision};
pub use policy::{BreakGlass, DefaultPolicy, PolicyFault, PolicyRule, PolicyVersion, Unlabelled};
pub use registry::{Registry, RegistryFault};
pub use request::{BreakGlassReason, Request, RequestFault, RequiredByLaw};
pub use resource::{describe_resource, ResourceDescriptor, MAX_RESOURCE_BYTES};
pub use tables::{is_purpose, is_resource_type, is_sensitivity, tables_sha256, TABLES_TSV};
pub use words::still_denied;

/// The algorithm that every decision names, beside the hash of its code tables (CONSENT.md, head).
pub const ALGORITHM: &str = "CDA-1";
