//! Pieces of evidence: in words, as JSON, as files.

use std::collections::BTreeSet;
use std::path::Path;

use assent_ledger::conviction::{make_evidence_file, Conviction};
use assent_ledger::evidence::{verify_evidence, Offence};
use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{ReportEvidence, SetChange};
use serde_json::{json, Value};

use crate::commands::verify::does_not_hold;
use crate::exit::Failure;
use crate::files::{self, NewFolder, PUBLIC};

/// A piece of evidence, and where it was found.
pub struct Piece {
    /// What it shows.
    pub offence: Offence,
    /// Whose key it is, and the evidence file; none for a key that never had a vote.
    pub file: Option<(Conviction, Vec<u8>)>,
    /// Height of its block, and who reported it.
    reported: Option<(u64, String)>,
}

impl Piece {
    /// A piece that verifies by itself; whose key it is, genesis and the changes of the set tell. In which set it was signed, the headers
    /// tell that it names.
    pub fn new(
        genesis: &CheckedGenesis,
        accepted: &BTreeSet<Hash>,
        sets: &[SetChange],
        headers: &[Vec<u8>],
        evidence: &ReportEvidence,
        reported: Option<(u64, String)>,
    ) -> Result<Self, Failure> {
        let offence = verify_evidence(&genesis.chain_id, evidence).map_err(does_not_hold)?;
        let file = make_evidence_file(genesis, accepted, sets, headers, evidence);
        let file = file.ok().map(|(bytes, who)| (who, bytes));
        Ok(Self { offence, file, reported })
    }

    /// The organization that its key is of.
    pub fn organization(&self) -> &str {
        self.file.as_ref().map_or("nobody known", |(who, _)| &who.organization)
    }

    fn name(&self) -> String {
        let Offence { kind, height, round, .. } = &self.offence;
        format!("{}-{height}-{round}-{}.evidence", self.organization(), kind.word())
    }
}

/// Writes a file for each piece whose key is known; their names.
pub fn write(out: Option<&Path>, pieces: &[Piece]) -> Result<BTreeSet<String>, Failure> {
    let mut names = BTreeSet::new();
    let Some(out) = out.filter(|_| pieces.iter().any(|piece| piece.file.is_some())) else {
        return Ok(names);
    };
    let folder = NewFolder::create(out, "name a folder that is not there yet")?;
    for piece in pieces {
        if let Some((_, bytes)) = &piece.file {
            // The ledger has each once.
            if names.insert(piece.name()) {
                files::write_new(&folder.path().join(piece.name()), bytes, PUBLIC)?;
            }
        }
    }
    folder.commit()?;
    Ok(names)
}

/// The files for people.
pub fn files_text(out: Option<&Path>, files: &BTreeSet<String>) -> String {
    let Some(out) = out else { return String::new() };
    match files.len() {
        0 => "no file was written\n".into(),
        _ => files.iter().map(|name| format!("wrote {}\n", out.join(name).display())).collect(),
    }
}

/// One piece for people, in one line.
pub fn piece_text(piece: &Piece) -> String {
    let Offence { kind, height, round, .. } = &piece.offence;
    let reported = piece.reported.as_ref();
    let reported = reported.map(|(at, by)| format!("; reported by {by} in block {at}")).unwrap_or_default();
    format!(
        "{} signed two {} of block {height}, round {round}{reported}\n",
        piece.organization(),
        kind.word()
    )
}

/// One piece for JSON output.
pub fn piece_json(piece: &Piece) -> Value {
    let mut json = offence_json(&piece.offence);
    json["organization"] = piece.file.as_ref().map(|(who, _)| who.organization.clone()).into();
    json["file"] = piece.file.as_ref().map(|_| piece.name()).into();
    json["reported_height"] = piece.reported.as_ref().map(|(height, _)| *height).into();
    json["reported_by"] = piece.reported.as_ref().map(|(_, by)| by.clone()).into();
    json
}

/// What it shows, for JSON output.
pub fn offence_json(offence: &Offence) -> Value {
    let Offence { validator, kind, height, round, first, second } = offence;
    json!({
        "validator": hex::encode(validator), "kind": kind.word(), "height": height, "round": round,
        "first": first.map(hex::encode), "second": second.map(hex::encode),
    })
}
