//! Signatures, keys and documents that must not get in: rows of `testnet/BAD_INPUT.md` that no other file has.

use assent_ledger::consent::{
    describe_resource, import_consent, DefaultPolicy, PolicyFault, MAX_RESOURCE_BYTES,
};
use assent_ledger::encoding::EncodingError;
use assent_ledger::entry::check_entry;
use assent_ledger::execute::{execute_entry, ExecuteError, Signatures};
use assent_ledger::genesis::make_genesis_file;
use assent_ledger::state::Overlay;
use assent_proto::ledger::v1::{Entry, Operation, Organization, Validator, ValidatorSet};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use prost::Message;

use crate::chain::{key, moment, public, Chain, CHAIN, START_MS};
use crate::records::{by_patient, cancel, op, patient, set_consent, set_policy, with_key, withdraw};

/// S + L: another encoding of the same scalar.
fn malleable(signature: &[u8]) -> Vec<u8> {
    let l = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let (mut changed, mut carry) = (signature.to_vec(), 0u16);
    for (byte, l) in changed[32..].iter_mut().zip(l) {
        carry += u16::from(*byte) + u16::from(l);
        *byte = carry as u8;
        carry >>= 8;
    }
    assert_eq!(carry, 0);
    changed
}

/// Keys that must not be registered, and what the refusal says of each.
fn bad_keys() -> Vec<([u8; 32], &'static str)> {
    let mut above_p = [0xff; 32];
    (above_p[0], above_p[31]) = (0xee, 0x7f);
    let mixed =
        EIGHT_TORSION[1..].iter().map(|t| (ED25519_BASEPOINT_POINT * Scalar::from(77u64) + t).compress().0);
    let small = EIGHT_TORSION.iter().map(|t| (t.compress().0, "small order"));
    let others = [(above_p, "canonical"), ([2; 32], "not a point")];
    small.chain(mixed.map(|key| (key, "torsion"))).chain(others).collect()
}

/// Cedar has one slot with a control key.
fn world() -> Chain {
    let mut chain = Chain::new();
    let cedar = chain.entry("cedar", vec![op(with_key(set_consent("cedar", 0, 1), &patient()))]);
    chain.commit(vec![cedar]);
    chain
}

fn execute(chain: &Chain, bytes: &[u8], signatures: &mut Signatures) -> Result<(), ExecuteError> {
    let entry = check_entry(CHAIN, bytes)?;
    execute_entry(&mut Overlay::new(&chain.store), moment(chain.next_ms()), &entry, signatures)
}

fn run(chain: &Chain, operation: Operation) -> Result<(), ExecuteError> {
    let entry = chain.signed(&chain.body("cedar", 2, vec![operation]));
    execute(chain, &entry.bytes, &mut Signatures::Immediate)
}

#[test]
fn forged_malleable_and_cut_signatures_of_an_entry_are_refused() {
    let chain = world();
    let good = chain.signed(&chain.body("cedar", 2, vec![op(set_policy(0, 1))]));
    assert_eq!(execute(&chain, &good.bytes, &mut Signatures::Immediate), Ok(()));
    let entry = Entry::decode(good.bytes.as_slice()).unwrap();
    let with = |signature: Vec<u8>| Entry { signature, ..entry.clone() }.encode_to_vec();
    let mut forged = entry.signature.clone();
    forged[3] ^= 1;
    for wrong in [forged, malleable(&entry.signature), vec![0; 64]] {
        let bytes = with(wrong);
        let refused = execute(&chain, &bytes, &mut Signatures::Immediate).unwrap_err();
        assert_eq!(refused.reason(), "BAD_AUTHOR_SIGNATURE");
        // Gathered for a batch, it fails there.
        let mut batch = Signatures::Collect(Vec::new());
        execute(&chain, &bytes, &mut batch).unwrap();
        let Signatures::Collect(checks) = batch else { unreachable!() };
        assert!(!assent_ledger::keys::verify_batch(&checks));
    }
    let (short, long) = (entry.signature[..63].to_vec(), [entry.signature.as_slice(), &[0]].concat());
    for cut in [short, long, Vec::new()] {
        let refused = check_entry(CHAIN, &with(cut)).unwrap_err();
        assert!(
            matches!(refused, EncodingError::Field { message: "Entry", field: "signature", .. }),
            "{refused}"
        );
    }
}

