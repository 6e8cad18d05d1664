//! The decision, a pure function (CONSENT.md, Decision). The steps, in the order they are taken for each record:
//!
//! ```text
//!   frozen slot ............................... DENY                        (2)
//!   for each patient the record is about:
//!     patient asks for itself (PATRQT) ........ PERMIT, psychotherapy notes excepted      (3)
//!     every standing consent says ............. DENY > INDETERMINATE > PERMIT > LIMIT     (4-7)
//!     a permit that a hard rule doesn't take .. NO_CONSENT, by that rule   (3)
//!     nobody says anything .................... the default policy, else NO_CONSENT       (7)
//!   least favourable of the patients                                       (9)
//! ```
//!
//! Not here yet: break-glass (1), `REQUIRED_BY_LAW` and the self-pay restriction (3). Freshness is the caller's.

use std::collections::BTreeSet;

use super::matching::{Asked, Labels};
use super::model::{Conf, Consent, ConsentState, Effect, LegalBasis, Request};
use super::policy::DefaultPolicy;
use super::resource::{ResourceDescriptor, PART2_LABEL};
use super::speaking::{self, Says, Verdict};

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
    Consent { consent: String, rule: String },
    DefaultPolicy { id: String },
    HardRule { id: &'static str },
}

const FROZEN_SLOT: DecidedBy = DecidedBy::HardRule { id: "frozen-slot" };
const OWN_REQUEST: DecidedBy = DecidedBy::HardRule { id: "PATRQT" };
const NOTES: DecidedBy = DecidedBy::HardRule { id: "PSYTHPN" };
const PART2: DecidedBy = DecidedBy::HardRule { id: PART2_LABEL };
/// What goes with every disclosure of a Part 2 record: no redisclosure without consent.
const NO_REDISCLOSURE: &str = "NORDSCLCD";

pub struct DecisionInput<'a> {
    /// All that the custodian holds for the subject, in any state and order; others are passed over.
    pub consents: &'a [Consent],
    pub policy: Option<&'a DefaultPolicy>,
    pub request: &'a Request,
    pub resources: &'a [ResourceDescriptor],
    /// Block time, milliseconds since 1970 UTC.
    pub at_ms: i64,
    pub frozen: bool,
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

/// Decides on every record, whatever the input: it cannot fail, and what it cannot tell it withholds.
pub fn decide(input: &DecisionInput) -> Decision {
    let resources: Vec<_> = input.resources.iter().map(|resource| on_resource(input, resource)).collect();
    let permitted = resources.iter().map(|r| r.outcome).filter(|o| o.is_permitted()).max();
    let least = || resources.iter().map(|r| r.outcome).min();
    let without = if input.frozen { Outcome::Deny } else { Outcome::NoConsent };
    Decision {
        outcome: permitted.or_else(least).unwrap_or(without),
        resources,
        not_after_ms: not_after(input),
    }
}

/// What is decided of one record for one of its patients.
struct Found {
    outcome: Outcome,
    decided_by: Vec<DecidedBy>,
    obligations: BTreeSet<String>,
}

impl Found {
    fn new(outcome: Outcome, decided_by: Vec<DecidedBy>) -> Self {
        Self { outcome, decided_by, obligations: BTreeSet::new() }
    }
}

fn on_resource(input: &DecisionInput, resource: &ResourceDescriptor) -> ResourceDecision {
    let assumed = !input.frozen
        && resource.is_unlabelled()
        && input.policy.is_some_and(|policy| policy.assumes_normal(&input.request.purpose));
    let labels = if assumed {
        Labels { assessed: true, confidentiality: Some(Conf::N), sensitivity: &[] }
    } else {
        Labels {
            assessed: resource.assessed,
            confidentiality: resource.confidentiality,
            sensitivity: &resource.sensitivity,
        }
    };
    let asked = Asked { request: input.request, resource, labels, at_ms: input.at_ms };
    let found = least_favourable(input, &asked);
    let obligations =
        if found.outcome.is_permitted() { found.obligations.into_iter().collect() } else { Vec::new() };
    ResourceDecision {
        reference: resource.reference.clone(),
        outcome: found.outcome,
        decided_by: found.decided_by,
        obligations,
        assumed_labels: assumed,
    }
}

/// Decision 2 and 9.
fn least_favourable(input: &DecisionInput, asked: &Asked) -> Found {
    if input.frozen {
        return Found::new(Outcome::Deny, vec![FROZEN_SLOT]);
    }
    let about: BTreeSet<&str> = asked.resource.subjects.iter().map(String::as_str).collect();
    let mut found: Vec<Found> = about.iter().map(|subject| for_subject(input, asked, subject)).collect();
    if about.is_empty() {
        // A record that names nobody: no consent permits it, and any patient's here may be what it is about.
        found.push(by_default(input, asked));
        let everyone: BTreeSet<&str> = input.consents.iter().map(|c| c.subject.as_str()).collect();
        found.extend(everyone.iter().map(|subject| for_subject(input, asked, subject)));
    }
    let worst = found.iter().map(|f| f.outcome).min().unwrap_or(Outcome::NoConsent);
    let obligations = found.iter().flat_map(|f| f.obligations.iter().cloned()).collect();
    let mut decided_by = Vec::new();
    for who in found.into_iter().filter(|f| f.outcome == worst).flat_map(|f| f.decided_by) {
        if !decided_by.contains(&who) {
            decided_by.push(who);
        }
    }
    Found { outcome: worst, decided_by, obligations }
}

