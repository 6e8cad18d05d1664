//! Small receipts: what they show, how long they are, and that no byte of them can be changed.

use std::collections::{BTreeMap, BTreeSet};

use assent_ledger::block::{apply_block, header_hash};
use assent_ledger::certificate::validator_set_hash;
use assent_ledger::commitment::{slot_commitment, ConsentLeaf};
use assent_ledger::consent::consent_commitment;
use assent_ledger::hash::{sha256, Context, Hash};
use assent_ledger::keys::verify_batch;
use assent_ledger::log::{inclusion_proof, node_hash, tagged_leaf_hash, LEAF_ENTRY, LEAF_HEADER};
use assent_ledger::membership::member;
use assent_ledger::receipt::{request_hash, sign_message};
use assent_ledger::receipts::{
    behind_checkpoint, from_checkpoint, from_genesis, one_consent, prove_member, verify, Claim, Consents,
    ReceiptFault, Start, Trust, Verified, MAX_BYTES,
};
use assent_ledger::recovered::plan_of;
use assent_ledger::recovery::agree;
use assent_ledger::sets::SetRecorder;
use assent_ledger::state::{policy_key, slot, slot_key};
use assent_ledger::tree::{self, MemoryNodes, NodeRead};
use assent_proto::ledger::v1::{
    anchor, consent_opening, receipt, AccessClaim, AllConsents, Anchor, Block, Certificate, ConsentBody,
    ConsentEntry, ConsentOpening, ConsentRevision, Decision, DecisionClaim, Header, InclusionProof, Member,
    MemberProof, PolicyShown, Receipt, SetChange, Slot, SlotClaim, TreePath,
};
use prost::Message;

use crate::chain::{Chain, CHAIN};
use crate::governance as governed;
use crate::records::{
    anchor, behind, claim, leaves_at, op, patient, pinned, pinned_at, request, set_consent, set_policy,
    with_key, within, Access, HANDLE,
};

const SALT: Hash = [7; 32];

fn body(id: &str) -> ConsentBody {
    let fhir = br#"{"resourceType":"Consent"}"#.to_vec();
    ConsentBody {
        custodian: "cedar".into(),
        handle: HANDLE.to_vec(),
        id: id.into(),
        revision: 1,
        state: 1,
        fhir,
        ..Default::default()
    }
}

fn leaves() -> Vec<ConsentLeaf> {
    let leaf =
        |id: &str| ConsentLeaf { id: id.into(), commitment: consent_commitment(CHAIN, &SALT, &body(id)) };
    ["a", "b", "c"].map(leaf).to_vec()
}

/// A chain whose members changed once, with a slot, a policy, and an access of the member that came later as its last block.
pub struct World {
    pub chain: Chain,
    pub access: Access,
}

impl World {
    pub fn new() -> Self {
        let mut chain = governed::four();
        let mut op1 = with_key(set_consent("cedar", 0, 1), &patient());
        op1.commitment = slot_commitment(CHAIN, &SALT, &leaves()).to_vec();
        chain.step(vec![("cedar", op(op1))]);
        let by = ["birch", "cedar", "dogwood"];
        let effective = chain.decide(&by, governed::add_organization(&governed::record("fir")));
        chain.until(effective);
        let access = Access::new(&chain, "fir", 1, 1);
        chain.step(vec![("elm", op(set_policy(0, 5))), ("cedar", access.operation())]);
        assert_eq!(chain.changes().len(), 1);
        Self { chain, access }
    }

    fn header(&self) -> Header {
        Header::decode(self.chain.headers.last().unwrap().as_slice()).unwrap()
    }

    fn anchor(&self) -> Anchor {
        anchor(&self.chain)
    }

    fn checkpoint(&self) -> (Anchor, Trust) {
        let (size, root) = (self.chain.tip.log.size(), self.chain.tip.log.root());
        let header = self.chain.headers.last().unwrap().clone();
        let path = inclusion_proof(&self.chain.store, size - 1, size).unwrap();
        let anchor = from_checkpoint(size, &path, self.chain.tip.voters.clone(), header);
        (anchor, pinned(size, root))
    }

    fn member(&self, id: &str) -> MemberProof {
        self.chain.member(id).unwrap()
    }

    fn prove(&self, key: &Hash, value: Option<&[u8]>) -> Vec<u8> {
        tree::prove(&self.chain.store, self.chain.tip.state_version, key, value).unwrap()
    }

