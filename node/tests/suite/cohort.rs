//! CheckCohort: a stream of patients, its form, its refusals, its speed.

use std::time::Instant;

use assent_proto::v1::*;
use tonic_types::StatusExt;

use crate::crowd::*;
use crate::net::Net;
use crate::patient::*;

async fn refused(net: &Net, messages: Vec<CheckCohortRequest>) -> (usize, String, String, String) {
    let (answers, status) = cohort(net.client(0, "crm"), messages).await;
    let info = status.expect("refused").get_details_error_info().unwrap();
    let fact = |name: &str| info.metadata.get(name).cloned().unwrap_or_default();
    (answers.len(), info.reason, fact("message"), fact("field"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_malformed_stream_ends_with_its_reason_after_the_answers_before() {
    let net = Net::started(1).await;
    registered(&net, &[("p-1".into(), permitting("p-1"))]).await;
    let text = |n: usize, reason: &str, at: &str, field: &str| {
        (n, reason.to_owned(), at.to_owned(), field.to_owned())
    };
    let subjects = |n: usize| vec![cohort_subject("p-1"); n];
    let first = |asked: CohortQuestion| CheckCohortRequest { question: Some(asked), subjects: subjects(1) };
    let later = |n: usize| CheckCohortRequest { question: None, subjects: subjects(n) };
    let good = || first(question("TREAT"));

    assert_eq!(refused(&net, vec![later(1)]).await, text(0, "MALFORMED_REQUEST", "1", "question"));
    assert_eq!(
        refused(&net, vec![good(), later(1), good(), later(1)]).await,
        text(2, "MALFORMED_REQUEST", "3", "question")
    );
    assert_eq!(
        refused(&net, vec![good(), later(1_025)]).await,
        text(1, "MALFORMED_REQUEST", "2", "subjects")
    );
    let undated = CohortSubject { birth_date: "1980".into(), ..cohort_subject("p-1") };
    let message = CheckCohortRequest { question: None, subjects: vec![cohort_subject("p-1"), undated] };
    assert_eq!(
        refused(&net, vec![good(), message]).await,
        text(1, "MALFORMED_REQUEST", "2", "subjects.birth_date")
    );
    let unnamed = CohortSubject { identifier_value: String::new(), ..cohort_subject("p-1") };
    let message = CheckCohortRequest { question: None, subjects: vec![unnamed] };
    assert_eq!(
        refused(&net, vec![good(), message]).await,
        text(1, "MALFORMED_REQUEST", "2", "subjects.identifier_value")
    );
    for (asked, reason, field) in [
        (
            CohortQuestion { custodian: "oak".into(), ..question("TREAT") },
            "UNKNOWN_CUSTODIAN",
            "question.custodian",
        ),
        (
            CohortQuestion { custodian: "O".into(), ..question("TREAT") },
            "MALFORMED_REQUEST",
            "question.custodian",
        ),
        (
            CohortQuestion { identifier_system: String::new(), ..question("TREAT") },
            "MALFORMED_REQUEST",
            "question.identifier_system",
        ),
        (question("NONSENSE"), "BAD_QUERY", "query"),
        (question(""), "MALFORMED_REQUEST", "question.purpose"),
        (CohortQuestion { actor: String::new(), ..question("TREAT") }, "MALFORMED_REQUEST", "question.actor"),
        (
            CohortQuestion { action: "read it".into(), ..question("TREAT") },
            "MALFORMED_REQUEST",
            "question.action",
        ),
    ] {
        assert_eq!(refused(&net, vec![first(asked)]).await, text(0, reason, "1", field));
    }
    let (none, status) = cohort(net.client(0, "auditor"), vec![good()]).await;
    assert!(none.is_empty());
    assert_eq!(reason(&status.unwrap()), "WRONG_ROLE");
    // Nothing asked about anybody, and nothing at all, are no faults.
    let question_only = CheckCohortRequest { question: Some(question("TREAT")), subjects: Vec::new() };
    let (answers, failed) = cohort(net.client(0, "crm"), vec![question_only, later(1_024), later(1)]).await;
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(answers.iter().map(|a| a.verdicts.len()).collect::<Vec<_>>(), [0, 1_024, 1]);
    assert!(answers.iter().flat_map(|a| a.verdicts()).all(|v| v == Verdict::Permit));
    assert_eq!(cohort(net.client(0, "crm"), Vec::new()).await.0.len(), 0);
}

/// The next message sees what was committed since the last one: consents, records, withdrawals, policy.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_sees_every_change_between_its_messages() {
    use assent_proto::v1::decision_service_client::DecisionServiceClient;
    let net = Net::started(1).await;
    let handles =
        registered(&net, &[("p-1".into(), permitting("p-1")), ("p-2".into(), permitting("p-2"))]).await;
    let (send, receive) = tokio::sync::mpsc::channel(4);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut client = DecisionServiceClient::new(net.client(0, "crm"));
    let mut answers = client.check_cohort(stream).await.unwrap().into_inner();
    let mut asked = Some(question("TREAT"));
    let mut ask = async || {
        let subjects = vec![cohort_subject("p-1"), cohort_subject("p-2")];
        send.send(CheckCohortRequest { question: asked.take(), subjects }).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        answer.verdicts().collect::<Vec<_>>()
    };
    let (yes, no) = (Verdict::Permit, Verdict::NotReleased);
    for _ in 0..2 {
        assert_eq!(ask().await, [yes, yes]);
    }
    // The only record becomes a psychiatric one.
    let relabelled = String::from_utf8(records("Patient/p-1")[2].clone()).unwrap().replace("-phq9", "-bp");
    load(net.client(0, "ehr"), "l-1", vec![relabelled.into_bytes()]).await.unwrap();
    assert_eq!(ask().await, [no, yes]);
    load(net.client(0, "ehr"), "l-2", vec![observation("p-1")]).await.unwrap();
    assert_eq!(ask().await, [yes, yes]);
    import(net.client(0, "portal"), "i-1", "p-1", for_others("p-1")).await.unwrap();
    assert_eq!(ask().await, [no, yes]);
    withdraw(net.client_with(0, None), "w-2", &handles[1], 0).await.unwrap();
    assert_eq!(ask().await, [no, no]);
    drop(send);
    assert!(answers.message().await.unwrap().is_none());
}

/// What was opened for the commitment before must not stand in for what the vault lacks.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_vault_lacks_is_unavailable_though_it_was_read_before() {
    use assent_proto::ledger::v1::{operation::Kind, Operation, SetConsent};
    let net = Net::new(1);
    let running = net.restarted(0).await;
    net.ready(0).await;
    let handles = registered(&net, &[("p-1".into(), permitting("p-1"))]).await;
    let crm = net.client(0, "crm");
    let ask = async || {
        let (answers, failed) = cohort(crm.clone(), messages("TREAT", &["p-1".into()], 1)).await;
        assert!(failed.is_none(), "{failed:?}");
        answers[0].verdicts().collect::<Vec<_>>()
    };
    assert_eq!(ask().await, [Verdict::Permit]);
    let parts = &running.app.parts;
    let slot = parts.store.view().unwrap().slot("cedar", &handles[0]).unwrap().unwrap();
    let operation = SetConsent {
        custodian: "cedar".into(),
        handle: handles[0].clone(),
        expected_consent_seq: slot.consent_seq,
        commitment: vec![7; 32],
        ..Default::default()
    };
    let entry = parts.submitter.sign(vec![Operation { kind: Some(Kind::SetConsent(operation)) }]).unwrap();
    parts.submitter.commit(&entry, std::time::Duration::from_secs(10)).await.unwrap();
    assert_eq!(ask().await, [Verdict::Unavailable]);
    let refused = check(crm.clone(), "p-1", "TREAT").await.unwrap_err();
    assert_eq!(reason(&refused), "VAULT_MISMATCH");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release -p assent-node --test suite -- --ignored --nocapture cohort_speed"]
async fn cohort_speed() {
    let size: usize = std::env::var("COHORT").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let net = Net::started(1).await;
    let patients: Vec<_> = (0..size).map(|n| (format!("p-{n}"), permitting(&format!("p-{n}")))).collect();
    let begin = Instant::now();
    registered(&net, &patients).await;
    println!("registered {size} in {:.1} s", begin.elapsed().as_secs_f64());
    let values: Vec<String> = patients.iter().map(|(value, _)| value.clone()).collect();
    for round in 0..4 {
        let begin = Instant::now();
        let (answers, failed) = cohort(net.client(0, "crm"), messages("TREAT", &values, 1_024)).await;
        let seconds = begin.elapsed().as_secs_f64();
        assert!(failed.is_none(), "{failed:?}");
        let permits = answers.iter().flat_map(|a| a.verdicts()).filter(|v| *v == Verdict::Permit).count();
        assert_eq!(permits, size);
        println!("round {round}: {seconds:.2} s, {:.0} patients/s", size as f64 / seconds);
    }
}
