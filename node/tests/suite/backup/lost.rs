//! A slot whose consents the vault has lost: who may begin them anew, and what is then seen.

use std::time::Duration;

use assent_node::custodian::LOST_CONSENTS;
use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::{new_consent, ListConsentsRequest, NewConsent, RecordConsentRequest};
use tonic::Code;

use crate::guard::status;
use crate::net::Net;
use crate::patient::*;

/// An officer begins the consents of mrn-1 anew: c-mrn-1 and the lost c-9 are gone, and the new one says so.
pub async fn replaces_what_is_lost(net: &Net, cedar: usize) {
    let request = |id: &str, value: &str, consent_id: &str, supersedes: &[&str]| RecordConsentRequest {
        request_id: id.into(),
        patient: Some(patient("cedar", value)),
        consent: Some(NewConsent {
            form: Some(new_consent::Form::Fhir(consent(
                &format!("Patient/{value}"),
                consent_id,
                "2030-12-31",
            ))),
            ..NewConsent::default()
        }),
        supersedes: supersedes.iter().map(|id| (*id).to_owned()).collect(),
        ..RecordConsentRequest::default()
    };
    let record = async |role: &str, request: RecordConsentRequest| {
        let mut client = ConsentServiceClient::new(net.client(cedar, role));
        client.record_consent(request).await.map(|answer| answer.into_inner())
    };
    let lost = [LOST_CONSENTS];
    for (what, role, request, code, wanted) in [
        ("plainly", "officer", request("p-1", "mrn-1", "n-1", &[]), Code::Unavailable, "VAULT_MISMATCH"),
        ("portal", "portal", request("p-2", "mrn-1", "n-1", &lost), Code::PermissionDenied, "OFFICER_NEEDED"),
        ("whole", "officer", request("p-3", "mrn-2", "n-1", &lost), Code::FailedPrecondition, "NOTHING_LOST"),
        (
            "old id",
            "officer",
            request("p-4", "mrn-1", "c-mrn-1", &lost),
            Code::AlreadyExists,
            "CONSENT_ID_TAKEN",
        ),
    ] {
        let refused = record(role, request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, wanted), "{what}");
    }
    let recorded = record("officer", request("p-5", "mrn-1", "n-1", &lost)).await.unwrap();
    assert_eq!((recorded.consent_id.as_str(), recorded.revision, recorded.consent_seq), ("n-1", 1, 4));
    check(net.client(cedar, "crm"), "mrn-1", "TREAT").await.unwrap_err(); // Cedar is not who it permits
    let birch = net.index("birch");
    check(net.client(birch, "crm"), "mrn-1", "TREAT").await.unwrap();
    let listed = ListConsentsRequest { patient: Some(patient("cedar", "mrn-1")), ..Default::default() };
    let mut client = ConsentServiceClient::new(net.client(cedar, "officer"));
    let listed = client.list_consents(listed).await.unwrap().into_inner().consents;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(
        (listed[0].consent_id.as_str(), &listed[0].supersedes[..]),
        ("n-1", &[LOST_CONSENTS.to_owned()][..])
    );
    for round in 0.. {
        if status(net, cedar).await.vault_missing_consents == 1 {
            break;
        }
        assert!(round < 90, "the repaired slot is still counted");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
