//! What a patient's control key grants, and how it is replaced.

use assent_proto::v1::{
    CancelReplacementRequest, CancelReplacementResponse, CommitGrantRequest, CommitGrantResponse,
    PrepareGrantRequest, PrepareGrantResponse, ReplaceControlKeyRequest, ReplaceControlKeyResponse,
};

use super::auth::Client;
use super::call::Caller;
use super::Api;
use crate::refusal::Refusal;

impl Api {
    pub(super) async fn prepare_grant_for(
        &self,
        _caller: Caller,
        _body: PrepareGrantRequest,
    ) -> Result<PrepareGrantResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(super) async fn commit_grant_for(
        &self,
        _caller: Caller,
        _body: CommitGrantRequest,
    ) -> Result<CommitGrantResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(super) async fn cancel_replacement_for(
        &self,
        _caller: Caller,
        _body: CancelReplacementRequest,
    ) -> Result<CancelReplacementResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(super) async fn replace_control_key_for(
        &self,
        _client: Client,
        _body: ReplaceControlKeyRequest,
    ) -> Result<ReplaceControlKeyResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }
}
