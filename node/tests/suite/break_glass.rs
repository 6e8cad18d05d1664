//! Break-glass: by whom, over what, and without quorum too.

use std::time::Duration;

use assent_ledger::late::verify_late_bundle;
use assent_ledger::receipts::{verify_history, VerifiedHistory};
use assent_proto::ledger::v1::{LateBundle, LateProof, RecordBundle};
use assent_proto::v1::exchange_service_client::ExchangeServiceClient;
use assent_proto::v1::*;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::net::Net;
use crate::patient::*;
use crate::registry::{by, caught_up, icu, set_rules};
use crate::reviews::{notices, reviews};

pub const REASON: &str = "found unconscious";

pub fn glass_policy(overrides_deny: bool, overrides_frozen: bool) -> String {
    format!(
        r#"{{"id":"p","version":1,"rules":[{{"effect":"DENY","purposes":["HMARKT"]}}],"break_glass":{{"groups":["Group/icu"],"purposes":["TREAT"],"overrides_deny":{overrides_deny},"overrides_frozen":{overrides_frozen}}}}}"#
    )
}

pub fn emergency(actor: &str, value: &str) -> Query {
    Query { break_glass_reason: REASON.into(), ..by(actor, value) }
}

/// What a request for records brought: a receipt, or a late access.
#[derive(Debug, Clone, PartialEq)]
pub struct Brought {
    pub bundle: RecordBundle,
    pub late: Option<LateProof>,
}

pub async fn ask(channel: Channel, request_id: &str, query: Query) -> Result<Brought, Status> {
    let request =
        RequestRecordsRequest { request_id: request_id.into(), query: Some(query), ..Default::default() };
    bring(channel, request).await
}

pub async fn bring(channel: Channel, request: RequestRecordsRequest) -> Result<Brought, Status> {
    let mut stream = ExchangeServiceClient::new(channel).request_records(request).await?.into_inner();
    let mut brought = Brought { bundle: RecordBundle::default(), late: None };
    while let Some(part) = stream.message().await? {
        brought.bundle.proof = brought.bundle.proof.or(part.proof);
        brought.bundle.resources.extend(part.resources);
        brought.late = brought.late.or(part.late);
    }
    Ok(brought)
}

fn refused(outcome: Result<Brought, Status>) -> (Code, String, String, usize) {
    shape(&outcome.expect_err("released"))
}

