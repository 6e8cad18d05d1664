//! Writes for the load: registering made-up patients, one at a time or 256 together, and what became of each.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::{CreateSubjectRequest, ImportSubjectsRequest, ImportedSubject, Patient, Query};
use futures::stream;
use tonic::transport::Channel;

use super::stage::CUSTODIAN;
use crate::client;
use crate::error::Error;
use crate::net::description::Network;
use crate::slice::IDENTIFIER_SYSTEM;

/// Connections to each node: one carries at most 64 calls at once.
pub const CONNECTIONS: usize = 4;

/// Handles that a node acknowledged as registered.
pub type Acknowledged = Arc<Mutex<HashSet<Vec<u8>>>>;

/// Connections as registrar to some nodes.
#[derive(Clone)]
pub struct Writers {
    lanes: Arc<Vec<(String, SubjectServiceClient<Channel>)>>,
    acknowledged: Acknowledged,
}

impl Writers {
    /// Connects to the nodes of these organizations.
    pub async fn connect(
        network: &Network,
        organizations: &[String],
        acknowledged: Acknowledged,
    ) -> Result<Self, Error> {
        let mut lanes = Vec::new();
        for _ in 0..CONNECTIONS {
            for organization in organizations {
                let channel = client::connect(network, organization, "registrar").await?;
                lanes.push((organization.clone(), SubjectServiceClient::new(channel)));
            }
        }
        Ok(Self { lanes: Arc::new(lanes), acknowledged })
    }

    fn lane(&self, number: u64) -> &(String, SubjectServiceClient<Channel>) {
        &self.lanes[(number % self.lanes.len() as u64) as usize]
    }

    fn acknowledge(&self, handles: impl IntoIterator<Item = Vec<u8>>) {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).extend(handles);
    }

    /// Registers patient `number` of a run: an entry of one operation. Calls take turns over nodes and connections.
    pub async fn one(self, run: &'static str, number: u64) -> Result<(), String> {
        let (organization, client) = self.lane(number);
        let name = format!("{run}-{number}");
        let request = CreateSubjectRequest {
            patient: Some(patient(organization, &name)),
            patient_reference: format!("Patient/{name}"),
            request_id: name,
            control_key: Vec::new(),
        };
        let answer = client.clone().create_subject(request).await.map_err(|status| said(&status))?;
        self.acknowledge([answer.into_inner().handle]);
        Ok(())
    }

    /// Registers `size` patients in one entry.
    pub async fn many(self, run: &'static str, number: u64, size: u64) -> Result<(), String> {
        let (organization, client) = self.lane(number);
        let subject = |n| {
            let name = format!("{run}-{number}-{n}");
            ImportedSubject {
                patient: Some(patient(organization, &name)),
                patient_reference: format!("Patient/{name}"),
                control_key: Vec::new(),
                consent: Vec::new(),
            }
        };
        let request = ImportSubjectsRequest {
            request_id: format!("{run}-{number}"),
            subjects: (0..size).map(subject).collect(),
        };
        let answers =
            client.clone().import_subjects(stream::iter([request])).await.map_err(|status| said(&status))?;
        let answer = answers.into_inner().message().await.map_err(|status| said(&status))?;
        self.acknowledge(answer.ok_or("no answer")?.handles);
        Ok(())
    }
}

/// A made-up patient of an organization.
pub fn patient(organization: &str, name: &str) -> Patient {
    Patient {
        custodian: organization.into(),
        identifier_system: IDENTIFIER_SYSTEM.into(),
        identifier_value: name.into(),
        birth_date: "1990-01-01".into(),
    }
}

/// A question about a patient of the custodian's.
pub fn treatment_of(name: &str) -> Query {
    Query {
        patient: Some(patient(CUSTODIAN, name)),
        purpose: "TREAT".into(),
        actor: "Dr. Grey".into(),
        ..Query::default()
    }
}

/// A status as the reason of a failed call.
pub fn said(status: &tonic::Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
