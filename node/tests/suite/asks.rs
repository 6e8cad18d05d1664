//! A CRM asks for a consent, the patient's portal answers, and nothing is active until then.

use std::time::Duration;

use assent_ledger::hash::Context;
use assent_ledger::receipt::{ask_hash, verify_message};
use assent_node::chain::now_ms;
use assent_node::exchange::{Frame, Say, Why};
use assent_node::peers::Protocol;
use assent_proto::ledger::v1::{ConsentAsk as SignedAsk, ConsentAskState, Signed};
use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::*;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::exchange::{fake, hear, say, signed};
use crate::kill::{ended, spawn};
use crate::ledger::key;
use crate::net::{leaf, Net, CHAIN};
use crate::patient::*;

const DAY_MS: u64 = 24 * 3_600_000;

fn asking(request_id: &str, value: &str) -> AskConsentRequest {
    AskConsentRequest {
        request_id: request_id.into(),
        patient: Some(patient("cedar", value)),
        purposes: vec!["HRESCH".into()],
        // The same in a retry.
        valid_until_ms: 4_000_000_000_000,
        reason: "A study of blood pressure".into(),
        ..Default::default()
    }
}

async fn ask(channel: &Channel, request: AskConsentRequest) -> Result<AskConsentResponse, Status> {
    Ok(ConsentServiceClient::new(channel.clone()).ask_consent(request).await?.into_inner())
}

async fn state(channel: &Channel, ask_id: &[u8]) -> Result<GetConsentAskResponse, Status> {
    let request = GetConsentAskRequest { ask_id: ask_id.to_vec() };
    Ok(ConsentServiceClient::new(channel.clone()).get_consent_ask(request).await?.into_inner())
}

async fn list(
    channel: &Channel,
    value: &str,
    include_closed: bool,
    page_size: u32,
    page_token: &str,
) -> Result<ListConsentAsksResponse, Status> {
    let patient = Some(patient("cedar", value));
    let request =
        ListConsentAsksRequest { patient, include_closed, page_size, page_token: page_token.into() };
    Ok(ConsentServiceClient::new(channel.clone()).list_consent_asks(request).await?.into_inner())
}

async fn answer(
    channel: &Channel,
    request_id: &str,
    value: &str,
    ask_id: &[u8],
    answer: AskAnswer,
) -> Result<AnswerConsentAskResponse, Status> {
    let request = AnswerConsentAskRequest {
        request_id: request_id.into(),
        patient: Some(patient("cedar", value)),
        ask_id: ask_id.to_vec(),
        answer: answer.into(),
    };
    Ok(ConsentServiceClient::new(channel.clone()).answer_consent_ask(request).await?.into_inner())
}

/// Registered and loaded, without any consent.
async fn registered(net: &Net, value: &str) {
    let (cedar, reference) = (net.index("cedar"), format!("Patient/{value}"));
    create_subject(net.client(cedar, "registrar"), &format!("s-{value}"), value, &reference).await.unwrap();
    load(net.client(cedar, "ehr"), &format!("l-{value}"), records(&reference)).await.unwrap();
}

/// Whether research with the patient's records is permitted; anything but the one refusal fails the test.
async fn permitted(channel: &Channel, value: &str) -> bool {
    match check(channel.clone(), value, "HRESCH").await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(reason(&status), "NOT_RELEASED", "{status:?}");
            false
        }
    }
}

