//! What the story claims: pure functions of what was observed. Nothing here can look at a node, so a test can feed each
//! claim an altered observation and see it fail.

use std::collections::BTreeSet;

use super::claim::{tenths, Checks, Claim};
use super::observed::*;

/// Ids of the claims, in the story's order.
pub const IDS: [&str; 9] =
    ["load", "consent", "check", "release", "offline-verify", "withdraw", "crash", "audit", "history"];

/// Issue 2, step 1: at least so many patients.
const MIN_PATIENTS: u64 = 30;
/// Issue 2, step 1: at least so many resources.
const MIN_RESOURCES: u64 = 3_000;
/// Issue 2, step 1: at least so many types.
const MIN_TYPES: u64 = 10;
/// Issue 2, step 1: at most so many bytes, compressed.
const MAX_COMPRESSED_BYTES: u64 = 10_000_000;
/// Fewest changed bytes that say something about a bundle.
const MIN_BUNDLE_FLIPS: usize = 64;
/// Fewest changed bytes that say something about an export: its genesis, its blocks, its last certificate.
const MIN_EXPORT_FLIPS: usize = 6;
/// Longest that a node may go on permitting, in milliseconds. CONSENT.md asks for a p99 under 1 s with quorum; this
/// includes starting the CLI, and machines that do much else.
const MAX_WITHDRAW_MS: u64 = 2_000;
/// Fewest heights a second that three must decide: with Malachite's default timeouts one dead validator left 0.8, an
/// outage (MALACHITE.md).
const MIN_HEIGHTS_PER_SECOND_WITH_THREE: f64 = 1.0;
/// Fewest checks that must have been refused after the first refusal.
const MIN_CHECKS_AFTER: u64 = 5;

/// Step 1.
pub fn load(o: &LoadObserved) -> Claim {
    let mut c = Checks::default();
    c.same("records", &o.listed, &o.found);
    c.at_least("patients", MIN_PATIENTS, o.found.patients);
    c.at_least("resources", MIN_RESOURCES, o.found.resources);
    c.at_least("types", MIN_TYPES, o.found.types);
    c.holds(o.compressed_bytes <= MAX_COMPRESSED_BYTES, || {
        format!("{} bytes compressed", o.compressed_bytes)
    });
    c.same("resources without one confidentiality", &0, &o.uncoded);
    c.same("resources whose confidentiality does not fit their sensitivity", &0, &o.mislabelled);
    c.at_least("resources labelled PSY", 1, o.psy);
    c.at_least("resources labelled SUD", 1, o.sud);
    c.same("handles", &o.listed.patients, &o.handles);
    c.same("resources stored", &o.listed.resources, &o.stored_resources);
    c.same("patients stored", &o.listed.patients, &o.stored_patients);
    let shows = format!("{} patients, {} types, all labelled", o.stored_patients, o.found.types);
    c.claim("load", o.stored_resources, "resources", shows)
}

/// Step 2.
pub fn consent(o: &ConsentObserved) -> Claim {
    let mut c = Checks::default();
    c.same("consent sequence", &(o.consent_seq_before + 1), &o.consent_seq);
    c.at_least("rules", 2, o.rules);
    c.at_least("organizations", 4, o.organizations.len() as u64);
    let seen: BTreeSet<String> = o.nodes.iter().map(|n| n.organization.clone()).collect();
    c.same("nodes that showed the height", &o.organizations, &seen);
    let first = o.nodes.first();
    for node in &o.nodes {
        let who = &node.organization;
        c.holds(node.height > 0 && first.is_some_and(|f| f.height == node.height), || {
            format!("{who}: another height")
        });
        c.holds(first.is_some_and(|f| f.header_hash == node.header_hash), || {
            format!("{who}: another header")
        });
        c.holds(first.is_some_and(|f| f.state_root == node.state_root), || {
            format!("{who}: another state root")
        });
        c.holds(node.state_root != o.state_root_before, || format!("{who}: the state did not change"));
        c.holds(node.holds_consent, || format!("{who}: the block does not hold the consent"));
        c.holds(node.certified, || format!("{who}: the certificate does not hold"));
    }
    let height = first.map_or(0, |n| n.height);
    let shows = format!("at height {height}, one state root");
    c.claim("consent", o.nodes.len() as u64, "nodes", shows)
}

