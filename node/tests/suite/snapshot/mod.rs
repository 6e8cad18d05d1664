//! Snapshots and pruning: a small ledger of two organizations, made by hand, and what others make of it.

mod behind;
mod import;
mod lies;
mod network;
mod peers;
mod prune;

use std::collections::BTreeSet;

use assent_ledger::bench::turn;
use assent_ledger::Hash;
use assent_node::chain::import::{Expected, Import, ImportError};
use assent_node::chain::Store;
use assent_node::order::Replica;
use assent_node::snapshot::CHUNK_BYTES;
use assent_node::vault::Access;

use crate::ledger::{key, record_access, set_consent, withdrawal, Ledger};

/// Cedar's and Birch's slots.
const CEDARS: Hash = [1; 32];
const BIRCHS: Hash = [2; 32];
/// Blocks of [`ledger`].
const BLOCKS: u64 = 12;

/// Of an access nothing but its place.
fn opened() -> Access {
    Access { handle: [0; 32], salt: [0; 32], event: Vec::new(), recipient: Vec::new() }
}

/// The next block of what waits, in the first round whose turn is this node's: the rounds before are missed turns.
fn block(ledger: &mut Ledger, organization: &str) {
    let own = key(&ledger.net, organization, "vote").verifying_key().to_bytes();
    let (height, proposers) = (ledger.replica.tip() + 1, ledger.replica.proposers());
    let round = (0..4).find(|round| turn(&proposers, height, *round) == Some(&own)).unwrap();
    let candidate = ledger.build(round);
    ledger.decide(&candidate);
}

/// Twelve blocks, seen by Cedar: slots of Cedar and Birch, accesses, a withdrawal from a third node, an empty block.
fn ledger() -> Ledger {
    let mut ledger = Ledger::new("cedar");
    let patient = key(&ledger.net, "elm", "vault");
    let mut say = |author: &str, sequence, operations| {
        let entry = ledger.entry(author, sequence, operations);
        ledger.admit(&entry).unwrap();
        block(&mut ledger, "cedar");
    };
    say("cedar", 1, vec![set_consent("cedar", CEDARS, 0, Some(&patient))]);
    say("birch", 1, vec![set_consent("birch", BIRCHS, 0, None)]);
    for n in 2..=5 {
        say("cedar", n, vec![record_access("cedar", CEDARS, 1, [n as u8; 32])]);
        say("birch", n, vec![record_access("birch", BIRCHS, 1, [n as u8; 32])]);
    }
    say("elm", 1, vec![withdrawal("cedar", CEDARS, 0, &patient)]);
    block(&mut ledger, "cedar");
    assert_eq!(ledger.store.tip().unwrap().height, BLOCKS);
    ledger
}

/// What Cedar sends to an organization that joins.
fn snapshot(store: &Store, asker: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let view = store.view().unwrap();
    view.write_snapshot(asker, CHUNK_BYTES, |chunk| {
        bytes.extend(chunk);
        true
    })
    .unwrap();
    bytes
}

/// A store of an organization's node; at genesis when it is new.
fn store(ledger: &Ledger, organization: &str, name: &str) -> Store {
    let member = &ledger.net.members[ledger.net.index(organization)];
    let file = std::fs::read(member.dir.join("genesis.bin")).unwrap();
    Store::open(&member.dir.join(name), &file, &ledger.net.genesis).unwrap()
}

/// Imports a snapshot for an organization whose ledger is `present`; the new one.
fn imported(
    ledger: &Ledger,
    organization: &str,
    present: &Store,
    handles: &[Hash],
    bytes: &[u8],
) -> Result<Store, ImportError> {
    let dir = &ledger.net.members[ledger.net.index(organization)].dir;
    let folder = dir.join("importing");
    let _ = std::fs::remove_dir_all(&folder);
    let genesis_file = std::fs::read(dir.join("genesis.bin")).unwrap();
    let (genesis, genesis_file) = (&ledger.net.genesis, genesis_file.as_slice());
    let accepted = BTreeSet::new();
    let expected =
        Expected { genesis, genesis_file, own: organization, handles, accepted: &accepted, present };
    let mut import = Import::new(&folder, expected)?;
    for chunk in bytes.chunks(1000) {
        import.bytes(chunk)?;
    }
    import.finish()?;
    Ok(store(ledger, organization, "importing"))
}

/// Its records: kind and payload.
fn records(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let (payload, rest) = rest.split_at(u32::from_be_bytes(*head.last_chunk().unwrap()) as usize);
        found.push((head[0], payload.to_vec()));
        bytes = rest;
    }
    found
}

fn bytes_of(records: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, payload) in records {
        bytes.push(*kind);
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
    }
    bytes
}
