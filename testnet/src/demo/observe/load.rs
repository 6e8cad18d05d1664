//! Step 1: Cedar registers its patients and loads their records.

use std::collections::BTreeSet;

use assent_proto::v1::record_service_client::RecordServiceClient;
use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::{CreateSubjectRequest, LoadRecordsRequest};
use futures::stream;

use crate::client::{self, code};
use crate::demo::observed::{Counts, LoadObserved};
use crate::demo::stage::{named, Stage, CUSTODIAN};
use crate::error::{failed, Error};
use crate::slice::{Resource, RECORDS};

/// Resources in one message.
const RESOURCES_PER_MESSAGE: usize = 200;

/// Loads everything; remembers the demo patient's handle.
pub async fn observe(stage: &mut Stage) -> Result<LoadObserved, Error> {
    let handles = register(stage).await?;
    stage.note_handle().await?;
    let channel = client::connect(stage.network(), CUSTODIAN, "ehr").await?;
    let messages: Vec<LoadRecordsRequest> = stage
        .slice
        .resources
        .chunks(RESOURCES_PER_MESSAGE)
        .enumerate()
        .map(|(number, chunk)| LoadRecordsRequest {
            request_id: format!("load-{number}"),
            resources: chunk.iter().map(|resource| resource.bytes.clone()).collect(),
        })
        .collect();
    let answer = RecordServiceClient::new(channel).load_records(stream::iter(messages)).await;
    let answer = answer.map_err(|s| code("LoadRecords", &s))?.into_inner();
    let (slice, listed) = (&stage.slice, &stage.slice.manifest);
    let types: BTreeSet<&str> = slice.resources.iter().map(|r| r.kind.as_str()).collect();
    let count = |which: fn(&Resource) -> bool| slice.resources.iter().filter(|r| which(r)).count() as u64;
    Ok(LoadObserved {
        listed: Counts {
            patients: listed.patients,
            resources: listed.resources,
            types: listed.by_type.len() as u64,
            sha256: listed.uncompressed.sha256.clone(),
        },
        found: Counts {
            patients: slice.patients.len() as u64,
            resources: slice.resources.len() as u64,
            types: types.len() as u64,
            sha256: slice.sha256.clone(),
        },
        compressed_bytes: RECORDS.len() as u64,
        uncoded: count(|r| !matches!(r.confidentiality.as_slice(), [code] if code == "N" || code == "R")),
        mislabelled: count(|r| r.confidentiality.iter().any(|c| c == "R") == r.sensitivities.is_empty()),
        psy: count(|r| r.sensitivities.contains("PSY")),
        sud: count(|r| r.sensitivities.contains("SUD")),
        handles: handles.len() as u64,
        stored_resources: answer.resources,
        stored_patients: answer.patients,
    })
}

/// Registers every patient; returns the distinct handles.
async fn register(stage: &mut Stage) -> Result<BTreeSet<Vec<u8>>, Error> {
    let channel = client::connect(stage.network(), CUSTODIAN, "registrar").await?;
    let mut client = SubjectServiceClient::new(channel);
    let control_key = stage.patient.key.verifying_key().to_bytes().to_vec();
    let mut handles = BTreeSet::new();
    for patient in &stage.slice.patients {
        let is_demo = patient.id == stage.patient.sample.id;
        let request = CreateSubjectRequest {
            request_id: format!("register-{}", patient.mrn),
            patient: Some(named(patient)),
            patient_reference: format!("Patient/{}", patient.id),
            control_key: if is_demo { control_key.clone() } else { Vec::new() },
        };
        let answer =
            client.create_subject(request).await.map_err(|s| code("CreateSubject", &s))?.into_inner();
        if is_demo {
            stage.patient.handle = answer.handle.clone();
        }
        handles.insert(answer.handle);
    }
    if stage.patient.handle.len() != 32 {
        return failed(format!(
            "CreateSubject answered with a handle of {} bytes",
            stage.patient.handle.len()
        ));
    }
    Ok(handles)
}
