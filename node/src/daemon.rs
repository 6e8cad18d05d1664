//! `assentd`: command line, log, runtime, exit code. In the library, so that the binary itself is a line to compile.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::backup;
use crate::config::{Config, Ordering};
use crate::node::{start, Stop};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Consent ledger and record exchange node of one organization.
#[derive(Parser)]
#[command(version, about, max_term_width = 80)]
struct Arguments {
    /// Configuration file, as `assent init` writes it.
    #[arg(long, env = "ASSENTD_CONFIG", conflicts_with = "dir")]
    config: Option<PathBuf>,
    /// Folder that holds assentd.toml.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Order blocks alone: one process, no peers, the same ledger and API.
    #[arg(long)]
    single: bool,
    /// Logs as JSON, one object a line.
    #[arg(long)]
    log_json: bool,
    #[command(flatten)]
    testnet: crate::fault::Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What else the program does than to run a node.
#[derive(Subcommand)]
enum Command {
    /// Back up ledger and vault, check a backup, put one back.
    #[command(subcommand)]
    Backup(backup::Command),
    /// Go on with the validators that remain when a quorum is lost for ever.
    #[command(subcommand)]
    Recover(crate::recover::Command),
    /// Read all of ledger and vault, also while the node runs: finds damage where nobody looks.
    Scrub(crate::scrub::ScrubArgs),
}

/// Runs the daemon until it is told to stop; the exit codes are those of INTERFACES.md.
pub fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    match arguments.command.take() {
        Some(Command::Backup(command)) => return backup::main(command),
        Some(Command::Recover(command)) => return crate::recover::main(&command),
        Some(Command::Scrub(args)) => return crate::scrub::main(&args),
        None => {}
    }
    let filter = EnvFilter::try_from_env("ASSENTD_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,arc_malachitebft=warn,libp2p=warn,libp2p_gossipsub=error"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        // A log on a full disk must not end the process by a panic: its exit code says why it ends.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    if arguments.log_json {
        log.json().init();
    } else {
        log.init();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            return ExitCode::from(1);
        }
    };
    let outcome = runtime.block_on(run(arguments));
    // Tasks that hang must not keep a stopped node alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            tracing::error!(exit = stop.exit_code(), "stopped: {stop}");
            let _ = writeln!(std::io::stderr(), "error: {stop}");
            ExitCode::from(stop.exit_code())
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Stop> {
    let path = arguments
        .config
        .unwrap_or_else(|| arguments.dir.unwrap_or_else(|| PathBuf::from(".")).join("assentd.toml"));
    let mut config = Config::read(&path)?;
    if arguments.single {
        config.ordering = Ordering::Single;
    }
    config.testnet = arguments.testnet;
    let running = start(config).await?;
    running.run(asked_to_stop()).await?;
    tracing::info!("stopped in order");
    Ok(())
}

/// Resolves at SIGTERM or SIGINT.
async fn asked_to_stop() {
    use tokio::signal::unix::{signal, SignalKind};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        return;
    };
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else {
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}
