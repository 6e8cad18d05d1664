//! The composition root: makes every part once, in order, and stops them in order.
//!
//! ```text
//! start: configuration, keys, genesis ─▶ stores ─▶ exchange swarm ─▶ replica ─▶ ordering ─▶ gRPC ─▶ admin
//! stop:  gRPC (no new calls) ─▶ ordering (no new blocks) ─▶ exchange swarm ─▶ stores (dropped last)
//! ```

use std::sync::Arc;
use std::time::Duration;

use assent_ledger::genesis::{check_genesis_file, CheckedGenesis};
use assent_proto::ledger::v1::Organization;
use tokio::sync::{mpsc, Notify};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::app::{App, Parts};
use crate::bft::{self, memory, BftConfig, Guard};
use crate::certificates::{self, Certificates};
use crate::chain::{LedgerReplica, Mempool, Store, Submitter};
use crate::config::{read_file, Config, ConfigError, NodeKeys, Ordering};
use crate::custodian::{Custodian, Lacks};
use crate::evidence;
use crate::exchange::{entries, server, status};
use crate::fault::{self, Swarm};
use crate::freshness::Freshness;
use crate::grpc::places::Places;
use crate::grpc::{self, GrpcConfig};
use crate::health::Health;
use crate::order::{single, Fatal};
use crate::peers::{self, Inbound, KnownPeer, Peers, PeersConfig, Protocol};
use crate::recipient::Recipient;
use crate::reports::Reports;
use crate::vault::{Vault, VaultError};
use crate::{admin, backup, chain, space, watchdog};

/// In the data folder of a validator that never voted: `assent init` makes it.
pub(crate) const NEVER_VOTED: &str = "never-voted";

/// How often requests that are over a day old are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// Why a node stops or does not start, with its exit code (INTERFACES.md).
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Configuration, keys or genesis: exit 2.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port is taken, a peer address is wrong: exit 7.
    #[error("{0}")]
    Start(String),
    /// The gRPC server: exit 7, or 2 for unusable TLS files.
    #[error(transparent)]
    Grpc(#[from] grpc::ServeError),
    /// Storage, corruption, engine: exit 7 or 9.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// The vault: exit 7 or 9.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl Stop {
    /// Exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Start(_) => 7,
            Self::Grpc(error) => error.exit_code(),
            Self::Fatal(Fatal::Corrupt(_)) => 9,
            Self::Fatal(_) => 7,
            Self::Vault(error) => error.exit_code(),
        }
    }
}

/// A running node.
pub struct Running {
    /// What its services share.
    pub app: App,
    /// Where gRPC listens.
    pub grpc: std::net::SocketAddr,
    /// Where admin listens.
    pub admin: std::net::SocketAddr,
    /// Closes gRPC and admin.
    doors: CancellationToken,
    shutdown: CancellationToken,
    health: Health,
    ordering: JoinHandle<Result<(), Fatal>>,
    served: JoinHandle<()>,
}

impl Running {
    /// Waits until the node is told to stop, or can't go on; then stops everything in order.
    pub async fn run(mut self, stop: impl std::future::Future<Output = ()>) -> Result<(), Stop> {
        let health = self.health.clone();
        let (mut ordered, failed) = tokio::select! {
            () = stop => (None, None),
            outcome = &mut self.ordering => (Some(ended(outcome)), None),
            fatal = health.failed() => (None, Some(fatal)),
        };
        let failed = failed.or_else(|| ordered.as_ref().and_then(|outcome| outcome.clone().err()));
        if let Some(fatal) = &failed {
            // No permit from here on, also of calls that are under way.
            self.health.fail(fatal.clone());
        }
        self.doors.cancel();
        if failed.is_some() || ordered.is_some() {
            // Nothing that waits for a block will get one.
            self.shutdown.cancel();
        }
        // Calls in flight get a moment, in which blocks are still made; then the process ends whatever they do.
        let _ = tokio::time::timeout(Duration::from_secs(6), &mut self.served).await;
        self.shutdown.cancel();
        if ordered.is_none() {
            ordered = tokio::time::timeout(Duration::from_secs(6), &mut self.ordering).await.ok().map(ended);
        }
        match (failed, ordered) {
            (Some(fatal), _) | (None, Some(Err(fatal))) => Err(fatal.into()),
            (None, _) => Ok(()),
        }
    }
}

/// What ordering returned.
fn ended(outcome: Result<Result<(), Fatal>, JoinError>) -> Result<(), Fatal> {
    outcome.unwrap_or_else(|panic| Err(Fatal::Engine(format!("its task ended: {panic}"))))
}

