//! Every reason of governance has a step that provokes it; none of them changes anything.

use std::collections::BTreeSet;

use assent_ledger::entry::{check_entry, sign_entry};
use assent_ledger::governance::MAX_LEAD_HEIGHTS;
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::{KeyPurpose, Operation, Organization, RotateKey, SetAddresses};

use super::{
    add_organization, add_validator, addresses, approve, authority, four, network, propose, ready, record,
    remove_organization, remove_validator, replace_key, rotate, step, suspend,
};
use crate::chain::{key, Chain, CHAIN};

fn small_order() -> Vec<u8> {
    let mut key = vec![0; 32];
    key[0] = 1;
    key
}

fn with(change: impl FnOnce(&mut Organization)) -> Change {
    let mut iris = record("iris");
    change(&mut iris);
    add_organization(&iris)
}

/// Fir is a member without a vote, gorse waits to be ready; proposals 2 and 3 of Birch are open; Elm rotates a key.
fn world() -> Chain {
    let mut chain = network(&["birch", "cedar", "dogwood", "elm"]);
    let by = ["birch", "cedar", "dogwood"];
    for name in ["fir", "gorse"] {
        let effective = chain.decide(&by, add_organization(&record(name)));
        chain.until(effective - 1);
    }
    let effective = chain.decide(&by, add_validator("gorse", &key(1, "vote", "gorse")));
    chain.until(effective - 1);
    let at = chain.next() + 100;
    let rotation = rotate("elm", KeyPurpose::Entry, &chain.entry_key("elm"), &key(2, "entry", "elm"), at);
    let steps = vec![
        ("birch", propose(at, add_organization(&record("hazel")))),
        ("cedar", suspend("fir")),
        ("elm", step(Step::RotateKey(rotation))),
    ];
    chain.step(steps);
    chain
}

