//! S7: no panic; only injected or documented exit codes; and a clean stop within 10 s at the end.

use super::few;
use crate::chaos::observed::Observed;
use crate::net::process::STOP_LIMIT_SECONDS;

pub(super) fn check(seen: &Observed) -> Vec<String> {
    let mut faults: Vec<String> = seen.panics.iter().map(|line| format!("a panic: {line}")).collect();
    for exit in &seen.exits {
        // 7 is documented, and its cause is in the log; but nobody injected one here.
        if !exit.injected && exit.code != 0 {
            let how = if exit.code < 0 { "signal" } else { "exit code" };
            faults.push(format!("the node of {} ended by {how} {}", exit.organization, exit.code.abs()));
        }
    }
    if seen.stop_seconds > STOP_LIMIT_SECONDS as f64 {
        faults.push(format!("a node took {:.1} s to stop, limit {STOP_LIMIT_SECONDS} s", seen.stop_seconds));
    }
    if seen.exits.is_empty() {
        faults.push("no process was seen to end".into());
    }
    few(faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::observed::good::observed;

    #[test]
    fn a_panic_is_found() {
        let mut seen = observed();
        seen.panics.push("cedar: thread 'main' panicked at node.rs:1".into());
        assert!(check(&seen)[0].starts_with("a panic: cedar"));
    }

    #[test]
    fn an_exit_that_nobody_injected_is_found() {
        for (code, says) in
            [(101, "exit code 101"), (9, "exit code 9"), (7, "exit code 7"), (-11, "signal 11")]
        {
            let mut seen = observed();
            seen.exits[1].code = code;
            assert_eq!(check(&seen), [format!("the node of cedar ended by {says}")]);
            seen.exits[1].injected = true;
            assert_eq!(check(&seen), Vec::<String>::new());
        }
    }

    #[test]
    fn a_slow_stop_is_found() {
        let mut seen = observed();
        seen.stop_seconds = 11.0;
        assert_eq!(check(&seen), ["a node took 11.0 s to stop, limit 10 s"]);
    }
}
