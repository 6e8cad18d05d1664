//! C9: all nodes prune, and one whose ledger is gone joins from a snapshot and the blocks since.
//!
//! S3 and S4 need entries: the load ends before anything is pruned, and the whole ledger is read once; later blocks are fewer than stay whole.

use std::time::{Duration, Instant};

use super::super::look::{audited, export, get, whole};
use super::super::patients::CUSTODIAN;
use super::super::world::{World, POLL, SETTLE_LIMIT};
use super::super::writes::What;
use super::crash::HEAL_LIMIT;
use super::governing::reached;
use crate::error::{failed, Error, While};
use crate::net::description::{config_path, log_path};

/// Blocks that stay whole: the least that a node allows.
const KEEP_BLOCKS: u64 = 100;
/// How far behind it joins from a snapshot.
pub(super) const LAG_HEIGHTS: u64 = 50;
/// Load before, and longer where blocks come slowly.
const LOAD: Duration = Duration::from_secs(25);
/// Pause between the writes of the tail: some blocks each, fewer in all than stay whole.
const TAIL_PAUSE: Duration = Duration::from_millis(1_500);
/// Writes of the tail at most.
const TAIL_WRITES: u64 = 20;
/// Blocks since that it must have.
const TAIL_BLOCKS: u64 = 5;
/// How long each of them is tried.
const TAIL_TIME: Duration = Duration::from_secs(10);

/// C9.
pub async fn join_from_snapshot(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(LOAD).await;
    reached(world, CUSTODIAN, 3 * KEEP_BLOCKS).await?;
    if let Some(load) = world.load.take() {
        load.stop().await;
    }
    world.settle().await?;
    let all = world.organizations();
    world.whole = Some(whole(world, &all[0]).await?);
    for organization in &all {
        world.nodes.stop(organization).await?;
        set(world, organization, "keep_blocks", KEEP_BLOCKS)?;
        world.nodes.start(organization)?;
    }
    world.settle().await?;
    let mut firsts = Vec::new();
    for organization in &all {
        firsts.push(pruned(world, organization, 2).await?);
    }
    eprintln!("     pruned: whole from {firsts:?} of {}", world.height(&all[0]).await?);

    let victim = world.one_of(&all);
    let others = world.others(&[&victim]);
    world.nodes.stop(&victim).await?;
    set(world, &victim, "snapshot_lag_heights", LAG_HEIGHTS)?;
    let ledger = world.store(&victim, "ledger")?;
    std::fs::remove_dir_all(&ledger).during(|| format!("removing {}", ledger.display()))?;
    let height = world.height(&others[0]).await?;
    let writer = world.writer(&others[0]).await?;
    let tail = tokio::spawn(async move {
        for number in 0..TAIL_WRITES {
            let late = Instant::now() + TAIL_TIME;
            writer.write(&format!("tail-{number}"), &What::One, || Instant::now() >= late).await;
            tokio::time::sleep(TAIL_PAUSE).await;
        }
    });
    world.nodes.start(&victim)?;
    let seconds = world.wait_back(&victim, height).await;
    // The blocks since come one by one.
    let followed = reached(world, &victim, height + TAIL_BLOCKS).await;
    tail.abort();
    let _ = tail.await; // aborted
    let seconds = seconds?;
    followed?;
    let first = pruned(world, &victim, 2).await?;
    let log = log_path(&world.dir, &victim);
    let log = std::fs::read_to_string(&log).during(|| format!("reading {}", log.display()))?;
    let joined = log.lines().rfind(|line| line.contains("joined from a snapshot"));
    match joined {
        Some(line) => eprintln!("     {victim}: {line}"),
        None => world.wrong(format!("{victim} is back, whole from {first}, but not from a snapshot")),
    }
    world.heal("it joined from a snapshot, through it", std::slice::from_ref(&victim), HEAL_LIMIT).await?;
    world.heal("it joined from a snapshot, through the others", &others, HEAL_LIMIT).await?;

    // It lacks the blocks between the load's end and the snapshot: another one still has them whole.
    world.whole = Some(whole(world, &others[0]).await?);
    // Its export says what it can't show.
    let file = world.dir.join("joined.export");
    export(world, &victim, &file).await?;
    for (asked, wanted) in [("structural", 0), ("full", 4)] {
        let (exit, report) = audited(world, &file, asked, None).await?;
        let level = report["level"].as_str().unwrap_or_default();
        eprintln!(
            "     its export, asked for {asked}: exit {exit}, level {level}, to block {}",
            report["to"]
        );
        if exit != wanted || level != "structural" {
            world.wrong(format!(
                "the export of {victim}, asked for {asked}: exit {exit}, level {level}: {report}"
            ));
        }
    }
    Ok(seconds)
}

/// Sets a number in a stopped node's configuration, which names it.
pub(super) fn set(world: &World, organization: &str, name: &str, value: u64) -> Result<(), Error> {
    let path = config_path(&world.dir, organization);
    let text = std::fs::read_to_string(&path).during(|| format!("reading {}", path.display()))?;
    let start = format!("{name} = ");
    let line = |line: &str| match line.starts_with(&start) {
        true => format!("{start}{value}\n"),
        false => format!("{line}\n"),
    };
    if !text.lines().any(|line| line.starts_with(&start)) {
        return failed(format!("{} does not set {name}", path.display()));
    }
    let new: String = text.lines().map(line).collect();
    std::fs::write(&path, new).during(|| format!("writing {}", path.display()))
}

/// Waits until a node has no whole blocks below this height: its first whole one.
async fn pruned(world: &World, organization: &str, least: u64) -> Result<u64, Error> {
    let begin = Instant::now();
    let admin = world.network.node(organization)?.admin.clone();
    loop {
        let page = get(&admin, "/metrics").await?;
        let page = String::from_utf8_lossy(&page).into_owned();
        let value = page.lines().find_map(|line| line.strip_prefix("assent_whole_from_height "));
        match value.and_then(|value| value.trim().parse::<u64>().ok()) {
            Some(first) if first >= least => return Ok(first),
            _ if begin.elapsed() < SETTLE_LIMIT => tokio::time::sleep(POLL).await,
            other => return failed(format!("{organization} has not pruned: whole from {other:?}")),
        }
    }
}