fn is(status: Status, code: Code, wanted: &str) {
    assert_eq!((status.code(), reason(&status).as_str()), (code, wanted), "{status:?}");
    assert_eq!(error_infos(&status), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_ask_is_nothing_until_the_portal_grants_it() {
    let mut net = Net::started(4).await;
    let (birch, cedar) = (net.index("birch"), net.index("cedar"));
    for value in ["mrn-1", "mrn-2"] {
        registered(&net, value).await;
    }
    let (crm, portal) = (net.client(birch, "crm"), net.client(cedar, "portal"));

    let asked = ask(&crm, asking("a-1", "mrn-1")).await.unwrap();
    let (declined, unknown) = (
        ask(&crm, asking("a-2", "mrn-2")).await.unwrap(),
        ask(&crm, asking("a-3", "mrn-none")).await.unwrap(),
    );
    assert_eq!((asked.ask_id.len(), asked.expires_ms > now_ms() + 13 * DAY_MS), (32, true));
    // A retry is the same ask, another body under its name is none.
    assert_eq!(ask(&crm, asking("a-1", "mrn-1")).await.unwrap().ask_id, asked.ask_id);
    is(ask(&crm, asking("a-1", "mrn-2")).await.unwrap_err(), Code::AlreadyExists, "REQUEST_ID_REUSED");
    for made in [&asked, &declined, &unknown] {
        assert_eq!(state(&crm, &made.ask_id).await.unwrap().state(), AskState::Pending);
    }
    assert!(!permitted(&crm, "mrn-1").await, "an ask is no consent");

    // What the patient sees is what was asked.
    let page = list(&portal, "mrn-1", false, 0, "").await.unwrap();
    let [seen] = page.asks.as_slice() else { panic!("{:?}", page.asks) };
    let sent = asking("a-1", "mrn-1");
    assert_eq!((seen.recipient.as_str(), seen.client.contains("/org/birch/crm/")), ("birch", true));
    assert_eq!((&seen.purposes, &seen.reason), (&sent.purposes, &sent.reason));
    assert_eq!((&seen.ask_id, seen.answer()), (&asked.ask_id, AskAnswer::Unspecified));
    assert_eq!(seen.expires_ms, asked.expires_ms);
    assert!(seen.time_ms > 0 && seen.consent_id.is_empty());

    // Answered: one consent, in words; the same answer under the same name.
    let granted = answer(&portal, "g-1", "mrn-1", &asked.ask_id, AskAnswer::Granted).await.unwrap();
    assert!(!granted.consent_id.is_empty() && granted.rules[0].contains("HRESCH"), "{granted:?}");
    let again = answer(&portal, "g-1", "mrn-1", &asked.ask_id, AskAnswer::Granted).await.unwrap();
    assert_eq!((&again.consent_id, &again.rules), (&granted.consent_id, &granted.rules));
    assert_eq!(state(&crm, &asked.ask_id).await.unwrap().state(), AskState::Granted);
    for _ in 0..200 {
        if permitted(&crm, "mrn-1").await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(permitted(&crm, "mrn-1").await);
    // For that organization and that purpose only.
    assert_eq!(reason(&check(crm.clone(), "mrn-1", "TREAT").await.unwrap_err()), "NOT_RELEASED");
    assert!(!permitted(&net.client(net.index("elm"), "crm"), "mrn-1").await);

    // Declined: for the asker nothing has happened, and it looks like a patient whom nobody knows.
    let no = answer(&portal, "d-2", "mrn-2", &declined.ask_id, AskAnswer::Declined).await.unwrap();
    assert!(no.consent_id.is_empty() && no.rules.is_empty());
    answer(&portal, "d-2", "mrn-2", &declined.ask_id, AskAnswer::Declined).await.unwrap();
    let (a, b) = (state(&crm, &declined.ask_id).await.unwrap(), state(&crm, &unknown.ask_id).await.unwrap());
    assert_eq!((a.state(), b.state()), (AskState::Pending, AskState::Pending));
    assert_eq!(a.encoded_len(), b.encoded_len());
    assert!(!permitted(&crm, "mrn-2").await);

    // Once.
    for (id, value, how) in
        [(&asked.ask_id, "mrn-1", AskAnswer::Declined), (&declined.ask_id, "mrn-2", AskAnswer::Granted)]
    {
        let again = answer(&portal, "again", value, id, how).await.unwrap_err();
        is(again, Code::FailedPrecondition, "ASK_ANSWERED");
    }
    let other = answer(&portal, "g-1", "mrn-1", &asked.ask_id, AskAnswer::Declined).await.unwrap_err();
    is(other, Code::AlreadyExists, "REQUEST_ID_REUSED");
    // Only of the patient who was asked.
    for (value, id, wanted) in [
        ("mrn-2", asked.ask_id.as_slice(), "ASK_NOT_FOUND"),
        ("mrn-1", &[7; 32], "ASK_NOT_FOUND"),
        ("mrn-none", &unknown.ask_id, "PATIENT_NOT_FOUND"),
    ] {
        let refused = answer(&portal, "x", value, id, AskAnswer::Granted).await.unwrap_err();
        is(refused, Code::NotFound, wanted);
    }
    let page = list(&portal, "mrn-1", true, 0, "").await.unwrap();
    assert_eq!((page.asks[0].answer(), &page.asks[0].consent_id), (AskAnswer::Granted, &granted.consent_id));
    assert!(list(&portal, "mrn-1", false, 0, "").await.unwrap().asks.is_empty());

    // Through a restart of both, and only to the client who asked.
    for i in [birch, cedar] {
        net.stop(i).await.unwrap();
    }
    for i in [birch, cedar] {
        net.start(i).await;
    }
    for i in [birch, cedar] {
        net.ready(i).await;
    }
    let crm = net.client(birch, "crm");
    assert_eq!(state(&crm, &asked.ask_id).await.unwrap().state(), AskState::Granted);
    assert_eq!(state(&crm, &declined.ask_id).await.unwrap().state(), AskState::Pending);
    let uri = format!("spiffe://{CHAIN}/org/birch/crm/desk");
    let desk = net.client_with(birch, Some(leaf(&net.members[birch].ca, &uri, false, 30)));
    is(state(&desk, &asked.ask_id).await.unwrap_err(), Code::NotFound, "ASK_NOT_FOUND");
    // The custodian is asked each time: without it nobody knows.
    net.stop(cedar).await.unwrap();
    is(state(&crm, &asked.ask_id).await.unwrap_err(), Code::Unavailable, "CUSTODIAN_UNREACHABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_one_node_asks_expire_and_are_listed_page_by_page() {
    let net = Net::started(1).await;
    registered(&net, "mrn-1").await;
    let (crm, portal) = (net.client(0, "crm"), net.client(0, "portal"));

    let soon = AskConsentRequest { valid_until_ms: now_ms() + 3_000, ..asking("a-soon", "mrn-1") };
    let unknown = AskConsentRequest { request_id: "a-none".into(), ..soon.clone() };
    let unknown = AskConsentRequest { patient: Some(patient("cedar", "mrn-none")), ..unknown };
    let (soon, unknown) = (ask(&crm, soon).await.unwrap(), ask(&crm, unknown).await.unwrap());
    assert!(soon.expires_ms < now_ms() + 3_000);
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    let (a, b) = (state(&crm, &soon.ask_id).await.unwrap(), state(&crm, &unknown.ask_id).await.unwrap());
    assert_eq!((a.state(), b.state()), (AskState::Expired, AskState::Expired));
    let late = answer(&portal, "late", "mrn-1", &soon.ask_id, AskAnswer::Granted).await.unwrap_err();
    is(late, Code::FailedPrecondition, "ASK_EXPIRED");
    assert!(list(&portal, "mrn-1", false, 0, "").await.unwrap().asks.is_empty());

    // As many as there are places; whoever is not known counts alike.
    for value in ["mrn-1", "mrn-none"] {
        for n in 1..32 {
            ask(&crm, asking(&format!("{value}-{n}"), value)).await.unwrap();
        }
        let more = ask(&crm, asking(&format!("{value}-more"), value)).await.unwrap_err();
        is(more, Code::ResourceExhausted, "TOO_MANY_ASKS");
    }
    let all = list(&portal, "mrn-1", true, 0, "").await.unwrap();
    assert_eq!((all.asks.len(), all.next_page_token.as_str()), (32, ""));
    assert!(all.asks.is_sorted_by(|a, b| a.time_ms >= b.time_ms));
    let (mut token, mut paged) = (String::new(), Vec::new());
    loop {
        let page = list(&portal, "mrn-1", false, 10, &token).await.unwrap();
        assert!(page.asks.len() <= 10);
        paged.extend(page.asks.into_iter().map(|a| a.ask_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let open: Vec<_> =
        all.asks.iter().filter(|a| a.ask_id != soon.ask_id).map(|a| a.ask_id.clone()).collect();
    assert_eq!(paged, open);
    // A token is for its own list.
    let first = list(&portal, "mrn-1", false, 10, "").await.unwrap();
    create_subject(net.client(0, "registrar"), "s-2", "mrn-2", "Patient/mrn-2").await.unwrap();
    for (value, closed, token) in [
        ("mrn-2", false, first.next_page_token.as_str()),
        ("mrn-1", true, &first.next_page_token),
        ("mrn-1", false, "00"),
    ] {
        let refused = list(&portal, value, closed, 10, token).await.unwrap_err();
        is(refused, Code::InvalidArgument, "BAD_PAGE_TOKEN");
    }
    is(list(&portal, "mrn-none", false, 0, "").await.unwrap_err(), Code::NotFound, "PATIENT_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_wrong_with_an_ask_is_said() {
    let net = Net::started(1).await;
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    let (crm, portal) = (net.client(0, "crm"), net.client(0, "portal"));
    let good = asking("a-1", "mrn-1");
    let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    for (field, wanted, bad) in [
        ("request_id", "MALFORMED_REQUEST", AskConsentRequest { request_id: String::new(), ..good.clone() }),
        ("patient", "MALFORMED_REQUEST", AskConsentRequest { patient: None, ..good.clone() }),
        ("purposes", "BAD_ASK", AskConsentRequest { purposes: Vec::new(), ..good.clone() }),
        ("purposes", "BAD_ASK", AskConsentRequest { purposes: texts(&["NONSENSE"]), ..good.clone() }),
        ("actions", "BAD_ASK", AskConsentRequest { actions: texts(&["peek"]), ..good.clone() }),
        (
            "resource_types",
            "BAD_ASK",
            AskConsentRequest { resource_types: texts(&["Diary"]), ..good.clone() },
        ),
        ("valid_until_ms", "BAD_ASK", AskConsentRequest { valid_until_ms: now_ms(), ..good.clone() }),
        ("valid_until_ms", "BAD_ASK", AskConsentRequest { valid_until_ms: u64::MAX, ..good.clone() }),
        ("reason", "BAD_ASK", AskConsentRequest { reason: String::new(), ..good.clone() }),
        ("reason", "BAD_ASK", AskConsentRequest { reason: "a\u{0}b".into(), ..good.clone() }),
        ("reason", "BAD_ASK", AskConsentRequest { reason: "x".repeat(1001), ..good.clone() }),
        (
            "patient.custodian",
            "UNKNOWN_CUSTODIAN",
            AskConsentRequest { patient: Some(patient("oak", "mrn-1")), ..good.clone() },
        ),
    ] {
        let refused = ask(&crm, bad).await.unwrap_err();
        let info = tonic_types::StatusExt::get_details_error_info(&refused).unwrap();
        assert_eq!(info.metadata.get("field").map(String::as_str), Some(field), "{refused:?}");
        is(refused, Code::InvalidArgument, wanted);
    }
    is(ask(&portal, good.clone()).await.unwrap_err(), Code::PermissionDenied, "WRONG_ROLE");
    is(state(&crm, &[1; 31]).await.unwrap_err(), Code::InvalidArgument, "MALFORMED_REQUEST");
    is(state(&crm, &[1; 32]).await.unwrap_err(), Code::NotFound, "ASK_NOT_FOUND");
    let asked = ask(&crm, good.clone()).await.unwrap();
    let unsaid = answer(&portal, "u", "mrn-1", &asked.ask_id, AskAnswer::Unspecified).await.unwrap_err();
    is(unsaid, Code::InvalidArgument, "MALFORMED_REQUEST");

    // Only resource types that were asked for; the consent that stood before still does.
    let types = AskConsentRequest { resource_types: texts(&["Observation"]), ..asking("a-2", "mrn-1") };
    let typed = ask(&crm, types).await.unwrap();
    answer(&portal, "g", "mrn-1", &typed.ask_id, AskAnswer::Granted).await.unwrap();
    check(crm.clone(), "mrn-1", "HRESCH").await.unwrap();
    let patient_only = Query { resource_types: texts(&["Patient"]), ..query("mrn-1", "HRESCH") };
    assert_eq!(reason(&check_query(crm.clone(), patient_only).await.unwrap_err()), "NOT_RELEASED");

    // The patient has withdrawn: a grant does not undo that.
    withdraw(net.client_with(0, None), "w-1", &handle, 0).await.unwrap();
    let frozen = answer(&portal, "f", "mrn-1", &asked.ask_id, AskAnswer::Granted).await.unwrap_err();
    is(frozen, Code::FailedPrecondition, "SLOT_FROZEN");
    answer(&portal, "f", "mrn-1", &asked.ask_id, AskAnswer::Declined).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_cut_off_between_vault_and_ledger_is_none_until_it_is_retried() {
    let net = Net::new(1);
    let dir = net.members[0].dir.clone();
    // Passed by the registration first, then by the grant.
    let mut process = spawn(&dir, Some("request-stored:2"));
    net.ready(0).await;
    registered(&net, "mrn-1").await;
    let (crm, portal) = (net.client(0, "crm"), net.client(0, "portal"));
    let asked = ask(&crm, asking("a-1", "mrn-1")).await.unwrap();
    assert!(answer(&portal, "g-1", "mrn-1", &asked.ask_id, AskAnswer::Granted).await.is_err());
    assert!(ended(&mut process, Duration::from_secs(5)));

    let _process = spawn(&dir, None);
    net.ready(0).await;
    let (crm, portal) = (net.client(0, "crm"), net.client(0, "portal"));
    assert_eq!(state(&crm, &asked.ask_id).await.unwrap().state(), AskState::Pending);
    assert!(!permitted(&crm, "mrn-1").await);
    let waiting = list(&portal, "mrn-1", false, 0, "").await.unwrap();
    assert_eq!((waiting.asks.len(), waiting.asks[0].answer()), (1, AskAnswer::Unspecified));
    // Its entry may still be committed: nobody else answers meanwhile.
    let other = answer(&portal, "d-1", "mrn-1", &asked.ask_id, AskAnswer::Declined).await.unwrap_err();
    is(other, Code::FailedPrecondition, "ASK_ANSWERED");
    let granted = answer(&portal, "g-1", "mrn-1", &asked.ask_id, AskAnswer::Granted).await.unwrap();
    assert!(!granted.consent_id.is_empty() && permitted(&crm, "mrn-1").await);
    assert_eq!(state(&crm, &asked.ask_id).await.unwrap().state(), AskState::Granted);
}

fn consent_ask(value: &str) -> SignedAsk {
    SignedAsk {
        chain_id: CHAIN.into(),
        custodian: "cedar".into(),
        recipient: "birch".into(),
        client: format!("spiffe://{CHAIN}/org/birch/crm/test"),
        identifier_system: SYSTEM.into(),
        identifier_value: value.into(),
        birth_date: "1980-02-03".into(),
        purposes: vec!["HRESCH".into()],
        valid_until_ms: now_ms() + 100 * DAY_MS,
        reason: "why".into(),
        nonce: rand::random::<[u8; 32]>().to_vec(),
        not_after_ms: now_ms() + DAY_MS,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_custodian_takes_no_forged_ask_and_tells_nobody_who_its_patients_are() {
    let mut net = Net::new(4);
    for name in ["cedar", "dogwood", "elm"] {
        net.start(net.index(name)).await;
    }
    for name in ["cedar", "dogwood", "elm"] {
        net.ready(net.index(name)).await;
    }
    registered(&net, "mrn-1").await;
    let portal = net.client(net.index("cedar"), "portal");
    let birch = fake(&net, "birch", "cedar").await;
    let tell = async |ask: Signed| {
        let mut stream = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
        say(&mut stream, Say::Ask(ask)).await;
        hear(&mut stream).await
    };
    let sign = |ask: &SignedAsk| signed(&net, Context::Ask, "birch", ask.encode_to_vec());

    for value in ["mrn-1", "mrn-none"] {
        let good = consent_ask(value);
        let mut unknown_field = good.encode_to_vec();
        unknown_field.extend([0xf8, 0x07, 1]);
        let mut altered = sign(&good);
        altered.body = SignedAsk { purposes: vec!["TREAT".into()], ..good.clone() }.encode_to_vec();
        let forged = [
            altered,
            Signed { signature: vec![0; 64], ..sign(&good) },
            signed(&net, Context::Request, "birch", good.encode_to_vec()),
            signed(&net, Context::Ask, "elm", good.encode_to_vec()),
            signed(&net, Context::Ask, "birch", unknown_field),
            sign(&SignedAsk { chain_id: "testnet-other".into(), ..good.clone() }),
            sign(&SignedAsk { custodian: "elm".into(), ..good.clone() }),
            sign(&SignedAsk { recipient: "elm".into(), ..good.clone() }),
            sign(&SignedAsk { client: format!("spiffe://{CHAIN}/org/elm/crm/test"), ..good.clone() }),
            sign(&SignedAsk { nonce: vec![1; 31], ..good.clone() }),
            sign(&SignedAsk { not_after_ms: now_ms() + 31 * DAY_MS, ..good.clone() }),
            sign(&SignedAsk { valid_until_ms: now_ms() + 1_000, ..good.clone() }),
            sign(&SignedAsk { purposes: Vec::new(), ..good.clone() }),
            sign(&SignedAsk { actions: vec!["peek".into()], ..good.clone() }),
            sign(&SignedAsk { reason: "a\nb".into(), ..good.clone() }),
        ];
        for (n, forged) in forged.into_iter().enumerate() {
            let refused =
                Say::Unavailable(Why { reason: "MALFORMED_REQUEST".into(), message: String::new() });
            assert_eq!(tell(forged).await, Some(refused), "{value}, number {n}");
        }
    }
    assert!(list(&portal, "mrn-1", true, 0, "").await.unwrap().asks.is_empty());

    // Known, unknown, wrong birth date, expired, told again: one answer, at one size.
    let cedar = key(&net, "cedar", "entry").verifying_key().to_bytes();
    let mut sizes = std::collections::BTreeSet::new();
    let kept = consent_ask("mrn-1");
    let born = SignedAsk { birth_date: "1980-02-04".into(), ..consent_ask("mrn-1") };
    let over = SignedAsk { not_after_ms: now_ms() - 1, ..consent_ask("mrn-1") };
    for ask in [&kept, &kept, &consent_ask("mrn-none"), &born, &over] {
        let sent = sign(ask);
        let started = std::time::Instant::now();
        let Some(Say::AskState(state)) = tell(sent.clone()).await else { panic!("no state") };
        assert!(started.elapsed() >= Duration::from_millis(50));
        assert!(verify_message(Context::AskState, CHAIN, &cedar, &state));
        let said = ConsentAskState::decode(state.body.as_slice()).unwrap();
        assert_eq!((said.ask_hash, said.granted), (ask_hash(CHAIN, &sent.body).to_vec(), false));
        sizes.insert(Frame { say: Some(Say::AskState(state)) }.encoded_len());
    }
    assert_eq!(sizes.len(), 1);
    let listed = list(&portal, "mrn-1", true, 0, "").await.unwrap().asks;
    assert_eq!(listed.len(), 1, "told twice, asked once");
    assert_eq!(listed[0].ask_id, ask_hash(CHAIN, &kept.encode_to_vec()));

    // No more than there is room for; the asker does not learn that.
    for _ in 0..40 {
        assert!(matches!(tell(sign(&consent_ask("mrn-1"))).await, Some(Say::AskState(_))));
    }
    assert_eq!(list(&portal, "mrn-1", true, 500, "").await.unwrap().asks.len(), 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_custodians_word_counts_only_when_it_signed_it_for_this_ask() {
    let mut net = Net::new(4);
    for name in ["birch", "dogwood", "elm"] {
        net.start(net.index(name)).await;
    }
    for name in ["birch", "dogwood", "elm"] {
        net.ready(net.index(name)).await;
    }
    let crm = net.client(net.index("birch"), "crm");
    let mut cedar = fake(&net, "cedar", "birch").await;
    let state_of = |granted, hash: &[u8]| {
        ConsentAskState { ask_hash: hash.to_vec(), granted, time_ms: 1 }.encode_to_vec()
    };
    // Each is an answer to one call of the client, with what the client hears.
    type Lie<'a> = Box<dyn Fn(&[u8]) -> Say + Send + 'a>;
    let answers: Vec<(Lie<'_>, &str)> = vec![
        (Box::new(|id| Say::AskState(signed(&net, Context::AskState, "cedar", state_of(false, id)))), ""),
        (
            Box::new(|id| Say::AskState(signed(&net, Context::AskState, "elm", state_of(true, id)))),
            "BAD_ANSWER",
        ),
        (
            Box::new(|id| Say::AskState(signed(&net, Context::Decision, "cedar", state_of(true, id)))),
            "BAD_ANSWER",
        ),
        (
            Box::new(|_| Say::AskState(signed(&net, Context::AskState, "cedar", state_of(true, &[1; 32])))),
            "BAD_ANSWER",
        ),
        (Box::new(|_| Say::AskState(Signed::default())), "BAD_ANSWER"),
        (Box::new(|_| Say::End(true)), "BAD_ANSWER"),
        (
            Box::new(|_| Say::Unavailable(Why { reason: "NOT_FRESH".into(), message: String::new() })),
            "CUSTODIAN_UNAVAILABLE",
        ),
        (
            Box::new(|id| Say::AskState(signed(&net, Context::AskState, "cedar", state_of(true, id)))),
            "granted",
        ),
    ];
    let mut id = Vec::new();
    for (lie, heard) in &answers {
        let answering = async {
            loop {
                let mut inbound = cedar.inbound.recv().await.unwrap();
                if inbound.protocol != Protocol::Exchange {
                    continue;
                }
                let Some(Say::Ask(ask)) = hear(&mut inbound.stream).await else { panic!("no ask") };
                say(&mut inbound.stream, lie(&ask_hash(CHAIN, &ask.body))).await;
                return inbound;
            }
        };
        if id.is_empty() {
            let (asked, _open) = tokio::join!(ask(&crm, asking("a-1", "mrn-1")), answering);
            id = asked.unwrap().ask_id;
            continue;
        }
        match tokio::join!(state(&crm, &id), answering).0 {
            Ok(state) => assert_eq!((state.state(), *heard), (AskState::Granted, "granted")),
            Err(refused) => is(refused, Code::Unavailable, heard),
        }
    }
}
