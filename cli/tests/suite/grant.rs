//! `assent grant`, `assent cancel-replacement`, `assent replace-key`: what is checked before the control key signs, and what is signed.

use assent_ledger::commitment::{slot_commitment, ConsentLeaf};
use assent_ledger::consent::consent_commitment;
use assent_ledger::entry::{cancel_sign_bytes, control_sign_bytes};
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::keys::verify;
use assent_proto::ledger::v1::{ConsentBody, ConsentState, Grantor, KeyReplacement, Slot};
use assent_proto::v1::{GrantedConsent, PrepareGrantRequest, PrepareGrantResponse};
use prost::Message;

use crate::chain::CHAIN;
use crate::node::{Lie, Node};
use crate::program::{assent, Run};

const HANDLE: [u8; 32] = [3; 32];
const SEQ: u64 = 4;

fn fhir(id: &str) -> String {
    format!(
        r#"{{"resourceType":"Consent","id":"{id}","status":"active","scope":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}}]}},"category":[{{"coding":[{{"system":"http://loinc.org","code":"59284-0"}}]}}],"patient":{{"reference":"Patient/1"}},"provision":{{"type":"permit","purpose":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}}]}}}}"#
    )
}

/// Puts a body into an answer, with all that follows from it.
fn with_body(prepared: &mut PrepareGrantResponse, body: &ConsentBody) {
    let salt = [8; 32];
    prepared.body = body.encode_to_vec();
    prepared.body_salt = salt.to_vec();
    prepared.consents.retain(|c| c.consent_id != "c-2");
    let commitment = consent_commitment(CHAIN, &salt, body).to_vec();
    prepared.consents.push(GrantedConsent { consent_id: body.id.clone(), commitment });
    recommit(prepared);
}

fn recommit(prepared: &mut PrepareGrantResponse) {
    let leaf = |c: &GrantedConsent| ConsentLeaf {
        id: c.consent_id.clone(),
        commitment: c.commitment.as_slice().try_into().unwrap(),
    };
    let leaves: Vec<ConsentLeaf> = prepared.consents.iter().map(leaf).collect();
    let salt = prepared.salt.as_slice().try_into().unwrap();
    prepared.commitment = slot_commitment(CHAIN, &salt, &leaves).to_vec();
}

/// What an honest custodian answers: the slot holds one older consent, `c-1`.
pub fn honest(request: &PrepareGrantRequest) -> PrepareGrantResponse {
    let (grant, proof) = (request.grant.as_ref().unwrap(), request.proof.as_ref().unwrap());
    let older = GrantedConsent { consent_id: "c-1".into(), commitment: vec![6; 32] };
    let mut prepared = PrepareGrantResponse {
        consent_seq: SEQ,
        salt: vec![7; 32],
        consents: vec![older],
        ..Default::default()
    };
    recommit(&mut prepared);
    if !grant.consent.is_empty() {
        let body = ConsentBody {
            custodian: proof.custodian.clone(),
            handle: proof.handle.clone(),
            id: "c-2".into(),
            revision: 1,
            state: ConsentState::Active.into(),
            fhir: grant.consent.clone(),
            supersedes: grant.supersedes.clone(),
            ..Default::default()
        };
        with_body(&mut prepared, &body);
    }
    prepared
}

fn rewritten(prepared: &mut PrepareGrantResponse, edit: fn(&mut ConsentBody)) {
    let mut body = ConsentBody::decode(prepared.body.as_slice()).unwrap();
    edit(&mut body);
    with_body(prepared, &body);
}

struct Patient {
    node: Node,
    wallet: String,
    key: [u8; 32],
}

impl Patient {
    fn new() -> Self {
        let node = Node::start();
        let wallet = node.text("wallet");
        assent(&["wallet", "create", "--out", &wallet, "--chain-id", CHAIN]).exits(0);
        assent(&["wallet", "add", &wallet, "--custodian", "cedar", "--handle", &hex::encode(HANDLE)])
            .exits(0);
        let shown = assent(&["wallet", "show", &wallet, "--custodian", "cedar"]).exits(0).out;
        let mut key = [0; 32];
        hex::decode_to_slice(shown.trim(), &mut key).unwrap();
        node.told.set(|script| script.slot = Slot { consent_seq: SEQ, ..Default::default() });
        std::fs::write(node.path("c-2.json"), fhir("c-2")).unwrap();
        Self { node, wallet, key }
    }

    fn run(&self, command: &str, more: &[&str]) -> Run {
        let ca = self.node.text("birch/tls/ca.pem");
        let arguments = [
            command,
            "--wallet",
            &self.wallet,
            "--custodian",
            "cedar",
            "--node",
            &self.node.url,
            "--ca",
            &ca,
        ];
        assent(&[arguments.as_slice(), &["--output", "json"], more].concat())
    }

