//! Proofs: of the state, of a leaf in the log, and of the log's growth.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use assent_ledger::hash::Hash;
use assent_ledger::log::{
    consistency_proof, inclusion_proof, leaf_hash, root_at, verify_consistency, verify_inclusion, Frontier,
    LogRead,
};
use assent_ledger::tree::{is_proof, verify};

use super::good;

/// A state: its root, key and value of what is there, the key of what is not, and the two proofs.
const GOOD: &[&[u8]] =
    good!["proof/root", "proof/key", "proof/value", "proof/absent-key", "proof/present", "proof/absent"];

/// Leaves of the log.
const LEAVES: u64 = 300;

struct Log(BTreeMap<(u8, u64), Hash>);

impl LogRead for Log {
    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        self.0.get(&(level, index)).copied()
    }
}

fn leaf(index: u64) -> Hash {
    leaf_hash(&index.to_be_bytes())
}

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let (mut frontier, mut nodes) = (Frontier::default(), BTreeMap::new());
    for index in 0..LEAVES {
        frontier.append(leaf(index), |level, index, hash| {
            nodes.insert((level, index), hash);
        });
    }
    Log(nodes)
});

/// Of each statement one proof holds, byte for byte.
///
/// ```text
/// input = 0, proof                        a state proof as it stands
///         1 or 2, (place (2), xor) ...    the good proof of what is there, or of what is not, changed
///         3, numbers, changes             of the log: two sizes or index and size (2 bytes each), changes as above
/// ```
pub fn proof(input: &[u8]) {
    match input.split_first() {
        Some((0, proof)) => state(proof),
        Some((1, changes)) => state(&changed(GOOD[4], changes)),
        Some((2, changes)) => state(&changed(GOOD[5], changes)),
        Some((3, rest)) => log(rest),
        _ => {}
    }
}

fn changed(good: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for [low, high, xor] in changes.as_chunks::<3>().0 {
        let place = usize::from(u16::from_le_bytes([*low, *high]));
        match place.checked_sub(bytes.len()) {
            None => bytes[place] ^= xor,
            // Behind the end: as much longer, or cut.
            Some(0) => bytes.push(*xor),
            Some(_) => bytes.truncate(bytes.len().saturating_sub(usize::from(*xor))),
        }
    }
    bytes
}

fn state(proof: &[u8]) {
    let of = |n: usize| -> Hash { GOOD[n].try_into().unwrap() };
    let (root, key, value, absent) = (of(0), of(1), GOOD[2], of(3));
    assert_eq!(verify(&root, &key, Some(value), proof), proof == GOOD[4]);
    assert_eq!(verify(&root, &absent, None, proof), proof == GOOD[5]);
    for lie in [&[][..], &value[1..], GOOD[1]] {
        assert!(!verify(&root, &key, Some(lie), proof) && !verify(&root, &absent, Some(lie), proof));
    }
    assert!(!verify(&root, &key, None, proof));
    assert!(is_proof(proof) || (proof != GOOD[4] && proof != GOOD[5]));
}

fn log(input: &[u8]) {
    let Some(([a, b, c, d], changes)) = input.split_first_chunk::<4>() else { return };
    let number = |low: &u8, high: &u8| u64::from(u16::from_le_bytes([*low, *high])) % (LEAVES + 2);
    let (first, size) = (number(a, b), number(c, d));
    let root = root_at(&*LOG, size);
    assert_eq!(root.is_some(), size <= LEAVES);
    let Some(root) = root else { return };
    let included = inclusion_proof(&*LOG, first, size);
    assert_eq!(included.is_some(), first < size);
    if let Some(good) = included {
        let path = path(&good, changes);
        assert_eq!(verify_inclusion(&leaf(first), first, size, &root, &path), path == good);
        assert!(!verify_inclusion(&leaf(first + 1), first, size, &root, &path));
    }
    let grown = consistency_proof(&*LOG, first, size);
    assert_eq!(grown.is_some(), first <= size);
    if let (Some(good), Some(old)) = (grown, root_at(&*LOG, first)) {
        let path = path(&good, changes);
        assert_eq!(verify_consistency(first, size, &old, &root, &path), path == good);
        assert!(first == size || !verify_consistency(first, size, &root, &old, &path));
    }
}

fn path(good: &[Hash], changes: &[u8]) -> Vec<Hash> {
    changed(good.as_flattened(), changes).as_chunks::<32>().0.to_vec()
}
