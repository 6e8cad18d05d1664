//! Every change of consents at this custodian, in order.

use assent_proto::v1::{WatchConsentsRequest, WatchConsentsResponse};
use futures::stream::BoxStream;
use tonic::Status;

use crate::grpc::auth::Client;
use crate::grpc::Api;
use crate::refusal::Refusal;

impl Api {
    pub(in crate::grpc) async fn watch_consents_for(
        &self,
        _client: Client,
        _body: WatchConsentsRequest,
    ) -> Result<BoxStream<'static, Result<WatchConsentsResponse, Status>>, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }
}
