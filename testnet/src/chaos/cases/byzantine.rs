//! E: one validator lies to the others (`assentd --lie`, node/src/bft/lie.rs), under load.
//!
//! Each lie must be told (`lied=N` in the liar's log) and must be refused: by a line in the honest nodes' logs that names the liar, and by
//! the blocks that follow. Afterwards the liar is started again as an honest node, and must have the same ledger as all others.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use assent_ledger::block::MAX_BLOCK_BYTES;
use assent_ledger::encoding::decode;
use assent_ledger::entry::MAX_ENTRY_BYTES;
use assent_proto::ledger::v1::{Block, Certificate, Header};
use assent_proto::v1::audit_service_client::AuditServiceClient;
use assent_proto::v1::GetBlockRequest;
use prost::Message;
use tonic::transport::Channel;

use super::super::patients::{CUSTODIAN, RECIPIENT};
use super::super::proxy::Flow;
use super::super::world::World;
use super::crash::{BEFORE, HEAL_LIMIT};
use crate::client::{self, code};
use crate::error::{failed, Error, While};
use crate::net::description::log_path;

/// How long each lie is told.
const LYING: Duration = Duration::from_secs(6);
/// How long to wait for the first ones: a validator lies when it is its turn.
const FIRST_LIES: Duration = Duration::from_secs(60);
/// Pause between two probes meanwhile.
const PROBE_PAUSE: Duration = Duration::from_millis(700);
/// How long a node is down before it has to catch up.
const BEHIND: Duration = Duration::from_secs(10);
/// How often it may have to, until a lie about a block that it needs was told.
const MAX_JOINS: usize = 3;
/// What a busy machine may add to the time of catching up, in seconds.
const NOISE: f64 = 5.0;
/// What a node says of who signed twice.
const TWICE: &str = "Equivocation evidence observed at finalization";

/// One that is not asked whether it permits: it may lag by its own doing.
fn liar(world: &mut World) -> String {
    let among = world.others(&[CUSTODIAN, RECIPIENT]);
    world.one_of(&among)
}

/// Where the logs end now, by organization.
struct Since(Vec<(String, usize)>);

impl Since {
    fn now(world: &World) -> Self {
        let length = |o: &String| log(world, o).len();
        Self(world.organizations().into_iter().map(|o| (o.clone(), length(&o))).collect())
    }

    /// Lines of a node's log since then that hold all of these.
    fn lines(&self, world: &World, organization: &str, needles: &[&str]) -> Vec<String> {
        let from = self.0.iter().find(|(o, _)| o == organization).map_or(0, |(_, at)| *at);
        let text = log(world, organization);
        let lines = text.get(from..).unwrap_or_default().lines();
        lines.filter(|line| needles.iter().all(|n| line.contains(n))).map(str::to_owned).collect()
    }

    /// Lies that were told since then: height and what it was.
    fn lies(&self, world: &World, liar: &str) -> Vec<(u64, String)> {
        let lie = |line: &String| {
            let height = line.split(" height=").nth(1)?.split_whitespace().next()?.parse().ok()?;
            Some((height, line.split(" lie=").nth(1)?.split_whitespace().next()?.to_owned()))
        };
        self.lines(world, liar, &[" lied="]).iter().filter_map(lie).collect()
    }
}