    fn slot(&self) -> Slot {
        slot(&self.chain.store, CHAIN, "cedar", &HANDLE).unwrap().unwrap()
    }

    fn slot_claim(&self, shows: Option<consent_opening::Shows>) -> SlotClaim {
        let slot = self.slot();
        let key = slot_key(CHAIN, "cedar", &HANDLE);
        SlotClaim {
            custodian: "cedar".into(),
            handle: HANDLE.to_vec(),
            state_proof: self.prove(&key, Some(&slot.encode_to_vec())),
            state_key: key.to_vec(),
            slot: Some(slot),
            consents: shows.map(|shows| ConsentOpening { salt: SALT.to_vec(), shows: Some(shows) }),
        }
    }

    fn one(&self) -> consent_opening::Shows {
        let mut one = one_consent(CHAIN, &leaves(), "b").unwrap();
        one.revision = Some(ConsentRevision { salt: SALT.to_vec(), body: Some(body("b")) });
        consent_opening::Shows::One(one)
    }

    fn all_shown(&self) -> consent_opening::Shows {
        let entry = |leaf: ConsentLeaf| ConsentEntry { id: leaf.id, commitment: leaf.commitment.to_vec() };
        let consents = leaves().into_iter().map(entry).collect();
        consent_opening::Shows::All(AllConsents { consents })
    }

    fn absent(&self) -> SlotClaim {
        let key = slot_key(CHAIN, "cedar", &[9; 32]);
        SlotClaim {
            custodian: "cedar".into(),
            handle: vec![9; 32],
            state_proof: self.prove(&key, None),
            state_key: key.to_vec(),
            ..Default::default()
        }
    }

    fn decided(&self) -> (Vec<u8>, Decision) {
        let request = request("fir", 3).encode_to_vec();
        let decision = Decision {
            request_hash: request_hash(CHAIN, &request).to_vec(),
            custodian: "cedar".into(),
            handle: HANDLE.to_vec(),
            outcome: "PERMIT".into(),
            consent_seq: 1,
            policy_seq: 0,
            algorithm: "CDA-1".into(),
            tables: vec![2; 32],
            height: self.header().height,
            time_ms: self.header().time_ms,
            not_after_ms: self.header().time_ms + 30_000,
            obligations: vec!["NORDSCLCD".into()],
        };
        (request, decision)
    }

    fn decision_claim(&self, edit: impl Fn(&mut Decision)) -> DecisionClaim {
        let (request, mut decision) = self.decided();
        edit(&mut decision);
        let key = self.chain.entry_key("cedar");
        let signed = sign_message(Context::Decision, CHAIN, "cedar", &key, decision.encode_to_vec());
        let SlotClaim { slot, state_proof, .. } = self.slot_claim(None);
        // Cedar has no policy of its own.
        let none = self.prove(&policy_key(CHAIN, "cedar"), None);
        DecisionClaim {
            request,
            decision: Some(signed),
            custodian: Some(self.member("cedar")),
            slot,
            state_proof,
            policy: Some(PolicyShown { slot: None, state_proof: none }),
        }
    }

    fn access_claim(&self) -> AccessClaim {
        claim(&self.chain, &self.access)
    }

    fn trust(&self) -> Trust {
        Trust::genesis(self.chain.genesis.hash)
    }

    /// One receipt of each kind and anchor, by name.
    pub fn receipts(&self) -> Vec<(&'static str, Trust, Receipt)> {
        use receipt::Claim::{Access, Decision, Slot};
        let of = |anchor: &Anchor, claim| Receipt { anchor: Some(anchor.clone()), claim: Some(claim) };
        let (genesis, trust) = (self.anchor(), self.trust());
        let (checkpoint, pinned) = self.checkpoint();
        vec![
            ("slot", trust.clone(), of(&genesis, Slot(self.slot_claim(None)))),
            ("slot-one", trust.clone(), of(&genesis, Slot(self.slot_claim(Some(self.one()))))),
            ("slot-all", trust.clone(), of(&genesis, Slot(self.slot_claim(Some(self.all_shown()))))),
            ("slot-absent", trust.clone(), of(&genesis, Slot(self.absent()))),
            ("decision", trust.clone(), of(&genesis, Decision(self.decision_claim(|_| {})))),
            ("access", trust, of(&genesis, Access(self.access_claim()))),
            ("slot-pinned", pinned.clone(), of(&checkpoint, Slot(self.slot_claim(None)))),
            ("decision-pinned", pinned.clone(), of(&checkpoint, Decision(self.decision_claim(|_| {})))),
            ("access-pinned", pinned, of(&checkpoint, Access(self.access_claim()))),
        ]
    }

