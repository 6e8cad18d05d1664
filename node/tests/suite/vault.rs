//! The vault: what it finds, what it keeps through a kill, and what its files don't show.

use std::fs;
use std::path::Path;
use std::sync::Barrier;

use assent_node::vault::{
    Access, ConsentRecord, ConsentSet, OwnAccess, Pending, Record, RequestRecord, Subject, Vault, VaultError,
};
use assent_proto::ledger::v1::ConsentBody;
use tempfile::TempDir;

const SECRET: [u8; 32] = [7; 32];
const SYSTEM: &str = "urn:assent:sample:mrn";
const CLIENT: &str = "spiffe://testnet-cedar-1/org/birch/crm/frontdesk";

/// Texts that must appear in no file of the vault.
const CANARIES: [&str; 8] = [
    "MRN-CANARY-1",
    "1957-11-23",
    "Patient/canary",
    "CANARY-DIAGNOSIS",
    "Observation/canary",
    "CANARY-CONSENT",
    "CANARY-EVENT",
    "CANARY-REPLY",
];

fn subject(n: u8) -> Subject {
    Subject {
        handle: [n; 32],
        secret: [n + 100; 32],
        identifier_system: SYSTEM.into(),
        identifier_value: format!("MRN-CANARY-{n}"),
        birth_date: "1957-11-23".into(),
        patient_reference: format!("Patient/canary{n}"),
        control_key: (n == 1).then_some([3; 32]),
    }
}

fn record(reference: &str, subjects: &[u8], text: &str) -> Record {
    Record {
        reference: reference.into(),
        resource_type: reference.split('/').next().unwrap_or_default().into(),
        subjects: subjects.iter().map(|n| [*n; 32]).collect(),
        bytes: text.as_bytes().to_vec(),
    }
}

fn consents() -> ConsentSet {
    let consent = |id: &str, revision| ConsentRecord {
        body: ConsentBody {
            id: id.into(),
            revision,
            fhir: b"{\"text\":\"CANARY-CONSENT\"}".to_vec(),
            ..ConsentBody::default()
        },
        salt: [revision as u8; 32],
    };
    ConsentSet { salt: [21; 32], consents: vec![consent("a", 1), consent("b", 2)], contact: None }
}

fn request(created_ms: u64) -> RequestRecord {
    RequestRecord {
        body_hash: [31; 32],
        reply: b"CANARY-REPLY".to_vec(),
        entry_hash: Some([32; 32]),
        created_ms,
    }
}

fn own_access(n: u8, time_ms: u64) -> OwnAccess {
    OwnAccess {
        request_id: format!("r{n}"),
        request_hash: [n; 32],
        request: b"MRN-CANARY-1 1957-11-23".to_vec(),
        outcome: "PERMIT".into(),
        resources: 2,
        height: 3,
        time_ms,
        entry_hash: [72; 32],
    }
}

fn put_own_access(vault: &Vault, client: &str, access: &OwnAccess) {
    vault.put_pending(&[Pending::OwnAccess { client, access }]).unwrap();
}

/// Writes one of everything.
fn fill(vault: &Vault) {
    vault.create_subject(&subject(1)).unwrap();
    vault.put_records(&[record("Observation/canary", &[1], "CANARY-DIAGNOSIS")]).unwrap();
    vault.put_consent_set(&[1; 32], &[20; 32], &consents()).unwrap();
    vault.put_policy(&[40; 32], &[41; 32], b"{}").unwrap();
    vault.put_access(&[50; 32], &access()).unwrap();
    vault.put_acknowledgement(&[60; 32], b"ack").unwrap();
    vault.put_release(&[60; 32], b"bundle").unwrap();
    put_own_access(vault, CLIENT, &own_access(70, 9));
    vault.put_request(CLIENT, "r1", &request(5)).unwrap();
}

fn access() -> Access {
    let (event, recipient) = (b"CANARY-EVENT".to_vec(), b"CANARY-PROOF".to_vec());
    Access { handle: [1; 32], salt: [51; 32], event, recipient }
}

