//! Checks about another custodian, answered from its signed decision: while it stands and no longer, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use assent_node::chain::now_ms;
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::policy_service_client::PolicyServiceClient;
use assent_proto::v1::*;
use tonic::Code;

use crate::net::{leaf, Net, CHAIN};
use crate::patient::*;

async fn height(net: &Net, i: usize) -> u64 {
    let mut status = NodeServiceClient::new(net.client(i, "operator"));
    status.get_status(GetStatusRequest {}).await.unwrap().into_inner().answer.unwrap().height
}

/// Waits until a node's own ledger has a block.
async fn reached(net: &Net, i: usize, wanted: u64) {
    for _ in 0..1000 {
        if height(net, i).await >= wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} does not reach height {wanted} within 10 s", net.members[i].id);
}

/// In so many seconds, as FHIR writes it.
fn moment(seconds: i64) -> (u64, String) {
    let end = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    let end = end.replace_nanosecond(0).unwrap();
    let text = end.format(&time::format_description::well_known::Rfc3339).unwrap();
    (end.unix_timestamp() as u64 * 1000, text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_decision_answers_one_question_until_consent_or_policy_changes() {
    let net = Net::started(4).await;
    let (birch, cedar, dogwood) = (net.index("birch"), net.index("cedar"), net.index("dogwood"));
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    enrolled(&net, "mrn-2", "2030-12-31").await;
    // A decision on what this node's ledger has not yet is not answered from.
    reached(&net, birch, height(&net, cedar).await).await;
    let crm = net.client(birch, "crm");

    // A hundred at once: the custodian is asked once, and all get what it signed.
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let crm = crm.clone();
            tokio::spawn(async move { check(crm, "mrn-1", "TREAT").await })
        })
        .collect();
    let mut signed = BTreeSet::new();
    let mut asked = 0;
    for task in tasks {
        let permit = task.await.unwrap().unwrap();
        asked += usize::from(!permit.cached);
        signed.insert(permit.decision.unwrap().body);
    }
    assert_eq!((asked, signed.len()), (1, 1));
    let permit = check(crm.clone(), "mrn-1", "TREAT").await.unwrap();
    assert!(permit.cached && permit.may_be_incomplete && permit.outcome() == Outcome::Permit);
    assert!(signed.contains(&permit.decision.as_ref().unwrap().body));
    assert!(permit.decided_time_ms <= now_ms() && permit.decided_time_ms + 20_000 > now_ms());
    assert_eq!(permit.not_after_ms, permit.decided_time_ms + 3_600_000);

    // Another question, in whatever: not answered from this decision.
    let good = query("mrn-1", "TREAT");
    let about = |change: &dyn Fn(&mut Patient)| {
        let mut patient = good.patient.clone().unwrap();
        change(&mut patient);
        Query { patient: Some(patient), ..good.clone() }
    };
    for (what, other) in [
        ("purpose", Query { purpose: "HMARKT".into(), ..good.clone() }),
        ("types", Query { resource_types: vec!["Encounter".into()], ..good.clone() }),
        ("patient", about(&|p| p.identifier_value = "mrn-9".into())),
        ("birth date", about(&|p| p.birth_date = "1980-02-04".into())),
        ("system", about(&|p| p.identifier_system = "urn:test:other".into())),
    ] {
        for _ in 0..2 {
            let refused = check_query(crm.clone(), other.clone()).await.unwrap_err();
            assert_eq!(reason(&refused), "NOT_RELEASED", "{what}");
        }
    }
    for (what, other) in [
        ("action", Query { action: "disclose".into(), ..good.clone() }),
        ("actor", Query { actor: "Practitioner/eve".into(), ..good.clone() }),
        ("types", Query { resource_types: vec!["Observation".into()], ..good.clone() }),
        ("patient", query("mrn-2", "TREAT")),
    ] {
        let permit = check_query(crm.clone(), other.clone()).await.unwrap();
        assert!(!permit.cached && !signed.contains(&permit.decision.unwrap().body), "{what}");
        assert!(check_query(crm.clone(), other).await.unwrap().cached, "{what}");
    }
    // Another client of the same organization asks for itself.
    let uri = format!("spiffe://{CHAIN}/org/birch/crm/desk");
    let desk = net.client_with(birch, Some(leaf(&net.members[birch].ca, &uri, false, 30)));
    assert!(!check(desk, "mrn-1", "TREAT").await.unwrap().cached);

    // A record relabelled since: the check stands, the release judges anew and withholds.
    let relabelled = String::from_utf8(records("Patient/mrn-1")[2].clone()).unwrap().replace("-phq9", "-bp");
    assert_eq!(request(crm.clone(), "r-1", "mrn-1").await.unwrap().resources.len(), 2);
    load(net.client(cedar, "ehr"), "l-again", vec![relabelled.into_bytes()]).await.unwrap();
    assert!(check(crm.clone(), "mrn-1", "TREAT").await.unwrap().cached);
    let bundle = request(crm.clone(), "r-2", "mrn-1").await.unwrap();
    assert_eq!(bundle.resources, [records("Patient/mrn-1")[0].clone()]);

    // Another policy: both patients' decisions fall in its block.
    let json = r#"{"id":"p","version":"1","rules":[{"effect":"DENY","purposes":["HMARKT"]}]}"#;
    let message = SetPolicyRequest { request_id: "p-1".into(), policy: json.into(), ..Default::default() };
    let mut officer = PolicyServiceClient::new(net.client(cedar, "officer"));
    let height = officer.set_policy(message).await.unwrap().into_inner().answer.unwrap().height;
    reached(&net, birch, height).await;
    for patient in ["mrn-1", "mrn-2"] {
        let permit = check(crm.clone(), patient, "TREAT").await.unwrap();
        assert!(!permit.cached && permit.decided_time_ms > bundle_time(&net, &bundle), "{patient}");
    }
    // A kept decision answers a caller who has seen a later block: it stands there too.
    let now = check(crm.clone(), "mrn-1", "TREAT").await.unwrap();
    assert!(now.cached);
    let last = withdraw(net.client_with(dogwood, None), "w-1", &handle, 0).await.unwrap();
    reached(&net, birch, last).await;
    let consistency = Some(Consistency { min_height: last, ..Default::default() });
    let ask = CheckConsentRequest { query: Some(query("mrn-2", "TREAT")), consistency, omit_decision: false };
    let other = DecisionServiceClient::new(crm.clone()).check_consent(ask).await.unwrap().into_inner();
    assert!(other.cached && other.answer.unwrap().height >= last);
    // Withdrawn: from that block on nothing but the refusal.
    for _ in 0..3 {
        let refused = check(crm.clone(), "mrn-1", "TREAT").await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "NOT_RELEASED"));
    }
}

