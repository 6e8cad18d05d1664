//! Certificates that are replaced, end or are revoked while a node runs.

use std::time::{Duration, Instant};

use assent_node::certificates::fingerprint;
use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::bad_input::identity;
use crate::grpc::is;
use crate::limits::{figure, tls};
use crate::net::{leaf, Net, CHAIN};

/// Files are looked at every two seconds, and twice.
const TAKEN_WITHIN: Duration = Duration::from_secs(8);

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// The certificate that a new connection gets.
async fn served(net: &Net) -> CertificateDer<'static> {
    tls(net, None).await.get_ref().1.peer_certificates().unwrap()[0].clone()
}

fn put(net: &Net, (certificate, key): &(String, String)) {
    std::fs::write(net.members[0].dir.join("tls/node.pem"), certificate).unwrap();
    std::fs::write(net.members[0].dir.join("tls/node.key"), key).unwrap();
}

fn pair(net: &Net, days: i64) -> (String, String) {
    leaf(&net.members[0].ca, &format!("spiffe://{CHAIN}/org/cedar/node/cedar"), true, days)
}

async fn until<F: std::future::Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < TAKEN_WITHIN, "not within {TAKEN_WITHIN:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn status(channel: &Channel) -> Result<GetStatusResponse, Status> {
    NodeServiceClient::new(channel.clone()).get_status(GetStatusRequest {}).await.map(|a| a.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_certificate_is_served_without_a_restart_and_a_wrong_one_is_kept_out() {
    let net = Net::started(1).await;
    let refused = || figure(&net, "assent_certificate_refused{which=\"node\"}");
    let open = net.client(0, "crm");
    status(&open).await.unwrap();
    let connections = figure(&net, "assent_grpc_connections").await;
    let first = served(&net).await;
    let next = pair(&net, 400);
    put(&net, &next);
    until("the new one is served", || async { served(&net).await == der(&next.0) }).await;
    assert_ne!(der(&next.0), first);
    // Connections that were open then go on.
    status(&open).await.unwrap();
    assert!(figure(&net, "assent_grpc_connections").await <= connections + 1.0);

    let stranger = Net::new(1);
    for bad in [pair(&net, -1), pair(&stranger, 400), (pair(&net, 400).0, next.1.clone())] {
        put(&net, &bad);
        until("it is refused", || async { refused().await == 1.0 }).await;
        assert_eq!(served(&net).await, der(&next.0));
        put(&net, &next);
        until("the good one is back", || async { refused().await == 0.0 }).await;
    }
    // At once, when the operator says so.
    let last = pair(&net, 500);
    put(&net, &last);
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
    let began = Instant::now();
    until("SIGHUP", || async { served(&net).await == der(&last.0) }).await;
    assert!(began.elapsed() < TAKEN_WITHIN, "{:?}", began.elapsed());
    status(&open).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ends_are_in_metrics_and_status() {
    const DAY: f64 = 86_400.0;
    let net = Net::new(1);
    put(&net, &pair(&net, 20));
    let mut net = net;
    net.start(0).await;
    net.ready(0).await;
    let soon = leaf(&net.members[0].ca, &format!("spiffe://{CHAIN}/org/cedar/crm/soon"), false, 5);
    let answer = status(&net.client_with(0, Some(soon))).await.unwrap();
    let days = |which: &str| {
        let end = answer.certificate_ends.iter().find(|end| end.which == which).unwrap();
        (end.end_ms.saturating_sub(crate::grpc::now_ms())) as f64 / 1000.0 / DAY
    };
    let near = |found: f64, days: f64| (found - days).abs() < 0.01;
    assert!(near(days("node"), 20.0) && near(days("client"), 5.0) && days("authority") > 365.0);
    for (which, days) in [("node", 20.0), ("client", 5.0)] {
        let seconds = figure(&net, &format!("assent_certificate_expires_seconds{{which=\"{which}\"}}")).await;
        assert!(near(seconds / DAY, days), "{which}: {seconds}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_revoked_client_is_refused_by_every_method_also_on_open_connections() {
    let mut net = Net::started(1).await;
    let list = net.members[0].dir.join("tls/revoked");
    let (lost, kept) = (identity(&net, "portal", "lost"), identity(&net, "portal", "kept"));
    let print = hex::encode(fingerprint(&der(&lost.0)));
    let [lost, kept] = [lost, kept].map(|identity| net.client_with(0, Some(identity)));
    status(&lost).await.unwrap();
    let request = WatchConsentsRequest { heartbeat_ms: 1_000, ..Default::default() };
    let mut watch =
        ConsentServiceClient::new(lost.clone()).watch_consents(request).await.unwrap().into_inner();
    watch.message().await.unwrap();

    std::fs::write(&list, format!("# lost with a notebook\n{print}\n")).unwrap();
    until("it is refused", || async { status(&lost).await.is_err() }).await;
    is(&status(&lost).await.unwrap_err(), Code::Unauthenticated, "CERTIFICATE_REVOKED");
    let error =
        PatientServiceClient::new(lost.clone()).get_slot(GetSlotRequest::default()).await.unwrap_err();
    is(&error, Code::Unauthenticated, "CERTIFICATE_REVOKED");
    let error = crate::patient::withdraw(lost.clone(), "w-1", &[5; 32], 0).await.unwrap_err();
    is(&error, Code::Unauthenticated, "CERTIFICATE_REVOKED");
    let ended = async {
        loop {
            if let Err(status) = watch.message().await {
                break status;
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(5), ended).await.expect("the watch goes on");
    is(&ended, Code::Unauthenticated, "CERTIFICATE_REVOKED");
    status(&kept).await.unwrap();

    // A line that nobody understands: all of the old list counts, none of the new.
    std::fs::write(&list, "crm-frontdesk\n").unwrap();
    let refused = || figure(&net, "assent_certificate_refused{which=\"revoked\"}");
    until("the list is refused", || async { refused().await == 1.0 }).await;
    assert!(status(&lost).await.is_err() && status(&kept).await.is_ok());
    // At the start there is no old one.
    net.stop(0).await.unwrap();
    let stop = net.try_start(0).await.err().expect("it starts with a malformed list");
    assert_eq!(stop.exit_code(), 2);
    assert!(stop.to_string().contains("tls/revoked: line 1 is neither"), "{stop}");
    std::fs::write(&list, "").unwrap();
    net.start(0).await;
    net.ready(0).await;
    status(&lost).await.unwrap();
}
