//! Consents: told to the node, or checked and tried offline with the ledger's own functions.

mod documents;
mod evaluate;
mod lint;
mod preview;
mod read;
mod record;
mod said;
mod shown;

use crate::commands::custodian;
use crate::exit::Failure;
use crate::output::Report;
use crate::profile::Profile;

/// Consents.
#[derive(Debug, clap::Subcommand)]
pub enum ConsentCommand {
    /// Import a FHIR R4 Consent, lossless or refused
    Import(custodian::ImportArgs),
    /// Record a consent, in place of others or not
    Record(Box<record::RecordArgs>),
    /// Say what recording or revoking would change
    Preview(Box<preview::PreviewArgs>),
    /// Revoke a consent: its denies stand
    Revoke(record::RevokeArgs),
    /// Officer: mark a consent as recorded in error
    MarkError(record::MarkErrorArgs),
    /// Show a consent, at a revision or as of a height
    Get(read::GetArgs),
    /// List a patient's consents
    List(read::ListArgs),
    /// List the revisions of a consent
    Revisions(read::RevisionsArgs),
    /// Export a consent as FHIR, with its place in the ledger
    Export(read::ExportArgs),
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
            Self::Record(args) => args.run(profile),
            Self::Preview(args) => args.run(profile),
            Self::Revoke(args) => args.run(profile),
            Self::MarkError(args) => args.run(profile),
            Self::Get(args) => args.run(profile),
            Self::List(args) => args.run(profile),
            Self::Revisions(args) => args.run(profile),
            Self::Export(args) => args.run(profile),
            Self::Lint(args) => args.run(),
            Self::Evaluate(args) => args.run(),
        }
    }
}
