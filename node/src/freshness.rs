//! Freshness: a node that may be behind says UNAVAILABLE, never PERMIT.
//!
//! Fresh means all of: the boot-time clock since the last new certificate, and the distance of wall clock and block time, are
//! within `max_staleness`; since start, and since it was last cut off, more than 1/3 of the power confirmed that this node's tip is
//! the newest; and nothing that is reported to [`Health`] speaks against it. (Without the second "since" a node that catches up
//! would permit by a ledger that others have long left behind.) Cut off is who got no certificate for longer than `max_staleness`,
//! or was connected to no more than 1/3 of the power: from any more, nothing that was decided can be kept away for long.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_ledger::block::Tip;
use assent_ledger::certificate::total_power;
use assent_proto::ledger::v1::ValidatorSet;
use nix::time::{clock_gettime, ClockId};
use tokio::sync::{futures::Notified, watch, Notify};

use crate::chain::now_ms;
use crate::chain::replica::TipInfo;
use crate::health::{Condition, Health, Reason};
use crate::progress::Progress;

/// Time since boot, suspended time included: `Instant` stands still while a machine sleeps.
pub(crate) fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

struct Inner {
    last_height: u64,
    since: Duration,
    confirmed_by: BTreeSet<String>,
    confirmed: bool,
    /// The highest tip that somebody said before enough confirmed this node's.
    reported: u64,
    /// More than 1/3 of the power is connected.
    reached: bool,
    /// How fast it comes closer to that one.
    progress: Option<Progress>,
}

/// Judges freshness. Cheap to clone.
#[derive(Clone)]
pub struct Freshness {
    tips: watch::Receiver<TipInfo>,
    own: String,
    max_staleness: Duration,
    health: Health,
    inner: Arc<Mutex<Inner>>,
    doubted: Arc<Notify>,
}

/// One validator is all there is: nobody can know more.
fn is_alone(tip: &Tip, own: &str) -> bool {
    matches!(tip.validators.validators.as_slice(), [only] if only.organization == own)
}

impl Freshness {
    /// Starts unconfirmed, unless `own` is the only organization that votes.
    pub fn new(tips: watch::Receiver<TipInfo>, own: &str, max_staleness: Duration, health: Health) -> Self {
        let (height, alone) = {
            let info = tips.borrow();
            (info.tip.height, is_alone(&info.tip, own))
        };
        let inner = Inner {
            last_height: height,
            since: boot_time(),
            confirmed_by: BTreeSet::new(),
            confirmed: alone,
            reported: 0,
            reached: false,
            progress: None,
        };
        let (own, doubted) = (own.to_owned(), Arc::default());
        Self { tips, own, max_staleness, health, inner: Arc::new(Mutex::new(inner)), doubted }
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
        inner.confirmed |= is_over_a_third(&tip.validators, |o| inner.confirmed_by.contains(o));
    }

    /// These organizations are connected now. Who is within reach again has to be asked: meanwhile blocks may have come.
    pub fn connected(&self, organizations: &[String]) {
        let tip = self.tips.borrow().tip.clone();
        let mut inner = self.inner.lock().unwrap_or_else(|p| p.into_inner());
        let before = inner.reached;
        inner.reached = is_over_a_third(&tip.validators, |o| organizations.iter().any(|c| c == o));
        if inner.reached && !before {
            self.doubt(&mut inner);
        }
    }

    /// What was confirmed holds no longer.
    fn doubt(&self, inner: &mut Inner) {
        if is_alone(&self.tips.borrow().tip, &self.own) {
            return;
        }
        inner.confirmed_by.clear();
        inner.reported = 0;
        if std::mem::take(&mut inner.confirmed) {
            self.doubted.notify_waiters();
        }
    }

    /// Resolves when peers have to be asked again.
    pub fn doubted(&self) -> Notified<'_> {
        self.doubted.notified()
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

