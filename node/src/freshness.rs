//! Freshness: a node that may be behind says UNAVAILABLE, never PERMIT.
//!
//! Fresh means all of: the boot-time clock since the last new certificate, and the distance of wall clock and block time, are
//! within `max_staleness`; and since start more than 1/3 of the power confirmed that this node's tip is the newest.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_ledger::certificate::total_power;
use nix::time::{clock_gettime, ClockId};
use tokio::sync::watch;

use crate::chain::now_ms;
use crate::chain::replica::TipInfo;

/// Time since boot, suspended time included: `Instant` stands still while a machine sleeps.
fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

struct Inner {
    last_height: u64,
    since: Duration,
    confirmed_by: BTreeSet<String>,
    confirmed: bool,
}

/// Judges freshness. Cheap to clone.
#[derive(Clone)]
pub struct Freshness {
    tips: watch::Receiver<TipInfo>,
    max_staleness: Duration,
    inner: Arc<Mutex<Inner>>,
}

impl Freshness {
    /// Starts unconfirmed, unless one validator is all there is.
    pub fn new(tips: watch::Receiver<TipInfo>, max_staleness: Duration) -> Self {
        let (height, alone) = {
            let info = tips.borrow();
            (info.tip.height, info.tip.validators.validators.len() == 1)
        };
        let inner = Inner {
            last_height: height,
            since: boot_time(),
            confirmed_by: BTreeSet::new(),
            confirmed: alone,
        };
        Self { tips, max_staleness, inner: Arc::new(Mutex::new(inner)) }
    }

    /// A validator's organization says that its tip is at `height`.
    pub fn confirm(&self, organization: &str, height: u64) {
        let tip = self.tips.borrow().tip.clone();
        let mut inner = self.inner.lock().unwrap_or_else(|p| p.into_inner());
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

    /// Why this node isn't fresh; none when it is.
    pub fn stale(&self) -> Option<String> {
        let tip = self.tips.borrow().tip.clone();
        let (since, confirmed) = {
            let mut inner = self.inner.lock().unwrap_or_else(|p| p.into_inner());
            if tip.height > inner.last_height {
                inner.last_height = tip.height;
                inner.since = boot_time();
            }
            (boot_time().saturating_sub(inner.since), inner.confirmed)
        };
        let limit = self.max_staleness.as_millis() as u64;
        if !confirmed {
            return Some("not yet confirmed by more than 1/3 of the power since start".into());
        }
        if since > self.max_staleness {
            return Some(format!("no new certificate for {} s", since.as_secs()));
        }
        let distance = now_ms().abs_diff(tip.time_ms);
        if distance > limit {
            return Some(format!("block time and this machine's clock are {} s apart", distance / 1000));
        }
        None
    }

    /// Watches tips, so that `stale` measures from the block and not from the next question.
    pub async fn follow(self) {
        let mut tips = self.tips.clone();
        while tips.changed().await.is_ok() {
            self.stale();
        }
    }
}
