//! `assent audit evidence`: validators that contradicted themselves, as the ledger has them; and `assent verify` of a file of it. A fork
//! of two exports is in [`super::fork`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use assent_ledger::audit::RecordKind;
use assent_ledger::block::MAX_BLOCK_BYTES;
use assent_ledger::conviction::{genesis_of, verify_evidence_file, Conviction, ConvictionError};
use assent_ledger::encoding::decode;
use assent_ledger::entry::check_entry;
use assent_ledger::evidence::Offence;
use assent_ledger::Hash;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{Block, ReportEvidence};
use serde_json::{json, Value};

use crate::commands::audit::{fault_json, fault_text};
use crate::commands::export::download;
use crate::commands::fork;
use crate::commands::pieces::{files_text, offence_json, piece_json, piece_text, write, Piece};
use crate::commands::reader::Ledger;
use crate::commands::recoveries::{self, RecoveryArgs};
use crate::commands::trust::Against;
use crate::commands::verify::{anchor_of, does_not_hold, verdict};
use crate::connect::{self, NodeArgs};
use crate::exit::{Exit, Failure};
use crate::files;
use crate::output::{fields, progress, Report};
use crate::profile::{AnchorArgs, Profile};

/// Arguments of `assent audit evidence`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct EvidenceArgs {
    /// Export to look in; without one the node is asked for it
    #[arg(value_name = "FILE", conflicts_with = "compare")]
    file: Option<PathBuf>,
    /// Look for a fork between two exports
    #[arg(long, value_names = ["EXPORT_A", "EXPORT_B"], num_args = 2)]
    compare: Option<Vec<PathBuf>>,
    /// New folder for evidence files, one for each piece
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    anchor: AnchorArgs,
    #[command(flatten)]
    recoveries: RecoveryArgs,
    #[command(flatten)]
    node: NodeArgs,
}

impl EvidenceArgs {
    /// Looks for evidence.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        if let Some(out) = &self.out {
            files::refuse_existing(out)?;
        }
        let (anchor, accepted) = (self.anchor.resolve(profile)?, self.recoveries.accepted());
        if let Some([one, other]) = self.compare.as_deref() {
            return fork::compare([one, other], anchor, &accepted, self.out.as_deref());
        }
        if let Some(file) = &self.file {
            return list(file, anchor, &accepted, self.out.as_deref());
        }
        // Whatever the node sends is verified like a file from anywhere.
        let folder = tempfile::tempdir()
            .map_err(|e| Failure::error("UNWRITABLE", format!("no temporary folder can be made: {e}")))?;
        let export = folder.path().join("export");
        connect::run(async {
            let node = self.node.connect(profile).await?;
            download(&node, &export).await
        })?;
        list(&export, anchor, &accepted, self.out.as_deref())
    }
}

/// Reports evidence that stands in an export, if the export holds.
fn list(
    path: &Path,
    anchor: Option<Hash>,
    accepted: &BTreeSet<Hash>,
    out: Option<&Path>,
) -> Result<Report, Failure> {
    let mut ledger = Ledger::open(path, anchor, accepted)?;
    let (bar, mut found, mut fault) = (progress("height"), Vec::new(), None);
    loop {
        match ledger.next() {
            Ok(None) => break,
            Ok(Some((RecordKind::Block, payload))) => {
                let payload = payload.to_vec();
                found.extend(reported(&ledger, &payload));
                bar.set_position(ledger.verifier.tip().map_or(0, |tip| tip.height));
            }
            Ok(Some(_)) => {}
            Err(stopped) => {
                fault = Some(ledger.fault(stopped)?);
                break;
            }
        }
    }
    bar.finish_and_clear();
    let to = ledger.verifier.tip().map_or(0, |tip| tip.height);
    let mut pieces = Vec::new();
    if let (Some(genesis), None) = (&ledger.genesis, &fault) {
        for (evidence, at) in found {
            pieces.push(Piece::new(genesis, accepted, ledger.sets(), &[], &evidence, Some(at))?);
        }
    }
    let files = write(out, &pieces)?;
    let (exit, says) = match (&fault, anchor) {
        (Some(fault), _) => (recoveries::exit_of(fault), recoveries::verdict_of(fault)),
        (None, Some(_)) => (Exit::Ok, "holds"),
        (None, None) => (Exit::Undecided, "consistent, not anchored"),
    };
    let hash = ledger.verifier.genesis_hash().map(hex::encode);
    let mut text = format!("{says}: up to height {to}, {} pieces of evidence\n", pieces.len());
    text += &pieces.iter().map(piece_text).collect::<String>();
    text += &files_text(out, &files);
    if let Some(fault) = &fault {
        text += &fault_text(fault);
    }
    if exit == Exit::Undecided && fault.is_none() {
        text += "Nobody said that this genesis is the right one: give its hash with --genesis-hash.";
    }
    let json = json!({
        "ok": exit == Exit::Ok, "anchored": anchor.is_some() && fault.is_none(), "genesis_hash": hash, "to": to,
        "evidence": pieces.iter().map(piece_json).collect::<Vec<_>>(), "files": files,
        "fault": fault.as_ref().map_or(Value::Null, fault_json),
    });
    Ok(Report::with(exit, text, json))
}

