//! A real recipient, a dishonest custodian.

use std::time::Duration;

use assent_ledger::commitment::{commit, digests_root};
use assent_ledger::hash::Context;
use assent_ledger::receipt::{request_hash, sign_message};
use assent_ledger::Hash;
use assent_node::chain::now_ms;
use assent_node::chain::receipts::StartAt;
use assent_node::exchange::client::{ask, Answered};
use assent_node::exchange::{sealed, Frame, Say, Why};
use assent_node::node::Running;
use assent_node::peers::{Inbound, Protocol};
use assent_node::refusal::Refusal;
use assent_node::vault::Access;
use assent_proto::ledger::v1::{receipt, AccessEvent, Decision, LateProof, NotReleased, Receipt, Signed};
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::GetStatusRequest;
use prost::Message;
use tonic::Code;

use super::{data_request, fake, hear, say, signed, signed_request, Fake, LIMIT};
use crate::ledger::{key, record_access, set_consent, Ledger};
use crate::net::{Net, CHAIN};
use crate::patient::*;

/// Birch's node, Cedar's keys in our hands, and an access that Cedar really recorded for Birch's request.
pub struct Played {
    pub net: Net,
    pub birch: Running,
    pub cedar: Fake,
    pub request: Signed,
    pub receipt: Receipt,
    other_receipt: Receipt,
    pub resources: Vec<Vec<u8>>,
    /// What proves the keys of a late access.
    pub keys: LateProof,
}

/// What Cedar was told, beside Birch's conclusion.
pub struct Heard {
    pub outcome: Result<Answered, Refusal>,
    pub acknowledged: bool,
}

pub async fn played() -> Played {
    let mut ledger = Ledger::new("cedar");
    let handle: Hash = [4; 32];
    ledger.admit(&ledger.entry("cedar", 1, vec![set_consent("cedar", handle, 0, None)])).unwrap();
    ledger.block();
    let resources: Vec<Vec<u8>> = (0..3u8).map(|n| vec![n; 200 << 10]).collect();
    let requests = [(); 2].map(|()| signed_request(&ledger.net, &data_request("birch", "mrn-1")));
    let mut receipts = Vec::new();
    for (n, request) in (1u64..).zip(&requests) {
        let event = AccessEvent {
            custodian: "cedar".into(),
            handle: handle.to_vec(),
            request: request.encode_to_vec(),
            outcome: "PERMIT".into(),
            reasons: vec![5; 32],
            consent_seq: 1,
            resources: resources.len() as u64,
            digests_root: digests_root(resources.iter().map(Vec::as_slice)).to_vec(),
            time_ms: now_ms(),
            height: n,
            ..Default::default()
        }
        .encode_to_vec();
        let salt = [n as u8; 32];
        let commitment = commit(Context::AccessCommitment, CHAIN, &salt, &event);
        ledger
            .admit(&ledger.entry("cedar", n + 1, vec![record_access("cedar", handle, 1, commitment)]))
            .unwrap();
        ledger.block();
        let view = ledger.store.view().unwrap();
        let place = view.access_place("cedar", &handle, n).unwrap().unwrap();
        let genesis = &ledger.net.genesis;
        let recipient = view.member_proof(genesis, n + 1, "birch").unwrap().encode_to_vec();
        receipts
            .push(view.prove_access(genesis, &place, Access { handle, salt, event, recipient }).unwrap().0);
    }
    let keys = {
        let (genesis, view) = (&ledger.net.genesis, ledger.store.view().unwrap());
        LateProof {
            late_access: None,
            anchor: Some(view.anchor(genesis, view.tip.height, StartAt::Genesis).unwrap()),
            custodian: Some(view.member_proof(genesis, view.tip.height + 1, "cedar").unwrap()),
            recipient: Some(view.member_proof(genesis, 1, "birch").unwrap()),
        }
    };
    let Ledger { net, .. } = ledger;
    let birch = net.try_start(net.index("birch")).await.unwrap();
    let cedar = fake(&net, "cedar", "birch").await;
    let [request, _] = requests;
    let other_receipt = receipts.pop().unwrap();
    let receipt = receipts.pop().unwrap();
    Played { net, birch, cedar, request, receipt, other_receipt, resources, keys }
}

