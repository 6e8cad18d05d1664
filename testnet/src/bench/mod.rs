//! The benchmark: real processes, mutual TLS, synced writes, signed entries; ceilings of the same run beside each figure.
//!
//! ```text
//! load      open and closed loops          ceiling, bare   what the machine does at most
//! stage     the network all share          decide, commit, check, cohort, withdraw, release, audit, outage, restart, footprint, join: workloads
//! figure    a value and its target         report          BENCHMARKS.md and JSON
//! ```
//! Latency counts from when a call was due, not from when it was sent: a stall shows in all calls that it delays.

mod audit;
pub mod bare;
mod ceiling;
mod check;
mod cohort;
mod commit;
mod decide;
pub mod figure;
mod footprint;
mod join;
pub mod load;
mod outage;
mod release;
pub mod report;
mod restart;
mod stage;
mod synthetic;
mod withdraw;
mod write;

pub use check::MILLION;
pub use footprint::memory_mb_of;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::binaries::Binaries;
use crate::demo::Output;
use crate::error::{failed, Error, While};
use crate::net::cluster::Cluster;
use crate::net::create::create;
use crate::net::description::config_path;
use crate::net::process::Care;
use crate::net::up::{interrupted, Claimed, DEFAULT_NODES};
use stage::Stage;

/// A group of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// One decision on ten rules and one record, in process.
    Decide,
    /// One write at a time on a quiet network.
    Idle,
    /// Operations per second in entries of one, latency at half load, memory and disk.
    Commit,
    /// Operations per second in entries of 256.
    Bulk,
    /// Time until no node permits any more.
    Withdraw,
    /// Releases of small and large records.
    Release,
    /// Checks by the custodian's node and from a signed decision, with 100,000 subjects.
    Check,
    /// One question about the 100,000 subjects.
    Cohort,
    /// The audit of the ledger so far: entries of one operation, when it runs after `commit`.
    Audit,
    /// The audit of five million entries over 100,000 slots, in full and structurally; most of the time is for making them.
    AuditLong,
    /// One of four killed, and its catching up.
    Outage,
    /// A node with 100,000 entries killed and started: when it votes again.
    Restart,
    /// Disk growth while nothing happens.
    Footprint,
    /// A wiped node joins from a snapshot with 100,000 consents.
    Join,
    /// Two of seven killed, in a network of their own.
    OutageSeven,
    /// Checks with a million subjects; takes many minutes, most of them for registering.
    Million,
}

/// Nodes of which two may die.
const SEVEN: usize = 7;

/// In the order in which they run: what needs a quiet, small ledger first.
const ALL: [Workload; 15] = [
    Workload::Decide,
    Workload::Idle,
    Workload::Commit,
    Workload::Audit,
    Workload::AuditLong,
    Workload::Bulk,
    Workload::Withdraw,
    Workload::Release,
    Workload::Check,
    Workload::Cohort,
    Workload::Outage,
    Workload::Restart,
    Workload::Footprint,
    Workload::Join,
    Workload::Million,
];

/// What the benchmark was told.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to measure; all when empty.
    pub workloads: Vec<Workload>,
    /// Longest time of one measurement, in seconds.
    pub seconds: u64,
    /// Patients of the workload `million`.
    pub subjects: usize,
    /// Entries of the workload `audit-long`.
    pub entries: u64,
    /// How to print.
    pub output: Output,
    /// Where the report goes, if anywhere.
    pub report: Option<PathBuf>,
}

/// Measures; true when nothing was lost or wrong, whatever the targets say. All that it starts has ended when it returns.
pub async fn run(options: Options) -> Result<bool, Error> {
    let dir = std::env::temp_dir().join(format!("assent-bench-{:08x}", rand::random::<u32>()));
    let claimed = Claimed::new(&dir)?;
    let stage = tokio::select! {
        stage = measure(&claimed, &options) => stage?,
        interrupted = interrupted() => return Err(interrupted),
    };
    let report = report::Report::new(&stage.figures, &stage.wrong, options.seconds);
    match options.output {
        Output::Text => println!("{}", report.table()),
        Output::Json => println!("{}", report.json()),
    }
    for wrong in &stage.wrong {
        eprintln!("wrong: {wrong}");
    }
    if let Some(path) = &options.report {
        report.write(path)?;
    }
    Ok(stage.wrong.is_empty())
}

