//! F: members and validators come and go while the load goes on. Who joins runs beside the proxies, with plain addresses, under the same
//! supervisor.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::super::supervisor::Launch;
use super::super::world::{World, NODES, SETTLE_LIMIT};
use super::crash::{BEFORE, HEAL_LIMIT};
use super::governing::{change, has_vote, until, votes, Pauses};
use super::rates::rate;
use crate::error::{Error, While};
use crate::net::create::{init, issue, text, CLIENTS, ORGANIZATIONS, PORTS_PER_NODE};
use crate::net::description::{config_path, log_path, node_dir, Node};
use crate::net::ports;

/// How long the rate is measured, each time.
const RATE_TIME: Duration = Duration::from_secs(15);
/// How long a validator that is registered wrongly may take to vote, if it can.
const VOTE_TIME: Duration = Duration::from_secs(15);
/// What the others may lose in F2, in percent. FAULTS.md says 5; a machine that also runs other things varies by more.
const LOSS_LIMIT: f64 = 20.0;

/// A further organization's folder and clients, as `assent init` makes them; it is started when the others may hear of it.
async fn further(world: &mut World, number: usize) -> Result<(Node, PathBuf), Error> {
    let (id, name) = ORGANIZATIONS[number];
    let folder = node_dir(&world.dir, id);
    let ports = ports::free(PORTS_PER_NODE)?;
    init(&world.binaries, &folder, &world.network.chain_id, (id, name), &ports).await?;
    let genesis = node_dir(&world.dir, ORGANIZATIONS[0].0).join("genesis.bin");
    std::fs::copy(&genesis, folder.join("genesis.bin"))
        .during(|| format!("copying {}", genesis.display()))?;
    for (role, name) in CLIENTS {
        let client = issue(&world.binaries, &folder, id, role, name).await?;
        world.network.clients.push(client);
    }
    let path = folder.join("card.json");
    let card = read_card(&path)?;
    let of = |key: &str| card[key].as_str().unwrap_or_default().to_owned();
    let node = Node {
        organization: id.to_owned(),
        pid: 0, // the supervisor knows
        grpc: format!("https://127.0.0.1:{}", ports[0]),
        admin: format!("http://127.0.0.1:{}", ports[1]),
        tlog: format!("http://127.0.0.1:{}", ports[4]),
        peer: format!("{}/p2p/{}", of("exchange_address"), of("exchange_peer_id")),
        consensus: format!("{}/p2p/{}", of("consensus_address"), of("consensus_peer_id")),
        data: folder.join("data"),
        validator_key: of("vote_key"),
        log: format!("file://{}", log_path(&world.dir, id).display()),
    };
    world.nodes.add(Launch {
        organization: id.to_owned(),
        assentd: world.binaries.assentd.clone(),
        arguments: vec!["--config".into(), config_path(&world.dir, id).display().to_string()],
        log: log_path(&world.dir, id),
    });
    Ok((node, path))
}

fn read_card(path: &std::path::Path) -> Result<Value, Error> {
    let doing = || format!("reading {}", path.display());
    serde_json::from_slice(&std::fs::read(path).during(doing)?).during(doing)
}

