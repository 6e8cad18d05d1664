//! What all steps share: the running network, what genesis says, the sample records, the patient.

use std::path::PathBuf;
use std::time::Duration;

use assent_ledger::block::header_hash;
use assent_ledger::certificate::verify_certificate;
use assent_ledger::encoding::decode;
use assent_ledger::entry::MAX_ENTRY_BYTES;
use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::hash::Hash;
use assent_proto::ledger::v1::{Block, Certificate, Header};
use assent_proto::v1::audit_service_client::AuditServiceClient;
use assent_proto::v1::{GetBlockRequest, Patient, Query};

use super::patient::DemoPatient;
use crate::binaries::Binaries;
use crate::client::{self, code};
use crate::error::{Error, While};
use crate::net::cluster::Cluster;
use crate::net::description::Network;
use crate::slice::{SamplePatient, Slice, IDENTIFIER_SYSTEM};

/// Who holds the records.
pub const CUSTODIAN: &str = "cedar";
/// Who asks for them.
pub const RECIPIENT: &str = "birch";
/// Through whose node the patient withdraws.
pub const OTHER: &str = "dogwood";
/// Whose node is killed.
pub const VICTIM: &str = "elm";

/// The stage of the story.
pub struct Stage {
    /// What is run.
    pub binaries: Binaries,
    /// Folder for bundles, exports and the patient's wallet.
    pub files: PathBuf,
    /// The nodes.
    pub cluster: Cluster,
    /// The chain's beginning.
    pub genesis: CheckedGenesis,
    /// The records.
    pub slice: Slice,
    /// The patient of the story.
    pub patient: DemoPatient,
    /// How long each rate is measured.
    pub measure: Duration,
}

/// A block as one node shows it.
pub struct SeenBlock {
    /// The block.
    pub block: Block,
    /// Its header.
    pub header: Header,
    /// Hash of the header.
    pub hash: Hash,
    /// The node's certificate over it.
    pub certificate: Certificate,
    /// The certificate holds for the validators of genesis.
    pub certified: bool,
}

impl Stage {
    /// The network.
    pub fn network(&self) -> &Network {
        &self.cluster.network
    }

    /// The organizations.
    pub fn organizations(&self) -> Vec<String> {
        self.network().nodes.iter().map(|node| node.organization.clone()).collect()
    }

    /// An organization's entry key, by genesis.
    pub fn entry_key(&self, organization: &str) -> Option<[u8; 32]> {
        let found = self.genesis.organizations.iter().find(|o| o.id == organization)?;
        found.entry_key.as_slice().try_into().ok()
    }

    /// The auditor's view of an organization's node.
    pub async fn auditor(&self, organization: &str) -> Result<Auditor<'_>, Error> {
        let channel = client::connect(self.network(), organization, "auditor").await?;
        Ok(Auditor { genesis: &self.genesis, client: AuditServiceClient::new(channel) })
    }
}

/// A connection as auditor.
pub struct Auditor<'a> {
    genesis: &'a CheckedGenesis,
    client: AuditServiceClient<tonic::transport::Channel>,
}

impl Auditor<'_> {
    /// One block.
    pub async fn block(&mut self, height: u64) -> Result<SeenBlock, Error> {
        let answer =
            self.client.get_block(GetBlockRequest { height }).await.map_err(|s| code("GetBlock", &s))?;
        let answer = answer.into_inner();
        let chain_id = &self.genesis.chain_id;
        let reading = || format!("reading block {height}");
        let block: Block =
            decode("Block", &answer.block, assent_ledger::block::MAX_BLOCK_BYTES).during(reading)?;
        let header: Header = decode("Header", &block.header, MAX_ENTRY_BYTES).during(reading)?;
        let certificate: Certificate =
            decode("Certificate", &answer.certificate, MAX_ENTRY_BYTES).during(reading)?;
        let hash = header_hash(chain_id, &block.header);
        let certified =
            verify_certificate(chain_id, &self.genesis.validators, header.height, &hash, &certificate)
                .is_ok();
        Ok(SeenBlock { block, header, hash, certificate, certified })
    }
}

/// How a node is told which patient.
pub fn named(patient: &SamplePatient) -> Patient {
    Patient {
        custodian: CUSTODIAN.into(),
        identifier_system: IDENTIFIER_SYSTEM.into(),
        identifier_value: patient.mrn.clone(),
        birth_date: patient.birth_date.clone(),
    }
}

/// A query of Birch's.
pub fn query(patient: Patient, purpose: &str, actor: &str, resource_types: &[&str]) -> Query {
    Query {
        patient: Some(patient),
        purpose: purpose.into(),
        actor: actor.into(),
        action: String::new(),
        resource_types: resource_types.iter().map(|kind| (*kind).to_owned()).collect(),
        break_glass_reason: String::new(),
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let now = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    u64::try_from(now).unwrap_or(0)
}