/// One client brings the load of many.
fn lift_quota(config: &Path) -> Result<(), Error> {
    let doing = || format!("changing {}", config.display());
    let text = std::fs::read_to_string(config).during(doing)?;
    let lifted = text.replacen("requests_per_second = 20000 ", "requests_per_second = 1000000 ", 1);
    if lifted == text {
        return failed(format!("{} does not name requests_per_second", config.display()));
    }
    std::fs::write(config, lifted).during(doing)
}

/// A network of its own, ready, with nothing measured.
async fn set_up(dir: &Path, nodes: usize, options: &Options) -> Result<Stage, Error> {
    let binaries = Binaries::beside_this()?;
    let network = create(&binaries, dir, nodes).await?;
    for node in &network.nodes {
        lift_quota(&config_path(dir, &node.organization))?;
    }
    let cluster = Cluster::start(&binaries, dir, network, Care::Supervised)?;
    let mut stage = Stage {
        binaries,
        dir: dir.to_owned(),
        cluster,
        time: Duration::from_secs(options.seconds),
        figures: Vec::new(),
        wrong: Vec::new(),
        acknowledged: Default::default(),
        subjects: 0,
        many_subjects: options.subjects,
        long_entries: options.entries,
        idle_commit_ms: None,
    };
    stage.cluster.wait_ready().await?;
    Ok(stage)
}

async fn measure(claimed: &Claimed, options: &Options) -> Result<Stage, Error> {
    let wanted = |workload| options.workloads.is_empty() || options.workloads.contains(&workload);
    let mut stage = set_up(&claimed.dir, DEFAULT_NODES, options).await?;
    for workload in ALL {
        if !wanted(workload) {
            continue;
        }
        eprintln!("== {workload:?}");
        let outcome = match workload {
            Workload::Decide => decide::decisions(&mut stage).await,
            Workload::Idle => commit::idle(&mut stage).await,
            Workload::Commit => commit::commit(&mut stage).await,
            Workload::Bulk => commit::bulk(&mut stage).await,
            Workload::Withdraw => withdraw::withdraw(&mut stage).await,
            Workload::Release => release::release(&mut stage).await,
            Workload::Check => check::check(&mut stage).await,
            Workload::Cohort => cohort::cohort(&mut stage).await,
            Workload::Million => check::million(&mut stage).await,
            Workload::Audit => audit::audit(&mut stage).await,
            Workload::AuditLong => audit::long(&mut stage).await,
            Workload::Outage => outage::outage(&mut stage).await,
            Workload::Restart => restart::restart(&mut stage).await,
            Workload::Footprint => footprint::idle(&mut stage).await,
            Workload::Join => join::join(&mut stage).await,
            Workload::OutageSeven => continue, // in a network of its own, afterwards
        };
        if let Err(error) = outcome {
            stage.cluster.fail_if_ended()?;
            stage.wrong.push(format!("{workload:?} broke off: {error}"));
        }
    }
    stage.cluster.stop().await;
    if wanted(Workload::OutageSeven) {
        eprintln!("== {:?}", Workload::OutageSeven);
        seven(&mut stage, options).await?;
    }
    Ok(stage)
}

/// What is measured on seven nodes joins the figures of the four.
async fn seven(stage: &mut Stage, options: &Options) -> Result<(), Error> {
    let dir = stage.dir.join("seven");
    std::fs::create_dir(&dir).during(|| format!("making {}", dir.display()))?;
    let mut seven = set_up(&dir, SEVEN, options).await?;
    if let Err(error) = outage::two_of_seven(&mut seven).await {
        seven.wrong.push(format!("OutageSeven broke off: {error}"));
    }
    seven.cluster.stop().await;
    // What was lost stands in what is wrong; the figure counts the network of four.
    seven.figures.retain(|figure| figure.name != "lost_ops");
    stage.figures.append(&mut seven.figures);
    stage.wrong.append(&mut seven.wrong);
    Ok(())
}
