//! Submitting: refused entries use nothing up, and whoever waits hears the truth.

use std::time::Duration;

use assent_ledger::governance::handover_sign_bytes;
use assent_ledger::keyfile::to_pem;
use assent_ledger::keys::{sign, SigningKey};
use assent_node::chain::{SubmitError, Submitter};
use assent_node::config::NodeKeys;
use assent_node::own_keys::OwnKeys;
use assent_node::refusal::{Kind as Refused, Refusal};
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{Govern, KeyPurpose, Operation, RotateKey, Withdraw};
use tokio::sync::mpsc;

use crate::ledger::{key, set_consent, withdrawal, Ledger};
use crate::net::{Net, CHAIN};
use crate::patient::{control_key, create_subject, enrolled};

const WAIT: Duration = Duration::from_secs(5);

/// The window of sequence numbers is 1,024 wide: whoever could use up numbers without a commit would silence a node for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_entries_use_up_no_sequence_numbers() {
    let net = Net::new(1);
    let running = net.try_start(0).await.unwrap();
    let submitter = running.app.parts.submitter.clone();
    for n in 0..1100u64 {
        let mut handle = [5; 32];
        handle[..8].copy_from_slice(&n.to_be_bytes());
        let error = submitter.submit(vec![set_consent("cedar", handle, 7, None)], WAIT).await.unwrap_err();
        assert!(
            matches!(&error, SubmitError::Refused(e) if e.reason() == "STALE_CONSENT_SEQUENCE"),
            "{error}"
        );
    }
    submitter.submit(vec![set_consent("cedar", [6; 32], 0, None)], WAIT).await.unwrap();
}

/// An old withdrawal stands in the ledger for everybody to read and to send again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replayed_withdrawal_leaves_nothing_behind() {
    let mut net = Net::started(1).await;
    let handle: [u8; 32] = enrolled(&net, "mrn-1", "2030-12-31").await.try_into().unwrap();
    net.stop(0).await.unwrap();
    let running = net.try_start(0).await.unwrap();
    let custodian = &running.app.custodian;
    let message = |seq: u64| -> Withdraw {
        match withdrawal("cedar", handle, seq, &control_key()).kind {
            Some(Kind::Withdraw(withdraw)) => withdraw,
            _ => unreachable!("made just now"),
        }
    };
    custodian.withdraw("w-0", message(0)).await.unwrap();
    for n in 0..40 {
        let refusal = custodian.withdraw(&format!("again-{n}"), message(0)).await.unwrap_err();
        assert_eq!(refusal.reason, "STALE_WITHDRAW_SEQUENCE");
        let client = format!("patient:{}", hex::encode(handle));
        let stored = running.app.parts.vault.get_request(&client, &format!("again-{n}")).unwrap();
        assert!(stored.is_none(), "a replay was stored");
    }
    custodian.withdraw("w-0", message(0)).await.unwrap();
    custodian.withdraw("w-1", message(1)).await.unwrap();
}

/// Several callers wait for one entry: none of them takes the others' answer away.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_who_waits_for_an_entry_hears_of_it() {
    let mut ledger = Ledger::new("cedar");
    let (gossip, _kept) = mpsc::channel(16);
    let (_, none) = mpsc::unbounded_channel();
    let outcomes = std::mem::replace(&mut ledger.outcomes, none);
    let submitter = Submitter::start(
        ledger.store.clone(),
        ledger.mempool.clone(),
        "cedar".into(),
        key(&ledger.net, "cedar", "entry"),
        gossip,
        outcomes,
    )
    .unwrap();
    let entry = ledger.entry("cedar", 1, vec![set_consent("cedar", [6; 32], 0, None)]);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let (submitter, entry) = (submitter.clone(), entry.clone());
            tokio::spawn(async move { submitter.commit(&entry, WAIT).await })
        })
        .collect();
    while ledger.mempool.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Callers come and go while the block is committed.
    let hammering = (0..4).map(|_| {
        let (submitter, entry) = (submitter.clone(), entry.clone());
        tokio::spawn(async move {
            for _ in 0..200 {
                let _ = tokio::time::timeout(Duration::from_millis(1), submitter.commit(&entry, WAIT)).await;
            }
        })
    });
    let hammering: Vec<_> = hammering.collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    tokio::task::block_in_place(|| ledger.block());
    for task in waiting.into_iter() {
        assert_eq!(task.await.unwrap().unwrap(), 1);
    }
    for task in hammering {
        task.await.unwrap();
    }
    // Committed is committed, also when the entry is still thought to wait.
    assert_eq!(submitter.commit(&entry, WAIT).await.unwrap(), 1);
}

