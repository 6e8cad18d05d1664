//! Several nodes' published logs, side by side: one log, two, or not known.
//!
//! ```text
//! each node ─▶ newest checkpoint        the smallest of them is what all are asked for
//!          ─▶ checkpoint of that size   another root, signed: CONTRADICTION, proven by the two notes
//!          ─▶ tiles from there to its newest one
//! no answer, no signature that counts, tiles that make no proof: SUSPICION
//! ```

use std::path::Path;

use assent_ledger::split::make_split;
use serde_json::{json, Value};

use crate::commands::published::{leads, Observer, Seen};
use crate::exit::{printable, Exit, Failure};
use crate::files::{self, NewFolder, PUBLIC};
use crate::http::Site;

/// Names of the files of a contradiction.
pub const EVIDENCE_FILES: [&str; 3] = ["one.note", "other.note", "split.evidence"];

/// What is no proof: of whom, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// URL.
    pub site: String,
    /// In words.
    pub why: String,
}

impl Suspicion {
    /// Of a site.
    pub fn new(site: &Site, why: impl Into<String>) -> Self {
        Self { site: site.url.clone(), why: printable(&why.into()) }
    }
}

/// What was seen at one time.
#[derive(Debug, Default)]
pub struct Round {
    /// The newest checkpoint of each site that has one, by the site's number.
    pub newest: Vec<(usize, Seen)>,
    /// The smallest of them, with the signatures of all who signed it.
    pub common: Option<Seen>,
    /// Numbers of the sites that signed it.
    pub agree: Vec<usize>,
    /// Two signed checkpoints that can't be of one log.
    pub contradiction: Option<[Seen; 2]>,
    /// What is no proof.
    pub suspicions: Vec<Suspicion>,
}

impl Round {
    /// The exit code that this comes to.
    pub fn exit(&self) -> Exit {
        match (&self.contradiction, self.suspicions.is_empty() && self.common.is_some()) {
            (Some(_), _) => Exit::Verification,
            (None, true) => Exit::Ok,
            (None, false) => Exit::Undecided,
        }
    }

    /// Keeps the first contradiction.
    pub fn contradict(&mut self, one: &Seen, other: &Seen) -> bool {
        let found = one.contradicts(other);
        if found && self.contradiction.is_none() {
            self.contradiction = Some([one.clone(), other.clone()]);
        }
        found
    }

    /// Takes over the signatures of a checkpoint that says the same.
    fn merge(&mut self, site: usize, seen: &Seen) {
        let Some(common) = &mut self.common else { return };
        for (key, line) in &seen.signatures {
            if !common.signatures.iter().any(|(known, _)| known == key) {
                common.signatures.push((key.clone(), line.clone()));
            }
        }
        self.agree.push(site);
    }
}

/// Asks every site, and compares.
pub async fn look(observer: &Observer, sites: &[Site]) -> Round {
    let mut round = Round::default();
    for (n, site) in sites.iter().enumerate() {
        match observer.ask(site, None).await {
            Ok(seen) => round.newest.push((n, seen)),
            Err(why) => round.suspicions.push(Suspicion::new(site, why)),
        }
    }
    let newest = round.newest.clone();
    let Some((_, base)) = newest.iter().min_by_key(|(_, seen)| seen.checkpoint.size) else { return round };
    round.common = Some(base.clone());
    for (n, seen) in &newest {
        let site = &sites[*n];
        if seen.checkpoint.origin != base.checkpoint.origin {
            let why = format!("its log is {:?}, not {:?}", seen.checkpoint.origin, base.checkpoint.origin);
            round.suspicions.push(Suspicion::new(site, why));
            continue;
        }
        if seen.checkpoint.size == base.checkpoint.size {
            if !round.contradict(base, seen) {
                round.merge(*n, seen);
            }
            continue;
        }
        match observer.ask(site, Some(base.checkpoint.size)).await {
            Err(why) => round.suspicions.push(Suspicion::new(site, why)),
            Ok(older) if round.contradict(base, &older) => {}
            Ok(older) => match leads(site, &older.checkpoint, &seen.checkpoint).await {
                Ok(()) => round.merge(*n, &older),
                Err(why) => round.suspicions.push(Suspicion::new(site, why)),
            },
        }
    }
    round
}

/// Both notes in a new folder, for any verifier of C2SP notes, and both in one file for `assent verify`. Their names.
pub fn write_evidence(out: Option<&Path>, pair: &[Seen; 2]) -> Result<Vec<&'static str>, Failure> {
    let Some(out) = out else { return Ok(Vec::new()) };
    let folder = NewFolder::create(out, "name a folder that is not there yet")?;
    let notes = pair.each_ref().map(Seen::note);
    let split = make_split([(&pair[0].checkpoint.root, &notes[0]), (&pair[1].checkpoint.root, &notes[1])]);
    for (name, bytes) in EVIDENCE_FILES.iter().zip([notes[0].as_bytes(), notes[1].as_bytes(), &split]) {
        files::write_new(&folder.path().join(name), bytes, PUBLIC)?;
    }
    folder.commit()?;
    Ok(EVIDENCE_FILES.to_vec())
}

/// Suspicions in words.
pub fn suspicions_text(found: &[Suspicion]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let lines = found.iter().map(|s| format!("suspicion  {}: {}\n", s.site, s.why));
    lines.collect::<String>() + "A suspicion proves nothing: the node, or what lies between, may be down.\n"
}

/// Suspicions as JSON.
pub fn suspicions_json(found: &[Suspicion]) -> Value {
    found.iter().map(|s| json!({ "node": s.site, "why": s.why })).collect()
}

/// Two checkpoints of one size in words.
pub fn contradiction_text(pair: &[Seen; 2], files: &[&str], out: Option<&Path>) -> String {
    let size = pair[0].checkpoint.size;
    let mut text = format!("CONTRADICTION: two roots are signed for {size} leaves of one log\n");
    for seen in pair {
        let root = hex::encode(seen.checkpoint.root);
        text += &format!("root {root}\n  signed by {}\n", printable(&seen.names().join(", ")));
    }
    match (out, files.is_empty()) {
        (Some(out), false) => {
            text += &format!("Both notes are in {}: any verifier of C2SP notes takes them.\n", out.display());
            text += "split.evidence there holds both: assent verify FILE --checkpoint-key VKEY...\n";
        }
        _ => text += "Keep both notes: name a folder for them with --evidence.\n",
    }
    text + "Who voted for both, `assent audit evidence --compare` finds in two nodes' exports.\n"
}

/// The same as JSON, with the notes.
pub fn contradiction_json(pair: &Option<[Seen; 2]>, files: &[&str]) -> Value {
    pair.as_ref().map_or(Value::Null, |pair| {
        let sides = pair.each_ref().map(|seen| {
            json!({ "root": hex::encode(seen.checkpoint.root), "signed_by": seen.names(), "note": seen.note() })
        });
        json!({ "size": pair[0].checkpoint.size, "sides": sides, "files": files })
    })
}
