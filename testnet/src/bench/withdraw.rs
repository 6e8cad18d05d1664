//! Withdrawals: how soon no node permits any more.

use std::time::{Duration, Instant};

use assent_ledger::entry::withdraw_sign_bytes;
use assent_ledger::keys::{sign, SigningKey};
use assent_proto::ledger::v1::Withdraw;
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::{CheckConsentRequest, WithdrawRequest};
use tonic::transport::Channel;
use tonic::Code;

use super::figure::{Figure, Target};
use super::load::Samples;
use super::stage::{Stage, CUSTODIAN, RECIPIENT};
use super::write::{said, treatment_of};
use crate::client;
use crate::error::{failed, Error};

/// Patients who withdraw, at most.
const PATIENTS: usize = 512;
/// Pause between two checks of one watcher.
const POLL: Duration = Duration::from_millis(2);
/// Pause between two withdrawals.
const PAUSE: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(10);

/// One patient after another withdraws, through each node in turn; two nodes have a consent to ask about, custodian and
/// recipient, and both are asked without pause.
pub async fn withdraw(stage: &mut Stage) -> Result<(), Error> {
    let key = |n: usize| SigningKey::from_bytes(&assent_ledger::hash::sha256(&(n as u64).to_be_bytes()));
    let keys: Vec<_> = (0..PATIENTS).map(|n| Some(key(n).verifying_key().to_bytes())).collect();
    let (_, handles) = stage.import("leaver", &keys).await?;
    let network = stage.network().clone();
    let mut doors = Vec::new();
    for organization in stage.organizations() {
        doors.push(PatientServiceClient::new(client::connect_as_patient(&network, &organization).await?));
    }
    let mut askers = Vec::new();
    for organization in [CUSTODIAN, RECIPIENT] {
        askers.push(DecisionServiceClient::new(client::connect(&network, organization, "crm").await?));
    }
    let (begin, mut micros) = (Instant::now(), Vec::new());
    for (n, handle) in handles.iter().enumerate() {
        if begin.elapsed() >= stage.time {
            break;
        }
        for asker in &mut askers {
            if asker.check_consent(question(n)).await.is_err() {
                return failed(format!("patient {n} was not permitted before the withdrawal"));
            }
        }
        let bytes = withdraw_sign_bytes(&network.chain_id, CUSTODIAN, handle, 0);
        let withdraw = Withdraw {
            custodian: CUSTODIAN.into(),
            handle: handle.clone(),
            withdraw_seq: 0,
            patient_signature: sign(&key(n), &bytes).to_vec(),
        };
        let mut door = doors[n % doors.len()].clone();
        let since = Instant::now();
        let watchers = askers.iter().map(|asker| denied(asker.clone(), n, since));
        let request = WithdrawRequest { request_id: format!("leave-{n}"), withdraw: Some(withdraw) };
        let (sent, seen) = tokio::join!(door.withdraw(request), futures::future::join_all(watchers));
        if let Err(status) = sent {
            return failed(format!("withdrawal {n}: {}", said(&status)));
        }
        for time in seen {
            match time {
                Some(time) => micros.push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX)),
                None => stage.wrong.push(format!("patient {n} was still permitted after {LIMIT:?}")),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    micros.sort_unstable();
    let samples = Samples { micros, seconds: begin.elapsed().as_secs_f64(), ..Samples::default() };
    let count = samples.micros.len() as u64;
    for (name, percent, target) in [
        ("withdraw_to_denied_p50_ms", 50.0, Target::None),
        ("withdraw_to_denied_p99_ms", 99.0, Target::AtMost(200.0)),
    ] {
        stage.keep(Figure::new(name, samples.percentile_ms(percent), "ms", target, count, samples.seconds));
    }
    Ok(())
}

fn question(n: usize) -> CheckConsentRequest {
    CheckConsentRequest {
        query: Some(treatment_of(&format!("leaver-{n}"))),
        consistency: None,
        omit_decision: true,
    }
}

/// When a node answered for the first time that nothing is released. A permit after that would be wrong, and is looked for.
async fn denied(mut asker: DecisionServiceClient<Channel>, n: usize, since: Instant) -> Option<Duration> {
    while since.elapsed() < LIMIT {
        match asker.check_consent(question(n)).await {
            Err(status) if status.code() == Code::PermissionDenied => {
                let time = since.elapsed();
                let again = asker.check_consent(question(n)).await;
                return again.is_err().then_some(time);
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
    None
}
