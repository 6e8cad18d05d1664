//! Every change of consents as a stream: each once, in order, across reconnects, restarts and slow readers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::*;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::net::Net;
use crate::patient::*;

const LIMIT: Duration = Duration::from_secs(20);

type Stream = Streaming<WatchConsentsResponse>;

async fn watch(channel: &Channel, token: &str, value: Option<&str>) -> Result<Stream, Status> {
    let patient = value.map(|value| patient("cedar", value));
    let request = WatchConsentsRequest { resume_token: token.into(), patient, heartbeat_ms: 1_000 };
    Ok(ConsentServiceClient::new(channel.clone()).watch_consents(request).await?.into_inner())
}

async fn next(stream: &mut Stream) -> Result<WatchConsentsResponse, Status> {
    let message = tokio::time::timeout(LIMIT, stream.message()).await.expect("no sign of life in time");
    message.map(|message| message.expect("the stream has ended"))
}

/// The next change, heartbeats left out, and the token behind it.
async fn change(stream: &mut Stream) -> (ConsentChange, String) {
    loop {
        let message = next(stream).await.unwrap();
        assert!(message.answer.is_some() && !message.resume_token.is_empty());
        if let Some(change) = message.change {
            assert!(message.answer.unwrap().height >= change.height);
            return (change, message.resume_token);
        }
    }
}

fn is(status: Status, code: Code, wanted: &str) {
    assert_eq!((status.code(), reason(&status).as_str()), (code, wanted), "{status:?}");
    assert_eq!(error_infos(&status), 1);
}

/// A consent of the patient's, in a revision that differs by its end.
async fn consenting(net: &Net, value: &str, n: u64) {
    let fhir = consent(&format!("Patient/{value}"), &format!("c-{value}"), &format!("2030-01-{n:02}"));
    import(net.client(0, "portal"), &format!("i-{value}-{n}"), value, fhir).await.unwrap();
}

