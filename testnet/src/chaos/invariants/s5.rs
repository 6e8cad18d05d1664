//! S5: no PERMIT more than 1 s after a withdrawal was acknowledged in the same connected majority; a node cut off from the quorum
//! stops permitting within `max_staleness`.
//!
//! Judged by when the question was sent. Who belongs to the majority: a node that was cut off for longer than `max_staleness` does
//! from the moment its links heal, because it may not permit before others confirmed its newest block; one that was cut off for less
//! does once it is connected to a quorum again. While it is cut off it may permit by what it knew, for `max_staleness`. A run
//! without checks of withdrawn patients says nothing, and says nothing wrong.

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
        let Some(since) = since(&cuts, withdrawal.acknowledged, check.asked, seen.max_staleness) else {
            continue;
        };
        let late = check.asked.saturating_duration_since(since);
        if late > LEDGER_LAG {
            faults.push(format!(
                "{} permitted {:.1} s after patient {}'s withdrawal was acknowledged, {:.1} s of them in the majority",
                check.organization,
                check.asked.saturating_duration_since(withdrawal.acknowledged).as_secs_f64(),
                check.patient,
                late.as_secs_f64(),
            ));
        }
    }
    few(faults)
}

/// Since when a node had to know of a withdrawal; none while it is cut off.
fn since(
    cuts: &[&CutOff],
    acknowledged: Instant,
    asked: Instant,
    max_staleness: Duration,
) -> Option<Instant> {
    let mut since = acknowledged;
    for cut in cuts.iter().filter(|cut| cut.from <= asked) {
        let to = cut.to.filter(|to| *to <= asked)?;
        let belongs = if to - cut.from > max_staleness { to } else { cut.joined? };
        since = since.max(belongs);
    }
    Some(since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::observed::good::observed;

    fn later(seen: &Observed, seconds: u64) -> Instant {
        seen.withdrawals[0].acknowledged + Duration::from_secs(seconds)
    }

    /// Birch is cut off, and joins the others `joins` seconds after that ended.
    fn cut(seen: &Observed, from: i64, to: Option<(i64, u64)>) -> CutOff {
        let at = |s: i64| later(seen, 1_000) - Duration::from_secs((1_000 - s) as u64);
        let joined = to.map(|(to, joins)| at(to) + Duration::from_secs(joins));
        CutOff { organization: "birch".into(), from: at(from), to: to.map(|(to, _)| at(to)), joined }
    }

    #[test]
    fn a_permit_of_the_majority_after_the_withdrawal_is_found() {
        let mut seen = observed();
        seen.checks[2].permitted = true; // 2 s after
        let said = check(&seen);
        assert!(
            said.len() == 1 && said[0].starts_with("birch permitted 2.0 s after patient 0's"),
            "{said:?}"
        );
    }

    #[test]
    fn a_node_that_is_cut_off_may_lag_but_not_for_long() {
        let mut seen = observed();
        seen.checks[2].permitted = true;
        seen.cut_off = vec![cut(&seen, 0, None)];
        assert_eq!(check(&seen), Vec::<String>::new());
        seen.checks[2].asked = later(&seen, 32);
        let faults = check(&seen);
        assert!(faults.len() == 1 && faults[0].contains("30 s after it was cut off"), "{faults:?}");
    }

    #[test]
    fn after_a_long_cut_there_is_no_excuse_from_the_healing_on() {
        let mut seen = observed();
        seen.checks[2].permitted = true;
        seen.checks[2].asked = later(&seen, 20);
        for (healed, faults) in [(19, 0), (18, 1), (5, 1)] {
            seen.cut_off = vec![cut(&seen, healed - 31, Some((healed, 60)))];
            assert_eq!(check(&seen).len(), faults, "healed {healed} s after, permitted 20 s after");
        }
    }

    #[test]
    fn after_a_short_cut_there_is_none_from_the_reunion_on() {
        let mut seen = observed();
        seen.checks[2].permitted = true;
        seen.checks[2].asked = later(&seen, 20);
        for (joins, faults) in [(0, 1), (4, 1), (5, 0), (60, 0)] {
            seen.cut_off = vec![cut(&seen, -10, Some((14, joins)))];
            assert_eq!(
                check(&seen).len(),
                faults,
                "joined {joins} s after the healing, permitted 6 s after it"
            );
        }
    }

    #[test]
    fn another_nodes_cut_or_an_old_one_is_no_excuse() {
        let mut seen = observed();
        seen.checks[3].permitted = true; // Cedar's
        seen.cut_off = vec![cut(&seen, 0, None)];
        assert_eq!(check(&seen).len(), 1);
        let mut seen = observed();
        seen.checks[2].permitted = true;
        seen.cut_off = vec![cut(&seen, -60, Some((-40, 1))), cut(&seen, 3, None)];
        assert_eq!(check(&seen).len(), 1, "joined long before the withdrawal; cut again after the permit");
    }
}
