//! `assent receipt`: small files that prove one thing of the ledger to somebody else. What a node sends is verified here, and
//! written only if it holds and is about what was asked for.

mod get;
mod show;

use crate::exit::Failure;
use crate::output::Report;
use crate::profile::Profile;

pub use show::{read_digests, verify_file};

/// Receipts.
#[derive(Debug, clap::Subcommand)]
pub enum ReceiptCommand {
    /// A patient's consent as it stands, or that there is none
    Slot(get::SlotArgs),
    /// One access: by who got the records, or at the custodian
    Access(get::AccessArgs),
    /// CRM: a permit, with question and answer
    Decision(get::DecisionArgs),
}

impl ReceiptCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        match self {
            Self::Slot(args) => args.run(profile),
            Self::Access(args) => args.run(profile),
            Self::Decision(args) => args.run(profile),
        }
    }
}
