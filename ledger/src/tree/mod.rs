//! The authenticated state map: jmt with SHA-256, its roots and proofs.
//!
//! Keys are already hashes with a domain tag ([`crate::state`]). The version moves only when the state does: an empty update
//! would leak a node.

use std::collections::BTreeMap;

use borsh::BorshDeserialize;
use jmt::proof::SparseMerkleProof;
use jmt::storage::{LeafNode, Node, NodeKey, TreeReader};
use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, RootHash, Version};
use sha2::Sha256;

use crate::hash::Hash;
use crate::state::ReadError;

mod memory;

pub use memory::{MemoryTree, MemoryUpdate};

type Tree<'a, R> = JellyfishMerkleTree<'a, Reader<'a, R>, Sha256>;
type Proof = SparseMerkleProof<Sha256>;

/// Longest encoded state proof: 256 siblings and a leaf fit.
pub const MAX_STATE_PROOF_BYTES: usize = 32 << 10;

/// Where encoded tree nodes are read from, by encoded node key.
pub trait NodeRead {
    /// The node, or none.
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError>;
}

/// What one update does to the stored nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeUpdate {
    /// Root after the update.
    pub root: Hash,
    /// New nodes by encoded key.
    pub nodes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys of nodes that no version from this one on needs.
    pub stale: Vec<Vec<u8>>,
}

/// A state map that tells its root after changes.
pub trait StateTree {
    /// What has to be stored for the changes.
    type Update;
    /// The root after `changes` on version `version - 1` (on the empty tree at version 0), and what has to be stored.
    fn update(
        &self,
        version: u64,
        changes: &BTreeMap<Hash, Vec<u8>>,
    ) -> Result<(Hash, Self::Update), ReadError>;
}

impl<R: NodeRead> StateTree for R {
    type Update = TreeUpdate;

    fn update(
        &self,
        version: u64,
        changes: &BTreeMap<Hash, Vec<u8>>,
    ) -> Result<(Hash, TreeUpdate), ReadError> {
        let update = update(self, version, changes)?;
        Ok((update.root, update))
    }
}

struct Reader<'a, R> {
    nodes: &'a R,
    value: Option<&'a [u8]>,
}

fn encode(value: &impl borsh::BorshSerialize) -> anyhow::Result<Vec<u8>> {
    Ok(borsh::to_vec(value)?)
}

impl<R: NodeRead> TreeReader for Reader<'_, R> {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        match self.nodes.node(&encode(key)?)? {
            None => Ok(None),
            Some(bytes) => Ok(Some(Node::try_from_slice(&bytes)?)),
        }
    }
    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(self.value.map(<[u8]>::to_vec))
    }
    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        Ok(None)
    }
}

fn failed(error: anyhow::Error) -> ReadError {
    ReadError(format!("state tree: {error}"))
}

/// Puts `changes` into the tree whose last version is `version - 1` (or into the empty tree at version 0).
pub fn update(
    nodes: &impl NodeRead,
    version: u64,
    changes: &BTreeMap<Hash, Vec<u8>>,
) -> Result<TreeUpdate, ReadError> {
    let reader = Reader { nodes, value: None };
    let set = changes.iter().map(|(key, value)| (KeyHash(*key), Some(value.clone())));
    let (root, batch) = Tree::new(&reader).put_value_set(set, version).map_err(failed)?;
    let mut made = Vec::new();
    for (key, node) in batch.node_batch.nodes() {
        made.push((encode(key).map_err(failed)?, encode(node).map_err(failed)?));
    }
    let stale = batch.stale_node_index_batch.iter().map(|s| encode(&s.node_key).map_err(failed));
    Ok(TreeUpdate { root: root.0, nodes: made, stale: stale.collect::<Result<_, _>>()? })
}

/// Encoded proof that `key` holds `value` (or is absent when `value` is none) at `version`.
pub fn prove(
    nodes: &impl NodeRead,
    version: u64,
    key: &Hash,
    value: Option<&[u8]>,
) -> Result<Vec<u8>, ReadError> {
    let reader = Reader { nodes, value };
    let (_, proof) = Tree::new(&reader).get_with_proof(KeyHash(*key), version).map_err(failed)?;
    encode(&proof).map_err(failed)
}

/// True for bytes that are a state proof, whatever it shows: decodable, in the one encoding that it has.
pub fn is_proof(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_STATE_PROOF_BYTES && decode_proof(bytes).is_some()
}

fn decode_proof(bytes: &[u8]) -> Option<Proof> {
    let decoded = Proof::try_from_slice(bytes).ok()?;
    (encode(&decoded).ok()? == bytes).then_some(decoded)
}

/// True when the encoded proof shows that under `root` the key holds `value`, or is absent when `value` is none.
pub fn verify(root: &Hash, key: &Hash, value: Option<&[u8]>, proof: &[u8]) -> bool {
    if proof.len() > MAX_STATE_PROOF_BYTES {
        return false;
    }
    let Some(decoded) = decode_proof(proof) else {
        return false;
    };
    match value {
        Some(value) => decoded.verify_existence(RootHash(*root), KeyHash(*key), value).is_ok(),
        None => decoded.verify_nonexistence(RootHash(*root), KeyHash(*key)).is_ok(),
    }
}

/// Tree nodes in memory: for auditors and tests. Stale nodes go at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryNodes(BTreeMap<Vec<u8>, Vec<u8>>);

impl MemoryNodes {
    /// Takes over an update.
    pub fn apply(&mut self, update: TreeUpdate) {
        self.0.extend(update.nodes);
        for key in &update.stale {
            self.0.remove(key);
        }
    }
}

impl NodeRead for MemoryNodes {
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.0.get(key).cloned())
    }
}
