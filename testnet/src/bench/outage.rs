//! One of four is killed: what the others still do; and how fast it catches up.

use std::time::{Duration, Instant};

use super::commit::{full_rate, lost};
use super::figure::{Figure, Target};
use super::load::open_loop;
use super::stage::{Stage, VICTIM, WITNESS};
use crate::error::{failed, Error};
use crate::net::cluster::status;

const POLL: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(300);

/// The rate with four and with three, right after another; then the fourth comes back.
pub async fn outage(stage: &mut Stage) -> Result<(), Error> {
    let survivors: Vec<String> = stage.organizations().into_iter().filter(|o| o != VICTIM).collect();
    let writers = stage.writers(&survivors).await?;
    let four = full_rate(stage, &writers, "four").await;
    let Some(victim) = stage.organizations().iter().position(|o| o == VICTIM) else {
        return failed("the network has no node to kill");
    };
    let before = status(stage.network(), VICTIM).await?.entries;
    stage.cluster.kill_node(victim)?;
    let three = full_rate(stage, &writers, "three").await;
    let half = open_loop(three / 2.0, stage.time, |n| writers.clone().one("half-of-three", n)).await;
    stage.must_succeed("half of three", &half);
    let (samples, seconds) = (half.micros.len() as u64, half.seconds);
    let ratio = Figure::new("one_dead_ratio", three / four, "ratio", Target::AtLeast(0.9), samples, seconds);
    stage.keep(ratio);
    stage.keep(Figure::new("one_dead_ops_per_s", three, "ops/s", Target::None, samples, seconds));
    let p99 = half.percentile_ms(99.0);
    stage.keep(Figure::new("one_dead_p99_ms", p99, "ms", Target::AtMost(1_000.0), samples, seconds));

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