/// A rotated entry key: what waits at its block gets its answer at that block, and the next try is signed with the new key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_entry_that_waits_when_its_key_is_replaced_is_refused_at_that_block_and_signed_anew() {
    let mut ledger = Ledger::new("cedar");
    let folder = ledger.net.members[ledger.net.index("cedar")].dir.join("keys");
    let (old, new) = (key(&ledger.net, "cedar", "entry"), SigningKey::from_bytes(&[77; 32]));
    std::fs::write(folder.join("entry.next.pem"), to_pem(&new).unwrap()).unwrap();
    let (gossip, _kept) = mpsc::channel(16);
    let (_, none) = mpsc::unbounded_channel();
    let outcomes = std::mem::replace(&mut ledger.outcomes, none);
    let keys = OwnKeys::new(folder.clone(), &NodeKeys::read(&folder).unwrap());
    let (store, mempool) = (ledger.store.clone(), ledger.mempool.clone());
    let submitter = Submitter::start(store, mempool, "cedar".into(), keys, gossip, outcomes).unwrap();

    // From block 3 on the new key signs.
    let public = |key: &SigningKey| key.verifying_key().to_bytes();
    let message = handover_sign_bytes(CHAIN, "cedar", KeyPurpose::Entry, &public(&old), &public(&new), 3);
    let rotation = Step::RotateKey(RotateKey {
        purpose: KeyPurpose::Entry.into(),
        new_key: public(&new).to_vec(),
        effective_height: 3,
        old_signature: sign(&old, &message).to_vec(),
        new_signature: sign(&new, &message).to_vec(),
    });
    let rotate = Operation { kind: Some(Kind::Govern(Govern { step: Some(rotation) })) };
    let rotate = ledger.entry("cedar", 1, vec![rotate]);
    ledger.admit(&rotate).unwrap();
    tokio::task::block_in_place(|| ledger.block());

    // Block 2 is under way when the entry comes, so it misses its last chance.
    let candidate = tokio::task::block_in_place(|| ledger.build(0));
    let entry = submitter.sign(vec![set_consent("cedar", [6; 32], 0, None)]).unwrap();
    let waiting = {
        let (submitter, entry) = (submitter.clone(), entry.clone());
        tokio::spawn(async move { submitter.commit(&entry, Duration::from_secs(60)).await })
    };
    while ledger.mempool.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::task::block_in_place(|| ledger.decide(&candidate));
    let answer = tokio::time::timeout(WAIT, waiting).await.expect("a definite answer, no time-out");
    let error = answer.unwrap().unwrap_err();
    assert!(submitter.is_dead(&entry).unwrap() && ledger.mempool.is_empty());
    let refusal = Refusal::from(error);
    assert_eq!((refusal.kind, refusal.reason), (Refused::Unavailable, "ENTRY_KEY_CHANGED"));

    // The retry, as a client does it.
    let again = submitter.sign(vec![set_consent("cedar", [6; 32], 0, None)]).unwrap();
    let retry = {
        let submitter = submitter.clone();
        tokio::spawn(async move { submitter.commit(&again, WAIT).await })
    };
    while ledger.mempool.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::task::block_in_place(|| ledger.block());
    assert_eq!(retry.await.unwrap().unwrap(), 3);
}

/// The same facts under another request id, while nothing is committed: an answer, and one slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_registrations_of_one_patient_at_once_make_one_slot() {
    let net = Net::started(1).await;
    let registrar = net.client(0, "registrar");
    let (a, b) = tokio::join!(
        create_subject(registrar.clone(), "a", "mrn-1", "Patient/mrn-1"),
        create_subject(registrar.clone(), "b", "mrn-1", "Patient/mrn-1"),
    );
    assert!(a.is_ok() || b.is_ok(), "{a:?} {b:?}");
    if let (Ok(a), Ok(b)) = (a, b) {
        assert_eq!(a, b);
    }
}
