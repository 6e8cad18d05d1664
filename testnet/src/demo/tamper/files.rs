//! A bit changed in copies of an export, a receipt and a pack, and what `assent` says of each.

use std::path::Path;

use assent_ledger::audit::EXPORT_MAGIC;
use rand::rngs::StdRng;
use rand::Rng;
use serde_json::Value;

use super::fields::Formats;
use super::seen::{Flip, ObjectSeen, Place};
use crate::binaries::Ran;
use crate::demo::observe::audit::{height_at, walk};
use crate::demo::stage::{Stage, CUSTODIAN, OTHER};
use crate::error::{failed, Error, While};

/// Bits changed in each file, one at a time.
const FLIPS: usize = 6;
/// Bits tried before one place may come twice.
const MAX_TRIES: usize = 1_000;
/// First bytes of every file: what it is.
const MAGIC_BYTES: usize = EXPORT_MAGIC.len();

/// Which verifier.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Export,
    /// The message behind the magic.
    Message(&'static str),
}

/// An export of Dogwood's.
pub async fn export(stage: &Stage, rng: &mut StdRng) -> Result<ObjectSeen, Error> {
    let file = stage.files.join("tamper.export");
    stage.audit_export(OTHER, &file).await?;
    changed(stage, rng, "export", &file, Kind::Export).await
}

/// The receipt of the first access, for the patient.
pub async fn receipt(stage: &Stage, rng: &mut StdRng) -> Result<ObjectSeen, Error> {
    let file = stage.files.join("tamper.receipt");
    stage.receipt(CUSTODIAN, 1, &file).await?;
    changed(stage, rng, "receipt", &file, Kind::Message("Receipt")).await
}

/// The patient's pack.
pub async fn pack(stage: &Stage, rng: &mut StdRng) -> Result<ObjectSeen, Error> {
    let file = stage.files.join("tamper.pack");
    stage.pack(CUSTODIAN, &file).await?;
    changed(stage, rng, "pack", &file, Kind::Message("PatientPack")).await
}

async fn changed(
    stage: &Stage,
    rng: &mut StdRng,
    id: &'static str,
    file: &Path,
    kind: Kind,
) -> Result<ObjectSeen, Error> {
    let whole = std::fs::read(file).during(|| format!("reading {}", file.display()))?;
    if whole.len() <= MAGIC_BYTES {
        return failed(format!("{} is empty", file.display()));
    }
    let (formats, copy) = (Formats::new(), file.with_extension("changed"));
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let finder = if kind == Kind::Export { "assent audit verify" } else { "assent verify" };
    let mut seen = ObjectSeen {
        id,
        finder,
        whole_exit: verify(stage, file, kind).await?.exit,
        flips: Vec::new(),
        healed_exit: 0,
    };
    let mut bytes = whole.clone();
    let records = if kind == Kind::Export { walk(&whole)? } else { Vec::new() };
    for n in 0.. {
        if seen.flips.len() == FLIPS {
            break;
        }
        let (at, bit) = (rng.gen_range(0..bytes.len()), rng.gen_range(0..8u8));
        let place = match kind {
            Kind::Export => Place::Height(height_at(&records, at)),
            Kind::Message(message) => Place::Field(match at.checked_sub(MAGIC_BYTES) {
                Some(at) => formats.field_at(message, &whole[MAGIC_BYTES..], at),
                None => "the magic".to_owned(),
            }),
        };
        // Half of a file may be keys and certificates: other places are looked for as long as that is no waste of time.
        let is_new = |flip: &Flip| flip.place != place || (n > MAX_TRIES && flip.byte != at as u64);
        if !seen.flips.iter().all(is_new) {
            continue;
        }
        bytes[at] ^= 1 << bit;
        std::fs::write(&copy, &bytes).during(|| format!("writing {}", copy.display()))?;
        let ran = verify(stage, &copy, kind).await?;
        bytes[at] ^= 1 << bit;
        let named = named(&ran, kind);
        seen.flips.push(Flip {
            file: name.clone(),
            byte: at as u64,
            bit,
            place,
            exit: Some(ran.exit),
            named,
        });
    }
    std::fs::write(&copy, &bytes).during(|| format!("writing {}", copy.display()))?;
    seen.healed_exit = verify(stage, &copy, kind).await?.exit;
    Ok(seen)
}

async fn verify(stage: &Stage, file: &Path, kind: Kind) -> Result<Ran, Error> {
    let genesis_hash = hex::encode(stage.genesis.hash);
    match kind {
        Kind::Export => stage.audit_verify(file, &genesis_hash).await,
        Kind::Message(_) => stage.verify_json(file, &genesis_hash).await,
    }
}

/// What the program's report names.
fn named(ran: &Ran, kind: Kind) -> Place {
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let found = match kind {
        Kind::Export => report["fault"]["height"].as_u64().map(Place::Height),
        Kind::Message(_) => report["error"]["message"].as_str().map(|said| Place::Field(said.to_owned())),
    };
    found.unwrap_or(Place::Unnamed)
}
