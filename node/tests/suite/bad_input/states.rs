//! Calls that come in a wrong state, and request ids that are used more than once.

use std::future::Future;
use std::sync::{Arc, Barrier};

use assent_ledger::keys::SigningKey;
use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::policy_service_client::PolicyServiceClient;
use assent_proto::v1::*;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::entries;
use crate::grpc::is;
use crate::net::Net;
use crate::patient::*;

async fn set_policy(channel: Channel, request_id: &str, id: &str) -> Result<SetPolicyResponse, Status> {
    let policy =
        format!(r#"{{"id":"{id}","version":1,"rules":[{{"effect":"DENY","purposes":["HMARKT"]}}]}}"#);
    let request =
        SetPolicyRequest { request_id: request_id.into(), policy: policy.into_bytes(), ..Default::default() };
    Ok(PolicyServiceClient::new(channel).set_policy(request).await?.into_inner())
}

async fn import_with_key(
    channel: Channel,
    request_id: &str,
    key: &SigningKey,
) -> Result<ImportConsentResponse, Status> {
    let request = ImportConsentRequest {
        request_id: request_id.into(),
        patient: Some(patient("cedar", "mrn-1")),
        consent: consent("Patient/mrn-1", "c-1", "2030-12-31"),
        control_key: key.verifying_key().to_bytes().to_vec(),
        ..Default::default()
    };
    Ok(ConsentServiceClient::new(channel).import_consent(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_in_a_wrong_state_are_named_and_change_nothing() {
    let net = Net::started(1).await;
    let (registrar, ehr, portal) =
        (net.client(0, "registrar"), net.client(0, "ehr"), net.client(0, "portal"));
    let fhir = |id: &str| consent("Patient/mrn-1", id, "2030-12-31");

    // Before the registration.
    let error = import(portal.clone(), "i-0", "mrn-1", fhir("c-1")).await.unwrap_err();
    is(&error, Code::NotFound, "SUBJECT_NOT_FOUND");
    let error = load(ehr.clone(), "l-0", records("Patient/mrn-1")).await.unwrap_err();
    is(&error, Code::FailedPrecondition, "SUBJECT_NOT_REGISTERED");
    is(&history(portal.clone(), "mrn-1").await.unwrap_err(), Code::NotFound, "PATIENT_NOT_FOUND");
    is(&withdraw(portal.clone(), "w-0", &[5; 32], 0).await.unwrap_err(), Code::NotFound, "SLOT_NOT_FOUND");
    let error = check(net.client(0, "crm"), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::PermissionDenied, "NOT_RELEASED"));
    assert_eq!(entries(&net).await, 0);

    // A second registration: the same patient, another reference or key.
    let handle = create_subject(registrar.clone(), "s-1", "mrn-1", "Patient/mrn-1").await.unwrap();
    for (request_id, reference) in [("s-2", "Patient/mrn-1"), ("s-3", "Patient/other")] {
        let error = create_subject(registrar.clone(), request_id, "mrn-1", reference).await.unwrap_err();
        is(&error, Code::AlreadyExists, "SUBJECT_EXISTS");
    }
    let error = create_subject(registrar.clone(), "s-4", "mrn-9", "Patient/mrn-1").await.unwrap_err();
    is(&error, Code::AlreadyExists, "ALREADY_EXISTS");
    let mut elsewhere = subject_service_client::SubjectServiceClient::new(registrar);
    let request = CreateSubjectRequest {
        request_id: "s-5".into(),
        patient: Some(patient("birch", "mrn-1")),
        patient_reference: "Patient/mrn-1".into(),
        control_key: Vec::new(),
    };
    let error = elsewhere.create_subject(request).await.unwrap_err();
    is(&error, Code::FailedPrecondition, "FOREIGN_CUSTODIAN");
    let request = ImportConsentRequest {
        request_id: "i-5".into(),
        patient: Some(patient("birch", "mrn-1")),
        consent: fhir("c-1"),
        control_key: Vec::new(),
        ..Default::default()
    };
    let error = ConsentServiceClient::new(portal.clone()).import_consent(request).await.unwrap_err();
    is(&error, Code::FailedPrecondition, "FOREIGN_CUSTODIAN");
    assert_eq!(entries(&net).await, 1);

    // Records about nobody, and about two patients.
    let subjects =
        [r#"[{"reference":"Patient/mrn-1"},{"reference":"Patient/mrn-2"}]"#, r#"{"reference":"Device/1"}"#];
    for subject in subjects {
        let record = format!(r#"{{"resourceType":"Account","id":"1","subject":{subject}}}"#);
        let error = load(ehr.clone(), "l-1", vec![record.into_bytes()]).await.unwrap_err();
        is(&error, Code::InvalidArgument, "NOT_ONE_SUBJECT");
    }

    // A consent about somebody else; another control key than the one that is there; the same one is no change.
    let other = consent("Patient/else", "c-1", "2030-12-31");
    let error = import(portal.clone(), "i-1", "mrn-1", other).await.unwrap_err();
    is(&error, Code::InvalidArgument, "CONSENT_FOR_OTHER_SUBJECT");
    let error = import_with_key(portal.clone(), "i-2", &SigningKey::from_bytes(&[9; 32])).await.unwrap_err();
    is(&error, Code::FailedPrecondition, "CONTROL_KEY_PRESENT");
    assert_eq!(entries(&net).await, 1);
    import_with_key(portal.clone(), "i-3", &control_key()).await.unwrap();

    // Withdrawn: frozen for consents, and not to be withdrawn twice by one signature.
    withdraw(portal.clone(), "w-1", &handle, 0).await.unwrap();
    let before = entries(&net).await;
    let error = import(portal.clone(), "i-4", "mrn-1", fhir("c-2")).await.unwrap_err();
    is(&error, Code::FailedPrecondition, "SLOT_FROZEN");
    for seq in [0, 2] {
        let error = withdraw(portal.clone(), &format!("w-again-{seq}"), &handle, seq).await.unwrap_err();
        is(&error, Code::Aborted, "STALE_WITHDRAW_SEQUENCE");
    }
    assert_eq!(entries(&net).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unknown_purposes_and_actions_are_refused() {
    let net = Net::started(1).await;
    let mut decisions = decision_service_client::DecisionServiceClient::new(net.client(0, "crm"));
    let mut exchange = exchange_service_client::ExchangeServiceClient::new(net.client(0, "crm"));
    for (purpose, action) in [("NONSENSE", ""), ("treat", ""), ("TREAT", "destroy"), ("TREAT", "ACCESS")] {
        let query = Query { action: action.into(), ..query("mrn-1", purpose) };
        let request =
            CheckConsentRequest { query: Some(query.clone()), consistency: None, omit_decision: false };
        is(&decisions.check_consent(request).await.unwrap_err(), Code::InvalidArgument, "BAD_QUERY");
        let request =
            RequestRecordsRequest { request_id: "r-1".into(), query: Some(query), ..Default::default() };
        is(&exchange.request_records(request).await.unwrap_err(), Code::InvalidArgument, "BAD_QUERY");
    }
}

/// Calls from 100 threads at once, all alike; their one answer.
async fn from_100_threads<T, F>(call: impl Fn() -> F + Clone + Send + 'static) -> T
where
    T: PartialEq + std::fmt::Debug + Send + 'static,
    F: Future<Output = Result<T, Status>>,
{
    let (runtime, barrier) = (tokio::runtime::Handle::current(), Arc::new(Barrier::new(100)));
    let threads: Vec<_> = (0..100)
        .map(|_| {
            let (runtime, barrier, call) = (runtime.clone(), barrier.clone(), call.clone());
            std::thread::spawn(move || {
                barrier.wait();
                runtime.block_on(call())
            })
        })
        .collect();
    let join = || threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect::<Vec<T>>();
    let mut answers = tokio::task::block_in_place(join);
    let first = answers.pop().unwrap();
    assert_eq!(answers.len(), 99);
    assert!(answers.iter().all(|answer| *answer == first), "{first:?} and {answers:?}");
    first
}

/// Every method that takes a request id.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_request_id_from_100_threads_is_one_commit_and_one_answer() {
    let net = Net::started(1).await;
    let [registrar, ehr, portal, officer, crm] =
        ["registrar", "ehr", "portal", "officer", "crm"].map(|role| net.client(0, role));
    let handle = from_100_threads(move || {
        let registrar = registrar.clone();
        async move { create_subject(registrar, "s-1", "mrn-1", "Patient/mrn-1").await }
    })
    .await;
    assert_eq!(entries(&net).await, 1);
    from_100_threads(move || {
        let ehr = ehr.clone();
        async move { load(ehr, "l-1", records("Patient/mrn-1")).await }
    })
    .await;
    let for_cedar = String::from_utf8(consent("Patient/mrn-1", "c-1", "2030-12-31")).unwrap();
    let for_cedar = for_cedar.replace(r#""value":"birch""#, r#""value":"cedar""#).into_bytes();
    let importing = portal.clone();
    let (consent_id, seq) = from_100_threads(move || {
        let (portal, fhir) = (importing.clone(), for_cedar.clone());
        async move { import(portal, "i-1", "mrn-1", fhir).await.map(|a| (a.consent_id, a.consent_seq)) }
    })
    .await;
    assert_eq!((consent_id.as_str(), seq, entries(&net).await), ("c-1", 2, 2));
    let seq = from_100_threads(move || {
        let officer = officer.clone();
        async move { set_policy(officer, "p-1", "p").await.map(|a| a.policy_seq) }
    })
    .await;
    assert_eq!((seq, entries(&net).await), (1, 3));
    let bundle = from_100_threads(move || {
        let crm = crm.clone();
        async move { request(crm, "r-1", "mrn-1").await.map(|bundle| bundle.encode_to_vec()) }
    })
    .await;
    let bundle = assent_proto::ledger::v1::RecordBundle::decode(bundle.as_slice()).unwrap();
    assert_eq!((bundle.resources.len(), entries(&net).await), (2, 4));
    from_100_threads(move || {
        let (portal, handle) = (portal.clone(), handle.clone());
        async move { withdraw_patiently(portal, &handle).await }
    })
    .await;
    assert_eq!(entries(&net).await, 5);
}

/// Withdrawals without a certificate have a rate of their own; a client that is told so comes again.
async fn withdraw_patiently(channel: Channel, handle: &[u8]) -> Result<u64, Status> {
    loop {
        match withdraw(channel.clone(), "w-1", handle, 0).await {
            Err(limited) if reason(&limited) == "RATE_LIMITED" => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            outcome => return outcome,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_request_id_with_another_body_is_refused_by_every_method() {
    let net = Net::started(1).await;
    let [registrar, ehr, portal, officer, crm] =
        ["registrar", "ehr", "portal", "officer", "crm"].map(|role| net.client(0, role));
    let reused = |status: Status| is(&status, Code::AlreadyExists, "REQUEST_ID_REUSED");
    let id = "one-id";
    let handle = create_subject(registrar.clone(), id, "mrn-1", "Patient/mrn-1").await.unwrap();
    reused(create_subject(registrar, id, "mrn-2", "Patient/mrn-2").await.unwrap_err());
    load(ehr.clone(), id, records("Patient/mrn-1")).await.unwrap();
    reused(load(ehr, id, records("Patient/mrn-1")[..1].to_vec()).await.unwrap_err());
    let fhir = |id: &str| {
        let text = String::from_utf8(consent("Patient/mrn-1", id, "2030-12-31")).unwrap();
        text.replace(r#""value":"birch""#, r#""value":"cedar""#).into_bytes()
    };
    import(portal.clone(), id, "mrn-1", fhir("c-1")).await.unwrap();
    reused(import(portal.clone(), id, "mrn-1", fhir("c-2")).await.unwrap_err());
    set_policy(officer.clone(), id, "p").await.unwrap();
    reused(set_policy(officer, id, "q").await.unwrap_err());
    request(crm.clone(), id, "mrn-1").await.unwrap();
    let other = Query { actor: "Practitioner/eve".into(), ..query("mrn-1", "TREAT") };
    let other = RequestRecordsRequest { request_id: id.into(), query: Some(other), ..Default::default() };
    let mut exchange = exchange_service_client::ExchangeServiceClient::new(crm);
    reused(exchange.request_records(other).await.unwrap_err());
    withdraw(portal.clone(), id, &handle, 0).await.unwrap();
    let before = entries(&net).await;
    reused(withdraw(portal, id, &handle, 1).await.unwrap_err());
    assert_eq!(entries(&net).await, before);
}
