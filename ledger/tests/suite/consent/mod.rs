//! `assent_ledger::consent` against CONSENT.md: clause tables, laws, import refusals, reading of records.

mod agreement;
mod compose;
mod demo;
mod explain;
mod export;
mod fixtures;
mod import;
mod laws;
mod legal;
mod lifecycle;
mod overrides;
mod policy;
mod reading;
mod reference;
mod registry;
mod requests;
mod rules;

use assent_ledger::consent::*;

pub const PATIENT: &str = "Patient/p";

/// 2026-06-01T00:00:00Z.
pub const NOW_MS: i64 = 1_780_272_000_000;
pub const DAY_MS: i64 = 86_400_000;

pub fn organization(value: &str) -> Reference {
    Reference::Identifier { system: "urn:assent:organization".to_owned(), value: value.to_owned() }
}

pub fn birch(purpose: &str) -> Request {
    Request::access(vec![organization("birch")], purpose)
}

pub fn texts(items: &[&str]) -> Option<Vec<String>> {
    Some(items.iter().map(|item| (*item).to_owned()).collect())
}

/// An active consent of the patient with nothing but a base.
pub fn consent(base: Base) -> Consent {
    Consent {
        id: "c".to_owned(),
        revision: 0,
        subject: PATIENT.to_owned(),
        state: ConsentState::Active,
        context: Context::default(),
        base,
        root_rule: None,
        rules: Vec::new(),
        legal_basis: None,
        authority_ends_ms: None,
        unresolved: false,
        obligations: Vec::new(),
    }
}

/// A rule with no condition, in a group of its own.
pub fn rule(id: u32, effect: Effect) -> Rule {
    Rule { id: id.to_string(), group: id, depth: 1, clause: Clause::of(effect), within: Vec::new() }
}

/// A rule about these records alone.
pub fn data_rule(id: u32, effect: Effect, data: DataFilter) -> Rule {
    Rule { clause: Clause { data, ..Clause::of(effect) }, ..rule(id, effect) }
}

pub fn labelled_rule(id: u32, effect: Effect, labels: &[&str]) -> Rule {
    data_rule(id, effect, DataFilter { labels: texts(labels), ..Default::default() })
}

/// An Observation of the patient, assessed, with these v3 ActCode labels.
pub fn record(conf: Conf, sensitivity: &[&str]) -> ResourceDescriptor {
    ResourceDescriptor {
        reference: "Observation/1".to_owned(),
        resource_type: "Observation".to_owned(),
        confidentiality: Some(conf),
        sensitivity: texts(sensitivity).unwrap_or_default(),
        assessed: true,
        subjects: vec![PATIENT.to_owned()],
        ..Default::default()
    }
}

pub fn unlabelled() -> ResourceDescriptor {
    ResourceDescriptor { confidentiality: None, assessed: false, ..record(Conf::N, &[]) }
}

pub fn decided(consents: &[Consent], request: &Request, record: &ResourceDescriptor) -> ResourceDecision {
    decided_with(consents, None, request, record)
}

pub fn decided_with(
    consents: &[Consent],
    policy: Option<&DefaultPolicy>,
    request: &Request,
    record: &ResourceDescriptor,
) -> ResourceDecision {
    let resources = std::slice::from_ref(record);
    let input = DecisionInput { consents, policy, request, resources, at_ms: NOW_MS, frozen: false };
    decide(&input).resources.remove(0)
}

pub fn by(consent: &str, rule: &str) -> DecidedBy {
    DecidedBy::Consent { consent: consent.to_owned(), rule: rule.to_owned() }
}