/// Reads everything that `fill` wrote.
fn assert_filled(vault: &Vault) {
    let one = Some(subject(1));
    assert!(vault.subject_by_identifier(SYSTEM, "MRN-CANARY-1", "1957-11-23").unwrap() == one);
    assert!(vault.subject_by_handle(&[1; 32]).unwrap() == one);
    assert!(vault.subject_by_reference("Patient/canary1").unwrap() == one);
    assert!(vault.records_of(&[1; 32]).unwrap() == [record("Observation/canary", &[1], "CANARY-DIAGNOSIS")]);
    assert!(vault.consent_set(&[1; 32], &[20; 32]).unwrap() == Some(consents()));
    assert_eq!(vault.policy(&[40; 32]).unwrap(), Some(([41; 32], b"{}".to_vec())));
    assert!(vault.access(&[50; 32]).unwrap() == Some(access()));
    assert_eq!(vault.acknowledgement(&[60; 32]).unwrap(), Some(b"ack".to_vec()));
    assert_eq!(vault.release(&[60; 32]).unwrap(), Some(b"bundle".to_vec()));
    assert!(vault.get_request(CLIENT, "r1").unwrap() == Some(request(5)));
    assert!(vault.own_accesses(CLIENT, None, 9).unwrap() == (vec![own_access(70, 9)], None));
}

/// The files as a kill at this moment would leave them.
fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "LOCK" {
            fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
        }
    }
    to
}

fn files_that_show(dir: &Path, text: &[u8]) -> Vec<String> {
    let shows = |path: &Path| fs::read(path).unwrap().windows(text.len()).any(|window| window == text);
    let paths = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    paths.filter(|path| shows(path)).map(|path| path.display().to_string()).collect()
}

fn write_ahead_log(dir: &Path) -> std::path::PathBuf {
    let logs = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    logs.filter(|path| path.extension().is_some_and(|e| e == "log"))
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap()
}

#[test]
fn everything_survives_a_close_and_a_kill() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    fill(&vault);
    assert_filled(&vault);
    let killed = copy(dir.path());
    drop(vault);
    assert_filled(&Vault::open(dir.path(), &SECRET).unwrap());
    assert_filled(&Vault::open(killed.path(), &SECRET).unwrap());
}

#[test]
fn every_write_is_synced() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    for n in 1..20 {
        let before = vault.log_syncs();
        vault.create_subject(&subject(n)).unwrap();
        assert!(vault.log_syncs() > before, "write {n} was not synced");
    }
}

#[test]
fn another_key_is_refused() {
    let dir = TempDir::new().unwrap();
    fill(&Vault::open(dir.path(), &SECRET).unwrap());
    let error = Vault::open(dir.path(), &[8; 32]).unwrap_err();
    assert!(matches!(error, VaultError::Corrupt { .. }), "{error}");
    assert_eq!(error.exit_code(), 9);
    assert!(error.to_string().contains("vault.pem"), "{error}");
    assert_filled(&Vault::open(dir.path(), &SECRET).unwrap());
}

#[test]
fn a_second_opening_is_a_storage_error() {
    let dir = TempDir::new().unwrap();
    let _first = Vault::open(dir.path(), &SECRET).unwrap();
    let error = Vault::open(dir.path(), &SECRET).unwrap_err();
    assert!(matches!(error, VaultError::Storage { .. }), "{error}");
    assert_eq!(error.exit_code(), 7);
}

#[test]
fn the_files_show_nothing() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    fill(&vault);
    let log_only = copy(dir.path());
    drop(vault);
    // Opening turns the write-ahead log into table files.
    drop(Vault::open(dir.path(), &SECRET).unwrap());
    for dir in [log_only.path(), dir.path()] {
        for canary in CANARIES {
            assert_eq!(files_that_show(dir, canary.as_bytes()), Vec::<String>::new(), "{canary}");
        }
        for secret in [[1u8; 32], [101; 32], [21; 32], [51; 32], [70; 32], [72; 32], SECRET] {
            assert_eq!(files_that_show(dir, &secret), Vec::<String>::new(), "{secret:?}");
        }
        assert_eq!(files_that_show(dir, CLIENT.as_bytes()), Vec::<String>::new());
    }
    // The search does find what is there.
    fs::write(dir.path().join("plain"), "..MRN-CANARY-1..").unwrap();
    assert_eq!(files_that_show(dir.path(), CANARIES[0].as_bytes()).len(), 1);
}

