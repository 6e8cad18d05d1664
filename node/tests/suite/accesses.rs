//! A client's history of its own accesses.

use assent_ledger::entry::entry_hash;
use assent_proto::v1::exchange_service_client::ExchangeServiceClient;
use assent_proto::v1::*;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::net::{leaf, Net, CHAIN};
use crate::patient::*;

async fn list(channel: &Channel, page_size: u32, token: &str) -> Result<ListAccessesResponse, Status> {
    let request = ListAccessesRequest { page_size, page_token: token.into() };
    Ok(ExchangeServiceClient::new(channel.clone()).list_accesses(request).await?.into_inner())
}

fn ids(page: &ListAccessesResponse) -> Vec<&str> {
    page.accesses.iter().map(|a| a.request_id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_lists_what_it_got_itself_and_nothing_else() {
    let mut net = Net::started(1).await;
    let reference = "Patient/mrn-1";
    create_subject(net.client(0, "registrar"), "s-1", "mrn-1", reference).await.unwrap();
    load(net.client(0, "ehr"), "l-1", records(reference)).await.unwrap();
    let fhir = String::from_utf8(consent(reference, "c-1", "2030-12-31")).unwrap().replace("birch", "cedar");
    import(net.client(0, "portal"), "i-1", "mrn-1", fhir.into_bytes()).await.unwrap();
    let other = |role: &str, name: &str| {
        let uri = format!("spiffe://{CHAIN}/org/cedar/{role}/{name}");
        net.client_with(0, Some(leaf(&net.members[0].ca, &uri, false, 30)))
    };
    let (crm, desk, ehr) = (net.client(0, "crm"), other("crm", "desk"), other("ehr", "test"));
    assert!(list(&crm, 0, "").await.unwrap().accesses.is_empty());

    let mut bundles = Vec::new();
    for n in 1..=3 {
        bundles.push(request(crm.clone(), &format!("r-{n}"), "mrn-1").await.unwrap());
    }
    request(desk.clone(), "r-desk", "mrn-1").await.unwrap();
    // Neither a retry nor what was not released is an access.
    request(crm.clone(), "r-2", "mrn-1").await.unwrap();
    assert_eq!(reason(&request(crm.clone(), "r-9", "mrn-9").await.unwrap_err()), "NOT_RELEASED");

    let all = list(&crm, 0, "").await.unwrap();
    assert_eq!((ids(&all), all.next_page_token.as_str()), (vec!["r-3", "r-2", "r-1"], ""));
    for (access, bundle) in all.accesses.iter().zip(bundles.iter().rev()) {
        let verified = verified(&net, bundle);
        assert_eq!((access.height, access.time_ms), (verified.height, verified.time_ms));
        assert_eq!((access.resources, access.outcome()), (2, Outcome::Permit));
        let entry = &claim_of(bundle.proof.as_ref().unwrap()).entry;
        assert_eq!(access.entry_hash, entry_hash(CHAIN, entry));
        let asked = Query { action: "access".into(), ..query("mrn-1", "TREAT") };
        assert_eq!(access.query, Some(asked));
        assert_eq!(access.request_hash.len(), 32);
        assert!(all.answer.as_ref().unwrap().height >= access.height);
    }
    // Page by page; what comes meanwhile does not move the pages.
    let first = list(&crm, 2, "").await.unwrap();
    assert_eq!(ids(&first), ["r-3", "r-2"]);
    request(crm.clone(), "r-4", "mrn-1").await.unwrap();
    let second = list(&crm, 2, &first.next_page_token).await.unwrap();
    assert_eq!((ids(&second), second.next_page_token.as_str()), (vec!["r-1"], ""));
    assert_eq!(ids(&list(&crm, u32::MAX, "").await.unwrap()), ["r-4", "r-3", "r-2", "r-1"]);

    // By the whole SAN: another name, or another role of the same name, is another client; tokens included.
    assert_eq!(ids(&list(&desk, 0, "").await.unwrap()), ["r-desk"]);
    assert!(list(&ehr, 0, "").await.unwrap().accesses.is_empty());
    let token = &first.next_page_token;
    for (channel, token) in [(&desk, token.clone()), (&crm, "00".repeat(69)), (&crm, "x".repeat(100_000))] {
        let refused = list(channel, 2, &token).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "BAD_PAGE_TOKEN"));
    }
    let wrong = list(&net.client(0, "portal"), 0, "").await.unwrap_err();
    assert_eq!((wrong.code(), reason(&wrong).as_str()), (Code::PermissionDenied, "WRONG_ROLE"));
    // Kept through a restart, tokens too.
    net.stop(0).await.unwrap();
    net.start(0).await;
    assert_eq!(ids(&list(&net.client(0, "crm"), 2, token).await.unwrap()), ["r-1"]);
}
