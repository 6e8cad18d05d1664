//! Whole nodes: pruned everywhere, one wiped, joined from a snapshot and the tail; folders that are not for this node.

use std::time::{Duration, Instant};

use assent_node::chain::store::FORMAT;
use assent_proto::ledger::v1::{Block, Header, PrunedBlock};
use assent_proto::v1::audit_service_client::AuditServiceClient;
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::{GetBlockRequest, GetStatusRequest};
use prost::Message;
use rocksdb::{Options, DB};

use super::records;
use crate::kill::{set_policy, spawn};
use crate::net::Net;
use crate::patient::reason;

pub async fn height(net: &Net, i: usize) -> u64 {
    let mut client = NodeServiceClient::new(net.client(i, "operator"));
    client.get_status(GetStatusRequest {}).await.unwrap().into_inner().answer.unwrap().height
}

/// The first whole height, as the metrics have it.
pub fn whole_from(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("assent_whole_from_height "));
    line.map_or(0, |n| n.parse().unwrap())
}

/// Headers of an export, and how many of its blocks are pruned.
fn exported(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let records = records(&bytes[8..]);
    let header = |(kind, payload): &(u8, Vec<u8>)| match kind {
        b'B' => Some(Block::decode(payload.as_slice()).unwrap().header),
        b'P' => {
            let block = PrunedBlock::decode(payload.as_slice()).unwrap();
            assert!(block.leaf_hashes.iter().all(|hash| hash.len() == 32));
            Some(block.header)
        }
        _ => None,
    };
    (records.iter().filter_map(header).collect(), records.iter().filter(|(kind, _)| *kind == b'P').count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pruned_everywhere_a_wiped_node_joins_from_a_snapshot_and_the_tail() {
    let net = Net::new(4);
    let begin = Instant::now();
    let mut processes = Vec::new();
    for i in 0..4 {
        net.configure(
            i,
            "heartbeat_seconds",
            "keep_blocks = 100\nsnapshot_lag_heights = 10\nheartbeat_seconds",
        );
        processes.push(Some(spawn(&net.members[i].dir, None)));
    }
    for i in 0..4 {
        net.ready(i).await;
    }
    let (cedar, elm) = (net.index("cedar"), net.index("elm"));
    for n in 1..=150 {
        assert_eq!(set_policy(&net, cedar, n).await.unwrap(), n);
    }
    drop(processes[elm].take());
    std::fs::remove_dir_all(net.members[elm].dir.join("data")).unwrap();
    for n in 151..=170 {
        assert_eq!(set_policy(&net, cedar, n).await.unwrap(), n);
    }
    // Younger ledgers are not thought to be far behind.
    tokio::time::sleep(Duration::from_secs(21).saturating_sub(begin.elapsed())).await;
    for i in 0..3 {
        assert!(whole_from(&net.http(i, "/metrics").await) > 50);
    }
    let decided = height(&net, cedar).await;
    processes[elm] = Some(spawn(&net.members[elm].dir, None));
    net.ready(elm).await;
    assert!(height(&net, elm).await >= decided);
    let joined_at = whole_from(&net.http(elm, "/metrics").await);
    assert!(joined_at > 100 && joined_at <= height(&net, elm).await + 1, "{joined_at}");

    // It goes on, also with its own writes, and says what it has.
    assert_eq!(set_policy(&net, elm, 1).await.unwrap(), 1);
    let export = net.export(elm).await;
    let (headers, pruned) = exported(&export);
    assert!(pruned as u64 >= joined_at - 1);
    let (others, pruned) = exported(&net.export(cedar).await);
    assert!(pruned > 50);
    let common = headers.len().min(others.len());
    assert!(common as u64 >= decided && headers[..common] == others[..common]);
    for (height, header) in (1..).zip(&headers) {
        assert_eq!(Header::decode(header.as_slice()).unwrap().height, height);
    }
    let mut client = AuditServiceClient::new(net.client(elm, "auditor"));
    let refused = client.get_block(GetBlockRequest { height: 5 }).await.unwrap_err();
    assert_eq!(reason(&refused), "PRUNED", "{refused:?}");
}

/// Every file but what RocksDB logs, with its content.
fn files(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_another_chain_or_a_later_version_is_left_alone() {
    let (mut net, mut other) = (Net::started(1).await, Net::started(1).await);
    net.stop(0).await.unwrap();
    other.stop(0).await.unwrap();
    let ledger = net.members[0].dir.join("data/ledger");

    // Of another chain.
    let kept = net.members[0].dir.join("kept");
    std::fs::rename(&ledger, &kept).unwrap();
    std::fs::rename(other.members[0].dir.join("data/ledger"), &ledger).unwrap();
    let before = files(&ledger);
    let stop = net.try_start(0).await.err().unwrap();
    assert!(stop.exit_code() == 2 && stop.to_string().contains("holds another chain"), "{stop}");
    assert_eq!(files(&ledger), before);

    // Of a later version.
    std::fs::remove_dir_all(&ledger).unwrap();
    std::fs::rename(&kept, &ledger).unwrap();
    {
        let options = Options::default();
        let families = DB::list_cf(&options, &ledger).unwrap();
        let db = DB::open_cf(&options, &ledger, families).unwrap();
        let meta = db.cf_handle("meta").unwrap();
        assert_eq!(db.get_cf(meta, "format").unwrap().unwrap(), FORMAT.to_be_bytes());
        db.put_cf(meta, "format", (FORMAT + 1).to_be_bytes()).unwrap();
    }
    let before = files(&ledger);
    let stop = net.try_start(0).await.err().unwrap();
    let says = format!("is of format {}, this assentd knows up to {FORMAT}", FORMAT + 1);
    assert!(stop.exit_code() == 2 && stop.to_string().contains(&says), "{stop}");
    assert_eq!(files(&ledger), before);
}
