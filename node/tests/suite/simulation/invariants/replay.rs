//! Replay equals state: an auditor who starts from genesis and trusts nobody finds every block and certificate in order, and comes to
//! the state root that each validator stores; and the values that a validator stores are those that a plain count of the log gives.

use assent_ledger::audit::{verify_export, write_record, RecordKind, EXPORT_MAGIC};
use assent_ledger::block::Tip;
use assent_ledger::certificate::verify_certificate;
use assent_ledger::Hash;
use assent_node::chain::Store;
use assent_node::order::Fatal;
use assent_proto::ledger::v1::{Block, Certificate};
use prost::Message;

use super::log;
use super::stale_access::{Model, Subject};
use crate::simulation::consortium::Consortium;
use crate::simulation::world::World;

pub fn check(world: &World) -> Result<(), String> {
    let model = Model::of(&log::read(world.stores().next().ok_or("no validator")?)?)?;
    // Blocks are the same everywhere and replayed once; certificates of the tip are each validator's own.
    let mut replayed: Option<(Vec<u8>, Tip)> = None;
    for (who, store) in world.stores().enumerate() {
        let named = |e: String| format!("validator {who}: {e}");
        let (stored, export) = export(store, &world.consortium).map_err(named)?;
        let tip = match &replayed {
            Some((blocks, tip)) if *blocks == export.blocks => tip.clone(),
            _ => replay(&export, world.consortium.genesis.hash).map_err(named)?,
        };
        if tip != stored {
            return Err(named(format!("stored tip {stored:?}, replayed {tip:?}")));
        }
        certified(&tip, &export.certificate).map_err(named)?;
        counted(store, &model).map_err(named)?;
        replayed = Some((export.blocks, tip));
    }
    Ok(())
}

fn replay(export: &Export, genesis: Hash) -> Result<Tip, String> {
    let mut bytes = export.blocks.clone();
    write_record(&mut bytes, RecordKind::Certificate, &export.certificate);
    let (verifier, outcome) = verify_export(&bytes, Some(genesis), |_| {});
    outcome.map_err(|fault| format!("{fault:?}"))?;
    verifier.tip().cloned().ok_or_else(|| "nothing was replayed".to_owned())
}

fn certified(tip: &Tip, certificate: &[u8]) -> Result<(), String> {
    let certificate = Certificate::decode(certificate).map_err(|e| e.to_string())?;
    verify_certificate(&tip.chain_id, &tip.voters, tip.height, &tip.header_hash, &certificate)
        .map_err(|e| e.to_string())
}

struct Export {
    /// Genesis and blocks.
    blocks: Vec<u8>,
    /// Over the last one.
    certificate: Vec<u8>,
}

fn export(store: &Store, consortium: &Consortium) -> Result<(Tip, Export), String> {
    let text = |e: Fatal| e.to_string();
    let tip = store.tip().map_err(text)?;
    let mut blocks = EXPORT_MAGIC.to_vec();
    write_record(&mut blocks, RecordKind::Genesis, &consortium.genesis_file);
    for height in 1..=tip.height {
        let block = store.block(height).map_err(text)?.ok_or(format!("no block {height}"))?;
        write_record(&mut blocks, RecordKind::Block, &block);
        let header = Block::decode(block.as_slice()).map_err(|e| e.to_string())?.header;
        if let Some(set) = store.validators_after(&header).map_err(text)? {
            write_record(&mut blocks, RecordKind::ValidatorSet, &set);
        }
    }
    let certificate = store.certificate(tip.height).map_err(text)?.ok_or("no certificate of the tip")?;
    Ok((tip, Export { blocks, certificate }))
}

/// The stored values.
fn counted(store: &Store, model: &Model) -> Result<(), String> {
    let view = store.view().map_err(|e| e.to_string())?;
    for ((custodian, handle), subject) in &model.subjects {
        let slot = view.slot(custodian, handle).map_err(|e| e.to_string())?.unwrap_or_default();
        let stored =
            Subject { consents: slot.consent_seq, accesses: slot.access_seq, withdrawals: slot.withdraw_seq };
        if stored != *subject {
            return Err(format!("a slot of {custodian} holds {stored:?}, the log {subject:?}"));
        }
    }
    for (custodian, count) in &model.policies {
        let stored = view.policy(custodian).map_err(|e| e.to_string())?.policy_seq;
        if stored != *count {
            return Err(format!("the policy of {custodian} is at {stored}, the log at {count}"));
        }
    }
    Ok(())
}