#[test]
fn debug_shows_no_patient() {
    let shown = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        own_access(1, 1),
        subject(1),
        record("Observation/canary", &[1], "CANARY-DIAGNOSIS"),
        consents(),
        request(1)
    );
    assert!(CANARIES.iter().all(|canary| !shown.contains(canary)), "{shown}");
}

#[test]
fn a_damaged_log_is_found_and_a_torn_end_is_not_damage() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    fill(&vault);
    let (flipped, torn) = (copy(dir.path()), copy(dir.path()));
    drop(vault);

    let log = write_ahead_log(flipped.path());
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).unwrap();
    let error = Vault::open(flipped.path(), &SECRET).unwrap_err();
    assert!(matches!(error, VaultError::Corrupt { .. }), "{error}");

    let log = write_ahead_log(torn.path());
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() - 3]).unwrap();
    let vault = Vault::open(torn.path(), &SECRET).unwrap();
    assert!(vault.subject_by_handle(&[1; 32]).unwrap() == Some(subject(1)));
    assert!(vault.get_request(CLIENT, "r1").unwrap().is_none(), "the last write was cut");
}

#[test]
fn a_flipped_bit_in_a_table_file_is_corruption() {
    let dir = TempDir::new().unwrap();
    fill(&Vault::open(dir.path(), &SECRET).unwrap());
    drop(Vault::open(dir.path(), &SECRET).unwrap());
    let tables = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
    let table = tables.filter(|path| path.extension().is_some_and(|e| e == "sst")).max().unwrap();
    let mut bytes = fs::read(&table).unwrap();
    bytes[60] ^= 1;
    fs::write(&table, bytes).unwrap();
    let read = |vault: Vault| vault.subject_by_identifier(SYSTEM, "MRN-CANARY-1", "1957-11-23").map(|_| ());
    let error = Vault::open(dir.path(), &SECRET).and_then(read).unwrap_err();
    assert!(matches!(error, VaultError::Corrupt { .. }), "{error}");
}

#[test]
fn a_subject_is_found_by_exactly_its_identifier_and_birth_date() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    vault.create_subject(&subject(1)).unwrap();
    let cases = [
        (SYSTEM, "MRN-CANARY-1", "1957-11-23", true),
        (SYSTEM, "MRN-CANARY-1", "1957-11-24", false),
        (SYSTEM, "MRN-CANARY-1", "1957", false),
        (SYSTEM, "MRN-CANARY-1", "", false),
        (SYSTEM, "MRN-CANARY-2", "1957-11-23", false),
        (SYSTEM, "mrn-canary-1", "1957-11-23", false),
        (SYSTEM, "MRN-CANARY-1 ", "1957-11-23", false),
        (SYSTEM, "MRN-CANARY-", "1957-11-23", false),
        ("urn:assent:sample:mr", "nMRN-CANARY-1", "1957-11-23", false),
        ("", "MRN-CANARY-1", "1957-11-23", false),
        ("urn:assent:decoy:none", "none", "0000-00-00", false),
    ];
    for (system, value, birth_date, found) in cases {
        let subject = vault.subject_by_identifier(system, value, birth_date).unwrap();
        assert_eq!(subject.is_some(), found, "{system} {value} {birth_date}");
    }
}