#[test]
fn every_reason_has_a_step_that_provokes_it() {
    let chain = world();
    let (next, later) = (chain.next(), chain.next() + 50);
    let change = |change| propose(later, change);
    let hazel = || add_organization(&record("iris"));
    let rotation =
        |purpose, old: &str, new| rotate("elm", purpose, &key(1, old, "elm"), &key(7, new, "elm"), later);
    let rotated = |rotation: RotateKey| step(Step::RotateKey(rotation));
    let fresh = key(7, "vote", "fresh");
    let bad = |mut rotation: RotateKey, old: bool| {
        match old {
            true => rotation.old_signature[3] ^= 1,
            false => rotation.new_signature[3] ^= 1,
        }
        rotated(rotation)
    };
    let mut stolen = replace_key(&chain, "elm", KeyPurpose::Entry, &fresh);
    if let Change::ReplaceKey(op) = &mut stolen {
        op.new_signature[0] ^= 1;
    }
    let mut unready = ready("gorse", &key(1, "vote", "gorse"), next - 1);
    if let Some(assent_proto::ledger::v1::operation::Kind::Govern(op)) = &mut unready.kind {
        if let Some(Step::ValidatorReady(op)) = &mut op.step {
            op.vote_signature[9] ^= 1;
        }
    }
    let gorse = key(1, "vote", "gorse");
    let table: Vec<(&str, Operation, &str)> = vec![
        ("fir", change(hazel()), "NOT_A_VOTER"),
        ("fir", approve(4), "NOT_A_VOTER"),
        ("fir", suspend("elm"), "NOT_A_VOTER"),
        ("birch", propose(next + 1, hazel()), "EFFECTIVE_HEIGHT_TOO_LOW"),
        ("birch", propose(next + 2, hazel()), ""),
        ("birch", propose(next + MAX_LEAD_HEIGHTS, hazel()), ""),
        ("birch", propose(next + MAX_LEAD_HEIGHTS + 1, hazel()), "EFFECTIVE_HEIGHT_TOO_HIGH"),
        ("birch", propose(u64::MAX, hazel()), "EFFECTIVE_HEIGHT_TOO_HIGH"),
        ("cedar", change(add_organization(&record("hazel"))), "PROPOSAL_EXISTS"),
        ("cedar", approve(5), "NO_PROPOSAL"),
        ("cedar", approve(3), "NO_PROPOSAL"),
        ("birch", approve(4), "ALREADY_APPROVED"),
        ("birch", change(remove_validator("nobody")), "NO_MEMBER"),
        ("birch", change(add_validator("nobody", &fresh)), "NO_MEMBER"),
        ("birch", change(remove_organization("nobody", None)), "NO_MEMBER"),
        ("birch", suspend("nobody"), "NO_MEMBER"),
        ("birch", change(add_organization(&record("fir"))), "MEMBER_EXISTS"),
        ("birch", change(add_validator("elm", &fresh)), "VALIDATOR_EXISTS"),
        ("birch", change(add_validator("gorse", &fresh)), "VALIDATOR_EXISTS"),
        ("birch", change(remove_validator("fir")), "NO_VALIDATOR"),
        ("birch", change(remove_validator("gorse")), ""),
        ("birch", change(remove_organization("elm", Some("elm"))), "BAD_SUCCESSOR"),
        ("birch", change(remove_organization("elm", Some("nobody"))), "BAD_SUCCESSOR"),
        ("birch", change(with(|o| o.entry_key = small_order())), "BAD_KEY"),
        ("birch", change(with(|o| o.checkpoint_key = vec![2; 32])), "BAD_KEY"),
        ("birch", change(with(|o| o.entry_key = record("elm").entry_key)), "KEY_IN_USE"),
        ("birch", change(with(|o| o.entry_key = record("elm").checkpoint_key)), "KEY_IN_USE"),
        ("birch", change(with(|o| o.exchange_peer_id = o.consensus_peer_id.clone())), "KEY_IN_USE"),
        ("birch", change(with(|o| o.exchange_peer_id = record("elm").consensus_peer_id)), "KEY_IN_USE"),
        ("birch", change(with(|o| o.ca_certificate = record("elm").ca_certificate)), "KEY_IN_USE"),
        ("birch", change(add_validator("fir", &key(1, "vote", "elm"))), "KEY_IN_USE"),
        ("birch", change(add_validator("fir", &gorse)), "KEY_IN_USE"),
        ("birch", change(add_validator("fir", &key(2, "entry", "elm"))), "KEY_IN_USE"),
        ("birch", change(replace_key(&chain, "fir", KeyPurpose::Vote, &fresh)), "NO_SUCH_KEY"),
        ("birch", change(stolen), "BAD_HANDOVER_SIGNATURE"),
        ("elm", rotated(rotation(KeyPurpose::Entry, "entry", "entry")), "KEY_CHANGE_UNDER_WAY"),
        ("elm", rotated(rotation(KeyPurpose::Vote, "vote", "vote")), ""),
        ("elm", bad(rotation(KeyPurpose::Vote, "vote", "vote"), true), "BAD_HANDOVER_SIGNATURE"),
        ("elm", bad(rotation(KeyPurpose::Vote, "vote", "vote"), false), "BAD_HANDOVER_SIGNATURE"),
        ("elm", rotated(rotation(KeyPurpose::Vote, "entry", "vote")), "BAD_HANDOVER_SIGNATURE"),
        ("elm", rotated(rotation(KeyPurpose::ConsensusPeer, "consensus", "p")), ""),
        ("elm", addresses(7), ""),
        ("cedar", suspend("fir"), "ALREADY_VOTED"),
        ("fir", ready("fir", &fresh, next - 1), "NOT_JOINING"),
        ("gorse", ready("gorse", &gorse, next), "READY_HEIGHT_OUT_OF_RANGE"),
        ("gorse", ready("gorse", &gorse, next - 1), ""),
        ("gorse", unready, "BAD_READY_SIGNATURE"),
    ];
    let mut provoked: BTreeSet<&str> = BTreeSet::new();
    for (index, (author, operation, reason)) in table.into_iter().enumerate() {
        assert_eq!(chain.reason(author, operation), reason, "row {index}");
        provoked.insert(reason);
    }
    // What needs a world of its own.
    let elsewhere = [
        ("TOO_MUCH_POWER", power()),
        ("TOO_MANY_OWN_PROPOSALS", own_proposals()),
        ("TOO_MANY_PROPOSALS", proposals()),
        ("READY_HEIGHT_OUT_OF_RANGE", late()),
    ];
    for (reason, found) in elsewhere {
        assert_eq!(found, reason);
        provoked.insert(reason);
    }
    // Shown in steps.rs, by suspended keys and removed members; in evidence.rs; and in recovery.rs.
    provoked.extend(["ALREADY_SUSPENDED", "NOBODY_LEFT_TO_APPROVE"]);
    let source = include_str!("../../../src/governance/error.rs");
    let reasons = source.split("pub fn reason").nth(1).unwrap().split('"').skip(1).step_by(2);
    let of_evidence =
        ["NOT_A_VALIDATOR_KEY", "EVIDENCE_HEIGHT_NOT_REACHED", "EVIDENCE_KNOWN", "EVIDENCE_AT_RECOVERY"];
    // 512 members and 256 validators are too many for a test.
    let unprovoked = ["TOO_MANY_MEMBERS", "TOO_MANY_VALIDATORS"];
    let missing: Vec<&str> = reasons
        .filter(|r| !provoked.contains(r) && !of_evidence.contains(r) && !unprovoked.contains(r))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// A third of the power is no less than a third.
fn power() -> &'static str {
    let chain = network(&["a", "b", "c"]);
    chain.reason("a", propose(chain.next() + 2, remove_validator("b")))
}

fn fill(chain: &mut Chain, author: &str, from: usize, count: usize) {
    let at = chain.next() + 100;
    for n in from..from + count {
        chain.step(vec![(author, propose(at, add_organization(&record(&format!("org-{n}")))))]);
    }
}

