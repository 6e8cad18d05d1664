//! What a patient must know.

use assent_proto::v1::{ListNoticesRequest, ListNoticesResponse};

use super::call::Caller;
use super::Api;
use crate::refusal::Refusal;

impl Api {
    pub(super) async fn list_notices_for(
        &self,
        _caller: Caller,
        _body: ListNoticesRequest,
    ) -> Result<ListNoticesResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }
}
