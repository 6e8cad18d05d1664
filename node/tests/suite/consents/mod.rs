//! ConsentService: recorded, previewed, superseded, revoked, read back, exported; and everything that is refused.

mod feed;
mod lifecycle;
mod preview;
mod reading;
mod refusals;

use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::*;
use tonic::transport::Channel;
use tonic::Status;
use tonic_types::StatusExt;

use crate::net::Net;
use crate::patient::*;

/// The patient's portal, the custodian's officer and its own CRM, and one patient with three records.
pub struct Desk {
    pub net: Net,
    pub portal: Channel,
    pub officer: Channel,
    pub patient: Patient,
}

pub const REFERENCE: &str = "Patient/mrn-1";

impl Desk {
    /// Cedar alone.
    pub async fn alone() -> Self {
        Self::born("1980-02-03").await
    }

    /// Cedar alone, with a patient born on that day.
    pub async fn born(birth_date: &str) -> Self {
        let net = Net::started(1).await;
        let patient = Patient { birth_date: birth_date.into(), ..patient("cedar", "mrn-1") };
        Self::over(net, patient).await
    }

    pub async fn over(net: Net, patient: Patient) -> Self {
        let cedar = net.index("cedar");
        let create = CreateSubjectRequest {
            request_id: "s-1".into(),
            patient: Some(patient.clone()),
            patient_reference: REFERENCE.into(),
            control_key: control_key().verifying_key().to_bytes().to_vec(),
        };
        SubjectServiceClient::new(net.client(cedar, "registrar")).create_subject(create).await.unwrap();
        load(net.client(cedar, "ehr"), "l-1", records(REFERENCE)).await.unwrap();
        let (portal, officer) = (net.client(cedar, "portal"), net.client(cedar, "officer"));
        Self { net, portal, officer, patient }
    }

    pub fn service(&self) -> ConsentServiceClient<Channel> {
        ConsentServiceClient::new(self.portal.clone())
    }

    pub fn officers(&self) -> ConsentServiceClient<Channel> {
        ConsentServiceClient::new(self.officer.clone())
    }

    pub fn request(&self, id: &str, consent: NewConsent, supersedes: &[&str]) -> RecordConsentRequest {
        RecordConsentRequest {
            request_id: id.into(),
            patient: Some(self.patient.clone()),
            consent: Some(consent),
            supersedes: supersedes.iter().map(|id| (*id).to_owned()).collect(),
            control_key: Vec::new(),
        }
    }

    pub async fn try_record(
        &self,
        id: &str,
        consent: NewConsent,
        supersedes: &[&str],
    ) -> Result<RecordConsentResponse, Status> {
        let request = self.request(id, consent, supersedes);
        Ok(self.service().record_consent(request).await?.into_inner())
    }

    pub async fn record(&self, id: &str, consent: NewConsent, supersedes: &[&str]) -> RecordConsentResponse {
        self.try_record(id, consent, supersedes).await.unwrap()
    }

    pub async fn revoke(&self, id: &str, consent_id: &str) -> Result<RevokeConsentResponse, Status> {
        let (request_id, consent_id) = (id.into(), consent_id.into());
        let request = RevokeConsentRequest { request_id, patient: Some(self.patient.clone()), consent_id };
        Ok(self.service().revoke_consent(request).await?.into_inner())
    }

    pub async fn mark(&self, id: &str, consent_id: &str) -> Result<MarkConsentErrorResponse, Status> {
        let (request_id, consent_id) = (id.into(), consent_id.into());
        let request = MarkConsentErrorRequest { request_id, patient: Some(self.patient.clone()), consent_id };
        Ok(self.officers().mark_consent_error(request).await?.into_inner())
    }

    pub fn get(&self, consent_id: &str) -> GetConsentRequest {
        let patient = Some(self.patient.clone());
        GetConsentRequest { patient, consent_id: consent_id.into(), ..Default::default() }
    }

    pub async fn got(&self, request: GetConsentRequest) -> Result<ConsentRecord, Status> {
        Ok(self.service().get_consent(request).await?.into_inner().consent.unwrap())
    }

    pub async fn list(&self, change: impl FnOnce(&mut ListConsentsRequest)) -> ListConsentsResponse {
        let mut request = ListConsentsRequest { patient: Some(self.patient.clone()), ..Default::default() };
        change(&mut request);
        self.service().list_consents(request).await.unwrap().into_inner()
    }

    pub async fn ids(&self, change: impl FnOnce(&mut ListConsentsRequest)) -> Vec<String> {
        self.list(change).await.consents.into_iter().map(|consent| consent.consent_id).collect()
    }

    pub async fn preview(
        &self,
        change: preview_consent_request::Change,
        supersedes: &[&str],
        probes: Vec<Probe>,
    ) -> Result<PreviewConsentResponse, Status> {
        let request = PreviewConsentRequest {
            patient: Some(self.patient.clone()),
            supersedes: supersedes.iter().map(|id| (*id).to_owned()).collect(),
            probes,
            consistency: None,
            change: Some(change),
        };
        Ok(self.service().preview_consent(request).await?.into_inner())
    }

    /// References of what a client of an organization gets for TREAT, sorted; empty when nothing is released.
    pub async fn released(&self, organization: &str, request_id: &str) -> Vec<String> {
        let crm = self.net.client(self.net.index(organization), "crm");
        let query = Query { patient: Some(self.patient.clone()), ..query("mrn-1", "TREAT") };
        let request =
            RequestRecordsRequest { request_id: request_id.into(), query: Some(query), ..Default::default() };
        let mut client = exchange_service_client::ExchangeServiceClient::new(crm);
        let got = async {
            let mut stream = client.request_records(request).await?.into_inner();
            let mut found = Vec::new();
            while let Some(part) = stream.message().await? {
                for resource in part.resources {
                    let described = assent_ledger::consent::describe_resource(&resource).unwrap();
                    found.push(described.reference);
                }
            }
            found.sort();
            Ok::<_, Status>(found)
        };
        match got.await {
            Ok(found) => found,
            Err(status) => {
                assert_eq!(reason(&status), "NOT_RELEASED", "{status:?}");
                Vec::new()
            }
        }
    }
}

pub fn list(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

pub fn directive(effect: Effect, organizations: &[&str], purposes: &[&str]) -> Directive {
    let scope =
        DirectiveScope { organizations: list(organizations), purposes: list(purposes), ..Default::default() };
    Directive { effect: effect.into(), scope: Some(scope), ..Default::default() }
}

pub fn but_not(mut directive: Directive, sensitivity: &[&str]) -> Directive {
    directive.exceptions.push(DirectiveScope { sensitivity: list(sensitivity), ..Default::default() });
    directive
}

pub fn said(directive: Directive) -> NewConsent {
    NewConsent { form: Some(new_consent::Form::Directive(directive)), ..Default::default() }
}

pub fn fhir(json: impl Into<Vec<u8>>) -> NewConsent {
    NewConsent { form: Some(new_consent::Form::Fhir(json.into())), ..Default::default() }
}

/// The suite's consent for Birch as text, to be changed.
pub fn text(id: &str) -> String {
    String::from_utf8(consent(REFERENCE, id, "2030-12-31")).unwrap()
}

pub fn info(status: &Status, key: &str) -> String {
    let info = status.get_details_error_info().unwrap();
    info.metadata.get(key).cloned().unwrap_or_default()
}

pub const ALL: [&str; 3] = ["Observation/mrn-1-bp", "Observation/mrn-1-phq9", "Patient/mrn-1"];
pub const ORDINARY: [&str; 2] = ["Observation/mrn-1-bp", "Patient/mrn-1"];
