//! Break-glass on the command line: a reason, a late release, rules, reviews, notices.

use assent_ledger::hash::{framed, Context};
use assent_ledger::keys::verify;
use assent_proto::v1::policy_service_server::PolicyService;
use assent_proto::v1::review_service_server::ReviewService;
use assent_proto::v1::*;
use tonic::{Request, Response, Status};

use crate::chain::{Chain, CHAIN};
use crate::node::{Node, Told, QUERY};
use crate::program::{assent, Run};

/// What the node will answer, and what it was asked.
#[derive(Default)]
pub struct Script {
    /// Number of notices and of items, given out two a page.
    items: u64,
    set: Option<SetPolicyRequest>,
    stored: GetPolicyResponse,
    closed: Option<CloseReviewRequest>,
    proofs: Vec<ControlProof>,
    named: Option<Patient>,
}

/// The items of a page and the token behind it.
fn page(items: u64, token: &str, size: u32) -> (std::ops::Range<u64>, String) {
    let from: u64 = token.parse().unwrap_or_default();
    let to = items.min(from + u64::from(size.min(2)));
    (from..to, if to < items { to.to_string() } else { String::new() })
}

impl Script {
    pub fn notices(&mut self, request: ListNoticesRequest) -> ListNoticesResponse {
        self.proofs.extend(request.proof);
        self.named = request.patient;
        let (range, next_page_token) = page(self.items, &request.page_token, request.page_size);
        let notice = |n: u64| Notice {
            kind: if n == 0 { NoticeKind::KeyReplacement } else { NoticeKind::BreakGlass }.into(),
            reason: format!("\x1breason {n}"),
            effective_ms: 1_700_000_000_000,
            ..Default::default()
        };
        ListNoticesResponse { answer: None, notices: range.map(notice).collect(), next_page_token }
    }
}

#[tonic::async_trait]
impl PolicyService for Told {
    async fn set_policy(&self, r: Request<SetPolicyRequest>) -> Result<Response<SetPolicyResponse>, Status> {
        self.set(|script| script.glass.set = Some(r.into_inner()));
        Ok(Response::new(SetPolicyResponse { answer: None, policy_seq: 4 }))
    }
    async fn get_policy(&self, r: Request<GetPolicyRequest>) -> Result<Response<GetPolicyResponse>, Status> {
        let stored = self.0.lock().unwrap().glass.stored.clone();
        let wanted = r.into_inner().policy_seq;
        match wanted == 0 || wanted == stored.policy_seq {
            true => Ok(Response::new(stored)),
            false => Err(Status::not_found("no such version")),
        }
    }
}

#[tonic::async_trait]
impl ReviewService for Told {
    async fn list_reviews(
        &self,
        request: Request<ListReviewsRequest>,
    ) -> Result<Response<ListReviewsResponse>, Status> {
        let request = request.into_inner();
        let (range, next_page_token) =
            page(self.0.lock().unwrap().glass.items, &request.page_token, request.page_size);
        let review = |n: u64| Review {
            review_id: vec![n as u8; 32],
            reason: format!("\x1breason {n}"),
            late: n == 1,
            closed_by: if request.include_closed { "spiffe://x".into() } else { String::new() },
            ..Default::default()
        };
        let reviews = range.map(review).collect();
        Ok(Response::new(ListReviewsResponse { answer: None, reviews, next_page_token }))
    }
    async fn close_review(
        &self,
        request: Request<CloseReviewRequest>,
    ) -> Result<Response<CloseReviewResponse>, Status> {
        self.set(|script| script.glass.closed = Some(request.into_inner()));
        Ok(Response::new(CloseReviewResponse { answer: None }))
    }
}

fn request(node: &Node, chain: &Chain, reason: &str) -> Run {
    let (out, hash) = (node.text("out"), chain.genesis_hash());
    let more = ["--actor", "Dr Beech", "--out", &out, "--genesis-hash", &hash, "--request-id", "r-1"];
    let glass = ["--break-glass", reason, "--output", "json"];
    node.crm(&[&["request"], QUERY, &more, &glass].concat())
}

fn promise(message: &mut RequestRecordsResponse) -> &mut assent_proto::ledger::v1::Signed {
    message.late.as_mut().unwrap().late_access.as_mut().unwrap()
}

/// The messages of a late release.
fn late(chain: &Chain, reason: &str) -> Vec<Result<RequestRecordsResponse, Status>> {
    let first = RequestRecordsResponse { late: Some(chain.late(reason)), ..Default::default() };
    let resources = RequestRecordsResponse { resources: chain.resources.clone(), ..Default::default() };
    vec![Ok(first), Ok(resources)]
}

