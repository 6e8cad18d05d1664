//! Golden bytes of all that is signed or hashed. Changing `tests/golden/formats.txt` is approving a new format.
//!
//! When they were approved, a Python script of its own computed twenty of them again (state keys, commitments, access heads,
//! digests root, hashes of header, certificate, entry and request, sign bytes of votes, proposals, control and withdrawal).

use assent_ledger::certificate::{
    certificate_hash, precommit, proposal_sign_bytes, validator_set_hash, vote_sign_bytes,
};
use assent_ledger::commitment::{
    commit, digests_root, handle, next_access_head, slot_commitment, ConsentLeaf,
};
use assent_ledger::entry::{
    cancel_sign_bytes, control_sign_bytes, entry_hash, entry_sign_bytes, withdraw_sign_bytes,
};
use assent_ledger::governance::{evidence_key, handover_sign_bytes, ready_sign_bytes};
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::late::late_hash;
use assent_ledger::membership::membership_key;
use assent_ledger::peer_id::peer_id;
use assent_ledger::receipt::{ask_hash, request_hash, sign_message};
use assent_ledger::state::{organization_key, policy_key, slot_key};
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::KeyPurpose;
use assent_proto::ledger::v1::{
    ConsentAsk, ConsentAskState, DataRequest, Decision, KeyReplacement, NotReleased, Slot, Vote, VoteType,
};
use prost::Message;

use crate::chain::{key, Chain, CHAIN, START_MS};
use crate::governance::{self as governed, evidence};
use crate::late::late_release;
use crate::receipt_files::World;
use crate::records::{
    by_patient, cancel, history, op, patient, receipt, record_access, request, set_consent, set_policy,
    three_accesses, with_key, withdraw, HANDLE,
};

const GOLDEN: &str = include_str!("../golden/formats.txt");

struct Lines(Vec<String>);

impl Lines {
    fn add(&mut self, name: &str, bytes: impl AsRef<[u8]>) {
        self.0.push(format!("{name} {}", hex::encode(bytes)));
    }

    /// For what is too long to read: length and SHA-256.
    fn add_long(&mut self, name: &str, bytes: &[u8]) {
        self.0.push(format!("{name} {} bytes, sha256 {}", bytes.len(), hex::encode(sha256(bytes))));
    }
}

fn entries(lines: &mut Lines) {
    let (new, old) = (key(9, "control", "new phone"), patient());
    let chain = Chain::new();
    let operations = [
        ("set-consent-plain", op(set_consent("cedar", 3, 7))),
        ("set-consent-key", op(with_key(set_consent("cedar", 0, 7), &old))),
        ("set-consent-signed", op(by_patient(set_consent("cedar", 3, 7), &old))),
        ("set-consent-key-signed", op(by_patient(with_key(set_consent("cedar", 3, 7), &new), &old))),
        ("withdraw", op(withdraw("cedar", 2, &old))),
        ("record-access", op(record_access("cedar", 3, 1, [8; 32]))),
        ("set-policy", op(set_policy(1, 9))),
        ("cancel-replacement", op(cancel("cedar", 4, &new, &old))),
    ];
    for (name, operation) in operations {
        lines.add(&format!("operation/{name}"), operation.encode_to_vec());
        let entry = chain.signed(&chain.body("cedar", 5, vec![operation]));
        lines.add(&format!("entry/{name}"), &entry.bytes);
        assert_eq!(entry.hash, entry_hash(CHAIN, &entry.bytes));
        lines.add(&format!("entry-hash/{name}"), entry.hash);
    }
}

