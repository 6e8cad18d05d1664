//! Past decisions made again: what agrees, and that no difference goes unseen.

use assent_ledger::audit::{parse_head, ChainVerifier, Level};
use assent_ledger::commitment::{commit, digests_root, slot_commitment, ConsentLeaf};
use assent_ledger::decisions::{
    decode_openings, replay, Opened, Records, Replay, SlotHistory, Verdict, DECISIONS_MAGIC,
};
use assent_ledger::hash::{sha256, Context, Hash};
use assent_ledger::receipt::sign_message;
use assent_ledger::receipts::MAX_KEY_AGE_MS;
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::{
    AccessEvent, ConsentBody, ConsentState, ContactPreferences, DataRequest, DecisionOpenings, KeyPurpose,
    OpenedAccess, OpenedPolicy, OpenedReasons, OpenedSet, PackedConsent, PolicyBody, Reasons, SetConsent,
    SetPolicy,
};
use prost::Message;

use crate::chain::{key, Chain, CHAIN};
use crate::flips::{each_flip, one_bit};
use crate::governance;
use crate::records::{
    by_patient, op, patient, record_access, request, set_consent, with_key, withdraw, HANDLE,
};
use crate::recovery;

const PATIENT: &str = "Patient/ada";
const CONTACT: &str = assent_ledger::pack::CONTACT_PREFERENCES;

