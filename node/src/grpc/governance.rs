//! GovernanceService: steps of governance of this organization, and the membership.

use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::scheduled_change::Kind;
use assent_proto::ledger::v1::{ApproveChange, KeyPurpose, Organization, SuspendEntryKey};
use assent_proto::v1::governance_service_server::GovernanceService;
use assent_proto::v1::{
    ApproveRequest, ApproveResponse, GetMembershipRequest, GetMembershipResponse, ProposeRequest,
    ProposeResponse, RotateKeyRequest, RotateKeyResponse, SetAddressesRequest, SetAddressesResponse,
    SuspendRequest, SuspendResponse,
};
use prost::Message;
use rustls::pki_types::CertificateDer;
use rustls::RootCertStore;
use tonic::{Request, Response, Status};

use super::auth::Client;
use super::{border, Api};
use crate::governance::{commit, members, proposal_of, scheduled_for};
use crate::refusal::Refusal;

/// A ledger knows no X.509: whoever proposes a certificate authority learns here that no node could use it.
fn check_authority(field: &str, der: &[u8]) -> Result<(), Refusal> {
    RootCertStore::empty().add(CertificateDer::from(der)).map_err(|e| {
        let what = format!("{field}: not a certificate that can be an authority ({e})");
        Refusal::invalid("BAD_CERTIFICATE_AUTHORITY", field, what)
    })
}

fn check_change(change: Option<&Change>) -> Result<(), Refusal> {
    match change {
        Some(Change::AddOrganization(op)) => {
            let field = "change.add_organization.organization";
            let record = Organization::decode(op.organization.as_slice())
                .map_err(|_| border::malformed(field, "not an encoded Organization"))?;
            check_authority(field, &record.ca_certificate)
        }
        Some(Change::ReplaceKey(op)) if op.purpose() == KeyPurpose::CertificateAuthority => {
            check_authority("change.replace_key.new_key", &op.new_key)
        }
        Some(_) => Ok(()),
        None => Err(border::malformed("change", "missing")),
    }
}

impl Api {
    async fn propose_for(&self, client: Client, body: ProposeRequest) -> Result<ProposeResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let change = body.change.ok_or_else(|| border::malformed("change", "missing"))?;
        check_change(change.change.as_ref())?;
        let step = Step::Propose(change.clone());
        let height = commit(&self.app, &client.id, &body.request_id, step).await?;
        let answer = self.answer_from(height).await?;
        let proposed = proposal_of(&members(&self.app)?, &self.app.parts.organization, &change);
        Ok(ProposeResponse {
            answer: Some(answer),
            height,
            proposal: proposed.number,
            effective_height: proposed.effective_height,
        })
    }

    async fn approve_for(&self, client: Client, body: ApproveRequest) -> Result<ApproveResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let step = Step::Approve(ApproveChange { proposal: body.proposal });
        let height = commit(&self.app, &client.id, &body.request_id, step).await?;
        let answer = self.answer_from(height).await?;
        let decided = |kind: &Kind| matches!(kind, Kind::Proposal(p) if p.number == body.proposal);
        let effective_height = scheduled_for(&members(&self.app)?, decided);
        Ok(ApproveResponse { answer: Some(answer), height, effective_height })
    }

    async fn suspend_for(&self, client: Client, body: SuspendRequest) -> Result<SuspendResponse, Refusal> {
        border::request_id(&body.request_id)?;
        border::organization("organization", &body.organization)?;
        let organization = body.organization;
        let step = Step::SuspendEntryKey(SuspendEntryKey { organization: organization.clone() });
        let height = commit(&self.app, &client.id, &body.request_id, step).await?;
        let answer = self.answer_from(height).await?;
        let membership = members(&self.app)?;
        let suspended =
            membership.organizations.iter().any(|o| o.id == organization && o.entry_key.is_empty());
        Ok(SuspendResponse { answer: Some(answer), height, suspended })
    }

    async fn rotate_key_for(
        &self,
        client: Client,
        body: RotateKeyRequest,
    ) -> Result<RotateKeyResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let rotation = body.rotation.ok_or_else(|| border::malformed("rotation", "missing"))?;
        if rotation.purpose() == KeyPurpose::CertificateAuthority {
            check_authority("rotation.new_key", &rotation.new_key)?;
        }
        let new_key = rotation.new_key.clone();
        let height = commit(&self.app, &client.id, &body.request_id, Step::RotateKey(rotation)).await?;
        let answer = self.answer_from(height).await?;
        let own = |kind: &Kind| matches!(kind, Kind::Key(key) if key.new_key == new_key);
        let effective_height = scheduled_for(&members(&self.app)?, own);
        Ok(RotateKeyResponse { answer: Some(answer), height, effective_height })
    }

    async fn set_addresses_for(
        &self,
        client: Client,
        body: SetAddressesRequest,
    ) -> Result<SetAddressesResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let addresses = body.addresses.ok_or_else(|| border::malformed("addresses", "missing"))?;
        let height = commit(&self.app, &client.id, &body.request_id, Step::SetAddresses(addresses)).await?;
        Ok(SetAddressesResponse { answer: Some(self.answer_from(height).await?), height })
    }

    async fn membership_for(&self) -> Result<GetMembershipResponse, Refusal> {
        let answer = self.answer();
        Ok(GetMembershipResponse { answer: Some(answer), membership: Some(members(&self.app)?) })
    }
}

#[tonic::async_trait]
impl GovernanceService for Api {
    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        let work = |api: Self, client, body| async move { api.propose_for(client, body).await };
        self.call("GovernanceService/Propose", request, work).await
    }

    async fn approve(&self, request: Request<ApproveRequest>) -> Result<Response<ApproveResponse>, Status> {
        let work = |api: Self, client, body| async move { api.approve_for(client, body).await };
        self.call("GovernanceService/Approve", request, work).await
    }

    async fn suspend(&self, request: Request<SuspendRequest>) -> Result<Response<SuspendResponse>, Status> {
        let work = |api: Self, client, body| async move { api.suspend_for(client, body).await };
        self.call("GovernanceService/Suspend", request, work).await
    }

    async fn rotate_key(
        &self,
        request: Request<RotateKeyRequest>,
    ) -> Result<Response<RotateKeyResponse>, Status> {
        let work = |api: Self, client, body| async move { api.rotate_key_for(client, body).await };
        self.call("GovernanceService/RotateKey", request, work).await
    }

    async fn set_addresses(
        &self,
        request: Request<SetAddressesRequest>,
    ) -> Result<Response<SetAddressesResponse>, Status> {
        let work = |api: Self, client, body| async move { api.set_addresses_for(client, body).await };
        self.call("GovernanceService/SetAddresses", request, work).await
    }

    async fn get_membership(
        &self,
        request: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        self.call("GovernanceService/GetMembership", request, |api, _, _| async move {
            api.membership_for().await
        })
        .await
    }
}
