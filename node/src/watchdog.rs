//! The watchdog of consensus: an engine that says nothing any more does not recover by itself.
//!
//! A height under way is never silent: a round starts, a vote comes or is sent again. The longest pause is that of a round's
//! timeouts. Silence beyond it makes the node not ready; if it lasts, the process ends with 7 and its supervisor starts it again.
//! An idle engine is silent by right, and one that only follows may be.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::bft::{BftStatus, Timeouts};
use crate::health::{Condition, Health};
use crate::order::Fatal;

/// Looked at this often. Silence is counted in looks: a process that was stopped for an hour has not listened for one.
const LOOK: Duration = Duration::from_millis(500);
/// Beyond the longest pause that there may be.
const GRACE: Duration = Duration::from_secs(3);
/// From not ready to the end.
const LAST_CHANCE: Duration = Duration::from_secs(10);

/// How long a height may be silent in this round.
fn patience(timeouts: &Timeouts, round: u32) -> Duration {
    let longest = timeouts.propose.max(timeouts.rebroadcast) + timeouts.delta * round.min(1_000);
    longest.min(timeouts.max) + GRACE
}

/// What was heard, look by look.
#[derive(Default)]
struct Watchdog {
    heard: Option<Instant>,
    looks: u32,
}

/// What a look shows.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Well,
    Silent(Duration),
    Dead(Duration),
}

impl Watchdog {
    fn look(&mut self, status: &BftStatus, timeouts: &Timeouts) -> Seen {
        let news = self.heard.replace(status.last_message) != Some(status.last_message);
        self.looks = if news || status.idle || !status.votes { 0 } else { self.looks.saturating_add(1) };
        let (silent, patience) = (LOOK * self.looks, patience(timeouts, status.round));
        match silent {
            _ if silent >= patience + LAST_CHANCE => Seen::Dead(silent),
            _ if silent >= patience => Seen::Silent(silent),
            _ => Seen::Well,
        }
    }
}

/// Looks until the node stops.
pub async fn run(
    status: watch::Receiver<BftStatus>,
    timeouts: Timeouts,
    health: Health,
    shutdown: CancellationToken,
) {
    let mut dog = Watchdog::default();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = *status.borrow();
        let sentence = |silent: Duration| {
            format!("nothing of block {} was heard from the engine for {} s", now.height, silent.as_secs())
        };
        match dog.look(&now, &timeouts) {
            Seen::Well => health.clear(Condition::EngineHung),
            Seen::Silent(silent) => health.report(Condition::EngineHung, sentence(silent)),
            Seen::Dead(silent) => return health.fail(Fatal::Engine(sentence(silent))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(votes: bool, idle: bool) -> BftStatus {
        let now = Instant::now();
        BftStatus { height: 9, round: 0, idle, last_progress: now, last_message: now, votes }
    }

    fn after(dog: &mut Watchdog, status: &BftStatus, seconds: u32) -> Seen {
        (0..seconds * 2).map(|_| dog.look(status, &Timeouts::default())).last().unwrap()
    }

    #[test]
    fn a_silent_engine_is_not_ready_within_5_s_and_dead_10_s_later() {
        let (mut dog, silent) = (Watchdog::default(), status(true, false));
        assert_eq!(after(&mut dog, &silent, 3), Seen::Well);
        assert!(matches!(after(&mut dog, &silent, 2), Seen::Silent(_)));
        // A word in time, and all is well.
        let news = status(true, false);
        assert_eq!(after(&mut dog, &news, 3), Seen::Well);
        assert!(matches!(after(&mut dog, &news, 10), Seen::Silent(_)));
        assert!(matches!(after(&mut dog, &news, 2), Seen::Dead(_)));
    }

    #[test]
    fn idle_and_following_engines_may_be_silent() {
        for quiet in [status(true, true), status(false, false)] {
            assert_eq!(after(&mut Watchdog::default(), &quiet, 600), Seen::Well);
        }
    }

    #[test]
    fn later_rounds_have_more_time_up_to_the_longest_timeout() {
        let timeouts = Timeouts::default();
        assert_eq!(patience(&timeouts, 0), Duration::from_secs(4));
        assert_eq!(patience(&timeouts, 4), Duration::from_secs(5));
        assert_eq!(patience(&timeouts, u32::MAX), timeouts.max + GRACE);
    }
}
