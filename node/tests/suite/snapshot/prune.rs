//! Pruning keeps headers, certificates, log hashes and this organization's own entries.

use assent_ledger::block::header_hash;
use assent_ledger::certificate::verify_certificate;
use assent_ledger::log::{
    inclusion_proof, root_of, tagged_leaf_hash, verify_inclusion, LEAF_ENTRY, LEAF_HEADER,
};
use assent_ledger::Hash;
use assent_node::order::Replica;
use assent_proto::ledger::v1::{Block, Header, PrunedBlock};
use prost::Message;

use super::*;
use crate::net::CHAIN;

#[test]
fn what_proofs_need_stays_and_only_others_entries_go() {
    let ledger = ledger();
    let store = &ledger.store;
    let blocks: Vec<Block> = (1..=BLOCKS)
        .map(|height| Block::decode(store.block(height).unwrap().unwrap().as_slice()).unwrap())
        .collect();
    let receipt = |n: u64| {
        let view = store.view().unwrap();
        let place = view.access_place("cedar", &CEDARS, n).unwrap().unwrap();
        view.access_claim(&place, opened()).unwrap()
    };
    let receipts: Vec<_> = (1..=4).map(receipt).collect();
    assert_eq!(ledger.replica.history_min(), 1);

    // Nothing without the setting; in parts; up to the height.
    assert_eq!(store.prune(0, "cedar", 100).unwrap(), 0);
    assert_eq!(store.prune(3, "cedar", 4).unwrap(), 4);
    assert_eq!(store.prune(3, "cedar", 100).unwrap(), BLOCKS - 3 - 4);
    assert_eq!(store.prune(3, "cedar", 100).unwrap(), 0);
    assert_eq!(ledger.replica.history_min(), BLOCKS - 2);
    assert!(ledger.replica.decided(1, 5, 1 << 20).unwrap().is_empty());
    assert_eq!(ledger.replica.decided(BLOCKS - 2, BLOCKS, 1 << 20).unwrap().len(), 3);

    let view = store.view().unwrap();
    let mut leaves: Vec<Hash> = Vec::new();
    for (height, block) in (1..).zip(&blocks) {
        let sealed = view.sealed(height).unwrap().unwrap();
        assert_eq!(sealed.header_bytes, block.header);
        let hash = header_hash(CHAIN, &block.header);
        verify_certificate(CHAIN, &view.tip.validators, height, &hash, &sealed.certificate).unwrap();
        let entries = block.entries.iter().map(|entry| tagged_leaf_hash(LEAF_ENTRY, entry));
        let hashes: Vec<Hash> = entries.collect();
        leaves.extend(&hashes);
        let header = Header::decode(block.header.as_slice()).unwrap();
        assert_eq!(root_of(&leaves).to_vec(), header.log_root);
        leaves.push(tagged_leaf_hash(LEAF_HEADER, &block.header));
        let pruned = view.pruned(height).unwrap();
        if height > BLOCKS - 3 {
            assert!(pruned.is_none() && store.block(height).unwrap().is_some());
            continue;
        }
        assert!(store.block(height).unwrap().is_none() && view.committed(height).unwrap().is_none());
        let leaf_hashes = hashes.iter().map(|hash| hash.to_vec()).collect();
        let Block { header, previous_certificate, .. } = block.clone();
        assert_eq!(pruned, Some(PrunedBlock { header, previous_certificate, leaf_hashes, recovery: None }));
        let kept = view.own_entries(height).unwrap().unwrap();
        // Cedar's own entries alternate with Birch's; Elm's withdrawal concerns a slot of Cedar's.
        assert_eq!(kept.len(), usize::from(height % 2 == 1), "{height}");
        assert!(kept.iter().all(|entry| entry.bytes == block.entries[entry.index as usize]));
    }
    // Old and new proofs, and the receipts that were kept.
    let (size, root) = (leaves.len() as u64, root_of(&leaves));
    for (n, leaf) in leaves.iter().enumerate() {
        let path = inclusion_proof(&view, n as u64, size).unwrap();
        assert!(verify_inclusion(leaf, n as u64, size, &root, &path));
    }
    assert_eq!((1..=4).map(receipt).collect::<Vec<_>>(), receipts);
}
