//! Denied and unknown are one answer, on every path (CONSENT.md, Hiding): code, text, size, paging, and time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::exchange_service_client::ExchangeServiceClient;
use assent_proto::v1::*;
use futures::stream::{self, StreamExt};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::net::Net;
use crate::patient::*;

/// Everything that a recipient can read off an error, but for what is signed anew each time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    code: i32,
    message: String,
    reason: String,
    metadata: BTreeMap<String, String>,
    details_bytes: usize,
    headers: BTreeSet<String>,
}

fn seen(status: &Status) -> Seen {
    let info = status.get_details_error_info().unwrap();
    // The block time in the signed answer may grow by a digit of its varint only every few thousand years.
    Seen {
        code: status.code() as i32,
        message: status.message().to_owned(),
        reason: info.reason,
        metadata: info.metadata.into_iter().collect(),
        details_bytes: status.details().len(),
        headers: status.metadata().keys().map(|key| format!("{key:?}")).collect(),
    }
}

/// Patients of Cedar about whom Birch gets nothing for HPAYMT, each for another reason, and names that nobody has.
struct Cast {
    denied: Vec<&'static str>,
    absent: Vec<&'static str>,
}

async fn cast(net: &Net) -> Cast {
    let cedar = net.index("cedar");
    let (registrar, ehr, portal) =
        (net.client(cedar, "registrar"), net.client(cedar, "ehr"), net.client(cedar, "portal"));
    // A consent, but not to this.
    enrolled(net, "other", "2030-12-31").await;
    // One that is over.
    enrolled(net, "over", "2026-02-01").await;
    // Withdrawn.
    let handle = enrolled(net, "gone", "2030-12-31").await;
    withdraw(net.client(cedar, "portal"), "w", &handle, 0).await.unwrap();
    // Records, no consent.
    create_subject(registrar.clone(), "s-silent", "silent", "Patient/silent").await.unwrap();
    let mut many: Vec<Vec<u8>> = records("Patient/silent");
    many.extend((0..200).map(|n| {
        let text = String::from_utf8(records("Patient/silent")[1].clone()).unwrap();
        text.replace("silent-bp", &format!("silent-{n}")).into_bytes()
    }));
    load(ehr, "l-silent", many).await.unwrap();
    // No record at all.
    create_subject(registrar, "s-blank", "blank", "Patient/blank").await.unwrap();
    let consent = consent("Patient/blank", "c-blank", "2030-12-31");
    import(portal, "i-blank", "blank", consent).await.unwrap();
    Cast {
        denied: vec!["other", "over", "gone", "silent", "blank"],
        absent: vec!["othes", "Other", "nobody-at-all", "0", "оther"],
    }
}

fn asked(value: &str) -> Query {
    query(value, "HPAYMT")
}

async fn records_of(channel: Channel, request_id: &str, query: Query) -> Status {
    let request =
        RequestRecordsRequest { request_id: request_id.into(), query: Some(query), ..Default::default() };
    ExchangeServiceClient::new(channel).request_records(request).await.unwrap_err()
}

async fn one_of_many(channel: Channel, value: &str) -> Vec<u8> {
    let Query { patient, purpose, actor, .. } = asked(value);
    let query = BatchQuery { patient, purpose, actor, ..Default::default() };
    let request = BatchCheckConsentRequest { queries: vec![query], ..Default::default() };
    let answer = DecisionServiceClient::new(channel).batch_check_consent(request).await.unwrap().into_inner();
    BatchCheckConsentResponse { answer: None, ..answer }.encode_to_vec()
}

async fn in_a_cohort(channel: Channel, value: &str) -> Vec<u8> {
    let question = CohortQuestion {
        custodian: "cedar".into(),
        identifier_system: SYSTEM.into(),
        purpose: "HPAYMT".into(),
        actor: "Practitioner/ada".into(),
        ..Default::default()
    };
    let subject = CohortSubject { identifier_value: value.into(), birth_date: "1980-02-03".into() };
    let message = CheckCohortRequest { question: Some(question), subjects: vec![subject] };
    let stream = tokio_stream::iter(vec![message]);
    let mut answers = DecisionServiceClient::new(channel).check_cohort(stream).await.unwrap().into_inner();
    let mut said = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        said.extend(CheckCohortResponse { answer: None, ..answer }.encode_length_delimited_to_vec());
    }
    said
}

async fn outreach(channel: Channel, value: &str) -> Status {
    let request = CheckOutreachRequest {
        patient: Some(patient("cedar", value)),
        kind: OutreachKind::Campaign.into(),
        channel: "sms".into(),
        actor: "Practitioner/ada".into(),
        ..Default::default()
    };
    DecisionServiceClient::new(channel).check_outreach(request).await.unwrap_err()
}

