//! What a patient pack proves, and what it can't be made to say.

use assent_ledger::commitment::{commit, slot_commitment, ConsentLeaf};
use assent_ledger::hash::{sha256, Context, Hash};
use assent_ledger::pack::{verify_pack, CONTACT_PREFERENCES, PACK_MAGIC};
use assent_proto::ledger::v1::{
    AccessHistory, ConsentBody, ConsentState, ContactPreferences, OpenedReasons, PackedConsent, PatientPack,
    Reasons, SetConsent,
};
use prost::Message;

use crate::chain::{Chain, CHAIN, FOUR};
use crate::flips::{each_flip, one_bit};
use crate::records::{
    anchor, history, history_access, op, patient, set_consent, set_policy, trust, with_key, Access, HANDLE,
};

const GOOD: &[u8] = include_bytes!("../fixtures/pack/good.pack");
const GOOD_GENESIS: &str = include_str!("../fixtures/pack/genesis-hash.txt");

/// Permits Birch to treat.
const FHIR: &[u8] = br#"{"resourceType":"Consent","id":"c1","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},"category":[{"coding":[{"system":"http://loinc.org","code":"59284-0"}]}],"patient":{"reference":"Patient/ada"},"dateTime":"2026-01-05","provision":{"type":"permit","period":{"start":"2026-01-01","end":"2026-12-31"},"actor":[{"role":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP"}]},"reference":{"identifier":{"system":"urn:assent:organization","value":"birch"}}}],"purpose":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}]}}"#;

fn consent(id: &str, revision: u64, state: ConsentState) -> ConsentBody {
    ConsentBody {
        custodian: "cedar".into(),
        handle: HANDLE.to_vec(),
        id: id.into(),
        revision,
        state: state.into(),
        fhir: FHIR.to_vec(),
        ..Default::default()
    }
}

fn packed(id: &str, body: &impl Message) -> PackedConsent {
    let body = body.encode_to_vec();
    PackedConsent { id: id.into(), salt: sha256(id.as_bytes()).to_vec(), body }
}

/// Two consents and the contact preferences, in the order of ids.
fn consents() -> Vec<PackedConsent> {
    let contact = ContactPreferences {
        custodian: "cedar".into(),
        handle: HANDLE.to_vec(),
        revision: 1,
        reminder: vec!["sms".into()],
        survey: vec!["none".into()],
        campaign: vec![],
    };
    vec![
        packed("c1", &consent("c1", 1, ConsentState::Active)),
        packed("c2", &consent("c2", 3, ConsentState::Revoked)),
        packed(CONTACT_PREFERENCES, &contact),
    ]
}

fn commitment(consents: &[PackedConsent], salt: &Hash) -> Hash {
    let leaf = |packed: &PackedConsent| ConsentLeaf {
        id: packed.id.clone(),
        commitment: commit(
            Context::ConsentCommitment,
            CHAIN,
            packed.salt.as_slice().try_into().unwrap(),
            &packed.body,
        ),
    };
    slot_commitment(CHAIN, salt, &consents.iter().map(leaf).collect::<Vec<_>>())
}

/// A chain on which Cedar recorded these consents and three accesses, and the pack of it.
fn packed_chain(consents: Vec<PackedConsent>) -> (Chain, PatientPack) {
    let (mut chain, salt) = (Chain::new(), [0x5a; 32]);
    let first =
        SetConsent { commitment: commitment(&consents, &salt).to_vec(), ..set_consent("cedar", 0, 0) };
    let first = chain.entry("cedar", vec![op(with_key(first, &patient()))]);
    chain.commit(vec![first]);
    let (mut shown, mut reasons) = (vec![], vec![]);
    for (n, recipient) in (1u8..).zip(["birch", "dogwood", "birch"]) {
        let mut access = Access::new(&chain, recipient, n, 1);
        let why = Reasons { decided_by: vec![format!("c1/{n}")] }.encode_to_vec();
        access.event.reasons = commit(Context::ReasonsCommitment, CHAIN, &[n; 32], &why).to_vec();
        reasons.push(OpenedReasons { reasons: why, salt: vec![n; 32] });
        let other = chain.entry("elm", vec![op(set_policy(u64::from(n) - 1, n))]);
        let entry = chain.entry("cedar", vec![access.operation()]);
        chain.commit(vec![other, entry]);
        shown.push(history_access(&chain, &access));
    }
    let history = history(&chain, shown).encode_to_vec();
    (chain, PatientPack { history, salt: salt.to_vec(), consents, reasons })
}

