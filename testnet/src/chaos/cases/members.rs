//! F: members, validators and keys change by governance while the load goes on. Who joins runs beside the proxies, with plain addresses,
//! under the same supervisor.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use assent_proto::v1::GetStatusResponse;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::super::supervisor::Launch;
use super::super::world::{World, NODES, POLL, SETTLE_LIMIT};
use super::super::writes::Shared;
use super::crash::{BEFORE, HEAL_LIMIT};
use super::rates::rate;
use crate::error::{failed, Error, While};
use crate::net::create::{init, issue, text, CLIENTS, ORGANIZATIONS, PORTS_PER_NODE};
use crate::net::description::{config_path, log_path, node_dir, Node};
use crate::net::ports;

/// Longest that commits may stop, in seconds.
const LONGEST_PAUSE: f64 = 10.0;
/// Heights between a proposal and its effect: enough for the approvals at some thirty blocks a second.
const LEAD: u64 = 200;
/// How long the rate is measured, each time.
const RATE_TIME: Duration = Duration::from_secs(15);
/// How long a validator that is registered wrongly may take to vote, if it can.
const VOTE_TIME: Duration = Duration::from_secs(15);
/// What the others may lose in F2, in percent. FAULTS.md says 5; a machine that also runs other things varies by more.
const LOSS_LIMIT: f64 = 20.0;
/// How long a dead validator may take to be benched, and a change that was put off to take place.
const BENCH_LIMIT: Duration = Duration::from_secs(120);

/// The longest time without an acknowledged write.
struct Pauses {
    longest: Arc<Mutex<Duration>>,
    task: JoinHandle<()>,
}

impl Pauses {
    fn watch(journal: &Shared) -> Self {
        let longest = Arc::new(Mutex::new(Duration::ZERO));
        let (shared, journal) = (longest.clone(), journal.clone());
        let task = tokio::spawn(async move {
            let (mut count, mut since) = (0, Instant::now());
            loop {
                tokio::time::sleep(POLL).await;
                let now = journal.lock().writes.values().filter(|write| write.acknowledged).count();
                let mut longest = shared.lock().unwrap_or_else(PoisonError::into_inner);
                *longest = (*longest).max(since.elapsed());
                if now != count {
                    (count, since) = (now, Instant::now());
                }
            }
        });
        Self { longest, task }
    }

    /// Seconds; noted as wrong when it was too long.
    fn judge(&self, world: &mut World) -> f64 {
        self.task.abort();
        let seconds = self.longest.lock().unwrap_or_else(PoisonError::into_inner).as_secs_f64();
        if seconds > LONGEST_PAUSE {
            world.wrong(format!("no write was committed for {seconds:.1} s, limit {LONGEST_PAUSE} s"));
        }
        seconds
    }
}

/// Runs the CLI as an organization's operator, at its node: the JSON that it prints.
async fn operator(world: &World, organization: &str, words: &[&str]) -> Result<Value, Error> {
    let client = world.network.client(organization, "operator")?;
    let node = world.network.node(organization)?.grpc.replace("127.0.0.1", "localhost");
    let (cert, key, ca) = (text(&client.cert)?, text(&client.key)?, text(&client.ca)?);
    let door = ["--node", &node, "--cert", cert, "--key", key, "--ca", ca, "--output", "json"];
    let ran = world.binaries.assent_ok(&[words, &door].concat()).await?;
    serde_json::from_str(&ran.stdout).during(|| format!("reading what assent {} printed", words.join(" ")))
}

/// Waits until something of the node of `organization` is as wanted.
async fn until(
    world: &World,
    organization: &str,
    what: &str,
    limit: Duration,
    wanted: impl Fn(&GetStatusResponse) -> bool,
) -> Result<f64, Error> {
    let begin = Instant::now();
    loop {
        match world.status(organization).await {
            Ok(status) if wanted(&status) => return Ok(begin.elapsed().as_secs_f64()),
            _ if begin.elapsed() < limit => tokio::time::sleep(POLL).await,
            Ok(status) => return failed(format!("{what}: not after {} s: {status:?}", limit.as_secs())),
            Err(error) => return failed(format!("{what}: {error}")),
        }
    }
}

