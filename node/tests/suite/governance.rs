//! Governance over gRPC, in a network of one: whatever it proposes is decided at once.

use assent_ledger::audit::verify_export;
use assent_ledger::keys::SigningKey;
use assent_ledger::peer_id::peer_id;
use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::{AddOrganization, Membership, Organization, ProposeChange, SetAddresses};
use assent_proto::v1::governance_service_client::GovernanceServiceClient;
use assent_proto::v1::*;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::net::Net;
use crate::patient::reason;

/// A newcomer with another member's kind of certificate.
fn newcomer(net: &Net) -> Organization {
    let public = |n: u8| SigningKey::from_bytes(&[n; 32]).verifying_key().to_bytes();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    assert!(net.genesis.organizations.iter().all(|o| o.id != "fir"));
    Organization {
        id: "fir".into(),
        name: "Fir hospital".into(),
        entry_key: public(201).to_vec(),
        consensus_peer_id: peer_id(&public(202)),
        consensus_address: "/ip4/127.0.0.1/tcp/9".into(),
        exchange_peer_id: peer_id(&public(203)),
        exchange_address: "/ip4/127.0.0.1/tcp/9".into(),
        ca_certificate: params.self_signed(&key).unwrap().der().to_vec(),
        checkpoint_key: public(204).to_vec(),
    }
}

fn add(effective_height: u64, record: &Organization) -> ProposeChange {
    let change = Change::AddOrganization(AddOrganization { organization: record.encode_to_vec() });
    ProposeChange { effective_height, change: Some(change) }
}

async fn propose(channel: Channel, id: &str, change: ProposeChange) -> Result<ProposeResponse, Status> {
    let request = ProposeRequest { request_id: id.into(), change: Some(change) };
    Ok(GovernanceServiceClient::new(channel).propose(request).await?.into_inner())
}

async fn members(channel: Channel) -> (Membership, u64) {
    let answer = GovernanceServiceClient::new(channel).get_membership(GetMembershipRequest {}).await;
    let answer = answer.unwrap().into_inner();
    (answer.membership.unwrap(), answer.answer.unwrap().height)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_operator_proposes_and_everybody_sees_it() {
    let net = Net::started(1).await;
    let (operator, fir) = (net.client(0, "operator"), newcomer(&net));
    let (before, height) = members(net.client(0, "crm")).await;
    assert_eq!(before.organizations, net.genesis.organizations);
    let at = height + 6;
    let forbidden = propose(net.client(0, "crm"), "p-0", add(at, &fir)).await.unwrap_err();
    assert_eq!(forbidden.code(), Code::PermissionDenied);

    let proposed = propose(operator.clone(), "p-1", add(at, &fir)).await.unwrap();
    assert_eq!((proposed.proposal, proposed.effective_height), (1, at));
    // The same request again: the same entry. Another one under its id: refused.
    let again = propose(operator.clone(), "p-1", add(at, &fir)).await.unwrap();
    assert_eq!((again.proposal, again.height), (1, proposed.height));
    let reused = propose(operator.clone(), "p-1", add(at + 1, &fir)).await.unwrap_err();
    assert_eq!(reason(&reused), "REQUEST_ID_REUSED");

    let mut service = GovernanceServiceClient::new(operator.clone());
    let port = |port: u16| format!("/ip4/127.0.0.1/tcp/{port}");
    let addresses = SetAddresses { consensus_address: port(7001), exchange_address: port(7002) };
    let request = SetAddressesRequest { request_id: "a-1".into(), addresses: Some(addresses) };
    service.set_addresses(request).await.unwrap();
    // Heartbeats make the heights.
    let begin = std::time::Instant::now();
    let after = loop {
        let (now, height) = members(net.client(0, "auditor")).await;
        if height + 1 >= at {
            break now;
        }
        assert!(begin.elapsed().as_secs() < 60);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert!(after.organizations.contains(&fir) && after.scheduled.is_empty());
    assert!(after.organizations.iter().any(|o| o.consensus_address == port(7001)));
    let (verifier, outcome) = verify_export(&net.export(0).await, Some(net.genesis.hash), |_| {});
    assert_eq!(outcome, Ok(()));
    let sets: Vec<u64> = verifier.sets.iter().map(|s| s.height).collect();
    assert_eq!(sets, [1, at]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_ledger_or_the_border_refuses_is_named() {
    let net = Net::started(1).await;
    let (operator, fir) = (net.client(0, "operator"), newcomer(&net));
    let mut service = GovernanceServiceClient::new(operator.clone());
    let (_, height) = members(operator.clone()).await;
    let later = height + 1_000;
    let with = |change: fn(&mut Organization)| {
        let mut record = fir.clone();
        change(&mut record);
        add(later, &record)
    };
    let own = net.genesis.organizations[0].entry_key.clone();
    let taken = Organization { entry_key: own, ..fir.clone() };
    let table = [
        (add(height, &fir), Code::FailedPrecondition, "EFFECTIVE_HEIGHT_TOO_LOW"),
        (with(|o| o.ca_certificate = vec![0x30, 1, 0]), Code::InvalidArgument, "BAD_CERTIFICATE_AUTHORITY"),
        (with(|o| o.entry_key = vec![2; 32]), Code::InvalidArgument, "BAD_KEY"),
        (with(|o| o.consensus_address = "nowhere".into()), Code::InvalidArgument, "MALFORMED_ENTRY"),
        (add(later, &taken), Code::FailedPrecondition, "KEY_IN_USE"),
        (ProposeChange::default(), Code::InvalidArgument, "MALFORMED_REQUEST"),
    ];
    for (n, (change, code, why)) in table.into_iter().enumerate() {
        let refused = propose(operator.clone(), &format!("p-{n}"), change).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, why), "row {n}");
    }
    let refused =
        service.approve(ApproveRequest { request_id: "a-1".into(), proposal: 7 }).await.unwrap_err();
    assert_eq!(reason(&refused), "NO_PROPOSAL");
    // Its own key: nobody would be left to bring one back.
    let organization = net.genesis.organizations[0].id.clone();
    let request = SuspendRequest { request_id: "s-1".into(), organization };
    assert_eq!(reason(&service.suspend(request).await.unwrap_err()), "NOBODY_LEFT_TO_APPROVE");
    let request = RotateKeyRequest { request_id: "r-1".into(), rotation: None };
    assert_eq!(reason(&service.rotate_key(request).await.unwrap_err()), "MALFORMED_REQUEST");
    assert!(members(operator).await.0.proposals.is_empty());
}
