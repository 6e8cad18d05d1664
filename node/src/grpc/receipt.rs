//! ReceiptService: receipts that stand without a node.

use assent_proto::v1::get_access_receipt_request::Access;
use assent_proto::v1::get_slot_receipt_request::{Opening, Subject};
use assent_proto::v1::receipt_service_server::ReceiptService;
use assent_proto::v1::{
    GetAccessReceiptRequest, GetAccessReceiptResponse, GetDecisionReceiptRequest, GetDecisionReceiptResponse,
    GetSlotReceiptRequest, GetSlotReceiptResponse, Patient,
};
use tonic::{Request, Response, Status};

use super::auth::{Client, Role};
use super::call::Caller;
use super::{border, Api};
use crate::chain::receipts::StartAt;
use crate::custodian::{blocking, OpenTo};
use crate::refusal::{Kind, Refusal};

/// Longest id of a consent, in bytes.
const MAX_ID_BYTES: usize = 512;

/// Refuses roles that may call the method, but not so.
fn only(client: &Client, roles: &[Role], how: &str) -> Result<(), Refusal> {
    if roles.contains(&client.role) {
        return Ok(());
    }
    let needed = roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(" or ");
    let message =
        format!("a receipt {how} needs the role {needed}, the client certificate has {}", client.role.name());
    Err(Refusal::new(Kind::PermissionDenied, "WRONG_ROLE", message).with("needed", needed))
}

impl Api {
    fn named_subject(&self, caller: &Caller, patient: Patient) -> Result<[u8; 32], Refusal> {
        only(&self.client(caller)?, &[Role::Portal, Role::Officer], "by a patient's name")?;
        let name = self.own_patient(Some(patient))?;
        let message = "no such patient here: check identifier and birth date";
        let not_found = || Refusal::new(Kind::NotFound, "PATIENT_NOT_FOUND", message);
        blocking(|| self.app.custodian.handle_of(&name))?.ok_or_else(not_found)
    }

    fn slot_receipt(
        &self,
        caller: &Caller,
        body: GetSlotReceiptRequest,
    ) -> Result<GetSlotReceiptResponse, Refusal> {
        let open = match body.opening {
            None | Some(Opening::AllConsents(false)) => OpenTo::Nothing,
            Some(Opening::AllConsents(true)) => OpenTo::All,
            Some(Opening::ConsentId(id)) => {
                border::text("consent_id", &id, MAX_ID_BYTES)?;
                OpenTo::One(id)
            }
        };
        let (custodian, handle) = match body.subject {
            Some(Subject::Proof(proof)) => {
                let proven = blocking(|| self.prove("GetSlotReceipt", Some(proof)))?;
                if open != OpenTo::Nothing {
                    self.own_custodian("proof.custodian", &proven.custodian)?;
                }
                (proven.custodian, proven.handle)
            }
            Some(Subject::Patient(patient)) => {
                (self.app.parts.organization.clone(), self.named_subject(caller, patient)?)
            }
            Some(Subject::Slot(slot)) => {
                only(&self.client(caller)?, &[Role::Auditor, Role::Officer], "by a handle")?;
                if open != OpenTo::Nothing {
                    return Err(border::malformed("opening", "a slot by its handle is shown unopened"));
                }
                border::organization("slot.custodian", &slot.custodian)?;
                (slot.custodian, border::bytes::<32>("slot.handle", &slot.handle)?)
            }
            None => return Err(border::malformed("subject", "missing")),
        };
        let start = StartAt::of(body.checkpoint_size);
        let receipt = blocking(|| self.app.custodian.slot_receipt(&custodian, &handle, &open, start))?;
        Ok(GetSlotReceiptResponse { answer: Some(self.answer()), receipt })
    }

    fn access_receipt(
        &self,
        caller: &Caller,
        body: GetAccessReceiptRequest,
    ) -> Result<GetAccessReceiptResponse, Refusal> {
        let start = StartAt::of(body.checkpoint_size);
        let of = |handle| blocking(|| self.app.custodian.access_receipt(&handle, body.access_seq, start));
        let receipt = match body.access {
            Some(Access::RequestId(id)) => {
                let client = self.client(caller)?;
                only(&client, &[Role::Crm, Role::Ehr], "by a request_id")?;
                border::request_id(&id)?;
                blocking(|| self.app.recipient.access_receipt(&client.id, &id, start))?
            }
            Some(Access::Proof(proof)) => {
                let proven = blocking(|| self.prove("GetAccessReceipt", Some(proof)))?;
                self.own_custodian("proof.custodian", &proven.custodian)?;
                of(proven.handle)?
            }
            Some(Access::Patient(patient)) => of(self.named_subject(caller, patient)?)?,
            None => return Err(border::malformed("access", "missing")),
        };
        Ok(GetAccessReceiptResponse { answer: Some(self.answer()), receipt })
    }

    async fn decision_receipt(
        &self,
        client: Client,
        body: GetDecisionReceiptRequest,
    ) -> Result<GetDecisionReceiptResponse, Refusal> {
        let start = StartAt::of(body.checkpoint_size);
        let query = self.known_query(body.query)?;
        let decided = self.app.recipient.decide_for_receipt(&client.id, &query).await?;
        // The custodian may be a block ahead.
        let answer = self.answer_from(decided.decision.height).await?;
        let receipt = blocking(|| self.app.recipient.decision_receipt(decided, start))?;
        Ok(GetDecisionReceiptResponse { answer: Some(answer), receipt })
    }
}

#[tonic::async_trait]
impl ReceiptService for Api {
    async fn get_slot_receipt(
        &self,
        request: Request<GetSlotReceiptRequest>,
    ) -> Result<Response<GetSlotReceiptResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.slot_receipt(&caller, body) };
        self.open("ReceiptService/GetSlotReceipt", request, work).await
    }

    async fn get_access_receipt(
        &self,
        request: Request<GetAccessReceiptRequest>,
    ) -> Result<Response<GetAccessReceiptResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.access_receipt(&caller, body) };
        self.open("ReceiptService/GetAccessReceipt", request, work).await
    }

    async fn get_decision_receipt(
        &self,
        request: Request<GetDecisionReceiptRequest>,
    ) -> Result<Response<GetDecisionReceiptResponse>, Status> {
        let work = |api: Self, client, body| async move { api.decision_receipt(client, body).await };
        self.call("ReceiptService/GetDecisionReceipt", request, work).await
    }
}
