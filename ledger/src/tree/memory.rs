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
/// What the bytes of an inner node begin with.
const INNER_TAG: &[u8] = b"JMT::IntrnalNode";

/// Place of a node, from 1.
type Place = u32;
/// Key and hash of a leaf.
type Leaf = (Hash, Hash);

/// A subtree. Its hash stands with who points to it: a way down then touches no node beside it.
#[derive(Debug, Clone, Copy)]
struct Subtree {
    place: Place,
    hash: Hash,
}

/// No node.
const EMPTY: Subtree = Subtree { place: 0, hash: NOTHING };

#[derive(Debug, Clone, Copy)]
enum Node {
    Leaf { key: Hash },
    Inner { left: Subtree, right: Subtree },
}

/// The tree. Its size follows the number of keys, not of updates.
#[derive(Debug, Clone)]
pub struct MemoryTree {
    nodes: Vec<Node>,
    /// Places whose nodes are gone.
    free: Vec<Place>,
    root: Subtree,
}

impl Default for MemoryTree {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: EMPTY }
    }
}

/// What changes put in place of what. Belongs to the tree it was made for, as it was then.
#[derive(Debug, Clone)]
pub struct MemoryUpdate {
    /// Children before parents; their places count on from the tree's.
    made: Vec<Node>,
    gone: Vec<Place>,
    root: Subtree,
}

impl StateTree for MemoryTree {
    type Update = MemoryUpdate;

    fn update(&self, _: u64, changes: &BTreeMap<Hash, Vec<u8>>) -> Result<(Hash, MemoryUpdate), ReadError> {
        let leaves: Vec<Leaf> = changes.iter().map(|(key, value)| (*key, leaf_hash(key, value))).collect();
        let replaced = self.on_ways(&leaves);
        let mut work =
            Work { tree: self, made: Vec::with_capacity(replaced), gone: Vec::with_capacity(replaced) };
        let root = work.put(self.root, 0, &leaves);
        Ok((root.hash, MemoryUpdate { made: work.made, gone: work.gone, root }))
    }
}

impl MemoryTree {
    /// How many nodes lie on the ways to some keys, one on several ways counted for each.
    ///
    /// It goes down all ways at once, level by level. So the nodes that the update needs come from memory many at a time; one way
    /// after the other would wait for each of them.
    fn on_ways(&self, leaves: &[Leaf]) -> usize {
        let mut ways: Vec<(Place, &Hash)> = leaves.iter().map(|(key, _)| (self.root.place, key)).collect();
        let mut nodes = 0;
        for depth in 0..8 * size_of::<Hash>() {
            ways.retain_mut(|(place, key)| match self.node(*place) {
                Some(Node::Inner { left, right }) => {
                    *place = if bit(key, depth) { right.place } else { left.place };
                    true
                }
                Some(Node::Leaf { .. }) | None => false,
            });
            nodes += ways.len();
            if ways.is_empty() {
                break;
            }
        }
        nodes
    }

    fn node(&self, place: Place) -> Option<&Node> {
        self.nodes.get((place as usize).checked_sub(1)?)
    }

    /// Takes over an update that was made for it.
    pub fn apply(&mut self, update: MemoryUpdate) {
        let before = self.nodes.len() as Place;
        let mut places: Vec<Place> = Vec::with_capacity(update.made.len());
        let moved = |subtree: Subtree, places: &[Place]| match subtree.place > before {
            true => Subtree { place: places[(subtree.place - before - 1) as usize], ..subtree },
            false => subtree,
        };
        for node in update.made {
            let node = match node {
                Node::Leaf { .. } => node,
                Node::Inner { left, right } => {
                    Node::Inner { left: moved(left, &places), right: moved(right, &places) }
                }
            };
            places.push(self.keep(node));
        }
        self.root = moved(update.root, &places);
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
    /// A node of the tree as it was: an update visits no place twice, so never one that it made.
    fn node(&self, place: Place) -> Option<Node> {
        self.tree.node(place).copied()
    }

    fn make(&mut self, node: Node, hash: Hash) -> Subtree {
        self.made.push(node);
        Subtree { place: (self.tree.nodes.len() + self.made.len()) as Place, hash }
    }

    fn inner(&mut self, left: Subtree, right: Subtree) -> Subtree {
        let mut bytes = [0; INNER_TAG.len() + 64];
        bytes[..INNER_TAG.len()].copy_from_slice(INNER_TAG);
        bytes[INNER_TAG.len()..INNER_TAG.len() + 32].copy_from_slice(&left.hash);
        bytes[INNER_TAG.len() + 32..].copy_from_slice(&right.hash);
        self.make(Node::Inner { left, right }, sha256(&bytes))
    }

    /// Puts leaves, in ascending order of key, below a subtree at a depth.
    fn put(&mut self, at: Subtree, depth: usize, leaves: &[Leaf]) -> Subtree {
        if leaves.is_empty() {
            return at;
        }
        match self.node(at.place) {
            None => self.build(depth, leaves),
            Some(Node::Inner { left, right }) => {
                self.gone.push(at.place);
                let (zeros, ones) = split(depth, leaves);
                let (left, right) = (self.put(left, depth + 1, zeros), self.put(right, depth + 1, ones));
                self.inner(left, right)
            }
            Some(Node::Leaf { key }) => {
                self.gone.push(at.place);
                match leaves.binary_search_by(|(k, _)| k.cmp(&key)) {
                    Ok(_) => self.build(depth, leaves),
                    Err(index) => {
                        let mut all = leaves.to_vec();
                        all.insert(index, (key, at.hash));
                        self.build(depth, &all)
                    }
                }
            }
        }
    }

    fn build(&mut self, depth: usize, leaves: &[Leaf]) -> Subtree {
        match leaves {
            [] => EMPTY,
            [(key, hash)] => self.make(Node::Leaf { key: *key }, *hash),
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
    leaves.split_at(leaves.partition_point(|(key, _)| !bit(key, depth)))
}

fn bit(key: &Hash, depth: usize) -> bool {
    key[depth / 8] & (0x80 >> (depth % 8)) != 0
}
