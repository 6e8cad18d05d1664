//! `assentd scrub`: a changed bit in a table file that nobody reads is found, and the file is named.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use assent_node::scrub::{scrub, ScrubError};
use rocksdb::DB;

use crate::corrupt::opened;
use crate::kill::set_policy;
use crate::net::Net;
use crate::patient::enrolled;

/// Rules that were set before the flip.
const POLICIES: u64 = 3;

/// A node alone, stopped, whose rows are all in table files.
async fn stopped() -> (Net, PathBuf) {
    let mut net = Net::started(1).await;
    enrolled(&net, "mrn-1", "2030-12-31").await;
    for n in 1..=POLICIES {
        set_policy(&net, 0, n).await.unwrap();
    }
    net.stop(0).await.unwrap();
    let dir = net.members[0].dir.clone();
    for store in ["ledger", "vault"] {
        let (db, families) = opened(&dir.join("data").join(store));
        for family in families.iter().filter_map(|name| db.cf_handle(name)) {
            db.flush_cf(family).unwrap();
        }
    }
    (net, dir)
}

/// The newest table file of a family.
fn table(store: &Path, family: &str) -> PathBuf {
    let (db, _): (DB, _) = opened(store);
    let files = db.live_files().unwrap().into_iter().filter(|file| file.column_family_name == family);
    let name = files.map(|file| file.name).max().unwrap();
    store.join(name.trim_start_matches('/'))
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(file, bytes).unwrap();
}

/// What the program says, and how it ends.
fn program(dir: &Path) -> (i32, String) {
    let run =
        || Command::new(env!("CARGO_BIN_EXE_assentd")).arg("scrub").arg("--dir").arg(dir).output().unwrap();
    let output = tokio::task::block_in_place(run);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flipped_bit_in_a_row_that_is_never_read_is_found_and_the_file_named() {
    let (net, dir) = stopped().await;
    let (exit, said) = program(&dir);
    assert!(exit == 0 && said.starts_with("ledger  whole: ") && said.contains("\nvault   whole: "), "{said}");
    let read = scrub(&dir).unwrap();
    assert!(read.iter().all(|store| store.rows > 10 && store.files > 0 && store.bytes > 1000), "{read:?}");

    let file = table(&dir.join("data/ledger"), "changes");
    flip(&file, 20);
    let named = |said: &str| {
        said.starts_with("error: CORRUPT: ") && said.contains(&format!("{} offset 0", file.display()))
    };
    let (exit, said) = program(&dir);
    assert!(exit == 9 && named(&said), "{exit}: {said}");

    // The node starts, is ready, and sees nothing of it: only the next change of the policy reads that row. Beside it the command does,
    // and names the file where it lies.
    let running = net.restarted(0).await;
    net.ready(0).await;
    let (exit, said) = program(&dir);
    assert!(exit == 9 && named(&said), "{exit}: {said}");
    assert_eq!(running.app.parts.freshness.stale(), None);
    // The node takes back what it lent once the command has hung up.
    let begin = Instant::now();
    while dir.join("data/checkpoint").exists() {
        assert!(begin.elapsed() < Duration::from_secs(10), "the checkpoint stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bit_anywhere_in_a_block_of_rows_is_found() {
    let (_net, dir) = stopped().await;
    for (store, family) in [("ledger", "blocks"), ("vault", "default")] {
        let file = table(&dir.join("data").join(store), family);
        let whole = std::fs::read(&file).unwrap();
        let mut unseen = Vec::new();
        for at in (0..whole.len()).step_by(whole.len() / 60) {
            flip(&file, at);
            match scrub(&dir) {
                Err(ScrubError::Corrupt(found)) => assert!(found[0].contains(store), "{at}: {found:?}"),
                Ok(_) => unseen.push(at),
                Err(other) => panic!("{store}, byte {at}: {other}"),
            }
            std::fs::write(&file, &whole).unwrap();
        }
        assert_eq!(unseen, Vec::<usize>::new(), "of {} bytes of {store}", whole.len());
        let cut = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
        cut.set_len(whole.len() as u64 / 2).unwrap();
        assert_eq!(scrub(&dir).unwrap_err().exit_code(), 9);
        std::fs::write(&file, &whole).unwrap();
    }
    scrub(&dir).unwrap();
    std::fs::rename(dir.join("data/vault"), dir.join("lost")).unwrap();
    assert_eq!(program(&dir).0, 2);
}
