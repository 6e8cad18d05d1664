//! What the officer and the patient see of releases under break-glass.

use assent_ledger::hash::{framed, Context};
use assent_ledger::keys::{sign, SigningKey};
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::review_service_client::ReviewServiceClient;
use assent_proto::v1::*;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::break_glass::{ask, emergency, glass_policy, silent, REASON};
use crate::net::{Net, CHAIN};
use crate::patient::*;
use crate::registry::{by, icu, set_rules};

pub async fn reviews(
    channel: Channel,
    include_closed: bool,
    page_size: u32,
    token: &str,
) -> Result<ListReviewsResponse, Status> {
    let request = ListReviewsRequest { include_closed, page_size, page_token: token.into() };
    Ok(ReviewServiceClient::new(channel).list_reviews(request).await?.into_inner())
}

async fn close(channel: Channel, request_id: &str, review_id: &[u8], note: &str) -> Result<(), Status> {
    let request = CloseReviewRequest {
        request_id: request_id.into(),
        review_id: review_id.to_vec(),
        note: note.into(),
    };
    ReviewServiceClient::new(channel).close_review(request).await.map(|_| ())
}

pub async fn notices(
    channel: Channel,
    value: &str,
    page_size: u32,
    token: &str,
) -> Result<ListNoticesResponse, Status> {
    let patient = Some(patient("cedar", value));
    let request = ListNoticesRequest { proof: None, patient, page_size, page_token: token.into() };
    Ok(PatientServiceClient::new(channel).list_notices(request).await?.into_inner())
}

