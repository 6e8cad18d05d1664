//! The policy slot with its registry: versions, and who counts as whom.

use std::time::Duration;

use assent_proto::v1::policy_service_client::PolicyServiceClient;
use assent_proto::v1::*;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::net::Net;
use crate::patient::*;

pub const POLICY: &str = r#"{"id":"p","version":1,"rules":[{"effect":"DENY","purposes":["HMARKT"]}]}"#;

pub async fn set_rules(
    channel: Channel,
    request_id: &str,
    policy: &str,
    registry: &str,
) -> Result<SetPolicyResponse, Status> {
    let request =
        SetPolicyRequest { request_id: request_id.into(), policy: policy.into(), registry: registry.into() };
    Ok(PolicyServiceClient::new(channel).set_policy(request).await?.into_inner())
}

async fn get_rules(channel: Channel, policy_seq: u64) -> Result<GetPolicyResponse, Status> {
    let request = GetPolicyRequest { policy_seq };
    Ok(PolicyServiceClient::new(channel).get_policy(request).await?.into_inner())
}

/// Group/icu with these members, as (organization, actor, valid).
pub fn icu(members: &[(&str, &str, &str)]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(organization, actor, valid)| {
            format!(r#"{{"organization":"{organization}","actor":"{actor}","valid":{{{valid}}}}}"#)
        })
        .collect();
    format!(r#"{{"groups":[{{"id":"Group/icu","members":[{}]}}]}}"#, members.join(","))
}

pub fn by(actor: &str, value: &str) -> Query {
    Query { actor: actor.into(), ..query(value, "TREAT") }
}

/// Waits until a node's own ledger is where another's is.
pub async fn caught_up(net: &Net, i: usize, height: u64) {
    use assent_proto::v1::node_service_client::NodeServiceClient;
    let mut status = NodeServiceClient::new(net.client(i, "operator"));
    for _ in 0..1000 {
        let answer = status.get_status(GetStatusRequest {}).await.unwrap().into_inner().answer.unwrap();
        if answer.height >= height {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} does not reach height {height} within 10 s", net.members[i].id);
}

/// A patient whose consent permits whom `recipient` names, as JSON.
async fn consenting_to(net: &Net, value: &str, recipient: &str) {
    let (cedar, reference) = (net.index("cedar"), format!("Patient/{value}"));
    create_subject(net.client(cedar, "registrar"), &format!("s-{value}"), value, &reference).await.unwrap();
    load(net.client(cedar, "ehr"), &format!("l-{value}"), records(&reference)).await.unwrap();
    let birch = r#"{"identifier":{"system":"urn:assent:organization","value":"birch"}}"#;
    let fhir = String::from_utf8(consent(&reference, &format!("c-{value}"), "2030-12-31")).unwrap();
    assert!(fhir.contains(birch));
    let fhir = fhir.replace(birch, recipient).into_bytes();
    import(net.client(cedar, "portal"), &format!("i-{value}"), value, fhir).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn versions_are_kept_and_bad_registries_are_named() {
    let net = Net::started(1).await;
    let officer = net.client(0, "officer");
    let none = get_rules(officer.clone(), 0).await.unwrap();
    assert_eq!((none.policy_seq, none.height, none.policy.len(), none.registry.len()), (0, 0, 0, 0));
    let registry = icu(&[("cedar", "Practitioner/grey", "")]);
    let first = set_rules(officer.clone(), "p-1", POLICY, &registry).await.unwrap();
    let other = POLICY.replace(r#""version":1"#, r#""version":2"#);
    let second = set_rules(officer.clone(), "p-2", &other, "").await.unwrap();
    assert_eq!((first.policy_seq, second.policy_seq), (1, 2));

    // The same request id: the same version; with another policy or another registry it is another request.
    let again = set_rules(officer.clone(), "p-1", POLICY, &registry).await.unwrap();
    assert_eq!(again.policy_seq, 1);
    for (policy, registry) in [(other.as_str(), registry.as_str()), (POLICY, "")] {
        let reused = set_rules(officer.clone(), "p-1", policy, registry).await.unwrap_err();
        assert_eq!((reused.code(), reason(&reused).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    }
    for (wanted, seq, policy, registry) in
        [(1, 1, POLICY, registry.as_str()), (2, 2, other.as_str(), ""), (0, 2, other.as_str(), "")]
    {
        let found = get_rules(officer.clone(), wanted).await.unwrap();
        assert_eq!(found.policy_seq, seq);
        assert_eq!(
            (found.policy.as_slice(), found.registry.as_slice()),
            (policy.as_bytes(), registry.as_bytes())
        );
        assert!(found.height > 0 && found.height <= found.answer.unwrap().height);
    }
    let missing = get_rules(officer.clone(), 3).await.unwrap_err();
    assert_eq!((missing.code(), reason(&missing).as_str()), (Code::NotFound, "POLICY_NOT_FOUND"));
    let wrong = get_rules(net.client(0, "crm"), 0).await.unwrap_err();
    assert_eq!(reason(&wrong), "WRONG_ROLE");

    for (registry, why) in [
        ("[]", ""),
        (r#"{"groups":[]}"#, "groups is an empty list"),
        (r#"{"colour":1}"#, "colour"),
        (r#"{"organizations":[{"id":"fir"}]}"#, "not an organization of this network"),
        (&icu(&[("fir", "Practitioner/grey", "")]), "not an organization of this network"),
        (&icu(&[("cedar", "grey", "")]), "groups[0].members[0].actor"),
    ] {
        let refused = set_rules(officer.clone(), "p-bad", POLICY, registry).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "REGISTRY_REFUSED"));
        assert!(refused.message().contains(why), "{why}: {}", refused.message());
    }
    let large = set_rules(officer.clone(), "p-bad", POLICY, &" ".repeat(128 << 10 | 1)).await.unwrap_err();
    assert_eq!(reason(&large), "MALFORMED_REQUEST");
    assert_eq!(get_rules(officer, 0).await.unwrap().policy_seq, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn groups_and_names_decide_by_the_registry() {
    let net = Net::started(4).await;
    let (birch, cedar, dogwood) = (net.index("birch"), net.index("cedar"), net.index("dogwood"));
    consenting_to(&net, "mrn-1", r#"{"reference":"Group/icu"}"#).await;
    consenting_to(&net, "mrn-2", r#"{"reference":"Organization/birch-hospital"}"#).await;
    let refused = |outcome: Result<CheckConsentResponse, Status>| {
        let status = outcome.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "NOT_RELEASED"));
    };
    // Without a registry nobody is known to belong anywhere.
    refused(check_query(net.client(birch, "crm"), by("Practitioner/grey", "mrn-1")).await);
    refused(check_query(net.client(birch, "crm"), by("Practitioner/grey", "mrn-2")).await);

    // A membership that ends soon; birch by a name of its own.
    let end = time::OffsetDateTime::now_utc() + time::Duration::seconds(12);
    let end = end.replace_nanosecond(0).unwrap();
    let until = end.format(&time::format_description::well_known::Rfc3339).unwrap();
    let end_ms = end.unix_timestamp() as u64 * 1000;
    let members = icu(&[
        ("birch", "Practitioner/grey", ""),
        ("birch", "Practitioner/locum", &format!(r#""end":"{until}""#)),
        ("elm", "Practitioner/eve", ""),
    ]);
    let named = r#"{"organizations":[{"id":"birch","references":["Organization/birch-hospital"]}],"#;
    let registry = members.replacen('{', named, 1);
    let set = set_rules(net.client(cedar, "officer"), "p-1", POLICY, &registry).await.unwrap();
    for i in [birch, dogwood] {
        caught_up(&net, i, set.answer.as_ref().unwrap().height).await;
    }
    let crm = net.client(birch, "crm");
    let grey = check_query(crm.clone(), by("Practitioner/grey", "mrn-1")).await.unwrap();
    assert_eq!(grey.not_after_ms, grey.decided_time_ms + 3_600_000);
    let locum = check_query(crm.clone(), by("Practitioner/locum", "mrn-1")).await.unwrap();
    assert_eq!(locum.not_after_ms, end_ms);
    // Somebody else; a member under another organization's name; the same name in another organization's mouth.
    refused(check_query(crm.clone(), by("Practitioner/ada", "mrn-1")).await);
    refused(check_query(crm.clone(), by("Practitioner/eve", "mrn-1")).await);
    refused(check_query(crm.clone(), by("Dr. Grey", "mrn-1")).await);
    refused(check_query(net.client(dogwood, "crm"), by("Practitioner/grey", "mrn-1")).await);
    check_query(crm.clone(), by("Practitioner/ada", "mrn-2")).await.unwrap();
    refused(check_query(net.client(dogwood, "crm"), by("Practitioner/ada", "mrn-2")).await);

    // The membership has ended, by block time: neither a kept decision nor a new one.
    tokio::time::sleep(Duration::from_millis(end_ms.saturating_sub(assent_node::chain::now_ms()) + 2500))
        .await;
    refused(check_query(crm.clone(), by("Practitioner/locum", "mrn-1")).await);
    // Another registry drops what was kept under the old one.
    assert!(check_query(crm.clone(), by("Practitioner/grey", "mrn-1")).await.unwrap().cached);
    let without = icu(&[("elm", "Practitioner/eve", "")]);
    let set = set_rules(net.client(cedar, "officer"), "p-2", POLICY, &without).await.unwrap();
    caught_up(&net, birch, set.answer.unwrap().height).await;
    refused(check_query(crm, by("Practitioner/grey", "mrn-1")).await);
}