fn sign_bytes(lines: &mut Lines) {
    let (hash, address) = ([3; 32], [4; 32]);
    let nil = Vote {
        r#type: VoteType::Prevote.into(),
        height: 7,
        round: 1,
        header_hash: None,
        address: address.into(),
    };
    let commit = precommit(7, 0, &hash, &address);
    lines.add("vote/prevote-nil", nil.encode_to_vec());
    lines.add("vote/precommit", commit.encode_to_vec());
    lines.add("sign/vote-prevote-nil", vote_sign_bytes(CHAIN, &nil));
    lines.add("sign/vote-precommit", vote_sign_bytes(CHAIN, &commit));
    lines.add("sign/proposal", proposal_sign_bytes(CHAIN, 7, 2, None, &hash, &address));
    lines.add("sign/proposal-locked", proposal_sign_bytes(CHAIN, 7, 2, Some(0), &hash, &address));
    lines.add("sign/entry", entry_sign_bytes(CHAIN, b"body"));
    lines.add("sign/control", control_sign_bytes(CHAIN, "cedar", &HANDLE, 3, &[7; 32], None));
    lines.add(
        "sign/control-new-key",
        control_sign_bytes(CHAIN, "cedar", &HANDLE, 3, &[7; 32], Some(&[5; 32])),
    );
    lines.add("sign/withdraw", withdraw_sign_bytes(CHAIN, "cedar", &HANDLE, 2));
    lines.add("sign/cancel-replacement", cancel_sign_bytes(CHAIN, "cedar", &HANDLE, 4, &[5; 32]));
    let parts: [&[u8]; 5] = [b"GetSlot", b"cedar", &HANDLE, b"nonce", &9u64.to_be_bytes()];
    lines.add("sign/patient-request", framed(Context::PatientRequest, CHAIN, &parts));
    let signer = Chain::new().entry_key("birch");
    let body = request("birch", 1).encode_to_vec();
    lines.add("message/request", &body);
    lines.add("message/request-hash", request_hash(CHAIN, &body));
    let kinds = [
        Context::Request,
        Context::Decision,
        Context::NotReleased,
        Context::Acknowledgement,
        Context::Ask,
        Context::AskState,
        Context::PeerAnswer,
        Context::LateAccess,
    ];
    for context in kinds {
        let signed = sign_message(context, CHAIN, "birch", &signer, b"body".to_vec());
        lines.add(&format!("signed/{context:?}"), signed.encode_to_vec());
    }
    lines.add("message/late-access-hash", late_hash(CHAIN, b"body"));
    let answer = NotReleased { request_hash: vec![1; 32], time_ms: START_MS };
    lines.add("message/not-released", answer.encode_to_vec());
    let decision = Decision {
        request_hash: vec![1; 32],
        custodian: "cedar".into(),
        handle: HANDLE.to_vec(),
        outcome: "PERMIT".into(),
        consent_seq: 3,
        policy_seq: 1,
        algorithm: "CDA-1".into(),
        tables: vec![2; 32],
        height: 4,
        time_ms: START_MS,
        not_after_ms: START_MS + 30_000,
        obligations: vec!["NORDSCLCD".into()],
    };
    lines.add("message/decision", decision.encode_to_vec());
    asks(lines);
}

fn asks(lines: &mut Lines) {
    let ask = ConsentAsk {
        chain_id: CHAIN.into(),
        custodian: "cedar".into(),
        recipient: "birch".into(),
        client: "spiffe://testnet-cedar-1/org/birch/crm/main".into(),
        identifier_system: "urn:x:mrn".into(),
        identifier_value: "17".into(),
        birth_date: "2000-02-29".into(),
        purposes: vec!["HRESCH".into(), "TREAT".into()],
        actions: vec!["use".into()],
        resource_types: vec!["Observation".into()],
        valid_until_ms: START_MS + 86_400_000,
        reason: "a study".into(),
        nonce: vec![9; 32],
        not_after_ms: START_MS + 3_600_000,
    };
    let body = ask.encode_to_vec();
    lines.add("message/ask", &body);
    lines.add("message/ask-hash", ask_hash(CHAIN, &body));
    let state = ConsentAskState { ask_hash: vec![1; 32], granted: true, time_ms: START_MS };
    lines.add("message/ask-state", state.encode_to_vec());
    let request = DataRequest {
        purpose: "PATADMIN".into(),
        check_only: true,
        outreach_channel: "sms".into(),
        ..request("birch", 1)
    };
    lines.add("message/request-outreach", request.encode_to_vec());
}

