//! Openings compared with what the ledger commits to. One that does not match is a finding, and counts as not opened.
//!
//! Consents and records are read once each, however often sets and accesses name them.

use std::collections::BTreeMap;

use assent_proto::ledger::v1::{
    AccessEvent, ConsentBody, DecisionOpenings, OpenedAccess, OpenedPolicy, OpenedSet, PackedConsent,
    PolicyBody, Reasons,
};

use super::history::SlotHistory;
use super::Finding;
use crate::commitment::{commit, root_of_digests, slot_commitment, ConsentLeaf};
use crate::consent::{describe_resource, read_consent, recorded_state, Consent, ResourceDescriptor, Rules};
use crate::encoding::{array, decode};
use crate::entry::MAX_ENTRY_BYTES;
use crate::hash::{sha256, Context, Hash};
use crate::pack::{CONTACT_PREFERENCES, MAX_PACKED_BODY_BYTES};

/// Longest policy with its registry.
const MAX_POLICY_BODY_BYTES: usize = 1 << 20;
const OPENING: &str = "OPENING_MISMATCH";

/// Released records as a decision takes them, by their digests.
#[derive(Debug, Clone, Default)]
pub struct Records {
    described: BTreeMap<Hash, Result<ResourceDescriptor, String>>,
    /// Digests in order, by their root.
    bundles: BTreeMap<Hash, Vec<Hash>>,
}

impl Records {
    /// Takes over what one release held: from the bundle that its recipient keeps.
    pub fn add_bundle(&mut self, resources: &[Vec<u8>]) {
        let digests: Vec<Hash> = resources.iter().map(|record| self.add(record)).collect();
        self.bundles.insert(root_of_digests(&digests), digests);
    }

    fn add(&mut self, record: &[u8]) -> Hash {
        let digest = sha256(record);
        let describe = || describe_resource(record).map_err(|refusal| format!("{refusal:?}"));
        self.described.entry(digest).or_insert_with(describe);
        digest
    }
}

/// An opened access event.
#[derive(Debug, Clone)]
pub struct OpenedEvent {
    /// The event.
    pub event: AccessEvent,
    /// Rules that decided; none when that isn't opened.
    pub decided_by: Option<Vec<String>>,
    /// Of what was released, in order; none when that isn't opened.
    digests: Option<Vec<Hash>>,
}

/// Everything that matches its commitment.
#[derive(Debug, Clone, Default)]
pub struct Opened {
    /// How the custodian's records name the patient.
    pub patient_reference: String,
    /// What does not match.
    pub findings: Vec<Finding>,
    pub(super) events: BTreeMap<u64, OpenedEvent>,
    /// As the file has them; or why they can't be read.
    consents: Vec<Result<Consent, String>>,
    /// Places in `consents` by the slot's commitment.
    sets: BTreeMap<Vec<u8>, Vec<usize>>,
    policies: BTreeMap<u64, Result<Rules, String>>,
    records: Records,
}

type Outcome<T> = Result<T, Finding>;

/// One consent of the file: its leaf in a set, and itself; nothing for contact preferences.
struct Read {
    leaf: ConsentLeaf,
    body: Option<ConsentBody>,
}

fn same(what: &str, expected: &[u8], found: &[u8]) -> Outcome<()> {
    match expected == found {
        true => Ok(()),
        false => Err(Finding::new(OPENING, what, hex::encode(expected), hex::encode(found))),
    }
}

fn unreadable(what: &str, error: impl ToString) -> Finding {
    Finding::new(OPENING, what, "a body that can be read", error.to_string())
}

fn missing(what: &str) -> Finding {
    Finding::new(OPENING, what, "nothing: the ledger has no such step", "an opening")
}

fn salt(what: &str, bytes: &[u8]) -> Outcome<Hash> {
    array("opening", "salt", bytes).map_err(|e| unreadable(what, e))
}

