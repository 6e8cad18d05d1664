//! Two processes with one node's keys: a copy of its folder, with ports of its own, runs beside the original. A11 needs one, E8 two.
//!
//! A copy has the original's peer ids: with others than the ledger names it would not start. A node that is connected to one of the two has
//! no ears for the other (gossip tells a peer once what it subscribes to, not a connection). So each is given others to talk to; what it
//! says goes round by them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::look::export;
use super::super::proxy::Flow;
use super::super::supervisor::Launch;
use super::super::template::copy;
use super::super::world::{World, POLL, SETTLE_LIMIT};
use super::crash::HEAL_LIMIT;
use super::liars::{liar, Since};
use crate::error::{failed, Error, While};
use crate::net::create::{client_in, text, CLIENTS, PORTS_PER_NODE};
use crate::net::description::{config_path, log_path, node_dir, Node};
use crate::net::ports;

/// How long both are alive at least.
const TOGETHER: Duration = Duration::from_secs(30);
/// How long until they have contradicted each other, and it stands in the ledger.
const TOLD_LIMIT: Duration = Duration::from_secs(90);
/// Pause between two probes meanwhile.
const PROBE_PAUSE: Duration = Duration::from_secs(2);

/// A further process of an organization's node.
pub(super) struct Twin {
    /// What the supervisor calls it, and the network while it is part of it.
    pub name: String,
    /// Whose keys it has.
    pub of: String,
    /// Where its consensus and exchange swarms listen.
    pub at: [u16; 2],
    node: Node,
}

/// The port in an address or URL.
fn port(address: &str) -> Option<u16> {
    let digits = |part: &str| part.split(['/', '"']).next()?.parse().ok();
    match address.split_once("/tcp/") {
        Some((_, rest)) => digits(rest),
        None => digits(address.rsplit(':').next()?),
    }
}

impl Twin {
    /// Copies the folder of a node that is stopped.
    pub(super) fn of(world: &mut World, organization: &str) -> Result<Self, Error> {
        let name = format!("{organization}-twin");
        let folder = node_dir(&world.dir, &name);
        copy(&node_dir(&world.dir, organization), &folder)?;
        // Its log begins here.
        let _ = std::fs::remove_file(log_path(&world.dir, &name)); // there may be none
        let mut node = world.network.node(organization)?.clone();
        let fresh = ports::free(PORTS_PER_NODE)?;
        let config = config_path(&world.dir, &name);
        let doing = || format!("giving {} other ports", config.display());
        let mut written = std::fs::read_to_string(&config).during(doing)?;
        for (address, new) in
            [&mut node.grpc, &mut node.admin, &mut node.consensus, &mut node.peer, &mut node.tlog]
                .into_iter()
                .zip(&fresh)
        {
            let Some(old) = port(address) else { return failed(format!("{address} has no port")) };
            for separator in [":", "/tcp/"] {
                written = written.replace(&format!("{separator}{old}\""), &format!("{separator}{new}\""));
                *address = address.replace(&format!("{separator}{old}"), &format!("{separator}{new}"));
            }
        }
        std::fs::write(&config, written).during(doing)?;
        node.organization = name.clone();
        node.data = folder.join("data");
        node.log = format!("file://{}", log_path(&world.dir, &name).display());
        let clients = CLIENTS.iter().map(|(role, client)| client_in(&folder, &name, role, client));
        world.network.clients.extend(clients);
        Ok(Self { name, of: organization.to_owned(), at: [fresh[2], fresh[3]], node })
    }

    /// Starts it; it dials others there and nowhere else. From here on it is one of the network's nodes.
    pub(super) fn start(&self, world: &mut World, dials: &[String]) -> Result<(), Error> {
        let config = config_path(&world.dir, &self.name).display().to_string();
        let dials = dials.iter().flat_map(|dial| ["--dial".to_owned(), dial.clone()]);
        world.nodes.add(Launch {
            organization: self.name.clone(),
            assentd: world.binaries.assentd.clone(),
            arguments: ["--config".into(), config].into_iter().chain(dials).collect(),
            log: log_path(&world.dir, &self.name),
        });
        world.network.nodes.push(self.node.clone());
        world.nodes.start(&self.name)
    }

    /// Ends it; it is none of the network's nodes any more.
    pub(super) async fn stop(&self, world: &mut World) -> Result<(), Error> {
        world.nodes.stop(&self.name).await?;
        world.network.nodes.retain(|node| node.organization != self.name);
        Ok(())
    }
}

/// `--dial` of an organization at two ports.
pub(super) fn dial(organization: &str, at: [u16; 2]) -> String {
    format!("{organization}=/ip4/127.0.0.1/tcp/{},/ip4/127.0.0.1/tcp/{}", at[0], at[1])
}

/// Where a node itself listens, beside the proxies.
pub(super) fn listens(world: &World, organization: &str) -> Result<[u16; 2], Error> {
    let node = world.network.node(organization)?;
    match (port(&node.consensus), port(&node.peer)) {
        (Some(consensus), Some(exchange)) => Ok([consensus, exchange]),
        _ => failed(format!("{organization} has no ports")),
    }
}

