//! How the cases are told: a table for people, one JSON object for programs, and `CHAOS.md`.

use std::fmt::Write as _;
use std::path::Path;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableComponent};
use serde::Serialize;

use super::cases;
use crate::error::{Error, While};

/// Widest line of the table, in columns.
const WIDTH: u16 = 80;

/// What became of a case, all its runs together.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its id in FAULTS.md.
    pub id: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// In how many runs everything held.
    pub passed: u64,
    /// The largest figure of all runs; none when no run came that far.
    pub worst: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
    /// Invariants that were checked and held in every run.
    pub invariants: Vec<&'static str>,
    /// What was wrong, with the seed that shows it.
    #[serde(skip)]
    pub faults: Vec<String>,
    /// How long its runs took, in seconds.
    #[serde(skip)]
    pub seconds: f64,
}

#[derive(Serialize)]
struct NotCovered {
    id: &'static str,
    why: String,
}

/// All of it.
#[derive(Serialize)]
pub struct Report {
    seed: u64,
    cases: Vec<Row>,
    not_covered: Vec<NotCovered>,
}

impl Report {
    /// Of these rows; `skipped` are cases that could not run on this machine.
    pub fn new(seed: u64, cases: Vec<Row>, skipped: &[(&'static str, String)]) -> Self {
        let skipped = skipped.iter().map(|(id, why)| NotCovered { id, why: why.clone() });
        let never = cases::NOT_COVERED.iter().map(|(id, why)| NotCovered { id, why: (*why).to_owned() });
        Self { seed, cases, not_covered: skipped.chain(never).collect() }
    }

    /// True when every run of every case held, and there was one.
    pub fn ok(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(|row| row.runs > 0 && row.passed == row.runs)
    }

    /// `{seed, cases:[{id, runs, passed, worst, unit, invariants:[]}], not_covered:[{id, why}]}`.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".into())
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table
            .load_preset(UTF8_HORIZONTAL_ONLY)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(WIDTH);
        table.remove_style(TableComponent::HorizontalLines).remove_style(TableComponent::MiddleIntersections);
        table.set_header(["case", "what is done", "runs", "passed", "worst", "which is"]);
        for row in &self.cases {
            let case = case_of(row.id);
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            table.add_row([
                Cell::new(row.id),
                Cell::new(case.map_or("", |c| c.does)),
                right(row.runs.to_string()),
                right(row.passed.to_string()),
                right(worst(row)),
                Cell::new(case.map_or("", |c| c.figure)),
            ]);
        }
        let held = self.cases.iter().filter(|row| row.passed == row.runs).count();
        let (all, left) = (self.cases.len(), self.not_covered.len());
        format!(
            "{}\nseed {}: {held} of {all} cases held; {left} of FAULTS.md are not covered, see testnet/CHAOS.md",
            table.trim_fmt(),
            self.seed
        )
    }

    /// testnet/CHAOS.md.
    pub fn markdown(&self, command: &str) -> String {
        let mut text = format!(
            "# Chaos\n\nWritten by `{command}`. Four `assentd` processes on loopback, each link between them through a proxy that can \
             cut, stall, delay and thin it per direction, a supervisor that restarts by exit code as the unit file does, and a load \
             of about 200 writes a second, checks and withdrawals. After each run the invariants are checked on what was seen: \
             S1 to S7 and L1. `--seed N --only ID` repeats a run; run k of `--runs` has the seed N + k.\n\n\
             | case | what is done | runs | passed | worst | | seconds a run |\n|---|---|---|---|---|---|---|\n",
        );
        for row in &self.cases {
            let case = case_of(row.id);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {:.0} |",
                row.id,
                case.map_or("", |c| c.does),
                row.runs,
                row.passed,
                worst(row),
                case.map_or("", |c| c.figure),
                row.seconds / row.runs.max(1) as f64,
            );
        }
        text.push_str(WHAT_IS_CHECKED);
        text.push_str("\n## Not covered, and why\n\n| case | why |\n|---|---|\n");
        for left in &self.not_covered {
            let _ = writeln!(text, "| {} | {} |", left.id, left.why);
        }
        for row in self.cases.iter().filter(|row| !row.faults.is_empty()) {
            let _ = writeln!(text, "\n**{} did not hold:** {}", row.id, row.faults.join("; "));
        }
        text
    }

    /// Writes the page.
    pub fn write(&self, path: &Path, command: &str) -> Result<(), Error> {
        std::fs::write(path, self.markdown(command)).during(|| format!("writing {}", path.display()))
    }
}

/// What stands under the table.
const WHAT_IS_CHECKED: &str = "
## What is checked after each run

| invariant | how |
|---|---|
| S1 | header hash and state root of every height of each node's export, and of some blocks that it serves singly |
| S2 | `assent audit verify` of each node's export, and of a copy with one bit flipped |
| S3 | every handle that was acknowledged to a client is on each node's ledger |
| S4 | all answers to one request id name the same slots, no slot is created twice, none is there that was not asked for |
| S5 | no PERMIT to a question sent over 1 s after a withdrawal was acknowledged, or over 30 s after the node was cut off |
| S6 | a string in every patient's identifier is in no data folder, log, metric or export, nor between the nodes |
| S7 | no panic in a log, no exit that the case did not cause, all nodes stopped within 10 s of SIGTERM |
| L1 | a new write is committed within 10 s of each healing (B8: 15 s), through any node that is connected |

