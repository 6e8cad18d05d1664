//! L1's second half and R1: what takes minutes to see.

use std::time::{Duration, Instant};

use super::super::world::World;
use super::crash::{BEFORE, HEAL_LIMIT};
use crate::bench::memory_mb_of;
use crate::error::{failed, Error};

/// How long the rate is measured before the fault.
const BASE: Duration = Duration::from_secs(20);
/// And each time after it.
const WINDOW: Duration = Duration::from_secs(5);
/// How long two are down.
const DOWN: Duration = Duration::from_secs(10);
/// L1: so much of the rate within so long.
const SHARE: f64 = 0.9;
const RATE_LIMIT: f64 = 60.0;
/// R1's limits.
const MEMORY_LIMIT_MB: f64 = 512.0;
const GROWTH_LIMIT: f64 = 0.05;
/// R1: the stores' write buffers and caches fill for minutes before growth says anything. So it is judged over the second half of a
/// run that is this long, between the means over its first and its last part.
const GROWTH_SECONDS: u64 = 1_200;
const WARM_UP_SHARE: f64 = 0.5;
const PARTS: usize = 6;
const MEMORY_POLL: Duration = Duration::from_secs(2);

/// Patients registered in a second, over some time from now.
pub(super) async fn rate(world: &World, time: Duration) -> f64 {
    let count = || -> u64 {
        let journal = world.journal.lock();
        journal.writes.values().filter(|write| write.acknowledged).map(|write| write.subjects).sum()
    };
    let (before, begin) = (count(), Instant::now());
    tokio::time::sleep(time).await;
    (count() - before) as f64 / begin.elapsed().as_secs_f64()
}

/// L1-rate.
pub async fn recovery(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let base = rate(world, BASE).await;
    let (dead, alive) = world.halves();
    for victim in &dead {
        world.nodes.kill(victim)?;
    }
    world.cut(&alive);
    tokio::time::sleep(DOWN).await;
    for victim in &dead {
        world.nodes.start(victim)?;
    }
    world.uncut();
    let healed = Instant::now();
    world.heal("two came back", &world.organizations(), HEAL_LIMIT).await?;
    let mut best = 0f64;
    while healed.elapsed().as_secs_f64() < RATE_LIMIT {
        best = best.max(rate(world, WINDOW).await);
        if best >= SHARE * base {
            eprintln!("     {base:.0} patients/s before, {best:.0} after");
            return Ok(healed.elapsed().as_secs_f64());
        }
    }
    world
        .wrong(format!("{base:.0} patients/s before, at most {best:.0} within {RATE_LIMIT} s after healing"));
    Ok(healed.elapsed().as_secs_f64())
}

/// R1.
pub async fn memory(world: &mut World, seconds: u64) -> Result<f64, Error> {
    world.begin_load().await?;
    let nodes: Vec<_> = world.network.nodes.clone();
    let mut seen: Vec<Vec<f64>> = vec![Vec::new(); nodes.len()];
    let (begin, time) = (Instant::now(), Duration::from_secs(seconds));
    while begin.elapsed() < time {
        for (node, seen) in nodes.iter().zip(&mut seen) {
            let Some(pid) = world.nodes.pid(&node.organization) else {
                return failed(format!("{} has ended", node.organization));
            };
            let mut node = node.clone();
            node.pid = pid;
            seen.push(memory_mb_of(&node)?);
        }
        tokio::time::sleep(MEMORY_POLL).await;
    }
    if seconds < GROWTH_SECONDS {
        eprintln!("     growth is not judged in less than {GROWTH_SECONDS} s");
    }
    let mut most = 0f64;
    for (node, seen) in nodes.iter().zip(&seen) {
        let highest = seen.iter().copied().fold(0.0, f64::max);
        let (first, last) = ends(seen);
        let growth = last / first - 1.0;
        let told =
            format!("{}: {first:.0} MB, then {last:.0} MB, at most {highest:.0} MB", node.organization);
        eprintln!("     {told}: {:+.1}%", growth * 100.0);
        let grows = seconds >= GROWTH_SECONDS && growth > GROWTH_LIMIT;
        if highest > MEMORY_LIMIT_MB || grows {
            world.wrong(format!("{told}; limits {MEMORY_LIMIT_MB} MB and {:.0}%", GROWTH_LIMIT * 100.0));
        }
        most = most.max(highest);
    }
    world.heal("steady load", &world.organizations(), HEAL_LIMIT).await?;
    Ok(most)
}

/// Means of the first and the last part, once warm.
fn ends(seen: &[f64]) -> (f64, f64) {
    let warm = &seen[((seen.len() as f64 * WARM_UP_SHARE) as usize).min(seen.len())..];
    let part = (warm.len() / PARTS).max(1).min(warm.len());
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    (mean(&warm[..part]), mean(&warm[warm.len() - part..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_from_the_filling_of_caches() {
        let filling: Vec<f64> = (0..100).map(|n| f64::from(n.min(40)) + 100.0).collect();
        assert_eq!(ends(&filling), (140.0, 140.0), "full before it is judged");
        let leaking: Vec<f64> = (0..100).map(|n| f64::from(n) + 100.0).collect();
        let (first, last) = ends(&leaking);
        assert!(last / first > 1.0 + GROWTH_LIMIT, "{first} {last}");
    }
}
