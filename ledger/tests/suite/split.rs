//! Two signed checkpoints that can't be of one log: golden bytes, and everything that is refused.

use assent_ledger::checkpoint::{sign_note, Checkpoint, KeyKind, VerifierKey};
use assent_ledger::hash::sha256;
use assent_ledger::keys::SigningKey;
use assent_ledger::split::{make_split, verify_split, SplitError, SPLIT_MAGIC};
use assent_ledger::Hash;

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn known() -> Vec<VerifierKey> {
    [("birch", 1), ("cedar", 2)]
        .map(|(name, n)| VerifierKey::new(name, KeyKind::Ed25519, key(n).verifying_key().to_bytes()).unwrap())
        .to_vec()
}

fn note(origin: &str, size: u64, root: Hash, name: &str, n: u8) -> String {
    let text = Checkpoint { origin: origin.into(), size, root, extensions: Vec::new() }.text();
    format!("{text}\n{}", sign_note(&text, name, &key(n)).unwrap())
}

fn notes() -> [String; 2] {
    [note("assent/x", 9, [7; 32], "birch", 1), note("assent/x", 9, [8; 32], "cedar", 2)]
}

fn body(one: &str, other: &str) -> Vec<u8> {
    [&(one.len() as u32).to_be_bytes(), one.as_bytes(), other.as_bytes()].concat()
}

#[test]
fn a_split_view_names_log_size_roots_and_signers() {
    let [one, other] = notes();
    let file = make_split([(&[8; 32], &other), (&[7; 32], &one)]);
    assert_eq!(file, make_split([(&[7; 32], &one), (&[8; 32], &other)]));
    let view = verify_split(file.strip_prefix(SPLIT_MAGIC.as_slice()).unwrap(), &known()).unwrap();
    assert_eq!((view.origin.as_str(), view.size, view.roots), ("assent/x", 9, [[7; 32], [8; 32]]));
    assert_eq!(view.signed_by, [["birch".to_owned()], ["cedar".to_owned()]]);
    let golden = "dea23de2005ace6a30962aad284958121ab50b7bba6eaab71fac91b56f8382f0";
    assert_eq!(hex::encode(sha256(&file)), golden);
}

#[test]
fn what_does_not_contradict_is_refused() {
    let [one, other] = notes();
    let with = |one: &str, other: &str| verify_split(&body(one, other), &known()).unwrap_err();
    let why = |error| match error {
        SplitError::NoContradiction(why) => why,
        other => panic!("{other}"),
    };
    let cedar = |origin, size, root| note(origin, size, root, "cedar", 2);
    assert_eq!(why(with(&one, &cedar("assent/y", 9, [8; 32]))), "they are of two logs");
    assert_eq!(why(with(&one, &cedar("assent/x", 10, [8; 32]))), "they are of two sizes");
    assert_eq!(why(with(&one, &cedar("assent/x", 9, [7; 32]))), "they have one root");
    assert_eq!(why(with(&other, &one)), "they are not in the order of their roots");
    // A key that nobody named; another's signature under a known name.
    let stranger = note("assent/x", 9, [8; 32], "elm", 3);
    assert_eq!(with(&one, &stranger), SplitError::UnknownKeys { number: 2 });
    let forged = note("assent/x", 9, [8; 32], "cedar", 3);
    assert_eq!(with(&one, &forged), SplitError::UnknownKeys { number: 2 });
    assert_eq!(verify_split(&body(&one, &other), &[]), Err(SplitError::UnknownKeys { number: 1 }));
}

#[test]
fn no_changed_cut_or_surplus_byte_holds() {
    let [one, other] = notes();
    let whole = body(&one, &other);
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        assert!(verify_split(&flipped, &known()).is_err(), "byte {at}");
        assert!(verify_split(&whole[..at], &known()).is_err(), "cut at {at}");
    }
    assert!(verify_split(&[&whole[..], b"\n"].concat(), &known()).is_err());
}