/// Evidence in a block that holds: with the block's height and the entry's author.
fn reported(ledger: &Ledger, payload: &[u8]) -> Vec<(ReportEvidence, (u64, String))> {
    let Some(tip) = ledger.verifier.tip() else { return Vec::new() };
    let block: Block = decode("Block", payload, MAX_BLOCK_BYTES).unwrap_or_default();
    let entries = block.entries.iter().filter_map(|bytes| check_entry(&tip.chain_id, bytes).ok());
    let of = |kind| match kind {
        Some(Kind::ReportEvidence(evidence)) => Some(evidence),
        _ => None,
    };
    entries
        .flat_map(|entry| {
            let at = (tip.height, entry.body.author);
            let found = entry.body.operations.into_iter().filter_map(move |op| of(op.kind));
            found.map(move |evidence| (evidence, at.clone()))
        })
        .collect()
}

/// `assent verify` of an evidence file.
pub fn verify(against: &Against, body: &[u8]) -> Result<Report, Failure> {
    let anchor = anchor_of(against.given, &genesis_of(body).map_err(does_not_hold)?)?;
    let who = verify_evidence_file(&anchor, &against.accepted, body).map_err(|error| match &error {
        ConvictionError::Sets(sets) => {
            sets.not_accepted().map_or_else(|| does_not_hold(&error), recoveries::not_accepted)
        }
        error => does_not_hold(error),
    })?;
    let Conviction { chain_id, organization, voted_from, offence, one_set } = &who;
    let Offence { validator, kind, height, round, first, second } = offence;
    let shown = |hash: &Option<Hash>| hash.map_or("nil, for no block".to_owned(), hex::encode);
    let kind = kind.word();
    let mut text =
        format!("the validator of {organization} signed two {kind} of block {height}, round {round}\n")
            + &fields(&[
                ("chain", chain_id.clone()),
                ("first", shown(first)),
                ("second", shown(second)),
                ("vote key", hex::encode(validator)),
                ("key of", format!("{organization}, from height {voted_from} on")),
            ])
            + "An honest validator signs one of each kind in a round. Whether its operators, a\n\
           thief of the key or a second copy of the node did it, no signature tells.";
    if !one_set {
        text += &format!(
            "\nNot so if a recovery of a lost quorum lies right before block {height}: there it may\n\
             sign in the old set, and again in the new one, and this file does not show in\n\
             which set it did. `assent audit verify` of an export lists the recoveries."
        );
    }
    let mut json = offence_json(offence);
    json["kind"] = "evidence".into();
    json["offence"] = kind.into();
    json["chain_id"] = chain_id.clone().into();
    json["organization"] = organization.clone().into();
    json["key_from"] = (*voted_from).into();
    json["one_set"] = (*one_set).into();
    Ok(verdict(against.given.is_some(), &anchor, text, json))
}
