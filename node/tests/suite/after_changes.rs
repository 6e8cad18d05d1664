//! Releases, histories, packs and late releases of a network whose keys and validators change: what each file shows offline.

use std::collections::BTreeSet;

use assent_ledger::checkpoint::origin;
use assent_ledger::late::verify_late_bundle;
use assent_ledger::pack::verify_pack;
use assent_ledger::receipts::{verify, verify_bundle, verify_history, Claim, Start, Trust};
use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::{Header, KeyPurpose, LateBundle, RecordBundle, RemoveValidator};
use assent_proto::v1::get_access_receipt_request::Access;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::receipt_service_client::ReceiptServiceClient;
use assent_proto::v1::{
    GetAccessReceiptRequest, GetDecisionReceiptRequest, GetHistoryRequest, GetPackRequest, Query,
    RequestRecordsRequest,
};
use prost::Message;
use rocksdb::{IteratorMode, Options, DB};
use tonic::Status;

use crate::break_glass::{ask, bring, emergency, glass_policy, Brought};
use crate::membership::World;
use crate::net::Net;
use crate::patient::*;
use crate::registry::{icu, set_rules};

/// Changes of validators that a bundle goes through.
fn changes(net: &Net, bundle: &RecordBundle) -> usize {
    match verify_bundle(&trust(net), &bundle.encode_to_vec()).unwrap().0.start {
        Start::Genesis { set_changes, .. } => set_changes,
        start => panic!("{start:?}"),
    }
}

/// Who pinned the log as it was right before a header: the header names its leaves and its root.
fn pinned(header: &Header) -> (Trust, u64) {
    let root = header.log_root.clone().try_into().unwrap();
    let (origin, accepted) = (origin(&header.chain_id), BTreeSet::new());
    (Trust::Checkpoint { origin, size: header.log_size, root, accepted }, header.log_size)
}

/// Changes of validators from a checkpoint to a header that does not stand in it.
fn behind(start: &Start) -> usize {
    match start {
        Start::Checkpoint { within: false, set_changes, .. } => *set_changes,
        start => panic!("{start:?}"),
    }
}

/// Birch's access `request_id` from a checkpoint of so many leaves.
async fn access(net: &Net, request_id: &str, checkpoint_size: u64) -> Vec<u8> {
    let access = Some(Access::RequestId(request_id.into()));
    let request = GetAccessReceiptRequest { access, access_seq: 0, checkpoint_size };
    let mut client = ReceiptServiceClient::new(net.client(net.index("birch"), "crm"));
    client.get_access_receipt(request).await.unwrap().into_inner().receipt
}

/// The release `request_id` again, from a checkpoint of so many leaves; or why not.
async fn again(net: &Net, request_id: &str, query: Query, checkpoint_size: u64) -> Result<Brought, Status> {
    let request_id = request_id.into();
    let request =
        RequestRecordsRequest { request_id, query: Some(query), checkpoint_size, ..Default::default() };
    bring(net.client(net.index("birch"), "crm"), request).await
}

async fn pack(net: &Net, checkpoint_size: u64) -> Result<Vec<u8>, Status> {
    let request = GetPackRequest { proof: None, patient: Some(patient("cedar", "mrn-1")), checkpoint_size };
    let mut portal = PatientServiceClient::new(net.client(net.index("cedar"), "portal"));
    Ok(portal.get_pack(request).await?.into_inner().pack)
}

/// Forgets the lists of members that a stopped node kept: one that joined from a snapshot has none of before.
fn forget_members(net: &Net, i: usize) -> usize {
    let ledger = net.members[i].dir.join("data/ledger");
    let options = Options::default();
    let families = DB::list_cf(&options, &ledger).unwrap();
    let db = DB::open_cf(&options, &ledger, families).unwrap();
    let meta = db.cf_handle("meta").unwrap();
    let keys = db.iterator_cf(meta, IteratorMode::Start).map(|item| item.unwrap().0);
    let lists: Vec<_> = keys.filter(|key| key.starts_with(b"members/")).collect();
    lists.iter().for_each(|key| db.delete_cf(meta, key).unwrap());
    lists.len()
}

