//! The RFC 6962 log against an independent implementation, and the edges that INTERFACES.md fixes.

use std::collections::BTreeMap;

use assent_ledger::hash::Hash;
use assent_ledger::log::{
    consistency_proof, empty_root, inclusion_proof, leaf_hash, root_of, tagged_leaf_hash, verify_consistency,
    verify_inclusion, Frontier, LogRead, LEAF_ENTRY, LEAF_HEADER,
};
use ct_merkle::digest::{array::Array, typenum::U32, FixedOutput, HashMarker, OutputSizeUser, Update};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Digest;

/// SHA-256 of the digest generation that the oracle speaks.
#[derive(Clone, Default)]
struct Sha(sha2::Sha256);

impl HashMarker for Sha {}
impl OutputSizeUser for Sha {
    type OutputSize = U32;
}
impl Update for Sha {
    fn update(&mut self, data: &[u8]) {
        Digest::update(&mut self.0, data);
    }
}
impl FixedOutput for Sha {
    fn finalize_into(self, out: &mut Array<u8, U32>) {
        out.copy_from_slice(&self.0.finalize());
    }
}

/// Our log and the oracle's, grown together.
#[derive(Default)]
struct Pair {
    nodes: BTreeMap<(u8, u64), Hash>,
    frontier: Frontier,
    roots: Vec<Hash>,
    leaves: Vec<Hash>,
    oracle: Option<MemoryBackedTree<Sha, Vec<u8>>>,
}

impl LogRead for Pair {
    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        self.nodes.get(&(level, index)).copied()
    }
}

impl Pair {
    fn of(size: u64) -> Self {
        let mut pair =
            Pair { roots: vec![empty_root()], oracle: Some(MemoryBackedTree::new()), ..Default::default() };
        for n in 0..size {
            let data = n.to_be_bytes().to_vec();
            let leaf = leaf_hash(&data);
            pair.leaves.push(leaf);
            let (frontier, nodes) = (&mut pair.frontier, &mut pair.nodes);
            frontier.append(leaf, |level, index, hash| {
                assert_eq!(nodes.insert((level, index), hash), None, "told twice");
            });
            pair.oracle.as_mut().unwrap().push(data);
            pair.roots.push(frontier.root());
        }
        pair
    }

    fn oracle(&self) -> &MemoryBackedTree<Sha, Vec<u8>> {
        self.oracle.as_ref().unwrap()
    }
}

fn hashes(bytes: &[u8]) -> Vec<Hash> {
    bytes.chunks(32).map(|c| c.try_into().unwrap()).collect()
}

/// A proof of `path` and everything near it: surplus, missing, swapped, altered, doubled hashes.
fn spoiled(path: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = vec![[path, &[[7; 32]]].concat(), [&[[7; 32]], path].concat()];
    for i in 0..path.len() {
        let mut missing = path.to_vec();
        missing.remove(i);
        let mut altered = path.to_vec();
        altered[i][31] ^= 1;
        let mut doubled = path.to_vec();
        doubled.insert(i, path[i]);
        all.extend([missing, altered, doubled]);
        if i > 0 {
            let mut swapped = path.to_vec();
            swapped.swap(0, i);
            all.push(swapped);
        }
    }
    all
}

#[test]
fn roots_and_inclusion_agree_with_the_oracle_for_all_small_sizes() {
    for size in 1..=70u64 {
        let pair = Pair::of(size);
        let root = pair.frontier.root();
        assert_eq!(root, <Hash>::try_from(pair.oracle().root().as_bytes().as_slice()).unwrap());
        assert_eq!(root, root_of(&pair.leaves));
        for index in 0..size {
            let path = inclusion_proof(&pair, index, size).unwrap();
            assert_eq!(
                path,
                hashes(pair.oracle().prove_inclusion(index as usize).as_bytes()),
                "{index} of {size}"
            );
            let leaf = pair.leaves[index as usize];
            assert!(verify_inclusion(&leaf, index, size, &root, &path));
            for other in (0..size + 3).filter(|other| *other != index) {
                assert!(!verify_inclusion(&leaf, other, size, &root, &path), "{index} as {other} of {size}");
            }
            assert!(!verify_inclusion(&leaf, index, size, &[0; 32], &path));
            assert!(!verify_inclusion(&[0; 32], index, size, &root, &path));
            if size <= 20 {
                for path in spoiled(&path) {
                    assert!(!verify_inclusion(&leaf, index, size, &root, &path));
                }
            }
        }
        assert_eq!(inclusion_proof(&pair, size, size), None);
    }
}

#[test]
fn consistency_agrees_with_the_oracle_for_all_small_sizes() {
    for new in 1..=70u64 {
        let pair = Pair::of(new);
        let new_root = pair.frontier.root();
        for old in 1..=new {
            let path = consistency_proof(&pair, old, new).unwrap();
            let oracle = pair.oracle().prove_consistency((new - old) as usize);
            assert_eq!(path, hashes(oracle.as_bytes()), "{old} to {new}");
            let old_root = pair.roots[old as usize];
            assert!(verify_consistency(old, new, &old_root, &new_root, &path));
            assert!(!verify_consistency(old, new, &[0; 32], &new_root, &path));
            assert!(!verify_consistency(old, new, &old_root, &[0; 32], &path));
            if new <= 20 {
                for path in spoiled(&path) {
                    assert!(!verify_consistency(old, new, &old_root, &new_root, &path), "{old} to {new}");
                }
            }
        }
    }
}

