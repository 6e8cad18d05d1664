//! The figures as a table, as JSON (its form is fixed in INTERFACES.md), and as testnet/BENCHMARKS.md.

use std::fmt::Write;
use std::path::Path;

use serde_json::{json, Value};

use super::figure::{Figure, Target};
use crate::error::{Error, While};

/// Where the time goes, for figures that may miss their target: written by hand from profiles, shown only beside a miss.
const WHERE_THE_TIME_GOES: &str = include_str!("where_the_time_goes.txt");

/// What a run gave.
pub struct Report<'a> {
    figures: &'a [Figure],
    wrong: &'a [String],
    seconds: u64,
}

fn command(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

fn line_of(path: &str, name: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
    line.split(':').nth(1).unwrap_or_default().trim().to_owned()
}

/// What the figures were measured on.
fn machine() -> Value {
    json!({
        "cpu": line_of("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "memory": line_of("/proc/meminfo", "MemTotal"),
        "kernel": command("uname", &["-sr"]),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn target(figure: &Figure) -> String {
    match figure.target {
        Target::AtLeast(v) => format!("at least {}", short(v)),
        Target::AtMost(v) => format!("at most {}", short(v)),
        Target::None => String::new(),
    }
}

fn verdict(figure: &Figure) -> &'static str {
    match (figure.target, figure.met) {
        (Target::None, _) => "",
        (_, true) => "met",
        (_, false) => "MISSED",
    }
}

impl<'a> Report<'a> {
    /// Of a run whose measurements took at most so many seconds each.
    pub fn new(figures: &'a [Figure], wrong: &'a [String], seconds: u64) -> Self {
        Self { figures, wrong, seconds }
    }

    /// One object.
    pub fn json(&self) -> String {
        json!({ "schema": 1, "machine": machine(), "figures": self.figures, "wrong": self.wrong }).to_string()
    }

    /// For a terminal of 80 columns.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for f in self.figures {
            let target = match f.target {
                Target::AtLeast(v) => format!(">= {}", short(v)),
                Target::AtMost(v) => format!("<= {}", short(v)),
                Target::None => String::new(),
            };
            let (value, verdict) = (short(f.value), verdict(f));
            let _ = writeln!(text, "{:<30} {value:>9} {:<9} {target:<10} {verdict}", f.name, f.unit);
        }
        let (met, of) = self.met();
        let _ = write!(text, "{met} of {of} targets met");
        text
    }

    fn met(&self) -> (usize, usize) {
        let with: Vec<_> = self.figures.iter().filter(|f| f.target != Target::None).collect();
        (with.iter().filter(|f| f.met).count(), with.len())
    }

    /// testnet/BENCHMARKS.md.
    pub fn markdown(&self) -> String {
        let mut text =
            String::from("# Benchmarks\n\nWritten by `assent-testnet bench --report testnet/BENCHMARKS.md`");
        let machine = machine();
        let (met, of) = self.met();
        let _ = write!(
            text,
            " in one run, measurements of up to {} s each. Four validator processes, load and ceilings share one machine: {}, {} \
             cores, {}, {}. Loopback, synced writes, signed entries, mutual TLS. Compare ratios, not values: a ceiling is what the \
             same machine did in the same run.\n\n{met} of {of} targets met.\n\n\
             | figure | value | unit | target | | ceiling | ratio | samples |\n|---|---|---|---|---|---|---|---|\n",
            self.seconds,
            machine["cpu"].as_str().unwrap_or_default(),
            machine["cores"],
            machine["memory"].as_str().unwrap_or_default(),
            machine["kernel"].as_str().unwrap_or_default(),
        );
        for f in self.figures {
            let ceiling =
                f.ceiling.as_ref().map(|c| format!("{} {}", c.name, short(c.value))).unwrap_or_default();
            let ratio = f.ratio.map(short).unwrap_or_default();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {ceiling} | {ratio} | {} |",
                f.name,
                short(f.value),
                f.unit,
                target(f),
                verdict(f),
                f.samples
            );
        }
        if !self.wrong.is_empty() {
            let _ = writeln!(text, "\n**Lost or wrong in this run:** {}", self.wrong.join("; "));
        }
        let missed: Vec<_> = self.figures.iter().filter(|f| !f.met).map(|f| f.name).collect();
        if !missed.is_empty() {
            text.push_str("\n## Where the time goes in what misses its target\n\n");
            for line in WHERE_THE_TIME_GOES.lines() {
                let names = line.split(": ").next().unwrap_or_default();
                if names.split(", ").any(|name| missed.contains(&name)) {
                    let _ = writeln!(text, "- {line}");
                }
            }
        }
        text
    }

    /// Writes the report.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        std::fs::write(path, self.markdown()).during(|| format!("writing {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_is_named_and_explained() {
        let figures = [
            Figure::new("commit_ops_per_s", 2_000.0, "ops/s", Target::AtLeast(3_000.0), 9, 1.0),
            Figure::new("commit_p50_ms", 50.0, "ms", Target::AtMost(60.0), 9, 1.0),
        ];
        let report = Report::new(&figures, &[], 1);
        assert!(report.table().ends_with("1 of 2 targets met"));
        let text = report.markdown();
        assert!(text.contains("| commit_ops_per_s | 2000 | ops/s | at least 3000 | MISSED |"), "{text}");
        assert!(text.contains("- commit_ops_per_s"), "{text}");
        assert!(!text.contains("- commit_p50_ms: "), "{text}");
        assert!(report.table().lines().all(|line| line.len() <= 80));
    }
}
