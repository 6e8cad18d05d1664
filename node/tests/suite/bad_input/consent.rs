//! Consents, purposes and identifiers that a node must not take, each with its reason; nothing is recorded for any of them.

use assent_proto::v1::record_service_client::RecordServiceClient;
use assent_proto::v1::*;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::entries;
use crate::net::Net;
use crate::patient::*;

fn is(error: &Status, code: Code, wanted: &str) {
    assert_eq!((error.code(), reason(error).as_str()), (code, wanted), "{error:?}");
    assert_eq!(error_infos(error), 1);
}

/// The reasons for which a Consent was refused.
fn issues(error: &Status) -> String {
    is(error, Code::InvalidArgument, "CONSENT_REFUSED");
    error.get_details_error_info().unwrap().metadata["issues"].clone()
}

/// The good consent with one text replaced by another.
fn altered(from: &str, to: &str) -> Vec<u8> {
    let good = String::from_utf8(consent("Patient/mrn-1", "c-1", "2030-12-31")).unwrap();
    assert!(good.contains(from), "{from}");
    good.replace(from, to).into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn consents_that_can_not_be_understood_are_refused_by_name() {
    let net = Net::started(1).await;
    let portal = net.client(0, "portal");
    create_subject(net.client(0, "registrar"), "s-1", "mrn-1", "Patient/mrn-1").await.unwrap();
    let before = entries(&net).await;
    let purpose =
        r#""purpose":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}]"#;
    let deny = r#""provision":[{"type":"deny","#;
    let many = |n: usize| format!(r#""provision":[{}{{"type":"deny","#, r#"{"type":"deny"},"#.repeat(n));
    for (fhir, wanted) in [
        (altered(purpose, r#""purpose":[]"#), "empty-list"),
        (altered(r#""code":"TREAT""#, r#""code":"TREATS""#), "unknown-code"),
        (altered(r#""code":"TREAT""#, r#""code":"TREAT HPAYMT""#), "unknown-code"),
        (altered("2026-01-05", "10000-01-01"), "bad-date"),
        (altered("2030-12-31", "10000-01-01"), "bad-date"),
        (altered(r#""value":"birch""#, "\"value\":\"bir\u{200b}ch\""), "hidden-characters"),
        (altered(r#""value":"birch""#, "\"value\":\"\u{202e}hcrib\""), "hidden-characters"),
        (altered(deny, &many(5_000)), "too-many-rules"),
    ] {
        let error = import(portal.clone(), "i-1", "mrn-1", fhir).await.unwrap_err();
        let found = issues(&error);
        assert!(found.split(',').any(|issue| issue == wanted), "{wanted}: {found}");
    }
    // 10,000 rules are more bytes than a consent may have.
    let error = import(portal.clone(), "i-1", "mrn-1", altered(deny, &many(10_000))).await.unwrap_err();
    is(&error, Code::InvalidArgument, "MALFORMED_REQUEST");
    let error = import(portal.clone(), "i-1", "mrn-1", altered("Patient/mrn-1", "Patient/mrn-2")).await;
    is(&error.unwrap_err(), Code::InvalidArgument, "CONSENT_FOR_OTHER_SUBJECT");
    assert_eq!(entries(&net).await, before);
    import(portal, "i-1", "mrn-1", altered("mrn-1", "mrn-1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_query_has_exactly_one_known_purpose() {
    let net = Net::started(1).await;
    for two in ["TREAT HPAYMT", "TREAT,HPAYMT", "TREAT|HPAYMT", ""] {
        let error = check(net.client(0, "crm"), "mrn-1", two).await.unwrap_err();
        is(&error, Code::InvalidArgument, "MALFORMED_REQUEST");
        assert!(error.message().starts_with("query.purpose"), "{error:?}");
    }
    for unknown in ["TREATS", "treat", "PurposeOfUse"] {
        let error = check(net.client(0, "crm"), "mrn-1", unknown).await.unwrap_err();
        is(&error, Code::InvalidArgument, "BAD_QUERY");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn identifiers_that_look_alike_are_others_and_invisible_characters_are_refused() {
    let net = Net::started(1).await;
    let (registrar, crm) = (net.client(0, "registrar"), net.client(0, "crm"));
    create_subject(registrar.clone(), "s-1", "mrn-A", "Patient/mrn-1").await.unwrap();
    // CYRILLIC CAPITAL LETTER A, FULLWIDTH LATIN CAPITAL LETTER A, A and COMBINING RING ABOVE
    for (n, like) in ["mrn-\u{410}", "mrn-\u{ff21}", "mrn-A\u{30a}"].into_iter().enumerate() {
        let error = check(crm.clone(), like, "TREAT").await.unwrap_err();
        is(&error, Code::PermissionDenied, "NOT_RELEASED");
        let error = import(net.client(0, "portal"), "i", like, altered("c-1", "c-1")).await.unwrap_err();
        is(&error, Code::NotFound, "SUBJECT_NOT_FOUND");
        // They are patients of their own, should a hospital number them so.
        let reference = format!("Patient/like-{n}");
        create_subject(registrar.clone(), &format!("like-{n}"), like, &reference).await.unwrap();
    }
    let before = entries(&net).await;
    for hidden in ["mrn-\u{200b}A", "mrn-A\u{feff}", "\u{202e}A-nrm", "mrn\u{ad}-A"] {
        let error = check(crm.clone(), hidden, "TREAT").await.unwrap_err();
        is(&error, Code::InvalidArgument, "MALFORMED_REQUEST");
        assert!(
            error.message().contains("identifier_value") && !error.message().contains("mrn"),
            "{error:?}"
        );
        let error = create_subject(registrar.clone(), "hidden", hidden, "Patient/hidden").await.unwrap_err();
        is(&error, Code::InvalidArgument, "MALFORMED_REQUEST");
    }
    let mut far = query("mrn-A", "TREAT");
    far.patient.as_mut().unwrap().birth_date = "10000-01-01".into();
    is(&check_query(crm, far).await.unwrap_err(), Code::InvalidArgument, "MALFORMED_REQUEST");
    assert_eq!(entries(&net).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_resource_of_50_mb_is_refused() {
    let net = Net::started(1).await;
    let resource = vec![b' '; 50 << 20];
    let message = LoadRecordsRequest { request_id: "l-1".into(), resources: vec![resource] };
    let mut ehr = RecordServiceClient::new(net.client(0, "ehr"));
    let error = ehr.load_records(tokio_stream::iter(vec![message])).await.unwrap_err();
    is(&error, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
}
