//! A node whose keys are not those that the ledger of the others names for it: it says which, and what to do.

use std::time::{Duration, Instant};

use assent_ledger::governance::handover_sign_bytes;
use assent_ledger::keyfile::to_pem;
use assent_ledger::keys::{sign, SigningKey};
use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::{KeyPurpose, ReplaceKey};

use crate::membership::{key, signed, World, PATIENCE};
use crate::net::CHAIN;

fn public(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

fn replace(organization: &str, purpose: KeyPurpose, old: &SigningKey, new: &SigningKey) -> Change {
    let message = handover_sign_bytes(CHAIN, organization, purpose, &public(old), &public(new), 0);
    Change::ReplaceKey(ReplaceKey {
        organization: organization.into(),
        purpose: purpose.into(),
        new_key: public(new).to_vec(),
        new_signature: sign(new, &message).to_vec(),
    })
}

/// Elm's consensus peer key is replaced by the others while it is down. Its own ledger still names the old one, under which nobody
/// talks to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_runs_under_another_consensus_peer_id_than_the_others_ledger_says_so_until_the_key_is_there() {
    let mut world = World::new().await;
    let (elm, dir) = (3, world.net.members[3].dir.clone());
    world.write(elm).await;
    world.submitters.pop();
    world.net.stop(elm).await.unwrap();
    let (old, new) = (key(&dir, "consensus-peer"), SigningKey::from_bytes(&rand::random()));
    let change = replace("elm", KeyPurpose::ConsensusPeer, &old, &new);
    world.change(1, change, &[1, 2], 1).await;
    world.write(1).await;
    // An engine hears of the new key after the block: until then it would let elm in under the old one, and give it the blocks.
    let high = world.height().await;
    for i in 0..elm {
        world.until(i, "the others have the block", |s| s.answer.as_ref().unwrap().height >= high).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    world.submitters.push(world.net.start_with(elm).await);
    let said =
        world.net.says(elm, "not ready: other-key: keys/consensus-peer.pem is not the one", PATIENCE).await;
    eprintln!("said after {said:?}");
    assert!(said < Duration::from_secs(15), "{said:?}");
    let metrics = world.net.http(elm, "/metrics").await;
    assert!(metrics.contains("assent_not_ready{reason=\"other-key\"} 1\n"), "{metrics}");
    world.net.says(elm, "by the blocks of birch, cedar, dogwood, who are ahead of this node", PATIENCE).await;

    // The key is put where the sentence says: it heals without a restart, and votes.
    let before = world.status(elm).await.answer.unwrap().height;
    std::fs::write(dir.join("keys/consensus-peer.next.pem"), to_pem(&new).unwrap()).unwrap();
    world.until(elm, "elm has caught up", |s| s.fresh && s.answer.as_ref().unwrap().height > before).await;
    let begin = Instant::now();
    while key(&dir, "consensus-peer") != new {
        assert!(begin.elapsed() < PATIENCE, "the next key is not put in place");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.write(elm).await;
    world.until(0, "elm votes", signed("elm")).await;

    // From nothing: its ledger begins with the key of before, the others talk to the present one only.
    world.submitters.pop();
    world.net.stop(elm).await.unwrap();
    std::fs::remove_dir_all(dir.join("data")).unwrap();
    world.submitters.push(world.net.start_with(elm).await);
    let high = world.height().await;
    world.until(elm, "elm has all blocks again", |s| s.answer.as_ref().unwrap().height >= high).await;
}

/// Both peer keys of elm are replaced by the others while it is down: under the keys that it knows nobody talks to it, so nobody can tell
/// it. Its operator puts the files in place by hand, as operations.md says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_peer_keys_that_were_replaced_meanwhile_are_put_in_place_by_hand() {
    let mut world = World::new().await;
    let (elm, dir) = (3, world.net.members[3].dir.clone());
    world.write(elm).await;
    world.submitters.pop();
    world.net.stop(elm).await.unwrap();
    let both = [("consensus-peer", KeyPurpose::ConsensusPeer), ("exchange-peer", KeyPurpose::ExchangePeer)];
    let file = |name: &str, end: &str| dir.join(format!("keys/{name}{end}.pem"));
    for (number, (name, purpose)) in (1..).zip(both) {
        let (old, new) = (key(&dir, name), SigningKey::from_bytes(&rand::random()));
        std::fs::write(file(name, ".next"), to_pem(&new).unwrap()).unwrap();
        world.change(number, replace("elm", purpose, &old, &new), &[1, 2], 1).await;
    }

    // By itself it does not come back.
    let high = world.height().await;
    world.submitters.push(world.net.start_with(elm).await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.status(elm).await.answer.unwrap().height < high);
    let readyz = world.net.readyz(elm).await;
    eprintln!("says {readyz}");
    assert!(readyz.contains("not ready"), "{readyz}");
    world.submitters.pop();
    world.net.stop(elm).await.unwrap();

    for (name, _) in both {
        std::fs::rename(file(name, ""), file(name, ".old")).unwrap();
        std::fs::rename(file(name, ".next"), file(name, "")).unwrap();
    }
    world.submitters.push(world.net.start_with(elm).await);
    world.net.ready(elm).await;
    assert!(world.status(elm).await.answer.unwrap().height >= high);
    world.write(elm).await;
    world.until(0, "elm votes", signed("elm")).await;
    world.until(0, "birch is connected with elm", |s| s.connected.contains(&"elm".to_owned())).await;
    // And once more, with what is on its disk now.
    world.submitters.pop();
    world.net.stop(elm).await.unwrap();
    world.submitters.push(world.net.start_with(elm).await);
    world.net.ready(elm).await;
    world.write(elm).await;
}
