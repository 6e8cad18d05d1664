//! What the custodian's own systems tell their node: subjects, records, consents, the policy.

use std::collections::BTreeSet;

use assent_proto::v1::consent_service_server::ConsentService;
use assent_proto::v1::policy_service_server::PolicyService;
use assent_proto::v1::record_service_server::RecordService;
use assent_proto::v1::subject_service_server::SubjectService;
use assent_proto::v1::{
    CreateSubjectRequest, CreateSubjectResponse, ImportConsentRequest, ImportConsentResponse,
    LoadRecordsRequest, LoadRecordsResponse, Patient, SetPolicyRequest, SetPolicyResponse,
};
use tonic::{Request, Response, Status, Streaming};

use super::auth::Client;
use super::{border, error, Api};
use crate::custodian::{NewSubject, PatientName};
use crate::refusal::{Kind, Refusal};

impl Api {
    /// A patient of this node's own organization.
    pub(super) fn own_patient(&self, patient: Option<Patient>) -> Result<PatientName, Refusal> {
        let (custodian, name) = border::patient("patient", patient)?;
        self.own_custodian("patient.custodian", &custodian)?;
        Ok(name)
    }

    /// Refuses another organization as custodian.
    pub(super) fn own_custodian(&self, field: &str, custodian: &str) -> Result<(), Refusal> {
        let own = &self.app.parts.organization;
        if custodian == own {
            return Ok(());
        }
        let message =
            format!("{field} is {custodian}, this is the node of {own}: ask the node of {custodian}");
        Err(Refusal::new(Kind::FailedPrecondition, "FOREIGN_CUSTODIAN", message).with("custodian", custodian))
    }

    async fn create(
        &self,
        client: Client,
        body: CreateSubjectRequest,
    ) -> Result<CreateSubjectResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let name = self.own_patient(body.patient)?;
        border::patient_reference(&body.patient_reference)?;
        let new = NewSubject {
            system: name.system,
            value: name.value,
            birth_date: name.birth_date,
            reference: body.patient_reference,
            control_key: border::control_key("control_key", &body.control_key)?,
        };
        let created = self.app.custodian.create_subject(&client.id, &body.request_id, new).await?;
        let answer = self.answer_from(created.height).await?;
        Ok(CreateSubjectResponse { answer: Some(answer), handle: created.handle.to_vec() })
    }

    async fn load(
        &self,
        client: Client,
        mut messages: Streaming<LoadRecordsRequest>,
    ) -> Result<LoadRecordsResponse, Refusal> {
        let (mut resources, mut handles) = (0u64, BTreeSet::new());
        let mut number = 0u64;
        while let Some(message) = messages.message().await.map_err(|e| error::broken_stream(&e))? {
            number += 1;
            let at = |refusal: Refusal| refusal.with("message", number);
            border::request_id(&message.request_id).map_err(at)?;
            border::resources(&message.resources).map_err(at)?;
            let custodian = &self.app.custodian;
            let loaded = custodian
                .load_records(&client.id, &message.request_id, message.resources)
                .await
                .map_err(at)?;
            resources += loaded.resources;
            handles.extend(loaded.handles);
        }
        Ok(LoadRecordsResponse { answer: Some(self.answer()), resources, patients: handles.len() as u64 })
    }

    async fn import(
        &self,
        client: Client,
        body: ImportConsentRequest,
    ) -> Result<ImportConsentResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let name = self.own_patient(body.patient)?;
        border::document("consent", &body.consent, border::MAX_DOCUMENT_BYTES)?;
        let key = border::control_key("control_key", &body.control_key)?;
        let custodian = &self.app.custodian;
        let recorded =
            custodian.import_consent(&client.id, &body.request_id, name, body.consent, key).await?;
        Ok(ImportConsentResponse {
            answer: Some(self.answer_from(recorded.height).await?),
            consent_id: recorded.consent_id,
            consent_seq: recorded.consent_seq,
            rules: recorded.rules,
            handle: recorded.handle.to_vec(),
        })
    }

    async fn put_policy(&self, client: Client, body: SetPolicyRequest) -> Result<SetPolicyResponse, Refusal> {
        border::request_id(&body.request_id)?;
        border::document("policy", &body.policy, border::MAX_DOCUMENT_BYTES)?;
        let recorded = self.app.custodian.set_policy(&client.id, &body.request_id, body.policy).await?;
        let answer = self.answer_from(recorded.height).await?;
        Ok(SetPolicyResponse { answer: Some(answer), policy_seq: recorded.policy_seq })
    }
}

#[tonic::async_trait]
impl SubjectService for Api {
    async fn create_subject(
        &self,
        request: Request<CreateSubjectRequest>,
    ) -> Result<Response<CreateSubjectResponse>, Status> {
        let work = |api: Self, client, body| async move { api.create(client, body).await };
        self.call("SubjectService/CreateSubject", request, work).await
    }
}

#[tonic::async_trait]
impl RecordService for Api {
    async fn load_records(
        &self,
        request: Request<Streaming<LoadRecordsRequest>>,
    ) -> Result<Response<LoadRecordsResponse>, Status> {
        let work = |api: Self, client, messages| async move { api.load(client, messages).await };
        self.call("RecordService/LoadRecords", request, work).await
    }
}

#[tonic::async_trait]
impl ConsentService for Api {
    async fn import_consent(
        &self,
        request: Request<ImportConsentRequest>,
    ) -> Result<Response<ImportConsentResponse>, Status> {
        let work = |api: Self, client, body| async move { api.import(client, body).await };
        self.call("ConsentService/ImportConsent", request, work).await
    }
}

#[tonic::async_trait]
impl PolicyService for Api {
    async fn set_policy(
        &self,
        request: Request<SetPolicyRequest>,
    ) -> Result<Response<SetPolicyResponse>, Status> {
        let work = |api: Self, client, body| async move { api.put_policy(client, body).await };
        self.call("PolicyService/SetPolicy", request, work).await
    }
}
