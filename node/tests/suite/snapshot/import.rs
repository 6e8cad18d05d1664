//! A ledger made from a snapshot is the same ledger.

use assent_ledger::block::Tip;
use assent_ledger::log::inclusion_proof;
use assent_node::chain::{LedgerReplica, Mempool};
use tokio::sync::Notify;

use super::*;

/// The version of the state tree is each node's own.
fn comparable(tip: Tip) -> Tip {
    Tip { state_version: 0, ..tip }
}

/// What a view says of slots and log, with proofs.
fn said(store: &Store) -> impl PartialEq + std::fmt::Debug {
    let view = store.view().unwrap();
    let slots = [("cedar", CEDARS), ("birch", BIRCHS)].map(|(custodian, handle)| {
        let slot = view.slot(custodian, &handle).unwrap();
        let proof = view.prove_slot(custodian, &handle, slot.as_ref()).unwrap();
        (slot, proof)
    });
    let size = view.tip.log.size();
    let paths: Vec<_> = (0..size).map(|n| inclusion_proof(&view, n, size).unwrap()).collect();
    (slots, paths)
}

#[test]
fn who_joins_has_the_same_state_log_and_own_history_and_goes_on() {
    let mut ledger = ledger();
    assert!(!ledger.store.tip().unwrap().bench.0.is_empty(), "the bench is to be recomputed");
    for organization in ["birch", "elm", "cedar"] {
        let bytes = snapshot(&ledger.store, organization);
        assert_eq!(bytes, snapshot(&ledger.store, organization), "one view gives one snapshot");
        let present = store(&ledger, organization, "at-genesis");
        let joined = imported(&ledger, organization, &present, &[], &bytes).unwrap();
        assert_eq!(comparable(joined.tip().unwrap()), comparable(ledger.store.tip().unwrap()));
        assert_eq!(said(&joined), said(&ledger.store));
        let (view, whole) = (joined.view().unwrap(), ledger.store.view().unwrap());
        assert_eq!((view.whole_from().unwrap(), view.own_gap().unwrap()), (BLOCKS + 1, None));
        for height in 1..=BLOCKS {
            let (joined, whole) =
                (view.sealed(height).unwrap().unwrap(), whole.sealed(height).unwrap().unwrap());
            assert_eq!((joined.header, joined.certificate), (whole.header, whole.certificate));
        }
    }
    // Cedar's own history, from a folder that had nothing.
    let joined = store(&ledger, "cedar", "importing");
    let (view, whole) = (joined.view().unwrap(), ledger.store.view().unwrap());
    for n in 1..=4 {
        let place = view.access_place("cedar", &CEDARS, n).unwrap();
        assert_eq!(place, whole.access_place("cedar", &CEDARS, n).unwrap());
        let receipt = |view: &assent_node::chain::View<'_>| {
            view.access_claim(place.as_ref().unwrap(), opened()).unwrap()
        };
        assert_eq!(receipt(&view), receipt(&whole));
    }
    for height in 1..=BLOCKS {
        let change = view.slot_as_of("cedar", &CEDARS, height).unwrap();
        assert_eq!(change, whole.slot_as_of("cedar", &CEDARS, height).unwrap());
        assert_eq!(view.own_entries(height).unwrap().unwrap().len(), usize::from(height % 2 == 1));
    }
    assert!(view.slot_as_of("cedar", &CEDARS, BLOCKS).unwrap().unwrap().frozen);
    drop((view, whole));

    // Both go on with the same block.
    let address = key(&ledger.net, "cedar", "vote").verifying_key().to_bytes();
    let wake = std::sync::Arc::new(Notify::new());
    let mempool = Mempool::new(wake.clone());
    let heartbeat = std::time::Duration::from_secs(10);
    let (mut replica, _, _) =
        LedgerReplica::new(joined.clone(), mempool, "cedar".into(), address, heartbeat, wake).unwrap();
    let entry = ledger.entry("birch", 6, vec![record_access("birch", BIRCHS, 1, [6; 32])]);
    ledger.admit(&entry).unwrap();
    block(&mut ledger, "cedar");
    let decided = ledger.replica.decided(BLOCKS + 1, BLOCKS + 1, 1 << 20).unwrap();
    let (certificate, bytes) = decided.into_iter().next().unwrap();
    let candidate = assent_node::order::Candidate {
        height: BLOCKS + 1,
        round: certificate.round,
        pol_round: None,
        proposer: address,
        hash: certificate.header_hash.clone().try_into().unwrap(),
        bytes,
    };
    let verdict = replica.validate(&candidate, false).unwrap();
    assert_eq!(verdict, assent_node::order::Verdict::Valid(candidate.hash));
    replica.commit(certificate).unwrap();
    assert_eq!(comparable(joined.tip().unwrap()), comparable(ledger.store.tip().unwrap()));
    assert_eq!(said(&joined), said(&ledger.store));
}

#[test]
fn from_a_peer_that_has_pruned_others_history_is_missing_and_that_is_known() {
    let ledger = ledger();
    ledger.store.prune(3, "cedar", 100).unwrap();
    let bytes = snapshot(&ledger.store, "birch");
    let present = store(&ledger, "birch", "at-genesis");
    let joined = imported(&ledger, "birch", &present, &[BIRCHS], &bytes).unwrap();
    let view = joined.view().unwrap();
    assert_eq!(view.own_gap().unwrap(), Some((1, BLOCKS)));
    assert!(
        view.lacks_own(1).unwrap() && view.lacks_own(BLOCKS).unwrap() && !view.lacks_own(BLOCKS + 1).unwrap()
    );
    assert_eq!(view.own_entries(2).unwrap(), None);
    assert_eq!(view.access_place("birch", &BIRCHS, 1).unwrap(), None);
    // What the slot is now is in the index, as of the snapshot.
    let now = view.slot_change("birch", &BIRCHS, 1).unwrap().unwrap();
    assert_eq!((now.height, now.commitment), (BLOCKS, vec![7; 32]));

    // With its own old ledger beside it, nothing is missing.
    drop(view);
    let whole = snapshot(&ledger.store, "cedar");
    let again = imported(&ledger, "cedar", &ledger.store, &[CEDARS], &whole).unwrap();
    let view = again.view().unwrap();
    assert_eq!(view.own_gap().unwrap(), None);
    assert_eq!(view.access_place("cedar", &CEDARS, 4).unwrap().unwrap().height, 9);
}