/// Whether genesis has this organization, with these keys.
pub(crate) fn check_membership(
    config: &Config,
    keys: &NodeKeys,
    genesis: &CheckedGenesis,
) -> Result<(), ConfigError> {
    let own = genesis.organizations.iter().find(|o| o.id == config.organization);
    let own = own.ok_or_else(|| {
        let known: Vec<&str> = genesis.organizations.iter().map(|o| o.id.as_str()).collect();
        ConfigError(format!(
            "organization {:?} is not in genesis, which has {}",
            config.organization,
            known.join(", ")
        ))
    })?;
    let wrong = |what: &str| {
        ConfigError(format!("{what} is not the one that genesis has for {}", config.organization))
    };
    if own.entry_key != keys.entry.verifying_key().to_bytes() {
        return Err(wrong("keys/entry.pem"));
    }
    if own.checkpoint_key != keys.checkpoint.verifying_key().to_bytes() {
        return Err(wrong("keys/checkpoint.pem"));
    }
    let votes = |v: &&assent_proto::ledger::v1::Validator| v.organization == config.organization;
    match genesis.validators.validators.iter().find(votes) {
        None => return Err(ConfigError(format!("{} has no validator in genesis", config.organization))),
        Some(v) if v.vote_key != keys.vote.verifying_key().to_bytes() => return Err(wrong("keys/vote.pem")),
        Some(_) => {}
    }
    if own.consensus_peer_id != bft::peer_id(&keys.consensus_peer.to_bytes()) {
        return Err(wrong("keys/consensus-peer.pem"));
    }
    if config.ordering == Ordering::Single && genesis.validators.validators.len() != 1 {
        let count = genesis.validators.validators.len();
        return Err(ConfigError(format!(
            "ordering single needs a genesis with one validator, this one has {count}"
        )));
    }
    Ok(())
}

/// The node's own pair, and its organization's list.
fn open_certificates(config: &Config, genesis: &CheckedGenesis) -> Result<Certificates, ConfigError> {
    let own = genesis.organizations.iter().find(|o| o.id == config.organization);
    Certificates::open(certificates::Files {
        certificate: config.grpc.certificate.clone(),
        key: config.grpc.key.clone(),
        revoked: config.grpc.revoked.clone(),
        authority: own.map(|o| o.ca_certificate.clone()).unwrap_or_default(),
    })
}

