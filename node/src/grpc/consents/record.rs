//! What a portal records, previews and reads.

use assent_proto::v1::{
    ExportConsentRequest, ExportConsentResponse, GetConsentRequest, GetConsentResponse,
    ListConsentRevisionsRequest, ListConsentRevisionsResponse, ListConsentsRequest, ListConsentsResponse,
    MarkConsentErrorRequest, MarkConsentErrorResponse, PreviewConsentRequest, PreviewConsentResponse,
    RecordConsentRequest, RecordConsentResponse, RevokeConsentRequest, RevokeConsentResponse,
};

use crate::grpc::auth::Client;
use crate::grpc::Api;
use crate::refusal::Refusal;

impl Api {
    pub(in crate::grpc) async fn record_consent_for(
        &self,
        _client: Client,
        _body: RecordConsentRequest,
    ) -> Result<RecordConsentResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(in crate::grpc) async fn preview_consent_for(
        &self,
        _client: Client,
        _body: PreviewConsentRequest,
    ) -> Result<PreviewConsentResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(in crate::grpc) async fn revoke_consent_for(
        &self,
        _client: Client,
        _body: RevokeConsentRequest,
    ) -> Result<RevokeConsentResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(in crate::grpc) async fn mark_consent_error_for(
        &self,
        _client: Client,
        _body: MarkConsentErrorRequest,
    ) -> Result<MarkConsentErrorResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(in crate::grpc) async fn get_consent_for(
        &self,
        _client: Client,
        _body: GetConsentRequest,
    ) -> Result<GetConsentResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(in crate::grpc) async fn list_consents_for(
        &self,
        _client: Client,
        _body: ListConsentsRequest,
    ) -> Result<ListConsentsResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(in crate::grpc) async fn list_consent_revisions_for(
        &self,
        _client: Client,
        _body: ListConsentRevisionsRequest,
    ) -> Result<ListConsentRevisionsResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(in crate::grpc) async fn export_consent_for(
        &self,
        _client: Client,
        _body: ExportConsentRequest,
    ) -> Result<ExportConsentResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }
}
