//! Freshness: a node that may be behind says UNAVAILABLE, never PERMIT.
//!
//! Fresh means all of: the boot-time clock since the last new certificate, and the distance of wall clock and block time, are
//! within `max_staleness`; since start more than 1/3 of the power confirmed that this node's tip is the newest; and nothing that
//! is reported to [`Health`] speaks against it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_ledger::certificate::total_power;
use nix::time::{clock_gettime, ClockId};
use tokio::sync::watch;

use crate::chain::now_ms;
use crate::chain::replica::TipInfo;
use crate::health::{Condition, Health, Reason};

/// Time since boot, suspended time included: `Instant` stands still while a machine sleeps.
fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

struct Inner {
    last_height: u64,
    since: Duration,
    confirmed_by: BTreeSet<String>,
    confirmed: bool,
    /// The highest tip that somebody said before enough confirmed this node's.
    reported: u64,
}

/// Judges freshness. Cheap to clone.
#[derive(Clone)]
pub struct Freshness {
    tips: watch::Receiver<TipInfo>,
    max_staleness: Duration,
    health: Health,
    inner: Arc<Mutex<Inner>>,
}

impl Freshness {
    /// Starts unconfirmed, unless one validator is all there is.
    pub fn new(tips: watch::Receiver<TipInfo>, max_staleness: Duration, health: Health) -> Self {
        let (height, alone) = {
            let info = tips.borrow();
            (info.tip.height, info.tip.validators.validators.len() == 1)
        };
        let inner = Inner {
            last_height: height,
            since: boot_time(),
            confirmed_by: BTreeSet::new(),
            confirmed: alone,
            reported: 0,
        };
        Self { tips, max_staleness, health, inner: Arc::new(Mutex::new(inner)) }
    }

    /// A validator's organization says that its tip is at `height`.
    pub fn confirm(&self, organization: &str, height: u64) {
        let tip = self.tips.borrow().tip.clone();
        let mut inner = self.inner.lock().unwrap_or_else(|p| p.into_inner());
        inner.reported = inner.reported.max(height);
        if height > tip.height {
            inner.confirmed_by.remove(organization);
        } else {
            inner.confirmed_by.insert(organization.to_owned());
        }
        let power: u64 = tip
            .validators
            .validators
            .iter()
            .filter(|v| inner.confirmed_by.contains(&v.organization))
            .map(|v| v.power)
            .sum();
        inner.confirmed |= u128::from(power) * 3 > u128::from(total_power(&tip.validators));
    }

    /// True when enough peers have confirmed the tip since start.
    pub fn is_confirmed(&self) -> bool {
        self.inner.lock().unwrap_or_else(|p| p.into_inner()).confirmed
    }

    /// True when peers need not be asked often: enough have confirmed the tip, and nothing else waits for what they say.
    pub fn is_settled(&self) -> bool {
        self.is_confirmed() && self.health.reasons().is_empty()
    }

    /// Why this node isn't fresh, the most important reason first: its word, a colon, a sentence. None when it is.
    pub fn stale(&self) -> Option<String> {
        self.reasons().first().map(ToString::to_string)
    }

    /// Everything that speaks against permits.
    pub fn reasons(&self) -> Vec<Reason> {
        let mut reasons = self.health.reasons();
        let behind = self.behind().filter(|b| reasons.iter().all(|r| r.condition != b.condition));
        reasons.extend(behind);
        reasons
    }

    fn behind(&self) -> Option<Reason> {
        let tip = self.tips.borrow().tip.clone();
        let (since, confirmed, reported) = {
            let mut inner = self.inner.lock().unwrap_or_else(|p| p.into_inner());
            if tip.height > inner.last_height {
                inner.last_height = tip.height;
                inner.since = boot_time();
            }
            (boot_time().saturating_sub(inner.since), inner.confirmed, inner.reported)
        };
        let limit = self.max_staleness.as_millis() as u64;
        if !confirmed && reported > tip.height {
            let sentence = format!("at block {}, another has block {reported}", tip.height);
            return Some(Reason::new(Condition::CatchingUp, sentence));
        }
        if !confirmed {
            let sentence = "not yet confirmed by more than 1/3 of the power since start";
            return Some(Reason::new(Condition::Unconfirmed, sentence));
        }
        if since > self.max_staleness {
            let sentence = format!("no new certificate for {} s", since.as_secs());
            return Some(Reason::new(Condition::NoHeight, sentence));
        }
        let distance = now_ms().abs_diff(tip.time_ms);
        if distance > limit {
            let sentence = format!("block time and this machine's clock are {} s apart", distance / 1000);
            return Some(Reason::new(Condition::ClockApart, sentence));
        }
        None
    }

    /// Watches tips, so that `stale` measures from the block and not from the next question.
    pub async fn follow(self) {
        let mut tips = self.tips.clone();
        while tips.changed().await.is_ok() {
            self.behind();
        }
    }
}
