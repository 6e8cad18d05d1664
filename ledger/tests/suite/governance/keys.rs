//! Rotation of each key: signed by both, from its height on, and the seat stays.

use assent_ledger::governance::present_key;
use assent_ledger::membership::members_root;
use assent_ledger::state::organization;
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::{KeyPurpose, RotateKey};

use super::{authority, four, members, rotate, step, voters};
use crate::chain::{key, public, CHAIN, FOUR};
use crate::records::{op, set_policy};

#[test]
fn an_entry_key_changes_hands_at_its_height() {
    let mut chain = four();
    let (old, new) = (chain.entry_key("elm"), key(7, "entry", "elm"));
    let at = chain.next() + 3;
    let before = chain.tip.validators.members_root.clone();
    chain.step(vec![("elm", step(Step::RotateKey(rotate("elm", KeyPurpose::Entry, &old, &new, at))))]);
    let signed_by = |chain: &crate::chain::Chain, key| {
        let body = chain.body("elm", 400, vec![op(set_policy(0, 1))]);
        let bytes = assent_ledger::entry::sign_entry(key, &body);
        chain.reason_of(&assent_ledger::entry::check_entry(CHAIN, &bytes).unwrap())
    };
    chain.until(at - 2);
    assert_eq!((signed_by(&chain, &old), signed_by(&chain, &new)), ("", "BAD_AUTHOR_SIGNATURE"));
    chain.until(at - 1);
    assert_eq!((signed_by(&chain, &old), signed_by(&chain, &new)), ("BAD_AUTHOR_SIGNATURE", ""));
    let stored = organization(&chain.store, CHAIN, "elm").unwrap().unwrap();
    assert_eq!(stored.entry_key, public(&new));
    assert_ne!(chain.tip.validators.members_root, before);
    assert_eq!(chain.tip.validators.members_root, members_root(&members(&chain).organizations));
    // The next rotation is signed by the new key.
    chain.know(new.clone());
    let third = key(8, "entry", "elm");
    let by = |old| step(Step::RotateKey(rotate("elm", KeyPurpose::Entry, old, &third, chain.next() + 2)));
    assert_eq!(
        (chain.reason("elm", by(&old)), chain.reason("elm", by(&new))),
        ("BAD_HANDOVER_SIGNATURE", "")
    );
}

#[test]
fn a_vote_key_changes_and_keeps_its_seat() {
    let mut chain = four();
    for (round, name) in FOUR.iter().enumerate() {
        let (old, new) = (chain.vote_key(name), key(9, "vote", name));
        chain.know(new.clone());
        let at = chain.next() + 2;
        chain.step(vec![(name, step(Step::RotateKey(rotate(name, KeyPurpose::Vote, &old, &new, at))))]);
        chain.until(at - 1);
        let now = members(&chain);
        assert_eq!(present_key(&now, name, KeyPurpose::Vote).unwrap(), public(&new));
        assert_eq!(now.former_vote_keys.len(), round + 1);
        assert_eq!(
            (&now.former_vote_keys[round].vote_key[..], now.former_vote_keys[round].last_height),
            (&public(&old)[..], at - 1)
        );
        assert!(chain.tip.validators.validators.windows(2).all(|w| w[0].vote_key < w[1].vote_key));
        // Certificates of the new set verify in the blocks that follow.
        chain.until(at + 4);
        assert_eq!(voters(&chain), FOUR);
    }
}

#[test]
fn peers_checkpoints_and_authorities_change_too() {
    let mut chain = four();
    let purposes = [
        (KeyPurpose::ConsensusPeer, "consensus"),
        (KeyPurpose::ExchangePeer, "exchange"),
        (KeyPurpose::Checkpoint, "checkpoint"),
    ];
    let at = chain.next() + 2;
    let mut steps = Vec::new();
    for (purpose, name) in purposes {
        let (old, new) = (key(1, name, "elm"), key(9, name, "elm"));
        steps.push(("elm", step(Step::RotateKey(rotate("elm", purpose, &old, &new, at)))));
    }
    let purpose = KeyPurpose::CertificateAuthority.into();
    let new_key = authority("a new one");
    let change = RotateKey { purpose, new_key: new_key.clone(), effective_height: at, ..Default::default() };
    steps.push(("elm", step(Step::RotateKey(change))));
    chain.step(steps);
    chain.until(at - 1);
    let now = members(&chain);
    for (purpose, name) in purposes {
        assert_eq!(present_key(&now, "elm", purpose).unwrap(), public(&key(9, name, "elm")), "{name}");
    }
    assert_eq!(present_key(&now, "elm", KeyPurpose::CertificateAuthority).unwrap(), new_key);
    assert_eq!(chain.tip.validators.members_root, members_root(&now.organizations));
}

#[test]
fn a_replacement_by_vote_ends_what_the_key_had_under_way() {
    let mut chain = four();
    let (thief, fresh) = (key(5, "vote", "thief"), key(6, "vote", "elm"));
    chain.know(fresh.clone());
    let stolen = rotate("elm", KeyPurpose::Vote, &chain.vote_key("elm"), &thief, chain.next() + 9);
    chain.step(vec![("elm", step(Step::RotateKey(stolen)))]);
    let change = super::replace_key(&chain, "elm", KeyPurpose::Vote, &fresh);
    let effective = chain.decide(&["birch", "cedar", "dogwood"], change);
    chain.until(effective + 12);
    assert_eq!(present_key(&members(&chain), "elm", KeyPurpose::Vote).unwrap(), public(&fresh));
    assert!(members(&chain).scheduled.is_empty());
}
