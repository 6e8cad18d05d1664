//! Releases, histories, packs and late releases of a network whose keys and validators change: what each file shows offline.

use assent_ledger::late::verify_late_bundle;
use assent_ledger::pack::verify_pack;
use assent_ledger::receipts::{verify_bundle, verify_history, Start};
use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::{KeyPurpose, LateBundle, RecordBundle, RemoveValidator};
use assent_proto::v1::get_access_receipt_request::Access;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::receipt_service_client::ReceiptServiceClient;
use assent_proto::v1::{GetAccessReceiptRequest, GetPackRequest};
use prost::Message;

use crate::break_glass::{ask, emergency, glass_policy};
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

/// Length of a receipt of Birch's access `request_id` that starts at a checkpoint of so many leaves.
async fn pinned(net: &Net, request_id: &str, checkpoint_size: u64) -> usize {
    let access = Some(Access::RequestId(request_id.into()));
    let request = GetAccessReceiptRequest { access, access_seq: 0, checkpoint_size };
    let mut client = ReceiptServiceClient::new(net.client(net.index("birch"), "crm"));
    client.get_access_receipt(request).await.unwrap().into_inner().receipt.len()
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
        // Long after: the same release, and a receipt of it that starts at a checkpoint.
        let again = request(net.client(birch, "crm"), &format!("r-{n}"), "mrn-1").await.unwrap();
        assert_eq!(again, *bundle);
        let (at, ..) = verify_bundle(&trust(net), &bundle.encode_to_vec()).unwrap();
        assert!(pinned(net, &format!("r-{n}"), at.header.log_size + 1).await > 1000);
    }
    let shown = history(net.client(cedar, "portal"), "mrn-1").await.unwrap();
    let history = verify_history(&trust(net), &shown).unwrap();
    assert_eq!((history.slot.access_seq, history.accesses.len()), (4, 4));
    let asked = GetPackRequest { proof: None, patient: Some(patient("cedar", "mrn-1")) };
    let mut portal = PatientServiceClient::new(net.client(cedar, "portal"));
    let pack = portal.get_pack(asked).await.unwrap().into_inner().pack;
    let pack = verify_pack(&trust(net), &pack).unwrap();
    assert_eq!((pack.handle.to_vec(), pack.accesses.len(), pack.reasons.len()), (handle, 4, 4));
    assert!(matches!(pack.at.start, Start::Genesis { set_changes: 3, .. }), "{:?}", pack.at.start);

    // Three validators: without Dogwood there is no quorum.
    world.submitters.clear();
    world.net.stop(elm).await.unwrap();
    world.net.stop(dogwood).await.unwrap();
    let brought = ask(world.net.client(birch, "crm"), "l-0", emergency("Practitioner/grey", "mrn-1")).await;
    let brought = brought.unwrap();
    let late = LateBundle { proof: brought.late, resources: brought.bundle.resources };
    let (late, _) = verify_late_bundle(&trust(&world.net), &late.encode_to_vec()).unwrap();
    assert!(matches!(late.at.start, Start::Genesis { set_changes: 3, .. }), "{:?}", late.at.start);
    assert!(late.event.height <= late.at.header.height);
}
