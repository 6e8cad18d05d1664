//! One question about a stream of patients.
//!
//! ```text
//! message ─▶ border ─▶ judged, up to eight messages at once ─▶ time of the step ─▶ verdicts, in order
//! ```
//! Nothing is read before the client takes answers, and no more than those eight messages are held. Each message is answered
//! at a multiple of the step after it came, so that time does not tell denied from unknown.

use std::time::Instant;

use assent_ledger::consent::Outcome;
use assent_proto::v1::{CheckCohortRequest, CheckCohortResponse, Consistency, Verdict};
use futures::future::{self, BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Status, Streaming};

use crate::custodian::answer_step;
use crate::grpc::auth::Client;
use crate::grpc::{answer, border, error, Api};
use crate::recipient::Query;
use crate::refusal::Refusal;

/// Messages of one stream that are judged, or wait for their time, at once.
const MAX_MESSAGES_AT_ONCE: usize = 8;

/// What the first message fixed.
#[derive(Clone)]
struct Question {
    query: Query,
    consistency: Option<Consistency>,
}

/// A stream of patients, as far as it was read.
struct Reading {
    api: Api,
    client: Client,
    messages: Streaming<CheckCohortRequest>,
    question: Option<Question>,
    /// Messages read.
    number: u64,
}

type Answering = BoxFuture<'static, Result<CheckCohortResponse, Refusal>>;

fn refused(refusal: Refusal) -> Answering {
    future::ready(Err(refusal)).boxed()
}

fn verdict(found: &Result<Option<Outcome>, Refusal>) -> i32 {
    let verdict = match found {
        Ok(Some(Outcome::Permit)) => Verdict::Permit,
        Ok(Some(Outcome::PermitOverride)) => Verdict::PermitOverride,
        Ok(Some(Outcome::Deny | Outcome::Indeterminate | Outcome::NoConsent) | None) => Verdict::NotReleased,
        Err(_) => Verdict::Unavailable,
    };
    verdict.into()
}

impl Reading {
    /// The next message's answer, in the making; with none of the stream after it when it is refused.
    async fn next(mut self) -> Option<(Answering, Option<Self>)> {
        let message = match self.messages.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return None,
            Err(broken) => return Some((refused(error::broken_stream(&broken)), None)),
        };
        let started = Instant::now();
        self.number += 1;
        match self.take(message) {
            Ok((question, patients)) => {
                let (api, client, number) = (self.api.clone(), self.client.clone(), self.number);
                let answer = async move {
                    let answer = api.cohort_message(&client, question, patients, started).await;
                    answer.map_err(|refusal| refusal.with("message", number))
                };
                Some((answer.boxed(), Some(self)))
            }
            Err(refusal) => Some((refused(refusal.with("message", self.number)), None)),
        }
    }

    /// Question and patients of a message.
    fn take(&mut self, message: CheckCohortRequest) -> Result<(Question, Vec<(String, String)>), Refusal> {
        // The call itself has paid for its first message.
        if self.number > 1 {
            self.api.quota.take(&self.client.id)?;
        }
        let question = match (self.question.clone(), message.question) {
            (None, None) => return Err(border::malformed("question", "missing in the first message")),
            (Some(_), Some(_)) => {
                return Err(border::malformed("question", "stands in the first message and only there"))
            }
            (Some(known), None) => known,
            (None, Some(mut asked)) => {
                let consistency = asked.consistency.take();
                let query = border::cohort_question(asked)?;
                self.api.known_custodian("question.custodian", &query.custodian)?;
                self.api.app.recipient.is_sound(&self.client.id, &query)?;
                let question = Question { query, consistency };
                self.question = Some(question.clone());
                question
            }
        };
        Ok((question, border::cohort_subjects(message.subjects)?))
    }
}

impl Api {
    async fn cohort_message(
        &self,
        client: &Client,
        question: Question,
        patients: Vec<(String, String)>,
        started: Instant,
    ) -> Result<CheckCohortResponse, Refusal> {
        let consistency = question.consistency.as_ref();
        answer::meets(consistency, &self.app.parts.tip())?;
        let judged = self.app.recipient.cohort(&client.id, &question.query, patients).await?;
        let verdicts = judged.outcomes.iter().map(verdict).collect();
        answer_step(started).await;
        Ok(CheckCohortResponse { answer: Some(answer::at(&judged.tip)), verdicts })
    }

    pub(in crate::grpc) async fn check_cohort_for(
        &self,
        client: Client,
        messages: Streaming<CheckCohortRequest>,
    ) -> Result<BoxStream<'static, Result<CheckCohortResponse, Status>>, Refusal> {
        let reading = Reading { api: self.clone(), client, messages, question: None, number: 0 };
        let answers = stream::unfold(Some(reading), |reading| async move { reading?.next().await })
            .buffered(MAX_MESSAGES_AT_ONCE)
            // Nothing follows a refusal, though it may be judged already.
            .scan(false, |ended, answer| {
                let before = std::mem::replace(ended, answer.is_err());
                future::ready((!before).then(|| answer.map_err(error::status)))
            });
        Ok(answers.boxed())
    }
}