#[test]
fn a_second_subject_is_refused_and_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    vault.create_subject(&subject(1)).unwrap();
    let same_identifier = Subject { identifier_value: "MRN-CANARY-1".into(), ..subject(2) };
    let same_reference = Subject { patient_reference: "Patient/canary1".into(), ..subject(2) };
    let same_handle = Subject { handle: [1; 32], ..subject(2) };
    for (second, names) in
        [(same_identifier, "identifier"), (same_reference, "patient reference"), (same_handle, "handle")]
    {
        match vault.create_subject(&second) {
            Err(VaultError::Exists { what }) => assert!(what.contains(names), "{what}"),
            other => panic!("{names}: {other:?}"),
        }
    }
    assert!(vault.subject_by_handle(&[2; 32]).unwrap().is_none());
    assert!(vault.subject_by_reference("Patient/canary2").unwrap().is_none());
    assert!(vault.subject_by_identifier(SYSTEM, "MRN-CANARY-2", "1957-11-23").unwrap().is_none());
    vault.create_subject(&subject(2)).unwrap();
    // Two of a kind in one batch are refused as well, with all that the batch held.
    let twin = Subject { handle: [9; 32], patient_reference: "Patient/other".into(), ..subject(3) };
    let both = [Pending::Subject(&subject(3)), Pending::Subject(&twin)];
    assert!(matches!(vault.put_pending(&both), Err(VaultError::Exists { .. })));
    assert!(vault.subject_by_handle(&[3; 32]).unwrap().is_none());
}

#[test]
fn records_are_replaced_ordered_and_follow_their_subjects() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    let many: Vec<_> = (0..50).rev().map(|n| record(&format!("Observation/{n:02}"), &[1], "x")).collect();
    vault.put_records(&many).unwrap();
    vault.put_records(&[record("Group/1", &[1, 2, 2], "both")]).unwrap();
    let of = |n: u8| -> Vec<String> {
        vault.records_of(&[n; 32]).unwrap().into_iter().map(|record| record.reference).collect()
    };
    let mut expected: Vec<_> = many.iter().map(|record| record.reference.clone()).collect();
    expected.push("Group/1".into());
    expected.sort();
    assert_eq!(of(1), expected);
    assert_eq!(of(2), ["Group/1"]);
    assert_eq!(of(3), Vec::<String>::new());

    // Replaced, and no longer about subject 1.
    vault.put_records(&[record("Group/1", &[2], "first"), record("Group/1", &[2, 3], "second")]).unwrap();
    assert!(!of(1).contains(&"Group/1".into()));
    assert_eq!(vault.records_of(&[2; 32]).unwrap()[0].bytes, b"second");
    assert_eq!(of(3), ["Group/1"]);
    vault.put_records(&[record("Group/1", &[3], "x"), record("Group/1", &[2], "y")]).unwrap();
    assert_eq!((of(2).len(), of(3).len()), (1, 0));
}

#[test]
fn a_consent_set_belongs_to_one_handle_and_one_commitment() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    vault.put_consent_set(&[1; 32], &[20; 32], &consents()).unwrap();
    let empty = ConsentSet::empty([9; 32]);
    vault.put_consent_set(&[1; 32], &[22; 32], &empty).unwrap();
    assert!(vault.consent_set(&[1; 32], &[20; 32]).unwrap() == Some(consents()));
    assert!(vault.consent_set(&[1; 32], &[22; 32]).unwrap() == Some(empty));
    assert!(vault.consent_set(&[2; 32], &[20; 32]).unwrap().is_none());
    assert!(vault.consent_set(&[1; 32], &[23; 32]).unwrap().is_none());
}

#[test]
fn pending_writes_are_all_or_none() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    let (set, record) = (consents(), request(1));
    let first = Pending::ConsentSet { handle: &[1; 32], commitment: &[20; 32], set: &set };
    let new = Pending::NewRequest { client: CLIENT, request_id: "r", record: &record };
    vault.put_pending(&[first, new.clone()]).unwrap();
    assert!(vault.consent_set(&[1; 32], &[20; 32]).unwrap().is_some());
    assert!(vault.get_request(CLIENT, "r").unwrap() == Some(record.clone()));

    let second = Pending::Policy { commitment: &[40; 32], salt: &[41; 32], body: b"{}" };
    assert!(matches!(vault.put_pending(&[second, new]), Err(VaultError::Exists { .. })));
    assert_eq!(vault.policy(&[40; 32]).unwrap(), None);
}

#[test]
fn one_request_id_is_taken_once_from_many_threads() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    let start = Barrier::new(16);
    let taken = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let (vault, start) = (vault.clone(), &start);
                scope.spawn(move || {
                    start.wait();
                    let record = request(n);
                    let new = Pending::NewRequest { client: CLIENT, request_id: "same", record: &record };
                    vault.put_pending(&[new]).is_ok()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|taken| *taken).count()
    });
    assert_eq!(taken, 1);
}

