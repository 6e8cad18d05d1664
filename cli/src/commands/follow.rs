//! `assent audit watch`: follows several nodes' published logs, and raises an alarm when what they sign contradicts itself.
//!
//! ```text
//! every 10 s: each node's newest checkpoint ─▶ one log with the others?                       [`super::views`]
//!                                           ─▶ grown from the one that is pinned? ─▶ pinned (a file for each node)
//! two roots for one size ─▶ evidence folder, metric, exit 3        anything less ─▶ suspicion: said, counted, and on it goes
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use assent_ledger::checkpoint::MAX_NOTE_BYTES;
use assent_ledger::hash::sha256;
use serde_json::json;

use crate::commands::published::{leads, KeyArgs, Observer, Seen};
use crate::commands::views::{
    contradiction_json, contradiction_text, look, suspicions_json, suspicions_text, write_evidence, Round,
    Suspicion, EVIDENCE_FILES,
};
use crate::connect;
use crate::exit::{printable, Exit, Failure};
use crate::files::{self, NewFile, PUBLIC};
use crate::http::Site;
use crate::output::Report;
use crate::profile::Profile;
use crate::text;

/// Arguments of `assent audit watch`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct FollowArgs {
    /// Where nodes publish their log: http://HOST:PORT
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// Folder for what was seen last, and for evidence
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
    /// Look once, and end
    #[arg(long)]
    once: bool,
    /// File for Prometheus' textfile collector
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
    #[command(flatten)]
    keys: KeyArgs,
}

/// A site, and the file of what it signed last.
struct Followed {
    site: Site,
    file: PathBuf,
    pinned: Option<Seen>,
}

impl FollowArgs {
    /// Looks until there is a contradiction, or once.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let (observer, sites) = (self.keys.observer(profile)?, self.keys.sites(&self.urls)?);
        std::fs::create_dir_all(&self.state).map_err(|e| {
            Failure::error("UNWRITABLE", format!("{} can't be made: {e}", self.state.display()))
        })?;
        let mut followed =
            sites.iter().map(|site| self.pinned(&observer, site)).collect::<Result<Vec<_>, _>>()?;
        let mut known = Vec::new();
        connect::run(async {
            loop {
                let mut round = look(&observer, &sites).await;
                compare_with_pins(&observer, &mut followed, &mut round).await?;
                let report = self.report(&followed, &round)?;
                if self.once || round.contradiction.is_some() {
                    return Ok(report);
                }
                if known != round.suspicions {
                    eprint!("{}", suspicions_text(&round.suspicions));
                    if round.suspicions.is_empty() {
                        eprintln!("all nodes answer again, and have one log");
                    }
                    known.clone_from(&round.suspicions);
                }
                tokio::time::sleep(Duration::from_secs(self.every)).await;
            }
        })
    }

    fn pinned(&self, observer: &Observer, site: &Site) -> Result<Followed, Failure> {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = site.url.trim_start_matches("http://").chars().map(plain).take(60).collect();
        let id = hex::encode(&sha256(site.url.as_bytes())[..4]);
        let file = self.state.join(format!("{name}-{id}.note"));
        let pinned = match file.exists() {
            false => None,
            true => Some(observer.open(&files::read(&file, MAX_NOTE_BYTES as u64)?).map_err(|why| {
                Failure::usage("MALFORMED_STATE", printable(&format!("{}: {why}", file.display())))
                    .help("it is the memory of what this node signed: put it back as it was")
            })?),
        };
        Ok(Followed { site: site.clone(), file, pinned })
    }

    fn report(&self, followed: &[Followed], round: &Round) -> Result<Report, Failure> {
        let (mut text, mut evidence, mut folder) = (String::new(), Vec::new(), None);
        if let Some(pair) = &round.contradiction {
            let roots = pair.each_ref().map(|seen| hex::encode(&seen.checkpoint.root[..4]));
            let name = format!("evidence-{}-{}-{}", pair[0].checkpoint.size, roots[0], roots[1]);
            let path = self.state.join(name);
            // Found again, after a restart: the evidence is there.
            evidence = match path.exists() {
                true => EVIDENCE_FILES.to_vec(),
                false => write_evidence(Some(&path), pair)?,
            };
            text += &contradiction_text(pair, &evidence, Some(&path));
            folder = Some(path);
        }
        for one in followed {
            let size = one.pinned.as_ref().map_or(0, |seen| seen.checkpoint.size);
            text += &format!("{}  {size} leaves\n", one.site.url);
        }
        text += &suspicions_text(&round.suspicions);
        if let Some(file) = &self.metrics_file {
            let mut new = NewFile::create(file, PUBLIC)?;
            new.write(metrics(&self.state, followed, round).as_bytes())?;
            new.replace()?;
        }
        let pins = followed.iter().map(|one| {
            json!({ "node": one.site.url, "size": one.pinned.as_ref().map(|seen| seen.checkpoint.size) })
        });
        let exit = round.exit();
        let json = json!({
            "ok": exit == Exit::Ok, "nodes": pins.collect::<Vec<_>>(), "evidence": folder,
            "contradiction": contradiction_json(&round.contradiction, &evidence),
            "suspicions": suspicions_json(&round.suspicions),
        });
        Ok(Report::with(exit, text, json))
    }
}

