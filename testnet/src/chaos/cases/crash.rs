//! A: processes end, all at once or one by one, under load.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::super::world::{World, POLL};
use super::super::writes::What;
use super::links::first_write_through;
use crate::error::{failed, Error};
use crate::net::process::STOP_LIMIT_SECONDS;

/// L1's limit, in seconds.
pub(super) const HEAL_LIMIT: f64 = 10.0;
/// Load before the fault.
pub(super) const BEFORE: Duration = Duration::from_secs(3);
/// How long nothing must be committed without a quorum.
const HALTED: Duration = Duration::from_secs(6);
/// Blocks that were decided when the quorum ended are committed by then.
const SETTLED: Duration = Duration::from_millis(1_500);
/// Time that a write without quorum is given.
const WRITE_TIME: Duration = Duration::from_secs(3);
/// How long a node may take to pass its fault point.
const POINT_LIMIT: Duration = Duration::from_secs(60);
/// Longest of A5's lives, in milliseconds: enough to be ready and to vote.
const LONGEST_LIFE_MS: u64 = 2_500;
/// Who stood still no longer than this writes again within L1's limit.
const BRIEF_SECONDS: u64 = 10;
/// Passes of a fault point before it ends the process, at most.
const MAX_PASSES: u64 = 20;

/// A1.
pub async fn kill_one(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let victim = world.one_of(&world.organizations());
    let pause = world.between_ms(250, 10_000);
    world.nodes.kill(&victim)?;
    let others = world.others(&[&victim]);
    world.heal("the kill, through the others", &others, HEAL_LIMIT).await?;
    tokio::time::sleep(pause).await;
    back(world, &victim, &others[0]).await
}

/// Starts a node that is down: seconds until it is where another one was.
async fn back(world: &mut World, victim: &str, witness: &str) -> Result<f64, Error> {
    let height = world.height(witness).await?;
    world.nodes.start(victim)?;
    let seconds = world.wait_back(victim, height).await?;
    world.heal(&format!("{victim} came back, through it"), &[victim.to_owned()], HEAL_LIMIT).await?;
    Ok(seconds)
}

/// A2, at the points that there are.
pub async fn fault_points(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    let mut worst = 0f64;
    for point in ["proposal-stored", "block-validated", "before-commit", "after-commit", "request-stored"] {
        let victim = world.one_of(&world.organizations());
        let passes = world.between_ms(1, MAX_PASSES).as_millis();
        world.nodes.stop(&victim).await?;
        world.nodes.expect(&victim, -(Signal::SIGABRT as i32))?;
        let before = world.nodes.exits_of(&victim).len();
        world.nodes.start_once(&victim, &["--fault".into(), format!("{point}:{passes}")])?;
        let begin = Instant::now();
        while world.nodes.exits_of(&victim).len() == before {
            if begin.elapsed() > POINT_LIMIT {
                return failed(format!("{victim} did not pass {point} {passes} times"));
            }
            tokio::time::sleep(POLL).await;
        }
        let others = world.others(&[&victim]);
        world.heal(&format!("{victim} ended at {point}"), &others, HEAL_LIMIT).await?;
        // Its supervisor starts it again.
        let height = world.height(&others[0]).await?;
        while !world.nodes.runs(&victim) {
            tokio::time::sleep(POLL).await;
        }
        worst = worst.max(world.wait_back(&victim, height).await?);
    }
    Ok(worst)
}

/// A3.
pub async fn kill_two(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let (dead, alive) = world.halves();
    for victim in &dead {
        world.nodes.kill(victim)?;
    }
    world.cut(&alive);
    halted(world, &alive).await?;
    fails_fast(world, &alive[0]).await?;
    world.nodes.start(&dead[0])?;
    world.uncut();
    let up = [alive.as_slice(), &dead[..1]].concat();
    let seconds = world.heal("one of two came back", &up, HEAL_LIMIT).await?;
    back(world, &dead[1], &alive[0]).await?;
    Ok(seconds)
}

/// Nothing is committed on any of these while they have no quorum.
pub(super) async fn halted(world: &mut World, nodes: &[String]) -> Result<(), Error> {
    tokio::time::sleep(SETTLED).await;
    let mut before = Vec::new();
    for node in nodes {
        before.push(world.height(node).await?);
    }
    tokio::time::sleep(HALTED).await;
    for (node, before) in nodes.iter().zip(before) {
        let after = world.height(node).await?;
        if after != before {
            world.wrong(format!("without a quorum {node} went from height {before} to {after}"));
        }
    }
    Ok(())
}

