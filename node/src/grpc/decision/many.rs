//! Many checks at once.

use std::time::Instant;

use assent_proto::v1::{
    BatchCheckConsentRequest, BatchCheckConsentResponse, BatchQuery, BatchVerdict, Consistency, Query,
    Verdict,
};

use crate::custodian::answer_step;
use crate::grpc::auth::Client;
use crate::grpc::border::MAX_BATCH_QUERIES;
use crate::grpc::{answer, border, Api};
use crate::recipient::{self, Permit};
use crate::refusal::Refusal;

/// A permit's verdict, if it is one that this node knows and comes from a state that the caller takes.
fn permitted(permit: Permit, consistency: Option<&Consistency>, omit_decision: bool) -> BatchVerdict {
    let stands = answer::meets_at(consistency, permit.height, permit.time_ms).is_ok();
    let verdict = match permit.outcome.as_str() {
        "PERMIT" if stands => Verdict::Permit,
        "PERMIT_OVERRIDE" if stands => Verdict::PermitOverride,
        _ => return plain(Verdict::Unavailable),
    };
    BatchVerdict {
        verdict: verdict.into(),
        obligations: permit.obligations,
        decision: (!omit_decision).then_some(permit.decision),
        not_after_ms: permit.not_after_ms,
    }
}

fn plain(verdict: Verdict) -> BatchVerdict {
    BatchVerdict { verdict: verdict.into(), ..BatchVerdict::default() }
}

impl Api {
    /// Every query must be one that CheckConsent would take; the first that is not refuses the call.
    fn batch_queries(
        &self,
        client: &Client,
        queries: Vec<BatchQuery>,
    ) -> Result<Vec<recipient::Query>, Refusal> {
        let found = queries.len();
        if !(1..=MAX_BATCH_QUERIES).contains(&found) {
            let message = format!("{found} queries, 1 to {MAX_BATCH_QUERIES} needed");
            return Err(border::malformed("queries", message));
        }
        let sound = |(index, query): (usize, BatchQuery)| {
            let at = |refusal: Refusal| refusal.with("query", index);
            let BatchQuery { patient, purpose, actor, action, resource_types } = query;
            let query =
                Query { patient, purpose, actor, action, resource_types, break_glass_reason: String::new() };
            let query = self.known_query(Some(query)).map_err(at)?;
            self.app.recipient.is_sound(&client.id, &query).map_err(at)?;
            Ok(query)
        };
        queries.into_iter().enumerate().map(sound).collect()
    }

    pub(in crate::grpc) async fn batch_check_consent_for(
        &self,
        client: Client,
        body: BatchCheckConsentRequest,
    ) -> Result<BatchCheckConsentResponse, Refusal> {
        let started = Instant::now();
        let queries = self.batch_queries(&client, body.queries)?;
        let consistency = body.consistency.as_ref();
        let tip = self.app.parts.tip();
        answer::meets(consistency, &tip)?;
        let found = self.app.recipient.verdicts(&client.id, queries, body.omit_decisions).await?;
        let verdicts: Vec<BatchVerdict> = found
            .into_iter()
            .map(|found| match found {
                Ok(Some(permit)) => permitted(permit, consistency, body.omit_decisions),
                Ok(None) => plain(Verdict::NotReleased),
                Err(_) => plain(Verdict::Unavailable),
            })
            .collect();
        let is_permit = |v: &BatchVerdict| matches!(v.verdict(), Verdict::Permit | Verdict::PermitOverride);
        if !verdicts.iter().all(is_permit) {
            answer_step(started).await;
        }
        Ok(BatchCheckConsentResponse { answer: Some(answer::at(&tip)), verdicts })
    }
}
