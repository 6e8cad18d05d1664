//! May a patient be contacted: for what, and by which channel; about this node's patients and another's.

use std::time::Duration;

use assent_ledger::hash::Context;
use assent_node::exchange::{Say, Why};
use assent_node::peers::Protocol;
use assent_proto::ledger::v1::DataRequest;
use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::policy_service_client::PolicyServiceClient;
use assent_proto::v1::*;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::exchange::{data_request, fake, hear, say, signed};
use crate::net::Net;
use crate::patient::*;

const KINDS: [OutreachKind; 3] = [OutreachKind::Reminder, OutreachKind::Survey, OutreachKind::Campaign];

fn question(value: &str, kind: OutreachKind, channel: &str) -> CheckOutreachRequest {
    CheckOutreachRequest {
        patient: Some(patient("cedar", value)),
        kind: kind.into(),
        channel: channel.into(),
        actor: "Practitioner/ada".into(),
        consistency: None,
    }
}

async fn ask(crm: &Channel, question: CheckOutreachRequest) -> Result<CheckOutreachResponse, Status> {
    Ok(DecisionServiceClient::new(crm.clone()).check_outreach(question).await?.into_inner())
}

async fn may(crm: &Channel, value: &str, kind: OutreachKind, channel: &str) -> bool {
    match ask(crm, question(value, kind, channel)).await {
        Ok(_) => true,
        Err(refused) => {
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "NOT_RELEASED"));
            false
        }
    }
}

async fn prefer(
    portal: &Channel,
    request_id: &str,
    value: &str,
    [reminder, survey, campaign]: [&[&str]; 3],
) -> Result<SetContactPreferencesResponse, Status> {
    let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
    let request = SetContactPreferencesRequest {
        request_id: request_id.into(),
        patient: Some(patient("cedar", value)),
        reminder: texts(reminder),
        survey: texts(survey),
        campaign: texts(campaign),
    };
    Ok(ConsentServiceClient::new(portal.clone()).set_contact_preferences(request).await?.into_inner())
}

/// Reminders and surveys by the custodian's own policy; campaigns are never a default.
async fn with_policy(net: &Net) {
    let json = r#"{"id":"p","version":"1","rules":[{"effect":"PERMIT","purposes":["PATADMIN","HQUALIMP"]}]}"#;
    let message = SetPolicyRequest { request_id: "p-1".into(), policy: json.into(), ..Default::default() };
    let mut officer = PolicyServiceClient::new(net.client(net.index("cedar"), "officer"));
    officer.set_policy(message).await.unwrap();
}

async fn registered(net: &Net, value: &str) {
    let (cedar, reference) = (net.index("cedar"), format!("Patient/{value}"));
    create_subject(net.client(cedar, "registrar"), &format!("s-{value}"), value, &reference).await.unwrap();
    load(net.client(cedar, "ehr"), &format!("l-{value}"), records(&reference)).await.unwrap();
}

