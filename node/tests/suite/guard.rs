//! The double-sign guard: a validator whose folder was emptied, put back or damaged signs nothing where it may have signed.

use std::path::Path;
use std::time::{Duration, Instant};

use assent_node::bft::metrics_text;
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::{GetStatusRequest, GetStatusResponse};

use crate::kill::{set_policy, spawn, Process};
use crate::net::Net;

pub const WAITS: &str = "not ready: waiting-may-have-voted: ";

pub async fn status(net: &Net, i: usize) -> GetStatusResponse {
    let mut client = NodeServiceClient::new(net.client(i, "operator"));
    client.get_status(GetStatusRequest {}).await.unwrap().into_inner()
}

pub async fn height(net: &Net, i: usize) -> u64 {
    status(net, i).await.answer.unwrap().height
}

/// The last height that `of` signed, as the others know it.
pub async fn last_signed(net: &Net, of: usize) -> u64 {
    let mut last = 0;
    for i in (0..4).filter(|i| *i != of) {
        let validators = status(net, i).await.validators;
        let signed = validators.iter().find(|v| v.organization == net.members[of].id);
        last = last.max(signed.unwrap().last_signed_height);
    }
    last
}

/// Writes until the network has made `blocks` more, each with a policy; returns the last number.
async fn write(net: &Net, i: usize, from: u64, blocks: u64) -> u64 {
    for n in from..from + blocks {
        assert_eq!(set_policy(net, i, n).await.unwrap(), n);
    }
    from + blocks
}

/// It takes part again: a certificate above `height` bears its signature.
async fn votes_above(net: &Net, elm: usize, height: u64, mut n: u64) -> u64 {
    for _ in 0..40 {
        if last_signed(net, elm).await > height {
            return n;
        }
        n = write(net, net.index("cedar"), n, 3).await;
    }
    panic!("elm does not vote again");
}

/// All nodes of this process, and all tests in it: none ever saw two votes of one validator. Bare engines, which may play with
/// liars, are named org-N.
pub fn no_double_vote() {
    let equivocations = metrics_text();
    let counts: Vec<&str> = equivocations
        .lines()
        .filter(|l| l.starts_with("malachitebft_core_consensus_equivocation"))
        .filter(|l| !l.contains("moniker=\"org-"))
        .collect();
    assert!(!counts.is_empty() && counts.iter().all(|line| line.ends_with(" 0")), "{counts:?}");
}

