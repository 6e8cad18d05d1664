//! Step 6: the patient withdraws through Dogwood's node; how long until nobody permits any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::exchange_service_client::ExchangeServiceClient;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::{CheckConsentRequest, RequestRecordsRequest};
use prost::Message;
use tonic::transport::Channel;
use tonic::Status;
use tonic_types::StatusExt;

use super::check::{is_not_released, ACTOR};
use crate::client::{self, code};
use crate::demo::observed::WithdrawObserved;
use crate::demo::patient::{DemoPatient, SlotSeen};
use crate::demo::stage::{query, Stage, OTHER, RECIPIENT};
use crate::error::{Error, While};

/// How long a node is watched.
const WATCH_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks at a slot: a node takes 50 such calls a second, and the patient's own are among them.
const SLOT_POLL: Duration = Duration::from_millis(30);
const CHECK_POLL: Duration = Duration::from_millis(10);
/// Pause when a node says that it is asked too often.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long checks go on after the last node stopped permitting.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Withdraws and watches.
pub async fn observe(stage: &Stage) -> Result<WithdrawObserved, Error> {
    let network = stage.network();
    let mut watched = Vec::new();
    for organization in stage.organizations() {
        let client = PatientServiceClient::new(client::connect_as_patient(network, &organization).await?);
        let task = tokio::spawn(watch_slot(stage.patient.clone(), client, network.chain_id.clone()));
        watched.push((organization, task));
    }
    let done = Arc::new(AtomicBool::new(false));
    let checks = {
        let client = DecisionServiceClient::new(client::connect(network, RECIPIENT, "crm").await?);
        let query = query(stage.patient.named(), "TREAT", ACTOR, &[]);
        let request = CheckConsentRequest { query: Some(query), consistency: None, omit_decision: false };
        tokio::spawn(watch_checks(client, request, done.clone()))
    };
    tokio::time::sleep(AFTERWARDS / 2).await; // some checks before

    let start = Instant::now();
    let exit = stage.withdraw(OTHER).await?;
    let mut frozen_ms = Vec::new();
    for (organization, task) in watched {
        let seen = task.await.during(|| format!("watching {organization}"))?;
        let seen = seen.map_err(|status| code("GetSlot", &status))?;
        if let Some(at) = seen {
            frozen_ms.push((organization, millis(at, start)));
        }
    }
    tokio::time::sleep(AFTERWARDS).await;
    done.store(true, Ordering::Relaxed);
    let checks =
        checks.await.during(|| "watching checks".into())?.map_err(|status| code("CheckConsent", &status))?;
    let first_refusal = checks.iter().position(|(_, permitted)| !permitted);
    let after = first_refusal.map_or(&[][..], |first| &checks[first + 1..]);
    let (request_reason, request_bytes) = request_again(stage).await?;
    Ok(WithdrawObserved {
        exit,
        permitted_before: checks.iter().any(|(at, permitted)| *permitted && *at < start),
        organizations: stage.organizations().into_iter().collect(),
        frozen_ms,
        refused_ms: first_refusal.map(|first| millis(checks[first].0, start)),
        permits_after: after.iter().filter(|(_, permitted)| *permitted).count() as u64,
        checks_after: after.len() as u64,
        request_reason,
        request_bytes,
    })
}

fn millis(at: Instant, start: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(start).as_millis()).unwrap_or(u64::MAX)
}

/// When a node showed the slot frozen for the first time; none within the limit.
async fn watch_slot(
    patient: DemoPatient,
    mut client: PatientServiceClient<Channel>,
    chain_id: String,
) -> Result<Option<Instant>, Status> {
    let deadline = Instant::now() + WATCH_LIMIT;
    while Instant::now() < deadline {
        let pause = match patient.ask_slot(&mut client, &chain_id).await? {
            SlotSeen::Slot(slot) if slot.frozen => return Ok(Some(Instant::now())),
            SlotSeen::Slot(_) => SLOT_POLL,
            SlotSeen::Later => PATIENCE,
        };
        tokio::time::sleep(pause).await;
    }
    Ok(None)
}

/// When each check was answered, and whether it was permitted, until told to stop.
async fn watch_checks(
    mut client: DecisionServiceClient<Channel>,
    request: CheckConsentRequest,
    done: Arc<AtomicBool>,
) -> Result<Vec<(Instant, bool)>, Status> {
    let mut seen = Vec::new();
    while !done.load(Ordering::Relaxed) {
        match client.check_consent(request.clone()).await {
            Ok(_) => seen.push((Instant::now(), true)),
            Err(status) if is_not_released(&status) => seen.push((Instant::now(), false)),
            Err(status) => return Err(status),
        }
        tokio::time::sleep(CHECK_POLL).await;
    }
    Ok(seen)
}

/// A new request for records: why it was refused, and how many bytes came.
async fn request_again(stage: &Stage) -> Result<(String, u64), Error> {
    let channel = client::connect(stage.network(), RECIPIENT, "crm").await?;
    let query = query(stage.patient.named(), "TREAT", ACTOR, &[]);
    let request = RequestRecordsRequest {
        request_id: "release-after-withdrawal".into(),
        query: Some(query),
        ..Default::default()
    };
    let mut bytes = 0;
    let refused = match ExchangeServiceClient::new(channel).request_records(request).await {
        Err(status) => Some(status),
        Ok(stream) => {
            let mut stream = stream.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(message)) => bytes += message.encoded_len() as u64,
                    Ok(None) => break None,
                    Err(status) => break Some(status),
                }
            }
        }
    };
    let reason = refused.map_or_else(String::new, |status| {
        status.get_details_error_info().map_or_else(|| format!("{:?}", status.code()), |info| info.reason)
    });
    Ok((reason, bytes))
}
