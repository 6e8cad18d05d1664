//! L1: with more than 2/3 honest and connected, a new write commits within the limit after healing.

use super::few;
use crate::chaos::observed::Observed;

pub(super) fn check(seen: &Observed) -> Vec<String> {
    let mut faults = Vec::new();
    for healed in &seen.healed {
        match healed.seconds {
            Some(seconds) if seconds <= healed.limit => {}
            Some(seconds) => faults.push(format!(
                "the first write after {} took {seconds:.1} s, limit {} s",
                healed.what, healed.limit
            )),
            None => faults.push(format!("no write was committed after {}", healed.what)),
        }
    }
    if seen.healed.is_empty() {
        faults.push("no write was tried after healing".into());
    }
    few(faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::observed::good::observed;

    #[test]
    fn a_late_or_missing_commit_is_found() {
        let mut seen = observed();
        seen.healed[0].seconds = Some(10.1);
        assert_eq!(check(&seen), ["the first write after a kill took 10.1 s, limit 10 s"]);
        seen.healed[0].seconds = None;
        assert_eq!(check(&seen), ["no write was committed after a kill"]);
    }
}