/// Starts a node; returns when every listener is bound.
pub async fn start(config: Config) -> Result<Running, Stop> {
    let keys = NodeKeys::read(&config.keys_dir)?;
    let genesis_file = read_file(&config.genesis).map_err(|e| ConfigError(format!("genesis: {e}")))?;
    let genesis = check_genesis_file(&genesis_file)
        .map_err(|e| ConfigError(format!("genesis: {}: {e}", config.genesis.display())))?;
    check_membership(&config, &keys, &genesis)?;
    fault::arm(&config.testnet, &genesis.chain_id).map_err(ConfigError)?;
    let certificates = open_certificates(&config, &genesis)?;
    let cas: Vec<_> =
        genesis.organizations.iter().map(|o| (o.id.clone(), o.ca_certificate.clone())).collect();
    grpc::roots(&cas)?;

    let (health, reports) = (Health::default(), Reports::default());
    // Databases before the network, and off the async workers.
    let (store, vault) = tokio::task::block_in_place(|| -> Result<_, Stop> {
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|e| ConfigError(format!("data_dir: {}: {e}", config.data_dir.display())))?;
        space::check(&config.data_dir, config.min_free_mib)?;
        if config.ordering == Ordering::Single {
            may_order_alone(&config)?;
        }
        let store = Store::open(&config.data_dir.join("ledger"), &genesis_file, &genesis)?;
        let store = store.reporting_to(health.clone());
        let vault = Vault::open(&config.data_dir.join("vault"), &keys.vault.to_bytes())?;
        prune(&vault)?;
        if config.ordering == Ordering::Single {
            memory::remove_marker(&config.data_dir.join(NEVER_VOTED))?;
        }
        Ok((store, vault))
    })?;

    let shutdown = CancellationToken::new();
    let doors = CancellationToken::new();
    // A start that fails half way stops what it has started.
    let half_started = (shutdown.clone().drop_guard(), doors.clone().drop_guard());
    if let Err(error) = backup::serve(&config.data_dir, store.clone(), vault.clone(), shutdown.clone()) {
        // A path of over 100 bytes does this, for one. Nothing else needs it.
        tracing::warn!(%error, "no control socket: no backup while the node runs");
    }
    tokio::spawn(prune_hourly(vault.clone(), shutdown.clone()));
    tokio::spawn(space::watch(
        config.data_dir.clone(),
        config.min_free_mib,
        health.clone(),
        shutdown.clone(),
    ));
    tokio::spawn(certificates.clone().follow(shutdown.clone()));
    tokio::spawn(watch_vault(vault.clone(), health.clone(), shutdown.clone()));
    let alone = config.ordering == Ordering::Single;
    let swarm = match alone {
        true => None,
        false => Some(start_peers(&config, &keys, &genesis, shutdown.clone()).await?),
    };
    let wake = Arc::new(Notify::new());
    let mempool = Mempool::new(wake.clone());
    let address = keys.vote.verifying_key().to_bytes();
    let heartbeat = Duration::from_secs(config.heartbeat_seconds);
    let (replica, tips, outcomes) = LedgerReplica::new(
        store.clone(),
        mempool.clone(),
        config.organization.clone(),
        address,
        heartbeat,
        wake,
    )?;
    let (gossip, gossip_rx) = mpsc::channel(entries::QUEUE_ENTRIES);
    let submitter = Submitter::start(
        store.clone(),
        mempool.clone(),
        config.organization.clone(),
        keys.entry.clone(),
        gossip,
        outcomes,
    )?;
    let staleness = Duration::from_secs(config.max_staleness_seconds);
    let freshness = Freshness::new(tips.clone(), staleness, health.clone());
    tokio::spawn(freshness.clone().follow());

    let (peers, inbound) = match swarm {
        Some((peers, inbound)) => (Some(peers), Some(inbound)),
        None => (None, None),
    };
    let parts = Arc::new(Parts {
        organization: config.organization.clone(),
        ordering: if alone { "single" } else { "malachite" },
        entry_key: keys.entry.clone(),
        genesis_file,
        store,
        mempool,
        submitter,
        tips,
        freshness,
        vault,
        limits: config.limits,
        certificates: certificates.clone(),
        places: Places::new(config.limits),
        lacks: Lacks::default(),
        peers: peers.clone(),
        evidence: Default::default(),
        genesis,
    });
    let custodian = Custodian::new(parts.clone());
    let recipient = Recipient::new(parts.clone(), custodian.clone());
    tokio::spawn(custodian.clone().pay_late_accesses(shutdown.clone()));
    tokio::spawn(custodian.clone().look_for_lacks(shutdown.clone()));
    let app = App { parts, custodian, recipient };
    if let (Some(peers), Some(inbound)) = (peers, inbound) {
        wire_peers(&app, &peers, inbound, gossip_rx, &reports, &shutdown);
    } else {
        tokio::spawn(drain(gossip_rx));
    }

    let ordering = match config.ordering {
        Ordering::Single => tokio::spawn(single::run(replica, keys.vote.clone(), shutdown.clone())),
        Ordering::Malachite => {
            let guard = Guard { marker: config.data_dir.join(NEVER_VOTED), reports, health: health.clone() };
            let (found, queue) = mpsc::channel(evidence::MAX_WAITING);
            tokio::spawn(evidence::report(app.parts.clone(), queue, shutdown.clone()));
            let bft_config =
                BftConfig { evidence: Some(found), ..bft_config(&config, &keys, &app.parts.genesis, guard) };
            let timeouts = bft_config.timeouts;
            let handle = bft::start(bft_config, replica, shutdown.clone()).await?;
            tokio::spawn(watchdog::run(handle.status(), timeouts, health.clone(), shutdown.clone()));
            tokio::spawn(handle.wait())
        }
    };
    let grpc_config = GrpcConfig {
        listen: config.grpc.listen,
        certificates,
        places: app.parts.places.clone(),
        rate: config.grpc.rate(),
        cas,
    };
    let grpc = grpc::serve(app.clone(), grpc_config, doors.clone()).await?;
    let admin = admin::serve(app.clone(), config.admin.listen, doors.clone()).await.map_err(Stop::Start)?;
    let _ = (half_started.0.disarm(), half_started.1.disarm());
    tracing::info!(organization = %config.organization, grpc = %grpc.local_addr, %admin, "node started");
    Ok(Running { app, grpc: grpc.local_addr, admin, doors, shutdown, health, ordering, served: grpc.task })
}

/// Alone, the ledger itself says what was signed: without one, this must be a folder that never was in use.
fn may_order_alone(config: &Config) -> Result<(), Fatal> {
    let (ledger, marker) = (config.data_dir.join("ledger"), config.data_dir.join(NEVER_VOTED));
    match ledger.exists() || marker.exists() {
        true => Ok(()),
        false => Err(bft::nobody_to_ask(&format!(
            "there is neither {} nor {}",
            ledger.display(),
            marker.display()
        ))),
    }
}

