//! Decisions files: what a custodian opens to an auditor of its past decisions, held against the ledger.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use assent_ledger::audit::{ChainVerifier, Level};
use assent_ledger::decisions::{
    decode_openings, replay, Opened, Records, SlotHistory, Verdict, DECISIONS_MAGIC,
};
use assent_proto::ledger::v1::{DecisionOpenings, OpenedAccess, OpenedPolicy, PackedConsent};
use prost::Message;

use super::edit::Form;
use super::export::records;
use super::given;

macro_rules! kept {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/fixtures/decisions/", $name)) as &[u8]
    };
}

/// The kept files of the fixtures: decisions that were right, and one that was wrong.
static GOOD: LazyLock<[&[u8]; 2]> = LazyLock::new(|| {
    [kept!("good.decisions"), kept!("wrong.decisions")]
        .map(|file| file.strip_prefix(DECISIONS_MAGIC).unwrap())
});

/// What their exports say of the slot.
static HISTORIES: LazyLock<Vec<SlotHistory>> = LazyLock::new(|| {
    let exports = [kept!("good.export"), kept!("wrong.export")];
    exports.iter().zip(*GOOD).map(|(export, file)| history(export, &decode_openings(file).unwrap())).collect()
});

static OPENED: LazyLock<Content> = LazyLock::new(|| content(&decode_openings(GOOD[0]).unwrap()));

fn history(export: &[u8], file: &DecisionOpenings) -> SlotHistory {
    let (mut verifier, mut history) = (ChainVerifier::new(Level::Full, None), SlotHistory::of(file));
    for (kind, payload) in records(export) {
        verifier.record(kind, payload).unwrap();
        history.read(kind, payload, &verifier).unwrap();
    }
    history.finish(&verifier).unwrap();
    history
}

/// What a file opens, whatever the order is in which its consents and records stand.
#[derive(PartialEq)]
struct Content {
    patient_reference: String,
    sets: Vec<(u64, Vec<u8>, Vec<PackedConsent>)>,
    policies: Vec<OpenedPolicy>,
    accesses: Vec<OpenedAccess>,
    records: BTreeSet<Vec<u8>>,
}

fn content(file: &DecisionOpenings) -> Content {
    let consents = |places: &[u32]| places.iter().map(|n| file.consents[*n as usize].clone()).collect();
    let set = |(seq, salt, places): (u64, &Vec<u8>, &[u32])| (seq, salt.clone(), consents(places));
    Content {
        patient_reference: file.patient_reference.clone(),
        sets: file.sets.iter().map(|s| set((s.consent_seq, &s.salt, &s.consents))).collect(),
        policies: file.policies.clone(),
        accesses: file.accesses.clone(),
        records: file.records.iter().cloned().collect(),
    }
}

/// What agrees opens all that the good file opens, and nothing else; nothing makes the wrong decision agree.
pub fn decisions(input: &[u8]) {
    let Some(given) = given(input, Form::Message, &*GOOD) else { return };
    let bytes = given.bytes.as_slice();
    let Ok(file) = decode_openings(bytes) else {
        return assert!(!GOOD.contains(&bytes), "a good file is refused");
    };
    assert_eq!(file.encode_to_vec(), bytes);
    for (n, history) in HISTORIES.iter().enumerate() {
        let slot = (&history.chain_id, &history.custodian, &history.handle);
        if slot != (&file.chain_id, &file.custodian, &file.handle) {
            continue;
        }
        let replay = replay(history, &Opened::of(&file, history, Records::default()));
        assert_eq!(replay.accesses.len(), history.accesses.len());
        match (n, replay.verdict()) {
            (0, Verdict::Agrees) => assert!(content(&file) == *OPENED, "other openings agree"),
            (0, verdict) => assert!(bytes != GOOD[0], "right decisions: {verdict:?}"),
            (_, verdict) => assert_ne!(verdict, Verdict::Agrees, "a wrong decision"),
        }
        let is_wrong = n == 1 && bytes == GOOD[1];
        assert!(!is_wrong || replay.verdict() == Verdict::Differs);
    }
}
