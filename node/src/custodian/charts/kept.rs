//! A chart as it is held in memory, and how much that takes.

use std::mem::size_of;
use std::sync::Arc;

use assent_ledger::consent::{Clause, Consent, ResourceDescriptor, Rule};
use assent_ledger::Hash;

/// Chart, map entry, allocations and their rounding, for each chart and for each thing that charts share.
pub(super) const OVERHEAD_BYTES: usize = 320;
/// The same for each consent and each record of a chart.
const PART_BYTES: usize = 64;

/// One patient as a decision sees them.
pub(in crate::custodian) struct Chart {
    /// What the vault had counted before it read the records.
    pub(in crate::custodian) record_changes: u64,
    /// All consents of the slot.
    pub(in crate::custodian) consents: Vec<Consent>,
    /// All records, in order of reference.
    pub(in crate::custodian) resources: Vec<ResourceDescriptor>,
}

/// A chart as it is kept. Most consents come from a few forms, and records say the same of many patients: what does not name
/// the patient is held once.
pub(super) struct Kept {
    pub(super) commitment: Hash,
    pub(super) record_changes: u64,
    patient: Box<str>,
    /// By id.
    pub(super) consents: Box<[Part<Consent>]>,
    /// By reference.
    pub(super) resources: Box<[Part<ResourceDescriptor>]>,
}

/// A consent or a record.
pub(super) struct Part<T> {
    name: Box<str>,
    /// It is about the patient, and about nobody else.
    own: bool,
    /// All but the name, and the patient where it is its own.
    pub(super) rest: Arc<T>,
}

impl Kept {
    pub(super) fn new(commitment: Hash, chart: &Chart, patient: &str) -> Self {
        let consents = chart.consents.iter().map(|consent| {
            let mut rest = consent.clone();
            let id = std::mem::take(&mut rest.id);
            let own = rest.subject == patient;
            if own {
                rest.subject.clear();
            }
            Part { name: id.into(), own, rest: Arc::new(rest) }
        });
        let resources = chart.resources.iter().map(|resource| {
            let mut rest = resource.clone();
            let reference = std::mem::take(&mut rest.reference);
            let own = rest.subjects == [patient];
            if own {
                rest.subjects = Vec::new();
            }
            Part { name: reference.into(), own, rest: Arc::new(rest) }
        });
        let (consents, resources) = (consents.collect(), resources.collect());
        Self {
            commitment,
            record_changes: chart.record_changes,
            patient: patient.into(),
            consents,
            resources,
        }
    }

    pub(super) fn chart(&self) -> Chart {
        let consents = self.consents.iter().map(|Part { name, own, rest }| {
            let subject = if *own { self.patient.to_string() } else { rest.subject.clone() };
            Consent { id: name.to_string(), subject, ..Consent::clone(rest) }
        });
        let resources = self.resources.iter().map(|Part { name, own, rest }| {
            let subjects = if *own { vec![self.patient.to_string()] } else { rest.subjects.clone() };
            ResourceDescriptor { reference: name.to_string(), subjects, ..ResourceDescriptor::clone(rest) }
        });
        let (consents, resources) = (consents.collect(), resources.collect());
        Chart { record_changes: self.record_changes, consents, resources }
    }

    /// An estimate from above of what it takes in memory, but for what is shared.
    pub(super) fn own_bytes(&self) -> usize {
        let consents = self.consents.iter().map(|part| part.name.len());
        let resources = self.resources.iter().map(|part| part.name.len());
        let parts: usize = consents.chain(resources).map(|bytes| bytes + PART_BYTES).sum();
        OVERHEAD_BYTES + self.patient.len() + parts
    }
}

pub(super) fn consent_bytes(consent: &Consent) -> usize {
    let rules = consent.rules.iter().chain(&consent.root_rule);
    let structs: usize = rules.map(|rule| size_of::<Rule>() + rule.within.len() * size_of::<Clause>()).sum();
    // Its texts: those that it has as JSON, and 64 bytes for each one's place in a list, in a map's key or by itself.
    let json = serde_json::to_vec(consent).unwrap_or_default();
    let texts = json.iter().filter(|byte| **byte == b'"').count() / 2;
    size_of::<Consent>() + structs + json.len() + 64 * texts
}

pub(super) fn resource_bytes(resource: &ResourceDescriptor) -> usize {
    let codes = resource.codes.iter().map(|c| c.code.len() + c.system.as_ref().map_or(0, String::len));
    let authors = resource.authors.iter().map(|a| a.to_string().len());
    let lists = [&resource.sensitivity, &resource.handling, &resource.subjects, &resource.encounters];
    let texts = lists.into_iter().flatten().map(String::len);
    let sizes: usize = codes.chain(authors).chain(texts).map(|bytes| bytes + 128).sum();
    size_of::<ResourceDescriptor>() + resource.resource_type.len() + 32 + sizes
}