/// Step 3.
pub fn check(o: &CheckObserved) -> Claim {
    let mut c = Checks::default();
    c.same("outcome for TREAT", "PERMIT", o.treatment.as_str());
    c.holds(o.may_be_incomplete, || "the permit does not say that it may be incomplete".into());
    c.holds(o.decision_signed, || "the decision does not bear Cedar's signature".into());
    for (who, refusal) in [("HMARKT", &o.marketing), ("the unknown patient", &o.unknown)] {
        c.same(&format!("code for {who}"), "PermissionDenied", refusal.code.as_str());
        let reason = vec![("assent".to_owned(), "NOT_RELEASED".to_owned())];
        c.same(&format!("reason for {who}"), &reason, &refusal.reasons);
        c.holds(refusal.signed, || format!("the refusal for {who} does not bear Cedar's signature"));
    }
    c.same("text", &o.marketing.message, &o.unknown.message);
    c.same("details", &o.marketing.details, &o.unknown.details);
    c.same("metadata", &o.marketing.metadata, &o.unknown.metadata);
    let shows = "TREAT yes; denied like unknown".to_owned();
    c.claim("check", 3, "answers", shows)
}

/// Step 4.
pub fn release(o: &ReleaseObserved) -> Claim {
    let mut c = Checks::default();
    let received: BTreeSet<Digest> = o.received.iter().cloned().collect();
    c.holds(!o.permitted.is_empty() && !o.withheld.is_empty(), || {
        "the record has nothing to permit or withhold".into()
    });
    let (lacking, surplus) =
        (o.permitted.difference(&received).count(), received.difference(&o.permitted).count());
    c.same("permitted resources that did not come", &0, &lacking);
    c.same("resources that came without permission", &0, &surplus);
    c.same("withheld resources that came", &0, &received.intersection(&o.withheld).count());
    c.same("resources, each once", &o.permitted.len(), &o.received.len());
    c.same("resources labelled PSY that came", &0, &o.received_psy);
    c.same("ids of withheld resources beside the resources", &0, &o.hints);
    c.same("resources that the receipt names", &(o.received.len() as u64), &o.receipt_resources);
    c.holds(o.receipt_holds, || "the receipt does not hold".into());
    c.holds(o.access_height > 0 && o.access_height <= o.first_message_height, || {
        format!("access at height {}, first message at {}", o.access_height, o.first_message_height)
    });
    c.holds(o.committed_elsewhere, || "another node did not show the access".into());
    c.holds(o.verified, || "VerifyRecords says that the bundle does not hold".into());
    c.holds(!o.altered_verified, || "VerifyRecords says that an altered bundle holds".into());
    c.holds(!o.narrow_permitted.is_empty(), || "no conditions to ask for".into());
    c.same("conditions", &o.narrow_permitted, &o.narrow_received);
    let shows = format!("{} withheld; access committed first", o.withheld.len());
    c.claim("release", o.received.len() as u64, "resources", shows)
}

/// Step 5.
pub fn offline_verify(o: &OfflineObserved) -> Claim {
    let mut c = Checks::default();
    c.same("exit for the bundle", &0, &o.exit);
    c.same("exit with another genesis hash", &3, &o.other_genesis_exit);
    c.at_least("changed bytes", MIN_BUNDLE_FLIPS as u64, o.flips.len() as u64);
    for (position, exit) in &o.flips {
        c.same(&format!("exit with byte {position} changed"), &3, exit);
    }
    let shows = "changed bytes seen without a node".to_owned();
    c.claim("offline-verify", o.flips.len() as u64, "bytes", shows)
}

/// Step 6.
pub fn withdraw(o: &WithdrawObserved) -> Claim {
    let mut c = Checks::default();
    c.same("exit of `assent withdraw`", &0, &o.exit);
    c.holds(o.permitted_before, || "nothing was permitted before".into());
    c.at_least("organizations", 4, o.organizations.len() as u64);
    let seen: BTreeSet<String> = o.frozen_ms.iter().map(|(organization, _)| organization.clone()).collect();
    c.same("nodes that showed the slot frozen", &o.organizations, &seen);
    let times = o.frozen_ms.iter().map(|(who, ms)| (who.as_str(), *ms));
    for (who, ms) in times.chain(o.refused_ms.map(|ms| ("birch's check", ms))) {
        c.holds(ms <= MAX_WITHDRAW_MS, || format!("{who}: {ms} ms, at most {MAX_WITHDRAW_MS} allowed"));
    }
    c.holds(o.refused_ms.is_some(), || "Birch's node never refused".into());
    c.same("permits after the first refusal", &0, &o.permits_after);
    c.at_least("checks after the first refusal", MIN_CHECKS_AFTER, o.checks_after);
    c.same("reason for a new request", "NOT_RELEASED", o.request_reason.as_str());
    c.same("bytes for a new request", &0, &o.request_bytes);
    let slowest = o.frozen_ms.iter().map(|(_, ms)| *ms).chain(o.refused_ms).max().unwrap_or(0);
    let shows = format!("until all {} nodes stopped; 0 bytes", o.frozen_ms.len());
    c.claim("withdraw", slowest, "ms", shows)
}

