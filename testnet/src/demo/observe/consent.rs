//! Step 2: the portal imports the consent; every node shows the block that holds it.

use std::time::{Duration, Instant};

use assent_ledger::entry::check_entry;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::ImportConsentRequest;

use crate::client::{self, code};
use crate::demo::observed::{ConsentObserved, NodeAtHeight};
use crate::demo::stage::{SeenBlock, Stage, CUSTODIAN};
use crate::demo::today;
use crate::error::{failed, Error};
use crate::net::cluster::status;
use crate::slice::consent_for;

/// How far below the answer's height the block is looked for.
const MAX_HEIGHTS_BACK: u64 = 100;
/// How long the other nodes may take to show it.
const SEEN_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Imports and compares.
pub async fn observe(stage: &Stage) -> Result<ConsentObserved, Error> {
    let network = stage.network();
    let before = stage.patient.slot(network, CUSTODIAN).await?;
    let channel = client::connect(network, CUSTODIAN, "portal").await?;
    let request = ImportConsentRequest {
        request_id: "consent-1".into(),
        patient: Some(stage.patient.named()),
        consent: consent_for(&today()?)?,
        ..Default::default()
    };
    let answer = ConsentServiceClient::new(channel).import_consent(request).await;
    let answer = answer.map_err(|s| code("ImportConsent", &s))?.into_inner();
    let answered_at = answer.answer.as_ref().map_or(0, |a| a.height);
    let height = find(stage, answered_at, before.consent_seq).await?;
    let state_root_before = match height {
        1 => String::new(),
        _ => hex::encode(stage.auditor(CUSTODIAN).await?.block(height - 1).await?.header.state_root),
    };
    let mut nodes = Vec::new();
    for organization in stage.organizations() {
        wait_for_height(stage, &organization, height).await?;
        let seen = stage.auditor(&organization).await?.block(height).await?;
        nodes.push(NodeAtHeight {
            holds_consent: holds_consent(stage, &seen, before.consent_seq),
            organization,
            height: seen.header.height,
            header_hash: hex::encode(seen.hash),
            state_root: hex::encode(&seen.header.state_root),
            certified: seen.certified,
        });
    }
    Ok(ConsentObserved {
        consent_seq: answer.consent_seq,
        consent_seq_before: before.consent_seq,
        rules: answer.rules.len() as u64,
        state_root_before,
        organizations: stage.organizations().into_iter().collect(),
        nodes,
    })
}

/// Height of the block that holds the consent.
async fn find(stage: &Stage, answered_at: u64, expected_seq: u64) -> Result<u64, Error> {
    let mut auditor = stage.auditor(CUSTODIAN).await?;
    for height in (answered_at.saturating_sub(MAX_HEIGHTS_BACK).max(1)..=answered_at).rev() {
        if holds_consent(stage, &auditor.block(height).await?, expected_seq) {
            return Ok(height);
        }
    }
    failed(format!("no block up to {answered_at}, where the import was answered, holds the consent"))
}

fn holds_consent(stage: &Stage, seen: &SeenBlock, expected_seq: u64) -> bool {
    let entries =
        seen.block.entries.iter().filter_map(|bytes| check_entry(&stage.genesis.chain_id, bytes).ok());
    entries.flat_map(|entry| entry.body.operations).any(|operation| match operation.kind {
        Some(Kind::SetConsent(op)) => {
            op.custodian == CUSTODIAN
                && op.handle == stage.patient.handle
                && op.expected_consent_seq == expected_seq
        }
        _ => false,
    })
}

async fn wait_for_height(stage: &Stage, organization: &str, height: u64) -> Result<(), Error> {
    let deadline = Instant::now() + SEEN_LIMIT;
    loop {
        let at = status(stage.network(), organization).await?.answer.map_or(0, |a| a.height);
        if at >= height {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return failed(format!("{organization} is still at height {at}, not at {height}"));
        }
        tokio::time::sleep(POLL).await;
    }
}
