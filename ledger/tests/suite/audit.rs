//! The auditor's way through a file: order of records, joined and cut files, other chains, and which height is named.

use assent_ledger::audit::{
    parse_head, verify_export, verify_export_at, write_record, Fault, Level, RecordKind, EXPORT_MAGIC,
};
use assent_ledger::block::header_hash;
use assent_proto::ledger::v1::{Block, Header};
use prost::Message;

use crate::chain::{export, Chain, CHAIN};
use crate::records::{op, set_policy, three_accesses};

fn fault(bytes: &[u8], chain: &Chain) -> Fault {
    verify_export(bytes, Some(chain.genesis.hash), |_| {}).1.expect_err("nothing found")
}

fn height_and_kind(bytes: &[u8], chain: &Chain) -> (u64, &'static str) {
    let fault = fault(bytes, chain);
    (fault.height, fault.kind)
}

fn records(parts: &[(RecordKind, &[u8])]) -> Vec<u8> {
    let mut out = EXPORT_MAGIC.to_vec();
    for (kind, payload) in parts {
        write_record(&mut out, *kind, payload);
    }
    out
}

#[test]
fn an_honest_export_is_verified_and_counted() {
    let (chain, ..) = three_accesses();
    let mut heights = Vec::new();
    let (verifier, outcome) =
        verify_export(&chain.export(), Some(chain.genesis.hash), |height| heights.push(height));
    assert_eq!(outcome, Ok(()));
    assert_eq!(heights, [0, 1, 2, 3, 4, 4]);
    assert_eq!(verifier.tip(), Some(&chain.tip));
    assert_eq!(verifier.genesis_hash(), Some(chain.genesis.hash));
    assert_eq!((verifier.counts.entries, verifier.counts.operations), (7, 7));
    // One author each, and four validators for each of four headers.
    assert_eq!(verifier.counts.signatures, 7 + 16);
    assert_eq!(verify_export(&chain.export(), None, |_| {}).1, Ok(()));
    // A chain that has not begun.
    let young = Chain::new();
    assert_eq!(verify_export(&young.export(), Some(young.genesis.hash), |_| {}).1, Ok(()));
}

/// What entries do is not looked at, but every byte of them stands in the log, and every byte of a header is certified.
#[test]
fn the_structure_covers_every_byte() {
    let (chain, ..) = three_accesses();
    let export = chain.export();
    let structural =
        |bytes: &[u8]| verify_export_at(Level::Structural, bytes, Some(chain.genesis.hash), |_| {});
    let (verifier, outcome) = structural(&export);
    assert_eq!(outcome, Ok(()));
    let tip = verifier.tip().unwrap();
    assert_eq!((tip.header_hash, tip.log.root()), (chain.tip.header_hash, chain.tip.log.root()));
    assert_eq!((tip.state_root, &tip.bench), (chain.tip.state_root, &chain.tip.bench));
    assert_eq!((verifier.counts.entries, verifier.counts.signatures), (7, 16));
    for at in (0..export.len()).step_by(3) {
        let mut bad = export.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(structural(&bad).1.is_err(), "byte {at} of {}", export.len());
    }
}

#[test]
fn what_is_no_export_is_refused() {
    let (chain, ..) = three_accesses();
    for bytes in [&b""[..], b"ASSENT", b"ASSENTX2", &chain.file, &[0; 100]] {
        assert_eq!(height_and_kind(bytes, &chain), (0, "magic"));
    }
    assert_eq!(height_and_kind(EXPORT_MAGIC, &chain), (0, "empty"));
    let huge = [&EXPORT_MAGIC[..], b"G\xff\xff\xff\xff"].concat();
    assert_eq!(height_and_kind(&huge, &chain), (0, "framing"));
    assert!(parse_head(*b"Z\0\0\0\0").is_err());
}

#[test]
fn a_cut_anywhere_is_found() {
    let (chain, ..) = three_accesses();
    let whole = chain.export();
    for cut in 0..whole.len() {
        let outcome = verify_export(&whole[..cut], Some(chain.genesis.hash), |_| {}).1;
        // The one edge that shows nothing: a genesis by itself is a chain that has not begun.
        let genesis_alone = cut == EXPORT_MAGIC.len() + 5 + chain.file.len();
        assert_eq!(outcome.is_ok(), genesis_alone, "cut at {cut}");
    }
}

