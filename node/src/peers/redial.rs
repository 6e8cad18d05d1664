//! When to dial a peer again. Time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Wait after the first failure.
const MIN_BACKOFF: Duration = Duration::from_millis(200);
/// Longest wait.
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// A connection that lasted this long was a good one.
const STABLE: Duration = Duration::from_secs(5);

/// The state of dialing one peer.
pub(super) struct Redial {
    backoff: Duration,
    /// `None` while connected or dialing.
    next: Option<Instant>,
    connected_since: Option<Instant>,
}

impl Redial {
    pub(super) fn new(now: Instant) -> Self {
        Self { backoff: MIN_BACKOFF, next: Some(now), connected_since: None }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    pub(super) fn dialing(&mut self) {
        self.next = None;
    }

    pub(super) fn failed(&mut self, now: Instant) {
        if self.connected_since.is_none() {
            self.next = Some(now + self.backoff);
            self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// The first connection stands.
    pub(super) fn connected(&mut self, now: Instant) {
        self.next = None;
        self.connected_since.get_or_insert(now);
    }

    /// The last connection is gone. A peer that only ever hangs up is dialed more and more slowly.
    pub(super) fn lost(&mut self, now: Instant) {
        if self.connected_since.take().is_some_and(|since| now - since >= STABLE) {
            self.backoff = MIN_BACKOFF;
        }
        self.failed(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_double_the_wait_up_to_the_cap() {
        let now = Instant::now();
        let mut redial = Redial::new(now);
        assert_eq!(redial.next(), Some(now));
        let mut waits = Vec::new();
        for _ in 0..7 {
            redial.dialing();
            assert_eq!(redial.next(), None);
            redial.failed(now);
            waits.extend(redial.next().map(|next| (next - now).as_millis()));
        }
        assert_eq!(waits, [200, 400, 800, 1600, 2000, 2000, 2000]);
    }

    #[test]
    fn only_a_connection_that_lasted_resets_the_wait() {
        let now = Instant::now();
        let mut redial = Redial::new(now);
        redial.failed(now);
        redial.connected(now);
        redial.failed(now);
        assert_eq!(redial.next(), None, "the other side's dial had already connected");
        redial.lost(now + Duration::from_secs(1));
        assert_eq!(redial.next(), Some(now + Duration::from_millis(1_400)));
        redial.connected(now);
        redial.lost(now + STABLE);
        assert_eq!(redial.next(), Some(now + STABLE + MIN_BACKOFF));
    }
}
