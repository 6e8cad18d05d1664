//! Chaos: the cases of FAULTS.md against real processes on loopback, under load, from one seed.
//!
//! ```text
//! cases/*      do something to the network           proxy        the links between nodes
//! run          a case's runs, one by one             template     what they share
//! world        a run's network and clients           waiting      until nodes settle or heal
//! supervisor   its processes, restarted by exit code patients     made-up patients with a canary
//! load, writes what clients send and were told
//! look         gathers what was seen                 observed     those values
//! invariants/* judge them, without a node            report       CHAOS.md, table and JSON
//! ```

mod cases;
mod invariants;
mod load;
mod look;
mod observed;
mod patients;
pub mod proxy;
pub mod report;
mod run;
mod supervisor;
mod template;
mod waiting;
mod world;
mod writes;

use std::path::PathBuf;

use cases::{Case, Length};
use report::Report;
use template::Template;

use crate::demo::Output;
use crate::error::Error;
use crate::net::up::{interrupted, Claimed};

/// What was asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// All that is left to chance comes from it; run k of a case has the seed N + k
    #[arg(long, value_name = "N")]
    pub seed: u64,
    /// Only these cases, such as A4,C3
    #[arg(long, value_delimiter = ',', value_parser = known)]
    pub only: Vec<String>,
    /// A set of cases that takes at most ten minutes; with --only, those of them
    #[arg(long)]
    pub short: bool,
    /// How often each case runs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub runs: u64,
    /// Lives of the node in A5
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub lives: u64,
    /// How long R1 looks at memory; its growth is judged from 1200 on
    #[arg(long, value_name = "N", default_value_t = 1200, value_parser = clap::value_parser!(u64).range(60..=3600))]
    pub steady_seconds: u64,
    /// How to print the cases
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
    /// Also write them to this Markdown file
    #[arg(long)]
    pub report: Option<PathBuf>,
}

/// A case that runs here.
fn known(id: &str) -> Result<String, String> {
    if cases::ALL.iter().any(|case| case.id == id) {
        return Ok(id.to_owned());
    }
    if let Some((_, why)) = cases::NOT_COVERED.iter().find(|(other, _)| *other == id) {
        return Err(format!("it is not covered: {why}"));
    }
    let ids: Vec<&str> = cases::ALL.iter().map(|case| case.id).collect();
    Err(format!("no such case; there are {}", ids.join(", ")))
}

impl Options {
    fn cases(&self) -> Vec<&'static Case> {
        let named = |id| self.only.is_empty() || self.only.iter().any(|only| only == id);
        let short = |id| !self.short || cases::SHORT.contains(&id);
        let wanted = |case: &&Case| short(case.id) && named(case.id);
        cases::ALL.iter().filter(wanted).collect()
    }

    fn command(&self) -> String {
        let mut command = format!("assent-testnet chaos --seed {}", self.seed);
        if !self.only.is_empty() {
            command.push_str(&format!(" --only {}", self.only.join(",")));
        }
        if self.short {
            command.push_str(" --short");
        }
        command.push_str(&format!(" --runs {}", self.runs));
        command
    }

    fn length(&self) -> Length {
        Length { short: self.short, lives: self.lives, steady_seconds: self.steady_seconds }
    }

    /// What repeats one run of a case.
    fn again(&self, id: &str, seed: u64) -> String {
        let only = Self { seed, only: vec![id.to_owned()], runs: 1, ..self.clone() };
        let more = match id {
            "A5" => format!(" --lives {}", self.lives),
            "R1" => format!(" --steady-seconds {}", self.steady_seconds),
            _ => String::new(),
        };
        only.command() + &more
    }
}

/// Runs the cases and prints them; true when everything held. All that it starts has ended when it returns.
pub async fn run(options: Options) -> Result<bool, Error> {
    let dir = std::env::temp_dir().join(format!("assent-chaos-{:08x}", rand::random::<u32>()));
    let mut claimed = Claimed::new(&dir)?;
    let report = tokio::select! {
        report = all(&claimed, &options) => report?,
        interrupted = interrupted() => return Err(interrupted),
    };
    match options.output {
        Output::Text => println!("{}", report.table()),
        Output::Json => println!("{}", report.json()),
    }
    if let Some(path) = &options.report {
        report.write(path, &options.command())?;
    }
    if !report.ok() {
        claimed.keep();
        eprintln!("The folders of the runs that failed are kept: {}", claimed.dir.display());
    }
    Ok(report.ok())
}

async fn all(claimed: &Claimed, options: &Options) -> Result<Report, Error> {
    let template = Template::make(&claimed.dir).await?;
    let mut rows = Vec::new();
    let mut skipped = Vec::new();
    for case in options.cases() {
        if let Err(why) = cases::possible(case.id, &claimed.dir) {
            eprintln!("case {} ... skipped, {why}", case.id);
            skipped.push((case.id, why));
            continue;
        }
        let row = run::runs_of(case, &template, options).await;
        // A line a case for whoever counts: testnet/test.sh.
        eprintln!("case {} ... {}", case.id, if row.passed == row.runs { "ok" } else { "FAILED" });
        rows.push(row);
    }
    Ok(Report::new(options.seed, rows, &skipped))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parsed(line: &str) -> Result<Options, String> {
        let words = std::iter::once("chaos").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.options).map_err(|error| error.to_string())
    }

    fn ids(options: &Options) -> Vec<&'static str> {
        options.cases().iter().map(|case| case.id).collect()
    }

    #[test]
    fn flags_choose_cases() {
        let options = parsed("--seed 7 --only A4,C3 --runs 3 --output json").unwrap();
        assert_eq!((options.seed, options.runs, options.output), (7, 3, Output::Json));
        assert_eq!(ids(&options), ["A4", "C3"]);
        assert_eq!(options.command(), "assent-testnet chaos --seed 7 --only A4,C3 --runs 3");
        let (all, short) = (ids(&parsed("--seed 1").unwrap()), ids(&parsed("--seed 1 --short").unwrap()));
        assert_eq!(all.len(), cases::ALL.len());
        assert!(short.len() < all.len() && short.contains(&"B8") && !short.contains(&"A8"));
        assert_eq!(ids(&parsed("--seed 1 --short --only A8,B1").unwrap()), ["B1"]);
    }

    #[test]
    fn a_failed_run_says_what_repeats_it() {
        let options = parsed("--seed 7 --short --runs 9 --lives 3").unwrap();
        assert_eq!(options.again("B1", 9), "assent-testnet chaos --seed 9 --only B1 --short --runs 1");
        assert_eq!(
            options.again("A5", 9),
            "assent-testnet chaos --seed 9 --only A5 --short --runs 1 --lives 3"
        );
    }

    #[test]
    fn bad_flags_are_told_why() {
        for (line, says) in [
            ("", "--seed"),
            ("--seed x", "invalid"),
            ("--seed -1", "unexpected"),
            ("--seed 1 --runs 0", "1..=1000"),
            ("--seed 1 --only Z9", "no such case"),
            ("--seed 1 --only B7", "it is not covered"),
            ("--seed 1 --lives 0", "1..=1000"),
            ("--seed 1 --steady-seconds 59", "60..=3600"),
            ("--seed 1 --output yaml", "invalid value"),
        ] {
            let said = parsed(line).unwrap_err();
            assert!(said.contains(says), "{line}: {said}");
        }
    }
}
