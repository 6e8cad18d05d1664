//! What decisions need of patients, opened and read once: consents and descriptions of records, in bounded memory.
//!
//! ```text
//! slot's commitment, count of record changes ─▶ the same as when it was read? ─▶ chart     no: vault, recomputed, read anew
//! ```
//! A chart counts for exactly the commitment that it was opened and recomputed for, so what is in memory can't stand in for
//! anything that the ledger does not commit to; the vault is asked for everything else, with its alarm. Releases don't use
//! charts: what goes out is judged from the bytes that go out.

mod kept;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use assent_ledger::consent::{describe_resource, Consent, ResourceDescriptor, Rules};
use assent_ledger::Hash;

use super::opened::alarm;
use super::Custodian;
use crate::refusal::Refusal;
use crate::vault::Subject;

use kept::{consent_bytes, resource_bytes, Kept, OVERHEAD_BYTES};

pub(super) use kept::Chart;

/// Most bytes of all charts in memory, estimated from above.
pub const MAX_CHART_BYTES: usize = 192 << 20;
/// A longer chart is not kept: one patient must not push out thousands.
const MAX_KEPT_CHART_BYTES: usize = 1 << 20;
/// More consents and records of one patient are not kept either.
const MAX_KEPT_PARTS: usize = 512;

/// Kept charts, with what they share.
#[derive(Default)]
struct Generation {
    charts: HashMap<Hash, Kept>,
    consents: HashSet<Arc<Consent>>,
    resources: HashSet<Arc<ResourceDescriptor>>,
    /// Of everything that was put here, what was replaced since included.
    bytes: usize,
}

fn share<T: Eq + std::hash::Hash>(
    pool: &mut HashSet<Arc<T>>,
    item: &mut Arc<T>,
    bytes: fn(&T) -> usize,
) -> usize {
    if let Some(known) = pool.get(item.as_ref()) {
        *item = known.clone();
        return 0;
    }
    pool.insert(item.clone());
    bytes(item) + OVERHEAD_BYTES
}

impl Generation {
    fn put(&mut self, handle: Hash, mut kept: Kept) {
        self.bytes += kept.own_bytes();
        for part in &mut kept.consents {
            self.bytes += share(&mut self.consents, &mut part.rest, consent_bytes);
        }
        for part in &mut kept.resources {
            self.bytes += share(&mut self.resources, &mut part.rest, resource_bytes);
        }
        self.charts.insert(handle, kept);
    }
}

/// When the newer holds half of what may be held it becomes the older, and the older is forgotten. What is asked for moves to
/// the newer.
#[derive(Default)]
struct Generations {
    newer: Generation,
    older: Generation,
}

impl Generations {
    /// What is forgotten comes back, for the caller to drop when the lock is gone.
    #[must_use]
    fn put(&mut self, handle: Hash, kept: Kept) -> Option<Generation> {
        self.newer.put(handle, kept);
        let is_full = self.newer.bytes > MAX_CHART_BYTES / 2 - MAX_KEPT_CHART_BYTES;
        is_full.then(|| std::mem::replace(&mut self.older, std::mem::take(&mut self.newer)))
    }
}

/// Charts by handle, and the custodian's own rules as they were opened last.
#[derive(Default)]
pub(super) struct Charts {
    held: Mutex<Generations>,
    rules: Mutex<Option<(Vec<u8>, Arc<Rules>)>>,
}

/// What is locked is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Charts {
    /// The chart that was read for exactly this commitment and count of record changes.
    fn get(&self, handle: &Hash, commitment: &[u8], record_changes: u64) -> Option<Chart> {
        let stands = |kept: &Kept| kept.commitment == commitment && kept.record_changes == record_changes;
        let mut held = lock(&self.held);
        if let Some(kept) = held.newer.charts.get(handle) {
            return stands(kept).then(|| kept.chart());
        }
        let kept = held.older.charts.remove(handle).filter(stands)?;
        let chart = kept.chart();
        let forgotten = held.put(*handle, kept);
        drop(held);
        drop(forgotten);
        Some(chart)
    }

    fn put(&self, handle: &Hash, commitment: Hash, chart: &Chart, patient: &str) {
        // A bound on the parts, before they are counted one by one.
        if chart.consents.len() + chart.resources.len() > MAX_KEPT_PARTS {
            return;
        }
        let consents: usize = chart.consents.iter().map(consent_bytes).sum();
        let resources: usize = chart.resources.iter().map(resource_bytes).sum();
        if consents + resources > MAX_KEPT_CHART_BYTES / 2 {
            return;
        }
        let kept = Kept::new(commitment, chart, patient);
        let forgotten = lock(&self.held).put(*handle, kept);
        drop(forgotten);
    }
}

