//! The composition root: makes every part once, in order, and stops them in order.
//!
//! ```text
//! start: configuration, keys, genesis ─▶ stores, members ─▶ exchange swarm ─▶ replica ─▶ ordering ─▶ gRPC ─▶ admin
//! stop:  gRPC (no new calls) ─▶ ordering (no new blocks) ─▶ exchange swarm ─▶ stores (dropped last)
//! ```

mod checks;
mod running;
mod swarms;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use assent_ledger::genesis::check_genesis_file;
use assent_ledger::membership::genesis_membership;
use tokio::sync::{mpsc, Notify};
use tokio_util::sync::CancellationToken;

use crate::app::{App, Parts};
use crate::bft::{self, memory, BftConfig, Guard};
use crate::certificates;
use crate::chain::{LedgerReplica, Mempool, Store, Submitter};
use crate::config::{read_file, Config, ConfigError, NodeKeys, Ordering, TlogSection};
use crate::custodian::{Custodian, Lacks};
use crate::evidence;
use crate::exchange::entries;
use crate::fault;
use crate::freshness::Freshness;
use crate::grpc::places::Places;
use crate::grpc::{self, GrpcConfig};
use crate::health::Health;
use crate::members::Present;
use crate::order::single;
use crate::own_keys::{Named, OwnKeys, Purpose};
use crate::recipient::Recipient;
use crate::reports::Reports;
use crate::snapshot::behind::Behind;
use crate::snapshot::join::{install, Outcome};
use crate::vault::Vault;
use crate::{admin, backup, space, standing, tlog, watchdog};

pub(crate) use checks::check_membership;
use checks::{follow_authority, may_order_alone, open_certificates};
pub use running::{Running, Stop};
use swarms::{bft_config, drain, join, start_peers, wire_peers};
use upkeep::{prune, prune_blocks, prune_hourly, watch_vault};

/// In the data folder of a validator that never voted: `assent init` makes it.
pub(crate) const NEVER_VOTED: &str = "never-voted";

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
    let authority = certificates::authority(&config.grpc.authority)?;

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
        install(&config.data_dir)?;
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
    let exchange_key = standing::exchange_key(&own_keys, &members.present(), &config.organization);
    let exchange_secret = exchange_key.as_ref().unwrap_or(&keys.exchange_peer).to_bytes();
    let (store, swarm, joined) = match alone {
        true => (store, None, Outcome::NotDue),
        false => {
            let mut swarm = start_peers(&config, exchange_secret, &members, shutdown.clone()).await?;
            let handles = tokio::task::block_in_place(|| vault.handles())?;
            let (store, joined) = join(&config, &genesis_file, &genesis, store, &handles, &mut swarm).await?;
            (store.with_members(members.clone())?.reporting_to(health.clone()), Some(swarm), joined)
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
        told: Default::default(),
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
        let behind = Behind {
            peers: peers.clone(),
            genesis_hash: app.parts.genesis.hash,
            tips: app.parts.tips.clone(),
            freshness: app.parts.freshness.clone(),
            health: health.clone(),
            lag_heights: config.snapshot_lag_heights,
            refused: joined == Outcome::NoneHeld,
        };
        tokio::spawn(behind.watch(shutdown.clone()));
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
        authority,
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
