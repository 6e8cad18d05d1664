//! How fast something comes closer, and when it will be there.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A line in the log after each of these.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
/// Before that a rate says nothing.
const FIRST_RATE: Duration = Duration::from_millis(500);

/// The way from one number to another.
#[derive(Debug)]
pub struct Progress {
    from: u64,
    target: u64,
    begin: Instant,
    logged: Mutex<Instant>,
}

impl Progress {
    /// Begins now.
    pub fn new(from: u64, target: u64) -> Self {
        let begin = Instant::now();
        Self { from, target, begin, logged: Mutex::new(begin) }
    }

    /// Where it goes.
    pub fn target(&self) -> u64 {
        self.target
    }

    /// Rate and time to go: "96 blocks/s, 36 s to go".
    pub fn says(&self, at: u64, unit: &str) -> String {
        self.says_after(at, unit, self.begin.elapsed())
    }

    fn says_after(&self, at: u64, unit: &str, elapsed: Duration) -> String {
        let done = at.saturating_sub(self.from);
        if elapsed < FIRST_RATE || done == 0 {
            return format!("no {unit} yet to tell how long it takes");
        }
        let rate = done as f64 / elapsed.as_secs_f64();
        let left = self.target.saturating_sub(at) as f64 / rate;
        format!("{rate:.0} {unit}/s, {left:.0} s to go")
    }

    /// True every 5 s: time for a line in the log.
    pub fn is_log_due(&self) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let due = logged.elapsed() >= LOG_INTERVAL;
        if due {
            *logged = Instant::now();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_to_go_follow_from_what_is_done() {
        let progress = Progress::new(100, 1_100);
        let says = |at, seconds| progress.says_after(at, "blocks", Duration::from_secs(seconds));
        assert_eq!(says(300, 2), "100 blocks/s, 8 s to go");
        assert_eq!(says(1_200, 2), "550 blocks/s, 0 s to go");
        assert_eq!(says(100, 9), "no blocks yet to tell how long it takes");
        assert_eq!(says(300, 0), "no blocks yet to tell how long it takes");
        assert!(!progress.is_log_due());
    }
}
