//! Damage that a client's call finds: the node is not ready from then on, and ends with 9, whoever asked.

use std::path::Path;
use std::time::Duration;

use assent_node::node::Running;
use assent_proto::v1::audit_service_client::AuditServiceClient;
use assent_proto::v1::GetBlockRequest;
use rocksdb::{IteratorMode, Options, DB};
use tonic::{Code, Status};

use crate::kill::set_policy;
use crate::net::Net;
use crate::patient::{check, enrolled, reason};

/// Opens a stopped node's store as it is.
pub fn opened(path: &Path) -> (DB, Vec<String>) {
    let families = DB::list_cf(&Options::default(), path).unwrap();
    for _ in 0..100 {
        match DB::open_cf(&Options::default(), path, &families) {
            Ok(db) => return (db, families),
            Err(error) if error.to_string().contains("LOCK") => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{} is still open after 5 s", path.display());
}

/// What the call was told, what the node says of itself right after it, and how it ends.
async fn ends_with_9(running: Running, told: Status) {
    assert_eq!((told.code(), reason(&told).as_str()), (Code::Unavailable, "NODE_FAILING"));
    let said = running.app.parts.freshness.stale().unwrap();
    assert!(said.starts_with("corrupt: corruption found: "), "{said}");
    let ended = tokio::time::timeout(Duration::from_secs(15), running.run(std::future::pending())).await;
    let stop = ended.expect("it ends by itself").unwrap_err();
    assert_eq!(stop.exit_code(), 9, "{stop}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_block_that_does_not_decode_ends_the_node_that_was_asked_for_it() {
    let mut net = Net::started(1).await;
    for n in 1..=3 {
        assert_eq!(set_policy(&net, 0, n).await.unwrap(), n);
    }
    net.stop(0).await.unwrap();
    let (db, _) = opened(&net.members[0].dir.join("data/ledger"));
    db.put_cf(db.cf_handle("blocks").unwrap(), 2u64.to_be_bytes(), [0xFF; 40]).unwrap();
    drop(db);
    let running = net.restarted(0).await;
    net.ready(0).await;
    let mut auditor = AuditServiceClient::new(net.client(0, "auditor"));
    auditor.get_block(GetBlockRequest { height: 1 }).await.unwrap();
    assert_eq!(running.app.parts.freshness.stale(), None, "what is whole is served");
    let told = auditor.get_block(GetBlockRequest { height: 2 }).await.unwrap_err();
    ends_with_9(running, told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_subject_that_does_not_open_ends_the_custodians_node() {
    let mut net = Net::started(1).await;
    enrolled(&net, "mrn-1", "2030-12-31").await;
    let told = check(net.client(0, "ehr"), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!(reason(&told), "NOT_RELEASED", "while it is whole, there is an answer");
    net.stop(0).await.unwrap();
    let (db, _) = opened(&net.members[0].dir.join("data/vault"));
    let rows: Vec<_> = db.iterator(IteratorMode::Start).map(Result::unwrap).collect();
    // Table 1: subjects.
    for (key, sealed) in rows.iter().filter(|(key, _)| key[0] == 1) {
        let mut damaged = sealed.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        db.put(key, damaged).unwrap();
    }
    drop(db);
    let running = net.restarted(0).await;
    net.ready(0).await;
    let told = check(net.client(0, "ehr"), "mrn-1", "TREAT").await.unwrap_err();
    for _ in 0..100 {
        if running.app.parts.freshness.stale().is_some() {
            break; // the vault's failure goes by way of a task
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ends_with_9(running, told).await;
}
