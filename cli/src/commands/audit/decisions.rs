//! `assent audit decisions`: past decisions about one patient made again, from opened bodies and a ledger export, asking nobody.

use std::path::{Path, PathBuf};

use assent_ledger::audit::{ChainVerifier, Fault, Level, RecordKind, PRUNED, RECOVERY};
use assent_ledger::decisions::{
    decode_openings, replay, Opened, Records, SlotHistory, DECISIONS_MAGIC, MAX_DECISIONS_BYTES,
};
use assent_ledger::late::LATE_MAGIC;
use assent_ledger::receipts::{BUNDLE_MAGIC, MAX_BUNDLE_BYTES};
use assent_proto::ledger::v1::{DecisionOpenings, LateBundle, RecordBundle};
use prost::Message;
use serde_json::json;

use super::read::{verify, Gather};
use super::replayed::{report, Again};
use super::report::{fault_json, fault_text};
use crate::commands::checkpoint::Pins;
use crate::commands::recoveries::RecoveryArgs;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::output::Report;
use crate::profile::{AnchorArgs, Profile};

/// Arguments of `assent audit decisions`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct DecisionsArgs {
    /// Openings, from `assent audit openings`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Export of the ledger, from any node
    #[arg(long, value_name = "FILE")]
    export: PathBuf,
    /// Bundle that a recipient keeps, for its records
    #[arg(long, value_name = "FILE")]
    bundle: Vec<PathBuf>,
    #[command(flatten)]
    recoveries: RecoveryArgs,
    #[command(flatten)]
    anchor: AnchorArgs,
}

impl Gather for SlotHistory {
    fn take(&mut self, kind: RecordKind, payload: &[u8], verifier: &ChainVerifier) -> Result<(), Fault> {
        self.read(kind, payload, verifier).map_err(|why| unfollowed(verifier, why))
    }
}

fn unfollowed(verifier: &ChainVerifier, found: String) -> Fault {
    let height = verifier.tip().map_or(0, |tip| tip.height);
    let expected = "the ledger that the openings are of".to_owned();
    Fault { height, index: None, kind: "openings", expected, found }
}

impl DecisionsArgs {
    /// Verifies the export, opens what the file opens, and decides again.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let anchor = self.anchor.resolve(profile)?;
        let file = self.openings()?;
        let records = self.bundles()?;
        let accepted = || self.recoveries.accepted();
        let make = || (ChainVerifier::new(Level::Full, anchor).accepting(accepted()), SlotHistory::of(&file));
        let (verifier, outcome) = verify(&self.export, make, &Pins::default()).map_err(|e| {
            Failure::usage("UNREADABLE", format!("{} can't be read: {e}", self.export.display()))
        })?;
        let followed = |history: SlotHistory| match history.finish(&verifier) {
            Ok(()) => Ok(history),
            Err(why) => Err(unfollowed(&verifier, why)),
        };
        match outcome.and_then(followed) {
            Ok(history) => {
                let opened = Opened::of(&file, &history, records);
                let replay = replay(&history, &opened);
                Ok(report(&Again {
                    verifier: &verifier,
                    anchored: anchor.is_some(),
                    history: &history,
                    replay,
                }))
            }
            Err(fault) => Ok(self.bad_export(&fault)),
        }
    }

    fn openings(&self) -> Result<DecisionOpenings, Failure> {
        let bytes = files::read(&self.file, (DECISIONS_MAGIC.len() + MAX_DECISIONS_BYTES) as u64)?;
        let malformed = |why: String| {
            let path = self.file.display();
            Failure::usage("MALFORMED_OPENINGS", format!("{path} holds no openings of decisions: {why}"))
                .help("get it from the custodian's officer: `assent audit openings`")
        };
        let body = bytes.strip_prefix(DECISIONS_MAGIC.as_slice());
        let body = body.ok_or_else(|| malformed("it begins with other bytes".to_owned()))?;
        decode_openings(body).map_err(|e| malformed(e.to_string()))
    }

    /// What recipients keep of the releases. Nothing of a receipt is looked at: the event on the ledger says which records it is of.
    fn bundles(&self) -> Result<Records, Failure> {
        let mut records = Records::default();
        for path in &self.bundle {
            records.add_bundle(&resources(path)?);
        }
        Ok(records)
    }

    /// Without its ledger nothing can be said of a decision.
    fn bad_export(&self, fault: &Fault) -> Report {
        let undecided = matches!(fault.kind, PRUNED | RECOVERY);
        let (exit, verdict) = match undecided {
            true => (Exit::Undecided, "undecided"),
            false => (Exit::Verification, "differs"),
        };
        let said = if undecided { "can't be decided by" } else { "the export does NOT hold:" };
        let text = format!("{said} {}\n{}", self.export.display(), fault_text(fault));
        let json = json!({ "ok": false, "verdict": verdict, "fault": fault_json(fault) });
        Report::with(exit, text, json)
    }
}

fn resources(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let bytes = files::read(path, (BUNDLE_MAGIC.len() + MAX_BUNDLE_BYTES) as u64)?;
    let body = bytes.get(BUNDLE_MAGIC.len()..).unwrap_or_default();
    let resources = match bytes.get(..BUNDLE_MAGIC.len()) {
        Some(magic) if magic == BUNDLE_MAGIC => {
            RecordBundle::decode(body).ok().map(|bundle| bundle.resources)
        }
        Some(magic) if magic == LATE_MAGIC => LateBundle::decode(body).ok().map(|bundle| bundle.resources),
        _ => None,
    };
    resources.ok_or_else(|| Failure::usage("MALFORMED_BUNDLE", format!("{} is no bundle", path.display())))
}