impl Opened {
    /// Compares a file with a slot's history; `records` need not be in the file.
    pub fn of(file: &DecisionOpenings, history: &SlotHistory, records: Records) -> Self {
        let patient_reference = file.patient_reference.clone();
        let mut opened = Self { records, patient_reference, ..Self::default() };
        if history.consents.is_empty() {
            opened.findings.push(Finding::new(
                OPENING,
                "handle",
                "one of a patient on the ledger",
                "nobody's",
            ));
        }
        let read: Vec<Outcome<Read>> = file.consents.iter().map(|packed| read(history, packed)).collect();
        opened.consents = read.iter().map(|read| consent(read, &file.patient_reference)).collect();
        for set in &file.sets {
            match open_set(history, set, &read) {
                Ok((commitment, places)) => drop(opened.sets.insert(commitment, places)),
                Err(finding) => opened.findings.push(finding),
            }
        }
        for policy in &file.policies {
            match open_policy(history, policy) {
                Ok(rules) => drop(opened.policies.insert(policy.policy_seq, rules)),
                Err(finding) => opened.findings.push(finding),
            }
        }
        for record in &file.records {
            opened.records.add(record);
        }
        for access in &file.accesses {
            match opened.open_access(history, access) {
                Ok(event) => drop(opened.events.insert(access.access_seq, event)),
                Err(finding) => opened.findings.push(finding),
            }
        }
        opened
    }

    /// The consents behind a slot's commitment; or why one can't be read. None when they aren't opened.
    pub(super) fn set(&self, commitment: &[u8]) -> Option<Result<Vec<Consent>, String>> {
        let places = self.sets.get(commitment)?;
        Some(places.iter().filter_map(|place| self.consents.get(*place).cloned()).collect())
    }

    /// The rules of a policy sequence; before the first there are none.
    pub(super) fn rules(&self, policy_seq: u64) -> Option<Result<Rules, String>> {
        match policy_seq {
            0 => Some(Ok(Rules::default())),
            seq => self.policies.get(&seq).cloned(),
        }
    }

    /// What of the released records is opened, and how many are not; or why the rules can't be tried on one.
    pub(super) fn records(&self, event: &OpenedEvent) -> Result<(Vec<ResourceDescriptor>, u64), String> {
        let digests = event.digests.iter().flatten();
        let found: Vec<_> = digests
            .filter_map(|digest| self.records.described.get(digest).cloned())
            .collect::<Result<_, _>>()?;
        let missing = event.event.resources.saturating_sub(found.len() as u64);
        Ok((found, missing))
    }

    fn open_access(&mut self, history: &SlotHistory, access: &OpenedAccess) -> Outcome<OpenedEvent> {
        let n = access.access_seq;
        let what = format!("event of access {n}");
        let recorded = history.access(n).ok_or_else(|| missing(&what))?;
        let salt = salt(&what, &access.salt)?;
        let found = commit(Context::AccessCommitment, &history.chain_id, &salt, &access.event);
        same(&what, &recorded.commitment, &found)?;
        let event: AccessEvent =
            decode("AccessEvent", &access.event, MAX_ENTRY_BYTES).map_err(|e| unreadable(&what, e))?;
        let decided_by = open_reasons(history, access, &event);
        let digests = self.digests(access, &event);
        Ok(OpenedEvent { decided_by: self.or_note(decided_by), digests: self.or_note(digests), event })
    }

    fn or_note<T>(&mut self, outcome: Outcome<Option<T>>) -> Option<T> {
        outcome.unwrap_or_else(|finding| {
            self.findings.push(finding);
            None
        })
    }

    /// None when neither the file nor a bundle says what the event released.
    fn digests(&self, access: &OpenedAccess, event: &AccessEvent) -> Outcome<Option<Vec<Hash>>> {
        if access.digests.is_empty() && event.resources > 0 {
            let root = Hash::try_from(event.digests_root.as_slice()).ok();
            return Ok(root.and_then(|root| self.records.bundles.get(&root).cloned()));
        }
        let what = format!("digests of access {}", access.access_seq);
        let digests = access.digests.iter().map(|digest| array("OpenedAccess", "digests", digest));
        let digests: Vec<Hash> = digests.collect::<Result<_, _>>().map_err(|e| unreadable(&what, e))?;
        same(&what, &event.digests_root, &root_of_digests(&digests))?;
        match digests.len() as u64 == event.resources {
            true => Ok(Some(digests)),
            false => Err(Finding::new(OPENING, what, event.resources.to_string(), digests.len().to_string())),
        }
    }
}

