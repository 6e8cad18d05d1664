//! S1: at every common height all honest nodes have the same header hash and state root.

use std::collections::BTreeMap;

use super::few;
use crate::chaos::observed::{Observed, Sighting};

pub(super) fn check(seen: &Observed) -> Vec<String> {
    let mut first: BTreeMap<u64, &Sighting> = BTreeMap::new();
    let mut faults = Vec::new();
    for sighting in &seen.sightings {
        let known = first.entry(sighting.height).or_insert(sighting);
        if known.hashes != sighting.hashes {
            faults.push(format!(
                "at height {} {} has {:?} and {} has {:?}",
                sighting.height, known.organization, known.hashes, sighting.organization, sighting.hashes
            ));
        }
    }
    for organization in &seen.honest {
        if !seen.sightings.iter().any(|s| s.organization == *organization) {
            faults.push(format!("no block of {organization} was looked at"));
        }
    }
    if seen.honest.len() < 2 {
        faults.push("there are no two nodes to compare".into());
    }
    few(faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::observed::good::observed;

    #[test]
    fn another_header_or_another_state_is_found() {
        for part in [0, 1] {
            let mut seen = observed();
            seen.sightings[3].hashes[part] = "another".into();
            assert!(check(&seen)[0].contains("at height 2 cedar has"), "{:?}", check(&seen));
        }
    }

    #[test]
    fn a_node_that_showed_nothing_is_named() {
        let mut seen = observed();
        seen.sightings.retain(|s| s.organization == "cedar");
        assert_eq!(check(&seen), ["no block of birch was looked at"]);
    }
}
