//! `assent checkpoint`: several nodes' signatures over one checkpoint, in one note; and a witness's own.

use std::path::{Path, PathBuf};

use assent_ledger::checkpoint::{cosign_note, KeyKind, VerifierKey, MAX_NOTE_BYTES};
use assent_ledger::keyfile::from_pem;
use assent_ledger::keys::SigningKey;
use serde_json::json;

use crate::commands::published::{leads, KeyArgs, Observer, Seen};
use crate::commands::views::{
    contradiction_json, contradiction_text, look, suspicions_json, suspicions_text, write_evidence, Round,
    Suspicion,
};
use crate::connect;
use crate::exit::{printable, Exit, Failure};
use crate::files::{self, NewFile, PUBLIC};
use crate::http::Site;
use crate::output::{fields, Report};
use crate::profile::Profile;
use crate::text;

/// Arguments of `assent checkpoint`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct CollectArgs {
    /// Where nodes publish their log: http://HOST:PORT
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// File for the note with all signatures
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// New folder for two notes that contradict each other
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
    /// Witness's key, PEM: cosign what was collected
    #[arg(long, value_name = "FILE", requires_all = ["name", "state"])]
    cosign: Option<PathBuf>,
    /// Name of the witness's key, such as witness.example
    #[arg(long, value_name = "NAME", requires = "cosign")]
    name: Option<String>,
    /// File for the last checkpoint that the witness cosigned
    #[arg(long, value_name = "FILE", requires = "cosign")]
    state: Option<PathBuf>,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Who cosigns, and what it cosigned last.
struct Witness<'a> {
    name: &'a str,
    key: SigningKey,
    state: &'a Path,
    last: Option<Seen>,
}

impl CollectArgs {
    /// Asks, compares, writes.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        for path in [&self.out, &self.evidence].into_iter().flatten() {
            files::refuse_existing(path)?;
        }
        let (observer, sites) = (self.keys.observer(profile)?, self.keys.sites(&self.urls)?);
        let witness = self.witness()?;
        let mut round = connect::run(async { Ok(look(&observer, &sites).await) })?;
        let cosigned = match &witness {
            Some(witness) => self.cosigned(witness, &mut round, &sites)?,
            None => None,
        };
        self.report(&observer, round, cosigned)
    }

    fn witness(&self) -> Result<Option<Witness<'_>>, Failure> {
        let (Some(path), Some(name), Some(state)) = (&self.cosign, &self.name, &self.state) else {
            return Ok(None);
        };
        let malformed = |path: &Path, why: String| {
            Failure::usage("MALFORMED_KEY", printable(&format!("{}: {why}", path.display())))
        };
        let key = from_pem(&files::read_text(path)?).map_err(|e| malformed(path, e.to_string()))?;
        let public = key.verifying_key().to_bytes();
        let verifier = VerifierKey::new(name, KeyKind::Cosignature, public)
            .map_err(|e| malformed(path, format!("--name: {e}")))?;
        let last = match state.exists() {
            false => None,
            true => {
                let note = files::read(state, MAX_NOTE_BYTES as u64)?;
                let own = Observer::of(verifier);
                let opened = own.open(&note).map_err(|why| {
                    Failure::usage("MALFORMED_STATE", printable(&format!("{}: {why}", state.display())))
                        .help("it is the memory of what this witness cosigned: put it back as it was")
                })?;
                Some(opened)
            }
        };
        Ok(Some(Witness { name, key, state, last }))
    }

    /// The witness's line, once it stands in its memory; none when there is nothing that it may sign.
    fn cosigned(
        &self,
        witness: &Witness<'_>,
        round: &mut Round,
        sites: &[Site],
    ) -> Result<Option<String>, Failure> {
        let Some(common) = round.common.clone() else { return Ok(None) };
        if let Some(last) = &witness.last {
            if last.checkpoint.origin != common.checkpoint.origin {
                let what = format!(
                    "{} is of the log {:?}, not {:?}",
                    witness.state.display(),
                    last.checkpoint.origin,
                    common.checkpoint.origin
                );
                return Err(
                    Failure::usage("OTHER_LOG", printable(&what)).help("give each log its own --state")
                );
            }
            round.contradict(last, &common);
            let asked = round.agree.iter().map(|n| &sites[*n]).next();
            if let (None, Some(site)) = (&round.contradiction, asked) {
                let grown = leads(site, &last.checkpoint, &common.checkpoint);
                if let Err(why) = connect::run(async { Ok(grown.await) })? {
                    let why = format!("nothing was cosigned: from what the witness saw before, {why}");
                    round.suspicions.push(Suspicion::new(site, why));
                    return Ok(None);
                }
            }
        }
        if round.contradiction.is_some() {
            return Ok(None);
        }
        let text = common.checkpoint.text();
        let malformed = |e| Failure::usage("MALFORMED_KEY", format!("--name: {e}"));
        let line =
            cosign_note(&text, witness.name, &witness.key, text::now_ms() / 1000).map_err(malformed)?;
        // In its memory before anybody has it.
        let mut file = NewFile::create(witness.state, PUBLIC)?;
        file.write(format!("{text}\n{line}").as_bytes())?;
        file.replace()?;
        Ok(Some(line))
    }

    fn report(&self, observer: &Observer, round: Round, cosigned: Option<String>) -> Result<Report, Failure> {
        let exit = round.exit();
        let (mut text, mut evidence, mut file) = (String::new(), Vec::new(), None);
        let mut said = json!({ "origin": null, "size": null, "root": null, "signed_by": [] });
        if let Some(pair) = &round.contradiction {
            evidence = write_evidence(self.evidence.as_deref(), pair)?;
            text += &contradiction_text(pair, &evidence, self.evidence.as_deref());
        } else if let Some(common) = &round.common {
            let checkpoint = &common.checkpoint;
            let (root, names) = (hex::encode(checkpoint.root), common.names());
            text +=
                &format!("{} of {} nodes asked signed one checkpoint\n", round.agree.len(), self.urls.len());
            text += &fields(&[
                ("log", printable(&checkpoint.origin)),
                ("leaves", checkpoint.size.to_string()),
                ("root", root.clone()),
                ("signed by", printable(&names.join(", "))),
            ]);
            said = json!({
                "origin": checkpoint.origin, "size": checkpoint.size, "root": root, "signed_by": names,
            });
            if let (Some(_), Some(name)) = (&cosigned, &self.name) {
                text += &fields(&[("cosigned by", name.clone())]);
            }
            if let Some(out) = &self.out {
                let note = common.note() + cosigned.as_deref().unwrap_or_default();
                files::write_new(out, note.as_bytes(), PUBLIC)?;
                text += &format!("{} written\n", out.display());
                file = Some(out);
            }
        }
        text += &suspicions_text(&round.suspicions);
        said["ok"] = (exit == Exit::Ok).into();
        said["file"] = json!(file);
        said["cosigned_by"] = json!(cosigned.and(self.name.as_ref()));
        said["asked"] = self.urls.len().into();
        said["contradiction"] = contradiction_json(&round.contradiction, &evidence);
        said["suspicions"] = suspicions_json(&round.suspicions);
        said["known_keys"] = observer.keys().into();
        Ok(Report::with(exit, text, said))
    }
}
