//! Any flipped byte is found, and the height that is named is that of the record which holds it.

use std::sync::atomic::{AtomicUsize, Ordering};

use assent_ledger::audit::verify_export;
use assent_ledger::block::{build_block, Proposal};
use assent_ledger::keys::verify_batch;
use assent_ledger::receipts::{verify_bundle, verify_history};
use prost::Message;

use crate::chain::Chain;
use crate::records::{history, op, set_policy, three_accesses, trust};

/// Single-bit changes of every byte, shared between two threads. `bits` says which bits of the byte at a place.
pub fn each_flip(bytes: &[u8], bits: impl Fn(usize) -> u8 + Sync, check: impl Fn(usize, &[u8]) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut copy = bytes.to_vec();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= bytes.len() {
                        break;
                    }
                    for bit in (0..8).filter(|bit| bits(at) & (1 << bit) != 0) {
                        copy[at] ^= 1 << bit;
                        check(at, &copy);
                        copy[at] ^= 1 << bit;
                    }
                }
            });
        }
    });
}

/// One bit, another from byte to byte: each test takes seconds, not minutes. (All eight were tried when this was written.)
pub fn one_bit(at: usize) -> u8 {
    1 << (at * 5 % 8)
}

/// A small export in which headers have a round and times have slack, so that a flip can stay plausible.
fn small_chain() -> Chain {
    let mut chain = Chain::of(1, &["birch", "cedar"]);
    for (n, entries) in [vec![("cedar", 0)], vec![], vec![("birch", 0), ("cedar", 1)]].into_iter().enumerate()
    {
        let entries = entries
            .into_iter()
            .map(|(author, seq)| chain.entry(author, vec![op(set_policy(seq, 1))]))
            .collect();
        let proposal = Proposal {
            proposer: chain.turn(n as u32 + 1),
            round: n as u32 + 1,
            now_ms: chain.tip.time_ms + 1500,
            previous_certificate: chain.certificate.clone(),
        };
        let (block, ..) = build_block(&chain.tip, &chain.store, entries, &proposal, &verify_batch).unwrap();
        chain.take(block);
    }
    chain
}

#[test]
fn every_flip_in_an_export_is_found_at_its_height() {
    let chain = small_chain();
    let export = chain.export();
    assert_eq!(verify_export(&export, Some(chain.genesis.hash), |_| {}).1, Ok(()));
    // Height of every byte: magic and genesis 0, then the blocks; the last certificate belongs to the last block.
    let mut heights = vec![0; 8 + 5 + chain.file.len()];
    for (n, block) in chain.blocks.iter().enumerate() {
        heights.extend(vec![n as u64 + 1; 5 + block.len()]);
    }
    heights.resize(export.len(), chain.tip.height);
    // In the heads of records every bit: a kind that becomes another kind is the hard case.
    let starts: Vec<usize> =
        (8..export.len()).filter(|at| at == &8 || heights[*at] != heights[*at - 1]).collect();
    let last = export.len() - chain.certificate.len() - 5;
    let in_head = |at: usize| starts.iter().chain([&last]).any(|start| (*start..start + 5).contains(&at));
    each_flip(
        &export,
        |at| if in_head(at) { 0xff } else { one_bit(at) },
        |at, bytes| {
            let fault =
                verify_export(bytes, Some(chain.genesis.hash), |_| {}).1.expect_err("a flip was not found");
            assert_eq!(fault.height, heights[at], "byte {at} of {}: {fault:?}", export.len());
            // Without an anchor a damaged genesis shows only in what builds on it.
            let unanchored = verify_export(bytes, None, |_| {}).1.expect_err("a flip was not found");
            assert!(unanchored.height == heights[at] || heights[at] == 0, "byte {at}: {unanchored:?}");
        },
    );
}

#[test]
fn every_flip_in_a_bundle_is_refused() {
    let (chain, _, _, bundles) = three_accesses();
    let bytes = bundles[1].encode_to_vec();
    assert!(verify_bundle(&trust(&chain), &bytes).is_ok());
    each_flip(&bytes, one_bit, |at, bytes| {
        assert!(verify_bundle(&trust(&chain), bytes).is_err(), "byte {at}");
    });
    for cut in 0..bytes.len() {
        assert!(verify_bundle(&trust(&chain), &bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn every_flip_in_a_history_is_refused() {
    let (chain, _, shown, _) = three_accesses();
    let bytes = history(&chain, shown).encode_to_vec();
    assert!(verify_history(&trust(&chain), &bytes).is_ok());
    each_flip(&bytes, one_bit, |at, bytes| {
        assert!(verify_history(&trust(&chain), bytes).is_err(), "byte {at}");
    });
    for cut in 0..bytes.len() {
        assert!(verify_history(&trust(&chain), &bytes[..cut]).is_err(), "cut at {cut}");
    }
}
