//! When certificates end, and whom that is told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rustls::sign::CertifiedKey;

use super::{end_ms, fingerprint};

/// From this long before an end it is warned of: 30 days.
pub const WARN_MS: u64 = 30 * DAY_MS;
/// The same certificate is warned of once in this time.
const DAY_MS: u64 = 24 * 3_600_000;
/// Most clients' certificates remembered; beyond, those that end last are forgotten.
const MAX_CLIENTS: usize = 4_096;

/// A certificate's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// "node", "authority", or "client": the client's certificate that ends first.
    pub which: &'static str,
    /// Milliseconds since 1970.
    pub end_ms: u64,
}

struct Client {
    end_ms: u64,
    warned_ms: u64,
}

#[derive(Default)]
struct Inner {
    node_ms: u64,
    authority_ms: u64,
    warned_ms: BTreeMap<&'static str, u64>,
    /// By fingerprint: clients are not named in logs.
    clients: BTreeMap<[u8; 32], Client>,
}

/// Ends of the node's certificate, its authority's, and its clients' that called.
#[derive(Default)]
pub struct Ends(Mutex<Inner>);

/// Whole days until an end; a day that has begun counts.
fn days(end_ms: u64, now_ms: u64) -> u64 {
    end_ms.saturating_sub(now_ms).div_ceil(DAY_MS)
}

fn due(end_ms: u64, warned_ms: u64, now_ms: u64) -> bool {
    end_ms <= now_ms.saturating_add(WARN_MS) && (warned_ms == 0 || now_ms >= warned_ms.saturating_add(DAY_MS))
}

impl Ends {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is served now.
    pub(super) fn own(&self, served: &CertifiedKey, authority: &[u8]) {
        let mut inner = self.lock();
        inner.node_ms = served.cert.first().and_then(|leaf| end_ms(leaf)).unwrap_or_default();
        inner.authority_ms = end_ms(authority).unwrap_or_default();
        inner.warned_ms.clear();
    }

    /// A client called with this certificate, which holds.
    pub fn saw(&self, leaf: &[u8], end_ms: u64) {
        let mut inner = self.lock();
        inner.clients.entry(fingerprint(leaf)).or_insert(Client { end_ms, warned_ms: 0 });
        if inner.clients.len() > MAX_CLIENTS {
            let last = inner.clients.iter().max_by_key(|(_, client)| client.end_ms).map(|(id, _)| *id);
            last.map(|id| inner.clients.remove(&id));
        }
    }

    /// The ends, at most three.
    pub fn list(&self, now_ms: u64) -> Vec<End> {
        let inner = self.lock();
        let client = inner.clients.values().map(|c| c.end_ms).filter(|end_ms| *end_ms > now_ms).min();
        // Who is no member yet has none on the ledger.
        let authority = (inner.authority_ms > 0).then_some(inner.authority_ms);
        let all = [("node", Some(inner.node_ms)), ("authority", authority), ("client", client)];
        all.into_iter().filter_map(|(which, end)| end.map(|end_ms| End { which, end_ms })).collect()
    }

    /// Logs what ends within 30 days, each once a day; what was warned of.
    pub fn warn(&self, now_ms: u64) -> Vec<String> {
        let own = self.list(now_ms).into_iter().filter(|end| end.which != "client");
        let mut inner = self.lock();
        let mut said = Vec::new();
        for End { which, end_ms } in own {
            let warned_ms = inner.warned_ms.entry(which).or_default();
            if due(end_ms, *warned_ms, now_ms) {
                *warned_ms = now_ms;
                said.push(match end_ms > now_ms {
                    true => format!("the {which}'s certificate ends in {} days", days(end_ms, now_ms)),
                    false => format!("the {which}'s certificate has ended"),
                });
            }
        }
        // Whoever holds one that has ended is refused, and told so.
        inner.clients.retain(|_, client| client.end_ms > now_ms);
        for (id, client) in &mut inner.clients {
            if due(client.end_ms, client.warned_ms, now_ms) {
                client.warned_ms = now_ms;
                let (days, id) = (days(client.end_ms, now_ms), hex::encode(id));
                said.push(format!("the client certificate with SHA-256 {id} ends in {days} days"));
            }
        }
        for warning in &said {
            tracing::warn!(alarm = "certificate-ends", "{warning}: renew it");
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_767_225_600_000;

    #[test]
    fn from_thirty_days_before_the_end_it_is_warned_of_once_a_day() {
        let ends = Ends::default();
        {
            let mut inner = ends.lock();
            (inner.node_ms, inner.authority_ms) = (NOW_MS + 31 * DAY_MS, NOW_MS + 900 * DAY_MS);
        }
        ends.saw(b"a", NOW_MS + 31 * DAY_MS);
        ends.saw(b"b", NOW_MS + 400 * DAY_MS);
        assert!(ends.warn(NOW_MS).is_empty());
        let at = |days: u64, hours: u64| ends.warn(NOW_MS + days * DAY_MS + hours * 3_600_000);
        let said = at(1, 1);
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(said[0], "the node's certificate ends in 30 days");
        assert!(said[1].contains(&hex::encode(fingerprint(b"a"))), "{said:?}");
        assert!(at(1, 2).is_empty() && at(2, 0).is_empty());
        assert_eq!(at(2, 2).len(), 2);
        // Ended: the client's is forgotten, the node's goes on being named.
        assert_eq!(at(31, 1), ["the node's certificate has ended"]);
        let left: Vec<_> = ends.list(NOW_MS + 31 * DAY_MS).iter().map(|end| end.which).collect();
        assert_eq!(left, ["node", "authority", "client"]);
    }

    #[test]
    fn the_clients_that_are_remembered_are_bounded_and_those_that_end_first_stay() {
        let ends = Ends::default();
        for n in 0..=MAX_CLIENTS as u64 {
            ends.saw(&n.to_be_bytes(), NOW_MS + n * DAY_MS + 1);
        }
        assert_eq!(ends.lock().clients.len(), MAX_CLIENTS);
        let client = |end: &End| end.which == "client";
        assert_eq!(ends.list(NOW_MS).into_iter().find(client).unwrap().end_ms, NOW_MS + 1);
    }
}
