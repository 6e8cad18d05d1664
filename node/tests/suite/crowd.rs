//! Many patients of Cedar at once, and what is asked about them all.

use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::*;
use tonic::transport::Channel;
use tonic::Status;

use crate::net::Net;
use crate::patient::*;

/// A consent with this root, about a patient.
fn fhir(value: &str, root: &str) -> Vec<u8> {
    format!(
        r#"{{"resourceType":"Consent","id":"c-{value}","status":"active","scope":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}}]}},"category":[{{"coding":[{{"system":"http://loinc.org","code":"59284-0"}}]}}],"patient":{{"reference":"Patient/{value}"}},"dateTime":"2026-01-05","provision":{root}}}"#
    )
    .into_bytes()
}

fn actors(names: &[&str]) -> String {
    let actor = |name: &&str| {
        format!(
            r#"{{"role":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP"}}]}},"reference":{{"identifier":{{"system":"urn:assent:organization","value":"{name}"}}}}}}"#
        )
    };
    format!(r#""actor":[{}]"#, names.iter().map(actor).collect::<Vec<_>>().join(","))
}

fn purposes(codes: &[&str]) -> String {
    let code = |c: &&str| {
        format!(r#"{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"{c}"}}"#)
    };
    format!(r#""purpose":[{}]"#, codes.iter().map(code).collect::<Vec<_>>().join(","))
}

/// Permits Birch and Cedar for treatment and research, but for psychiatric records.
pub fn permitting(value: &str) -> Vec<u8> {
    let (actors, purposes) = (actors(&["birch", "cedar"]), purposes(&["TREAT", "HRESCH"]));
    let nested = r#"[{"type":"deny","securityLabel":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PSY"}]}]"#;
    fhir(value, &format!(r#"{{"type":"permit",{actors},{purposes},"provision":{nested}}}"#))
}

/// Permits nobody of this network.
pub fn for_others(value: &str) -> Vec<u8> {
    fhir(value, &format!(r#"{{"type":"permit",{},{}}}"#, actors(&["oak"]), purposes(&["TREAT"])))
}

/// Permits as [`permitting`] does, and denies research.
pub fn opted_out(value: &str) -> Vec<u8> {
    let (actors, purpose) = (actors(&["birch", "cedar"]), purposes(&["TREAT", "HRESCH"]));
    let nested = format!(r#"[{{"type":"deny",{}}}]"#, purposes(&["HRESCH"]));
    fhir(value, &format!(r#"{{"type":"permit",{actors},{purpose},"provision":{nested}}}"#))
}

/// One observation without a sensitive label.
pub fn observation(value: &str) -> Vec<u8> {
    records(&format!("Patient/{value}"))[1].clone()
}

/// Registers patients at Cedar, 256 to a message, with a consent and an observation each.
pub async fn registered(net: &Net, patients: &[(String, Vec<u8>)]) -> Vec<Vec<u8>> {
    let cedar = net.index("cedar");
    let subject = |(value, consent): &(String, Vec<u8>)| ImportedSubject {
        patient: Some(patient("cedar", value)),
        patient_reference: format!("Patient/{value}"),
        control_key: control_key().verifying_key().to_bytes().to_vec(),
        consent: consent.clone(),
    };
    let first = patients.first().map(|(value, _)| value.clone()).unwrap_or_default();
    let messages: Vec<_> = patients
        .chunks(256)
        .enumerate()
        .map(|(n, chunk)| ImportSubjectsRequest {
            request_id: format!("crowd-{first}-{n}"),
            subjects: chunk.iter().map(subject).collect(),
        })
        .collect();
    let mut client = SubjectServiceClient::new(net.client(cedar, "registrar"));
    let mut answers = client.import_subjects(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let mut handles = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        handles.extend(answer.handles);
    }
    for (n, chunk) in patients.chunks(2_000).enumerate() {
        let resources = chunk.iter().map(|(value, _)| observation(value)).collect();
        load(net.client(cedar, "ehr"), &format!("crowd-{first}-l-{n}"), resources).await.unwrap();
    }
    handles
}

/// A question of a cohort, as [`query`] asks it.
pub fn question(purpose: &str) -> CohortQuestion {
    CohortQuestion {
        custodian: "cedar".into(),
        identifier_system: SYSTEM.into(),
        purpose: purpose.into(),
        actor: "Practitioner/ada".into(),
        ..Default::default()
    }
}

pub fn cohort_subject(value: &str) -> CohortSubject {
    CohortSubject { identifier_value: value.into(), birth_date: "1980-02-03".into() }
}

/// Sends messages; the answers until the stream ends, and how.
pub async fn cohort(
    channel: Channel,
    messages: Vec<CheckCohortRequest>,
) -> (Vec<CheckCohortResponse>, Option<Status>) {
    let mut client = DecisionServiceClient::new(channel);
    let mut answers = match client.check_cohort(tokio_stream::iter(messages)).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (Vec::new(), Some(status)),
    };
    let mut seen = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => seen.push(answer),
            Ok(None) => return (seen, None),
            Err(status) => return (seen, Some(status)),
        }
    }
}

/// Messages for a list of patients, of so many each.
pub fn messages(purpose: &str, values: &[String], each: usize) -> Vec<CheckCohortRequest> {
    let mut question = Some(question(purpose));
    values
        .chunks(each)
        .map(|chunk| CheckCohortRequest {
            question: question.take(),
            subjects: chunk.iter().map(|value| cohort_subject(value)).collect(),
        })
        .collect()
}
