//! What is too large, or nested too deep.

use assent_node::grpc::border::{
    MAX_DOCUMENT_BYTES, MAX_RESOURCES_PER_MESSAGE, MAX_RESOURCE_BYTES, MAX_RESOURCE_TYPES,
};
use assent_node::grpc::{MAX_LARGE_MESSAGE_BYTES, MAX_MESSAGE_BYTES};
use assent_proto::ledger::v1::RecordBundle;
use assent_proto::v1::exchange_service_client::ExchangeServiceClient;
use assent_proto::v1::policy_service_client::PolicyServiceClient;
use assent_proto::v1::record_service_client::RecordServiceClient;
use assent_proto::v1::*;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{deep, entries};
use crate::grpc::is;
use crate::net::Net;
use crate::patient::*;

async fn set_policy(net: &Net, request_id: &str, policy: Vec<u8>) -> Result<u64, Status> {
    let mut client = PolicyServiceClient::new(net.client(0, "officer"));
    let request = SetPolicyRequest { request_id: request_id.into(), policy, ..Default::default() };
    Ok(client.set_policy(request).await?.into_inner().policy_seq)
}

fn metadata(status: &Status, key: &str) -> String {
    status.get_details_error_info().unwrap().metadata.get(key).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn json_nested_10_000_deep_is_refused_in_every_document() {
    let net = Net::started(1).await;
    create_subject(net.client(0, "registrar"), "s-1", "mrn-1", "Patient/mrn-1").await.unwrap();
    let before = entries(&net).await;
    let lists = deep();
    let objects = r#"{"a":"#.repeat(10_000) + "1" + &"}".repeat(10_000);
    for deep in [&lists, &objects] {
        let resource = format!(r#"{{"resourceType":"Patient","id":"mrn-1","extension":{deep}}}"#);
        let error = load(net.client(0, "ehr"), "l-1", vec![resource.into_bytes()]).await.unwrap_err();
        is(&error, Code::InvalidArgument, "RESOURCE_REFUSED");
        assert!(error.message().contains("too-deep"), "{error:?}");

        let fhir = String::from_utf8(consent("Patient/mrn-1", "c-1", "2030-12-31")).unwrap();
        let fhir = fhir.replacen('{', &format!(r#"{{"extension":{deep},"#), 1);
        let error = import(net.client(0, "portal"), "i-1", "mrn-1", fhir.into_bytes()).await.unwrap_err();
        is(&error, Code::InvalidArgument, "CONSENT_REFUSED");
        assert_eq!(metadata(&error, "issues"), "too-deep");

        let policy = format!(r#"{{"id":"p","version":1,"rules":{deep}}}"#);
        let error = set_policy(&net, "p-1", policy.into_bytes()).await.unwrap_err();
        is(&error, Code::InvalidArgument, "POLICY_REFUSED");
        assert!(error.message().contains("nested too deep"), "{error:?}");
    }
    assert_eq!(entries(&net).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn oversized_messages_documents_and_bundles_are_refused() {
    let net = Net::started(1).await;
    create_subject(net.client(0, "registrar"), "s-1", "mrn-1", "Patient/mrn-1").await.unwrap();
    let before = entries(&net).await;
    let malformed = |status: Status, field: &str| {
        is(&status, Code::InvalidArgument, "MALFORMED_REQUEST");
        assert_eq!(metadata(&status, "field"), field);
    };
    let too_large = |status: Status| is(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");

    // One byte over the limit of a document is refused by name, over that of a message by the transport.
    let fhir = vec![b' '; MAX_DOCUMENT_BYTES + 1];
    malformed(import(net.client(0, "portal"), "i-1", "mrn-1", fhir.clone()).await.unwrap_err(), "consent");
    malformed(set_policy(&net, "p-1", fhir).await.unwrap_err(), "policy");
    let fhir = vec![b' '; MAX_MESSAGE_BYTES];
    too_large(import(net.client(0, "portal"), "i-1", "mrn-1", fhir).await.unwrap_err());

    let ehr = || net.client(0, "ehr");
    let long = vec![b' '; MAX_RESOURCE_BYTES + 1];
    malformed(load(ehr(), "l-1", vec![long.clone()]).await.unwrap_err(), "resources[0]");
    let many = vec![b"{}".to_vec(); MAX_RESOURCES_PER_MESSAGE + 1];
    malformed(load(ehr(), "l-1", many).await.unwrap_err(), "resources");
    too_large(
        load(ehr(), "l-1", vec![long; MAX_LARGE_MESSAGE_BYTES / MAX_RESOURCE_BYTES]).await.unwrap_err(),
    );
    // Its first message is good and stays; the second one names itself.
    let messages = vec![
        LoadRecordsRequest { request_id: "l-2".into(), resources: records("Patient/mrn-1") },
        LoadRecordsRequest { request_id: "l-3".into(), resources: Vec::new() },
    ];
    let error = RecordServiceClient::new(ehr()).load_records(tokio_stream::iter(messages)).await.unwrap_err();
    assert_eq!(metadata(&error, "message"), "2");
    malformed(error, "resources");

    let bundle = RecordBundle { proof: None, resources: vec![vec![0; MAX_LARGE_MESSAGE_BYTES]] };
    let request = VerifyRecordsRequest { bundle: Some(bundle) };
    too_large(ExchangeServiceClient::new(net.client(0, "crm")).verify_records(request).await.unwrap_err());

    let mut crm = ExchangeServiceClient::new(net.client(0, "crm"));
    let query = Query {
        resource_types: vec!["Observation".into(); MAX_RESOURCE_TYPES + 1],
        ..query("mrn-1", "TREAT")
    };
    let request =
        RequestRecordsRequest { request_id: "r-1".into(), query: Some(query), ..Default::default() };
    malformed(crm.request_records(request).await.unwrap_err(), "query.resource_types");
    assert_eq!(entries(&net).await, before);
}