/// A write without quorum ends within its time, with an answer that invites to try again.
async fn fails_fast(world: &mut World, organization: &str) -> Result<(), Error> {
    let writer = world.writer(organization).await?;
    let begin = Instant::now();
    // The client waits longer than it told the node.
    let sent = writer.try_once("without-quorum", &What::One, WRITE_TIME).await;
    let seconds = begin.elapsed().as_secs_f64();
    let limit = WRITE_TIME.as_secs_f64() + 1.0;
    match sent {
        Ok(_) => world.wrong("a write was acknowledged without a quorum"),
        Err(status) => {
            let code = status.code();
            if !matches!(code, tonic::Code::Unavailable | tonic::Code::DeadlineExceeded) || seconds > limit {
                world.wrong(format!("a write without quorum ended after {seconds:.1} s with {code:?}"));
            }
        }
    }
    Ok(())
}

/// A4.
pub async fn kill_all(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let (mut order, rest) = world.halves();
    order.extend(rest);
    let all = world.organizations();
    for victim in &all {
        world.nodes.kill(victim)?;
    }
    world.cut(&all);
    for node in &order[..3] {
        let pause = world.between_ms(0, 5_000);
        tokio::time::sleep(pause).await;
        world.nodes.start(node)?;
    }
    world.uncut();
    let seconds = world.heal("three of four came back", &order[..3], HEAL_LIMIT).await?;
    let pause = world.between_ms(0, 5_000);
    tokio::time::sleep(pause).await;
    back(world, &order[3], &order[0]).await?;
    Ok(seconds)
}

/// A5. Most lives end while the node still starts.
pub async fn short_lives(world: &mut World, lives: u64) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let victim = world.one_of(&world.organizations());
    let others = world.others(&[&victim]);
    world.nodes.kill(&victim)?;
    for _ in 0..lives {
        world.nodes.start(&victim)?;
        let life = world.between_ms(20, LONGEST_LIFE_MS);
        tokio::time::sleep(life).await;
        if !world.nodes.runs(&victim) {
            let exits = world.nodes.exits_of(&victim);
            return failed(format!("{victim} ended by itself after {} lives: {exits:?}", exits.len() - 1));
        }
        world.nodes.kill(&victim)?;
    }
    world.heal("many short lives, through the others", &others, HEAL_LIMIT).await?;
    back(world, &victim, &others[0]).await
}

/// A6, either half.
pub async fn stop_one(world: &mut World, seconds: u64) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let victim = world.one_of(&world.organizations());
    let others = world.others(&[&victim]);
    world.nodes.signal(&victim, Signal::SIGSTOP)?;
    world.cut(std::slice::from_ref(&victim));
    world.heal("one was stopped, through the others", &others, HEAL_LIMIT).await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    world.nodes.signal(&victim, Signal::SIGCONT)?;
    world.uncut();
    if seconds <= BRIEF_SECONDS {
        return world.heal("it went on, through it", &[victim], HEAL_LIMIT).await;
    }
    // It has too much to fetch for L1's limit: that is asked of any node, and its own first write is the figure.
    let through = first_write_through(world, &victim).await?;
    world.heal("it went on", &world.organizations(), HEAL_LIMIT).await?;
    through.await.unwrap_or_else(|_| failed("the first write was not waited for"))
}

/// A8.
pub async fn terminate_one(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let victim = world.one_of(&world.organizations());
    let others = world.others(&[&victim]);
    let seconds = world.nodes.stop(&victim).await?;
    if seconds > STOP_LIMIT_SECONDS as f64 {
        world.wrong(format!("{victim} took {seconds:.1} s to stop under load"));
    }
    if world.nodes.exits_of(&victim) != [0] {
        world.wrong(format!("{victim} ended with {:?} after SIGTERM", world.nodes.exits_of(&victim)));
    }
    world.heal("one was told to stop, through the others", &others, HEAL_LIMIT).await?;
    back(world, &victim, &others[0]).await?;
    Ok(seconds)
}

/// A9.
pub async fn kill_and_start(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let mut worst = 0f64;
    for _ in 0..3 {
        let victim = world.one_of(&world.organizations());
        let others = world.others(&[&victim]);
        let height = world.height(&others[0]).await?;
        world.nodes.kill(&victim)?;
        world.nodes.start(&victim)?;
        worst = worst.max(world.wait_back(&victim, height).await?);
        world.heal("it was killed and started at once, through it", &[victim], HEAL_LIMIT).await?;
    }
    Ok(worst)
}