async fn ask(channel: Channel, value: &str) -> (usize, AskState) {
    let request = AskConsentRequest {
        request_id: format!("ask-{value}").replace('о', "o-"),
        patient: Some(patient("cedar", value)),
        purposes: vec!["HPAYMT".into()],
        valid_until_ms: 4_000_000_000_000,
        reason: "To settle the bill.".into(),
        ..Default::default()
    };
    let mut client = ConsentServiceClient::new(channel);
    let told = client.ask_consent(request).await.unwrap().into_inner();
    let request = GetConsentAskRequest { ask_id: told.ask_id.clone() };
    let stands = client.get_consent_ask(request).await.unwrap().into_inner();
    (AskConsentResponse { answer: None, expires_ms: 0, ..told }.encoded_len(), stands.state())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn denied_and_unknown_are_one_answer_on_every_path() {
    let net = Net::started(4).await;
    let cast = cast(&net).await;
    // At another hospital's node, and at the custodian's own.
    for node in [net.index("birch"), net.index("cedar")] {
        let crm = net.client(node, "crm");
        let (mut errors, mut batches, mut cohorts) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut outreaches, mut asks) = (BTreeSet::new(), BTreeSet::new());
        for (n, value) in cast.denied.iter().chain(&cast.absent).enumerate() {
            let checked = check_query(crm.clone(), asked(value)).await.unwrap_err();
            assert_eq!((checked.code(), reason(&checked).as_str()), (Code::PermissionDenied, "NOT_RELEASED"));
            assert_eq!(error_infos(&checked), 1);
            errors.insert(seen(&checked));
            let requested = records_of(crm.clone(), &format!("r-{n}"), asked(value)).await;
            errors.insert(seen(&requested));
            batches.insert(one_of_many(crm.clone(), value).await);
            cohorts.insert(in_a_cohort(crm.clone(), value).await);
            outreaches.insert(seen(&outreach(crm.clone(), value).await));
            asks.insert(ask(crm.clone(), value).await);
        }
        // A birth date that is not the patient's own.
        let mut wrong = asked("other");
        wrong.patient.as_mut().unwrap().birth_date = "1980-02-04".into();
        errors.insert(seen(&check_query(crm.clone(), wrong).await.unwrap_err()));
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert_eq!(outreaches.len(), 1, "{outreaches:#?}");
        assert_eq!((batches.len(), cohorts.len(), asks.len()), (1, 1, 1), "{batches:?} {cohorts:?} {asks:?}");
        // Nothing of it is in the list of what one got.
        let list = ListAccessesRequest::default();
        let mut exchange = ExchangeServiceClient::new(crm);
        let list = exchange.list_accesses(list).await.unwrap().into_inner();
        assert!(list.accesses.is_empty() && list.next_page_token.is_empty());
    }
    // The comparison can fail: a permit is told apart.
    assert!(check(net.client(net.index("birch"), "crm"), "other", "TREAT").await.is_ok());
}

/// Largest distance between two empirical distributions (Kolmogorov and Smirnov).
fn distance(a: &mut [f64], b: &mut [f64]) -> f64 {
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let (mut i, mut j, mut worst) = (0, 0, 0f64);
    while i < a.len() && j < b.len() {
        let at = a[i].min(b[j]);
        while i < a.len() && a[i] <= at {
            i += 1;
        }
        while j < b.len() && b[j] <= at {
            j += 1;
        }
        worst = worst.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    worst
}

/// The distance that two samples of one distribution stay below, but for one time in a million.
fn bound(n: usize, m: usize) -> f64 {
    let (n, m) = (n as f64, m as f64);
    (-(0.5e-6f64).ln() / 2.0 * (n + m) / (n * m)).sqrt()
}

#[test]
fn the_two_sample_test_tells_a_shift_of_a_tenth() {
    // Two samples of one distribution, and one that is shifted by a tenth of its width.
    let sample = |seed: u64| -> Vec<f64> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..2000).map(|_| next()).collect()
    };
    let (mut a, mut b) = (sample(1), sample(2));
    assert!(distance(&mut a, &mut b) < bound(2000, 2000));
    let mut shifted: Vec<f64> = sample(3).iter().map(|x| x + 0.1).collect();
    assert!(distance(&mut a, &mut shifted) > bound(2000, 2000));
}

/// Asks 1,000 times each, in turn, so that whatever else the machine does meets both alike.
async fn times(net: &Net, node: usize, cast: &Cast) -> (Vec<f64>, Vec<f64>) {
    const EACH: usize = 1_000;
    const AT_ONCE: usize = 24;
    let crm = net.client(node, "crm");
    let timed = async |value: &'static str, n: usize| {
        let mut query = asked(value);
        // No two questions are the same, so that nothing is answered from memory.
        query.actor = format!("Practitioner/{n}");
        let (channel, start) = (crm.clone(), Instant::now());
        assert_eq!(reason(&check_query(channel, query).await.unwrap_err()), "NOT_RELEASED");
        start.elapsed()
    };
    let pairs: Vec<(Duration, Duration)> = stream::iter(0..EACH)
        .map(|n| {
            let (denied, absent) = (cast.denied[n % cast.denied.len()], cast.absent[n % cast.absent.len()]);
            let timed = &timed;
            async move {
                match n % 2 {
                    0 => {
                        let first = timed(denied, n).await;
                        (first, timed(absent, n).await)
                    }
                    _ => {
                        let first = timed(absent, n).await;
                        (timed(denied, n).await, first)
                    }
                }
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    pairs.iter().map(|(denied, absent)| (denied.as_secs_f64(), absent.as_secs_f64())).unzip()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn time_does_not_tell_denied_from_unknown() {
    let net = Net::started(4).await;
    let cast = cast(&net).await;
    for node in [net.index("birch"), net.index("cedar")] {
        let (mut denied, mut absent) = times(&net, node, &cast).await;
        let found = distance(&mut denied, &mut absent);
        let (n, m) = (denied.len(), absent.len());
        let median = |sorted: &[f64]| sorted[sorted.len() / 2] * 1e3;
        assert!(
            found < bound(n, m),
            "distance {found:.3} of {n} and {m} samples, medians {:.2} and {:.2} ms",
            median(&denied),
            median(&absent)
        );
    }
}