#[test]
fn own_accesses_come_newest_first_page_by_page_and_to_their_client_only() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    let other = "spiffe://testnet-cedar-1/org/birch/crm/back";
    // Two in one block, and clients whose rows lie before and behind.
    for (n, time_ms) in [(1, 10), (2, 30), (3, 20), (4, 20)] {
        put_own_access(&vault, CLIENT, &own_access(n, time_ms));
        put_own_access(&vault, CLIENT, &own_access(n, time_ms)); // a retry
        for n in 0..20 {
            put_own_access(&vault, &format!("{CLIENT}{n}"), &own_access(9, time_ms));
        }
    }
    let (all, more) = vault.own_accesses(CLIENT, None, 9).unwrap();
    assert_eq!((all.iter().map(|a| a.time_ms).collect::<Vec<_>>(), more), (vec![30, 20, 20, 10], None));
    for size in 1..=4 {
        let (mut after, mut paged) = (None, Vec::new());
        loop {
            let (page, more) = vault.own_accesses(CLIENT, after, size).unwrap();
            assert!((1..=size).contains(&page.len()));
            paged.extend(page);
            // The place survives as a token, for this client alone.
            let Some(place) = more else { break };
            let token = vault.page_token(CLIENT, place).unwrap();
            assert_eq!(vault.read_page_token(CLIENT, &token), Some(place));
            assert_eq!(vault.read_page_token(other, &token), None);
            assert_eq!(vault.read_page_token(CLIENT, &token[2..]), None);
            after = more;
        }
        assert!(paged == all, "pages of {size}");
    }
    assert!(vault.own_accesses(other, None, 9).unwrap() == (Vec::new(), None));
    assert_eq!(vault.read_page_token(CLIENT, "x"), None);
}

#[test]
fn old_requests_are_pruned_and_others_stay() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    let records: Vec<_> = (0..2_500).map(request).collect();
    let ids: Vec<_> = (0..2_500).map(|n| format!("r{n}")).collect();
    let writes = ids.iter().zip(&records);
    let writes: Vec<_> = writes
        .map(|(request_id, record)| Pending::NewRequest { client: CLIENT, request_id, record })
        .collect();
    vault.put_pending(&writes).unwrap();
    // Replaced at a later time: the old time no longer counts.
    vault.put_request(CLIENT, "r7", &request(9_000)).unwrap();
    assert_eq!(vault.prune_requests(2_400).unwrap(), 2_399);
    assert!(vault.get_request(CLIENT, "r0").unwrap().is_none());
    assert!(vault.get_request(CLIENT, "r2399").unwrap().is_none());
    assert!(vault.get_request(CLIENT, "r2400").unwrap().is_some());
    assert!(vault.get_request(CLIENT, "r7").unwrap().is_some());
    assert!(vault.get_request("spiffe://testnet-cedar-1/org/birch/ehr/ward", "r2400").unwrap().is_none());
    assert_eq!(vault.prune_requests(2_400).unwrap(), 0);
    assert_eq!(vault.prune_requests(u64::MAX).unwrap(), 101);
}

/// Writers share syncs: eight of them need fewer than one each, and what `durable` has returned for survives a kill.
#[test]
fn many_writers_share_a_sync() {
    let dir = TempDir::new().unwrap();
    let vault = Vault::open(dir.path(), &SECRET).unwrap();
    let before = vault.log_syncs();
    for n in 0..200u64 {
        let record = request(n);
        vault
            .stage_pending(&[Pending::Request {
                client: CLIENT,
                request_id: &format!("g{n}"),
                record: &record,
            }])
            .unwrap();
    }
    futures::executor::block_on(vault.durable()).unwrap();
    let syncs = vault.log_syncs() - before;
    assert!((1..200).contains(&syncs), "{syncs} syncs for 200 writes");
    let killed = Vault::open(copy(dir.path()).path(), &SECRET).unwrap();
    for n in 0..200 {
        assert!(
            killed.get_request(CLIENT, &format!("g{n}")).unwrap() == Some(request(n)),
            "write {n} is lost"
        );
    }
}
