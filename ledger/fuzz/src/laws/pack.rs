//! Packs, histories, bundles and late bundles: the files that hold health data. And evidence files, which convict.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use assent_ledger::conviction::verify_evidence_file;
use assent_ledger::genesis::check_genesis_file;
use assent_ledger::hash::Hash;
use assent_ledger::late::verify_late_bundle;
use assent_ledger::pack::{decode_pack, history_of, verify_pack, PACK_MAGIC};
use assent_ledger::receipts::{verify_bundle, verify_history, Trust};

use super::edit::Form;
use super::{genesis, given, good};

/// The kept pack of the fixtures; a history; a bundle; a late one; a file of evidence.
static GOOD: LazyLock<Vec<&[u8]>> = LazyLock::new(|| {
    let pack = include_bytes!("../../../tests/fixtures/pack/good.pack").strip_prefix(PACK_MAGIC).unwrap();
    let others: &[&[u8]] = good!["pack/history", "pack/bundle", "pack/late", "pack/evidence"];
    [&[pack], others].concat()
});

static GENESIS: LazyLock<Hash> = LazyLock::new(|| check_genesis_file(genesis::GOOD[0]).unwrap().hash);
static TRUST: LazyLock<Trust> = LazyLock::new(|| Trust::genesis(*GENESIS));

/// A file that holds is the good one: every byte is covered.
pub fn pack(input: &[u8]) {
    let Some(given) = given(input, Form::Message, &GOOD) else { return };
    let (bytes, good) = (given.bytes.as_slice(), given.good);
    if let Ok(pack) = decode_pack(bytes) {
        drop(history_of(&pack));
    }
    only_as_it_was(0, bytes, good, |bytes| verify_pack(&TRUST, bytes).ok());
    only_as_it_was(1, bytes, good, |bytes| verify_history(&TRUST, bytes).ok());
    only_as_it_was(2, bytes, good, |bytes| {
        let (at, access, bundle) = verify_bundle(&TRUST, bytes).ok()?;
        Some((at, access, bundle.resources))
    });
    only_as_it_was(3, bytes, good, |bytes| verify_late_bundle(&TRUST, bytes).ok());
    only_as_it_was(4, bytes, good, |bytes| verify_evidence_file(&GENESIS, &BTreeSet::new(), bytes).ok());
}

fn only_as_it_was<T>(number: usize, bytes: &[u8], good: Option<usize>, show: impl Fn(&[u8]) -> Option<T>) {
    if good.is_some_and(|good| good != number) {
        return;
    }
    let whole = GOOD[number];
    match show(bytes) {
        None => assert_ne!(bytes, whole, "a good file is refused"),
        Some(_) if bytes == whole => {}
        Some(_) => panic!("a changed file holds"),
    }
}
