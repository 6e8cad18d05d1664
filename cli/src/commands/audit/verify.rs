//! `assent audit verify`: a whole ledger from genesis, asking nobody.

use std::path::PathBuf;

use assent_ledger::audit::{ChainVerifier, Level, PRUNED};

use super::read::verify;
use super::report::{report, Verified};
use crate::commands::checkpoint::CheckpointArgs;
use crate::commands::recoveries::RecoveryArgs;
use crate::exit::Failure;
use crate::output::Report;
use crate::profile::{AnchorArgs, Profile};

/// Arguments of `assent audit verify`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct VerifyArgs {
    /// Export
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    anchor: AnchorArgs,
    /// full: everything; structural: not what entries say and do
    #[arg(long, value_name = "LEVEL", value_parser = ["full", "structural"], default_value = "full",
          hide_default_value = true, hide_possible_values = true)]
    level: String,
    #[command(flatten)]
    recoveries: RecoveryArgs,
    #[command(flatten)]
    checkpoints: CheckpointArgs,
}

impl VerifyArgs {
    /// Verifies.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let anchor = self.anchor.resolve(profile)?;
        let pins = self.checkpoints.read()?;
        let at = |level| {
            let make = || (ChainVerifier::new(level, anchor).accepting(self.recoveries.accepted()), ());
            verify(&self.file, make, &pins).map_err(|e| {
                Failure::usage("UNREADABLE", format!("{} can't be read: {e}", self.file.display()))
            })
        };
        let asked = if self.level == "full" { Level::Full } else { Level::Structural };
        let (mut verifier, mut outcome) = at(asked)?;
        if outcome.as_ref().is_err_and(|fault| fault.kind == PRUNED) {
            // Without the entries no state can be made: all that is left to check is the structure.
            (verifier, outcome) = at(Level::Structural)?;
        }
        let anchored = anchor.is_some() || pins.anchor.is_some();
        Ok(report(&Verified { file: &self.file, asked, anchored, pins: &pins, verifier: &verifier, outcome }))
    }
}
