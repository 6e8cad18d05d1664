//! A node with 100,000 entries is killed and started again: how soon it votes.

use std::time::{Duration, Instant};

use super::commit::lost;
use super::figure::{Figure, Target};
use super::load::{closed_loop, open_loop};
use super::stage::{Stage, VICTIM, WITNESS};
use crate::error::{failed, Error, While};
use crate::net::cluster::status;

/// Entries that the ledger has at least.
const ENTRIES: u64 = 100_000;
/// Writers until there are so many.
const LANES: usize = 512;
const FILLING: Duration = Duration::from_secs(10);
/// Writes a second while the node is away and comes back: without blocks nobody votes.
const RATE: f64 = 100.0;
const POLL: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(120);
/// Kills.
const TURNS: u64 = 5;

/// From the start of the process to its precommit in another node's certificate: the slowest of some.
pub async fn restart(stage: &mut Stage) -> Result<(), Error> {
    let survivors: Vec<String> = stage.organizations().into_iter().filter(|o| o != VICTIM).collect();
    let writers = stage.writers(&survivors).await?;
    while status(stage.network(), WITNESS).await?.entries < ENTRIES {
        let writers = writers.clone();
        // Names of patients that no earlier turn used.
        let base = status(stage.network(), WITNESS).await?.log_size << 20;
        let fill = move |_, n| writers.clone().one("fill", base + n);
        let filled = closed_loop(LANES, FILLING, fill).await;
        stage.must_succeed("fill", &filled);
    }
    let victim = stage.index(VICTIM)?;
    let mut slowest = 0.0f64;
    for turn in 0..TURNS {
        let load = {
            let writers = writers.clone();
            tokio::spawn(open_loop(RATE, Duration::from_secs(15), move |n| {
                writers.clone().one("restart", turn << 20 | n)
            }))
        };
        tokio::time::sleep(Duration::from_secs(2)).await;
        stage.cluster.kill_node(victim)?;
        let height = status(stage.network(), WITNESS).await?.answer.map_or(0, |a| a.height);
        let begin = Instant::now();
        stage.cluster.start_node(victim)?;
        while !votes_after(stage, height).await? {
            stage.cluster.fail_if_ended()?;
            if begin.elapsed() > LIMIT {
                return failed(format!("{VICTIM} did not vote within {LIMIT:?}"));
            }
            tokio::time::sleep(POLL).await;
        }
        slowest = slowest.max(begin.elapsed().as_secs_f64());
        let done = load.await.during(|| "writing over a restart".into())?;
        stage.must_succeed("load over a restart", &done);
    }
    let target = Target::AtMost(10.0);
    stage.keep(Figure::new("restart_100k_to_vote_s", slowest, "s", target, TURNS, slowest));
    lost(stage, VICTIM).await
}

/// Whether the witness holds a certificate with the victim's precommit over a later block.
async fn votes_after(stage: &Stage, height: u64) -> Result<bool, Error> {
    let status = status(stage.network(), WITNESS).await?;
    // The block after was maybe voted on before the kill.
    Ok(status.validators.iter().any(|v| v.organization == VICTIM && v.last_signed_height > height + 1))
}