/// Step 7.
pub fn crash(o: &CrashObserved) -> Claim {
    let mut c = Checks::default();
    for (who, rate) in [("four", &o.four), ("three", &o.three)] {
        c.holds(rate.seconds >= o.required_seconds, || {
            format!("{who}: measured over {:.1} s only", rate.seconds)
        });
        c.at_least(&format!("entries with {who}"), 1, rate.entries);
        c.at_least(&format!("answered writes with {who}"), 1, rate.answered);
        c.at_least(&format!("heights with {who}"), 1, rate.heights);
    }
    let (four, three) = (o.four.per_second(), o.three.per_second());
    let heights = o.three.heights as f64 / o.three.seconds.max(1.0);
    c.holds(heights >= MIN_HEIGHTS_PER_SECOND_WITH_THREE, || {
        format!("{heights:.1} heights/s with three, at least {MIN_HEIGHTS_PER_SECOND_WITH_THREE} needed")
    });
    c.same("signal that ended Elm", &Some(9), &o.signal);
    c.holds(o.restart_height > 0 && o.caught_up_height >= o.restart_height, || {
        format!("Elm reached height {}, the others were at {}", o.caught_up_height, o.restart_height)
    });
    c.holds(o.vote.is_some(), || "no certificate after the restart holds Elm's precommit".into());
    if let Some(vote) = &o.vote {
        c.holds(vote.height > o.restart_height, || format!("Elm's precommit is for height {}", vote.height));
        c.holds(vote.certificate_holds, || "the certificate with Elm's precommit does not hold".into());
        c.holds(vote.signature_holds, || "Elm's precommit does not verify".into());
    }
    let shows = format!("with 3 ({four:.0} with 4); back in {:.1} s", o.caught_up_seconds);
    c.claim("crash", tenths(three), "entries/s", shows)
}

/// Step 8.
pub fn audit(o: &AuditObserved) -> Claim {
    let mut c = Checks::default();
    c.same("exit of `audit verify`", &0, &o.exit);
    c.same("counts", &o.walked, &o.reported);
    c.holds(o.height_before > 0 && o.reported.height >= o.height_before, || {
        format!("the export ends at {}, the ledger was at {}", o.reported.height, o.height_before)
    });
    for (what, count) in [
        ("entries", o.reported.entries),
        ("operations", o.reported.operations),
        ("signatures", o.reported.signatures),
    ] {
        c.at_least(what, 1, count);
    }
    c.at_least("changed bytes", MIN_EXPORT_FLIPS as u64, o.flips.len() as u64);
    for flip in &o.flips {
        c.same(&format!("exit with byte {} changed", flip.position), &3, &flip.exit);
        c.same(
            &format!("first bad height with byte {} changed", flip.position),
            &Some(flip.height),
            &flip.reported,
        );
    }
    c.same("exit for the other chain against its own genesis", &0, &o.other_own_exit);
    c.same("exit for the other chain", &3, &o.other_exit);
    let shows = format!("{} entries to {}; damage found", o.reported.entries, o.reported.height);
    c.claim("audit", o.reported.signatures, "signatures", shows)
}

/// Step 9.
pub fn history(o: &HistoryObserved) -> Claim {
    let mut c = Checks::default();
    c.same("exit of `assent history`", &0, &o.exit);
    c.same("exit of `assent verify`", &0, &o.verify_exit);
    c.holds(o.proven, || "the history does not hold".into());
    c.at_least("accesses", 1, o.expected.len() as u64);
    c.same("accesses that the slot counts", &(o.expected.len() as u64), &o.counted);
    c.same("accesses proven", &o.expected, &o.proven_accesses);
    c.same("accesses told", &o.expected, &o.told);
    c.holds(o.times_plausible, || "an access has a time outside of this story".into());
    let shows = format!("{} of {} proven: who, why, when", o.proven_accesses.len(), o.counted);
    c.claim("history", o.proven_accesses.len() as u64, "accesses", shows)
}