/// Organizations that evidence in an export names, and in how many pieces.
async fn convicted(world: &World, file: &Path) -> Result<(BTreeSet<String>, usize), Error> {
    let arguments =
        ["audit", "evidence", text(file)?, "--genesis-hash", &world.network.genesis_hash, "--output", "json"];
    let ran = world.binaries.assent_ok(&arguments).await?;
    let report: serde_json::Value =
        serde_json::from_str(&ran.stdout).during(|| "reading what `assent audit evidence` printed".into())?;
    let pieces = report["evidence"].as_array().cloned().unwrap_or_default();
    let named = pieces.iter().filter_map(|piece| piece["organization"].as_str()).map(str::to_owned);
    Ok((named.collect(), pieces.len()))
}

/// A11. Under load the one that starts later finds the other's signature in a block, and does not vote: here both start while nobody
/// writes, so that both do.
pub async fn one_key_twice(world: &mut World) -> Result<f64, Error> {
    let all = world.organizations();
    world.heal("a first write", &all, HEAL_LIMIT).await?;
    world.settle().await?;
    let victim = liar(world);
    let others = world.others(&[&victim]);
    world.nodes.stop(&victim).await?;
    let twin = Twin::of(world, &victim)?;
    // One of the others hears the original, two hear the twin.
    let nowhere = ports::free(2)?;
    let mut dials = vec![dial(&others[0], [nowhere[0], nowhere[1]])];
    for other in &others[1..] {
        dials.push(dial(other, listens(world, other)?));
        world.proxy.set_both(&victim, other, Flow::Cut);
    }
    let since = Since::now(world);
    world.nodes.start(&victim)?;
    twin.start(world, &dials)?;
    for name in [&victim, &twin.name] {
        let begin = Instant::now();
        // A node with one neighbour is not fresh, and votes.
        while since.lines(world, name, &["heard the others", "votes=true"]).is_empty() {
            if begin.elapsed() > SETTLE_LIMIT {
                return failed(format!("{name} does not vote"));
            }
            tokio::time::sleep(POLL).await;
        }
    }
    // The clients talk to the original alone.
    world.network.nodes.retain(|node| node.organization != twin.name);
    world.begin_load().await?;
    let key = world.network.node(&victim)?.validator_key.clone();
    let (begin, mut worst, mut told) = (Instant::now(), 0f64, None);
    while begin.elapsed() < TOGETHER || (told.is_none() && begin.elapsed() < TOLD_LIMIT) {
        worst = worst.max(world.heal("one key, two processes", &others, HEAL_LIMIT).await?);
        let says = |o: &String| !since.lines(world, o, &[" equivocation", &key]).is_empty();
        if told.is_none() && others.iter().any(says) {
            told = Some(begin.elapsed().as_secs_f64());
        }
        tokio::time::sleep(PROBE_PAUSE).await;
    }
    for name in [&victim, &twin.name] {
        let silent = since.lines(world, name, &["another process signs with this vote key"]);
        eprintln!("     {name} ended with {:?}; {}", world.nodes.exits_of(name), silent.concat());
        if !world.nodes.runs(name) {
            world.wrong(format!("{name} did not live as long as the other"));
        }
    }
    let lines = |o: &String| since.lines(world, o, &[" equivocation", &key]).len();
    let seen: Vec<usize> = others.iter().map(lines).collect();
    eprintln!("     {} contradicted itself after {told:?} s; told by the others: {seen:?}", twin.of);
    if told.is_none() {
        world.wrong(format!("nobody saw {victim} contradict itself in {} s", TOLD_LIMIT.as_secs()));
    }
    // On the ledger it stands for everybody.
    let limit = Instant::now() + TOLD_LIMIT;
    for number in 0.. {
        let file = world.dir.join(format!("with-evidence-{number}.export"));
        export(world, &others[0], &file).await?;
        let (named, pieces) = convicted(world, &file).await?;
        if named.iter().any(|name| *name != victim) {
            world.wrong(format!("evidence on the ledger names {named:?}, only {victim} signed twice"));
        }
        if pieces > 0 {
            eprintln!("     {pieces} pieces of evidence on the ledger, of {named:?}");
            break;
        }
        if Instant::now() >= limit {
            world.wrong(format!("no evidence against {victim} on the ledger"));
            break;
        }
        tokio::time::sleep(PROBE_PAUSE).await;
    }
    twin.stop(world).await?;
    world.proxy.open_all();
    let height = world.height(&others[0]).await?;
    world.wait_back(&victim, height).await?;
    world.heal("its twin is gone, through it", std::slice::from_ref(&victim), HEAL_LIMIT).await?;
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_in_every_address_of_a_node() {
        for (address, expected) in [
            ("https://127.0.0.1:4100", Some(4100)),
            ("/ip4/127.0.0.1/tcp/4101/p2p/12D3KooW", Some(4101)),
            ("/ip4/127.0.0.1/tcp/4102", Some(4102)),
            ("", None),
            ("/ip4/127.0.0.1", None),
        ] {
            assert_eq!(port(address), expected, "{address}");
        }
    }
}
