//! The composition root: makes every part once, in order, and stops them in order.
//!
//! ```text
//! start: configuration, keys, genesis ─▶ stores, members ─▶ exchange swarm ─▶ replica ─▶ ordering ─▶ gRPC ─▶ admin
//! stop:  gRPC (no new calls) ─▶ ordering (no new blocks) ─▶ exchange swarm ─▶ stores (dropped last)
//! ```

use std::sync::Arc;
use std::time::Duration;

use assent_ledger::genesis::{check_genesis_file, CheckedGenesis};
use assent_ledger::membership::genesis_membership;
use assent_ledger::Hash;
use tokio::sync::{mpsc, Notify};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::app::{App, Parts};
use crate::bft::{self, memory, BftConfig, Guard, Wiring};
use crate::certificates::{self, Certificates};
use crate::chain::{LedgerReplica, Mempool, Store, Submitter};
use crate::config::{read_file, Config, ConfigError, NodeKeys, Ordering, TlogSection};
use crate::custodian::{Custodian, Lacks};
use crate::evidence;
use crate::exchange::{entries, server, status};
use crate::fault::{self, Swarm};
use crate::freshness::Freshness;
use crate::grpc::places::Places;
use crate::grpc::{self, GrpcConfig};
use crate::health::{Health, Joining};
use crate::members::{Members, Present};
use crate::order::{single, Fatal};
use crate::own_keys::{Named, OwnKeys, Purpose};
use crate::peers::{self, Inbound, Peers, PeersConfig, Protocol};
use crate::recipient::Recipient;
use crate::reports::Reports;
use crate::snapshot::join;
use crate::snapshot::serve::SnapshotServer;
use crate::vault::{Vault, VaultError};
use crate::{admin, backup, chain, snapshot, space, standing, tlog, watchdog};

/// In the data folder of a validator that never voted: `assent init` makes it.
pub(crate) const NEVER_VOTED: &str = "never-voted";

/// Blocks that are pruned in one write, the pause between two while there are more, and when there are none.
const PRUNED_AT_ONCE: u64 = 64;
const PRUNE_PAUSE: Duration = Duration::from_millis(20);
const PRUNE_BLOCKS_INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait for the stores to be let go of, after everything was told to stop.
const CLOSING: Duration = Duration::from_secs(2);

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
        let ledger = self.app.parts.store.watch_closing();
        drop(self.app);
        // Tasks that were told to stop let go of it one after the other.
        let closed = async {
            while ledger.is_open() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(CLOSING, closed).await.is_err() {
            tracing::debug!("the ledger's store is still in use");
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

/// The files hold the keys that the ledger names. One that was replaced before may lie ahead of this node's ledger: then it
/// follows, and says so, until a block names it.
pub(crate) fn check_membership(
    config: &Config,
    keys: &OwnKeys,
    present: &Present,
    height: u64,
) -> Result<(), ConfigError> {
    let own = config.organization.as_str();
    let mut missing = keys.missing(present, own);
    if present.organization(own).is_some_and(|o| o.entry_key.is_empty()) {
        missing.retain(|purpose| *purpose != Purpose::Entry); // suspended, which is no mistake in the files
    }
    missing.retain(|purpose| !keys.was_replaced(*purpose));
    if !missing.is_empty() {
        let sentence = standing::sentence_of(&missing, own);
        return Err(ConfigError(format!("{sentence} (as of block {height})")));
    }
    if config.ordering == Ordering::Single && present.organization(own).is_none() {
        let known: Vec<&str> = present.membership.organizations.iter().map(|o| o.id.as_str()).collect();
        let sentence =
            format!("organization {own:?} is no member of this network, which has {}", known.join(", "));
        return Err(ConfigError(sentence));
    }
    if config.ordering == Ordering::Single && !single::orders_alone(present.validators(), own) {
        let count = present.validators().len();
        let sentence = format!(
            "ordering single needs {own} as the only validator, and at block {height} there are {count}: set ordering = \"malachite\""
        );
        return Err(ConfigError(sentence));
    }
    tracing::info!(height, role = %present.role(own), members = present.membership.organizations.len(), "the ledger's members");
    Ok(())
}

/// The node's own pair, and its organization's list: judged by the authority of genesis, before any data is touched. Where there
/// is a ledger another authority may stand on it: then only the form is judged here.
fn open_certificates(config: &Config, genesis: &CheckedGenesis) -> Result<Certificates, ConfigError> {
    let open = |authority: Vec<u8>| {
        Certificates::open(certificates::Files {
            certificate: config.grpc.certificate.clone(),
            key: config.grpc.key.clone(),
            revoked: config.grpc.revoked.clone(),
            authority: authority.into(),
        })
    };
    let own = genesis.organizations.iter().find(|o| o.id == config.organization);
    match open(own.map(|o| o.ca_certificate.clone()).unwrap_or_default()) {
        Err(_) if config.data_dir.join("ledger").exists() => open(Vec::new()),
        opened => opened,
    }
}

/// Judges the node's certificate by the authority that the ledger names, now and whenever that changes.
fn follow_authority(certificates: &Certificates, members: &Members, own: &str) -> Result<(), ConfigError> {
    let der =
        |present: &Present| present.organization(own).map(|o| o.ca_certificate.clone()).unwrap_or_default();
    let mut last = der(&members.present());
    certificates.set_authority(&last)?;
    let (certificates, mut changes, own) = (certificates.clone(), members.subscribe(), own.to_owned());
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            let present = changes.borrow_and_update().clone();
            let now = present.organization(&own).map(|o| o.ca_certificate.clone()).unwrap_or_default();
            if now == last {
                continue;
            }
            if let Err(error) = certificates.set_authority(&now) {
                tracing::error!(alarm = "certificate-refused", %error, "issue the node's certificate anew");
            }
            last = now;
        }
    });
    Ok(())
}

