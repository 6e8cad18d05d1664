//! What the custodian's own systems tell their node: subjects, records, the policy.

use std::collections::BTreeSet;

use assent_proto::ledger::v1::PolicyBody;
use assent_proto::v1::policy_service_server::PolicyService;
use assent_proto::v1::record_service_server::RecordService;
use assent_proto::v1::subject_service_server::SubjectService;
use assent_proto::v1::{
    CreateSubjectRequest, CreateSubjectResponse, GetPolicyRequest, GetPolicyResponse, ImportSubjectsRequest,
    ImportSubjectsResponse, ImportedSubject, LoadRecordsRequest, LoadRecordsResponse, Patient,
    SetPolicyRequest, SetPolicyResponse,
};
use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::auth::Client;
use super::{border, error, Api};
use crate::custodian::{blocking, NewSubject, PatientName, SubjectToImport};
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
        let new = self.new_subject(body.patient, body.patient_reference, &body.control_key)?;
        let created = self.app.custodian.create_subject(&client.id, &body.request_id, new).await?;
        let answer = self.answer_from(created.height).await?;
        Ok(CreateSubjectResponse { answer: Some(answer), handle: created.handle.to_vec() })
    }

    /// A patient to register, as a message names one.
    fn new_subject(
        &self,
        patient: Option<Patient>,
        reference: String,
        control_key: &[u8],
    ) -> Result<NewSubject, Refusal> {
        let name = self.own_patient(patient)?;
        border::patient_reference(&reference)?;
        let control_key = border::control_key("control_key", control_key)?;
        let PatientName { system, value, birth_date } = name;
        Ok(NewSubject { system, value, birth_date, reference, control_key })
    }

    async fn import_message(
        &self,
        client: &Client,
        body: ImportSubjectsRequest,
    ) -> Result<ImportSubjectsResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let (found, most) = (body.subjects.len(), border::MAX_SUBJECTS_PER_MESSAGE);
        if !(1..=most).contains(&found) {
            return Err(border::malformed("subjects", format!("{found} patients, 1 to {most} a message")));
        }
        let mut subjects = Vec::with_capacity(found);
        for (index, subject) in body.subjects.into_iter().enumerate() {
            let at = |refusal: Refusal| refusal.with("subject", index);
            let ImportedSubject { patient, patient_reference, control_key, consent } = subject;
            if !consent.is_empty() {
                border::document("consent", &consent, border::MAX_DOCUMENT_BYTES).map_err(at)?;
            }
            let new = self.new_subject(patient, patient_reference, &control_key).map_err(at)?;
            subjects.push(SubjectToImport { new, consent });
        }
        let custodian = &self.app.custodian;
        let imported = custodian.import_subjects(&client.id, &body.request_id, subjects).await?;
        Ok(ImportSubjectsResponse {
            answer: Some(self.answer_from(imported.height).await?),
            request_id: body.request_id,
            handles: imported.handles.iter().map(|h| h.to_vec()).collect(),
        })
    }

    /// Answers message by message; the stream ends with the first refusal.
    fn import_stream(
        self,
        client: Client,
        messages: Streaming<ImportSubjectsRequest>,
    ) -> BoxStream<'static, Result<ImportSubjectsResponse, Status>> {
        let state = Some((self, client, messages, 1u64));
        stream::unfold(state, |state| async move {
            let (api, client, mut messages, number) = state?;
            let message = match messages.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return None,
                Err(broken) => return Some((Err(error::status(error::broken_stream(&broken))), None)),
            };
            match api.import_message(&client, message).await {
                Ok(answer) => Some((Ok(answer), Some((api, client, messages, number + 1)))),
                Err(refusal) => Some((Err(error::status(refusal.with("message", number))), None)),
            }
        })
        .boxed()
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
            // The call itself has paid for its first message.
            if number > 1 {
                self.quota.take(&client.id).map_err(at)?;
            }
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

    async fn put_policy(&self, client: Client, body: SetPolicyRequest) -> Result<SetPolicyResponse, Refusal> {
        border::request_id(&body.request_id)?;
        border::document("policy", &body.policy, border::MAX_DOCUMENT_BYTES)?;
        if !body.registry.is_empty() {
            border::document("registry", &body.registry, border::MAX_DOCUMENT_BYTES)?;
        }
        let rules = PolicyBody { policy: body.policy, registry: body.registry };
        let recorded = self.app.custodian.set_policy(&client.id, &body.request_id, rules).await?;
        let answer = self.answer_from(recorded.height).await?;
        Ok(SetPolicyResponse { answer: Some(answer), policy_seq: recorded.policy_seq })
    }
}

impl Api {
    async fn get_policy_for(
        &self,
        _client: Client,
        body: GetPolicyRequest,
    ) -> Result<GetPolicyResponse, Refusal> {
        let answer = self.answer();
        let stored = blocking(|| self.app.custodian.policy(body.policy_seq))?;
        Ok(GetPolicyResponse {
            answer: Some(answer),
            policy_seq: stored.policy_seq,
            height: stored.height,
            policy: stored.body.policy,
            registry: stored.body.registry,
        })
    }
}

#[tonic::async_trait]
impl SubjectService for Api {
    type ImportSubjectsStream = BoxStream<'static, Result<ImportSubjectsResponse, Status>>;

    async fn import_subjects(
        &self,
        request: Request<Streaming<ImportSubjectsRequest>>,
    ) -> Result<Response<Self::ImportSubjectsStream>, Status> {
        let work = |api: Self, client, messages| async move { Ok(api.import_stream(client, messages)) };
        self.call("SubjectService/ImportSubjects", request, work).await
    }

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
impl PolicyService for Api {
    async fn set_policy(
        &self,
        request: Request<SetPolicyRequest>,
    ) -> Result<Response<SetPolicyResponse>, Status> {
        let work = |api: Self, client, body| async move { api.put_policy(client, body).await };
        self.call("PolicyService/SetPolicy", request, work).await
    }

    async fn get_policy(
        &self,
        request: Request<GetPolicyRequest>,
    ) -> Result<Response<GetPolicyResponse>, Status> {
        let work = |api: Self, client, body| async move { api.get_policy_for(client, body).await };
        self.call("PolicyService/GetPolicy", request, work).await
    }
}
