//! What all workloads share: the running network, what was measured so far, and what went wrong.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use assent_proto::v1::record_service_client::RecordServiceClient;
use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::{ImportSubjectsRequest, ImportedSubject, LoadRecordsRequest};
use futures::stream;

use super::figure::{Figure, Target};
use super::load::Samples;
use super::write::{patient, Acknowledged, Writers};
use crate::binaries::Binaries;
use crate::client::{self, code};
use crate::error::{failed, Error};
use crate::net::cluster::Cluster;
use crate::net::description::Network;

/// Who holds the records.
pub const CUSTODIAN: &str = "cedar";
/// Who asks from outside.
pub const RECIPIENT: &str = "birch";
/// On whose node the ledger is looked at.
pub const WITNESS: &str = "dogwood";
/// Whose node is killed.
pub const VICTIM: &str = "elm";
/// Samples that are enough, however short the time.
pub const ENOUGH: f64 = 10_000.0;
/// Resources in one message.
const RECORDS_PER_MESSAGE: usize = 2_000;

/// The stage.
pub struct Stage {
    /// What is run.
    pub binaries: Binaries,
    /// Folder of the network.
    pub dir: PathBuf,
    /// The nodes.
    pub cluster: Cluster,
    /// Longest time of one measurement.
    pub time: Duration,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What was lost or wrong.
    pub wrong: Vec<String>,
    /// Slots that nodes acknowledged as registered.
    pub acknowledged: Acknowledged,
    /// How many of the patients `subject-0` and so on are registered.
    pub subjects: usize,
    /// Patients of the workload that asks about very many.
    pub many_subjects: usize,
    /// Entries of the long chain that is audited.
    pub long_entries: u64,
    /// Median time of one write on the quiet network, in milliseconds, once measured.
    pub idle_commit_ms: Option<f64>,
}

impl Stage {
    /// The network.
    pub fn network(&self) -> &Network {
        &self.cluster.network
    }

    /// All organizations.
    pub fn organizations(&self) -> Vec<String> {
        self.network().nodes.iter().map(|n| n.organization.clone()).collect()
    }

    /// Place of an organization's node in the network.
    pub fn index(&self, organization: &str) -> Result<usize, Error> {
        let found = self.network().nodes.iter().position(|n| n.organization == organization);
        found.map_or_else(|| failed(format!("the network has no node of {organization}")), Ok)
    }

    /// Connections as registrar to the nodes of these.
    pub async fn writers(&self, organizations: &[String]) -> Result<Writers, Error> {
        Writers::connect(self.network(), organizations, self.acknowledged.clone()).await
    }

    /// Keeps a figure.
    pub fn keep(&mut self, figure: Figure) {
        eprintln!("   {:<28} {:>12.1} {}", figure.name, figure.value, figure.unit);
        self.figures.push(figure);
    }

    /// Every call of a load had to succeed.
    pub fn must_succeed(&mut self, what: &str, samples: &Samples) {
        if samples.failed > 0 {
            let reason = samples.first_failure.as_deref().unwrap_or_default();
            self.wrong.push(format!("{what}: {} calls failed, the first with {reason}", samples.failed));
        }
    }

    /// How long to measure at a rate: until there are enough samples, at most the time that was asked for.
    pub fn time_at(&self, rate: f64) -> Duration {
        self.time.min(Duration::from_secs_f64((ENOUGH / rate.max(1.0)).max(5.0)))
    }

    /// Registers the patients `subject-0` to `subject-count` who are not yet, part by part: a million messages at once would
    /// not fit. The first part that is large enough gives the figure.
    pub async fn register_subjects(&mut self, count: usize) -> Result<(), Error> {
        while self.subjects < count {
            let part = (count - self.subjects).min(super::check::SUBJECTS);
            let (seconds, handles) = self.import_from("subject", self.subjects, &vec![None; part]).await?;
            self.subjects += handles.len();
            let is_known = self.figures.iter().any(|figure| figure.name == "import_ops_per_s");
            if !is_known && part == super::check::SUBJECTS {
                let rate = handles.len() as f64 / seconds;
                let target = Target::AtLeast(5_000.0);
                let samples = handles.len() as u64;
                self.keep(Figure::new("import_ops_per_s", rate, "ops/s", target, samples, seconds));
            }
            if handles.len() != part {
                return failed(format!("{} handles came for {part} patients", handles.len()));
            }
        }
        Ok(())
    }

    /// Registers patients at the custodian with a consent each, 256 to an entry, and loads one small record for each. The
    /// patients' names are `run-0` and so on. Returns the seconds that the registration took, and the handles.
    pub async fn import(&self, run: &str, keys: &[Option<[u8; 32]>]) -> Result<(f64, Vec<Vec<u8>>), Error> {
        self.import_from(run, 0, keys).await
    }

