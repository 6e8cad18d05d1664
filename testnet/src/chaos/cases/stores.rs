//! A10, C2, C5, C7: stores that are lost, damaged, set back, or refuse to be written. What is done about it is what the operator
//! guide says: keys and vault stay, ledger and votes go, and the node follows before it votes again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use rand::Rng;

use super::super::look::{export, verify};
use super::super::template::copy;
use super::super::world::{World, POLL};
use super::crash::{BEFORE, HEAL_LIMIT};
use crate::error::{failed, Error, While};

/// The folders that a validator must not get back from an old copy.
const LEDGER_AND_VOTES: [&str; 2] = ["ledger", "consensus"];
/// Bits flipped until one is found.
const FLIPS: usize = 5;
/// How long a damaged node may run before it has found the damage, while its ledger is read.
const FOUND_LIMIT: Duration = Duration::from_secs(20);
/// How far the others go on before an old copy is put back.
const MEANWHILE: Duration = Duration::from_secs(8);
/// How long a node may take to come to its failing write.
const FAIL_LIMIT: Duration = Duration::from_secs(60);
/// Writes before the one that fails, at most.
const MAX_WRITES: u64 = 40;

/// A10.
pub async fn wipe(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let victim = world.one_of(&world.organizations());
    world.nodes.stop(&victim).await?;
    let seconds = emptied(world, &victim).await?;
    no_equivocation(world).await?;
    Ok(seconds)
}

/// Empties a stopped node's folder but for the vault, and starts it: seconds until it is where the others were.
async fn emptied(world: &mut World, victim: &str) -> Result<f64, Error> {
    let others = world.others(&[victim]);
    for name in LEDGER_AND_VOTES {
        let store = world.store(victim, name)?;
        std::fs::remove_dir_all(&store).during(|| format!("removing {}", store.display()))?;
    }
    let height = world.height(&others[0]).await?;
    world.nodes.start(victim)?;
    let seconds = world.wait_back(victim, height).await?;
    world.heal("its folder was emptied, through it", &[victim.to_owned()], HEAL_LIMIT).await?;
    let log = world.store(victim, "")?.with_file_name("assentd.log");
    let text = std::fs::read_to_string(&log).during(|| format!("reading {}", log.display()))?;
    if !text.contains("waiting-may-have-voted") {
        world.wrong(format!("{victim} lost what it signed, and did not say that it waits"));
    }
    Ok(seconds)
}

/// C7.
pub async fn old_copy(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let victim = world.one_of(&world.organizations());
    let others = world.others(&[&victim]);
    let aside = world.dir.join("old-copy");
    let swap = |from: &Path, to: &Path| -> Result<(), Error> {
        for name in LEDGER_AND_VOTES {
            let target = to.join(name);
            if target.exists() {
                std::fs::remove_dir_all(&target).during(|| format!("removing {}", target.display()))?;
            }
            copy(&from.join(name), &target)?;
        }
        Ok(())
    };
    let data = world.store(&victim, "")?;
    world.nodes.stop(&victim).await?;
    swap(&data, &aside)?;
    let height = world.height(&others[0]).await?;
    world.nodes.start(&victim)?;
    world.wait_back(&victim, height).await?;
    tokio::time::sleep(MEANWHILE).await;
    world.nodes.stop(&victim).await?;
    swap(&aside, &data)?;
    let now = world.height(&others[0]).await?;
    eprintln!("     {victim} is put back to about block {height} of {now}");
    world.nodes.start(&victim)?;
    let seconds = world.wait_back(&victim, now).await?;
    world.heal("an old copy was put back, through it", &[victim], HEAL_LIMIT).await?;
    no_equivocation(world).await?;
    Ok(seconds)
}

/// Nobody saw a validator vote twice.
async fn no_equivocation(world: &mut World) -> Result<(), Error> {
    for organization in world.organizations() {
        let admin = world.network.node(&organization)?.admin.clone();
        let page = super::super::look::get(&admin, "/metrics").await?;
        let page = String::from_utf8_lossy(&page).into_owned();
        let mut lines = page.lines().filter(|line| line.contains("_equivocation_") && !line.starts_with('#'));
        if let Some(line) = lines.find(|line| !line.ends_with(" 0")) {
            world.wrong(format!("{organization} saw a validator sign twice: {line}"));
        }
    }
    Ok(())
}

