//! How many calls a client may make: a token bucket for each client id, so that one client that runs wild leaves the others
//! their answers.
//!
//! ```text
//! certificate holds ─▶ client's bucket has a token? ─▶ role ─▶ work          no: RESOURCE_EXHAUSTED, QUOTA_EXCEEDED, RetryInfo
//! ```
//! A call that is refused here costs no token, so that a client that slows down is served again at once; one that is refused
//! later did cost one. Time is an argument; nothing here waits.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::refusal::{Kind, Refusal};

/// Most clients whose calls are counted at once. Ids stand in certificates of the organization's own authority.
const MAX_CLIENTS: usize = 4096;

/// What one client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls a second, in the long run.
    pub per_second: u32,
    /// Calls at once, after a pause.
    pub burst: u32,
}

/// Tokens of one caller, or of one kind of callers.
#[derive(Debug)]
pub struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { tokens: f64::from(rate.burst), filled: now }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * f64::from(rate.per_second)).min(f64::from(rate.burst));
        self.filled = now;
    }

    /// Takes a token. The error is the time until there is one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.fill(rate, now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / f64::from(rate.per_second)))
    }

    /// True when forgetting it changes nothing for its caller.
    fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        self.tokens >= f64::from(rate.burst)
    }
}

struct Clients {
    buckets: HashMap<String, Bucket>,
    swept: Instant,
}

/// Every client's quota.
pub struct Quota {
    rate: Rate,
    clients: Mutex<Clients>,
}

impl Quota {
    /// Every client has the same.
    pub fn new(rate: Rate) -> Self {
        Self { rate, clients: Mutex::new(Clients { buckets: HashMap::new(), swept: Instant::now() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        // Poisoned: another thread panicked while holding plain numbers, which still are.
        self.clients.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Counts one call of a client.
    pub fn take(&self, client: &str) -> Result<(), Refusal> {
        self.take_at(client, Instant::now())
    }

    fn take_at(&self, client: &str, now: Instant) -> Result<(), Refusal> {
        let rate = self.rate;
        let mut clients = self.lock();
        // No allocation for a client that is known.
        if let Some(bucket) = clients.buckets.get_mut(client) {
            return bucket.take(rate, now).map_err(|wait| exceeded(rate, wait));
        }
        if clients.buckets.len() >= MAX_CLIENTS && !clients.sweep(rate, now) {
            let message = format!("more than {MAX_CLIENTS} clients call at once: retry in a second");
            return Err(quota_exceeded(message, Duration::from_secs(1)));
        }
        let mut bucket = Bucket::new(rate, now);
        let taken = bucket.take(rate, now);
        clients.buckets.insert(client.to_owned(), bucket);
        taken.map_err(|wait| exceeded(rate, wait))
    }
}

impl Clients {
    /// Forgets whoever has a full bucket; at most once a second, as it looks at everybody. True when there is room.
    fn sweep(&mut self, rate: Rate, now: Instant) -> bool {
        if now.saturating_duration_since(self.swept) >= Duration::from_secs(1) {
            self.swept = now;
            self.buckets.retain(|_, bucket| !bucket.is_full(rate, now));
        }
        self.buckets.len() < MAX_CLIENTS
    }
}

fn exceeded(rate: Rate, wait: Duration) -> Refusal {
    let Rate { per_second, burst } = rate;
    quota_exceeded(
        format!("this client may make {per_second} calls a second, {burst} at once: slow down and retry"),
        wait,
    )
    .with("requests_per_second", per_second)
    .with("burst", burst)
}

fn quota_exceeded(message: String, wait: Duration) -> Refusal {
    Refusal::new(Kind::ResourceExhausted, "QUOTA_EXCEEDED", message).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 20 };

    #[test]
    fn a_bucket_empties_and_fills() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RATE, start);
        assert_eq!((0..200).filter(|_| bucket.take(RATE, start).is_ok()).count(), 20);
        assert_eq!(bucket.take(RATE, start), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(500);
        assert_eq!((0..200).filter(|_| bucket.take(RATE, later).is_ok()).count(), 5);
        // A pause gives no more than the burst.
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..200).filter(|_| bucket.take(RATE, much_later).is_ok()).count(), 20);
    }

    #[test]
    fn clients_do_not_share() {
        let (quota, now) = (Quota::new(RATE), Instant::now());
        let taken = |client: &str| (0..200).filter(|_| quota.take_at(client, now).is_ok()).count();
        assert_eq!((taken("a"), taken("a"), taken("b")), (20, 0, 20));
        let refusal = quota.take_at("a", now).unwrap_err();
        assert_eq!((refusal.kind, refusal.reason), (Kind::ResourceExhausted, "QUOTA_EXCEEDED"));
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(100)));
    }

    #[test]
    fn the_set_of_clients_is_bounded_and_idle_ones_are_forgotten() {
        let quota = Quota::new(RATE);
        let start = Instant::now() + Duration::from_secs(2);
        for n in 0..MAX_CLIENTS {
            quota.take_at(&n.to_string(), start).unwrap();
        }
        assert_eq!(quota.take_at("one more", start).unwrap_err().reason, "QUOTA_EXCEEDED");
        assert!(quota.take_at("7", start).is_ok(), "whoever is counted goes on");
        // Everybody has a full bucket again but for the one that goes on calling.
        let later = start + Duration::from_secs(2);
        (0..20).for_each(|_| quota.take_at("7", later).unwrap());
        quota.take_at("one more", later).unwrap();
        assert_eq!(quota.lock().buckets.len(), 2);
        assert!(quota.take_at("7", later).is_err());
    }
}
