//! Late releases with a dishonest other side.

use assent_ledger::commitment::digests_root;
use assent_ledger::hash::Context;
use assent_ledger::receipt::request_hash;
use assent_node::exchange::client::{ask_receipt, Answered};
use assent_node::exchange::{sealed, Say, Why};
use assent_node::peers::Protocol;
use assent_proto::ledger::v1::{AccessEvent, DataRequest, LateAccess, LateProof, NotReleased, Signed};
use prost::Message;

use super::custodian::without_birch;
use super::recipient::{played, Played};
use super::{data_request, fake, hear, say, signed, signed_request};
use crate::net::CHAIN;
use crate::patient::*;

fn glass(recipient: &str) -> DataRequest {
    DataRequest { break_glass_reason: "unconscious".into(), ..data_request(recipient, "mrn-1") }
}

/// What an honest Cedar would promise for a request.
fn event(played: &Played, request: &Signed) -> AccessEvent {
    AccessEvent {
        custodian: "cedar".into(),
        handle: vec![4; 32],
        request: request.encode_to_vec(),
        outcome: "PERMIT_OVERRIDE".into(),
        reasons: vec![5; 32],
        resources: played.resources.len() as u64,
        digests_root: digests_root(played.resources.iter().map(Vec::as_slice)).to_vec(),
        late: true,
        ..Default::default()
    }
}

fn promise(played: &Played, organization: &str, context: Context, event: &AccessEvent) -> Say {
    let request = Signed::decode(event.request.as_slice()).unwrap();
    let late = LateAccess {
        request_hash: request_hash(CHAIN, &request.body).to_vec(),
        event: event.encode_to_vec(),
        salt: vec![6; 32],
    };
    let late_access = Some(signed(&played.net, context, organization, late.encode_to_vec()));
    Say::Late(Box::new(LateProof { late_access, ..played.keys.clone() }))
}

