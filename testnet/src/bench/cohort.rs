//! One question about 100,000 patients of the custodian's own: a stream of verdicts.

use std::time::Instant;

use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::{CheckCohortRequest, CohortQuestion, CohortSubject, Verdict};
use futures::stream;

use super::check::SUBJECTS;
use super::figure::{Figure, Target};
use super::stage::{Stage, CUSTODIAN};
use super::write::patient;
use crate::client::{self, code};
use crate::error::{failed, Error};

/// Patients of one message.
const PER_MESSAGE: usize = 1_024;
/// Streams after the first, of which the median counts.
const AGAIN: usize = 3;

fn messages() -> Vec<CheckCohortRequest> {
    let subject = |n: usize| {
        let patient = patient(CUSTODIAN, &format!("subject-{n}"));
        CohortSubject { identifier_value: patient.identifier_value, birth_date: patient.birth_date }
    };
    let subjects: Vec<CohortSubject> = (0..SUBJECTS).map(subject).collect();
    let mut question = Some(CohortQuestion {
        custodian: CUSTODIAN.into(),
        identifier_system: patient(CUSTODIAN, "").identifier_system,
        purpose: "TREAT".into(),
        actor: "Dr. Grey".into(),
        ..CohortQuestion::default()
    });
    let message =
        |chunk: &[CohortSubject]| CheckCohortRequest { question: question.take(), subjects: chunk.to_vec() };
    subjects.chunks(PER_MESSAGE).map(message).collect()
}

/// Seconds of one stream, in which every patient must be permitted.
async fn stream_once(stage: &Stage) -> Result<f64, Error> {
    let channel = client::connect(stage.network(), CUSTODIAN, "crm").await?;
    let mut client = DecisionServiceClient::new(channel);
    let messages = messages();
    let begin = Instant::now();
    let answers = client.check_cohort(stream::iter(messages)).await.map_err(|s| code("CheckCohort", &s))?;
    let (mut answers, mut permits) = (answers.into_inner(), 0);
    while let Some(answer) = answers.message().await.map_err(|s| code("CheckCohort", &s))? {
        permits += answer.verdicts().filter(|verdict| *verdict == Verdict::Permit).count();
    }
    let seconds = begin.elapsed().as_secs_f64();
    if permits != SUBJECTS {
        return failed(format!("{permits} permits came, {SUBJECTS} were due"));
    }
    Ok(seconds)
}

/// The first stream, for which consents and records are read, unless a check did before; and the next ones.
pub async fn cohort(stage: &mut Stage) -> Result<(), Error> {
    stage.register_subjects(SUBJECTS).await?;
    let first = stream_once(stage).await?;
    let figure = |name, seconds, target| Figure::new(name, seconds, "s", target, SUBJECTS as u64, seconds);
    stage.keep(figure("cohort_100k_first_s", first, Target::None));
    let mut again = Vec::with_capacity(AGAIN);
    for _ in 0..AGAIN {
        again.push(stream_once(stage).await?);
    }
    again.sort_by(f64::total_cmp);
    stage.keep(figure("cohort_100k_s", again[AGAIN / 2], Target::AtMost(2.0)));
    Ok(())
}
