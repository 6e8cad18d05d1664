//! Paths in trees of unknown size: each step says on which side the sibling stands.
//!
//! RFC 9162's proofs need the size of the tree from elsewhere: one path can verify for several sizes, so a size that only the
//! file claims would be a field that anyone can change.

use assent_proto::ledger::v1::TreePath;

use crate::encoding::{array, EncodingError};
use crate::hash::Hash;
use crate::log::{node_hash, root_of};

/// Longest path.
const MAX_STEPS: usize = 64;

/// The path of a leaf; none when there is no such leaf.
pub fn tree_path(leaves: &[Hash], index: usize) -> Option<TreePath> {
    if index >= leaves.len() {
        return None;
    }
    let (mut leaves, mut index, mut steps) = (leaves, index, Vec::new());
    while leaves.len() > 1 {
        // Largest power of two below the number of leaves.
        let split = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(split);
        if index < split {
            steps.push((root_of(right), false));
            leaves = left;
        } else {
            steps.push((root_of(left), true));
            (leaves, index) = (right, index - split);
        }
    }
    steps.reverse();
    let left = steps.iter().enumerate().filter(|(_, (_, left))| *left).fold(0, |bits, (i, _)| bits | 1 << i);
    Some(TreePath { siblings: steps.iter().map(|(hash, _)| hash.to_vec()).collect(), left })
}

/// The root that a path leads to from a leaf. A bit behind the last step is refused.
pub(super) fn root_from(leaf: &Hash, path: &TreePath) -> Result<Hash, EncodingError> {
    let steps = path.siblings.len();
    if steps > MAX_STEPS || (steps < MAX_STEPS && path.left >> steps != 0) {
        let reason = format!("{steps} steps, sides {:#x}", path.left);
        return Err(EncodingError::Field { message: "TreePath", field: "left", reason });
    }
    let mut hash = *leaf;
    for (step, sibling) in path.siblings.iter().enumerate() {
        let sibling = array("TreePath", "siblings", sibling)?;
        hash = match path.left >> step & 1 {
            1 => node_hash(&sibling, &hash),
            _ => node_hash(&hash, &sibling),
        };
    }
    Ok(hash)
}