    /// From the checkpoint of the first block, over the change of members.
    pub fn behind(&self) -> Vec<(&'static str, Trust, Receipt)> {
        use receipt::Claim::{Access, Decision, Slot};
        let chain = &self.chain;
        let anchor = behind(chain, leaves_at(chain, 1), 1, chain.changes());
        let of = |claim| (pinned_at(chain, 1), Receipt { anchor: Some(anchor.clone()), claim: Some(claim) });
        [
            ("slot-behind", of(Slot(self.slot_claim(None)))),
            ("decision-behind", of(Decision(self.decision_claim(|_| {})))),
            ("access-behind", of(Access(self.access_claim()))),
        ]
        .map(|(name, (trust, receipt))| (name, trust, receipt))
        .to_vec()
    }

    fn all(&self) -> Vec<(&'static str, Trust, Receipt)> {
        [self.receipts(), self.behind()].concat()
    }

    fn named(&self, name: &str) -> (Trust, Receipt) {
        let found = self.all().into_iter().find(|(n, ..)| *n == name).unwrap();
        (found.1, found.2)
    }
}

/// What who went through a chain recorded, recoveries too.
pub fn changes(chain: &Chain) -> Vec<SetChange> {
    let names: Vec<&str> = chain.names.iter().map(String::as_str).collect();
    let mut again = Chain::with(chain.seed, &names, chain.genesis.organizations.clone());
    let mut recorder = SetRecorder::default();
    for bytes in &chain.blocks {
        let block = Block::decode(bytes.as_slice()).unwrap();
        if let Some(plan) = plan_of(CHAIN, &block) {
            again.tip = agree(&again.tip, &plan).unwrap();
        }
        let applied = apply_block(&again.tip, &again.store, bytes, &verify_batch).unwrap();
        again.store.take(&applied);
        recorder.block(&applied.tip, &block);
        again.tip = applied.tip;
    }
    recorder.certificate(&chain.certificate);
    recorder.changes().to_vec()
}

fn check(trust: &Trust, receipt: &Receipt) -> Result<Verified, ReceiptFault> {
    verify(trust, &receipt.encode_to_vec())
}

#[test]
fn receipts_show_what_they_say_after_a_change_of_members() {
    let world = World::new();
    for (name, trust, receipt) in world.all() {
        let found = check(&trust, &receipt).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found.at.header, world.header(), "{name}");
        match (&trust, &found.at.start) {
            (Trust::Genesis { hash, .. }, start) => {
                assert_eq!(
                    *start,
                    Start::Genesis { hash: *hash, set_changes: 1, recoveries: Vec::new() },
                    "{name}"
                )
            }
            (Trust::Checkpoint { size, .. }, start) if name.ends_with("-behind") => {
                let (within, set_changes, recoveries) = (false, 1, Vec::new());
                assert_eq!(*start, Start::Checkpoint { size: *size, within, set_changes, recoveries });
            }
            (Trust::Checkpoint { size, .. }, start) => assert_eq!(*start, within(*size)),
        }
        match (name, found.claim) {
            ("slot" | "slot-pinned" | "slot-behind", Claim::Slot(shown)) => {
                assert_eq!((shown.slot, shown.consents), (Some(world.slot()), None))
            }
            ("slot-one", Claim::Slot(shown)) => {
                let leaf = leaves()[1].clone();
                let one = Consents::One { leaf, count: 3, body: Some(Box::new(body("b"))) };
                assert_eq!(shown.consents, Some(one));
            }
            ("slot-all", Claim::Slot(shown)) => assert_eq!(shown.consents, Some(Consents::All(leaves()))),
            ("slot-absent", Claim::Slot(shown)) => {
                assert_eq!((shown.handle, shown.slot, shown.consents), ([9; 32], None, None))
            }
            ("decision" | "decision-pinned" | "decision-behind", Claim::Decision(shown)) => {
                assert_eq!((shown.decision, shown.policy_shown), (world.decided().1, true));
                assert_eq!(shown.request, request("fir", 3));
            }
            ("access" | "access-pinned" | "access-behind", Claim::Access(shown)) => {
                assert_eq!(shown.event, world.access.event);
                assert_eq!((shown.height, shown.access_seq), (world.header().height, 0));
            }
            (name, claim) => panic!("{name}: {claim:?}"),
        }
    }
}

