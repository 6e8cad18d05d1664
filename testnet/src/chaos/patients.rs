//! Made-up patients. Each one's identifier and reference hold the canary, a string that must stay in the custodian's vault.

use assent_ledger::hash::sha256;
use assent_ledger::keys::SigningKey;
use assent_proto::v1::{ImportedSubject, Patient, Query};

use crate::slice::IDENTIFIER_SYSTEM;

/// Who holds the records of those who withdraw.
pub const CUSTODIAN: &str = "cedar";
/// Whose CRM asks about them.
pub const RECIPIENT: &str = "birch";

/// A patient of an organization.
pub fn patient(organization: &str, canary: &str, name: &str) -> Patient {
    Patient {
        custodian: organization.into(),
        identifier_system: IDENTIFIER_SYSTEM.into(),
        identifier_value: format!("{canary}-{name}"),
        birth_date: "1990-01-01".into(),
    }
}

/// FHIR id of a patient.
pub fn fhir_id(canary: &str, name: &str) -> String {
    format!("{canary}-{name}")
}

/// A patient's control key: the same for the same name.
pub fn control_key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&sha256(format!("assent-testnet chaos {name}").as_bytes()))
}

/// Name of the n-th patient with a consent.
pub fn consenting(n: usize) -> String {
    format!("consenting-{n}")
}

/// A patient with a control key and a consent to treatment until `end`, a FHIR dateTime.
pub fn with_consent(canary: &str, name: &str, organizations: &[String], end: &str) -> ImportedSubject {
    let id = fhir_id(canary, name);
    ImportedSubject {
        patient: Some(patient(CUSTODIAN, canary, name)),
        patient_reference: format!("Patient/{id}"),
        control_key: control_key(name).verifying_key().to_bytes().to_vec(),
        consent: consent(&id, organizations, end).into_bytes(),
    }
}

/// A question about one of the custodian's patients.
pub fn treatment_of(canary: &str, name: &str) -> Query {
    Query {
        patient: Some(patient(CUSTODIAN, canary, name)),
        purpose: "TREAT".into(),
        actor: "Dr. Grey".into(),
        ..Query::default()
    }
}

fn consent(id: &str, organizations: &[String], end: &str) -> String {
    let actor = |organization: &String| {
        format!(
            r#"{{"role":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP"}}]}},"reference":{{"identifier":{{"system":"urn:assent:organization","value":"{organization}"}}}}}}"#
        )
    };
    let actors = organizations.iter().map(actor).collect::<Vec<_>>().join(",");
    format!(
        r#"{{"resourceType":"Consent","id":"{id}","status":"active","scope":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}}]}},"category":[{{"coding":[{{"system":"http://loinc.org","code":"59284-0"}}]}}],"patient":{{"reference":"Patient/{id}"}},"dateTime":"2026-01-05","provision":{{"type":"permit","period":{{"start":"2026-01-01","end":"{end}"}},"actor":[{actors}],"purpose":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}}],"provision":[{{"type":"deny","securityLabel":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PSY"}}]}}]}}}}"#
    )
}

/// A small record of a patient.
pub fn record(id: &str) -> String {
    format!(
        r#"{{"resourceType":"Observation","id":"{id}-bp","meta":{{"security":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"N"}}]}},"status":"final","code":{{"coding":[{{"system":"http://loinc.org","code":"8480-6"}}]}},"subject":{{"reference":"Patient/{id}"}},"valueQuantity":{{"value":118,"unit":"mmHg"}}}}"#
    )
}
