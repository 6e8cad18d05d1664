//! The audit of the whole ledger, as the CLI does it.

use std::time::Instant;

use serde_json::Value;

use super::ceiling::verify_and_hash_seconds;
use super::commit::export;
use super::figure::{Figure, Target};
use super::stage::{Stage, WITNESS};
use crate::error::{Error, While};

/// Exports and verifies.
pub async fn audit(stage: &mut Stage) -> Result<(), Error> {
    let file = stage.dir.join("audit.export");
    export(stage, WITNESS, &file).await?;
    let bytes = std::fs::metadata(&file).during(|| "measuring the export".into())?.len();
    let arguments: Vec<String> = vec![
        "audit".into(),
        "verify".into(),
        file.display().to_string(),
        "--genesis-hash".into(),
        stage.network().genesis_hash.clone(),
        "--output".into(),
        "json".into(),
    ];
    let begin = Instant::now();
    let ran = stage.binaries.assent_ok(&arguments).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let report: Value = serde_json::from_str(&ran.stdout).during(|| "reading the audit's report".into())?;
    let number = |name: &str| report[name].as_u64().unwrap_or(0);
    if report["ok"] != Value::Bool(true) {
        stage.wrong.push("the audit does not hold".into());
    }
    let (operations, signatures) = (number("operations"), number("signatures"));
    let bare = verify_and_hash_seconds(signatures, bytes);
    let rate = operations as f64 / seconds;
    let figure =
        Figure::new("audit_full_ops_per_s", rate, "ops/s", Target::AtLeast(15_000.0), operations, seconds);
    stage.keep(figure.under("bare_batch_ops_per_s", operations as f64 / bare));
    stage.keep(Figure::new(
        "audit_vs_batch",
        bare / seconds,
        "ratio",
        Target::AtLeast(0.6),
        signatures,
        seconds,
    ));
    Ok(())
}
