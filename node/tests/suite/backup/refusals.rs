//! What is no backup for this folder, and commands at the wrong time: exit 2, the reason, and nothing touched.

use assent_node::backup::{create, restore, verify, How};
use sha2::{Digest, Sha256};

use super::{backed_up, lose_data, refused};
use crate::net::Net;
use crate::patient::*;

/// A head with another format or manifest, and the hash that goes with it.
fn with_head(whole: &[u8], format: u32, alter: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let length = u32::from_be_bytes(whole[18..22].try_into().unwrap()) as usize;
    let mut manifest: serde_json::Value = serde_json::from_slice(&whole[22..22 + length]).unwrap();
    alter(&mut manifest);
    let json = serde_json::to_vec(&manifest).unwrap();
    let mut head = [&whole[..14], &format.to_be_bytes(), &(json.len() as u32).to_be_bytes(), &json].concat();
    head.extend_from_slice(&Sha256::digest(&head));
    [head, whole[22 + length + 32..].to_vec()].concat()
}

/// Changes a manifest.
type Edit = fn(&mut serde_json::Value);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_another_chain_organization_key_or_version_is_refused_and_touches_nothing() {
    let (net, dir, file) = backed_up().await;
    let other = Net::new(1);
    let strange = other.members[0].dir.clone();
    std::fs::remove_dir_all(strange.join("data")).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let newer = dir.join("newer");
    let before = (net.files(), other.files());
    let hashes = [net.genesis.hash, other.genesis.hash].map(hex::encode);

    // In place: the data of a node is worth more than any backup.
    assert!(refused(restore(&file, &dir, How::LoseLaterBlocks), "DATA_EXISTS").contains("data/ledger"));
    assert!(refused(restore(&file, &dir, How::VaultOnly), "DATA_EXISTS").contains("data/vault"));
    assert!(refused(create(&dir, &file), "FILE_EXISTS").contains("backup"));
    refused(create(&strange, &strange.join("backup")), "NO_LEDGER");
    // Another chain: both are named.
    for said in [
        refused(restore(&file, &strange, How::LoseLaterBlocks), "OTHER_CHAIN"),
        refused(verify(&file, Some(&hashes[1]), None), "OTHER_CHAIN"),
    ] {
        assert!(hashes.iter().all(|hash| said.contains(hash)), "{said}");
    }
    refused(verify(&file, Some("abc"), None), "BAD_GENESIS_HASH");
    refused(verify(&dir.join("nowhere"), None, None), "NO_SUCH_FILE");
    assert_eq!((net.files(), other.files()), before);

    lose_data(&dir);
    let before = net.files();
    // A newer format, another version of the rules, a name that leads out of the folder.
    let forms: [(u32, Edit, &str); 3] = [
        (2, |_| {}, "format 2"),
        (1, |m| m["protocol_version"] = 2.into(), "protocol_version 2"),
        (1, |m| m["files"][1]["path"] = "ledger/../../keys/vote.pem".into(), "vote.pem"),
    ];
    for (format, alter, says) in forms {
        std::fs::write(&newer, with_head(&whole, format, alter)).unwrap();
        for outcome in
            [verify(&newer, None, None).map(|_| ()), restore(&newer, &dir, How::LoseLaterBlocks).map(|_| ())]
        {
            let said = refused(outcome, "BACKUP_FORMAT");
            assert!(said.contains(says), "{said}");
        }
    }
    // A manifest that tells another height than the ledger has: the hashes hold, the backup doesn't.
    std::fs::write(&newer, with_head(&whole, 1, |m| m["height"] = 1.into())).unwrap();
    let said = restore(&newer, &dir, How::LoseLaterBlocks).unwrap_err();
    assert!(said.exit_code() == 3 && said.to_string().contains("newest block"), "{said}");
    std::fs::remove_file(&newer).unwrap();
    // The only validator's lost blocks.
    assert!(refused(restore(&file, &dir, How::Follow), "ONLY_VALIDATOR").contains("--lose-later-blocks"));
    assert!(refused(restore(&file, &dir, How::VaultOnly), "NO_LEDGER").contains("data/ledger"));
    assert_eq!(before, net.files());

    // Another organization's folder, and another vault key, which is no damage of the file.
    net.configure(0, "organization = \"cedar\"", "organization = \"birch\"");
    assert!(refused(restore(&file, &dir, How::LoseLaterBlocks), "OTHER_ORGANIZATION").contains("birch"));
    net.configure(0, "organization = \"birch\"", "organization = \"cedar\"");
    let vault_key = dir.join("keys/vault.pem");
    let right = std::fs::read(&vault_key).unwrap();
    std::fs::copy(strange.join("keys/vault.pem"), &vault_key).unwrap();
    assert!(refused(restore(&file, &dir, How::LoseLaterBlocks), "WRONG_VAULT_KEY").contains("vault.pem"));
    refused(verify(&file, None, Some(&dir.join("keys"))), "WRONG_VAULT_KEY");
    std::fs::write(&vault_key, right).unwrap();
    assert!(!dir.join("data/ledger").exists() && !dir.join("data/vault").exists());

    // The vault alone, beside the ledger that is there; and never under a running node.
    std::fs::rename(dir.join("lost"), dir.join("data")).unwrap();
    std::fs::rename(dir.join("data/vault"), dir.join("old-vault")).unwrap();
    restore(&file, &dir, How::VaultOnly).unwrap();
    let running = net.restarted(0).await;
    net.ready(0).await;
    refused(restore(&file, &dir, How::LoseLaterBlocks), "NODE_RUNS");
    history(net.client(0, "portal"), "mrn-1").await.unwrap();
    drop(running);
}
