//! A running node, and why it stops.

use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::ConfigError;
use crate::grpc;
use crate::health::Health;
use crate::order::Fatal;
use crate::vault::VaultError;

/// Longest wait for the stores to be let go of, after everything was told to stop.
const CLOSING: Duration = Duration::from_secs(2);

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
    pub(super) doors: CancellationToken,
    pub(super) shutdown: CancellationToken,
    pub(super) health: Health,
    pub(super) ordering: JoinHandle<Result<(), Fatal>>,
    pub(super) served: JoinHandle<()>,
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
