//! Consent checks: by the custodian's own node among 100,000 or a million subjects, and by another's from a signed decision.

use std::sync::Arc;
use std::time::Duration;

use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::{CheckConsentRequest, Outcome};
use rand::Rng;
use tonic::transport::Channel;

use super::ceiling::BareServer;
use super::figure::{Figure, Target};
use super::footprint;
use super::load::{closed_loop, open_loop, Samples};
use super::stage::{Stage, CUSTODIAN, RECIPIENT};
use super::write::{said, treatment_of};
use crate::client;
use crate::error::Error;
use crate::net::description::node_dir;

/// Registered subjects with a consent and a record each.
pub const SUBJECTS: usize = 100_000;
/// The same, for the figures that are named after a million.
pub const MILLION: usize = 1_000_000;
/// Connections, and callers on each.
const CONNECTIONS: usize = 4;
const LANES: usize = 64;
/// Subjects whose decisions the recipient's node holds.
const CACHED: u64 = 2_000;
/// How long a full rate is measured.
const FULL: Duration = Duration::from_secs(10);
/// First questions a second.
const UNCACHED_RATE: f64 = 50.0;

#[derive(Clone)]
struct Checks {
    clients: Arc<Vec<DecisionServiceClient<Channel>>>,
    signed: bool,
}

impl Checks {
    async fn connect(stage: &Stage, url: &str, organization: &str, signed: bool) -> Result<Self, Error> {
        let as_client = stage.network().client(organization, "crm")?;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(DecisionServiceClient::new(client::open(url, as_client, true).await?));
        }
        Ok(Self { clients: Arc::new(clients), signed })
    }

    /// A check about a subject must permit.
    async fn check(self, lane: u64, subject: u64) -> Result<(), String> {
        let request = CheckConsentRequest {
            query: Some(treatment_of(&format!("subject-{subject}"))),
            consistency: None,
            omit_decision: !self.signed,
        };
        let mut client = self.clients[(lane % CONNECTIONS as u64) as usize].clone();
        let answer = client.check_consent(request).await.map_err(|s| said(&s))?.into_inner();
        match answer.outcome() {
            Outcome::Permit => Ok(()),
            other => Err(format!("a permit was due, {other:?} came")),
        }
    }

    /// The full rate by a closed loop, and how soon answers come at half of it by an open one.
    async fn measure(&self, stage: &mut Stage, what: &str, subjects: u64) -> Measured {
        let random = move || rand::thread_rng().gen_range(0..subjects);
        let checks = self.clone();
        let full = closed_loop(LANES, FULL.min(stage.time), move |lane, _| {
            checks.clone().check(lane as u64, random())
        })
        .await;
        stage.must_succeed(&format!("{what}, closed loop"), &full);
        let rate = full.per_second() / 2.0;
        let half = open_loop(rate, stage.time_at(rate), |n| self.clone().check(n, random())).await;
        stage.must_succeed(&format!("{what}, open loop"), &half);
        Measured { full, half }
    }
}

/// What a kind of check gave.
struct Measured {
    full: Samples,
    half: Samples,
}

fn figure(samples: &Samples, name: &'static str, target: f64) -> Figure {
    let (count, seconds) = (samples.micros.len() as u64, samples.seconds);
    Figure::new(name, samples.per_second(), "checks/s", Target::AtLeast(target), count, seconds)
}

fn latency(samples: &Samples, name: &'static str, percent: f64) -> Figure {
    let (count, seconds) = (samples.micros.len() as u64, samples.seconds);
    Figure::new(name, samples.percentile_ms(percent), "ms", Target::None, count, seconds)
}

/// Registers the subjects, then measures.
pub async fn check(stage: &mut Stage) -> Result<(), Error> {
    let node = stage.network().node(CUSTODIAN)?.grpc.clone();
    let folder = node_dir(&stage.dir, CUSTODIAN);
    let server = BareServer::start(&["bare-unary", &folder.display().to_string()]).await?;
    let bare =
        Checks::connect(stage, &format!("https://127.0.0.1:{}", server.address), CUSTODIAN, false).await?;
    let bare = bare.measure(stage, "bare", SUBJECTS as u64).await;
    let bare_rate = bare.full.per_second();
    drop(server);

    stage.register_subjects(SUBJECTS).await?;
    let local = Checks::connect(stage, &node, CUSTODIAN, false).await?;
    let unsigned = local.measure(stage, "check", SUBJECTS as u64).await;
    stage.keep(figure(&unsigned.full, "check_per_s", 10_000.0).under("bare_unary_per_s", bare_rate));
    for (name, bare_name, percent) in
        [("check_p50_ms", "bare_unary_p50_ms", 50.0), ("check_p99_ms", "bare_unary_p99_ms", 99.0)]
    {
        stage.keep(latency(&unsigned.half, name, percent).under(bare_name, bare.half.percentile_ms(percent)));
    }
    let over_bare = unsigned.full.per_second() / bare_rate;
    let (samples, seconds) = (unsigned.full.micros.len() as u64, unsigned.full.seconds);
    stage.keep(Figure::new("check_vs_bare", over_bare, "ratio", Target::AtLeast(0.7), samples, seconds));
    let signed = Checks { signed: true, ..local }.measure(stage, "signed check", SUBJECTS as u64).await.full;
    let count = signed.micros.len() as u64;
    let rate = signed.per_second();
    stage.keep(Figure::new("check_signed_per_s", rate, "checks/s", Target::None, count, signed.seconds));

    let node = stage.network().node(RECIPIENT)?.grpc.clone();
    let remote = Checks::connect(stage, &node, RECIPIENT, false).await?;
    let first = {
        let time = Duration::from_secs_f64(CACHED as f64 / UNCACHED_RATE).min(stage.time);
        open_loop(UNCACHED_RATE, time, |n| remote.clone().check(n, n)).await
    };
    stage.must_succeed("uncached remote check", &first);
    stage.keep(latency(&first, "check_remote_uncached_p50_ms", 50.0));
    let known = first.micros.len() as u64;
    let cached = remote.measure(stage, "cached remote check", known).await.full;
    let cached_figure = figure(&cached, "check_remote_cached_per_s", 10_000.0);
    stage.keep(cached_figure.under("bare_unary_per_s", bare_rate));
    Ok(())
}

/// Checks among so many subjects, most of whom are asked about for the first time, and the custodian's memory after them.
pub async fn million(stage: &mut Stage) -> Result<(), Error> {
    let subjects = stage.many_subjects;
    stage.register_subjects(subjects).await?;
    let node = stage.network().node(CUSTODIAN)?.grpc.clone();
    let checks = Checks::connect(stage, &node, CUSTODIAN, false).await?;
    let measured = checks.measure(stage, "check among many", subjects as u64).await;
    // A smaller run is no substitute: its figures have names of their own.
    let names = match subjects {
        MILLION => ["check_1m_per_s", "check_1m_p99_ms", "memory_1m_mb"],
        _ => ["check_many_per_s", "check_many_p99_ms", "memory_many_mb"],
    };
    stage.keep(figure(&measured.full, names[0], 10_000.0));
    stage.keep(latency(&measured.half, names[1], 99.0));
    let memory = footprint::memory_mb_of(stage.network().node(CUSTODIAN)?)?;
    stage.keep(Figure::new(names[2], memory, "MB", Target::AtMost(2_000.0), subjects as u64, 0.0));
    Ok(())
}
