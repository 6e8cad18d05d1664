//! F: the quorum. One that would be lost is kept; one that is lost for ever is replaced by those that remain.

use std::path::PathBuf;
use std::time::Duration;

use assent_proto::v1::GetStatusResponse;
use tokio::process::Command;

use super::super::look::{audited, export};
use super::super::world::World;
use super::crash::{halted, BEFORE, HEAL_LIMIT};
use super::governing::{approved, has_vote, operator, reached, until, LEAD};
use crate::error::{failed, Error, While};
use crate::net::create::text;
use crate::net::description::node_dir;

/// How long a dead validator may take to be benched, and a change that was put off to take place.
const BENCH_LIMIT: Duration = Duration::from_secs(120);

/// F4.
pub async fn no_quorum_left(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let dead = world.one_of(&world.organizations());
    let live = world.others(&[&dead]);
    let leaves = world.one_of(&live);
    let witness = live.iter().find(|o| **o != leaves).cloned().unwrap_or_default();
    world.nodes.kill(&dead)?;
    world.heal("the kill, through the others", &live, HEAL_LIMIT).await?;
    // Two turns missed in a row bench it: eight heights are enough for that, and its return in a while is missed again.
    reached(world, &witness, world.height(&witness).await? + LEAD / 4).await?;
    let due = approved(world, &["remove-validator", &leaves], &live).await?;
    reached(world, &witness, due + 2).await?;
    let listed = operator(world, &witness, &["governance", "list"]).await?;
    let scheduled = listed["scheduled"].as_array().into_iter().flatten();
    let later = scheduled.filter_map(|c| c["effective_height"].as_u64()).find(|height| *height > due);
    eprintln!("     {dead} is dead; removal of {leaves} was due at block {due}, is put off to {later:?}");
    if later.is_none() || !has_vote(&world.status(&witness).await?, &leaves) {
        world.wrong(format!(
            "{leaves} was removed at block {due} while {dead} was dead: two of three are no quorum"
        ));
    }
    // Put off again and again, and the ledger goes on.
    reached(world, &witness, due + LEAD).await?;
    if !has_vote(&world.status(&witness).await?, &leaves) {
        world.wrong(format!("{leaves} was removed while {dead} was dead"));
    }
    world.heal("a removal was put off", &live, HEAL_LIMIT).await?;
    world.nodes.start(&dead)?;
    let height = world.height(&witness).await?;
    world.wait_back(&dead, height).await?;
    let gone = |s: &GetStatusResponse| !has_vote(s, &leaves);
    let seconds = until(world, &witness, &format!("{leaves} has no vote"), BENCH_LIMIT, gone).await?;
    world.heal("the removal took place", &world.organizations(), HEAL_LIMIT).await?;
    Ok(seconds)
}

/// F9: two of four are gone for ever.
pub async fn lost_for_ever(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    // What one of the lost nodes alone committed is lost with it, as the operator guide says: here nothing is.
    if let Some(load) = world.load.take() {
        load.stop().await;
    }
    world.settle().await?;
    let (gone, remain) = world.halves();
    let before = world.height(&remain[0]).await?;
    for organization in &gone {
        world.nodes.kill(organization)?;
    }
    world.cut(&remain);
    eprintln!("     {} are gone at block {before}; {} remain", gone.join(" and "), remain.join(" and "));
    halted(world, &remain).await?;
    for organization in &remain {
        world.nodes.stop(organization).await?;
    }
    world.network.nodes.retain(|node| remain.contains(&node.organization));

    let file = world.dir.join("recovery.plan");
    let (plan, keep) = (text(&file)?.to_owned(), remain.join(","));
    let made = ["plan", "--keep", &keep, "--reason", "chaos: fire in a shared data center", "--out", &plan];
    let mut hash = recover(world, &remain[0], &made).await?;
    for organization in &remain {
        hash = recover(world, organization, &["sign", &plan]).await?;
    }
    for organization in &remain {
        let agreed = recover(world, organization, &["apply", &plan]).await?;
        if agreed != hash {
            world.wrong(format!("{organization} agreed to plan {agreed}, signed was {hash}"));
        }
    }
    for organization in &remain {
        world.nodes.start(organization)?;
    }
    let seconds = world.heal("two of four were given up", &remain, HEAL_LIMIT).await?;
    world.uncut();
    for organization in &remain {
        world.wait_back(organization, before + 1).await?;
    }
    world.recovery = Some(hash.clone());

    // Nobody is made to believe it: who did not hear of the plan is told that this can't be decided.
    let file = world.dir.join("recovered.export");
    export(world, &remain[0], &file).await?;
    for (accepted, wanted) in [(None, 4), (Some(hash.as_str()), 0)] {
        let (exit, report) = audited(world, &file, "full", accepted).await?;
        eprintln!("     audit of its export, accepting {accepted:?}: exit {exit}, {}", report["recoveries"]);
        if exit != wanted || !report.to_string().contains(&hash) {
            world.wrong(format!("audit, accepting {accepted:?}: exit {exit}, not {wanted}: {report}"));
        }
    }
    Ok(seconds)
}

/// `assentd recover`, at a stopped node: the plan's hash that it prints.
async fn recover(world: &World, organization: &str, words: &[&str]) -> Result<String, Error> {
    let dir: PathBuf = node_dir(&world.dir, organization);
    let mut command = Command::new(&world.binaries.assentd);
    command.arg("recover").arg(words[0]).arg("--dir").arg(&dir).args(&words[1..]).kill_on_drop(true);
    let doing = || format!("`assentd recover {}` at {organization}", words.join(" "));
    let output = command.output().await.during(doing)?;
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let hash = said.lines().find_map(|line| line.strip_prefix("plan ")).map(|hash| hash.trim().to_owned());
    match hash.filter(|_| output.status.success()) {
        Some(hash) => Ok(hash),
        None => failed(format!("{}: {}: {said}{error}", doing(), output.status)),
    }
}
