//! Governance through the CLI, as operators do it, and how long commits stop meanwhile.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use assent_proto::v1::GetStatusResponse;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::super::world::{World, POLL, SETTLE_LIMIT};
use super::super::writes::Shared;
use crate::error::{failed, Error, While};
use crate::net::create::text;

/// Longest that commits may stop, in seconds.
const LONGEST_PAUSE: f64 = 10.0;
/// Heights between a proposal and its effect: enough for the approvals at some thirty blocks a second.
pub(super) const LEAD: u64 = 200;

/// The longest time without an acknowledged write.
pub(super) struct Pauses {
    longest: Arc<Mutex<Duration>>,
    task: JoinHandle<()>,
}

impl Pauses {
    pub(super) fn watch(journal: &Shared) -> Self {
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
    pub(super) fn judge(&self, world: &mut World) -> f64 {
        self.task.abort();
        let seconds = self.longest.lock().unwrap_or_else(PoisonError::into_inner).as_secs_f64();
        if seconds > LONGEST_PAUSE {
            world.wrong(format!("no write was committed for {seconds:.1} s, limit {LONGEST_PAUSE} s"));
        }
        seconds
    }
}

/// Runs the CLI as an organization's operator, at its node: the JSON that it prints.
pub(super) async fn operator(world: &World, organization: &str, words: &[&str]) -> Result<Value, Error> {
    let client = world.network.client(organization, "operator")?;
    let node = world.network.node(organization)?.grpc.replace("127.0.0.1", "localhost");
    let (cert, key, ca) = (text(&client.cert)?, text(&client.key)?, text(&client.ca)?);
    let door = ["--node", &node, "--cert", cert, "--key", key, "--ca", ca, "--output", "json"];
    let ran = world.binaries.assent_ok(&[words, &door].concat()).await?;
    serde_json::from_str(&ran.stdout).during(|| format!("reading what assent {} printed", words.join(" ")))
}

/// Waits until something of the node of `organization` is as wanted.
pub(super) async fn until(
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
pub(super) async fn approved(world: &World, words: &[&str], voters: &[String]) -> Result<u64, Error> {
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
pub(super) async fn change(world: &World, words: &[&str], voters: &[String]) -> Result<u64, Error> {
    let height = approved(world, words, voters).await?;
    reached(world, &voters[0], height + 1).await?;
    Ok(height)
}

pub(super) fn votes(status: &GetStatusResponse, organization: &str) -> bool {
    status.validators.iter().any(|v| v.organization == organization && v.last_signed_height > 0)
}

pub(super) fn has_vote(status: &GetStatusResponse, organization: &str) -> bool {
    status.validators.iter().any(|v| v.organization == organization)
}