/// Custodian and handle are in the body, so that nobody's consent serves for another patient.
fn read(history: &SlotHistory, packed: &PackedConsent) -> Outcome<Read> {
    let what = format!("consent {}", packed.id);
    let salt = salt(&what, &packed.salt)?;
    let commitment = commit(Context::ConsentCommitment, &history.chain_id, &salt, &packed.body);
    let leaf = ConsentLeaf { id: packed.id.clone(), commitment };
    if packed.id == CONTACT_PREFERENCES {
        return Ok(Read { leaf, body: None });
    }
    let body: ConsentBody =
        decode("ConsentBody", &packed.body, MAX_PACKED_BODY_BYTES).map_err(|e| unreadable(&what, e))?;
    if body.custodian != history.custodian || body.handle != history.handle || body.id != packed.id {
        return Err(Finding::new(OPENING, what, "a consent of this patient by its id", "one of another"));
    }
    if body.revision == 0 || recorded_state(&body).is_none() {
        return Err(unreadable(&what, "a consent has no revision, or a state that nobody knows"));
    }
    Ok(Read { leaf, body: Some(body) })
}

fn consent(read: &Outcome<Read>, patient_reference: &str) -> Result<Consent, String> {
    let body = read.as_ref().ok().and_then(|read| read.body.as_ref());
    let body = body.ok_or("no consent")?;
    read_consent(body, patient_reference).map_err(|_| format!("this program can't read consent {}", body.id))
}

fn open_set(
    history: &SlotHistory,
    set: &OpenedSet,
    read: &[Outcome<Read>],
) -> Outcome<(Vec<u8>, Vec<usize>)> {
    let what = format!("consents of sequence {}", set.consent_seq);
    let step = history.committed_with(set.consent_seq).ok_or_else(|| missing(&what))?;
    let (mut leaves, mut places) = (Vec::new(), Vec::new());
    for place in set.consents.iter().map(|place| *place as usize) {
        match read.get(place) {
            Some(Ok(read)) => {
                leaves.push(read.leaf.clone());
                places.extend(read.body.is_some().then_some(place));
            }
            Some(Err(finding)) => {
                let what = format!("{what}, {}", finding.what);
                return Err(Finding { what, ..finding.clone() });
            }
            // The form was checked: it is there.
            None => {}
        }
    }
    let found = slot_commitment(&history.chain_id, &salt(&what, &set.salt)?, &leaves);
    same(&what, &step.commitment, &found)?;
    Ok((step.commitment.clone(), places))
}

fn open_policy(history: &SlotHistory, policy: &OpenedPolicy) -> Outcome<Result<Rules, String>> {
    let what = format!("policy {}", policy.policy_seq);
    let step = history.policy(policy.policy_seq).ok_or_else(|| missing(&what))?;
    let salt = salt(&what, &policy.salt)?;
    let found = commit(Context::PolicyCommitment, &history.chain_id, &salt, &policy.body);
    same(&what, &step.commitment, &found)?;
    let body: PolicyBody =
        decode("PolicyBody", &policy.body, MAX_POLICY_BODY_BYTES).map_err(|e| unreadable(&what, e))?;
    Ok(Rules::read(&body).map_err(|e| e.to_string()))
}

fn open_reasons(
    history: &SlotHistory,
    access: &OpenedAccess,
    event: &AccessEvent,
) -> Outcome<Option<Vec<String>>> {
    let what = format!("reasons of access {}", access.access_seq);
    let Some(opened) = &access.reasons else { return Ok(None) };
    let salt = salt(&what, &opened.salt)?;
    let found = commit(Context::ReasonsCommitment, &history.chain_id, &salt, &opened.reasons);
    same(&what, &event.reasons, &found)?;
    let reasons: Reasons =
        decode("Reasons", &opened.reasons, MAX_ENTRY_BYTES).map_err(|e| unreadable(&what, e))?;
    Ok(Some(reasons.decided_by))
}
