//! One embedded node, `assentd --single`: a chain of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use assent_ledger::genesis::CheckedGenesis;
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::{CreateSubjectRequest, GetStatusRequest, Patient};

use crate::binaries::Binaries;
use crate::client::{self, code};
use crate::error::{failed, Error, While};
use crate::net::create::{client_in, read_genesis, text};
use crate::net::description::Client;
use crate::net::ports;
use crate::net::process::{Care, Running, STOP_LIMIT_SECONDS};

/// Organization that runs it.
const ORGANIZATION: &str = "cedar";
/// Name of the clients that `assent init --single` makes.
const CLIENT: &str = "local";
/// How long it may take until it answers, in seconds.
const READY_LIMIT_SECONDS: u64 = 30;
const POLL: Duration = Duration::from_millis(100);

/// A running one.
pub struct Single {
    /// URL of the gRPC services.
    pub url: String,
    /// Its chain's beginning.
    pub genesis: CheckedGenesis,
    /// A client with role auditor.
    pub auditor: Client,
    registrar: Client,
    running: Running,
}

impl Single {
    /// Makes keys and genesis in a folder, starts the node and waits until it is fresh.
    pub async fn start(binaries: &Binaries, dir: &Path, chain_id: &str) -> Result<Self, Error> {
        let ports = ports::free(2)?;
        let (grpc, admin) = (format!("127.0.0.1:{}", ports[0]), format!("127.0.0.1:{}", ports[1]));
        let folder = text(dir)?;
        binaries
            .assent_ok(&[
                "init",
                "--single",
                "--dir",
                folder,
                "--organization",
                ORGANIZATION,
                "--name",
                "Cedar Hospital",
                "--chain-id",
                chain_id,
                "--grpc",
                &grpc,
                "--admin",
                &admin,
            ])
            .await?;
        let genesis = read_genesis(&dir.join("genesis.bin"))?;
        let arguments = [Path::new("--single"), Path::new("--dir"), dir];
        let running =
            Running::start(&binaries.assentd, &arguments, &dir.join("assentd.log"), Care::Supervised)?;
        let mut single = Self {
            url: format!("https://{grpc}"),
            genesis,
            auditor: client_in(dir, ORGANIZATION, "auditor", CLIENT),
            registrar: client_in(dir, ORGANIZATION, "registrar", CLIENT),
            running,
        };
        match single.wait_ready().await {
            Ok(()) => Ok(single),
            Err(error) => {
                single.stop().await;
                Err(error)
            }
        }
    }

    async fn wait_ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(READY_LIMIT_SECONDS);
        loop {
            if let Some(status) = self.running.ended() {
                return failed(format!(
                    "the embedded node ended by itself ({status}):{}",
                    self.running.log_tail()
                ));
            }
            let fresh = async {
                let channel = client::open(&self.url, &self.auditor, true).await?;
                let answer = NodeServiceClient::new(channel).get_status(GetStatusRequest {}).await;
                Ok::<_, Error>(answer.map_err(|s| code("GetStatus", &s))?.into_inner())
            };
            let why = match fresh.await {
                Ok(status) if status.fresh => return Ok(()),
                Ok(status) => status.not_fresh_reason,
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return failed(format!(
                    "the embedded node is not ready after {READY_LIMIT_SECONDS} s: {why}"
                ));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Writes something, so that the chain is not empty.
    pub async fn write(&self) -> Result<(), Error> {
        let request = CreateSubjectRequest {
            request_id: "one".into(),
            patient: Some(Patient {
                custodian: ORGANIZATION.into(),
                identifier_system: crate::slice::IDENTIFIER_SYSTEM.into(),
                identifier_value: "MRN-000001".into(),
                birth_date: "1990-01-01".into(),
            }),
            patient_reference: "Patient/one".into(),
            control_key: Vec::new(),
        };
        let channel = client::open(&self.url, &self.registrar, true).await?;
        let answer = SubjectServiceClient::new(channel).create_subject(request).await;
        answer.map(drop).during(|| "writing to the embedded node".into())
    }

    /// Stops it.
    pub async fn stop(&mut self) {
        self.running.terminate();
        self.running.wait_until(Instant::now() + Duration::from_secs(STOP_LIMIT_SECONDS)).await;
    }
}

/// Nothing that was started outlives its owner.
impl Drop for Single {
    fn drop(&mut self) {
        let _ = self.running.kill(); // gone already: what is wanted
    }
}
