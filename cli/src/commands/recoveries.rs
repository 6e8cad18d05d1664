//! Recoveries of a lost quorum: those that a reader accepts, those that it has to decide about, and what is said of them.

use std::collections::BTreeSet;

use assent_ledger::audit::{Fault, RECOVERY};
use assent_ledger::recovered::Recovered;
use assent_ledger::Hash;
use serde_json::{json, Value};

use crate::exit::{printable, Exit, Failure};
use crate::output::paragraph;

/// Recoveries on the command line.
#[derive(Debug, clap::Args)]
pub struct RecoveryArgs {
    /// Accept this recovery of a lost quorum; as often as needed
    #[arg(long, value_name = "PLAN_HASH", value_parser = plan)]
    accept_recovery: Vec<Hash>,
}

fn plan(text: &str) -> Result<Hash, String> {
    let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "not the hash of a plan: 64 hex digits".to_owned())
}

impl RecoveryArgs {
    /// Hashes of the plans that are accepted.
    pub fn accepted(&self) -> BTreeSet<Hash> {
        self.accept_recovery.iter().copied().collect()
    }
}

/// One that nobody said to accept: neither right nor wrong.
pub fn not_accepted(recovered: &Recovered) -> Failure {
    let hash = hex::encode(recovered.plan);
    Failure::new(Exit::Undecided, NOT_ACCEPTED, printable(&format!("not decided: it stands on {recovered}")))
        .help(format!("say --accept-recovery {hash} if its operators published that hash"))
}

/// Machine-readable reason of [`not_accepted`].
pub const NOT_ACCEPTED: &str = "RECOVERY_NOT_ACCEPTED";

/// Exit of a chain that ended with this fault: one that waits for the reader's word is not decided.
pub fn exit_of(fault: &Fault) -> Exit {
    match fault.kind == RECOVERY {
        true => Exit::Undecided,
        false => Exit::Verification,
    }
}

/// The verdict on such a chain.
pub fn verdict_of(fault: &Fault) -> &'static str {
    match fault.kind == RECOVERY {
        true => "not decided, a recovery needs your acceptance",
        false => "does NOT hold",
    }
}

/// One that was accepted, for people.
pub fn text(label: &str, recovered: &Recovered) -> String {
    let Recovered { height, plan, by, removed, reason } = recovered;
    let said = format!(
        "RECOVERY of a lost quorum, NOT certified by the set before: from height {height} without {}, by {}, because of \"{}\"; you \
         accepted its plan {}",
        removed.join(", "),
        by.join(", "),
        printable(reason),
        hex::encode(plan)
    );
    paragraph(label, &said)
}

/// One that was accepted, for JSON output.
pub fn json(recovered: &Recovered) -> Value {
    let Recovered { height, plan, by, removed, reason } = recovered;
    json!({ "height": height, "plan": hex::encode(plan), "by": by, "removed": removed, "reason": reason })
}
