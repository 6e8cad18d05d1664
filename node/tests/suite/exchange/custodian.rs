//! A real custodian, a dishonest recipient.

use std::time::Duration;

use assent_ledger::block::header_hash;
use assent_ledger::commitment::commit;
use assent_ledger::hash::Context;
use assent_ledger::receipt::request_hash;
use assent_node::chain::now_ms;
use assent_node::exchange::{sealed, Proof, Say, Why};
use assent_node::peers::{PeerStream, Protocol};
use assent_proto::ledger::v1::{AccessEvent, Acknowledgement, DataRequest, Reasons, Receipt, Signed};
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::GetStatusRequest;
use prost::Message;

use super::{data_request, fake, hear, say, signed, signed_request, Fake};
use crate::net::{Net, CHAIN};
use crate::patient::*;

/// Cedar, Dogwood and Elm run; Birch is played.
pub async fn without_birch() -> Net {
    let mut net = Net::new(4);
    for name in ["cedar", "dogwood", "elm"] {
        net.start(net.index(name)).await;
    }
    for name in ["cedar", "dogwood", "elm"] {
        net.ready(net.index(name)).await;
    }
    net
}

/// Asks, and takes receipt and chunks.
async fn receive(birch: &Fake, request: &Signed) -> (PeerStream, Receipt, Vec<Vec<u8>>) {
    let mut stream = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
    say(&mut stream, Say::Request(request.clone())).await;
    let Some(Say::Receipt(receipt)) = hear(&mut stream).await else { panic!("no receipt") };
    let mut chunks = Vec::new();
    loop {
        match hear(&mut stream).await {
            Some(Say::Chunk(chunk)) => chunks.push(chunk),
            Some(Say::End(_)) => return (stream, *receipt, chunks),
            other => panic!("{other:?}"),
        }
    }
}

