//! Late accesses: what was released under break-glass without quorum, and recorded afterwards.

use assent_ledger::commitment::commit;
use assent_ledger::hash::Context;
use assent_ledger::late::{late_hash, verify_late, verify_late_bundle};
use assent_ledger::receipt::{request_hash, sign_message};
use assent_ledger::receipts::{verify_history, verify_receipt, Trust};
use assent_proto::ledger::v1::{AccessEvent, DataRequest, LateAccess, LateBundle, LateProof, Signed};
use prost::Message;

use crate::chain::{Chain, CHAIN};
use crate::flips::{each_flip, one_bit};
use crate::records::{
    anchor, history, history_access, op, patient, receipt, record_access, request, set_consent, set_policy,
    trust, with_key, Access,
};

type EditEvent<'a> = dyn Fn(&Chain, &mut AccessEvent) + 'a;
type EditPromise<'a> = dyn Fn(&mut LateAccess) + 'a;

pub fn signed_request(chain: &Chain, reason: &str) -> Vec<u8> {
    let body = DataRequest { break_glass_reason: reason.into(), ..request("birch", 1) }.encode_to_vec();
    sign_message(Context::Request, CHAIN, "birch", &chain.present_entry_key("birch"), body).encode_to_vec()
}

/// An access that Cedar decided under consent sequence 2 and policy sequence 1.
pub fn late(chain: &Chain) -> Access {
    let mut access = Access::new(chain, "birch", 1, 2);
    access.event.request = signed_request(chain, "unconscious");
    access.event.outcome = "PERMIT_OVERRIDE".into();
    (access.event.policy_seq, access.event.late) = (1, true);
    access
}

/// Whether receipt and history hold for an access that the ledger has under these sequences; the slot's are 3 and 2.
fn recorded(edit: &EditEvent) -> Result<(), String> {
    let mut chain = Chain::new();
    let operations = vec![op(with_key(set_consent("cedar", 0, 1), &patient())), op(set_policy(0, 1))];
    let first = chain.entry("cedar", operations);
    chain.commit(vec![first]);
    let next = chain.entry("cedar", vec![op(set_policy(1, 2))]);
    chain.commit(vec![next]);
    for seq in [1, 2] {
        let operation = crate::records::by_patient(set_consent("cedar", seq, 2), &patient());
        let entry = chain.entry("cedar", vec![op(operation)]);
        chain.commit(vec![entry]);
    }
    let mut access = late(&chain);
    edit(&chain, &mut access.event);
    let commitment = commit(Context::AccessCommitment, CHAIN, &access.salt, &access.event.encode_to_vec());
    let entry = chain.entry("cedar", vec![op(record_access("cedar", 3, 2, commitment))]);
    chain.commit(vec![entry]);
    let alone = verify_receipt(&trust(&chain), &receipt(&chain, &access));
    let bytes = history(&chain, vec![history_access(&chain, &access)]).encode_to_vec();
    let all = verify_history(&trust(&chain), &bytes);
    assert_eq!(all.is_ok(), alone.is_ok());
    alone.map(|_| ()).map_err(|e| e.to_string())
}

#[test]
fn only_break_glass_is_recorded_under_newer_sequences() {
    assert_eq!(recorded(&|_, _| {}), Ok(()));
    assert_eq!(recorded(&|_, e| (e.consent_seq, e.policy_seq) = (3, 2)), Ok(()), "nothing changed meanwhile");
    // In time, under the very sequences, whatever the outcome.
    let in_time = |e: &mut AccessEvent| (e.consent_seq, e.policy_seq, e.late) = (3, 2, false);
    assert_eq!(recorded(&|_, e| in_time(e)), Ok(()));
    let refused: [(&str, &EditEvent); 7] = [
        ("not late", &|_, e| e.late = false),
        ("an ordinary permit", &|_, e| e.outcome = "PERMIT".into()),
        ("an ordinary permit, nothing changed", &|_, e| {
            (e.outcome, e.consent_seq, e.policy_seq) = ("PERMIT".into(), 3, 2);
        }),
        ("without a reason", &|c, e| e.request = signed_request(c, "")),
        ("a blank reason", &|c, e| e.request = signed_request(c, " ")),
        ("a consent of later", &|_, e| e.consent_seq = 4),
        ("a policy of later", &|_, e| e.policy_seq = 3),
    ];
    for (what, edit) in refused {
        let error = recorded(edit).expect_err(what);
        assert!(error.contains("other sequences"), "{what}: {error}");
    }
}

/// The custodian's word with the keys of both sides.
fn proof(chain: &Chain, late_access: Signed) -> LateProof {
    LateProof {
        late_access: Some(late_access),
        anchor: Some(anchor(chain)),
        custodian: chain.member("cedar"),
        recipient: chain.member("birch"),
    }
}

/// A chain of one block.
fn begun() -> Chain {
    let mut chain = Chain::new();
    chain.commit(vec![]);
    chain
}