/// Each node's newest checkpoint against its pin; pins it, unless something contradicts.
async fn compare_with_pins(
    observer: &Observer,
    followed: &mut [Followed],
    round: &mut Round,
) -> Result<(), Failure> {
    let mut grown = Vec::new();
    for (n, newest) in round.newest.clone() {
        let Followed { site, pinned, .. } = &followed[n];
        let Some(pinned) = pinned else {
            grown.push((n, newest));
            continue;
        };
        if round.contradict(pinned, &newest) {
            continue;
        }
        match leads(site, &pinned.checkpoint, &newest.checkpoint).await {
            Ok(()) => grown.push((n, newest)),
            Err(why) => {
                // Tiles are not signed. What it signs for the size that is pinned tells.
                let older = observer.ask(site, Some(pinned.checkpoint.size)).await;
                if !older.is_ok_and(|older| round.contradict(pinned, &older)) {
                    let why = format!("from what it signed before, {why}");
                    round.suspicions.push(Suspicion::new(site, why));
                }
            }
        }
    }
    if round.contradiction.is_some() {
        return Ok(());
    }
    for (n, newest) in grown {
        let one = &mut followed[n];
        if one.pinned.as_ref().is_some_and(|pinned| pinned.checkpoint == newest.checkpoint) {
            continue;
        }
        let mut file = NewFile::create(&one.file, PUBLIC)?;
        file.write(newest.note().as_bytes())?;
        file.replace()?;
        one.pinned = Some(newest);
    }
    Ok(())
}

/// In Prometheus' text form.
fn metrics(state: &Path, followed: &[Followed], round: &Round) -> String {
    let found = std::fs::read_dir(state).map_or(0, |entries| {
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.starts_with("evidence-")).count()
    });
    let mut text = String::new();
    let mut family = |name: &str, help: &str, lines: Vec<(String, u64)>| {
        text += &format!("# HELP {name} {help}.\n# TYPE {name} gauge\n");
        text += &lines.iter().map(|(label, value)| format!("{name}{label} {value}\n")).collect::<String>();
    };
    // A URL that was taken has no quotation mark, no backslash and no newline.
    let of = |one: &Followed| format!("{{node=\"{}\"}}", one.site.url);
    let suspect = |one: &&Followed| round.suspicions.iter().any(|s| s.site == one.site.url);
    let leaves = |one: &Followed| one.pinned.as_ref().map_or(0, |seen| seen.checkpoint.size);
    family(
        "assent_watch_contradictions",
        "Proven contradictions whose evidence lies in the folder",
        vec![(String::new(), found as u64)],
    );
    family(
        "assent_watch_suspicious",
        "1 while a node does not answer, or not with what shows one log",
        followed.iter().map(|one| (of(one), u64::from(suspect(&one)))).collect(),
    );
    family(
        "assent_watch_leaves",
        "Leaves in the newest checkpoint that is pinned",
        followed.iter().map(|one| (of(one), leaves(one))).collect(),
    );
    family(
        "assent_watch_looked_seconds",
        "When all this was seen, in seconds since the Unix epoch",
        vec![(String::new(), text::now_ms() / 1000)],
    );
    text
}
