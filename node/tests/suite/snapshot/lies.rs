//! Snapshots of peers that lie: each is refused with its reason.

use assent_ledger::block::header_hash;
use assent_node::chain::snapshot::{SnapshotBlock, SnapshotTip};
use assent_proto::ledger::v1::{Header, Recover, ValidatorSet};
use prost::Message;

use super::*;

type Records = Vec<(u8, Vec<u8>)>;

fn refusal(ledger: &Ledger, present: &Store, bytes: &[u8]) -> String {
    match imported(ledger, "cedar", present, &[], bytes) {
        Ok(_) => "taken".into(),
        Err(ImportError::Refused(refused)) => refused.to_string(),
        Err(ImportError::Local(fatal)) => format!("local: {fatal}"),
    }
}

fn block_at(records: &mut Records, height: usize, change: impl FnOnce(&mut SnapshotBlock)) {
    let mut block = SnapshotBlock::decode(records[height].1.as_slice()).unwrap();
    change(&mut block);
    records[height].1 = block.encode_to_vec();
}

fn tip(records: &mut Records, change: impl FnOnce(&mut SnapshotTip)) {
    let mut tip = SnapshotTip::decode(records[0].1.as_slice()).unwrap();
    change(&mut tip);
    records[0].1 = tip.encode_to_vec();
}

/// A plan to go on without the first validator after block 3, which has this header.
fn made_up(tip: &SnapshotTip, header: &[u8]) -> Recover {
    let mut set = ValidatorSet::decode(tip.validators[0].as_slice()).unwrap();
    set.validators.remove(0);
    let chain_id = Header::decode(header).unwrap().chain_id;
    let header_hash = header_hash(&chain_id, header).to_vec();
    Recover {
        height: 3,
        header_hash,
        validators: set.encode_to_vec(),
        reason: "x".into(),
        ..Default::default()
    }
}

