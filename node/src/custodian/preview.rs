//! What a change of consents would do, record by record: decided on in memory, and dropped.
//!
//! ```text
//! consents as they are ─▶ decide ─┐
//! changed in memory ────▶ decide ─┴─▶ what changes      the new consent alone ─▶ decide ─▶ what a standing rule neutralises
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use assent_ledger::block::Tip;
use assent_ledger::consent::{
    asked, decide, describe_resource, Consent, DecidedBy, DecisionInput, Recipient, Reference, Request,
    ResourceDecision, ResourceDescriptor, Rules, Step,
};
use assent_proto::ledger::v1::DataRequest;

use super::changing::Opened;
use super::evaluate::ORGANIZATION_SYSTEM;
use super::opened::alarm;
use super::record::{Applied, NewConsent};
use super::revoke::apply_step;
use super::{blocking, Custodian, PatientName};
use crate::refusal::{Kind, Refusal};

/// Most accesses that one preview is worked out for.
pub const MAX_PROBES: usize = 64;
/// Most changed and neutralised resources in one preview: such an answer stays below the 4 MiB that gRPC clients take.
const MAX_CHANGES: usize = 10_000;

/// A change to try.
#[derive(Debug, Clone)]
pub enum Trial {
    /// Record this.
    Record(Box<NewConsent>),
    /// Revoke the consent of this id.
    Revoke(String),
}

/// One access.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// Organization that would ask.
    pub recipient: String,
    /// Person who would act.
    pub actor: String,
    /// Code of HL7 v3 ActReason.
    pub purpose: String,
    /// Code of the FHIR consent action.
    pub action: String,
}

/// What a change would do to one access.
#[derive(Clone)]
pub struct ProbeEffect {
    /// The access.
    pub probe: Probe,
    /// Resource, outcome before, outcome after, who decides then.
    pub changes: Vec<(String, &'static str, &'static str, Vec<String>)>,
    /// Resource that the new consent permits by itself, outcome then, what withholds it.
    pub neutralised: Vec<(String, &'static str, Vec<String>)>,
}

/// What a change would do.
#[derive(Clone)]
pub struct Preview {
    /// The state of the ledger that it was worked out from.
    pub tip: Arc<Tip>,
    /// The new consent's rules in words.
    pub rules: Vec<String>,
    /// Rules in words that go on denying after a revocation.
    pub still_denied: Vec<String>,
    /// By access.
    pub effects: Vec<ProbeEffect>,
}

opaque_debug!(ProbeEffect, Preview);

/// Consents before and after, and what else a decision takes.
struct Worlds {
    rules: Rules,
    records: Vec<ResourceDescriptor>,
    before: Vec<Consent>,
    after: Vec<Consent>,
    /// The new consent's id, for a trial that records one.
    new: Option<String>,
    /// Consents that whoever asks must not hear of.
    hidden: BTreeSet<String>,
    at_ms: i64,
    frozen: bool,
}

impl Custodian {
    /// Works out a change. Refused for the same reasons as the change itself.
    pub fn preview(
        &self,
        patient: &PatientName,
        trial: &Trial,
        probes: Vec<Probe>,
    ) -> Result<Preview, Refusal> {
        blocking(|| self.work_out(patient, trial, probes))
    }

    fn work_out(&self, patient: &PatientName, trial: &Trial, probes: Vec<Probe>) -> Result<Preview, Refusal> {
        self.must_be_fresh()?;
        let view = self.parts.store.view()?;
        let rules = self.open_rules(&view.policy(self.organization())?.commitment)?;
        let mut opened = self.open_patient(&view, patient)?;
        let before = self.open_consents(&opened.subject, &opened.set)?;
        let (mut said, mut still_denied, mut new, mut hidden) =
            (Vec::new(), Vec::new(), None, BTreeSet::new());
        let named: Vec<&str> = match trial {
            Trial::Record(asked) => {
                if asked.grantor.is_some() {
                    let own = opened.set.consents.iter().filter(|record| record.body.confidential);
                    hidden.extend(own.map(|record| record.body.id.clone()));
                }
                let Applied { id, imported, .. } = self.apply_new(&mut opened, asked)?;
                said = imported.sentences;
                let id = &*new.insert(id);
                asked.supersedes.iter().chain([id]).map(String::as_str).collect()
            }
            Trial::Revoke(id) => {
                still_denied = apply_step(&mut opened, id, Step::Revoke)?.still_denied;
                vec![id]
            }
        };
        let after = self.open_consents(&opened.subject, &opened.set)?;
        let probes = match probes.is_empty() {
            true => {
                let about =
                    before.iter().chain(&after).filter(|consent| named.contains(&consent.id.as_str()));
                self.derived(about)
            }
            false => probes,
        };
        let worlds = Worlds {
            rules,
            records: self.descriptors(&opened)?,
            before,
            after,
            new,
            hidden,
            at_ms: opened.time_ms,
            frozen: opened.slot.frozen,
        };
        let (mut effects, mut total) = (Vec::with_capacity(probes.len()), 0);
        for (n, probe) in probes.into_iter().enumerate() {
            let effect = self
                .effect(&worlds, probe)
                .map_err(|refusal| refusal.with("field", format!("probes[{n}]")))?;
            total += effect.changes.len() + effect.neutralised.len();
            if total > MAX_CHANGES {
                let message = format!("it would change more than {MAX_CHANGES} outcomes: name fewer probes");
                return Err(Refusal::new(Kind::FailedPrecondition, "PREVIEW_TOO_LARGE", message));
            }
            effects.push(effect);
        }
        Ok(Preview { tip: view.tip.clone(), rules: said, still_denied, effects })
    }

