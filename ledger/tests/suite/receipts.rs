//! What a receipt and a history prove, and to whom they can't be made to speak.

use assent_ledger::hash::Context;
use assent_ledger::receipt::{sign_message, verify_bundle, verify_history, verify_receipt, ReceiptError};
use assent_proto::ledger::v1::{AccessHistory, AccessReceipt, RecordBundle, Signed};
use prost::Message;

use crate::chain::{Chain, CHAIN};
use crate::records::{
    history, lone_receipt, numbered_receipt, op, patient, request, set_consent, three_accesses, with_key,
    Access, HANDLE,
};

fn refusal(chain: &Chain, history: &AccessHistory) -> String {
    verify_history(&chain.genesis.hash, &history.encode_to_vec()).expect_err("verified").to_string()
}

#[test]
fn a_bundle_shows_what_was_released_to_whom_and_why() {
    let (chain, accesses, _, bundles) = three_accesses();
    for (n, bundle) in bundles.iter().enumerate() {
        let (access, again) = verify_bundle(&chain.genesis.hash, &bundle.encode_to_vec()).unwrap();
        assert_eq!((&access.event, &again), (&accesses[n].event, bundle));
        assert_eq!(access.height, n as u64 + 2);
        assert_eq!(access.request, request(if n == 1 { "dogwood" } else { "birch" }, n as u8 + 1));
    }
}

#[test]
fn a_history_shows_all_accesses() {
    let (chain, accesses, receipts, _) = three_accesses();
    let history = history(&chain, receipts);
    let (anchored, slot, shown) = verify_history(&chain.genesis.hash, &history.encode_to_vec()).unwrap();
    assert_eq!((anchored.header.height, slot.access_seq), (4, 3));
    let events: Vec<_> = shown.iter().map(|access| &access.event).collect();
    assert_eq!(events, accesses.iter().map(|a| &a.event).collect::<Vec<_>>());
    assert_eq!(shown.iter().map(|a| a.access_seq).collect::<Vec<_>>(), [1, 2, 3]);
}

/// Nothing in a bundle shows which access it is: a number in it would be an unproven claim that anyone can change.
#[test]
fn a_bundle_claims_no_number() {
    let (chain, _, receipts, bundles) = three_accesses();
    let verify = |receipt: &AccessReceipt| {
        let bundle = RecordBundle { receipt: Some(receipt.clone()), resources: bundles[1].resources.clone() };
        verify_bundle(&chain.genesis.hash, &bundle.encode_to_vec()).map(|(access, _)| access.access_seq)
    };
    let good = bundles[1].receipt.clone().unwrap();
    assert_eq!(verify(&good), Ok(0));
    let numbered = AccessReceipt { access_seq: 2, ..good.clone() };
    assert!(matches!(verify(&numbered), Err(ReceiptError::Rule(_))));
    let headed = AccessReceipt { previous_access_head: receipts[1].previous_access_head.clone(), ..good };
    assert!(matches!(verify(&headed), Err(ReceiptError::Rule(_))));
    // By itself such a receipt proves the access, but no number.
    assert_eq!(verify_receipt(&chain.genesis.hash, &numbered).map(|access| access.access_seq), Ok(0));
}

