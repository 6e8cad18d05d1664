//! Grants through any node, good and bad.

use assent_ledger::hash::sha256;
use assent_ledger::keys::SigningKey;
use assent_proto::ledger::v1::ConsentState;
use assent_proto::v1::*;
use prost::Message;
use tonic::Code;

use super::{is, opened, other_key, pause, permitted, public, Wallet};
use crate::net::Net;
use crate::patient::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_patient_withdraws_here_and_grants_there_and_only_the_custodian_is_needed_for_that() {
    let mut net = Net::started(4).await;
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    let mut wallet = Wallet::new(&net, "dogwood", &handle);
    permitted(&net, true).await;
    withdraw(net.client_with(net.index("birch"), None), "w-1", &handle, 0).await.unwrap();
    permitted(&net, false).await;
    wallet.slot_when(|slot| slot.frozen).await;

    // Through Dogwood's node, which is not the custodian's: nothing but the withdrawal is lifted.
    let lift = Grant::default();
    let (prepared, committed) = wallet.grant("lift", &lift).await.unwrap();
    assert_eq!(opened(&prepared), None);
    assert_eq!(prepared.consents.len(), 1);
    assert_eq!((prepared.consent_seq, committed.consent_seq), (3, 4));
    assert!(committed.answer.unwrap().height >= committed.height);
    let slot = wallet.slot().await.unwrap();
    assert_eq!((slot.frozen, slot.consent_seq, slot.withdraw_seq), (false, 4, 1));
    assert_eq!(slot.commitment, prepared.commitment);
    permitted(&net, true).await;

    // A new consent in the place of the old one, and a new key with it. Committed once, whoever asks again.
    let grant = Grant {
        consent: consent("Patient/mrn-1", "c-2", "2031-12-31"),
        supersedes: vec!["c-mrn-1".into()],
        new_control_key: public(&other_key()),
    };
    let prepared = wallet.prepare("p-2", &grant).await.unwrap();
    assert_eq!(wallet.prepare("p-2", &grant).await.unwrap(), prepared, "a retry is the same answer");
    let body = opened(&prepared).unwrap();
    assert_eq!((body.fhir, body.id.as_str(), body.revision), (grant.consent.clone(), "c-2", 1));
    assert_eq!((body.state, body.supersedes), (ConsentState::Active.into(), vec!["c-mrn-1".to_owned()]));
    assert_eq!((prepared.consents.len(), prepared.rules.is_empty()), (2, false));
    let request = wallet.signed("g-2", &grant, &prepared);
    let committed = wallet.commit(request.clone()).await.unwrap();
    let again = wallet.commit(request.clone()).await.unwrap();
    assert_eq!((again.height, again.consent_seq), (committed.height, committed.consent_seq));
    // The same signature under another name finds a slot that has gone on, and another key.
    let replayed = CommitGrantRequest { request_id: "g-3".into(), ..request };
    is(&wallet.commit(replayed).await.unwrap_err(), Code::NotFound, "SLOT_NOT_FOUND");
    is(&wallet.slot().await.unwrap_err(), Code::NotFound, "SLOT_NOT_FOUND");
    wallet.key = other_key();
    let slot = wallet.slot().await.unwrap();
    assert_eq!((slot.control_key, slot.consent_seq), (Some(public(&other_key())), 5));
    permitted(&net, true).await;

    // Refusals of the custodian come through as they are, and say nothing of the patient.
    let twice = Grant { supersedes: vec!["c-mrn-1".into()], ..grant.clone() };
    let twice = Grant { consent: consent("Patient/mrn-1", "c-3", "2031-12-31"), ..twice };
    is(&wallet.prepare("p-4", &twice).await.unwrap_err(), Code::FailedPrecondition, "CONSENT_STATE");
    let foreign = Grant { consent: consent("Patient/mrn-2", "c-3", "2031-12-31"), ..Default::default() };
    let refused = wallet.prepare("p-5", &foreign).await.unwrap_err();
    is(&refused, Code::InvalidArgument, "CONSENT_FOR_OTHER_SUBJECT");
    assert!(!refused.message().contains("mrn"), "{refused:?}");

    // With the custodian down: withdrawing works, granting says whom it needs.
    net.stop(net.index("cedar")).await.unwrap();
    let down = loop {
        // Until Dogwood's node has seen the connection go.
        match wallet.prepare("p-6", &foreign).await.unwrap_err() {
            status if reason(&status) == "CONSENT_FOR_OTHER_SUBJECT" => pause().await,
            status => break status,
        }
    };
    is(&down, Code::Unavailable, "CUSTODIAN_UNREACHABLE");
    let request = wallet.signed("g-6", &lift, &prepared);
    is(&wallet.commit(request).await.unwrap_err(), Code::Unavailable, "CUSTODIAN_UNREACHABLE");
    // A stranger is not relayed: the custodian's absence is not even mentioned.
    wallet.key = SigningKey::from_bytes(&[9; 32]);
    is(&wallet.prepare("p-7", &lift).await.unwrap_err(), Code::NotFound, "SLOT_NOT_FOUND");
    let request = wallet.signed("g-7", &lift, &prepared);
    is(&wallet.commit(request).await.unwrap_err(), Code::NotFound, "SLOT_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bad_grants_are_refused_by_name_and_change_nothing() {
    let net = Net::started(1).await;
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    let mut wallet = Wallet::new(&net, "cedar", &handle);
    let before = wallet.slot().await.unwrap();
    let fhir = || consent("Patient/mrn-1", "c-2", "2031-12-31");
    let new = |consent: Vec<u8>, supersedes: &[&str], key: &[u8]| Grant {
        consent,
        supersedes: supersedes.iter().map(|id| id.to_string()).collect(),
        new_control_key: key.to_vec(),
    };
    let mut identity = [0; 32];
    identity[0] = 1;
    let rows = [
        (Code::FailedPrecondition, "NOTHING_TO_GRANT", new(vec![], &[], &[])),
        (Code::InvalidArgument, "MALFORMED_REQUEST", new(vec![], &["c-mrn-1"], &[])),
        (Code::InvalidArgument, "MALFORMED_REQUEST", new(fhir(), &[""], &[])),
        (Code::InvalidArgument, "MALFORMED_REQUEST", new(fhir(), &["c-mrn-1", "c-mrn-1"], &[])),
        (Code::InvalidArgument, "MALFORMED_REQUEST", new(fhir(), &["c-2"], &[])),
        (Code::InvalidArgument, "MALFORMED_REQUEST", new(fhir(), &["x"; 65], &[])),
        (Code::InvalidArgument, "MALFORMED_REQUEST", new(fhir(), &[], &[1; 31])),
        (Code::InvalidArgument, "MALFORMED_REQUEST", new(vec![b' '; (128 << 10) + 1], &[], &[])),
        (Code::InvalidArgument, "BAD_CONTROL_KEY", new(fhir(), &[], &identity)),
        (Code::InvalidArgument, "CONSENT_REFUSED", new(b"{}".to_vec(), &[], &[])),
        (Code::NotFound, "CONSENT_NOT_FOUND", new(fhir(), &["nowhere"], &[])),
    ];
    for (n, (code, why, grant)) in rows.into_iter().enumerate() {
        is(&wallet.prepare(&format!("p-{n}"), &grant).await.unwrap_err(), code, why);
    }
    // The proof covers the change: one for another grant, and one that was used, count for nothing.
    let grant = new(fhir(), &[], &[]);
    let method = format!("PrepareGrant/{}", hex::encode(sha256(&Grant::default().encode_to_vec())));
    let with = |proof| PrepareGrantRequest {
        request_id: "p".into(),
        proof: Some(proof),
        grant: Some(grant.clone()),
    };
    let other = with(wallet.proof(&method));
    is(&wallet.client.prepare_grant(other).await.unwrap_err(), Code::NotFound, "SLOT_NOT_FOUND");
    let own = with(wallet.proof(&format!("PrepareGrant/{}", hex::encode(sha256(&grant.encode_to_vec())))));
    let prepared = wallet.client.prepare_grant(own.clone()).await.unwrap().into_inner();
    is(&wallet.client.prepare_grant(own).await.unwrap_err(), Code::Unauthenticated, "NONCE_USED");
    // A request id is for one grant.
    let reused = wallet.prepare("p", &new(fhir(), &["c-mrn-1"], &[])).await.unwrap_err();
    is(&reused, Code::AlreadyExists, "REQUEST_ID_REUSED");

    // Signed by another key, or for what was not prepared.
    let stranger = Wallet { key: other_key(), ..Wallet::new(&net, "cedar", &handle) };
    let forged = stranger.signed("g", &grant, &prepared);
    is(&wallet.commit(forged).await.unwrap_err(), Code::NotFound, "SLOT_NOT_FOUND");
    let made_up = PrepareGrantResponse { commitment: vec![7; 32], ..prepared.clone() };
    let unknown = wallet.signed("g", &grant, &made_up);
    is(&wallet.commit(unknown).await.unwrap_err(), Code::FailedPrecondition, "GRANT_NOT_PREPARED");
    let with_key = wallet.signed("g", &new(fhir(), &[], &public(&other_key())), &prepared);
    is(&wallet.commit(with_key).await.unwrap_err(), Code::FailedPrecondition, "GRANT_NOT_PREPARED");
    let short = CommitGrantRequest { handle: vec![1; 31], ..wallet.signed("g", &grant, &prepared) };
    is(&wallet.commit(short).await.unwrap_err(), Code::InvalidArgument, "MALFORMED_REQUEST");
    let after = wallet.slot().await.unwrap();
    assert_eq!(after, before);

    // A withdrawal in between: what was prepared is void, the patient's last word stands.
    withdraw(net.client_with(0, None), "w", &handle, 0).await.unwrap();
    let late = wallet.signed("g", &grant, &prepared);
    is(&wallet.commit(late.clone()).await.unwrap_err(), Code::Aborted, "STALE_CONSENT_SEQUENCE");
    assert!(wallet.slot().await.unwrap().frozen);
    wallet.grant("again", &grant).await.unwrap();
    assert!(!wallet.slot().await.unwrap().frozen);
    // The old signature never counts again.
    is(&wallet.commit(late).await.unwrap_err(), Code::Aborted, "STALE_CONSENT_SEQUENCE");
}
