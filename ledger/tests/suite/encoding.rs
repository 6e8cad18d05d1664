//! Exactly one encoding per message is accepted; every other one is refused by name.

use assent_ledger::block::BlockError;
use assent_ledger::encoding::{decode, EncodingError};
use assent_ledger::entry::{check_entry, sign_entry, MAX_ENTRY_BYTES, MAX_ENTRY_OPERATIONS};
use assent_ledger::genesis::{check_genesis_file, make_genesis_file, GenesisError};
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{
    Block, Certificate, DataRequest, Entry, EntryBody, Header, Operation, Organization, Slot, Validator,
    ValidatorSet,
};
use prost::Message;

use crate::chain::{key, public, Chain, CHAIN, START_MS};
use crate::records::{cancel, op, patient, record_access, request, set_consent, set_policy, withdraw};

fn body() -> EntryBody {
    Chain::new().body("cedar", 1, vec![op(set_policy(0, 1))])
}

fn check(body: &EntryBody) -> Result<(), EncodingError> {
    check_entry(CHAIN, &sign_entry(&Chain::new().entry_key("cedar"), body)).map(|_| ())
}

/// An entry with these bytes as its body.
fn check_raw(body: Vec<u8>) -> Result<(), EncodingError> {
    check_entry(CHAIN, &Entry { body, signature: vec![1; 64] }.encode_to_vec()).map(|_| ())
}

fn not_canonical(message: &'static str) -> Result<(), EncodingError> {
    Err(EncodingError::NotCanonical { message })
}