#[test]
fn every_changed_missing_or_surplus_byte_is_refused() {
    let world = World::new();
    for (name, trust, receipt) in world.all() {
        let good = receipt.encode_to_vec();
        let refused = |bytes: &[u8], what: &str, at: usize| {
            assert!(verify(&trust, bytes).is_err(), "{name}: {what} {at} of {}", good.len());
        };
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at * 5 % 8);
            refused(&bad, "flip", at);
            let mut bad = good.clone();
            bad.insert(at, good[at]);
            refused(&bad, "insert", at);
            let mut bad = good.clone();
            bad.remove(at);
            refused(&bad, "removal", at);
            refused(&good[..at], "cut", at);
        }
        refused(&[good.as_slice(), &[0]].concat(), "surplus", 0);
        refused(&good.repeat(2), "repeat", 0);
        refused(&vec![0; MAX_BYTES + 1], "length", 0);
    }
}

#[test]
fn another_anchor_neither_holds_nor_fails() {
    let world = World::new();
    let other = Trust::genesis(Chain::of(2, &crate::chain::FOUR).genesis.hash);
    for (name, trust, receipt) in world.all() {
        let starts_at_genesis = matches!(trust, Trust::Genesis { .. });
        let (_, pinned) = world.checkpoint();
        let wrong_kind = if starts_at_genesis { pinned.clone() } else { world.trust() };
        assert!(matches!(check(&wrong_kind, &receipt), Err(ReceiptFault::OtherAnchor(_))), "{name}");
        if starts_at_genesis {
            assert!(matches!(check(&other, &receipt), Err(ReceiptFault::Proof(_))), "{name}");
            continue;
        }
        let Trust::Checkpoint { origin, size, root, accepted } = trust else { unreachable!() };
        let at = |origin: &str, size, root| Trust::Checkpoint {
            origin: origin.into(),
            size,
            root,
            accepted: accepted.clone(),
        };
        let later = at(&origin, size + 1, root);
        assert!(matches!(check(&later, &receipt), Err(ReceiptFault::OtherAnchor(_))), "{name}");
        let forked = at(&origin, size, [1; 32]);
        assert!(matches!(check(&forked, &receipt), Err(ReceiptFault::Rule(_))), "{name}");
        let elsewhere = at("assent/other", size, root);
        assert!(matches!(check(&elsewhere, &receipt), Err(ReceiptFault::Proof(_))), "{name}");
    }
}

fn says(result: Result<Verified, ReceiptFault>, what: &str) {
    let error = result.expect_err(what).to_string();
    assert!(error.contains(what), "{what}: {error}");
}

