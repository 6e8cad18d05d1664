//! A CRM asks for a consent, the patient answers.

use assent_proto::v1::{
    AnswerConsentAskRequest, AnswerConsentAskResponse, AskAnswer, AskConsentRequest, AskConsentResponse,
    AskState, ConsentAsk, GetConsentAskRequest, GetConsentAskResponse, ListConsentAsksRequest,
    ListConsentAsksResponse,
};

use crate::custodian::AskListed;
use crate::grpc::auth::Client;
use crate::grpc::{border, Api};
use crate::recipient::{AskStanding, NewAsk};
use crate::refusal::Refusal;

fn as_portal_sees_it(listed: AskListed) -> ConsentAsk {
    let answer = match listed.granted {
        None => AskAnswer::Unspecified,
        Some(true) => AskAnswer::Granted,
        Some(false) => AskAnswer::Declined,
    };
    ConsentAsk {
        ask_id: listed.id.to_vec(),
        recipient: listed.ask.recipient,
        client: listed.ask.client,
        purposes: listed.ask.purposes,
        actions: listed.ask.actions,
        resource_types: listed.ask.resource_types,
        valid_until_ms: listed.ask.valid_until_ms,
        reason: listed.ask.reason,
        time_ms: listed.time_ms,
        expires_ms: listed.ask.not_after_ms,
        answer: answer.into(),
        consent_id: listed.consent_id,
    }
}

impl Api {
    pub(in crate::grpc) async fn ask_consent_for(
        &self,
        client: Client,
        body: AskConsentRequest,
    ) -> Result<AskConsentResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let (custodian, patient) = border::patient("patient", body.patient)?;
        let new = NewAsk {
            custodian,
            patient,
            purposes: body.purposes,
            actions: body.actions,
            resource_types: body.resource_types,
            valid_until_ms: body.valid_until_ms,
            reason: body.reason,
        };
        let made = self.app.recipient.ask_consent(&client.id, &body.request_id, new).await?;
        Ok(AskConsentResponse {
            answer: Some(self.answer()),
            ask_id: made.id.to_vec(),
            expires_ms: made.not_after_ms,
        })
    }

    pub(in crate::grpc) async fn get_consent_ask_for(
        &self,
        client: Client,
        body: GetConsentAskRequest,
    ) -> Result<GetConsentAskResponse, Refusal> {
        let id = border::bytes::<32>("ask_id", &body.ask_id)?;
        let (standing, made) = self.app.recipient.own_ask(&client.id, &id).await?;
        let state = match standing {
            AskStanding::Pending => AskState::Pending,
            AskStanding::Granted => AskState::Granted,
            AskStanding::Expired => AskState::Expired,
        };
        Ok(GetConsentAskResponse {
            answer: Some(self.answer()),
            state: state.into(),
            expires_ms: made.not_after_ms,
        })
    }

    pub(in crate::grpc) async fn list_consent_asks_for(
        &self,
        _client: Client,
        body: ListConsentAsksRequest,
    ) -> Result<ListConsentAsksResponse, Refusal> {
        let patient = self.own_patient(body.patient)?;
        let custodian = &self.app.custodian;
        let (asks, next) =
            custodian.list_asks(&patient, body.include_closed, body.page_size, &body.page_token)?;
        Ok(ListConsentAsksResponse {
            answer: Some(self.answer()),
            asks: asks.into_iter().map(as_portal_sees_it).collect(),
            next_page_token: next,
        })
    }

    pub(in crate::grpc) async fn answer_consent_ask_for(
        &self,
        client: Client,
        body: AnswerConsentAskRequest,
    ) -> Result<AnswerConsentAskResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let granted = match AskAnswer::try_from(body.answer) {
            Ok(AskAnswer::Granted) => true,
            Ok(AskAnswer::Declined) => false,
            Ok(AskAnswer::Unspecified) | Err(_) => {
                return Err(border::malformed("answer", "neither granted nor declined"))
            }
        };
        let patient = self.own_patient(body.patient)?;
        let id = border::bytes::<32>("ask_id", &body.ask_id)?;
        let custodian = &self.app.custodian;
        let answered = custodian.answer_ask(&client.id, &body.request_id, patient, id, granted).await?;
        Ok(AnswerConsentAskResponse {
            answer: Some(self.answer_from(answered.height).await?),
            consent_id: answered.consent_id,
            rules: answered.rules,
        })
    }
}
