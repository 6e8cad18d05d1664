//! The RFC 6962 log over all entries and headers, in order.
//!
//! ```text
//! leaf data   = kind (1 entry, 2 header) || exact bytes
//! leaf hash   = SHA-256(0x00 || data)          node = SHA-256(0x01 || left || right)
//! ```
//! A [`Frontier`] appends in O(log n) and tells every complete subtree it makes; proofs are made from those
//! (RFC 6962 2.1.1, 2.1.2) and verified as RFC 9162 2.1.3.2 and 2.1.4.2 say.

use sha2::{Digest, Sha256};

use crate::hash::Hash;

/// First byte of the leaf data of an entry.
pub const LEAF_ENTRY: u8 = 1;
/// First byte of the leaf data of a header.
pub const LEAF_HEADER: u8 = 2;

/// Hash of a leaf with `data`.
pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

/// Leaf hash of an entry or header.
pub fn tagged_leaf_hash(kind: u8, bytes: &[u8]) -> Hash {
    Sha256::new().chain_update([0, kind]).chain_update(bytes).finalize().into()
}

/// Hash of an inner node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Root of the empty log: the hash of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Root over leaf hashes.
pub fn root_of(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.append(*leaf, |_, _, _| {});
    }
    frontier.root()
}

/// The right edge of the log: enough to append and to know the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the complete subtrees, largest first: one per set bit of `size`.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Rebuilds a frontier from its parts; none when the count of peaks does not fit the size.
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() as u32 == size.count_ones()).then_some(Self { size, peaks })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends a leaf; tells each complete subtree that this makes as (level, index, hash), the leaf itself included.
    pub fn append(&mut self, leaf: Hash, mut made: impl FnMut(u8, u64, Hash)) {
        let (mut hash, mut level, mut index) = (leaf, 0u8, self.size);
        made(level, index, hash);
        while index & 1 == 1 {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
            level += 1;
            index >>= 1;
            made(level, index, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Root of the log.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => empty_root(),
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// Where the hashes of complete subtrees are read from: (level, index) as [`Frontier::append`] told them.
pub trait LogRead {
    /// The hash, or none when the subtree is not complete or was never stored.
    fn node(&self, level: u8, index: u64) -> Option<Hash>;
}

/// Root of leaves `[start, end)` of the log; `start` is a multiple of the largest power of two below the length.
fn range_root(log: &impl LogRead, start: u64, end: u64) -> Option<Hash> {
    let len = end - start;
    if len.is_power_of_two() && start.is_multiple_of(len) {
        return log.node(len.trailing_zeros() as u8, start / len);
    }
    let split = split_point(len);
    Some(node_hash(&range_root(log, start, start + split)?, &range_root(log, start + split, end)?))
}

/// Root of the log as it was at `size`; none when it never was that long.
pub fn root_at(log: &impl LogRead, size: u64) -> Option<Hash> {
    match size {
        0 => Some(empty_root()),
        _ => range_root(log, 0, size),
    }
}

/// Largest power of two strictly smaller than `len`, for len > 1.
fn split_point(len: u64) -> u64 {
    1 << (63 - (len - 1).leading_zeros())
}

/// Inclusion proof of leaf `index` in the log of `size` (RFC 6962 2.1.1); none when impossible.
pub fn inclusion_proof(log: &impl LogRead, index: u64, size: u64) -> Option<Vec<Hash>> {
    if index >= size {
        return None;
    }
    // The path of the last leaf does not touch that leaf: ask for it, or a leaf beyond the log would seem to be in it.
    log.node(0, index)?;
    let (mut start, mut end, mut path) = (0, size, Vec::new());
    while end - start > 1 {
        let middle = start + split_point(end - start);
        if index < middle {
            path.push(range_root(log, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(log, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// Consistency proof between two sizes (RFC 6962 2.1.2); none when impossible, empty for equal sizes and from size 0.
pub fn consistency_proof(log: &impl LogRead, old: u64, new: u64) -> Option<Vec<Hash>> {
    if old > new {
        return None;
    }
    if old == new || old == 0 {
        return Some(Vec::new());
    }
    let (mut start, mut end, mut path, mut whole) = (0, new, Vec::new(), true);
    loop {
        if old == end {
            if !whole {
                path.push(range_root(log, start, end)?);
            }
            break;
        }
        let middle = start + split_point(end - start);
        if old <= middle {
            path.push(range_root(log, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(log, start, middle)?);
            start = middle;
            whole = false;
        }
    }
    path.reverse();
    Some(path)
}

/// Verifies an inclusion proof (RFC 9162 2.1.3.2). A surplus or missing hash fails.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, root: &Hash, path: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    let (mut fnode, mut snode, mut hash) = (index, size - 1, *leaf);
    for p in path {
        if snode == 0 {
            return false;
        }
        if fnode & 1 == 1 || fnode == snode {
            hash = node_hash(p, &hash);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            hash = node_hash(&hash, p);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    snode == 0 && hash == *root
}

/// Verifies a consistency proof (RFC 9162 2.1.4.2). Equal sizes: empty proof and equal roots; from size 0: empty proof and
/// the hash of nothing.
pub fn verify_consistency(old: u64, new: u64, old_root: &Hash, new_root: &Hash, path: &[Hash]) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return path.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return path.is_empty() && *old_root == empty_root();
    }
    let mut path = path.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { path.next() };
    let Some(first) = first else { return false };
    let (mut fnode, mut snode) = (old - 1, new - 1);
    while fnode & 1 == 1 {
        fnode >>= 1;
        snode >>= 1;
    }
    let (mut fr, mut sr) = (*first, *first);
    for c in path {
        if snode == 0 {
            return false;
        }
        if fnode & 1 == 1 || fnode == snode {
            fr = node_hash(c, &fr);
            sr = node_hash(c, &sr);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            sr = node_hash(&sr, c);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    snode == 0 && fr == *old_root && sr == *new_root
}
