//! S4: one request id commits 0 or 1 times.
//!
//! Request ids stand on no ledger. So: all answers to one id name the same slots, no slot is created twice, and a custodian has
//! between as many slots as were acknowledged to it and as many as it was asked for.

use std::collections::BTreeMap;

use super::few;
use crate::chaos::observed::Observed;

pub(super) fn check(seen: &Observed) -> Vec<String> {
    let mut faults = Vec::new();
    let mut bounds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for write in &seen.writes {
        let (least, most) = bounds.entry(&write.organization).or_default();
        *least += if write.acknowledged { write.subjects } else { 0 };
        *most += write.subjects;
        if write.answers.len() > 1 {
            faults.push(format!(
                "write {} of {} was answered with different slots",
                write.request_id, write.organization
            ));
        }
        if let Some(contradiction) = &write.contradiction {
            faults.push(format!("write {} of {}: {contradiction}", write.request_id, write.organization));
        }
    }
    if bounds.is_empty() {
        faults.push("nothing was written".into());
    }
    for (organization, ledger) in &seen.created {
        let mut slots: BTreeMap<&str, u64> = BTreeMap::new();
        for (custodian, times) in ledger.values() {
            *slots.entry(custodian).or_default() += 1;
            if *times != 1 {
                faults.push(format!("{custodian} created a slot {times} times on {organization}'s ledger"));
            }
        }
        for (custodian, (least, most)) in &bounds {
            let slots = slots.get(custodian).copied().unwrap_or(0);
            if slots < *least || slots > *most {
                faults.push(format!(
                    "{custodian} has {slots} slots on {organization}'s ledger; {most} were asked for, {least} acknowledged"
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
    fn a_write_that_took_effect_twice_is_found() {
        let mut seen = observed();
        // The second time with a slot of its own, that no answer names.
        seen.created.get_mut("birch").unwrap().insert(vec![4], ("cedar".into(), 1));
        assert_eq!(check(&seen), ["cedar has 4 slots on birch's ledger; 3 were asked for, 3 acknowledged"]);
        let mut seen = observed();
        seen.created.get_mut("birch").unwrap().insert(vec![3], ("cedar".into(), 2));
        assert_eq!(check(&seen), ["cedar created a slot 2 times on birch's ledger"]);
    }

    #[test]
    fn answers_that_differ_or_contradict_are_found() {
        let mut seen = observed();
        seen.writes[0].answers.insert(vec![vec![9]]);
        seen.writes[1].contradiction = Some("SUBJECT_EXISTS".into());
        assert_eq!(
            check(&seen),
            ["write a of cedar was answered with different slots", "write b of cedar: SUBJECT_EXISTS"]
        );
    }

    #[test]
    fn a_write_without_answer_counts_zero_or_one_times() {
        let mut seen = observed();
        seen.writes[0].acknowledged = false;
        assert_eq!(check(&seen), Vec::<String>::new());
        seen.created.values_mut().for_each(|ledger| drop(ledger.remove(&vec![1])));
        assert_eq!(check(&seen), Vec::<String>::new());
    }
}
