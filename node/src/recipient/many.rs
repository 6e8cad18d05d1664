//! Many checks at once: a list of questions, or one question about a stream of patients.
//!
//! ```text
//! own patients ─▶ judged here from charts, on as many threads as there are cores
//! others'      ─▶ kept decision, else a signed request each, so many at once
//! ```
//! Nobody waits here for the time at which refusals go out: the caller sends all verdicts of a message at such a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use assent_ledger::consent::Outcome;
use assent_proto::ledger::v1::DataRequest;
use futures::stream::{self, StreamExt};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::decisions::question_key;
use super::{Permit, Query, Recipient};
use crate::custodian::Judged;
use crate::refusal::Refusal;

/// Questions of one call that are worked on at once.
const MAX_AT_ONCE: usize = 32;
/// Requests of such calls to other organizations at once, all calls together: single checks keep streams of their own.
const MAX_REMOTE_AT_ONCE: usize = 8;

/// What calls with many questions share.
pub(super) struct Many {
    remote: Semaphore,
    judging: Arc<Semaphore>,
}

impl Default for Many {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self { remote: Semaphore::new(MAX_REMOTE_AT_ONCE), judging: Arc::new(Semaphore::new(cores)) }
    }
}

/// Custodians that could not be reached during a call: the rest of its questions don't wait for them again.
#[derive(Default)]
struct Unreachable(Mutex<BTreeMap<String, Refusal>>);

impl Unreachable {
    fn of(&self, custodian: &str) -> Option<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(custodian).cloned()
    }

    fn note<T>(&self, custodian: String, checked: &Result<T, Refusal>) {
        if let Err(refusal) = checked {
            if refusal.reason == "CUSTODIAN_UNREACHABLE" {
                let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                noted.insert(custodian, refusal.clone());
            }
        }
    }
}

fn ended() -> Refusal {
    Refusal::unavailable("NODE_STOPPING", "the node stops: ask again later")
}

impl Recipient {
    /// Refuses a question that a check would refuse whatever the patient.
    pub fn is_sound(&self, client: &str, query: &Query) -> Result<(), Refusal> {
        self.question(client, query, true).map(|_| ())
    }

    /// As [`Recipient::check`] answers, none for what is not released. An own patient's is told at once.
    async fn verdict(
        &self,
        client: &str,
        query: Query,
        unsigned: bool,
        unreachable: &Unreachable,
    ) -> Result<Option<Permit>, Refusal> {
        if query.custodian == self.parts.organization {
            // Judged in place: others on this worker get their turn.
            tokio::task::yield_now().await;
            let question = self.question(client, &query, true)?;
            match self.own_permit(&question)? {
                permit if unsigned || permit.is_none() => return Ok(permit),
                _ => {}
            }
            return released(self.check(client, query, false).await);
        }
        let _turn = self.many.remote.acquire().await.map_err(|_| ended())?;
        if let Some(refusal) = unreachable.of(&query.custodian) {
            let key = question_key(&self.question(client, &query, true)?);
            return self.kept_permit(&key)?.map(Some).ok_or(refusal);
        }
        let custodian = query.custodian.clone();
        let checked = released(self.check(client, query, unsigned).await);
        unreachable.note(custodian, &checked);
        checked
    }

    /// The verdicts on many questions, in their order.
    pub async fn verdicts(
        &self,
        client: &str,
        queries: Vec<Query>,
        unsigned: bool,
    ) -> Result<Vec<Result<Option<Permit>, Refusal>>, Refusal> {
        self.must_be_fresh()?;
        let unreachable = Unreachable::default();
        let verdict = |query| self.verdict(client, query, unsigned, &unreachable);
        let verdicts = queries.into_iter().map(verdict);
        Ok(stream::iter(verdicts).buffered(MAX_AT_ONCE).collect().await)
    }

    /// The verdicts on one question about many patients, named by identifier and birth date; `query` names no one.
    pub async fn cohort(
        &self,
        client: &str,
        query: &Query,
        patients: Vec<(String, String)>,
    ) -> Result<Judged, Refusal> {
        self.must_be_fresh()?;
        if query.custodian == self.parts.organization {
            return self.judge_own(self.question(client, query, true)?, patients).await;
        }
        let about = |(value, birth_date)| Query { value, birth_date, ..query.clone() };
        let verdicts = self.verdicts(client, patients.into_iter().map(about).collect(), true).await?;
        let outcome = |permit: Permit| match permit.outcome.as_str() {
            "PERMIT" => Ok(Some(Outcome::Permit)),
            "PERMIT_OVERRIDE" => Ok(Some(Outcome::PermitOverride)),
            _ => Err(Refusal::unavailable("BAD_DECISION", "a permit of an unknown kind")),
        };
        let outcomes = verdicts.into_iter().map(|verdict| verdict?.map_or(Ok(None), outcome));
        let outcomes = outcomes.collect();
        Ok(Judged { tip: self.parts.tip(), outcomes })
    }

    async fn judge_own(
        &self,
        question: DataRequest,
        patients: Vec<(String, String)>,
    ) -> Result<Judged, Refusal> {
        let turn = self.many.judging.clone().acquire_owned().await.map_err(|_| ended())?;
        let custodian = self.custodian.clone();
        let judging = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            custodian.judge_many(&question, &patients)
        });
        AbortOnDropHandle::new(judging).await.map_err(|_| ended())?
    }
}

fn released(checked: Result<Permit, Refusal>) -> Result<Option<Permit>, Refusal> {
    match checked {
        Ok(permit) => Ok(Some(permit)),
        Err(refusal) if refusal.not_released.is_some() => Ok(None),
        Err(refusal) => Err(refusal),
    }
}
