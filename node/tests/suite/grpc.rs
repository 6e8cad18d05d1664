//! What every gRPC call has: one reason per error, deadlines, limits, health, reflection; and patients with a control key.

use std::time::Duration;

use assent_ledger::audit::{verify_export, write_record, RecordKind, EXPORT_MAGIC};
use assent_ledger::hash::{framed, Context};
use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::receipts::{verify_history, VerifiedHistory};
use assent_proto::v1::audit_service_client::AuditServiceClient;
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::policy_service_client::PolicyServiceClient;
use assent_proto::v1::record_service_client::RecordServiceClient;
use assent_proto::v1::*;
use tonic::{Code, Request, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::HealthCheckRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::ServerReflectionRequest;

use crate::net::{Net, CHAIN};
use crate::patient::*;

pub fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

pub fn proof(key: &SigningKey, method: &str, handle: &[u8], nonce: u8, time_ms: u64) -> ControlProof {
    let (nonce, time) = ([nonce; 16], time_ms.to_be_bytes());
    let parts: [&[u8]; 5] = [method.as_bytes(), b"cedar", handle, &nonce, &time];
    ControlProof {
        custodian: "cedar".into(),
        handle: handle.to_vec(),
        nonce: nonce.to_vec(),
        time_ms,
        signature: sign(key, &framed(Context::PatientRequest, CHAIN, &parts)).to_vec(),
    }
}

/// The code, the reason and exactly one `ErrorInfo`.
pub fn is(status: &Status, code: Code, expected: &str) {
    assert_eq!(
        (status.code(), reason(status).as_str(), error_infos(status)),
        (code, expected, 1),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_error_has_one_reason() {
    let net = Net::started(1).await;
    // What the transport refuses by itself.
    let mut policy = PolicyServiceClient::new(net.client(0, "officer"));
    let large =
        SetPolicyRequest { request_id: "p".into(), policy: vec![b' '; 300 << 10], ..Default::default() };
    is(&policy.set_policy(large).await.unwrap_err(), Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    let mut raw = tonic::client::Grpc::new(net.client(0, "officer"));
    raw.ready().await.unwrap();
    let path = "/assent.v1.NodeService/NoSuchMethod".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<GetStatusRequest, GetStatusResponse>::default();
    let unknown = raw.unary(Request::new(GetStatusRequest {}), path, codec).await.unwrap_err();
    is(&unknown, Code::Unimplemented, "NO_SUCH_METHOD");
    raw.ready().await.unwrap();
    // Field 1 of CheckConsentRequest is a message, not this string.
    let path = "/assent.v1.DecisionService/CheckConsent".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<SetPolicyRequest, GetStatusResponse>::default();
    let other =
        SetPolicyRequest { request_id: "\u{7f}".repeat(9), policy: vec![0xff; 9], ..Default::default() };
    is(
        &raw.unary(Request::new(other), path, codec).await.unwrap_err(),
        Code::InvalidArgument,
        "MALFORMED_REQUEST",
    );

    // What the border refuses, with the field's name and not its content.
    let mut decisions = DecisionServiceClient::new(net.client(0, "crm"));
    let mut wrong = query("mrn-1", "TREAT");
    wrong.patient.as_mut().unwrap().birth_date = "3.2.1980".into();
    let request = CheckConsentRequest { query: Some(wrong), consistency: None, omit_decision: false };
    let error = decisions.check_consent(request).await.unwrap_err();
    is(&error, Code::InvalidArgument, "MALFORMED_REQUEST");
    assert!(
        error.message().contains("query.patient.birth_date") && !error.message().contains("1980"),
        "{error:?}"
    );
    let mut elsewhere = query("mrn-1", "TREAT");
    elsewhere.patient.as_mut().unwrap().custodian = "nowhere".into();
    let request = CheckConsentRequest { query: Some(elsewhere), consistency: None, omit_decision: false };
    is(&decisions.check_consent(request).await.unwrap_err(), Code::InvalidArgument, "UNKNOWN_CUSTODIAN");
    let consistency = Some(Consistency { min_height: 1 << 40, ..Default::default() });
    let request =
        CheckConsentRequest { query: Some(query("mrn-1", "TREAT")), consistency, omit_decision: false };
    is(&decisions.check_consent(request).await.unwrap_err(), Code::Unavailable, "BEHIND_MIN_HEIGHT");

    // A stream that never ends: the server says that the deadline is over, with its reason.
    let mut ehr = RecordServiceClient::new(net.client(0, "ehr"));
    let mut endless = Request::new(tokio_stream::pending::<LoadRecordsRequest>());
    endless.metadata_mut().insert("grpc-timeout", "1S".parse().unwrap());
    is(&ehr.load_records(endless).await.unwrap_err(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn patients_need_no_certificate_but_their_key() {
    let net = Net::started(1).await;
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    let mut anyone = PatientServiceClient::new(net.client_with(0, None));
    let get = |proof: ControlProof| GetSlotRequest { proof: Some(proof) };
    let good = proof(&control_key(), "GetSlot", &handle, 1, now_ms());
    let slot = anyone.get_slot(get(good.clone())).await.unwrap().into_inner().slot.unwrap();
    assert_eq!((slot.consent_seq, slot.frozen, slot.access_seq), (2, false, 0));
    is(&anyone.get_slot(get(good.clone())).await.unwrap_err(), Code::Unauthenticated, "NONCE_USED");

    // No key, another key, another method, another patient: one answer.
    let stranger = SigningKey::from_bytes(&[9; 32]);
    let mut unsigned = good.clone();
    unsigned.signature = vec![0; 64];
    let mut shapes = Vec::new();
    for wrong in [
        unsigned,
        proof(&stranger, "GetSlot", &handle, 2, now_ms()),
        proof(&control_key(), "GetHistory", &handle, 3, now_ms()),
        proof(&control_key(), "GetSlot", &[5; 32], 4, now_ms()),
    ] {
        let error = anyone.get_slot(get(wrong)).await.unwrap_err();
        is(&error, Code::NotFound, "SLOT_NOT_FOUND");
        shapes.push(shape(&error));
    }
    assert!(shapes.windows(2).all(|w| w[0] == w[1]), "{shapes:?}");
    for late in [now_ms() - 301_000, now_ms() + 305_000] {
        let late = proof(&control_key(), "GetSlot", &handle, 6, late);
        is(&anyone.get_slot(get(late)).await.unwrap_err(), Code::Unauthenticated, "PROOF_OUT_OF_TIME");
    }
    is(
        &anyone.get_slot(GetSlotRequest::default()).await.unwrap_err(),
        Code::InvalidArgument,
        "MALFORMED_REQUEST",
    );

    // The history: with the key, through the portal, and for nobody else.
    let ask = |proof| GetHistoryRequest { proof, ..Default::default() };
    let history = anyone
        .get_history(ask(Some(proof(&control_key(), "GetHistory", &handle, 7, now_ms()))))
        .await
        .unwrap();
    let VerifiedHistory { slot, accesses, .. } =
        verify_history(&trust(&net), &history.into_inner().history).unwrap();
    assert_eq!((slot.consent_seq, accesses.len()), (2, 0));
    assert!(verify_history(&trust(&net), &history_of(&net, "portal").await.unwrap()).is_ok());
    is(&history_of(&net, "crm").await.unwrap_err(), Code::PermissionDenied, "WRONG_ROLE");
    is(&anyone.get_history(ask(None)).await.unwrap_err(), Code::Unauthenticated, "NO_CLIENT_CERTIFICATE");

    // Withdrawing: a wrong signature is the same answer again and stores nothing; a retry is harmless.
    let error = withdraw(net.client_with(0, None), "w-1", &[5; 32], 0).await.unwrap_err();
    assert_eq!(shape(&error), shapes[0]);
    let height = withdraw(net.client_with(0, None), "w-1", &handle, 0).await.unwrap();
    assert_eq!(withdraw(net.client_with(0, None), "w-1", &handle, 0).await.unwrap(), height);
    let slot = anyone
        .get_slot(get(proof(&control_key(), "GetSlot", &handle, 8, now_ms())))
        .await
        .unwrap()
        .into_inner();
    assert!(slot.answer.unwrap().height >= height && slot.slot.unwrap().frozen);

    // A flood is stopped, and does not stop a withdrawal.
    let mut limited = 0;
    for _ in 0..150 {
        let error = anyone.get_slot(GetSlotRequest::default()).await.unwrap_err();
        limited += usize::from(reason(&error) == "RATE_LIMITED");
    }
    assert!(limited > 0);
    assert_eq!(withdraw(net.client_with(0, None), "w-1", &handle, 0).await.unwrap(), height);
}

async fn history_of(net: &Net, role: &str) -> Result<Vec<u8>, Status> {
    history(net.client(0, role), "mrn-1").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn auditors_get_whole_chains_and_single_blocks() {
    let net = Net::started(1).await;
    enrolled(&net, "mrn-1", "2030-12-31").await;
    let mut auditor = AuditServiceClient::new(net.client(0, "auditor"));
    let mut stream = auditor.export_ledger(ExportLedgerRequest {}).await.unwrap().into_inner();
    let (mut bytes, mut end) = (Vec::new(), None);
    while let Some(part) = stream.message().await.unwrap() {
        end = end.or(part.answer);
        bytes.extend(part.chunk);
    }
    let (verifier, outcome) = verify_export(&bytes, Some(net.genesis.hash), |_| {});
    assert_eq!(outcome, Ok(()));
    let (tip, end) = (verifier.tip().unwrap().clone(), end.unwrap());
    assert_eq!(end.height, tip.height);
    assert_eq!(end.token, format!("{CHAIN}:{}:{}", tip.height, hex::encode(&tip.header_hash[..8])));

    // The same chain, put together from single blocks.
    let mut again = EXPORT_MAGIC.to_vec();
    let genesis = std::fs::read(net.members[0].dir.join("genesis.bin")).unwrap();
    write_record(&mut again, RecordKind::Genesis, &genesis);
    let mut certificate = Vec::new();
    for height in 1..=tip.height {
        let block = auditor.get_block(GetBlockRequest { height }).await.unwrap().into_inner();
        write_record(&mut again, RecordKind::Block, &block.block);
        certificate = block.certificate;
    }
    write_record(&mut again, RecordKind::Certificate, &certificate);
    assert!(again == bytes);
    let none = auditor.get_block(GetBlockRequest { height: 0 }).await.unwrap_err();
    is(&none, Code::InvalidArgument, "MALFORMED_REQUEST");
    let beyond = auditor.get_block(GetBlockRequest { height: 1 << 40 }).await.unwrap_err();
    is(&beyond, Code::NotFound, "NO_SUCH_BLOCK");

    let status = NodeServiceClient::new(net.client(0, "crm"))
        .get_status(GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((status.entries, status.fresh), (verifier.counts.entries, true));
    assert!(status.validators[0].last_signed_height >= tip.height);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn health_reflection_and_shutdown() {
    let mut net = Net::started(1).await;
    let mut health = HealthClient::new(net.client_with(0, None));
    for service in ["", "assent.v1.DecisionService"] {
        let request = HealthCheckRequest { service: service.into() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service}");
    }
    let unknown = health.check(HealthCheckRequest { service: "x".into() }).await.unwrap_err();
    is(&unknown, Code::NotFound, "NO_SUCH_SERVICE");

    let mut reflection = ServerReflectionClient::new(net.client_with(0, None));
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter([list])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(services) = answer else { panic!("{answer:?}") };
    let names: Vec<String> = services.service.into_iter().map(|s| s.name).collect();
    assert!(names.contains(&"assent.v1.PatientService".to_owned()), "{names:?}");

    // A client that stays connected and asks nothing does not hold up the shutdown.
    let stopping = std::time::Instant::now();
    net.stop(0).await.unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(9), "{:?}", stopping.elapsed());
    assert!(health.check(HealthCheckRequest::default()).await.is_err());
}
