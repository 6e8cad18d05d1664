//! The mempool: bounded, fair between organizations, and honest about what can still be committed.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Duration;

use assent_ledger::entry::check_entry;
use assent_ledger::keys::SigningKey;
use assent_ledger::Hash;
use assent_node::chain::mempool::{
    AdmitError, Admitted, MAX_BYTES_PER_ORGANIZATION, MAX_ENTRIES_PER_ORGANIZATION,
};
use assent_node::chain::replica::Outcome;
use assent_node::chain::{now_ms, Clock};
use assent_node::order::Replica;
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::{operation, Block, Govern, Operation, SuspendEntryKey};
use prost::Message;

use crate::ledger::{record_access, set_consent, withdrawal, Ledger};
use crate::net::CHAIN;

fn handle(n: u64) -> Hash {
    let mut handle = [9; 32];
    handle[..8].copy_from_slice(&n.to_be_bytes());
    handle
}

fn reason(error: AdmitError) -> &'static str {
    match error {
        AdmitError::Form(_) => "form",
        AdmitError::Rule(error) => error.reason(),
        AdmitError::Full { .. } => "full",
        AdmitError::Fatal(error) => panic!("{error}"),
    }
}

/// Distinct entries by one author; numbers of the window are used again, only one of each could be committed.
fn fill(ledger: &Ledger, author: &str, operations: u64, count: u64) {
    for n in 0..count {
        let operations = (0..operations).map(|o| set_consent(author, handle(n * 256 + o), 0, None));
        let entry = ledger.entry(author, n % 1000 + 1, operations.collect());
        ledger.admit(&entry).unwrap();
    }
}

fn authors(ledger: &Ledger) -> Vec<String> {
    ledger.mempool.select().into_iter().map(|e| e.body.author).collect()
}

#[test]
fn one_organization_fills_its_own_share_only() {
    let mut ledger = Ledger::new("cedar");
    let patient = SigningKey::from_bytes(&[1; 32]);
    let slot = ledger.entry("elm", 1, vec![set_consent("elm", handle(0), 0, Some(&patient))]);
    ledger.admit(&slot).unwrap();
    ledger.block();

    fill(&ledger, "birch", 1, MAX_ENTRIES_PER_ORGANIZATION as u64);
    let one_more = ledger.entry("birch", 1, vec![set_consent("birch", [8; 32], 0, None)]);
    assert_eq!(reason(ledger.admit(&one_more).unwrap_err()), "full");
    assert_eq!(ledger.mempool.len(), MAX_ENTRIES_PER_ORGANIZATION);
    // Another organization has its own share; a withdrawal has room in the full one, and goes first.
    let other = ledger.entry("dogwood", 1, vec![set_consent("dogwood", [8; 32], 0, None)]);
    ledger.admit(&other).unwrap();
    let withdrawal = ledger.entry("birch", 1001, vec![withdrawal("elm", handle(0), 0, &patient)]);
    let (hash, admitted) = ledger.admit(&withdrawal).unwrap();
    assert_eq!(admitted, Admitted::Waiting);
    assert_eq!(ledger.mempool.select()[0].hash, hash);
    // Room that is freed can be used again.
    let waiting = check_entry(CHAIN, &other).unwrap().hash;
    let ordinary = ledger.mempool.select().into_iter().filter(|e| e.body.author == "birch" && e.hash != hash);
    let freed: Vec<Hash> = ordinary.take(2).map(|e| e.hash).collect();
    ledger.mempool.remove(freed.iter().chain([&waiting]));
    ledger.admit(&one_more).unwrap();
}

#[test]
fn bytes_are_bounded_too() {
    let ledger = Ledger::new("cedar");
    let large = |n: u64| {
        let operations = (0..256).map(|o| set_consent("birch", handle(n * 256 + o), 0, None));
        ledger.entry("birch", n + 1, operations.collect())
    };
    let fits = MAX_BYTES_PER_ORGANIZATION / large(0).len();
    for n in 0..fits as u64 {
        ledger.admit(&large(n)).unwrap();
    }
    assert_eq!(reason(ledger.admit(&large(fits as u64)).unwrap_err()), "full");
}

