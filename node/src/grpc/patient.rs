//! The patient: sees and stops every use. With the control key and no client certificate (proof), or through the portal.

use assent_ledger::entry::withdraw_sign_bytes;
use assent_proto::v1::patient_service_server::PatientService;
use assent_proto::v1::{
    Answer, CancelReplacementRequest, CancelReplacementResponse, CommitGrantRequest, CommitGrantResponse,
    ControlProof, GetHistoryRequest, GetHistoryResponse, GetPackRequest, GetPackResponse, GetSlotRequest,
    GetSlotResponse, ListNoticesRequest, ListNoticesResponse, Patient, PrepareGrantRequest,
    PrepareGrantResponse, ReplaceControlKeyRequest, ReplaceControlKeyResponse, WithdrawRequest,
    WithdrawResponse,
};
use tonic::{Request, Response, Status};

use super::call::Caller;
use super::proof::{prove, signed_by_control_key, slot_not_found, Proven};
use super::{border, Api};
use crate::chain::receipts::StartAt;
use crate::custodian::blocking;
use crate::refusal::{Kind, Refusal};

impl Api {
    pub(super) fn prove(&self, method: &str, proof: Option<ControlProof>) -> Result<Proven, Refusal> {
        prove(&self.app.parts, &self.gate, method, proof)
    }

    async fn withdraw_slot(&self, body: WithdrawRequest) -> Result<WithdrawResponse, Refusal> {
        self.gate.admit_withdrawal()?;
        border::request_id(&body.request_id)?;
        let withdraw = body.withdraw.ok_or_else(|| border::malformed("withdraw", "missing"))?;
        border::organization("withdraw.custodian", &withdraw.custodian)?;
        let handle = border::bytes::<32>("withdraw.handle", &withdraw.handle)?;
        let signature = border::bytes::<64>("withdraw.patient_signature", &withdraw.patient_signature)?;
        let parts = &self.app.parts;
        let message =
            withdraw_sign_bytes(parts.chain_id(), &withdraw.custodian, &handle, withdraw.withdraw_seq);
        // Checked before anything is stored for a caller that nobody knows. The ledger checks it again.
        let view = parts.store.view()?;
        let slot = view.slot(&withdraw.custodian, &handle)?;
        if !signed_by_control_key(parts, slot.as_ref(), view.tip.time_ms, &message, &signature) {
            return Err(slot_not_found());
        }
        drop(view);
        let height = self.app.custodian.withdraw(&body.request_id, withdraw).await?;
        Ok(WithdrawResponse { answer: Some(self.answer_from(height).await?), height })
    }

    /// The subject of this custodian whom a call is about: with a control proof for the method, or named by the portal.
    pub(super) fn subject_of(
        &self,
        caller: &Caller,
        method: &str,
        proof: Option<ControlProof>,
        patient: Option<Patient>,
    ) -> Result<([u8; 32], Answer), Refusal> {
        match (proof, patient) {
            (Some(proof), None) => {
                let proven = blocking(|| self.prove(method, Some(proof)))?;
                self.own_custodian("proof.custodian", &proven.custodian)?;
                Ok((proven.handle, proven.answer))
            }
            (None, patient) => {
                self.client(caller)?;
                let name = self.own_patient(patient)?;
                let message = "no such patient here: check identifier and birth date";
                let not_found = || Refusal::new(Kind::NotFound, "PATIENT_NOT_FOUND", message);
                Ok((blocking(|| self.app.custodian.handle_of(&name))?.ok_or_else(not_found)?, self.answer()))
            }
            (Some(_), Some(_)) => Err(border::malformed("proof", "give a proof or a patient, not both")),
        }
    }

    async fn history_for(
        &self,
        caller: Caller,
        body: GetHistoryRequest,
    ) -> Result<GetHistoryResponse, Refusal> {
        let (handle, answer) = self.subject_of(&caller, "GetHistory", body.proof, body.patient)?;
        let history = self.app.custodian.history(handle, StartAt::of(body.checkpoint_size)).await?;
        Ok(GetHistoryResponse { answer: Some(answer), history })
    }
}

#[tonic::async_trait]
impl PatientService for Api {
    async fn get_slot(&self, request: Request<GetSlotRequest>) -> Result<Response<GetSlotResponse>, Status> {
        let work = |api: Self, _, body: GetSlotRequest| async move {
            let proven = blocking(|| api.prove("GetSlot", body.proof))?;
            Ok(GetSlotResponse { answer: Some(proven.answer), slot: Some(proven.slot) })
        };
        self.open("PatientService/GetSlot", request, work).await
    }

    async fn withdraw(
        &self,
        request: Request<WithdrawRequest>,
    ) -> Result<Response<WithdrawResponse>, Status> {
        let work = |api: Self, _, body| async move { api.withdraw_slot(body).await };
        self.open("PatientService/Withdraw", request, work).await
    }

    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.history_for(caller, body).await };
        self.open("PatientService/GetHistory", request, work).await
    }

    async fn get_pack(&self, request: Request<GetPackRequest>) -> Result<Response<GetPackResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.pack_for(caller, body).await };
        self.open("PatientService/GetPack", request, work).await
    }

    async fn prepare_grant(
        &self,
        request: Request<PrepareGrantRequest>,
    ) -> Result<Response<PrepareGrantResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.prepare_grant_for(caller, body).await };
        self.open("PatientService/PrepareGrant", request, work).await
    }

    async fn commit_grant(
        &self,
        request: Request<CommitGrantRequest>,
    ) -> Result<Response<CommitGrantResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.commit_grant_for(caller, body).await };
        self.open("PatientService/CommitGrant", request, work).await
    }

    async fn cancel_replacement(
        &self,
        request: Request<CancelReplacementRequest>,
    ) -> Result<Response<CancelReplacementResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.cancel_replacement_for(caller, body).await };
        self.open("PatientService/CancelReplacement", request, work).await
    }

    async fn list_notices(
        &self,
        request: Request<ListNoticesRequest>,
    ) -> Result<Response<ListNoticesResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.list_notices_for(caller, body).await };
        self.open("PatientService/ListNotices", request, work).await
    }

    async fn replace_control_key(
        &self,
        request: Request<ReplaceControlKeyRequest>,
    ) -> Result<Response<ReplaceControlKeyResponse>, Status> {
        let work = |api: Self, client, body| async move { api.replace_control_key_for(client, body).await };
        self.call("PatientService/ReplaceControlKey", request, work).await
    }
}