#[test]
fn a_patients_malleable_signature_changes_nothing() {
    let chain = world();
    let mut withdrawal = withdraw("cedar", 0, &patient());
    assert_eq!(run(&chain, op(withdrawal.clone())), Ok(()));
    withdrawal.patient_signature = malleable(&withdrawal.patient_signature);
    assert_eq!(run(&chain, op(withdrawal)), Err(ExecuteError::ControlSignature));
    let mut consent = by_patient(set_consent("cedar", 1, 2), &patient());
    assert_eq!(run(&chain, op(consent.clone())), Ok(()));
    consent.control_signature = consent.control_signature.map(|signature| malleable(&signature));
    assert_eq!(run(&chain, op(consent)), Err(ExecuteError::ControlSignature));
    let stranger = key(8, "control", "stranger");
    let both = |cancel| {
        let operations = vec![op(with_key(set_consent("cedar", 1, 2), &stranger)), op(cancel)];
        let entry = chain.signed(&chain.body("cedar", 2, operations));
        execute(&chain, &entry.bytes, &mut Signatures::Immediate)
    };
    let mut cancelled = cancel("cedar", 2, &stranger, &patient());
    assert_eq!(both(cancelled.clone()), Ok(()));
    cancelled.patient_signature = malleable(&cancelled.patient_signature);
    assert_eq!(both(cancelled), Err(ExecuteError::ControlSignature));
}

#[test]
fn keys_of_small_or_mixed_order_are_registered_nowhere() {
    let chain = Chain::new();
    let (organization, validator) = (
        Organization {
            id: "cedar".into(),
            entry_key: public(&key(1, "entry", "cedar")).to_vec(),
            checkpoint_key: public(&key(1, "checkpoint", "cedar")).to_vec(),
            ..Default::default()
        },
        Validator {
            organization: "cedar".into(),
            vote_key: public(&key(1, "vote", "cedar")).to_vec(),
            power: 1,
        },
    );
    let genesis = |organization: Organization, validator: Validator| {
        make_genesis_file(
            CHAIN,
            START_MS,
            ValidatorSet { validators: vec![validator], ..Default::default() },
            vec![organization],
        )
    };
    assert!(genesis(organization.clone(), validator.clone()).is_ok());
    for (bad, why) in bad_keys() {
        let mut consent = set_consent("cedar", 0, 1);
        consent.control_key = Some(bad.to_vec());
        let entry = chain.signed(&chain.body("cedar", 1, vec![op(consent)]));
        let refused = execute(&chain, &entry.bytes, &mut Signatures::Immediate).unwrap_err();
        assert_eq!(refused.reason(), "BAD_CONTROL_KEY");
        assert!(refused.to_string().contains(why), "{refused}: {why}");
        let entry_key = Organization { entry_key: bad.to_vec(), ..organization.clone() };
        let vote_key = Validator { vote_key: bad.to_vec(), ..validator.clone() };
        for made in [genesis(entry_key, validator.clone()), genesis(organization.clone(), vote_key)] {
            let refused = made.expect_err(why).to_string();
            assert!(refused.contains(why), "{refused}: {why}");
        }
    }
}

#[test]
fn json_nested_10_000_deep_is_refused_in_every_document() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = open.repeat(10_000) + "1" + &close.repeat(10_000);
        let resource = format!(r#"{{"resourceType":"Patient","id":"p","extension":{deep}}}"#);
        assert_eq!(describe_resource(resource.as_bytes()).unwrap_err().reason, "too-deep");
        let consent = format!(r#"{{"resourceType":"Consent","extension":{deep}}}"#);
        assert_eq!(import_consent(consent.as_bytes()).unwrap_err()[0].reason, "too-deep");
        let policy = format!(r#"{{"id":"p","version":1,"rules":{deep}}}"#);
        match DefaultPolicy::parse(policy.as_bytes()) {
            Err(PolicyFault::Malformed(why)) => assert!(why.contains("nested too deep"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_record_that_is_no_json_or_too_large_is_refused() {
    for bytes in [&b""[..], b"{", b"{} {}", b"\xff", b"{\"id\": 01}"] {
        assert_eq!(describe_resource(bytes).unwrap_err().reason, "not-json");
    }
    assert_eq!(describe_resource(&vec![b' '; MAX_RESOURCE_BYTES + 1]).unwrap_err().reason, "too-large");
}