fn own_proposals() -> &'static str {
    let mut chain = four();
    fill(&mut chain, "birch", 0, 4);
    assert_eq!(chain.reason("cedar", propose(chain.next() + 9, add_organization(&record("fir")))), "");
    chain.reason("birch", propose(chain.next() + 9, add_organization(&record("fir"))))
}

fn proposals() -> &'static str {
    let names: Vec<String> = (0..9).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut chain = network(&names);
    for (n, author) in names[..8].iter().enumerate() {
        fill(&mut chain, author, 4 * n, 4);
    }
    chain.reason("m8", propose(chain.next() + 9, add_organization(&record("fir"))))
}

/// A validator whose newest block is 257 below.
fn late() -> &'static str {
    let mut chain = world();
    let (gorse, said) = (key(1, "vote", "gorse"), chain.next() - 1);
    chain.until(said + 255);
    assert_eq!(chain.reason("gorse", ready("gorse", &gorse, said)), "");
    chain.until(said + 256);
    chain.reason("gorse", ready("gorse", &gorse, said))
}

#[test]
fn steps_of_a_wrong_form_are_refused_by_field() {
    let chain = four();
    let at = 9;
    let named = |operation: Operation| {
        let body = chain.body("elm", 1, vec![operation]);
        check_entry(CHAIN, &sign_entry(&chain.entry_key("elm"), &body)).unwrap_err().to_string()
    };
    let rotate_ca = |new_key: Vec<u8>, old_signature: Vec<u8>| {
        let purpose = KeyPurpose::CertificateAuthority.into();
        step(Step::RotateKey(RotateKey { purpose, new_key, old_signature, ..Default::default() }))
    };
    let fresh = key(7, "vote", "fresh");
    let long = |n: usize| "x".repeat(n);
    let rotation = |purpose: i32| {
        let rotation = rotate("elm", KeyPurpose::Vote, &fresh, &fresh, at);
        step(Step::RotateKey(RotateKey { purpose, ..rotation }))
    };
    let address = |text: &str| {
        let addresses =
            SetAddresses { consensus_address: "/ip4/192.0.2.1/tcp/1".into(), exchange_address: text.into() };
        step(Step::SetAddresses(addresses))
    };
    let table = [
        (crate::records::op(assent_proto::ledger::v1::Govern { step: None }), "Govern.step"),
        (step(Step::Propose(Default::default())), "ProposeChange.change"),
        (propose(at, with(|o| o.id = "Fir".into())), "Organization.id"),
        (propose(at, with(|o| o.name = String::new())), "Organization.name"),
        (propose(at, with(|o| o.name = "a\nb".into())), "Organization.name"),
        (propose(at, with(|o| o.entry_key.truncate(31))), "Organization.entry_key"),
        (propose(at, with(|o| o.checkpoint_key.push(0))), "Organization.checkpoint_key"),
        (propose(at, with(|o| o.consensus_peer_id.truncate(51))), "Organization.consensus_peer_id"),
        (propose(at, with(|o| o.exchange_peer_id = long(60))), "Organization.exchange_peer_id"),
        (propose(at, with(|o| o.consensus_address = "192.0.2.1:7".into())), "Organization.consensus_address"),
        (propose(at, with(|o| o.ca_certificate.clear())), "Organization.ca_certificate"),
        (propose(at, with(|o| o.ca_certificate.push(0))), "Organization.ca_certificate"),
        (propose(at, with(|o| o.ca_certificate = vec![0x30; 4097])), "Organization.ca_certificate"),
        (propose(at, with(|o| o.ca_certificate = vec![0x30; 9000])), "Organization"),
        (propose(at, remove_organization("elm", Some("Elm"))), "RemoveOrganization.successor"),
        (propose(at, remove_validator("")), "RemoveValidator.organization"),
        (rotation(0), "RotateKey.purpose"),
        (rotation(7), "RotateKey.purpose"),
        (rotate_ca(authority("x"), vec![0; 64]), "RotateKey.old_signature"),
        (rotate_ca(vec![1; 32], vec![]), "RotateKey.new_key"),
        (suspend("E"), "SuspendEntryKey.organization"),
        (address(""), "SetAddresses.exchange_address"),
        (address(&format!("/ip4/192.0.2.1/tcp/1/{}", long(256))), "SetAddresses.exchange_address"),
        (address("/ip4/192.0.2.1/tcp/1/p2p/12D3"), "SetAddresses.exchange_address"),
        (address("/ip4/192.0.2.1/udp/1"), "SetAddresses.exchange_address"),
        (address("/dns4/a b/tcp/1"), "SetAddresses.exchange_address"),
    ];
    for (operation, field) in table {
        let found = named(operation);
        assert!(found.starts_with(field), "{field}: {found}");
    }
}