fn hashes(lines: &mut Lines) {
    lines.add("state-key/slot", slot_key(CHAIN, "cedar", &HANDLE));
    lines.add("state-key/policy", policy_key(CHAIN, "cedar"));
    lines.add("state-key/organization", organization_key(CHAIN, "cedar"));
    let committed = [
        Context::ConsentCommitment,
        Context::AccessCommitment,
        Context::PolicyCommitment,
        Context::ReasonsCommitment,
    ];
    for context in committed {
        lines.add(&format!("commitment/{context:?}"), commit(context, CHAIN, &[6; 32], b"exact bytes"));
    }
    let leaf = |id: &str, n| ConsentLeaf { id: id.into(), commitment: [n; 32] };
    lines.add("commitment/slot-empty", slot_commitment(CHAIN, &[6; 32], &[]));
    lines.add("commitment/slot-two", slot_commitment(CHAIN, &[6; 32], &[leaf("c2", 2), leaf("c1", 1)]));
    let head = next_access_head(CHAIN, None, 1, &[7; 32]);
    lines.add("access-head/1", head);
    lines.add("access-head/2", next_access_head(CHAIN, Some(&head), 2, &[8; 32]));
    lines.add("digests-root", digests_root([&b"first"[..], b"second"]));
    lines.add("handle", handle(CHAIN, "cedar", &[1; 32]));
    lines.add("certificate-hash/none", certificate_hash(CHAIN, &[]));
    let replacement = KeyReplacement { control_key: vec![5; 32], effective_ms: START_MS, consent_seq: 4 };
    let slot = Slot { consent_seq: 4, replacement: Some(replacement), ..Default::default() };
    lines.add("message/slot-with-replacement", slot.encode_to_vec());
}

fn chain(lines: &mut Lines) {
    let (chain, accesses, shown, bundles) = three_accesses();
    lines.add("genesis/file", &chain.file);
    lines.add("genesis/hash", chain.genesis.hash);
    lines.add("validator-set-hash", validator_set_hash(CHAIN, &chain.genesis.validators));
    lines.add("block/1", &chain.blocks[0]);
    lines.add("block/2", &chain.blocks[1]);
    lines.add("header/4", &chain.headers[3]);
    lines.add("header-hash/4", chain.tip.header_hash);
    lines.add("certificate/4", &chain.certificate);
    lines.add("certificate-hash/4", certificate_hash(CHAIN, &chain.certificate));
    for ((level, index), hash) in chain.store.log.iter().filter(|((level, _), _)| *level > 1) {
        lines.add(&format!("log-node/{level}/{index}"), hash);
    }
    for (key, value) in &chain.store.values.0 {
        lines.add(&format!("state/{}", hex::encode(key)), value);
    }
    lines.add("access-event", accesses[2].event.encode_to_vec());
    lines.add_long("receipt/3", &receipt(&chain, &accesses[2]).encode_to_vec());
    lines.add_long("bundle/3", &bundles[2].encode_to_vec());
    lines.add("state-proof", history(&chain, vec![]).state_proof);
    lines.add_long("history", &history(&chain, shown).encode_to_vec());
    lines.add_long("late-release", &late_release().1.encode_to_vec());
    lines.add_long("export", &chain.export());
}