#[test]
fn another_genesis_is_refused() {
    let (_, _, receipts, bundles) = three_accesses();
    let other = Chain::of(2, &crate::chain::FOUR);
    let outcome = verify_bundle(&other.genesis.hash, &bundles[0].encode_to_vec());
    assert!(matches!(outcome, Err(ReceiptError::GenesisHash { .. })), "{outcome:?}");
    // The receipt of this chain behind the genesis that the verifier trusts.
    let borrowed =
        AccessReceipt { genesis: other.genesis.bytes.clone(), ..bundles[0].receipt.clone().unwrap() };
    assert!(verify_receipt(&other.genesis.hash, &borrowed).is_err());
    assert!(verify_receipt(&other.genesis.hash, &receipts[0]).is_err());
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
        let alone = verify_receipt(&chain.genesis.hash, &lone_receipt(&chain, &access)).map(|_| ());
        let history = history(&chain, vec![numbered_receipt(&chain, &access, 1, &[])]).encode_to_vec();
        assert_eq!(verify_history(&chain.genesis.hash, &history).map(|_| ()), alone);
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
    let (a, b) = (bundles[0].receipt.clone().unwrap(), bundles[2].receipt.clone().unwrap());
    let mixes: Vec<AccessReceipt> = vec![
        AccessReceipt { event: b.event.clone(), ..a.clone() },
        AccessReceipt { event: b.event.clone(), salt: b.salt.clone(), ..a.clone() },
        AccessReceipt { salt: b.salt.clone(), ..a.clone() },
        AccessReceipt { entry: b.entry.clone(), ..a.clone() },
        AccessReceipt { inclusion: b.inclusion.clone(), ..a.clone() },
        AccessReceipt { inclusion: None, ..a.clone() },
        AccessReceipt { header: b.header.clone(), ..a.clone() },
        AccessReceipt { certificate: b.certificate.clone(), ..a.clone() },
        AccessReceipt { certificate: None, ..a.clone() },
        AccessReceipt { header: b.header.clone(), certificate: b.certificate.clone(), ..a.clone() },
        AccessReceipt { operation: 1, ..a.clone() },
        AccessReceipt { operation: u32::MAX, ..a.clone() },
    ];
    for (number, mixed) in mixes.iter().enumerate() {
        assert!(verify_receipt(&chain.genesis.hash, mixed).is_err(), "mix {number}");
    }
    let resources = |resources: Vec<Vec<u8>>| {
        let bundle = RecordBundle { receipt: Some(a.clone()), resources };
        verify_bundle(&chain.genesis.hash, &bundle.encode_to_vec()).is_ok()
    };
    let good = bundles[0].resources.clone();
    assert!(resources(good.clone()));
    assert!(!resources(vec![]));
    assert!(!resources(vec![good[0].clone()]));
    assert!(!resources(vec![good[1].clone(), good[0].clone()]));
    assert!(!resources([good.clone(), vec![vec![]]].concat()));
    assert!(verify_bundle(
        &chain.genesis.hash,
        &RecordBundle { receipt: None, resources: good }.encode_to_vec()
    )
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
        verify_receipt(&chain.genesis.hash, &lone_receipt(&chain, &access)).map(|_| ())
    };
    assert_eq!(attempt(&|_| {}), Ok(()));
    assert!(attempt(&|a| a.event.custodian = "birch".into()).is_err());
    assert!(attempt(&|a| a.event.handle = vec![9; 32]).is_err());
    assert!(attempt(&|a| a.event.consent_seq = 2).is_err());
    assert!(attempt(&|a| a.event.policy_seq = 2).is_err());
    assert!(attempt(&|a| a.event.request = b"nonsense".to_vec()).is_err());
}

#[test]
fn a_history_that_leaves_out_or_reorders_is_refused() {
    let (chain, _, receipts, _) = three_accesses();
    let good = history(&chain, receipts);
    let with = |edit: &dyn Fn(&mut AccessHistory)| {
        let mut history = good.clone();
        edit(&mut history);
        refusal(&chain, &history)
    };
    for n in 0..3 {
        assert!(with(&|h| drop(h.receipts.remove(n))).contains("number of accesses"));
    }
    assert!(with(&|h| h.receipts[1] = h.receipts[0].clone()).contains("numbered"));
    assert!(with(&|h| h.receipts.swap(0, 1)).contains("numbered"));
    // Renumbered to fit: the chain of heads tells.
    let renumbered = with(&|h| {
        h.receipts.swap(0, 1);
        (h.receipts[0].access_seq, h.receipts[1].access_seq) = (1, 2);
    });
    assert!(renumbered.contains("access head"), "{renumbered}");
    // Fewer accesses, with a slot that says so.
    let fewer = with(&|h| {
        h.receipts.pop();
        h.slot.as_mut().unwrap().access_seq = 2;
    });
    assert!(fewer.contains("slot is not in the state"), "{fewer}");
    assert!(with(&|h| h.slot.as_mut().unwrap().frozen = true).contains("slot is not in the state"));
    assert!(with(&|h| h.slot = None).contains("no slot"));
    assert!(with(&|h| h.handle = vec![9; 32]).contains("slot is not in the state"));
    assert!(with(&|h| h.custodian = "birch".into()).contains("slot is not in the state"));
    assert!(with(&|h| h.certificate = None).contains("certificate"));
    assert!(with(&|h| h.receipts[0].genesis = h.genesis.clone()).contains("own genesis"));
}

/// A file that declares millions of empty parts is refused before memory is taken for each.
#[test]
fn a_history_of_empty_receipts_costs_little() {
    let (chain, ..) = three_accesses();
    let empty_receipts = [0x22, 0].repeat(8 << 20);
    let error = verify_history(&chain.genesis.hash, &empty_receipts).expect_err("verified");
    assert!(error.to_string().contains("at most"), "{error}");
    let empty_resources = [0x12, 0].repeat(8 << 20);
    let error = verify_bundle(&chain.genesis.hash, &empty_resources).expect_err("verified");
    assert!(error.to_string().contains("at most"), "{error}");
}
