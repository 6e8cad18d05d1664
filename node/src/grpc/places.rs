//! Places for connections: all together, of each client, of those without a certificate, and for handshakes.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::limits::Limits;

/// Why a connection gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// As many connections as the node takes.
    Full,
    /// As many as one client may have.
    OfClient,
    /// As many as those without a certificate may have.
    WithoutCertificate,
    /// A handshake that gave way to newer ones.
    HandshakeGaveWay,
    /// A handshake, or the first bytes behind it, not in time.
    Slow,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Full, Self::OfClient, Self::WithoutCertificate, Self::HandshakeGaveWay, Self::Slow];

    /// Its word in the log and the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "connections",
            Self::OfClient => "connections-per-client",
            Self::WithoutCertificate => "connections-without-certificate",
            Self::HandshakeGaveWay => "handshakes",
            Self::Slow => "handshake-time",
        }
    }
}

#[derive(Default)]
struct Held {
    total: u32,
    /// Those without a certificate stand under "".
    of: HashMap<String, u32>,
}

#[derive(Default)]
struct Handshakes {
    next: u64,
    under_way: BTreeMap<u64, CancellationToken>,
}

struct Inner {
    limits: Limits,
    held: Mutex<Held>,
    handshakes: Mutex<Handshakes>,
    refused: [AtomicU64; Refused::ALL.len()],
}

/// All places. Cheap to clone.
#[derive(Clone)]
pub struct Places(Arc<Inner>);

/// One connection's place, until it is dropped.
pub struct Place {
    places: Places,
    who: String,
}

/// One handshake's place, until it is dropped.
pub struct Handshake {
    places: Places,
    number: u64,
    /// Cancelled when a newer one needs the place.
    pub gives_way: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Places {
    /// All free.
    pub fn new(limits: Limits) -> Self {
        let refused = Default::default();
        Self(Arc::new(Inner { limits, held: Mutex::default(), handshakes: Mutex::default(), refused }))
    }

    /// A place for a connection of a client, or of somebody without a certificate that this node takes.
    pub fn take(&self, client: Option<&str>) -> Result<Place, Refused> {
        let limits = &self.0.limits;
        let (who, most, refused) = match client {
            Some(id) => (id, limits.grpc_connections_per_client, Refused::OfClient),
            None => ("", limits.grpc_connections_without_certificate, Refused::WithoutCertificate),
        };
        let mut held = lock(&self.0.held);
        if held.total >= limits.grpc_connections {
            return Err(Refused::Full);
        }
        let of = held.of.entry(who.to_owned()).or_default();
        if *of >= most {
            return Err(refused);
        }
        *of += 1;
        held.total += 1;
        Ok(Place { places: self.clone(), who: who.to_owned() })
    }

    /// A place for a handshake. There always is one: honest ones take milliseconds, so it's the oldest that gives way.
    pub fn handshake(&self) -> Handshake {
        let mut handshakes = lock(&self.0.handshakes);
        while handshakes.under_way.len() >= self.0.limits.grpc_handshakes as usize {
            let Some((_, oldest)) = handshakes.under_way.pop_first() else { break };
            oldest.cancel();
        }
        let (number, gives_way) = (handshakes.next, CancellationToken::new());
        handshakes.next += 1;
        handshakes.under_way.insert(number, gives_way.clone());
        Handshake { places: self.clone(), number, gives_way }
    }

    /// Counts a refusal; true when it is worth a line in the log: the first, and then each time the count doubles.
    pub fn refused(&self, why: Refused) -> bool {
        let before = self.0.refused[why as usize].fetch_add(1, Ordering::Relaxed);
        (before + 1).is_power_of_two()
    }

    /// Refused so far, by word.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Refused::ALL.iter().map(|why| (why.word(), self.0.refused[*why as usize].load(Ordering::Relaxed)))
    }

    /// Connections now.
    pub fn connections(&self) -> u32 {
        lock(&self.0.held).total
    }
}

impl Place {
    /// Counts that its connection is closed because it was slow.
    pub fn refuse_slow(&self) {
        self.places.refused(Refused::Slow);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = lock(&self.places.0.held);
        held.total = held.total.saturating_sub(1);
        if let Some(of) = held.of.get_mut(&self.who) {
            *of = of.saturating_sub(1);
            if *of == 0 {
                held.of.remove(&self.who);
            }
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        lock(&self.places.0.handshakes).under_way.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places::new(Limits {
            grpc_connections: 5,
            grpc_connections_per_client: 3,
            grpc_connections_without_certificate: 2,
            grpc_handshakes: 2,
            ..Limits::default()
        })
    }

    #[test]
    fn each_has_its_own_share_and_all_have_one() {
        let places = places();
        let mut a: Vec<_> = (0..3).map(|_| places.take(Some("a")).unwrap()).collect();
        assert_eq!(places.take(Some("a")).err(), Some(Refused::OfClient));
        let strangers: Vec<_> = (0..2).map(|_| places.take(None).unwrap()).collect();
        assert_eq!(places.take(None).err(), Some(Refused::Full));
        a.pop();
        assert_eq!(places.take(None).err(), Some(Refused::WithoutCertificate));
        let b = places.take(Some("b")).unwrap();
        assert_eq!((places.take(Some("c")).err(), places.connections()), (Some(Refused::Full), 5));
        drop((a, strangers, b));
        assert_eq!(places.connections(), 0);
        assert!(lock(&places.0.held).of.is_empty(), "whoever is gone is forgotten");
    }

    #[test]
    fn the_oldest_handshake_gives_way() {
        let places = places();
        let [first, second] = [places.handshake(), places.handshake()];
        assert!(!first.gives_way.is_cancelled());
        let third = places.handshake();
        assert!(first.gives_way.is_cancelled() && !second.gives_way.is_cancelled());
        drop((first, second));
        let fourth = places.handshake();
        assert!(!third.gives_way.is_cancelled() && !fourth.gives_way.is_cancelled());
    }

    #[test]
    fn refusals_are_counted_and_seldom_said() {
        let places = places();
        let said = (0..1_000).filter(|_| places.refused(Refused::Slow)).count();
        assert_eq!(said, 10);
        assert_eq!(
            places.refusals().find(|(word, _)| *word == "handshake-time"),
            Some(("handshake-time", 1_000))
        );
    }
}