/// F1.
pub async fn grow_and_shrink(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let mut voters = world.organizations();
    let witness = voters[0].clone();
    let pauses = Pauses::watch(&world.journal);
    for number in NODES..NODES + 3 {
        let (node, card) = further(world, number).await?;
        let new = node.organization.clone();
        world.nodes.start(&new)?;
        let height = change(world, &["add-organization", text(&card)?], &voters).await?;
        world.network.nodes.push(node);
        let followed = world.wait_back(&new, height).await?;
        change(world, &["add-validator", text(&card)?], &voters).await?;
        let voted = until(world, &witness, &format!("{new} votes"), SETTLE_LIMIT, |s| votes(s, &new)).await?;
        eprintln!("     {new} followed after {followed:.1} s, voted {voted:.1} s after its approval held");
        world.heal(&format!("{new} votes, through it"), std::slice::from_ref(&new), HEAL_LIMIT).await?;
        voters.push(new);
    }
    if world.status(&witness).await?.validators.len() != NODES + 3 {
        world.wrong("there are not seven validators");
    }
    // Two stay as observers, which follow on; the third is gone.
    while voters.len() > NODES {
        let Some(old) = voters.last().cloned() else { break };
        let last = voters.len() == NODES + 1;
        let how = if last { "remove-organization" } else { "remove-validator" };
        change(world, &[how, &old], &voters).await?;
        voters.pop();
        let what = format!("{old} has no vote");
        until(world, &witness, &what, SETTLE_LIMIT, |s| !has_vote(s, &old)).await?;
        if last {
            world.network.nodes.retain(|node| node.organization != old);
            until(world, &witness, &format!("{old} is disconnected"), SETTLE_LIMIT, |s| {
                !s.connected.contains(&old)
            })
            .await?;
        }
    }
    for organization in world.organizations() {
        world.heal("three came and went", &[organization], HEAL_LIMIT).await?;
    }
    Ok(pauses.judge(world))
}

/// F2.
pub async fn badly_registered(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let voters = world.organizations();
    let before = rate(world, RATE_TIME).await;
    let pauses = Pauses::watch(&world.journal);
    for (number, wrong) in [(NODES, "peer id"), (NODES + 1, "addresses")] {
        let (node, card) = further(world, number).await?;
        let new = node.organization.clone();
        let mut said = read_card(&card)?;
        if wrong == "peer id" {
            // Another's, who is no member: of a folder that nothing is started from.
            let other = world.dir.join("other");
            let (chain, ports) = (world.network.chain_id.clone(), ports::free(PORTS_PER_NODE)?);
            init(&world.binaries, &other, &chain, ("other", "Other"), &ports).await?;
            said["consensus_peer_id"] = read_card(&other.join("card.json"))?["consensus_peer_id"].clone();
            // Its files hold another key than the ledger names: exit 2 is documented.
            world.nodes.expect(&new, 2)?;
        } else {
            for (key, port) in ["consensus_address", "exchange_address"].into_iter().zip(ports::free(2)?) {
                said[key] = format!("/ip4/127.0.0.1/tcp/{port}").into();
            }
        }
        std::fs::write(&card, said.to_string()).during(|| format!("writing {}", card.display()))?;
        world.nodes.start(&new)?;
        change(world, &["add-organization", text(&card)?], &voters).await?;
        change(world, &["add-validator", text(&card)?], &voters).await?;
        // It may vote when it reaches others that can't reach it.
        let _ = until(world, &voters[0], "it votes", VOTE_TIME, |s| votes(s, &new)).await;
        let status = world.status(&voters[0]).await?;
        let (runs, votes) = (world.nodes.runs(&new), votes(&status, &new));
        world.network.nodes.push(node);
        let said = world.status(&new).await.map(|s| format!("{}; {}", s.role, s.not_fresh_reason));
        world.network.nodes.retain(|node| node.organization != new);
        let (said, log) = (said.unwrap_or_else(|e| e.to_string()), log_path(&world.dir, &new));
        let log = std::fs::metadata(&log).map_or(0, |log| log.len() / 1024);
        eprintln!("     {new}, with wrong {wrong}: runs {runs}, votes {votes}; {said}; log of {log} KiB");
        if wrong == "peer id" && has_vote(&status, &new) {
            world.wrong(format!("{new} was given a vote, though nobody can have reached it"));
        }
    }
    let after = rate(world, RATE_TIME).await;
    let loss = ((1.0 - after / before) * 100.0).max(0.0);
    eprintln!("     {before:.0} patients/s before, {after:.0} with both: {:.0}%", after / before * 100.0);
    if loss > LOSS_LIMIT {
        world.wrong(format!("{before:.0} patients/s before, {after:.0} after: {loss:.0}% less"));
    }
    pauses.judge(world);
    world.heal("two were registered wrongly", &voters, HEAL_LIMIT).await?;
    Ok(loss)
}
