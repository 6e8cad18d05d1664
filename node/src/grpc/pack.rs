//! The patient pack, for the holder of the control key or through the portal.

use assent_proto::v1::{GetPackRequest, GetPackResponse};

use super::call::Caller;
use super::Api;
use crate::chain::receipts::StartAt;
use crate::refusal::Refusal;

impl Api {
    pub(super) async fn pack_for(
        &self,
        caller: Caller,
        body: GetPackRequest,
    ) -> Result<GetPackResponse, Refusal> {
        let (handle, answer) = self.subject_of(&caller, "GetPack", body.proof, body.patient)?;
        let pack = self.app.custodian.pack(handle, StartAt::of(body.checkpoint_size)).await?;
        Ok(GetPackResponse { answer: Some(answer), pack })
    }
}