fn unproven(honest: &Say, edit: impl Fn(&mut LateProof)) -> Say {
    let Say::Late(mut proof) = honest.clone() else { unreachable!() };
    edit(&mut proof);
    Say::Late(proof)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_recipient_takes_only_the_custodians_own_word_for_its_own_request() {
    let mut played = played().await;
    let ordinary = played.request.clone();
    played.request = signed_request(&played.net, &glass("birch"));
    let other = signed_request(&played.net, &glass("birch"));
    let key = [8; 32];
    let chunks = sealed::seal(&key, &played.resources).unwrap();
    let release = |first: Vec<Say>| {
        let chunks = chunks.iter().cloned().map(Say::Chunk);
        first.into_iter().chain(chunks).chain([Say::End(true)]).collect::<Vec<Say>>()
    };
    let good = event(&played, &played.request);
    let honest = promise(&played, "cedar", Context::LateAccess, &good);
    let heard = played.conversation(release(vec![honest.clone()]), Some(Say::Key(key.to_vec()))).await;
    let Ok(Answered::ReleasedLate(kept, resources)) = heard.outcome else {
        panic!("an honest one was refused")
    };
    assert_eq!((Say::Late(kept), &resources), (honest.clone(), &played.resources));

    let of = |event: AccessEvent| promise(&played, "cedar", Context::LateAccess, &event);
    // Refused before anything is acknowledged.
    let lies = [
        ("another request", vec![of(event(&played, &other))]),
        ("a request that breaks no glass", vec![of(event(&played, &ordinary))]),
        ("an ordinary permit", vec![of(AccessEvent { outcome: "PERMIT".into(), ..good.clone() })]),
        ("decided behind the header", vec![of(AccessEvent { height: 99, ..good.clone() })]),
        ("in time", vec![of(AccessEvent { late: false, ..good.clone() })]),
        ("of another custodian", vec![of(AccessEvent { custodian: "elm".into(), ..good.clone() })]),
        ("signed by another", vec![promise(&played, "elm", Context::LateAccess, &good)]),
        ("signed for another purpose", vec![promise(&played, "cedar", Context::Decision, &good)]),
        ("without keys", vec![unproven(&honest, |proof| proof.custodian = None)]),
        (
            "with the recipient's keys",
            vec![unproven(&honest, |proof| proof.custodian.clone_from(&proof.recipient))],
        ),
        ("without an anchor", vec![unproven(&honest, |proof| proof.anchor = None)]),
        ("twice", vec![honest.clone(), honest.clone()]),
        ("before a receipt", vec![honest.clone(), Say::Receipt(Box::new(played.receipt.clone()))]),
    ];
    for (what, first) in lies {
        let heard = played.conversation(release(first), Some(Say::Key(key.to_vec()))).await;
        let refusal = heard.outcome.err().unwrap_or_else(|| panic!("{what} was accepted"));
        assert_eq!((refusal.reason, heard.acknowledged), ("BAD_ANSWER", false), "{what}: {refusal}");
    }
    // Other records than the promise names show when the key has come.
    let fewer = AccessEvent { resources: 2, ..good.clone() };
    let fewer = promise(&played, "cedar", Context::LateAccess, &fewer);
    let heard = played.conversation(release(vec![fewer]), Some(Say::Key(key.to_vec()))).await;
    assert_eq!((heard.outcome.err().unwrap().reason, heard.acknowledged), ("BAD_ANSWER", true));

    // The receipt later: only a genuine one, for this very request.
    let hash = request_hash(CHAIN, &played.request.body);
    let refusal = |request_hash: Vec<u8>| {
        let body = NotReleased { request_hash, time_ms: 1 }.encode_to_vec();
        Say::NotReleased(signed(&played.net, Context::NotReleased, "cedar", body))
    };
    let answers = [
        (Say::Receipt(Box::new(played.receipt.clone())), Err("BAD_ANSWER")),
        (refusal(vec![7; 32]), Err("BAD_ANSWER")),
        (Say::Key(vec![0; 32]), Err("BAD_ANSWER")),
        (
            Say::Unavailable(Why { reason: "NOT_COMMITTED_YET".into(), message: String::new() }),
            Err("CUSTODIAN_UNAVAILABLE"),
        ),
        (refusal(hash.to_vec()), Ok(())),
    ];
    let parts = played.birch.app.parts.clone();
    let peers = parts.peers.clone().unwrap();
    for (answer, expected) in answers {
        let cedar = async {
            let mut inbound = loop {
                let inbound = played.cedar.inbound.recv().await.unwrap();
                if inbound.protocol == Protocol::Exchange {
                    break inbound.stream;
                }
            };
            assert_eq!(hear(&mut inbound).await, Some(Say::ReceiptOf(played.request.clone())));
            say(&mut inbound, answer.clone()).await;
            let _ = hear(&mut inbound).await;
        };
        let (outcome, ()) = tokio::join!(ask_receipt(&parts, &peers, "cedar", &hash, &played.request), cedar);
        let found = outcome.map(|receipt| assert!(receipt.is_none())).map_err(|refusal| refusal.reason);
        assert_eq!(found, expected, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_custodian_gives_receipts_of_late_releases_only_to_whom_they_went() {
    let net = without_birch().await;
    enrolled(&net, "mrn-1", "2030-12-31").await;
    let birch = fake(&net, "birch", "cedar").await;
    let expired = DataRequest { not_after_ms: 1, ..glass("birch") };
    let malformed = Say::Unavailable(Why { reason: "MALFORMED_REQUEST".into(), message: String::new() });
    let mut tampered = signed_request(&net, &glass("birch"));
    tampered.signature[3] ^= 1;
    for (what, request, expected) in [
        ("never released", signed_request(&net, &glass("birch")), None),
        // Nothing is released for it, so it does not end.
        ("never released, long ago", signed_request(&net, &expired), None),
        ("another's", signed_request(&net, &glass("dogwood")), Some(&malformed)),
        ("tampered", tampered, Some(&malformed)),
    ] {
        let mut stream = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
        say(&mut stream, Say::ReceiptOf(request)).await;
        let heard = hear(&mut stream).await;
        match expected {
            Some(expected) => assert_eq!(heard.as_ref(), Some(expected), "{what}"),
            None => assert!(matches!(heard, Some(Say::NotReleased(_))), "{what}: {heard:?}"),
        }
    }
    // A reason that no client's node would send on.
    for reason in ["a\u{7}".to_owned(), "x".repeat(501), " ".into()] {
        let request = DataRequest { break_glass_reason: reason, ..glass("birch") };
        let mut stream = birch.peers.open("cedar", Protocol::Exchange).await.unwrap();
        say(&mut stream, Say::Request(signed_request(&net, &request))).await;
        assert_eq!(hear(&mut stream).await, Some(malformed.clone()));
    }
}
