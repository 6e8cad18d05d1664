//! A7: whoever's turn it is to propose stands still until its round has passed, and then goes on with an old proposal.

use std::time::{Duration, Instant};

use assent_ledger::block::MAX_BLOCK_BYTES;
use assent_ledger::encoding::decode;
use assent_ledger::entry::MAX_ENTRY_BYTES;
use assent_proto::ledger::v1::{Block, Header};
use assent_proto::v1::audit_service_client::AuditServiceClient;
use assent_proto::v1::GetBlockRequest;
use nix::sys::signal::Signal;
use tonic::transport::Channel;
use tonic::Code;

use super::super::world::{World, NODES};
use super::crash::{BEFORE, HEAL_LIMIT};
use crate::client::{self, code};
use crate::error::{failed, Error, While};

/// Times that one is stopped.
const STOPS: usize = 5;
/// How long a turn is waited for: a benched proposer has none for a while.
const TURN_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// Headers as a node serves them, waited for.
struct Headers(AuditServiceClient<Channel>);

impl Headers {
    async fn of(world: &World, organization: &str) -> Result<Self, Error> {
        let channel = client::connect(&world.network, organization, "auditor").await?;
        Ok(Self(AuditServiceClient::new(channel).max_decoding_message_size(8 << 20)))
    }

    async fn at(&mut self, height: u64) -> Result<Header, Error> {
        let begin = Instant::now();
        loop {
            match self.0.get_block(GetBlockRequest { height }).await {
                Ok(answer) => {
                    let doing = || format!("reading block {height}");
                    let block: Block =
                        decode("Block", &answer.into_inner().block, MAX_BLOCK_BYTES).during(doing)?;
                    return decode("Header", &block.header, MAX_ENTRY_BYTES).during(doing);
                }
                Err(status) if status.code() == Code::NotFound && begin.elapsed() < TURN_LIMIT => {
                    tokio::time::sleep(POLL).await;
                }
                Err(status) => return Err(code("GetBlock", &status)),
            }
        }
    }
}

/// A7.
pub async fn stop_proposers(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let mut worst = 0f64;
    for _ in 0..STOPS {
        let witness = world.one_of(&world.organizations());
        let mut headers = Headers::of(world, &witness).await?;
        let order = turns(world, &mut headers, &witness).await?;
        // The one whose turn comes next but one; the witness has to go on, then the one after it.
        let tip = world.height(&witness).await?;
        let next = |n: u64| order[((tip + n) % NODES as u64) as usize].clone();
        let victim = [next(2), next(3)].into_iter().find(|o| *o != witness).unwrap_or_default();
        world.nodes.signal(&victim, Signal::SIGSTOP)?;
        world.cut(std::slice::from_ref(&victim));
        let (mut height, begin) = (tip + 1, Instant::now());
        let missed = loop {
            let header = headers.at(height).await?;
            if header.round > 0 && order[(height % NODES as u64) as usize] == victim {
                break header;
            }
            if begin.elapsed() > TURN_LIMIT {
                return failed(format!("{victim} was stopped, and missed no turn until block {height}"));
            }
            height += 1;
        };
        world.nodes.signal(&victim, Signal::SIGCONT)?;
        world.uncut();
        eprintln!(
            "     {victim} missed its turn at block {}, decided in round {} after {:.1} s",
            missed.height,
            missed.round,
            begin.elapsed().as_secs_f64()
        );
        worst = worst.max(world.heal("it went on, through it", &[victim], HEAL_LIMIT).await?);
    }
    Ok(worst)
}

/// Who proposes at heights that leave the remainder 0, 1, 2, 3, while all do in turn. Waits until all do.
async fn turns(world: &World, headers: &mut Headers, witness: &str) -> Result<Vec<String>, Error> {
    let begin = Instant::now();
    while begin.elapsed() < TURN_LIMIT {
        let tip = world.height(witness).await?.max(NODES as u64);
        let mut order = vec![String::new(); NODES];
        for height in tip + 1 - NODES as u64..=tip {
            let header = headers.at(height).await?;
            let key = hex::encode(&header.proposer);
            let node = world.network.nodes.iter().find(|node| node.validator_key == key);
            if let Some(node) = node.filter(|_| header.round == 0) {
                order[(height % NODES as u64) as usize] = node.organization.clone();
            }
        }
        let mut different = order.clone();
        different.sort();
        different.dedup();
        if different.len() == NODES && !different.contains(&String::new()) {
            return Ok(order);
        }
        tokio::time::sleep(POLL).await;
    }
    failed("proposers did not take turns")
}
