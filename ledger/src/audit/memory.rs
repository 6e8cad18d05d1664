//! The state that a chain leads to, in memory.

use std::collections::BTreeMap;

use crate::hash::Hash;
use crate::state::{MemoryState, ReadError, StateRead};
use crate::tree::{MemoryTree, MemoryUpdate, StateTree};

/// Values by key, and the tree over them.
#[derive(Debug, Clone, Default)]
pub struct StateInMemory {
    values: MemoryState,
    tree: MemoryTree,
}

impl StateRead for StateInMemory {
    fn value(&self, key: &Hash) -> Result<Option<Vec<u8>>, ReadError> {
        self.values.value(key)
    }
}

impl StateTree for StateInMemory {
    type Update = MemoryUpdate;

    fn update(
        &self,
        version: u64,
        changes: &BTreeMap<Hash, Vec<u8>>,
    ) -> Result<(Hash, MemoryUpdate), ReadError> {
        self.tree.update(version, changes)
    }
}

impl StateInMemory {
    /// Takes over what a block changes.
    pub fn apply(&mut self, changes: BTreeMap<Hash, Vec<u8>>, update: Option<MemoryUpdate>) {
        self.values.0.extend(changes);
        if let Some(update) = update {
            self.tree.apply(update);
        }
    }
}