fn acknowledgement(net: &Net, request: &Signed, receipt: &Receipt, chunks: &[Vec<u8>]) -> Signed {
    let acknowledgement = Acknowledgement {
        request_hash: request_hash(CHAIN, &request.body).to_vec(),
        header_hash: header_hash(CHAIN, &receipt.anchor.as_ref().unwrap().header).to_vec(),
        ciphertext_sha256: sealed::digest(chunks).to_vec(),
    };
    signed(net, Context::Acknowledgement, "birch", acknowledgement.encode_to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_key_goes_only_for_an_acknowledgement_and_while_the_consent_stands() {
    let net = without_birch().await;
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    let birch = fake(&net, "birch", "cedar").await;

    let request = signed_request(&net, &data_request("birch", "mrn-1"));
    let (mut stream, receipt, chunks) = receive(&birch, &request).await;
    say(&mut stream, Say::Acknowledgement(acknowledgement(&net, &request, &receipt, &chunks))).await;
    let Some(Say::Key(good)) = hear(&mut stream).await else { panic!("no key") };
    assert_eq!(sealed::open(&good.try_into().unwrap(), &chunks).unwrap().len(), 2);

    // The nonce again: the same receipt, nothing new recorded; another body under the nonce: refused.
    let (_, again, _) = receive(&birch, &request).await;
    assert_eq!(again, receipt);
    let nonce = DataRequest::decode(request.body.as_slice()).unwrap().nonce;
    let other_body =
        DataRequest { nonce, actor: "Practitioner/eve".into(), ..data_request("birch", "mrn-1") };
    let mut stream = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
    say(&mut stream, Say::Request(signed_request(&net, &other_body))).await;
    let Some(Say::Unavailable(why)) = hear(&mut stream).await else { panic!("released twice") };
    assert_eq!((why.reason.as_str(), why.message.as_str()), ("REQUEST_ID_REUSED", ""));

    // An acknowledgement of other bytes, or by somebody else.
    for wrong in 0..2 {
        let request = signed_request(&net, &data_request("birch", "mrn-1"));
        let (mut stream, receipt, mut chunks) = receive(&birch, &request).await;
        chunks[0][0] ^= 1;
        let mut bad = acknowledgement(&net, &request, &receipt, &chunks);
        if wrong == 1 {
            chunks[0][0] ^= 1;
            let honest = acknowledgement(&net, &request, &receipt, &chunks);
            bad = signed(&net, Context::Acknowledgement, "elm", honest.body);
        }
        say(&mut stream, Say::Acknowledgement(bad)).await;
        assert!(matches!(hear(&mut stream).await, Some(Say::Unavailable(_))));
        assert_eq!(hear(&mut stream).await, None);
    }

    // Withdrawn after the bytes went out, before the key.
    let request = signed_request(&net, &data_request("birch", "mrn-1"));
    let (mut stream, receipt, chunks) = receive(&birch, &request).await;
    let height = withdraw(net.client_with(net.index("dogwood"), None), "w-1", &handle, 0).await.unwrap();
    let mut cedar = NodeServiceClient::new(net.client(net.index("cedar"), "operator"));
    for _ in 0..200 {
        let status = cedar.get_status(GetStatusRequest {}).await.unwrap().into_inner();
        if status.answer.unwrap().height >= height {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    say(&mut stream, Say::Acknowledgement(acknowledgement(&net, &request, &receipt, &chunks))).await;
    assert!(matches!(hear(&mut stream).await, Some(Say::NotReleased(_))));
    assert_eq!(hear(&mut stream).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_malformed_request_is_refused_before_anybody_looks_for_the_patient() {
    let net = without_birch().await;
    enrolled(&net, "mrn-1", "2030-12-31").await;
    let birch = fake(&net, "birch", "cedar").await;
    for value in ["mrn-1", "mrn-none"] {
        let good = data_request("birch", value);
        let bad = [
            ("expired", DataRequest { not_after_ms: now_ms() - 1, ..good.clone() }),
            ("for ever", DataRequest { not_after_ms: now_ms() + 86_400_000, ..good.clone() }),
            ("end of time", DataRequest { not_after_ms: u64::MAX, ..good.clone() }),
            ("nonce", DataRequest { nonce: vec![1; 31], ..good.clone() }),
            ("purpose", DataRequest { purpose: "NONSENSE".into(), ..good.clone() }),
            ("action", DataRequest { action: String::new(), ..good.clone() }),
            ("custodian", DataRequest { custodian: "elm".into(), ..good.clone() }),
            ("chain", DataRequest { chain_id: "elsewhere".into(), ..good.clone() }),
            ("types", DataRequest { resource_types: vec!["Observation".into(); 65], ..good.clone() }),
            ("long", DataRequest { actor: "a".repeat(40_000), ..good.clone() }),
            // Dogwood's own signed request, sent by Birch.
            ("replayed", data_request("dogwood", value)),
        ];
        let mut requests: Vec<_> =
            bad.iter().map(|(name, request)| (*name, signed_request(&net, request))).collect();
        let mut tampered = signed_request(&net, &good);
        tampered.body.extend(DataRequest { check_only: true, ..Default::default() }.encode_to_vec());
        requests.push(("tampered", tampered));
        requests.push(("signed by another", signed(&net, Context::Request, "elm", good.encode_to_vec())));
        requests.push(("other context", signed(&net, Context::Decision, "birch", good.encode_to_vec())));
        for (name, request) in requests {
            let mut stream = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
            say(&mut stream, Say::Request(request)).await;
            let expected = Why { reason: "MALFORMED_REQUEST".into(), message: String::new() };
            assert_eq!(hear(&mut stream).await, Some(Say::Unavailable(expected)), "{name}");
        }
    }
    // The refusal of a known patient without consent and that of nobody are alike, also in size.
    let mut answers = Vec::new();
    for (value, purpose, birth_date) in [
        ("mrn-1", "HMARKT", "1980-02-03"),
        ("mrn-none", "TREAT", "1980-02-03"),
        ("mrn-1", "TREAT", "1980-02-04"),
        ("mrn-1", "TREAT", "not a date"),
    ] {
        let request = DataRequest {
            purpose: purpose.into(),
            birth_date: birth_date.into(),
            ..data_request("birch", value)
        };
        let mut stream = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
        let asked = std::time::Instant::now();
        say(&mut stream, Say::Request(signed_request(&net, &request))).await;
        let Some(Say::NotReleased(answer)) = hear(&mut stream).await else { panic!("{value} {purpose}") };
        assert!(asked.elapsed() >= Duration::from_millis(50), "{:?}", asked.elapsed());
        answers.push((answer.encoded_len(), hear(&mut stream).await));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    // Garbage and a second question on one stream end it.
    let mut stream = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
    stream.send(&[0xff; 40]).await.unwrap();
    assert_eq!(hear(&mut stream).await, None);
    let mut stream = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
    say(&mut stream, Say::Key(vec![0; 32])).await;
    assert_eq!(hear(&mut stream).await, None);
}

/// Time alone ends a consent: no sequence on the ledger moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consent_that_ends_between_decision_and_key_releases_nothing() {
    let mut net = Net::started(1).await;
    let end = time::OffsetDateTime::now_utc() + time::Duration::seconds(8);
    let until = end.replace_nanosecond(0).unwrap();
    let until = until.format(&time::format_description::well_known::Rfc3339).unwrap();
    let (value, reference) = ("mrn-1", "Patient/mrn-1");
    create_subject(net.client(0, "registrar"), "s-1", value, reference).await.unwrap();
    load(net.client(0, "ehr"), "l-1", records(reference)).await.unwrap();
    let fhir = String::from_utf8(consent(reference, "c-1", &until))
        .unwrap()
        .replace(r#""value":"birch""#, r#""value":"cedar""#);
    import(net.client(0, "portal"), "i-1", value, fhir.into_bytes()).await.unwrap();
    check(net.client(0, "crm"), value, "TREAT").await.unwrap();
    net.stop(0).await.unwrap();
    let running = net.restarted(0).await;
    let custodian = &running.app.custodian;
    let checked =
        custodian.check_request("cedar", signed_request(&net, &data_request("cedar", value))).unwrap();
    let released = custodian.release(&checked).await.unwrap().unwrap();
    assert!(custodian.still_stands(&released).unwrap());
    // Why it was permitted stays in the vault, under the commitment that the event carries.
    let Proof::Receipt(receipt) = &released.proof else { panic!("released without a receipt") };
    let event = AccessEvent::decode(claim_of(receipt).event.as_slice()).unwrap();
    let why = running.app.parts.vault.access(&event.reasons.clone().try_into().unwrap()).unwrap().unwrap();
    assert_eq!(commit(Context::ReasonsCommitment, CHAIN, &why.salt, &why.event).to_vec(), event.reasons);
    assert_eq!(Reasons::decode(why.event.as_slice()).unwrap().decided_by, ["c-1/0"]);
    // Until a block says that the end has come: heartbeats are 2 s apart.
    let ended_ms = (end.unix_timestamp() as u64 + 2) * 1000;
    while running.app.parts.tip().time_ms < ended_ms {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!custodian.still_stands(&released).unwrap(), "the key would still go");
    assert!(custodian.release(&checked).await.unwrap().is_none());
    assert!(custodian.decide(&checked).await.unwrap().is_none());
}