fn for_subject(input: &DecisionInput, asked: &Asked, subject: &str) -> Found {
    let request = input.request;
    let own = request.purpose == "PATRQT" && request.actor.as_deref() == Some(subject);
    if own && !is_psychotherapy_note(asked) {
        // Decision 3: a request of the subject for itself skips consents.
        return Found::new(Outcome::Permit, vec![OWN_REQUEST]);
    }
    let standing = input.consents.iter().filter(|consent| consent.subject == subject);
    let verdicts: Vec<_> = standing.map(|consent| (consent, speaking::verdict(consent, asked))).collect();
    across_consents(input, asked, &verdicts)
}

/// Decision 7, second sentence, with the hard rules of Decision 3 on what may permit.
fn across_consents(input: &DecisionInput, asked: &Asked, verdicts: &[(&Consent, Verdict)]) -> Found {
    let rules_that = |says: Says| -> Vec<DecidedBy> {
        let saying = verdicts.iter().filter(|(_, verdict)| verdict.says == says);
        saying
            .flat_map(|(consent, verdict)| verdict.rules.iter().map(|rule| by_consent(consent, rule)))
            .collect()
    };
    let says = verdicts.iter().map(|(_, verdict)| verdict.says).max().unwrap_or(Says::Nothing);
    match says {
        Says::Deny => Found::new(Outcome::Deny, rules_that(Says::Deny)),
        Says::Indeterminate => Found::new(Outcome::Indeterminate, rules_that(Says::Indeterminate)),
        Says::Permit => by_permits(asked, verdicts),
        Says::Limit => Found::new(Outcome::NoConsent, rules_that(Says::Limit)),
        Says::Nothing => by_default(input, asked),
    }
}

fn by_consent(consent: &Consent, rule: &str) -> DecidedBy {
    DecidedBy::Consent { consent: consent.id.clone(), rule: rule.to_owned() }
}

/// Some consent permits and none objects. Decision 3 says which permits count for this record; obligations are united.
fn by_permits(asked: &Asked, verdicts: &[(&Consent, Verdict)]) -> Found {
    let permits = || verdicts.iter().filter(|(_, verdict)| verdict.says == Says::Permit);
    let mut counting: Vec<_> = permits().collect();
    if is_psychotherapy_note(asked) {
        counting.retain(|(consent, _)| speaking::names_only_psychotherapy_notes(consent));
        if counting.is_empty() {
            return Found::new(Outcome::NoConsent, vec![NOTES]);
        }
    }
    if is_part2(asked) {
        counting.retain(|(consent, _)| consent.legal_basis.is_some_and(LegalBasis::is_part2));
        if counting.is_empty() {
            return Found::new(Outcome::NoConsent, vec![PART2]);
        }
    }
    let rules = |(consent, verdict): &&(&Consent, Verdict)| -> Vec<DecidedBy> {
        verdict.rules.iter().map(|rule| by_consent(consent, rule)).collect()
    };
    let mut found = Found::new(Outcome::Permit, counting.iter().flat_map(rules).collect());
    found.obligations =
        counting.iter().flat_map(|(consent, _)| consent.obligations.iter().cloned()).collect();
    if is_part2(asked) {
        found.obligations.insert(NO_REDISCLOSURE.to_owned());
    }
    found
}

/// Decision 7, last words, and Decision 3: no default releases what needs a consent of its own.
fn by_default(input: &DecisionInput, asked: &Asked) -> Found {
    let Some(policy) = input.policy else {
        return Found::new(Outcome::NoConsent, Vec::new());
    };
    let policy_said = vec![DecidedBy::DefaultPolicy { id: policy.id.clone() }];
    match policy.says(asked.request) {
        Some(Effect::Deny) => Found::new(Outcome::Deny, policy_said),
        Some(Effect::Permit) if is_psychotherapy_note(asked) => Found::new(Outcome::NoConsent, vec![NOTES]),
        Some(Effect::Permit) if is_part2(asked) => Found::new(Outcome::NoConsent, vec![PART2]),
        Some(Effect::Permit) => Found::new(Outcome::Permit, policy_said),
        None => Found::new(Outcome::NoConsent, Vec::new()),
    }
}

fn is_psychotherapy_note(asked: &Asked) -> bool {
    asked.resource.sensitivity.iter().any(|label| label == "PSYTHPN")
}

fn is_part2(asked: &Asked) -> bool {
    asked.resource.handling.iter().any(|label| label == PART2_LABEL)
}

/// The first moment at which this decision might come out otherwise by itself.
fn not_after(input: &DecisionInput) -> Option<i64> {
    let matters = |state| matches!(state, ConsentState::Active | ConsentState::Revoked);
    let consents = input.consents.iter().filter(|consent| matters(consent.state));
    let periods = consents.flat_map(|consent| {
        let rules = consent.rules.iter().chain(&consent.root_rule).map(|rule| rule.valid);
        std::iter::once(consent.context.valid).chain(rules)
    });
    periods.filter_map(|period| period.next_bound(input.at_ms)).min()
}
