//! Re-signed attacks: every validator signs, with its real key, a header over something that a rule forbids. Both the one
//! who applies blocks and the auditor refuse it, and the auditor names the height.

use assent_ledger::audit::verify_export;
use assent_ledger::block::{header_hash, BlockError, MAX_BLOCK_ENTRY_BYTES};
use assent_ledger::certificate::{certificate_hash, CertificateError};
use assent_ledger::entry::CheckedEntry;
use assent_ledger::hash::Hash;
use assent_ledger::log::{tagged_leaf_hash, LEAF_ENTRY};
use assent_proto::ledger::v1::{Block, Certificate, Entry, EntryBody, Header};
use prost::Message;

use crate::chain::{export, moment, public, Chain, CHAIN};
use crate::records::{
    by_patient, op, patient, record_access, set_consent, set_policy, three_accesses, with_key, withdraw,
};

/// Cedar's slot has a control key, was withdrawn once and given back: consent sequence 3, withdraw sequence 1.
fn world() -> Chain {
    let mut chain = Chain::new();
    let entry = chain.entry("cedar", vec![op(with_key(set_consent("cedar", 0, 1), &patient()))]);
    chain.commit(vec![entry]);
    let withdrawal = chain.entry("elm", vec![op(withdraw("cedar", 0, &patient()))]);
    let back = chain.entry("cedar", vec![op(by_patient(set_consent("cedar", 2, 2), &patient()))]);
    chain.commit(vec![withdrawal, back]);
    chain
}

/// A block over these entries, wanted or not: log and certificate hash fit, the state root is that of the honest ones.
fn forge(chain: &Chain, entries: &[Vec<u8>], edit: impl FnOnce(&mut Header)) -> Vec<u8> {
    let honest = entries.iter().filter_map(|e| assent_ledger::entry::check_entry(CHAIN, e).ok()).collect();
    let (block, applied, _) = chain.propose(honest);
    let mut block = Block::decode(block.as_slice()).unwrap();
    let (mut log, mut header) = (chain.tip.log.clone(), applied.header);
    for entry in entries {
        log.append(tagged_leaf_hash(LEAF_ENTRY, entry), |_, _, _| {});
    }
    (header.log_size, header.log_root) = (log.size(), log.root().to_vec());
    edit(&mut header);
    block.entries = entries.to_vec();
    block.header = header.encode_to_vec();
    block.encode_to_vec()
}

/// Refused by `apply_block` and, certified by all validators, by the auditor, at the next height and with the same words.
fn refused(chain: &Chain, block: &[u8]) -> BlockError {
    let error = chain.apply(block).map(|applied| applied.header).expect_err("applied");
    let header = Block::decode(block).unwrap().header;
    let height = chain.tip.height + 1;
    let certificate = chain.certify(height, &header_hash(CHAIN, &header), &chain.names).encode_to_vec();
    let blocks = [chain.blocks.clone(), vec![block.to_vec()]].concat();
    for anchor in [Some(chain.genesis.hash), None] {
        let (verifier, outcome) = verify_export(&export(&chain.file, &blocks, &certificate), anchor, |_| {});
        let fault = outcome.expect_err("the auditor found nothing");
        assert_eq!((fault.height, fault.kind), (height, error.kind()), "{fault:?}");
        assert_eq!(verifier.tip(), Some(&chain.tip));
    }
    error
}

fn refused_entries(chain: &Chain, entries: &[&CheckedEntry]) -> String {
    let bytes: Vec<Vec<u8>> = entries.iter().map(|e| e.bytes.clone()).collect();
    match refused(chain, &forge(chain, &bytes, |_| {})) {
        BlockError::Entry { index, error } => format!("{index} {}", error.reason()),
        other => other.kind().to_owned(),
    }
}

fn header_field(chain: &Chain, edit: impl FnOnce(&mut Header)) -> &'static str {
    let good = chain.clone().entry("cedar", vec![op(set_policy(0, 1))]);
    match refused(chain, &forge(chain, &[good.bytes], edit)) {
        BlockError::Header { field, .. } => field,
        other => panic!("{other}"),
    }
}