    fn grant(&self, more: &[&str]) -> Run {
        let file = self.node.text("c-2.json");
        self.run("grant", &[["--consent", &file].as_slice(), more].concat())
    }

    fn lying(&self, lie: Lie) {
        self.node.told.set(|script| script.lie = Some(lie));
    }

    fn signed_nothing(&self) -> bool {
        self.node.told.0.lock().unwrap().committed.is_empty()
    }
}

#[test]
fn a_grant_is_checked_then_signed_for_exactly_what_was_sent() {
    let patient = Patient::new();
    let other = "5866666666666666666666666666666666666666666666666666666666666666";
    let json = patient.grant(&["--supersedes", "c-1", "--new-key", other]).exits(0).json();
    assert_eq!((&json["consent_id"], &json["revision"]), (&"c-2".into(), &1.into()));
    assert_eq!((&json["consent_seq"], &json["height"], &json["consents"]), (&5.into(), &9.into(), &2.into()));
    assert_eq!((&json["superseded"][0], &json["new_control_key"]), (&"c-1".into(), &other.into()));
    assert!(json["rules"].as_array().unwrap().iter().any(|rule| rule.as_str().unwrap().contains("TREAT")));
    let mut script = patient.node.told.0.lock().unwrap();
    let prepared = script.prepared.take().unwrap();
    let grant = prepared.grant.clone().unwrap();
    assert_eq!(grant.consent, fhir("c-2").into_bytes(), "the file's exact bytes");
    // The proof is for this very grant.
    let proof = prepared.proof.clone().unwrap();
    let method = format!("PrepareGrant/{}", hex::encode(sha256(&grant.encode_to_vec())));
    let parts: [&[u8]; 5] =
        [method.as_bytes(), b"cedar", &HANDLE, &proof.nonce, &proof.time_ms.to_be_bytes()];
    let message = framed(Context::PatientRequest, CHAIN, &parts);
    assert!(verify(&patient.key, &message, proof.signature.as_slice().try_into().unwrap()));
    // And the signature for what was opened, with the new key.
    let committed = script.committed.remove(0);
    let honest = honest(&prepared);
    let new_key = Some(committed.new_control_key.as_slice());
    let message = control_sign_bytes(CHAIN, "cedar", &HANDLE, SEQ, &honest.commitment, new_key);
    assert!(verify(&patient.key, &message, committed.control_signature.as_slice().try_into().unwrap()));
    assert_eq!(
        (committed.commitment, hex::encode(committed.new_control_key)),
        (honest.commitment, other.into())
    );
}

#[test]
fn a_withdrawal_is_lifted_and_an_unknown_outcome_is_asked_for_under_the_same_name() {
    let patient = Patient::new();
    patient.node.told.set(|script| {
        script.slot.frozen = true;
        script.unknown = 2;
    });
    let json = patient.run("grant", &[]).exits(0).json();
    assert_eq!((&json["lifted"], &json["consent_id"]), (&true.into(), &serde_json::Value::Null));
    let committed = std::mem::take(&mut patient.node.told.0.lock().unwrap().committed);
    assert_eq!(committed.len(), 3);
    assert!(committed.iter().all(|c| *c == committed[0]));
    patient.node.told.set(|script| script.unknown = 9);
    patient.run("grant", &[]).exits(7);
}

