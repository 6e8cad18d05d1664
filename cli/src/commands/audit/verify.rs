//! `assent audit verify`: a whole ledger from genesis, asking nobody.

use std::path::PathBuf;

use assent_ledger::audit::{ChainVerifier, Level, PRUNED};
use assent_ledger::Hash;

use super::read::verify;
use super::report::{report, Verified};
use crate::commands::checkpoint::CheckpointArgs;
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
    /// Accept this recovery of a lost quorum; as often as needed
    #[arg(long, value_name = "PLAN_HASH", value_parser = plan)]
    accept_recovery: Vec<Hash>,
    #[command(flatten)]
    checkpoints: CheckpointArgs,
}

fn plan(text: &str) -> Result<Hash, String> {
    let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "not the hash of a plan: 64 hex digits".to_owned())
}

impl VerifyArgs {
    /// Verifies.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let anchor = self.anchor.resolve(profile)?;
        let pins = self.checkpoints.read()?;
        let at = |level| {
            let make = || ChainVerifier::new(level, anchor).accepting(self.accept_recovery.iter().copied());
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
