//! What a bundle and a history prove, and to whom they can't be made to speak.

use assent_ledger::hash::Context;
use assent_ledger::receipt::{sign_message, ReceiptError};
use assent_ledger::receipts::{verify_bundle, verify_history, verify_receipt, ReceiptFault};
use assent_proto::ledger::v1::{receipt, AccessClaim, AccessHistory, Anchor, Receipt, RecordBundle, Signed};
use prost::Message;

use crate::chain::{Chain, CHAIN};
use crate::records::{
    anchor, history, history_access, op, patient, receipt, request, set_consent, three_accesses, trust,
    with_key, Access, HANDLE,
};

fn refusal(chain: &Chain, history: &AccessHistory) -> String {
    verify_history(&trust(chain), &history.encode_to_vec()).expect_err("verified").to_string()
}

#[test]
fn a_bundle_shows_what_was_released_to_whom_and_why() {
    let (chain, accesses, _, bundles) = three_accesses();
    for (n, bundle) in bundles.iter().enumerate() {
        let (_, access, again) = verify_bundle(&trust(&chain), &bundle.encode_to_vec()).unwrap();
        assert_eq!((&access.event, &again), (&accesses[n].event, bundle));
        assert_eq!(access.height, n as u64 + 2);
        assert_eq!(access.request, request(if n == 1 { "dogwood" } else { "birch" }, n as u8 + 1));
    }
}

#[test]
fn a_history_shows_all_accesses() {
    let (chain, accesses, shown, _) = three_accesses();
    let history = history(&chain, shown);
    let shown = verify_history(&trust(&chain), &history.encode_to_vec()).unwrap();
    assert_eq!((shown.at.header.height, shown.slot.access_seq), (4, 3));
    assert_eq!((shown.custodian.as_str(), shown.handle), ("cedar", HANDLE));
    let events: Vec<_> = shown.accesses.iter().map(|access| &access.event).collect();
    assert_eq!(events, accesses.iter().map(|a| &a.event).collect::<Vec<_>>());
    assert_eq!(shown.accesses.iter().map(|a| a.access_seq).collect::<Vec<_>>(), [1, 2, 3]);
}

/// Nothing in a bundle shows which access it is.
#[test]
fn a_bundle_claims_no_number() {
    let (chain, _, _, bundles) = three_accesses();
    let (_, access, _) = verify_bundle(&trust(&chain), &bundles[1].encode_to_vec()).unwrap();
    assert_eq!(access.access_seq, 0);
}

#[test]
fn another_genesis_is_refused() {
    let (_, _, _, bundles) = three_accesses();
    let mut other = Chain::of(2, &crate::chain::FOUR);
    let outcome = verify_bundle(&trust(&other), &bundles[0].encode_to_vec());
    assert!(matches!(outcome, Err(ReceiptFault::Proof(ReceiptError::GenesisHash { .. }))), "{outcome:?}");
    // The receipt of this chain behind the genesis that the verifier trusts.
    other.commit(vec![]);
    let good = bundles[0].proof.clone().unwrap();
    let Anchor { start, .. } = anchor(&other);
    let borrowed = Anchor { start, ..good.anchor.clone().unwrap() };
    assert!(verify_receipt(&trust(&other), &Receipt { anchor: Some(borrowed), ..good }).is_err());
}

