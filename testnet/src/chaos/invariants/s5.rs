//! S5: no PERMIT more than 1 s after a withdrawal was acknowledged in the same connected majority; a node cut off from the quorum
//! stops permitting within `max_staleness`.
//!
//! Judged by when the question was sent. A node that was cut off and has not caught up yet is no part of the majority: it may lag as
//! long as one that is cut off, `max_staleness`, which is what freshness allows it. A run without checks of withdrawn patients says nothing, and says nothing wrong.

use std::time::{Duration, Instant};

use super::few;
use crate::chaos::observed::{CutOff, Observed};

/// How long after the acknowledgement a node of the majority may still permit, in seconds.
const LEDGER_LAG: Duration = Duration::from_secs(1);

pub(super) fn check(seen: &Observed) -> Vec<String> {
    let mut faults = Vec::new();
    for check in seen.checks.iter().filter(|check| check.permitted) {
        let cuts: Vec<&CutOff> =
            seen.cut_off.iter().filter(|c| c.organization == check.organization).collect();
        let stale = cuts.iter().any(|c| {
            check.asked > c.from + seen.max_staleness + LEDGER_LAG && c.to.is_none_or(|to| check.asked < to)
        });
        if stale {
            faults.push(format!(
                "{} permitted more than {} s after it was cut off",
                check.organization,
                seen.max_staleness.as_secs()
            ));
        }
        let withdrawal = seen.withdrawals.iter().find(|w| w.patient == check.patient);
        let Some(withdrawal) = withdrawal else { continue };
        let late = check.asked.saturating_duration_since(withdrawal.acknowledged);
        let excused = cuts.iter().any(|c| overlaps(c, withdrawal.acknowledged, check.asked));
        let limit = if excused { seen.max_staleness + LEDGER_LAG } else { LEDGER_LAG };
        if late > limit {
            faults.push(format!(
                "{} permitted {:.1} s after patient {}'s withdrawal was acknowledged",
                check.organization,
                late.as_secs_f64(),
                check.patient
            ));
        }
    }
    few(faults)
}

/// The node was cut off, or catching up, at some time between the two.
fn overlaps(cut: &CutOff, from: Instant, to: Instant) -> bool {
    cut.from <= to && cut.level.is_none_or(|level| level + LEDGER_LAG >= from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::observed::good::observed;

    fn later(seen: &Observed, seconds: u64) -> Instant {
        seen.withdrawals[0].acknowledged + Duration::from_secs(seconds)
    }

    fn cut(seen: &Observed, from: u64, to: Option<u64>) -> CutOff {
        let to = to.map(|to| later(seen, to));
        CutOff { organization: "birch".into(), from: later(seen, from), to, level: to }
    }

    #[test]
    fn a_permit_of_the_majority_after_the_withdrawal_is_found() {
        let mut seen = observed();
        seen.checks[2].permitted = true; // 2 s after
        assert_eq!(check(&seen), ["birch permitted 2.0 s after patient 0's withdrawal was acknowledged"]);
    }

    #[test]
    fn a_node_that_was_cut_off_may_lag_but_not_for_long() {
        let mut seen = observed();
        seen.checks[2].permitted = true;
        seen.cut_off = vec![cut(&seen, 0, None)];
        assert_eq!(check(&seen), Vec::<String>::new());
        seen.checks[2].asked = later(&seen, 32);
        let faults = check(&seen);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("30 s after it was cut off"), "{faults:?}");
    }

    #[test]
    fn another_nodes_cut_or_an_old_one_is_no_excuse() {
        let mut seen = observed();
        seen.checks[3].permitted = true; // Cedar's
        seen.cut_off = vec![cut(&seen, 0, None)];
        assert_eq!(check(&seen).len(), 1);
        let mut seen = observed();
        seen.checks[2].permitted = true;
        seen.checks[2].asked = later(&seen, 20);
        seen.withdrawals[0].acknowledged += Duration::from_secs(15);
        let mut old = cut(&seen, 0, None);
        old.from -= Duration::from_secs(60);
        old.to = Some(old.from + Duration::from_secs(20));
        old.level = old.to;
        seen.cut_off = vec![old.clone()];
        assert_eq!(check(&seen).len(), 1, "level again long before the withdrawal");
        old.level = None;
        seen.cut_off = vec![old];
        assert_eq!(check(&seen), Vec::<String>::new(), "healed, but still behind");
    }
}