/// A consent for one organization to treat; with `deny` but for records of that sensitivity.
fn fhir(id: &str, patient: &str, organization: &str, deny: Option<&str>) -> Vec<u8> {
    let nested = deny.map(|label| {
        format!(r#","provision":[{{"type":"deny","securityLabel":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"{label}"}}]}}]"#)
    });
    format!(
        r#"{{"resourceType":"Consent","id":"{id}","status":"active","scope":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}}]}},"category":[{{"coding":[{{"system":"http://loinc.org","code":"59284-0"}}]}}],"patient":{{"reference":"{patient}"}},"dateTime":"2026-01-05","provision":{{"type":"permit","period":{{"start":"2026-01-01","end":"2026-12-31"}},"actor":[{{"role":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP"}}]}},"reference":{{"identifier":{{"system":"urn:assent:organization","value":"{organization}"}}}}}}],"purpose":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}}]{}}}}}"#,
        nested.unwrap_or_default()
    )
    .into_bytes()
}

/// An assessed observation; with a label of sensitivity where one is given.
fn observation(id: &str, label: Option<&str>) -> Vec<u8> {
    let sensitive = label.map(|label| {
        format!(r#",{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"{label}"}}"#)
    });
    format!(
        r#"{{"resourceType":"Observation","id":"{id}","status":"final","meta":{{"security":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"N"}}{}]}},"code":{{"coding":[{{"system":"http://loinc.org","code":"8480-6"}}]}},"subject":{{"reference":"{PATIENT}"}}}}"#,
        sensitive.unwrap_or_default()
    )
    .into_bytes()
}

fn consent(id: &str, revision: u64, fhir: Vec<u8>) -> PackedConsent {
    let body = ConsentBody {
        custodian: "cedar".into(),
        handle: HANDLE.to_vec(),
        id: id.into(),
        revision,
        state: ConsentState::Active.into(),
        fhir,
        ..Default::default()
    };
    packed(id, revision, &body)
}

fn packed(id: &str, revision: u64, body: &impl Message) -> PackedConsent {
    let salt = sha256(format!("{id}/{revision}").as_bytes()).to_vec();
    PackedConsent { id: id.into(), salt, body: body.encode_to_vec() }
}

fn contact() -> PackedConsent {
    let body = ContactPreferences {
        custodian: "cedar".into(),
        handle: HANDLE.to_vec(),
        revision: 1,
        ..Default::default()
    };
    packed(CONTACT, 1, &body)
}

/// Lets members of Group/icu break the glass; nothing else.
const GLASS: &[u8] = br#"{"id":"cedar-2","version":2,"rules":[{"effect":"PERMIT","purposes":["HQUALIMP"]}],"break_glass":{"groups":["Group/icu"],"purposes":["ETREAT"],"overrides_frozen":true}}"#;
const ICU: &[u8] =
    br#"{"groups":[{"id":"Group/icu","members":[{"organization":"elm","actor":"Practitioner/7"}]}]}"#;

/// A ledger and what opens it. Whatever is recorded is what the custodian says, right or wrong.
#[derive(Clone)]
struct Story {
    chain: Chain,
    file: DecisionOpenings,
    seqs: (u64, u64),
}

/// One access as the custodian decided it.
#[derive(Clone)]
struct Said {
    recipient: &'static str,
    purpose: &'static str,
    reason: &'static str,
    outcome: &'static str,
    decided_by: &'static [&'static str],
    records: Vec<Vec<u8>>,
}

fn said(recipient: &'static str, decided_by: &'static [&'static str], records: Vec<Vec<u8>>) -> Said {
    Said { recipient, purpose: "TREAT", reason: "", outcome: "PERMIT", decided_by, records }
}

fn broken_glass(records: Vec<Vec<u8>>) -> Said {
    Said {
        recipient: "elm",
        purpose: "ETREAT",
        reason: "unconscious",
        outcome: "PERMIT_OVERRIDE",
        decided_by: &["default-policy:cedar-2"],
        records,
    }
}

/// The place of a thing in a list that holds it once.
fn place<T: PartialEq>(list: &mut Vec<T>, thing: T) -> u32 {
    let found = list.iter().position(|other| *other == thing);
    found.unwrap_or_else(|| {
        list.push(thing);
        list.len() - 1
    }) as u32
}

impl Story {
    fn new() -> Self {
        let file = DecisionOpenings {
            chain_id: CHAIN.into(),
            custodian: "cedar".into(),
            handle: HANDLE.to_vec(),
            patient_reference: PATIENT.into(),
            ..Default::default()
        };
        Self { chain: Chain::new(), file, seqs: (0, 0) }
    }

    /// On another chain, with one consent for Birch.
    fn on(chain: Chain) -> Self {
        let mut story = Self { chain, ..Self::new() };
        story.consents(vec![consent("c1", 1, fhir("c1", PATIENT, "birch", None))]);
        story
    }

    fn write(&mut self, operation: assent_proto::ledger::v1::Operation) {
        let entry = self.chain.entry("cedar", vec![operation]);
        self.chain.commit(vec![entry]);
    }

    fn consents(&mut self, consents: Vec<PackedConsent>) {
        let salt = sha256(&[self.seqs.0 as u8]);
        let leaf = |packed: &PackedConsent| ConsentLeaf {
            id: packed.id.clone(),
            commitment: commit(
                Context::ConsentCommitment,
                CHAIN,
                packed.salt.as_slice().try_into().unwrap(),
                &packed.body,
            ),
        };
        let commitment = slot_commitment(CHAIN, &salt, &consents.iter().map(leaf).collect::<Vec<_>>());
        let op_of = SetConsent { commitment: commitment.to_vec(), ..set_consent("cedar", self.seqs.0, 0) };
        let first = self.seqs.0 == 0;
        self.write(op(if first { with_key(op_of, &patient()) } else { by_patient(op_of, &patient()) }));
        self.seqs.0 += 1;
        let places = consents.into_iter().map(|packed| place(&mut self.file.consents, packed)).collect();
        self.file.sets.push(OpenedSet { consent_seq: self.seqs.0, salt: salt.to_vec(), consents: places });
    }

    fn policy(&mut self, policy: &[u8], registry: &[u8]) {
        let salt = sha256(&[0x70, self.seqs.1 as u8]);
        let body = PolicyBody { policy: policy.to_vec(), registry: registry.to_vec() }.encode_to_vec();
        let commitment = commit(Context::PolicyCommitment, CHAIN, &salt, &body).to_vec();
        self.write(op(SetPolicy { expected_policy_seq: self.seqs.1, commitment }));
        self.seqs.1 += 1;
        self.file.policies.push(OpenedPolicy { policy_seq: self.seqs.1, salt: salt.to_vec(), body });
    }

    fn withdraw(&mut self) {
        self.write(op(withdraw("cedar", 0, &patient())));
        self.seqs.0 += 1;
    }

    fn event(&self, said: &Said) -> (AccessEvent, OpenedReasons) {
        let n = self.file.accesses.len() as u8 + 1;
        let reasons = Reasons { decided_by: said.decided_by.iter().map(|r| r.to_string()).collect() };
        let reasons = OpenedReasons { reasons: reasons.encode_to_vec(), salt: vec![n; 32] };
        let why = commit(Context::ReasonsCommitment, CHAIN, &[n; 32], &reasons.reasons);
        let body = DataRequest {
            purpose: said.purpose.into(),
            break_glass_reason: said.reason.into(),
            ..request(said.recipient, n)
        };
        let key = self.chain.present_entry_key(said.recipient);
        let signed = sign_message(Context::Request, CHAIN, said.recipient, &key, body.encode_to_vec());
        let event = AccessEvent {
            custodian: "cedar".into(),
            handle: HANDLE.to_vec(),
            request: signed.encode_to_vec(),
            outcome: said.outcome.into(),
            reasons: why.to_vec(),
            obligations: vec![],
            consent_seq: self.seqs.0,
            policy_seq: self.seqs.1,
            resources: said.records.len() as u64,
            digests_root: digests_root(said.records.iter().map(Vec::as_slice)).to_vec(),
            time_ms: self.chain.tip.time_ms,
            late: false,
            height: self.chain.tip.height,
        };
        (event, reasons)
    }

    /// Records an access as it was decided, at the sequences of now.
    fn record(&mut self, event: &AccessEvent, reasons: OpenedReasons, records: Vec<Vec<u8>>) {
        let access_seq = self.file.accesses.len() as u64 + 1;
        let (salt, event) = (sha256(&[0x61, access_seq as u8]), event.encode_to_vec());
        let commitment = commit(Context::AccessCommitment, CHAIN, &salt, &event);
        self.write(op(record_access("cedar", self.seqs.0, self.seqs.1, commitment)));
        let digests = records.iter().map(|record| sha256(record).to_vec()).collect();
        for record in records {
            place(&mut self.file.records, record);
        }
        let salt = salt.to_vec();
        self.file.accesses.push(OpenedAccess { access_seq, event, salt, reasons: Some(reasons), digests });
    }

    fn access(&mut self, said: Said) {
        self.access_with(said, |_| {});
    }

    fn access_with(&mut self, said: Said, lie: impl Fn(&mut AccessEvent)) {
        let (mut event, reasons) = self.event(&said);
        lie(&mut event);
        self.record(&event, reasons, said.records);
    }

    fn history(&self, file: &DecisionOpenings) -> Result<SlotHistory, String> {
        history(&self.chain.export(), self.chain.genesis.hash, file)
    }

    fn replay(&self) -> Replay {
        let history = self.history(&self.file).unwrap();
        replay(&history, &Opened::of(&self.file, &history, Records::default()))
    }
}

/// Follows the slot through an export, verifying it.
fn history(export: &[u8], genesis: Hash, file: &DecisionOpenings) -> Result<SlotHistory, String> {
    followed(export, ChainVerifier::new(Level::Full, Some(genesis)), file)
}

fn followed(
    export: &[u8],
    mut verifier: ChainVerifier,
    file: &DecisionOpenings,
) -> Result<SlotHistory, String> {
    let mut history = SlotHistory::of(file);
    let mut rest = &export[8..];
    while !rest.is_empty() {
        let (kind, len) = parse_head(rest[..5].try_into().unwrap()).unwrap();
        verifier.record(kind, &rest[5..5 + len]).map_err(|fault| fault.found)?;
        history.read(kind, &rest[5..5 + len], &verifier)?;
        rest = &rest[5 + len..];
    }
    history.finish(&verifier)?;
    Ok(history)
}

/// Consents in two revisions, a second consent, another patient's wish, two policies, a withdrawal: each access is right.
fn honest() -> Story {
    let mut story = Story::new();
    let c1 = |revision, deny| consent("c1", revision, fhir("c1", PATIENT, "birch", deny));
    let (plain, psychiatric) = (|| observation("bp", None), || observation("phq9", Some("PSY")));
    story.consents(vec![c1(1, None)]);
    story.access(said("birch", &["c1/0"], vec![plain()]));
    story.consents(vec![
        c1(2, Some("PSY")),
        consent("c2", 1, fhir("c2", PATIENT, "dogwood", None)),
        contact(),
    ]);
    story.access(said("birch", &["c1/0"], vec![plain()]));
    story.policy(
        br#"{"id":"cedar-1","version":1,"rules":[{"effect":"PERMIT","purposes":["HQUALIMP"]}]}"#,
        b"",
    );
    let survey = Said {
        purpose: "HQUALIMP",
        ..said("elm", &["default-policy:cedar-1"], vec![plain(), psychiatric()])
    };
    story.access(survey);
    story.policy(GLASS, ICU);
    story.access(broken_glass(vec![plain()]));
    // Decided before the withdrawal, without quorum, and recorded after it.
    let late = broken_glass(vec![plain()]);
    let (mut event, reasons) = story.event(&late);
    (event.late, event.time_ms) = (true, story.chain.tip.time_ms + 200);
    story.withdraw();
    story.record(&event, reasons, late.records);
    // The withdrawal is overridden where the policy says so.
    story.access(broken_glass(vec![plain()]));
    story.consents(vec![consent("c2", 2, fhir("c2", PATIENT, "dogwood", None))]);
    story.access(said("dogwood", &["c2/0"], vec![psychiatric()]));
    story
}

fn verdicts(replay: &Replay) -> Vec<Verdict> {
    replay.accesses.iter().map(|access| access.verdict()).collect()
}

#[test]
fn what_was_decided_rightly_agrees() {
    let replay = honest().replay();
    let found: Vec<_> = replay.accesses.iter().map(|a| (&a.differences, &a.missing)).collect();
    assert_eq!(replay.verdict(), Verdict::Agrees, "{found:?} {:?}", replay.mismatches);
    assert_eq!(replay.accesses.len(), 7);
}

/// One record went out that the patient's consent withholds.
fn wrong() -> Story {
    let mut story = Story::new();
    story.consents(vec![consent("c1", 1, fhir("c1", PATIENT, "birch", Some("PSY")))]);
    story.access(said("birch", &["c1/0"], vec![observation("bp", None), observation("phq9", Some("PSY"))]));
    story
}

/// Two of four went on: an access before, one behind, and one that was wrong. And the plan's hash.
fn recovered() -> (Story, Hash) {
    let mut story = Story::on(governance::four());
    let good = || said("birch", &["c1/0"], vec![observation("bp", None)]);
    story.access(good());
    let plan = recovery::recover(&mut story.chain);
    story.access(good());
    story.consents(vec![consent("c1", 2, fhir("c1", PATIENT, "birch", Some("PSY")))]);
    story.access(said("birch", &["c1/0"], vec![observation("bp", None), observation("phq9", Some("PSY"))]));
    (story, plan)
}

/// The CLI is tested on these files. After a change of format: write what the failed test left in place of them.
#[test]
fn the_kept_files_are_those_that_are_made_now() {
    let (good, wrong, (recovered, plan)) = (honest(), wrong(), recovered());
    let file = |story: &Story| [DECISIONS_MAGIC.as_slice(), &story.file.encode_to_vec()].concat();
    let genesis = format!("{}\n", hex::encode(good.chain.genesis.hash)).into_bytes();
    // Of members with addresses, so its genesis is another.
    let hashes = [recovered.chain.genesis.hash, plan].map(|hash| format!("{}\n", hex::encode(hash)));
    let kept: [(&str, &[u8], Vec<u8>); 8] = [
        ("good.export", include_bytes!("../fixtures/decisions/good.export"), good.chain.export()),
        ("good.decisions", include_bytes!("../fixtures/decisions/good.decisions"), file(&good)),
        ("wrong.export", include_bytes!("../fixtures/decisions/wrong.export"), wrong.chain.export()),
        ("wrong.decisions", include_bytes!("../fixtures/decisions/wrong.decisions"), file(&wrong)),
        (
            "recovered.export",
            include_bytes!("../fixtures/decisions/recovered.export"),
            recovered.chain.export(),
        ),
        (
            "recovered.decisions",
            include_bytes!("../fixtures/decisions/recovered.decisions"),
            file(&recovered),
        ),
        (
            "recovered.txt",
            include_bytes!("../fixtures/decisions/recovered.txt"),
            hashes.concat().into_bytes(),
        ),
        ("genesis-hash.txt", include_bytes!("../fixtures/decisions/genesis-hash.txt"), genesis),
    ];
    let differ: Vec<_> = kept.iter().filter(|(_, kept, made)| *kept != made.as_slice()).collect();
    for (name, _, made) in &differ {
        std::fs::write(std::env::temp_dir().join(name), made).unwrap();
    }
    let names: Vec<_> = differ.iter().map(|(name, ..)| name).collect();
    assert!(differ.is_empty(), "{names:?} differ: {} has them", std::env::temp_dir().display());
}

/// A custodian that lies, and what the lie is called.
#[test]
fn each_wrong_decision_is_found_and_named() {
    type Lie = fn(&mut Story);
    fn tell(story: &mut Story, said: Said, lie: impl Fn(&mut AccessEvent)) {
        story.access_with(said, lie);
    }
    let good = || said("birch", &["c1/0"], vec![observation("bp", None)]);
    let cases: [(&str, &[&str], Lie); 18] = [
        ("under no consent", &["OUTCOME", "NOT_PERMITTED", "REASONS"], |story| {
            story.access(said("elm", &["c1/0"], vec![observation("bp", None)]));
        }),
        ("one record too many", &["NOT_PERMITTED"], |story| {
            let records = vec![observation("bp", None), observation("phq9", Some("PSY"))];
            story.access(said("birch", &["c1/0"], records));
        }),
        ("another purpose", &["OUTCOME", "NOT_PERMITTED", "REASONS"], |story| {
            let said = said("birch", &["c1/0"], vec![observation("bp", None)]);
            story.access(Said { purpose: "HMARKT", ..said });
        }),
        ("a wrong rule in the reasons", &["REASONS"], |story| {
            story.access(said("birch", &["c1/1"], vec![observation("bp", None)]));
        }),
        ("no rule in the reasons", &["REASONS"], |story| {
            story.access(said("birch", &[], vec![observation("bp", None)]));
        }),
        ("an override that was none", &["OUTCOME"], |story| {
            tell(story, said("birch", &["c1/0"], vec![observation("bp", None)]), |event| {
                event.outcome = "PERMIT_OVERRIDE".into();
            });
        }),
        ("an obligation that no rule has", &["OBLIGATIONS"], |story| {
            tell(story, said("birch", &["c1/0"], vec![observation("bp", None)]), |event| {
                event.obligations = vec!["NORDSCLCD".into()];
            });
        }),
        ("after the withdrawal", &["OUTCOME", "NOT_PERMITTED", "REASONS"], |story| {
            story.withdraw();
            story.access(said("birch", &["c1/0"], vec![observation("bp", None)]));
        }),
        ("under the consents of before", &["SEQUENCES"], |story| {
            story.consents(vec![]);
            tell(story, said("birch", &["c1/0"], vec![observation("bp", None)]), |event| {
                event.consent_seq -= 1;
            });
        }),
        ("at a time that no block had", &["TIME"], |story| {
            tell(story, said("birch", &["c1/0"], vec![observation("bp", None)]), |event| event.time_ms += 1);
        }),
        ("before the consent was there", &["TIME"], |story| {
            tell(story, said("birch", &["c1/0"], vec![observation("bp", None)]), |event| {
                (event.height, event.time_ms) = (0, crate::chain::START_MS);
            });
        }),
        ("after a block of another time", &["TIME"], |story| {
            tell(story, said("birch", &["c1/0"], vec![observation("bp", None)]), |event| event.height -= 1);
        }),
        ("after the block that holds it", &["TIME"], |story| {
            tell(story, said("birch", &["c1/0"], vec![observation("bp", None)]), |event| {
                (event.height, event.time_ms) = (event.height + 1, event.time_ms + 1000);
            });
        }),
        ("late without break-glass", &["NOT_LATE", "NOT_PERMITTED"], |story| {
            tell(story, said("birch", &["c1/0"], vec![observation("bp", None)]), |event| event.late = true);
        }),
        ("a type that nobody asked for", &["NOT_ASKED_FOR"], |story| {
            let record = observation("bp", None);
            let text = String::from_utf8(record).unwrap().replace("\"Observation\"", "\"DiagnosticReport\"");
            story.access(said("birch", &["c1/0"], vec![text.into_bytes()]));
        }),
        ("a record of somebody else", &["OUTCOME", "NOT_PERMITTED", "REASONS", "OTHER_PATIENT"], |story| {
            let text = String::from_utf8(observation("bp", None)).unwrap().replace(PATIENT, "Patient/bob");
            story.access(said("birch", &["c1/0"], vec![text.into_bytes()]));
        }),
        ("a consent of somebody else", &["OTHER_PATIENT"], |story| {
            let bobs = consent("c9", 1, fhir("c9", "Patient/bob", "birch", None));
            let c1 = consent("c1", 2, fhir("c1", PATIENT, "birch", None));
            story.consents(vec![c1, bobs]);
            story.access(said("birch", &["c1/0"], vec![observation("bp", None)]));
        }),
        ("a request that the recipient did not sign", &["REQUEST"], |story| {
            tell(story, said("birch", &["c1/0"], vec![observation("bp", None)]), |event| {
                let mut signed = assent_proto::ledger::v1::Signed::decode(event.request.as_slice()).unwrap();
                signed.signature[0] ^= 1;
                event.request = signed.encode_to_vec();
            });
        }),
    ];
    for (name, reasons, lie) in cases {
        let mut story = Story::new();
        story.consents(vec![consent("c1", 1, fhir("c1", PATIENT, "birch", Some("PSY")))]);
        story.access(good());
        lie(&mut story);
        let replay = story.replay();
        assert_eq!(replay.mismatches, vec![], "{name}");
        assert_eq!(verdicts(&replay), [Verdict::Agrees, Verdict::Differs], "{name}");
        let mut found: Vec<_> = replay.accesses[1].differences.iter().map(|d| d.reason).collect();
        let mut expected = reasons.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{name}: {:?}", replay.accesses[1].differences);
    }
    let difference = &wrong().replay().accesses[0].differences[0];
    assert_eq!(
        (difference.what.as_str(), difference.expected.as_str()),
        ("Observation/phq9", "DENY by c1/1")
    );
}

/// Why the last access differs; nothing when all agree.
fn reasons(story: &Story) -> Vec<&'static str> {
    let replay = story.replay();
    assert_eq!(replay.mismatches, vec![]);
    let (last, others) = replay.accesses.split_last().unwrap();
    assert!(others.iter().all(|access| access.verdict() == Verdict::Agrees));
    assert_eq!(last.missing, Vec::<String>::new());
    last.differences.iter().map(|d| d.reason).collect()
}

/// Birch's entry key is another after these two blocks.
fn rotate(story: &mut Story) {
    let (old, new) = (story.chain.present_entry_key("birch"), key(7, "entry", "birch"));
    story.chain.know(new.clone());
    let rotation = governance::rotate("birch", KeyPurpose::Entry, &old, &new, story.chain.next() + 2);
    story.chain.step(vec![("birch", governance::step(Step::RotateKey(rotation)))]);
    story.chain.commit(vec![]);
    assert_eq!(story.chain.present_entry_key("birch"), new);
}

#[test]
fn a_request_counts_with_the_key_that_its_recipient_had_when_it_was_decided() {
    let good = || said("birch", &["c1/0"], vec![observation("bp", None)]);
    let mut story = Story::on(governance::four());
    let (old, old_reasons) = story.event(&good());
    rotate(&mut story);
    let now = (story.chain.tip.height, story.chain.tip.time_ms);
    let recorded = |mut story: Story, height_and_time: (u64, u64), pause_ms: u64| {
        let event = AccessEvent { height: height_and_time.0, time_ms: height_and_time.1, ..old.clone() };
        if pause_ms > 0 {
            story.chain.pause(pause_ms);
        }
        story.record(&event, old_reasons.clone(), good().records);
        reasons(&story)
    };
    let then = (old.height, old.time_ms);
    assert_eq!(recorded(story.clone(), then, 0), Vec::<&str>::new());
    // Whoever has the old key, and a custodian that takes its word.
    assert_eq!(recorded(story.clone(), now, 0), ["REQUEST"]);
    assert_eq!(recorded(story.clone(), (then.0, now.1), 0), ["TIME"]);
    assert_eq!(recorded(story.clone(), (now.0, then.1), 0), ["REQUEST"]);
    assert_eq!(recorded(story.clone(), then, MAX_KEY_AGE_MS - 1000), Vec::<&str>::new());
    assert_eq!(recorded(story.clone(), then, MAX_KEY_AGE_MS), ["REQUEST"]);
    story.access(good());
    assert_eq!(reasons(&story), Vec::<&str>::new());
}

#[test]
fn nobody_decides_late_under_sequences_that_are_over() {
    for (blocks, expected) in [(0, &[][..]), (1, &["TIME"])] {
        let mut story = Story::new();
        story.consents(vec![consent("c1", 1, fhir("c1", PATIENT, "birch", None))]);
        story.policy(GLASS, ICU);
        let late = broken_glass(vec![observation("bp", None)]);
        let (mut event, reasons_of) = story.event(&late);
        story.withdraw();
        (event.late, event.height, event.time_ms) = (true, event.height + blocks, event.time_ms + 1200);
        story.record(&event, reasons_of, late.records);
        assert_eq!(reasons(&story), expected);
    }
}

#[test]
fn decisions_behind_a_recovery_are_made_again() {
    let (story, plan) = recovered();
    let walk = |accepted: Option<Hash>| {
        let verifier = ChainVerifier::new(Level::Full, Some(story.chain.genesis.hash)).accepting(accepted);
        followed(&story.chain.export(), verifier, &story.file)
    };
    assert!(walk(None).unwrap_err().contains("a recovery with plan"), "nobody accepted it");
    let history = walk(Some(plan)).unwrap();
    let replay = replay(&history, &Opened::of(&story.file, &history, Records::default()));
    assert_eq!(verdicts(&replay), [Verdict::Agrees, Verdict::Agrees, Verdict::Differs]);
    assert_eq!(replay.accesses[2].differences[0].reason, "NOT_PERMITTED");
}

#[test]
fn what_is_not_opened_is_not_decided_and_named() {
    type Cut = fn(&mut DecisionOpenings);
    let cases: [(&str, usize, Cut); 5] = [
        ("event", 6, |file| drop(file.accesses.pop())),
        ("consents of sequence 1", 0, |file| {
            file.sets.remove(0);
            // Its consents are nobody's now.
            file.consents.remove(0);
            file.sets.iter_mut().for_each(|set| set.consents.iter_mut().for_each(|place| *place -= 1));
        }),
        ("policy 1", 2, |file| drop(file.policies.remove(0))),
        ("reasons", 1, |file| file.accesses[1].reasons = None),
        ("1 of 1 records as they were released", 3, |file| file.accesses[3].digests.clear()),
    ];
    for (missing, n, cut) in cases {
        let mut story = honest();
        cut(&mut story.file);
        decode_openings(&story.file.encode_to_vec()).expect(missing);
        let replay = story.replay();
        assert_eq!(replay.verdict(), Verdict::Undecided, "{missing}");
        let access = &replay.accesses[n];
        assert_eq!((access.verdict(), &access.missing[..]), (Verdict::Undecided, &[missing.to_owned()][..]));
        assert_eq!(verdicts(&replay).iter().filter(|v| **v == Verdict::Agrees).count(), 6, "{missing}");
    }
}

#[test]
fn records_may_come_from_the_recipients_bundle() {
    let mut story = honest();
    let records = std::mem::take(&mut story.file.records);
    let of =
        |digest: &Vec<u8>| records.iter().find(|record| sha256(record).as_slice() == digest).unwrap().clone();
    let released: Vec<Vec<Vec<u8>>> =
        story.file.accesses.iter().map(|access| access.digests.iter().map(of).collect()).collect();
    let history = story.history(&story.file).unwrap();
    let verdicts_with = |file: &DecisionOpenings, bundles: &Records| {
        verdicts(&replay(&history, &Opened::of(file, &history, bundles.clone())))
    };
    let mut bare = story.file.clone();
    bare.accesses.iter_mut().for_each(|access| access.digests.clear());
    let mut bundles = Records::default();
    for (n, bundle) in released.iter().enumerate() {
        // Without digests a bundle counts as a whole, with them each record does.
        let whole = released[..n].contains(bundle);
        let each = bundle.iter().all(|record| released[..n].iter().flatten().any(|known| known == record));
        assert_eq!(verdicts_with(&bare, &bundles)[n] == Verdict::Agrees, whole, "access {}", n + 1);
        assert_eq!(verdicts_with(&story.file, &bundles)[n] == Verdict::Agrees, each, "access {}", n + 1);
        bundles.add_bundle(bundle);
    }
    for file in [&bare, &story.file] {
        assert_eq!(verdicts_with(file, &bundles), [Verdict::Agrees; 7]);
    }
}

#[test]
fn a_record_that_is_opened_is_judged_though_others_are_not() {
    for (kept, verdict) in [(0, Verdict::Undecided), (1, Verdict::Differs)] {
        let mut story = wrong();
        story.file.records = vec![story.file.records.remove(kept)];
        let replay = story.replay();
        let access = &replay.accesses[0];
        assert_eq!(
            (access.verdict(), &access.missing[..]),
            (verdict, &["1 of 2 records as they were released".to_owned()][..])
        );
        assert_eq!(
            access.differences.iter().map(|d| d.reason).collect::<Vec<_>>(),
            vec!["NOT_PERMITTED"; kept]
        );
    }
}

#[test]
fn no_flip_of_an_opening_agrees() {
    let story = honest();
    let good = story.history(&story.file).unwrap();
    let bytes = story.file.encode_to_vec();
    let agrees = |history: &SlotHistory, file: &DecisionOpenings| {
        replay(history, &Opened::of(file, history, Records::default())).verdict() == Verdict::Agrees
    };
    assert!(agrees(&good, &decode_openings(&bytes).unwrap()));
    each_flip(&bytes, one_bit, |at, bytes| {
        let Ok(file) = decode_openings(bytes) else { return };
        let of =
            |file: &DecisionOpenings| (file.chain_id.clone(), file.custodian.clone(), file.handle.clone());
        if of(&file) == of(&story.file) {
            assert!(!agrees(&good, &file), "byte {at}");
        } else {
            // Of a slot that is not there, everything is surplus.
            assert!(
                story.history(&file).is_err_and(|why| why.contains("chain"))
                    || !agrees(&story.history(&file).unwrap(), &file),
                "byte {at}"
            );
        }
    });
}

#[test]
fn each_kind_of_opening_that_does_not_match_is_named() {
    type Lie = fn(&mut DecisionOpenings);
    let cases: [(&str, Lie); 9] = [
        ("consents of sequence 2", |file| file.sets[1].salt[0] ^= 1),
        ("consents of sequence 2", |file| file.sets[1].consents.truncate(2)),
        ("consents of sequence 3", |file| file.sets[1].consent_seq = 3),
        ("consents of sequence 1", |file| file.consents[0].salt[0] ^= 1),
        ("policy 2", |file| file.policies[1].salt[0] ^= 1),
        ("event of access 3", |file| file.accesses[2].salt[0] ^= 1),
        ("reasons of access 3", |file| file.accesses[2].reasons.as_mut().unwrap().salt[0] ^= 1),
        ("digests of access 3", |file| file.accesses[2].digests.reverse()),
        ("event of access 8", |file| {
            let access = OpenedAccess { access_seq: 8, ..file.accesses[0].clone() };
            file.accesses.push(access);
        }),
    ];
    for (what, lie) in cases {
        let mut story = honest();
        lie(&mut story.file);
        let replay = story.replay();
        assert_eq!(replay.verdict(), Verdict::Differs, "{what}");
        assert_eq!(replay.mismatches[0].what, what);
    }
}

#[test]
fn a_file_of_a_wrong_form_is_refused() {
    type Lie = fn(&mut DecisionOpenings);
    let cases: [(&str, Lie); 12] = [
        ("chain_id", |file| file.chain_id = "No".into()),
        ("custodian", |file| file.custodian.clear()),
        ("handle", |file| file.handle.truncate(31)),
        ("sets", |file| file.sets.swap(0, 1)),
        ("policies", |file| file.policies[0].policy_seq = 0),
        ("accesses", |file| file.accesses[1].access_seq = 1),
        ("consents", |file| file.consents.push(file.consents[0].clone())),
        ("sets", |file| file.sets[0].consents.push(99)),
        ("sets", |file| file.sets[1].consents.swap(0, 1)),
        ("sets", |file| {
            let first = file.sets[1].consents[0];
            file.sets[1].consents.insert(1, first);
        }),
        ("records", |file| file.records.push(vec![])),
        ("records", |file| file.records.push(file.records[0].clone())),
    ];
    for (field, lie) in cases {
        let mut file = honest().file;
        lie(&mut file);
        let why = decode_openings(&file.encode_to_vec()).unwrap_err().to_string();
        assert!(why.starts_with(&format!("DecisionOpenings.{field}:")), "{field}: {why}");
    }
    let mut file = honest().file;
    file.accesses[0].digests = vec![vec![0; 32]; 1 << 17];
    assert!(decode_openings(&file.encode_to_vec()).unwrap_err().to_string().contains("too many parts"));
    let mut file = honest().file;
    file.accesses[0].digests[0].pop();
    assert!(decode_openings(&file.encode_to_vec()).unwrap_err().to_string().contains("OpenedAccess.digests"));
    let surplus = [honest().file.encode_to_vec(), vec![0x52, 0]].concat();
    assert!(decode_openings(&surplus).is_err());
}

#[test]
fn an_export_of_another_chain_is_none_for_these_openings() {
    let story = honest();
    let file = DecisionOpenings { chain_id: "testnet-other-1".into(), ..story.file.clone() };
    assert!(story.history(&file).unwrap_err().contains("testnet-other-1"));
}