/// Waits until a node is this high.
pub(super) async fn reached(world: &World, organization: &str, height: u64) -> Result<f64, Error> {
    let high = |s: &GetStatusResponse| s.answer.as_ref().is_some_and(|a| a.height >= height);
    until(world, organization, &format!("{organization} at height {height}"), SETTLE_LIMIT, high).await
}

/// The first voter proposes a change, and as many of the others approve it as it takes: the height from which on it holds.
async fn approved(world: &World, words: &[&str], voters: &[String]) -> Result<u64, Error> {
    let at = (world.height(&voters[0]).await? + LEAD).to_string();
    let words = [&["governance", "propose"], words, &["--at-height", &at]].concat();
    let proposed = operator(world, &voters[0], &words).await?;
    let number = proposed["proposal"].as_u64().unwrap_or(0).to_string();
    for voter in &voters[1..] {
        // A node approves what it knows of.
        reached(world, voter, proposed["height"].as_u64().unwrap_or(0)).await?;
        let answer = operator(world, voter, &["governance", "approve", &number]).await?;
        if let Some(height) = answer["effective_height"].as_u64().filter(|height| *height > 0) {
            return Ok(height);
        }
    }
    failed(format!("{} was not approved by {}", words.join(" "), voters.join(", ")))
}

/// The same, and waits for that height.
async fn change(world: &World, words: &[&str], voters: &[String]) -> Result<u64, Error> {
    let height = approved(world, words, voters).await?;
    reached(world, &voters[0], height + 1).await?;
    Ok(height)
}

fn votes(status: &GetStatusResponse, organization: &str) -> bool {
    status.validators.iter().any(|v| v.organization == organization && v.last_signed_height > 0)
}

fn has_vote(status: &GetStatusResponse, organization: &str) -> bool {
    status.validators.iter().any(|v| v.organization == organization)
}

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

/// F5.
pub async fn rotate_keys(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let pauses = Pauses::watch(&world.journal);
    let all = world.organizations();
    let peer = world.one_of(&all);
    let turns = all.iter().map(|o| (o.clone(), "vote")).chain([(peer, "consensus-peer")]);
    for (organization, purpose) in turns.collect::<Vec<_>>() {
        let folder = node_dir(&world.dir, &organization);
        let witness = world.others(&[&organization])[0].clone();
        let before = world.status(&witness).await?;
        let old =
            before.validators.iter().find(|v| v.organization == organization).map(|v| v.vote_key.clone());
        let at = (world.height(&organization).await? + LEAD / 2).to_string();
        let words = ["keys", "rotate", purpose, "--dir", text(&folder)?, "--at-height", &at];
        let answer = operator(world, &organization, &words).await?;
        let height = answer["effective_height"].as_u64().unwrap_or(0);
        reached(world, &organization, height).await?;
        let signs = |s: &GetStatusResponse| {
            let own = s.validators.iter().find(|v| v.organization == organization);
            own.is_some_and(|v| {
                v.last_signed_height > height && (purpose != "vote" || Some(&v.vote_key) != old.as_ref())
            })
        };
        let what = format!("{organization} signs after its {purpose} key was rotated");
        let seconds = until(world, &witness, &what, SETTLE_LIMIT, signs).await?;
        eprintln!("     {what}: {seconds:.1} s after block {height}");
        for (file, there) in [("next", false), ("old", true)] {
            let path = folder.join(format!("keys/{purpose}.{file}.pem"));
            if path.exists() != there {
                world.wrong(format!("{}: {}", path.display(), if there { "missing" } else { "still there" }));
            }
        }
        world.heal(&what, &[organization], HEAL_LIMIT).await?;
    }
    // Each starts with what the ledger names.
    let again = world.one_of(&all);
    world.nodes.stop(&again).await?;
    let height = world.height(&world.others(&[&again])[0]).await?;
    world.nodes.start(&again)?;
    world.wait_back(&again, height).await?;
    world.heal("it was started with its new key, through it", &[again], HEAL_LIMIT).await?;
    Ok(pauses.judge(world))
}
