//! The ledger's entries in order, read from a store without the code that executes them.

use assent_ledger::entry::entry_hash;
use assent_ledger::Hash;
use assent_node::chain::Store;
use assent_proto::ledger::v1::{Block, Entry, EntryBody};
use prost::Message;

use crate::simulation::consortium::CHAIN;

/// An entry where it stands.
#[derive(Debug, Clone)]
pub struct Logged {
    pub height: u64,
    pub hash: Hash,
    pub body: EntryBody,
}

/// Every committed entry.
pub fn read(store: &Store) -> Result<Vec<Logged>, String> {
    let tip = store.tip().map_err(|e| e.to_string())?.height;
    let mut log = Vec::new();
    for height in 1..=tip {
        let bytes = store.block(height).map_err(|e| e.to_string())?.ok_or(format!("no block {height}"))?;
        let block = Block::decode(bytes.as_slice()).map_err(|e| e.to_string())?;
        for bytes in block.entries {
            let hash = entry_hash(CHAIN, &bytes);
            let entry = Entry::decode(bytes.as_slice()).map_err(|e| e.to_string())?;
            let body = EntryBody::decode(entry.body.as_slice()).map_err(|e| e.to_string())?;
            log.push(Logged { height, hash, body });
        }
    }
    Ok(log)
}
