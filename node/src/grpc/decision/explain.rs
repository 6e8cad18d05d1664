//! Why a decision is as it is, for the custodian's own staff.

use assent_proto::v1::{ExplainDecisionRequest, ExplainDecisionResponse};

use crate::grpc::auth::Client;
use crate::grpc::Api;
use crate::refusal::Refusal;

impl Api {
    pub(in crate::grpc) async fn explain_decision_for(
        &self,
        _client: Client,
        _body: ExplainDecisionRequest,
    ) -> Result<ExplainDecisionResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }
}
