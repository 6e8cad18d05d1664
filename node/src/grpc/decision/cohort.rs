//! One question about a stream of patients.

use assent_proto::v1::{CheckCohortRequest, CheckCohortResponse};
use futures::stream::BoxStream;
use tonic::{Status, Streaming};

use crate::grpc::auth::Client;
use crate::grpc::Api;
use crate::refusal::Refusal;

impl Api {
    pub(in crate::grpc) async fn check_cohort_for(
        &self,
        _client: Client,
        _messages: Streaming<CheckCohortRequest>,
    ) -> Result<BoxStream<'static, Result<CheckCohortResponse, Status>>, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }
}
