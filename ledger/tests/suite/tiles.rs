//! C2SP tiles: their paths, and proofs made of nothing but tiles.

use std::collections::BTreeMap;

use assent_ledger::log::{
    consistency_proof, inclusion_proof, leaf_hash, root_at, verify_consistency, verify_inclusion, Frontier,
    LogRead, LEAF_ENTRY, LEAF_HEADER,
};
use assent_ledger::tiles::{hash_tile, leaves, push_leaf, Content, TilePath, Tiles, Wanted};
use assent_ledger::Hash;

#[derive(Default)]
struct Store(BTreeMap<(u8, u64), Hash>);

impl LogRead for Store {
    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        self.0.get(&(level, index)).copied()
    }
}

/// A log of so many leaves, and its root at each size.
fn log(size: u64) -> (Store, Vec<Hash>) {
    let (mut store, mut frontier) = (Store::default(), Frontier::default());
    let mut roots = vec![frontier.root()];
    for n in 0..size {
        frontier.append(leaf_hash(&n.to_be_bytes()), |level, index, hash| {
            store.0.insert((level, index), hash);
        });
        roots.push(frontier.root());
    }
    (store, roots)
}

#[test]
fn paths_are_those_of_c2sp() {
    let tile = |content, index, width| TilePath { content, index, width };
    for (path, expected) in [
        ("0/000", tile(Content::Hashes(0), 0, 256)),
        ("0/x001/x234/067", tile(Content::Hashes(0), 1_234_067, 256)),
        ("63/999", tile(Content::Hashes(63), 999, 256)),
        ("1/x001/000.p/1", tile(Content::Hashes(1), 1000, 1)),
        ("entries/000.p/255", tile(Content::Entries, 0, 255)),
        ("entries/x018/x446/x744/x073/x709/x551/615", tile(Content::Entries, u64::MAX, 256)),
    ] {
        assert_eq!(TilePath::parse(path), Some(expected), "{path}");
        assert_eq!(expected.to_string(), format!("tile/{path}"));
    }
    for path in [
        "",
        "/",
        "0",
        "0/",
        "0/0",
        "0/00",
        "0/0000",
        "0/x000/000",
        "0/000/000",
        "0/x001",
        "0/x001/",
        "0/-01",
        "0/+01",
        "0/ 01",
        "00/000",
        "01/000",
        "64/000",
        "256/000",
        "-1/000",
        "data/000",
        "Entries/000",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/01",
        "0/000.p/",
        "0/000.p",
        "0/000.p/1/2",
        "0/000.p/1.p/1",
        "0/X001/000",
        "0/001/x000",
        "0/٠٠١",
        "entries/x018/x446/x744/x073/x709/x551/616",
        "../../etc/passwd",
    ] {
        assert_eq!(TilePath::parse(path), None, "{path}");
    }
}

#[test]
fn a_log_has_the_tiles_that_its_size_fills() {
    let within = |path: &str, size| TilePath::parse(path).unwrap().is_within(size);
    for (path, from) in [
        ("0/000.p/1", 1),
        ("0/000.p/255", 255),
        ("0/000", 256),
        ("0/001.p/3", 259),
        ("1/000.p/1", 256),
        ("1/000.p/2", 512),
        ("1/000", 65_536),
        ("2/000.p/1", 65_536),
        ("entries/001.p/1", 257),
        ("7/000.p/1", 1 << 56),
    ] {
        assert!(within(path, from) && !within(path, from - 1), "{path}");
    }
    // Levels that no log has, and numbers that no leaf has.
    for path in [
        "8/000.p/1",
        "63/000.p/1",
        "0/x072/x057/x594/x037/x927/936",
        "entries/x018/x446/x744/x073/x709/x551/615",
    ] {
        assert!(!within(path, u64::MAX), "{path}");
    }
}

#[test]
fn tiles_alone_make_every_proof() {
    let sizes: Vec<u64> = [1, 2, 3, 5, 255, 256, 257, 511, 512, 513, 767, 1000, 4096, 4097]
        .into_iter()
        .chain([65_535, 65_536, 65_537, 65_792, 66_000, 70_001])
        .collect();
    let (store, roots) = log(70_001);
    let (mut fetched, mut proofs) = (0, 0);
    for new in &sizes {
        assert_eq!(root_at(&store, *new), Some(roots[*new as usize]));
        let fetch = |wanted: Wanted| {
            let mut tiles = Tiles::new(*new);
            for tile in wanted.tiles() {
                assert!(tile.is_within(*new), "{tile} of {new}");
                assert!(tiles.add(tile, &hash_tile(&store, &tile).unwrap()));
            }
            tiles
        };
        for old in sizes.iter().filter(|old| *old <= new) {
            let wanted = Wanted::new(*new);
            consistency_proof(&wanted, *old, *new).unwrap();
            let tiles = fetch(wanted);
            let proof = consistency_proof(&tiles, *old, *new).unwrap();
            assert_eq!(Some(&proof), consistency_proof(&store, *old, *new).as_ref());
            assert!(verify_consistency(*old, *new, &roots[*old as usize], &roots[*new as usize], &proof));
            proofs += 1;
        }
        for index in [0, new / 3, new - 1] {
            let wanted = Wanted::new(*new);
            inclusion_proof(&wanted, index, *new).unwrap();
            let tiles = fetch(wanted);
            fetched += 1;
            let proof = inclusion_proof(&tiles, index, *new).unwrap();
            let leaf = leaf_hash(&index.to_be_bytes());
            assert!(verify_inclusion(&leaf, index, *new, &roots[*new as usize], &proof));
        }
    }
    assert!(proofs > 200 && fetched == 60, "{proofs} {fetched}");
    // What was not fetched makes no proof, and a tile of another length is none.
    assert_eq!(consistency_proof(&Tiles::new(1000), 5, 1000), None);
    let tile = TilePath::parse("0/000.p/2").unwrap();
    for bytes in [0, 32, 63, 65, 96] {
        assert!(!Tiles::new(2).add(tile, &vec![0; bytes]));
    }
}

#[test]
fn bundles_hold_leaves_and_nothing_else() {
    let mut bundle = Vec::new();
    assert!(push_leaf(&mut bundle, LEAF_ENTRY, &[7; 65_534]));
    assert!(push_leaf(&mut bundle, LEAF_HEADER, b""));
    assert_eq!(bundle.len(), 2 + 65_535 + 2 + 1);
    // Its kind makes the longest entry a byte too long for the format.
    assert!(!push_leaf(&mut bundle, LEAF_ENTRY, &[7; 65_535]));
    let read = leaves(&bundle, 2).unwrap();
    assert_eq!((read[0].len(), read[0][0], read[1]), (65_535, LEAF_ENTRY, &[LEAF_HEADER][..]));
    assert_eq!((leaves(&bundle, 1), leaves(&bundle, 3)), (None, None));
    for cut in [1, 2, 3, 4] {
        assert_eq!(leaves(&bundle[..bundle.len() - cut], 2), None, "{cut}");
    }
    assert_eq!(leaves(&[bundle.as_slice(), &[0]].concat(), 2), None);
}
