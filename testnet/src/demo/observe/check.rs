//! Step 3: Birch's CRM asks its own node what it may see at Cedar.

use assent_ledger::hash::Context;
use assent_ledger::receipt::verify_message;
use assent_proto::ledger::v1::{Decision, Signed};
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::{CheckConsentRequest, Outcome, Query};
use prost::Message;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use crate::client;
use crate::demo::observed::{CheckObserved, Refusal};
use crate::demo::stage::{query, Stage, CUSTODIAN, RECIPIENT};
use crate::error::{failed, Error};

/// Who asks.
pub const ACTOR: &str = "practitioner/birch-0001";
/// An identifier that no sample patient has.
const UNKNOWN_IDENTIFIER: &str = "MRN-900005";

/// Asks three times.
pub async fn observe(stage: &Stage) -> Result<CheckObserved, Error> {
    let channel = client::connect(stage.network(), RECIPIENT, "crm").await?;
    let mut client = DecisionServiceClient::new(channel);
    let mut ask = async |query: Query| {
        client
            .check_consent(CheckConsentRequest {
                query: Some(query),
                consistency: None,
                omit_decision: false,
            })
            .await
            .map(Response::into_inner)
    };
    let known = stage.patient.named();
    let mut unknown = known.clone();
    unknown.identifier_value = UNKNOWN_IDENTIFIER.into();

    let treatment = ask(query(known.clone(), "TREAT", ACTOR, &[])).await;
    let marketing = ask(query(known, "HMARKT", ACTOR, &[])).await;
    let unknown = ask(query(unknown, "TREAT", ACTOR, &[])).await;
    let (Err(marketing), Err(unknown)) = (marketing, unknown) else {
        return failed("CheckConsent permitted marketing, or an unknown patient");
    };
    let (treatment, may_be_incomplete, decision_signed) = match treatment {
        Ok(answer) => (
            match answer.outcome() {
                Outcome::Permit => "PERMIT".to_owned(),
                other => format!("{other:?}"),
            },
            answer.may_be_incomplete,
            answer.decision.is_some_and(|decision| decision_holds(stage, &decision)),
        ),
        Err(status) => (format!("{:?} {}", status.code(), status.message()), false, false),
    };
    Ok(CheckObserved {
        treatment,
        may_be_incomplete,
        decision_signed,
        marketing: refusal(stage, &marketing),
        unknown: refusal(stage, &unknown),
    })
}

fn decision_holds(stage: &Stage, signed: &Signed) -> bool {
    let Ok(decision) = Decision::decode(signed.body.as_slice()) else {
        return false;
    };
    let about_us = decision.custodian == CUSTODIAN
        && decision.handle == stage.patient.handle
        && decision.outcome == "PERMIT";
    about_us && signed_by_custodian(stage, Context::Decision, signed)
}

fn signed_by_custodian(stage: &Stage, context: Context, signed: &Signed) -> bool {
    let Some(key) = stage.entry_key(CUSTODIAN) else {
        return false;
    };
    signed.organization == CUSTODIAN && verify_message(context, &stage.genesis.chain_id, &key, signed)
}

/// All that a refusal shows.
fn refusal(stage: &Stage, status: &Status) -> Refusal {
    // `google.rpc.Status`: the details with their types.
    let details = tonic_types::Status::decode(status.details()).map(|s| s.details).unwrap_or_default();
    let signed = details.iter().filter_map(|detail| Signed::decode(detail.value.as_slice()).ok());
    let signed =
        signed.filter(|signed| signed_by_custodian(stage, Context::NotReleased, signed)).count() == 1;
    let mut metadata: Vec<String> = status.metadata().keys().map(|key| format!("{key:?}")).collect();
    metadata.sort();
    let reasons = status.get_details_error_info().map(|info| (info.domain, info.reason));
    Refusal {
        code: format!("{:?}", status.code()),
        message: status.message().to_owned(),
        reasons: reasons.into_iter().collect(),
        details: details.iter().map(|detail| (detail.type_url.clone(), detail.value.len())).collect(),
        metadata,
        signed,
    }
}

/// True for the one answer that stands for denied and unknown.
pub fn is_not_released(status: &Status) -> bool {
    status.code() == Code::PermissionDenied
        && status.get_details_error_info().is_some_and(|info| info.reason == "NOT_RELEASED")
}
