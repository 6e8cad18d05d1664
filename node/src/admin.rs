//! Liveness, readiness and metrics over plain HTTP, for supervisors and Prometheus. Nothing here names a patient or a client.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::chain::now_ms;
use crate::health::{Condition, Joining};
use crate::members::Role;

/// Serves until shut down; returns once bound.
pub async fn serve(app: App, listen: SocketAddr, shutdown: CancellationToken) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|e| format!("admin.listen {listen}: {e}; is another node running, or is the port taken?"))?;
    let local = listener.local_addr().map_err(|e| e.to_string())?;
    let router = Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(app);
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "admin server stopped");
        }
    });
    Ok(local)
}

/// While a snapshot is fetched nothing else runs yet: live, not ready, and how far it is. Ends with the token.
pub async fn serve_joining(
    listen: SocketAddr,
    joining: Arc<Joining>,
    shutdown: CancellationToken,
) -> Result<JoinHandle<()>, String> {
    let listener = TcpListener::bind(listen).await.map_err(|e| format!("admin.listen {listen}: {e}"))?;
    let (ready, figures) = (joining.clone(), joining);
    let readyz = move || {
        let (sentence, ..) = ready.said();
        let line = format!("not ready: {}: {sentence}\n", Condition::CatchingUp.word());
        async { (StatusCode::SERVICE_UNAVAILABLE, line) }
    };
    let metrics = move || {
        let (_, height, target) = figures.said();
        async move { format!("assent_height {height}\nassent_catch_up_target_height {target}\nassent_fresh 0\n") }
    };
    let router = Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics));
    Ok(tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "admin server stopped");
        }
    }))
}

/// One line for each reason: `not ready: WORD: sentence`.
async fn readyz(State(app): State<App>) -> (StatusCode, String) {
    let reasons = app.parts.freshness.reasons();
    match reasons.is_empty() {
        true => (StatusCode::OK, "ready\n".into()),
        false => {
            let lines = reasons.iter().map(|reason| format!("not ready: {reason}\n"));
            (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
        }
    }
}

async fn metrics(State(app): State<App>) -> String {
    let tip = app.parts.tip();
    let connected = app.parts.peers.as_ref().map_or(0, |p| p.connected().len());
    let reasons = app.parts.freshness.reasons();
    let fresh = u8::from(reasons.is_empty());
    let lacking = app.parts.lacks.now();
    let present = app.parts.members.present();
    let role = app.parts.role();
    let figures: [(&str, &str, &str, u64); 17] = [
        ("assent_height", "gauge", "Height of the ledger", tip.height),
        ("assent_log_leaves", "gauge", "Leaves in the log", tip.log.size()),
        (
            "assent_mempool_entries",
            "gauge",
            "Entries that wait to be committed",
            app.parts.mempool.len() as u64,
        ),
        ("assent_exchange_peers", "gauge", "Connected organizations", connected as u64),
        (
            "assent_members",
            "gauge",
            "Members, with and without a vote",
            present.membership.organizations.len() as u64,
        ),
        ("assent_validators", "gauge", "Members with a vote", present.validators().len() as u64),
        ("assent_validator", "gauge", "1 when this node votes", u64::from(role == Role::Validator)),
        ("assent_fresh", "gauge", "1 when permits may be given", u64::from(fresh)),
        ("assent_grpc_connections", "gauge", "Clients' connections", app.parts.places.connections().into()),
        (
            "assent_vault_missing_consents",
            "gauge",
            "Patients whose consents the vault lacks",
            lacking.consents,
        ),
        ("assent_vault_missing_accesses", "gauge", "Accesses whose events the vault lacks", lacking.accesses),
        (
            "assent_catch_up_target_height",
            "gauge",
            "Height that is caught up to, 0 when none",
            app.parts.freshness.catch_up_target(),
        ),
        (
            "assent_whole_from_height",
            "gauge",
            "First height from which on blocks are whole",
            app.parts.store.whole_from().unwrap_or_default(),
        ),
        ("assent_store_syncs_total", "counter", "Synced writes of the ledger store", app.parts.store.syncs()),
        (
            "assent_evidence_total",
            "counter",
            "Times that a validator was seen to contradict itself",
            app.parts.evidence.get(),
        ),
        (
            "assent_checkpoint_leaves",
            "gauge",
            "Leaves in the largest checkpoint that was signed",
            app.parts.checkpoints.signed(),
        ),
        (
            "assent_checkpoint_contradictions_total",
            "counter",
            "Checkpoints not signed because the log contradicts one that was",
            app.parts.checkpoints.contradictions(),
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in figures {
        text += &format!("# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}\n");
    }
    let name = "assent_not_ready";
    text += &format!("# HELP {name} 1 while the reason keeps this node from permits.\n# TYPE {name} gauge\n");
    for condition in Condition::ALL {
        let holds = u8::from(reasons.iter().any(|reason| reason.condition == condition));
        text += &format!("{name}{{reason=\"{}\"}} {holds}\n", condition.word());
    }
    text += &memory(&app);
    text += &doors(&app);
    if app.parts.ordering == "malachite" {
        text += &crate::bft::metrics_text();
    }
    text
}

fn memory(app: &App) -> String {
    let name = "assent_store_memory_bytes";
    let mut text = format!("# HELP {name} What a store holds in memory.\n# TYPE {name} gauge\n");
    for (store, held) in [("ledger", app.parts.store.memory_use()), ("vault", app.parts.vault.memory_use())] {
        for (part, bytes) in held.parts() {
            text += &format!("{name}{{store=\"{store}\",part=\"{part}\"}} {bytes}\n");
        }
    }
    text
}

/// Connections that were refused, and certificates.
fn doors(app: &App) -> String {
    let name = "assent_grpc_connections_refused_total";
    let mut text = format!("# HELP {name} Clients' connections closed by a limit.\n# TYPE {name} counter\n");
    for (reason, count) in app.parts.places.refusals() {
        text += &format!("{name}{{reason=\"{reason}\"}} {count}\n");
    }
    let name = "assent_certificate_expires_seconds";
    text += &format!("# HELP {name} Seconds until a certificate ends.\n# TYPE {name} gauge\n");
    let now_ms = now_ms();
    for end in app.parts.certificates.ends().list(now_ms) {
        let seconds = (i128::from(end.end_ms) - i128::from(now_ms)) / 1000;
        text += &format!("{name}{{which=\"{}\"}} {seconds}\n", end.which);
    }
    let name = "assent_certificate_refused";
    text += &format!("# HELP {name} 1 while a file that lies there is kept out.\n# TYPE {name} gauge\n");
    let (pair, revoked) = app.parts.certificates.refused();
    for (which, refused) in [("node", pair), ("revoked", revoked)] {
        text += &format!("{name}{{which=\"{which}\"}} {}\n", u8::from(refused));
    }
    text
}