/// What only a liar with keys could make: each is well formed, and refused for what it says.
#[test]
fn true_parts_do_not_make_a_false_whole() {
    let world = World::new();
    let trust = world.trust();
    let (_, slot_one) = world.named("slot-one");
    let with = |claim| Receipt { claim: Some(claim), ..slot_one.clone() };
    let decided = |edit: &dyn Fn(&mut Decision)| {
        check(&trust, &with(receipt::Claim::Decision(world.decision_claim(edit))))
    };
    assert!(decided(&|_| {}).is_ok());
    says(decided(&|d| d.outcome = "DENY".into()), "no permit");
    says(decided(&|d| d.consent_seq = 2), "another consent sequence");
    says(decided(&|d| d.policy_seq = 1), "policy slot has another sequence");
    says(decided(&|d| d.height += 1), "older than the decision");
    says(decided(&|d| d.time_ms += 1), "older than the decision");
    says(decided(&|d| d.custodian = "elm".into()), "custodian of the decision");
    says(decided(&|d| d.handle = vec![9; 32]), "not in the state");
    says(decided(&|d| d.request_hash = vec![1; 32]), "request hash");
    // Signed by somebody else, or with another member's key shown.
    let signed_by = |name: &str, shown: &str| {
        let mut claim = world.decision_claim(|_| {});
        let key = world.chain.entry_key(name);
        let body = world.decided().1.encode_to_vec();
        claim.decision = Some(sign_message(Context::Decision, CHAIN, "cedar", &key, body));
        claim.custodian = Some(world.member(shown));
        check(&trust, &with(receipt::Claim::Decision(claim)))
    };
    assert!(signed_by("cedar", "cedar").is_ok());
    says(signed_by("elm", "cedar"), "signature over the decision");
    says(signed_by("elm", "elm"), "member whose keys are shown");
    // A member that isn't: the key is the liar's.
    let mut claim = world.access_claim();
    let mut liar = world.member("fir");
    liar.member.as_mut().unwrap().entry_key = vec![3; 32];
    claim.recipient = Some(liar);
    says(check(&trust, &with(receipt::Claim::Access(claim.clone()))), "root of the members");
    claim.recipient = None;
    says(check(&trust, &with(receipt::Claim::Access(claim))), "proof of a member's keys is missing");
    // Absent, though it is there; there, though it is absent; opened, though absent.
    let present = world.slot_claim(None);
    says(
        check(&trust, &with(receipt::Claim::Slot(SlotClaim { slot: None, ..present.clone() }))),
        "not in the state",
    );
    let absent = SlotClaim { slot: present.slot.clone(), ..world.absent() };
    says(check(&trust, &with(receipt::Claim::Slot(absent))), "not in the state");
    let opened = SlotClaim { consents: world.slot_claim(Some(world.all_shown())).consents, ..world.absent() };
    says(check(&trust, &with(receipt::Claim::Slot(opened))), "isn't there");
    // A consent left out, another order, another's revision.
    let all = |edit: &dyn Fn(&mut Vec<ConsentEntry>)| {
        let Some(consent_opening::Shows::All(mut all)) = Some(world.all_shown()) else { unreachable!() };
        edit(&mut all.consents);
        check(&trust, &with(receipt::Claim::Slot(world.slot_claim(Some(consent_opening::Shows::All(all))))))
    };
    says(all(&|list| drop(list.pop())), "commitment of the slot");
    says(all(&|list| list.swap(0, 1)), "ascending");
    let one = |edit: &dyn Fn(&mut ConsentBody)| {
        let Some(consent_opening::Shows::One(mut one)) = Some(world.one()) else { unreachable!() };
        edit(one.revision.as_mut().unwrap().body.as_mut().unwrap());
        check(&trust, &with(receipt::Claim::Slot(world.slot_claim(Some(consent_opening::Shows::One(one))))))
    };
    says(one(&|body| body.revision = 2), "commitment of the consent");
}

#[test]
fn the_way_to_the_header_has_no_gap_and_nothing_surplus() {
    let world = World::new();
    let (trust, good) = world.named("access");
    let edited = |edit: &dyn Fn(&mut assent_proto::ledger::v1::GenesisStart)| {
        let mut receipt = good.clone();
        let Some(anchor::Start::Genesis(start)) = &mut receipt.anchor.as_mut().unwrap().start else {
            unreachable!()
        };
        edit(start);
        check(&trust, &receipt)
    };
    assert!(edited(&|_| {}).is_ok());
    says(edited(&|s| s.changes.clear()), "validator set of the header");
    says(edited(&|s| s.changes.push(s.changes[0].clone())), "expected");
    says(edited(&|s| s.certificate = None), "certificate is missing");
    says(edited(&|s| drop(s.certificate.as_mut().unwrap().signatures.pop())), "2 of 4");
    let all = Certificate::decode(world.chain.certificate.as_slice()).unwrap();
    assert_eq!(all.signatures.len(), 4);
    says(edited(&|s| s.certificate = Some(all.clone())), "more signatures than are needed");
    let whole = world.chain.changes()[0].certificate.clone();
    says(edited(&|s| s.changes[0].certificate = whole.clone()), "more signatures than are needed");
    let nowhere = |anchor| check(&trust, &Receipt { anchor, ..good.clone() });
    says(nowhere(None), "no anchor or no claim");
    says(nowhere(Some(Anchor { start: None, ..good.anchor.clone().unwrap() })), "starts nowhere");
    says(check(&trust, &Receipt { claim: None, ..good.clone() }), "no anchor or no claim");
    // A path that names a side behind its end, or too many steps.
    let stepped = |edit: &dyn Fn(&mut TreePath)| {
        let mut claim = world.access_claim();
        edit(claim.recipient.as_mut().unwrap().path.as_mut().unwrap());
        check(&trust, &Receipt { claim: Some(receipt::Claim::Access(claim)), ..good.clone() })
    };
    says(stepped(&|p| p.left |= 1 << p.siblings.len()), "TreePath.left");
    says(stepped(&|p| p.siblings = vec![vec![0; 32]; 65]), "TreePath.left");
    says(stepped(&|p| p.siblings[0].push(0)), "33 bytes");
}

