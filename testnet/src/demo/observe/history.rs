//! Step 9: the patient asks Cedar's node who looked, and checks that nothing was left out.

use assent_ledger::receipts::{verify_history, Trust, VerifiedAccess, HISTORY_MAGIC};
use serde_json::Value;

use crate::demo::observed::{AccessSeen, HistoryObserved};
use crate::demo::stage::{now_ms, Stage, CUSTODIAN};
use crate::error::{Error, While};

/// Asks and verifies.
pub async fn observe(
    stage: &Stage,
    expected: Vec<AccessSeen>,
    story_began_ms: u64,
) -> Result<HistoryObserved, Error> {
    let file = stage.files.join("history.bin");
    let ran = stage.history(CUSTODIAN, &file).await?;
    let slot = stage.patient.slot(stage.network(), CUSTODIAN).await?;
    let bytes = std::fs::read(&file).during(|| format!("reading {}", file.display()))?;
    let body = bytes.strip_prefix(HISTORY_MAGIC.as_slice()).unwrap_or_default();
    let verified = verify_history(&Trust::genesis(stage.genesis.hash), body);
    let accesses: &[VerifiedAccess] = verified.as_ref().map_or(&[], |shown| &shown.accesses);
    let now = now_ms();
    Ok(HistoryObserved {
        exit: ran.exit,
        verify_exit: stage.verify(&file, &hex::encode(stage.genesis.hash)).await?,
        proven: verified.is_ok(),
        counted: slot.access_seq,
        proven_accesses: accesses.iter().map(seen).collect(),
        told: told(&ran.stdout),
        expected,
        times_plausible: accesses.iter().all(|access| (story_began_ms..=now).contains(&access.time_ms)),
    })
}

fn seen(access: &VerifiedAccess) -> AccessSeen {
    AccessSeen {
        organization: access.request.recipient.clone(),
        purpose: access.request.purpose.clone(),
        actor: access.request.actor.clone(),
    }
}

/// What the CLI told the patient.
fn told(stdout: &str) -> Vec<AccessSeen> {
    let report: Value = serde_json::from_str(stdout).unwrap_or_default();
    let text = |access: &Value, field: &str| access[field].as_str().unwrap_or_default().to_owned();
    let accesses = report["accesses"].as_array().map(Vec::as_slice).unwrap_or_default();
    accesses
        .iter()
        .map(|access| AccessSeen {
            organization: text(access, "recipient"),
            purpose: text(access, "purpose"),
            actor: text(access, "actor"),
        })
        .collect()
}
