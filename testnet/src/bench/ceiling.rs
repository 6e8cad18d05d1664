//! What this machine does at most: syncs, signature checks, bare calls, bare bytes.

use std::io::{Seek, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use assent_ledger::hash::sha256;
use assent_ledger::keys::{sign, verify_batch, Check, SigningKey};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::error::{failed, Error, While};

/// Synced writes of 4 KiB a second, one after another.
pub fn fsync_per_s(dir: &Path, time: Duration) -> Result<f64, Error> {
    let doing = || "syncing".to_owned();
    let mut file = std::fs::File::create(dir.join("fsync")).during(doing)?;
    let (begin, mut syncs) = (Instant::now(), 0u32);
    while begin.elapsed() < time {
        if syncs % 256 == 0 {
            file.rewind().during(doing)?;
        }
        file.write_all(&[1; 4096]).during(doing)?;
        file.sync_data().during(doing)?;
        syncs += 1;
    }
    Ok(f64::from(syncs) / begin.elapsed().as_secs_f64())
}

fn checks(count: usize) -> Vec<Check> {
    let key = SigningKey::from_bytes(&[9; 32]);
    let check = |n: usize| {
        let mut message = vec![7; 300];
        message[..8].copy_from_slice(&(n as u64).to_be_bytes());
        Check { public_key: key.verifying_key().to_bytes(), signature: sign(&key, &message), message }
    };
    (0..count).map(check).collect()
}

/// Microseconds of one signature check, alone and in a batch of 256.
pub fn signature_micros(time: Duration) -> (f64, f64) {
    let checks = checks(256);
    let measure = |work: &dyn Fn() -> bool, each: f64| {
        let (begin, mut rounds) = (Instant::now(), 0u32);
        while begin.elapsed() < time {
            assert!(work(), "a signature that we made holds");
            rounds += 1;
        }
        begin.elapsed().as_secs_f64() * 1e6 / (f64::from(rounds) * each)
    };
    (measure(&|| checks[0].holds(), 1.0), measure(&|| verify_batch(&checks), 256.0))
}

/// Seconds that two threads need to check so many signatures in batches of 256, and to hash so many bytes.
pub fn verify_and_hash_seconds(signatures: u64, bytes: u64) -> f64 {
    let checks = checks(256);
    let block = vec![3u8; 1 << 20];
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..signatures.div_ceil(512) {
                    assert!(verify_batch(&checks), "signatures that we made hold");
                }
                for _ in 0..bytes.div_ceil(2 << 20) {
                    std::hint::black_box(sha256(&block));
                }
            });
        }
    });
    begin.elapsed().as_secs_f64()
}

/// A bare server in a process of its own; ends with its handle.
pub struct BareServer {
    _child: Child,
    /// What it said when it was ready.
    pub address: String,
}

impl BareServer {
    /// Starts this program's hidden command.
    pub async fn start(arguments: &[&str]) -> Result<Self, Error> {
        let doing = || "starting a bare server".to_owned();
        let mut child = Command::new(std::env::current_exe().during(doing)?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .during(doing)?;
        let Some(out) = child.stdout.take() else { return failed("a bare server without output") };
        match BufReader::new(out).lines().next_line().await.during(doing)? {
            Some(address) => Ok(Self { _child: child, address }),
            None => failed("a bare server ended at once"),
        }
    }
}
