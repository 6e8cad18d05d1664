//! A running node that the others have pruned past: it says so, ends with 7, and joins from a snapshot at its next start.

use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::network::{height, whole_from};
use crate::kill::{set_policy, spawn, Process};
use crate::net::Net;

/// From the moment at which it runs on: it looks, waits for its newest block to be old enough, and looks again.
const NOTICED: Duration = Duration::from_secs(20);
const ENDED: Duration = Duration::from_secs(30);

fn send(process: &Process, signal: Signal) {
    kill(Pid::from_raw(process.0.id() as i32), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_running_node_that_all_have_pruned_past_says_so_ends_with_7_and_joins() {
    let net = Net::new(4);
    for i in 0..4 {
        net.configure(i, "heartbeat_seconds", "keep_blocks = 100\nheartbeat_seconds");
    }
    let mut processes: Vec<Process> = (0..4).map(|i| spawn(&net.members[i].dir, None)).collect();
    for i in 0..4 {
        net.ready(i).await;
    }
    let (cedar, elm) = (net.index("cedar"), net.index("elm"));
    assert_eq!(set_policy(&net, cedar, 1).await.unwrap(), 1);
    // As a laptop that sleeps: its ledger stays where it is, and the others go on.
    send(&processes[elm], Signal::SIGSTOP);
    let stopped = Instant::now();
    for n in 2..=160 {
        assert_eq!(set_policy(&net, cedar, n).await.unwrap(), n);
    }
    tokio::time::sleep(Duration::from_secs(22).saturating_sub(stopped.elapsed())).await;
    send(&processes[elm], Signal::SIGCONT);

    let noticed = net.says(elm, "not ready: peers-pruned: ", NOTICED).await;
    let metrics = net.http(elm, "/metrics").await;
    assert!(metrics.contains("assent_not_ready{reason=\"peers-pruned\"} 1\n"), "{metrics}");
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = processes[elm].0.try_wait().unwrap() {
            break status;
        }
        assert!(begin.elapsed() < ENDED, "it runs on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    eprintln!("noticed after {noticed:?}, ended {:?} later", begin.elapsed());
    assert_eq!(status.code(), Some(7));

    // What its supervisor does.
    let decided = height(&net, cedar).await;
    processes[elm] = spawn(&net.members[elm].dir, None);
    net.ready(elm).await;
    assert!(height(&net, elm).await >= decided);
    assert!(whole_from(&net.http(elm, "/metrics").await) > 100);
    assert_eq!(set_policy(&net, elm, 1).await.unwrap(), 1);
}
