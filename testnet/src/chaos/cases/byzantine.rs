//! E: one validator lies to the others (`assentd --lie`, node/src/bft/lie.rs), under load.
//!
//! Each lie must be told (`lied=N` in the liar's log) and must be refused: by a line in the honest nodes' logs that names the liar, and by
//! the blocks that follow. Afterwards the liar is started again as an honest node, and must have the same ledger as all others.

use std::time::{Duration, Instant};

use super::super::patients::{CUSTODIAN, RECIPIENT};
use super::super::proxy::Flow;
use super::super::world::World;
use super::crash::{BEFORE, HEAL_LIMIT};
use super::liars::{corrupt, liar, named, reform, tell, without_it, Chain, Since, LYING, PROBE_PAUSE};
use crate::error::{failed, Error};

/// How long a node is down before it has to catch up.
const BEHIND: Duration = Duration::from_secs(10);
/// How often it may have to, until a lie about a block that it needs was told.
const MAX_JOINS: usize = 3;
/// What a busy machine may add to the time of catching up, in seconds.
const NOISE: f64 = 5.0;
/// What a node says of who signed twice.
const TWICE: &str = "Equivocation evidence observed at finalization";

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
        // Reordered, all is there. Of the repeated ones some have other bytes, and gossip may bring those first: so a publisher spoils its
        // own block, and nobody else's.
        let spoilt = if lie == "parts:duplicate" { u64::MAX } else { 2 };
        let (proposed, _) = Chain::of(world, &others[0], &liar).await?.parts_in(outcome.heights).await?;
        let told = outcome.lies.len() as u64;
        eprintln!("     {proposed} of its blocks were decided");
        if proposed == 0 || proposed.saturating_add(spoilt) < told {
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