    /// The same, from a number on.
    async fn import_from(
        &self,
        run: &str,
        first: usize,
        keys: &[Option<[u8; 32]>],
    ) -> Result<(f64, Vec<Vec<u8>>), Error> {
        let channel = client::connect(self.network(), CUSTODIAN, "registrar").await?;
        let subject = |(n, key): (usize, &Option<[u8; 32]>)| ImportedSubject {
            patient: Some(patient(CUSTODIAN, &format!("{run}-{n}"))),
            patient_reference: format!("Patient/{run}-{n}"),
            control_key: key.map(|k| k.to_vec()).unwrap_or_default(),
            consent: consent(&format!("{run}-{n}")).into_bytes(),
        };
        let subjects: Vec<ImportedSubject> = (first..).zip(keys).map(subject).collect();
        let messages: Vec<ImportSubjectsRequest> = subjects
            .chunks(256)
            .enumerate()
            .map(|(n, chunk)| ImportSubjectsRequest {
                request_id: format!("import-{run}-{first}-{n}"),
                subjects: chunk.to_vec(),
            })
            .collect();
        // Four streams: while one entry is agreed on, the next ones are read and queued.
        let begin = Instant::now();
        let mut lanes = Vec::new();
        for lane in 0..4 {
            let mine: Vec<_> = messages.iter().skip(lane).step_by(4).cloned().collect();
            let mut client = SubjectServiceClient::new(channel.clone()).max_encoding_message_size(32 << 20);
            lanes.push(async move {
                let mut handles = Vec::new();
                if mine.is_empty() {
                    return Ok(handles);
                }
                let mut answers = client.import_subjects(stream::iter(mine)).await?.into_inner();
                while let Some(answer) = answers.message().await? {
                    handles.push(answer.handles);
                }
                Ok::<_, tonic::Status>(handles)
            });
        }
        let lanes = futures::future::try_join_all(lanes).await.map_err(|s| code("ImportSubjects", &s))?;
        let seconds = begin.elapsed().as_secs_f64();
        let handles: Vec<Vec<u8>> =
            (0..messages.len()).flat_map(|n| lanes[n % 4].get(n / 4).cloned().unwrap_or_default()).collect();
        self.acknowledge(&handles);
        let records: Vec<Vec<u8>> =
            (first..first + keys.len()).map(|n| record(&format!("{run}-{n}")).into_bytes()).collect();
        self.load(&format!("{run}-{first}"), records).await?;
        Ok((seconds, handles))
    }

    /// Loads resources at the custodian.
    pub async fn load(&self, run: &str, records: Vec<Vec<u8>>) -> Result<(), Error> {
        let channel = client::connect(self.network(), CUSTODIAN, "ehr").await?;
        let mut client = RecordServiceClient::new(channel).max_encoding_message_size(32 << 20);
        for (n, chunk) in records.chunks(RECORDS_PER_MESSAGE).enumerate() {
            let message =
                LoadRecordsRequest { request_id: format!("{run}-records-{n}"), resources: chunk.to_vec() };
            client.load_records(stream::iter([message])).await.map_err(|s| code("LoadRecords", &s))?;
        }
        Ok(())
    }

    fn acknowledge(&self, handles: &[Vec<u8>]) {
        let mut acknowledged = self.acknowledged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        acknowledged.extend(handles.iter().cloned());
    }

    /// What was acknowledged so far.
    pub fn acknowledged(&self) -> HashSet<Vec<u8>> {
        self.acknowledged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// A consent to treatment by custodian and recipient, psychiatric data excepted.
fn consent(id: &str) -> String {
    let actor = |organization: &str| {
        format!(
            r#"{{"role":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP"}}]}},"reference":{{"identifier":{{"system":"urn:assent:organization","value":"{organization}"}}}}}}"#
        )
    };
    let actors = [actor(CUSTODIAN), actor(RECIPIENT)].join(",");
    format!(
        r#"{{"resourceType":"Consent","id":"{id}","status":"active","scope":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}}]}},"category":[{{"coding":[{{"system":"http://loinc.org","code":"59284-0"}}]}}],"patient":{{"reference":"Patient/{id}"}},"dateTime":"2026-01-05","provision":{{"type":"permit","period":{{"start":"2026-01-01","end":"2030-12-31"}},"actor":[{actors}],"purpose":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}}],"provision":[{{"type":"deny","securityLabel":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PSY"}}]}}]}}}}"#
    )
}

fn record(id: &str) -> String {
    format!(
        r#"{{"resourceType":"Observation","id":"{id}-bp","meta":{{"security":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"N"}}]}},"status":"final","code":{{"coding":[{{"system":"http://loinc.org","code":"8480-6"}}]}},"subject":{{"reference":"Patient/{id}"}},"valueQuantity":{{"value":118,"unit":"mmHg"}}}}"#
    )
}