#[test]
fn a_block_is_shared_in_turn() {
    let ledger = Ledger::new("cedar");
    fill(&ledger, "birch", 1, 500);
    fill(&ledger, "cedar", 1, 3);
    fill(&ledger, "elm", 1, 2);
    for _ in 0..4 {
        let authors = authors(&ledger);
        let count = |name: &str, of: &[String]| of.iter().filter(|a| *a == name).count();
        // Two rounds of three, then one of two, then whoever is left.
        assert_eq!(
            (count("cedar", &authors[..8]), count("elm", &authors[..8])),
            (3, 2),
            "{:?}",
            &authors[..8]
        );
        assert_eq!(count("birch", &authors), 500);
    }
    // Nobody is always the first.
    let first: std::collections::BTreeSet<_> = (0..3).map(|_| authors(&ledger)[0].clone()).collect();
    assert_eq!(first.len(), 3);
}

#[test]
fn withdrawals_of_one_organization_do_not_hold_up_those_of_another() {
    let mut ledger = Ledger::new("cedar");
    let patient = SigningKey::from_bytes(&[1; 32]);
    for n in 0..21 {
        let slot = ledger.entry("cedar", n + 1, vec![set_consent("cedar", handle(n), 0, Some(&patient))]);
        ledger.admit(&slot).unwrap();
    }
    ledger.block();
    // 20 entries that each withdraw one slot 256 times: more operations than a block takes.
    for n in 0..20 {
        let all = (0..256).map(|seq| withdrawal("cedar", handle(n), seq, &patient)).collect();
        ledger.admit(&ledger.entry("birch", n + 1, all)).unwrap();
    }
    let mine = ledger.entry("elm", 1, vec![withdrawal("cedar", handle(20), 0, &patient)]);
    ledger.admit(&mine).unwrap();
    let candidate = ledger.build(0);
    let block = Block::decode(candidate.bytes.as_ref()).unwrap();
    assert!(block.entries.contains(&mine), "elm's withdrawal is not in a block of {}", block.entries.len());
}

#[test]
fn duplicates_forgeries_and_committed_entries_do_not_wait() {
    let mut ledger = Ledger::new("cedar");
    let entry = ledger.entry("birch", 1, vec![set_consent("birch", handle(1), 0, None)]);
    let (hash, first) = ledger.admit(&entry).unwrap();
    assert_eq!((first, ledger.admit(&entry).unwrap()), (Admitted::Waiting, (hash, Admitted::Waiting)));
    assert_eq!(ledger.mempool.len(), 1);

    let mut forged = ledger.entry("birch", 2, vec![set_consent("birch", handle(2), 0, None)]);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(reason(ledger.admit(&forged).unwrap_err()), "BAD_AUTHOR_SIGNATURE");
    let foreign = ledger.entry("birch", 2, vec![set_consent("cedar", handle(2), 0, None)]);
    assert_eq!(reason(ledger.admit(&foreign).unwrap_err()), "NOT_THE_CUSTODIAN");
    let stale = ledger.entry("birch", 2, vec![set_consent("birch", handle(2), 5, None)]);
    assert_eq!(reason(ledger.admit(&stale).unwrap_err()), "STALE_CONSENT_SEQUENCE");
    let mut longer = entry.clone();
    longer.extend([0x7a, 0]);
    assert_eq!(reason(ledger.admit(&longer).unwrap_err()), "form");

    ledger.block();
    assert!(ledger.mempool.is_empty());
    assert_eq!(ledger.admit(&entry).unwrap(), (hash, Admitted::Committed));
    assert!(ledger.mempool.is_empty());
    let same_number = ledger.entry("birch", 1, vec![set_consent("birch", handle(3), 0, None)]);
    assert_eq!(reason(ledger.admit(&same_number).unwrap_err()), "SEQUENCE_USED_OR_OUT_OF_WINDOW");
}

