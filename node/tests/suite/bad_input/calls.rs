//! Calls that come too late, too often, or with fields that nobody knows.

use std::time::{Duration, Instant};

use assent_ledger::keys::{sign, SigningKey};
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::*;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{bad_keys, entries, identity, raw_call};
use crate::grpc::{is, now_ms, proof};
use crate::net::Net;
use crate::patient::*;

const CREATE: &str = "/assent.v1.SubjectService/CreateSubject";

fn new_subject(request_id: &str, value: &str) -> CreateSubjectRequest {
    CreateSubjectRequest {
        request_id: request_id.into(),
        patient: Some(patient("cedar", value)),
        patient_reference: format!("Patient/{value}"),
        control_key: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_whose_deadline_is_past_does_nothing() {
    let net = Net::started(1).await;
    let before = entries(&net).await;
    let request = new_subject("late", "mrn-1").encode_to_vec();
    for timeout in ["0n", "0m", "0S", "1n"] {
        let registrar = identity(&net, "registrar", "test");
        let status = raw_call(&net, registrar, CREATE, &[("grpc-timeout", timeout)], &request).await;
        is(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(entries(&net).await, before, "a call that was too late was committed");
    // Nothing is stored either: the request id is free.
    let registrar = identity(&net, "registrar", "test");
    let mut client = SubjectServiceClient::new(net.client_with(0, Some(registrar)));
    client.create_subject(new_subject("late", "mrn-2")).await.unwrap();
    assert_eq!(entries(&net).await, before + 1);
}

/// proto3's rule, which lets old nodes serve new clients. Nothing that is signed or hashed is made of such a field.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_unknown_field_of_a_call_is_ignored_and_stored_nowhere() {
    let net = Net::started(1).await;
    let mut request = new_subject("s-1", "mrn-1").encode_to_vec();
    request.extend([0xf8, 0x07, 1]); // field 127
    let registrar = identity(&net, "registrar", "test");
    let status = raw_call(&net, registrar.clone(), CREATE, &[], &request).await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    // The same request without it is the same request.
    let mut client = SubjectServiceClient::new(net.client_with(0, Some(registrar)));
    client.create_subject(new_subject("s-1", "mrn-1")).await.unwrap();
    assert_eq!(entries(&net).await, 1);
}

async fn status_of(channel: &Channel) -> Result<(), Status> {
    NodeServiceClient::new(channel.clone()).get_status(GetStatusRequest {}).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_times_its_quota_is_refused_and_harms_nobody_else() {
    let mut net = Net::new(1);
    net.configure(0, "[grpc]\n", "[grpc]\nrequests_per_second = 10\nburst = 20\n");
    net.start(0).await;
    net.ready(0).await;
    let [wild, other] = ["wild", "other"].map(|name| net.client_with(0, Some(identity(&net, "crm", name))));
    status_of(&other).await.unwrap();
    let started = Instant::now();
    let calls = (0..200).map(|_| {
        let wild = wild.clone();
        tokio::spawn(async move { status_of(&wild).await })
    });
    let mut answered = 0;
    for call in calls.collect::<Vec<_>>() {
        let Err(refused) = call.await.unwrap() else {
            answered += 1;
            continue;
        };
        is(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
        let wait = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(100), "{wait:?}");
    }
    let most = 21 + started.elapsed().as_millis() as usize / 100;
    assert!((20..=most).contains(&answered), "{answered} of 200 calls answered, at most {most}");
    // Others are served, what is refused is not done, and whoever slows down is served again.
    for _ in 0..10 {
        status_of(&other).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    status_of(&wild).await.unwrap();
}

/// A stream is one call; its messages count one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_of_a_stream_count() {
    use assent_proto::v1::record_service_client::RecordServiceClient;
    let mut net = Net::new(1);
    net.configure(0, "[grpc]\n", "[grpc]\nrequests_per_second = 1\nburst = 5\n");
    net.start(0).await;
    net.ready(0).await;
    create_subject(net.client(0, "registrar"), "s-1", "mrn-1", "Patient/mrn-1").await.unwrap();
    let messages = (0..50)
        .map(|n| LoadRecordsRequest { request_id: format!("l-{n}"), resources: records("Patient/mrn-1") });
    let mut ehr = RecordServiceClient::new(net.client(0, "ehr"));
    let refused = ehr.load_records(tokio_stream::iter(messages.collect::<Vec<_>>())).await.unwrap_err();
    is(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    let info = refused.get_details_error_info().unwrap();
    assert_eq!((info.metadata["message"].as_str(), info.metadata["burst"].as_str()), ("6", "5"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_of_small_or_mixed_order_are_not_registered() {
    let net = Net::started(1).await;
    create_subject(net.client(0, "registrar"), "s-1", "mrn-1", "Patient/mrn-1").await.unwrap();
    let before = entries(&net).await;
    let mut subjects = SubjectServiceClient::new(net.client(0, "registrar"));
    let portal = net.client(0, "portal");
    for (n, (what, key)) in bad_keys().into_iter().enumerate() {
        let request =
            CreateSubjectRequest { control_key: key.to_vec(), ..new_subject(&format!("k-{n}"), "mrn-2") };
        let error = subjects.create_subject(request).await.expect_err(what);
        is(&error, Code::InvalidArgument, "BAD_CONTROL_KEY");
        let request = ImportConsentRequest {
            request_id: format!("k-{n}"),
            patient: Some(patient("cedar", "mrn-1")),
            consent: consent("Patient/mrn-1", "c-1", "2030-12-31"),
            control_key: key.to_vec(),
            ..Default::default()
        };
        let mut consents = consent_service_client::ConsentServiceClient::new(portal.clone());
        is(
            &consents.import_consent(request).await.expect_err(what),
            Code::InvalidArgument,
            "BAD_CONTROL_KEY",
        );
    }
    assert_eq!(entries(&net).await, before);
}

/// S + L: another encoding of the same scalar.
fn malleable(signature: &[u8]) -> Vec<u8> {
    let l = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let (mut changed, mut carry) = (signature.to_vec(), 0u16);
    for (byte, l) in changed[32..].iter_mut().zip(l) {
        carry += u16::from(*byte) + u16::from(l);
        *byte = carry as u8;
        carry >>= 8;
    }
    changed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_patients_signature_that_is_forged_malleable_or_cut_counts_for_nothing() {
    let net = Net::started(1).await;
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    let before = entries(&net).await;
    let mut anyone = PatientServiceClient::new(net.client_with(0, None));
    let good = proof(&control_key(), "GetSlot", &handle, 1, now_ms());
    let with = |signature: Vec<u8>| {
        let proof = ControlProof { signature, ..good.clone() };
        GetSlotRequest { proof: Some(proof) }
    };
    let forged = sign(&SigningKey::from_bytes(&[9; 32]), b"something else").to_vec();
    for wrong in [forged.clone(), malleable(&good.signature), vec![0; 64]] {
        is(&anyone.get_slot(with(wrong)).await.unwrap_err(), Code::NotFound, "SLOT_NOT_FOUND");
    }
    for cut in [&good.signature[..63], &[good.signature.as_slice(), &[0]].concat(), &[]] {
        let error = anyone.get_slot(with(cut.to_vec())).await.unwrap_err();
        is(&error, Code::InvalidArgument, "MALFORMED_REQUEST");
        assert!(error.message().contains("proof.signature"), "{error:?}");
    }
    anyone.get_slot(with(good.signature.clone())).await.unwrap();

    let message = assent_ledger::entry::withdraw_sign_bytes(crate::net::CHAIN, "cedar", &handle, 0);
    let signature = sign(&control_key(), &message).to_vec();
    let withdraw = |patient_signature: Vec<u8>| {
        let handle = handle.clone();
        let withdraw = assent_proto::ledger::v1::Withdraw {
            custodian: "cedar".into(),
            handle,
            withdraw_seq: 0,
            patient_signature,
        };
        WithdrawRequest { request_id: "w-1".into(), withdraw: Some(withdraw) }
    };
    for wrong in [forged, malleable(&signature)] {
        is(&anyone.withdraw(withdraw(wrong)).await.unwrap_err(), Code::NotFound, "SLOT_NOT_FOUND");
    }
    let error = anyone.withdraw(withdraw(signature[..63].to_vec())).await.unwrap_err();
    is(&error, Code::InvalidArgument, "MALFORMED_REQUEST");
    assert_eq!(entries(&net).await, before);
    anyone.withdraw(withdraw(signature)).await.unwrap();
}
