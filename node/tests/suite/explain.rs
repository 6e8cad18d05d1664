//! ExplainDecision: the outcome that the recipient gets, why, and as of earlier heights.

use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::policy_service_client::PolicyServiceClient;
use assent_proto::v1::*;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::crowd::*;
use crate::net::Net;
use crate::patient::*;

fn ask(value: &str, purpose: &str) -> ExplainDecisionRequest {
    ExplainDecisionRequest {
        patient: Some(patient("cedar", value)),
        recipient: "cedar".into(),
        actor: "Practitioner/ada".into(),
        purpose: purpose.into(),
        ..Default::default()
    }
}

async fn explain(
    channel: Channel,
    request: ExplainDecisionRequest,
) -> Result<ExplainDecisionResponse, Status> {
    Ok(DecisionServiceClient::new(channel).explain_decision(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_says_the_outcome_the_rules_and_what_would_change_it() {
    let net = Net::started(4).await;
    let cedar = net.index("cedar");
    enrolled(&net, "mrn-1", "2030-12-31").await;
    let officer = net.client(cedar, "officer");
    let ask = |value, purpose| ExplainDecisionRequest { recipient: "birch".into(), ..ask(value, purpose) };
    let why = explain(officer.clone(), ask("mrn-1", "TREAT")).await.unwrap();
    assert_eq!((why.outcome.as_str(), why.algorithm.as_str(), why.tables.len()), ("PERMIT", "CDA-1", 32));
    assert_eq!((why.consent_seq, why.policy_seq, why.frozen), (2, 0, false));
    assert!(why.decided_height > 0 && why.decided_time_ms > 0);
    let of = |name: &str| why.resources.iter().find(|r| r.resource == name).unwrap().clone();
    let (ordinary, psychiatric) = (of("Observation/mrn-1-bp"), of("Observation/mrn-1-phq9"));
    assert_eq!((ordinary.outcome.as_str(), psychiatric.outcome.as_str()), ("PERMIT", "DENY"));
    assert_eq!(
        (&ordinary.decided_by[..], &psychiatric.decided_by[..]),
        (&["c-mrn-1/0".to_owned()][..], &["c-mrn-1/1".to_owned()][..])
    );
    assert_eq!(psychiatric.would_change[0], "without rule c-mrn-1/1 the outcome would be PERMIT");
    let tried =
        |r: &ResourceExplanation, rule: &str| r.tried.iter().find(|t| t.rule == rule).unwrap().clone();
    let rule = tried(&ordinary, "1");
    assert_eq!(
        (rule.effect.as_str(), rule.holds.as_str(), &rule.because[..]),
        ("DENY", "FALSE", &["data.labels".to_owned()][..])
    );
    assert_eq!(tried(&psychiatric, "1").holds, "TRUE");
    // Another purpose, another recipient: nobody's consent.
    for request in
        [ask("mrn-1", "HPAYMT"), ExplainDecisionRequest { recipient: "elm".into(), ..ask("mrn-1", "TREAT") }]
    {
        let why = explain(officer.clone(), request).await.unwrap();
        assert_eq!(why.outcome, "NO_CONSENT");
        let base = tried(&why.resources[0], "0");
        assert!(
            base.holds == "FALSE" && (base.because == ["purpose"] || base.because == ["recipient"]),
            "{base:?}"
        );
    }
    let typed = ExplainDecisionRequest { resource_types: vec!["Patient".into()], ..ask("mrn-1", "TREAT") };
    assert_eq!(explain(officer, typed).await.unwrap().resources.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_of_an_earlier_height_it_is_as_it_was_then() {
    let net = Net::started(1).await;
    registered(&net, &[("p-0".into(), permitting("p-0"))]).await;
    let before = status_height(&net).await;
    let handles = registered(&net, &[("p-1".into(), permitting("p-1"))]).await;
    let officer = net.client(0, "officer");
    let at = |height| ExplainDecisionRequest { height, ..ask("p-1", "TREAT") };
    let first = explain(officer.clone(), at(0)).await.unwrap();
    let replaced = import(net.client(0, "portal"), "i-1", "p-1", for_others("p-1")).await.unwrap();
    let replaced = replaced.answer.unwrap().height;
    let json = br#"{"id":"d","version":"1","rules":[{"effect":"PERMIT","purposes":["TREAT"]}]}"#;
    let policy = SetPolicyRequest { request_id: "p".into(), policy: json.to_vec(), ..Default::default() };
    let policy = PolicyServiceClient::new(net.client(0, "officer")).set_policy(policy).await.unwrap();
    let policy = policy.into_inner().answer.unwrap().height;
    let withdrawn = withdraw(net.client_with(0, None), "w", &handles[0], 0).await.unwrap();
    let last = status_height(&net).await;

    let mut was = Vec::new();
    for height in
        [first.decided_height, replaced - 1, replaced, policy - 1, policy, withdrawn - 1, withdrawn, last]
    {
        let why = explain(officer.clone(), at(height)).await.unwrap();
        assert_eq!(why.decided_height, height);
        was.push((why.outcome.clone(), why.consent_seq, why.policy_seq, why.frozen));
        assert!(why.answer.unwrap().height >= last);
    }
    let state = |outcome: &str, consent_seq, policy_seq, frozen| {
        (outcome.to_owned(), consent_seq, policy_seq, frozen)
    };
    assert_eq!(was[0], state("PERMIT", 1, 0, false));
    assert_eq!(was[1], state("PERMIT", 1, 0, false));
    assert_eq!(was[2], state("NO_CONSENT", 2, 0, false));
    assert_eq!(was[3], state("NO_CONSENT", 2, 0, false));
    assert_eq!(was[4], state("PERMIT", 2, 1, false));
    assert_eq!(was[5], state("PERMIT", 2, 1, false));
    assert_eq!(was[6], state("DENY", 3, 1, true));
    assert_eq!(was[7], state("DENY", 3, 1, true));
    let why = explain(officer.clone(), at(0)).await.unwrap();
    assert_eq!(
        (why.outcome.as_str(), &why.resources[0].decided_by[..]),
        ("DENY", &["hard-rule:frozen-slot".to_owned()][..])
    );
    assert_eq!(why.resources[0].would_change, ["had the patient not withdrawn, the outcome would be PERMIT"]);

    let refused = explain(officer.clone(), at(last + 1_000)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "HEIGHT_NOT_REACHED"));
    let refused = explain(officer, at(before)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "NO_SLOT_AT_HEIGHT"));
}

async fn status_height(net: &Net) -> u64 {
    use assent_proto::v1::node_service_client::NodeServiceClient;
    let mut status = NodeServiceClient::new(net.client(0, "operator"));
    status.get_status(GetStatusRequest {}).await.unwrap().into_inner().answer.unwrap().height
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_officers_about_own_patients_and_members() {
    let net = Net::started(1).await;
    registered(&net, &[("p-1".into(), permitting("p-1"))]).await;
    let refused = async |role: &str, request: ExplainDecisionRequest| {
        let status = explain(net.client(0, role), request).await.unwrap_err();
        (status.code(), reason(&status))
    };
    let good = ask("p-1", "TREAT");
    let text = |code: Code, reason: &str| (code, reason.to_owned());
    assert_eq!(refused("crm", good.clone()).await, text(Code::PermissionDenied, "WRONG_ROLE"));
    let foreign = ExplainDecisionRequest { patient: Some(patient("birch", "p-1")), ..good.clone() };
    assert_eq!(refused("officer", foreign).await, text(Code::FailedPrecondition, "FOREIGN_CUSTODIAN"));
    let unknown = ask("p-9", "TREAT");
    assert_eq!(refused("officer", unknown).await, text(Code::NotFound, "SUBJECT_NOT_FOUND"));
    let stranger = ExplainDecisionRequest { recipient: "oak".into(), ..good.clone() };
    assert_eq!(refused("officer", stranger).await, text(Code::InvalidArgument, "UNKNOWN_RECIPIENT"));
    let nobody = ExplainDecisionRequest { recipient: String::new(), ..good.clone() };
    assert_eq!(refused("officer", nobody).await, text(Code::InvalidArgument, "MALFORMED_REQUEST"));
    assert_eq!(refused("officer", ask("p-1", "NONSENSE")).await, text(Code::InvalidArgument, "BAD_QUERY"));
    let stale = Some(Consistency { min_height: 1_000_000, ..Default::default() });
    let ahead = ExplainDecisionRequest { consistency: stale, ..good };
    assert_eq!(refused("officer", ahead).await, text(Code::Unavailable, "BEHIND_MIN_HEIGHT"));
}