#[test]
fn entries_expire_by_block_time_and_only_then() {
    let mut ledger = Ledger::new("cedar");
    let late = |ledger: &Ledger, author: &str| {
        ledger.entry_until(author, 1, now_ms() + 800, vec![set_consent(author, handle(1), 0, None)])
    };
    let past = ledger.entry_until("birch", 2, now_ms() - 1, vec![set_consent("birch", handle(2), 0, None)]);
    assert_eq!(reason(ledger.admit(&past).unwrap_err()), "ENTRY_EXPIRED");
    let own = ledger.admit(&late(&ledger, "cedar")).unwrap().0;
    let others = ledger.admit(&late(&ledger, "birch")).unwrap().0;
    std::thread::sleep(Duration::from_millis(900));
    // This node's clock says that its entry is too late; another proposer's clock may still put it into the next block.
    let candidate = ledger.build(0);
    assert!(ledger.mempool.contains(&own), "given up before block time said so");
    let told = |o: &Outcome| matches!(o, Outcome::Dropped(hash, _) if *hash == own);
    assert!(!ledger.outcomes().iter().any(told));
    ledger.decide(&candidate);
    assert!(!ledger.mempool.contains(&own) && !ledger.mempool.contains(&others));
    let dropped = ledger.outcomes();
    let expired = |o: &Outcome| matches!(o, Outcome::Dropped(hash, error) if *hash == own && error.reason() == "ENTRY_EXPIRED");
    assert!(dropped.iter().any(expired), "{dropped:?}");
}

/// A block that is built may never be decided: what it left out can still be committed by another proposer.
#[test]
fn an_entry_left_out_of_an_undecided_block_is_not_given_up() {
    let mut ledger = Ledger::new("cedar");
    let patient = SigningKey::from_bytes(&[1; 32]);
    let slot = ledger.entry("cedar", 1, vec![set_consent("cedar", handle(1), 0, Some(&patient))]);
    ledger.admit(&slot).unwrap();
    ledger.block();
    ledger.outcomes();
    let access = ledger.entry("cedar", 2, vec![record_access("cedar", handle(1), 1, [3; 32])]);
    let (access_hash, _) = ledger.admit(&access).unwrap();
    let withdrawal = ledger.entry("birch", 1, vec![withdrawal("cedar", handle(1), 0, &patient)]);
    ledger.admit(&withdrawal).unwrap();

    let candidate = ledger.build(0);
    let block = Block::decode(candidate.bytes.as_ref()).unwrap();
    assert_eq!(block.entries, [withdrawal]);
    assert!(ledger.mempool.contains(&access_hash));
    assert!(ledger.outcomes().is_empty(), "a waiter was told an outcome that nobody decided");
    ledger.decide(&candidate);
    let refused = |o: &Outcome| matches!(o, Outcome::Dropped(hash, error) if *hash == access_hash && error.reason() == "STALE_CONSENT_SEQUENCE");
    assert!(ledger.outcomes().iter().any(refused));
    assert!(!ledger.replica.has_work());
}

/// A batch with forged entries among good ones: each is judged by itself, and only what holds is remembered as checked.
#[test]
fn one_forged_entry_spoils_no_other_of_its_frame() {
    let ledger = Ledger::new("cedar");
    let entry = |n: u64| ledger.entry("birch", n + 1, vec![set_consent("birch", handle(n), 0, None)]);
    let mut frame: Vec<Vec<u8>> = (0..6).map(entry).collect();
    let last = frame[2].len() - 1;
    frame[2][last] ^= 1;
    frame[4].truncate(40);
    let frame: Vec<&[u8]> = frame.iter().map(Vec::as_slice).collect();
    let outcomes = ledger.mempool.admit_all(&ledger.store, CHAIN, &frame);
    let named: Vec<_> = outcomes.into_iter().map(|o| o.map_or_else(reason, |_| "waits")).collect();
    assert_eq!(named, ["waits", "waits", "BAD_AUTHOR_SIGNATURE", "waits", "form", "waits"]);
    assert_eq!(ledger.mempool.len(), 4);

    let key = crate::ledger::key(&ledger.net, "birch", "entry").verifying_key().to_bytes();
    let check = |bytes: &[u8]| check_entry(CHAIN, bytes).unwrap().signature_check(&key);
    // Whatever waits here need not be checked again; what differs in one bit was never checked.
    assert!(ledger.mempool.verify(&[check(frame[0]), check(frame[5])]));
    assert!(!ledger.mempool.verify(&[check(frame[0]), check(frame[2])]));
    let gone = check_entry(CHAIN, frame[0]).unwrap().hash;
    ledger.mempool.remove([&gone]);
    assert!(ledger.mempool.verify(&[check(frame[0])]), "checked anew, it holds still");
}

