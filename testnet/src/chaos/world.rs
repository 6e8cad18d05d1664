//! The network of one run: its folder, its processes, the links between them, its clients, and what was noted so far.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use assent_proto::v1::record_service_client::RecordServiceClient;
use assent_proto::v1::LoadRecordsRequest;
use futures::stream;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::load::Load;
use super::look::Ledger;
use super::observed::{CutOff, HealedSeen};
use super::patients::{consenting, fhir_id, record, with_consent, CUSTODIAN};
use super::proxy::{Proxy, Swarm};
use super::supervisor::{Launch, Supervisor};
use super::template::{copy, Template};
use super::writes::{Shared, What, Writer};
use crate::binaries::Binaries;
use crate::client::{self, code};
use crate::error::{failed, Error};
use crate::net::description::{config_path, log_path, node_dir, Network};

/// Nodes of a network.
pub(super) const NODES: usize = 4;
/// Patients with a consent: one withdraws every few seconds.
const PATIENTS: usize = 40;
/// End of their consents, where a case says nothing else.
const FAR: &str = "2030-12-31";
/// How long nodes may take to start or to settle: no claim, a machine may be slow.
pub(super) const SETTLE_LIMIT: Duration = Duration::from_secs(90);
pub(super) const POLL: Duration = Duration::from_millis(100);

/// A run's network.
pub struct World {
    /// What is run.
    pub binaries: Binaries,
    /// Its folder.
    pub dir: PathBuf,
    /// Nodes and clients.
    pub network: Network,
    /// The nodes' processes.
    pub nodes: Supervisor,
    /// Links between the nodes.
    pub proxy: Arc<Proxy>,
    /// All that is left to chance comes from here.
    pub rng: StdRng,
    /// What clients saw.
    pub journal: Shared,
    /// A string in every patient's identifier.
    pub canary: String,
    /// Handles of the patients with consents.
    pub patients: Vec<Vec<u8>>,
    /// What the case itself found wrong.
    pub faults: Vec<String>,
    /// What healed.
    pub healed: Vec<HealedSeen>,
    /// Who was cut off.
    pub cut_off: Arc<Mutex<Vec<CutOff>>>,
    /// The ledger before the nodes pruned theirs.
    pub whole: Option<Ledger>,
    /// Hash of the plan by which a lost quorum was replaced.
    pub recovery: Option<String>,
    /// Liars made two ledgers of it: there is no one that all have.
    pub forked: bool,
    pub(super) load: Option<Load>,
    /// Bytes between the nodes and canaries among them before this run.
    pub(super) passed_before: (u64, u64),
    pub(super) probes: u64,
}

impl World {
    /// Copies the template, starts the nodes and waits until all are ready.
    pub async fn start(template: &Template, name: &str, seed: u64) -> Result<Self, Error> {
        template.proxy.open_all();
        let dir = template.dir.join(name);
        let mut network = template.network.clone();
        let mut launches = Vec::new();
        for node in &mut network.nodes {
            let to = node_dir(&dir, &node.organization);
            copy(&node_dir(&template.dir.join("template"), &node.organization), &to)?;
            node.data = to.join("data");
            node.log = format!("file://{}", log_path(&dir, &node.organization).display());
        }
        for node in &network.nodes {
            let others = network.nodes.iter().filter(|other| other.organization != node.organization);
            let mut arguments =
                vec!["--config".into(), config_path(&dir, &node.organization).display().to_string()];
            for other in others {
                let way = |swarm| template.proxy.port(&node.organization, &other.organization, swarm);
                let (Some(consensus), Some(exchange)) = (way(Swarm::Consensus), way(Swarm::Exchange)) else {
                    return failed("the proxy lacks a link");
                };
                let tcp = |port: u16| format!("/ip4/127.0.0.1/tcp/{port}");
                arguments.push("--dial".into());
                arguments.push(format!("{}={},{}", other.organization, tcp(consensus), tcp(exchange)));
            }
            launches.push(Launch {
                organization: node.organization.clone(),
                assentd: template.binaries.assentd.clone(),
                arguments,
                log: log_path(&dir, &node.organization),
            });
        }
        let world = Self {
            binaries: template.binaries.clone(),
            dir,
            network,
            nodes: Supervisor::new(launches),
            proxy: template.proxy.clone(),
            rng: StdRng::seed_from_u64(seed),
            journal: Shared::default(),
            canary: template.canary.clone(),
            patients: Vec::new(),
            faults: Vec::new(),
            healed: Vec::new(),
            cut_off: Arc::default(),
            whole: None,
            recovery: None,
            forked: false,
            load: None,
            passed_before: template.proxy.seen(),
            probes: 0,
        };
        for organization in world.organizations() {
            world.nodes.start(&organization)?;
        }
        world.settle().await?;
        Ok(world)
    }

