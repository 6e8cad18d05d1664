//! Exports, as the auditor reads them: in full, structurally, and with signatures taken to hold, so that changed blocks come to be
//! applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use assent_ledger::audit::{
    parse_head, verify_export_at, ChainVerifier, Fault, Level, RecordKind, EXPORT_MAGIC, PRUNED, RECOVERY,
};
use assent_ledger::block::{Tip, Verify};
use assent_ledger::genesis::check_genesis_file;
use assent_ledger::hash::Hash;
use assent_ledger::keys::verify_batch;

use super::edit::Form;
use super::{genesis, given, good};

/// Members that changed once; three accesses; the same with its blocks pruned; a recovery of a lost
/// quorum; the first one, further on.
pub(super) const GOOD: &[&[u8]] =
    good!["export/governed", "export/three-accesses", "export/pruned", "export/recovered", "export/further"];
/// The recovery's plan.
pub(super) const PLAN: &[u8; 32] = include_bytes!("../../good/export/recovered.plan");

/// The records of an export, up to what is none.
pub(super) fn records(export: &[u8]) -> Vec<(RecordKind, &[u8])> {
    let (mut rest, mut found) = (export.strip_prefix(EXPORT_MAGIC).unwrap_or(export), Vec::new());
    while let Some((head, behind)) = rest.split_first_chunk::<5>() {
        let Ok((kind, length)) = parse_head(*head) else { break };
        let Some((payload, behind)) = behind.split_at_checked(length) else { break };
        found.push((kind, payload));
        rest = behind;
    }
    found
}

/// Hashes of the good files' genesis.
static GENESIS: LazyLock<BTreeSet<Hash>> =
    LazyLock::new(|| genesis::GOOD.iter().map(|file| check_genesis_file(file).unwrap().hash).collect());

/// The ends that a chain ever had, by the hash of the header that was certified: those of the good files.
pub(super) static CERTIFIED: LazyLock<BTreeMap<Hash, Tip>> = LazyLock::new(|| {
    let mut tips = BTreeMap::new();
    for export in GOOD {
        let mut verifier = ChainVerifier::new(Level::Structural, None).accepting([*PLAN]);
        for (kind, payload) in records(export) {
            verifier.record(kind, payload).unwrap();
            tips.extend(verifier.tip().map(|tip| (tip.header_hash, tip.clone())));
        }
    }
    tips
});

/// What holds ends at a header that was certified, and its structure holds too; a good file holds.
pub fn export(input: &[u8]) {
    let Some(given) = given(input, Form::Export, GOOD) else { return };
    let (full, outcome) = verify_export_at(Level::Full, &given.bytes, None, |_| {});
    let (structural, structure) = verify_export_at(Level::Structural, &given.bytes, None, |_| {});
    for (verifier, outcome) in [(&full, &outcome), (&structural, &structure)] {
        if outcome.is_err() {
            continue;
        }
        let tip = verifier.tip().expect("an export that holds has a genesis");
        match verifier.genesis_hash().is_some_and(|hash| GENESIS.contains(&hash)) {
            true => {
                assert!(CERTIFIED.contains_key(&tip.header_hash), "nobody certified height {}", tip.height)
            }
            false => assert_eq!(tip.height, 0, "nobody has keys for another genesis"),
        }
    }
    if outcome.is_ok() {
        assert_eq!(structure, Ok(()), "holds in full, but not structurally");
        assert_eq!(full.tip().map(|tip| tip.header_hash), structural.tip().map(|tip| tip.header_hash));
    }
    let loose = walk(&given.bytes, &|_| true);
    if given.good.is_some_and(|good| GOOD[good] == given.bytes) {
        match given.good {
            Some(2) => assert_eq!((outcome.map_err(|f| f.kind), structure), (Err(PRUNED), Ok(()))),
            Some(3) => {
                assert_eq!(outcome.map_err(|f| f.kind), Err(RECOVERY));
                assert_eq!((walk(&given.bytes, &verify_batch), loose), (Ok(()), Ok(())));
            }
            _ => assert_eq!((outcome, structure, loose), (Ok(()), Ok(()), Ok(()))),
        }
    }
}

/// Record by record, as the program reads a file, with the recovery accepted.
fn walk(export: &[u8], verify: Verify<'_>) -> Result<(), Fault> {
    let mut verifier = ChainVerifier::new(Level::Full, None).accepting([*PLAN]);
    let mut rest = export.strip_prefix(EXPORT_MAGIC).unwrap_or(export);
    while let Some((head, behind)) = rest.split_first_chunk::<5>() {
        let (kind, length) =
            parse_head(*head).map_err(|e| verifier.framing_fault("framing", rest, "a known record", e))?;
        let Some((payload, behind)) = behind.split_at_checked(length) else {
            return Err(verifier.framing_fault("truncated", rest, "a payload", "less"));
        };
        verifier.record_by(kind, payload, verify)?;
        rest = behind;
    }
    verifier.finish()
}
