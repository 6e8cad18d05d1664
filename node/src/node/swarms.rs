//! The exchange swarm and the engine: started, joined through, and connected with the parts that they serve.

use std::sync::Arc;
use std::time::Duration;

use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::Hash;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Stop, NEVER_VOTED};
use crate::app::{App, Parts};
use crate::bft::{memory, BftConfig, Guard, Wiring};
use crate::chain::{self, Store};
use crate::config::{Config, NodeKeys};
use crate::exchange::{entries, server, status};
use crate::fault::{self, Swarm};
use crate::health::Joining;
use crate::members::Members;
use crate::order::Fatal;
use crate::peers::{self, Inbound, Peers, PeersConfig, Protocol};
use crate::reports::Reports;
use crate::snapshot::join::{self, Outcome};
use crate::snapshot::serve::{serve_nothing, SnapshotServer};
use crate::{admin, standing};

/// Starts from a peer's snapshot where that is due, before anything uses the ledger; returns the ledger to use, and what became
/// of it.
pub(super) async fn join(
    config: &Config,
    genesis_file: &[u8],
    genesis: &CheckedGenesis,
    store: Store,
    handles: &[Hash],
    (peers, inbound): &mut (Peers, mpsc::Receiver<Inbound>),
) -> Result<(Store, Outcome), Stop> {
    let (joining, done) = (Arc::new(Joining::default()), CancellationToken::new());
    let files = memory::Files::new(config.data_dir.join(NEVER_VOTED), config.data_dir.join("consensus"));
    let joined = {
        let join = join::Join {
            data_dir: &config.data_dir,
            genesis,
            genesis_file,
            own: &config.organization,
            accepted: config.accepted_recoveries(),
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
                    tokio::spawn(serve_nothing(inbound.stream));
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
    if joined != Outcome::Joined {
        return Ok((store, joined));
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
        Ok((Store::open(&config.data_dir.join("ledger"), genesis_file, genesis)?, joined))
    })
}

/// Takes entries that are for nobody: there are no peers.
pub(super) async fn drain(mut queue: mpsc::Receiver<(Hash, Vec<u8>)>) {
    while queue.recv().await.is_some() {}
}

/// The exchange swarm, listening.
pub(super) async fn start_peers(
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

/// What goes out to peers, and who answers them.
pub(super) fn wire_peers(
    app: &App,
    peers: &Peers,
    mut inbound: mpsc::Receiver<Inbound>,
    gossip: mpsc::Receiver<(Hash, Vec<u8>)>,
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
        parts.told.clone(),
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
                    let (tips, members) = (parts.tips.clone(), parts.members.clone());
                    tokio::spawn(status::serve(stream, tips, members, organization));
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

/// How the engine is started.
pub(super) fn bft_config(config: &Config, keys: &NodeKeys, parts: &Parts, guard: Guard) -> BftConfig {
    let wiring = Wiring {
        organization: config.organization.clone(),
        members: parts.members.clone(),
        keys: parts.keys.clone(),
        told: parts.told.clone(),
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
