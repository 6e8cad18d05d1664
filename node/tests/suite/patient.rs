//! One synthetic patient with three records, and the calls of a hospital's own systems.

use assent_ledger::keys::SigningKey;
use assent_ledger::receipts::{verify_bundle, Trust, VerifiedAccess};
use assent_proto::ledger::v1::{receipt, AccessClaim, Receipt};
use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::exchange_service_client::ExchangeServiceClient;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::record_service_client::RecordServiceClient;
use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::*;
use prost::Message;
use tonic::transport::Channel;
use tonic::Status;
use tonic_types::StatusExt;

use crate::net::Net;

pub const SYSTEM: &str = "urn:test:mrn";

pub fn control_key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

pub fn patient(custodian: &str, value: &str) -> Patient {
    Patient {
        custodian: custodian.into(),
        identifier_system: SYSTEM.into(),
        identifier_value: value.into(),
        birth_date: "1980-02-03".into(),
    }
}

fn label(confidentiality: &str, sensitivity: Option<&str>) -> String {
    let mut codings = vec![format!(
        r#"{{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"{confidentiality}"}}"#
    )];
    if let Some(code) = sensitivity {
        codings.push(format!(
            r#"{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"{code}"}}"#
        ));
    }
    format!(r#""meta":{{"security":[{}]}}"#, codings.join(","))
}

/// Patient, an ordinary observation, a psychiatric one.
pub fn records(reference: &str) -> Vec<Vec<u8>> {
    let id = reference.strip_prefix("Patient/").unwrap();
    let observation = |n: &str, label: String| {
        format!(
            r#"{{"resourceType":"Observation","id":"{id}-{n}",{label},"status":"final","code":{{"coding":[{{"system":"http://loinc.org","code":"8480-6"}}]}},"subject":{{"reference":"{reference}"}}}}"#
        )
    };
    vec![
        format!(r#"{{"resourceType":"Patient","id":"{id}",{},"birthDate":"1980-02-03"}}"#, label("N", None))
            .into_bytes(),
        observation("bp", label("N", None)).into_bytes(),
        observation("phq9", label("R", Some("PSY"))).into_bytes(),
    ]
}

/// Permits Birch for TREAT without psychiatric notes, until a day or a moment.
pub fn consent(reference: &str, id: &str, until: &str) -> Vec<u8> {
    format!(
        r#"{{"resourceType":"Consent","id":"{id}","status":"active","scope":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}}]}},"category":[{{"coding":[{{"system":"http://loinc.org","code":"59284-0"}}]}}],"patient":{{"reference":"{reference}"}},"dateTime":"2026-01-05","provision":{{"type":"permit","period":{{"start":"2026-01-01","end":"{until}"}},"actor":[{{"role":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP"}}]}},"reference":{{"identifier":{{"system":"urn:assent:organization","value":"birch"}}}}}}],"purpose":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}}],"provision":[{{"type":"deny","securityLabel":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PSY"}}]}}]}}}}"#
    )
    .into_bytes()
}

pub async fn create_subject(
    channel: Channel,
    request_id: &str,
    value: &str,
    reference: &str,
) -> Result<Vec<u8>, Status> {
    let request = CreateSubjectRequest {
        request_id: request_id.into(),
        patient: Some(patient("cedar", value)),
        patient_reference: reference.into(),
        control_key: control_key().verifying_key().to_bytes().to_vec(),
    };
    Ok(SubjectServiceClient::new(channel).create_subject(request).await?.into_inner().handle)
}

pub async fn load(channel: Channel, request_id: &str, resources: Vec<Vec<u8>>) -> Result<u64, Status> {
    let message = LoadRecordsRequest { request_id: request_id.into(), resources };
    let stream = tokio_stream::iter(vec![message]);
    Ok(RecordServiceClient::new(channel).load_records(stream).await?.into_inner().resources)
}

pub async fn import(
    channel: Channel,
    request_id: &str,
    value: &str,
    fhir: Vec<u8>,
) -> Result<ImportConsentResponse, Status> {
    let request = ImportConsentRequest {
        request_id: request_id.into(),
        patient: Some(patient("cedar", value)),
        consent: fhir,
        control_key: Vec::new(),
        ..Default::default()
    };
    Ok(ConsentServiceClient::new(channel).import_consent(request).await?.into_inner())
}

pub fn query(value: &str, purpose: &str) -> Query {
    Query {
        patient: Some(patient("cedar", value)),
        purpose: purpose.into(),
        actor: "Practitioner/ada".into(),
        action: String::new(),
        resource_types: Vec::new(),
        ..Default::default()
    }
}

pub async fn check(channel: Channel, value: &str, purpose: &str) -> Result<CheckConsentResponse, Status> {
    check_query(channel, query(value, purpose)).await
}

pub async fn check_query(channel: Channel, query: Query) -> Result<CheckConsentResponse, Status> {
    let request = CheckConsentRequest { query: Some(query), consistency: None, omit_decision: false };
    Ok(DecisionServiceClient::new(channel).check_consent(request).await?.into_inner())
}

/// Receipt and resources of a request for records.
pub async fn request(
    channel: Channel,
    request_id: &str,
    value: &str,
) -> Result<assent_proto::ledger::v1::RecordBundle, Status> {
    let request = RequestRecordsRequest {
        request_id: request_id.into(),
        query: Some(query(value, "TREAT")),
        ..Default::default()
    };
    let mut stream = ExchangeServiceClient::new(channel).request_records(request).await?.into_inner();
    let mut bundle = assent_proto::ledger::v1::RecordBundle::default();
    while let Some(part) = stream.message().await? {
        bundle.proof = bundle.proof.or(part.proof);
        bundle.resources.extend(part.resources);
    }
    Ok(bundle)
}

pub async fn withdraw(
    channel: Channel,
    request_id: &str,
    handle: &[u8],
    withdraw_seq: u64,
) -> Result<u64, Status> {
    let message = assent_ledger::entry::withdraw_sign_bytes(super::net::CHAIN, "cedar", handle, withdraw_seq);
    let withdraw = assent_proto::ledger::v1::Withdraw {
        custodian: "cedar".into(),
        handle: handle.to_vec(),
        withdraw_seq,
        patient_signature: assent_ledger::keys::sign(&control_key(), &message).to_vec(),
    };
    let request = WithdrawRequest { request_id: request_id.into(), withdraw: Some(withdraw) };
    Ok(PatientServiceClient::new(channel).withdraw(request).await?.into_inner().height)
}

pub async fn history(channel: Channel, value: &str) -> Result<Vec<u8>, Status> {
    let request = GetHistoryRequest { patient: Some(patient("cedar", value)), ..Default::default() };
    Ok(PatientServiceClient::new(channel).get_history(request).await?.into_inner().history)
}

/// Code, reason and message of an error, and the length of its details.
pub fn shape(status: &Status) -> (tonic::Code, String, String, usize) {
    let reason = status.get_details_error_info().map(|i| i.reason).unwrap_or_default();
    (status.code(), reason, status.message().to_owned(), status.details().len())
}

pub fn reason(status: &Status) -> String {
    shape(status).1
}

/// Number of `ErrorInfo` details: must be one.
pub fn error_infos(status: &Status) -> usize {
    status
        .get_error_details_vec()
        .iter()
        .filter(|d| matches!(d, tonic_types::ErrorDetail::ErrorInfo(_)))
        .count()
}

/// A registered, loaded, consenting patient at Cedar.
pub async fn enrolled(net: &super::net::Net, value: &str, until: &str) -> Vec<u8> {
    let cedar = net.index("cedar");
    let reference = format!("Patient/{value}");
    let handle = create_subject(net.client(cedar, "registrar"), &format!("s-{value}"), value, &reference)
        .await
        .unwrap();
    load(net.client(cedar, "ehr"), &format!("l-{value}"), records(&reference)).await.unwrap();
    let fhir = consent(&reference, &format!("c-{value}"), until);
    import(net.client(cedar, "portal"), &format!("i-{value}"), value, fhir).await.unwrap();
    handle
}

/// What a reader outside trusts.
pub fn trust(net: &Net) -> Trust {
    Trust::genesis(net.genesis.hash)
}

/// What a bundle shows to a reader outside.
pub fn verified(net: &Net, bundle: &assent_proto::ledger::v1::RecordBundle) -> VerifiedAccess {
    verify_bundle(&trust(net), &bundle.encode_to_vec()).unwrap().1
}

/// The access that a receipt is of.
pub fn claim_of(receipt: &Receipt) -> &AccessClaim {
    match &receipt.claim {
        Some(receipt::Claim::Access(claim)) => claim,
        other => panic!("{other:?}"),
    }
}