    /// The height that this node catches up to; 0 when it doesn't.
    pub fn catch_up_target(&self) -> u64 {
        let reported = self.inner.lock().unwrap_or_else(|p| p.into_inner()).reported;
        match self.reasons().iter().any(|r| r.condition == Condition::CatchingUp) {
            true => self.health.catch_up_target().max(reported),
            false => 0,
        }
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
        let (since, confirmed, reported, says) = {
            let mut inner = self.inner.lock().unwrap_or_else(|p| p.into_inner());
            let alone = is_alone(&tip, &self.own);
            inner.confirmed |= alone;
            if boot_time().saturating_sub(inner.since) > self.max_staleness && !alone {
                self.doubt(&mut inner);
            }
            if tip.height > inner.last_height {
                inner.last_height = tip.height;
                inner.since = boot_time();
            }
            let is_behind = !inner.confirmed && inner.reported > tip.height;
            if !is_behind || inner.progress.as_ref().is_some_and(|p| p.target() != inner.reported) {
                inner.progress = None;
            }
            let reported = inner.reported;
            let says = is_behind.then(|| {
                let progress = inner.progress.get_or_insert_with(|| Progress::new(tip.height, reported));
                progress.says(tip.height, "blocks")
            });
            (boot_time().saturating_sub(inner.since), inner.confirmed, reported, says)
        };
        let limit = self.max_staleness.as_millis() as u64;
        if since > self.max_staleness {
            let sentence = format!("no new certificate for {} s", since.as_secs());
            return Some(Reason::new(Condition::NoHeight, sentence));
        }
        if let Some(says) = says {
            let sentence = format!("at block {}, another has block {reported}, {says}", tip.height);
            return Some(Reason::new(Condition::CatchingUp, sentence));
        }
        if !confirmed {
            let sentence = "not yet confirmed by more than 1/3 of the power since the start or a cut";
            return Some(Reason::new(Condition::Unconfirmed, sentence));
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

/// True when organizations that count have more than 1/3 of a set's power.
pub(crate) fn is_over_a_third(set: &ValidatorSet, counts: impl Fn(&str) -> bool) -> bool {
    let power: u64 = set.validators.iter().filter(|v| counts(&v.organization)).map(|v| v.power).sum();
    u128::from(power) * 3 > u128::from(total_power(set))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use assent_ledger::bench::Bench;
    use assent_ledger::log::Frontier;
    use assent_proto::ledger::v1::Validator;

    use super::*;

    fn tip(height: u64) -> TipInfo {
        let seat = |n: u8| Validator { organization: format!("o{n}"), vote_key: vec![n; 32], power: 1 };
        let tip = Tip {
            chain_id: "c".into(),
            height,
            header_hash: [0; 32],
            time_ms: now_ms(),
            state_root: [0; 32],
            state_version: 0,
            log: Frontier::default(),
            voters: ValidatorSet::default(),
            validators: ValidatorSet { validators: (0..4).map(seat).collect(), ..Default::default() },
            change_height: 0,
            bench: Bench::default(),
            recovery: None,
        };
        TipInfo { tip: Arc::new(tip), at: Instant::now(), signers: Vec::new() }
    }

    fn word(freshness: &Freshness) -> Option<String> {
        freshness.stale().map(|said| said.split(':').next().unwrap_or_default().to_owned())
    }

    /// A cut shorter than `max_staleness` too: others went on, and a patient may have withdrawn.
    #[tokio::test]
    async fn who_lost_the_others_asks_them_before_it_permits_again() {
        let (_tips, of_tips) = watch::channel(tip(5));
        let freshness = Freshness::new(of_tips, "o0", Duration::from_secs(60), Health::default());
        let connected =
            |who: &[&str]| freshness.connected(&who.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>());
        let confirm = |height| ["o1", "o2"].iter().for_each(|peer| freshness.confirm(peer, height));
        connected(&["o1", "o2", "o3"]);
        confirm(5);
        assert_eq!(word(&freshness), None);
        connected(&["o1", "o3"]);
        assert_eq!(word(&freshness), None, "half of the power is within reach: of any quorum somebody");
        connected(&["o3"]);
        assert_eq!(word(&freshness), None, "a cut is no staleness yet");
        let doubted = freshness.doubted();
        connected(&["o1", "o3"]);
        doubted.await; // who asks peers is told
        assert_eq!(word(&freshness).as_deref(), Some("unconfirmed"));
        confirm(9);
        assert_eq!(word(&freshness).as_deref(), Some("catching-up"));
        connected(&["o1", "o2", "o3"]);
        confirm(5);
        assert_eq!(word(&freshness), None);
    }

    /// Old blocks that come after a cut are certificates too: they must not make the node fresh by themselves.
    #[test]
    fn who_was_cut_off_is_fresh_again_only_when_others_confirm_the_tip() {
        let (tips, of_tips) = watch::channel(tip(1));
        let limit = Duration::from_millis(300);
        let freshness = Freshness::new(of_tips, "o0", limit, Health::default());
        let word = || word(&freshness);
        assert_eq!(word().as_deref(), Some("unconfirmed"));
        let confirm = |height| ["o1", "o2"].iter().for_each(|peer| freshness.confirm(peer, height));
        confirm(1);
        assert_eq!(word(), None);
        std::thread::sleep(limit * 2);
        // Nobody asked meanwhile; the first block after the cut is one of many.
        tips.send_replace(tip(2));
        assert_eq!(word().as_deref(), Some("unconfirmed"));
        confirm(9);
        assert_eq!(word().as_deref(), Some("catching-up"));
        tips.send_replace(tip(9));
        confirm(9);
        assert_eq!(word(), None);
        std::thread::sleep(limit * 2);
        assert_eq!(word().as_deref(), Some("no-height"));
    }
}