/// The custodian alone can't make up who asked: the recipient's signature is checked against its key of genesis.
#[test]
fn a_request_that_the_recipient_did_not_sign_is_refused() {
    let forge = |edit: &dyn Fn(&Chain, &mut Signed)| {
        let mut chain = Chain::new();
        let first = chain.entry("cedar", vec![op(with_key(set_consent("cedar", 0, 1), &patient()))]);
        chain.commit(vec![first]);
        let mut access = Access::new(&chain, "birch", 1, 1);
        let mut signed = Signed::decode(access.event.request.as_slice()).unwrap();
        edit(&chain, &mut signed);
        access.event.request = signed.encode_to_vec();
        let entry = chain.entry("cedar", vec![access.operation()]);
        chain.commit(vec![entry]);
        let alone = verify_receipt(&trust(&chain), &receipt(&chain, &access)).map(|_| ());
        let history = history(&chain, vec![history_access(&chain, &access)]).encode_to_vec();
        assert_eq!(verify_history(&trust(&chain), &history).map(|_| ()), alone);
        alone
    };
    assert_eq!(forge(&|_, _| {}), Ok(()));
    assert!(forge(&|_, s| s.signature[7] ^= 1).is_err());
    assert!(forge(&|_, s| s.signature.clear()).is_err());
    // Signed by the custodian in the recipient's name; for another purpose; of an organization that nobody knows.
    let body = |_: &Chain| request("birch", 1).encode_to_vec();
    assert!(forge(
        &|c, s| *s = sign_message(Context::Request, CHAIN, "birch", &c.entry_key("cedar"), body(c))
    )
    .is_err());
    assert!(forge(
        &|c, s| *s = sign_message(Context::Decision, CHAIN, "birch", &c.entry_key("birch"), body(c))
    )
    .is_err());
    assert!(forge(
        &|c, s| *s = sign_message(Context::Request, CHAIN, "dogwood", &c.entry_key("dogwood"), body(c))
    )
    .is_err());
    let stranger = |c: &Chain| {
        sign_message(Context::Request, CHAIN, "fir", &c.entry_key("fir"), request("fir", 1).encode_to_vec())
    };
    assert!(forge(&|c, s| *s = stranger(c)).is_err());
}

#[test]
fn parts_of_two_receipts_do_not_mix() {
    let (chain, _, _, bundles) = three_accesses();
    let parts = |n: usize| -> (Anchor, AccessClaim) {
        let Receipt { anchor, claim } = bundles[n].proof.clone().unwrap();
        let Some(receipt::Claim::Access(claim)) = claim else { unreachable!() };
        (anchor.unwrap(), claim)
    };
    let ((way, a), (other_way, b)) = (parts(0), parts(2));
    let mixes: Vec<(Anchor, AccessClaim)> = vec![
        (way.clone(), AccessClaim { event: b.event.clone(), ..a.clone() }),
        (way.clone(), AccessClaim { event: b.event.clone(), salt: b.salt.clone(), ..a.clone() }),
        (way.clone(), AccessClaim { salt: b.salt.clone(), ..a.clone() }),
        (way.clone(), AccessClaim { entry: b.entry.clone(), ..a.clone() }),
        (way.clone(), AccessClaim { inclusion: b.inclusion.clone(), ..a.clone() }),
        (way.clone(), AccessClaim { inclusion: None, ..a.clone() }),
        (way.clone(), AccessClaim { operation: 1, ..a.clone() }),
        (way.clone(), AccessClaim { operation: u32::MAX, ..a.clone() }),
        (way.clone(), AccessClaim { recipient: parts(1).1.recipient, ..a.clone() }),
        (other_way.clone(), a.clone()),
        (Anchor { header: other_way.header.clone(), ..way.clone() }, a.clone()),
        (Anchor { start: other_way.start.clone(), ..way.clone() }, a.clone()),
        (Anchor { start: None, ..way.clone() }, a.clone()),
    ];
    let of = |(anchor, claim)| Receipt { anchor: Some(anchor), claim: Some(receipt::Claim::Access(claim)) };
    for (number, mixed) in mixes.into_iter().enumerate() {
        assert!(verify_receipt(&trust(&chain), &of(mixed)).is_err(), "mix {number}");
    }
    let resources = |resources: Vec<Vec<u8>>| {
        let bundle = RecordBundle { proof: Some(of((way.clone(), a.clone()))), resources };
        verify_bundle(&trust(&chain), &bundle.encode_to_vec()).is_ok()
    };
    let good = bundles[0].resources.clone();
    assert!(resources(good.clone()));
    assert!(!resources(vec![]));
    assert!(!resources(vec![good[0].clone()]));
    assert!(!resources(vec![good[1].clone(), good[0].clone()]));
    assert!(!resources([good.clone(), vec![vec![]]].concat()));
    assert!(verify_bundle(&trust(&chain), &RecordBundle { proof: None, resources: good }.encode_to_vec())
        .is_err());
}