async fn own_notices(
    channel: Channel,
    handle: &[u8],
    key: &SigningKey,
    method: &str,
) -> Result<ListNoticesResponse, Status> {
    let (nonce, time_ms) = (rand::random::<[u8; 16]>(), assent_node::chain::now_ms());
    let parts: [&[u8]; 5] = [method.as_bytes(), b"cedar", handle, &nonce, &time_ms.to_be_bytes()];
    let proof = ControlProof {
        custodian: "cedar".into(),
        handle: handle.to_vec(),
        nonce: nonce.to_vec(),
        time_ms,
        signature: sign(key, &framed(Context::PatientRequest, CHAIN, &parts)).to_vec(),
    };
    let request = ListNoticesRequest { proof: Some(proof), ..Default::default() };
    Ok(PatientServiceClient::new(channel).list_notices(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_officer_closes_items_and_the_patient_reads_notices() {
    let mut net = Net::started(1).await;
    let handle = create_subject(net.client(0, "registrar"), "s-1", "mrn-1", "Patient/mrn-1").await.unwrap();
    load(net.client(0, "ehr"), "l-1", records("Patient/mrn-1")).await.unwrap();
    silent(&net, "mrn-2", records("Patient/mrn-2")).await;
    let officer = net.client(0, "officer");
    set_rules(
        officer.clone(),
        "p-1",
        &glass_policy(false, false),
        &icu(&[("cedar", "Practitioner/grey", "")]),
    )
    .await
    .unwrap();
    assert!(reviews(officer.clone(), true, 0, "").await.unwrap().reviews.is_empty());
    let crm = net.client(0, "crm");
    for n in 1..=3 {
        ask(crm.clone(), &format!("r-{n}"), emergency("Practitioner/grey", "mrn-1")).await.unwrap();
    }
    ask(crm.clone(), "r-4", emergency("Practitioner/grey", "mrn-2")).await.unwrap();
    // Neither a retry, nor a check, nor what was refused is an item.
    ask(crm.clone(), "r-1", emergency("Practitioner/grey", "mrn-1")).await.unwrap();
    check_query(crm.clone(), emergency("Practitioner/grey", "mrn-1")).await.unwrap();
    ask(crm.clone(), "r-5", emergency("Practitioner/ada", "mrn-1")).await.unwrap_err();
    ask(crm.clone(), "r-6", by("Practitioner/grey", "mrn-1")).await.unwrap_err();

    let all = reviews(officer.clone(), false, 0, "").await.unwrap();
    assert_eq!((all.reviews.len(), all.next_page_token.as_str()), (4, ""));
    assert!(all.reviews.windows(2).all(|pair| pair[0].time_ms <= pair[1].time_ms));
    let item = &all.reviews[0];
    assert_eq!((item.recipient.as_str(), item.actor.as_str()), ("cedar", "Practitioner/grey"));
    assert_eq!((item.purpose.as_str(), item.reason.as_str()), ("TREAT", REASON));
    assert_eq!((item.patient_reference.as_str(), item.resources), ("Patient/mrn-1", 3));
    assert_eq!(item.client, format!("spiffe://{CHAIN}/org/cedar/crm/test"));
    assert!(!item.late && item.height > 0 && item.closed_by.is_empty() && item.review_id.len() == 32);

    // Page by page; a token is good for its own list and reader.
    let first = reviews(officer.clone(), false, 3, "").await.unwrap();
    let rest = reviews(officer.clone(), false, 3, &first.next_page_token).await.unwrap();
    assert_eq!([first.reviews.clone(), rest.reviews].concat(), all.reviews);
    assert_eq!(rest.next_page_token, "");
    for (include_closed, token) in [(true, first.next_page_token.as_str()), (false, "00"), (false, "x")] {
        let bad = reviews(officer.clone(), include_closed, 3, token).await.unwrap_err();
        assert_eq!((bad.code(), reason(&bad).as_str()), (Code::InvalidArgument, "BAD_PAGE_TOKEN"));
    }

    // Closed once, by words; the same again is fine, others are not.
    let id = item.review_id.clone();
    close(officer.clone(), "c-1", &id, "justified: the ward confirms it").await.unwrap();
    close(officer.clone(), "c-1", &id, "justified: the ward confirms it").await.unwrap();
    close(officer.clone(), "c-2", &id, "justified: the ward confirms it").await.unwrap();
    let other = close(officer.clone(), "c-3", &id, "not justified").await.unwrap_err();
    assert_eq!((other.code(), reason(&other).as_str()), (Code::FailedPrecondition, "REVIEW_CLOSED"));
    let reused = close(officer.clone(), "c-1", &all.reviews[1].review_id, "x").await.unwrap_err();
    assert_eq!((reused.code(), reason(&reused).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    let missing = close(officer.clone(), "c-4", &[7; 32], "x").await.unwrap_err();
    assert_eq!((missing.code(), reason(&missing).as_str()), (Code::NotFound, "REVIEW_NOT_FOUND"));
    for (id, note) in [(&id[..31], "x"), (&id, " "), (&id, "a\u{7}"), (&id, &"x".repeat(2001))] {
        let bad = close(officer.clone(), "c-5", id, note).await.unwrap_err();
        assert_eq!((bad.code(), reason(&bad).as_str()), (Code::InvalidArgument, "MALFORMED_REQUEST"));
    }
    for (role, expected) in [("crm", "WRONG_ROLE"), ("portal", "WRONG_ROLE")] {
        assert_eq!(reason(&reviews(net.client(0, role), false, 0, "").await.unwrap_err()), expected);
        assert_eq!(reason(&close(net.client(0, role), "c-6", &id, "x").await.unwrap_err()), expected);
    }

    // The patient: newest first, only their own, without the officer's words.
    let portal = net.client(0, "portal");
    let told = notices(portal.clone(), "mrn-1", 0, "").await.unwrap();
    assert_eq!((told.notices.len(), told.next_page_token.as_str()), (3, ""));
    assert!(told.notices.windows(2).all(|pair| pair[0].time_ms >= pair[1].time_ms));
    for notice in &told.notices {
        assert_eq!(notice.kind(), NoticeKind::BreakGlass);
        assert_eq!((notice.recipient.as_str(), notice.actor.as_str()), ("cedar", "Practitioner/grey"));
        assert_eq!((notice.reason.as_str(), notice.purpose.as_str(), notice.resources), (REASON, "TREAT", 3));
    }
    let page = notices(portal.clone(), "mrn-1", 2, "").await.unwrap();
    let last = notices(portal.clone(), "mrn-1", 2, &page.next_page_token).await.unwrap();
    assert_eq!([page.notices, last.notices].concat(), told.notices);
    let foreign = notices(portal.clone(), "mrn-2", 2, &page.next_page_token).await.unwrap_err();
    assert_eq!(reason(&foreign), "BAD_PAGE_TOKEN");
    let own = own_notices(net.client_with(0, None), &handle, &control_key(), "ListNotices").await.unwrap();
    assert_eq!(own.notices, told.notices);
    let stranger = SigningKey::from_bytes(&[1; 32]);
    for (key, method) in [(&stranger, "ListNotices"), (&control_key(), "GetHistory")] {
        let refused = own_notices(net.client_with(0, None), &handle, key, method).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "SLOT_NOT_FOUND"));
    }
    assert_eq!(reason(&notices(net.client(0, "crm"), "mrn-1", 0, "").await.unwrap_err()), "WRONG_ROLE");
    assert_eq!(reason(&notices(portal, "mrn-9", 0, "").await.unwrap_err()), "PATIENT_NOT_FOUND");

    // Kept through a restart.
    net.stop(0).await.unwrap();
    net.start(0).await;
    let officer = net.client(0, "officer");
    let open = reviews(officer.clone(), false, 0, "").await.unwrap().reviews;
    assert_eq!(open, all.reviews[1..]);
    let again = reviews(officer, true, 0, "").await.unwrap().reviews;
    assert_eq!((again.len(), again[0].note.as_str()), (4, "justified: the ward confirms it"));
    assert_eq!(again[0].closed_by, format!("spiffe://{CHAIN}/org/cedar/officer/test"));
}
