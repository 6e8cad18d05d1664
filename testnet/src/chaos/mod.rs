//! Chaos: the cases of FAULTS.md against real processes on loopback, under load, from one seed.
//!
//! ```text
//! cases/*      do something to the network           proxy        the links between nodes
//! template     what runs share                   waiting      until nodes settle or heal
//! world        a run's network and clients           supervisor   its processes, restarted by exit code
//! load, writes what clients send and were told       patients     made-up patients with a canary
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
mod supervisor;
mod template;
mod waiting;
mod world;
mod writes;

use std::path::PathBuf;
use std::time::Instant;

use cases::Case;
use report::{Report, Row};
use template::Template;
use world::World;

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
    #[arg(long, value_delimiter = ',', value_parser = known, conflicts_with = "short")]
    pub only: Vec<String>,
    /// A set of cases that takes at most ten minutes
    #[arg(long)]
    pub short: bool,
    /// How often each case runs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub runs: u64,
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
        let wanted = |case: &&Case| match self.only.is_empty() {
            true => case.short || !self.short,
            false => self.only.iter().any(|id| id == case.id),
        };
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
            skipped.push((case.id, why));
            continue;
        }
        rows.push(runs_of(case, &template, options).await);
    }
    Ok(Report::new(options.seed, rows, &skipped))
}

async fn runs_of(case: &'static Case, template: &Template, options: &Options) -> Row {
    let begin = Instant::now();
    let mut row = Row {
        id: case.id,
        runs: options.runs,
        passed: 0,
        worst: None,
        unit: case.unit,
        invariants: invariants::ALL.iter().map(|(id, _)| *id).collect(),
        faults: Vec::new(),
        seconds: 0.0,
    };
    for k in 0..options.runs {
        let seed = options.seed.wrapping_add(k);
        eprintln!("== {} with seed {seed}: {}", case.id, case.does);
        let since = Instant::now();
        let (figure, faults) = once(case, template, seed, options.short).await;
        row.worst = [row.worst, figure].into_iter().flatten().reduce(f64::max);
        row.invariants.retain(|id| !faults.iter().any(|(broken, _)| broken == id));
        row.passed += u64::from(faults.is_empty());
        let figure = figure.map_or_else(|| "none".into(), |value| format!("{value:.1} {}", case.unit));
        let held = if faults.is_empty() { "held" } else { "FAILED" };
        eprintln!("   {held}: {} {figure}; {:.0} s", case.figure, since.elapsed().as_secs_f64());
        for (id, fault) in faults {
            eprintln!("   {} with seed {seed}: {id}: {fault}", case.id);
            row.faults.push(format!("seed {seed}: {id}: {fault}"));
        }
    }
    row.seconds = begin.elapsed().as_secs_f64();
    row
}

/// One run: its figure, and what did not hold, by invariant or by the case's own text.
async fn once(
    case: &Case,
    template: &Template,
    seed: u64,
    short: bool,
) -> (Option<f64>, Vec<(&'static str, String)>) {
    let name = format!("{}-{seed}", case.id);
    let mut world = match World::start(template, &name, seed).await {
        Ok(world) => world,
        Err(error) => return (None, vec![("start", error.to_string())]),
    };
    let outcome = cases::run(case.id, &mut world, short).await;
    template.proxy.open_all();
    let mut faults = Vec::new();
    if let Err(error) = &outcome {
        faults.push(("case", format!("it broke off: {error}")));
    }
    match look::finish(&mut world).await {
        Ok(seen) => {
            for (id, check) in invariants::ALL {
                faults.extend(check(&seen).into_iter().map(|fault| (id, fault)));
            }
            let writes = seen.writes.iter().filter(|write| write.acknowledged).count();
            let heights = seen.sightings.iter().map(|s| s.height).max().unwrap_or(0);
            let permits = seen.checks.iter().filter(|check| check.permitted).count();
            eprintln!(
                "     {heights} heights; {writes} of {} writes acknowledged; {} withdrawals; {permits} of {} checks permitted",
                seen.writes.len(),
                seen.withdrawals.len(),
                seen.checks.len(),
            );
        }
        Err(error) => faults.push(("look", format!("the end could not be looked at: {error}"))),
    }
    faults.extend(std::mem::take(&mut world.faults).into_iter().map(|fault| ("case", fault)));
    let dir = world.dir.clone();
    drop(world);
    if faults.is_empty() {
        let _ = std::fs::remove_dir_all(dir); // room for the next
    }
    (outcome.ok(), faults)
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
        assert!(short.len() < all.len() && short.contains(&"B8"));
    }

    #[test]
    fn bad_flags_are_told_why() {
        for (line, says) in [
            ("", "--seed"),
            ("--seed x", "invalid"),
            ("--seed -1", "unexpected"),
            ("--seed 1 --runs 0", "1..=1000"),
            ("--seed 1 --only Z9", "no such case"),
            ("--seed 1 --only E1", "it is not covered"),
            ("--seed 1 --only A1 --short", "cannot be used with"),
            ("--seed 1 --output yaml", "invalid value"),
        ] {
            let said = parsed(line).unwrap_err();
            assert!(said.contains(says), "{line}: {said}");
        }
    }
}
