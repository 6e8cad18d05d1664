//! A signed request as the decision takes it: who asks is looked up in the custodian's registry, never believed. Node and
//! auditor call the same, so that a decision can be made again.

use assent_proto::ledger::v1::{DataRequest, PolicyBody};

use super::compose::ORGANIZATION_SYSTEM;
use super::model::Reference;
use super::policy::{DefaultPolicy, PolicyFault};
use super::registry::{Registry, RegistryFault};
use super::request::{BreakGlassReason, Request};

/// A custodian's own rules, as one version of its policy slot has them.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The default policy, if there is one.
    pub policy: Option<DefaultPolicy>,
    /// Who is who, if that is said.
    pub registry: Option<Registry>,
}

/// Why recorded rules can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesFault {
    #[error("default policy: {0}")]
    Policy(#[from] PolicyFault),
    #[error("registry: {0}")]
    Registry(#[from] RegistryFault),
}

impl Rules {
    /// Reads recorded rules; an empty policy or registry is none.
    pub fn read(body: &PolicyBody) -> Result<Self, RulesFault> {
        let given = |json| Some(json).filter(|json: &&Vec<u8>| !json.is_empty());
        Ok(Self {
            policy: given(&body.policy).map(|json| DefaultPolicy::parse(json)).transpose()?,
            registry: given(&body.registry).map(|json| Registry::parse(json)).transpose()?,
        })
    }
}

/// What is asked, as the decision function takes it.
///
/// Groups are stated where there is a registry and the actor is a reference: a person whom it doesn't list under the
/// recipient belongs to none of its groups. Without a registry nobody knows, and rules about groups are UNKNOWN.
pub fn asked(request: &DataRequest, rules: &Rules, at_ms: u64) -> Request {
    let mut recipient =
        vec![Reference::Identifier { system: ORGANIZATION_SYSTEM.into(), value: request.recipient.clone() }];
    let registry = rules.registry.as_ref();
    recipient.extend(registry.iter().flat_map(|r| r.references(&request.recipient)).cloned());
    let mut asked = Request::access(recipient, &request.purpose);
    asked.actor = actor(request);
    asked.action = request.action.clone();
    asked.groups = registry
        .zip(asked.actor.as_ref())
        .map(|(registry, actor)| registry.groups_of(&request.recipient, actor, signed(at_ms)));
    asked.known_groups = registry.map(|registry| registry.groups());
    asked.recipient_is_plan = registry.is_some_and(|registry| registry.is_plan(&request.recipient));
    if !request.break_glass_reason.is_empty() {
        asked.break_glass = Some(BreakGlassReason { reason: request.break_glass_reason.clone() });
    }
    asked
}

/// When a membership of the person who acts starts or ends next.
pub fn membership_change(request: &DataRequest, rules: &Rules, at_ms: u64) -> Option<i64> {
    let (registry, actor) = (rules.registry.as_ref()?, actor(request)?);
    registry.next_change(&request.recipient, &actor, signed(at_ms))
}

/// What is no reference names nobody: rules about persons are then UNKNOWN. A recipient's client only asserts its actor, and
/// must not become the patient by saying so: a patient's own request (PATRQT) skips consents.
fn actor(request: &DataRequest) -> Option<Reference> {
    Reference::parse(&request.actor).filter(|actor| !names_a_patient(actor))
}

fn names_a_patient(actor: &Reference) -> bool {
    matches!(actor, Reference::Literal(text) if text.starts_with("Patient/"))
}

fn signed(at_ms: u64) -> i64 {
    i64::try_from(at_ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_becomes_the_patient_by_saying_so() {
        let asked_as = |actor: &str| {
            let request = DataRequest { actor: actor.into(), purpose: "PATRQT".into(), ..Default::default() };
            asked(&request, &Rules::default(), 0).actor
        };
        assert_eq!(asked_as("Patient/ada"), None);
        assert_eq!(asked_as("Dr. Grey"), None);
        assert_eq!(asked_as("Practitioner/grey"), Some(Reference::Literal("Practitioner/grey".into())));
    }

    #[test]
    fn groups_are_stated_only_where_they_are_known() {
        let json = br#"{"organizations":[{"id":"birch","references":["Organization/b"],"is_plan":true}],
            "groups":[{"id":"Group/icu","members":[{"organization":"birch","actor":"Practitioner/grey","valid":{"end":"1970-01-01T00:00:01Z"}}]}]}"#;
        let rules = Rules { policy: None, registry: Some(Registry::parse(json).unwrap()) };
        let of = |recipient: &str, actor: &str| DataRequest {
            recipient: recipient.into(),
            actor: actor.into(),
            ..Default::default()
        };
        let icu = Reference::Literal("Group/icu".into());
        for (recipient, actor, at_ms, groups) in [
            ("birch", "Practitioner/grey", 999, Some(vec![icu.clone()])),
            ("birch", "Practitioner/grey", 1000, Some(vec![])),
            ("birch", "Practitioner/eve", 0, Some(vec![])),
            ("elm", "Practitioner/grey", 0, Some(vec![])),
            ("birch", "Dr. Grey", 0, None),
            ("birch", "Patient/ada", 0, None),
        ] {
            let request = asked(&of(recipient, actor), &rules, at_ms);
            assert_eq!(request.groups, groups, "{recipient} {actor} {at_ms}");
            assert_eq!(request.known_groups, Some(vec![icu.clone()]));
            assert_eq!(
                (request.recipient.len(), request.recipient_is_plan),
                match recipient {
                    "birch" => (2, true),
                    _ => (1, false),
                }
            );
        }
        let grey = of("birch", "Practitioner/grey");
        assert_eq!(asked(&grey, &Rules::default(), 0).groups, None);
        assert_eq!(membership_change(&grey, &rules, 0), Some(1000));
        assert_eq!(membership_change(&of("elm", "Practitioner/grey"), &rules, 0), None);
    }
}
