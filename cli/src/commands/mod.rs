//! The commands, one file each.

mod accesses;
mod ask;
mod asks;
mod audit;
mod check;
mod checkpoint;
mod cohort;
mod collect;
mod compare;
mod consent;
mod custodian;
mod evidence;
mod explain;
mod export;
mod follow;
mod fork;
mod genesis;
mod governance;
mod grant;
mod history;
mod init;
mod keys;
mod notices;
mod opening;
mod outreach;
mod packed;
mod patient;
mod pieces;
mod policy;
mod proof;
mod published;
mod reader;
mod receipt;
mod records;
mod recoveries;
mod replacement;
mod request;
mod reviews;
mod revoke;
mod rotate;
mod split;
mod status;
mod trust;
mod verify;
mod views;
mod wallet;
mod watch;
mod withdraw;

use crate::exit::Failure;
use crate::output::{Format, Report};
use crate::profile::Profile;

/// What can be asked for.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Operator: make a node's folder with its keys
    Init(init::InitArgs),
    /// Operator: make genesis from the organizations' cards
    Genesis(genesis::GenesisArgs),
    /// Operator: issue certificates; make, show, rotate keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Operator: members, validators, and how that changes
    #[command(subcommand)]
    Governance(governance::GovernanceCommand),
    /// Operator: show how a node does
    Status(status::StatusArgs),
    /// CRM: ask whether anything would be released
    Check(check::CheckArgs),
    /// CRM: ask one question about many patients
    Cohort(cohort::CohortArgs),
    /// CRM: get records, verified, with their receipt
    Request(request::RequestArgs),
    /// CRM: list what this client itself got
    Accesses(accesses::AccessesArgs),
    /// CRM: ask a patient for consent
    Ask(ask::AskArgs),
    /// CRM: ask whether a patient may be contacted
    Outreach(outreach::OutreachArgs),
    /// Get a receipt that stands without a node
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Anyone: verify a receipt, bundle, history or pack offline
    Verify(verify::VerifyArgs),
    /// Patient: keep the control key
    #[command(subcommand)]
    Wallet(wallet::WalletCommand),
    /// Patient: withdraw, through any node
    Withdraw(withdraw::WithdrawArgs),
    /// Patient: consent, or lift a withdrawal, through any node
    Grant(grant::GrantArgs),
    /// Patient: keep the control key when another one waits
    CancelReplacement(replacement::CancelArgs),
    /// Patient: see who looked, verified
    History(history::HistoryArgs),
    /// Patient or portal: keep consents and accesses, proven
    #[command(subcommand)]
    Patient(patient::PatientCommand),
    /// Patient or portal: see what the patient must know
    Notices(notices::NoticesArgs),
    /// Registrar: register patients
    #[command(subcommand)]
    Subject(custodian::SubjectCommand),
    /// Registrar: register a new control key for a lost one
    ReplaceKey(replacement::ReplaceKeyArgs),
    /// EHR: load records
    #[command(subcommand)]
    Records(records::RecordsCommand),
    /// Portal: record, read consents. Anyone: try them offline
    #[command(subcommand)]
    Consent(consent::ConsentCommand),
    /// Portal: see and answer what patients are asked for
    #[command(subcommand)]
    Asks(asks::AsksCommand),
    /// Portal: record how a patient wants to be contacted
    ContactPreferences(outreach::PreferencesArgs),
    /// Portal, officer: every change of consents, as it comes
    WatchConsents(watch::WatchArgs),
    /// Officer: set and show the custodian's own rules
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Officer: see why a recipient gets what it gets
    Explain(explain::ExplainArgs),
    /// Officer: judge releases under break-glass
    #[command(subcommand)]
    Reviews(reviews::ReviewsCommand),
    /// Anyone: verify one proof or signature
    #[command(subcommand)]
    Proof(proof::ProofCommand),
    /// Anyone: collect nodes' signatures over one checkpoint
    Checkpoint(collect::CollectArgs),
    /// Auditor: export and verify a whole ledger
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

impl Command {
    /// Does it. What comes bit by bit is printed in `format`; everything else is in the report.
    pub fn run(&self, profile: &Profile, format: Format) -> Result<Report, Failure> {
        match self {
            Self::Init(args) => args.run(),
            Self::Genesis(args) => args.run(),
            Self::Keys(command) => command.run(profile),
            Self::Governance(command) => command.run(profile),
            Self::Status(args) => args.run(profile),
            Self::Check(args) => args.run(profile),
            Self::Cohort(args) => args.run(profile),
            Self::Request(args) => args.run(profile),
            Self::Accesses(args) => args.run(profile),
            Self::Ask(args) => args.run(profile),
            Self::Outreach(args) => args.run(profile),
            Self::Receipt(command) => command.run(profile),
            Self::Verify(args) => args.run(profile),
            Self::Wallet(command) => command.run(profile),
            Self::Withdraw(args) => args.run(profile),
            Self::Grant(args) => args.run(profile),
            Self::CancelReplacement(args) => args.run(profile),
            Self::History(args) => args.run(profile),
            Self::Patient(command) => command.run(profile),
            Self::Subject(command) => command.run(profile),
            Self::ReplaceKey(args) => args.run(profile),
            Self::Records(command) => command.run(profile),
            Self::Consent(command) => command.run(profile),
            Self::Asks(command) => command.run(profile),
            Self::ContactPreferences(args) => args.run(profile),
            Self::WatchConsents(args) => args.run(profile, format),
            Self::Notices(args) => args.run(profile),
            Self::Policy(command) => command.run(profile),
            Self::Explain(args) => args.run(profile),
            Self::Reviews(command) => command.run(profile),
            Self::Proof(command) => command.run(),
            Self::Checkpoint(args) => args.run(profile),
            Self::Audit(command) => command.run(profile),
        }
    }
}
