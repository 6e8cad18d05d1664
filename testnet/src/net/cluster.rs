//! The nodes of a network as processes that we started.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::{GetStatusRequest, GetStatusResponse};
use nix::sys::signal::Signal;

use crate::binaries::Binaries;
use crate::client::{self, code};
use crate::error::{failed, Error};
use crate::net::description::{config_path, log_path, Network};
use crate::net::process::{Care, Running, STOP_LIMIT_SECONDS};

/// How long the nodes may take until all are ready, in seconds.
const READY_LIMIT_SECONDS: u64 = 60;
const POLL: Duration = Duration::from_millis(200);

/// Started nodes, in the order of the network's.
#[derive(Debug)]
pub struct Cluster {
    binaries: Binaries,
    dir: PathBuf,
    /// The network, with the process ids of the nodes that run.
    pub network: Network,
    running: Vec<Option<Running>>,
    care: Care,
}

impl Cluster {
    /// Starts all nodes at once: they look for each other.
    pub fn start(binaries: &Binaries, dir: &Path, network: Network, care: Care) -> Result<Self, Error> {
        let running = network.nodes.iter().map(|_| None).collect();
        let mut cluster = Self { binaries: binaries.clone(), dir: dir.to_owned(), network, running, care };
        for index in 0..cluster.network.nodes.len() {
            if let Err(error) = cluster.start_node(index) {
                cluster.kill_all();
                return Err(error);
            }
        }
        Ok(cluster)
    }

    /// Starts one node.
    pub fn start_node(&mut self, index: usize) -> Result<(), Error> {
        let node = &mut self.network.nodes[index];
        let (config, log) =
            (config_path(&self.dir, &node.organization), log_path(&self.dir, &node.organization));
        let started =
            Running::start(&self.binaries.assentd, &[Path::new("--config"), &config], &log, self.care)?;
        node.pid = started.pid();
        self.running[index] = Some(started);
        Ok(())
    }

    /// SIGKILL for one node; tells the signal that ended it.
    pub fn kill_node(&mut self, index: usize) -> Result<Option<i32>, Error> {
        match self.running[index].take() {
            Some(mut node) => Ok(node.kill()?.signal()),
            None => failed(format!("{} does not run", self.network.nodes[index].organization)),
        }
    }

    /// SIGTERM for one node, SIGKILL after the limit; nothing when it has ended.
    pub async fn stop_node(&mut self, index: usize) {
        if let Some(mut node) = self.running[index].take() {
            node.terminate();
            node.wait_until(Instant::now() + Duration::from_secs(STOP_LIMIT_SECONDS)).await;
        }
    }

    /// How one node ended, if it did.
    pub fn ended(&mut self, index: usize) -> Option<std::process::ExitStatus> {
        self.running[index].as_mut()?.ended()
    }

    /// Waits until every node is fresh, of this chain and connected to all others.
    pub async fn wait_ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(READY_LIMIT_SECONDS);
        loop {
            self.fail_if_ended()?;
            let mut waiting = Vec::new();
            for node in &self.network.nodes {
                match status(&self.network, &node.organization).await {
                    Ok(status) => waiting.extend(self.not_ready(&status)?),
                    Err(error) => waiting.push(format!("{}: {error}", node.organization)),
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return failed(format!("not ready after {READY_LIMIT_SECONDS} s: {}", waiting.join("; ")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Why a node isn't ready yet; an error when it never will be.
    fn not_ready(&self, status: &GetStatusResponse) -> Result<Option<String>, Error> {
        let network = &self.network;
        if status.chain_id != network.chain_id || hex::encode(&status.genesis_hash) != network.genesis_hash {
            return failed(format!(
                "the node of {} serves another chain, {}",
                status.organization, status.chain_id
            ));
        }
        let others = network.nodes.iter().map(|n| &n.organization).filter(|o| **o != status.organization);
        let missing: Vec<_> = others.filter(|o| !status.connected.contains(o)).map(String::as_str).collect();
        if !missing.is_empty() {
            return Ok(Some(format!("{} is not connected to {}", status.organization, missing.join(", "))));
        }
        Ok((!status.fresh)
            .then(|| format!("{} is not fresh: {}", status.organization, status.not_fresh_reason)))
    }

    /// An error when a node has ended by itself, with the end of its log.
    pub fn fail_if_ended(&mut self) -> Result<(), Error> {
        for (node, running) in self.network.nodes.iter().zip(&mut self.running) {
            let Some(running) = running else { continue };
            if let Some(status) = running.ended() {
                let (who, tail) = (&node.organization, running.log_tail());
                return failed(format!(
                    "the node of {who} ended by itself ({status}); its log ends with{tail}"
                ));
            }
        }
        Ok(())
    }

    /// Stops all nodes in order: SIGTERM to all, SIGKILL after the limit. Returns whose had to be killed.
    pub async fn stop(&mut self) -> Vec<String> {
        for node in self.running.iter_mut().flatten() {
            node.terminate();
        }
        let deadline = Instant::now() + Duration::from_secs(STOP_LIMIT_SECONDS);
        let mut late = Vec::new();
        for (node, running) in self.network.nodes.iter().zip(&mut self.running) {
            let Some(mut running) = running.take() else {
                continue;
            };
            if running
                .wait_until(deadline)
                .await
                .is_some_and(|status| status.signal() == Some(Signal::SIGKILL as i32))
            {
                late.push(node.organization.clone());
            }
        }
        late
    }

    /// The nodes go on without us.
    pub fn leave_running(mut self) -> Network {
        self.running.clear();
        self.network.clone()
    }

    fn kill_all(&mut self) {
        for node in self.running.iter_mut().flatten() {
            let _ = node.kill(); // gone already: what is wanted
        }
        self.running.clear();
    }
}

/// The last resort: nothing that was started outlives its cluster unless it was left running on purpose.
impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// A node's status, as its organization's operator sees it.
pub async fn status(network: &Network, organization: &str) -> Result<GetStatusResponse, Error> {
    let channel = client::connect(network, organization, "operator").await?;
    let answer = NodeServiceClient::new(channel).get_status(GetStatusRequest {}).await;
    answer.map(tonic::Response::into_inner).map_err(|s| code("GetStatus", &s))
}
