//! A case's runs, one by one: a network of its own, the script, the end, the invariants.

use std::time::Instant;

use super::cases::{Case, Length};
use super::report::Row;
use super::template::Template;
use super::world::World;
use super::{cases, invariants, look, Options};

/// Runs a case as often as was asked for, and tells each.
pub(super) async fn runs_of(case: &'static Case, template: &Template, options: &Options) -> Row {
    let begin = Instant::now();
    let mut row = Row {
        id: case.id,
        runs: options.runs,
        passed: 0,
        worst: None,
        unit: case.unit,
        invariants: judged(case.id).map(|(id, _)| id).collect(),
        faults: Vec::new(),
        seconds: 0.0,
    };
    for k in 0..options.runs {
        let seed = options.seed.wrapping_add(k);
        eprintln!("== {} with seed {seed}: {}", case.id, case.does);
        let since = Instant::now();
        let (figure, faults) = once(case, template, seed, options.length()).await;
        row.worst = [row.worst, figure].into_iter().flatten().reduce(f64::max);
        row.invariants.retain(|id| !faults.iter().any(|(broken, _)| broken == id));
        row.passed += u64::from(faults.is_empty());
        let figure = figure.map_or_else(|| "none".into(), |value| format!("{value:.1} {}", case.unit));
        let held = if faults.is_empty() { "held" } else { "FAILED" };
        eprintln!("   {held}: {} {figure}; {:.0} s", case.figure, since.elapsed().as_secs_f64());
        if !faults.is_empty() {
            eprintln!("   {} with seed {seed}; to repeat it: {}", case.id, options.again(case.id, seed));
        }
        for (id, fault) in faults {
            eprintln!("   {} with seed {seed}: {id}: {fault}", case.id);
            row.faults.push(format!("seed {seed}: {id}: {fault}"));
        }
    }
    row.seconds = begin.elapsed().as_secs_f64();
    row
}

/// The invariants that are judged after a case.
fn judged(case: &'static str) -> impl Iterator<Item = (&'static str, invariants::Check)> {
    invariants::ALL.into_iter().filter(move |(id, _)| cases::judged(case, id))
}

/// Where a run's time goes.
struct Stopwatch {
    since: Instant,
    told: Vec<String>,
}

impl Stopwatch {
    fn start() -> Self {
        Self { since: Instant::now(), told: Vec::new() }
    }

    fn lap(&mut self, what: &str) {
        self.told.push(format!("{what} {:.1} s", self.since.elapsed().as_secs_f64()));
        self.since = Instant::now();
    }
}

/// One run: its figure, and what did not hold, by invariant or by the case's own text.
async fn once(
    case: &Case,
    template: &Template,
    seed: u64,
    length: Length,
) -> (Option<f64>, Vec<(&'static str, String)>) {
    let name = format!("{}-{seed}", case.id);
    let mut watch = Stopwatch::start();
    let mut world = match World::start(template, &name, seed).await {
        Ok(world) => world,
        Err(error) => return (None, vec![("start", error.to_string())]),
    };
    watch.lap("start");
    let outcome = cases::run(case.id, &mut world, length).await;
    watch.lap("case");
    template.proxy.open_all();
    let mut faults = Vec::new();
    if let Err(error) = &outcome {
        faults.push(("case", format!("it broke off: {error}")));
    }
    match look::finish(&mut world).await {
        Ok(seen) => {
            for (id, check) in judged(case.id) {
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
    watch.lap("checks");
    eprintln!("     {}", watch.told.join(", "));
    faults.extend(std::mem::take(&mut world.faults).into_iter().map(|fault| ("case", fault)));
    let dir = world.dir.clone();
    drop(world);
    if faults.is_empty() {
        let _ = std::fs::remove_dir_all(dir); // room for the next
    }
    (outcome.ok(), faults)
}
