//! Headers as a node that joins gets them from a peer: without entries, with validator sets and plans of recoveries that the peer says
//! there were. Its genesis is its own.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use assent_ledger::audit::RecordKind;
use assent_ledger::certificate::validator_set_hash;
use assent_ledger::genesis::{check_genesis_file, CheckedGenesis};
use assent_ledger::headers::{Headers, HeadersError};
use assent_ledger::log::{tagged_leaf_hash, LEAF_ENTRY};
use assent_ledger::recovered::plan_of;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{Block, PrunedBlock, Recover, ValidatorSet};
use prost::Message;

use super::edit::Form;
use super::export::{records, CERTIFIED, GOOD, PLAN};
use super::given;

/// Of each good file, in order.
static GENESIS: LazyLock<Vec<CheckedGenesis>> =
    LazyLock::new(|| GOOD.iter().map(|export| check_genesis_file(records(export)[0].1).unwrap()).collect());

/// What a snapshot says of the chain: the parts of an export, its blocks without their entries.
#[derive(Default)]
struct Said {
    sets: Vec<ValidatorSet>,
    plans: Vec<Recover>,
    blocks: Vec<PrunedBlock>,
    certificate: Vec<u8>,
}

/// Headers that hold end at one that was certified, with the log, bench, time and sets that an auditor finds there.
pub fn headers(input: &[u8]) {
    let Some(given) = given(input, Form::Export, GOOD) else { return };
    let genesis = &GENESIS[given.good.unwrap_or(0)];
    let said = said(&genesis.chain_id, &given.bytes);
    let outcome = walk(genesis, &said);
    if let Ok(headers) = &outcome {
        let tip = CERTIFIED.get(&headers.voters().header_hash()).expect("nobody certified what holds");
        assert_eq!((headers.height(), headers.time_ms), (tip.height, tip.time_ms));
        assert_eq!((&headers.log, &headers.bench), (&tip.log, &tip.bench));
        assert_eq!(headers.voters().next_hash(), validator_set_hash(&tip.chain_id, &tip.validators));
        assert_eq!(headers.last.state_root, tip.state_root);
    }
    let is_good = given.good.is_some_and(|good| GOOD[good] == given.bytes);
    assert!(!is_good || outcome.is_ok(), "good headers are refused: {:?}", outcome.err());
}

/// Takes from an export what can be read; whatever is none of it is left out.
fn said(chain_id: &str, export: &[u8]) -> Said {
    let mut said = Said::default();
    for (kind, payload) in records(export) {
        match kind {
            RecordKind::Genesis => {}
            RecordKind::ValidatorSet => said.sets.extend(ValidatorSet::decode(payload).ok()),
            RecordKind::Pruned => said.blocks.extend(PrunedBlock::decode(payload).ok()),
            RecordKind::Certificate => said.certificate = payload.to_vec(),
            RecordKind::Block => {
                let Ok(block) = Block::decode(payload) else { continue };
                said.plans.extend(plan_of(chain_id, &block));
                let leaf = |entry: &Vec<u8>| tagged_leaf_hash(LEAF_ENTRY, entry).to_vec();
                let leaf_hashes = block.entries.iter().map(leaf).collect();
                let Block { header, previous_certificate, .. } = block;
                let recovery = None; // it is among the plans
                said.blocks.push(PrunedBlock { header, previous_certificate, leaf_hashes, recovery });
            }
        }
    }
    said
}

fn walk(genesis: &CheckedGenesis, said: &Said) -> Result<Headers, HeadersError> {
    let accepted = BTreeSet::from([*PLAN]);
    let mut headers = Headers::new(genesis, &accepted, said.sets.clone(), said.plans.clone());
    for block in &said.blocks {
        let leaves: Vec<Hash> =
            block.leaf_hashes.iter().filter_map(|leaf| leaf.as_slice().try_into().ok()).collect();
        headers.next(&block.header, &block.previous_certificate, &leaves, |_, _, _| {})?;
    }
    headers.verify(&said.certificate)?;
    Ok(headers)
}
