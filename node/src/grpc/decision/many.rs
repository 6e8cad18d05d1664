//! Many checks at once, and outreach.

use assent_proto::v1::{BatchCheckConsentRequest, BatchCheckConsentResponse};

use crate::grpc::auth::Client;
use crate::grpc::Api;
use crate::refusal::Refusal;

impl Api {
    pub(in crate::grpc) async fn batch_check_consent_for(
        &self,
        _client: Client,
        _body: BatchCheckConsentRequest,
    ) -> Result<BatchCheckConsentResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }
}