#[test]
fn large_logs_agree_with_the_oracle() {
    let size = 5000;
    let pair = Pair::of(size);
    let root = pair.frontier.root();
    assert_eq!(root, <Hash>::try_from(pair.oracle().root().as_bytes().as_slice()).unwrap());
    // A fixed walk over the range: enough odd places, the same in every run.
    for step in 0..300u64 {
        let index = (step * step * 2_654_435_761 + 17) % size;
        let path = inclusion_proof(&pair, index, size).unwrap();
        assert_eq!(path, hashes(pair.oracle().prove_inclusion(index as usize).as_bytes()));
        assert!(verify_inclusion(&pair.leaves[index as usize], index, size, &root, &path));
        let path = consistency_proof(&pair, index + 1, size).unwrap();
        assert_eq!(path, hashes(pair.oracle().prove_consistency((size - index - 1) as usize).as_bytes()));
        assert!(verify_consistency(index + 1, size, &pair.roots[index as usize + 1], &root, &path));
        // An older log's proofs come from the same nodes.
        let older = index + 1;
        let path = inclusion_proof(&pair, older / 2, older).unwrap();
        assert!(verify_inclusion(
            &pair.leaves[(older / 2) as usize],
            older / 2,
            older,
            &pair.roots[older as usize],
            &path
        ));
    }
}

#[test]
fn edges_that_interfaces_md_fixes() {
    let pair = Pair::of(5);
    let (root, leaf) = (pair.frontier.root(), pair.leaves[0]);
    assert_eq!(hex::encode(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    // Equal sizes: empty proof and equal roots.
    assert!(verify_consistency(5, 5, &root, &root, &[]));
    assert!(!verify_consistency(5, 5, &root, &leaf, &[]));
    assert!(!verify_consistency(5, 5, &root, &root, &[leaf]));
    assert!(verify_consistency(0, 0, &empty_root(), &empty_root(), &[]));
    // From size 0: empty proof and the hash of nothing.
    assert!(verify_consistency(0, 5, &empty_root(), &root, &[]));
    assert!(!verify_consistency(0, 5, &root, &root, &[]));
    assert!(!verify_consistency(0, 5, &empty_root(), &root, &[leaf]));
    // Impossible.
    assert!(!verify_consistency(6, 5, &root, &root, &[]));
    assert_eq!(consistency_proof(&pair, 6, 5), None);
    assert!(!verify_inclusion(&leaf, 0, 0, &leaf, &[]));
    assert!(!verify_inclusion(&leaf, 5, 5, &leaf, &[]));
    assert!(verify_inclusion(&leaf, 0, 1, &leaf, &[]));
    assert!(!verify_inclusion(&leaf, 0, 1, &leaf, &[leaf]));
    // Beyond what the log holds, up to the largest numbers: none, and no panic.
    for size in [6, 8, 1 << 40, u64::MAX - 1, u64::MAX] {
        assert_eq!(inclusion_proof(&pair, 0, size), None);
        assert_eq!(inclusion_proof(&pair, size - 1, size), None);
        assert_eq!(consistency_proof(&pair, 5, size), None);
        let path = vec![leaf; 64];
        for index in [0, 1, size / 2, size - 1] {
            assert!(!verify_inclusion(&leaf, index, size, &root, &path));
            assert!(!verify_consistency(index, size, &root, &root, &path));
        }
    }
    assert_eq!(inclusion_proof(&pair, u64::MAX, u64::MAX), None);
}

#[test]
fn leaf_node_entry_and_header_hashes_differ() {
    let data = [9; 64];
    let node = assent_ledger::log::node_hash(&[9; 32], &[9; 32]);
    assert_ne!(leaf_hash(&data), node);
    assert_ne!(tagged_leaf_hash(LEAF_ENTRY, &data), tagged_leaf_hash(LEAF_HEADER, &data));
    assert_eq!(tagged_leaf_hash(LEAF_ENTRY, &data), leaf_hash(&[&[LEAF_ENTRY][..], &data].concat()));
}

#[test]
fn a_frontier_survives_its_parts() {
    for size in [0, 1, 2, 3, 7, 8, 63, 64, 65] {
        let pair = Pair::of(size);
        let peaks = pair.frontier.peaks().to_vec();
        let mut again = Frontier::from_parts(size, peaks.clone()).unwrap();
        assert_eq!(again, pair.frontier);
        let mut grown = pair.frontier.clone();
        grown.append([5; 32], |_, _, _| {});
        again.append([5; 32], |_, _, _| {});
        assert_eq!(again.root(), grown.root());
        assert_eq!(Frontier::from_parts(size, [peaks, vec![[1; 32]]].concat()), None);
        if size > 0 {
            assert_eq!(Frontier::from_parts(size, vec![]), None);
        }
    }
}