/// Every field of every message of receipt.proto, changed by name.
#[test]
fn each_field_is_covered() {
    let world = World::new();
    let mut seen = BTreeSet::new();
    macro_rules! fields {
        ($receipt:literal: $($name:literal => |$r:ident| $edit:expr;)*) => {$({
            let (trust, good) = world.named($receipt);
            let mut bad = good.clone();
            { let $r = &mut bad; $edit; }
            assert_ne!(bad, good, "{} of {} did not change", $name, $receipt);
            assert!(check(&trust, &bad).is_err(), "{} of {}", $name, $receipt);
            seen.insert($name);
        })*};
    }
    macro_rules! arm {
        ($value:expr, $pattern:pat => $out:expr) => {
            match $value {
                $pattern => $out,
                _ => panic!("another kind of receipt"),
            }
        };
    }
    fn slot_of(r: &mut Receipt) -> &mut SlotClaim {
        arm!(r.claim.as_mut(), Some(receipt::Claim::Slot(claim)) => claim)
    }
    fn decision_of(r: &mut Receipt) -> &mut DecisionClaim {
        arm!(r.claim.as_mut(), Some(receipt::Claim::Decision(claim)) => claim)
    }
    fn access_of(r: &mut Receipt) -> &mut AccessClaim {
        arm!(r.claim.as_mut(), Some(receipt::Claim::Access(claim)) => claim)
    }
    fn anchor_of(r: &mut Receipt) -> &mut Anchor {
        r.anchor.as_mut().unwrap()
    }
    fn genesis_of(r: &mut Receipt) -> &mut assent_proto::ledger::v1::GenesisStart {
        arm!(anchor_of(r).start.as_mut(), Some(anchor::Start::Genesis(start)) => start)
    }
    fn pin_of(r: &mut Receipt) -> &mut assent_proto::ledger::v1::CheckpointStart {
        arm!(anchor_of(r).start.as_mut(), Some(anchor::Start::Checkpoint(start)) => start)
    }
    fn opening_of(r: &mut Receipt) -> &mut ConsentOpening {
        slot_of(r).consents.as_mut().unwrap()
    }
    fn one_of(r: &mut Receipt) -> &mut assent_proto::ledger::v1::OneConsent {
        arm!(opening_of(r).shows.as_mut(), Some(consent_opening::Shows::One(one)) => one)
    }
    fn all_of(r: &mut Receipt) -> &mut AllConsents {
        arm!(opening_of(r).shows.as_mut(), Some(consent_opening::Shows::All(all)) => all)
    }
    fn revision_of(r: &mut Receipt) -> &mut ConsentRevision {
        one_of(r).revision.as_mut().unwrap()
    }
    fn recipient_of(r: &mut Receipt) -> &mut MemberProof {
        access_of(r).recipient.as_mut().unwrap()
    }
    fn path_of(r: &mut Receipt) -> &mut TreePath {
        recipient_of(r).path.as_mut().unwrap()
    }
    let slot = world.slot_claim(None);
    fields! { "access":
        "Receipt.anchor" => |r| r.anchor = None;
        "Receipt.access" => |r| r.claim = None;
        "Anchor.header" => |r| anchor_of(r).header[9] ^= 1;
        "Anchor.genesis" => |r| anchor_of(r).start = None;
        "GenesisStart.genesis" => |r| *genesis_of(r).genesis.last_mut().unwrap() ^= 1;
        "GenesisStart.changes" => |r| genesis_of(r).changes.clear();
        "GenesisStart.certificate" => |r| genesis_of(r).certificate.as_mut().unwrap().round += 1;
        "AccessClaim.event" => |r| access_of(r).event[9] ^= 1;
        "AccessClaim.salt" => |r| access_of(r).salt[9] ^= 1;
        "AccessClaim.entry" => |r| access_of(r).entry[9] ^= 1;
        "AccessClaim.operation" => |r| access_of(r).operation += 1;
        "AccessClaim.inclusion" => |r| access_of(r).inclusion.as_mut().unwrap().index -= 1;
        "AccessClaim.recipient" => |r| access_of(r).recipient = None;
        "MemberProof.member" => |r| recipient_of(r).member.as_mut().unwrap().checkpoint_key[0] ^= 1;
        "MemberProof.path" => |r| recipient_of(r).path = None;
        "TreePath.siblings" => |r| path_of(r).siblings[0][0] ^= 1;
        "TreePath.left" => |r| path_of(r).left ^= 1;
    }
    fields! { "decision":
        "Receipt.decision" => |r| r.claim = Some(receipt::Claim::Slot(SlotClaim { consents: Some(ConsentOpening::default()), ..slot.clone() }));
        "DecisionClaim.request" => |r| decision_of(r).request[9] ^= 1;
        "DecisionClaim.decision" => |r| decision_of(r).decision.as_mut().unwrap().signature[9] ^= 1;
        "DecisionClaim.custodian" => |r| decision_of(r).custodian = None;
        "DecisionClaim.slot" => |r| decision_of(r).slot.as_mut().unwrap().access_seq += 1;
        "DecisionClaim.state_proof" => |r| decision_of(r).state_proof[9] ^= 1;
        "DecisionClaim.policy" => |r| decision_of(r).policy = Some(PolicyShown::default());
        "PolicyShown.slot" => |r| decision_of(r).policy.as_mut().unwrap().slot = Some(Default::default());
        "PolicyShown.state_proof" => |r| decision_of(r).policy.as_mut().unwrap().state_proof[9] ^= 1;
    }
    fields! { "slot-one":
        "Receipt.slot" => |r| r.claim = Some(receipt::Claim::Access(AccessClaim::default()));
        "SlotClaim.custodian" => |r| slot_of(r).custodian = "elm".into();
        "SlotClaim.handle" => |r| slot_of(r).handle[0] ^= 1;
        "SlotClaim.slot" => |r| slot_of(r).slot.as_mut().unwrap().frozen = true;
        "SlotClaim.state_key" => |r| slot_of(r).state_key[9] ^= 1;
        "SlotClaim.state_proof" => |r| slot_of(r).state_proof[9] ^= 1;
        "SlotClaim.consents" => |r| slot_of(r).consents = Some(ConsentOpening::default());
        "ConsentOpening.salt" => |r| opening_of(r).salt[0] ^= 1;
        "ConsentOpening.one" => |r| opening_of(r).shows = None;
        "OneConsent.consent" => |r| one_of(r).consent = None;
        "OneConsent.count" => |r| one_of(r).count += 1;
        "OneConsent.path" => |r| one_of(r).path.as_mut().unwrap().left ^= 1;
        "OneConsent.revision" => |r| one_of(r).revision = Some(ConsentRevision::default());
        "ConsentRevision.salt" => |r| revision_of(r).salt[0] ^= 1;
        "ConsentRevision.body" => |r| revision_of(r).body.as_mut().unwrap().revision += 1;
        "ConsentEntry.id" => |r| one_of(r).consent.as_mut().unwrap().id = "d".into();
        "ConsentEntry.commitment" => |r| one_of(r).consent.as_mut().unwrap().commitment[0] ^= 1;
    }
    fields! { "slot-all":
        "ConsentOpening.all" => |r| all_of(r).consents[1].commitment[0] ^= 1;
        "AllConsents.consents" => |r| drop(all_of(r).consents.pop());
    }
    fields! { "access-pinned":
        "Anchor.checkpoint" => |r| anchor_of(r).start = None;
        "CheckpointStart.size" => |r| pin_of(r).size += 1;
        "CheckpointStart.path" => |r| pin_of(r).path[0][0] ^= 1;
        "CheckpointStart.validators" => |r| pin_of(r).validators.as_mut().unwrap().validators[0].power += 1;
    }
    fields! { "access-behind":
        "CheckpointStart.from" => |r| pin_of(r).from.clear();
        "CheckpointStart.changes" => |r| pin_of(r).changes.clear();
        "CheckpointStart.certificate" => |r| pin_of(r).certificate = None;
    }
    // Only a history has these: `pinned.rs` changes them.
    seen.extend(["InCheckpoint.path", "InCheckpoint.validators"]);
    let mut named = BTreeSet::new();
    let mut message = "";
    for line in include_str!("../../../proto/proto/assent/ledger/v1/receipt.proto").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["message", name, ..] => message = name,
            ["//", ..] | ["syntax", ..] => {}
            [.., field, "=", _] => drop(named.insert(format!("{message}.{field}"))),
            _ => {}
        }
    }
    assert_eq!(seen, named.iter().map(String::as_str).collect());
}