#[test]
fn entries_that_a_rule_forbids() {
    let chain = world();
    let entry = |author: &str, operation| chain.signed(&chain.body(author, 9, vec![operation]));
    let good = entry("birch", op(set_policy(0, 1)));
    let stale = entry("cedar", op(record_access("cedar", 1, 0, [1; 32])));
    assert_eq!(refused_entries(&chain, &[&good, &stale]), "1 STALE_CONSENT_SEQUENCE");
    let foreign = entry("birch", op(record_access("cedar", 3, 0, [1; 32])));
    assert_eq!(refused_entries(&chain, &[&foreign]), "0 NOT_THE_CUSTODIAN");
    let foreign = entry("birch", op(set_consent("cedar", 3, 9)));
    assert_eq!(refused_entries(&chain, &[&foreign]), "0 NOT_THE_CUSTODIAN");
    let replayed = entry("dogwood", op(withdraw("cedar", 0, &patient())));
    assert_eq!(refused_entries(&chain, &[&replayed]), "0 STALE_WITHDRAW_SEQUENCE");
    let late = entry("dogwood", op(withdraw("cedar", 1, &patient())));
    assert_eq!(refused_entries(&chain, &[&good, &late]), "withdrawal-order");
    assert_eq!(refused_entries(&chain, &[&good, &good]), "1 SEQUENCE_USED_OR_OUT_OF_WINDOW");
    let body =
        EntryBody { not_after_ms: chain.next_ms() - 1, ..chain.body("cedar", 9, vec![op(set_policy(0, 1))]) };
    assert_eq!(refused_entries(&chain, &[&chain.signed(&body)]), "0 ENTRY_EXPIRED");
    // Both are fine alone; the withdrawal voids the access behind it.
    let access = entry("cedar", op(record_access("cedar", 3, 0, [1; 32])));
    assert_eq!(refused_entries(&chain, &[&late, &access]), "1 STALE_CONSENT_SEQUENCE");
    // A whole old block's entry, word for word.
    let old = Block::decode(chain.blocks[0].as_slice()).unwrap().entries.remove(0);
    let old = assent_ledger::entry::check_entry(CHAIN, &old).unwrap();
    assert_eq!(refused_entries(&chain, &[&old]), "0 SEQUENCE_USED_OR_OUT_OF_WINDOW");
}

#[test]
fn signatures_that_do_not_hold() {
    let chain = world();
    let good = chain.signed(&chain.body("cedar", 9, vec![op(set_policy(0, 1))]));
    let mut unsigned = Entry::decode(good.bytes.as_slice()).unwrap();
    unsigned.signature[40] ^= 1;
    let reason = |bytes: Vec<u8>| {
        let mut honest_roots = None;
        let (_, applied, _) = chain.propose(vec![good.clone()]);
        honest_roots.get_or_insert(applied.header.state_root);
        match refused(&chain, &forge(&chain, &[bytes], |h| h.state_root = honest_roots.unwrap())) {
            BlockError::Entry { index: 0, error } => error.reason(),
            other => panic!("{other}"),
        }
    };
    // The state root is right, so that nothing but the signature is wrong.
    assert_eq!(reason(unsigned.encode_to_vec()), "BAD_AUTHOR_SIGNATURE");
    // Signed by another organization's key in Cedar's name.
    let body = chain.body("cedar", 9, vec![op(set_policy(0, 1))]);
    assert_eq!(
        reason(assent_ledger::entry::sign_entry(&chain.entry_key("birch"), &body)),
        "BAD_AUTHOR_SIGNATURE"
    );
    // A withdrawal and an unfreezing that the patient did not sign.
    let by = |operation| chain.signed(&chain.body("cedar", 9, vec![operation])).bytes;
    let forced = |bytes: Vec<u8>| match refused(&chain, &forge_forced(&chain, bytes)) {
        BlockError::Entry { index: 0, error } => error.reason(),
        other => panic!("{other}"),
    };
    assert_eq!(forced(by(op(withdraw("cedar", 1, &chain.entry_key("cedar"))))), "BAD_CONTROL_SIGNATURE");
    let own = by_patient(set_consent("cedar", 3, 9), &chain.entry_key("cedar"));
    assert_eq!(forced(by(op(own))), "BAD_CONTROL_SIGNATURE");
}

/// Like [`forge`], with the state root that the entry would lead to if signatures did not count.
fn forge_forced(chain: &Chain, bytes: Vec<u8>) -> Vec<u8> {
    use assent_ledger::execute::{execute_entry, Signatures};
    let entry = assent_ledger::entry::check_entry(CHAIN, &bytes).unwrap();
    let mut overlay = assent_ledger::state::Overlay::new(&chain.store);
    execute_entry(&mut overlay, moment(chain.next_ms()), &entry, &mut Signatures::Collect(vec![])).unwrap();
    let update =
        assent_ledger::tree::update(&chain.store, chain.tip.state_version + 1, &overlay.changes).unwrap();
    forge(chain, &[bytes], |header| header.state_root = update.root.to_vec())
}

