//! Backups whose bytes, or whose ledger behind right hashes, are not what they were.

use assent_node::backup::{create, restore, verify, BackupError, How};
use assent_proto::ledger::v1::Block;
use prost::Message;
use rocksdb::{IteratorMode, Options, DB};

use super::{backed_up, lose_data, refused};
use crate::patient::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_a_cut_or_more_at_the_end_is_found_and_the_file_named() {
    let (net, dir, file) = backed_up().await;
    let (keys, hash) = (dir.join("keys"), hex::encode(net.genesis.hash));
    let verified = verify(&file, Some(&hash), Some(&keys)).unwrap();
    assert!(verified.manifest.height > 1 && verified.ledger.entries > 1 && verified.vault.is_some());
    let whole = std::fs::read(&file).unwrap();
    let contents = whole.len() - verified.manifest.bytes() as usize;
    let altered = dir.join("altered");
    let outcome = |bytes: &[u8]| {
        std::fs::write(&altered, bytes).unwrap();
        verify(&altered, Some(&hash), None)
    };
    let step = contents + 1..whole.len();
    let places = (14..contents).step_by(97).chain(step.step_by(whole.len() / 150)).chain([whole.len() - 1]);
    let mut flips = 0;
    for at in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let said = match outcome(&bytes).unwrap_err() {
            BackupError::Damaged(said) => said,
            other => panic!("byte {at}: {other}"),
        };
        let mut end = contents as u64;
        let files = verified.manifest.files.iter().map(|f| (f.path.as_str(), f.bytes));
        let hit = files.map(|(path, size)| (path, (end += size, end).1)).find(|(_, end)| (at as u64) < *end);
        let name = if at < contents { "head" } else { hit.unwrap().0 };
        assert!(said.contains(name), "byte {at} is in {name}: {said}");
        flips += 1;
    }
    assert!(flips > 140, "{flips}");
    for cut in [30, contents - 1, contents, whole.len() - 1] {
        let said = outcome(&whole[..cut]).unwrap_err();
        assert!(said.exit_code() == 3 && said.to_string().contains("is cut off"), "{cut}: {said}");
    }
    let said = outcome(&[&whole[..], b"x"].concat()).unwrap_err();
    assert!(said.exit_code() == 3 && said.to_string().contains("bytes behind"), "{said}");
    for no_backup in [&whole[..10], &b"{}"[..], &whole[1..]] {
        refused(outcome(no_backup), "NOT_A_BACKUP");
    }

    // Nothing of a damaged one gets to its place; a whole one does, and the node goes on from it.
    lose_data(&dir);
    assert!(restore(&altered, &dir, How::LoseLaterBlocks).is_err());
    assert!(!dir.join("data/ledger").exists() && !dir.join("data/restoring").exists());
    restore(&file, &dir, How::LoseLaterBlocks).unwrap();
    let running = net.restarted(0).await;
    net.ready(0).await;
    check(net.client(0, "crm"), "mrn-1", "FUN").await.unwrap_err();
    history(net.client(0, "portal"), "mrn-1").await.unwrap();
    drop(running);
}

/// What is done to a ledger's files.
type Alteration = fn(&DB);

fn family<'a>(db: &'a DB, name: &str) -> &'a rocksdb::ColumnFamily {
    db.cf_handle(name).unwrap()
}

/// The last row of a family.
fn last(db: &DB, name: &str) -> (Box<[u8]>, Box<[u8]>) {
    db.iterator_cf(family(db, name), IteratorMode::End).next().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_does_not_hang_together_is_found_behind_right_hashes() {
    let (_net, dir, _file) = backed_up().await;
    let ledger = dir.join("data/ledger");
    let cases: [(&str, Alteration, &str); 6] = [
        (
            "a value of the state",
            |db| {
                // Not the membership, which is the last one here: a node reads that when it opens the ledger.
                let first = db.iterator_cf(family(db, "state"), IteratorMode::Start).next();
                let (key, mut value) = first.unwrap().unwrap();
                value[3] ^= 1;
                db.put_cf(family(db, "state"), key, value).unwrap();
            },
            "the state is not the one",
        ),
        (
            "the first block is gone",
            |db| db.delete_cf(family(db, "blocks"), 1u64.to_be_bytes()).unwrap(),
            "block 1 is missing",
        ),
        (
            "an entry of a block",
            |db| {
                let mut blocks = db.iterator_cf(family(db, "blocks"), IteratorMode::Start);
                let (key, mut block) = blocks
                    .find_map(|item| {
                        let (key, bytes) = item.unwrap();
                        let block = Block::decode(&*bytes).unwrap();
                        (!block.entries.is_empty()).then_some((key, block))
                    })
                    .unwrap();
                block.entries[0][9] ^= 1;
                db.put_cf(family(db, "blocks"), key, block.encode_to_vec()).unwrap();
            },
            "of the log is not the block's",
        ),
        (
            "a leaf of the log is gone",
            |db| db.delete_cf(family(db, "log"), [0; 9]).unwrap(),
            "leaf 0 of the log is not the block's",
        ),
        (
            "another block's certificate",
            |db| {
                let (key, _) = last(db, "certificates");
                let first = db.get_cf(family(db, "certificates"), 1u64.to_be_bytes()).unwrap().unwrap();
                db.put_cf(family(db, "certificates"), key, first).unwrap();
            },
            "the certificate of block",
        ),
        (
            "the tree is gone",
            |db| {
                for item in db.iterator_cf(family(db, "nodes"), IteratorMode::Start) {
                    db.delete_cf(family(db, "nodes"), item.unwrap().0).unwrap();
                }
            },
            "state tree",
        ),
    ];
    for (n, (what, alter, says)) in cases.into_iter().enumerate() {
        let whole = dir.join(format!("whole-{n}"));
        crate::guard::copy(&ledger, &whole);
        let families = DB::list_cf(&Options::default(), &ledger).unwrap();
        let db = DB::open_cf(&Options::default(), &ledger, families).unwrap();
        alter(&db);
        drop(db);
        let file = dir.join(format!("altered-{n}"));
        create(&dir, &file).unwrap();
        let said = verify(&file, None, None).unwrap_err();
        assert!(said.exit_code() == 3 && said.to_string().contains(says), "{what}: {said}");
        std::fs::remove_dir_all(&ledger).unwrap();
        std::fs::rename(whole, &ledger).unwrap();
    }
    // Put back as it was, it holds.
    create(&dir, &dir.join("again")).unwrap();
    verify(&dir.join("again"), None, Some(&dir.join("keys"))).unwrap();
}
