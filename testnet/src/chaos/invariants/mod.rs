//! The invariants of FAULTS.md, one file each, over what a run saw. Each one's tests alter a good run and see it fail.
//!
//! R1 and the second half of L1 need runs of their own: they are cases, `cases/rates.rs`.

mod l1;
mod s1;
mod s2;
mod s3;
mod s4;
mod s5;
mod s6;
mod s7;

use super::observed::Observed;

/// Judges a run: what is wrong, one sentence each.
pub type Check = fn(&Observed) -> Vec<String>;

/// All of them, in the order of FAULTS.md.
pub const ALL: [(&str, Check); 8] = [
    ("S1", s1::check),
    ("S2", s2::check),
    ("S3", s3::check),
    ("S4", s4::check),
    ("S5", s5::check),
    ("S6", s6::check),
    ("S7", s7::check),
    ("L1", l1::check),
];

/// Most faults of one kind that are told.
const TOLD: usize = 3;

/// The first few, and how many more there are.
fn few(mut faults: Vec<String>) -> Vec<String> {
    let more = faults.len().saturating_sub(TOLD);
    faults.truncate(TOLD);
    if more > 0 {
        faults.push(format!("and {more} more like these"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::super::observed::good::observed;
    use super::*;

    #[test]
    fn a_good_run_holds_everywhere() {
        let good = observed();
        for (id, check) in ALL {
            assert_eq!(check(&good), Vec::<String>::new(), "{id}");
        }
    }

    #[test]
    fn a_run_that_saw_nothing_proves_nothing() {
        for (id, check) in ALL.iter().filter(|(id, _)| *id != "S5") {
            assert!(!check(&Observed::default()).is_empty(), "{id}");
        }
    }

    #[test]
    fn a_flood_of_faults_is_cut() {
        assert_eq!(few(vec!["x".into(); 7]).last().unwrap(), "and 4 more like these");
    }
}
