//! S3: every write acknowledged to a client is on every honest node after healing.

use super::few;
use crate::chaos::observed::Observed;

pub(super) fn check(seen: &Observed) -> Vec<String> {
    let mut faults = Vec::new();
    let acknowledged = || seen.writes.iter().filter(|write| write.acknowledged);
    if acknowledged().count() == 0 {
        faults.push("no write was acknowledged: there was nothing to lose".into());
    }
    for organization in &seen.honest {
        let Some(ledger) = seen.created.get(organization) else {
            faults.push(format!("the ledger of {organization} was not read"));
            continue;
        };
        for write in acknowledged() {
            let handles = write.answers.iter().flatten();
            let lost = handles.filter(|handle| !ledger.contains_key(*handle)).count();
            if lost > 0 || write.answers.is_empty() {
                faults.push(format!(
                    "{lost} of {} subjects of write {} of {}, which was acknowledged, are not on {organization}'s ledger",
                    write.subjects, write.request_id, write.organization
                ));
            }
        }
    }
    few(faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::observed::good::observed;

    #[test]
    fn a_write_that_one_node_lacks_is_found() {
        let mut seen = observed();
        seen.created.get_mut("birch").unwrap().remove(&vec![3]);
        let faults = check(&seen);
        assert!(
            faults.len() == 1 && faults[0].starts_with("1 of 2 subjects of write b of cedar"),
            "{faults:?}"
        );
    }

    #[test]
    fn a_write_without_answer_may_be_missing() {
        let mut seen = observed();
        seen.writes[1].acknowledged = false;
        seen.writes[1].answers.clear();
        seen.created.values_mut().for_each(|ledger| ledger.retain(|handle, _| handle == &[1]));
        assert_eq!(check(&seen), Vec::<String>::new());
    }

    #[test]
    fn a_ledger_that_was_not_read_is_named() {
        let mut seen = observed();
        seen.created.remove("cedar");
        assert_eq!(check(&seen), ["the ledger of cedar was not read"]);
    }
}
