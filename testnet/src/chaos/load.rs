//! The load of a run: a few hundred writes a second through all nodes, checks at custodian and recipient, and now and then a
//! patient who withdraws. Bounded: each lane has one call under way, and paces itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use assent_ledger::entry::withdraw_sign_bytes;
use assent_ledger::keys::sign;
use assent_proto::ledger::v1::Withdraw;
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::{CheckConsentRequest, WithdrawRequest};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::observed::{CheckSeen, WithdrawalSeen};
use super::patients::{consenting, control_key, treatment_of, CUSTODIAN, RECIPIENT};
use super::writes::{Shared, What, Writer, RETRY, TRY_LIMIT};
use crate::client;
use crate::error::Error;
use crate::net::description::Network;

/// Lanes a node that register one patient at a time.
const SINGLE_LANES: usize = 3;
/// Pause of such a lane.
const SINGLE_PAUSE: Duration = Duration::from_millis(80);
/// Patients in one entry of the lane that imports.
const BATCH: u64 = 25;
/// Its pause.
const BATCH_PAUSE: Duration = Duration::from_millis(900);
/// Pause between two checks of one node.
const CHECK_PAUSE: Duration = Duration::from_millis(40);
/// Longest time of one check.
const CHECK_LIMIT: Duration = Duration::from_secs(3);
/// Pause between two withdrawals.
const WITHDRAW_PAUSE: Duration = Duration::from_millis(2_500);
/// How long unanswered writes are tried again when the load is stopped.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Default)]
struct Stop(Arc<AtomicBool>, Arc<Mutex<Option<Instant>>>);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self) {
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + DRAIN_LIMIT);
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|end| Instant::now() >= end)
    }
}

/// A running load.
pub struct Load {
    stop: Stop,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts it. `patients` have consents at the custodian: their handles, in the order of their numbers.
    pub async fn start(
        network: &Network,
        canary: &str,
        journal: &Shared,
        patients: &[Vec<u8>],
    ) -> Result<Self, Error> {
        let mut load = Self { stop: Stop::default(), tasks: JoinSet::new() };
        for node in &network.nodes {
            let writer = Writer {
                organization: node.organization.clone(),
                canary: canary.to_owned(),
                channel: client::connect(network, &node.organization, "registrar").await?,
                journal: journal.clone(),
            };
            for lane in 0..SINGLE_LANES {
                load.lane(writer.clone(), format!("one-{lane}"), What::One, SINGLE_PAUSE);
            }
            load.lane(writer, "many".into(), What::Many(BATCH), BATCH_PAUSE);
        }
        if patients.is_empty() {
            return Ok(load);
        }
        for organization in [CUSTODIAN, RECIPIENT] {
            let checks = Checks {
                organization: organization.to_owned(),
                canary: canary.to_owned(),
                patients: patients.len(),
                client: DecisionServiceClient::new(client::connect(network, organization, "crm").await?),
                journal: journal.clone(),
                stop: load.stop.clone(),
            };
            load.tasks.spawn(checks.run());
        }
        let mut doors = Vec::new();
        for node in &network.nodes {
            let channel = client::connect_as_patient(network, &node.organization).await?;
            doors.push(PatientServiceClient::new(channel));
        }
        let leavers = Leavers {
            chain_id: network.chain_id.clone(),
            handles: patients.to_vec(),
            doors,
            journal: journal.clone(),
            stop: load.stop.clone(),
        };
        load.tasks.spawn(leavers.run());
        Ok(load)
    }

    fn lane(&mut self, writer: Writer, name: String, what: What, pause: Duration) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut number = 0u64;
            while !stop.is_set() {
                let id = format!("{name}-{number}");
                writer.write(&id, &what, || stop.is_over()).await;
                number += 1;
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// No new calls; those without an answer are tried again for a while.
    pub async fn stop(mut self) {
        self.stop.set();
        while self.tasks.join_next().await.is_some() {}
    }
}

struct Checks {
    organization: String,
    canary: String,
    patients: usize,
    client: DecisionServiceClient<Channel>,
    journal: Shared,
    stop: Stop,
}

impl Checks {
    async fn run(mut self) {
        let mut patient = 0;
        while !self.stop.is_set() {
            let mut request = Request::new(CheckConsentRequest {
                query: Some(treatment_of(&self.canary, &consenting(patient))),
                consistency: None,
                omit_decision: true,
            });
            request.set_timeout(CHECK_LIMIT);
            let asked = Instant::now();
            let permitted = match tokio::time::timeout(CHECK_LIMIT, self.client.check_consent(request)).await
            {
                Ok(Ok(_)) => Some(true),
                Ok(Err(status)) if status.code() == Code::PermissionDenied => Some(false),
                _ => None,
            };
            if let Some(permitted) = permitted {
                let organization = self.organization.clone();
                self.journal.lock().checks.push(CheckSeen { organization, patient, asked, permitted });
            }
            patient = (patient + 1) % self.patients;
            tokio::time::sleep(CHECK_PAUSE).await;
        }
    }
}

struct Leavers {
    chain_id: String,
    handles: Vec<Vec<u8>>,
    doors: Vec<PatientServiceClient<Channel>>,
    journal: Shared,
    stop: Stop,
}

impl Leavers {
    /// One patient after another, each through another node; the last one stays, so that checks still permit somebody.
    async fn run(mut self) {
        for patient in 0..self.handles.len().saturating_sub(1) {
            tokio::time::sleep(WITHDRAW_PAUSE).await;
            let door = patient % self.doors.len();
            let mut door = self.doors[door].clone();
            loop {
                if self.stop.is_set() {
                    return;
                }
                let sent = tokio::time::timeout(TRY_LIMIT, door.withdraw(self.request(patient))).await;
                match sent {
                    Ok(Ok(_)) => {
                        let acknowledged = Instant::now();
                        self.journal.lock().withdrawals.push(WithdrawalSeen { patient, acknowledged });
                        break;
                    }
                    // An earlier try through another node took effect: nobody knows when.
                    Ok(Err(status)) if matches!(status.code(), Code::FailedPrecondition | Code::Aborted) => {
                        break
                    }
                    Ok(Err(status)) => self.journal.failed(&status),
                    Err(_) => {}
                }
                tokio::time::sleep(RETRY).await;
                // The patient tries the next hospital's door.
                self.doors.rotate_left(1);
                door = self.doors[0].clone();
            }
        }
    }

    fn request(&self, patient: usize) -> Request<WithdrawRequest> {
        let handle = &self.handles[patient];
        let bytes = withdraw_sign_bytes(&self.chain_id, CUSTODIAN, handle, 0);
        let withdraw = Withdraw {
            custodian: CUSTODIAN.into(),
            handle: handle.clone(),
            withdraw_seq: 0,
            patient_signature: sign(&control_key(&consenting(patient)), &bytes).to_vec(),
        };
        let mut request = Request::new(WithdrawRequest {
            request_id: format!("leave-{patient}"),
            withdraw: Some(withdraw),
        });
        request.set_timeout(TRY_LIMIT);
        request
    }
}