fn log(world: &World, organization: &str) -> String {
    let bytes = std::fs::read(log_path(&world.dir, organization)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Starts a node again, as a liar.
async fn corrupt(world: &World, liar: &str, lie: &str) -> Result<(), Error> {
    world.nodes.stop(liar).await?;
    world.nodes.start_once(liar, &["--lie".into(), lie.into()])
}

/// Starts it again, as an honest node: seconds until it is where the others are.
async fn reform(world: &World, liar: &str, witness: &str) -> Result<f64, Error> {
    world.nodes.stop(liar).await?;
    let height = world.height(witness).await?;
    world.nodes.start(liar)?;
    world.wait_back(liar, height).await
}

/// What a lie came to.
struct Outcome {
    /// Slowest write through the honest nodes meanwhile, in seconds.
    worst: f64,
    since: Since,
    /// Heights that were begun and ended while it was told.
    heights: (u64, u64),
    /// By height.
    lies: Vec<(u64, String)>,
}

/// Has one node lie until it told so many kinds of lies and a while longer; writes through the others go on.
async fn tell(world: &mut World, liar: &str, lie: &str, needed: usize) -> Result<Outcome, Error> {
    let others = world.others(&[liar]);
    let since = Since::now(world);
    corrupt(world, liar, lie).await?;
    // What it proposed before it was stopped may still be decided.
    let from = world.height(&others[0]).await? + 2;
    let (begin, mut worst) = (Instant::now(), 0f64);
    let mut enough = None;
    loop {
        worst = worst.max(world.heal(&format!("{lie}, through the others"), &others, HEAL_LIMIT).await?);
        let kinds: BTreeSet<String> = since.lies(world, liar).into_iter().map(|(_, kind)| kind).collect();
        if enough.is_none() && kinds.len() >= needed {
            enough = Some(Instant::now());
        }
        match enough {
            Some(since) if since.elapsed() >= LYING => break,
            None if begin.elapsed() >= FIRST_LIES => break,
            _ => tokio::time::sleep(PROBE_PAUSE).await,
        }
    }
    let to = world.height(&others[0]).await?;
    let lies = since.lies(world, liar);
    eprintln!("     {liar} {lie}: {} lies, blocks {from} to {to}, slowest write {worst:.1} s", lies.len());
    if enough.is_none() {
        world.wrong(format!("{liar} did not tell {needed} kinds of lies: {lie}"));
    }
    Ok(Outcome { worst, since, heights: (from, to), lies })
}

/// Each of these nodes has said so of the liar.
fn named(
    world: &mut World,
    outcome: &Outcome,
    by: &[String],
    liar: &str,
    needles: &[&str],
) -> Result<(), Error> {
    let key = world.network.node(liar)?.validator_key.clone();
    let needles: Vec<&str> = needles.iter().copied().chain([key.as_str()]).collect();
    for honest in by {
        if outcome.since.lines(world, honest, &needles).is_empty() {
            world.wrong(format!("{honest} has no line in its log with {needles:?}"));
        }
    }
    Ok(())
}

/// Reads decided blocks from a node, with the key of an organization that may be the proposer.
struct Chain {
    client: AuditServiceClient<Channel>,
    key: Vec<u8>,
}

impl Chain {
    async fn of(world: &World, witness: &str, organization: &str) -> Result<Self, Error> {
        let key = hex::decode(&world.network.node(organization)?.validator_key);
        let channel = client::connect(&world.network, witness, "auditor").await?;
        let client = AuditServiceClient::new(channel).max_decoding_message_size(8 << 20);
        Ok(Self { client, key: key.during(|| "reading a key".into())? })
    }

    /// Whether it proposed the block, and whether it signed the certificate of the one before.
    async fn part_in(&mut self, height: u64) -> Result<(bool, bool), Error> {
        let answer = self.client.get_block(GetBlockRequest { height }).await;
        let answer = answer.map_err(|s| code("GetBlock", &s))?.into_inner();
        let doing = || format!("reading block {height}");
        let block: Block = decode("Block", &answer.block, MAX_BLOCK_BYTES).during(doing)?;
        let header: Header = decode("Header", &block.header, MAX_ENTRY_BYTES).during(doing)?;
        let certificate = Certificate::decode(block.previous_certificate.as_slice()).during(doing)?;
        let signed = certificate.signatures.iter().any(|s| s.address == self.key);
        Ok((header.proposer == self.key, signed))
    }

    /// How many blocks it proposed, and how many certificates it signed.
    async fn parts_in(&mut self, heights: (u64, u64)) -> Result<(u64, u64), Error> {
        let (mut proposed, mut signed) = (0, 0);
        for height in heights.0..=heights.1 {
            let (one, other) = self.part_in(height).await?;
            // The certificate in the first of them may be of before.
            proposed += u64::from(one);
            signed += u64::from(other && height > heights.0);
        }
        Ok((proposed, signed))
    }
}

/// At no height at which it lied was a block of the liar decided.
async fn without_it(world: &mut World, outcome: &Outcome, liar: &str, lie: &str) -> Result<(), Error> {
    let witness = world.others(&[liar]).remove(0);
    let mut chain = Chain::of(world, &witness, liar).await?;
    let heights: BTreeSet<u64> = outcome.lies.iter().map(|(height, _)| *height).collect();
    for height in heights.into_iter().filter(|height| *height <= outcome.heights.1) {
        if chain.part_in(height).await?.0 {
            world.wrong(format!("{lie}: block {height} is the liar's"));
        }
    }
    Ok(())
}

/// E1 and E2: whoever signs twice is named by all others.
pub async fn twice(world: &mut World, lie: &str) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let liar = liar(world);
    let others = world.others(&[&liar]);
    let outcome = tell(world, &liar, lie, 1).await?;
    named(world, &outcome, &others, &liar, &[TWICE])?;
    reform(world, &liar, &others[0]).await?;
    Ok(outcome.worst)
}

/// E3.
pub async fn silence(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let liar = liar(world);
    let others = world.others(&[&liar]);
    let outcome = tell(world, &liar, "silent", 1).await?;
    let mut chain = Chain::of(world, &others[0], &liar).await?;
    let (proposed, signed) = chain.parts_in(outcome.heights).await?;
    if proposed + signed > 0 {
        world.wrong(format!("a silent one proposed {proposed} blocks and signed {signed} certificates"));
    }
    let mut worst = outcome.worst;
    reform(world, &liar, &others[0]).await?;
    // To one of them only. Gossip has no addressee, so it is the network that keeps its words from the victim.
    let victim = [world.one_of(&others)];
    eprintln!("     {liar} is silent to {}", victim[0]);
    world.proxy.set(&liar, &victim[0], Flow::Stall);
    let begin = Instant::now();
    while begin.elapsed() < LYING {
        worst = worst.max(world.heal("silence to one, through it", &victim, HEAL_LIMIT).await?);
        tokio::time::sleep(PROBE_PAUSE).await;
    }
    world.proxy.open_all();
    worst = worst.max(world.heal("silence to one ended", &world.organizations(), HEAL_LIMIT).await?);
    Ok(worst)
}

/// Lies about blocks, and what honest nodes say to each. What is published as of a round that never comes is never looked at.
const BAD_BLOCKS: [(&str, &[&str]); 8] = [
    ("BadBlock(Parent)", &["block is invalid", "header.previous_header_hash is"]),
    ("BadBlock(Root)", &["block is invalid", "header.state_root is"]),
    ("BadBlock(Unsigned)", &["block is invalid", "entry 0: signature of"]),
    ("BadBlock(Duplicate)", &["block is invalid", "entry ", "sequence"]),
    ("BadBlock(Oversize)", &["refused a part of a block", "block is too long"]),
    ("BadBlock(Future)", &["block is invalid", "pol_round=None", "lies ahead of the clock"]),
    ("BadBlock(FutureAgain)", &["block is invalid", "pol_round=Some", "lies ahead of the clock"]),
    ("BadBlock(Round)", &[]),
];

/// E4.
pub async fn bad_blocks(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let liar = liar(world);
    let others = world.others(&[&liar]);
    let outcome = tell(world, &liar, "bad-block:each", BAD_BLOCKS.len()).await?;
    for (lie, says) in BAD_BLOCKS {
        if !outcome.lies.iter().any(|(_, told)| told == lie) {
            world.wrong(format!("{liar} never told {lie}"));
        }
        if !says.is_empty() {
            named(world, &outcome, &others, &liar, says)?;
        }
    }
    without_it(world, &outcome, &liar, "bad-block:each").await?;
    // One that lies whenever it can is benched, and costs less and less.
    let often = tell(world, &liar, "bad-block:parent", 1).await?;
    without_it(world, &often, &liar, "bad-block:parent").await?;
    reform(world, &liar, &others[0]).await?;
    Ok(outcome.worst.max(often.worst))
}

/// E5.
pub async fn bad_parts(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let liar = liar(world);
    let others = world.others(&[&liar]);
    let mut worst = 0f64;
    for lie in ["parts:reorder", "parts:duplicate", "parts:withhold"] {
        let outcome = tell(world, &liar, lie, 1).await?;
        worst = worst.max(outcome.worst);
        if lie == "parts:withhold" {
            without_it(world, &outcome, &liar, lie).await?;
            continue;
        }
        // All is there, in whatever order.
        let (proposed, _) = Chain::of(world, &others[0], &liar).await?.parts_in(outcome.heights).await?;
        let told = outcome.lies.len() as u64;
        eprintln!("     {proposed} of its blocks were decided");
        if proposed == 0 || proposed + 2 < told {
            world.wrong(format!("{lie}: {proposed} of {told} blocks were decided"));
        }
    }
    reform(world, &liar, &others[0]).await?;
    Ok(worst)
}

/// E6: rounds must fail for anybody to be locked, so the network splits again and again.
pub async fn unlocked(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let liar = liar(world);
    let others = world.others(&[&liar]);
    let since = Since::now(world);
    corrupt(world, &liar, "ignore-locks").await?;
    world.wait_back(&liar, 0).await?;
    let all = world.organizations();
    world.cut(&all);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(25) {
        let (a, b) = world.halves();
        for (from, to) in a.iter().flat_map(|from| b.iter().map(move |to| (from, to))) {
            world.proxy.set_both(from, to, Flow::Stall);
        }
        let pause = world.between_ms(200, 1_200);
        tokio::time::sleep(pause).await;
        world.proxy.open_all();
        let pause = world.between_ms(50, 600);
        tokio::time::sleep(pause).await;
    }
    world.proxy.open_all();
    world.uncut();
    let worst = world.heal("splits with one that ignores its locks", &others, 15.0).await?;
    let lied = since.lies(world, &liar).len();
    eprintln!("     {liar} ignored its locks or the timeouts of rounds {lied} times");
    if lied == 0 {
        world.wrong(format!("{liar} never voted against a lock"));
    }
    reform(world, &liar, &others[0]).await?;
    Ok(worst)
}

/// Lies to a node that catches up, and what it says of them. The engine names the peer.
const ANSWERS: [(&str, &[&str]); 5] = [
    ("sync:heights", &["wrong range", "non-contiguous certificate heights"]),
    ("sync:gap", &["wrong range", "non-contiguous certificate heights"]),
    ("sync:bad-signature", &["attributable to peer"]),
    ("sync:old-set", &["attributable to peer"]),
    ("sync:endless", &["Failed to decode sync response"]),
];

/// Stops a node for a while and starts it again: seconds until it is where the others were.
async fn join(world: &World, joiner: &str, witness: &str) -> Result<f64, Error> {
    world.nodes.stop(joiner).await?;
    tokio::time::sleep(BEHIND).await;
    let height = world.height(witness).await?;
    world.nodes.start(joiner)?;
    world.wait_back(joiner, height).await
}

/// E7.
pub async fn bad_answers(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let liar = liar(world);
    let Some(joiner) = world.others(&[CUSTODIAN, RECIPIENT, &liar]).pop() else {
        return failed("there is no third node");
    };
    let witness = world.others(&[&liar, &joiner]).remove(0);
    let consensus = world.network.node(&liar)?.consensus.clone();
    let peer = consensus.rsplit('/').next().unwrap_or_default().to_owned();
    let normal = join(world, &joiner, &witness).await?;
    eprintln!("     {joiner} catches up in {normal:.1} s from honest peers");
    let mut worst = 0f64;
    for (lie, says) in ANSWERS {
        corrupt(world, &liar, lie).await?;
        world.wait_back(&liar, world.height(&witness).await?).await?;
        let since = Since::now(world);
        let (mut seconds, mut lied, mut refused) = (0f64, 0, false);
        // A lie about blocks that were decided meanwhile is passed over: then the node is asked to catch up once more.
        for _ in 0..MAX_JOINS {
            seconds = seconds.max(join(world, &joiner, &witness).await?);
            lied = since.lies(world, &liar).len();
            refused = says.iter().any(|says| !since.lines(world, &joiner, &[says, &peer]).is_empty());
            if refused {
                break;
            }
        }
        eprintln!("     {lie}: {liar} lied {lied} times, {joiner} catches up in {seconds:.1} s");
        worst = worst.max(seconds);
        if seconds > 2.0 * normal + NOISE {
            world.wrong(format!("{lie}: {seconds:.1} s to catch up, {normal:.1} s without the lie"));
        }
        if lied == 0 {
            world.wrong(format!("{lie}: {liar} was never asked"));
        }
        if !refused {
            world.wrong(format!("{lie}: no line of {joiner} names {peer} with {says:?}"));
        }
        world.heal(&format!("{lie}, through the joiner"), std::slice::from_ref(&joiner), HEAL_LIMIT).await?;
    }
    reform(world, &liar, &witness).await?;
    Ok(worst)
}
