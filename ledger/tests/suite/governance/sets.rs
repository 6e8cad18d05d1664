//! Auditors follow the validators through changes.

use assent_ledger::audit::{verify_export, verify_export_at, Level};
use assent_ledger::certificate::validator_set_hash;
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::KeyPurpose;

use super::{add_organization, record, remove_validator, rotate, step};
use crate::chain::{export, key, CHAIN};

#[test]
fn an_auditor_is_told_how_each_set_followed() {
    let mut chain = super::network(&["birch", "cedar", "dogwood", "elm", "fir"]);
    let (old, new) = (chain.vote_key("elm"), key(7, "vote", "elm"));
    chain.know(new.clone());
    let by = ["birch", "cedar", "dogwood", "elm"];
    let added = chain.decide(&by, add_organization(&record("gorse")));
    let at = added + 2;
    chain.step(vec![("elm", step(Step::RotateKey(rotate("elm", KeyPurpose::Vote, &old, &new, at))))]);
    chain.until(at);
    let removed = chain.decide(&by, remove_validator("fir"));
    chain.until(removed + 1);
    let (verifier, outcome) = verify_export(&chain.export(), Some(chain.genesis.hash), |_| {});
    assert_eq!(outcome, Ok(()));
    let sets: Vec<(u64, Vec<String>)> = verifier.sets.iter().map(|s| (s.height, s.changed.clone())).collect();
    let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    let expected =
        [(1, names(&[])), (added, names(&["members"])), (at, names(&["*elm"])), (removed, names(&["-fir"]))];
    assert_eq!(sets, expected);
    assert_eq!(verifier.sets[3].hash, validator_set_hash(CHAIN, &chain.tip.validators));
    // The structure alone leads through the same sets.
    let (structural, outcome) =
        verify_export_at(Level::Structural, &chain.export(), Some(chain.genesis.hash), |_| {});
    assert_eq!(outcome, Ok(()));
    assert_eq!(structural.sets, verifier.sets);
    // A set that is left out, or another one in its place.
    let without = export(&chain.file, &chain.blocks, &chain.certificate);
    let fault = verify_export(&without, Some(chain.genesis.hash), |_| {}).1.unwrap_err();
    assert_eq!((fault.height, fault.kind), (added - 1, "record-order"));
}
