//! `assent-testnet`: local networks of real nodes, the demo and the benchmark.

use std::path::PathBuf;
use std::process::ExitCode;

use assent_testnet::bench::{self, Workload};
use assent_testnet::chaos;
use assent_testnet::demo::{self, Options, Output};
use assent_testnet::error::Error;
use assent_testnet::net::up;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "assent-testnet", version, about = "Local Assent networks, the demo and the benchmark")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create and start a network in a folder, or start the stopped one in it; leave it running
    Up {
        /// Folder of the network: keys, certificates, data, logs, network.json
        #[arg(long)]
        dir: PathBuf,
        /// Number of nodes, one an organization; 4, or those that the folder has
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16))]
        nodes: Option<u8>,
    },
    /// Stop the nodes of a folder's network, and nothing else
    Down {
        /// Folder of the network
        #[arg(long)]
        dir: PathBuf,
    },
    /// Measure a network of four nodes: figures, their targets, and what the machine does at most
    Bench {
        /// What to measure; all by default
        #[arg(value_enum)]
        workloads: Vec<Workload>,
        /// Longest time of one measurement
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
        /// Patients of the workload `million`; with fewer its figures have other names
        #[arg(long, default_value_t = bench::MILLION, value_parser = subjects)]
        subjects: usize,
        /// Entries of the workload `audit-long`
        #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
        entries: u64,
        /// How to print the figures
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
        /// Also write them to this Markdown file
        #[arg(long)]
        report: Option<PathBuf>,
    },
    /// A server of the benchmark's
    #[command(hide = true)]
    BareUnary {
        /// Folder of the node whose certificate it takes
        node_dir: PathBuf,
    },
    /// A server of the benchmark's
    #[command(hide = true)]
    BareStream,
    /// Kill, cut off, fill and set back nodes under load, and check what must hold after each case
    Chaos(chaos::Options),
    /// Four hospitals, one record shared, refused after withdrawal, and audited: prints what held
    Demo {
        /// Folder for the network, kept afterwards; by default a temporary one, kept only if a claim fails
        #[arg(long)]
        dir: Option<PathBuf>,
        /// How to print the claims
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
        /// Measure the rates over 5 s instead of 15 s each
        #[arg(long)]
        quick: bool,
        /// Change single bits of a replica, an export, a receipt and a patient pack instead: each must be found
        #[arg(long, conflicts_with = "quick")]
        tamper: bool,
        /// Which bits; by default another one each time
        #[arg(long, requires = "tamper")]
        seed: Option<u64>,
    },
}

fn subjects(text: &str) -> Result<usize, String> {
    let found = text.parse().ok().filter(|n| (1..=bench::MILLION).contains(n));
    found.ok_or_else(|| format!("not a number from 1 to {}", bench::MILLION))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("assent-testnet: no runtime: {error}");
            return ExitCode::from(1);
        }
    };
    match runtime.block_on(run(arguments.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("assent-testnet: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Up { dir, nodes } => {
            let network = up::up(&dir, nodes.map(usize::from)).await?;
            println!("{} nodes of {} run:", network.nodes.len(), network.chain_id);
            for node in &network.nodes {
                println!("  {:<10} {}  pid {}", node.organization, node.grpc, node.pid);
            }
            println!("See {}/network.json; stop them with: assent-testnet down --dir {0}", dir.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Down { dir } => {
            println!("{}", up::down(&dir).await?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench { workloads, seconds, subjects, entries, output, report } => {
            let options = bench::Options { workloads, seconds, subjects, entries, output, report };
            let ok = bench::run(options).await?;
            Ok(ExitCode::from(u8::from(!ok)))
        }
        Command::BareUnary { node_dir } => {
            bench::bare::serve_unary(&node_dir).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::BareStream => {
            bench::bare::serve_stream().await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Chaos(options) => {
            let ok = chaos::run(options).await?;
            Ok(ExitCode::from(u8::from(!ok)))
        }
        Command::Demo { dir, output, quick, tamper, seed } => {
            let tamper = tamper.then(|| seed.unwrap_or_else(rand::random));
            let ok = demo::run(Options { dir, output, quick, tamper }).await?;
            Ok(ExitCode::from(u8::from(!ok)))
        }
    }
}