/// An event that names another slot or other sequences than the operation on the ledger.
#[test]
fn an_event_for_another_slot_is_refused() {
    let attempt = |edit: &dyn Fn(&mut Access)| {
        let mut chain = Chain::new();
        let first = chain.entry("cedar", vec![op(set_consent("cedar", 0, 1))]);
        chain.commit(vec![first]);
        let mut access = Access::new(&chain, "birch", 1, 1);
        edit(&mut access);
        let mut operation = access.operation();
        // On the ledger it is Cedar's slot all the same.
        if let Some(assent_proto::ledger::v1::operation::Kind::RecordAccess(op)) = &mut operation.kind {
            (op.custodian, op.handle) = ("cedar".into(), HANDLE.to_vec());
            (op.expected_consent_seq, op.expected_policy_seq) = (1, 0);
        }
        let entry = chain.entry("cedar", vec![operation]);
        chain.commit(vec![entry]);
        verify_receipt(&trust(&chain), &receipt(&chain, &access)).map(|_| ())
    };
    assert_eq!(attempt(&|_| {}), Ok(()));
    assert!(attempt(&|a| a.event.height += 1).is_err());
    assert!(attempt(&|a| a.event.reasons.clear()).is_err());
    assert!(attempt(&|a| a.event.custodian = "birch".into()).is_err());
    assert!(attempt(&|a| a.event.handle = vec![9; 32]).is_err());
    assert!(attempt(&|a| a.event.consent_seq = 2).is_err());
    assert!(attempt(&|a| a.event.policy_seq = 2).is_err());
    assert!(attempt(&|a| a.event.request = b"nonsense".to_vec()).is_err());
}

#[test]
fn a_history_that_leaves_out_or_reorders_is_refused() {
    let (chain, _, shown, _) = three_accesses();
    let good = history(&chain, shown);
    let with = |edit: &dyn Fn(&mut AccessHistory)| {
        let mut history = good.clone();
        edit(&mut history);
        refusal(&chain, &history)
    };
    for n in 0..3 {
        assert!(with(&|h| drop(h.accesses.remove(n))).contains("number of accesses"));
    }
    assert!(with(&|h| h.accesses[1] = h.accesses[0].clone()).contains("access head"));
    assert!(with(&|h| h.accesses.swap(0, 1)).contains("access head"));
    // Fewer accesses, with a slot that says so.
    let fewer = with(&|h| {
        h.accesses.pop();
        h.slot.as_mut().unwrap().access_seq = 2;
    });
    assert!(fewer.contains("slot is not in the state"), "{fewer}");
    assert!(with(&|h| h.slot.as_mut().unwrap().frozen = true).contains("slot is not in the state"));
    assert!(with(&|h| h.slot = None).contains("no slot"));
    assert!(with(&|h| h.handle = vec![9; 32]).contains("slot is not in the state"));
    assert!(with(&|h| h.custodian = "birch".into()).contains("slot is not in the state"));
    assert!(with(&|h| h.anchor = None).contains("no anchor"));
    assert!(with(&|h| h.accesses[0].access = None).contains("an access is missing"));
    assert!(with(&|h| h.accesses[0].certificate = None).contains("certificate is missing"));
}

/// A file that declares millions of empty parts is refused before memory is taken for each.
#[test]
fn files_of_empty_parts_cost_little() {
    let trust = trust(&three_accesses().0);
    let message = |tag: u32, content: Vec<u8>| {
        let mut out = Vec::new();
        prost::encoding::bytes::encode(tag, &content, &mut out);
        out
    };
    // Links of a chain of sets, in the anchor of each file.
    let links = || message(2, [0x12, 0].repeat(2 << 20));
    let refused = |bytes: &[u8], bundle: bool| {
        let error = match bundle {
            true => verify_bundle(&trust, bytes).map(|_| ()),
            false => verify_history(&trust, bytes).map(|_| ()),
        };
        let error = error.expect_err("verified").to_string();
        assert!(error.contains("at most"), "{error}");
    };
    refused(&[0x52, 0].repeat(8 << 20), false);
    refused(&message(9, links()), false);
    refused(&[0x12, 0].repeat(8 << 20), true);
    refused(&message(3, message(1, links())), true);
}
