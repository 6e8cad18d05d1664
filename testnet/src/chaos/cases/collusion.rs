//! E8: two of four collude. Each runs twice, once for either side of a split, so that both sides have three of four votes and go on: the
//! ledger forks. That can't be prevented; what must be is that nobody can deny it. Exports of the two sides convict both, and nobody else.
//!
//! ```text
//! liar, liar       ── proxies ──        one honest
//! twin, twin  ── their own addresses ── the other honest
//! ```
//! The invariants suppose less than a third of liars: only those are judged that hold in spite of it ([`super::judged`]).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::look::export;
use super::super::proxy::Flow;
use super::super::world::World;
use super::super::writes::What;
use super::crash::BEFORE;
use super::twins::{dial, listens, Twin};
use crate::error::{failed, Error, While};
use crate::net::create::text;
use crate::net::ports;

/// Writes on each side: so many that blocks of the same round are among them.
const WRITES: u64 = 16;
/// How long each is tried.
const WRITE_LIMIT: Duration = Duration::from_secs(90);

/// E8.
pub async fn two_collude(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    if let Some(load) = world.load.take() {
        load.stop().await;
    }
    world.settle().await?;
    let (liars, honest) = world.halves();
    let forked_after = world.height(&honest[0]).await?;
    for liar in &liars {
        world.nodes.stop(liar).await?;
    }
    world.forked = true;
    let twins = [Twin::of(world, &liars[0])?, Twin::of(world, &liars[1])?];
    world.proxy.set_both(&honest[0], &honest[1], Flow::Cut);
    for liar in &liars {
        world.proxy.set_both(liar, &honest[1], Flow::Cut);
    }
    for liar in &liars {
        world.nodes.start(liar)?;
    }
    // Nobody listens where they look for the first honest one.
    let nowhere = ports::free(2)?;
    for (twin, other) in [(&twins[0], &twins[1]), (&twins[1], &twins[0])] {
        let dials = [
            dial(&honest[0], [nowhere[0], nowhere[1]]),
            dial(&honest[1], listens(world, &honest[1])?),
            dial(&other.of, other.at),
        ];
        twin.start(world, &dials)?;
    }
    eprintln!("     {} run twice, from block {forked_after} on", liars.join(" and "));
    let begin = Instant::now();
    let (one, other) = tokio::join!(writes(world, &honest[0]), writes(world, &honest[1]));
    one?;
    other?;
    let seconds = begin.elapsed().as_secs_f64();

    let mut files = Vec::new();
    for organization in [&honest[0], &liars[0], &honest[1], &twins[1].name] {
        let file = world.dir.join(format!("{organization}.fork"));
        export(world, organization, &file).await?;
        files.push((organization.clone(), file));
    }
    let (guilty, mut proofs) = (BTreeSet::from_iter(liars.iter().cloned()), 0);
    for (a, one) in &files[..2] {
        for (b, other) in &files[2..] {
            let out = world.dir.join(format!("proof-{a}-{b}"));
            let hash = world.network.genesis_hash.clone();
            let anchor = ["--genesis-hash", hash.as_str()];
            let compared = ["--compare", text(one)?, text(other)?, "--out", text(&out)?, "--output", "json"];
            let words = [&["audit", "evidence"], &compared[..], &anchor].concat();
            let ran = world.binaries.assent(&words).await?;
            let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
            let height = report["fork"]["height"].as_u64();
            if ran.exit != 3 || height.is_none_or(|height| height <= forked_after) {
                world.wrong(format!("{a} against {b}: exit {}, {} {}", ran.exit, ran.stdout, ran.stderr));
                continue;
            }
            let named = proven(world, &out, &report, anchor).await?;
            eprintln!("     {a} against {b}: a fork at block {height:?}, which convicts {named:?}");
            if named != guilty {
                world.wrong(format!("{a} against {b} convict {named:?}, who lied are {guilty:?}"));
            }
            proofs += 1;
        }
    }
    if proofs == 0 {
        world.wrong("there is no fork to convict anybody by");
    }
    // The network is beyond help. They end here: nobody looks at it further.
    for twin in &twins {
        twin.stop(world).await?;
    }
    world.nodes.stop_all().await?;
    Ok(seconds)
}

/// Writes through a node until they are acknowledged.
async fn writes(world: &World, organization: &str) -> Result<(), Error> {
    let writer = world.writer(organization).await?;
    for number in 0..WRITES {
        let late = Instant::now() + WRITE_LIMIT;
        let id = format!("fork-{organization}-{number}");
        if writer.write(&id, &What::One, || Instant::now() >= late).await.is_none() {
            return failed(format!(
                "{organization} with two liars did not go on: {number} writes came through"
            ));
        }
    }
    Ok(())
}

/// Whom the evidence files of a comparison convict: each holds by itself.
async fn proven(
    world: &mut World,
    folder: &Path,
    report: &Value,
    anchor: [&str; 2],
) -> Result<BTreeSet<String>, Error> {
    let mut named = BTreeSet::new();
    let files = report["files"].as_array().cloned().unwrap_or_default();
    for file in files.iter().filter_map(Value::as_str) {
        let path = folder.join(file);
        let file = text(&path)?;
        let ran = world.binaries.assent(&["verify", file, anchor[0], anchor[1], "--output", "json"]).await?;
        let verdict: Value = serde_json::from_str(&ran.stdout).during(|| format!("verifying {file}"))?;
        if ran.exit != 0 || verdict["kind"] != "evidence" {
            world.wrong(format!("{file} does not hold: exit {}, {verdict}", ran.exit));
        }
        named.extend(verdict["organization"].as_str().map(str::to_owned));
    }
    Ok(named)
}