    /// A node's ledger, votes or vault.
    pub fn store(&self, organization: &str, name: &str) -> Result<PathBuf, Error> {
        Ok(self.network.node(organization)?.data.join(name))
    }

    /// All organizations.
    pub fn organizations(&self) -> Vec<String> {
        self.network.nodes.iter().map(|node| node.organization.clone()).collect()
    }

    /// All but these.
    pub fn others(&self, but: &[&str]) -> Vec<String> {
        self.organizations().into_iter().filter(|o| !but.contains(&o.as_str())).collect()
    }

    /// One of these by chance.
    pub fn one_of(&mut self, among: &[String]) -> String {
        among.choose(&mut self.rng).cloned().unwrap_or_default()
    }

    /// A time between two, in milliseconds, by chance.
    pub fn between_ms(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.rng.gen_range(least..=most))
    }

    /// Two and two, by chance.
    pub fn halves(&mut self) -> (Vec<String>, Vec<String>) {
        let mut all = self.organizations();
        all.shuffle(&mut self.rng);
        let rest = all.split_off(NODES / 2);
        (all, rest)
    }

    /// A connection that registers patients through a node.
    pub async fn writer(&self, organization: &str) -> Result<Writer, Error> {
        Ok(Writer {
            organization: organization.to_owned(),
            canary: self.canary.clone(),
            channel: client::connect(&self.network, organization, "registrar").await?,
            journal: self.journal.clone(),
        })
    }

    /// Registers the patients who check and withdraw, and starts the load.
    pub async fn begin_load(&mut self) -> Result<(), Error> {
        self.patients = self.register((0..PATIENTS).map(consenting).collect(), FAR).await?;
        let load = Load::start(&self.network, &self.canary, &self.journal, &self.patients).await?;
        self.load = Some(load);
        Ok(())
    }

    /// Registers patients at the custodian with a consent until `end` and a record each; their handles.
    pub async fn register(&mut self, names: Vec<String>, end: &str) -> Result<Vec<Vec<u8>>, Error> {
        let organizations = self.organizations();
        let subjects = names.iter().map(|n| with_consent(&self.canary, n, &organizations, end)).collect();
        let id = format!("consents-{}", self.next_probe());
        let writer = self.writer(CUSTODIAN).await?;
        let deadline = Instant::now() + SETTLE_LIMIT;
        let written = writer.write(&id, &What::These(subjects), || Instant::now() >= deadline).await;
        let Some((_, handles)) = written else {
            return failed("patients with consents could not be registered");
        };
        let channel = client::connect(&self.network, CUSTODIAN, "ehr").await?;
        let resources = names.iter().map(|n| record(&fhir_id(&self.canary, n)).into_bytes()).collect();
        let message = LoadRecordsRequest { request_id: format!("records-{id}"), resources };
        RecordServiceClient::new(channel)
            .load_records(stream::iter([message]))
            .await
            .map_err(|s| code("LoadRecords", &s))?;
        Ok(handles)
    }

    pub(super) fn next_probe(&mut self) -> u64 {
        self.probes += 1;
        self.probes
    }

    /// Something that the case's own text forbids.
    pub fn wrong(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }
}