/// A validator that does not propose for long would else ask for block after block because of what nobody can use.
#[test]
fn an_empty_block_clears_what_has_no_effect() {
    let mut ledger = Ledger::new("cedar");
    let entry = |ledger: &Ledger, number, of| {
        ledger.entry("birch", number, vec![set_consent("birch", handle(of), 0, None)])
    };
    for number in [1, 2] {
        ledger.admit(&entry(&ledger, number, 1)).unwrap();
    }
    ledger.block();
    let good = ledger.admit(&entry(&ledger, 3, 2)).unwrap().0;
    assert_eq!(ledger.mempool.len(), 2, "the second one waits, stale");
    assert!(ledger.mempool.revalidate(&ledger.store, "cedar", false).unwrap().is_empty());
    let dropped = ledger.mempool.revalidate(&ledger.store, "cedar", true).unwrap();
    assert_eq!(
        dropped.iter().map(|(_, error)| error.reason()).collect::<Vec<_>>(),
        ["STALE_CONSENT_SEQUENCE"]
    );
    assert!(ledger.mempool.contains(&good) && ledger.mempool.len() == 1);
}

/// Found by simulation: an own entry that may have an effect some day stays, and asked for empty blocks until it expired.
#[test]
fn an_own_entry_that_waits_for_others_asks_for_one_empty_block_only() {
    let mut ledger = Ledger::new("cedar");
    let suspend = |ledger: &Ledger, number| {
        let step = Step::SuspendEntryKey(SuspendEntryKey { organization: "birch".into() });
        let kind = operation::Kind::Govern(Govern { step: Some(step) });
        ledger.entry("cedar", number, vec![Operation { kind: Some(kind) }])
    };
    let first = ledger.admit(&suspend(&ledger, 1)).unwrap().0;
    let second = ledger.admit(&suspend(&ledger, 2)).unwrap().0;
    ledger.block();
    assert!(!ledger.mempool.contains(&first) && ledger.mempool.contains(&second));
    for number in [3, 4] {
        assert!(ledger.replica.has_work(), "nobody knows yet that a block with it is empty");
        ledger.block();
        assert!(ledger.mempool.contains(&second) && !ledger.replica.has_work());
        // What changes the state may give it an effect.
        let other = ledger.entry("birch", number, vec![set_consent("birch", handle(number), 0, None)]);
        ledger.admit(&other).unwrap();
        assert!(ledger.replica.has_work());
        ledger.block();
    }
}

/// Found by chaos D1: a node whose clock is an hour ahead signed entries that nobody could commit, and woke everybody for them.
#[test]
fn an_entry_that_lies_too_far_ahead_for_the_ledger_waits_nowhere_and_wakes_nobody() {
    const HOUR_MS: u64 = 3_600_000;
    let begin = now_ms();
    let shown = Arc::new(AtomicU64::new(begin));
    let mut ledger = Ledger::with_clock("cedar", Clock::simulated(shown.clone()));
    let entry = |ledger: &Ledger, author: &str, number: u64, until: u64| {
        ledger.entry_until(author, number, until, vec![set_consent(author, handle(number), 0, None)])
    };
    // Before anything was committed nobody knows how far the ledger is behind: this machine's clock counts.
    let far = entry(&ledger, "cedar", 1, begin + HOUR_MS + 60_000);
    shown.store(begin + HOUR_MS, Relaxed);
    let (far_hash, _) = ledger.admit(&far).unwrap();
    assert!(ledger.replica.has_work());
    shown.store(begin, Relaxed);
    let candidate = ledger.build(0);
    ledger.decide(&candidate);
    // The ledger's time is known now. What can't be applied now may stay, but asks for no block.
    assert!(ledger.mempool.contains(&far_hash) && !ledger.replica.has_work());
    shown.store(begin + 100, Relaxed);
    let too_far = entry(&ledger, "cedar", 2, begin + HOUR_MS);
    assert_eq!(reason(ledger.admit(&too_far).unwrap_err()), "NOT_AFTER_TOO_FAR");
    let good = entry(&ledger, "cedar", 3, ledger.mempool.ledger_ms(&ledger.store.tip().unwrap()) + 60_000);
    ledger.admit(&good).unwrap();
    assert!(ledger.replica.has_work());
    // Time that passes is counted from the newest block on.
    let tip = ledger.store.tip().unwrap();
    shown.store(begin + 5_100, Relaxed);
    assert_eq!(ledger.mempool.ledger_ms(&tip), tip.time_ms + 5_100);
}
