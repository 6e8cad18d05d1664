//! What is printed: a report on stdout as text or one JSON object, failures and progress on stderr.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::{presets, ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use crate::exit::{printable, Exit, Failure};

/// Form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// What a command found, in both forms.
pub struct Report {
    exit: Exit,
    text: String,
    json: Value,
}

impl Report {
    /// A report of something done.
    pub fn ok(text: impl Into<String>, json: impl Serialize) -> Self {
        Self::with(Exit::Ok, text, json)
    }

    /// A report whose exit code says more.
    pub fn with(exit: Exit, text: impl Into<String>, json: impl Serialize) -> Self {
        // The reports are maps with text keys, which always serialize.
        let json = serde_json::to_value(json).unwrap_or(Value::Null);
        Self { exit, text: text.into(), json }
    }
}

impl Report {
    /// Its exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Says something first, and adds a field.
    pub fn preceded_by(mut self, text: String, field: &str, value: Value) -> Self {
        self.text = text + &self.text;
        self.json[field] = value;
        self
    }

    /// Not done after all: success becomes `exit`.
    pub fn at_least(mut self, exit: Exit) -> Self {
        if self.exit == Exit::Ok {
            self.exit = exit;
            self.json["ok"] = (exit == Exit::Ok).into();
        }
        self
    }
}

/// Prints the outcome of a command and says the exit code.
pub fn finish(format: Format, outcome: Result<Report, Failure>) -> Exit {
    let (exit, stdout) = match outcome {
        Ok(report) => match format {
            Format::Text => (report.exit, report.text.trim_end().to_owned()),
            Format::Json => (report.exit, report.json.to_string()),
        },
        Err(failure) => {
            print_failure(&failure);
            match format {
                Format::Text => (failure.exit, String::new()),
                Format::Json => (failure.exit, failure.to_json().to_string()),
            }
        }
    };
    if stdout.is_empty() {
        return exit;
    }
    match writeln!(std::io::stdout(), "{stdout}") {
        Ok(()) => exit,
        // Whoever closed the pipe has read enough; but an answer that was not delivered is not a success.
        Err(_) if exit == Exit::Ok => Exit::Error,
        Err(_) => exit,
    }
}

fn print_failure(failure: &Failure) {
    let (bold, plain) = if color() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    eprintln!("{bold}error:{plain} {} [{}]", failure.what, failure.reason);
    if !failure.help.is_empty() {
        eprintln!("help: {}", failure.help);
    }
}

/// Color only on a terminal and without NO_COLOR (no-color.org: any value but the empty one).
fn color() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A spinner on stderr; nothing at all when that is not a terminal.
pub fn progress(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {human_pos} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Progress through a file of so many bytes, with rate and time left, on stderr; nothing when that is not a terminal.
pub fn reading(bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes);
    let shape = "{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(shape) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A table with a head, in plain characters.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.force_no_tty().set_header(head);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// Names and values in two columns.
pub fn fields(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Columns of the text that people read.
const COLUMNS: usize = 80;

/// A head and a text behind it in lines of at most 80 columns, where words are shorter; control characters become spaces.
pub fn paragraph(head: &str, text: &str) -> String {
    let indent = if head.trim().is_empty() { head.to_owned() + "  " } else { " ".repeat(head.len()) };
    let (mut out, mut line) = (String::new(), head.to_owned());
    let mut is_empty = true;
    for word in printable(text).split(' ').filter(|word| !word.is_empty()) {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            out += &format!("{line}\n");
            line = indent.clone();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    out + &line + "\n"
}

/// Milliseconds since the Unix epoch as RFC 3339 in UTC.
pub fn time(ms: u64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    at.ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| format!("{ms} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_fit_80_columns() {
        assert_eq!(paragraph("rule: ", "one\u{1b}two"), "rule: one two\n");
        let long = "word ".repeat(40) + &"x".repeat(100) + " end";
        let said = paragraph("rule: ", &long);
        assert!(said.lines().skip(1).all(|line| line.starts_with("      ") && !line.ends_with(' ')));
        assert!(said.lines().filter(|line| line.chars().count() > 80).count() == 1, "only the one long word");
        assert_eq!(
            said.split_whitespace().skip(1).collect::<Vec<_>>(),
            long.split_whitespace().collect::<Vec<_>>()
        );
        assert_eq!(paragraph("", ""), "\n");
    }
}
