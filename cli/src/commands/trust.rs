//! What a file about accesses, or a receipt, is verified against, and what follows for the reader.

use std::collections::BTreeSet;

use assent_ledger::receipts::{ReceiptFault, Start, Trust};
use assent_ledger::Hash;
use serde_json::{json, Value};

use crate::commands::checkpoint::Pinned;
use crate::commands::recoveries;
use crate::commands::verify::{does_not_hold, verdict};
use crate::exit::{printable, Exit, Failure};
use crate::output::Report;

/// What the reader gave.
#[derive(Debug, Default)]
pub struct Against {
    /// The genesis hash.
    pub given: Option<Hash>,
    /// Hashes of the plans of recoveries that are accepted.
    pub accepted: BTreeSet<Hash>,
    /// The checkpoint, which goes before.
    pub pin: Option<Pinned>,
}

impl Against {
    /// What is to be trusted. `own` is the genesis hash that the file itself starts at: without another it shows that the file
    /// is consistent, and no more.
    pub fn trust(&self, own: Option<Hash>) -> Trust {
        match &self.pin {
            Some(Pinned { checkpoint, .. }) => Trust::Checkpoint {
                origin: checkpoint.origin.clone(),
                size: checkpoint.size,
                root: checkpoint.root,
            },
            None => Trust::Genesis {
                hash: self.given.or(own).unwrap_or_default(),
                accepted: self.accepted.clone(),
            },
        }
    }

    /// The report on what holds.
    pub fn verdict(&self, start: &Start, mut text: String, mut json: Value) -> Report {
        match start {
            Start::Genesis { hash, set_changes, recoveries } => {
                json["set_changes"] = (*set_changes).into();
                json["recoveries"] = recoveries.iter().map(recoveries::json).collect();
                for recovered in recoveries {
                    text = format!("{}\n{}", text.trim_end(), recoveries::text("stands on a ", recovered));
                }
                verdict(self.given.is_some(), hash, text, json)
            }
            Start::Checkpoint { size } => {
                let signed_by = self.pin.as_ref().map(|pin| pin.signed_by.clone()).unwrap_or_default();
                json["ok"] = true.into();
                json["anchored"] = true.into();
                json["checkpoint"] = json!({ "size": size, "signed_by": signed_by });
                Report::ok(format!("holds: {text}"), json)
            }
        }
    }
}

/// How one comes to a header, for people.
pub fn way(start: &Start) -> String {
    match start {
        Start::Genesis { set_changes, .. } => {
            format!("from genesis, over {set_changes} changes of validators")
        }
        Start::Checkpoint { size } => format!("in the checkpoint of {size} leaves"),
    }
}

/// Why a file shows nothing. One that starts elsewhere than at what is given is undecided.
pub fn refused(fault: ReceiptFault) -> Failure {
    match fault {
        ReceiptFault::OtherAnchor(why) => {
            Failure::new(Exit::Undecided, "OTHER_ANCHOR", format!("not decided: {}", printable(&why)))
                .help("ask for one that starts at what you trust")
        }
        ReceiptFault::Sets(error) => match error.not_accepted() {
            Some(recovered) => recoveries::not_accepted(recovered),
            None => does_not_hold(error),
        },
        fault => does_not_hold(fault),
    }
}

/// What a node sent does not hold: its lie, unless the reader has to decide about a recovery first.
pub fn sent(fault: ReceiptFault, lie: impl FnOnce(&dyn std::fmt::Display) -> Failure) -> Failure {
    match &fault {
        ReceiptFault::Sets(error) if error.not_accepted().is_some() => refused(fault),
        fault => lie(fault),
    }
}
