//! What the vault lacks of what the ledger commits to: after an old backup was put back, the ledger catches up and the vault
//! doesn't. Counted, named in the log, the metrics and the status; checks on these patients are UNAVAILABLE by themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use assent_ledger::commitment::slot_commitment;
use assent_ledger::state::{policy_key, slot_key};
use assent_ledger::Hash;
use tokio_util::sync::CancellationToken;

use super::opened::leaves;
use super::Custodian;
use crate::chain::View;
use crate::order::Fatal;
use crate::vault::{ConsentSet, Vault, VaultError};

/// Rows between two pauses: it must not hold up what the node is for.
const ROWS: u64 = 256;
const PAUSE: Duration = Duration::from_millis(10);
const POLL: Duration = Duration::from_secs(1);
/// Between two counts while something is missing; or twenty times as long as a count takes.
const RECOUNT: Duration = Duration::from_secs(30);

/// What is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Patients whose consents do not open, or open to something else.
    pub consents: u64,
    /// How many of these patients are not in the vault at all.
    pub patients: u64,
    /// Accesses without their events.
    pub accesses: u64,
    /// The custodian's policy does not open.
    pub policy: bool,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("lacks nothing that the ledger commits to");
        }
        let Self { consents, patients, accesses, policy } = self;
        let policy = if *policy { ", the policy" } else { "" };
        write!(f, "LACKS the consents of {consents} patients ({patients} of them unknown), {accesses} accesses{policy}")
    }
}

/// What the newest count found. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Lacks(Arc<Mutex<Lacking>>);

impl Lacks {
    /// What is missing; nothing before the first count.
    pub fn now(&self) -> Lacking {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, lacking: Lacking) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lacking;
    }
}

fn failed(error: VaultError) -> Fatal {
    match error {
        VaultError::Corrupt { .. } => Fatal::Corrupt(error.to_string()),
        _ => Fatal::Storage(error.to_string()),
    }
}

/// Compares every slot of `organization` with the vault. `pause` is called now and then; its error ends the count.
pub fn count(
    view: &View<'_>,
    vault: &Vault,
    organization: &str,
    mut pause: impl FnMut() -> Result<(), Fatal>,
) -> Result<Lacking, Fatal> {
    let chain_id = view.tip.chain_id.as_str();
    let handles = vault.handles().map_err(failed)?;
    let known: BTreeMap<Hash, Hash> =
        handles.into_iter().map(|handle| (slot_key(chain_id, organization, &handle), handle)).collect();
    let policy = policy_key(chain_id, organization);
    let (mut lacking, mut rows) = (Lacking::default(), 0);
    view.newest_changes(|key, change| {
        let Ok(commitment) = Hash::try_from(change.commitment.as_slice()) else {
            return Err(Fatal::Corrupt("a slot's commitment is not 32 bytes".into()));
        };
        if *key == policy {
            lacking.policy = vault.policy(&commitment).map_err(failed)?.is_none();
            return Ok(());
        }
        let set = match known.get(key) {
            None => {
                lacking.patients += 1;
                None
            }
            Some(handle) => vault.consent_set(handle, &commitment).map_err(failed)?,
        };
        let opens =
            |set: &ConsentSet| slot_commitment(chain_id, &set.salt, &leaves(chain_id, set)) == commitment;
        lacking.consents += u64::from(!set.as_ref().is_some_and(opens));
        let accesses = view.access_commitments(key)?;
        rows += 1 + accesses.len() as u64;
        for access in accesses {
            let known = Hash::try_from(access.as_slice()).ok().map(|commitment| vault.access(&commitment));
            lacking.accesses += u64::from(known.transpose().map_err(failed)?.flatten().is_none());
        }
        if rows >= ROWS {
            rows = 0;
            pause()?;
        }
        Ok(())
    })?;
    Ok(lacking)
}

impl Custodian {
    /// Counts once the ledger has caught up, and again while something is missing, until the node stops.
    pub async fn look_for_lacks(self, shutdown: CancellationToken) {
        let mut wait = POLL;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = POLL;
            if self.must_be_fresh().is_err() {
                continue;
            }
            let (begin, custodian, stopped) = (Instant::now(), self.clone(), shutdown.clone());
            let counted = tokio::task::spawn_blocking(move || custodian.count_lacks(&stopped)).await;
            match counted {
                Ok(Ok(lacking)) => {
                    self.say(lacking);
                    if lacking == Lacking::default() {
                        return;
                    }
                }
                Ok(Err(_)) | Err(_) if shutdown.is_cancelled() => return,
                Ok(Err(error)) => tracing::error!(%error, "what the vault lacks can't be counted"),
                Err(error) => tracing::error!(%error, "what the vault lacks can't be counted"),
            }
            wait = RECOUNT.max(begin.elapsed() * 20);
        }
    }

    fn count_lacks(&self, shutdown: &CancellationToken) -> Result<Lacking, Fatal> {
        let parts = &self.parts;
        count(&parts.store.view()?, &parts.vault, self.organization(), || {
            std::thread::sleep(PAUSE);
            match shutdown.is_cancelled() {
                true => Err(Fatal::Storage("the node stops".into())),
                false => Ok(()),
            }
        })
    }

    fn say(&self, lacking: Lacking) {
        let before = self.parts.lacks.now();
        self.parts.lacks.set(lacking);
        if lacking == before {
            return;
        }
        let Lacking { consents, patients, accesses, policy } = lacking;
        match lacking == Lacking::default() {
            true => tracing::info!("the vault lacks nothing any more"),
            false => {
                tracing::error!(
                    alarm = "vault-lacks",
                    consents,
                    patients,
                    accesses,
                    policy,
                    "an old vault: {lacking}"
                );
            }
        }
    }
}
