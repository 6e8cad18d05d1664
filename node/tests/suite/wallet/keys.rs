//! A control key's life, and keys that nobody can link.

use assent_ledger::entry::{cancel_sign_bytes, check_entry};
use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::replacement::REPLACEMENT_WAIT_MS;
use assent_node::chain::mempool::dead;
use assent_proto::ledger::v1::{operation::Kind as OperationKind, CancelReplacement, Operation};
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::*;
use tonic::{Code, Status};

use super::{is, other_key, permitted, public, Wallet};
use crate::ledger::{set_consent, Ledger};
use crate::net::{Net, CHAIN};
use crate::patient::*;

async fn replace(net: &Net, request_id: &str, value: &str, key: &[u8]) -> Result<u64, Status> {
    let mut client = PatientServiceClient::new(net.client(net.index("cedar"), "registrar"));
    let request = ReplaceControlKeyRequest {
        request_id: request_id.into(),
        patient: Some(patient("cedar", value)),
        control_key: key.to_vec(),
    };
    Ok(client.replace_control_key(request).await?.into_inner().effective_ms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_waiting_key_is_seen_and_cancelled_through_any_node() {
    let net = Net::started(4).await;
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    let mut wallet = Wallet::new(&net, "elm", &handle);
    let start = wallet.slot().await.unwrap();
    let new = other_key();
    let effective_ms = replace(&net, "k-1", "mrn-1", &public(&new)).await.unwrap();
    assert_eq!(replace(&net, "k-1", "mrn-1", &public(&new)).await.unwrap(), effective_ms);
    let slot = wallet.slot_when(|slot| slot.consent_seq > start.consent_seq).await;
    let waiting = slot.replacement.clone().unwrap();
    assert_eq!((waiting.control_key, waiting.effective_ms), (public(&new), effective_ms));
    assert!(effective_ms > REPLACEMENT_WAIT_MS && slot.control_key == start.control_key);
    // Nothing else changes for anybody: the same consents, and the new key opens nothing yet.
    permitted(&net, true).await;
    let mut thief = Wallet { key: other_key(), ..Wallet::new(&net, "elm", &handle) };
    is(&thief.slot().await.unwrap_err(), Code::NotFound, "SLOT_NOT_FOUND");
    let cancelled = thief.cancel("x-0", waiting.consent_seq, &new).await.unwrap_err();
    is(&cancelled, Code::NotFound, "SLOT_NOT_FOUND");
    // For another sequence, or another key: not what waits.
    let stale = wallet.cancel("x-1", waiting.consent_seq + 1, &new).await.unwrap_err();
    is(&stale, Code::Aborted, "STALE_REPLACEMENT");
    let wrong = wallet.cancel("x-2", waiting.consent_seq, &control_key()).await.unwrap_err();
    is(&wrong, Code::NotFound, "SLOT_NOT_FOUND");

    let done = wallet.cancel("x-3", waiting.consent_seq, &new).await.unwrap();
    assert!(done.answer.unwrap().height >= done.height);
    let slot = wallet.slot().await.unwrap();
    assert_eq!((slot.replacement, slot.consent_seq), (None, waiting.consent_seq));
    // A retry is the same answer; the same signature under another name cancels nothing.
    assert_eq!(wallet.cancel("x-3", waiting.consent_seq, &new).await.unwrap().height, done.height);
    let replayed = wallet.cancel("x-4", waiting.consent_seq, &new).await.unwrap_err();
    is(&replayed, Code::NotFound, "SLOT_NOT_FOUND");

    // Registered again: the old cancellation is not for this one.
    replace(&net, "k-6", "mrn-1", &public(&new)).await.unwrap();
    let again = wallet.slot_when(|slot| slot.replacement.is_some()).await.replacement.unwrap();
    assert!(again.effective_ms > effective_ms && again.consent_seq > waiting.consent_seq);
    let replayed = wallet.cancel("x-5", waiting.consent_seq, &new).await.unwrap_err();
    is(&replayed, Code::Aborted, "STALE_REPLACEMENT");
    // What the registrar can't do.
    let present = replace(&net, "k-2", "mrn-1", &public(&control_key())).await.unwrap_err();
    is(&present, Code::FailedPrecondition, "CONTROL_KEY_UNCHANGED");
    is(&replace(&net, "k-3", "mrn-1", &[]).await.unwrap_err(), Code::InvalidArgument, "MALFORMED_REQUEST");
    is(
        &replace(&net, "k-4", "mrn-9", &[[1; 1].as_slice(), &[0; 31]].concat()).await.unwrap_err(),
        Code::InvalidArgument,
        "BAD_CONTROL_KEY",
    );
    let nobody = replace(&net, "k-5", "mrn-9", &public(&new)).await.unwrap_err();
    is(&nobody, Code::NotFound, "PATIENT_NOT_FOUND");
    let mut portal = PatientServiceClient::new(net.client(net.index("cedar"), "portal"));
    let by_portal = portal.replace_control_key(ReplaceControlKeyRequest::default()).await.unwrap_err();
    is(&by_portal, Code::PermissionDenied, "WRONG_ROLE");
}

/// What waits in the mempool is given up only when no later block could take it.
#[test]
fn a_cancellation_is_dead_when_its_replacement_cannot_come_any_more() {
    let mut ledger = Ledger::new("cedar");
    let (handle, patient, new) = ([9; 32], control_key(), other_key());
    let cancel = |consent_seq: u64| {
        let message = cancel_sign_bytes(CHAIN, "cedar", &handle, consent_seq, &public(&new));
        let cancel = CancelReplacement {
            custodian: "cedar".into(),
            handle: handle.to_vec(),
            consent_seq,
            patient_signature: sign(&patient, &message).to_vec(),
        };
        Operation { kind: Some(OperationKind::CancelReplacement(cancel)) }
    };
    let given_up = |ledger: &Ledger, operation: Operation| {
        let entry = check_entry(CHAIN, &ledger.entry("cedar", 100, vec![operation])).unwrap();
        dead(&ledger.store.view().unwrap(), &entry).unwrap().map(|error| error.reason())
    };
    let mut commit = |sequence: u64, operation: Operation| {
        ledger.admit(&ledger.entry("cedar", sequence, vec![operation])).unwrap();
        ledger.block();
        let dead = [1, 2, 3].map(|consent_seq| given_up(&ledger, cancel(consent_seq)));
        let unchanged = given_up(&ledger, set_consent("cedar", handle, sequence, Some(&control_key())));
        (dead, unchanged)
    };
    // Nothing waits yet; a replacement with sequence 2 or 3 may come. The present key may be another one by then.
    let first = commit(1, set_consent("cedar", handle, 0, Some(&control_key())));
    assert_eq!(first, ([Some("NO_REPLACEMENT"), None, None], None));
    let second = commit(2, set_consent("cedar", handle, 1, Some(&other_key())));
    assert_eq!(second, ([Some("STALE_REPLACEMENT"), None, None], None));
    let third = commit(3, cancel(2));
    assert_eq!(third.0, [Some("NO_REPLACEMENT"), Some("NO_REPLACEMENT"), None]);
}

/// One patient at two hospitals, one wallet: neither hospital holds anything that the other one has.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_custodians_share_neither_key_nor_handle() {
    let mut net = Net::started(4).await;
    let keys = [SigningKey::from_bytes(&[21; 32]), SigningKey::from_bytes(&[22; 32])];
    let mut handles = Vec::new();
    for (custodian, key) in ["birch", "cedar"].into_iter().zip(&keys) {
        let request = CreateSubjectRequest {
            request_id: "s-1".into(),
            patient: Some(patient(custodian, "mrn-1")),
            patient_reference: "Patient/mrn-1".into(),
            control_key: public(key),
        };
        let mut client = SubjectServiceClient::new(net.client(net.index(custodian), "registrar"));
        handles.push(client.create_subject(request).await.unwrap().into_inner().handle);
    }
    assert_ne!(handles[0], handles[1]);
    // Each key opens its own slot, through any node, and no other.
    for (n, custodian) in ["birch", "cedar"].into_iter().enumerate() {
        let wallet = Wallet::new(&net, "dogwood", &handles[n]);
        let mut own = Wallet { custodian, key: keys[n].clone(), ..wallet };
        own.slot_when(|_| true).await;
        let mut crossed = Wallet { key: keys[1 - n].clone(), ..own };
        is(&crossed.slot().await.unwrap_err(), Code::NotFound, "SLOT_NOT_FOUND");
    }
    for i in 0..4 {
        net.stop(i).await.unwrap();
    }
}