#[test]
fn headers_that_lie() {
    let chain = world();
    let last = |hash: &mut Vec<u8>| *hash.last_mut().unwrap() ^= 1;
    assert_eq!(header_field(&chain, |h| last(&mut h.state_root)), "state_root");
    assert_eq!(header_field(&chain, |h| h.state_root = chain.tip.state_root.to_vec()), "state_root");
    assert_eq!(header_field(&chain, |h| last(&mut h.log_root)), "log_root");
    assert_eq!(header_field(&chain, |h| h.log_size += 1), "log_size");
    assert_eq!(header_field(&chain, |h| h.log_size = u64::MAX), "log_size");
    assert_eq!(header_field(&chain, |h| last(&mut h.previous_certificate_hash)), "previous_certificate_hash");
    assert_eq!(header_field(&chain, |h| last(&mut h.previous_header_hash)), "previous_header_hash");
    assert_eq!(header_field(&chain, |h| last(&mut h.validator_set_hash)), "validator_set_hash");
    assert_eq!(header_field(&chain, |h| last(&mut h.next_validator_set_hash)), "next_validator_set_hash");
    assert_eq!(header_field(&chain, |h| h.protocol_version = 2), "protocol_version");
    assert_eq!(header_field(&chain, |h| h.time_ms = chain.tip.time_ms), "time_ms");
    assert_eq!(header_field(&chain, |h| h.time_ms = 0), "time_ms");
    assert_eq!(header_field(&chain, |h| h.time_ms = u64::MAX), "time_ms");
    for height in [0, 2, 4, 1 << 63, u64::MAX] {
        assert_eq!(header_field(&chain, |h| h.height = height), "height");
    }
    let stranger = public(&chain.entry_key("cedar")).to_vec();
    assert_eq!(header_field(&chain, |h| h.proposer = stranger), "proposer");
    let other = forge(&chain, &[], |h| h.chain_id = "testnet-cedar-2".into());
    assert!(matches!(
        refused(&chain, &other),
        BlockError::Header { field: "chain_id", .. } | BlockError::Encoding(_)
    ));
    let short = forge(&chain, &[], |h| h.proposer.truncate(31));
    assert!(matches!(refused(&chain, &short), BlockError::Encoding(_)));
}

