//! Receipts that stand alone.

use std::sync::LazyLock;

use assent_ledger::checkpoint::{open_note, Checkpoint};
use assent_ledger::genesis::check_genesis_file;
use assent_ledger::receipts::{genesis_hash_of, verify, Claim, Consents, Trust, Verified};

use super::edit::Form;
use super::{genesis, given, good, note};

/// Of each kind and anchor one.
const GOOD: &[&[u8]] = good![
    "receipt/slot",
    "receipt/slot-one",
    "receipt/slot-all",
    "receipt/slot-absent",
    "receipt/decision",
    "receipt/access",
    "receipt/slot-pinned",
    "receipt/decision-pinned",
    "receipt/access-pinned",
];

/// The genesis, and the checkpoint of the good note.
static TRUSTED: LazyLock<[Trust; 2]> = LazyLock::new(|| {
    let text = open_note(note::GOOD[0], &[]).unwrap().text;
    let Checkpoint { origin, size, root, .. } = Checkpoint::parse(&text).unwrap();
    let genesis = check_genesis_file(genesis::GOOD[1]).unwrap().hash;
    [Trust::genesis(genesis), Trust::Checkpoint { origin, size, root, accepted: Default::default() }]
});

/// What the good receipts show.
static SHOWN: LazyLock<Vec<Verified>> = LazyLock::new(|| {
    let any = |receipt: &&[u8]| TRUSTED.iter().find_map(|trust| verify(trust, receipt).ok());
    GOOD.iter().map(|receipt| any(receipt).expect("a good receipt is refused")).collect()
});

/// What a receipt shows even when everything is taken out of it that may be left out.
fn least(mut verified: Verified) -> Verified {
    match &mut verified.claim {
        Claim::Slot(slot) => {
            if let Some(Consents::One { body, .. }) = &mut slot.consents {
                *body = None;
            }
        }
        Claim::Decision(decision) => decision.policy_shown = false,
        Claim::Access(_) => {}
    }
    verified
}

/// A receipt that holds shows what a good one shows, and is that one; or it shows less.
pub fn receipt(input: &[u8]) {
    let Some(given) = given(input, Form::Message, GOOD) else { return };
    let bytes = given.bytes.as_slice();
    let named = genesis_hash_of(bytes);
    let mut holds = false;
    for trust in TRUSTED.iter() {
        let Ok(verified) = verify(trust, bytes) else { continue };
        holds = true;
        if let Trust::Genesis { hash, .. } = trust {
            assert_eq!(named, Ok(Some(*hash)));
        }
        match SHOWN.contains(&verified) {
            true => assert!(GOOD.contains(&bytes), "a byte that counts for nothing was changed"),
            false => assert!(
                SHOWN.iter().any(|good| least(good.clone()) == least(verified.clone())),
                "a lie holds"
            ),
        }
    }
    assert!(holds || !GOOD.contains(&bytes), "a good receipt is refused");
}
