//! DecisionService: one check or many, may a patient be contacted, why a decision is as it is, and what past ones stood on.

mod cohort;
mod explain;
mod many;
mod openings;
mod outreach;

use assent_proto::v1::decision_service_server::DecisionService;
use assent_proto::v1::{
    BatchCheckConsentRequest, BatchCheckConsentResponse, CheckCohortRequest, CheckCohortResponse,
    CheckConsentRequest, CheckConsentResponse, CheckOutreachRequest, CheckOutreachResponse,
    ExplainDecisionRequest, ExplainDecisionResponse, OpenDecisionsRequest, OpenDecisionsResponse,
};
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::auth::Client;
use super::exchange::outcome;
use super::{answer, Api};
use crate::refusal::Refusal;

fn unreadable_permit() -> Refusal {
    Refusal::unavailable(
        "BAD_DECISION",
        "the custodian's permit is not one that this node understands: nothing is permitted",
    )
}

impl Api {
    async fn check(
        &self,
        client: Client,
        body: CheckConsentRequest,
    ) -> Result<CheckConsentResponse, Refusal> {
        let query = self.known_query(body.query)?;
        let consistency = body.consistency.as_ref();
        let tip = self.app.parts.tip();
        answer::meets(consistency, &tip)?;
        let permit = self.app.recipient.check(&client.id, query, body.omit_decision).await?;
        // The custodian decides on its own ledger, which may be behind this one; a kept decision stands at this node's own tip.
        answer::meets_at(consistency, permit.height, permit.time_ms)?;
        let outcome = outcome(&permit.outcome).ok_or_else(unreadable_permit)?;
        Ok(CheckConsentResponse {
            answer: Some(answer::at(&tip)),
            outcome: outcome.into(),
            may_be_incomplete: true,
            obligations: permit.obligations,
            decision: (!body.omit_decision).then_some(permit.decision),
            decided_time_ms: permit.decided_time_ms,
            not_after_ms: permit.not_after_ms,
            cached: permit.cached,
        })
    }
}

#[tonic::async_trait]
impl DecisionService for Api {
    type CheckCohortStream = BoxStream<'static, Result<CheckCohortResponse, Status>>;
    type OpenDecisionsStream = BoxStream<'static, Result<OpenDecisionsResponse, Status>>;

    async fn check_consent(
        &self,
        request: Request<CheckConsentRequest>,
    ) -> Result<Response<CheckConsentResponse>, Status> {
        let work = |api: Self, client, body| async move { api.check(client, body).await };
        self.call("DecisionService/CheckConsent", request, work).await
    }

    async fn batch_check_consent(
        &self,
        request: Request<BatchCheckConsentRequest>,
    ) -> Result<Response<BatchCheckConsentResponse>, Status> {
        let work = |api: Self, client, body| async move { api.batch_check_consent_for(client, body).await };
        self.call("DecisionService/BatchCheckConsent", request, work).await
    }

    async fn check_outreach(
        &self,
        request: Request<CheckOutreachRequest>,
    ) -> Result<Response<CheckOutreachResponse>, Status> {
        let work = |api: Self, client, body| async move { api.check_outreach_for(client, body).await };
        self.call("DecisionService/CheckOutreach", request, work).await
    }

    async fn explain_decision(
        &self,
        request: Request<ExplainDecisionRequest>,
    ) -> Result<Response<ExplainDecisionResponse>, Status> {
        let work = |api: Self, client, body| async move { api.explain_decision_for(client, body).await };
        self.call("DecisionService/ExplainDecision", request, work).await
    }

    async fn open_decisions(
        &self,
        request: Request<OpenDecisionsRequest>,
    ) -> Result<Response<Self::OpenDecisionsStream>, Status> {
        let work = |api: Self, _, body| async move { api.open_decisions_for(body).await };
        self.call("DecisionService/OpenDecisions", request, work).await
    }

    async fn check_cohort(
        &self,
        request: Request<Streaming<CheckCohortRequest>>,
    ) -> Result<Response<Self::CheckCohortStream>, Status> {
        let work = |api: Self, client, messages| async move { api.check_cohort_for(client, messages).await };
        self.call("DecisionService/CheckCohort", request, work).await
    }
}