/// A registered patient at Cedar with these records and no consent.
pub async fn silent(net: &Net, value: &str, resources: Vec<Vec<u8>>) {
    let cedar = net.index("cedar");
    let reference = format!("Patient/{value}");
    create_subject(net.client(cedar, "registrar"), &format!("s-{value}"), value, &reference).await.unwrap();
    load(net.client(cedar, "ehr"), &format!("l-{value}"), resources).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_policy_says_who_may_and_over_what() {
    let net = Net::started(4).await;
    let (birch, cedar, dogwood) = (net.index("birch"), net.index("cedar"), net.index("dogwood"));
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    let mut with_notes = records("Patient/mrn-2");
    with_notes.push(
        String::from_utf8(with_notes[2].clone())
            .unwrap()
            .replace("PSY", "PSYTHPN")
            .replace("phq9", "note")
            .into_bytes(),
    );
    silent(&net, "mrn-2", with_notes).await;
    let crm = net.client(birch, "crm");
    let grey = |value| emergency("Practitioner/grey", value);
    let unknown = refused(ask(crm.clone(), "u-0", grey("mrn-9")).await);
    assert_eq!(unknown.1, "NOT_RELEASED");
    // No policy; a policy that knows no break-glass; one that knows it, without a registry.
    assert_eq!(refused(ask(crm.clone(), "b-0", grey("mrn-2")).await), unknown);
    let officer = net.client(cedar, "officer");
    set_rules(officer.clone(), "p-1", crate::registry::POLICY, "").await.unwrap();
    assert_eq!(refused(ask(crm.clone(), "b-1", grey("mrn-2")).await), unknown);
    set_rules(officer.clone(), "p-2", &glass_policy(false, false), "").await.unwrap();
    assert_eq!(refused(ask(crm.clone(), "b-2", grey("mrn-2")).await), unknown);

    let registry = icu(&[("birch", "Practitioner/grey", "")]);
    let set = set_rules(officer.clone(), "p-3", &glass_policy(false, false), &registry).await.unwrap();
    let height = set.answer.unwrap().height;
    caught_up(&net, birch, height).await;
    caught_up(&net, dogwood, height).await;
    // Nobody's consent: everything but psychotherapy notes. With a reason, by a member, for treatment; not else.
    let released = ask(crm.clone(), "b-3", grey("mrn-2")).await.unwrap();
    assert_eq!(released.bundle.resources.len(), 3);
    assert!(released.late.is_none());
    let access = verified(&net, &released.bundle);
    assert_eq!((access.event.outcome.as_str(), access.event.late), ("PERMIT_OVERRIDE", false));
    assert_eq!(access.request.break_glass_reason, REASON);
    assert_eq!(ask(crm.clone(), "b-3", grey("mrn-2")).await.unwrap(), released);
    let permit = check_query(crm.clone(), grey("mrn-2")).await.unwrap();
    assert_eq!(permit.outcome(), Outcome::PermitOverride);
    for (id, query) in [
        ("no reason", by("Practitioner/grey", "mrn-2")),
        ("no member", emergency("Practitioner/ada", "mrn-2")),
        ("payment", Query { purpose: "HPAYMT".into(), ..grey("mrn-2") }),
    ] {
        assert_eq!(refused(ask(crm.clone(), id, query.clone()).await), unknown, "{id}");
        assert_eq!(shape(&check_query(crm.clone(), query).await.unwrap_err()), unknown, "{id}");
    }
    // The same name, asserted by another organization.
    assert_eq!(refused(ask(net.client(dogwood, "crm"), "b-4", grey("mrn-2")).await), unknown);

    // What the consent denies for sure stays denied, and so does a frozen slot, unless the policy says otherwise.
    assert_eq!(ask(crm.clone(), "d-1", grey("mrn-1")).await.unwrap().bundle.resources.len(), 2);
    set_rules(officer.clone(), "p-4", &glass_policy(true, false), &registry).await.unwrap();
    assert_eq!(ask(crm.clone(), "d-2", grey("mrn-1")).await.unwrap().bundle.resources.len(), 3);
    withdraw(net.client_with(dogwood, None), "w-1", &handle, 0).await.map(|h| assert!(h > 0)).unwrap();
    for _ in 0..100 {
        if check(crm.clone(), "mrn-1", "TREAT").await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(refused(ask(crm.clone(), "d-3", grey("mrn-1")).await), unknown);
    set_rules(officer.clone(), "p-5", &glass_policy(true, true), &registry).await.unwrap();
    let frozen = ask(crm.clone(), "d-4", grey("mrn-1")).await.unwrap();
    assert_eq!(frozen.bundle.resources.len(), 3);
    verified(&net, &frozen.bundle);
    assert_eq!(refused(ask(crm.clone(), "d-5", by("Practitioner/grey", "mrn-1")).await), unknown);

    // The patient's history says why; the officer has four items, and this patient three notices.
    let bytes = history(net.client(cedar, "portal"), "mrn-1").await.unwrap();
    let VerifiedHistory { slot, accesses, .. } = verify_history(&trust(&net), &bytes).unwrap();
    assert_eq!((slot.access_seq, slot.frozen), (3, true));
    assert!(accesses.iter().all(|a| a.request.break_glass_reason == REASON));
    let items = reviews(officer.clone(), false, 0, "").await.unwrap();
    let heights: Vec<u64> = items.reviews.iter().map(|r| r.height).collect();
    assert_eq!(items.reviews.len(), 4);
    assert!(heights[0] > 0 && heights.windows(2).all(|pair| pair[0] < pair[1]), "{heights:?}");
    assert_eq!(notices(net.client(cedar, "portal"), "mrn-1", 0, "").await.unwrap().notices.len(), 3);

    for bad in ["x".repeat(501), "a\u{7}b".into(), " ".into(), "late ".into()] {
        let query = Query { break_glass_reason: bad, ..grey("mrn-2") };
        for error in [
            ask(crm.clone(), "bad", query.clone()).await.unwrap_err(),
            check_query(crm.clone(), query).await.unwrap_err(),
        ] {
            assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "MALFORMED_REQUEST"));
            assert!(error.message().contains("query.break_glass_reason"), "{error:?}");
        }
    }
    let long = Query { break_glass_reason: "ü".repeat(500), ..grey("mrn-2") };
    ask(crm, "long", long).await.unwrap();
}

