//! Why a decision is as it is: the rules that were tried, and what would change the outcome.
//!
//! ```text
//!   input --decide--> outcome of each record
//!         --every rule, condition by condition--> tried
//!         --one thing changed--decide again--> would change, where the outcome is another
//! ```
//! Nothing is claimed that deciding again did not show.

use std::collections::BTreeSet;
use std::fmt;

use super::decide::{decide, Case, DecisionInput};
use super::kleene::Kleene;
use super::matching::{self, Asked};
use super::model::{Base, Conf, Consent, ConsentState, Effect, Rule};
use super::outcome::{DecidedBy, Decision, Outcome};
use super::resource::ResourceDescriptor;
use super::speaking::Standing;

/// Most changes that are tried for one decision.
const MAX_CHANGES_TRIED: usize = 64;
/// Most changes that are told of one record.
const MAX_CHANGES_TOLD: usize = 8;

/// A decision, and why it is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// As [`decide`] gives it.
    pub decision: Decision,
    /// In the order of the decision's records.
    pub resources: Vec<ResourceExplanation>,
}

/// Why one record's outcome is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceExplanation {
    /// Every rule of every standing consent of its patients, in input order.
    pub tried: Vec<Tried>,
    /// Single changes that give another outcome.
    pub would_change: Vec<WouldChange>,
}

/// A rule that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Id of the consent.
    pub consent: String,
    /// Id of the rule; the base and the root's data rule are "0".
    pub rule: String,
    /// PERMIT, DENY or LIMIT.
    pub effect: &'static str,
    /// Whether it holds for this request and record.
    pub holds: Kleene,
    /// The conditions that are FALSE or UNKNOWN; none where it holds.
    pub because: Vec<&'static str>,
}

/// A change that gives another outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WouldChange {
    /// What is changed.
    pub change: Change,
    /// The outcome then.
    pub outcome: Outcome,
}

/// One thing that is otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A rule isn't there; of rule "0", neither base nor the root's data rule is.
    WithoutRule { consent: String, rule: String },
    /// A consent isn't there, nor its earlier revisions.
    WithoutConsent { consent: String },
    /// The patient has not withdrawn.
    NotWithdrawn,
    /// There is no default policy.
    WithoutPolicy,
    /// The record's labels were assessed: confidentiality N, and nothing that isn't there.
    Assessed,
}

impl fmt::Display for WouldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::WithoutRule { consent, rule } => write!(f, "without rule {consent}/{rule}")?,
            Change::WithoutConsent { consent } => write!(f, "without consent {consent}")?,
            Change::NotWithdrawn => f.write_str("had the patient not withdrawn,")?,
            Change::WithoutPolicy => f.write_str("without the default policy")?,
            Change::Assessed => {
                f.write_str("if the record's labels were assessed, as confidentiality N and nothing more,")?
            }
        }
        write!(f, " the outcome would be {}", self.outcome.as_str())
    }
}

/// Decides, and says why.
pub fn explain(input: &DecisionInput) -> Explanation {
    let decision = decide(input);
    let case = Case::of(input);
    let tried =
        |resource| ResourceExplanation { tried: tried(input, &case, resource), would_change: Vec::new() };
    let mut resources: Vec<_> = input.resources.iter().map(tried).collect();
    for change in candidates(input, &decision) {
        let changed = with(input, &change);
        for (n, (before, after)) in decision.resources.iter().zip(&changed.resources).enumerate() {
            let told = resources.get_mut(n).map(|r| &mut r.would_change);
            if let Some(told) =
                told.filter(|told| before.outcome != after.outcome && is_news(told, &change, after.outcome))
            {
                told.push(WouldChange { change: change.clone(), outcome: after.outcome });
            }
        }
    }
    Explanation { decision, resources }
}

/// A whole consent's absence is no news where that of one of its rules does the same.
fn is_news(told: &[WouldChange], change: &Change, outcome: Outcome) -> bool {
    let by_rule = |id: &str| {
        told.iter().any(|known| {
            known.outcome == outcome
                && matches!(&known.change, Change::WithoutRule { consent, .. } if consent == id)
        })
    };
    told.len() < MAX_CHANGES_TOLD && !matches!(change, Change::WithoutConsent { consent } if by_rule(consent))
}

/// What may matter: whatever decided, and what was never assessed. Rules come before their consents.
fn candidates(input: &DecisionInput, decision: &Decision) -> Vec<Change> {
    let mut found = BTreeSet::new();
    if input.frozen {
        found.insert(Change::NotWithdrawn);
    }
    if input.resources.iter().any(|resource| !resource.assessed) {
        found.insert(Change::Assessed);
    }
    for who in decision.resources.iter().flat_map(|resource| &resource.decided_by) {
        match who {
            DecidedBy::Consent { consent, rule } => {
                found.insert(Change::WithoutConsent { consent: consent.clone() });
                found.insert(Change::WithoutRule { consent: consent.clone(), rule: rule.clone() });
            }
            DecidedBy::DefaultPolicy { .. } => {
                found.insert(Change::WithoutPolicy);
            }
            DecidedBy::HardRule { .. } => {}
        }
    }
    let (others, consents): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|change| !matches!(change, Change::WithoutRule { .. } | Change::WithoutConsent { .. }));
    // WithoutRule is the first variant, so the set has rules before consents.
    others.into_iter().chain(consents).take(MAX_CHANGES_TRIED).collect()
}

