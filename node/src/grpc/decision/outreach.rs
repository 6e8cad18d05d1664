//! May a patient be contacted, for what and by which channel.

use assent_proto::v1::{CheckOutreachRequest, CheckOutreachResponse, OutreachKind, Query};

use crate::custodian::{Outreach, CHANNELS};
use crate::grpc::auth::Client;
use crate::grpc::{answer, border, Api};
use crate::refusal::Refusal;

fn outreach(kind: i32) -> Result<Outreach, Refusal> {
    match OutreachKind::try_from(kind) {
        Ok(OutreachKind::Reminder) => Ok(Outreach::Reminder),
        Ok(OutreachKind::Survey) => Ok(Outreach::Survey),
        Ok(OutreachKind::Campaign) => Ok(Outreach::Campaign),
        Ok(OutreachKind::Unspecified) | Err(_) => {
            Err(border::malformed("kind", "not a kind: reminder, survey or campaign"))
        }
    }
}

fn channel(channel: String) -> Result<String, Refusal> {
    match CHANNELS.contains(&channel.as_str()) {
        true => Ok(channel),
        false => Err(border::malformed("channel", format!("not one of {}", CHANNELS.join(", ")))),
    }
}

impl Api {
    pub(in crate::grpc) async fn check_outreach_for(
        &self,
        client: Client,
        body: CheckOutreachRequest,
    ) -> Result<CheckOutreachResponse, Refusal> {
        let purpose = outreach(body.kind)?.purpose();
        let channel = channel(body.channel)?;
        // The same border as a check's; its fields are named as this message has them.
        border::patient("patient", body.patient.clone())?;
        let query = Query {
            patient: body.patient,
            purpose: purpose.to_owned(),
            actor: body.actor,
            ..Default::default()
        };
        let query = self.known_query(Some(query)).map_err(|refusal| {
            let field = refusal.metadata.get("field").map(|f| f.trim_start_matches("query.").to_owned());
            let message = refusal.message.replacen("query.", "", 1);
            let refusal = Refusal { message, ..refusal };
            match field {
                Some(field) => refusal.with("field", field),
                None => refusal,
            }
        })?;
        let consistency = body.consistency.as_ref();
        let tip = self.app.parts.tip();
        answer::meets(consistency, &tip)?;
        let permit = self.app.recipient.check_outreach(&client.id, query, channel).await?;
        answer::meets_at(consistency, permit.height, permit.time_ms)?;
        Ok(CheckOutreachResponse {
            answer: Some(answer::at(&tip)),
            purpose: purpose.to_owned(),
            obligations: permit.obligations,
            not_after_ms: permit.not_after_ms,
        })
    }
}
