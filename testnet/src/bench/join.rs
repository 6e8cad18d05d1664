//! A node with an empty ledger joins a network that has 100,000 consents, from a peer's snapshot and the tail.

use std::time::{Duration, Instant};

use super::check::SUBJECTS;
use super::figure::{Figure, Target};
use super::stage::{Stage, VICTIM, WITNESS};
use crate::error::{failed, Error, While};
use crate::net::cluster::status;
use crate::net::description::{config_path, log_path};

const POLL: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(300);
/// A ledger, or genesis, that is younger is not thought to be far behind.
const OLD_ENOUGH: Duration = Duration::from_secs(25);

/// From the start of the process to the newest block that the others had then. What it has in the end is a pruned ledger.
pub async fn join(stage: &mut Stage) -> Result<(), Error> {
    let begin = Instant::now();
    stage.register_subjects(SUBJECTS).await?;
    let victim = stage.index(VICTIM)?;
    stage.cluster.kill_node(victim)?;
    let config = config_path(&stage.dir, VICTIM);
    let text = std::fs::read_to_string(&config).during(|| format!("reading {}", config.display()))?;
    let lag = text.replacen("snapshot_lag_heights = 10000 ", "snapshot_lag_heights = 1 ", 1);
    if lag == text {
        return failed(format!("{} does not name snapshot_lag_heights", config.display()));
    }
    std::fs::write(&config, lag).during(|| format!("changing {}", config.display()))?;
    let data = stage.network().node(VICTIM)?.data.clone();
    for name in ["ledger", "consensus"] {
        let folder = data.join(name);
        std::fs::remove_dir_all(&folder).during(|| format!("removing {}", folder.display()))?;
    }
    tokio::time::sleep(OLD_ENOUGH.saturating_sub(begin.elapsed())).await;

    let there = status(stage.network(), WITNESS).await?;
    let height = there.answer.map_or(0, |a| a.height);
    let begin = Instant::now();
    stage.cluster.start_node(victim)?;
    loop {
        stage.cluster.fail_if_ended()?;
        match status(stage.network(), VICTIM).await {
            Ok(status) if status.answer.as_ref().is_some_and(|a| a.height >= height) => break,
            _ if begin.elapsed() > LIMIT => return failed(format!("{VICTIM} did not join within {LIMIT:?}")),
            _ => tokio::time::sleep(POLL).await,
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let log = log_path(&stage.dir, VICTIM);
    let said = std::fs::read_to_string(&log).during(|| format!("reading {}", log.display()))?;
    if !said.contains("joined from a snapshot") {
        stage
            .wrong
            .push(format!("{VICTIM} caught up by blocks: {} says nothing of a snapshot", log.display()));
    }
    let samples = SUBJECTS as u64;
    stage.keep(Figure::new("join_100k_seconds", seconds, "s", Target::AtMost(15.0), samples, seconds));
    Ok(())
}