/// C5.
pub async fn failing_writes(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    let mut worst = 0f64;
    for write in ["ledger-write", "vault-write", "vault-sync"] {
        let kind = if world.rng.gen_bool(0.5) { "eio" } else { "enospc" };
        let victim = world.one_of(&world.organizations());
        let others = world.others(&[&victim]);
        let passes = world.between_ms(1, MAX_WRITES).as_millis();
        world.nodes.stop(&victim).await?;
        world.nodes.expect(&victim, 7)?;
        let before = world.nodes.exits_of(&victim).len();
        world.nodes.start_once(&victim, &["--fault".into(), format!("{write}:{kind}:{passes}")])?;
        let begin = Instant::now();
        while world.nodes.exits_of(&victim).len() == before {
            if begin.elapsed() > FAIL_LIMIT {
                return failed(format!(
                    "{victim} did not come to {write} {passes} times, or goes on without it"
                ));
            }
            tokio::time::sleep(POLL).await;
        }
        let exits = world.nodes.exits_of(&victim).split_off(before);
        eprintln!("     {victim}: {write} failed with {kind} after {passes}: exit {exits:?}");
        if exits != [7] {
            world.wrong(format!("{victim} ended with {exits:?} when {write} failed with {kind}, not with 7"));
        }
        world.heal(&format!("{victim}'s {write} failed"), &others, HEAL_LIMIT).await?;
        let height = world.height(&others[0]).await?;
        while !world.nodes.runs(&victim) {
            tokio::time::sleep(POLL).await;
        }
        worst = worst.max(world.wait_back(&victim, height).await?);
        world.heal("its disk takes writes again, through it", &[victim], HEAL_LIMIT).await?;
    }
    Ok(worst)
}

/// C2.
pub async fn flip_bits(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let victim = world.one_of(&world.organizations());
    let others = world.others(&[&victim]);
    // Opened again, a store has in files what it had in its log.
    for _ in 0..2 {
        world.nodes.stop(&victim).await?;
        let height = world.height(&others[0]).await?;
        world.nodes.start(&victim)?;
        world.wait_back(&victim, height).await?;
    }
    world.nodes.expect(&victim, 9)?;
    for _ in 0..FLIPS {
        world.nodes.stop(&victim).await?;
        flip(world, &victim)?;
        let before = world.nodes.exits_of(&victim).len();
        world.nodes.start(&victim)?;
        if found(world, &victim, before).await? {
            world.heal("damage was found, through the others", &others, HEAL_LIMIT).await?;
            return emptied(world, &victim).await;
        }
    }
    failed(format!("none of {FLIPS} flipped bits in {victim}'s ledger was found"))
}

/// Flips a bit in one of the larger files of a stopped node's ledger.
fn flip(world: &mut World, victim: &str) -> Result<(), Error> {
    let folder = world.store(victim, "ledger")?;
    let doing = || format!("looking at {}", folder.display());
    let mut tables: Vec<(u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(&folder).during(doing)? {
        let path = entry.during(doing)?.path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            tables.push((path.metadata().during(doing)?.len(), path));
        }
    }
    tables.sort();
    let larger = tables.split_off(tables.len().saturating_sub(4));
    let Some((length, table)) = larger.choose(&mut world.rng) else {
        return failed(format!("{} has no table files", folder.display()));
    };
    let mut bytes = std::fs::read(table).during(|| format!("reading {}", table.display()))?;
    // Of the first three quarters: values, and no index or filter.
    let at = world.rng.gen_range(0..(length * 3 / 4).max(1));
    if let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at)) {
        *byte ^= 1 << world.rng.gen_range(0..8);
    }
    eprintln!("     {victim}: a bit of byte {at} of {length} of {} flipped", table.display());
    std::fs::write(table, bytes).during(|| format!("writing {}", table.display()))
}

/// Reads all that a damaged node serves. True when it found the damage and ended with 9; what it serves must be whole.
async fn found(world: &mut World, victim: &str, before: usize) -> Result<bool, Error> {
    let file = world.dir.join("served.export");
    let begin = Instant::now();
    let mut whole = 0;
    while begin.elapsed() < FOUND_LIMIT && whole < 2 {
        let exits = world.nodes.exits_of(victim).split_off(before);
        match exits.as_slice() {
            [] => {}
            [9] => return Ok(true),
            other => {
                world.wrong(format!("{victim} ended with {other:?} on a damaged store, not with 9"));
                return Ok(false);
            }
        }
        // Refused while it starts, and broken off where a block can't be read.
        if world.status(victim).await.is_ok_and(|s| s.fresh) && export(world, victim, &file).await.is_ok() {
            let (exit, height) = verify(world, &file).await?;
            if exit != 0 {
                world.wrong(format!("{victim} served a damaged ledger: exit {exit}, block {height:?}"));
            }
            whole += 1;
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(false)
}
