//! Lying nodes: how one is made to lie (`assentd --lie`), what it told, who said so, and what part it has in the blocks.

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
use super::super::world::World;
use super::crash::HEAL_LIMIT;
use crate::client::{self, code};
use crate::error::{Error, While};
use crate::net::description::log_path;

/// How long each lie is told.
pub(super) const LYING: Duration = Duration::from_secs(6);
/// How long to wait for the first ones: a validator lies when it is its turn.
const FIRST_LIES: Duration = Duration::from_secs(60);
/// Pause between two probes meanwhile.
pub(super) const PROBE_PAUSE: Duration = Duration::from_millis(700);

/// One that is not asked whether it permits: it may lag by its own doing.
pub(super) fn liar(world: &mut World) -> String {
    let among = world.others(&[CUSTODIAN, RECIPIENT]);
    world.one_of(&among)
}

/// Where the logs end now, by organization.
pub(super) struct Since(Vec<(String, usize)>);

impl Since {
    pub(super) fn now(world: &World) -> Self {
        let length = |o: &String| log(world, o).len();
        Self(world.organizations().into_iter().map(|o| (o.clone(), length(&o))).collect())
    }

    /// Lines of a node's log since then that hold all of these.
    pub(super) fn lines(&self, world: &World, organization: &str, needles: &[&str]) -> Vec<String> {
        let from = self.0.iter().find(|(o, _)| o == organization).map_or(0, |(_, at)| *at);
        let text = log(world, organization);
        let lines = text.get(from..).unwrap_or_default().lines();
        lines.filter(|line| needles.iter().all(|n| line.contains(n))).map(str::to_owned).collect()
    }

    /// Lies that were told since then: height and what it was.
    pub(super) fn lies(&self, world: &World, liar: &str) -> Vec<(u64, String)> {
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
pub(super) async fn corrupt(world: &World, liar: &str, lie: &str) -> Result<(), Error> {
    world.nodes.stop(liar).await?;
    world.nodes.start_once(liar, &["--lie".into(), lie.into()])
}

/// Starts it again, as an honest node: seconds until it is where the others are.
pub(super) async fn reform(world: &World, liar: &str, witness: &str) -> Result<f64, Error> {
    world.nodes.stop(liar).await?;
    let height = world.height(witness).await?;
    world.nodes.start(liar)?;
    world.wait_back(liar, height).await
}

/// What a lie came to.
pub(super) struct Outcome {
    /// Slowest write through the honest nodes meanwhile, in seconds.
    pub worst: f64,
    pub since: Since,
    /// Heights that were begun and ended while it was told.
    pub heights: (u64, u64),
    /// By height.
    pub lies: Vec<(u64, String)>,
}

/// Has one node lie until it told so many kinds of lies and a while longer; writes through the others go on.
pub(super) async fn tell(world: &mut World, liar: &str, lie: &str, needed: usize) -> Result<Outcome, Error> {
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
pub(super) fn named(
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
pub(super) struct Chain {
    client: AuditServiceClient<Channel>,
    key: Vec<u8>,
}

impl Chain {
    pub(super) async fn of(world: &World, witness: &str, organization: &str) -> Result<Self, Error> {
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
    pub(super) async fn parts_in(&mut self, heights: (u64, u64)) -> Result<(u64, u64), Error> {
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
pub(super) async fn without_it(
    world: &mut World,
    outcome: &Outcome,
    liar: &str,
    lie: &str,
) -> Result<(), Error> {
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
