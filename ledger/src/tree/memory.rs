//! The state map in memory, for auditors: the same roots as jmt, without its encodings, versions and proofs.
//!
//! A binary tree over the bits of the keys. A subtree with one leaf is that leaf; an empty one has a hash of its own:
//! ```text
//! leaf  = SHA-256("JMT::LeafNode" || key || SHA-256(value))
//! inner = SHA-256("JMT::IntrnalNode" || left || right)
//! ```

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::StateTree;
use crate::hash::{sha256, Hash};
use crate::state::ReadError;

/// Hash of an empty subtree.
const NOTHING: Hash = *b"SPARSE_MERKLE_PLACEHOLDER_HASH__";

/// Place of a node, from 1.
type Place = u32;
/// Key and hash of a leaf.
type Leaf = (Hash, Hash);
/// No node.
const EMPTY: Place = 0;

#[derive(Debug, Clone, Copy)]
enum Node {
    Leaf { key: Hash, hash: Hash },
    Inner { left: Place, right: Place, hash: Hash },
}

/// The tree. Its size follows the number of keys, not of updates.
#[derive(Debug, Clone, Default)]
pub struct MemoryTree {
    nodes: Vec<Node>,
    /// Places whose nodes are gone.
    free: Vec<Place>,
    root: Place,
}

/// What changes put in place of what. Belongs to the tree it was made for, as it was then.
#[derive(Debug, Clone)]
pub struct MemoryUpdate {
    /// Children before parents; their places count on from the tree's.
    made: Vec<Node>,
    gone: Vec<Place>,
    root: Place,
}

impl StateTree for MemoryTree {
    type Update = MemoryUpdate;

    fn update(&self, _: u64, changes: &BTreeMap<Hash, Vec<u8>>) -> Result<(Hash, MemoryUpdate), ReadError> {
        let mut work = Work { tree: self, made: Vec::new(), gone: Vec::new() };
        let leaves: Vec<Leaf> = changes.iter().map(|(key, value)| (*key, leaf_hash(key, value))).collect();
        let root = work.put(self.root, 0, &leaves);
        let hash = work.hash(root);
        Ok((hash, MemoryUpdate { made: work.made, gone: work.gone, root }))
    }
}

impl MemoryTree {
    /// Takes over an update that was made for it.
    pub fn apply(&mut self, update: MemoryUpdate) {
        let before = self.nodes.len() as Place;
        let mut places: Vec<Place> = Vec::with_capacity(update.made.len());
        for node in update.made {
            let moved = |place: Place| match place > before {
                true => places[(place - before - 1) as usize],
                false => place,
            };
            let node = match node {
                Node::Leaf { .. } => node,
                Node::Inner { left, right, hash } => {
                    Node::Inner { left: moved(left), right: moved(right), hash }
                }
            };
            places.push(self.keep(node));
        }
        self.root = match update.root > before {
            true => places[(update.root - before - 1) as usize],
            false => update.root,
        };
        self.free.extend(update.gone);
    }

    fn keep(&mut self, node: Node) -> Place {
        match self.free.pop() {
            Some(place) => {
                self.nodes[place as usize - 1] = node;
                place
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as Place
            }
        }
    }
}

struct Work<'a> {
    tree: &'a MemoryTree,
    made: Vec<Node>,
    gone: Vec<Place>,
}

impl Work<'_> {
    fn node(&self, place: Place) -> Option<&Node> {
        let index = (place as usize).checked_sub(1)?;
        match self.tree.nodes.get(index) {
            Some(node) => Some(node),
            None => self.made.get(index - self.tree.nodes.len()),
        }
    }

    fn hash(&self, place: Place) -> Hash {
        match self.node(place) {
            None => NOTHING,
            Some(Node::Leaf { hash, .. } | Node::Inner { hash, .. }) => *hash,
        }
    }

    fn make(&mut self, node: Node) -> Place {
        self.made.push(node);
        (self.tree.nodes.len() + self.made.len()) as Place
    }

    fn inner(&mut self, left: Place, right: Place) -> Place {
        let hash = Sha256::new()
            .chain_update(b"JMT::IntrnalNode")
            .chain_update(self.hash(left))
            .chain_update(self.hash(right))
            .finalize()
            .into();
        self.make(Node::Inner { left, right, hash })
    }

    /// Puts leaves, in ascending order of key, below a node at a depth.
    fn put(&mut self, at: Place, depth: usize, leaves: &[Leaf]) -> Place {
        if leaves.is_empty() {
            return at;
        }
        match self.node(at).copied() {
            None => self.build(depth, leaves),
            Some(Node::Inner { left, right, .. }) => {
                self.gone.push(at);
                let (zeros, ones) = split(depth, leaves);
                let (left, right) = (self.put(left, depth + 1, zeros), self.put(right, depth + 1, ones));
                self.inner(left, right)
            }
            Some(Node::Leaf { key, hash }) => {
                self.gone.push(at);
                match leaves.binary_search_by(|(k, _)| k.cmp(&key)) {
                    Ok(_) => self.build(depth, leaves),
                    Err(index) => {
                        let mut all = leaves.to_vec();
                        all.insert(index, (key, hash));
                        self.build(depth, &all)
                    }
                }
            }
        }
    }

    fn build(&mut self, depth: usize, leaves: &[Leaf]) -> Place {
        match leaves {
            [] => EMPTY,
            [(key, hash)] => self.make(Node::Leaf { key: *key, hash: *hash }),
            _ => {
                let (zeros, ones) = split(depth, leaves);
                let (left, right) = (self.build(depth + 1, zeros), self.build(depth + 1, ones));
                self.inner(left, right)
            }
        }
    }
}

fn leaf_hash(key: &Hash, value: &[u8]) -> Hash {
    Sha256::new()
        .chain_update(b"JMT::LeafNode")
        .chain_update(key)
        .chain_update(sha256(value))
        .finalize()
        .into()
}

/// Those whose bit at a depth is 0, and those whose is 1.
fn split(depth: usize, leaves: &[Leaf]) -> (&[Leaf], &[Leaf]) {
    let bit = |key: &Hash| key[depth / 8] & (0x80 >> (depth % 8)) != 0;
    leaves.split_at(leaves.partition_point(|(key, _)| !bit(key)))
}
