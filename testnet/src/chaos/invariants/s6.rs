//! S6: a canary patient string appears nowhere in data folders, logs, metrics or the traffic between nodes.
//!
//! Bytes are searched as they lie: what a store compressed may hide the string, which the ledger's export, searched too, does not.

use super::few;
use crate::chaos::observed::Observed;

pub(super) fn check(seen: &Observed) -> Vec<String> {
    let mut faults: Vec<String> =
        seen.canaries.iter().map(|place| format!("the canary patient stands in {place}")).collect();
    for (place, bytes) in &seen.searched {
        if *bytes == 0 {
            faults.push(format!("{place} was empty: there was nothing to search"));
        }
    }
    if seen.searched.is_empty() {
        faults.push("nothing was searched".into());
    }
    few(faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::observed::good::observed;

    #[test]
    fn a_canary_is_told_with_its_place() {
        let mut seen = observed();
        seen.canaries.push("cedar/assentd.log".into());
        assert_eq!(check(&seen), ["the canary patient stands in cedar/assentd.log"]);
    }

    #[test]
    fn an_empty_place_proves_nothing() {
        let mut seen = observed();
        seen.searched.insert("metrics of elm".into(), 0);
        assert_eq!(check(&seen), ["metrics of elm was empty: there was nothing to search"]);
    }
}
