//! Backups: made of a running node under load, verified without one, and put back into a folder that lost its data.

mod damage;
mod lost;
mod refusals;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use assent_ledger::receipts::{verify_history, VerifiedHistory};
use assent_node::backup::{create, restore, BackupError, How};
use assent_node::chain::Store;
use assent_node::vault::Vault;
use sha2::{Digest, Sha256};
use tonic::Code;

use crate::guard::{height, last_signed, no_double_vote, status, WAITS};
use crate::kill::{set_policy, spawn};
use crate::ledger::key;
use crate::net::Net;
use crate::patient::*;

fn assentd(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assentd"));
    tokio::task::block_in_place(|| command.arg("backup").args(arguments).output().unwrap())
}

/// What a command printed; it must have ended like this.
fn said(arguments: &[&str], exit: i32) -> String {
    let output = assentd(arguments);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {text}");
    text
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name}: {text}"))[name.len()..].trim()
}

/// A node alone, stopped, with a patient; its folder and a backup of it.
async fn backed_up() -> (Net, PathBuf, PathBuf) {
    let mut net = Net::started(1).await;
    enrolled(&net, "mrn-1", "2030-12-31").await;
    net.stop(0).await.unwrap();
    let dir = net.members[0].dir.clone();
    let file = dir.join("backup");
    // The stores are closed a moment after the node has stopped.
    for _ in 0..100 {
        match tokio::task::block_in_place(|| create(&dir, &file)) {
            Err(BackupError::Failed(what)) if what.contains("another process") || what.contains("lock") => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            made => return made.map(|_| (net, dir, file)).unwrap(),
        }
    }
    panic!("the stores are still open after 5 s");
}

