//! Releases: how soon the first bytes come, and how fast many.

use std::time::{Duration, Instant};

use assent_proto::v1::exchange_service_client::ExchangeServiceClient;
use assent_proto::v1::RequestRecordsRequest;
use rand::RngCore;
use tonic::transport::Channel;

use super::bare::ByteStream;
use super::ceiling::BareServer;
use super::figure::{Figure, Target};
use super::load::{open_loop, Samples};
use super::stage::{Stage, RECIPIENT};
use super::write::{said, treatment_of};
use crate::client;
use crate::error::{Error, While};

/// Patients with one small record each.
const PATIENTS: usize = 256;
/// Releases a second.
const RATE: f64 = 5.0;
/// A large release: resources of this many bytes of hexadecimal text.
const LARGE_RESOURCES: usize = 10;
const LARGE_RESOURCE_BYTES: usize = 1_000_000;
/// How often the large release is asked for.
const LARGE_ROUNDS: usize = 10;

/// Small releases, then large ones beside plain bytes over libp2p.
pub async fn release(stage: &mut Stage) -> Result<(), Error> {
    stage.import("reader", &vec![None; PATIENTS]).await?;
    let channel = client::connect(stage.network(), RECIPIENT, "crm").await?;
    let client = ExchangeServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let small = {
        let time = stage.time.min(Duration::from_secs_f64(PATIENTS as f64 / RATE));
        open_loop(RATE, time, |n| {
            let client = client.clone();
            async move { fetch(client, format!("small-{n}"), format!("reader-{n}"), true).await.map(|_| ()) }
        })
        .await
    };
    stage.must_succeed("small releases", &small);
    let target = stage.idle_commit_ms.map_or(Target::None, |commit| Target::AtMost(commit + 20.0));
    let p50 = small.percentile_ms(50.0);
    let figure =
        Figure::new("release_first_byte_p50_ms", p50, "ms", target, small.micros.len() as u64, small.seconds);
    stage.keep(match stage.idle_commit_ms {
        Some(commit) => figure.under("idle_commit_p50_ms", commit),
        None => figure,
    });

    stage.import("large", &[None]).await?;
    stage.load("large-images", (0..LARGE_RESOURCES).map(image).collect()).await?;
    let server = BareServer::start(&["bare-stream"]).await?;
    let mut bare = ByteStream::open(&server.address).await?;
    let (mut released, mut plain, mut bytes) = (Vec::new(), Vec::new(), 0);
    for round in 0..=LARGE_ROUNDS {
        let begin = Instant::now();
        bytes = fetch(client.clone(), format!("large-{round}"), "large-0".into(), false)
            .await
            .during(|| "a large release".into())?;
        let took = begin.elapsed();
        let begin = Instant::now();
        bare.fetch(bytes).await?;
        if round > 0 {
            // The first of each warms up.
            released.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
            plain.push(u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
    let rate = |micros: &mut Vec<u32>| {
        micros.sort_unstable();
        let samples = Samples { micros: micros.clone(), ..Samples::default() };
        bytes as f64 / 1e6 / (samples.percentile_ms(50.0) / 1000.0)
    };
    let seconds = released.iter().map(|m| f64::from(*m) / 1e6).sum();
    let (released, plain) = (rate(&mut released), rate(&mut plain));
    let rounds = LARGE_ROUNDS as u64;
    let figure = Figure::new("release_mb_per_s", released, "MB/s", Target::None, rounds, seconds);
    stage.keep(figure.under("libp2p_stream_mb_per_s", plain));
    let target = Target::AtLeast(0.5);
    stage.keep(Figure::new("release_vs_stream", released / plain, "ratio", target, rounds, seconds));
    Ok(())
}

/// Asks for a patient's records; the number of bytes of the resources, or after the first message 0.
async fn fetch(
    mut client: ExchangeServiceClient<Channel>,
    request_id: String,
    name: String,
    only_first: bool,
) -> Result<usize, String> {
    let request =
        RequestRecordsRequest { request_id, query: Some(treatment_of(&name)), ..Default::default() };
    let mut answers = client.request_records(request).await.map_err(|s| said(&s))?.into_inner();
    let mut bytes = 0;
    while let Some(part) = answers.message().await.map_err(|s| said(&s))? {
        if only_first {
            return Ok(0);
        }
        bytes += part.resources.iter().map(Vec::len).sum::<usize>();
    }
    Ok(bytes)
}

fn image(n: usize) -> Vec<u8> {
    let mut bytes = vec![0; LARGE_RESOURCE_BYTES / 2];
    rand::thread_rng().fill_bytes(&mut bytes);
    format!(
        r#"{{"resourceType":"DocumentReference","id":"image-{n}","meta":{{"security":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"N"}}]}},"status":"current","subject":{{"reference":"Patient/large-0"}},"content":[{{"attachment":{{"contentType":"application/octet-stream","title":"{}"}}}}]}}"#,
        hex::encode(bytes)
    )
    .into_bytes()
}
