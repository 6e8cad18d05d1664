//! Clients whose certificate was verified a moment ago: a request on an open connection costs a look-up, not the signatures of
//! a chain.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::auth::Client;
use crate::certificates::Revoked;

/// How long a verification counts. The leaf's own end is watched at every request; this is for that of the authority.
const TRUST_MS: u64 = 10_000;
/// Most certificates remembered; beyond, all are forgotten and verified again.
const MAX_KNOWN: usize = 4_096;

struct Known {
    client: Client,
    verified_ms: u64,
    until_ms: u64,
    /// It isn't on this list.
    list: Arc<Revoked>,
}

/// Verified leaves, by their exact bytes. That a connection has the key of its leaf is TLS's to show, once for each connection.
#[derive(Default)]
pub(super) struct KnownClients {
    known: Mutex<HashMap<Vec<u8>, Known>>,
    /// Block that made the membership under which they were verified.
    since: AtomicU64,
}

impl KnownClients {
    /// The members are those that this block made: under others, nobody is known.
    pub(super) fn of_members(&self, since: u64) {
        if self.since.swap(since, Ordering::AcqRel) != since {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// The client with this leaf, if it was verified lately, by this list of revoked ones, and neither end has come.
    pub(super) fn get(&self, leaf: &[u8], now_ms: u64, list: &Arc<Revoked>) -> Option<Client> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(leaf)?;
        // A clock that was set back proves nothing: verify again.
        let lasts = (found.verified_ms..found.until_ms).contains(&now_ms) && Arc::ptr_eq(&found.list, list);
        lasts.then(|| found.client.clone())
    }

    /// Remembers a leaf that was verified now and ends at `end_ms`.
    pub(super) fn put(&self, leaf: &[u8], client: &Client, now_ms: u64, end_ms: u64, list: &Arc<Revoked>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let until_ms = end_ms.min(now_ms.saturating_add(TRUST_MS));
        let (client, list) = (client.clone(), list.clone());
        known.insert(leaf.to_vec(), Known { client, verified_ms: now_ms, until_ms, list });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::auth::Role;

    #[test]
    fn a_verification_counts_for_a_moment_and_never_past_the_leafs_end() {
        let known = KnownClients::default();
        let (id, organization) = ("a".into(), "cedar".into());
        let client = Client { id, organization, role: Role::Crm, applicant: false };
        let list = Arc::new(Revoked::default());
        known.put(b"leaf", &client, 100, 1_000, &list);
        known.put(b"long", &client, 100, u64::MAX, &list);
        let lasts = |leaf: &[u8], now_ms| known.get(leaf, now_ms, &list).is_some();
        assert!(lasts(b"leaf", 100) && lasts(b"leaf", 999) && lasts(b"long", 99 + TRUST_MS));
        assert!(!lasts(b"leaf", 99) && !lasts(b"leaf", 1_000) && !lasts(b"long", 100 + TRUST_MS));
        assert!(!lasts(b"lea", 100));
        // Another list, another verification.
        assert!(known.get(b"leaf", 100, &Arc::default()).is_none());
        for n in 0..2 * MAX_KNOWN {
            known.put(&n.to_be_bytes(), &client, 100, 1_000, &list);
            assert!(known.known.lock().unwrap().len() <= MAX_KNOWN);
        }
    }
}
