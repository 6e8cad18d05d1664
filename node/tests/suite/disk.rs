//! A disk that is full, or broken: real processes say so, end with 7, and come back when their supervisor starts them again.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use tonic::Code;

use crate::kill::{ended, set_policy, spawn, Process};
use crate::net::Net;
use crate::patient::{check, reason};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_ends_with_7_and_loses_nothing() {
    for fault in ["vault-write:enospc:3", "vault-sync:eio:3", "ledger-write:enospc:8", "ledger-write:eio:9"] {
        let net = Net::new(1);
        let dir = net.members[0].dir.clone();
        let mut process = spawn(&dir, Some(fault));
        net.ready(0).await;
        let mut acknowledged = 0;
        while let Ok(seq) = set_policy(&net, 0, acknowledged + 1).await {
            acknowledged = seq;
        }
        assert!(ended(&mut process, Duration::from_secs(15)), "{fault}: it goes on");
        assert_eq!(process.0.try_wait().unwrap().unwrap().code(), Some(7), "{fault}");
        assert!(acknowledged >= 1, "{fault}");
        let _process = spawn(&dir, None);
        net.ready(0).await;
        for n in 1..=acknowledged + 2 {
            assert_eq!(set_policy(&net, 0, n).await.unwrap(), n, "{fault}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_it_does_not_start() {
    let net = Net::new(1);
    net.configure(0, "heartbeat_seconds", "min_free_mib = 1000000000\nheartbeat_seconds");
    let stop = net.try_start(0).await.err().unwrap();
    assert!(stop.exit_code() == 7 && stop.to_string().contains("min_free_mib is 1000000000"), "{stop}");
    assert!(!net.members[0].dir.join("data/ledger").exists());
}

/// Room on the small disk.
const DISK_MIB: usize = 256; // the stores lay out their logs ahead
/// Fewer than this are too few.
const MIN_FREE_MIB: usize = 24;

/// A disk of its own below a node's data folder, and a supervisor that does what the unit file says.
fn supervised(net: &Net, i: usize, min_free_mib: usize) -> Option<Process> {
    net.configure(i, "heartbeat_seconds", &format!("min_free_mib = {min_free_mib}\nheartbeat_seconds"));
    let dir = &net.members[i].dir;
    let script = format!(
        "mount -t tmpfs -o size={DISK_MIB}m none {data} || exit 99
         touch {data}/never-voted; echo up >> {log}
         while :; do {assentd} --config {config} 2>> {log}.stderr; code=$?; echo exit $code >> {log}
         case $code in 0|2|9) exit $code;; esac; sleep 5; done",
        data = dir.join("data").display(),
        log = dir.join("supervisor").display(),
        assentd = env!("CARGO_BIN_EXE_assentd"),
        config = dir.join("assentd.toml").display(),
    );
    let mut command = Command::new("unshare");
    command.args(["-Urm", "--pid", "--fork", "--kill-child", "sh", "-c", &script]);
    let mut process = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?);
    for _ in 0..100 {
        if dir.join("supervisor").exists() {
            return Some(process);
        }
        if process.0.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

fn skipped() {
    eprintln!("SKIP full disk: missing user namespaces, install with a kernel that allows unshare -Urm");
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Writes zeros until `leave` MiB are left, or nothing goes any more.
fn fill(path: &PathBuf, leave: usize) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    let free = |file: &File| {
        let stat = nix::sys::statvfs::fstatvfs(file).unwrap();
        (stat.blocks_available() * stat.fragment_size()) as usize >> 20
    };
    let zeros = vec![0; 64 << 10];
    while free(&file) >= leave && file.write_all(&zeros).is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_ends_with_7_and_is_left_behind_when_there_is_room() {
    let net = Net::new(4);
    let (cedar, elm) = (net.index("cedar"), net.index("elm"));
    let Some(supervisor) = supervised(&net, elm, MIN_FREE_MIB) else {
        return skipped();
    };
    let _others: Vec<Process> =
        (0..4).filter(|i| *i != elm).map(|i| spawn(&net.members[i].dir, None)).collect();
    let log_of = |name: &str| std::fs::read_to_string(net.members[elm].dir.join(name)).unwrap_or_default();
    for _ in 0..200 {
        if net.readyz(elm).await == "ready\n" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(net.readyz(elm).await, "ready\n", "{}{}", log_of("supervisor"), log_of("supervisor.stderr"));
    net.ready(cedar).await;
    let mut n = 0;
    let write = async |n: &mut u64, times: u64| {
        for _ in 0..times {
            *n += 1;
            assert_eq!(set_policy(&net, cedar, *n).await.unwrap(), *n);
        }
    };
    write(&mut n, 20).await;

    // Before it is too late: said within 5 s, no permits, the process goes on.
    let data = net.members[elm].dir.join("data");
    let ballast = PathBuf::from(format!("/proc/{}/root{}/ballast", supervisor.0.id(), data.display()));
    fill(&ballast, MIN_FREE_MIB);
    net.says(elm, "not ready: disk-full: ", Duration::from_secs(5)).await;
    let refused = check(net.client(elm, "ehr"), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "NOT_FRESH"));
    assert!(refused.message().contains("disk-full: "), "{refused}");
    let log = || std::fs::read_to_string(net.members[elm].dir.join("supervisor")).unwrap();
    assert_eq!(log(), "up\n");
    std::fs::remove_file(&ballast).unwrap();
    net.says(elm, "ready\n", Duration::from_secs(5)).await;
    net.ready(elm).await;

    // Full: it ends with 7, again and again; the others go on.
    fill(&ballast, 0);
    let begin = Instant::now();
    while net.readyz(elm).await == "ready\n" {
        assert!(begin.elapsed() < Duration::from_secs(5), "it is still ready");
    }
    while !log().contains("exit 7") {
        write(&mut n, 5).await;
        assert!(begin.elapsed() < Duration::from_secs(60), "it goes on: {}", log());
    }
    eprintln!("ended after {:?}", begin.elapsed());
    while log().matches("exit 7").count() < 2 {
        // Its stores gave back what they had laid out ahead.
        fill(&ballast, 0);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", log());
    }
    // Room again: back by its supervisor alone.
    std::fs::remove_file(&ballast).unwrap();
    let took = net.says(elm, "ready\n", Duration::from_secs(30)).await;
    eprintln!("back after {took:?}: {}", log().replace('\n', ", "));
    assert!(log().lines().skip(1).all(|line| line == "exit 7"), "{}", log());
    write(&mut n, 5).await;
}

/// With nobody to look ahead: what the stores themselves say to a start on a full disk is no corruption.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_full_disk_ends_with_7_and_leaves_the_stores_whole() {
    let net = Net::new(1);
    let Some(supervisor) = supervised(&net, 0, 0) else {
        return skipped();
    };
    net.ready(0).await;
    for n in 1..=20 {
        assert_eq!(set_policy(&net, 0, n).await.unwrap(), n);
    }
    let data = net.members[0].dir.join("data");
    let ballast = PathBuf::from(format!("/proc/{}/root{}/ballast", supervisor.0.id(), data.display()));
    fill(&ballast, 0);
    let shell = children(supervisor.0.id())[0];
    let node = Pid::from_raw(children(shell)[0] as i32);
    kill(node, Signal::SIGKILL).unwrap();
    let log = || std::fs::read_to_string(net.members[0].dir.join("supervisor")).unwrap();
    let begin = Instant::now();
    while log().matches("exit 7").count() < 2 {
        fill(&ballast, 0);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(begin.elapsed() < Duration::from_secs(40), "{}", log());
    }
    std::fs::remove_file(&ballast).unwrap();
    net.says(0, "ready\n", Duration::from_secs(30)).await;
    assert_eq!(set_policy(&net, 0, 21).await.unwrap(), 21, "{}", log());
}

/// Every write fails, the engine's log's first: it stands still for ever then, and the process ends for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_can_not_write_its_log_ends_with_7() {
    let net = Net::new(4);
    let (cedar, elm) = (net.index("cedar"), net.index("elm"));
    let _others: Vec<Process> =
        (0..4).filter(|i| *i != elm).map(|i| spawn(&net.members[i].dir, None)).collect();
    // Ignored, so that a write beyond the limit is refused and doesn't end the process.
    let (config, stderr) = (net.members[elm].dir.join("assentd.toml"), net.members[elm].dir.join("stderr"));
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" --config \"$1\"", env!("CARGO_BIN_EXE_assentd")])
        .arg(config);
    command.stdout(Stdio::null()).stderr(File::create(&stderr).unwrap());
    let mut process = Process(command.spawn().unwrap());
    net.ready(elm).await;
    net.ready(cedar).await;
    let limited = Command::new("prlimit").args(["--fsize=64", "--pid", &process.0.id().to_string()]).status();
    if !limited.is_ok_and(|status| status.success()) {
        eprintln!("SKIP failing writes: missing prlimit, install with apt-get install util-linux");
        return;
    }
    assert_eq!(set_policy(&net, cedar, 1).await.unwrap(), 1);
    let begin = Instant::now();
    assert!(ended(&mut process, Duration::from_secs(15)), "it goes on");
    let said = std::fs::read_to_string(&stderr).unwrap();
    eprintln!("ended after {:?}: {}", begin.elapsed(), said.lines().last().unwrap_or_default());
    assert_eq!(process.0.try_wait().unwrap().unwrap().code(), Some(7), "{said}");
    let _process = spawn(&net.members[elm].dir, None);
    net.ready(elm).await;
}
