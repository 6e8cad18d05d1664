//! Signed notes and checkpoints: others' examples, and everything that is refused.

use assent_ledger::checkpoint::{
    cosign_note, open_note, origin, sign_note, Checkpoint, KeyKind, NoteFault, VerifierKey,
};
use assent_ledger::keys::SigningKey;
use proptest::prelude::*;

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn verifier(name: &str, n: u8, kind: KeyKind) -> VerifierKey {
    VerifierKey::new(name, kind, key(n).verifying_key().to_bytes()).unwrap()
}

fn checkpoint() -> Checkpoint {
    Checkpoint { origin: origin("testnet-cedar-1"), size: 4711, root: [7; 32], extensions: Vec::new() }
}

fn note() -> String {
    let text = checkpoint().text();
    let lines = [sign_note(&text, "birch", &key(1)), sign_note(&text, "cedar", &key(2))].map(Result::unwrap);
    format!("{text}\n{}", lines.concat())
}

/// The example of Go's `golang.org/x/mod/sumdb/note`.
#[test]
fn gos_own_example_verifies() {
    let vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let known = VerifierKey::parse(vkey).unwrap();
    assert_eq!((known.to_string().as_str(), known.name()), (vkey, "PeterNeumann"));
    let note = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    let opened = open_note(note.as_bytes(), std::slice::from_ref(&known)).unwrap();
    assert_eq!((opened.signed_by, opened.unknown), (vec![(known.clone(), None)], 0));
    let altered = note.replace("answer", "Answer");
    assert_eq!(open_note(altered.as_bytes(), &[known]), Err(NoteFault::BadSignature("PeterNeumann".into())));
}

/// The bytes are fixed: other programs read them.
#[test]
fn golden() {
    assert_eq!(
        note(),
        "assent/testnet-cedar-1\n4711\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\n".to_owned()
            + &sign_note(&checkpoint().text(), "birch", &key(1)).unwrap()
            + &sign_note(&checkpoint().text(), "cedar", &key(2)).unwrap()
    );
    assert_eq!(
        verifier("birch", 1, KeyKind::Ed25519).to_string(),
        "birch+ddbceee4+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"
    );
}

#[test]
fn known_unknown_and_doubled_signatures() {
    let (birch, cedar) = (verifier("birch", 1, KeyKind::Ed25519), verifier("cedar", 2, KeyKind::Ed25519));
    let both = open_note(note().as_bytes(), &[birch.clone(), cedar.clone()]).unwrap();
    assert_eq!(both.signed_by, [(birch.clone(), None), (cedar.clone(), None)]);
    assert_eq!(Checkpoint::parse(&both.text), Ok(checkpoint()));
    let one = open_note(note().as_bytes(), std::slice::from_ref(&cedar)).unwrap();
    assert_eq!((one.signed_by, one.unknown), (vec![(cedar, None)], 1));
    // Twice the same: counted once. Another key under the same name: unknown.
    let doubled = note() + &sign_note(&checkpoint().text(), "birch", &key(1)).unwrap();
    assert_eq!(open_note(doubled.as_bytes(), std::slice::from_ref(&birch)).unwrap().signed_by.len(), 1);
    let other = verifier("birch", 3, KeyKind::Ed25519);
    assert_eq!(open_note(note().as_bytes(), &[other]).unwrap().unknown, 2);
    // A known key's signature over another text.
    let text = Checkpoint { size: 4712, ..checkpoint() }.text();
    let lie = format!("{text}\n{}", sign_note(&checkpoint().text(), "birch", &key(1)).unwrap());
    assert_eq!(open_note(lie.as_bytes(), &[birch]), Err(NoteFault::BadSignature("birch".into())));
}