/// Verifies what came without quorum as anybody could, offline.
fn promised(net: &Net, brought: &Brought) -> usize {
    assert!(brought.bundle.proof.is_none());
    let bundle = LateBundle { proof: brought.late.clone(), resources: brought.bundle.resources.clone() };
    let (late, bundle) = verify_late_bundle(&trust(net), &bundle.encode_to_vec()).unwrap();
    assert!(late.event.late && late.request.break_glass_reason == REASON);
    bundle.resources.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_quorum_it_alone_releases_and_the_ledger_hears_of_it_afterwards() {
    let mut net = Net::started(4).await;
    let [birch, cedar, dogwood, elm] = ["birch", "cedar", "dogwood", "elm"].map(|id| net.index(id));
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    silent(&net, "mrn-2", records("Patient/mrn-2")).await;
    silent(&net, "mrn-3", records("Patient/mrn-3")).await;
    let registry = icu(&[
        ("birch", "Practitioner/grey", ""),
        ("birch", "Practitioner/yang", ""),
        ("cedar", "Practitioner/grey", ""),
    ]);
    set_rules(net.client(cedar, "officer"), "p-1", &glass_policy(false, false), &registry).await.unwrap();
    request(net.client(birch, "crm"), "before", "mrn-1").await.unwrap();
    for i in [dogwood, elm] {
        net.stop(i).await.unwrap();
    }
    // Asked before anybody knows that the quorum is gone: the commit is given up as unknown, not the emergency.
    let crm = net.client(birch, "crm");
    let early = tokio::spawn(ask(crm.clone(), "l-early", emergency("Practitioner/yang", "mrn-3")));
    // max_staleness is 10 s here.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let grey = |value| emergency("Practitioner/grey", value);

    let first = ask(crm.clone(), "l-1", grey("mrn-1")).await.unwrap();
    assert_eq!(promised(&net, &first), 2, "what a consent denies stays denied");
    // A retry is the same promise and nothing more is owed; the ordinary request waits for the quorum.
    assert_eq!(ask(crm.clone(), "l-1", grey("mrn-1")).await.unwrap(), first);
    let waits = ask(crm.clone(), "o-1", by("Practitioner/grey", "mrn-1")).await.unwrap_err();
    assert_eq!((waits.code(), reason(&waits).as_str()), (Code::Unavailable, "NOT_FRESH"));
    // No member, not for treatment, unknown: one and the same answer, as every question to a node without quorum gets.
    let denied = refused(ask(crm.clone(), "n-1", emergency("Practitioner/ada", "mrn-1")).await);
    assert_eq!((denied.0, denied.1.as_str()), (Code::Unavailable, "CUSTODIAN_UNAVAILABLE"));
    assert_eq!(refused(ask(crm.clone(), "n-2", grey("mrn-9")).await), denied);
    // The custodian's own people too.
    let own = ask(net.client(cedar, "crm"), "l-own", grey("mrn-2")).await.unwrap();
    assert_eq!(promised(&net, &own), 3);

    // Sixteen wait for one person at most; a retry and another person still come through.
    for n in 2..=16 {
        promised(&net, &ask(crm.clone(), &format!("l-{n}"), grey("mrn-2")).await.unwrap());
    }
    let full = ask(crm.clone(), "l-17", grey("mrn-2")).await.unwrap_err();
    let info = tonic_types::StatusExt::get_details_error_info(&full).unwrap();
    assert_eq!(info.metadata["custodian_reason"], "TOO_MANY_LATE_ACCESSES");
    assert_eq!(
        refused(ask(crm.clone(), "l-18", grey("mrn-9")).await),
        refused(Err(full)),
        "whoever the patient is"
    );
    promised(&net, &ask(crm.clone(), "y-1", emergency("Practitioner/yang", "mrn-2")).await.unwrap());

    assert_eq!(promised(&net, &early.await.unwrap().unwrap()), 3);
    // The custodian restarts meanwhile: it still owes, and still answers.
    net.stop(cedar).await.unwrap();
    net.start(cedar).await;
    let waiting = reviews(net.client(cedar, "officer"), false, 0, "").await.unwrap().reviews;
    assert_eq!(waiting.len(), 19);
    assert!(waiting.iter().all(|r| r.late && r.height == 0));
    assert_eq!(notices(net.client(cedar, "portal"), "mrn-1", 0, "").await.unwrap().notices.len(), 1);
    for _ in 0..100 {
        if ask(crm.clone(), "y-2", emergency("Practitioner/yang", "mrn-2")).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(ask(crm.clone(), "l-1", grey("mrn-1")).await.unwrap(), first);
    net.stop(cedar).await.unwrap();

    // The quorum is back without the custodian, and the patient withdraws: the sequences move on.
    for i in [dogwood, elm] {
        net.start(i).await;
    }
    net.ready(birch).await;
    withdraw(net.client_with(birch, None), "w-1", &handle, 0).await.unwrap();
    assert_eq!(ask(crm.clone(), "l-1", grey("mrn-1")).await.unwrap(), first, "what it holds");
    net.start(cedar).await;
    net.ready(cedar).await;
    let mut receipt = None;
    for _ in 0..300 {
        let brought = ask(crm.clone(), "l-1", grey("mrn-1")).await.unwrap();
        assert_eq!(brought.bundle.resources, first.bundle.resources);
        if brought.late.is_none() {
            receipt = Some(brought.bundle);
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let receipt = receipt.expect("no receipt within 30 s");
    let access = verified(&net, &receipt);
    assert!(access.event.late && access.event.outcome == "PERMIT_OVERRIDE");
    assert_eq!(ask(crm.clone(), "l-1", grey("mrn-1")).await.unwrap().bundle, receipt, "kept");
    for _ in 0..300 {
        let open = reviews(net.client(cedar, "officer"), false, 0, "").await.unwrap().reviews;
        if open.iter().all(|r| r.height > 0) {
            assert_eq!(open.len(), 20);
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // n of n, proven: an ordinary one, a late one recorded on a slot that is frozen by now; each late one of the other's once.
    let bytes = history(net.client(cedar, "portal"), "mrn-1").await.unwrap();
    let VerifiedHistory { slot, accesses, .. } = verify_history(&trust(&net), &bytes).unwrap();
    assert_eq!((slot.access_seq, slot.frozen), (2, true));
    assert_eq!(accesses.iter().map(|a| a.event.late).collect::<Vec<_>>(), [false, true]);
    assert!(accesses[1].event.consent_seq < slot.consent_seq);
    let bytes = history(net.client(cedar, "portal"), "mrn-2").await.unwrap();
    let VerifiedHistory { slot, accesses, .. } = verify_history(&trust(&net), &bytes).unwrap();
    assert_eq!((slot.access_seq, accesses.iter().filter(|a| a.event.late).count()), (18, 18));
    // What was unknown may have been committed too: at most once too much, never once too little.
    let bytes = history(net.client(cedar, "portal"), "mrn-3").await.unwrap();
    let accesses = verify_history(&trust(&net), &bytes).unwrap().accesses;
    let late = accesses.iter().filter(|a| a.event.late).count();
    assert!(late == 1 && accesses.len() <= 2, "{late} of {}", accesses.len());
    let own = ask(net.client(cedar, "crm"), "l-own", grey("mrn-2")).await.unwrap();
    assert!(own.late.is_none());
    verified(&net, &own.bundle);
    // Withdrawn, and the quorum is there: nothing more comes.
    assert_eq!(refused(ask(crm, "l-new", grey("mrn-1")).await).1, "NOT_RELEASED");
    for i in 0..4 {
        net.stop(i).await.unwrap();
    }
}