fn lose_data(dir: &Path) {
    std::fs::rename(dir.join("data"), dir.join("lost")).unwrap();
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, BackupError>, reason: &str) -> String {
    match outcome.unwrap_err() {
        BackupError::Refused { reason: found, what } if found == reason => what,
        other => panic!("{reason}: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_validator_that_comes_back_from_an_old_backup_signs_nothing_twice_and_says_what_it_lacks() {
    let mut net = Net::new(4);
    let (birch, cedar) = (net.index("birch"), net.index("cedar"));
    let dir = net.members[cedar].dir.clone();
    let process = spawn(&dir, None);
    for i in (0..4).filter(|i| *i != cedar) {
        net.start(i).await;
    }
    for i in 0..4 {
        net.ready(i).await;
    }
    enrolled(&net, "mrn-1", "2030-12-31").await;
    enrolled(&net, "mrn-2", "2030-12-31").await;
    request(net.client(birch, "crm"), "r-1", "mrn-1").await.unwrap();

    // While both sides write, several backups in a row: each holds, and its vault opens all that its ledger commits to.
    let over = Arc::new(AtomicBool::new(false));
    let net = Arc::new(net);
    let writes = tokio::spawn({
        let (net, over) = (net.clone(), over.clone());
        async move {
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                n += 1;
                let (value, reference) = (format!("w-{n}"), format!("Patient/w-{n}"));
                create_subject(net.client(cedar, "registrar"), &value, &value, &reference).await.unwrap();
                set_policy(&net, birch, n).await.unwrap();
            }
            n
        }
    });
    let genesis_hash = hex::encode(net.genesis.hash);
    let (keys, mut files) = (dir.join("keys"), Vec::new());
    let back_up = |files: &mut Vec<(PathBuf, u64)>| {
        let file = dir.join(format!("{}.backup", files.len()));
        let made = said(&["create", "--dir", text(&dir), "--out", text(&file)], 0);
        let whole = std::fs::read(&file).unwrap();
        assert_eq!(field(&made, "bytes"), whole.len().to_string());
        assert_eq!(field(&made, "SHA-256"), hex::encode(Sha256::digest(&whole)));
        files.push((file, field(&made, "height").parse::<u64>().unwrap()));
    };
    (0..5).for_each(|_| back_up(&mut files));
    over.store(true, Ordering::Relaxed);
    let n = writes.await.unwrap();
    assert!(n > 3 && files[0].1 < files[4].1, "{n} writes, {files:?}: nothing was under way");
    back_up(&mut files);
    for round in 0.. {
        if !dir.join("data/checkpoint").exists() {
            break;
        }
        assert!(round < 100, "the node keeps what it lent");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (file, height) in &files {
        let arguments = ["verify", text(file), "--genesis-hash", &genesis_hash, "--keys", text(&keys)];
        let held = said(&arguments, 0);
        assert_eq!(field(&held, "height"), height.to_string());
        assert!(held.contains("lacks nothing that the ledger commits to"), "{held}");
    }

    // Later than all backups: another consent, a new patient, an access of each; and of one whom nothing else changed.
    let (file, saved) = files.pop().unwrap();
    import(net.client(cedar, "portal"), "i-9", "mrn-1", consent("Patient/mrn-1", "c-9", "2030-12-31"))
        .await
        .unwrap();
    enrolled(&net, "mrn-3", "2030-12-31").await;
    request(net.client(birch, "crm"), "r-3", "mrn-3").await.unwrap();
    let (decided, before) = (height(&net, birch).await, last_signed(&net, cedar).await);
    assert!(before > saved, "it signed nothing after the backup: {before}, {saved}");

    drop(process);
    lose_data(&dir);
    let (out, size) = (said(&["restore", text(&file), "--dir", text(&dir)], 0), std::fs::metadata(&file));
    assert_eq!(field(&out, "height"), saved.to_string());
    assert!(size.unwrap().len() > 1000 && !dir.join("data/consensus").exists(), "{out}");
    let _process = spawn(&dir, None);
    net.says(cedar, WAITS, Duration::from_secs(10)).await;
    net.says(cedar, "ready\n", Duration::from_secs(60)).await;
    net.ready(cedar).await;
    let after = last_signed(&net, cedar).await;
    assert!(after <= before || after > decided + 2, "it voted at {after}, decided was {decided}");
    for round in 0..60 {
        if last_signed(&net, cedar).await > decided + 2 {
            break;
        }
        assert!(round < 59, "it does not vote again");
        set_policy(&net, birch, n + 1 + round).await.unwrap();
    }
    no_double_vote();

    // It says what it lacks: two patients' consents, one access, and permits nothing about them.
    let lacks = "assent_vault_missing_consents 2";
    for round in 0..200 {
        if net.http(cedar, "/metrics").await.lines().any(|line| line == lacks) {
            break;
        }
        assert!(round < 199, "{}", net.http(cedar, "/metrics").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let metrics = net.http(cedar, "/metrics").await;
    assert!(metrics.lines().any(|line| line == "assent_vault_missing_accesses 1"), "{metrics}");
    let now = status(&net, cedar).await;
    assert_eq!((now.vault_missing_consents, now.vault_missing_accesses), (2, 1));
    let changed = check(net.client(cedar, "crm"), "mrn-1", "TREAT").await.unwrap_err();
    assert_eq!((changed.code(), reason(&changed).as_str()), (Code::Unavailable, "VAULT_MISMATCH"));
    let new = check(net.client(birch, "crm"), "mrn-3", "TREAT").await.unwrap_err();
    assert_eq!(reason(&new), "NOT_RELEASED");
    lost::replaces_what_is_lost(&net, cedar).await;

    // What was in the backup works as before: history and its proof, a check, a release.
    let kept = history(net.client(cedar, "portal"), "mrn-1").await.unwrap();
    let VerifiedHistory { slot, accesses, .. } = verify_history(&trust(&net), &kept).unwrap();
    assert_eq!((slot.access_seq, accesses.len()), (1, 1));
    check(net.client(birch, "crm"), "mrn-2", "TREAT").await.unwrap();
    request(net.client(birch, "crm"), "r-2", "mrn-2").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_of_before_the_first_block_is_no_licence_to_vote() {
    let net = Net::new(4);
    let (i, dir) = (net.index("elm"), net.members[net.index("elm")].dir.clone());
    let genesis = std::fs::read(dir.join("genesis.bin")).unwrap();
    drop(Store::open(&dir.join("data/ledger"), &genesis, &net.genesis).unwrap());
    drop(Vault::open(&dir.join("data/vault"), &key(&net, "elm", "vault").to_bytes()).unwrap());
    let file = dir.join("backup");
    assert_eq!(create(&dir, &file).unwrap().manifest.height, 0);
    lose_data(&dir);
    // As `assent init` leaves a folder.
    std::fs::create_dir(dir.join("data")).unwrap();
    std::fs::write(dir.join("data/never-voted"), "").unwrap();
    restore(&file, &dir, How::Follow).unwrap();
    assert!(!dir.join("data/never-voted").exists());
    let _process = spawn(&dir, None);
    net.says(i, WAITS, Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn help_fits_80_columns_and_a_missing_flag_is_usage() {
    for command in [&["--help"][..], &["create", "--help"], &["verify", "--help"], &["restore", "--help"]] {
        let help = said(command, 0);
        assert!(help.contains("Usage: assentd backup"), "{help}");
        let long: Vec<&str> = help.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{long:?}");
    }
    for usage in
        [&[][..], &["create"], &["restore", "x", "--dir", "y", "--vault-only", "--lose-later-blocks"]]
    {
        said(usage, 2);
    }
    let nowhere = said(&["create", "--dir", "/nowhere", "--out", "x"], 2);
    assert!(nowhere.contains("BAD_CONFIGURATION") && nowhere.contains("/nowhere/assentd.toml"), "{nowhere}");
}