impl Played {
    /// Birch asks; Cedar says `first`, and once it is acknowledged `last`.
    pub async fn conversation(&mut self, first: Vec<Say>, last: Option<Say>) -> Heard {
        let parts = self.birch.app.parts.clone();
        let hash = request_hash(CHAIN, &self.request.body);
        let cedar = async {
            let mut stream = loop {
                let inbound = tokio::time::timeout(LIMIT, self.cedar.inbound.recv()).await.unwrap().unwrap();
                if inbound.protocol == Protocol::Exchange {
                    break inbound.stream;
                }
            };
            assert!(matches!(hear(&mut stream).await, Some(Say::Request(_))));
            for said in first {
                // Birch may have hung up.
                let _ = stream.send(&Frame { say: Some(said) }.encode_to_vec()).await;
            }
            let acknowledged = matches!(hear(&mut stream).await, Some(Say::Acknowledgement(_)));
            if let (true, Some(last)) = (acknowledged, last) {
                say(&mut stream, last).await;
                let _ = hear(&mut stream).await;
            }
            acknowledged
        };
        let peers = parts.peers.clone().unwrap();
        let (outcome, acknowledged) = tokio::join!(ask(&parts, &peers, "cedar", &hash, &self.request), cedar);
        Heard { outcome, acknowledged }
    }

