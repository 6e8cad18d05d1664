//! Asking, and checking for yourself.
//!
//! ```text
//! operator   init, genesis, keys, governance, status       custodian   subject, replace-key, records, consent, policy, explain, reviews
//! CRM        check, cohort, request, accesses  patient     wallet, withdraw, grant, cancel-replacement, history, notices
//!            ask, outreach                     portal      asks, contact-preferences, watch-consents
//! auditor    audit export, audit verify        anyone      verify, consent lint, consent evaluate, proof
//! ```
//! A command is a function from arguments to a report or a failure; [`output`] prints either, [`exit`] has the codes.

mod card;
mod commands;
mod connect;
mod exit;
mod files;
mod http;
mod output;
mod pki;
mod profile;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::commands::Command;
use crate::output::Format;
use crate::profile::Profile;

/// An audit makes and drops millions of small things, often on two threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Asks an Assent node, and checks its answers without trusting it
#[derive(Debug, Parser)]
#[command(name = "assent", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
struct Cli {
    /// Form of the report: text or json
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORM",
        default_value = "text",
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = "Everywhere"
    )]
    output: Format,
    /// Settings for what flags and environment leave open
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    profile: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Settings: flag, else environment, else --profile FILE, else the default.
Exit codes: 0 ok, 1 error, 2 usage, 3 verification failed, 4 can't decide,
  5 not released, 6 not found, 7 unavailable, 8 not allowed.";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome =
        Profile::load(cli.profile.as_deref()).and_then(|profile| cli.command.run(&profile, cli.output));
    output::finish(cli.output, outcome).into()
}
