//! The committed sample records: what they are, and what labels they carry. data/README.md says how they were made.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{failed, Error, While};

/// Compressed records.
pub const RECORDS: &[u8] = include_bytes!("../data/records.ndjson.zst");
const MANIFEST: &str = include_str!("../data/manifest.json");
const CONSENT: &str = include_str!("../data/consent-demo.json");

/// Identifier system of the patients.
pub const IDENTIFIER_SYSTEM: &str = "urn:assent:sample:mrn";
const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

/// What manifest.json says of the records.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// Number of patients.
    pub patients: u64,
    /// Number of resources.
    pub resources: u64,
    /// Number of resources by type.
    pub by_type: BTreeMap<String, u64>,
    /// The patient of the story.
    pub demo_patient: DemoPatient,
    /// The records before compression.
    pub uncompressed: Uncompressed,
}

/// The records before compression.
#[derive(Debug, Clone, Deserialize)]
pub struct Uncompressed {
    /// SHA-256 in hex.
    pub sha256: String,
}

/// The patient of the story.
#[derive(Debug, Clone, Deserialize)]
pub struct DemoPatient {
    /// Value of the identifier.
    pub mrn: String,
    /// Birth date.
    #[serde(rename = "birthDate")]
    pub birth_date: String,
    /// FHIR id.
    pub id: String,
    /// Number of resources about this patient.
    pub resources: u64,
}

/// One resource.
#[derive(Debug, Clone)]
pub struct Resource {
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// FHIR type.
    pub kind: String,
    /// FHIR id.
    pub id: String,
    /// FHIR id of the patient.
    pub patient: String,
    /// Codes of v3-Confidentiality.
    pub confidentiality: Vec<String>,
    /// Sensitivities, codes of v3-ActCode.
    pub sensitivities: BTreeSet<String>,
}

/// One patient.
#[derive(Debug, Clone)]
pub struct SamplePatient {
    /// FHIR id.
    pub id: String,
    /// Value of the identifier.
    pub mrn: String,
    /// Birth date.
    pub birth_date: String,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Slice {
    /// What the manifest says.
    pub manifest: Manifest,
    /// SHA-256 of the records before compression, in hex.
    pub sha256: String,
    /// The patients.
    pub patients: Vec<SamplePatient>,
    /// The resources, patients included, in the file's order.
    pub resources: Vec<Resource>,
}

impl Slice {
    /// Decompresses and reads the records.
    pub fn read() -> Result<Self, Error> {
        let manifest: Manifest = serde_json::from_str(MANIFEST).during(|| "reading manifest.json".into())?;
        let text = zstd::decode_all(RECORDS).during(|| "decompressing the records".into())?;
        let sha256 = hex::encode(Sha256::digest(&text));
        let (mut patients, mut resources) = (Vec::new(), Vec::new());
        for (number, line) in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
            let value: Value =
                serde_json::from_slice(line).during(|| format!("reading record {}", number + 1))?;
            let resource = read_resource(line, &value)?;
            if resource.kind == "Patient" {
                patients.push(read_patient(&resource.id, &value)?);
            }
            resources.push(resource);
        }
        Ok(Self { manifest, sha256, patients, resources })
    }

    /// The resources about one patient.
    pub fn of_patient<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Resource> {
        self.resources.iter().filter(move |resource| resource.patient == id)
    }
}

fn read_patient(id: &str, value: &Value) -> Result<SamplePatient, Error> {
    let identifiers = value["identifier"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mrn = identifiers.iter().find(|i| i["system"] == IDENTIFIER_SYSTEM).and_then(|i| i["value"].as_str());
    let (Some(mrn), Some(birth_date)) = (mrn, value["birthDate"].as_str()) else {
        return failed("a sample patient has no identifier or birth date");
    };
    Ok(SamplePatient { id: id.into(), mrn: mrn.into(), birth_date: birth_date.into() })
}

fn read_resource(bytes: &[u8], value: &Value) -> Result<Resource, Error> {
    let (Some(kind), Some(id)) = (value["resourceType"].as_str(), value["id"].as_str()) else {
        return failed("a sample record has no type or id");
    };
    let named = ["subject", "patient", "beneficiary"].iter().find_map(|f| value[f]["reference"].as_str());
    let patient = match named.and_then(|reference| reference.strip_prefix("Patient/")) {
        _ if kind == "Patient" => id,
        Some(patient) => patient,
        None => return failed(format!("sample record {kind}/{id} names no patient")),
    };
    let labels = value["meta"]["security"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |system: &'static str| {
        labels
            .iter()
            .filter(move |l| l["system"] == system)
            .filter_map(|l| l["code"].as_str())
            .map(str::to_owned)
    };
    Ok(Resource {
        bytes: bytes.to_vec(),
        kind: kind.into(),
        id: id.into(),
        patient: patient.into(),
        confidentiality: of(CONFIDENTIALITY).collect(),
        sensitivities: of(ACT_CODE).collect(),
    })
}

/// The demo patient's consent, valid from the year before `today` (YYYY-MM-DD) to its end and a year: it must stand
/// whenever the demo runs.
pub fn consent_for(today: &str) -> Result<Vec<u8>, Error> {
    let mut consent: Value = serde_json::from_str(CONSENT).during(|| "reading consent-demo.json".into())?;
    let year: i32 = today.get(..4).and_then(|y| y.parse().ok()).unwrap_or(0);
    let period = &mut consent["provision"]["period"];
    let stands = |period: &Value| {
        period["start"].as_str().is_some_and(|start| start < today)
            && period["end"].as_str().is_some_and(|end| end > today)
    };
    if !stands(period) {
        *period = serde_json::json!({ "start": format!("{}-01-01", year - 1), "end": format!("{}-12-31", year + 1) });
    }
    serde_json::to_vec(&consent).during(|| "writing the consent".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_are_those_of_the_manifest() {
        let slice = Slice::read().unwrap();
        assert_eq!(slice.sha256, slice.manifest.uncompressed.sha256);
        assert_eq!(slice.resources.len() as u64, slice.manifest.resources);
        assert_eq!(slice.patients.len() as u64, slice.manifest.patients);
        let demo = &slice.manifest.demo_patient;
        assert_eq!(slice.of_patient(&demo.id).count() as u64, demo.resources);
        let named = slice.patients.iter().find(|p| p.id == demo.id).unwrap();
        assert_eq!((&named.mrn, &named.birth_date), (&demo.mrn, &demo.birth_date));
    }

    #[test]
    fn the_consent_stands_whenever_the_demo_runs() {
        for today in ["2025-06-01", "2026-11-22", "2039-02-03"] {
            let consent: Value = serde_json::from_slice(&consent_for(today).unwrap()).unwrap();
            let period = &consent["provision"]["period"];
            assert!(
                period["start"].as_str().unwrap() < today && period["end"].as_str().unwrap() > today,
                "{today}"
            );
        }
    }
}
