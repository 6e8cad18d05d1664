//! Check, batch, cohort and request say the same of the same patients, by the custodian's own node and by another's.

use std::time::{Duration, Instant};

use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::exchange_service_client::ExchangeServiceClient;
use assent_proto::v1::*;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::crowd::*;
use crate::net::Net;
use crate::patient::*;

fn batch_query(value: &str, purpose: &str) -> BatchQuery {
    let Query { patient, purpose, actor, action, resource_types, .. } = query(value, purpose);
    BatchQuery { patient, purpose, actor, action, resource_types }
}

async fn batch_of(
    channel: Channel,
    request: BatchCheckConsentRequest,
) -> Result<BatchCheckConsentResponse, Status> {
    Ok(DecisionServiceClient::new(channel).batch_check_consent(request).await?.into_inner())
}

async fn batch(
    channel: Channel,
    values: &[String],
    purpose: &str,
    omit_decisions: bool,
) -> Vec<BatchVerdict> {
    let queries = values.iter().map(|value| batch_query(value, purpose)).collect();
    let request = BatchCheckConsentRequest { queries, consistency: None, omit_decisions };
    batch_of(channel, request).await.unwrap().verdicts
}

async fn checked(channel: Channel, value: &str, purpose: &str) -> Verdict {
    match check(channel, value, purpose).await {
        Ok(permit) if permit.outcome() == Outcome::Permit => Verdict::Permit,
        Ok(other) => panic!("{other:?}"),
        Err(status) if reason(&status) == "NOT_RELEASED" => Verdict::NotReleased,
        Err(status) => panic!("{status:?}"),
    }
}

async fn requested(channel: Channel, value: &str, purpose: &str) -> Verdict {
    let request = RequestRecordsRequest {
        request_id: format!("{value}-{purpose}"),
        query: Some(query(value, purpose)),
        ..Default::default()
    };
    match ExchangeServiceClient::new(channel).request_records(request).await {
        Ok(_) => Verdict::Permit,
        Err(status) if reason(&status) == "NOT_RELEASED" => Verdict::NotReleased,
        Err(status) => panic!("{status:?}"),
    }
}

/// Sixty: permitted, denied, unknown, opted out of research, frozen. With their verdicts on TREAT and HRESCH.
async fn sixty(net: &Net) -> Vec<(String, Verdict, Verdict)> {
    let (yes, no) = (Verdict::Permit, Verdict::NotReleased);
    let (mut patients, mut expected) = (Vec::new(), Vec::new());
    for n in 0..60 {
        let value = format!("p-{n}");
        let (consent, verdicts) = match n % 5 {
            0 => (permitting(&value), (yes, yes)),
            1 => (for_others(&value), (no, no)),
            2 => (Vec::new(), (no, no)),
            3 => (opted_out(&value), (yes, no)),
            _ => (permitting(&value), (no, no)),
        };
        if n % 5 != 2 {
            patients.push((value.clone(), consent));
        }
        expected.push((value, verdicts.0, verdicts.1));
    }
    let handles = registered(net, &patients).await;
    let cedar = net.index("cedar");
    for ((value, _), handle) in patients.iter().zip(&handles) {
        if value[2..].parse::<usize>().unwrap() % 5 == 4 {
            withdraw(net.client_with(cedar, None), &format!("w-{value}"), handle, 0).await.unwrap();
        }
    }
    expected
}

