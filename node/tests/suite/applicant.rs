//! A node that the ledger does not know: its own operator is told how it stands, and that is all that anybody gets.

use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::AddOrganization;
use assent_proto::v1::audit_service_client::AuditServiceClient;
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::governance_service_client::GovernanceServiceClient;
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::*;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::membership::{World, PATIENCE};
use crate::net::{leaf, CHAIN};
use crate::patient::reason;

async fn status(channel: Channel) -> Result<GetStatusResponse, Status> {
    NodeServiceClient::new(channel).get_status(GetStatusRequest {}).await.map(|answer| answer.into_inner())
}

async fn members(channel: Channel) -> Result<usize, Status> {
    let answer = GovernanceServiceClient::new(channel).get_membership(GetMembershipRequest {}).await?;
    Ok(answer.into_inner().membership.unwrap().organizations.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applicants_operator_is_answered_until_the_ledger_names_its_authority() {
    let mut world = World::new().await;
    let (fir, mut organization, _) = world.net.join("fir");
    world.submitters.push(world.net.start_with(fir).await);
    world.net.says(fir, "not ready: not-a-member: fir is no member", PATIENCE).await;

    // Its operator learns where it stands.
    let operator = world.net.client(fir, "operator");
    let said = status(operator.clone()).await.unwrap();
    assert_eq!((said.organization.as_str(), said.role.as_str()), ("fir", "not a member"));
    assert!(!said.fresh && said.not_fresh_reason.starts_with("not-a-member: "), "{}", said.not_fresh_reason);
    assert_eq!(members(operator.clone()).await.unwrap(), 4);

    // It writes nothing and reads nothing else.
    let refused = [
        AuditServiceClient::new(operator.clone()).get_block(GetBlockRequest { height: 1 }).await.err(),
        GovernanceServiceClient::new(operator.clone())
            .approve(ApproveRequest { request_id: "a-1".into(), proposal: 1 })
            .await
            .err(),
        DecisionServiceClient::new(operator.clone())
            .check_consent(CheckConsentRequest::default())
            .await
            .err(),
    ];
    for refused in refused {
        let refused = refused.unwrap();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "NOT_A_MEMBER"));
    }
    // Nobody else of its organization is answered, nor is who only says that he is its operator.
    for role in ["crm", "ehr", "portal", "registrar", "officer", "auditor"] {
        let refused = status(world.net.client(fir, role)).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unauthenticated, "CERTIFICATE_OF_OTHER_ORGANIZATION"),
            "{role}"
        );
    }
    let uri = format!("spiffe://{CHAIN}/org/fir/operator/test");
    let birchs = leaf(&world.net.members[0].ca, &uri, false, 30);
    let refused = status(world.net.client_with(fir, Some(birchs))).await.unwrap_err();
    assert_eq!(reason(&refused), "CERTIFICATE_OF_OTHER_ORGANIZATION");
    // At another's node it is a stranger: TLS itself refuses it.
    let own = leaf(&world.net.members[fir].ca, &uri, false, 30);
    let refused = status(world.net.client_with(0, Some(own))).await.unwrap_err();
    assert!(refused.details().is_empty(), "no service answered: {refused:?}");
    let foreign =
        leaf(&world.net.members[0].ca, &format!("spiffe://{CHAIN}/org/birch/operator/test"), false, 30);
    let refused = status(world.net.client_with(fir, Some(foreign))).await.unwrap_err();
    assert_eq!(reason(&refused), "FOREIGN_CLIENT");

    // The ledger names another authority than its folder has: from then on that one counts, also on open connections.
    let (ledgers, _, _) = world.net.join("fir-again");
    organization.ca_certificate = world.net.members[ledgers].ca.der().to_vec();
    let record = organization.encode_to_vec();
    world.change(1, Change::AddOrganization(AddOrganization { organization: record }), &[1, 2], 1).await;
    let of_ledger = leaf(&world.net.members[ledgers].ca, &uri, false, 30);
    let begin = std::time::Instant::now();
    let said = loop {
        match status(world.net.client_with(fir, Some(of_ledger.clone()))).await {
            Ok(said) => break said,
            Err(status) => assert!(begin.elapsed() < PATIENCE, "{status}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(said.role, "observer");
    let refused = status(operator).await.unwrap_err();
    assert_eq!(reason(&refused), "CERTIFICATE_OF_OTHER_ORGANIZATION");
}
