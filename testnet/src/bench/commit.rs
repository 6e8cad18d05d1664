//! Commits: how many operations a second, how soon, and whether all that was acknowledged is on another node.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use assent_ledger::audit::{parse_head, RecordKind, EXPORT_MAGIC};
use assent_ledger::encoding::decode;
use assent_ledger::entry::check_entry;
use assent_proto::ledger::v1::{operation::Kind, Block};

use super::ceiling;
use super::figure::{Figure, Target};
use super::footprint;
use super::load::{closed_loop, open_loop, Samples};
use super::stage::{Stage, WITNESS};
use super::write::Writers;
use crate::error::{failed, Error, While};

/// Callers of the closed loop, over all nodes.
const LANES: usize = 768;
/// Operations of a large entry.
const LARGE: u64 = 256;
/// Callers with large entries.
const LARGE_LANES: usize = 24;
/// Share of the closed loop's rate at which it is confirmed with an open one.
const NEAR_FULL_WRITES: f64 = 0.95;
/// How long the closed loop looks for the full rate.
const SEARCH: Duration = Duration::from_secs(10);
/// Writes a second on a network that is otherwise quiet.
const QUIET_RATE: f64 = 4.0;

/// One write at a time on the quiet network.
pub async fn idle(stage: &mut Stage) -> Result<(), Error> {
    let writers = stage.writers(&stage.organizations()).await?;
    let time = stage.time.min(Duration::from_secs(30));
    let samples = open_loop(QUIET_RATE, time, |n| writers.clone().one("idle", n)).await;
    stage.must_succeed("idle", &samples);
    stage.idle_commit_ms = Some(samples.percentile_ms(50.0));
    let fsync_ms = 1000.0 / ceiling::fsync_per_s(&stage.dir, Duration::from_secs(2))?;
    let figure = of(&samples, "idle_commit_p50_ms", samples.percentile_ms(50.0), "ms", Target::AtMost(40.0));
    stage.keep(figure.under("fsync_ms", fsync_ms));
    Ok(())
}

fn of(samples: &Samples, name: &'static str, value: f64, unit: &'static str, target: Target) -> Figure {
    Figure::new(name, value, unit, target, samples.micros.len() as u64, samples.seconds)
}

/// The full rate that a closed loop finds: operations a second.
pub async fn full_rate(stage: &mut Stage, writers: &Writers, run: &'static str) -> f64 {
    let found = {
        let writers = writers.clone();
        closed_loop(LANES, SEARCH.min(stage.time), move |_, n| writers.clone().one(run, n)).await
    };
    stage.must_succeed(run, &found);
    found.per_second()
}

/// Single operations at the full rate and at half of it.
pub async fn commit(stage: &mut Stage) -> Result<(), Error> {
    let writers = stage.writers(&stage.organizations()).await?;
    let disk_before = footprint::disk_bytes(stage, WITNESS)?;
    let acknowledged_before = stage.acknowledged().len();
    let rate = full_rate(stage, &writers, "search").await * NEAR_FULL_WRITES;
    let full = open_loop(rate, stage.time, |n| writers.clone().one("full", n)).await;
    stage.must_succeed("full", &full);
    let memory = footprint::memory_mb(stage)?;
    let half = open_loop(rate / 2.0, stage.time_at(rate / 2.0), |n| writers.clone().one("half", n)).await;
    stage.must_succeed("half", &half);
    let operations = stage.acknowledged().len() - acknowledged_before;
    let disk = footprint::disk_bytes(stage, WITNESS)?.saturating_sub(disk_before);

    let (one, batched) = ceiling::signature_micros(Duration::from_secs(1));
    // Every one of four validators on this machine checks each signature once, in a batch.
    let ceiling = 1e6 / batched / stage.network().nodes.len() as f64 * cores();
    let figure = of(&full, "commit_ops_per_s", full.per_second(), "ops/s", Target::AtLeast(3_000.0));
    stage.keep(figure.under("batched_signature_checks_per_s_by_4_nodes", ceiling));
    let figure = of(&half, "commit_p50_ms", half.percentile_ms(50.0), "ms", Target::AtMost(60.0));
    stage.keep(figure.under("one_signature_check_ms", one / 1000.0));
    stage.keep(of(&half, "commit_p99_ms", half.percentile_ms(99.0), "ms", Target::AtMost(300.0)));
    stage.keep(of(&full, "memory_mb_per_node", memory, "MB", Target::AtMost(300.0)));
    let per_operation = disk as f64 / operations.max(1) as f64;
    stage.keep(Figure::new(
        "disk_bytes_per_op",
        per_operation,
        "bytes",
        Target::AtMost(1024.0),
        operations as u64,
        0.0,
    ));

    lost(stage, WITNESS).await
}

