//! A relay or a custodian that lies.

use std::future::Future;

use assent_ledger::hash::sha256;
use assent_node::exchange::patient::{PatientAnswer, PatientCall};
use assent_node::exchange::Say;
use assent_node::peers::Protocol;
use assent_proto::v1::*;
use prost::Message;
use tonic::{Code, Status};

use super::{is, other_key, pause, public, Wallet};
use crate::exchange::{fake, hear, say, Fake, LIMIT};
use crate::net::Net;
use crate::patient::*;

/// The custodian trusts no relay: it checks form, proof and signature itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dishonest_relay_gets_no_further_than_a_stranger() {
    let mut net = Net::new(4);
    for name in ["cedar", "dogwood", "elm"] {
        net.start(net.index(name)).await;
    }
    for name in ["cedar", "dogwood", "elm"] {
        net.ready(net.index(name)).await;
    }
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    let birch = fake(&net, "birch", "cedar").await;
    let mut wallet = Wallet::new(&net, "cedar", &handle);
    let grant = Grant { new_control_key: public(&other_key()), ..Default::default() };
    let prepared = wallet.prepare("p", &grant).await.unwrap();
    let good = wallet.signed("g", &grant, &prepared);
    let thief = Wallet { key: other_key(), ..Wallet::new(&net, "cedar", &handle) };
    let method = format!("PrepareGrant/{}", hex::encode(sha256(&grant.encode_to_vec())));
    let by_thief = PrepareGrantRequest {
        request_id: "p-2".into(),
        proof: Some(thief.proof(&method)),
        grant: Some(grant.clone()),
    };
    // A proof that the patient used elsewhere, for another hospital's slot.
    let elsewhere = Wallet { custodian: "birch", ..Wallet::new(&net, "cedar", &handle) };
    let elsewhere = PrepareGrantRequest { proof: Some(elsewhere.proof(&method)), ..by_thief.clone() };
    let thrice = CommitGrantRequest { new_control_key: Vec::new(), ..good.clone() };
    let rows: [(&str, Vec<u8>, &str); 7] = [
        ("PrepareGrant", by_thief.encode_to_vec(), "SLOT_NOT_FOUND"),
        ("PrepareGrant", elsewhere.encode_to_vec(), "SLOT_NOT_FOUND"),
        ("PrepareGrant", vec![0xff; 9], "MALFORMED_REQUEST"),
        ("CommitGrant", thief.signed("g", &grant, &prepared).encode_to_vec(), "SLOT_NOT_FOUND"),
        ("CommitGrant", thrice.encode_to_vec(), "SLOT_NOT_FOUND"),
        ("CommitGrant", Vec::new(), "MALFORMED_REQUEST"),
        ("Withdraw", Vec::new(), "MALFORMED_REQUEST"),
    ];
    for (n, (method, body, why)) in rows.into_iter().enumerate() {
        let mut stream = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
        let call = PatientCall { method: method.into(), body, height: 1 };
        say(&mut stream, Say::PatientCall(call)).await;
        let Some(Say::PatientAnswer(answer)) = hear(&mut stream).await else { panic!("row {n}") };
        assert_eq!(answer.response, None, "row {n}");
        assert_eq!(answer.refusal.unwrap().reason, why, "row {n}");
    }
    let slot = wallet.slot().await.unwrap();
    assert_eq!((slot.control_key, slot.consent_seq), (Some(public(&control_key())), prepared.consent_seq));
    // What the patient did sign is committed whoever brings it.
    let mut stream = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
    let call = PatientCall { method: "CommitGrant".into(), body: good.encode_to_vec(), height: 1 };
    say(&mut stream, Say::PatientCall(call)).await;
    let Some(Say::PatientAnswer(answer)) = hear(&mut stream).await else { panic!("no answer") };
    assert!(answer.response.is_some(), "{answer:?}");
}

/// Answers one relayed call.
async fn played(custodian: &mut Fake, answer: PatientAnswer) {
    loop {
        let inbound = custodian.inbound.recv().await.unwrap();
        if inbound.protocol == Protocol::Exchange {
            let mut stream = inbound.stream;
            assert!(matches!(hear(&mut stream).await, Some(Say::PatientCall(_))));
            say(&mut stream, Say::PatientAnswer(answer)).await;
            // Until the other side has read it.
            assert_eq!(hear(&mut stream).await, None);
            return;
        }
    }
}

/// What came of a call, with this answer of the custodian's.
async fn answered(
    asked: impl Future<Output = Status>,
    custodian: &mut Fake,
    answer: PatientAnswer,
) -> Status {
    let both = async { tokio::join!(asked, played(custodian, answer)).0 };
    tokio::time::timeout(LIMIT, both).await.expect("the custodian was not asked")
}

/// A custodian's node that answers nonsense, or nothing at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dishonest_custodian_is_not_taken_at_its_word() {
    let mut net = Net::started(4).await;
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    let mut wallet = Wallet::new(&net, "dogwood", &handle);
    wallet.slot_when(|slot| slot.consent_seq == 2).await;
    net.stop(net.index("cedar")).await.unwrap();
    let mut cedar = fake(&net, "cedar", "dogwood").await;
    let answers = [
        PatientAnswer::default(),
        PatientAnswer { response: Some(vec![0xff; 9]), refusal: None },
        PatientAnswer { response: Some(Vec::new()), refusal: Some(Default::default()) },
    ];
    let grant = Grant { new_control_key: public(&other_key()), ..Default::default() };
    for (n, answer) in answers.into_iter().enumerate() {
        let request_id = format!("p-{n}");
        let asked = async {
            loop {
                match wallet.prepare(&request_id, &grant).await.unwrap_err() {
                    // Dogwood's node has not seen yet that another one listens there.
                    status if reason(&status) == "CUSTODIAN_UNREACHABLE" => pause().await,
                    status => return status,
                }
            }
        };
        is(&answered(asked, &mut cedar, answer).await, Code::Unavailable, "BAD_ANSWER");
    }
    // "Committed", says the custodian; the ledger of the node that was asked does not hold it.
    let slot = wallet.slot().await.unwrap();
    let made_up =
        PrepareGrantResponse { consent_seq: slot.consent_seq, commitment: vec![7; 32], ..Default::default() };
    let claim = CommitGrantResponse { answer: None, consent_seq: slot.consent_seq + 1, height: 1 };
    let answer = PatientAnswer { response: Some(claim.encode_to_vec()), refusal: None };
    let request = wallet.signed("g", &grant, &made_up);
    let asked = async { wallet.commit(request).await.unwrap_err() };
    is(&answered(asked, &mut cedar, answer).await, Code::Unavailable, "BAD_ANSWER");
}