/// Everything that starts at a checkpoint taken right before each release.
async fn all_hold_from_checkpoints(net: &Net, bundles: &[RecordBundle]) {
    let changes = bundles.len() - 1;
    for (n, bundle) in bundles.iter().enumerate() {
        let (at, ..) = verify_bundle(&trust(net), &bundle.encode_to_vec()).unwrap();
        let (trust, size) = pinned(&at.header);
        // The release itself came right after; its header stands in every later checkpoint.
        let found = verify(&trust, &access(net, &format!("r-{n}"), size).await).unwrap();
        assert_eq!((found.at.header, behind(&found.at.start)), (at.header, 0));
        for older in 0..n {
            let found = verify(&trust, &access(net, &format!("r-{older}"), size).await).unwrap();
            assert!(matches!(found.at.start, Start::Checkpoint { .. }));
        }
        let brought = again(net, &format!("r-{n}"), query("mrn-1", "TREAT"), size).await.unwrap().bundle;
        assert_eq!(brought.resources, bundle.resources);
        assert_eq!(verify_bundle(&trust, &brought.encode_to_vec()).unwrap().1.event.resources, 2);
        let pack = verify_pack(&trust, &pack(net, size).await.unwrap()).unwrap();
        assert_eq!((pack.accesses.len(), behind(&pack.at.start)), (bundles.len(), changes - n));
        let patient = Some(patient("cedar", "mrn-1"));
        let request = GetHistoryRequest { proof: None, patient, checkpoint_size: size };
        let mut portal = PatientServiceClient::new(net.client(net.index("cedar"), "portal"));
        let history = portal.get_history(request).await.unwrap().into_inner().history;
        assert_eq!(verify_history(&trust, &history).unwrap().accesses, pack.accesses);
        let query = Some(query("mrn-1", "TREAT"));
        let request = GetDecisionReceiptRequest { query, checkpoint_size: size };
        let mut crm = ReceiptServiceClient::new(net.client(net.index("birch"), "crm"));
        let decision = crm.get_decision_receipt(request).await.unwrap().into_inner().receipt;
        assert!(decision.len() <= 4096 - 8 + 1024 * (changes - n), "{} bytes", decision.len());
        let decision = verify(&trust, &decision).unwrap();
        assert!(matches!(decision.claim, Claim::Decision(_)) && behind(&decision.at.start) == changes - n);
    }
    // A log that this one is not yet: no release, no file.
    let refused = again(net, "r-none", query("mrn-1", "TREAT"), 1 << 40).await.err().unwrap();
    assert_eq!(reason(&refused), "OTHER_CHECKPOINT");
    assert_eq!(reason(&pack(net, 1 << 40).await.unwrap_err()), "OTHER_CHECKPOINT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_accesses_hold_across_changes_of_keys_and_validators() {
    let mut world = World::new().await;
    let [birch, cedar, dogwood, elm] = ["birch", "cedar", "dogwood", "elm"].map(|id| world.net.index(id));
    let handle = enrolled(&world.net, "mrn-1", "2030-12-31").await;
    let members = icu(&[("birch", "Practitioner/grey", "")]);
    let officer = world.net.client(cedar, "officer");
    set_rules(officer, "p-1", &glass_policy(false, false), &members).await.unwrap();
    let mut bundles = vec![request(world.net.client(birch, "crm"), "r-0", "mrn-1").await.unwrap()];

    world.rotate(birch, dogwood, "entry", KeyPurpose::Entry).await;
    bundles.push(request(world.net.client(birch, "crm"), "r-1", "mrn-1").await.unwrap());
    world.rotate(cedar, dogwood, "entry", KeyPurpose::Entry).await;
    bundles.push(request(world.net.client(birch, "crm"), "r-2", "mrn-1").await.unwrap());
    let remove = Change::RemoveValidator(RemoveValidator { organization: "elm".into() });
    world.change(1, remove, &[cedar, dogwood], dogwood).await;
    bundles.push(request(world.net.client(birch, "crm"), "r-3", "mrn-1").await.unwrap());

    let net = &world.net;
    for (n, bundle) in bundles.iter().enumerate() {
        assert_eq!(changes(net, bundle), n);
        assert_eq!(bundle.resources.len(), 2);
        // Long after: the same release.
        let again = request(net.client(birch, "crm"), &format!("r-{n}"), "mrn-1").await.unwrap();
        assert_eq!(again, *bundle);
    }
    all_hold_from_checkpoints(net, &bundles).await;
    let shown = history(net.client(cedar, "portal"), "mrn-1").await.unwrap();
    let history = verify_history(&trust(net), &shown).unwrap();
    assert_eq!((history.slot.access_seq, history.accesses.len()), (4, 4));
    let pack = verify_pack(&trust(net), &pack(net, 0).await.unwrap()).unwrap();
    assert_eq!((pack.handle.to_vec(), pack.accesses.len(), pack.reasons.len()), (handle, 4, 4));
    assert!(matches!(pack.at.start, Start::Genesis { set_changes: 3, .. }), "{:?}", pack.at.start);

    // Nodes that joined from a snapshot have no list of members of before: they need none.
    world.submitters.clear();
    for joined in [birch, cedar] {
        world.net.stop(joined).await.unwrap();
        assert_eq!(forget_members(&world.net, joined), 2);
        world.net.start(joined).await;
        world.net.ready(joined).await;
    }
    all_hold_from_checkpoints(&world.net, &bundles).await;

    // Three validators: without Dogwood there is no quorum.
    world.net.stop(elm).await.unwrap();
    world.net.stop(dogwood).await.unwrap();
    let brought = ask(world.net.client(birch, "crm"), "l-0", emergency("Practitioner/grey", "mrn-1")).await;
    let brought = brought.unwrap();
    let late = LateBundle { proof: brought.late, resources: brought.bundle.resources };
    let (late, _) = verify_late_bundle(&trust(&world.net), &late.encode_to_vec()).unwrap();
    assert!(matches!(late.at.start, Start::Genesis { set_changes: 3, .. }), "{:?}", late.at.start);
    assert!(late.event.height <= late.at.header.height);
    for (n, bundle) in bundles.iter().enumerate() {
        let (at, ..) = verify_bundle(&trust(&world.net), &bundle.encode_to_vec()).unwrap();
        let (trust, size) = pinned(&at.header);
        let emergency = emergency("Practitioner/grey", "mrn-1");
        let brought = again(&world.net, "l-0", emergency, size).await.unwrap();
        let bundle = LateBundle { proof: brought.late, resources: brought.bundle.resources };
        let (again, _) = verify_late_bundle(&trust, &bundle.encode_to_vec()).unwrap();
        assert_eq!((again.event, again.hash), (late.event.clone(), late.hash));
        assert_eq!(behind(&again.at.start), 3 - n);
    }
}
