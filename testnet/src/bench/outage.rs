//! One of four is killed, or two of seven: what the others still do; and how fast the one catches up.

use std::time::{Duration, Instant};

use super::commit::{full_rate, lost};
use super::figure::{Figure, Target};
use super::load::open_loop;
use super::stage::{Stage, VICTIM, WITNESS};
use crate::error::{failed, Error};
use crate::net::cluster::status;

const POLL: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(300);

/// The names of an outage's figures: ratio, rate and 99th percentile of those that are left.
type Names = [&'static str; 3];

const ONE_OF_FOUR: Names = ["one_dead_ratio", "one_dead_ops_per_s", "one_dead_p99_ms"];
const TWO_OF_SEVEN: Names =
    ["two_of_seven_dead_ratio", "two_of_seven_dead_ops_per_s", "two_of_seven_dead_p99_ms"];

/// The rate with all and without some, right after another; they stay dead. Entries that there were when they died.
async fn without(stage: &mut Stage, dead: &[String], names: Names) -> Result<u64, Error> {
    let survivors: Vec<String> = stage.organizations().into_iter().filter(|o| !dead.contains(o)).collect();
    let writers = stage.writers(&survivors).await?;
    let all = full_rate(stage, &writers, "all").await;
    let before = status(stage.network(), WITNESS).await?.entries;
    for organization in dead {
        let index = stage.index(organization)?;
        stage.cluster.kill_node(index)?;
    }
    let fewer = full_rate(stage, &writers, "fewer").await;
    let half = open_loop(fewer / 2.0, stage.time, |n| writers.clone().one("half-of-fewer", n)).await;
    stage.must_succeed("half of fewer", &half);
    let (samples, seconds) = (half.micros.len() as u64, half.seconds);
    let [ratio, rate, p99] = names;
    stage.keep(Figure::new(ratio, fewer / all, "ratio", Target::AtLeast(0.9), samples, seconds));
    stage.keep(Figure::new(rate, fewer, "ops/s", Target::None, samples, seconds));
    let slow = half.percentile_ms(99.0);
    stage.keep(Figure::new(p99, slow, "ms", Target::AtMost(1_000.0), samples, seconds));
    Ok(before)
}

/// Two of seven are killed: what the others still do.
pub async fn two_of_seven(stage: &mut Stage) -> Result<(), Error> {
    let dead: Vec<String> = stage.organizations().into_iter().rev().take(2).collect();
    without(stage, &dead, TWO_OF_SEVEN).await?;
    lost(stage, WITNESS).await
}

/// One of four is killed, then comes back.
pub async fn outage(stage: &mut Stage) -> Result<(), Error> {
    let before = without(stage, &[VICTIM.into()], ONE_OF_FOUR).await?;
    let victim = stage.index(VICTIM)?;

    let there = status(stage.network(), WITNESS).await?;
    let height = there.answer.map_or(0, |a| a.height);
    let begin = Instant::now();
    stage.cluster.start_node(victim)?;
    loop {
        stage.cluster.fail_if_ended()?;
        match status(stage.network(), VICTIM).await {
            Ok(status) if status.answer.as_ref().is_some_and(|a| a.height >= height) => break,
            _ if begin.elapsed() > LIMIT => {
                return failed(format!("{VICTIM} did not catch up within {LIMIT:?}"))
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
    let (missed, seconds) = (there.entries.saturating_sub(before), begin.elapsed().as_secs_f64());
    let rate = missed as f64 / seconds;
    stage.keep(Figure::new(
        "catch_up_entries_per_s",
        rate,
        "entries/s",
        Target::AtLeast(5_000.0),
        missed,
        seconds,
    ));
    lost(stage, VICTIM).await
}
