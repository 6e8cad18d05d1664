//! The custodian's default policy (INTERFACES.md, "Default policy"): what holds where no consent speaks. Versioned, and
//! committed to in the policy slot; a decision that it made names it.

use serde::{Deserialize, Serialize};

use super::json::{self, JsonFault};
use super::kleene::Kleene;
use super::matching;
use super::model::{Effect, Reference};
use super::request::Request;
use super::tables;

/// Bytes of one policy.
const MAX_POLICY_BYTES: usize = 256 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PolicyVersion {
    Number(u64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    pub effect: Effect,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purposes: Option<Vec<String>>,
    /// REFs: a literal `Organization/x`, or `system|value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organizations: Option<Vec<String>>,
}

/// Who may break the glass, for what, and what that overrides (CONSENT.md, Decision 1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// REFs of the groups whose members may.
    pub groups: Vec<String>,
    /// Purposes, of which the treatment family counts; as a PERMIT's list covers what is below.
    pub purposes: Vec<String>,
    #[serde(default)]
    pub overrides_deny: bool,
    #[serde(default)]
    pub overrides_frozen: bool,
}

/// Records without any label count as assessed `N` for these purposes and those below (CONSENT.md, Decision 5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlabelled {
    pub assume: String,
    pub purposes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultPolicy {
    pub id: String,
    pub version: PolicyVersion,
    pub rules: Vec<PolicyRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlass>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<Unlabelled>,
}

/// Why a default policy is refused; `path` is where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    #[error("{0}")]
    Malformed(String),
    #[error("{path} is an empty list; leave it out to mean any")]
    EmptyList { path: String },
    #[error("{path} is empty")]
    EmptyText { path: String },
    #[error("{path}: {code:?} is no purpose of use")]
    UnknownPurpose { path: String, code: String },
    #[error("{path}: {text:?} is neither Type/id nor system|value")]
    BadReference { path: String, text: String },
    #[error("unlabelled.assume is {0:?}; only N can be assumed")]
    BadAssumption(String),
}

impl DefaultPolicy {
    /// Strict: unknown and repeated keys, empty lists and unknown purposes are refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyFault> {
        let value = json::parse(bytes, MAX_POLICY_BYTES)
            .map_err(|JsonFault { message, .. }| PolicyFault::Malformed(message))?;
        let policy: Self =
            serde_json::from_value(value).map_err(|e| PolicyFault::Malformed(e.to_string()))?;
        policy.check()?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), PolicyFault> {
        if self.id.is_empty() {
            return Err(PolicyFault::EmptyText { path: "id".to_owned() });
        }
        filled("rules", &self.rules)?;
        for (n, rule) in self.rules.iter().enumerate() {
            if let Some(purposes) = &rule.purposes {
                check_purposes(&format!("rules[{n}].purposes"), purposes)?;
            }
            if let Some(organizations) = &rule.organizations {
                check_references(&format!("rules[{n}].organizations"), organizations)?;
            }
        }
        if let Some(glass) = &self.break_glass {
            check_references("break_glass.groups", &glass.groups)?;
            check_purposes("break_glass.purposes", &glass.purposes)?;
        }
        if let Some(unlabelled) = &self.unlabelled {
            if unlabelled.assume != "N" {
                return Err(PolicyFault::BadAssumption(unlabelled.assume.clone()));
            }
            check_purposes("unlabelled.purposes", &unlabelled.purposes)?;
        }
        Ok(())
    }

    /// What the policy says of this request, DENY first; `None` where it says nothing. It has no data conditions, so
    /// this holds for all records, but for those that Decision 3 takes out of every default.
    pub(super) fn says(&self, request: &Request) -> Option<Effect> {
        let speaks = |effect| {
            self.rules.iter().any(|rule| {
                let holds = rule_holds(rule, request);
                // No Unknown comes from a checked request. For one that isn't, a deny is taken as meant.
                rule.effect == effect
                    && (holds == Kleene::True || (effect == Effect::Deny && holds != Kleene::False))
            })
        };
        [Effect::Deny, Effect::Permit].into_iter().find(|effect| speaks(*effect))
    }

    /// Decision 1: emergency access, for the treatment family, by a member of a group that the policy names, with a reason.
    pub(super) fn lets_break_glass(&self, request: &Request) -> bool {
        let (Some(glass), Some(asked)) = (&self.break_glass, &request.break_glass) else {
            return false;
        };
        let member = |named: &String| {
            let group = Reference::parse(named);
            group.is_some_and(|group| request.groups.as_ref().is_some_and(|groups| groups.contains(&group)))
        };
        !asked.reason.trim().is_empty()
            && tables::TREATMENT_FAMILY.contains(&request.purpose.as_str())
            && matching::purposes(
                Effect::Permit,
                [Some(glass.purposes.as_slice())].into_iter(),
                &request.purpose,
            ) == Kleene::True
            && glass.groups.iter().any(member)
    }

    /// Whether unlabelled records count as assessed N for this purpose (CONSENT.md, Decision 5).
    pub(super) fn assumes_normal(&self, purpose: &str) -> bool {
        self.unlabelled
            .as_ref()
            .is_some_and(|rule| rule.purposes.iter().any(|listed| tables::purpose_within(purpose, listed)))
    }
}

fn rule_holds(rule: &PolicyRule, request: &Request) -> Kleene {
    // HMARKT is never a default, not even where a policy names it (CONSENT.md, Decision 3).
    if rule.effect == Effect::Permit && request.purpose == "HMARKT" {
        return Kleene::False;
    }
    let organizations = rule.organizations.as_ref().map_or(Kleene::True, |listed| {
        if request.recipient.is_empty() {
            return Kleene::Unknown;
        }
        Kleene::any(listed.iter().map(|text| {
            let reference = Reference::parse(text);
            reference.is_some_and(|reference| request.recipient.contains(&reference)).into()
        }))
    });
    organizations.and(matching::purposes(
        rule.effect,
        [rule.purposes.as_deref()].into_iter(),
        &request.purpose,
    ))
}

fn filled<T>(path: &str, list: &[T]) -> Result<(), PolicyFault> {
    if list.is_empty() {
        return Err(PolicyFault::EmptyList { path: path.to_owned() });
    }
    Ok(())
}

fn check_purposes(path: &str, purposes: &[String]) -> Result<(), PolicyFault> {
    filled(path, purposes)?;
    match purposes.iter().find(|code| !tables::is_purpose(code)) {
        Some(code) => Err(PolicyFault::UnknownPurpose { path: path.to_owned(), code: code.clone() }),
        None => Ok(()),
    }
}

fn check_references(path: &str, references: &[String]) -> Result<(), PolicyFault> {
    filled(path, references)?;
    match references.iter().find(|text| Reference::parse(text).is_none()) {
        Some(text) => Err(PolicyFault::BadReference { path: path.to_owned(), text: text.clone() }),
        None => Ok(()),
    }
}
