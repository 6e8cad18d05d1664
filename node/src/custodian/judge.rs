//! Judging without releasing: one question or many, from charts.
//!
//! A release is evaluated from the records' bytes in [`super::evaluate`]; the decision function and its input are the same.

use assent_ledger::block::Tip;
use assent_ledger::consent::{
    asked, decide, membership_change, Decision, DecisionInput, Outcome, Request, Rules,
};
use assent_proto::ledger::v1::{DataRequest, PolicySlot, Slot};
use std::sync::Arc;

use super::charts::Chart;
use super::contact::contact_allows;
use super::evaluate::{earliest, FEW_RECORDS_BYTES};
use super::{blocking, Custodian, Evaluation, PermittedRelease};
use crate::chain::view::View;
use crate::refusal::Refusal;
use crate::vault::Subject;

/// So many records are judged in place, in some hundred microseconds.
const FEW_RECORDS: usize = 128;

/// One moment of the ledger, and the custodian's own rules then.
struct Moment<'a> {
    view: View<'a>,
    policy_slot: PolicySlot,
    rules: Arc<Rules>,
}

/// A patient who may be judged: on the ledger, and what is known of them.
struct Found {
    subject: Subject,
    slot: Slot,
    chart: Chart,
}

/// Looking for a patient to judge.
enum Search {
    Found(Box<Found>),
    Nobody,
    /// There is more to read than may be read in place.
    TooMuch,
}

/// Of many patients, as of one block.
pub struct Judged {
    /// The block.
    pub tip: Arc<Tip>,
    /// One for each patient: a permit's outcome, none when nothing is released, or why it can't be told.
    pub outcomes: Vec<Result<Option<Outcome>, Refusal>>,
}

impl Custodian {
    fn moment(&self) -> Result<Moment<'_>, Refusal> {
        self.must_be_fresh()?;
        let view = self.parts.store.view()?;
        // Before anybody looks for the patient: a policy that can't be opened is no hint that there is one.
        let policy_slot = view.policy(self.organization())?;
        let rules = self.standing_rules(&policy_slot.commitment)?;
        Ok(Moment { view, policy_slot, rules })
    }

    /// Decides a question at the newest block, without the records: in place when there is little to look at, else where it
    /// holds nobody up.
    pub(super) fn judge(&self, request: &DataRequest) -> Result<Evaluation, Refusal> {
        let moment = self.moment()?;
        let evaluation = match self.find(&moment, request, FEW_RECORDS_BYTES)? {
            Search::Found(found) if found.chart.resources.len() <= FEW_RECORDS => {
                moment.judge(request, &found)
            }
            Search::Nobody => Evaluation::NotReleased,
            Search::Found(_) | Search::TooMuch => {
                blocking(|| match self.find(&moment, request, usize::MAX)? {
                    Search::Found(found) => Ok::<_, Refusal>(moment.judge(request, &found)),
                    Search::Nobody | Search::TooMuch => Ok(Evaluation::NotReleased),
                })?
            }
        };
        self.unless_unwanted(request, evaluation)
    }

    /// A permit to contact a patient falls when the patient does not want to be contacted so.
    fn unless_unwanted(&self, request: &DataRequest, evaluation: Evaluation) -> Result<Evaluation, Refusal> {
        let Evaluation::Permitted(permitted) = &evaluation else { return Ok(evaluation) };
        if request.outreach_channel.is_empty() {
            return Ok(evaluation);
        }
        let set = self.open_set(&permitted.handle, &permitted.commitment)?;
        match contact_allows(set.contact.as_ref(), request) {
            true => Ok(evaluation),
            false => Ok(Evaluation::NotReleased),
        }
    }

    /// Judges one question about many patients, at one moment. Takes milliseconds.
    pub fn judge_many(
        &self,
        question: &DataRequest,
        patients: &[(String, String)],
    ) -> Result<Judged, Refusal> {
        let moment = self.moment()?;
        let asked = asked(question, &moment.rules, moment.view.tip.time_ms);
        let mut question = question.clone();
        let outcomes = patients.iter().map(|(value, birth_date)| {
            question.identifier_value.clone_from(value);
            question.birth_date.clone_from(birth_date);
            match self.find(&moment, &question, usize::MAX)? {
                Search::Found(found) => {
                    let outcome = moment.decide(&asked, &question.resource_types, &found).outcome;
                    Ok(Some(outcome).filter(|outcome| outcome.is_permitted()))
                }
                Search::Nobody | Search::TooMuch => Ok(None),
            }
        });
        let outcomes = outcomes.collect();
        Ok(Judged { tip: moment.view.tip.clone(), outcomes })
    }

    fn find(&self, moment: &Moment, request: &DataRequest, max_bytes: usize) -> Result<Search, Refusal> {
        let subject = self.parts.vault.subject_by_identifier(
            &request.identifier_system,
            &request.identifier_value,
            &request.birth_date,
        )?;
        let Some(subject) = subject else {
            return Ok(Search::Nobody);
        };
        let Some(slot) = moment.view.slot(self.organization(), &subject.handle)? else {
            return Ok(Search::Nobody);
        };
        Ok(match self.chart(&subject, &slot.commitment, max_bytes)? {
            Some(chart) => Search::Found(Box::new(Found { subject, slot, chart })),
            None => Search::TooMuch,
        })
    }
}

impl Moment<'_> {
    fn decide(&self, asked: &Request, resource_types: &[String], found: &Found) -> Decision {
        let all = &found.chart.resources;
        let some: Vec<_>;
        let resources = match resource_types {
            [] => all,
            types => {
                some = all.iter().filter(|r| types.contains(&r.resource_type)).cloned().collect();
                &some
            }
        };
        decide(&DecisionInput {
            consents: &found.chart.consents,
            policy: self.rules.policy.as_ref(),
            request: asked,
            resources,
            at_ms: i64::try_from(self.view.tip.time_ms).unwrap_or(i64::MAX),
            frozen: found.slot.frozen,
        })
    }

    fn judge(&self, request: &DataRequest, found: &Found) -> Evaluation {
        let decision =
            self.decide(&asked(request, &self.rules, self.view.tip.time_ms), &request.resource_types, found);
        if !decision.outcome.is_permitted() {
            return Evaluation::NotReleased;
        }
        let time_ms = self.view.tip.time_ms;
        let permitted = decision.resources.into_iter().filter(|judged| judged.outcome.is_permitted());
        let mut obligations: Vec<String> = permitted.flat_map(|judged| judged.obligations).collect();
        obligations.sort();
        obligations.dedup();
        Evaluation::Permitted(Box::new(PermittedRelease {
            handle: found.subject.handle,
            outcome: decision.outcome,
            commitment: found.slot.commitment.clone(),
            consent_seq: found.slot.consent_seq,
            policy_seq: self.policy_slot.policy_seq,
            height: self.view.tip.height,
            time_ms,
            next_change_ms: earliest(decision.not_after_ms, membership_change(request, &self.rules, time_ms)),
            decided_by: Vec::new(),
            obligations,
            records: Vec::new(),
            record_changes: found.chart.record_changes,
        }))
    }
}