async fn create(net: &Net, value: &str) -> Vec<u8> {
    let registrar = net.client(0, "registrar");
    create_subject(registrar, &format!("s-{value}"), value, &format!("Patient/{value}")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_is_told_as_it_is_recorded() {
    let net = Net::started(1).await;
    let before = create(&net, "mrn-0").await;
    let portal = net.client(0, "portal");
    let mut all = watch(&portal, "", None).await.unwrap();
    // At once, before any change: a client has a token from the start.
    let first = next(&mut all).await.unwrap();
    assert!(first.change.is_none() && !first.resume_token.is_empty());

    let handle = create(&net, "mrn-1").await;
    let (created, _) = change(&mut all).await;
    assert_eq!((&created.handle, created.patient_reference.as_str()), (&handle, "Patient/mrn-1"));
    assert_eq!((created.consent_seq, created.frozen, created.consents.len()), (1, false, 0));

    consenting(&net, "mrn-1", 1).await;
    let (granted, token) = change(&mut all).await;
    let [record] = granted.consents.as_slice() else { panic!("{granted:?}") };
    assert_eq!((record.consent_id.as_str(), record.revision, record.expired), ("c-mrn-1", 1, false));
    assert_eq!(record.state(), assent_proto::ledger::v1::ConsentState::Active);
    assert_eq!((record.consent_seq, record.height, granted.consent_seq), (2, granted.height, 2));
    assert!(record.rules.iter().any(|rule| rule.contains("TREAT")) && record.commitment.len() == 32);

    // Only what is new or changed: the other consent stands as it was.
    let other = consent("Patient/mrn-1", "c-other", "2031-01-01");
    import(portal.clone(), "i-other", "mrn-1", other).await.unwrap();
    consenting(&net, "mrn-1", 2).await;
    let (added, _) = change(&mut all).await;
    assert_eq!(added.consents.iter().map(|c| c.consent_id.as_str()).collect::<Vec<_>>(), ["c-other"]);
    let (revised, _) = change(&mut all).await;
    let [record] = revised.consents.as_slice() else { panic!("{revised:?}") };
    assert_eq!((record.consent_id.as_str(), record.revision), ("c-mrn-1", 2));

    let contact = SetContactPreferencesRequest {
        request_id: "p".into(),
        patient: Some(patient("cedar", "mrn-1")),
        campaign: vec!["none".into()],
        ..Default::default()
    };
    ConsentServiceClient::new(portal.clone()).set_contact_preferences(contact).await.unwrap();
    let (contact, _) = change(&mut all).await;
    assert_eq!((contact.consent_seq, contact.consents.len()), (5, 0));

    withdraw(net.client_with(0, None), "w-1", &handle, 0).await.unwrap();
    let (withdrawn, _) = change(&mut all).await;
    assert_eq!((withdrawn.consent_seq, withdrawn.frozen, withdrawn.consents.len()), (6, true, 0));

    // One patient's only.
    let mut one = watch(&portal, "", Some("mrn-0")).await.unwrap();
    next(&mut one).await.unwrap();
    create(&net, "mrn-2").await;
    consenting(&net, "mrn-0", 1).await;
    let (only, only_token) = change(&mut one).await;
    assert_eq!((&only.handle, only.consent_seq), (&before, 2));

    // Bad input, each by its reason.
    is(watch(&portal, "", Some("mrn-none")).await.unwrap_err(), Code::NotFound, "PATIENT_NOT_FOUND");
    for (token, value) in [
        ("x", None),
        (&token[2..], None),
        (&"00".repeat(45), None),
        (&token, Some("mrn-1")),
        (&only_token, None),
    ] {
        let refused = watch(&portal, token, value).await.unwrap_err();
        is(refused, Code::InvalidArgument, "BAD_RESUME_TOKEN");
    }
    let other = Net::started(1).await;
    let mut foreign = watch(&other.client(0, "portal"), "", None).await.unwrap();
    let foreign = next(&mut foreign).await.unwrap().resume_token;
    is(watch(&portal, &foreign, None).await.unwrap_err(), Code::InvalidArgument, "BAD_RESUME_TOKEN");
    let request = WatchConsentsRequest { heartbeat_ms: 999, ..Default::default() };
    let refused = ConsentServiceClient::new(portal.clone()).watch_consents(request).await.unwrap_err();
    is(refused, Code::InvalidArgument, "MALFORMED_REQUEST");
    let refused = watch(&net.client(0, "crm"), "", None).await.unwrap_err();
    is(refused, Code::PermissionDenied, "WRONG_ROLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_change_comes_once_however_often_the_stream_is_taken_up_again() {
    let net = std::sync::Arc::new(Net::started(1).await);
    let (portal, officer) = (net.client(0, "portal"), net.client(0, "officer"));
    let mut stream = watch(&portal, "", None).await.unwrap();
    let mut token = next(&mut stream).await.unwrap().resume_token;
    // A bulk import puts many changes into one block; portals write at the same time.
    const PATIENTS: usize = 40;
    const WRITERS: usize = 4;
    const WRITES: u64 = 12;
    let subjects = (0..PATIENTS).map(|n| ImportedSubject {
        patient: Some(patient("cedar", &format!("bulk-{n}"))),
        patient_reference: format!("Patient/bulk-{n}"),
        ..Default::default()
    });
    let bulk = ImportSubjectsRequest { request_id: "bulk".into(), subjects: subjects.collect() };
    let mut registrar =
        assent_proto::v1::subject_service_client::SubjectServiceClient::new(net.client(0, "registrar"));
    let writing: Vec<_> = (0..WRITERS)
        .map(|w| {
            let net = net.clone();
            tokio::spawn(async move {
                let value = format!("mrn-{w}");
                create(&net, &value).await;
                for n in 1..=WRITES {
                    consenting(&net, &value, n).await;
                }
            })
        })
        .collect();
    let mut answers = registrar.import_subjects(tokio_stream::iter(vec![bulk])).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());

    let expected = PATIENTS + WRITERS * (1 + WRITES as usize);
    let mut told: Vec<ConsentChange> = Vec::new();
    let mut breaks = 0u32;
    while told.len() < expected {
        let (change, behind) = change(&mut stream).await;
        token = behind;
        told.push(change);
        if told.len().is_multiple_of(7) {
            // Another client takes it up at the same place; what the first one's pipe still holds is not lost.
            let by = if breaks.is_multiple_of(2) { &officer } else { &portal };
            stream = watch(by, &token, None).await.unwrap();
            breaks += 1;
        }
    }
    for writer in writing {
        writer.await.unwrap();
    }
    assert!(breaks > 5);
    // In the ledger's order, each consent sequence of each slot once.
    assert!(told.is_sorted_by_key(|change| change.height));
    let mut sequences: BTreeMap<&[u8], Vec<u64>> = BTreeMap::new();
    for change in &told {
        sequences.entry(&change.handle).or_default().push(change.consent_seq);
    }
    assert_eq!(sequences.len(), PATIENTS + WRITERS);
    for sequences in sequences.values() {
        assert_eq!(*sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    }
    // A heartbeat says the same place with a fresh token, and from there nothing comes twice.
    let mut stream = watch(&portal, &token, None).await.unwrap();
    let heartbeat = next(&mut stream).await.unwrap();
    assert!(heartbeat.change.is_none() && heartbeat.resume_token != token);
    let mut stream = watch(&portal, &heartbeat.resume_token, None).await.unwrap();
    create(&net, "last").await;
    assert_eq!(change(&mut stream).await.0.patient_reference, "Patient/last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn heartbeats_come_a_slow_reader_waits_and_the_end_is_said() {
    let mut net = crate::limits::limited("watch_streams_per_client = 64").await;
    let portal = net.client(0, "portal");
    let mut slow = watch(&portal, "", None).await.unwrap();
    let mut beating = watch(&portal, "", None).await.unwrap();
    let mut at = Vec::new();
    for _ in 0..4 {
        assert!(next(&mut beating).await.unwrap().change.is_none());
        at.push(Instant::now());
    }
    for pair in at.windows(2).skip(1) {
        let pause = pair[1] - pair[0];
        assert!((500..2_000).contains(&pause.as_millis()), "{pause:?}");
    }
    // Nobody read the first: what happened meanwhile comes in order all the same.
    create(&net, "mrn-1").await;
    for n in 1..=20 {
        consenting(&net, "mrn-1", n).await;
    }
    for sequence in 1..=21 {
        assert_eq!(change(&mut slow).await.0.consent_seq, sequence);
    }

    // A client's own time ends its watch, and says so; without one it goes on.
    let mut request = Request::new(WatchConsentsRequest { heartbeat_ms: 1_000, ..Default::default() });
    request.set_timeout(Duration::from_millis(1_500));
    let timed = ConsentServiceClient::new(portal.clone()).watch_consents(request).await.unwrap();
    let mut timed = timed.into_inner();
    let ended = loop {
        if let Err(status) = next(&mut timed).await {
            break status;
        }
    };
    is(ended, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");

    // As many as there are places; one that is closed makes room.
    let mut open = vec![slow, beating];
    let more = (net.client(0, "officer"), net.client(0, "portal"));
    while open.len() < 64 {
        let by = if open.len().is_multiple_of(2) { &more.0 } else { &more.1 };
        let mut stream = watch(by, "", None).await.unwrap();
        next(&mut stream).await.unwrap();
        open.push(stream);
    }
    is(watch(&portal, "", None).await.unwrap_err(), Code::ResourceExhausted, "TOO_MANY_WATCHES");
    drop(open.pop());
    let mut again = None;
    for _ in 0..300 {
        match watch(&portal, "", None).await {
            Ok(stream) => {
                again = Some(stream);
                break;
            }
            Err(status) => assert_eq!(reason(&status), "TOO_MANY_WATCHES"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut last = again.expect("the place of a closed watch is free");
    let token = next(&mut last).await.unwrap().resume_token;

    // The node stops: every watch ends, at once, and goes on when it is back.
    let started = Instant::now();
    let (stopped, ended) = tokio::join!(net.stop(0), async {
        loop {
            if let Err(status) = next(&mut last).await {
                break status;
            }
        }
    });
    stopped.unwrap();
    is(ended, Code::Unavailable, "NODE_STOPPING");
    assert!(started.elapsed() < Duration::from_secs(15));
    net.start(0).await;
    create(&net, "mrn-2").await;
    let mut stream = watch(&net.client(0, "portal"), &token, None).await.unwrap();
    assert_eq!(change(&mut stream).await.0.patient_reference, "Patient/mrn-2");
}
