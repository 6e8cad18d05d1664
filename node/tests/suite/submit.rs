//! Submitting: refused entries use nothing up, and whoever waits hears the truth.

use std::time::Duration;

use assent_node::chain::{SubmitError, Submitter};
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::Withdraw;
use tokio::sync::mpsc;

use crate::ledger::{key, set_consent, withdrawal, Ledger};
use crate::net::Net;
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