#[test]
fn a_late_release_is_verified_and_kept_beside_until_the_receipt_comes() {
    let (node, chain) = (Node::start(), Chain::new(1, [3; 32], None));
    let file = node.path("out.late");
    let edit = |change: &dyn Fn(&mut RequestRecordsResponse)| {
        let mut messages = late(&chain, "unconscious");
        change(messages[0].as_mut().unwrap());
        messages
    };
    for (what, messages) in [
        ("another reason", late(&chain, "curious")),
        ("another chain", late(&Chain::new(2, [3; 32], None), "unconscious")),
        ("no anchor", edit(&|m| m.late.as_mut().unwrap().anchor = None)),
        ("a changed byte", edit(&|m| promise(m).body[40] ^= 1)),
        ("nobody's signature", edit(&|m| promise(m).signature[3] ^= 1)),
        ("a resource missing", vec![late(&chain, "unconscious").remove(0)]),
    ] {
        node.told.set(|script| script.release = messages);
        assert_eq!(request(&node, &chain, "unconscious").exit, 3, "{what}");
        assert!(!file.exists(), "{what}");
    }
    // Twice, as long as the quorum is away: the same file.
    for _ in 0..2 {
        node.told.set(|script| script.release = late(&chain, "unconscious"));
        let json = request(&node, &chain, " unconscious ").exits(0).json();
        assert_eq!((&json["late"], &json["access"]["late"]), (&true.into(), &true.into()));
        assert_eq!(json["access"]["break_glass_reason"], "unconscious");
        assert!(json["file"].as_str().unwrap().ends_with("out.late") && !node.path("out").exists());
    }
    let path = file.to_str().unwrap();
    let json = assent(&["verify", path, "--genesis-hash", &chain.genesis_hash(), "--output", "json"])
        .exits(0)
        .json();
    assert_eq!((&json["kind"], &json["resources"]), (&"late".into(), &2.into()));
    let run = assent(&["verify", path]).exits(4);
    assert!(run.out.contains("the custodian's word"), "{run:?}");
    assent(&["verify", path, "--genesis-hash", &"0".repeat(64)]).exits(3);
    // What is there already and is something else stays.
    std::fs::write(&file, b"mine").unwrap();
    node.told.set(|script| script.release = late(&chain, "unconscious"));
    request(&node, &chain, "unconscious").exits(1);
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");

    for reason in ["", " ", "a\nb", &"x".repeat(501)] {
        let run = request(&node, &chain, reason).exits(2);
        assert_eq!(run.json()["error"]["reason"], "MALFORMED_REASON");
        node.crm(&[&["check", "--break-glass", reason], QUERY].concat()).exits(2);
    }
    node.crm(&[&["check", "--break-glass", "unconscious"], QUERY].concat()).exits(0);
}

