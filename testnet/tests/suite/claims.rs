//! Each claim holds for a good observation and fails for every altered one.

use std::collections::BTreeSet;

use assent_testnet::demo::claim::Claim;
use assent_testnet::demo::claims;
use assent_testnet::demo::observed::*;

/// What to alter, and how.
type Alterations<'a, O> = &'a [(&'a str, fn(&mut O))];

fn judged<O: Clone>(claim: fn(&O) -> Claim, good: &O, alterations: Alterations<O>) {
    let holds = claim(good);
    assert!(holds.ok && holds.faults.is_empty() && holds.checked > 0, "{}: {:?}", holds.id, holds.faults);
    assert!(claims::IDS.contains(&holds.id));
    for (what, alter) in alterations {
        let mut altered = good.clone();
        alter(&mut altered);
        let fails = claim(&altered);
        assert!(!fails.ok && !fails.faults.is_empty(), "{} still holds with: {what}", fails.id);
    }
}

fn texts(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn organizations() -> BTreeSet<String> {
    texts(&["cedar", "birch", "dogwood", "elm"])
}

#[test]
fn load() {
    let counts = Counts { patients: 32, resources: 4_750, types: 18, sha256: "aa".into() };
    let good = LoadObserved {
        listed: counts.clone(),
        found: counts,
        compressed_bytes: 229_431,
        uncoded: 0,
        mislabelled: 0,
        psy: 442,
        sud: 280,
        handles: 32,
        stored_resources: 4_750,
        stored_patients: 32,
    };
    judged(
        claims::load,
        &good,
        &[
            ("fewer records than listed", |o| o.found.resources -= 1),
            ("other bytes than listed", |o| o.found.sha256 = "ab".into()),
            ("too few patients", |o| {
                (o.listed.patients, o.found.patients, o.handles, o.stored_patients) = (29, 29, 29, 29);
            }),
            ("too few resources", |o| {
                (o.listed.resources, o.found.resources, o.stored_resources) = (2_999, 2_999, 2_999);
            }),
            ("too few types", |o| (o.listed.types, o.found.types) = (9, 9)),
            ("too large", |o| o.compressed_bytes = 10_000_001),
            ("a resource without a code", |o| o.uncoded = 1),
            ("a resource with R and no sensitivity", |o| o.mislabelled = 1),
            ("no PSY", |o| o.psy = 0),
            ("no SUD", |o| o.sud = 0),
            ("two patients with one handle", |o| o.handles -= 1),
            ("a resource not stored", |o| o.stored_resources -= 1),
            ("a patient not stored", |o| o.stored_patients -= 1),
        ],
    );
}

#[test]
fn consent() {
    let nodes = organizations().into_iter().map(|organization| NodeAtHeight {
        organization,
        height: 40,
        header_hash: "h1".into(),
        state_root: "s1".into(),
        holds_consent: true,
        certified: true,
    });
    let good = ConsentObserved {
        consent_seq: 2,
        consent_seq_before: 1,
        rules: 2,
        state_root_before: "s0".into(),
        organizations: organizations(),
        nodes: nodes.collect(),
    };
    judged(
        claims::consent,
        &good,
        &[
            ("the sequence did not move", |o| o.consent_seq = 1),
            ("the sequence before was another", |o| o.consent_seq_before = 0),
            ("the exception was not read", |o| o.rules = 1),
            ("the state did not change", |o| o.state_root_before = "s1".into()),
            ("three organizations", |o| {
                o.organizations.remove("elm");
                o.nodes.retain(|node| node.organization != "elm");
            }),
            ("a node was not asked", |o| drop(o.nodes.pop())),
            ("a node asked twice, another never", |o| o.nodes[0].organization = "elm".into()),
            ("another height", |o| o.nodes[2].height = 41),
            ("height 0", |o| o.nodes.iter_mut().for_each(|node| node.height = 0)),
            ("another header", |o| o.nodes[3].header_hash = "h2".into()),
            ("another state root", |o| o.nodes[1].state_root = "s2".into()),
            ("a block without the consent", |o| o.nodes[2].holds_consent = false),
            ("a certificate that does not hold", |o| o.nodes[0].certified = false),
        ],
    );
}

#[test]
fn check() {
    let refusal = Refusal {
        code: "PermissionDenied".into(),
        message: "not released".into(),
        reasons: vec![("assent".into(), "NOT_RELEASED".into())],
        details: vec![("ErrorInfo".into(), 24), ("Signed".into(), 140)],
        metadata: vec!["date".into()],
        signed: true,
    };
    let good = CheckObserved {
        treatment: "PERMIT".into(),
        may_be_incomplete: true,
        decision_signed: true,
        marketing: refusal.clone(),
        unknown: refusal,
    };
    judged(
        claims::check,
        &good,
        &[
            ("no permit", |o| o.treatment = "PermissionDenied".into()),
            ("a permit that claims to be complete", |o| o.may_be_incomplete = false),
            ("an unsigned decision", |o| o.decision_signed = false),
            ("another code", |o| o.unknown.code = "NotFound".into()),
            ("another code for both", |o| {
                o.unknown.code = "NotFound".into();
                o.marketing.code = "NotFound".into();
            }),
            ("another text", |o| o.unknown.message = "no such patient".into()),
            ("another reason", |o| o.marketing.reasons[0].1 = "PURPOSE".into()),
            ("another domain", |o| o.marketing.reasons[0].0 = "other".into()),
            ("no reason", |o| {
                o.marketing.reasons.clear();
                o.unknown.reasons.clear();
            }),
            ("another size of a detail", |o| o.unknown.details[1].1 = 139),
            ("one more detail", |o| o.marketing.details.push(("DebugInfo".into(), 3))),
            ("more metadata", |o| o.unknown.metadata.push("x-lookup".into())),
            ("unsigned for the unknown", |o| o.unknown.signed = false),
            ("unsigned for marketing", |o| o.marketing.signed = false),
        ],
    );
}

#[test]
fn release() {
    let good = ReleaseObserved {
        permitted: texts(&["a", "b", "c"]),
        withheld: texts(&["x", "y"]),
        received: vec!["c".into(), "a".into(), "b".into()],
        received_psy: 0,
        hints: 0,
        receipt_resources: 3,
        receipt_holds: true,
        access_height: 50,
        first_message_height: 50,
        committed_elsewhere: true,
        verified: true,
        altered_verified: false,
        narrow_permitted: texts(&["b"]),
        narrow_received: texts(&["b"]),
    };
    judged(
        claims::release,
        &good,
        &[
            ("one is lacking", |o| drop(o.received.pop())),
            ("one too many", |o| o.received.push("z".into())),
            ("a withheld one came", |o| o.received[0] = "x".into()),
            ("one came twice", |o| o.received.push("a".into())),
            ("nothing is permitted", |o| {
                o.permitted.clear();
                o.received.clear();
                o.receipt_resources = 0;
            }),
            ("nothing is withheld", |o| o.withheld.clear()),
            ("a PSY label came", |o| o.received_psy = 1),
            ("a hint", |o| o.hints = 1),
            ("the receipt names more", |o| o.receipt_resources = 5),
            ("a receipt that does not hold", |o| o.receipt_holds = false),
            ("records before the access", |o| o.first_message_height = 49),
            ("no access", |o| o.access_height = 0),
            ("no other node has it", |o| o.committed_elsewhere = false),
            ("VerifyRecords refuses it", |o| o.verified = false),
            ("VerifyRecords accepts anything", |o| o.altered_verified = true),
            ("more conditions than asked for", |o| o.narrow_received.extend(texts(&["a"]))),
            ("no conditions", |o| {
                o.narrow_received.clear();
                o.narrow_permitted.clear();
            }),
        ],
    );
}

#[test]
fn offline_verify() {
    let good =
        OfflineObserved { exit: 0, other_genesis_exit: 3, flips: (0..64).map(|n| (n * 100, 3)).collect() };
    judged(
        claims::offline_verify,
        &good,
        &[
            ("the bundle is refused", |o| o.exit = 3),
            ("any genesis will do", |o| o.other_genesis_exit = 0),
            ("a changed byte goes unseen", |o| o.flips[17].1 = 0),
            ("a changed byte is a usage error", |o| o.flips[0].1 = 2),
            ("too few changed bytes", |o| o.flips.truncate(63)),
        ],
    );
}

#[test]
fn withdraw() {
    let good = WithdrawObserved {
        exit: 0,
        permitted_before: true,
        organizations: organizations(),
        frozen_ms: organizations().into_iter().map(|organization| (organization, 120)).collect(),
        refused_ms: Some(130),
        permits_after: 0,
        checks_after: 40,
        request_reason: "NOT_RELEASED".into(),
        request_bytes: 0,
    };
    judged(
        claims::withdraw,
        &good,
        &[
            ("the CLI failed", |o| o.exit = 1),
            ("nothing was permitted before", |o| o.permitted_before = false),
            ("a node never showed it", |o| drop(o.frozen_ms.pop())),
            ("three organizations", |o| {
                o.organizations.remove("elm");
                o.frozen_ms.retain(|(organization, _)| organization != "elm");
            }),
            ("a node was slow", |o| o.frozen_ms[2].1 = 2_001),
            ("the check was slow", |o| o.refused_ms = Some(2_001)),
            ("the check was never refused", |o| o.refused_ms = None),
            ("a permit afterwards", |o| o.permits_after = 1),
            ("nobody asked afterwards", |o| o.checks_after = 0),
            ("another reason", |o| o.request_reason = "FROZEN".into()),
            ("bytes came", |o| o.request_bytes = 1),
        ],
    );
}

#[test]
fn crash() {
    let rate = |entries| Rate { seconds: 15.1, entries, answered: entries, heights: 300 };
    let good = CrashObserved {
        required_seconds: 15.0,
        four: rate(3_000),
        three: rate(2_000),
        signal: Some(9),
        restart_height: 700,
        caught_up_height: 700,
        caught_up_seconds: 2.0,
        vote: Some(VoteSeen {
            height: 701,
            shown_by: "cedar".into(),
            certificate_holds: true,
            signature_holds: true,
        }),
    };
    fn vote(o: &mut CrashObserved) -> &mut VoteSeen {
        o.vote.as_mut().unwrap()
    }
    judged(
        claims::crash,
        &good,
        &[
            ("too short with four", |o| o.four.seconds = 14.9),
            ("too short with three", |o| o.three.seconds = 14.9),
            ("nothing with four", |o| o.four.entries = 0),
            ("nothing with three", |o| o.three.entries = 0),
            ("nothing answered with three", |o| o.three.answered = 0),
            ("nothing answered with four", |o| o.four.answered = 0),
            ("no heights with three", |o| o.three.heights = 0),
            ("no heights with four", |o| o.four.heights = 0),
            ("hardly any heights with three", |o| o.three.heights = 15),
            ("it stopped in order", |o| o.signal = Some(15)),
            ("it ended by itself", |o| o.signal = None),
            ("it did not catch up", |o| o.caught_up_height = 699),
            ("the others had nothing", |o| o.restart_height = 0),
            ("it never voted", |o| o.vote = None),
            ("a vote from before", |o| vote(o).height = 700),
            ("a certificate that does not hold", |o| vote(o).certificate_holds = false),
            ("a vote that does not verify", |o| vote(o).signature_holds = false),
        ],
    );
}

#[test]
fn audit() {
    let counts = ChainCounts { height: 900, entries: 5_000, operations: 5_000, signatures: 7_700 };
    let flip = |n: u64| FlipSeen { position: n * 1_000, height: n * 10, exit: 3, reported: Some(n * 10) };
    let good = AuditObserved {
        exit: 0,
        reported: counts.clone(),
        walked: counts,
        height_before: 899,
        flips: (0..8).map(flip).collect(),
        other_own_exit: 0,
        other_exit: 3,
    };
    judged(
        claims::audit,
        &good,
        &[
            ("the export is refused", |o| o.exit = 3),
            ("fewer entries counted", |o| o.reported.entries -= 1),
            ("fewer operations counted", |o| o.reported.operations -= 1),
            ("fewer signatures counted", |o| o.reported.signatures -= 1),
            ("another end", |o| o.reported.height -= 1),
            ("the file holds more", |o| o.walked.entries += 1),
            ("an end before the ledger's", |o| o.height_before = 901),
            ("an empty ledger", |o| o.height_before = 0),
            ("nothing in it", |o| {
                let nothing = ChainCounts { height: 900, entries: 0, operations: 0, signatures: 0 };
                (o.reported, o.walked) = (nothing.clone(), nothing);
            }),
            ("a changed byte goes unseen", |o| o.flips[3].exit = 0),
            ("the wrong height", |o| o.flips[4].reported = Some(41)),
            ("no height", |o| o.flips[4].reported = None),
            ("too few changed bytes", |o| o.flips.truncate(5)),
            ("another chain is never good", |o| o.other_own_exit = 3),
            ("any chain is good", |o| o.other_exit = 0),
        ],
    );
}

#[test]
fn history() {
    let access = |actor: &str| AccessSeen {
        organization: "birch".into(),
        purpose: "TREAT".into(),
        actor: actor.into(),
    };
    let accesses = vec![access("one"), access("two")];
    let good = HistoryObserved {
        exit: 0,
        verify_exit: 0,
        proven: true,
        counted: 2,
        proven_accesses: accesses.clone(),
        told: accesses.clone(),
        expected: accesses,
        times_plausible: true,
    };
    judged(
        claims::history,
        &good,
        &[
            ("the CLI failed", |o| o.exit = 5),
            ("the file is refused", |o| o.verify_exit = 3),
            ("the file does not hold", |o| o.proven = false),
            ("the slot counts more", |o| o.counted = 3),
            ("one left out", |o| drop(o.proven_accesses.pop())),
            ("one not told", |o| drop(o.told.pop())),
            ("another order", |o| o.told.reverse()),
            ("another organization", |o| o.proven_accesses[0].organization = "elm".into()),
            ("another purpose", |o| o.told[1].purpose = "HMARKT".into()),
            ("another person", |o| o.told[1].actor = "three".into()),
            ("nothing expected", |o| {
                o.expected.clear();
                o.proven_accesses.clear();
                o.told.clear();
                o.counted = 0;
            }),
            ("an impossible time", |o| o.times_plausible = false),
        ],
    );
}