/// Entries of 256 operations.
pub async fn bulk(stage: &mut Stage) -> Result<(), Error> {
    let writers = stage.writers(&stage.organizations()).await?;
    let large = {
        let time = stage.time.min(Duration::from_secs(20));
        closed_loop(LARGE_LANES, time, move |_, n| writers.clone().many("large", n, LARGE)).await
    };
    stage.must_succeed("large", &large);
    let rate = large.per_second() * LARGE as f64;
    stage.keep(of(&large, "commit_ops_per_s_256", rate, "ops/s", Target::AtLeast(6_000.0)));
    stage.keep(of(&large, "commit_256_p50_ms", large.percentile_ms(50.0), "ms", Target::None));
    lost(stage, WITNESS).await
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)
}

/// Counts what was acknowledged and isn't in another node's ledger.
pub async fn lost(stage: &mut Stage, witness: &str) -> Result<(), Error> {
    let acknowledged = stage.acknowledged();
    let file = stage.dir.join("witness.export");
    export(stage, witness, &file).await?;
    let there = registered(&stage.network().chain_id, &file)?;
    let lost = acknowledged.difference(&there).count();
    if lost > 0 {
        stage.wrong.push(format!("{lost} acknowledged operations are not in {witness}'s ledger"));
    }
    let figure =
        Figure::new("lost_ops", lost as f64, "ops", Target::AtMost(0.0), acknowledged.len() as u64, 0.0);
    stage.figures.retain(|f| f.name != figure.name);
    stage.keep(figure);
    Ok(())
}

/// An export by the CLI, as an auditor makes it.
pub async fn export(stage: &Stage, organization: &str, file: &Path) -> Result<(), Error> {
    let client = stage.network().client(organization, "auditor")?;
    let node = stage.network().node(organization)?;
    let path = |p: &Path| p.display().to_string();
    let arguments: Vec<String> = vec![
        "audit".into(),
        "export".into(),
        "--node".into(),
        node.grpc.replace("127.0.0.1", "localhost"),
        "--cert".into(),
        path(&client.cert),
        "--key".into(),
        path(&client.key),
        "--ca".into(),
        path(&client.ca),
        "--out".into(),
        path(file),
    ];
    let _ = std::fs::remove_file(file); // of an earlier look
    stage.binaries.assent_ok(&arguments).await.map(|_| ())
}

/// Handles of all slots that an export's blocks set.
fn registered(chain_id: &str, file: &Path) -> Result<HashSet<Vec<u8>>, Error> {
    let doing = || format!("reading {}", file.display());
    let bytes = std::fs::read(file).during(doing)?;
    let mut rest = match bytes.strip_prefix(EXPORT_MAGIC.as_slice()) {
        Some(rest) => rest,
        None => return failed("the export is none"),
    };
    let mut handles = HashSet::new();
    while let Some((head, payload)) = rest.split_first_chunk::<5>() {
        let (kind, length) = parse_head(*head).during(doing)?;
        if payload.len() < length {
            return failed("the export ends within a record");
        }
        let (payload, tail) = payload.split_at(length);
        rest = tail;
        if kind != RecordKind::Block {
            continue;
        }
        let block: Block = decode("Block", payload, assent_ledger::block::MAX_BLOCK_BYTES).during(doing)?;
        for entry in &block.entries {
            let entry = check_entry(chain_id, entry).during(doing)?;
            for operation in entry.body.operations {
                if let Some(Kind::SetConsent(set)) = operation.kind {
                    handles.insert(set.handle);
                }
            }
        }
    }
    Ok(handles)
}
