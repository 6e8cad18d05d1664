//! The patient pack of a running network: all consents and all accesses, for the patient and the portal only.

use assent_ledger::pack::verify_pack;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::{ControlProof, GetPackRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::grpc::{is, now_ms, proof};
use crate::net::Net;
use crate::patient::*;

async fn pack(channel: Channel, request: GetPackRequest) -> Result<Vec<u8>, Status> {
    Ok(PatientServiceClient::new(channel).get_pack(request).await?.into_inner().pack)
}

fn by_key(proof: ControlProof) -> GetPackRequest {
    GetPackRequest { proof: Some(proof), ..Default::default() }
}

fn by_portal(value: &str) -> GetPackRequest {
    GetPackRequest { patient: Some(patient("cedar", value)), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pack_holds_all_consents_and_accesses_of_one_patient() {
    let net = Net::started(2).await;
    let (cedar, birch) = (net.index("cedar"), net.index("birch"));
    let handle = enrolled(&net, "mrn-1", "2030-12-31").await;
    let signed = |method, nonce| proof(&control_key(), method, &handle, nonce, now_ms());
    let anyone = net.client_with(cedar, None);
    let bytes = pack(anyone.clone(), by_key(signed("GetPack", 1))).await.unwrap();
    let shown = verify_pack(&trust(&net), &bytes).unwrap();
    assert_eq!((shown.handle.to_vec(), shown.accesses.len(), shown.consents.len()), (handle.clone(), 0, 1));

    request(net.client(birch, "crm"), "r-1", "mrn-1").await.unwrap();
    request(net.client(birch, "crm"), "r-2", "mrn-1").await.unwrap();
    let second = consent("Patient/mrn-1", "c-second", "2031-12-31");
    import(net.client(cedar, "portal"), "i-2", "mrn-1", second.clone()).await.unwrap();
    let bytes = pack(net.client(cedar, "portal"), by_portal("mrn-1")).await.unwrap();
    let shown = verify_pack(&trust(&net), &bytes).unwrap();
    assert_eq!((shown.accesses.len(), shown.reasons.len(), shown.slot.access_seq), (2, 2, 2));
    assert!(shown.reasons.iter().all(|reasons| !reasons.decided_by.is_empty()), "{:?}", shown.reasons);
    assert!(shown.consents.iter().any(|body| body.fhir == second), "{:?}", shown.consents.len());
    assert_eq!(shown.consents.len(), 2);

    // Nobody else gets it, and each refusal is the one that the history has.
    let wrong = [signed("GetHistory", 2), proof(&control_key(), "GetPack", &[5; 32], 3, now_ms())];
    for wrong in wrong {
        is(&pack(anyone.clone(), by_key(wrong)).await.unwrap_err(), Code::NotFound, "SLOT_NOT_FOUND");
    }
    let crm = pack(net.client(cedar, "crm"), by_portal("mrn-1")).await.unwrap_err();
    is(&crm, Code::PermissionDenied, "WRONG_ROLE");
    let nobody = pack(anyone, by_portal("mrn-1")).await.unwrap_err();
    is(&nobody, Code::Unauthenticated, "NO_CLIENT_CERTIFICATE");
    let unknown = pack(net.client(cedar, "portal"), by_portal("mrn-9")).await.unwrap_err();
    is(&unknown, Code::NotFound, "PATIENT_NOT_FOUND");
    let elsewhere = pack(net.client_with(birch, None), by_key(signed("GetPack", 4))).await.unwrap_err();
    is(&elsewhere, Code::FailedPrecondition, "FOREIGN_CUSTODIAN");
}