#[test]
fn rules_are_set_with_their_registry_and_shown() {
    let node = Node::start();
    let (policy, registry) = (node.text("policy.json"), node.text("registry.json"));
    std::fs::write(&policy, br#"{"id":"p"}"#).unwrap();
    std::fs::write(&registry, br#"{"groups":[]}"#).unwrap();
    node.crm(&["policy", "set", &policy, "--registry", &registry]).exits(0);
    let set = node.told.0.lock().unwrap().glass.set.take().unwrap();
    assert_eq!((set.policy, set.registry), (br#"{"id":"p"}"#.to_vec(), br#"{"groups":[]}"#.to_vec()));
    node.crm(&["policy", "set", &policy]).exits(0);
    assert!(node.told.0.lock().unwrap().glass.set.take().unwrap().registry.is_empty());
    node.crm(&["policy", "set", &policy, "--registry", &node.text("none")]).exits(2);

    let json = node.crm(&["policy", "get", "--output", "json"]).exits(0).json();
    assert_eq!((&json["policy_seq"], &json["policy"]), (&0.into(), &serde_json::Value::Null));
    let policy = br#"{"id":"\u001b[2J"}"#.to_vec();
    let stored = GetPolicyResponse { policy_seq: 3, height: 9, policy, ..Default::default() };
    node.told.set(|script| script.glass.stored = stored);
    let json = node.crm(&["policy", "get", "--sequence", "3", "--output", "json"]).exits(0).json();
    assert_eq!((&json["policy"]["id"], &json["registry"]), (&"\u{1b}[2J".into(), &serde_json::Value::Null));
    let run = node.crm(&["policy", "get"]).exits(0);
    assert!(run.out.contains("height 9") && !run.out.contains('\x1b'), "{run:?}");
    node.crm(&["policy", "get", "--sequence", "4"]).exits(6);
    node.crm(&["policy", "get", "--sequence", "0"]).exits(2);
}

#[test]
fn items_are_listed_over_all_pages_and_closed_with_words() {
    let node = Node::start();
    let run = node.crm(&["reviews", "list"]).exits(0);
    assert!(run.out.starts_with("0 items\n"), "{run:?}");
    node.told.set(|script| script.glass.items = 5);
    let json = node.crm(&["reviews", "list", "--output", "json"]).exits(0).json();
    assert_eq!((json["reviews"].as_array().unwrap().len(), &json["more"]), (5, &false.into()));
    let json = node.crm(&["reviews", "list", "--all", "--limit", "3", "--output", "json"]).exits(0).json();
    assert_eq!((json["reviews"].as_array().unwrap().len(), &json["more"]), (3, &true.into()));
    assert_eq!(json["reviews"][2]["closed"]["by"], "spiffe://x");
    let run = node.crm(&["reviews", "list"]).exits(0);
    assert!(run.out.contains("reason 4") && run.out.contains("not in the ledger yet"), "{run:?}");
    assert!(!run.out.contains('\x1b'), "{run:?}");

    let id = "01".repeat(32);
    node.crm(&["reviews", "close", &id, "--note", "justified"]).exits(0);
    let closed = node.told.0.lock().unwrap().glass.closed.take().unwrap();
    assert_eq!((closed.review_id, closed.note.as_str()), (vec![1; 32], "justified"));
    node.crm(&["reviews", "close", "01", "--note", "justified"]).exits(2);
    node.crm(&["reviews", "close", &id, "--note", " "]).exits(2);
    node.crm(&["reviews", "close", &id]).exits(2);
}

#[test]
fn notices_come_to_the_wallet_and_to_the_portal() {
    let node = Node::start();
    node.told.set(|script| script.glass.items = 5);
    let (wallet, handle) = (node.text("wallet"), [3u8; 32]);
    assent(&["wallet", "create", "--out", &wallet, "--chain-id", CHAIN]).exits(0);
    assent(&["wallet", "add", &wallet, "--custodian", "cedar", "--handle", &hex::encode(handle)]).exits(0);
    let shown = assent(&["wallet", "show", &wallet, "--custodian", "cedar"]).exits(0).out;
    let mut key = [0; 32];
    hex::decode_to_slice(shown.trim(), &mut key).unwrap();
    let ca = node.text("birch/tls/ca.pem");
    let at = ["notices", "--custodian", "cedar", "--node", &node.url, "--ca", &ca];
    let run = assent(&[&at[..], &["--wallet", &wallet]].concat()).exits(0);
    assert!(run.out.starts_with("5 notices\n") && run.out.contains("unless you cancel it"), "{run:?}");
    assert!(run.out.contains("reason 4") && !run.out.contains('\x1b'), "{run:?}");
    // A fresh proof for each page, by the wallet's key.
    let proofs = std::mem::take(&mut node.told.0.lock().unwrap().glass.proofs);
    assert_eq!(proofs.len(), 3);
    let mut nonces = std::collections::BTreeSet::new();
    for proof in proofs {
        let parts: [&[u8]; 5] =
            [b"ListNotices", b"cedar", &handle, &proof.nonce, &proof.time_ms.to_be_bytes()];
        let message = framed(Context::PatientRequest, CHAIN, &parts);
        assert!(verify(&key, &message, proof.signature.as_slice().try_into().unwrap()));
        assert!(nonces.insert(proof.nonce));
    }
    let name = ["--identifier", "urn:x:mrn|17", "--birth-date", "2000-02-29"];
    let json = node
        .crm(&[&["notices", "--custodian", "cedar", "--limit", "2", "--output", "json"], &name[..]].concat())
        .exits(0)
        .json();
    assert_eq!((json["notices"].as_array().unwrap().len(), &json["more"]), (2, &true.into()));
    assert_eq!(json["notices"][0]["kind"], "KEY_REPLACEMENT");
    let named = node.told.0.lock().unwrap().glass.named.take().unwrap();
    assert_eq!((named.custodian.as_str(), named.identifier_value.as_str()), ("cedar", "17"));
    // Neither, both, half, or without a certificate.
    assent(&at).exits(2);
    assent(&[&at[..], &["--wallet", &wallet], &name].concat()).exits(2);
    assent(&[&at[..], &name[..2]].concat()).exits(2);
    assent(&[&at[..], &name].concat()).exits(2);
}