/// Starts a node; returns when every listener is bound.
pub async fn start(config: Config) -> Result<Running, Stop> {
    let keys = NodeKeys::read(&config.keys_dir)?;
    let genesis_file = read_file(&config.genesis).map_err(|e| ConfigError(format!("genesis: {e}")))?;
    let genesis = check_genesis_file(&genesis_file)
        .map_err(|e| ConfigError(format!("genesis: {}: {e}", config.genesis.display())))?;
    fault::arm(&config.testnet, &genesis.chain_id).map_err(ConfigError)?;
    let own_keys = OwnKeys::new(config.keys_dir.clone(), &keys);
    if !config.data_dir.join("ledger").exists() {
        // Nothing is made for a genesis that can't be meant.
        let membership = genesis_membership(&genesis);
        check_membership(&config, &own_keys, &Present { membership, since: 0 }, 0)?;
    }
    let certificates = open_certificates(&config, &genesis)?;

    let (health, reports) = (Health::default(), Reports::default());
    // Databases before the network, and off the async workers.
    let (store, vault) = tokio::task::block_in_place(|| -> Result<_, Stop> {
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|e| ConfigError(format!("data_dir: {}: {e}", config.data_dir.display())))?;
        space::check(&config.data_dir, config.min_free_mib)?;
        if config.ordering == Ordering::Single {
            may_order_alone(&config)?;
        }
        let ledger = config.data_dir.join("ledger");
        if let Some(why) = Store::refuses(&ledger, &genesis_file, &genesis) {
            return Err(ConfigError(why).into());
        }
        join::install(&config.data_dir)?;
        let store = Store::open(&ledger, &genesis_file, &genesis)?.reporting_to(health.clone());
        check_membership(&config, &own_keys, &store.members().present(), store.tip()?.height)?;
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
    tokio::spawn(prune_hourly(vault.clone(), shutdown.clone()));
    tokio::spawn(space::watch(
        config.data_dir.clone(),
        config.min_free_mib,
        health.clone(),
        shutdown.clone(),
    ));
    follow_authority(&certificates, &store.members(), &config.organization)?;
    tokio::spawn(certificates.clone().follow(shutdown.clone()));
    tokio::spawn(watch_vault(vault.clone(), health.clone(), shutdown.clone()));
    let alone = config.ordering == Ordering::Single;
    let members = store.members();
    let exchange_key =
        standing::key(&own_keys, &members.present(), &config.organization, Purpose::ExchangePeer);
    let exchange_secret = exchange_key.as_ref().unwrap_or(&keys.exchange_peer).to_bytes();
    let (store, swarm) = match alone {
        true => (store, None),
        false => {
            let mut swarm = start_peers(&config, exchange_secret, &members, shutdown.clone()).await?;
            let handles = tokio::task::block_in_place(|| vault.handles())?;
            let store = join(&config, &genesis_file, &genesis, store, &handles, &mut swarm).await?;
            (store.with_members(members.clone())?.reporting_to(health.clone()), Some(swarm))
        }
    };
    tokio::spawn(prune_blocks(
        store.clone(),
        config.keep_blocks,
        config.organization.clone(),
        shutdown.clone(),
    ));
    if let Err(error) = backup::serve(&config.data_dir, store.clone(), vault.clone(), shutdown.clone()) {
        // A path of over 100 bytes does this, for one. Nothing else needs it.
        tracing::warn!(%error, "no control socket: no backup while the node runs");
    }
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
        own_keys.clone(),
        gossip,
        outcomes,
    )?;
    let staleness = Duration::from_secs(config.max_staleness_seconds);
    let freshness = Freshness::new(tips.clone(), &config.organization, staleness, health.clone());
    tokio::spawn(freshness.clone().follow());

    let (peers, inbound) = match swarm {
        Some((peers, inbound)) => (Some(peers), Some(inbound)),
        None => (None, None),
    };
    let parts = Arc::new(Parts {
        organization: config.organization.clone(),
        ordering: if alone { "single" } else { "malachite" },
        keys: own_keys.clone(),
        members: members.clone(),
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
        checkpoints: Default::default(),
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

    tokio::spawn(standing::follow(
        Arc::downgrade(&app.parts),
        health.clone(),
        exchange_secret,
        shutdown.clone(),
    ));
    let ordering = match config.ordering {
        Ordering::Single => {
            let organization = config.organization.clone();
            let key = move |public: &[u8]| own_keys.find(Purpose::Vote, Named::Key(public));
            tokio::spawn(single::run(replica, organization, key, shutdown.clone()))
        }
        Ordering::Malachite => {
            let guard = Guard { marker: config.data_dir.join(NEVER_VOTED), reports, health: health.clone() };
            let (found, queue) = mpsc::channel(evidence::MAX_WAITING);
            tokio::spawn(evidence::report(app.parts.clone(), queue, shutdown.clone()));
            let bft_config =
                BftConfig { evidence: Some(found), ..bft_config(&config, &keys, &app.parts, guard) };
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
    };
    let grpc = grpc::serve(app.clone(), grpc_config, doors.clone()).await?;
    let admin = admin::serve(app.clone(), config.admin.listen, doors.clone()).await.map_err(Stop::Start)?;
    if let Some(TlogSection { listen }) = &config.tlog {
        let signer = tlog::Signer::open(&app.parts, keys.checkpoint.clone(), &config.data_dir)?;
        tlog::serve(app.parts.clone(), signer, *listen, doors.clone()).await.map_err(Stop::Start)?;
    }
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

/// Starts from a peer's snapshot where that is due, before anything uses the ledger; returns the ledger to use.
async fn join(
    config: &Config,
    genesis_file: &[u8],
    genesis: &CheckedGenesis,
    store: Store,
    handles: &[assent_ledger::Hash],
    (peers, inbound): &mut (Peers, mpsc::Receiver<Inbound>),
) -> Result<Store, Stop> {
    let (joining, done) = (Arc::new(Joining::default()), CancellationToken::new());
    let files = memory::Files::new(config.data_dir.join(NEVER_VOTED), config.data_dir.join("consensus"));
    let joined = {
        let join = join::Join {
            data_dir: &config.data_dir,
            genesis,
            genesis_file,
            own: &config.organization,
            handles,
            store: &store,
            peers,
            lag_heights: config.snapshot_lag_heights,
            memory: &files,
            joining: &joining,
            now_ms: chain::now_ms(),
        };
        let mut work = std::pin::pin!(join.run());
        let admin = admin::serve_joining(config.admin.listen, joining.clone(), done.clone()).await;
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                // Nothing else can be answered yet: whoever asks will ask again.
                Some(inbound) = inbound.recv() => if inbound.protocol == Protocol::Snapshot {
                    tokio::spawn(snapshot::serve::serve_nothing(inbound.stream));
                }
            }
        };
        done.cancel();
        // A port in use is reported by the admin server proper.
        if let Ok(admin) = admin {
            let _ = tokio::time::timeout(Duration::from_secs(1), admin).await;
        }
        outcome?
    };
    if !joined {
        return Ok(store);
    }
    tokio::task::block_in_place(|| {
        let closing = store.watch_closing();
        drop(store);
        if closing.is_open() {
            return Err(Fatal::Storage(
                "the old ledger is still in use: it can't give way to the joined one".into(),
            )
            .into());
        }
        join::install(&config.data_dir)?;
        Ok(Store::open(&config.data_dir.join("ledger"), genesis_file, genesis)?)
    })
}

/// Forgets entries of old blocks, a few at a time.
async fn prune_blocks(store: Store, keep_blocks: u64, own: String, shutdown: CancellationToken) {
    if keep_blocks == 0 {
        return;
    }
    loop {
        let pause = match tokio::task::block_in_place(|| store.prune(keep_blocks, &own, PRUNED_AT_ONCE)) {
            Ok(PRUNED_AT_ONCE) => PRUNE_PAUSE,
            Ok(_) => PRUNE_BLOCKS_INTERVAL,
            Err(error) => return tracing::error!(%error, "old blocks are not pruned"),
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
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

async fn start_peers(
    config: &Config,
    secret: Hash,
    members: &Members,
    shutdown: CancellationToken,
) -> Result<(Peers, mpsc::Receiver<Inbound>), Stop> {
    let peers_config = PeersConfig {
        secret,
        listen: config.exchange.listen.clone(),
        organization: config.organization.clone(),
        known: standing::known_peers(&members.present(), &config.organization),
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
    let (members, own) = (parts.members.clone(), parts.organization.clone());
    entries::fan_out(peers, members.clone(), own.clone(), parts.mempool.clone(), gossip, shutdown.clone());
    tokio::spawn(status::confirm(
        peers.clone(),
        members,
        own,
        parts.freshness.clone(),
        reports.clone(),
        shutdown.clone(),
    ));
    let snapshots = SnapshotServer::new(parts.store.clone(), parts.genesis.hash);
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
                Protocol::Snapshot => {
                    tokio::spawn(snapshots.clone().serve(organization, stream));
                }
                Protocol::Exchange => {
                    tokio::spawn(server::serve(app.custodian.clone(), organization, stream));
                }
            }
        }
    });
}

fn bft_config(config: &Config, keys: &NodeKeys, parts: &Parts, guard: Guard) -> BftConfig {
    let wiring = Wiring {
        organization: config.organization.clone(),
        members: parts.members.clone(),
        keys: parts.keys.clone(),
        address: |o| fault::address(&o.id, Swarm::Consensus, &o.consensus_address),
    };
    BftConfig {
        home: config.data_dir.join("consensus"),
        chain_id: parts.chain_id().to_owned(),
        vote_key: keys.vote.clone(),
        consensus_peer_secret: keys.consensus_peer.to_bytes(),
        listen: config.consensus.listen.clone(),
        // Filled in from the membership when the engine starts.
        persistent_peers: Vec::new(),
        moniker: config.organization.clone(),
        timeouts: Default::default(),
        wiring: Some(wiring),
        guard: Some(guard),
        evidence: None,
        lie: fault::lie(),
    }
}
