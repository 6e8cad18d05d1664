//! S2: `assent audit verify` exits 0 on each full node's export; on a damaged copy it exits 3 and names the first bad height.

use super::few;
use crate::chaos::observed::Observed;

pub(super) fn check(seen: &Observed) -> Vec<String> {
    let mut faults = Vec::new();
    for organization in &seen.honest {
        let Some(audit) = seen.audits.iter().find(|audit| audit.organization == *organization) else {
            faults.push(format!("the ledger of {organization} was not audited"));
            continue;
        };
        if audit.exit != 0 {
            faults.push(format!("audit verify of {organization}'s export exited with {}", audit.exit));
        }
        if audit.damaged_exit != 3 || audit.named_height != Some(audit.damaged_height) {
            faults.push(format!(
                "a bit flipped at height {} of {organization}'s export: exit {}, named height {:?}",
                audit.damaged_height, audit.damaged_exit, audit.named_height
            ));
        }
    }
    if seen.honest.is_empty() {
        faults.push("no ledger was audited".into());
    }
    few(faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::observed::good::observed;

    #[test]
    fn a_ledger_that_does_not_verify_is_found() {
        let mut seen = observed();
        seen.audits[1].exit = 3;
        assert_eq!(check(&seen), ["audit verify of birch's export exited with 3"]);
    }

    #[test]
    fn damage_that_goes_unnoticed_or_unnamed_is_found() {
        let mut seen = observed();
        seen.audits[0].damaged_exit = 0;
        seen.audits[1].named_height = Some(1);
        assert_eq!(check(&seen).len(), 2);
    }

    #[test]
    fn a_node_that_was_not_audited_is_named() {
        let mut seen = observed();
        seen.audits.remove(0);
        assert_eq!(check(&seen), ["the ledger of cedar was not audited"]);
    }
}
