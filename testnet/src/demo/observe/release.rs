//! Step 4: Birch's CRM requests the records.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use assent_ledger::receipts::{verify_receipt, Trust};
use assent_proto::ledger::v1::{receipt, AccessClaim, AccessEvent, Header, Receipt, RecordBundle};
use assent_proto::v1::exchange_service_client::ExchangeServiceClient;
use assent_proto::v1::{RequestRecordsRequest, VerifyRecordsRequest};
use prost::Message;
use serde_json::Value;
use tonic::transport::Channel;
use tonic::Status;

use super::check::ACTOR;
use super::digest;
use crate::client::{self, code};
use crate::demo::observed::{AccessSeen, Digest, ReleaseObserved};
use crate::demo::stage::{query, Auditor, Stage, RECIPIENT, VICTIM};
use crate::error::{failed, Error};
use crate::slice::Resource;

/// Who asks for conditions only.
const OTHER_ACTOR: &str = "practitioner/birch-0002";
const NARROW_TYPE: &str = "Condition";
/// Another node that must show the access when the first bytes come.
const WITNESS: &str = VICTIM;
const WITNESS_LIMIT: Duration = Duration::from_secs(2);
const WITNESS_POLL: Duration = Duration::from_millis(20);

/// What came for one request.
pub struct Received {
    /// The receipt.
    pub receipt: Receipt,
    /// The resources.
    pub resources: Vec<Vec<u8>>,
    /// Everything that came beside the resources.
    envelope: Vec<u8>,
    first_message_height: u64,
    committed_elsewhere: bool,
}

/// Requests, compares with the committed records; returns the bundle and the accesses that were made, too.
pub async fn observe(stage: &Stage) -> Result<(ReleaseObserved, RecordBundle, Vec<AccessSeen>), Error> {
    let channel = client::connect(stage.network(), RECIPIENT, "crm").await?;
    let mut client = ExchangeServiceClient::new(channel);
    let whole = request(stage, &mut client, "release-1", ACTOR, &[]).await?;
    let bundle = RecordBundle { proof: Some(whole.receipt.clone()), resources: whole.resources.clone() };
    let verified = verify(&mut client, bundle.clone()).await?;
    let mut altered = bundle.clone();
    match altered.resources.last_mut().and_then(|resource| resource.last_mut()) {
        Some(byte) => *byte ^= 1,
        None => return failed("the release holds no byte that could be changed"),
    }
    let altered_verified = verify(&mut client, altered).await?;
    let narrow = request(stage, &mut client, "release-2", OTHER_ACTOR, &[NARROW_TYPE]).await?;

    let of_patient = || stage.slice.of_patient(&stage.patient.sample.id);
    let digests = |which: &dyn Fn(&Resource) -> bool| -> BTreeSet<Digest> {
        of_patient().filter(|r| which(r)).map(|r| digest(&r.bytes)).collect()
    };
    let observed = ReleaseObserved {
        permitted: digests(&|r| !r.sensitivities.contains("PSY")),
        withheld: digests(&|r| r.sensitivities.contains("PSY")),
        received: whole.resources.iter().map(|bytes| digest(bytes)).collect(),
        received_psy: whole.resources.iter().filter(|bytes| bears_psy(bytes)).count() as u64,
        hints: of_patient()
            .filter(|r| r.sensitivities.contains("PSY") && contains(&whole.envelope, r.id.as_bytes()))
            .count() as u64,
        receipt_resources: AccessEvent::decode(claim(&whole.receipt).event.as_slice())
            .map_or(0, |event| event.resources),
        receipt_holds: verify_receipt(&Trust::genesis(stage.genesis.hash), &whole.receipt).is_ok(),
        access_height: access_height(&whole.receipt),
        first_message_height: whole.first_message_height,
        committed_elsewhere: whole.committed_elsewhere,
        verified,
        altered_verified,
        narrow_permitted: digests(&|r| r.kind == NARROW_TYPE && !r.sensitivities.contains("PSY")),
        narrow_received: narrow.resources.iter().map(|bytes| digest(bytes)).collect(),
    };
    let made = [ACTOR, OTHER_ACTOR].map(|actor| AccessSeen {
        organization: RECIPIENT.into(),
        purpose: "TREAT".into(),
        actor: actor.into(),
    });
    Ok((observed, bundle, made.to_vec()))
}

async fn request(
    stage: &Stage,
    client: &mut ExchangeServiceClient<Channel>,
    request_id: &str,
    actor: &str,
    types: &[&str],
) -> Result<Received, Error> {
    let query = query(stage.patient.named(), "TREAT", actor, types);
    let request =
        RequestRecordsRequest { request_id: request_id.into(), query: Some(query), ..Default::default() };
    let refused = |status: Status| code("RequestRecords", &status);
    // Connected before: the look at the other node comes right after the first message.
    let mut witness = stage.auditor(WITNESS).await?;
    let mut stream = client.request_records(request).await.map_err(refused)?.into_inner();
    let Some(mut message) = stream.message().await.map_err(refused)? else {
        return failed("RequestRecords ended without a message");
    };
    let Some(receipt) = message.proof.take() else {
        return failed("RequestRecords: the first message holds no receipt");
    };
    let height = access_height(&receipt);
    let committed_elsewhere = shows(&mut witness, height, &claim(&receipt).entry).await;
    let mut received = Received {
        first_message_height: message.answer.as_ref().map_or(0, |answer| answer.height),
        envelope: receipt.encode_to_vec(),
        receipt,
        resources: Vec::new(),
        committed_elsewhere,
    };
    loop {
        received.resources.append(&mut message.resources);
        received.envelope.extend(message.encode_to_vec());
        match stream.message().await.map_err(refused)? {
            Some(next) => message = next,
            None => return Ok(received),
        }
    }
}

/// True when a node has an entry in its certified block at a height; it may be some milliseconds behind.
async fn shows(witness: &mut Auditor<'_>, height: u64, entry: &Vec<u8>) -> bool {
    let deadline = Instant::now() + WITNESS_LIMIT;
    loop {
        match witness.block(height).await {
            Ok(seen) => return seen.certified && seen.block.entries.contains(entry),
            Err(_) if Instant::now() < deadline => tokio::time::sleep(WITNESS_POLL).await,
            Err(_) => return false,
        }
    }
}

async fn verify(client: &mut ExchangeServiceClient<Channel>, bundle: RecordBundle) -> Result<bool, Error> {
    let request = VerifyRecordsRequest { bundle: Some(bundle) };
    let answer = client.verify_records(request).await.map_err(|s| code("VerifyRecords", &s))?;
    Ok(answer.into_inner().holds)
}

fn access_height(receipt: &Receipt) -> u64 {
    let header = receipt.anchor.as_ref().map(|anchor| anchor.header.as_slice()).unwrap_or_default();
    Header::decode(header).map_or(0, |header| header.height)
}

fn claim(receipt: &Receipt) -> AccessClaim {
    match &receipt.claim {
        Some(receipt::Claim::Access(claim)) => claim.clone(),
        _ => AccessClaim::default(),
    }
}

fn bears_psy(resource: &[u8]) -> bool {
    let value: Value = serde_json::from_slice(resource).unwrap_or_default();
    let labels = value["meta"]["security"].as_array().map(Vec::as_slice).unwrap_or_default();
    labels.iter().any(|label| label["code"] == "PSY")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