fn with(input: &DecisionInput, change: &Change) -> Decision {
    let consents = match change {
        Change::WithoutRule { consent, rule } => {
            input.consents.iter().map(|c| without_rule(c, consent, rule)).collect()
        }
        Change::WithoutConsent { consent } => {
            input.consents.iter().filter(|c| c.id != *consent).cloned().collect()
        }
        Change::NotWithdrawn | Change::WithoutPolicy | Change::Assessed => input.consents.to_vec(),
    };
    let resources: Vec<ResourceDescriptor> = match change {
        Change::Assessed => input.resources.iter().map(assessed).collect(),
        _ => input.resources.to_vec(),
    };
    decide(&DecisionInput {
        consents: &consents,
        policy: if *change == Change::WithoutPolicy { None } else { input.policy },
        request: input.request,
        resources: &resources,
        at_ms: input.at_ms,
        frozen: input.frozen && *change != Change::NotWithdrawn,
    })
}

fn without_rule(consent: &Consent, id: &str, rule: &str) -> Consent {
    let mut changed = consent.clone();
    if consent.id == id {
        if rule == "0" {
            changed.base = Base::None;
            changed.root_rule = None;
        }
        changed.rules.retain(|r| r.id != rule);
    }
    changed
}

fn assessed(resource: &ResourceDescriptor) -> ResourceDescriptor {
    if resource.assessed {
        return resource.clone();
    }
    let confidentiality = resource.confidentiality.or(Some(Conf::N));
    ResourceDescriptor { assessed: true, confidentiality, ..resource.clone() }
}

/// Every rule that may have been looked at for a record.
fn tried(input: &DecisionInput, case: &Case, resource: &ResourceDescriptor) -> Vec<Tried> {
    let (asked, _) = case.asked(resource);
    // A record that names nobody may be about any patient here.
    let about = |standing: &&Standing| {
        resource.subjects.is_empty() || resource.subjects.contains(&standing.consent.subject)
    };
    case.standing.iter().filter(about).flat_map(|standing| of_consent(input, standing, &asked)).collect()
}

fn of_consent(input: &DecisionInput, standing: &Standing, asked: &Asked) -> Vec<Tried> {
    let consent = standing.consent;
    if consent.unresolved {
        let because = vec!["unresolved"];
        return vec![Tried { effect: "DENY", because, ..named(consent, "0", Kleene::Unknown) }];
    }
    let rules = consent.rules.iter().chain(&consent.root_rule);
    let rules = rules.map(|rule| of_rule(input, standing, rule, asked));
    rules.chain(of_base(input, standing)).collect()
}

fn named(consent: &Consent, rule: &str, holds: Kleene) -> Tried {
    Tried { consent: consent.id.clone(), rule: rule.to_owned(), effect: "", holds, because: Vec::new() }
}

/// Why a consent's permits don't count.
fn lapsed(standing: &Standing) -> Option<&'static str> {
    match (standing.permits, standing.consent.state) {
        (true, _) => None,
        (false, ConsentState::Revoked) => Some("revoked"),
        (false, _) => Some("authority"),
    }
}

fn of_rule(input: &DecisionInput, standing: &Standing, rule: &Rule, asked: &Asked) -> Tried {
    let (context, request, at_ms) = (&standing.consent.context, input.request, input.at_ms);
    let effect = rule.clause.effect;
    let lapsed = lapsed(standing).filter(|_| effect == Effect::Permit);
    let holds = matching::rule_for(rule, context, request, at_ms).and(matching::rule_on(rule, asked));
    let clauses = rule.within.iter().chain([&rule.clause]);
    let data = clauses.flat_map(|clause| matching::data_parts(clause.effect, &clause.data, asked));
    let parts = matching::parts_for(rule, context, request, at_ms).into_iter().chain(data);
    Tried {
        effect: if effect == Effect::Permit { "PERMIT" } else { "DENY" },
        because: because(lapsed, parts),
        ..named(standing.consent, &rule.id, if lapsed.is_some() { Kleene::False } else { holds })
    }
}

fn of_base(input: &DecisionInput, standing: &Standing) -> Option<Tried> {
    let (effect, read_as) = match standing.consent.base {
        Base::Permit => ("PERMIT", Effect::Permit),
        Base::Deny => ("DENY", Effect::Deny),
        Base::Limit => ("LIMIT", Effect::Deny),
        Base::None => return None,
    };
    let lapsed = lapsed(standing).filter(|_| read_as == Effect::Permit);
    let (context, request) = (&standing.consent.context, input.request);
    let holds = matching::base_for(read_as, context, request, input.at_ms);
    let parts = matching::base_parts_for(read_as, context, request, input.at_ms);
    let holds = if lapsed.is_some() { Kleene::False } else { holds };
    Some(Tried { effect, because: because(lapsed, parts), ..named(standing.consent, "0", holds) })
}

fn because(
    lapsed: Option<&'static str>,
    parts: impl IntoIterator<Item = (&'static str, Kleene)>,
) -> Vec<&'static str> {
    let mut found: Vec<&'static str> = lapsed.into_iter().collect();
    for (name, holds) in parts {
        if holds != Kleene::True && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}