impl Custodian {
    /// The chart of a patient under the slot's commitment; none when the records are more than so many bytes and not at hand.
    pub(super) fn chart(
        &self,
        subject: &Subject,
        commitment: &[u8],
        max_bytes: usize,
    ) -> Result<Option<Chart>, Refusal> {
        let (vault, handle) = (&self.parts.vault, &subject.handle);
        // Before they are read: a change in between must not go unseen.
        let record_changes = vault.record_changes(handle);
        if let Some(chart) = self.charts.get(handle, commitment, record_changes) {
            return Ok(Some(chart));
        }
        let set = self.open_set(handle, commitment)?;
        let consents = self.open_consents(subject, &set)?;
        let Some(records) = vault.records_up_to(handle, max_bytes)? else {
            return Ok(None);
        };
        let described = records.iter().map(|record| describe_resource(&record.bytes));
        let resources =
            described.collect::<Result<_, _>>().map_err(|_| alarm("a stored record does not parse"))?;
        let commitment = commitment.try_into().map_err(|_| alarm("a slot's commitment is not 32 bytes"))?;
        let chart = Chart { record_changes, consents, resources };
        self.charts.put(handle, commitment, &chart, &subject.patient_reference);
        Ok(Some(chart))
    }

    /// The rules that the policy slot's commitment stands for, opened once for each.
    pub(super) fn standing_rules(&self, commitment: &[u8]) -> Result<Arc<Rules>, Refusal> {
        let last = lock(&self.charts.rules).clone();
        if let Some((_, rules)) = last.filter(|(known, _)| known == commitment) {
            return Ok(rules);
        }
        let rules = Arc::new(self.open_rules(commitment)?);
        *lock(&self.charts.rules) = Some((commitment.to_vec(), rules.clone()));
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A patient with one record, whose code no other patient has.
    fn chart(code: &str) -> Chart {
        let subjects = vec!["Patient/p".to_owned(), "Patient/q".to_owned()];
        let consents = vec![Consent { revision: 7, ..Consent::unresolved("c", "Patient/p") }];
        let resource = ResourceDescriptor {
            reference: "Observation/1".into(),
            resource_type: code.into(),
            subjects: vec!["Patient/p".into()],
            ..Default::default()
        };
        let of_two = ResourceDescriptor { subjects, ..resource.clone() };
        Chart { record_changes: 3, consents, resources: vec![resource, of_two] }
    }

    fn handle(n: usize) -> Hash {
        let mut handle = [0; 32];
        handle[..8].copy_from_slice(&n.to_be_bytes());
        handle
    }

    #[test]
    fn what_is_kept_comes_back_for_its_own_commitment_only() {
        let charts = Charts::default();
        let made = chart("Observation");
        charts.put(&handle(1), [1; 32], &made, "Patient/p");
        let found = charts.get(&handle(1), &[1; 32], 3).unwrap();
        assert_eq!((&found.consents, &found.resources), (&made.consents, &made.resources));
        assert_eq!(found.record_changes, 3);
        assert!(
            charts.get(&handle(1), &[2; 32], 3).is_none() && charts.get(&handle(1), &[1; 32], 4).is_none()
        );
        assert!(charts.get(&handle(2), &[1; 32], 3).is_none());
        charts.put(&handle(1), [2; 32], &chart("Condition"), "Patient/p");
        assert!(charts.get(&handle(1), &[1; 32], 3).is_none());
        assert_eq!(charts.get(&handle(1), &[2; 32], 3).unwrap().resources[0].resource_type, "Condition");
        // Patients of one form share it.
        for n in 0..100 {
            charts.put(&handle(n), [1; 32], &made, "Patient/p");
        }
        assert_eq!(lock(&charts.held).newer.consents.len(), 1);
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let charts = Charts::default();
        let long = |n: usize| chart(&format!("{n}{}", "x".repeat(200_000)));
        let mut forgotten = false;
        for n in 0..2 * MAX_CHART_BYTES / 400_000 {
            charts.put(&handle(n), [1; 32], &long(n), "Patient/p");
            assert!(charts.get(&handle(0), &[1; 32], 3).is_some(), "forgotten after {n}");
            let held = lock(&charts.held);
            assert!(held.newer.bytes + held.older.bytes <= MAX_CHART_BYTES);
            forgotten |= n > 1
                && !held.newer.charts.contains_key(&handle(1))
                && !held.older.charts.contains_key(&handle(1));
        }
        assert!(forgotten);
        charts.put(&handle(7), [1; 32], &chart(&"x".repeat(MAX_KEPT_CHART_BYTES)), "Patient/p");
        assert!(charts.get(&handle(7), &[1; 32], 3).is_none(), "one patient's may be too long to keep");
    }
}
