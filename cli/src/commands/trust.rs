//! What a proof of any kind is verified against, as the reader says on the command line, and what follows for the reader.

use std::collections::BTreeSet;

use assent_ledger::checkpoint::VerifierKey;
use assent_ledger::receipts::{ReceiptFault, Start, Trust};
use assent_ledger::Hash;
use serde_json::{json, Value};

use crate::commands::checkpoint::{PinArgs, Pinned};
use crate::commands::recoveries::{self, RecoveryArgs};
use crate::commands::verify::{does_not_hold, verdict};
use crate::exit::{printable, Exit, Failure};
use crate::output::Report;
use crate::profile::{AnchorArgs, Profile};

/// What a proof may start at.
#[derive(Debug, clap::Args)]
pub struct TrustArgs {
    #[command(flatten)]
    anchor: AnchorArgs,
    #[command(flatten)]
    recoveries: RecoveryArgs,
    #[command(flatten)]
    pin: PinArgs,
}

impl TrustArgs {
    /// What is given. A checkpoint is read and verified; it goes before a genesis hash.
    pub fn resolve(&self, profile: &Profile) -> Result<Against, Failure> {
        let (given, accepted) = (self.anchor.resolve(profile)?, self.recoveries.accepted());
        Ok(Against { given, accepted, pin: self.pin.read()? })
    }

    /// The same, for commands that can't do without.
    pub fn require(&self, profile: &Profile) -> Result<Against, Failure> {
        let against = self.resolve(profile)?;
        if against.pin.is_none() {
            self.anchor.require(profile)?;
        }
        Ok(against)
    }

    /// The keys that count for checkpoints.
    pub fn keys(&self) -> Result<Vec<VerifierKey>, Failure> {
        self.pin.keys()
    }
}

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
                accepted: self.accepted.clone(),
            },
            None => Trust::Genesis {
                hash: self.given.or(own).unwrap_or_default(),
                accepted: self.accepted.clone(),
            },
        }
    }

    /// Leaves in the checkpoint that a node is asked to start at; 0 is genesis.
    pub fn checkpoint_size(&self) -> u64 {
        self.pin.as_ref().map_or(0, |pin| pin.checkpoint.size)
    }

    /// The report on what holds.
    pub fn verdict(&self, start: &Start, mut text: String, mut json: Value) -> Report {
        let (Start::Genesis { set_changes, recoveries, .. }
        | Start::Checkpoint { set_changes, recoveries, .. }) = start;
        json["set_changes"] = (*set_changes).into();
        json["recoveries"] = recoveries.iter().map(recoveries::json).collect();
        for recovered in recoveries {
            text = format!("{}\n{}", text.trim_end(), recoveries::text("stands on a ", recovered));
        }
        match start {
            Start::Genesis { hash, .. } => verdict(self.given.is_some(), hash, text, json),
            Start::Checkpoint { size, within, .. } => {
                let signed_by = self.pin.as_ref().map(|pin| pin.signed_by.clone()).unwrap_or_default();
                json["ok"] = true.into();
                json["anchored"] = true.into();
                json["checkpoint"] = json!({ "size": size, "signed_by": signed_by, "within": within });
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
        Start::Checkpoint { size, within: true, .. } => format!("in the checkpoint of {size} leaves"),
        Start::Checkpoint { size, set_changes, .. } => {
            format!("from the checkpoint of {size} leaves, over {set_changes} changes of validators")
        }
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
