//! Consents: told to the node, or checked and tried offline with the ledger's own functions.

mod documents;
mod evaluate;
mod lint;

use crate::commands::custodian;
use crate::exit::Failure;
use crate::output::Report;
use crate::profile::Profile;

/// Consents.
#[derive(Debug, clap::Subcommand)]
pub enum ConsentCommand {
    /// Import a FHIR R4 Consent, lossless or refused
    Import(custodian::ImportArgs),
    /// Say offline whether consents can be imported, and what they mean
    Lint(lint::LintArgs),
    /// Decide offline what consents release of given records
    Evaluate(evaluate::EvaluateArgs),
}

impl ConsentCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        match self {
            Self::Import(args) => args.run(profile),
            Self::Lint(args) => args.run(),
            Self::Evaluate(args) => args.run(),
        }
    }
}