/// Waits until a node has everything that another one has.
async fn caught_up(net: &Net, i: usize, with: usize) {
    use assent_proto::v1::node_service_client::NodeServiceClient;
    let height = async |i| {
        let mut status = NodeServiceClient::new(net.client(i, "operator"));
        status.get_status(GetStatusRequest {}).await.unwrap().into_inner().answer.unwrap().height
    };
    let wanted = height(with).await;
    for _ in 0..1000 {
        if height(i).await >= wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no height {wanted} within 10 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_paths_agree_on_sixty_patients_at_home_and_elsewhere() {
    let net = Net::started(4).await;
    let expected = sixty(&net).await;
    let values: Vec<String> = expected.iter().map(|(value, ..)| value.clone()).collect();
    for node in ["cedar", "birch"] {
        let i = net.index(node);
        caught_up(&net, i, net.index("cedar")).await;
        let crm = net.client(i, "crm");
        for purpose in ["TREAT", "HRESCH"] {
            let wanted: Vec<Verdict> = expected
                .iter()
                .map(|(_, treatment, research)| if purpose == "TREAT" { *treatment } else { *research })
                .collect();
            for omit in [true, false] {
                let found = batch(crm.clone(), &values, purpose, omit).await;
                let verdicts: Vec<Verdict> = found.iter().map(|v| v.verdict()).collect();
                assert_eq!(verdicts, wanted, "batch, {node}, {purpose}");
                for verdict in &found {
                    let signed = verdict.decision.as_ref().is_some_and(|d| !d.body.is_empty());
                    let is_permit = verdict.verdict() == Verdict::Permit;
                    assert_eq!(signed, is_permit && !omit, "{node}, {purpose}");
                    assert_eq!(verdict.not_after_ms > 0, is_permit);
                    // Denied, unknown and withdrawn are the same bytes.
                    assert!(is_permit || *verdict == BatchVerdict { verdict: 3, ..Default::default() });
                }
            }
            let (answers, failed) = cohort(crm.clone(), messages(purpose, &values, 7)).await;
            assert!(failed.is_none(), "{failed:?}");
            assert_eq!(answers.len(), 60usize.div_ceil(7));
            let verdicts: Vec<Verdict> = answers.iter().flat_map(|a| a.verdicts()).collect();
            assert_eq!(verdicts, wanted, "cohort, {node}, {purpose}");
            assert!(answers.iter().all(|a| a.answer.as_ref().unwrap().height > 0));
            for (n, value) in values.iter().enumerate() {
                assert_eq!(
                    checked(crm.clone(), value, purpose).await,
                    wanted[n],
                    "check, {node}, {purpose}, {n}"
                );
                if purpose == "TREAT" || n < 5 {
                    let found = requested(crm.clone(), value, purpose).await;
                    assert_eq!(found, wanted[n], "request, {node}, {purpose}, {n}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn time_does_not_tell_denied_from_unknown_and_all_permits_need_not_wait() {
    let net = Net::started(1).await;
    let patients: Vec<_> = (0..64)
        .map(|n| {
            (
                format!("p-{n}"),
                if n < 32 { permitting(&format!("p-{n}")) } else { for_others(&format!("p-{n}")) },
            )
        })
        .collect();
    registered(&net, &patients).await;
    let crm = net.client(0, "crm");
    let name = |from: usize, to: usize| (from..to).map(|n| format!("p-{n}")).collect::<Vec<_>>();
    for values in [name(32, 64), name(100, 132), name(16, 48)] {
        let begin = Instant::now();
        batch(crm.clone(), &values, "TREAT", true).await;
        assert!(begin.elapsed() >= Duration::from_millis(50), "{:?}", begin.elapsed());
        let begin = Instant::now();
        let (answers, _) = cohort(crm.clone(), messages("TREAT", &values, 1_024)).await;
        assert!(answers.len() == 1 && begin.elapsed() >= Duration::from_millis(50), "{:?}", begin.elapsed());
    }
    let permits = batch(crm.clone(), &name(0, 32), "TREAT", true).await;
    assert!(permits.iter().all(|v| v.verdict() == Verdict::Permit));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_malformed_batch_is_refused_whole_with_the_querys_index() {
    let net = Net::started(1).await;
    let crm = net.client(0, "crm");
    let refused = async |queries: Vec<BatchQuery>| {
        let request = BatchCheckConsentRequest { queries, ..Default::default() };
        let status = batch_of(crm.clone(), request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let info = status.get_details_error_info().unwrap();
        (info.reason, info.metadata.get("query").cloned().unwrap_or_default(), info.metadata["field"].clone())
    };
    let text =
        |reason: &str, index: &str, field: &str| (reason.to_owned(), index.to_owned(), field.to_owned());
    let good = batch_query("mrn-1", "TREAT");
    assert_eq!(refused(Vec::new()).await, text("MALFORMED_REQUEST", "", "queries"));
    assert_eq!(refused(vec![good.clone(); 257]).await, text("MALFORMED_REQUEST", "", "queries"));
    let second = |bad: BatchQuery| vec![good.clone(), bad];
    let none = BatchQuery { patient: None, ..good.clone() };
    assert_eq!(refused(second(none)).await, text("MALFORMED_REQUEST", "1", "query.patient"));
    let elsewhere = BatchQuery { patient: Some(patient("oak", "mrn-1")), ..good.clone() };
    assert_eq!(refused(second(elsewhere)).await, text("UNKNOWN_CUSTODIAN", "1", "query.patient.custodian"));
    let purpose = BatchQuery { purpose: "NONSENSE".into(), ..good.clone() };
    assert_eq!(refused(second(purpose)).await, text("BAD_QUERY", "1", "query"));
    let nobody = BatchQuery { actor: String::new(), ..good.clone() };
    assert_eq!(refused(second(nobody)).await, text("MALFORMED_REQUEST", "1", "query.actor"));
    let status = batch_of(net.client(0, "portal"), BatchCheckConsentRequest::default()).await.unwrap_err();
    assert_eq!(reason(&status), "WRONG_ROLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_custodian_that_is_down_is_unavailable_and_holds_nobody_else_up() {
    let mut net = Net::started(4).await;
    let (birch, cedar) = (net.index("birch"), net.index("cedar"));
    registered(&net, &[("p-1".into(), permitting("p-1")), ("p-2".into(), permitting("p-2"))]).await;
    caught_up(&net, birch, cedar).await;
    let crm = net.client(birch, "crm");
    assert_eq!(batch(crm.clone(), &["p-1".into()], "TREAT", false).await[0].verdict(), Verdict::Permit);
    net.stop(cedar).await.unwrap();
    let values: Vec<String> = (1..=200).map(|n| format!("p-{n}")).collect();
    let begin = Instant::now();
    let found = batch(crm.clone(), &values, "TREAT", false).await;
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    // What was decided before still counts.
    assert_eq!(found[0].verdict(), Verdict::Permit);
    assert!(found[1..].iter().all(|v| v.verdict() == Verdict::Unavailable));
    let own = BatchQuery { patient: Some(patient("birch", "p-1")), ..batch_query("p-1", "TREAT") };
    let queries = vec![batch_query("p-2", "TREAT"), own];
    let request = BatchCheckConsentRequest { queries, ..Default::default() };
    let found = batch_of(crm, request).await.unwrap().verdicts;
    assert_eq!((found[0].verdict(), found[1].verdict()), (Verdict::Unavailable, Verdict::NotReleased));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_caller_may_demand_how_new_the_state_is() {
    let net = Net::started(1).await;
    registered(&net, &[("p-1".into(), permitting("p-1"))]).await;
    let crm = net.client(0, "crm");
    let mut decisions = DecisionServiceClient::new(crm.clone());
    // A heartbeat comes every 2 s, so that a block is hardly ever from this very moment.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let too_stale = Some(Consistency { max_staleness_ms: 1, ..Default::default() });
    let ahead = Some(Consistency { min_height: 1_000_000, ..Default::default() });
    let fine = Some(Consistency { max_staleness_ms: 9_000, min_height: 1 });
    for (consistency, wanted) in [(too_stale, "TOO_STALE"), (ahead, "BEHIND_MIN_HEIGHT"), (fine, "")] {
        let mut reasons = Vec::new();
        let mut note = |what: &str, status: Option<Status>| {
            reasons.push((what.to_owned(), status.as_ref().map(reason).unwrap_or_default()));
        };
        for _ in 0..2 {
            let query = Some(query("p-1", "TREAT"));
            let ask = CheckConsentRequest { query, consistency, omit_decision: true };
            note("check", decisions.check_consent(ask).await.err());
        }
        let queries = vec![batch_query("p-1", "TREAT")];
        let ask = BatchCheckConsentRequest { queries, consistency, omit_decisions: true };
        note("batch", decisions.batch_check_consent(ask).await.err());
        let first = CheckCohortRequest {
            question: Some(CohortQuestion { consistency, ..question("TREAT") }),
            subjects: vec![cohort_subject("p-1")],
        };
        note("cohort", cohort(crm.clone(), vec![first]).await.1);
        let ask = RequestRecordsRequest {
            request_id: format!("r-{wanted}"),
            query: Some(query("p-1", "TREAT")),
            consistency,
            checkpoint_size: 0,
        };
        note("request", ExchangeServiceClient::new(crm.clone()).request_records(ask).await.err());
        for (what, found) in reasons {
            assert_eq!(found, wanted, "{what}");
        }
    }
}
