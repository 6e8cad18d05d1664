//! The log as others' tools read it: C2SP `tlog-tiles`.
//!
//! ```text
//! tile/<L>/<N>[.p/<W>]          W hashes (256 of a full tile): the complete subtrees of level 8 L from number 256 N on
//! tile/entries/<N>[.p/<W>]      leaf data from leaf 256 N on, a length of 2 bytes before each
//!
//! N = 1234067 is written x001/x234/067; W is 1 to 255
//! ```
//! A tile is where the hashes lie that a proof is made of: whoever has a checkpoint's root makes and checks proofs alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::hash::Hash;
use crate::log::{root_of, LogRead};

/// Hashes of a full tile, leaves of a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// Levels of the log that a level of tiles spans.
pub const TILE_HEIGHT: u8 = 8;
/// Highest level of tiles.
const MAX_LEVEL: u8 = 63;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// Hashes of this level of tiles.
    Hashes(u8),
    /// Leaf data.
    Entries,
}

/// Names a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TilePath {
    /// What it holds.
    pub content: Content,
    /// Its number on its level.
    pub index: u64,
    /// How many hashes or leaves, 1 to 256; 256 is a full tile.
    pub width: u16,
}

/// A decimal number without leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

impl TilePath {
    /// Reads what stands behind `tile/`; none when no tile can have this path.
    pub fn parse(path: &str) -> Option<Self> {
        let (content, rest) = path.split_once('/')?;
        let content = match content {
            "entries" => Content::Entries,
            level => Content::Hashes(decimal(level).filter(|l| *l <= u64::from(MAX_LEVEL))? as u8),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => {
                (number, decimal(width).filter(|w| (1..u64::from(TILE_WIDTH)).contains(w))? as u16)
            }
            None => (rest, TILE_WIDTH),
        };
        let groups: Vec<&str> = number.split('/').collect();
        let (last, leading) = groups.split_last()?;
        let mut index: u64 = 0;
        for group in leading.iter().map(|group| group.strip_prefix('x')).chain([Some(*last)]) {
            let group = group.filter(|g| g.len() == 3 && g.bytes().all(|b| b.is_ascii_digit()))?;
            index = index.checked_mul(1000)?.checked_add(group.parse().ok()?)?;
        }
        let tile = Self { content, index, width };
        // One path for each tile: x000 in front is another one's.
        (tile.to_string().strip_prefix("tile/") == Some(path)).then_some(tile)
    }

    /// Number of the first hash or leaf; none beyond what a log can hold.
    pub fn start(&self) -> Option<u64> {
        self.index.checked_mul(TILE_WIDTH.into())
    }

    /// True when a log of `size` has all of it.
    pub fn is_within(&self, size: u64) -> bool {
        let complete = match self.content {
            Content::Entries => size,
            Content::Hashes(level) => {
                size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0)
            }
        };
        self.start().and_then(|start| start.checked_add(self.width.into())).is_some_and(|end| end <= complete)
    }

    /// The tile in which a log of `size` has the hash of a complete subtree, full where it can be; none when it has not.
    pub fn holding(level: u8, index: u64, size: u64) -> Option<Self> {
        let tile_level = level / TILE_HEIGHT;
        let first = index.checked_shl((level % TILE_HEIGHT).into())?;
        let complete = size.checked_shr(u32::from(tile_level) * u32::from(TILE_HEIGHT)).unwrap_or(0);
        let number = first / u64::from(TILE_WIDTH);
        let width = complete.checked_sub(number * u64::from(TILE_WIDTH))?.min(TILE_WIDTH.into());
        let count = 1u64 << (level % TILE_HEIGHT);
        let within = first % u64::from(TILE_WIDTH) + count <= width;
        within.then_some(Self { content: Content::Hashes(tile_level), index: number, width: width as u16 })
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Content::Hashes(level) => write!(f, "tile/{level}/")?,
            Content::Entries => write!(f, "tile/entries/")?,
        }
        let (mut rest, mut groups) = (self.index / 1000, Vec::new());
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups.iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", self.index % 1000)?;
        match self.width {
            TILE_WIDTH => Ok(()),
            width => write!(f, ".p/{width}"),
        }
    }
}

/// A tile's bytes from where complete subtrees are kept; none when one is missing.
pub fn hash_tile(log: &impl LogRead, tile: &TilePath) -> Option<Vec<u8>> {
    let Content::Hashes(level) = tile.content else { return None };
    let (level, start) = (level.checked_mul(TILE_HEIGHT)?, tile.start()?);
    let mut bytes = Vec::with_capacity(usize::from(tile.width) * 32);
    for n in 0..u64::from(tile.width) {
        bytes.extend(log.node(level, start + n)?);
    }
    Some(bytes)
}

/// Appends leaf data to a bundle; false when it is longer than the format allows: 65,535 bytes.
pub fn push_leaf(bundle: &mut Vec<u8>, kind: u8, bytes: &[u8]) -> bool {
    let Ok(length) = u16::try_from(bytes.len() + 1) else { return false };
    bundle.extend(length.to_be_bytes());
    bundle.push(kind);
    bundle.extend(bytes);
    true
}

/// The leaf data in a bundle; none when it is no bundle of `width` leaves.
pub fn leaves(bundle: &[u8], width: u16) -> Option<Vec<&[u8]>> {
    let (mut rest, mut found) = (bundle, Vec::with_capacity(width.into()));
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let (leaf, more) = more.split_at_checked(u16::from_be_bytes(*length).into())?;
        found.push(leaf);
        rest = more;
    }
    (rest.is_empty() && found.len() == usize::from(width)).then_some(found)
}

/// Tiles that were fetched, of a log of one size: proofs are made of them as of a store.
#[derive(Debug, Clone, Default)]
pub struct Tiles {
    size: u64,
    tiles: BTreeMap<TilePath, Vec<Hash>>,
}

impl Tiles {
    /// None yet.
    pub fn new(size: u64) -> Self {
        Self { size, tiles: BTreeMap::new() }
    }

    /// Adds a tile; false when it has not as many hashes as its path says.
    pub fn add(&mut self, tile: TilePath, bytes: &[u8]) -> bool {
        let (hashes, rest) = bytes.as_chunks::<32>();
        let fits = rest.is_empty() && hashes.len() == usize::from(tile.width);
        if fits {
            self.tiles.insert(tile, hashes.to_vec());
        }
        fits
    }
}

impl LogRead for Tiles {
    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        let hashes = self.tiles.get(&TilePath::holding(level, index, self.size)?)?;
        let first = (index << (level % TILE_HEIGHT)) as usize % usize::from(TILE_WIDTH);
        hashes.get(first..first + (1 << (level % TILE_HEIGHT))).map(root_of)
    }
}

/// Learns which tiles a proof needs: make it of this once. Its hashes mean nothing.
#[derive(Debug)]
pub struct Wanted {
    size: u64,
    tiles: RefCell<BTreeSet<TilePath>>,
}

impl Wanted {
    /// Of a log of a size.
    pub fn new(size: u64) -> Self {
        Self { size, tiles: RefCell::default() }
    }

    /// The tiles.
    pub fn tiles(self) -> BTreeSet<TilePath> {
        self.tiles.into_inner()
    }
}

impl LogRead for Wanted {
    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        self.tiles.borrow_mut().insert(TilePath::holding(level, index, self.size)?);
        Some([0; 32])
    }
}
