//! Step 7: Elm's node is killed; the others go on; it comes back and votes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use assent_ledger::certificate::{precommit, vote_sign_bytes};
use assent_ledger::keys::verify;
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::subject_service_client::SubjectServiceClient;
use assent_proto::v1::{CreateSubjectRequest, GetStatusRequest, GetStatusResponse, Patient};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::client::{self, code};
use crate::demo::observed::{CrashObserved, Rate, VoteSeen};
use crate::demo::stage::{SeenBlock, Stage, CUSTODIAN, OTHER, RECIPIENT, VICTIM};
use crate::error::{failed, Error};
use crate::net::cluster::status;
use crate::slice::IDENTIFIER_SYSTEM;

/// Writes in flight at each of the three nodes that stay.
const IN_FLIGHT_PER_NODE: usize = 4;
/// The nodes that stay.
const SURVIVORS: [&str; 3] = [CUSTODIAN, RECIPIENT, OTHER];
/// How long the node may take to catch up, and then to vote.
const BACK_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// Pause before a failed write is sent again.
const RETRY: Duration = Duration::from_millis(100);

/// Writes, kills, writes, starts again.
pub async fn observe(stage: &mut Stage) -> Result<CrashObserved, Error> {
    let victim = stage.organizations().iter().position(|o| o == VICTIM);
    let Some(victim) = victim else {
        return failed("the network has no node to kill");
    };
    let writers = Writers::start(stage, "load").await?;
    let four = measure(stage, &writers).await?;
    let signal = stage.cluster.kill_node(victim)?;
    let three = measure(stage, &writers).await?;
    writers.stop().await;

    let restart_height = height_of(&status(stage.network(), CUSTODIAN).await?);
    let started = Instant::now();
    stage.cluster.start_node(victim)?;
    let caught_up_height = catch_up(stage, restart_height).await?;
    let caught_up_seconds = started.elapsed().as_secs_f64();
    let writers = Writers::start(stage, "vote").await?;
    let vote = find_vote(stage, restart_height).await;
    writers.stop().await;
    Ok(CrashObserved {
        required_seconds: stage.measure.as_secs_f64(),
        four,
        three,
        signal,
        restart_height,
        caught_up_height,
        caught_up_seconds,
        vote: vote?,
    })
}

fn height_of(status: &GetStatusResponse) -> u64 {
    status.answer.as_ref().map_or(0, |answer| answer.height)
}

/// Registers made-up patients through the nodes that stay, a bounded number at a time.
struct Writers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Writers {
    async fn start(stage: &Stage, run: &'static str) -> Result<Self, Error> {
        let mut writers = Self { stop: Arc::default(), answered: Arc::default(), tasks: JoinSet::new() };
        for organization in SURVIVORS {
            let channel = client::connect(stage.network(), organization, "registrar").await?;
            for lane in 0..IN_FLIGHT_PER_NODE {
                let (stop, answered) = (writers.stop.clone(), writers.answered.clone());
                let name = format!("{run}-{organization}-{lane}");
                writers.tasks.spawn(write(channel.clone(), organization, name, stop, answered));
            }
        }
        Ok(writers)
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn write(
    channel: Channel,
    organization: &'static str,
    name: String,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
) {
    let mut client = SubjectServiceClient::new(channel);
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let request = CreateSubjectRequest {
            request_id: format!("{name}-{number}"),
            patient: Some(Patient {
                custodian: organization.into(),
                identifier_system: IDENTIFIER_SYSTEM.into(),
                identifier_value: format!("{name}-{number}"),
                birth_date: "1990-01-01".into(),
            }),
            patient_reference: format!("Patient/{name}-{number}"),
            control_key: Vec::new(),
        };
        match client.create_subject(request).await {
            Ok(_) => {
                answered.fetch_add(1, Ordering::Relaxed);
                number += 1;
            }
            // The outcome is unknown: the same request again gets the same answer.
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// What Cedar's ledger committed over the time of measurement.
async fn measure(stage: &Stage, writers: &Writers) -> Result<Rate, Error> {
    let mut client = NodeServiceClient::new(client::connect(stage.network(), CUSTODIAN, "operator").await?);
    let mut look = async || {
        let status =
            client.get_status(GetStatusRequest {}).await.map_err(|s| code("GetStatus", &s))?.into_inner();
        Ok::<_, Error>((Instant::now(), status, writers.answered.load(Ordering::Relaxed)))
    };
    let (from, before, answered_before) = look().await?;
    tokio::time::sleep(stage.measure).await;
    let (to, after, answered_after) = look().await?;
    Ok(Rate {
        seconds: (to - from).as_secs_f64(),
        entries: after.entries.saturating_sub(before.entries),
        answered: answered_after - answered_before,
        heights: height_of(&after).saturating_sub(height_of(&before)),
    })
}

/// Waits until the node is where the others were; nobody writes meanwhile.
async fn catch_up(stage: &mut Stage, height: u64) -> Result<u64, Error> {
    let deadline = Instant::now() + BACK_LIMIT;
    loop {
        stage.cluster.fail_if_ended()?;
        let seen = status(stage.network(), VICTIM).await;
        match &seen {
            Ok(status) if status.fresh && height_of(status) >= height => return Ok(height_of(status)),
            _ if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            Ok(status) => {
                let reason = &status.not_fresh_reason;
                return failed(format!(
                    "{VICTIM} is at height {}, not {height}: {reason}",
                    height_of(status)
                ));
            }
            Err(error) => return failed(format!("{VICTIM} does not answer: {error}")),
        }
    }
}

/// A certificate after the restart with the node's precommit; the other nodes are asked first.
async fn find_vote(stage: &Stage, restart_height: u64) -> Result<Option<VoteSeen>, Error> {
    let key = stage
        .genesis
        .validators
        .validators
        .iter()
        .find(|v| v.organization == VICTIM)
        .map(|v| v.vote_key.clone());
    let Some(key) = key else {
        return failed("genesis has no validator to look for");
    };
    let deadline = Instant::now() + BACK_LIMIT;
    let mut auditors = Vec::new();
    for organization in SURVIVORS.into_iter().chain([VICTIM]) {
        auditors.push((organization, stage.auditor(organization).await?, restart_height + 1));
    }
    while Instant::now() < deadline {
        for (organization, auditor, next) in &mut auditors {
            let tip = height_of(&status(stage.network(), organization).await?);
            while *next <= tip {
                let seen = auditor.block(*next).await?;
                if let Some(signature_holds) = signed_by(stage, &seen, &key) {
                    return Ok(Some(VoteSeen {
                        height: seen.header.height,
                        shown_by: (*organization).to_owned(),
                        certificate_holds: seen.certified,
                        signature_holds,
                    }));
                }
                *next += 1;
            }
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(None)
}

/// Whether a validator's precommit in the certificate verifies; none when it is not there.
fn signed_by(stage: &Stage, seen: &SeenBlock, key: &[u8]) -> Option<bool> {
    let signature = seen.certificate.signatures.iter().find(|s| s.address == key)?;
    let (Ok(key), Ok(bytes)) = (key.try_into(), signature.signature.as_slice().try_into()) else {
        return Some(false);
    };
    let vote = precommit(seen.header.height, seen.certificate.round, &seen.hash, &key);
    Some(verify(&key, &vote_sign_bytes(&stage.genesis.chain_id, &vote), &bytes))
}
