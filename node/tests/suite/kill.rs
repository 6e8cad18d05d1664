//! Real `assentd` processes that end on the spot at several points, and start again.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use assent_ledger::audit::verify_export;
use assent_proto::v1::audit_service_client::AuditServiceClient;
use assent_proto::v1::policy_service_client::PolicyServiceClient;
use assent_proto::v1::{GetBlockRequest, SetPolicyRequest};
use tonic::Status;

use crate::net::Net;

/// A process that does not outlive its test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only for one that has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn spawn(dir: &Path, fault: Option<&str>) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assentd"));
    command.arg("--config").arg(dir.join("assentd.toml")).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(fault) = fault {
        command.arg("--fault").arg(fault);
    }
    Process(command.spawn().unwrap())
}

pub fn ended(process: &mut Process, within: Duration) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < within {
        if process.0.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

pub async fn set_policy(net: &Net, i: usize, n: u64) -> Result<u64, Status> {
    let json = format!(r#"{{"id":"p","version":"{n}","rules":[{{"effect":"DENY","purposes":["HMARKT"]}}]}}"#);
    let mut request = tonic::Request::new(SetPolicyRequest {
        request_id: format!("p-{n}"),
        policy: json.into_bytes(),
        ..Default::default()
    });
    request.set_timeout(Duration::from_secs(10));
    let mut client = PolicyServiceClient::new(net.client(i, "officer"));
    Ok(client.set_policy(request).await?.into_inner().policy_seq)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_nothing_acknowledged_is_lost_and_nothing_is_done_twice() {
    for point in assent_node::fault::POINTS {
        let net = Net::new(1);
        let dir = net.members[0].dir.clone();
        let mut process = spawn(&dir, Some(&format!("{point}:3")));
        net.ready(0).await;
        // Writes until the process ends at its third pass.
        let mut acknowledged = 0;
        for n in 1..=10 {
            match set_policy(&net, 0, n).await {
                Ok(seq) => {
                    assert_eq!(seq, n, "{point}");
                    acknowledged = n;
                }
                Err(_) => break,
            }
        }
        assert!(ended(&mut process, Duration::from_secs(5)), "{point} was not reached");
        assert!(acknowledged >= 1, "{point}");
        let _process = spawn(&dir, None);
        net.ready(0).await;
        // The write in flight, sent again with its request id, is there once: the sequence has no gap.
        for n in 1..=acknowledged + 3 {
            assert_eq!(set_policy(&net, 0, n).await.unwrap(), n, "{point}");
        }
        let (verifier, outcome) = verify_export(&net.export(0).await, Some(net.genesis.hash), |_| {});
        assert_eq!(outcome, Ok(()), "{point}");
        assert_eq!(verifier.counts.entries, acknowledged + 3, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_four_ends_at_each_point_and_comes_back() {
    let net = Net::new(4);
    let (cedar, elm) = (net.index("cedar"), net.index("elm"));
    let others: Vec<Process> =
        (0..4).filter(|i| *i != elm).map(|i| spawn(&net.members[i].dir, None)).collect();
    let mut n = 0;
    for point in ["proposal-stored", "block-validated", "before-commit", "after-commit"] {
        let mut process = spawn(&net.members[elm].dir, Some(&format!("{point}:4")));
        net.ready(elm).await;
        net.ready(cedar).await;
        while process.0.try_wait().unwrap().is_none() {
            n += 1;
            assert_eq!(set_policy(&net, cedar, n).await.unwrap(), n, "{point}");
            assert!(n < 2_000, "{point} was not reached");
        }
    }
    let _process = spawn(&net.members[elm].dir, None);
    net.ready(elm).await;
    n += 1;
    assert_eq!(set_policy(&net, cedar, n).await.unwrap(), n);
    let bytes = net.export(cedar).await;
    let (verifier, outcome) = verify_export(&bytes, Some(net.genesis.hash), |_| {});
    assert_eq!(outcome, Ok(()));
    assert_eq!(verifier.counts.entries, n);
    // Elm has the same block at Cedar's tip.
    let height = verifier.tip().unwrap().height;
    let mut blocks = Vec::new();
    for i in [cedar, elm] {
        let mut client = AuditServiceClient::new(net.client(i, "auditor"));
        for _ in 0..100 {
            match client.get_block(GetBlockRequest { height }).await {
                Ok(block) => {
                    blocks.push(block.into_inner().block);
                    break;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
    assert!(blocks.len() == 2 && blocks[0] == blocks[1]);
    drop(others);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_points_and_a_second_process_on_one_folder_are_refused() {
    let net = Net::new(1);
    let dir = &net.members[0].dir;
    let _first = spawn(dir, None);
    net.ready(0).await;
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_assentd"))
            .arg("--config")
            .arg(dir.join("assentd.toml"))
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&[]);
    assert!(code == Some(7) && said.contains("another process"), "{code:?} {said}");
    let (code, said) = run(&["--fault", "nowhere:1"]);
    assert!(code == Some(2) && said.contains("no such point"), "{code:?} {said}");
    let (code, said) = run(&["--colour"]);
    assert!(code == Some(2) && said.contains("--colour"), "{code:?} {said}");
    let flags = assent_node::fault::Flags { fault: Some("after-commit:1".into()), ..Default::default() };
    assert!(assent_node::fault::arm(&flags, "cedar-network").is_err());
}