#[test]
fn witnesses_sign_with_their_time() {
    let witness = verifier("witness.example", 9, KeyKind::Cosignature);
    let text = checkpoint().text();
    let line = cosign_note(&text, "witness.example", &key(9), 1_763_000_000).unwrap();
    let opened = open_note((note() + &line).as_bytes(), std::slice::from_ref(&witness)).unwrap();
    assert_eq!((opened.signed_by, opened.unknown), (vec![(witness.clone(), Some(1_763_000_000))], 2));
    assert_eq!(VerifierKey::parse(&witness.to_string()), Ok(witness.clone()));
    // The same key as a log's own is another key.
    let as_log = verifier("witness.example", 9, KeyKind::Ed25519);
    assert_eq!(open_note((note() + &line).as_bytes(), &[as_log]).unwrap().unknown, 3);
}

#[test]
fn malformed_notes() {
    let good = note();
    let birch = verifier("birch", 1, KeyKind::Ed25519);
    let line = good.lines().last().unwrap();
    for bad in [
        String::new(),
        good.trim_end().to_owned(),
        good.replace("\n\n", "\n"),
        good.replace('\u{2014}', "-"),
        good.replace("birch ", "birch  "),
        good.replace("birch ", "bi+ch "),
        good.replace('\n', "\r\n"),
        good.replace("assent", "ass\u{7}ent"),
        format!("{good}{line}"),
        format!("{good}\n"),
        good.clone() + &format!("{line}\n").repeat(99),
        good.replace("4711", &"4711\n".repeat(300_000)),
        good.replace(line, "\u{2014} cedar AAAA"),
        good.replace(line, "\u{2014} cedar not-base64"),
    ] {
        let opened = open_note(bad.as_bytes(), std::slice::from_ref(&birch));
        assert!(matches!(opened, Err(NoteFault::Malformed(_))), "{:?} of {:?}", opened, bad.get(..200));
    }
    assert!(open_note(b"\xff\n\n\xff\n", &[]).is_err());
}

#[test]
fn malformed_checkpoints() {
    let root = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let good = format!("o\n7\n{root}\n");
    assert!(Checkpoint::parse(&good).is_ok());
    assert_eq!(Checkpoint::parse(&format!("{good}more\n")).unwrap().extensions, ["more"]);
    for bad in [
        good.trim_end(),
        "o\n7\n",
        &good.replace("o\n", "\n"),
        &good.replace('7', "07"),
        &good.replace('7', "-7"),
        &good.replace('7', "+7"),
        &good.replace('7', ""),
        &good.replace('7', "18446744073709551616"),
        &good.replace('=', ""),
        &good.replace("Bwc=", "Bwd="),
        &format!("{good}\n"),
    ] {
        assert!(Checkpoint::parse(bad).is_err(), "{bad:?}");
    }
    for bad in ["", "birch", "birch+00+AA", "a b+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"] {
        assert!(VerifierKey::parse(bad).is_err(), "{bad:?}");
    }
    let vkey = verifier("birch", 1, KeyKind::Ed25519).to_string();
    assert!(VerifierKey::parse(&vkey.replace("birch", "bIrch")).is_err());
}

proptest! {
    /// Whatever one byte becomes, the note is refused, or the signature no longer counts.
    #[test]
    fn no_byte_of_a_note_can_change(at in 0usize..200, to in any::<u8>()) {
        let known = [verifier("birch", 1, KeyKind::Ed25519), verifier("cedar", 2, KeyKind::Ed25519)];
        let good = note().into_bytes();
        let at = at % good.len();
        prop_assume!(good[at] != to);
        let mut changed = good.clone();
        changed[at] = to;
        if let Ok(opened) = open_note(&changed, &known) {
            prop_assert!(opened.signed_by.len() < 2);
            prop_assert!(opened.signed_by.is_empty() || opened.text == checkpoint().text());
        }
    }

    #[test]
    fn checkpoints_come_back(origin in "[a-z][a-z0-9/.-]{0,20}", size in any::<u64>(), root in any::<[u8; 32]>()) {
        let checkpoint = Checkpoint { origin, size, root, extensions: vec!["x y".into()] };
        prop_assert_eq!(Checkpoint::parse(&checkpoint.text()), Ok(checkpoint));
    }
}
