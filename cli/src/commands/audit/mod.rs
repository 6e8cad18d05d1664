//! The auditor's commands on whole ledgers. `audit export` is in [`super::export`].

mod decisions;
mod openings;
mod read;
mod replayed;
mod report;
mod signatures;
mod verify;

pub use report::{fault_json, fault_text};

use crate::commands::compare::CompareArgs;
use crate::commands::evidence::EvidenceArgs;
use crate::commands::export::ExportArgs;
use crate::commands::follow::FollowArgs;
use crate::exit::Failure;
use crate::output::Report;
use crate::profile::Profile;

/// The auditor's commands.
#[derive(Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// Write a node's whole ledger to a file
    Export(ExportArgs),
    /// Verify such a file from genesis, offline
    Verify(verify::VerifyArgs),
    /// Officer: open what was decided about a patient
    Openings(openings::OpeningsArgs),
    /// Decide it again, offline, and name every difference
    Decisions(decisions::DecisionsArgs),
    /// Find validators that contradicted themselves
    Evidence(EvidenceArgs),
    /// See whether nodes have one ledger, and where they part
    Compare(CompareArgs),
    /// Follow nodes' published logs, with an alarm
    Watch(FollowArgs),
}

impl AuditCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        match self {
            Self::Export(args) => args.run(profile),
            Self::Verify(args) => args.run(profile),
            Self::Openings(args) => args.run(profile),
            Self::Decisions(args) => args.run(profile),
            Self::Evidence(args) => args.run(profile),
            Self::Compare(args) => args.run(),
            Self::Watch(args) => args.run(profile),
        }
    }
}