## What these checks leave out

- **S5**: a node that was cut off for less than `max_staleness` belongs to the majority again from when it is connected to a quorum, not
  from when its links heal: nobody can tell it anything before. One that was cut off for longer has no such time.
- **L1 in B1 and A6-long** is asked of any node. The figure is the first write through the node that was away: it comes when the node has
  caught up, which takes the longer the more blocks it missed, so it has no limit.
- **A5** has 40 lives unless `--lives` says 200.
- **H2**: a stranger may get a stream of the engine's sync protocol agreed on before its connection ends (3 of 20 did). What is checked
  is that it ends within 5 s and without an answer; no request is sent.
- **C3**: the node looks at the free space and ends before a write fails. What it does when one fails is C5's.
- **G4**: the memory of patients' nonces is the node's own, and a restart forgets it. A read that is replayed at another node or after a
  restart within 300 s is not tested here, and by the code it is answered.
- **S6** searches bytes as they lie: a store may hold the string compressed. Exports are searched too.
- **A7**: the victim is the one whose turn comes, but it may be stopped a few blocks late: then it misses a later turn. That a turn of its
  own was missed is read from the headers.
- **A10, C2, C7**: the vault stays, as the operator guide says; what a node without its vault can still do is not looked at.
- **C2**: a bit of a file that is never read again is not found, and does no harm: several are flipped, until one is found.
  `assent-testnet demo --tamper` changes bits of blocks, which an export reads all: each of those is found, file and bytes named.
- **R1** looks at resident memory for `--steady-seconds` (1,200). Growth is judged over the second half: in the first the stores' write
  buffers fill. A shorter run judges the limit alone.
- **A11**: the copy has the original's peer ids, since it would not start with others than the ledger names. A node that is connected to one
  of the two does not hear the other: so one node hears the original, two hear the copy, and pass on what they hear. Copied is the whole
  `data/`, votes too. Both start while nobody writes: under load the later one finds the other's signature in a block and does not vote
  (`another process signs with this vote key`), so that there is no evidence. The clients talk to the original.
- **E8**: a fork is what two liars of four can do, and S1 to S5 and L1 suppose fewer: only S6 and S7 are judged. The case looks at its exports
  itself: each one of a side against each one of the other convicts both liars and nobody else, by files that hold alone.
- **F9**: the load ends before the two are lost: what they alone have committed is lost with them, as the operator guide says.
- **C10**: the liar offers more blocks than all others, so that it is asked first. The load ends before.
- **C9**: the load ends before the nodes prune, since S3 and S4 need entries: they are judged by one node's whole export from before, by the
  header that each pruned export has in common with it, and by the blocks since.
- **F1, F2**: nodes that join are dialed at their own addresses, beside the proxies: the canary is looked for in their files, not in what
  they send. F1 adds and removes three once; `--runs 10` does it ten times. F2 may lose 20% before it fails, since the machine's own noise
  is more than 5%; its figure is what was lost.
- `--short` isolates for 40 s instead of 60 s in B1.
";

fn case_of(id: &str) -> Option<&'static cases::Case> {
    cases::ALL.iter().find(|case| case.id == id)
}

fn worst(row: &Row) -> String {
    match row.worst {
        Some(value) if row.unit == "s" => format!("{value:.1} s"),
        Some(value) => format!("{value:.0} {}", row.unit),
        None => "none".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(passed: u64) -> Report {
        let row = |id| Row {
            id,
            runs: 2,
            passed,
            worst: Some(1.25),
            unit: "s",
            invariants: vec!["S1", "L1"],
            faults: if passed < 2 { vec!["seed 8: S1: a fork".into()] } else { Vec::new() },
            seconds: 60.0,
        };
        Report::new(7, vec![row("A1"), row("D4")], &[("C3", "needs root".into())])
    }

    #[test]
    fn the_json_has_the_fixed_form() {
        let value: serde_json::Value = serde_json::from_str(&report(2).json()).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 3);
        assert_eq!(value["seed"], 7);
        let first = serde_json::json!({
            "id": "A1", "runs": 2, "passed": 2, "worst": 1.25, "unit": "s", "invariants": ["S1", "L1"]
        });
        assert_eq!(value["cases"][0], first);
        assert_eq!(value["not_covered"][0], serde_json::json!({"id": "C3", "why": "needs root"}));
        assert_eq!(value["not_covered"].as_array().unwrap().len(), 1 + cases::NOT_COVERED.len());
    }

    #[test]
    fn the_table_fits_and_the_page_names_what_failed() {
        let table = report(2).table();
        assert!(table.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{table}");
        assert!(report(2).ok() && !report(1).ok());
        assert!(!Report::new(1, Vec::new(), &[]).ok(), "no case proves nothing");
        let page = report(1).markdown("assent-testnet chaos");
        assert!(page.contains("**A1 did not hold:** seed 8: S1: a fork"), "{page}");
        assert!(
            page.contains("| A1 | kill -9 one of four") && page.contains("| B7 | real packet loss"),
            "{page}"
        );
    }
}