/// Three nodes of this process, and Elm's in one of its own, whose end leaves nobody behind in its folder.
async fn with_elm_apart() -> (Net, usize, Process) {
    let mut net = Net::new(4);
    let elm = net.index("elm");
    let process = spawn(&net.members[elm].dir, None);
    for i in (0..4).filter(|i| *i != elm) {
        assert!(net.members[i].dir.join("data/never-voted").exists());
        net.start(i).await;
    }
    (net, elm, process)
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false if path.is_file() => drop(std::fs::copy(&path, target).unwrap()),
            false => {} // the socket of a node that was killed
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wiped_validator_follows_until_two_blocks_on_and_then_votes() {
    let (net, elm, process) = with_elm_apart().await;
    let cedar = net.index("cedar");
    for i in 0..4 {
        net.ready(i).await;
        // Ready may come before its first round.
        let begin = Instant::now();
        while net.members[i].dir.join("data/never-voted").exists() {
            assert!(begin.elapsed() < Duration::from_secs(10), "it votes, and the marker says it never did");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
    let n = write(&net, cedar, 1, 10).await;
    let n = votes_above(&net, elm, 0, n).await;

    drop(process);
    std::fs::remove_dir_all(net.members[elm].dir.join("data")).unwrap();
    let decided = height(&net, cedar).await;
    let _process = spawn(&net.members[elm].dir, None);
    net.says(elm, WAITS, Duration::from_secs(5)).await;
    let said = status(&net, elm).await;
    assert!(!said.fresh && said.not_fresh_reason.starts_with("waiting-may-have-voted: "), "{said:?}");
    // It learns where the others are, and follows without a vote.
    net.says(elm, "follows without voting until block ", Duration::from_secs(20)).await;
    let said = net.readyz(elm).await;
    let until =
        said.split("until block ").nth(1).and_then(|rest| rest.split('\n').next()).map(str::parse::<u64>);
    assert!(until.as_ref().is_some_and(|until| until.as_ref().is_ok_and(|u| *u >= decided + 2)), "{said}");
    let before = last_signed(&net, elm).await;
    assert!(before <= decided + 1, "it voted at {before}, decided was {decided}");
    net.says(elm, "ready\n", Duration::from_secs(30)).await;
    net.ready(elm).await;
    let after = last_signed(&net, elm).await;
    assert!(after <= before || after > decided + 2, "it voted at {after}, decided was {decided}");
    votes_above(&net, elm, decided + 2, n).await;
    no_double_vote();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_old_copy_put_back_is_recognized_by_its_own_signature() {
    let (net, elm, process) = with_elm_apart().await;
    let cedar = net.index("cedar");
    net.ready(elm).await;
    let n = write(&net, cedar, 1, 5).await;
    drop(process);
    let (data, old) = (net.members[elm].dir.join("data"), net.members[elm].dir.join("old"));
    copy(&data, &old);
    let copied = height(&net, cedar).await;

    // A node that was away knows what it signed: it catches up, and then votes, without waiting for a block.
    let n = write(&net, cedar, n, 5).await;
    let process = spawn(&net.members[elm].dir, None);
    net.ready(elm).await;
    let n = votes_above(&net, elm, copied + 5, n).await;
    let n = write(&net, cedar, n, 40).await;

    drop(process);
    std::fs::remove_dir_all(&data).unwrap();
    copy(&old, &data);
    let (decided, before) = (height(&net, cedar).await, last_signed(&net, elm).await);
    assert!(before > copied + 5);
    let mut process = spawn(&net.members[elm].dir, None);
    net.says(elm, WAITS, Duration::from_secs(20)).await;
    let said = net.readyz(elm).await;
    assert!(said.contains("bears its signature"), "{said}");
    net.says(elm, "ready\n", Duration::from_secs(30)).await;
    net.ready(elm).await;
    let after = last_signed(&net, elm).await;
    assert!(after <= before || after > decided + 2, "it voted at {after}, decided was {decided}");
    votes_above(&net, elm, decided + 2, n).await;
    no_double_vote();

    // The ledger alone put back, or the log alone emptied: the two are not of one time.
    for (part, from_old) in [("ledger", true), ("consensus", false)] {
        drop(process);
        std::fs::remove_dir_all(data.join(part)).unwrap();
        if from_old {
            copy(&old.join(part), &data.join(part));
        }
        process = spawn(&net.members[elm].dir, None);
        net.says(elm, WAITS, Duration::from_secs(5)).await;
        net.says(elm, "ready\n", Duration::from_secs(30)).await;
    }
    no_double_vote();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flipped_byte_in_the_engines_log_ends_with_9() {
    let mut net = Net::started(4).await;
    let (cedar, elm) = (net.index("cedar"), net.index("elm"));
    write(&net, cedar, 1, 3).await;
    net.stop(elm).await.unwrap();
    let path = net.members[elm].dir.join("data/consensus/wal/consensus.wal");
    let whole = std::fs::read(&path).unwrap();
    assert!(whole.len() > 200, "{} bytes: the log holds no vote", whole.len());
    for at in [3, 15, 40, whole.len() - 10] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x20;
        std::fs::write(&path, damaged).unwrap();
        let stop = loop {
            match net.try_start(elm).await.err().unwrap() {
                stop if stop.to_string().contains("another process") => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                stop => break stop,
            }
        };
        assert!(stop.exit_code() == 9 && stop.to_string().contains("consensus.wal"), "byte {at}: {stop}");
    }
    std::fs::write(&path, whole).unwrap();
    net.start(elm).await;
    net.ready(elm).await;
    for i in 0..4 {
        net.stop(i).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_does_not_begin_its_chain_twice() {
    let mut net = Net::started(1).await;
    assert_eq!(set_policy(&net, 0, 1).await.unwrap(), 1);
    net.stop(0).await.unwrap();
    let data = net.members[0].dir.join("data");
    assert!(!data.join("never-voted").exists());
    // With its ledger it goes on; without, nobody could say what it signed.
    net.start(0).await;
    net.ready(0).await;
    net.stop(0).await.unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    let stop = net.try_start(0).await.err().unwrap();
    assert!(stop.exit_code() == 9 && stop.to_string().contains("never-voted"), "{stop}");
    assert!(!data.join("ledger").exists());
}

/// Two of four are down: the engines have nothing to decide, and say so to each other. That is not a hang.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_quorum_a_node_is_not_ready_for_want_of_heights_and_goes_on() {
    let mut net = Net::started(4).await;
    net.stop(3).await.unwrap();
    net.stop(2).await.unwrap();
    let begin = Instant::now();
    // The network of these tests has 10 s of staleness; a hang would be said after 4.
    net.says(0, "not ready: no-height: ", Duration::from_secs(16)).await;
    assert!(begin.elapsed() > Duration::from_secs(6));
    let metrics = net.http(0, "/metrics").await;
    for line in [
        "assent_fresh 0",
        "assent_not_ready{reason=\"no-height\"} 1",
        "assent_not_ready{reason=\"engine-hung\"} 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
    }
    while begin.elapsed() < Duration::from_secs(25) {
        let said = net.readyz(0).await;
        assert!(said.contains("no-height") && !said.contains("engine-hung"), "{said}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // One comes back, behind by nothing or a block: all three go on.
    net.start(2).await;
    net.says(0, "ready\n", Duration::from_secs(15)).await;
    for i in 0..3 {
        net.stop(i).await.unwrap();
    }
}
