//! What a run of a case saw. The invariants judge it, without looking at a node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A block's header as a node showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Whose node.
    pub organization: String,
    /// Height.
    pub height: u64,
    /// Header hash and state root, in hex.
    pub hashes: [String; 2],
}

/// What `assent audit verify` said of a node's export, and of a copy with one bit flipped.
#[derive(Debug, Clone)]
pub struct AuditSeen {
    /// Whose node.
    pub organization: String,
    /// Exit status.
    pub exit: i32,
    /// Exit status for the damaged copy.
    pub damaged_exit: i32,
    /// Height of the record with the flipped bit.
    pub damaged_height: u64,
    /// Height that was named.
    pub named_height: Option<u64>,
}

/// One write as its client saw it, all tries together.
#[derive(Debug, Clone, Default)]
pub struct WriteSeen {
    /// Organization of the client.
    pub organization: String,
    /// Request id, the same in every try.
    pub request_id: String,
    /// How many patients it registers.
    pub subjects: u64,
    /// A try was answered with success.
    pub acknowledged: bool,
    /// Handles that answers named: the same list each time.
    pub answers: BTreeSet<Vec<Vec<u8>>>,
    /// An answer that can't be: the id was void, or the patient registered by another.
    pub contradiction: Option<String>,
}

/// A check of one patient's consent.
#[derive(Debug, Clone)]
pub struct CheckSeen {
    /// Whose node was asked.
    pub organization: String,
    /// Which patient.
    pub patient: usize,
    /// When the question was sent.
    pub asked: Instant,
    /// The answer was PERMIT.
    pub permitted: bool,
}

/// A withdrawal.
#[derive(Debug, Clone)]
pub struct WithdrawalSeen {
    /// Which patient.
    pub patient: usize,
    /// When it was acknowledged.
    pub acknowledged: Instant,
}

/// A time in which a node had no quorum within reach, or was stopped.
#[derive(Debug, Clone)]
pub struct CutOff {
    /// Whose node.
    pub organization: String,
    /// Since when.
    pub from: Instant,
    /// Until when; none while it lasts.
    pub to: Option<Instant>,
    /// When it was connected to a quorum after that.
    pub joined: Option<Instant>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitSeen {
    /// Whose node.
    pub organization: String,
    /// Exit code, or the negated signal.
    pub code: i32,
    /// The case made it end like this.
    pub injected: bool,
}

/// A healing: more than 2/3 are connected again.
#[derive(Debug, Clone)]
pub struct HealedSeen {
    /// Of what.
    pub what: String,
    /// Until a new write was committed; none when it never was.
    pub seconds: Option<f64>,
    /// Longest that it may take, in seconds.
    pub limit: f64,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Organizations whose nodes are honest: all that run at the end.
    pub honest: Vec<String>,
    /// Headers by node.
    pub sightings: Vec<Sighting>,
    /// Audits by node.
    pub audits: Vec<AuditSeen>,
    /// Writes of the load.
    pub writes: Vec<WriteSeen>,
    /// By node: how often each handle was created on its ledger, with its custodian.
    pub created: BTreeMap<String, BTreeMap<Vec<u8>, (String, u64)>>,
    /// Checks, while withdrawals came.
    pub checks: Vec<CheckSeen>,
    /// Withdrawals that were acknowledged.
    pub withdrawals: Vec<WithdrawalSeen>,
    /// Nodes that were cut off.
    pub cut_off: Vec<CutOff>,
    /// Longest that a node without quorum may permit.
    pub max_staleness: Duration,
    /// Where the canary was looked for: file or stream, and bytes.
    pub searched: BTreeMap<String, u64>,
    /// Where it was found.
    pub canaries: Vec<String>,
    /// Lines of logs that tell of a panic.
    pub panics: Vec<String>,
    /// How processes ended.
    pub exits: Vec<ExitSeen>,
    /// Longest time from SIGTERM to the end at the run's end, in seconds.
    pub stop_seconds: f64,
    /// What healed.
    pub healed: Vec<HealedSeen>,
}

#[cfg(test)]
pub mod good {
    //! A run in which everything held; each invariant's tests alter it.

    use super::*;

    /// Two nodes, two heights, two writes, a withdrawal.
    pub fn observed() -> Observed {
        let now = Instant::now();
        let at = |s: u64| now + Duration::from_secs(s);
        let nodes = ["cedar", "birch"];
        let sighting = |(organization, height): (&str, u64)| Sighting {
            organization: organization.into(),
            height,
            hashes: [format!("header {height}"), format!("root {height}")],
        };
        let audit = |organization: &str| AuditSeen {
            organization: organization.into(),
            exit: 0,
            damaged_exit: 3,
            damaged_height: 2,
            named_height: Some(2),
        };
        let write = |(id, handles): (&str, &[u8])| WriteSeen {
            organization: "cedar".into(),
            request_id: id.into(),
            subjects: handles.len() as u64,
            acknowledged: true,
            answers: [handles.iter().map(|h| vec![*h]).collect()].into(),
            contradiction: None,
        };
        let check = |(organization, seconds, permitted): (&str, u64, bool)| CheckSeen {
            organization: organization.into(),
            patient: 0,
            asked: at(seconds),
            permitted,
        };
        let ledger: BTreeMap<Vec<u8>, (String, u64)> =
            [1, 2, 3].into_iter().map(|h| (vec![h], ("cedar".to_owned(), 1))).collect();
        Observed {
            honest: nodes.map(String::from).to_vec(),
            sightings: nodes.iter().flat_map(|n| [(*n, 1), (*n, 2)]).map(sighting).collect(),
            audits: nodes.into_iter().map(audit).collect(),
            writes: [("a", &[1][..]), ("b", &[2, 3][..])].into_iter().map(write).collect(),
            created: nodes.iter().map(|n| ((*n).to_owned(), ledger.clone())).collect(),
            checks: [("birch", 1, true), ("birch", 10, true), ("birch", 12, false), ("cedar", 12, false)]
                .map(check)
                .to_vec(),
            withdrawals: vec![WithdrawalSeen { patient: 0, acknowledged: at(10) }],
            cut_off: Vec::new(),
            max_staleness: Duration::from_secs(30),
            searched: [("cedar/data".to_owned(), 1_000), ("between the nodes".to_owned(), 1_000)].into(),
            canaries: Vec::new(),
            panics: Vec::new(),
            exits: vec![
                ExitSeen { organization: "cedar".into(), code: -9, injected: true },
                ExitSeen { organization: "cedar".into(), code: 0, injected: false },
            ],
            stop_seconds: 1.0,
            healed: vec![HealedSeen { what: "a kill".into(), seconds: Some(1.0), limit: 10.0 }],
        }
    }
}
