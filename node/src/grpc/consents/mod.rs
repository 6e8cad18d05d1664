//! ConsentService: what a patient's portal records, previews and reads, what a CRM asks a patient for, and every change as a stream.

mod ask;
mod contact;
mod record;
mod said;
pub(super) mod watch;

use assent_proto::v1::consent_service_server::ConsentService;
use assent_proto::v1::{
    AnswerConsentAskRequest, AnswerConsentAskResponse, AskConsentRequest, AskConsentResponse,
    ExportConsentRequest, ExportConsentResponse, GetConsentAskRequest, GetConsentAskResponse,
    GetConsentRequest, GetConsentResponse, ImportConsentRequest, ImportConsentResponse,
    ListConsentAsksRequest, ListConsentAsksResponse, ListConsentRevisionsRequest,
    ListConsentRevisionsResponse, ListConsentsRequest, ListConsentsResponse, MarkConsentErrorRequest,
    MarkConsentErrorResponse, PreviewConsentRequest, PreviewConsentResponse, RecordConsentRequest,
    RecordConsentResponse, RevokeConsentRequest, RevokeConsentResponse, SetContactPreferencesRequest,
    SetContactPreferencesResponse, WatchConsentsRequest, WatchConsentsResponse,
};
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::auth::Client;
use super::{border, deadline, Api};
use crate::custodian::ConsentToImport;
use crate::refusal::Refusal;

impl Api {
    async fn import(
        &self,
        client: Client,
        body: ImportConsentRequest,
    ) -> Result<ImportConsentResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let name = self.own_patient(body.patient)?;
        border::document("consent", &body.consent, border::MAX_DOCUMENT_BYTES)?;
        let key = border::control_key("control_key", &body.control_key)?;
        let custodian = &self.app.custodian;
        let ImportConsentRequest { request_id, consent: fhir, lenient, keep_unresolved, .. } = body;
        let import = ConsentToImport { fhir, lenient, keep_unresolved };
        let recorded = custodian.import_consent(&client.id, &request_id, name, import, key).await?;
        Ok(ImportConsentResponse {
            answer: Some(self.answer_from(recorded.height).await?),
            consent_id: recorded.consent_id,
            consent_seq: recorded.consent_seq,
            rules: recorded.rules,
            handle: recorded.handle.to_vec(),
            unresolved: recorded.unresolved,
        })
    }
}

#[tonic::async_trait]
impl ConsentService for Api {
    type WatchConsentsStream = BoxStream<'static, Result<WatchConsentsResponse, Status>>;

    async fn import_consent(
        &self,
        request: Request<ImportConsentRequest>,
    ) -> Result<Response<ImportConsentResponse>, Status> {
        let work = |api: Self, client, body| async move { api.import(client, body).await };
        self.call("ConsentService/ImportConsent", request, work).await
    }

    async fn record_consent(
        &self,
        request: Request<RecordConsentRequest>,
    ) -> Result<Response<RecordConsentResponse>, Status> {
        let work = |api: Self, client, body| async move { api.record_consent_for(client, body).await };
        self.call("ConsentService/RecordConsent", request, work).await
    }

    async fn preview_consent(
        &self,
        request: Request<PreviewConsentRequest>,
    ) -> Result<Response<PreviewConsentResponse>, Status> {
        let work = |api: Self, client, body| async move { api.preview_consent_for(client, body).await };
        self.call("ConsentService/PreviewConsent", request, work).await
    }

    async fn revoke_consent(
        &self,
        request: Request<RevokeConsentRequest>,
    ) -> Result<Response<RevokeConsentResponse>, Status> {
        let work = |api: Self, client, body| async move { api.revoke_consent_for(client, body).await };
        self.call("ConsentService/RevokeConsent", request, work).await
    }

    async fn mark_consent_error(
        &self,
        request: Request<MarkConsentErrorRequest>,
    ) -> Result<Response<MarkConsentErrorResponse>, Status> {
        let work = |api: Self, client, body| async move { api.mark_consent_error_for(client, body).await };
        self.call("ConsentService/MarkConsentError", request, work).await
    }

    async fn get_consent(
        &self,
        request: Request<GetConsentRequest>,
    ) -> Result<Response<GetConsentResponse>, Status> {
        let work = |api: Self, client, body| async move { api.get_consent_for(client, body).await };
        self.call("ConsentService/GetConsent", request, work).await
    }

    async fn list_consents(
        &self,
        request: Request<ListConsentsRequest>,
    ) -> Result<Response<ListConsentsResponse>, Status> {
        let work = |api: Self, client, body| async move { api.list_consents_for(client, body).await };
        self.call("ConsentService/ListConsents", request, work).await
    }

    async fn list_consent_revisions(
        &self,
        request: Request<ListConsentRevisionsRequest>,
    ) -> Result<Response<ListConsentRevisionsResponse>, Status> {
        let work =
            |api: Self, client, body| async move { api.list_consent_revisions_for(client, body).await };
        self.call("ConsentService/ListConsentRevisions", request, work).await
    }

    async fn export_consent(
        &self,
        request: Request<ExportConsentRequest>,
    ) -> Result<Response<ExportConsentResponse>, Status> {
        let work = |api: Self, client, body| async move { api.export_consent_for(client, body).await };
        self.call("ConsentService/ExportConsent", request, work).await
    }

    async fn set_contact_preferences(
        &self,
        request: Request<SetContactPreferencesRequest>,
    ) -> Result<Response<SetContactPreferencesResponse>, Status> {
        let work =
            |api: Self, client, body| async move { api.set_contact_preferences_for(client, body).await };
        self.call("ConsentService/SetContactPreferences", request, work).await
    }

    async fn watch_consents(
        &self,
        request: Request<WatchConsentsRequest>,
    ) -> Result<Response<Self::WatchConsentsStream>, Status> {
        let limit = deadline::asked(request.metadata());
        let work = |api: Self, caller, body| async move {
            let client = api.client(&caller)?;
            api.watch_consents_for(caller, client, body, limit).await
        };
        self.open("ConsentService/WatchConsents", request, work).await
    }

    async fn ask_consent(
        &self,
        request: Request<AskConsentRequest>,
    ) -> Result<Response<AskConsentResponse>, Status> {
        let work = |api: Self, client, body| async move { api.ask_consent_for(client, body).await };
        self.call("ConsentService/AskConsent", request, work).await
    }

    async fn get_consent_ask(
        &self,
        request: Request<GetConsentAskRequest>,
    ) -> Result<Response<GetConsentAskResponse>, Status> {
        let work = |api: Self, client, body| async move { api.get_consent_ask_for(client, body).await };
        self.call("ConsentService/GetConsentAsk", request, work).await
    }

    async fn list_consent_asks(
        &self,
        request: Request<ListConsentAsksRequest>,
    ) -> Result<Response<ListConsentAsksResponse>, Status> {
        let work = |api: Self, client, body| async move { api.list_consent_asks_for(client, body).await };
        self.call("ConsentService/ListConsentAsks", request, work).await
    }

    async fn answer_consent_ask(
        &self,
        request: Request<AnswerConsentAskRequest>,
    ) -> Result<Response<AnswerConsentAskResponse>, Status> {
        let work = |api: Self, client, body| async move { api.answer_consent_ask_for(client, body).await };
        self.call("ConsentService/AnswerConsentAsk", request, work).await
    }
}