#[test]
fn a_custodian_that_lies_gets_no_signature() {
    let patient = Patient::new();
    let lies: Vec<(&str, Lie)> = vec![
        ("another commitment", |p| p.commitment[0] ^= 1),
        ("another salt", |p| p.salt[0] ^= 1),
        ("no salt", |p| p.salt.clear()),
        ("a consent left out", |p| drop(p.consents.remove(0))),
        ("a consent twice", |p| {
            p.consents.push(p.consents[0].clone());
            recommit(p);
        }),
        ("a leaf that is no hash", |p| p.consents[0].commitment.truncate(31)),
        ("the new consent is not in it", |p| {
            p.consents.pop();
            recommit(p);
        }),
        ("another body in it", |p| {
            p.consents[1].commitment = vec![1; 32];
            recommit(p);
        }),
        ("another consent", |p| {
            rewritten(p, |b| b.fhir = fhir("c-2").replace("TREAT", "HMARKT").into_bytes())
        }),
        ("one byte more", |p| rewritten(p, |b| b.fhir.push(b' '))),
        ("another id", |p| rewritten(p, |b| b.id = "c-9".into())),
        ("another patient's", |p| rewritten(p, |b| b.handle = vec![4; 32])),
        ("another custodian's", |p| rewritten(p, |b| b.custodian = "birch".into())),
        ("not active", |p| rewritten(p, |b| b.state = ConsentState::Proposed.into())),
        ("read leniently", |p| rewritten(p, |b| b.lenient = true)),
        ("unresolved", |p| rewritten(p, |b| b.unresolved = true)),
        ("granted by somebody else", |p| rewritten(p, |b| b.grantor = Some(Grantor::default()))),
        ("on another basis", |p| rewritten(p, |b| b.legal_basis = 4)),
        ("superseding more", |p| rewritten(p, |b| b.supersedes = vec!["c-1".into()])),
        ("no revision", |p| rewritten(p, |b| b.revision = 0)),
        ("no body", |p| p.body.clear()),
        ("not a body", |p| p.body = vec![0xff; 9]),
        ("for a later state of the slot", |p| p.consent_seq += 1),
    ];
    for (what, lie) in lies {
        patient.lying(lie);
        let run = patient.grant(&[]);
        assert_eq!(run.exit, 3, "{what}: {run:?}");
        assert!(patient.signed_nothing(), "{what}");
    }
    // A superseded consent that vanished, and a consent in an answer that should have none.
    patient.lying(|p| {
        p.consents.remove(0);
        recommit(p);
    });
    patient.grant(&["--supersedes", "c-1"]).exits(3);
    patient.lying(|p| p.body = ConsentBody::default().encode_to_vec());
    patient.run("grant", &[]).exits(0);
    patient.node.told.set(|script| script.committed.clear());
    patient.lying(|p| p.body = vec![8, 1]);
    patient.run("grant", &[]).exits(3);
    // For an older state: the custodian lags, or the patient withdrew meanwhile. Nothing was signed, and it may be tried again.
    patient.lying(|p| p.consent_seq -= 1);
    patient.grant(&[]).exits(7);
    assert!(patient.signed_nothing());
}

#[test]
fn bad_arguments_are_refused_before_anybody_is_asked() {
    let patient = Patient::new();
    let file = |name: &str, text: &str| {
        let path = patient.node.text(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (broken, other) = (file("broken", "{"), file("other", r#"{"resourceType":"Patient"}"#));
    for consent in [broken.as_str(), other.as_str(), "/nonexistent"] {
        patient.run("grant", &["--consent", consent]).exits(2);
    }
    patient.run("grant", &["--supersedes", "c-1"]).exits(2);
    patient.grant(&["--new-key", "ab"]).exits(2);
    patient.grant(&["--new-key", &format!("01{}", "00".repeat(31))]).exits(2);
    patient.run("cancel-replacement", &["--chain-id", "other"]).exits(2);
    assert!(patient.node.told.0.lock().unwrap().prepared.is_none());
}

#[test]
fn just_the_key_that_waits_is_cancelled() {
    let patient = Patient::new();
    let json = patient.run("cancel-replacement", &[]).exits(0).json();
    assert_eq!(json["cancelled"], false);
    assert!(patient.node.told.0.lock().unwrap().cancelled.is_none());
    let waiting =
        KeyReplacement { control_key: vec![5; 32], effective_ms: 1_767_225_600_000, consent_seq: 3 };
    patient.node.told.set(|script| script.slot.replacement = Some(waiting));
    let json = patient.run("cancel-replacement", &[]).exits(0).json();
    assert_eq!((&json["cancelled"], &json["height"]), (&true.into(), &11.into()));
    assert_eq!(json["control_key"], "05".repeat(32));
    let cancel = patient.node.told.0.lock().unwrap().cancelled.take().unwrap().cancel.unwrap();
    let message = cancel_sign_bytes(CHAIN, "cedar", &HANDLE, 3, &[5; 32]);
    assert!(verify(&patient.key, &message, cancel.patient_signature.as_slice().try_into().unwrap()));
}

#[test]
fn a_registrar_registers_another_key() {
    let node = Node::start();
    let patient = [
        "--custodian",
        "birch",
        "--identifier",
        "urn:x:mrn|17",
        "--birth-date",
        "2000-02-29",
        "--output",
        "json",
    ];
    let key = "05".repeat(32);
    let arguments = [["replace-key", "--control-key", &key].as_slice(), &patient].concat();
    let json = node.crm(&[arguments.as_slice(), &["--request-id", "k-1"]].concat()).exits(0).json();
    assert_eq!((&json["effective_ms"], &json["request_id"]), (&1_767_225_600_000u64.into(), &"k-1".into()));
    let asked = node.told.0.lock().unwrap().replaced.take().unwrap();
    assert_eq!((asked.control_key, asked.patient.unwrap().custodian.as_str()), (vec![5; 32], "birch"));
    node.crm(&[["replace-key", "--control-key", "ab"].as_slice(), &patient].concat()).exits(2);
}