fn signed_by(chain: &Chain, organization: &str, context: Context, late: &LateAccess) -> Signed {
    sign_message(context, CHAIN, organization, &chain.entry_key(organization), late.encode_to_vec())
}

#[test]
fn a_late_access_is_the_custodians_word_for_one_request() {
    let chain = begun();
    let access = late(&chain);
    let hash_of = |event: &AccessEvent| {
        let request = Signed::decode(event.request.as_slice()).unwrap();
        request_hash(CHAIN, &request.body).to_vec()
    };
    let promise = |event: &AccessEvent| LateAccess {
        request_hash: hash_of(event),
        event: event.encode_to_vec(),
        salt: access.salt.to_vec(),
    };
    let good = promise(&access.event);
    let signed = signed_by(&chain, "cedar", Context::LateAccess, &good);
    let verified = verify_late(&trust(&chain), &proof(&chain, signed.clone())).unwrap();
    assert_eq!(verified.event, access.event);
    assert_eq!(verified.request.break_glass_reason, "unconscious");
    assert_eq!(verified.hash, late_hash(CHAIN, &signed.body));
    assert_eq!(
        verified.commitment,
        commit(Context::AccessCommitment, CHAIN, &access.salt, &access.event.encode_to_vec())
    );

    let refuse = |what: &str, signed: &Signed| {
        assert!(verify_late(&trust(&chain), &proof(&chain, signed.clone())).is_err(), "{what}");
    };
    refuse("for another purpose", &signed_by(&chain, "cedar", Context::Decision, &good));
    refuse("by the recipient", &signed_by(&chain, "birch", Context::LateAccess, &good));
    refuse("in another name", &Signed { organization: "elm".into(), ..signed.clone() });
    refuse("of a stranger", &signed_by(&chain, "fir", Context::LateAccess, &good));
    let other = Signed {
        body: promise(&AccessEvent { resources: 9, ..access.event.clone() }).encode_to_vec(),
        ..signed
    };
    refuse("another event", &other);
    let edits: [(&str, &EditPromise); 9] = [
        ("another request's hash", &|l| l.request_hash[0] ^= 1),
        ("a short salt", &|l| l.salt.truncate(31)),
        ("in time", &|l| l.event = AccessEvent { late: false, ..access.event.clone() }.encode_to_vec()),
        ("a permit", &|l| {
            l.event = AccessEvent { outcome: "PERMIT".into(), ..access.event.clone() }.encode_to_vec();
        }),
        ("decided after a block that is not there", &|l| {
            l.event = AccessEvent { height: 2, ..access.event.clone() }.encode_to_vec();
        }),
        ("no reasons", &|l| {
            l.event = AccessEvent { reasons: vec![], ..access.event.clone() }.encode_to_vec()
        }),
        ("no handle", &|l| l.event = AccessEvent { handle: vec![], ..access.event.clone() }.encode_to_vec()),
        ("of another custodian", &|l| {
            l.event = AccessEvent { custodian: "elm".into(), ..access.event.clone() }.encode_to_vec();
        }),
        ("without a reason", &|l| {
            let request = signed_request(&chain, "");
            *l = promise(&AccessEvent { request, ..access.event.clone() });
        }),
    ];
    for (what, edit) in edits {
        let mut changed = good.clone();
        edit(&mut changed);
        refuse(what, &signed_by(&chain, "cedar", Context::LateAccess, &changed));
    }
}

/// What Cedar released to Birch without quorum, on a chain of one block.
pub fn late_release() -> (Chain, LateBundle) {
    let chain = begun();
    let access = late(&chain);
    let request = Signed::decode(access.event.request.as_slice()).unwrap();
    let promise = LateAccess {
        request_hash: request_hash(CHAIN, &request.body).to_vec(),
        event: access.event.encode_to_vec(),
        salt: access.salt.to_vec(),
    };
    let proof = proof(&chain, signed_by(&chain, "cedar", Context::LateAccess, &promise));
    (chain, LateBundle { proof: Some(proof), resources: access.resources })
}

#[test]
fn a_late_release_is_covered_to_the_last_byte() {
    let (chain, good) = late_release();
    let released = good.resources.clone();
    let trust = trust(&chain);
    let bytes = good.encode_to_vec();
    assert_eq!(verify_late_bundle(&trust, &bytes).unwrap().1, good);
    assert!(verify_late_bundle(&Trust::genesis([7; 32]), &bytes).is_err(), "another genesis");
    for resources in [vec![], vec![released[0].clone()], [released.clone(), vec![vec![]]].concat()] {
        assert!(
            verify_late_bundle(&trust, &LateBundle { resources, ..good.clone() }.encode_to_vec()).is_err()
        );
    }
    assert!(verify_late_bundle(&trust, &LateBundle { proof: None, ..good }.encode_to_vec()).is_err());
    each_flip(&bytes, one_bit, |at, bytes| {
        assert!(verify_late_bundle(&trust, bytes).is_err(), "byte {at}");
    });
    for cut in 0..bytes.len() {
        assert!(verify_late_bundle(&trust, &bytes[..cut]).is_err(), "cut at {cut}");
    }
}
