//! By which channels the patient wants to be contacted.

use assent_proto::ledger::v1::ContactPreferences;
use assent_proto::v1::{SetContactPreferencesRequest, SetContactPreferencesResponse};

use crate::custodian::check_channels;
use crate::grpc::auth::Client;
use crate::grpc::{border, Api};
use crate::refusal::Refusal;

impl Api {
    pub(in crate::grpc) async fn set_contact_preferences_for(
        &self,
        client: Client,
        body: SetContactPreferencesRequest,
    ) -> Result<SetContactPreferencesResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let patient = self.own_patient(body.patient)?;
        for (field, channels) in
            [("reminder", &body.reminder), ("survey", &body.survey), ("campaign", &body.campaign)]
        {
            check_channels(channels)
                .map_err(|what| Refusal::invalid("BAD_CHANNELS", field, format!("{field}: {what}")))?;
        }
        let preferences = ContactPreferences {
            reminder: body.reminder,
            survey: body.survey,
            campaign: body.campaign,
            ..Default::default()
        };
        let custodian = &self.app.custodian;
        let (consent_seq, height) =
            custodian.set_contact(&client.id, &body.request_id, patient, preferences).await?;
        let answer = Some(self.answer_from(height).await?);
        Ok(SetContactPreferencesResponse { answer, consent_seq })
    }
}