#[test]
fn records_out_of_order_are_refused() {
    use RecordKind::{Block as B, Certificate as C, Genesis as G};
    let (chain, ..) = three_accesses();
    let (g, c, b) = (&chain.file[..], &chain.certificate[..], &chain.blocks);
    type Records<'a> = Vec<(RecordKind, &'a [u8])>;
    let cases: Vec<(Records, (u64, &str))> = vec![
        (vec![(B, &b[0])], (0, "record-order")),
        (vec![(C, c)], (0, "record-order")),
        (vec![(G, g), (G, g)], (1, "record-order")),
        (vec![(G, g), (B, &b[1])], (1, "certificate-or-header")),
        (vec![(G, g), (B, &b[0]), (B, &b[2])], (2, "certificate-or-header")),
        (vec![(G, g), (B, &b[0]), (B, &b[0])], (2, "certificate-or-header")),
        (vec![(G, g), (B, &b[0]), (B, &b[1]), (B, &b[3]), (B, &b[2]), (C, c)], (3, "certificate-or-header")),
        (vec![(G, g), (B, &b[0]), (B, &b[1]), (C, c)], (2, "certificate")),
        (vec![(G, g), (B, &b[0])], (1, "truncated")),
        (
            vec![(G, g), (B, &b[0]), (B, &b[1]), (B, &b[2]), (B, &b[3]), (C, c), (C, c)],
            (4, "trailing-record"),
        ),
        (
            vec![(G, g), (B, &b[0]), (B, &b[1]), (B, &b[2]), (B, &b[3]), (C, c), (B, &b[3])],
            (4, "trailing-record"),
        ),
    ];
    for (number, (parts, (height, kind))) in cases.iter().enumerate() {
        let found = fault(&records(parts), &chain);
        assert_eq!(found.height, *height, "case {number}: {found:?}");
        match *kind {
            "certificate-or-header" => {
                assert!(
                    ["certificate", "header-mismatch", "malformed"].contains(&found.kind),
                    "case {number}: {found:?}"
                )
            }
            kind => assert_eq!(found.kind, kind, "case {number}: {found:?}"),
        }
    }
}

#[test]
fn joined_files_are_refused() {
    let (chain, ..) = three_accesses();
    let whole = chain.export();
    assert_eq!(fault(&[&whole[..], &whole].concat(), &chain).height, 4);
    assert_eq!(
        fault(&[&whole[..], &whole[8..]].concat(), &chain),
        Fault {
            height: 4,
            index: None,
            kind: "trailing-record",
            expected: "the end of the file".into(),
            found: "Genesis record".into(),
        }
    );
    assert_eq!(fault(&[&whole[..], &[0]].concat(), &chain).height, 4);
}

#[test]
fn a_chain_made_with_other_keys_is_refused() {
    let (chain, ..) = three_accesses();
    let mut other = Chain::of(2, &crate::chain::FOUR);
    other.commit(vec![]);
    assert_eq!(verify_export(&other.export(), Some(other.genesis.hash), |_| {}).1, Ok(()));
    assert_eq!(height_and_kind(&other.export(), &chain), (0, "genesis-hash"));
    // The right genesis with the other chain's blocks.
    assert_eq!(fault(&export(&chain.file, &other.blocks, &other.certificate), &chain).height, 1);
}

/// The last certificate may be any quorum's; nobody has to have all four.
#[test]
fn any_quorum_seals_the_export() {
    let mut chain = Chain::new();
    let entry = chain.entry("cedar", vec![op(set_policy(0, 1))]);
    chain.commit(vec![entry]);
    for left_out in 0..4 {
        let mut three = chain.names.clone();
        three.remove(left_out);
        chain.certificate = chain.certify(1, &chain.tip.header_hash, &three).encode_to_vec();
        assert_eq!(verify_export(&chain.export(), Some(chain.genesis.hash), |_| {}).1, Ok(()));
    }
}

/// Time and round of a header (the same proposer has its turn again four rounds later) follow from nothing else in its block:
/// only its certificate, one record later, covers them.
/// The height that is named is still the header's.
#[test]
fn a_changed_time_or_round_is_found_at_its_own_height() {
    let (chain, ..) = three_accesses();
    for at in 0..4 {
        let edits: [fn(&mut Header); 3] = [|h| h.time_ms += 1, |h| h.time_ms += 50_000, |h| h.round = 4];
        for edit in edits {
            let mut block = Block::decode(chain.blocks[at].as_slice()).unwrap();
            let mut header = Header::decode(block.header.as_slice()).unwrap();
            edit(&mut header);
            block.header = header.encode_to_vec();
            let mut blocks = chain.blocks.clone();
            blocks[at] = block.encode_to_vec();
            let fault = fault(&export(&chain.file, &blocks, &chain.certificate), &chain);
            assert_eq!(fault.height, at as u64 + 1, "{fault:?}");
            if at == 3 {
                assert!(fault.found.contains(&hex::encode(header_hash(CHAIN, &block.header))), "{fault:?}");
            }
        }
    }
}