    fn descriptors(&self, opened: &Opened) -> Result<Vec<ResourceDescriptor>, Refusal> {
        let records = self.parts.vault.records_of(&opened.subject.handle)?;
        let described = records.iter().map(|record| describe_resource(&record.bytes));
        described.collect::<Result<_, _>>().map_err(|_| alarm("a stored record does not parse"))
    }

    /// The organizations and purposes that consents name: without the former all of the network, without the latter TREAT.
    fn derived<'a>(&self, consents: impl Iterator<Item = &'a Consent>) -> Vec<Probe> {
        let (mut organizations, mut purposes) = (BTreeSet::new(), BTreeSet::new());
        for consent in consents {
            let clauses = consent.rules.iter().chain(&consent.root_rule);
            let clauses: Vec<_> = clauses.flat_map(|rule| rule.within.iter().chain([&rule.clause])).collect();
            let recipients = clauses.iter().filter_map(|clause| clause.recipients.as_ref());
            for recipient in recipients.chain(&consent.context.recipients).flatten() {
                if let Recipient::Organization(Reference::Identifier { system, value })
                | Recipient::Named(Reference::Identifier { system, value }) = recipient
                {
                    if system == ORGANIZATION_SYSTEM {
                        organizations.insert(value.clone());
                    }
                }
            }
            let listed = clauses.iter().filter_map(|clause| clause.purposes.as_ref());
            purposes.extend(listed.chain(&consent.context.purposes).flatten().cloned());
        }
        if organizations.is_empty() {
            let present = self.parts.members.present();
            organizations.extend(present.membership.organizations.iter().map(|o| o.id.clone()));
        }
        if purposes.is_empty() {
            purposes.insert("TREAT".to_owned());
        }
        let pairs = organizations.iter().flat_map(|recipient| purposes.iter().map(move |p| (recipient, p)));
        pairs
            .take(MAX_PROBES)
            .map(|(recipient, purpose)| Probe {
                recipient: recipient.clone(),
                actor: String::new(),
                purpose: purpose.clone(),
                action: "access".to_owned(),
            })
            .collect()
    }

    fn effect(&self, worlds: &Worlds, probe: Probe) -> Result<ProbeEffect, Refusal> {
        // As the same request would come from the recipient's node.
        let request = DataRequest {
            custodian: self.organization().to_owned(),
            recipient: probe.recipient.clone(),
            actor: probe.actor.clone(),
            purpose: probe.purpose.clone(),
            action: probe.action.clone(),
            ..DataRequest::default()
        };
        let at_ms = u64::try_from(worlds.at_ms).unwrap_or_default();
        let request = asked(&request, &worlds.rules, at_ms);
        request.check().map_err(|e| Refusal::invalid("BAD_PROBE", "probes", e.to_string()))?;
        let before = worlds.decide(&worlds.before, &request, worlds.frozen);
        let after = worlds.decide(&worlds.after, &request, worlds.frozen);
        let new = worlds.new.as_deref();
        let alone: Vec<Consent> =
            worlds.after.iter().filter(|consent| Some(consent.id.as_str()) == new).cloned().collect();
        let alone = worlds.decide(&alone, &request, false);
        let by_new = |found: &ResourceDecision| {
            let is_new = |who: &DecidedBy| matches!(who, DecidedBy::Consent { consent, .. } if Some(consent.as_str()) == new);
            found.outcome.is_permitted() && found.decided_by.iter().any(is_new)
        };
        let mut effect = ProbeEffect { probe, changes: Vec::new(), neutralised: Vec::new() };
        for ((before, after), alone) in before.into_iter().zip(after).zip(alone) {
            if by_new(&alone) && !after.outcome.is_permitted() {
                let by = worlds.names(&after);
                effect.neutralised.push((after.reference.clone(), after.outcome.as_str(), by));
            }
            if before.outcome != after.outcome {
                let by = worlds.names(&after);
                effect.changes.push((after.reference, before.outcome.as_str(), after.outcome.as_str(), by));
            }
        }
        Ok(effect)
    }
}

impl Worlds {
    fn decide(&self, consents: &[Consent], request: &Request, frozen: bool) -> Vec<ResourceDecision> {
        let input = DecisionInput {
            consents,
            policy: self.rules.policy.as_ref(),
            request,
            resources: &self.records,
            at_ms: self.at_ms,
            frozen,
        };
        decide(&input).resources
    }

    fn names(&self, found: &ResourceDecision) -> Vec<String> {
        let shown = found.decided_by.iter().filter(|who| match who {
            DecidedBy::Consent { consent, .. } => !self.hidden.contains(consent),
            _ => true,
        });
        shown.map(ToString::to_string).collect()
    }
}