/// Sizes at four validators, a log of 2^20 leaves and a state of 100,000 keys.
#[test]
fn a_receipt_has_at_most_four_kilobytes() {
    let world = World::new();
    let chain = &world.chain;
    let claim = world.slot_claim(None);
    let (slot, key) = (claim.slot.clone().unwrap(), slot_key(CHAIN, "cedar", &HANDLE));
    let filler = (0..100_000u64).map(|n| (sha256(&n.to_be_bytes()), n.to_be_bytes().to_vec()));
    let mut state: BTreeMap<Hash, Vec<u8>> = filler.collect();
    state.insert(key, slot.encode_to_vec());
    let update = tree::update(&MemoryNodes::default(), 0, &state).unwrap();
    let (state_root, mut nodes) = (update.root, MemoryNodes::default());
    nodes.apply(update);
    fn prove(nodes: &impl NodeRead, key: &Hash, value: Option<&[u8]>) -> Vec<u8> {
        tree::prove(nodes, 0, key, value).unwrap()
    }
    // Entry 0 in a log of 2^20: every sibling is a right one.
    let access = Access::new(chain, "dogwood", 1, 1);
    let entry = chain.signed(&chain.body("cedar", 1, vec![access.operation()])).bytes;
    let path: Vec<Hash> = (0..20u8).map(|n| sha256(&[n])).collect();
    let log_root =
        path.iter().fold(tagged_leaf_hash(LEAF_ENTRY, &entry), |hash, right| node_hash(&hash, right));
    let members: Vec<Member> = chain.genesis.organizations.iter().map(member).collect();
    let header = Header {
        height: 250_000,
        log_size: 1 << 20,
        log_root: log_root.to_vec(),
        state_root: state_root.to_vec(),
        validator_set_hash: validator_set_hash(CHAIN, &chain.genesis.validators).to_vec(),
        next_validator_set_hash: validator_set_hash(CHAIN, &chain.genesis.validators).to_vec(),
        ..world.header()
    };
    let header = header.encode_to_vec();
    let certificate = chain.certify(250_000, &header_hash(CHAIN, &header), &crate::chain::FOUR);
    // Leaf 0 of a checkpoint as large.
    let before = Header { height: 1, log_size: 0, ..Header::decode(header.as_slice()).unwrap() };
    let before = before.encode_to_vec();
    let root =
        path.iter().fold(tagged_leaf_hash(LEAF_HEADER, &before), |hash, right| node_hash(&hash, right));
    let in_log = from_checkpoint(1 << 20, &path, chain.genesis.validators.clone(), before);
    let behind = behind_checkpoint(in_log, &[], header.clone(), &certificate).unwrap();
    let anchor = from_genesis(&chain.genesis, &[], header, &certificate).unwrap();
    let proof = prove(&nodes, &key, Some(&slot.encode_to_vec()));
    let one = world.slot_claim(Some(world.one())).consents;
    let absent = prove(&nodes, &slot_key(CHAIN, "cedar", &[9; 32]), None);
    let decision = DecisionClaim {
        custodian: prove_member(&members, "cedar"),
        state_proof: proof.clone(),
        policy: None,
        ..world.decision_claim(|_| {})
    };
    let claims = [
        ("slot", receipt::Claim::Slot(SlotClaim { state_proof: proof, consents: one, ..claim })),
        ("absent", receipt::Claim::Slot(SlotClaim { state_proof: absent, ..world.absent() })),
        ("decision", receipt::Claim::Decision(decision)),
        (
            "access",
            receipt::Claim::Access(AccessClaim {
                event: access.event.encode_to_vec(),
                salt: access.salt.to_vec(),
                entry: entry.to_vec(),
                operation: 0,
                inclusion: Some(InclusionProof {
                    index: 0,
                    size: 1 << 20,
                    path: path.iter().map(|h| h.to_vec()).collect(),
                }),
                recipient: prove_member(&members, "dogwood"),
            }),
        ),
    ];
    let ways = [(anchor, world.trust()), (behind, pinned(1 << 20, root))];
    for ((name, claim), (anchor, trust)) in
        claims.iter().flat_map(|claim| ways.iter().map(move |way| (claim, way)))
    {
        let receipt = Receipt { anchor: Some(anchor.clone()), claim: Some(claim.clone()) };
        let size = receipt.encode_to_vec().len();
        assert!(size <= 4096 - 8, "{name}: {size} bytes");
        check(trust, &receipt).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}