/// The message and field that a refusal names.
fn refused(outcome: Result<(), EncodingError>) -> (&'static str, &'static str) {
    match outcome {
        Err(EncodingError::Field { message, field, .. }) => (message, field),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_canonical_encoding_is_accepted() {
    assert_eq!(check(&body()), Ok(()));
    assert_eq!(check_raw(body().encode_to_vec()), Ok(()));
}

#[test]
fn other_encodings_of_an_entry_body_are_refused() {
    let good = body().encode_to_vec();
    let fields = |bytes: &[&[u8]]| check_raw(bytes.concat());
    let chain_id = &good[..17];
    let (head, operations) = good.split_at(good.len() - 38);
    // Unknown field 9; a default written out (sequence 0); a field twice; a field out of order; a number in too many bytes.
    assert_eq!(fields(&[&good, &[0x48, 1]]), not_canonical("EntryBody"));
    assert_eq!(fields(&[chain_id, &good[17..24], &[0x18, 0], operations]), not_canonical("EntryBody"));
    assert_eq!(fields(&[chain_id, &good]), not_canonical("EntryBody"));
    assert_eq!(fields(&[operations, head]), not_canonical("EntryBody"));
    assert_eq!(good[24..26], [0x18, 1]);
    assert_eq!(fields(&[&good[..24], &[0x18, 0x81, 0], &good[26..]]), not_canonical("EntryBody"));
    // Unknown field inside the operation; the oneof given twice, with two variants.
    let inner = &operations[2..];
    assert_eq!(fields(&[head, &[0x2a, 38], inner, &[0x48, 1]]), not_canonical("EntryBody"));
    let both = [inner, inner].concat();
    assert_eq!(fields(&[head, &[0x2a, both.len() as u8], &both]), not_canonical("EntryBody"));
    // Trailing bytes that are no field at all.
    assert!(matches!(fields(&[&good, &[0]]), Err(EncodingError::Undecodable { message: "EntryBody", .. })));
    for cut in 1..good.len() {
        assert!(check_raw(good[..cut].to_vec()).is_err(), "cut at {cut}");
    }
}

#[test]
fn other_encodings_of_an_entry_are_refused() {
    let good = sign_entry(&Chain::new().entry_key("cedar"), &body());
    let check = |bytes: &[&[u8]]| check_entry(CHAIN, &bytes.concat()).map(|_| ());
    let split = good.len() - 66;
    assert_eq!(check(&[&good]), Ok(()));
    assert_eq!(check(&[&good, &[0x18, 1]]), not_canonical("Entry"));
    assert_eq!(check(&[&good[split..], &good[..split]]), not_canonical("Entry"));
    assert_eq!(check(&[&good, &good[split..]]), not_canonical("Entry"));
    assert!(matches!(check(&[&good, &[0]]), Err(EncodingError::Undecodable { message: "Entry", .. })));
    assert_eq!(refused(check(&[&good[..split]])), ("Entry", "signature"));
    assert!(check(&[]).is_err());
}

/// Every message that is decoded anywhere: a second copy of the bytes merges into the same content, but is another encoding.
#[test]
fn doubled_messages_are_refused() {
    fn refuses<M: Message + Default>(message: &'static str, value: &M, unknown: &[u8]) {
        let bytes = value.encode_to_vec();
        assert!(decode::<M>(message, &bytes, 1 << 20).is_ok(), "{message}");
        let other = [bytes.clone(), unknown.to_vec()].concat();
        assert_eq!(
            decode::<M>(message, &other, 1 << 20).err(),
            Some(EncodingError::NotCanonical { message })
        );
        let twice = [bytes.clone(), bytes].concat();
        assert_eq!(
            decode::<M>(message, &twice, 1 << 20).err(),
            Some(EncodingError::NotCanonical { message })
        );
    }
    let unknown = [0xf8, 0x07, 1]; // field 127
    refuses("Header", &Header { height: 1, chain_id: CHAIN.into(), ..Default::default() }, &unknown);
    refuses("Block", &Block { header: vec![1], ..Default::default() }, &unknown);
    refuses("Certificate", &Certificate { height: 1, ..Default::default() }, &unknown);
    refuses("Slot", &Slot { consent_seq: 1, frozen: true, ..Default::default() }, &unknown);
    refuses("DataRequest", &DataRequest { nonce: vec![1; 32], ..Default::default() }, &unknown);
}

#[test]
fn a_boolean_has_one_encoding() {
    let good = request("birch", 1);
    let bytes = DataRequest { check_only: true, ..good }.encode_to_vec();
    let two = [&bytes[..bytes.len() - 1], &[2]].concat();
    assert_eq!(
        decode::<DataRequest>("DataRequest", &two, 1 << 20).err(),
        Some(EncodingError::NotCanonical { message: "DataRequest" })
    );
}

#[test]
fn fields_of_a_wrong_form_are_refused_by_name() {
    let with = |operations: Vec<Operation>| refused(check(&EntryBody { operations, ..body() }));
    let consent = |edit: fn(&mut assent_proto::ledger::v1::SetConsent)| {
        let mut operation = set_consent("cedar", 0, 1);
        edit(&mut operation);
        with(vec![op(operation)])
    };
    assert_eq!(with(vec![]), ("EntryBody", "operations"));
    assert_eq!(with(vec![Operation { kind: None }]), ("Operation", "kind"));
    assert_eq!(consent(|op| op.custodian = "Cedar".into()), ("SetConsent", "custodian"));
    assert_eq!(consent(|op| op.custodian = "c".repeat(33)), ("SetConsent", "custodian"));
    assert_eq!(consent(|op| op.handle.truncate(31)), ("SetConsent", "handle"));
    assert_eq!(consent(|op| op.commitment.push(0)), ("SetConsent", "commitment"));
    // prost keeps an empty optional apart from an absent one, and re-encoding does not see a difference.
    assert_eq!(consent(|op| op.control_key = Some(vec![])), ("SetConsent", "control_key"));
    assert_eq!(consent(|op| op.control_signature = Some(vec![])), ("SetConsent", "control_signature"));
    let withdrawal = withdraw("cedar", 0, &patient());
    let mut short = withdrawal.clone();
    short.patient_signature.pop();
    assert_eq!(with(vec![op(short)]), ("Withdraw", "patient_signature"));
    assert_eq!(with(vec![op(withdrawal), op(set_policy(0, 1))]), ("EntryBody", "operations"));
    let cancelled = |edit: fn(&mut assent_proto::ledger::v1::CancelReplacement)| {
        let mut operation = cancel("cedar", 2, &patient(), &patient());
        edit(&mut operation);
        with(vec![op(operation)])
    };
    assert_eq!(cancelled(|op| op.custodian.clear()), ("CancelReplacement", "custodian"));
    assert_eq!(cancelled(|op| op.handle.push(0)), ("CancelReplacement", "handle"));
    assert_eq!(cancelled(|op| op.patient_signature.truncate(63)), ("CancelReplacement", "patient_signature"));
    let mut access = record_access("cedar", 1, 0, [1; 32]);
    access.commitment.clear();
    assert_eq!(with(vec![op(access)]), ("RecordAccess", "commitment"));
    let mut policy = set_policy(0, 1);
    policy.commitment.clear();
    assert_eq!(with(vec![op(policy)]), ("SetPolicy", "commitment"));
    assert_eq!(refused(check(&EntryBody { author: "".into(), ..body() })), ("EntryBody", "author"));
    assert_eq!(refused(check(&EntryBody { author: "a b".into(), ..body() })), ("EntryBody", "author"));
    assert!(matches!(body().operations[0].kind, Some(Kind::SetPolicy(_))));
}

#[test]
fn another_networks_entry_is_refused() {
    let other = EntryBody { chain_id: "testnet-cedar-2".into(), ..body() };
    assert_eq!(refused(check(&other)), ("EntryBody", "chain_id"));
}

/// A refusal goes to logs and callers: it must not carry what a stranger put into the field.
#[test]
fn a_refusal_does_not_repeat_a_strangers_text() {
    let secret = format!("{}\u{1b}[2J", "MRN-000005 ".repeat(1000));
    let error = check(&EntryBody { chain_id: secret.clone(), ..body() }).unwrap_err();
    assert!(error.to_string().len() < 200, "{} bytes", error.to_string().len());
    let chain = Chain::new();
    let (block, _, _) = chain.propose(vec![]);
    let mut block = Block::decode(block.as_slice()).unwrap();
    let mut header = Header::decode(block.header.as_slice()).unwrap();
    header.chain_id = secret;
    block.header = header.encode_to_vec();
    let error = chain.apply(&block.encode_to_vec()).unwrap_err();
    assert!(error.to_string().len() < 200, "{} bytes", error.to_string().len());
    assert!(matches!(error, BlockError::Encoding(_) | BlockError::Header { .. }));
}

#[test]
fn sizes_have_limits() {
    let many = |n| EntryBody { operations: vec![op(set_policy(0, 1)); n], ..body() };
    assert_eq!(check(&many(MAX_ENTRY_OPERATIONS)), Ok(()));
    assert_eq!(refused(check(&many(257))), ("EntryBody", "operations"));
    // One byte too many is refused before anything is decoded; the limit itself is not the reason.
    let too_long = |len| EncodingError::TooLong { message: "Entry", len, max: MAX_ENTRY_BYTES };
    assert_eq!(check_entry(CHAIN, &[0; 65_536]).err(), Some(too_long(65_536)));
    assert!(matches!(check_entry(CHAIN, &[0; 65_535]), Err(EncodingError::Undecodable { .. })));
    let chain = Chain::new();
    let huge = vec![0; assent_ledger::block::MAX_BLOCK_BYTES + 1];
    assert!(matches!(
        chain.apply(&huge),
        Err(BlockError::Encoding(EncodingError::TooLong { message: "Block", .. }))
    ));
}

#[test]
fn a_genesis_that_breaks_a_rule_is_refused() {
    let validator = |org: &str, seed, power| Validator {
        organization: org.into(),
        vote_key: public(&key(seed, "vote", org)).to_vec(),
        power,
    };
    let organization = |id: &str| Organization {
        id: id.into(),
        entry_key: public(&key(1, "entry", id)).to_vec(),
        checkpoint_key: public(&key(1, "checkpoint", id)).to_vec(),
        ..Default::default()
    };
    let make = |chain_id: &str, time_ms, validators: Vec<Validator>, organizations: Vec<Organization>| {
        make_genesis_file(chain_id, time_ms, ValidatorSet { validators, ..Default::default() }, organizations)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    let one = || (vec![validator("cedar", 1, 1)], vec![organization("cedar")]);
    let refused = |what: &str, outcome: Result<(), String>| {
        let error = outcome.expect_err(what);
        assert!(error.contains(what), "{error}");
    };
    assert_eq!(make(CHAIN, START_MS, one().0, one().1), Ok(()));
    refused("chain_id", make("Testnet", START_MS, one().0, one().1));
    refused("0 validators", make(CHAIN, START_MS, vec![], one().1));
    refused("power 0", make(CHAIN, START_MS, vec![validator("cedar", 1, 0)], one().1));
    refused("power 4294967297", make(CHAIN, START_MS, vec![validator("cedar", 1, (1 << 32) + 1)], one().1));
    refused("ascending order of vote key", make(CHAIN, START_MS, [one().0, one().0].concat(), one().1));
    refused("ascending order of id", make(CHAIN, START_MS, one().0, [one().1, one().1].concat()));
    refused("not among the organizations", make(CHAIN, START_MS, vec![validator("birch", 1, 1)], one().1));
    refused(
        "Validator.organization",
        make(CHAIN, START_MS, vec![validator("Cedar Hospital", 1, 1)], one().1),
    );
    let mut identity = organization("cedar");
    identity.entry_key = vec![0; 32];
    identity.entry_key[0] = 1;
    refused("small order", make(CHAIN, START_MS, one().0, vec![identity]));
    // A time that nothing can come after would stop the chain at its first block.
    refused("time", make(CHAIN, u64::MAX, one().0, one().1));

    let file = make_genesis_file(
        CHAIN,
        START_MS,
        ValidatorSet { validators: one().0, ..Default::default() },
        one().1,
    )
    .unwrap()
    .0;
    for cut in 0..file.len() {
        assert!(check_genesis_file(&file[..cut]).is_err(), "cut at {cut}");
    }
    let unknown = [&file[..], &[0x48, 1]].concat();
    let canonical = EncodingError::NotCanonical { message: "GenesisFile" };
    assert_eq!(check_genesis_file(&unknown).err(), Some(GenesisError::Encoding(canonical)));
}
