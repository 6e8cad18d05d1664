//! One node alone: the same ledger and API.

use assent_ledger::audit::verify_export;
use assent_proto::v1::policy_service_client::PolicyServiceClient;
use assent_proto::v1::SetPolicyRequest;
use tonic::Code;

use crate::net::Net;
use crate::patient::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_are_idempotent_and_audited() {
    let mut net = Net::started(1).await;
    enrolled(&net, "mrn-1", "2030-12-31").await;
    let registrar = net.client(0, "registrar");
    // The same request: the same answer, nothing new. Another body under the id: refused. Another id: exists.
    let first = create_subject(registrar.clone(), "s-2", "mrn-2", "Patient/mrn-2").await.unwrap();
    assert_eq!(create_subject(registrar.clone(), "s-2", "mrn-2", "Patient/mrn-2").await.unwrap(), first);
    let reused = create_subject(registrar.clone(), "s-2", "mrn-3", "Patient/mrn-3").await.unwrap_err();
    assert_eq!((reused.code(), reason(&reused).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    let exists = create_subject(registrar.clone(), "s-3", "mrn-2", "Patient/mrn-2").await.unwrap_err();
    assert_eq!(exists.code(), Code::AlreadyExists);

    // One request id from 100 tasks is one entry.
    let before = verify_export(&net.export(0).await, None, |_| {}).0.counts.entries;
    let tasks: Vec<_> = (0..100)
        .map(|_| tokio::spawn(create_subject(registrar.clone(), "s-100", "mrn-100", "Patient/mrn-100")))
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let bytes = net.export(0).await;
    let (verifier, outcome) = verify_export(&bytes, Some(net.genesis.hash), |_| {});
    assert_eq!(outcome, Ok(()));
    assert_eq!(verifier.counts.entries, before + 1);

    // The health record of a patient and their identifier are nowhere in the ledger.
    for canary in ["mrn-1", "phq9", "TREAT", "birch\u{0}"] {
        let found = bytes.windows(canary.len()).any(|w| w == canary.as_bytes());
        assert!(!found, "{canary} stands in the export");
    }

    // The same chain after a restart; the store syncs at least once a height.
    net.stop(0).await.unwrap();
    let running = net.restarted(0).await;
    let store = running.app.parts.store.clone();
    let (syncs, height) = (store.syncs(), store.tip().unwrap().height);
    assert!(height >= verifier.tip().unwrap().height);
    let mut policy = PolicyServiceClient::new(net.client(0, "officer"));
    for n in 0..5 {
        let json = format!(
            r#"{{"id":"p","version":"{n}","rules":[{{"effect":"DENY","purposes":["HMARKT"],"organizations":["Organization/x"]}}]}}"#
        );
        let request = SetPolicyRequest {
            request_id: format!("p-{n}"),
            policy: json.into_bytes(),
            ..Default::default()
        };
        let answer = policy.set_policy(request).await.unwrap().into_inner();
        assert_eq!(answer.policy_seq, n + 1);
    }
    let heights = store.tip().unwrap().height - height;
    assert!(heights >= 5);
    assert!(store.syncs() - syncs >= heights, "{} syncs for {heights} heights", store.syncs() - syncs);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    drop(stop);
    drop(store);
    running.run(async move { stopped.await.unwrap_or(()) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_expired_consent_permits_nothing_and_bad_input_is_named() {
    let net = Net::started(1).await;
    let reference = "Patient/mrn-1";
    create_subject(net.client(0, "registrar"), "s-1", "mrn-1", reference).await.unwrap();
    load(net.client(0, "ehr"), "l-1", records(reference)).await.unwrap();
    let expired = consent(reference, "old", "2026-01-31");
    import(net.client(0, "portal"), "i-1", "mrn-1", expired).await.unwrap();
    let refused = check(net.client(0, "crm"), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_RELEASED");

    let unregistered = load(net.client(0, "ehr"), "l-2", records("Patient/nobody")).await.unwrap_err();
    assert_eq!(reason(&unregistered), "SUBJECT_NOT_REGISTERED");
    let garbage = load(net.client(0, "ehr"), "l-3", vec![b"{".to_vec()]).await.unwrap_err();
    assert_eq!((garbage.code(), reason(&garbage).as_str()), (Code::InvalidArgument, "RESOURCE_REFUSED"));
    let other = consent("Patient/else", "c-2", "2030-12-31");
    let other = import(net.client(0, "portal"), "i-2", "mrn-1", other).await.unwrap_err();
    assert_eq!(reason(&other), "CONSENT_FOR_OTHER_SUBJECT");
    let unknown = import(net.client(0, "portal"), "i-3", "mrn-7", consent(reference, "c-3", "2030-12-31"))
        .await
        .unwrap_err();
    assert_eq!(reason(&unknown), "SUBJECT_NOT_FOUND");
    let text = String::from_utf8(consent(reference, "c-4", "2030-12-31")).unwrap();
    let extended = text.replacen(
        r#""type":"permit""#,
        r#""modifierExtension":[{"url":"urn:x","valueBoolean":true}],"type":"permit""#,
        1,
    );
    let extended = import(net.client(0, "portal"), "i-4", "mrn-1", extended.into_bytes()).await.unwrap_err();
    assert_eq!((extended.code(), reason(&extended).as_str()), (Code::InvalidArgument, "CONSENT_REFUSED"));
    let purpose = check(net.client(0, "crm"), "mrn-1", "NONSENSE").await.unwrap_err();
    assert_eq!(reason(&purpose), "BAD_QUERY");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn identity_comes_from_the_certificate() {
    use crate::net::{leaf, CHAIN};
    use assent_proto::v1::{node_service_client::NodeServiceClient, GetStatusRequest};
    let net = Net::started(1).await;
    let wrong_role = check(net.client(0, "ehr"), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!(reason(&wrong_role), "NOT_RELEASED", "ehr may check");
    let wrong_role = check(net.client(0, "registrar"), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!((wrong_role.code(), reason(&wrong_role).as_str()), (Code::PermissionDenied, "WRONG_ROLE"));
    let nobody = check(net.client_with(0, None), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!((nobody.code(), reason(&nobody).as_str()), (Code::Unauthenticated, "NO_CLIENT_CERTIFICATE"));
    // Cedar's authority signs for Birch: refused.
    let ca = &net.members[0].ca;
    let foreign = leaf(ca, &format!("spiffe://{CHAIN}/org/birch/crm/x"), false, 30);
    let foreign = check(net.client_with(0, Some(foreign)), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!(reason(&foreign), "CERTIFICATE_OF_OTHER_ORGANIZATION");
    let network = leaf(ca, "spiffe://elsewhere/org/cedar/crm/x", false, 30);
    let network = check(net.client_with(0, Some(network)), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!(reason(&network), "WRONG_NETWORK");
    // Expired, or of an authority that is not on the ledger: no connection at all.
    let uri = format!("spiffe://{CHAIN}/org/cedar/crm/x");
    let expired = leaf(ca, &uri, false, -1);
    let stranger = Net::new(1);
    let unknown = leaf(&stranger.members[0].ca, &uri, false, 30);
    for identity in [expired, unknown] {
        let mut client = NodeServiceClient::new(net.client_with(0, Some(identity)));
        let error = client.get_status(GetStatusRequest {}).await.unwrap_err();
        assert!(matches!(error.code(), Code::Unavailable | Code::Unknown | Code::Cancelled), "{error:?}");
        assert_eq!(error_infos(&error), 0, "the handshake fails, no service answers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_taken_port_and_a_broken_configuration_say_what_and_what_to_do() {
    let net = Net::started(1).await;
    let second = Net::new(1);
    let grpc = net.members[0].grpc;
    let path = second.members[0].dir.join("assentd.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let taken = text.replace(&format!("127.0.0.1:{}", second.members[0].grpc), &format!("127.0.0.1:{grpc}"));
    std::fs::write(&path, taken).unwrap();
    let stop = second.try_start(0).await.err().unwrap();
    assert_eq!(stop.exit_code(), 7);
    assert!(stop.to_string().contains(&grpc.to_string()), "{stop}");

    std::fs::write(&path, format!("colour = \"blue\"\n{text}")).unwrap();
    let error = assent_node::config::Config::read(&path).err().unwrap().to_string();
    assert!(error.contains("colour"), "{error}");
    std::fs::write(&path, &text).unwrap();
    let third = Net::new(1);
    std::fs::copy(net.members[0].dir.join("genesis.bin"), third.members[0].dir.join("genesis.bin")).unwrap();
    let stop = third.try_start(0).await.err().unwrap();
    assert_eq!((stop.exit_code(), stop.to_string().contains("keys/entry.pem")), (2, true), "{stop}");
    assert!(!third.members[0].dir.join("data/ledger").exists(), "nothing is made for another's genesis");
}