/// Block time of a bundle's access.
fn bundle_time(net: &Net, bundle: &assent_proto::ledger::v1::RecordBundle) -> u64 {
    verified(net, bundle).time_ms
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_the_custodian_down_it_answers_what_it_may_and_says_from_when() {
    let mut net = Net::started(4).await;
    let (birch, cedar) = (net.index("birch"), net.index("cedar"));
    enrolled(&net, "mrn-1", "2030-12-31").await;
    let (end_ms, until) = moment(8);
    enrolled(&net, "mrn-2", &until).await;
    reached(&net, birch, height(&net, cedar).await).await;
    let crm = net.client(birch, "crm");
    let asked = check(crm.clone(), "mrn-1", "TREAT").await.unwrap();
    let short = check(crm.clone(), "mrn-2", "TREAT").await.unwrap();
    assert!(!asked.cached && !short.cached);
    // FHIR's end is inclusive: the whole second still counts.
    assert_eq!(short.not_after_ms, end_ms + 1000);
    net.stop(cedar).await.unwrap();

    let down = check(crm.clone(), "mrn-2", "TREAT").await.unwrap();
    assert!(down.cached && down.decision == short.decision);
    let mut ended = None;
    while now_ms() < short.not_after_ms + 100 {
        match check(crm.clone(), "mrn-2", "TREAT").await {
            Ok(permit) => assert!(permit.cached && ended.is_none()),
            Err(refused) => {
                assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
                ended.get_or_insert(now_ms());
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Not one moment past its end, though no block may have come since.
    let ended = ended.expect("the decision outlived its end");
    assert!(ended + 1_500 > short.not_after_ms, "{} ms too early", short.not_after_ms - ended);
    let down = check(crm.clone(), "mrn-1", "TREAT").await.unwrap();
    assert!(down.cached && down.outcome() == Outcome::Permit && down.decision == asked.decision);
    assert_eq!(
        (down.decided_time_ms, down.not_after_ms),
        (asked.decided_time_ms, asked.decided_time_ms + 3_600_000)
    );
    assert!(down.answer.unwrap().time_ms > down.decided_time_ms);
    // What was not asked before, or is asked for another, nobody can say now.
    for (value, purpose) in [("mrn-1", "HMARKT"), ("mrn-9", "TREAT")] {
        let refused = check(crm.clone(), value, purpose).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "CUSTODIAN_UNREACHABLE"));
    }
    // Nothing of it is on disk: a restart forgets.
    net.stop(birch).await.unwrap();
    net.start(birch).await;
    net.ready(birch).await;
    let refused = check(net.client(birch, "crm"), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "CUSTODIAN_UNREACHABLE"));
}
