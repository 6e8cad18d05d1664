//! A CRM asks for a consent, the patient answers.

use assent_proto::v1::{
    AnswerConsentAskRequest, AnswerConsentAskResponse, AskConsentRequest, AskConsentResponse,
    GetConsentAskRequest, GetConsentAskResponse, ListConsentAsksRequest, ListConsentAsksResponse,
};

use crate::grpc::auth::Client;
use crate::grpc::Api;
use crate::refusal::Refusal;

impl Api {
    pub(in crate::grpc) async fn ask_consent_for(
        &self,
        _client: Client,
        _body: AskConsentRequest,
    ) -> Result<AskConsentResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(in crate::grpc) async fn get_consent_ask_for(
        &self,
        _client: Client,
        _body: GetConsentAskRequest,
    ) -> Result<GetConsentAskResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(in crate::grpc) async fn list_consent_asks_for(
        &self,
        _client: Client,
        _body: ListConsentAsksRequest,
    ) -> Result<ListConsentAsksResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    pub(in crate::grpc) async fn answer_consent_ask_for(
        &self,
        _client: Client,
        _body: AnswerConsentAskRequest,
    ) -> Result<AnswerConsentAskResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }
}