#[test]
fn every_part_is_checked() {
    let ledger = ledger();
    let present = store(&ledger, "cedar", "at-genesis");
    let honest = records(&snapshot(&ledger.store, "cedar"));
    assert!(honest.iter().take(BLOCKS as usize + 1).map(|(kind, _)| *kind).eq(*b"TBBBBBBBBBBBB"));
    let state = BLOCKS as usize + 1;
    let last = honest.len() - 1;
    type Lie = (&'static str, &'static str, Box<dyn Fn(&mut Records)>);
    let lies: Vec<Lie> = vec![
        ("a value changed", "state-root: ", Box::new(move |r| *r[state].1.last_mut().unwrap() ^= 1)),
        ("a value left out", "state-root: ", Box::new(move |r| drop(r.remove(state)))),
        ("a value added", "state-root: ", Box::new(|r| r.push((b'S', vec![0xff; 40])))),
        ("values out of order", "malformed: state keys", Box::new(move |r| r.swap(state, last))),
        ("a value twice", "malformed: state keys", Box::new(move |r| r.push(r[last].clone()))),
        ("a value without key", "malformed: a state value", Box::new(|r| r.push((b'S', vec![1; 31])))),
        ("no values", "state-root: ", Box::new(move |r| r.truncate(state))),
        ("nothing", "short: ", Box::new(Vec::clear)),
        ("no tip", "malformed: a record of kind", Box::new(|r| drop(r.remove(0)))),
        ("two tips", "malformed: a record of kind", Box::new(|r| r.push(r[0].clone()))),
        ("unknown record", "malformed: a record of kind 0x58", Box::new(|r| r.push((b'X', vec![])))),
        ("a block behind the state", "malformed: a record of kind", Box::new(|r| r.push(r[1].clone()))),
        ("a block left out", "header: header 5", Box::new(|r| drop(r.remove(5)))),
        ("blocks exchanged", "header: header 5", Box::new(|r| r.swap(5, 6))),
        ("the last block left out", "certificate: ", Box::new(|r| drop(r.remove(BLOCKS as usize)))),
        ("a leaf hash changed", "log-root: ", Box::new(|r| block_at(r, 4, |b| b.leaf_hashes[0] ^= 1))),
        ("a leaf hash left out", "log-root: ", Box::new(|r| block_at(r, 4, |b| b.leaf_hashes.clear()))),
        (
            "half a leaf hash",
            "malformed: 31 bytes",
            Box::new(|r| block_at(r, 4, |b| b.leaf_hashes.truncate(31))),
        ),
        (
            "too many leaf hashes",
            "malformed: 131104 bytes",
            Box::new(|r| block_at(r, 4, |b| b.leaf_hashes.resize(4097 * 32, 0))),
        ),
        ("a header changed", "header", Box::new(|r| block_at(r, 4, |b| *b.header.last_mut().unwrap() ^= 1))),
        (
            "a certificate exchanged",
            "header: header 4: the certificate",
            Box::new(|r| {
                let other = SnapshotBlock::decode(r[3].1.as_slice()).unwrap().previous_certificate;
                block_at(r, 4, |b| b.previous_certificate = other);
            }),
        ),
        (
            "an own entry changed",
            "own-entry: an entry of block 3",
            Box::new(|r| block_at(r, 3, |b| b.own[0].bytes[9] ^= 1)),
        ),
        ("an own entry elsewhere", "own-entry: ", Box::new(|r| block_at(r, 3, |b| b.own[0].index = 1 << 40))),
        ("an own entry left out", "own-history: ", Box::new(|r| block_at(r, 3, |b| b.own.clear()))),
        ("the last certificate cut", "certificate: ", Box::new(|r| tip(r, |t| t.certificate.truncate(90)))),
        (
            "the certificate of another block",
            "certificate: ",
            Box::new(|r| {
                let other = SnapshotBlock::decode(r[4].1.as_slice()).unwrap().previous_certificate;
                tip(r, |t| t.certificate = other);
            }),
        ),
        ("no tip in the tip", "malformed: its tip", Box::new(|r| tip(r, |t| t.tip = None))),
        (
            "a recovery that there was none of",
            "recovery: the plan of the recovery: the plan follows block 3",
            Box::new(|r| {
                tip(r, |t| t.recoveries.push(Recover { header_hash: vec![7; 32], ..made_up(t, &[]) }))
            }),
        ),
        (
            "a recovery that nobody accepts",
            "recovery: it went through a recovery with plan",
            Box::new(|r| {
                let header = SnapshotBlock::decode(r[3].1.as_slice()).unwrap().header;
                tip(r, |t| t.recoveries.push(made_up(t, &header)));
            }),
        ),
        (
            "validators that are none",
            "malformed: validators",
            Box::new(|r| tip(r, |t| t.validators.push(vec![7]))),
        ),
    ];
    for (what, says, lie) in lies {
        let mut records = honest.clone();
        lie(&mut records);
        let said = refusal(&ledger, &present, &bytes_of(&records));
        assert!(said.starts_with(says), "{what}: {said}");
    }
    assert_eq!(refusal(&ledger, &present, &bytes_of(&honest)), "taken");
    let whole = bytes_of(&honest);
    assert!(refusal(&ledger, &present, &whole[..whole.len() - 1]).starts_with("short: "));
    let huge = [&whole[..], &[b'S', 0x7f, 0xff, 0xff, 0xff]].concat();
    assert!(refusal(&ledger, &present, &huge).starts_with("oversized: a record of 2147483647 bytes"));
}

/// The bench decides who proposes next, and stands in no header: it is recomputed.
#[test]
fn a_tip_that_the_headers_do_not_lead_to_is_refused() {
    let ledger = ledger();
    let present = store(&ledger, "cedar", "at-genesis");
    let honest = records(&snapshot(&ledger.store, "cedar"));
    // Fields of the stored tip, by their number.
    for (field, named) in [(2u8, "height"), (4, "time"), (5, "state root"), (10, "bench"), (13, "recovery")] {
        let mut records = honest.clone();
        let mut tip = SnapshotTip::decode(records[0].1.as_slice()).unwrap();
        let mut bytes = tip.tip.take().unwrap().encode_to_vec();
        // The last one of a number counts; an absence is one more.
        match field {
            2 | 4 => bytes.extend([field << 3, 99]),
            5 | 13 => bytes.extend([&[field << 3 | 2, 32][..], &[3; 32]].concat()),
            _ => bytes.extend([&[field << 3 | 2, 38, 0x0a, 32][..], &[3; 32], &[0x10, 1, 0x18, 0]].concat()),
        }
        tip.tip = Some(Message::decode(bytes.as_slice()).unwrap());
        records[0].1 = tip.encode_to_vec();
        let said = refusal(&ledger, &present, &bytes_of(&records));
        assert_eq!(said, format!("tip: its tip names another {named} than its headers lead to"));
    }
    // Another chain's: no header of it follows from this genesis.
    let other = super::ledger();
    let said = refusal(&ledger, &present, &snapshot(&other.store, "cedar"));
    assert!(said.starts_with("header: header 1: the header before it"), "{said}");
}
