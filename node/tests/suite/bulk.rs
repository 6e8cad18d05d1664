//! Many patients in one entry, and the checks of a custodian's own clients.

use assent_ledger::audit::verify_export;
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::*;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::net::Net;
use crate::patient::*;

/// A consent to Cedar's own treatment.
fn own_consent(reference: &str, id: &str) -> Vec<u8> {
    let text = String::from_utf8(consent(reference, id, "2030-12-31")).unwrap();
    text.replace(r#""value":"birch""#, r#""value":"cedar""#).into_bytes()
}

fn subject(value: &str, consent: Vec<u8>) -> ImportedSubject {
    ImportedSubject {
        patient: Some(patient("cedar", value)),
        patient_reference: format!("Patient/{value}"),
        control_key: Vec::new(),
        consent,
    }
}

async fn send(
    channel: Channel,
    messages: Vec<ImportSubjectsRequest>,
) -> (Vec<ImportSubjectsResponse>, Option<Status>) {
    let stream = tokio_stream::iter(messages);
    let mut client = SubjectServiceClient::new(channel);
    let mut answers = client.import_subjects(stream).await.unwrap().into_inner();
    let mut seen = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => seen.push(answer),
            Ok(None) => return (seen, None),
            Err(status) => return (seen, Some(status)),
        }
    }
}

fn message(request_id: &str, subjects: Vec<ImportedSubject>) -> ImportSubjectsRequest {
    ImportSubjectsRequest { request_id: request_id.into(), subjects }
}

async fn own_check(channel: Channel, value: &str) -> Result<CheckConsentResponse, Status> {
    let request =
        CheckConsentRequest { query: Some(query(value, "TREAT")), consistency: None, omit_decision: true };
    Ok(DecisionServiceClient::new(channel).check_consent(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_of_patients_is_one_entry_or_nothing() {
    let net = Net::started(1).await;
    let registrar = net.client(0, "registrar");
    let many = |from: usize, to: usize| -> Vec<_> {
        let one = |n: usize| {
            let value = format!("bulk-{n}");
            let consent = own_consent(&format!("Patient/{value}"), &value);
            subject(&value, if n.is_multiple_of(2) { consent } else { Vec::new() })
        };
        (from..to).map(one).collect()
    };
    let entries = async || verify_export(&net.export(0).await, None, |_| {}).0.counts.entries;
    let before = entries().await;
    let (answers, failed) =
        send(registrar.clone(), vec![message("i-1", many(0, 256)), message("i-2", many(256, 300))]).await;
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(answers.iter().map(|a| a.handles.len()).collect::<Vec<_>>(), [256, 44]);
    assert_eq!((answers[0].request_id.as_str(), answers[1].request_id.as_str()), ("i-1", "i-2"));
    assert_eq!(entries().await, before + 2);
    // The same message again: the same handles, nothing new. They come in the order of the message, not of the entry.
    let (again, _) = send(registrar.clone(), vec![message("i-1", many(0, 256))]).await;
    assert_eq!(again[0].handles, answers[0].handles);
    assert!(
        !again[0].handles.is_sorted(),
        "256 handles in order would show that the entry's order was answered"
    );

    // One that can't be registered spoils its message, names itself, and nobody else of the message is registered.
    let refused = |subjects, reason_wanted: &'static str, at: &'static str| {
        let registrar = registrar.clone();
        async move {
            let (none, status) = send(registrar, vec![message("i-3", subjects)]).await;
            let status = status.unwrap();
            assert!(none.is_empty());
            let info = status.get_error_details().error_info().unwrap().clone();
            assert_eq!((info.reason.as_str(), info.metadata["subject"].as_str()), (reason_wanted, at));
        }
    };
    let good = subject("late-1", Vec::new());
    refused(vec![good.clone(), subject("bulk-7", Vec::new())], "SUBJECT_EXISTS", "1").await;
    refused(vec![good.clone(), good.clone()], "SUBJECT_TWICE", "1").await;
    let wrong = subject("late-2", own_consent("Patient/late-1", "x"));
    refused(vec![good.clone(), wrong], "CONSENT_FOR_OTHER_SUBJECT", "1").await;
    let (_, status) = send(registrar.clone(), vec![message("i-4", Vec::new())]).await;
    assert_eq!(reason(&status.unwrap()), "MALFORMED_REQUEST");
    let (_, status) = send(registrar.clone(), vec![message("i-5", many(1000, 1257))]).await;
    assert_eq!(status.unwrap().code(), Code::InvalidArgument);
    // The id of a refused message is free.
    let (answers, failed) = send(registrar, vec![message("i-3", vec![good])]).await;
    assert!(failed.is_none() && answers[0].handles.len() == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_own_permit_is_kept_until_consent_or_records_change() {
    let net = Net::started(1).await;
    let consent = own_consent("Patient/own-1", "own-1");
    let (_, failed) =
        send(net.client(0, "registrar"), vec![message("i", vec![subject("own-1", consent)])]).await;
    assert!(failed.is_none());
    let (crm, ehr) = (net.client(0, "crm"), net.client(0, "ehr"));
    let observation = records("Patient/own-1")[1].clone();
    assert_eq!(reason(&own_check(crm.clone(), "own-1").await.unwrap_err()), "NOT_RELEASED");
    load(ehr.clone(), "l-1", vec![observation.clone()]).await.unwrap();
    let first = own_check(crm.clone(), "own-1").await.unwrap();
    assert!(!first.cached && first.decision.is_none() && first.outcome() == Outcome::Permit);
    let second = own_check(crm.clone(), "own-1").await.unwrap();
    assert!(second.cached && second.decision.is_none());
    // Who wants it signed gets it signed, and decided anew.
    let signed = check(crm.clone(), "own-1", "TREAT").await.unwrap();
    assert!(!signed.cached && !signed.decision.unwrap().body.is_empty());
    // The only record becomes a psychiatric one: the next answer says so.
    let relabelled = String::from_utf8(records("Patient/own-1")[2].clone()).unwrap().replace("-phq9", "-bp");
    load(ehr.clone(), "l-2", vec![relabelled.into_bytes()]).await.unwrap();
    assert_eq!(reason(&own_check(crm.clone(), "own-1").await.unwrap_err()), "NOT_RELEASED");
    load(ehr, "l-3", vec![observation]).await.unwrap();
    assert!(!own_check(crm.clone(), "own-1").await.unwrap().cached);
    assert!(own_check(crm.clone(), "own-1").await.unwrap().cached);
    // Another consent under the same id, for somebody else: from its block on nothing is permitted.
    let other = super::patient::consent("Patient/own-1", "own-1", "2030-12-31");
    import(net.client(0, "portal"), "c-2", "own-1", other).await.unwrap();
    assert_eq!(reason(&own_check(crm, "own-1").await.unwrap_err()), "NOT_RELEASED");
}
