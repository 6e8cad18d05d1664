//! Four nodes in one process: the whole story through gRPC.

use assent_ledger::receipts::{verify_history, VerifiedHistory};
use prost::Message;
use tonic::Code;

use crate::net::Net;
use crate::patient::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn consent_check_release_withdraw_history() {
    let mut net = Net::started(4).await;
    let (birch, cedar, dogwood) = (net.index("birch"), net.index("cedar"), net.index("dogwood"));
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;

    // PERMIT for TREAT; for HMARKT and for nobody one and the same answer.
    let permit = check(net.client(birch, "crm"), "mrn-1", "TREAT").await.unwrap();
    assert_eq!((permit.outcome(), permit.may_be_incomplete), (assent_proto::v1::Outcome::Permit, true));
    let denied = check(net.client(birch, "crm"), "mrn-1", "HMARKT").await.unwrap_err();
    let unknown = check(net.client(birch, "crm"), "mrn-9", "TREAT").await.unwrap_err();
    assert_eq!(shape(&denied), shape(&unknown));
    assert_eq!((denied.code(), reason(&denied).as_str()), (Code::PermissionDenied, "NOT_RELEASED"));
    assert_eq!(error_infos(&denied), 1);

    // The permitted resources, byte for byte, in proven order; the psychiatric one is not there.
    let bundle = request(net.client(birch, "crm"), "r-1", "mrn-1").await.unwrap();
    let mut expected = records("Patient/mrn-1");
    let withheld = expected.pop().unwrap();
    let mut received = bundle.resources.clone();
    received.sort();
    expected.sort();
    assert_eq!(received, expected);
    assert!(!received.contains(&withheld));
    let access = verified(&net, &bundle);
    assert_eq!((access.request.purpose.as_str(), access.access_seq), ("TREAT", 0));
    // Which consent and rule permitted it is the custodian's, the patient's and the auditor's, not the recipient's.
    assert!(!bundle.encode_to_vec().windows(7).any(|w| w == b"c-mrn-1"));
    // A retry of the request id is the same release, and records nothing new.
    let again = request(net.client(birch, "crm"), "r-1", "mrn-1").await.unwrap();
    assert_eq!(again, bundle);

    // Withdrawn through Dogwood's node: nothing more comes out of Cedar's.
    withdraw(net.client_with(dogwood, None), "w-1", &handle, 0).await.unwrap();
    for _ in 0..100 {
        if check(net.client(birch, "crm"), "mrn-1", "TREAT").await.is_err() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let refused = request(net.client(birch, "crm"), "r-2", "mrn-1").await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_RELEASED");
    // Replayed, it is refused; with the same request id it is the same withdrawal.
    withdraw(net.client_with(dogwood, None), "w-1", &handle, 0).await.unwrap();
    let replayed = withdraw(net.client_with(dogwood, None), "w-2", &handle, 0).await.unwrap_err();
    assert_eq!(reason(&replayed), "STALE_WITHDRAW_SEQUENCE");

    // All n of n accesses, proven.
    let history = history(net.client(cedar, "portal"), "mrn-1").await.unwrap();
    let VerifiedHistory { slot, accesses, .. } = verify_history(&trust(&net), &history).unwrap();
    assert_eq!((slot.access_seq, slot.frozen, accesses.len()), (1, true, 1));
    assert_eq!(accesses[0].request.actor, "Practitioner/ada");
    for i in 0..4 {
        net.stop(i).await.unwrap();
    }
    // FAULTS.md S6: what names the patient lies nowhere in clear, in no store and no log of any node.
    let files = net.files();
    assert!(files.len() > 40, "{} files", files.len());
    for (path, bytes) in files {
        for canary in ["mrn-1", "Patient/", "phq9", "Practitioner/ada", "1980-02-03"] {
            let found = bytes.windows(canary.len()).any(|w| w == canary.as_bytes());
            assert!(!found, "{canary} stands in {}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_quorum_writes_fail_as_unknown_and_permits_stop_within_max_staleness() {
    let mut net = Net::started(4).await;
    let (birch, cedar) = (net.index("birch"), net.index("cedar"));
    enrolled(&net, "mrn-1", "2030-12-31").await;
    check(net.client(birch, "crm"), "mrn-1", "TREAT").await.unwrap();
    for id in ["dogwood", "elm"] {
        net.stop(net.index(id)).await.unwrap();
    }
    let cut = std::time::Instant::now();
    // Cedar can't commit the access, so nothing leaves.
    let refused = request(net.client(birch, "crm"), "r-1", "mrn-1").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    // max_staleness is 10 s here.
    tokio::time::sleep(std::time::Duration::from_secs(12).saturating_sub(cut.elapsed())).await;
    let stale = check(net.client(birch, "crm"), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Unavailable, "NOT_FRESH"));
    // Two come back: the ledger goes on, and so do permits.
    for id in ["dogwood", "elm"] {
        net.start(net.index(id)).await;
    }
    net.ready(birch).await;
    net.ready(cedar).await;
    let bundle = request(net.client(birch, "crm"), "r-1", "mrn-1").await.unwrap();
    assert_eq!(bundle.resources.len(), 2);
    for i in 0..4 {
        net.stop(i).await.unwrap();
    }
}
