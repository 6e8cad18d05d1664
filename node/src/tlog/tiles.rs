//! Tiles from the store: its hashes of complete subtrees, and blocks cut into leaves.

use assent_ledger::log::{LEAF_ENTRY, LEAF_HEADER};
use assent_ledger::tiles::{hash_tile, push_leaf, Content, TilePath};

use crate::chain::view::Committed;
use crate::chain::{Store, View};
use crate::order::Fatal;

/// Why a tile is not given.
#[derive(Debug, thiserror::Error)]
pub enum TileError {
    /// The log is not that long.
    #[error("the log is not that long")]
    NotThere,
    /// An entry of 65,535 bytes makes a leaf of 65,536, for which bundles have no length.
    #[error("an entry of 65,535 bytes is in it, and with its kind it is longer than a bundle's lengths can say: export the ledger")]
    TooLong,
    /// The store.
    #[error(transparent)]
    Store(#[from] Fatal),
}

/// The bytes of a tile.
pub fn read(store: &Store, tile: &TilePath) -> Result<Vec<u8>, TileError> {
    let view = store.view()?;
    if !tile.is_within(view.tip.log.size()) {
        return Err(TileError::NotThere);
    }
    match tile.content {
        Content::Hashes(_) => hash_tile(&view, tile)
            .ok_or_else(|| Fatal::Corrupt(format!("hashes of {tile} are missing")).into()),
        Content::Entries => bundle(&view, tile),
    }
}

fn block(view: &View<'_>, height: u64) -> Result<Committed, Fatal> {
    view.committed(height)?.ok_or_else(|| Fatal::Corrupt(format!("block {height} is missing")))
}

/// Height of the block that has a leaf, which is in the log. A block's last leaf, its header, has number `log_size`.
pub(super) fn height_of(view: &View<'_>, leaf: u64) -> Result<u64, Fatal> {
    let (mut low, mut high) = (1, view.tip.height);
    while low < high {
        let middle = low + (high - low) / 2;
        match block(view, middle)?.header.log_size < leaf {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    Ok(low)
}

/// True when the leaf, which is in the log, is a header.
pub(super) fn is_header(view: &View<'_>, leaf: u64) -> Result<bool, Fatal> {
    Ok(block(view, height_of(view, leaf)?)?.header.log_size == leaf)
}

fn bundle(view: &View<'_>, tile: &TilePath) -> Result<Vec<u8>, TileError> {
    let first = tile.start().ok_or(TileError::NotThere)?;
    let end = first + u64::from(tile.width);
    let (mut height, mut bytes) = (height_of(view, first)?, Vec::new());
    loop {
        let Committed { block, header, .. } = block(view, height)?;
        let entries = block.entries.iter().map(|entry| (LEAF_ENTRY, entry));
        let begin = header.log_size - block.entries.len() as u64;
        for (leaf, (kind, data)) in (begin..).zip(entries.chain([(LEAF_HEADER, &block.header)])) {
            if leaf >= end {
                return Ok(bytes);
            }
            if leaf >= first && !push_leaf(&mut bytes, kind, data) {
                return Err(TileError::TooLong);
            }
        }
        if header.log_size + 1 >= end {
            return Ok(bytes);
        }
        height += 1;
    }
}