    fn release(&self, receipt: &Receipt, chunks: Vec<Vec<u8>>) -> Vec<Say> {
        let chunks = chunks.into_iter().map(Say::Chunk);
        [Say::Receipt(Box::new(receipt.clone()))].into_iter().chain(chunks).chain([Say::End(true)]).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_recipient_takes_only_what_the_receipt_for_its_own_request_covers() {
    let mut played = played().await;
    let key = [8; 32];
    let chunks = sealed::seal(&key, &played.resources).unwrap();
    assert_eq!(chunks.len(), 3);
    let honest = played.release(&played.receipt, chunks.clone());
    let heard = played.conversation(honest.clone(), Some(Say::Key(key.to_vec()))).await;
    let Ok(Answered::Released(receipt, resources)) = heard.outcome else {
        panic!("an honest release was refused")
    };
    assert_eq!((*receipt, resources), (played.receipt.clone(), played.resources.clone()));

    let bad = |heard: Heard, acknowledged: bool, what: &str| {
        let refusal = heard.outcome.err().unwrap_or_else(|| panic!("{what} was accepted"));
        assert_eq!((refusal.reason, heard.acknowledged), ("BAD_ANSWER", acknowledged), "{what}: {refusal}");
    };
    // Chunks that are not what was sealed, and a key that does not open them.
    let mut flipped = chunks.clone();
    flipped[1][5] ^= 1;
    let mut swapped = chunks.clone();
    swapped.swap(0, 1);
    let doubled = [chunks.clone(), vec![chunks[2].clone()]].concat();
    for (what, sent) in [
        ("flipped", flipped),
        ("swapped", swapped),
        ("cut short", chunks[..2].to_vec()),
        ("doubled", doubled),
    ] {
        let frames = played.release(&played.receipt, sent);
        bad(played.conversation(frames, Some(Say::Key(key.to_vec()))).await, true, what);
    }
    for (what, key) in [("another key", vec![9; 32]), ("a short key", vec![8; 31])] {
        bad(played.conversation(honest.clone(), Some(Say::Key(key))).await, true, what);
    }
    // Other records under a genuine receipt: one changed, one left out, two swapped.
    let mut changed = played.resources.clone();
    changed[2][0] ^= 1;
    let mut turned = played.resources.clone();
    turned.swap(0, 2);
    for (what, resources) in
        [("changed", changed), ("left out", played.resources[..2].to_vec()), ("turned", turned)]
    {
        let frames = played.release(&played.receipt, sealed::seal(&key, &resources).unwrap());
        bad(played.conversation(frames, Some(Say::Key(key.to_vec()))).await, true, what);
    }
    // A receipt for another request, or a damaged one, is not even acknowledged.
    let frames = played.release(&played.other_receipt, chunks.clone());
    bad(played.conversation(frames, Some(Say::Key(key.to_vec()))).await, false, "another request's receipt");
    let mut damaged = played.receipt.clone();
    let Some(receipt::Claim::Access(claim)) = &mut damaged.claim else { unreachable!() };
    claim.event[60] ^= 1;
    let frames = played.release(&damaged, chunks.clone());
    bad(played.conversation(frames, None).await, false, "a damaged receipt");
    // Frames out of order, or without end.
    bad(played.conversation(vec![Say::Chunk(vec![1])], None).await, false, "a chunk without a receipt");
    bad(played.conversation(vec![Say::End(true)], None).await, false, "an end without a receipt");
    bad(played.conversation(vec![Say::Key(key.to_vec())], None).await, false, "a key at once");
    let endless = played.release(&played.receipt, vec![Vec::new(); 2000]);
    bad(played.conversation(endless, None).await, false, "chunks of nothing");
    let twice =
        vec![Say::Receipt(Box::new(played.receipt.clone())), Say::Receipt(Box::new(played.receipt.clone()))];
    bad(played.conversation(twice, None).await, false, "two receipts");

    // Answers that are not for this request, or not by the custodian.
    let net = &played.net;
    let answer = |hash: [u8; 32], by: &str| {
        let body = NotReleased { request_hash: hash.to_vec(), time_ms: 1 }.encode_to_vec();
        Say::NotReleased(signed(net, Context::NotReleased, by, body))
    };
    let decision = |hash: [u8; 32], by: &str| {
        let body = Decision { request_hash: hash.to_vec(), custodian: "cedar".into(), ..Default::default() };
        Say::Decision(signed(net, Context::Decision, by, body.encode_to_vec()))
    };
    let hash = request_hash(CHAIN, &played.request.body);
    let wrong =
        [answer([0; 32], "cedar"), answer(hash, "elm"), decision([0; 32], "cedar"), decision(hash, "elm")];
    let (genuine, strange) = (answer(hash, "cedar"), "patient mrn-1\u{7}".repeat(1000));
    for said in wrong {
        let what = format!("{said:?}");
        bad(played.conversation(vec![said], None).await, false, &what);
    }
    let heard = played.conversation(vec![genuine], None).await;
    assert!(matches!(heard.outcome, Ok(Answered::NotReleased(_))));
    // A custodian's words go no further than this node.
    let why = Why { reason: strange.clone(), message: strange };
    let refusal = played.conversation(vec![Say::Unavailable(why)], None).await.outcome.err().unwrap();
    assert_eq!(
        (refusal.reason, refusal.metadata["custodian_reason"].as_str()),
        ("CUSTODIAN_UNAVAILABLE", "UNKNOWN")
    );
    assert!(!refusal.to_string().contains("mrn-1"));
}

/// The custodian's node may lag behind the withdrawal that the recipient's ledger has already.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_permit_older_than_the_ledger_is_not_passed_on() {
    let mut net = Net::started(4).await;
    let (birch, dogwood) = (net.index("birch"), net.index("dogwood"));
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    check(net.client(birch, "crm"), "mrn-1", "TREAT").await.unwrap();
    net.stop(net.index("cedar")).await.unwrap();
    let mut cedar = fake(&net, "cedar", "birch").await;
    let entry_key = key(&net, "cedar", "entry");
    let slot = handle.clone();
    tokio::spawn(async move {
        while let Some(Inbound { protocol, mut stream, .. }) = cedar.inbound.recv().await {
            if protocol != Protocol::Exchange {
                continue;
            }
            let Some(Say::Request(request)) = hear(&mut stream).await else {
                continue;
            };
            let decision = Decision {
                request_hash: request_hash(CHAIN, &request.body).to_vec(),
                custodian: "cedar".into(),
                handle: slot.clone(),
                outcome: "PERMIT".into(),
                consent_seq: 2,
                not_after_ms: now_ms() + 60_000,
                ..Default::default()
            };
            let body = decision.encode_to_vec();
            say(
                &mut stream,
                Say::Decision(sign_message(Context::Decision, CHAIN, "cedar", &entry_key, body)),
            )
            .await;
            let _ = hear(&mut stream).await;
        }
    });
    // Right after a restart of the other side the first stream may still go to the old connection.
    let mut permitted = check(net.client(birch, "crm"), "mrn-1", "TREAT").await;
    for _ in 0..20 {
        if permitted.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        permitted = check(net.client(birch, "crm"), "mrn-1", "TREAT").await;
    }
    permitted.unwrap();
    let height = withdraw(net.client_with(dogwood, None), "w-1", &handle, 0).await.unwrap();
    let mut status = NodeServiceClient::new(net.client(birch, "operator"));
    while status.get_status(GetStatusRequest {}).await.unwrap().into_inner().answer.unwrap().height < height {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stale = check(net.client(birch, "crm"), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Unavailable, "STALE_DECISION"));
}