fn good() -> (Chain, PatientPack) {
    packed_chain(consents())
}

fn refusal(chain: &Chain, pack: &PatientPack) -> String {
    verify_pack(&trust(chain), &pack.encode_to_vec()).expect_err("verified").to_string()
}

#[test]
fn a_pack_shows_all_consents_and_all_accesses() {
    let (chain, pack) = good();
    let shown = verify_pack(&trust(&chain), &pack.encode_to_vec()).unwrap();
    assert_eq!((shown.custodian.as_str(), shown.handle), ("cedar", HANDLE));
    assert_eq!((shown.at.header.height, shown.slot.access_seq), (4, 3));
    assert_eq!(shown.accesses.iter().map(|a| a.access_seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(shown.reasons[1].decided_by, ["c1/2"]);
    let ids: Vec<_> = shown.consents.iter().map(|c| (c.id.as_str(), c.revision, c.state())).collect();
    assert_eq!(ids, [("c1", 1, ConsentState::Active), ("c2", 3, ConsentState::Revoked)]);
    assert_eq!(shown.contact.unwrap().reminder, ["sms"]);
}

#[test]
fn a_pack_of_a_patient_without_consents_shows_that_there_are_none() {
    let (chain, pack) = packed_chain(vec![]);
    assert_eq!(verify_pack(&trust(&chain), &pack.encode_to_vec()).unwrap().consents, vec![]);
    let one = PatientPack { consents: vec![consents().remove(0)], ..pack };
    assert!(refusal(&chain, &one).contains("commitment to all consents"));
}

/// The Python verifier is tested on this file too. After a change of format: write what the failed test left beside it.
#[test]
fn the_kept_pack_is_the_one_that_is_made_now() {
    let (chain, pack) = good();
    let file = [PACK_MAGIC.as_slice(), &pack.encode_to_vec()].concat();
    if file != GOOD {
        let path = std::env::temp_dir().join("good.pack");
        std::fs::write(&path, &file).unwrap();
        panic!("differs: {} has it, genesis hash {}", path.display(), hex::encode(chain.genesis.hash));
    }
    assert_eq!(hex::encode(chain.genesis.hash), GOOD_GENESIS.trim());
}

#[test]
fn every_flip_and_every_cut_of_a_pack_is_refused() {
    let (chain, pack) = good();
    let bytes = pack.encode_to_vec();
    assert!(verify_pack(&trust(&chain), &bytes).is_ok());
    each_flip(&bytes, one_bit, |at, bytes| {
        assert!(verify_pack(&trust(&chain), bytes).is_err(), "byte {at}");
    });
    for cut in 0..bytes.len() {
        assert!(verify_pack(&trust(&chain), &bytes[..cut]).is_err(), "cut at {cut}");
    }
    for surplus in [&b"\0"[..], &[0x12, 0], &[0x22, 0], &[0x2a, 0], &bytes] {
        assert!(verify_pack(&trust(&chain), &[&bytes, surplus].concat()).is_err(), "{}", surplus.len());
    }
}

#[test]
fn a_pack_that_leaves_out_a_consent_or_adds_one_is_refused() {
    let (chain, good) = good();
    let with = |edit: &dyn Fn(&mut PatientPack)| {
        let mut pack = good.clone();
        edit(&mut pack);
        refusal(&chain, &pack)
    };
    for n in 0..good.consents.len() {
        assert!(with(&|p| drop(p.consents.remove(n))).contains("commitment to all consents"), "{n}");
    }
    assert!(with(&|p| p.consents.swap(0, 1)).contains("order of id"));
    assert!(with(&|p| p.consents.insert(0, p.consents[0].clone())).contains("order of id"));
    let surplus = packed("c3", &consent("c3", 1, ConsentState::Active));
    assert!(with(&|p| p.consents.insert(2, surplus.clone())).contains("commitment to all consents"));
    // An earlier revision in the place of the latest.
    let earlier = packed("c2", &consent("c2", 2, ConsentState::Active));
    assert!(with(&|p| p.consents[1] = earlier.clone()).contains("commitment to all consents"));
    assert!(with(&|p| p.consents[0].id = "c0".into()).contains("id of a consent"));
    assert!(with(&|p| p.consents[0].salt.clear()).contains("PackedConsent.salt"));
    assert!(with(&|p| p.salt[3] ^= 1).contains("commitment to all consents"));
    assert!(with(&|p| p.salt.clear()).contains("PatientPack.salt"));
}

/// What the slot commits to counts for nothing when it is somebody else's, or says nothing.
#[test]
fn a_committed_consent_of_another_patient_is_refused() {
    let attempt = |edit: &dyn Fn(&mut ConsentBody)| {
        let mut body = consent("c1", 1, ConsentState::Active);
        edit(&mut body);
        let (chain, pack) = packed_chain(vec![packed("c1", &body)]);
        verify_pack(&trust(&chain), &pack.encode_to_vec()).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(attempt(&|_| {}), Ok(()));
    assert!(attempt(&|c| c.handle[0] ^= 1).unwrap_err().contains("handle of a consent"));
    assert!(attempt(&|c| c.custodian = "birch".into()).unwrap_err().contains("custodian of a consent"));
    assert!(attempt(&|c| c.id = "c2".into()).unwrap_err().contains("id of a consent"));
    assert!(attempt(&|c| c.revision = 0).unwrap_err().contains("no revision"));
    assert!(attempt(&|c| c.state = 0).unwrap_err().contains("state"));
    assert!(attempt(&|c| c.state = 77).unwrap_err().contains("state"));
    let contact = |handle: &[u8]| {
        let body =
            ContactPreferences { custodian: "cedar".into(), handle: handle.to_vec(), ..Default::default() };
        let (chain, pack) = packed_chain(vec![packed(CONTACT_PREFERENCES, &body)]);
        verify_pack(&trust(&chain), &pack.encode_to_vec()).is_ok()
    };
    assert!(contact(&HANDLE) && !contact(&[9; 32]));
}

#[test]
fn a_pack_that_leaves_out_an_access_or_its_reasons_is_refused() {
    let (chain, good) = good();
    let with = |edit: &dyn Fn(&mut AccessHistory, &mut PatientPack)| {
        let mut pack = good.clone();
        let mut history = AccessHistory::decode(good.history.as_slice()).unwrap();
        edit(&mut history, &mut pack);
        pack.history = history.encode_to_vec();
        refusal(&chain, &pack)
    };
    for n in 0..3 {
        assert!(
            with(&|h, p| drop((h.accesses.remove(n), p.reasons.remove(n)))).contains("number of accesses")
        );
        assert!(with(&|_, p| drop(p.reasons.remove(n))).contains("number of opened reasons"));
    }
    assert!(with(&|h, _| h.accesses.swap(0, 1)).contains("access head"));
    assert!(with(&|_, p| p.reasons.swap(0, 1)).contains("reasons of an access"));
    assert!(with(&|_, p| p.reasons.push(p.reasons[0].clone())).contains("number of opened reasons"));
    assert!(with(&|_, p| p.reasons[0] = OpenedReasons::default()).contains("OpenedReasons.salt"));
    assert!(with(&|h, _| h.handle = vec![9; 32]).contains("slot is not in the state"));
    assert!(with(&|h, _| h.slot.as_mut().unwrap().frozen = true).contains("slot is not in the state"));
    assert!(with(&|h, _| h.anchor = None).contains("no anchor"));
}

#[test]
fn packs_of_two_chains_do_not_mix() {
    let ((chain, pack), mut other) = (good(), Chain::of(2, &FOUR));
    other.commit(vec![]);
    let refused = verify_pack(&trust(&other), &pack.encode_to_vec()).unwrap_err();
    assert!(refused.to_string().contains("genesis hash"), "{refused}");
    let mut history = AccessHistory::decode(pack.history.as_slice()).unwrap();
    history.anchor = Some(anchor(&other));
    let borrowed = PatientPack { history: history.encode_to_vec(), ..pack };
    assert!(verify_pack(&trust(&other), &borrowed.encode_to_vec()).is_err());
    assert!(verify_pack(&trust(&chain), &borrowed.encode_to_vec()).is_err());
}

/// A file that declares millions of empty parts is refused before memory is taken for each.
#[test]
fn a_pack_of_empty_parts_costs_little() {
    let trust = trust(&Chain::new());
    for tag in [0x1a, 0x22] {
        let error = verify_pack(&trust, &[tag, 0].repeat(8 << 20)).expect_err("verified").to_string();
        assert!(error.contains("at most"), "{error}");
    }
}
