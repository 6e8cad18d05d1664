//! Entries and blocks: decoded, executed on the state of the good chain, built into a block and applied. Signatures are taken to
//! hold, so that changed entries come to be executed.

use std::sync::LazyLock;

use assent_ledger::audit::{RecordKind, StateInMemory};
use assent_ledger::block::{apply_block, apply_genesis, build_block, Proposal, Tip};
use assent_ledger::entry::{check_entry, entry_hash};
use assent_ledger::genesis::check_genesis_file;
use assent_ledger::keys::{verify_batch, Check};
use assent_ledger::tree::StateTree;
use assent_proto::ledger::v1::Entry;
use prost::Message;

use super::edit::Form;
use super::export::{records, GOOD as EXPORTS};
use super::{given, good};

/// One entry for each kind of operation and step, for the height after the last good export.
pub(super) const GOOD: &[&[u8]] = good![
    "entry/set-consent",
    "entry/set-consent-signed",
    "entry/set-consent-new-key",
    "entry/withdraw",
    "entry/record-access",
    "entry/set-policy",
    "entry/cancel-replacement",
    "entry/propose-rotate-validator",
    "entry/propose-add-organization",
    "entry/propose-remove-organization",
    "entry/propose-replace-key",
    "entry/approve",
    "entry/suspend",
    "entry/addresses",
    "entry/rotate",
    "entry/ready",
    "entry/evidence-votes",
    "entry/evidence-proposals",
    "entry/recover",
];

/// The end of the last good export, and its state.
struct World {
    tip: Tip,
    state: StateInMemory,
    certificate: Vec<u8>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let mut world: Option<World> = None;
    for (kind, payload) in records(EXPORTS[4]) {
        match (kind, &mut world) {
            (RecordKind::Genesis, _) => {
                let genesis = check_genesis_file(payload).unwrap();
                let (tip, changes, _) = apply_genesis(&genesis).unwrap();
                let mut state = StateInMemory::default();
                let (_, update) = state.update(0, &changes).unwrap();
                state.apply(changes, Some(update));
                world = Some(World { tip, state, certificate: Vec::new() });
            }
            (RecordKind::Block, Some(world)) => {
                let applied = apply_block(&world.tip, &world.state, payload, &verify_batch).unwrap();
                world.state.apply(applied.changes, applied.tree);
                world.tip = applied.tip;
            }
            (RecordKind::Certificate, Some(world)) => world.certificate = payload.to_vec(),
            _ => {}
        }
    }
    world.unwrap()
});

/// Encoding and name follow from each other; what a block is built of is applied alike; no damaged block is.
pub fn entry(input: &[u8]) {
    let Some(given) = given(input, Form::Message, GOOD) else { return };
    let World { tip, state, certificate } = &*WORLD;
    let every_signature = |_: &[Check]| true;
    let Ok(checked) = check_entry(&tip.chain_id, &given.bytes) else {
        // It may be a block: anything may happen but a panic.
        drop(apply_block(tip, state, &given.bytes, &every_signature));
        return;
    };
    assert_eq!(Entry::decode(given.bytes.as_slice()).unwrap().encode_to_vec(), given.bytes);
    assert_eq!((&checked.bytes, checked.hash), (&given.bytes, entry_hash(&tip.chain_id, &given.bytes)));
    let proposal = Proposal {
        proposer: tip.bench.proposer(&tip.validators, tip.height + 1, 0).unwrap(),
        round: 0,
        now_ms: tip.time_ms + 1000,
        previous_certificate: certificate.clone(),
    };
    let (block, built, dropped) =
        build_block(tip, state, vec![checked], &proposal, &every_signature).expect("a block can be built");
    let applied = apply_block(tip, state, &block, &every_signature).expect("what was built is a block");
    assert_eq!(applied.tip, built.tip);
    assert_eq!((&applied.changes, &applied.entries), (&built.changes, &built.entries));
    assert_eq!(dropped.len() + applied.entries.len(), 1);
    if given.good.is_some_and(|good| GOOD[good] == given.bytes) {
        let (block, ..) = build_block(tip, state, applied.entries, &proposal, &verify_batch).unwrap();
        assert!(apply_block(tip, state, &block, &verify_batch).is_ok(), "a good entry is refused");
    }
}
