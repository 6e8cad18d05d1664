//! Group commit: writers put their batches into the log one after another, and one sync makes all of them durable.
//!
//! ```text
//! writer ─▶ batch in the log, ticket n ─▶ wakes the thread ─▶ waits until n is synced
//!                                          thread: sync, then tell everybody up to the newest ticket
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::Arc;
use std::thread::JoinHandle;

use rocksdb::DB;
use tokio::sync::watch;

use super::{Result, VaultError};

/// The newest ticket that is durable, or why no further one ever will be.
type Synced = std::result::Result<u64, VaultError>;

/// Syncs the log on a thread of its own.
pub(super) struct Syncer {
    written: Arc<AtomicU64>,
    tell: Arc<watch::Sender<Synced>>,
    synced: watch::Receiver<Synced>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(super) fn start(db: Arc<DB>) -> Result<Self> {
        let written = Arc::new(AtomicU64::new(0));
        let (tell, synced) = watch::channel(Ok(0));
        let tell = Arc::new(tell);
        let teller = tell.clone();
        let (wake, woken) = sync_channel::<()>(1);
        let newest = written.clone();
        let work = move || {
            while woken.recv().is_ok() {
                let ticket = newest.load(Ordering::Acquire);
                match sync(&db) {
                    Ok(()) => drop(teller.send_if_modified(|synced| {
                        // After a failure nothing is durable any more.
                        let goes_on = synced.is_ok();
                        if goes_on {
                            *synced = Ok(ticket);
                        }
                        goes_on
                    })),
                    Err(error) => {
                        fail(&teller, error);
                        return; // what the disk holds is unknown from here on
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("vault-sync".into()).spawn(work);
        let thread = thread.map_err(|error| VaultError::Storage { what: format!("no thread: {error}") })?;
        Ok(Self { written, tell, synced, wake: Some(wake), thread: Some(thread) })
    }

    /// Something was written: the ticket that stands for it and all before it.
    pub(super) fn wrote(&self) -> u64 {
        let ticket = self.written.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(wake) = &self.wake {
            let _ = wake.try_send(()); // full: it is woken already
        }
        ticket
    }

    /// A write failed, or a read found damage: nothing that was written since the last sync is durable, or ever will be.
    pub(super) fn failed(&self, error: VaultError) -> VaultError {
        fail(&self.tell, error.clone());
        error
    }

    /// Waits for the first failure.
    pub(super) async fn failure(&self) -> VaultError {
        match self.synced.clone().wait_for(|state| state.is_err()).await.map(|state| state.clone()) {
            Ok(Err(error)) => error,
            _ => VaultError::Storage { what: "the thread that syncs the vault has ended".into() },
        }
    }

    /// The newest ticket.
    pub(super) fn newest(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Waits until a ticket is durable.
    pub(super) async fn durable(&self, ticket: u64) -> Result<()> {
        let mut synced = self.synced.clone();
        let reached = |state: &Synced| !matches!(state, Ok(newest) if *newest < ticket);
        let state = synced.wait_for(reached).await.map(|state| state.clone());
        match state {
            Ok(outcome) => outcome.map(|_| ()),
            Err(_) => Err(VaultError::Storage { what: "the thread that syncs the vault has ended".into() }),
        }
    }
}

fn sync(db: &DB) -> Result<()> {
    crate::fault::error("vault-sync")
        .map_err(|error| VaultError::Storage { what: format!("sync: {error}") })?;
    db.flush_wal(true).map_err(|error| VaultError::from_store("sync", error))
}

/// The first failure stands.
fn fail(tell: &watch::Sender<Synced>, error: VaultError) {
    tell.send_if_modified(|synced| {
        let first = synced.is_ok();
        if first {
            *synced = Err(error);
        }
        first
    });
}

impl Drop for Syncer {
    /// The store is closed when this returns: another process may open it.
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
