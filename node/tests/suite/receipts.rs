//! Receipts that stand without a node: who gets them, and that they hold.

use assent_ledger::receipts::{verify, Claim, Consents, Trust, Verified};
use assent_proto::v1::get_access_receipt_request::Access;
use assent_proto::v1::get_slot_receipt_request::{Opening, Subject};
use assent_proto::v1::receipt_service_client::ReceiptServiceClient;
use assent_proto::v1::*;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::grpc::{is, proof};
use crate::net::Net;
use crate::patient::*;

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as u64
}

async fn slot_of(
    channel: Channel,
    subject: Subject,
    opening: Option<Opening>,
    checkpoint_size: u64,
) -> Result<Vec<u8>, Status> {
    let request = GetSlotReceiptRequest { subject: Some(subject), opening, checkpoint_size };
    Ok(ReceiptServiceClient::new(channel).get_slot_receipt(request).await?.into_inner().receipt)
}

async fn access_of(channel: Channel, access: Access, access_seq: u64) -> Result<Vec<u8>, Status> {
    let request = GetAccessReceiptRequest { access: Some(access), access_seq, checkpoint_size: 0 };
    Ok(ReceiptServiceClient::new(channel).get_access_receipt(request).await?.into_inner().receipt)
}

async fn decision_of(channel: Channel, query: Query) -> Result<Vec<u8>, Status> {
    let request = GetDecisionReceiptRequest { query: Some(query), checkpoint_size: 0 };
    Ok(ReceiptServiceClient::new(channel).get_decision_receipt(request).await?.into_inner().receipt)
}

fn name(handle: &[u8]) -> Subject {
    Subject::Slot(SlotName { custodian: "cedar".into(), handle: handle.to_vec() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slots_accesses_and_permits_have_receipts_that_hold() {
    let net = Net::started(4).await;
    let (birch, cedar, dogwood) = (net.index("birch"), net.index("cedar"), net.index("dogwood"));
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    let bundle = request(net.client(birch, "crm"), "r-1", "mrn-1").await.unwrap();
    let trust = Trust::genesis(net.genesis.hash);
    let holds = |bytes: &[u8]| -> Verified {
        assert!(bytes.len() <= 4096, "{} bytes", bytes.len());
        verify(&trust, bytes).unwrap()
    };

    // The access: the same for who got the records, the custodian's portal and the patient.
    let mine = access_of(net.client(birch, "crm"), Access::RequestId("r-1".into()), 0).await.unwrap();
    let portal = Access::Patient(patient("cedar", "mrn-1"));
    let portal = access_of(net.client(cedar, "portal"), portal, 1).await.unwrap();
    let by_key = proof(&control_key(), "GetAccessReceipt", &handle, 1, now_ms());
    let own = access_of(net.client_with(cedar, None), Access::Proof(by_key), 1).await.unwrap();
    for receipt in [&mine, &portal, &own] {
        let Claim::Access(access) = holds(receipt).claim else { panic!("not an access") };
        assert_eq!((access.request.recipient.as_str(), access.event.resources), ("birch", 2));
        assert_eq!(claim_of(bundle.proof.as_ref().unwrap()).entry.len() as u64 > 0, access.height > 0);
    }
    // Neither another client's, nor one that is not there.
    let ehr = access_of(net.client(birch, "ehr"), Access::RequestId("r-1".into()), 0).await.unwrap_err();
    is(&ehr, Code::NotFound, "ACCESS_NOT_FOUND");
    for number in [0, 2] {
        let asked = Access::Patient(patient("cedar", "mrn-1"));
        let none = access_of(net.client(cedar, "portal"), asked, number).await.unwrap_err();
        is(&none, Code::NotFound, "ACCESS_NOT_FOUND");
    }
    let wrong = access_of(net.client(cedar, "portal"), Access::RequestId("r-1".into()), 0).await.unwrap_err();
    is(&wrong, Code::PermissionDenied, "WRONG_ROLE");

    // The consent, opened for the patient and the portal.
    let by_key =
        || Subject::Proof(proof(&control_key(), "GetSlotReceipt", &handle, rand::random(), now_ms()));
    let one = Some(Opening::ConsentId("c-mrn-1".into()));
    let receipt = slot_of(net.client_with(cedar, None), by_key(), one.clone(), 0).await.unwrap();
    let Claim::Slot(slot) = holds(&receipt).claim else { panic!("not a slot") };
    let Some(Consents::One { leaf, count, body }) = slot.consents else { panic!("not opened") };
    assert_eq!((leaf.id.as_str(), count, body.unwrap().revision), ("c-mrn-1", 1, 1));
    let named = Subject::Patient(patient("cedar", "mrn-1"));
    let all = Some(Opening::AllConsents(true));
    let receipt = slot_of(net.client(cedar, "portal"), named.clone(), all.clone(), 0).await.unwrap();
    let Claim::Slot(slot) = holds(&receipt).claim else { panic!("not a slot") };
    assert!(matches!(slot.consents, Some(Consents::All(leaves)) if leaves.len() == 1));
    let absent = Some(Opening::ConsentId("c-9".into()));
    is(
        &slot_of(net.client(cedar, "portal"), named.clone(), absent, 0).await.unwrap_err(),
        Code::NotFound,
        "CONSENT_NOT_FOUND",
    );
    // Through any node without its opening; the auditor by the handle alone, absence too.
    for receipt in [
        slot_of(net.client_with(dogwood, None), by_key(), None, 0).await.unwrap(),
        slot_of(net.client(dogwood, "auditor"), name(&handle), None, 0).await.unwrap(),
    ] {
        let Claim::Slot(slot) = holds(&receipt).claim else { panic!("not a slot") };
        assert!(slot.slot.is_some() && slot.consents.is_none());
    }
    let receipt = slot_of(net.client(dogwood, "auditor"), name(&[9; 32]), None, 0).await.unwrap();
    assert!(matches!(holds(&receipt).claim, Claim::Slot(slot) if slot.slot.is_none()));
    let foreign = slot_of(net.client_with(dogwood, None), by_key(), one, 0).await.unwrap_err();
    is(&foreign, Code::FailedPrecondition, "FOREIGN_CUSTODIAN");
    let opened = slot_of(net.client(cedar, "auditor"), name(&handle), all, 0).await.unwrap_err();
    is(&opened, Code::InvalidArgument, "MALFORMED_REQUEST");
    let by_name = slot_of(net.client(cedar, "auditor"), named, None, 0).await.unwrap_err();
    is(&by_name, Code::PermissionDenied, "WRONG_ROLE");
    let future = slot_of(net.client(dogwood, "auditor"), name(&handle), None, 1 << 40).await.unwrap_err();
    is(&future, Code::FailedPrecondition, "OTHER_CHECKPOINT");

    // A permit; no receipt of a refusal.
    let receipt = decision_of(net.client(birch, "crm"), query("mrn-1", "TREAT")).await.unwrap();
    let Claim::Decision(permit) = holds(&receipt).claim else { panic!("not a decision") };
    assert_eq!((permit.decision.outcome.as_str(), permit.request.purpose.as_str()), ("PERMIT", "TREAT"));
    assert!(permit.policy_shown);
    let denied = decision_of(net.client(birch, "crm"), query("mrn-1", "HMARKT")).await.unwrap_err();
    let unknown = decision_of(net.client(birch, "crm"), query("mrn-9", "TREAT")).await.unwrap_err();
    assert_eq!(shape(&denied), shape(&unknown));
    is(&denied, Code::PermissionDenied, "NOT_RELEASED");
}
