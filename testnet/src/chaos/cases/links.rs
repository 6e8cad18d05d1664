//! B: links between nodes are cut, stalled, delayed or thinned. Every byte between nodes goes through the proxy, so a node that
//! still hears of a block while it is isolated would show that this is not so.

use std::time::{Duration, Instant};

use rand::Rng;
use tokio::task::JoinHandle;

use super::super::proxy::Flow;
use super::super::world::{World, SETTLE_LIMIT};
use super::super::writes::What;
use super::crash::{halted, BEFORE, HEAL_LIMIT};
use crate::error::{failed, Error};

/// B8's limit, in seconds.
const DIVERGED_LIMIT: f64 = 15.0;
/// How long links are bad where commits must go on.
const BAD: Duration = Duration::from_secs(15);
/// Pause between two probes meanwhile.
const PROBE_PAUSE: Duration = Duration::from_secs(2);

/// Stalled or cut, by chance: both are partitions.
fn severed(world: &mut World) -> Flow {
    match world.rng.gen_bool(0.5) {
        true => Flow::Stall,
        false => Flow::Cut,
    }
}

/// Rules for all links between two groups.
fn between(world: &World, a: &[String], b: &[String], flow: Flow) {
    for from in a {
        for to in b {
            world.proxy.set_both(from, to, flow);
        }
    }
}

/// B1.
pub async fn isolate(world: &mut World, seconds: u64) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let asked = ["cedar", "birch"].map(String::from);
    let victim = [world.one_of(&asked)];
    let others = world.others(&[&victim[0]]);
    let flow = severed(world);
    eprintln!("     {} is isolated for {seconds} s: {flow:?}", victim[0]);
    between(world, &victim, &others, flow);
    world.cut(&victim);
    let begin = Instant::now();
    world.heal("one was isolated, through the others", &others, HEAL_LIMIT).await?;
    halted(world, &victim).await?;
    let rest = Duration::from_secs(seconds).saturating_sub(begin.elapsed());
    tokio::time::sleep(rest).await;
    world.proxy.open_all();
    world.uncut();
    let healed = Instant::now();
    let through = first_write_through(world, &victim[0]).await?;
    world.heal("the isolation ended", &world.organizations(), HEAL_LIMIT).await?;
    // Before it can write it fetches what it missed: no limit of L1's, but the figure.
    let height = world.height(&others[0]).await?;
    world.wait_back(&victim[0], height).await?;
    eprintln!("     {} had caught up after {:.1} s", victim[0], healed.elapsed().as_secs_f64());
    through.await.unwrap_or_else(|_| failed("the first write was not waited for"))
}

/// Writes through a node until one is committed: seconds from now.
pub(super) async fn first_write_through(
    world: &World,
    organization: &str,
) -> Result<JoinHandle<Result<f64, Error>>, Error> {
    let begin = Instant::now();
    let (writer, organization) = (world.writer(organization).await?, organization.to_owned());
    Ok(tokio::spawn(async move {
        let late = || begin.elapsed() >= SETTLE_LIMIT;
        match writer.write("first-after-healing", &What::One, late).await {
            Some((at, _)) => Ok((at - begin).as_secs_f64()),
            None => failed(format!("no write through {organization} was committed")),
        }
    }))
}

/// B2.
pub async fn split(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let (a, b) = world.halves();
    let flow = severed(world);
    eprintln!("     {} | {}: {flow:?}", a.join(" "), b.join(" "));
    between(world, &a, &b, flow);
    let all = world.organizations();
    world.cut(&all);
    halted(world, &all).await?;
    world.proxy.open_all();
    world.uncut();
    world.heal("the split ended", &all, HEAL_LIMIT).await
}

/// B8: a moving partition lets some nodes see timeouts that others don't, so that they stand in different rounds.
pub async fn moving(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let all = world.organizations();
    world.cut(&all);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        world.proxy.open_all();
        let (a, b) = world.halves();
        // Half of the time three are together, so that rounds go on somewhere.
        let alone = world.rng.gen_bool(0.5);
        let cut = if alone { &a[..1] } else { &a[..] };
        let rest = world.others(&cut.iter().map(String::as_str).collect::<Vec<_>>());
        between(world, cut, if alone { &rest } else { &b }, Flow::Stall);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    world.proxy.open_all();
    // Till here some of them had a quorum now and then; from here on nobody has.
    world.uncut();
    world.cut(&all);
    let (a, b) = world.halves();
    between(world, &a, &b, Flow::Stall);
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.proxy.open_all();
    world.uncut();
    world.heal("rounds diverged", &all, DIVERGED_LIMIT).await
}

/// Writes through these nodes while links are bad: the slowest of some probes.
async fn goes_on(world: &mut World, what: &str, through: &[String]) -> Result<f64, Error> {
    let (begin, mut worst) = (Instant::now(), 0f64);
    while begin.elapsed() < BAD {
        worst = worst.max(world.heal(what, through, HEAL_LIMIT).await?);
        tokio::time::sleep(PROBE_PAUSE).await;
    }
    Ok(worst)
}

/// Opens all links; a write through each of those that were hit must follow.
async fn open(world: &mut World, hit: &[String]) -> Result<(), Error> {
    world.proxy.open_all();
    world.uncut();
    for one in hit {
        world.heal("links were good again", std::slice::from_ref(one), HEAL_LIMIT).await?;
    }
    Ok(())
}

/// B3.
pub async fn line(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let (mut order, rest) = world.halves();
    order.extend(rest);
    for (a, b) in [(0, 2), (0, 3), (1, 3)] {
        world.proxy.set_both(&order[a], &order[b], Flow::Cut);
    }
    let worst = goes_on(world, "the line", &order[1..3]).await?;
    open(world, &order).await?;
    Ok(worst)
}

/// B4.
pub async fn one_way(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let mute = world.one_of(&world.organizations());
    let others = world.others(&[&mute]);
    for other in &others {
        world.proxy.set(&mute, other, Flow::Stall);
    }
    world.cut(std::slice::from_ref(&mute));
    let worst = goes_on(world, "one was not heard", &others).await?;
    open(world, &[mute]).await?;
    Ok(worst)
}

/// B5.
pub async fn flap(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let victim = world.one_of(&world.organizations());
    let others = world.others(&[&victim]);
    let flow = severed(world);
    world.cut(std::slice::from_ref(&victim));
    let (proxy, ends) = (world.proxy.clone(), others.clone());
    let one = victim.clone();
    let flapping = tokio::spawn(async move {
        loop {
            for rule in [flow, Flow::Open] {
                ends.iter().for_each(|other| proxy.set_both(&one, other, rule));
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    });
    let worst = goes_on(world, "links flapped", &others).await;
    flapping.abort();
    let _ = flapping.await; // aborted
    let worst = worst?;
    open(world, &[victim]).await?;
    Ok(worst)
}

/// B6.
pub async fn slow(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let all = world.organizations();
    between(world, &all, &all, Flow::Delay(Duration::from_millis(200)));
    let worst = goes_on(world, "links took 200 ms", &all).await?;
    open(world, &all).await?;
    Ok(worst)
}

/// B9.
pub async fn thin(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let victim = [world.one_of(&world.organizations())];
    let others = world.others(&[&victim[0]]);
    between(world, &victim, &others, Flow::Rate(10_000));
    world.cut(&victim);
    let worst = goes_on(world, "one had 10 kB/s", &others).await?;
    open(world, &victim).await?;
    Ok(worst)
}