/// A vault that can't write any more, or whose values don't open, ends the process.
async fn watch_vault(vault: Vault, health: Health, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        error = vault.failed() => health.fail(match error {
            VaultError::Corrupt { .. } => Fatal::Corrupt(error.to_string()),
            _ => Fatal::Storage(error.to_string()),
        }),
    }
}

/// Forgets requests after a day.
fn prune(vault: &Vault) -> Result<u64, VaultError> {
    vault.prune_requests(chain::now_ms().saturating_sub(24 * 3_600_000))
}

/// Also while the node runs on: a nonce's memory must not grow for ever.
async fn prune_hourly(vault: Vault, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PRUNE_INTERVAL) => {}
        }
        if let Err(error) = tokio::task::block_in_place(|| prune(&vault)) {
            tracing::error!(%error, "old requests are not forgotten");
        }
    }
}

async fn drain(mut queue: mpsc::Receiver<(assent_ledger::Hash, Vec<u8>)>) {
    while queue.recv().await.is_some() {}
}

fn others<'a>(config: &'a Config, genesis: &'a CheckedGenesis) -> impl Iterator<Item = &'a Organization> {
    genesis.organizations.iter().filter(|o| o.id != config.organization)
}

async fn start_peers(
    config: &Config,
    keys: &NodeKeys,
    genesis: &CheckedGenesis,
    shutdown: CancellationToken,
) -> Result<(Peers, mpsc::Receiver<Inbound>), Stop> {
    let known = others(config, genesis).map(|o| KnownPeer {
        organization: o.id.clone(),
        peer_id: o.exchange_peer_id.clone(),
        address: fault::address(&o.id, Swarm::Exchange, &o.exchange_address),
    });
    let peers_config = PeersConfig {
        secret: keys.exchange_peer.to_bytes(),
        listen: config.exchange.listen.clone(),
        organization: config.organization.clone(),
        known: known.collect(),
    };
    peers::start(peers_config, shutdown).await.map_err(|e| Stop::Start(format!("exchange.listen: {e}")))
}

fn wire_peers(
    app: &App,
    peers: &Peers,
    mut inbound: mpsc::Receiver<Inbound>,
    gossip: mpsc::Receiver<(assent_ledger::Hash, Vec<u8>)>,
    reports: &Reports,
    shutdown: &CancellationToken,
) {
    let parts = &app.parts;
    let organizations: Vec<String> = parts
        .genesis
        .validators
        .validators
        .iter()
        .map(|v| v.organization.clone())
        .filter(|o| *o != parts.organization)
        .collect();
    entries::fan_out(peers, organizations.clone(), parts.mempool.clone(), gossip, shutdown.clone());
    tokio::spawn(status::confirm(
        peers.clone(),
        organizations,
        parts.freshness.clone(),
        reports.clone(),
        shutdown.clone(),
    ));
    let app = app.clone();
    tokio::spawn(async move {
        while let Some(Inbound { organization, protocol, stream }) = inbound.recv().await {
            let parts = &app.parts;
            match protocol {
                Protocol::Entries => {
                    let (store, mempool) = (parts.store.clone(), parts.mempool.clone());
                    tokio::spawn(entries::serve(
                        stream,
                        store,
                        mempool,
                        parts.chain_id().to_owned(),
                        organization,
                    ));
                }
                Protocol::Status => {
                    tokio::spawn(status::serve(stream, parts.tips.clone()));
                }
                Protocol::Exchange => {
                    tokio::spawn(server::serve(app.custodian.clone(), organization, stream));
                }
            }
        }
    });
}

fn bft_config(config: &Config, keys: &NodeKeys, genesis: &CheckedGenesis, guard: Guard) -> BftConfig {
    let validates = |o: &&Organization| genesis.validators.validators.iter().any(|v| v.organization == o.id);
    BftConfig {
        home: config.data_dir.join("consensus"),
        chain_id: genesis.chain_id.clone(),
        vote_key: keys.vote.clone(),
        consensus_peer_secret: keys.consensus_peer.to_bytes(),
        listen: config.consensus.listen.clone(),
        persistent_peers: others(config, genesis)
            .filter(validates)
            .map(|o| (fault::address(&o.id, Swarm::Consensus, &o.consensus_address), &o.consensus_peer_id))
            .map(|(address, peer_id)| format!("{address}/p2p/{peer_id}"))
            .collect(),
        moniker: config.organization.clone(),
        timeouts: Default::default(),
        guard: Some(guard),
        evidence: None,
        lie: fault::lie(),
    }
}