#[test]
fn blocks_that_are_too_large() {
    let chain = world();
    let filler = |sequence, count| {
        let operations = (0..count).map(|_| op(set_consent("birch", 0, 1))).collect();
        chain.signed(&chain.body("birch", sequence, operations)).bytes
    };
    let big: Vec<_> = (1..=60).map(|n| filler(n, 235)).collect();
    assert!(big.iter().map(Vec::len).sum::<usize>() > MAX_BLOCK_ENTRY_BYTES);
    let what = |entries: &[Vec<u8>]| match refused(&chain, &forge(&chain, entries, |_| {})) {
        BlockError::TooLarge { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(what(&big), "bytes of entries");
    let many: Vec<_> = (1..=17)
        .map(|n| {
            let operations = (0..241).map(|i| op(set_policy((n - 1) * 241 + i, 1))).collect();
            chain.signed(&chain.body("birch", n, operations)).bytes
        })
        .collect();
    assert_eq!(what(&many), "operations");
    // The same entries in an honest proposer's hands: what does not fit is left out, and the block holds.
    let candidates = many.iter().map(|e| assent_ledger::entry::check_entry(CHAIN, e).unwrap()).collect();
    let (block, applied, dropped) = chain.propose(candidates);
    assert_eq!((applied.entries.len(), dropped.len()), (16, 0));
    assert!(chain.apply(&block).is_ok());
}

/// Certificates that prove nothing, in the block after (with the hash that fits) and as the export's last record.
fn refused_certificate(chain: &Chain, certificate: Certificate) -> CertificateError {
    let mut next = chain.clone();
    next.certificate = certificate.encode_to_vec();
    let (block, applied, _) = next.propose(vec![]);
    assert_eq!(applied.header.previous_certificate_hash, certificate_hash(CHAIN, &next.certificate));
    let error = match refused(&next, &block) {
        BlockError::Certificate(error) => error,
        other => panic!("{other}"),
    };
    let (_, outcome) = verify_export(&next.export(), Some(chain.genesis.hash), |_| {});
    let fault = outcome.expect_err("the auditor found nothing");
    assert_eq!((fault.height, fault.kind), (chain.tip.height, "certificate"), "{fault:?}");
    error
}

#[test]
fn exactly_two_thirds_of_the_power_is_not_enough() {
    for (names, enough) in
        [(vec!["a", "b", "c"], 3), (vec!["a", "b", "c", "d", "e", "f"], 5), (vec!["a", "b", "c", "d"], 3)]
    {
        let mut chain = Chain::of(1, &names);
        chain.commit(vec![]);
        let certificate = chain.certify(1, &chain.tip.header_hash, &names[..enough - 1]);
        let (signed, total) = (enough as u64 - 1, names.len() as u64);
        assert_eq!(refused_certificate(&chain, certificate), CertificateError::Power { signed, total });
        // One more is enough.
        chain.certificate = chain.certify(1, &chain.tip.header_hash, &names[..enough]).encode_to_vec();
        let (block, _, _) = chain.propose(vec![]);
        assert!(chain.apply(&block).is_ok());
        assert_eq!(verify_export(&chain.export(), Some(chain.genesis.hash), |_| {}).1, Ok(()));
    }
}

#[test]
fn certificates_that_prove_nothing() {
    let chain = world();
    let (height, hash) = (chain.tip.height, chain.tip.header_hash);
    let good = || chain.certify(height, &hash, &chain.names);
    let with = |edit: &dyn Fn(&mut Certificate)| {
        let mut certificate = good();
        edit(&mut certificate);
        refused_certificate(&chain, certificate)
    };
    // Three signatures of four would be a quorum: a signer counted twice must not make it up.
    let twice = with(&|c| {
        c.signatures.truncate(2);
        c.signatures.push(c.signatures[1].clone());
    });
    assert!(matches!(twice, CertificateError::Order { .. }));
    assert!(matches!(with(&|c| c.signatures.reverse()), CertificateError::Order { .. }));
    assert!(matches!(with(&|c| c.signatures.clear()), CertificateError::Power { signed: 0, total: 4 }));
    // A stranger whose signature is real, beside a full quorum.
    let stranger = Chain::of(2, &["fir"]).certify(height, &hash, &["fir"]).signatures.remove(0);
    let unknown = with(&|c| {
        c.signatures.push(stranger.clone());
        c.signatures.sort_by(|a, b| a.address.cmp(&b.address));
    });
    assert!(matches!(unknown, CertificateError::UnknownValidator { .. }));
    // One bad signature spoils it, though three others would do: what stands in the chain is all true.
    let bad = with(&|c| c.signatures[2].signature[5] ^= 1);
    assert!(matches!(bad, CertificateError::Signature { organization } if !organization.is_empty()));
    assert!(matches!(with(&|c| c.round = 1), CertificateError::Signature { .. }));
    assert!(matches!(with(&|c| c.height = u64::MAX), CertificateError::Height { .. }));
    assert!(matches!(with(&|c| c.signatures[0].address.truncate(31)), CertificateError::Encoding(_)));
    // Real precommits over the header before.
    let former: Hash = header_hash(CHAIN, &chain.headers[chain.headers.len() - 2]);
    let old = chain.certify(height - 1, &former, &chain.names);
    assert!(matches!(refused_certificate(&chain, old), CertificateError::Height { .. }));
    // Prevotes are not precommits.
    let prevotes = with(&|c| {
        for signature in &mut c.signatures {
            let name =
                chain.names.iter().find(|n| public(&chain.vote_key(n))[..] == signature.address[..]).unwrap();
            let mut vote =
                assent_ledger::certificate::precommit(height, 0, &hash, &public(&chain.vote_key(name)));
            vote.r#type = 1;
            let message = assent_ledger::certificate::vote_sign_bytes(CHAIN, &vote);
            signature.signature = assent_ledger::keys::sign(&chain.vote_key(name), &message).to_vec();
        }
    });
    assert!(matches!(prevotes, CertificateError::Signature { .. }));
}

#[test]
fn a_first_block_with_a_certificate_is_refused() {
    let mut chain = Chain::new();
    let (other, ..) = three_accesses();
    chain.certificate = other.certificate;
    let (block, ..) = chain.propose(vec![]);
    assert!(matches!(refused(&chain, &block), BlockError::Header { field: "previous_certificate", .. }));
}
