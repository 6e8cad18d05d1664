//! What a node needs: memory, disk, and disk while nothing happens.

use std::path::Path;
use std::time::Duration;

use super::figure::{Figure, Target};
use super::stage::{Stage, WITNESS};
use crate::error::{failed, Error, While};
use crate::net::description::Node;

/// Bytes in a node's data folder. What RocksDB allocates ahead for its log does not count.
pub fn disk_bytes(stage: &Stage, organization: &str) -> Result<u64, Error> {
    folder_bytes(&stage.network().node(organization)?.data)
}

fn folder_bytes(folder: &Path) -> Result<u64, Error> {
    let doing = || format!("measuring {}", folder.display());
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).during(doing)? {
        let entry = entry.during(doing)?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += folder_bytes(&entry.path())?,
            Ok(metadata) => bytes += metadata.len(),
            Err(_) => {} // compacted away since it was listed
        }
    }
    Ok(bytes)
}

/// Resident memory of a node, in MB.
pub fn memory_mb_of(node: &Node) -> Result<f64, Error> {
    let path = format!("/proc/{}/status", node.pid);
    let text = std::fs::read_to_string(&path).during(|| format!("reading {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let Some(kib) = line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()) else {
        return failed(format!("{path} names no VmRSS"));
    };
    Ok(kib as f64 * 1024.0 / 1e6)
}

/// Resident memory of the node that has most, in MB.
pub fn memory_mb(stage: &Stage) -> Result<f64, Error> {
    stage.network().nodes.iter().try_fold(0.0, |most: f64, node| Ok(most.max(memory_mb_of(node)?)))
}

/// How much a node's disk grows in a day on which nobody writes: heartbeats only.
pub async fn idle(stage: &mut Stage) -> Result<(), Error> {
    let time = stage.time;
    let before = disk_bytes(stage, WITNESS)?;
    tokio::time::sleep(time).await;
    let grown = disk_bytes(stage, WITNESS)?.saturating_sub(before);
    let a_day = grown as f64 / 1e6 * Duration::from_secs(86_400).as_secs_f64() / time.as_secs_f64();
    stage.keep(Figure::new("idle_mb_per_day", a_day, "MB", Target::AtMost(10.0), 1, time.as_secs_f64()));
    Ok(())
}
