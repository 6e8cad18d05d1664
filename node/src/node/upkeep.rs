//! What goes on for as long as a node runs: old blocks and old requests are forgotten, the vault is watched.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::chain::{self, Store};
use crate::health::Health;
use crate::order::Fatal;
use crate::vault::{Vault, VaultError};

/// Blocks that are pruned in one write, the pause between two while there are more, and when there are none.
const PRUNED_AT_ONCE: u64 = 64;
const PRUNE_PAUSE: Duration = Duration::from_millis(20);
const PRUNE_BLOCKS_INTERVAL: Duration = Duration::from_secs(1);

/// How often requests that are over a day old are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// Forgets entries of old blocks, a few at a time.
pub(super) async fn prune_blocks(store: Store, keep_blocks: u64, own: String, shutdown: CancellationToken) {
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
pub(super) async fn watch_vault(vault: Vault, health: Health, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        error = vault.failed() => health.fail(match error {
            VaultError::Corrupt { .. } => Fatal::Corrupt(error.to_string()),
            _ => Fatal::Storage(error.to_string()),
        }),
    }
}

/// Forgets requests after a day.
pub(super) fn prune(vault: &Vault) -> Result<u64, VaultError> {
    vault.prune_requests(chain::now_ms().saturating_sub(24 * 3_600_000))
}

/// Also while the node runs on: a nonce's memory must not grow for ever.
pub(super) async fn prune_hourly(vault: Vault, shutdown: CancellationToken) {
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