fn governance(lines: &mut Lines) {
    let (old, new) = (key(1, "consensus", "cedar"), key(9, "consensus", "cedar"));
    let chain = governed::four();
    let vote = |byte| evidence::vote(&old, VoteType::Precommit, 7, 1, byte);
    let peer = KeyPurpose::ConsensusPeer;
    let replaced = governed::replace_key(&chain, "cedar", peer, &new);
    let rotation = governed::rotate("cedar", peer, &old, &new, 9);
    let operations = [
        ("add-organization", governed::propose(9, governed::add_organization(&governed::record("fir")))),
        ("remove-organization", governed::propose(9, governed::remove_organization("elm", Some("cedar")))),
        ("add-validator", governed::propose(9, governed::add_validator("fir", &new))),
        ("remove-validator", governed::propose(9, governed::remove_validator("elm"))),
        ("replace-key", governed::propose(9, replaced)),
        ("approve", governed::approve(3)),
        ("rotate-key", governed::step(Step::RotateKey(rotation))),
        ("suspend-entry-key", governed::suspend("elm")),
        ("set-addresses", governed::addresses(7)),
        ("validator-ready", governed::ready("fir", &new, 7)),
        ("evidence-votes", evidence::votes(CHAIN, &old, &vote(None), &vote(Some(3)))),
        (
            "evidence-proposals",
            evidence::proposals(
                evidence::proposal(&old, 7, 1, None, 1),
                evidence::proposal(&old, 7, 1, Some(0), 2),
            ),
        ),
    ];
    for (name, operation) in operations {
        lines.add(&format!("operation/{name}"), operation.encode_to_vec());
        // What is golden is also of the right form.
        chain.signed(&chain.body("cedar", 5, vec![operation]));
    }
    lines.add("sign/key-handover", handover_sign_bytes(CHAIN, "cedar", peer, &[5; 32], &[6; 32], 9));
    lines.add(
        "sign/key-handover-suspended",
        handover_sign_bytes(CHAIN, "cedar", KeyPurpose::Entry, &[], &[6; 32], 0),
    );
    lines.add("sign/validator-ready", ready_sign_bytes(CHAIN, "fir", &[5; 32], 7));
    lines.add("state-key/membership", membership_key(CHAIN));
    lines.add("state-key/evidence", evidence_key(CHAIN, &[4; 32], 7, 1, 2));
    lines.add("peer-id", peer_id(&[5; 32]));
}

#[test]
fn formats_are_as_approved() {
    let mut lines = Lines(Vec::new());
    entries(&mut lines);
    sign_bytes(&mut lines);
    hashes(&mut lines);
    chain(&mut lines);
    governance(&mut lines);
    for (name, _, receipt) in World::new().receipts() {
        lines.add_long(&format!("receipt-file/{name}"), &receipt.encode_to_vec());
    }
    lines.add_long("receipt-file/recovered", &crate::recovered::receipt().2.encode_to_vec());
    for (name, _, receipt) in World::new().behind() {
        lines.add_long(&format!("receipt-file/{name}"), &receipt.encode_to_vec());
    }
    let found = lines.0.join("\n") + "\n";
    let differing: Vec<_> =
        lines.0.iter().zip(GOLDEN.lines()).filter(|(found, golden)| found != golden).collect();
    assert!(found == GOLDEN, "first difference: {:#?}\nall bytes now:\n{found}", differing.first());
}

/// By hand from the .proto file and the framing rule: nothing of the code under test makes these bytes.
#[test]
fn an_entry_by_hand() {
    let mut body = vec![0x0a, 15];
    body.extend(b"testnet-cedar-1");
    body.extend([0x12, 5]);
    body.extend(b"cedar");
    body.extend([0x18, 5, 0x20, 0xac, 0x02, 0x2a, 38, 0x22, 36, 0x08, 1, 0x12, 32]);
    body.extend([9; 32]);
    let found = assent_proto::ledger::v1::EntryBody {
        chain_id: CHAIN.into(),
        author: "cedar".into(),
        sequence: 5,
        not_after_ms: 300,
        operations: vec![op(set_policy(1, 9))],
    };
    assert_eq!(hex::encode(found.encode_to_vec()), hex::encode(&body));

    let mut signed = vec![14];
    signed.extend(b"assent/1/entry");
    signed.push(15);
    signed.extend(b"testnet-cedar-1");
    signed.extend((body.len() as u64).to_be_bytes());
    signed.extend(&body);
    assert_eq!(hex::encode(entry_sign_bytes(CHAIN, &body)), hex::encode(signed));
}