fn is(status: &Status, code: Code, wanted: &str) {
    assert_eq!((status.code(), reason(status).as_str()), (code, wanted), "{status:?}");
    assert_eq!(error_infos(status), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn by_kind_and_channel_at_ones_own_node() {
    let net = Net::started(1).await;
    registered(&net, "mrn-1").await;
    with_policy(&net).await;
    let (crm, portal) = (net.client(0, "crm"), net.client(0, "portal"));

    // No preference: any channel, where the purpose is permitted.
    let permit = ask(&crm, question("mrn-1", OutreachKind::Reminder, "sms")).await.unwrap();
    assert_eq!(permit.purpose, "PATADMIN");
    assert!(permit.not_after_ms > permit.answer.unwrap().time_ms);
    assert!(may(&crm, "mrn-1", OutreachKind::Survey, "post").await);
    assert!(!may(&crm, "mrn-1", OutreachKind::Campaign, "sms").await, "never a default");

    let first = prefer(&portal, "c-1", "mrn-1", [&["sms", "app"], &[], &["none"]]).await.unwrap();
    let again = prefer(&portal, "c-1", "mrn-1", [&["sms", "app"], &[], &["none"]]).await.unwrap();
    assert_eq!((first.consent_seq, again.consent_seq), (2, 2));
    for (kind, channel, expected) in [
        (OutreachKind::Reminder, "sms", true),
        (OutreachKind::Reminder, "app", true),
        (OutreachKind::Reminder, "email", false),
        (OutreachKind::Survey, "email", true),
        (OutreachKind::Campaign, "sms", false),
    ] {
        for _ in 0..2 {
            assert_eq!(may(&crm, "mrn-1", kind, channel).await, expected, "{kind:?} by {channel}");
        }
    }
    // A consent that names campaigns is not enough where the patient wants none of them; nor is the wish without the consent.
    let consent = |value: &str, id: &str| {
        let fhir = consent(&format!("Patient/{value}"), id, "2030-12-31");
        String::from_utf8(fhir).unwrap().replace("\"birch\"", "\"cedar\"").replace("\"TREAT\"", "\"HMARKT\"")
    };
    import(portal.clone(), "i-1", "mrn-1", consent("mrn-1", "c-hmarkt").into_bytes()).await.unwrap();
    check(crm.clone(), "mrn-1", "HMARKT").await.unwrap();
    assert!(!may(&crm, "mrn-1", OutreachKind::Campaign, "sms").await);
    prefer(&portal, "c-2", "mrn-1", [&[], &["none"], &["sms"]]).await.unwrap();
    assert!(may(&crm, "mrn-1", OutreachKind::Campaign, "sms").await);
    assert!(!may(&crm, "mrn-1", OutreachKind::Campaign, "phone").await);
    assert!(!may(&crm, "mrn-1", OutreachKind::Survey, "email").await);
    assert!(may(&crm, "mrn-1", OutreachKind::Reminder, "email").await, "an empty list is any channel again");
    // Consents are as they were before, and so is what is no outreach.
    check(crm.clone(), "mrn-1", "HMARKT").await.unwrap();

    // Unwanted channel, denied, unknown: one answer.
    let shapes: Vec<_> = [("mrn-1", OutreachKind::Survey), ("mrn-none", OutreachKind::Survey)]
        .into_iter()
        .map(|(value, kind)| ask(&crm, question(value, kind, "email")))
        .collect();
    let mut seen = Vec::new();
    for answer in shapes {
        let refused = answer.await.unwrap_err();
        seen.push((shape(&refused), error_infos(&refused)));
    }
    assert_eq!(seen[0], seen[1]);

    // Bad input, each with its field.
    for (field, bad) in [
        ("patient", CheckOutreachRequest { patient: None, ..question("mrn-1", KINDS[0], "sms") }),
        ("kind", CheckOutreachRequest { kind: 0, ..question("mrn-1", KINDS[0], "sms") }),
        ("kind", CheckOutreachRequest { kind: 9, ..question("mrn-1", KINDS[0], "sms") }),
        ("channel", question("mrn-1", KINDS[0], "")),
        ("channel", question("mrn-1", KINDS[0], "none")),
        ("channel", question("mrn-1", KINDS[0], "fax")),
        ("actor", CheckOutreachRequest { actor: String::new(), ..question("mrn-1", KINDS[0], "sms") }),
    ] {
        let refused = ask(&crm, bad).await.unwrap_err();
        is(&refused, Code::InvalidArgument, "MALFORMED_REQUEST");
        let info = refused.get_details_error_info().unwrap();
        assert_eq!(info.metadata.get("field").map(String::as_str), Some(field), "{refused:?}");
    }
    let future = Some(Consistency { min_height: 1 << 40, ..Default::default() });
    let refused =
        ask(&crm, CheckOutreachRequest { consistency: future, ..question("mrn-1", KINDS[0], "sms") });
    is(&refused.await.unwrap_err(), Code::Unavailable, "BEHIND_MIN_HEIGHT");
    is(
        &ask(&portal, question("mrn-1", KINDS[0], "sms")).await.unwrap_err(),
        Code::PermissionDenied,
        "WRONG_ROLE",
    );
    for (field, lists) in [
        ("reminder", [&["fax"][..], &[], &[]]),
        ("survey", [&[], &["sms", "sms"], &[]]),
        ("campaign", [&[], &[], &["none", "sms"]]),
    ] {
        let refused = prefer(&portal, "bad", "mrn-1", lists).await.unwrap_err();
        is(&refused, Code::InvalidArgument, "BAD_CHANNELS");
        let info = refused.get_details_error_info().unwrap();
        assert_eq!(info.metadata.get("field").map(String::as_str), Some(field));
    }
    let none = [&[][..], &[], &[]];
    is(&prefer(&portal, "c-2", "mrn-1", none).await.unwrap_err(), Code::AlreadyExists, "REQUEST_ID_REUSED");
    is(&prefer(&portal, "c-9", "mrn-none", none).await.unwrap_err(), Code::NotFound, "PATIENT_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_custodian_judges_and_its_answer_ends_with_the_preference() {
    let mut net = Net::started(4).await;
    let (birch, cedar) = (net.index("birch"), net.index("cedar"));
    registered(&net, "mrn-1").await;
    with_policy(&net).await;
    let (crm, portal) = (net.client(birch, "crm"), net.client(cedar, "portal"));
    let reminder = OutreachKind::Reminder;
    // Another node's ledger may lag.
    let comes_to = async |channel: &str, expected: bool| {
        for _ in 0..300 {
            if may(&crm, "mrn-1", reminder, channel).await == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{channel} does not come to {expected}");
    };
    comes_to("sms", true).await;
    comes_to("email", true).await;
    prefer(&portal, "c-1", "mrn-1", [&["sms"], &[], &[]]).await.unwrap();
    comes_to("email", false).await;
    comes_to("sms", true).await;
    // Each channel is a question of its own, and none of them is a check.
    for _ in 0..3 {
        assert!(may(&crm, "mrn-1", reminder, "sms").await);
        assert!(!may(&crm, "mrn-1", reminder, "email").await);
        assert!(check(crm.clone(), "mrn-1", "PATADMIN").await.is_ok());
        assert!(may(&crm, "mrn-1", OutreachKind::Survey, "email").await);
    }
    let (unwanted, unknown) = (
        ask(&crm, question("mrn-1", reminder, "email")).await.unwrap_err(),
        ask(&crm, question("mrn-none", reminder, "email")).await.unwrap_err(),
    );
    assert_eq!(shape(&unwanted), shape(&unknown));
    // With the custodian down: what it permitted stands, the rest nobody knows.
    net.stop(cedar).await.unwrap();
    assert!(may(&crm, "mrn-1", reminder, "sms").await);
    let down = ask(&crm, question("mrn-1", reminder, "phone")).await.unwrap_err();
    is(&down, Code::Unavailable, "CUSTODIAN_UNREACHABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_channel_stands_only_in_a_question_about_outreach() {
    let mut net = Net::new(4);
    for name in ["cedar", "dogwood", "elm"] {
        net.start(net.index(name)).await;
    }
    for name in ["cedar", "dogwood", "elm"] {
        net.ready(net.index(name)).await;
    }
    registered(&net, "mrn-1").await;
    with_policy(&net).await;
    let birch = fake(&net, "birch", "cedar").await;
    let tell = async |request: DataRequest| {
        let mut stream = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
        let request = signed(&net, Context::Request, "birch", request.encode_to_vec());
        say(&mut stream, Say::Request(request)).await;
        hear(&mut stream).await
    };
    for value in ["mrn-1", "mrn-none"] {
        let good = DataRequest {
            purpose: "PATADMIN".into(),
            outreach_channel: "sms".into(),
            check_only: true,
            ..data_request("birch", value)
        };
        for bad in [
            DataRequest { check_only: false, ..good.clone() },
            DataRequest { purpose: "TREAT".into(), ..good.clone() },
            DataRequest { outreach_channel: "fax".into(), ..good.clone() },
            DataRequest { outreach_channel: "none".into(), ..good.clone() },
            DataRequest { break_glass_reason: "now".into(), ..good.clone() },
        ] {
            let malformed =
                Say::Unavailable(Why { reason: "MALFORMED_REQUEST".into(), message: String::new() });
            assert_eq!(tell(bad.clone()).await, Some(malformed), "{bad:?}");
        }
        let answer = tell(good).await;
        match value {
            "mrn-1" => assert!(matches!(answer, Some(Say::Decision(_))), "{answer:?}"),
            _ => assert!(matches!(answer, Some(Say::NotReleased(_))), "{answer:?}"),
        }
    }
}
