//! Proofs of the state tree: presence, absence, and nothing else.

use std::collections::BTreeMap;

use assent_ledger::hash::{sha256, Hash};
use assent_ledger::state::ReadError;
use assent_ledger::tree::{
    prove, update, verify, MemoryNodes, MemoryTree, NodeRead, StateTree, MAX_STATE_PROOF_BYTES,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

type Values = BTreeMap<Hash, Vec<u8>>;

fn key(n: u64) -> Hash {
    sha256(&n.to_be_bytes())
}

fn grown(count: u64) -> (MemoryNodes, Values, Hash) {
    let values: Values = (0..count).map(|n| (key(n), n.to_be_bytes().to_vec())).collect();
    let mut nodes = MemoryNodes::default();
    let change = update(&nodes, 0, &values).unwrap();
    let root = change.root;
    nodes.apply(change);
    (nodes, values, root)
}

/// Keys that share many bits, and some that share none.
fn close_key(n: u16) -> Hash {
    let mut key = [0; 32];
    match n % 3 {
        0 => key[30..].copy_from_slice(&n.to_be_bytes()),
        1 => key[..2].copy_from_slice(&n.to_be_bytes()),
        _ => key = sha256(&n.to_be_bytes()),
    }
    key
}

proptest! {
    /// The auditor's tree in memory has the roots of the one that nodes store, whatever came before.
    #[test]
    fn the_tree_in_memory_has_the_same_roots(
        updates in vec(btree_map(0u16..400, any::<u8>(), 1..40), 1..12)
    ) {
        let (mut stored, mut memory) = (MemoryNodes::default(), MemoryTree::default());
        for (version, changes) in (0u64..).zip(updates) {
            let changes: Values = changes.into_iter().map(|(n, value)| (close_key(n), vec![value])).collect();
            let update = update(&stored, version, &changes).unwrap();
            let (root, replaced) = memory.update(version, &changes).unwrap();
            prop_assert_eq!(root, update.root);
            stored.apply(update);
            // An update that is not taken over changes nothing.
            prop_assert_eq!(memory.update(version, &changes).unwrap().0, root);
            memory.apply(replaced);
        }
    }
}

#[test]
fn presence_and_absence_are_proven() {
    for count in [1, 2, 3, 17, 100] {
        let (nodes, values, root) = grown(count);
        for (key, value) in &values {
            let proof = prove(&nodes, 0, key, Some(value)).unwrap();
            assert!(verify(&root, key, Some(value), &proof));
            assert!(!verify(&root, key, Some(b"other"), &proof));
            assert!(!verify(&root, key, Some(b""), &proof));
            assert!(!verify(&root, key, None, &proof), "a present key is not absent");
            assert!(!verify(&[0; 32], key, Some(value), &proof));
            // A neighbour's proof shows nothing of this key, neither presence nor absence of itself.
            let neighbour = values.keys().find(|k| *k != key);
            if let Some(neighbour) = neighbour {
                assert!(!verify(&root, neighbour, Some(value), &proof));
            }
        }
        for n in count..count + 20 {
            let proof = prove(&nodes, 0, &key(n), None).unwrap();
            assert!(verify(&root, &key(n), None, &proof));
            assert!(!verify(&root, &key(n), Some(&n.to_be_bytes()), &proof));
            assert!(!verify(&[0; 32], &key(n), None, &proof));
            for present in values.keys() {
                assert!(!verify(&root, present, None, &proof), "a proof of absence hides a present key");
            }
        }
    }
}

#[test]
fn every_changed_byte_of_a_proof_is_refused() {
    let (nodes, values, root) = grown(20);
    let (present, value) = values.first_key_value().unwrap();
    let proof = prove(&nodes, 0, present, Some(value)).unwrap();
    let absence = prove(&nodes, 0, &key(99), None).unwrap();
    let cases = [(*present, Some(value.as_slice()), proof), (key(99), None, absence)];
    for (key, value, proof) in cases {
        assert!(verify(&root, &key, value, &proof));
        for i in 0..proof.len() {
            for bit in 0..8 {
                let mut bad = proof.clone();
                bad[i] ^= 1 << bit;
                assert!(!verify(&root, &key, value, &bad), "byte {i} bit {bit}");
            }
            assert!(!verify(&root, &key, value, &proof[..i]), "cut at {i}");
        }
        assert!(!verify(&root, &key, value, &[&proof[..], &[0]].concat()));
    }
    assert!(!verify(&root, present, Some(value), &[]));
    assert!(!verify(&root, present, Some(value), &vec![0xff; MAX_STATE_PROOF_BYTES]));
    assert!(!verify(&root, present, Some(value), &vec![0; MAX_STATE_PROOF_BYTES + 1]));
}

/// The longest proof that can be: two keys that share 255 bits. It has to fit the limit.
#[test]
fn the_deepest_proof_fits_its_limit() {
    let (low, mut high) = ([0x55; 32], [0x55; 32]);
    high[31] ^= 1;
    let values = Values::from([(low, vec![1]), (high, vec![2]), (key(1), vec![3])]);
    let mut nodes = MemoryNodes::default();
    let change = update(&nodes, 0, &values).unwrap();
    let root = change.root;
    nodes.apply(change);
    let proof = prove(&nodes, 0, &low, Some(&[1])).unwrap();
    assert!(proof.len() < MAX_STATE_PROOF_BYTES, "{} bytes", proof.len());
    assert!(verify(&root, &low, Some(&[1]), &proof));
    assert!(!verify(&root, &high, Some(&[1]), &proof));
}

#[test]
fn pruning_keeps_the_latest_version_provable() {
    let (mut nodes, mut values, mut root) = grown(10);
    let mut version = 0;
    for step in 0..200u64 {
        let changes: Values = (0..1 + step % 5)
            .map(|i| (key((step * 7 + i * 13) % 60), [step.to_be_bytes(), i.to_be_bytes()].concat()))
            .collect();
        version += 1;
        let change = update(&nodes, version, &changes).unwrap();
        assert_ne!(change.root, root);
        root = change.root;
        nodes.apply(change);
        values.extend(changes);
        if step % 10 == 9 {
            for n in 0..60 {
                let value = values.get(&key(n)).map(Vec::as_slice);
                let proof = prove(&nodes, version, &key(n), value).unwrap();
                assert!(verify(&root, &key(n), value, &proof), "key {n} at version {version}");
            }
        }
    }
    // What is left is no more than a tree made at once needs: nothing leaked.
    let mut fresh = MemoryNodes::default();
    let at_once = update(&fresh, 0, &values).unwrap();
    assert_eq!(at_once.root, root, "the root depends on the content only, not on its history");
    let needed = at_once.nodes.len();
    fresh.apply(at_once);
    assert_eq!(Counted::of(&nodes, &root, &values, version), needed);
}

/// Counts the nodes that a store still holds, by asking it for all it ever was told.
struct Counted;

impl Counted {
    fn of(nodes: &MemoryNodes, root: &Hash, values: &Values, version: u64) -> usize {
        // One more update over every key makes exactly the live nodes stale.
        let rewrite: Values = values.keys().map(|k| (*k, b"rewritten".to_vec())).collect();
        let change = update(nodes, version + 1, &rewrite).unwrap();
        assert_ne!(change.root, *root);
        let stale = change.stale.len();
        let mut after = nodes.clone();
        after.apply(change.clone());
        for key in &change.stale {
            assert_eq!(after.node(key), Ok(None));
        }
        // Whatever is left beside the new nodes would be a leak.
        let mut only_new = MemoryNodes::default();
        only_new.apply(assent_ledger::tree::TreeUpdate { stale: vec![], ..change });
        assert_eq!(after, only_new);
        stale
    }
}

struct BrokenNodes;

impl NodeRead for BrokenNodes {
    fn node(&self, _: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Err(ReadError("disk".into()))
    }
}

struct GarbageNodes;

impl NodeRead for GarbageNodes {
    fn node(&self, _: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(Some(vec![0xee; 40]))
    }
}

#[test]
fn a_broken_store_is_an_error_not_an_answer() {
    assert!(prove(&BrokenNodes, 3, &key(1), None).is_err());
    assert!(update(&BrokenNodes, 4, &Values::from([(key(1), vec![1])])).is_err());
    assert!(prove(&GarbageNodes, 3, &key(1), None).is_err());
    assert!(update(&GarbageNodes, 4, &Values::from([(key(1), vec![1])])).is_err());
}
