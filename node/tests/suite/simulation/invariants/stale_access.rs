//! No stale access: every access in the log names the consent and policy sequences that were current where it stands. Counted by a
//! model that knows nothing of the rules: a consent or a withdrawal adds one to its subject's, a policy to its custodian's.

use std::collections::BTreeMap;

use assent_proto::ledger::v1::operation::Kind;

use super::log::{self, Logged};
use crate::simulation::world::World;

/// What the model knows of a subject.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Subject {
    pub consents: u64,
    pub accesses: u64,
    pub withdrawals: u64,
}

/// Counters of subjects by custodian and handle, and of policies.
#[derive(Default)]
pub struct Model {
    pub subjects: BTreeMap<(String, Vec<u8>), Subject>,
    pub policies: BTreeMap<String, u64>,
}

impl Model {
    /// Counts the whole log; or the first access that is stale.
    pub fn of(log: &[Logged]) -> Result<Self, String> {
        let mut model = Self::default();
        for entry in log {
            for operation in &entry.body.operations {
                let Some(kind) = &operation.kind else { return Err("an operation of no kind".into()) };
                model.count(&entry.body.author, kind).map_err(|e| format!("height {}: {e}", entry.height))?;
            }
        }
        Ok(model)
    }

    fn subject(&mut self, custodian: &str, handle: &[u8]) -> &mut Subject {
        self.subjects.entry((custodian.to_owned(), handle.to_owned())).or_default()
    }

    fn count(&mut self, author: &str, kind: &Kind) -> Result<(), String> {
        match kind {
            Kind::SetConsent(op) => self.subject(&op.custodian, &op.handle).consents += 1,
            Kind::Withdraw(op) => {
                let subject = self.subject(&op.custodian, &op.handle);
                subject.consents += 1;
                subject.withdrawals += 1;
            }
            Kind::SetPolicy(_) => *self.policies.entry(author.to_owned()).or_default() += 1,
            Kind::RecordAccess(op) => {
                let policy = self.policies.get(&op.custodian).copied().unwrap_or_default();
                let subject = self.subject(&op.custodian, &op.handle);
                let (named, current) =
                    ((op.expected_consent_seq, op.expected_policy_seq), (subject.consents, policy));
                subject.accesses += 1;
                if named != current {
                    return Err(format!(
                        "an access under {named:?} (consent, policy), current was {current:?}"
                    ));
                }
            }
            // Of members, which have no sequences.
            Kind::Govern(_) => {}
            other => return Err(format!("the model does not know {other:?}")),
        }
        Ok(())
    }
}

pub fn check(world: &World) -> Result<(), String> {
    let store = world.stores().next().ok_or("no validator")?;
    Model::of(&log::read(store)?).map(|_| ())
}

#[test]
fn an_access_behind_a_change_is_found() {
    use assent_proto::ledger::v1::{EntryBody, Operation, RecordAccess, SetConsent, SetPolicy, Withdraw};
    let log = |kinds: &[Kind]| -> Vec<Logged> {
        let operation = |kind: &Kind| Operation { kind: Some(kind.clone()) };
        let body =
            |kind| EntryBody { author: "a".into(), operations: vec![operation(kind)], ..Default::default() };
        kinds.iter().map(|kind| Logged { height: 1, hash: [0; 32], body: body(kind) }).collect()
    };
    let custodian = || "a".to_owned();
    let consent = Kind::SetConsent(SetConsent { custodian: custodian(), ..Default::default() });
    let withdrawal = Kind::Withdraw(Withdraw { custodian: custodian(), ..Default::default() });
    let policy = Kind::SetPolicy(SetPolicy::default());
    let access = |expected_consent_seq, expected_policy_seq| {
        let commitment = vec![1; 32];
        Kind::RecordAccess(RecordAccess {
            custodian: custodian(),
            handle: Vec::new(),
            expected_consent_seq,
            expected_policy_seq,
            commitment,
        })
    };
    let fine = [consent.clone(), access(1, 0), withdrawal.clone(), policy.clone(), access(2, 1)];
    assert!(Model::of(&log(&fine)).is_ok());
    assert!(Model::of(&log(&[consent.clone(), withdrawal, access(1, 0)])).is_err());
    assert!(Model::of(&log(&[consent.clone(), policy, access(1, 0)])).is_err());
    assert!(Model::of(&log(&[consent, access(2, 0)])).is_err());
}
